//! Which events are behind a row: the view's own plan, evaluated over the log.
//!
//! Each run of records is aggregated as it is for the view itself. Where a group of the row comes out, the run is halved until the events that make
//! it stand alone. So whatever a view may say (filters, lists that are unnested, expressions), an event is behind a row if the view says so.
//! Verdicts (too late, from the future, not decodable) are judged partition by partition in the order of the log, as they are for the view. The one that depends on more
//! than the log, `late_after_idle`, is not: such an event is shown as applied.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, new_empty_array};
use datafusion::error::DataFusionError;
use datafusion::scalar::ScalarValue;
use refold_processor::decode::{DecodeError, Decoder, SchemaLookup, arrow_schema};
use refold_processor::engine::codec::as_micros;
use refold_processor::engine::error::EngineError;
use refold_processor::engine::map::{Before, Chunk, ChunkMapper, Rules};
use refold_processor::json;
use refold_processor::log::{Log, LogError, Records};
use refold_processor::position::{Cut, Offset, Partition};
use refold_processor::quarantine::Rejected;
use refold_processor::source::Source;
use refold_processor::view::{Mapper, View, ViewError};
use serde_json::Value;

/// The row that is asked about: values of the columns that say which group it is of, by index into the view's columns.
#[derive(Clone, Debug)]
pub struct Wanted {
    values: Vec<(usize, ScalarValue)>,
    /// The record time at which the version ends that has the row, milliseconds since the Unix epoch.
    until_ms: Option<i64>,
}

/// Where to look.
pub struct Place<'a> {
    /// The log.
    pub log: &'a dyn Log,
    /// Writer schemas.
    pub schemas: Arc<dyn SchemaLookup>,
    /// The source of the view.
    pub source: &'a Source,
    /// The view.
    pub view: &'a Arc<View>,
}

/// An event behind a row.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its partition.
    pub partition: Partition,
    /// Its place in it.
    pub offset: Offset,
    /// When the log took it, milliseconds since the Unix epoch.
    pub record_time_ms: i64,
    /// The event, an object in the source's field names.
    pub value: Value,
    /// Why the view did not apply it, if it did not.
    pub rejected: Option<Rejected>,
}

/// What a search comes to, and how far it is.
pub enum News {
    /// An event behind the row.
    Event(Box<Event>),
    /// How many records were read, and how many there are to read.
    Going {
        /// Read so far.
        read: u64,
        /// To read in all.
        of: u64,
    },
}

/// Why a search ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WhyError {
    /// The key does not say which row.
    #[error("a row of view {view} is named by {names}: {missing} is missing")]
    Key {
        /// The view.
        view: String,
        /// The columns that name a row.
        names: String,
        /// What was not given.
        missing: String,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Records cannot be decoded for now.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The view cannot be evaluated.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The same.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A defect.
    #[error("comparing groups: {0}")]
    Groups(#[from] DataFusionError),
    /// Whoever asked is not there any more.
    #[error("the search was given up")]
    Stopped,
}

/// Values of a chunk, bytes.
const CHUNK_BYTES: usize = 1 << 20;
/// How long a read waits for records that the log has.
const READ_WAIT: Duration = Duration::from_secs(5);

impl Wanted {
    /// The row with these values; columns that do not say which group it is of are left out.
    ///
    /// # Errors
    /// When a column is missing.
    pub fn new(view: &View, value: &mut dyn FnMut(usize) -> Option<ScalarValue>) -> Result<Wanted, WhyError> {
        let none: Vec<ArrayRef> = view.groups.fields().iter().map(|field| new_empty_array(field.data_type())).collect();
        let states: Vec<ArrayRef> = view.states.fields().iter().map(|field| new_empty_array(field.data_type())).collect();
        let columns: Vec<usize> = view
            .group_columns(&none, &states)?
            .iter()
            .enumerate()
            .filter_map(|(index, column)| column.is_some().then_some(index))
            .collect();
        let name = |column: &usize| view.shape.columns.fields().get(*column).map(|field| field.name().clone()).unwrap_or_default();
        let mut wanted = Vec::new();
        for column in &columns {
            let Some(value) = value(*column) else {
                let names = columns.iter().map(name).collect::<Vec<_>>().join(", ");
                return Err(WhyError::Key { view: view.name.clone(), names, missing: name(column) });
            };
            wanted.push((*column, value));
        }
        Ok(Wanted { values: wanted, until_ms: None })
    }

    /// The same row of a version that ends at a record time, if it does.
    pub fn until(self, until_ms: Option<i64>) -> Wanted {
        Wanted { until_ms, ..self }
    }
}

/// Finds the events behind a row, partition by partition in the order of the log, up to its end as it is now. Answers the first position that was read of
/// each partition. `heard` is told of each event, and now and then how far the search is; `false` ends it.
///
/// # Errors
/// When the log cannot be read, or `heard` ends the search.
pub fn find(place: &Place<'_>, wanted: &Wanted, heard: &mut dyn FnMut(News) -> bool) -> Result<Cut, WhyError> {
    let bounds = place.log.topic_bounds(&place.source.topic)?;
    let from: Cut = bounds.iter().map(|(partition, bounds)| (*partition, bounds.start)).collect();
    let of = bounds.values().map(|bounds| bounds.end.0.saturating_sub(bounds.start.0)).sum();
    let mut left: BTreeSet<Partition> =
        bounds.iter().filter(|(_, bounds)| bounds.start < bounds.end).map(|(partition, _)| *partition).collect();
    let mut search = Search::new(place, wanted)?;
    let mut reader = place.log.reader(&place.source.topic, &from)?;
    let mut read = 0;
    while !left.is_empty() {
        let Some(mut records) = reader.read(CHUNK_BYTES, READ_WAIT)? else { break };
        let end = bounds.get(&records.partition).map_or(Offset(0), |bounds| bounds.end);
        records.spans.retain(|span| span.offset < end);
        if records.next >= end {
            left.remove(&records.partition);
        }
        read += records.spans.len() as u64;
        search.run(records, heard)?;
        if !heard(News::Going { read, of }) {
            return Err(WhyError::Stopped);
        }
    }
    Ok(from)
}

struct Search<'a> {
    view: &'a Arc<View>,
    wanted: &'a Wanted,
    decoder: Decoder,
    /// Judges events.
    judge: ChunkMapper,
    /// Tells which groups events are of.
    mapper: Mapper,
    before: BTreeMap<Partition, Before>,
    /// Partitions of which no later record is for the version.
    ended: BTreeSet<Partition>,
}

