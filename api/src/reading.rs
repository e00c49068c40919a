//! Rows of partitions of one version, as readers get them: which version, which partition, and what of it.

use std::sync::Arc;

use axum::http::StatusCode;
use datafusion::arrow::array::types::Int64Type;
use datafusion::arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use datafusion::arrow::compute::{cast, filter_record_batch};
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::scalar::ScalarValue;
use refold_processor::engine::worker::first_to_serve;
use refold_processor::json;
use refold_processor::store::catalogue::{VersionRecord, VersionState};
use refold_processor::store::{PartitionRead, Progress, StoreError};
use refold_processor::table::{Table, Version};
use refold_processor::view::{View, WindowSpec};
use serde_json::{Map, Value, json};

use crate::parameters::{self, Cursor, Key, KeyValue, asked, key_fields};
use crate::problem::Problem;
use crate::views::{Views, building_document, newest_closed_us};

/// When a reader that came too early should come again, seconds.
const RETRY_AFTER_S: u64 = 5;
/// How many windows are looked at for the newest one that has rows.
const WINDOWS_LOOKED_AT: i64 = 64;

/// Reads of rows, with their limits.
pub struct Reading {
    /// The views.
    pub views: Arc<Views>,
    /// Rows of a page when the reader names no limit.
    pub rows_default: usize,
    /// The greatest limit a reader may name.
    pub rows_max: usize,
}

/// What is read, of which version.
#[derive(Clone)]
pub struct Target {
    /// The version.
    pub record: VersionRecord,
    /// Its view.
    pub planned: Arc<View>,
    /// Its table.
    pub table: Table,
    /// The partition, of which the newest window may not be known yet.
    pub key: Key,
    /// The part of the partition; what it names as partition is to be filled in.
    pub read: PartitionRead,
}

/// Rows of a partition, and how far they are.
pub struct Found {
    /// How far the table was before they were read: they are at least as new.
    pub progress: Progress,
    /// The partition.
    pub partition: Vec<ScalarValue>,
    /// The rows.
    pub rows: RecordBatch,
    /// Where the next page begins.
    pub next: Option<Cursor>,
}

impl Reading {
    /// What the reader wants, of the version that this moment's pointer or the reader names.
    pub fn targets(&self, view: &str, parameters: &[(String, String)]) -> Result<Vec<Target>, Problem> {
        let asked = asked(parameters)?;
        let wanted = asked.cursor.as_ref().map(|cursor| cursor.version).or(asked.version);
        let (record, planned) = self.version(view, wanted)?;
        let table = Table { view: view.to_owned(), version: record.version, shape: planned.shape.clone() };
        let limit = self.limit(asked.limit)?;
        let keys = parameters::keys(&planned.shape, planned.window.map(|window| window.column), &asked)?;
        let read = parameters::partition_read(&planned.shape, &asked, limit)?;
        let target = |key| Target { record: record.clone(), planned: planned.clone(), table: table.clone(), key, read: read.clone() };
        Ok(keys.into_iter().map(target).collect())
    }

    /// The version that is read: the one asked for, or the active one as the pointer is at this moment.
    pub fn version(&self, view: &str, wanted: Option<Version>) -> Result<(VersionRecord, Arc<View>), Problem> {
        let versions = self.views.versions_of(view)?;
        let version = match wanted {
            Some(version) => version,
            None => match self.views.catalogue.active(view)? {
                Some(active) => active.version,
                None => return Err(self.nothing_active(view, &versions)),
            },
        };
        let record = record_of(view, &versions, version)?.clone();
        let planned = self.views.planned(&record)?;
        Ok((record, planned))
    }

    /// How many rows a page has.
    pub fn limit(&self, asked: Option<usize>) -> Result<usize, Problem> {
        let limit = asked.unwrap_or(self.rows_default);
        match limit > self.rows_max {
            true => Err(Problem::parameter(format!("parameter limit: {limit} is more than {}; read on with next_cursor", self.rows_max))),
            false => Ok(limit),
        }
    }

    /// A page of rows of a partition. `None`: its newest window was asked for, and no window has rows.
    pub fn find(&self, target: &Target) -> Result<Option<Found>, Problem> {
        // Before the rows, so that they are at least as new as the positions say.
        let progress = self.progress(target)?;
        let Some(partition) = self.partition(target, &progress)? else { return Ok(None) };
        self.page(target, partition, progress).map(Some)
    }

    /// How far the table is.
    pub fn progress(&self, target: &Target) -> Result<Progress, Problem> {
        let progress = self.views.rows.progress(&target.table);
        Ok(progress.map_err(|error| not_there(error, &target.record))?.unwrap_or_default())
    }

