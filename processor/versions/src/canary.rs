//! What a new definition would change, over a sample of the log: before a version of it is built.
//!
//! The same first records of each partition are evaluated by the definition in service and by the new one, each by its own SELECT run as a batch over the events that
//! its own rules accept. Rows are compared whose partition key is in a sample by hash, so that a group is in it whole or not at all. Both are at the same cut, so nothing is on its
//! way; what it leaves out is what comes later in the log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::array::{Array, BooleanArray, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::error::ArrowError;
use refold_processor::decode::{DecodeError, Decoder, SchemaLookup, arrow_schema};
use refold_processor::engine::error::EngineError;
use refold_processor::engine::map::{Before, Chunk, ChunkMapper, Rules};
use refold_processor::json;
use refold_processor::log::{Log, LogError, Records};
use refold_processor::position::{Cut, Offset, Partition};
use refold_processor::source::Source;
use refold_processor::view::{View, ViewError};
use serde::Serialize;
use serde_json::{Map, Value};
use xxhash_rust::xxh3::xxh3_64;

use crate::diff::Kind;
use crate::rows::members;

/// A definition and the source that it reads.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    /// The view.
    pub view: &'a Arc<View>,
    /// Its source.
    pub source: &'a Source,
}

/// How much is looked at.
#[derive(Clone, Copy, Debug)]
pub struct CanarySettings {
    /// The share of partition keys whose rows are compared, above 0 and at most 1.
    pub share: f64,
    /// Records take at most about so many bytes in all.
    pub most_bytes: usize,
    /// Reading ends after so long.
    pub most_time: Duration,
    /// How many rows that differ are shown of each kind.
    pub examples: usize,
}

impl Default for CanarySettings {
    fn default() -> Self {
        CanarySettings { share: 0.1, most_bytes: 32 << 20, most_time: Duration::from_secs(20), examples: 5 }
    }
}

/// What a new definition changes in the sample.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Records that were read.
    pub records: u64,
    /// Records that the log has.
    pub of_records: u64,
    /// The share of partition keys.
    pub share: f64,
    /// Events that each definition has quarantined: the one in service, and the new one.
    pub quarantined: [u64; 2],
    /// Rows that are equal.
    pub equal: u64,
    /// Rows with other values.
    pub changed: u64,
    /// Rows that the new definition does not make.
    pub missing: u64,
    /// Rows that only the new definition makes.
    pub extra: u64,
    /// Some rows that differ.
    pub examples: Vec<Different>,
}

/// A row that differs.
#[derive(Clone, Debug, Serialize)]
pub struct Different {
    /// How.
    pub kind: Kind,
    /// The row by the definition in service.
    pub left: Option<Map<String, Value>>,
    /// The row by the new one.
    pub right: Option<Map<String, Value>>,
}

