//! Decoded events → verdicts and partial aggregates: everything that needs one partition's order only.
//!
//! Lateness is judged here, per partition and in log order, so that the verdict on an event is a function of its partition's log
//! alone, whatever the batch sizes and interleavings.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::{filter_record_batch, take};
use datafusion::arrow::row::Rows;

use super::assemble::windows_of;
use super::codec::{Codec, as_micros, group_hash};
use super::error::EngineError;
use super::watermark::{LastRecord, PartitionTime};
use crate::decode::Decoded;
use crate::log::{RecordSpan, Records};
use crate::position::{Offset, Partition};
use crate::quarantine::{Reason, Rejected};
use crate::source::Source;
use crate::view::{Mapper, Partial, View, WindowSpec};

/// A run of records of one partition, decoded.
#[derive(Debug)]
pub struct Chunk {
    /// The position before the run.
    pub from: Offset,
    /// The records, kept for the quarantine.
    pub records: Records,
    /// What they decoded to.
    pub decoded: Decoded,
    /// Whether no later record of the partition is for the version.
    pub is_last: bool,
}

impl Chunk {
    /// A chunk of a log that goes on.
    pub fn new(from: Offset, records: Records, decoded: Decoded) -> Chunk {
        Chunk { from, records, decoded, is_last: false }
    }

    /// What comes before the first record that is later than `until_ms`, if there is one in here: the last chunk of the partition. It ends at that record,
    /// wherever chunks begin and end, so that a version ends at the same cut however it was read.
    fn up_to(&self, until_ms: i64) -> Option<Chunk> {
        let kept = self.records.spans.iter().position(|span| span.record_time_ms > until_ms)?;
        let end = self.records.spans.get(kept)?.offset;
        let mut records = self.records.clone();
        records.spans.truncate(kept);
        (records.next, records.end) = (end, end);
        let events = self.decoded.origins.partition_point(|origin| origin.offset < end);
        let mut origins = self.decoded.origins.clone();
        origins.truncate(events);
        let mut rejected = self.decoded.rejected.clone();
        rejected.retain(|rejected| rejected.offset < end);
        let decoded = Decoded { events: self.decoded.events.slice(0, events), origins, rejected };
        Some(Chunk { from: self.from, records, decoded, is_last: true })
    }

    /// The partition all records are of.
    pub fn partition(&self) -> Partition {
        self.records.partition
    }

    /// The bytes of a record.
    pub fn value(&self, offset: Offset) -> Option<&[u8]> {
        self.records.value(self.span(offset)?)
    }

    /// When the log took a record, milliseconds since the Unix epoch.
    pub fn record_time_ms(&self, offset: Offset) -> Option<i64> {
        Some(self.span(offset)?.record_time_ms)
    }

    fn span(&self, offset: Offset) -> Option<&RecordSpan> {
        let index = self.records.spans.binary_search_by_key(&offset, |span| span.offset).ok()?;
        self.records.spans.get(index)
    }
}

/// What is known before a chunk is mapped.
#[derive(Clone, Copy, Debug, Default)]
pub struct Before {
    /// Records below this position are already applied.
    pub position: Offset,
    /// The partition's event-time progress at that position.
    pub time: PartitionTime,
    /// Of windows that end at or before this time, panes are dropped.
    pub dropped_to_us: Option<i64>,
}

/// Partial aggregates of the groups of one shard.
pub struct ShardPartial {
    /// The shard.
    pub shard: usize,
    /// The encoded group keys.
    pub keys: Rows,
    /// Their hashes.
    pub hashes: Vec<u64>,
    /// The states, as many rows as keys.
    pub states: Vec<ArrayRef>,
}

/// A chunk, judged and pre-aggregated for one version.
pub struct Mapped {
    /// What it was mapped from.
    pub chunk: Arc<Chunk>,
    /// What was known before.
    pub before: Before,
    /// The partition's event-time progress after it.
    pub time: PartitionTime,
    /// How many events are folded in.
    pub applied: u64,
    /// The events that are not.
    pub rejected: Vec<Rejected>,
    /// The partial aggregates by shard.
    pub shards: Vec<ShardPartial>,
    /// The earliest end of a window that a pane in here is part of.
    pub oldest_end_us: Option<i64>,
}