    fn page(&self, target: &Target, partition: Vec<ScalarValue>, progress: Progress) -> Result<Found, Problem> {
        let Target { record, planned, table, .. } = target;
        let mut read = PartitionRead { partition, ..target.read.clone() };
        if let Some(horizon_us) = progress.horizon_us {
            raise_from(&mut read, planned, horizon_us);
        }
        let page = self.views.rows.read(table, &read).map_err(|error| match error {
            // The one part of a read that the reader made up itself and that nothing before could judge.
            StoreError::Broken(message) if read.cursor.is_some() => Problem::parameter(format!("parameter cursor: {message}")),
            error => not_there(error, record),
        })?;
        let rows = match (progress.horizon_us, planned.window) {
            (Some(horizon_us), Some(window)) => kept(&page.rows, window.column, horizon_us)?,
            _ => page.rows,
        };
        let next = page.next.map(|at| Cursor { version: record.version, at });
        Ok(Found { progress, partition: read.partition, rows, next })
    }

    /// The partition that is meant now; `None`: no window has rows.
    pub fn partition(&self, target: &Target, progress: &Progress) -> Result<Option<Vec<ScalarValue>>, Problem> {
        let mut partition = Vec::with_capacity(target.key.len());
        let mut latest = None;
        for (index, value) in target.key.iter().enumerate() {
            match value {
                KeyValue::Is(value) => partition.push(value.clone()),
                KeyValue::Latest => {
                    latest = Some(index);
                    partition.push(ScalarValue::Null);
                }
            }
        }
        let Some(latest) = latest else { return Ok(Some(partition)) };
        self.newest(target, partition, latest, progress)
    }

    /// The newest window that has rows. Windows that readers may see begin at the one that ends next, where they overlap: of others, which have
    /// hardly begun, nothing is written.
    fn newest(
        &self,
        target: &Target,
        mut partition: Vec<ScalarValue>,
        latest: usize,
        progress: &Progress,
    ) -> Result<Option<Vec<ScalarValue>>, Problem> {
        let Target { planned, table, record, .. } = target;
        let field = planned.shape.partition_key.get(latest).and_then(|column| planned.shape.columns.fields().get(*column));
        let (Some(window), Some(field)) = (planned.window, field) else { return Ok(None) };
        let Some(newest_us) = newest_us(&window, progress) else { return Ok(None) };
        for back in 0..WINDOWS_LOOKED_AT {
            let Some(start_us) = newest_us.checked_sub(back.saturating_mul(window.slide_us)) else { break };
            if progress.horizon_us.is_some_and(|horizon_us| start_us < horizon_us) {
                return Ok(None);
            }
            let Some(start) = instant(start_us, field.data_type()) else { break };
            if let Some(value) = partition.get_mut(latest) {
                *value = start;
            }
            let read = PartitionRead { partition: partition.clone(), from: None, to: None, limit: 1, cursor: None };
            let page = self.views.rows.read(table, &read).map_err(|error| not_there(error, record))?;
            if page.rows.num_rows() > 0 {
                return Ok(Some(partition));
            }
        }
        // A long silence. A store that keeps partitions in order knows the last one.
        Ok(self.views.rows.last_partition(table).map_err(|error| not_there(error, record))?.filter(|_| partition.len() == 1))
    }

    /// One page as JSON text. Rows are serialized one by one, because JSON values take several times the memory of their text.
    pub fn page_text(&self, target: &Target) -> Result<String, Problem> {
        let Some(found) = self.find(target)? else { return Err(nothing_yet(&target.record)) };
        if !is_latest(target) {
            return Ok(self.text_of(target, &found));
        }
        let mut text = head(&target.record, &found.progress);
        text.push_str(",\"key\":");
        text.push_str(&Value::from(key_document(target, &found)?).to_string());
        push_rows(&mut text, &found);
        text.push('}');
        Ok(text)
    }

    /// A page that was found as JSON text.
    pub fn text_of(&self, target: &Target, found: &Found) -> String {
        let mut text = head(&target.record, &found.progress);
        push_rows(&mut text, found);
        text.push('}');
        text
    }

