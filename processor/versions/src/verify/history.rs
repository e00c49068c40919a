//! The log by event time: which part of it is of which time, so that the events of some windows are read without the rest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{Array, BooleanArray, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use refold_processor::decode::{Decoder, arrow_schema};
use refold_processor::engine::codec::as_micros;
use refold_processor::engine::map::{Before, Chunk, ChunkMapper, Rules};
use refold_processor::position::{Cut, Offset, Partition};

use super::slices::Span;
use super::{Going, Scope, Verified, VerifyError, Watcher};

/// Values of a chunk, bytes.
const CHUNK_BYTES: usize = 1 << 20;
/// How long a read waits for records that the log has.
const READ_WAIT: Duration = Duration::from_secs(5);

/// A run of records of a partition.
#[derive(Clone, Copy, Debug)]
struct Piece {
    /// What is known before it.
    before: Before,
    /// Where the next one begins.
    next: Offset,
    /// The least and the greatest event time in it; `None`: it has no event of the time that is looked at.
    times: Option<(i64, i64)>,
}

/// What the log has.
pub(super) struct History {
    pieces: BTreeMap<Partition, Vec<Piece>>,
    /// Bytes of the events of each slide of the window.
    pub bytes_by_slot: BTreeMap<i64, u64>,
    /// Where the log has lost its beginning: windows that begin before this time may lack events. Microseconds since the Unix epoch.
    pub whole_from_us: Option<i64>,
    decoder: Decoder,
    judge: ChunkMapper,
}

/// Events that were accepted, and their times.
struct Accepted {
    events: RecordBatch,
    times_us: Vec<i64>,
}

impl History {
    /// Reads the log up to `visible`, partition by partition.
    pub fn survey(verified: &Verified<'_>, scope: &Scope, visible: &Cut, watcher: &mut Watcher<'_>) -> Result<History, VerifyError> {
        let columns: Vec<usize> = (0..arrow_schema(&verified.source.schema_json)?.fields().len()).collect();
        let mut history = History {
            pieces: BTreeMap::new(),
            bytes_by_slot: BTreeMap::new(),
            whole_from_us: None,
            decoder: Decoder::new(verified.source, &columns, verified.schemas.clone())?,
            judge: ChunkMapper::new(verified.view, Rules::new(verified.view, verified.source), 1)?,
        };
        let bounds = verified.log.topic_bounds(&verified.source.topic)?;
        let until = |partition: Partition| visible.position(partition);
        let of = bounds.iter().map(|(partition, bounds)| until(*partition).0.saturating_sub(bounds.start.0)).sum();
        let (mut read, wanted) = (0, scope.events());
        for (partition, bounds) in bounds {
            let first = Before { position: bounds.start, ..Before::default() };
            let mut pieces = Vec::new();
            let mut first_us = None;
            let slide_us = scope.window.slide_us;
            let mut bytes_by_slot = std::mem::take(&mut history.bytes_by_slot);
            history.read(verified, (partition, first, until(partition)), &mut |before, next, records, accepted| {
                read += records;
                let in_time = accepted.times_us.iter().copied().filter(|time_us| wanted.has(*time_us));
                let bytes = accepted.events.get_array_memory_size() as u64 / (accepted.times_us.len() as u64).max(1);
                let mut times = None;
                for time_us in in_time {
                    let (least, most) = times.unwrap_or((time_us, time_us));
                    times = Some((time_us.min(least), time_us.max(most)));
                    *bytes_by_slot.entry(time_us.div_euclid(slide_us) * slide_us).or_default() += bytes;
                }
                first_us = first_us.or(accepted.times_us.first().copied());
                pieces.push(Piece { before, next, times });
                if watcher(Going::Survey { read, of }) { Ok(()) } else { Err(VerifyError::Stopped) }
            })?;
            history.bytes_by_slot = bytes_by_slot;
            history.pieces.insert(partition, pieces);
            if bounds.start > Offset(0) {
                // Events before the first one that is left were at most so much later than it.
                let accept_late_us = verified.view.options.accepted_late_us().unwrap_or(0);
                let whole_from_us = first_us.unwrap_or(i64::MAX).saturating_add(accept_late_us).saturating_add(1);
                history.whole_from_us = history.whole_from_us.max(Some(whole_from_us));
            }
        }
        Ok(history)
    }