/// Maps chunks for one version. One for each thread.
pub struct ChunkMapper {
    view: Arc<View>,
    rules: Rules,
    mapper: Mapper,
    keys: Codec,
    shards: usize,
}

/// When an event is not acceptable.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The event-time column.
    pub event_time: String,
    /// How far behind the largest event time earlier in its partition an event may be.
    pub accept_late_us: Option<i64>,
    /// How far ahead of its record time.
    pub future_tolerance_us: i64,
    /// The record time at which the version ends, milliseconds since the Unix epoch: in each partition, the first record with a later one and all behind it
    /// are no part of it.
    pub until_ms: Option<i64>,
}

impl Rules {
    /// The rules of `view` over its source.
    pub fn new(view: &View, source: &Source) -> Rules {
        Rules {
            event_time: source.event_time.clone(),
            accept_late_us: view.options.accepted_late_us(),
            future_tolerance_us: source.future_tolerance_us,
            until_ms: None,
        }
    }
}

/// A span of time in whole seconds, such as `1day 2h 3m 4s`.
fn for_people(span_us: i64) -> humantime::FormattedDuration {
    humantime::format_duration(std::time::Duration::from_secs(span_us.unsigned_abs() / 1_000_000))
}

impl ChunkMapper {
    /// A mapper for `view` that splits groups among `shards`.
    pub fn new(view: &Arc<View>, rules: Rules, shards: usize) -> Result<ChunkMapper, EngineError> {
        let mapper = view.mapper()?;
        let keys = Codec::new(view.groups.fields().iter().map(|field| (field.data_type().clone(), Default::default())))?;
        Ok(ChunkMapper { view: view.clone(), rules, mapper, keys, shards: shards.max(1) })
    }

    /// Judges and pre-aggregates a chunk, up to where the version ends. A pure function of the chunk and what is known before.
    pub fn map(&mut self, chunk: &Arc<Chunk>, before: Before) -> Result<Mapped, EngineError> {
        let ended = self.rules.until_ms.and_then(|until_ms| chunk.up_to(until_ms)).map(Arc::new);
        let chunk = ended.as_ref().unwrap_or(chunk);
        let mut rejected: Vec<Rejected> =
            chunk.decoded.rejected.iter().filter(|rejected| rejected.offset >= before.position).cloned().collect();
        let mut judged = self.judge(chunk, before, &mut rejected)?;
        judged.time.last = chunk.records.spans.last().map(|span| LastRecord::of(&chunk.records, span)).or(before.time.last);
        let mut applied = judged.events.num_rows() as u64;
        let mut partials: Vec<Keyed> = Vec::new();
        if applied > 0 {
            self.evaluate(&judged.events, &judged.offsets, &mut partials, &mut rejected)?;
            applied = judged.events.num_rows() as u64 - judged.failed(&rejected);
        }
        rejected.sort_by_key(|rejected| rejected.offset);
        let oldest_end_us = self.oldest_end_us(&partials)?;
        let shards = self.split(partials)?;
        Ok(Mapped { chunk: chunk.clone(), before, time: judged.time, applied, rejected, shards, oldest_end_us })
    }