    /// Pages of several partitions of one version.
    pub fn pages_text(&self, targets: &[Target]) -> Result<String, Problem> {
        let Some(first) = targets.first() else { return Err(Problem::parameter("no partition is named")) };
        let progress = self.progress(first)?;
        let mut text = head(&first.record, &progress);
        text.push_str(",\"partitions\":[");
        for (index, target) in targets.iter().enumerate() {
            let Some(partition) = self.partition(target, &progress)? else { return Err(nothing_yet(&target.record)) };
            let found = self.page(target, partition, progress.clone())?;
            text.push_str(if index > 0 { ",{\"key\":" } else { "{\"key\":" });
            text.push_str(&Value::from(key_document(target, &found)?).to_string());
            push_rows(&mut text, &found);
            text.push('}');
        }
        text.push_str("]}");
        Ok(text)
    }

    fn nothing_active(&self, view: &str, versions: &[VersionRecord]) -> Problem {
        let running = self.views.watch.running();
        let follow = versions.iter().filter(|record| record.controls.until_ms.is_none());
        let first = first_to_serve(None, follow.map(|record| (record.version, &record.state)));
        let first = first.and_then(|first| versions.iter().find(|record| record.version == first));
        let first = first.or_else(|| versions.iter().rfind(|record| record.state != VersionState::Dropped)).map(|record| {
            let run = running.iter().find(|run| run.view == view && run.version == Some(record.version));
            (record, run)
        });
        let waits_for = first.and_then(|(record, run)| self.views.waits_for(record, run));
        let why = waits_for.unwrap_or_else(|| "its first one is being built from the log".to_owned());
        let detail = format!("no version of view {view} is in service yet: {why}; ask again in a moment");
        let progress = first.map(|(record, run)| building_document(run, record.version, &record.state));
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "building", "The view is being built", detail)
            .with("progress", progress)
            .retry_after_s(RETRY_AFTER_S)
    }
}

/// The start of the newest window that may have rows.
fn newest_us(window: &WindowSpec, progress: &Progress) -> Option<i64> {
    if window.slide_us < window.size_us {
        return newest_closed_us(window, progress.watermark_us?)?.checked_add(window.slide_us);
    }
    let time_us = progress.event_time_us.max(progress.watermark_us)?;
    time_us.checked_sub(time_us.checked_rem_euclid(window.slide_us)?)
}

fn nothing_yet(record: &VersionRecord) -> Problem {
    Problem::not_found(format!("no window of view {} has rows yet: ask again when events have come", record.view))
}

/// Whether the newest window is asked for.
pub fn is_latest(target: &Target) -> bool {
    target.key.contains(&KeyValue::Latest)
}

/// The values of a partition by the names of their columns.
pub fn key_document(target: &Target, found: &Found) -> Result<Map<String, Value>, Problem> {
    let fields = key_fields(&target.planned.shape);
    let named = fields.iter().zip(&found.partition);
    named.map(|(field, value)| Ok((field.name().clone(), scalar(value)?))).collect()
}

/// A value of a key as JSON.
pub fn scalar(value: &ScalarValue) -> Result<Value, Problem> {
    let array = value.to_array().map_err(|error| Problem::internal(format!("the partition key has no array: {error}")))?;
    Ok(json::value(array.as_ref(), 0))
}

fn head(record: &VersionRecord, progress: &Progress) -> String {
    let head = json!({
        "view": record.view,
        "version": record.version.0,
        "positions": json::cut(&progress.visible),
        "watermark": json::micros(progress.watermark_us),
    })
    .to_string();
    head.strip_suffix('}').unwrap_or_default().to_owned()
}

fn push_rows(text: &mut String, found: &Found) {
    text.push_str(",\"rows\":[");
    for row in 0..found.rows.num_rows() {
        if row > 0 {
            text.push(',');
        }
        text.push_str(&json::object(&found.rows, row).to_string());
    }
    text.push_str("],\"next_cursor\":");
    text.push_str(&json!(found.next.as_ref().map(Cursor::text)).to_string());
}

/// The record of a version that is, or was, there.
pub fn known_record<'a>(view: &str, versions: &'a [VersionRecord], version: Version) -> Result<&'a VersionRecord, Problem> {
    versions.iter().find(|record| record.version == version).ok_or_else(|| {
        let known: Vec<u32> = versions.iter().map(|record| record.version.0).collect();
        let names: Vec<String> = versions.iter().map(|record| record.version.to_string()).collect();
        let detail = format!("view {view} has no version {version}; it has {}", names.join(", "));
        Problem::not_found(detail).with("versions", known)
    })
}

/// The record of a version that is there.
pub fn record_of<'a>(view: &str, versions: &'a [VersionRecord], version: Version) -> Result<&'a VersionRecord, Problem> {
    let record = known_record(view, versions, version)?;
    if record.state == VersionState::Dropped {
        let detail = format!("version {version} of view {view} is dropped; read without version and cursor");
        return Err(Problem::new(StatusCode::GONE, "dropped", "The version is gone", detail));
    }
    Ok(record)
}

