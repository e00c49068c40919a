//! What the rows must be: the same SQL as one batch over the log, less what must be quarantined. The verdicts are worked out here
//! on their own, event by event.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::Int64Type;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use refold_processor::decode::{Decoder, SchemaLookup, arrow_schema};
use refold_processor::engine::codec::as_micros;
use refold_processor::engine::map::Rules;
use refold_processor::log::Log;
use refold_processor::position::Cut;
use refold_processor::source::Source;
use refold_processor::store::RowReader;
use refold_processor::view::View;

use super::owner::{Owner, Scene};

/// Compares what the store holds with the batch.
pub fn compare(scene: &Scene, owner: &Owner) -> Result<(), String> {
    let (events, quarantined) = accepted_until(scene.log.as_ref(), &scene.source, scene.schemas.clone(), &scene.settings.rules);
    let meta = owner.fold.lock().meta().clone();
    let counted: u64 = meta.quarantined.values().sum();
    let applied: u64 = events.iter().map(|batch| batch.num_rows() as u64).sum();
    if (meta.applied, counted, meta.read) != (applied, quarantined, applied + quarantined) {
        return Err(format!(
            "counts are applied {} quarantined {counted} read {}, not {applied} and {quarantined}",
            meta.applied, meta.read
        ));
    }
    let batch = scene.view.batch(events).map_err(|error| error.to_string())?;
    let wanted = lines(&batch.iter().map(|batch| visible(&scene.view, batch, owner)).collect::<Vec<_>>());
    let found = lines(&scene.store.kept.scan(&scene.table).map_err(|error| error.to_string())?);
    if wanted != found {
        let missing: Vec<_> = wanted.difference(&found).take(5).collect();
        let extra: Vec<_> = found.difference(&wanted).take(5).collect();
        return Err(format!("view {}: missing {missing:?}, extra {extra:?}", scene.view.name));
    }
    let told = scene.store.told(&scene.table);
    let ends = ends(scene);
    if !told.visible.reaches(&ends) || !ends.reaches(&told.visible) {
        return Err(format!("readers are told {:?}, not the end of the log", told.visible));
    }
    Ok(())
}

/// Where the version ends: at the end of the log, or in each partition at the first record later than it reaches.
pub fn ends(scene: &Scene) -> Cut {
    let mut ends = super::ends(scene);
    let Some(until_ms) = scene.settings.rules.until_ms else { return ends };
    for partition in scene.log.partitions(&scene.source.topic).unwrap() {
        let from: Cut = [(partition, Default::default())].into_iter().collect();
        let mut reader = scene.log.reader(&scene.source.topic, &from).unwrap();
        while let Some(records) = reader.read(1 << 20, Duration::ZERO).unwrap() {
            if let Some(later) = records.spans.iter().find(|span| span.record_time_ms > until_ms) {
                ends.set(partition, later.offset);
                break;
            }
        }
    }
    ends
}

/// Of overlapping windows, only those that are closed and the one that ends next are written.
fn visible(view: &View, rows: &RecordBatch, owner: &Owner) -> RecordBatch {
    let Some(window) = view.window.filter(|window| window.size_us != window.slide_us) else { return rows.clone() };
    let meta = owner.fold.lock().meta().clone();
    let starts = as_micros(rows.column(window.column)).unwrap();
    let mask: BooleanArray = starts
        .iter()
        .map(|start| {
            let start_us = start.unwrap();
            let is_closed = meta.watermark_us.is_some_and(|watermark_us| start_us + window.size_us <= watermark_us);
            Some(is_closed || Some(start_us) == meta.next_window_us)
        })
        .collect();
    filter_record_batch(rows, &mask).unwrap()
}

/// All events of a source that are acceptable for a view, and how many records are not.
pub fn accepted(log: &dyn Log, source: &Source, schemas: Arc<dyn SchemaLookup>, accept_late_us: Option<i64>) -> (Vec<RecordBatch>, u64) {
    let (event_time, future_tolerance_us) = (source.event_time.clone(), source.future_tolerance_us);
    accepted_until(log, source, schemas, &Rules { event_time, accept_late_us, future_tolerance_us, until_ms: None })
}

/// The same of a version that may end.
fn accepted_until(log: &dyn Log, source: &Source, schemas: Arc<dyn SchemaLookup>, rules: &Rules) -> (Vec<RecordBatch>, u64) {
    let Rules { accept_late_us, until_ms, .. } = *rules;
    let columns: Vec<usize> = (0..arrow_schema(&source.schema_json).unwrap().fields().len()).collect();
    let mut decoder = Decoder::new(source, &columns, schemas).unwrap();
    let mut events = Vec::new();
    let mut quarantined = 0;
    for partition in log.partitions(&source.topic).unwrap() {
        let from: Cut = [(partition, Default::default())].into_iter().collect();
        let mut reader = log.reader(&source.topic, &from).unwrap();
        let mut latest_us: Option<i64> = None;
        let mut has_ended = false;
        while let Some(mut records) = reader.read(1 << 20, Duration::ZERO).unwrap() {
            if let Some(later) = records.spans.iter().position(|span| until_ms.is_some_and(|until_ms| span.record_time_ms > until_ms)) {
                records.spans.truncate(later);
                has_ended = true;
            }
            let decoded = decoder.decode(&records).unwrap();
            quarantined += decoded.rejected.len() as u64;
            let times = as_micros(decoded.events.column_by_name(&source.event_time).unwrap()).unwrap();
            let mut mask = Vec::new();
            for (row, origin) in decoded.origins.iter().enumerate() {
                let accepted = times.is_valid(row) && {
                    let at_us = times.value(row);
                    let ahead = at_us > origin.record_time_ms * 1_000 + source.future_tolerance_us;
                    let late = match (latest_us, accept_late_us) {
                        (Some(latest_us), Some(accept_late_us)) => at_us < latest_us - accept_late_us,
                        _ => false,
                    };
                    if !ahead && !late {
                        // A producer whose clock is fast moves it no further than the log has come.
                        latest_us = latest_us.max(Some(at_us.min(origin.record_time_ms * 1_000)));
                    }
                    !ahead && !late
                };
                quarantined += u64::from(!accepted);
                mask.push(accepted);
            }
            events.push(filter_record_batch(&decoded.events, &BooleanArray::from(mask)).unwrap());
            if has_ended {
                break;
            }
        }
    }
    (events, quarantined)
}

/// The count of every row in the store, by key.
pub fn counts(scene: &Scene) -> Result<BTreeMap<String, i64>, String> {
    let mut counts = BTreeMap::new();
    for rows in scene.store.kept.scan(&scene.table).map_err(|error| error.to_string())? {
        let count = rows.column_by_name("n").ok_or("no column n")?.as_primitive::<Int64Type>().clone();
        let keys: Vec<usize> =
            scene.table.shape.partition_key.iter().copied().chain(scene.table.shape.clustering.iter().map(|(column, _)| *column)).collect();
        let keys = rows.project(&keys).map_err(|error| error.to_string())?;
        for (row, line) in row_lines(&keys).into_iter().enumerate() {
            counts.insert(line, count.value(row));
        }
    }
    Ok(counts)
}

/// Rows as text, in no order.
pub fn lines(batches: &[RecordBatch]) -> BTreeSet<String> {
    batches.iter().flat_map(row_lines).collect()
}

fn row_lines(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<_> = batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap()).collect();
    (0..batch.num_rows()).map(|row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("|")).collect()
}

/// How many rows the store holds.
pub fn counted(scene: &Scene) -> usize {
    scene.store.kept.scan(&scene.table).unwrap().iter().map(RecordBatch::num_rows).sum()
}