/// Why a canary was not finished.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CanaryError {
    /// Rows do not correspond.
    #[error("rows of the new definition have the key ({new}), rows of the one in service the key ({old}): they cannot be compared")]
    OtherKey {
        /// The key columns and their types in service.
        old: String,
        /// The new ones.
        new: String,
    },
    /// The definitions read different sources.
    #[error("the new definition reads source {new}, the one in service {old}: they cannot be compared")]
    OtherSource {
        /// The source in service.
        old: String,
        /// The new one.
        new: String,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Records cannot be decoded for now.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A view cannot be evaluated.
    #[error(transparent)]
    View(#[from] ViewError),
    /// Events cannot be judged.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A defect.
    #[error("events cannot be taken apart: {0}")]
    Events(#[from] ArrowError),
    /// Whoever asked is not there any more.
    #[error("the canary was given up")]
    Stopped,
}

/// Values of a chunk, bytes.
const CHUNK_BYTES: usize = 256 << 10;
/// How long a read waits for records that the log has.
const READ_WAIT: Duration = Duration::from_secs(5);

/// Compares what two definitions make of the beginning of the log. `is_wanted` is asked now and then; `false` ends it.
///
/// # Errors
/// When they cannot be compared, the log cannot be read, or nobody wants it any more.
pub fn compare(
    log: &dyn Log,
    schemas: &Arc<dyn SchemaLookup>,
    [old, new]: [Side<'_>; 2],
    settings: &CanarySettings,
    is_wanted: &dyn Fn() -> bool,
) -> Result<Report, CanaryError> {
    if old.source.name != new.source.name {
        return Err(CanaryError::OtherSource { old: old.source.name.clone(), new: new.source.name.clone() });
    }
    let keys = [keys(old.view), keys(new.view)];
    if keys[0] != keys[1] {
        return Err(CanaryError::OtherKey { old: keys[0].join(", "), new: keys[1].join(", ") });
    }
    let (runs, of_records) = first_records(log, old.source, settings, is_wanted)?;
    let mut report = Report {
        records: runs.iter().map(|run| run.spans.len() as u64).sum(),
        of_records,
        share: settings.share,
        quarantined: [0, 0],
        equal: 0,
        changed: 0,
        missing: 0,
        extra: 0,
        examples: Vec::new(),
    };
    let (left, left_out) = rows(schemas, old, &runs, settings.share)?;
    let (mut right, right_out) = rows(schemas, new, &runs, settings.share)?;
    report.quarantined = [left_out, right_out];
    // Columns that only one of them has are not compared.
    let is_same = |left: &Map<String, Value>, right: &Map<String, Value>| {
        left.iter().all(|(name, value)| right.get(name).is_none_or(|other| other == value))
    };
    for (key, row) in left {
        match right.remove(&key) {
            Some(other) if is_same(&row, &other) => report.equal += 1,
            Some(other) => report.differ(Kind::Changed, Some(row), Some(other), settings.examples),
            None => report.differ(Kind::Missing, Some(row), None, settings.examples),
        }
    }
    for row in right.into_values() {
        report.differ(Kind::Extra, None, Some(row), settings.examples);
    }
    Ok(report)
}

impl Report {
    fn differ(&mut self, kind: Kind, left: Option<Map<String, Value>>, right: Option<Map<String, Value>>, examples: usize) {
        let count = match kind {
            Kind::Changed => &mut self.changed,
            Kind::Missing => &mut self.missing,
            Kind::Extra => &mut self.extra,
        };
        *count += 1;
        if *count <= examples as u64 {
            self.examples.push(Different { kind, left, right });
        }
    }
}

/// The key columns by name: definitions may have them in different orders.
fn keys(view: &View) -> Vec<String> {
    let fields = view.shape.columns.fields();
    let mut keys: Vec<String> = view
        .shape
        .key_columns()
        .filter_map(|column| fields.get(column))
        .map(|field| format!("{} {}", field.name(), field.data_type()))
        .collect();
    keys.sort_unstable();
    keys
}

/// The first records of each partition, as many as fit, and how many the log has.
#[allow(clippy::disallowed_methods, reason = "bounds how long it takes, and what is read is told")]
fn first_records(
    log: &dyn Log,
    source: &Source,
    settings: &CanarySettings,
    is_wanted: &dyn Fn() -> bool,
) -> Result<(Vec<Records>, u64), CanaryError> {
    let begun = Instant::now();
    let bounds = log.topic_bounds(&source.topic)?;
    let of_records = bounds.values().map(|bounds| bounds.end.0.saturating_sub(bounds.start.0)).sum();
    let most_bytes = settings.most_bytes / bounds.len().max(1);
    let mut runs = Vec::new();
    for (partition, bounds) in bounds {
        let from: Cut = [(partition, bounds.start)].into_iter().collect();
        let mut reader = log.reader(&source.topic, &from)?;
        let (mut position, mut bytes) = (bounds.start, 0);
        while position < bounds.end && bytes < most_bytes && begun.elapsed() < settings.most_time {
            if !is_wanted() {
                return Err(CanaryError::Stopped);
            }
            let Some(mut records) = reader.read(CHUNK_BYTES, READ_WAIT)? else { break };
            records.spans.retain(|span| span.offset < bounds.end);
            position = records.next;
            bytes += records.payload.len();
            runs.push(records);
        }
    }
    Ok((runs, of_records))
}

type Rows = BTreeMap<String, Map<String, Value>>;

/// The rows that a definition makes of records, of the sampled partition keys, by their keys; and how many events it leaves out.
fn rows(schemas: &Arc<dyn SchemaLookup>, side: Side<'_>, runs: &[Records], share: f64) -> Result<(Rows, u64), CanaryError> {
    let Side { view, source } = side;
    let columns: Vec<usize> = (0..arrow_schema(&source.schema_json)?.fields().len()).collect();
    let mut decoder = Decoder::new(source, &columns, schemas.clone())?;
    let mut judge = ChunkMapper::new(view, Rules::new(view, source), 1)?;
    let mut before: BTreeMap<Partition, Before> = BTreeMap::new();
    let (mut events, mut left_out) = (Vec::new(), 0);
    for records in runs {
        let (partition, next) = (records.partition, records.next);
        let known = before.entry(partition).or_insert(Before { position: first_offset(records), ..Before::default() });
        let decoded = decoder.decode(records)?;
        let chunk = Arc::new(Chunk::new(known.position, records.clone(), decoded));
        let mapped = judge.map(&chunk, *known)?;
        *known = Before { position: next, time: mapped.time, dropped_to_us: None };
        left_out += mapped.rejected.len() as u64;
        let is_rejected = |offset: &Offset| mapped.rejected.binary_search_by_key(offset, |rejected| rejected.offset).is_ok();
        let is_accepted: BooleanArray = chunk.decoded.origins.iter().map(|origin| Some(!is_rejected(&origin.offset))).collect();
        events.push(filter_record_batch(&chunk.decoded.events, &is_accepted)?);
    }
    let mut rows = Rows::new();
    for batch in view.batch(events)? {
        for row in 0..batch.num_rows() {
            let has_null = view.shape.key_columns().filter_map(|column| batch.columns().get(column)).any(|column| column.is_null(row));
            if !has_null && is_sampled(view, &batch, row, share) {
                rows.insert(key(view, &batch, row), members(&batch, row));
            }
        }
    }
    Ok((rows, left_out))
}

fn first_offset(records: &Records) -> Offset {
    records.spans.first().map_or(records.next, |span| span.offset)
}

/// The key of a row as a text that is the same in both definitions.
fn key(view: &View, batch: &RecordBatch, row: usize) -> String {
    let fields = view.shape.columns.fields();
    let mut named: Vec<(&String, usize)> =
        view.shape.key_columns().filter_map(|column| Some((fields.get(column)?.name(), column))).collect();
    named.sort_unstable();
    let value = |column: usize| batch.columns().get(column).map(|column| json::value(column.as_ref(), row).to_string());
    named.into_iter().filter_map(|(_, column)| value(column)).collect::<Vec<_>>().join(",")
}

/// Whether the partition key of a row is in the sample.
fn is_sampled(view: &View, batch: &RecordBatch, row: usize, share: f64) -> bool {
    if share >= 1.0 {
        return true;
    }
    let values = view.shape.partition_key.iter().filter_map(|column| batch.columns().get(*column));
    let text = values.map(|column| json::value(column.as_ref(), row).to_string()).collect::<Vec<_>>().join(",");
    (xxh3_64(text.as_bytes()) as f64 / u64::MAX as f64) < share
}