impl<'a> Search<'a> {
    fn new(place: &Place<'a>, wanted: &'a Wanted) -> Result<Search<'a>, WhyError> {
        let columns: Vec<usize> = (0..arrow_schema(&place.source.schema_json)?.fields().len()).collect();
        Ok(Search {
            view: place.view,
            wanted,
            decoder: Decoder::new(place.source, &columns, place.schemas.clone())?,
            judge: ChunkMapper::new(place.view, Rules { until_ms: wanted.until_ms, ..Rules::new(place.view, place.source) }, 1)?,
            mapper: place.view.mapper()?,
            before: BTreeMap::new(),
            ended: BTreeSet::new(),
        })
    }

    fn run(&mut self, records: Records, heard: &mut dyn FnMut(News) -> bool) -> Result<(), WhyError> {
        if self.ended.contains(&records.partition) {
            return Ok(());
        }
        let decoded = self.decoder.decode(&records)?;
        let (partition, next) = (records.partition, records.next);
        let from = self.before.get(&partition).map(|before| before.position).unwrap_or_default();
        let chunk = Arc::new(Chunk::new(from, records, decoded));
        let before = self.before.entry(partition).or_default();
        let mapped = self.judge.map(&chunk, *before)?;
        *before = Before { position: next, time: mapped.time, dropped_to_us: None };
        // Up to where the version ends.
        let chunk = mapped.chunk;
        if chunk.is_last {
            self.ended.insert(partition);
        }
        let mut found = Vec::new();
        self.halve(&chunk.decoded.events, 0, &mut found)?;
        for row in found {
            let Some(origin) = chunk.decoded.origins.get(row) else { continue };
            let event = Event {
                partition,
                offset: origin.offset,
                record_time_ms: origin.record_time_ms,
                value: json::object(&chunk.decoded.events, row),
                rejected: mapped.rejected.iter().find(|rejected| rejected.offset == origin.offset).cloned(),
            };
            if !heard(News::Event(Box::new(event))) {
                return Err(WhyError::Stopped);
            }
        }
        Ok(())
    }

    /// The rows of `events`, counted from `first`, that make a group of the row that is wanted.
    fn halve(&mut self, events: &RecordBatch, first: usize, found: &mut Vec<usize>) -> Result<(), WhyError> {
        let count = events.num_rows();
        let is_behind = match self.mapper.map(events) {
            Ok(None) => false,
            Ok(Some(partial)) => self.is_wanted(&partial.groups, &partial.states)?,
            // An expression fails on one of them: the others are found among the halves.
            Err(_) => count > 1,
        };
        if !is_behind {
            return Ok(());
        }
        if count == 1 {
            found.push(first);
            return Ok(());
        }
        let middle = count / 2;
        self.halve(&events.slice(0, middle), first, found)?;
        self.halve(&events.slice(middle, count - middle), first + middle, found)
    }

    /// Whether one of the groups is of the row.
    fn is_wanted(&self, groups: &[ArrayRef], states: &[ArrayRef]) -> Result<bool, WhyError> {
        let columns = self.view.group_columns(groups, states)?;
        let count = groups.first().map_or(0, |column| column.len());
        let mut is_wanted = vec![true; count];
        for (index, value) in &self.wanted.values {
            let Some(column) = columns.get(*index).and_then(Option::as_ref) else { continue };
            let has = match self.view.window.filter(|window| window.column == *index) {
                // Groups have the start of a pane, of which a window has several where windows overlap.
                Some(window) => {
                    let from = micros(&value.to_array()?)?.first().copied().flatten();
                    let starts = micros(column)?;
                    let within = |start: i64| from.is_some_and(|from| (from..from.saturating_add(window.size_us)).contains(&start));
                    starts.into_iter().map(|start| start.is_some_and(within)).collect::<Vec<_>>()
                }
                None => (0..count)
                    .map(|row| Ok(ScalarValue::try_from_array(column, row)? == *value))
                    .collect::<Result<Vec<_>, DataFusionError>>()?,
            };
            is_wanted.iter_mut().zip(has).for_each(|(is_wanted, has)| *is_wanted &= has);
        }
        Ok(is_wanted.contains(&true))
    }
}

/// Times in microseconds since the Unix epoch.
fn micros(times: &ArrayRef) -> Result<Vec<Option<i64>>, DataFusionError> {
    Ok(as_micros(times)?.iter().collect())
}