    /// The accepted events of a span of time.
    pub fn events(&mut self, verified: &Verified<'_>, span: Span) -> Result<Vec<RecordBatch>, VerifyError> {
        let mut events = Vec::new();
        let has_some = |piece: &Piece| piece.times.is_some_and(|(least, most)| least < span.to_us && most >= span.from_us);
        let pieces: Vec<(Partition, Vec<Piece>)> = self
            .pieces
            .iter()
            .map(|(partition, pieces)| (*partition, pieces.iter().filter(|piece| has_some(piece)).copied().collect()))
            .collect();
        for (partition, pieces) in pieces {
            for (before, next) in runs(&pieces) {
                self.read(verified, (partition, before, next), &mut |_, _, _, accepted| {
                    let is_wanted: BooleanArray = accepted.times_us.iter().map(|time_us| Some(span.has(*time_us))).collect();
                    if is_wanted.true_count() > 0 {
                        events.push(filtered(&accepted.events, &is_wanted)?);
                    }
                    Ok(())
                })?;
            }
        }
        Ok(events)
    }

    /// Reads a partition from what is known `before` to `until`; hands on of each chunk what was known before it, where it ends, how many records it has, and
    /// the events that are accepted.
    fn read(
        &mut self,
        verified: &Verified<'_>,
        (partition, mut before, until): (Partition, Before, Offset),
        each: &mut dyn FnMut(Before, Offset, u64, Accepted) -> Result<(), VerifyError>,
    ) -> Result<(), VerifyError> {
        if before.position >= until {
            return Ok(());
        }
        let from: Cut = [(partition, before.position)].into_iter().collect();
        let mut reader = verified.log.reader(&verified.source.topic, &from)?;
        while before.position < until {
            let Some(mut records) = reader.read(CHUNK_BYTES, READ_WAIT)? else { break };
            records.spans.retain(|span| span.offset < until);
            let next = records.next.min(until);
            let count = records.spans.len() as u64;
            let decoded = self.decoder.decode(&records)?;
            let chunk = Arc::new(Chunk::new(before.position, records, decoded));
            let mapped = self.judge.map(&chunk, before)?;
            let times = chunk.decoded.events.column_by_name(&verified.source.event_time);
            let times = times.map(as_micros).transpose().map_err(arrow)?;
            let mut is_accepted = Vec::with_capacity(chunk.decoded.origins.len());
            let mut times_us = Vec::with_capacity(chunk.decoded.origins.len());
            let mut rejected = mapped.rejected.iter().map(|rejected| rejected.offset).peekable();
            for (row, origin) in chunk.decoded.origins.iter().enumerate() {
                while rejected.next_if(|offset| *offset < origin.offset).is_some() {}
                let is_left_out = rejected.peek() == Some(&origin.offset) || verified.late_after_idle.contains(&(partition, origin.offset));
                let time_us = times.as_ref().filter(|times| times.is_valid(row)).map(|times| times.value(row)).filter(|_| !is_left_out);
                is_accepted.push(time_us.is_some());
                times_us.extend(time_us);
            }
            let events = filtered(&chunk.decoded.events, &is_accepted.into())?;
            each(before, next, count, Accepted { events, times_us })?;
            before = Before { position: next, time: mapped.time, dropped_to_us: None };
        }
        Ok(())
    }
}

/// Pieces that follow each other, as one.
fn runs(pieces: &[Piece]) -> Vec<(Before, Offset)> {
    let mut runs: Vec<(Before, Offset)> = Vec::new();
    for piece in pieces {
        match runs.last_mut() {
            Some((_, next)) if *next == piece.before.position => *next = piece.next,
            _ => runs.push((piece.before, piece.next)),
        }
    }
    runs
}

fn filtered(events: &RecordBatch, is_wanted: &BooleanArray) -> Result<RecordBatch, VerifyError> {
    filter_record_batch(events, is_wanted).map_err(arrow)
}

fn arrow(error: ArrowError) -> VerifyError {
    DataFusionError::from(error).into()
}