    fn judge(&self, chunk: &Chunk, before: Before, rejected: &mut Vec<Rejected>) -> Result<Judged, EngineError> {
        let origins = &chunk.decoded.origins;
        let skip = origins.partition_point(|origin| origin.offset < before.position);
        let events = chunk.decoded.events.slice(skip, origins.len() - skip);
        let origins = origins.get(skip..).unwrap_or_default();
        let times = events
            .column_by_name(&self.rules.event_time)
            .ok_or_else(|| EngineError::Internal(format!("events have no column {}", self.rules.event_time)))?;
        let micros = as_micros(times)?;
        let mut time = before.time;
        let mut accepted = Vec::with_capacity(origins.len());
        let mut offsets = Vec::with_capacity(origins.len());
        for (row, origin) in origins.iter().enumerate() {
            let event_us = (!micros.is_null(row)).then(|| micros.value(row));
            let verdict = match event_us {
                None if times.is_null(row) => Err((Reason::NoEventTime, format!("{} is null", self.rules.event_time))),
                None => Err((Reason::InvalidValue, format!("{} is out of range", self.rules.event_time))),
                Some(event_us) => self.in_order(event_us, origin.record_time_ms, time).and_then(|()| {
                    // From here on the verdict is no longer the log's alone, the partition's progress is.
                    time.accept(event_us, origin.record_time_ms.saturating_mul(1_000));
                    self.still_kept(event_us, before.dropped_to_us)
                }),
            };
            match verdict {
                Ok(()) => {
                    accepted.push(true);
                    offsets.push(origin.offset);
                }
                Err((reason, detail)) => {
                    accepted.push(false);
                    rejected.push(Rejected { offset: origin.offset, reason, detail });
                }
            }
        }
        let events = match offsets.len() == origins.len() {
            true => events,
            false => filter_record_batch(&events, &BooleanArray::from(accepted))?,
        };
        Ok(Judged { events, offsets, time })
    }

    fn in_order(&self, event_us: i64, record_time_ms: i64, time: PartitionTime) -> Result<(), (Reason, String)> {
        let latest_us = record_time_ms.saturating_mul(1_000).saturating_add(self.rules.future_tolerance_us);
        if event_us > latest_us {
            let ahead = for_people(event_us.saturating_sub(record_time_ms.saturating_mul(1_000)));
            return Err((Reason::FromTheFuture, format!("its event time is {ahead} ahead of its record time")));
        }
        if let (Some(max_us), Some(accept_late_us)) = (time.max_us, self.rules.accept_late_us)
            && event_us < max_us.saturating_sub(accept_late_us)
        {
            let behind = for_people(max_us.saturating_sub(event_us));
            return Err((Reason::TooLate, format!("its event time is {behind} behind the largest one before it in its partition")));
        }
        Ok(())
    }

    fn still_kept(&self, event_us: i64, dropped_to_us: Option<i64>) -> Result<(), (Reason, String)> {
        if let (Some(window), Some(dropped_to_us)) = (self.view.window, dropped_to_us)
            && first_end_us(&window, pane_start_us(&window, event_us)) <= dropped_to_us
        {
            return Err((Reason::LateAfterIdle, "the state of its window, or of one that overlaps it, is already dropped".into()));
        }
        Ok(())
    }

    /// Maps `events`; where that fails, halves them until the events that an expression fails on stand alone.
    fn evaluate(
        &mut self,
        events: &RecordBatch,
        offsets: &[Offset],
        partials: &mut Vec<Keyed>,
        rejected: &mut Vec<Rejected>,
    ) -> Result<(), EngineError> {
        let (reason, detail) = match self.mapper.map(events) {
            Ok(None) => return Ok(()),
            Ok(Some(partial)) => match self.keyed(partial)? {
                Ok(keyed) => {
                    partials.push(keyed);
                    return Ok(());
                }
                Err(bytes) => (Reason::KeyTooLong, format!("the key of its row has about {bytes} bytes, more than {MAX_KEY_BYTES}")),
            },
            Err(error) => (Reason::Evaluation, error.to_string()),
        };
        match offsets {
            [] => {}
            [offset] => rejected.push(Rejected { offset: *offset, reason, detail }),
            _ => {
                let middle = offsets.len() / 2;
                let (first, second) = offsets.split_at(middle);
                self.evaluate(&events.slice(0, middle), first, partials, rejected)?;
                self.evaluate(&events.slice(middle, second.len()), second, partials, rejected)?;
            }
        }
        Ok(())
    }