/// Where rows are ordered by their window, those past the view's `keep` need not be read at all.
fn raise_from(read: &mut PartitionRead, view: &View, horizon_us: i64) {
    let (Some(window), Some((first, _))) = (view.window, view.shape.clustering.first()) else { return };
    if window.column != *first {
        return;
    }
    let Some(field) = view.shape.columns.fields().get(*first) else { return };
    let Some(horizon) = instant(horizon_us, field.data_type()) else { return };
    if read.from.as_ref().is_none_or(|from| *from < horizon) {
        read.from = Some(horizon);
    }
}

/// The first instant of a timestamp column that is not before `time_us`.
fn instant(time_us: i64, data_type: &DataType) -> Option<ScalarValue> {
    let DataType::Timestamp(unit, zone) = data_type else { return None };
    let ceiling = |each: i64| time_us.checked_add(each - 1).map(|time| time.div_euclid(each));
    Some(match unit {
        TimeUnit::Second => ScalarValue::TimestampSecond(Some(ceiling(1_000_000)?), zone.clone()),
        TimeUnit::Millisecond => ScalarValue::TimestampMillisecond(Some(ceiling(1_000)?), zone.clone()),
        TimeUnit::Microsecond => ScalarValue::TimestampMicrosecond(Some(time_us), zone.clone()),
        TimeUnit::Nanosecond => ScalarValue::TimestampNanosecond(Some(time_us.checked_mul(1_000)?), zone.clone()),
    })
}

/// Why a version cannot be read.
pub fn not_there(error: StoreError, record: &VersionRecord) -> Problem {
    match error {
        StoreError::UnknownTable(_) => {
            let detail = format!("version {} of view {} has no rows yet: it is about to be built", record.version, record.view);
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "building", "The version is being built", detail).retry_after_s(RETRY_AFTER_S)
        }
        error => error.into(),
    }
}

/// The rows that are not past the view's `keep`.
fn kept(rows: &RecordBatch, column: usize, horizon_us: i64) -> Result<RecordBatch, Problem> {
    let broken = |error: datafusion::arrow::error::ArrowError| Problem::internal(format!("rows cannot be filtered by time: {error}"));
    let Some(starts) = rows.columns().get(column) else { return Ok(rows.clone()) };
    let DataType::Timestamp(_, zone) = starts.data_type() else { return Ok(rows.clone()) };
    let micros = cast(starts, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone())).map_err(broken)?;
    let micros = cast(&micros, &DataType::Int64).map_err(broken)?;
    let micros = micros.as_primitive::<Int64Type>();
    let is_kept: BooleanArray = (0..micros.len()).map(|row| Some(micros.is_null(row) || micros.value(row) >= horizon_us)).collect();
    filter_record_batch(rows, &is_kept).map_err(broken)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use datafusion::arrow::array::TimestampMillisecondArray;

    use super::*;

    #[test]
    fn rows_past_keep_are_not_answered() {
        let starts = TimestampMillisecondArray::from(vec![1, 2, 3]).with_timezone("+00:00");
        let batch = RecordBatch::try_from_iter([("slot", Arc::new(starts) as _)]).unwrap();
        let left = kept(&batch, 0, 1_001).unwrap();
        assert_eq!(left.num_rows(), 2, "a row that begins at or after the horizon is kept");
        let milliseconds = DataType::Timestamp(TimeUnit::Millisecond, None);
        assert_eq!(instant(1_001, &milliseconds), Some(ScalarValue::TimestampMillisecond(Some(2), None)));
        assert_eq!(instant(-1_001, &milliseconds), Some(ScalarValue::TimestampMillisecond(Some(-1), None)));
    }

    #[test]
    fn the_newest_window_that_may_have_rows_ends_next_where_windows_overlap() {
        let hop = WindowSpec { column: 0, size_us: 600, slide_us: 10, pane_us: 10 };
        let progress = Progress { watermark_us: Some(1_009), event_time_us: Some(1_030), ..Progress::default() };
        assert_eq!(newest_us(&hop, &progress), Some(410), "from 410 to 1010");
        let tumble = WindowSpec { column: 0, size_us: 100, slide_us: 100, pane_us: 100 };
        assert_eq!(newest_us(&tumble, &progress), Some(1_000), "the one that holds the newest event");
        assert_eq!(newest_us(&hop, &Progress::default()), None);
    }
}