    /// Encodes the keys of groups, unless one is too long: then it answers how long.
    fn keyed(&self, partial: Partial) -> Result<Result<Keyed, usize>, EngineError> {
        let len = partial.groups.first().map_or(0, |groups| groups.len());
        let keys = self.keys.encode(&partial.groups, len)?;
        let longest = keys.iter().map(|key| key.data().len()).max().unwrap_or(0);
        Ok(if longest > MAX_KEY_BYTES { Err(longest) } else { Ok(Keyed { partial, keys }) })
    }

    fn oldest_end_us(&self, partials: &[Keyed]) -> Result<Option<i64>, EngineError> {
        let Some(window) = self.view.window else { return Ok(None) };
        let mut oldest: Option<i64> = None;
        for Keyed { partial, .. } in partials {
            let Some(panes) = partial.groups.first() else { continue };
            let least = datafusion::arrow::compute::min(&as_micros(panes)?);
            oldest = oldest.into_iter().chain(least).min();
        }
        Ok(oldest.map(|pane_us| first_end_us(&window, pane_us)))
    }

    fn split(&self, partials: Vec<Keyed>) -> Result<Vec<ShardPartial>, EngineError> {
        let mut shards = Vec::new();
        for Keyed { partial, keys } in partials {
            let hashes: Vec<u64> = keys.iter().map(|key| group_hash(key.data())).collect();
            if self.shards == 1 {
                shards.push(ShardPartial { shard: 0, keys, hashes, states: partial.states });
                continue;
            }
            let mut rows: Vec<Vec<u32>> = vec![Vec::new(); self.shards];
            for (row, hash) in hashes.iter().enumerate() {
                if let Some(rows) = rows.get_mut(shard_of(*hash, self.shards)) {
                    rows.push(row as u32);
                }
            }
            for (shard, rows) in rows.into_iter().enumerate() {
                let mut shard_keys = self.keys.encode(&partial.groups.iter().map(|array| array.slice(0, 0)).collect::<Vec<_>>(), 0)?;
                let mut shard_hashes = Vec::with_capacity(rows.len());
                for row in &rows {
                    shard_keys.push(keys.row(*row as usize));
                    shard_hashes.extend(hashes.get(*row as usize));
                }
                let indices = UInt32Array::from(rows);
                let states = partial.states.iter().map(|states| take(states, &indices, None)).collect::<Result<Vec<_>, _>>()?;
                shards.push(ShardPartial { shard, keys: shard_keys, hashes: shard_hashes, states });
            }
        }
        Ok(shards)
    }
}

/// Partial aggregates, and the encoded keys of their groups.
struct Keyed {
    partial: Partial,
    keys: Rows,
}

/// The longest key of a group, encoded. Cassandra takes 65,535 bytes in a partition key and in a clustering column; encoded keys are a little
/// longer than their values.
const MAX_KEY_BYTES: usize = 60_000;

struct Judged {
    events: RecordBatch,
    offsets: Vec<Offset>,
    time: PartitionTime,
}

impl Judged {
    fn failed(&self, rejected: &[Rejected]) -> u64 {
        rejected.iter().filter(|rejected| matches!(rejected.reason, Reason::Evaluation | Reason::KeyTooLong)).count() as u64
    }
}

/// The shard that a group belongs to.
pub fn shard_of(hash: u64, shards: usize) -> usize {
    ((u128::from(hash) * shards as u128) >> 64) as usize
}

/// The start of the pane that holds a time.
pub fn pane_start_us(window: &WindowSpec, time_us: i64) -> i64 {
    time_us.saturating_sub(time_us.rem_euclid(window.pane_us))
}

/// When the first window that a pane is part of ends: from then on, panes of it may be dropped, and an event in this one would change a row that
/// can no longer be worked out.
pub fn first_end_us(window: &WindowSpec, pane_us: i64) -> i64 {
    windows_of(window, pane_us).next().unwrap_or(pane_us).saturating_add(window.size_us)
}

/// When the last window that a pane is part of ends: until then its state is needed.
pub fn state_end_us(window: &WindowSpec, pane_us: i64) -> i64 {
    let last_window_us = pane_us.saturating_sub(pane_us.rem_euclid(window.slide_us));
    last_window_us.saturating_add(window.size_us)
}

#[cfg(test)]
mod tests;
