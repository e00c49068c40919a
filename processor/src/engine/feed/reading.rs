//! How far a feed has read, and the next records.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::served::Served;
use super::{FeedsSettings, Message, READ_WAIT};
use crate::engine::error::EngineError;
use crate::engine::watermark::LastRecord;
use crate::log::{Bounds, LogError, LogReader, Records};
use crate::position::{Cut, Offset, Partition};
use crate::source::Source;

/// What a look at the log came to.
pub(super) enum Read {
    /// Records to decode.
    Records(Records),
    /// A reader was opened; consumers know where the log ends.
    Opened,
    /// Every partition is read to its end; consumers know.
    AtEnd,
}

/// How far a feed has read.
pub(super) struct Reading {
    reader: Option<Box<dyn LogReader>>,
    /// Read, but not decoded yet: their schema could not be looked up.
    undecoded: Option<Records>,
    positions: Cut,
    /// Where the partitions end, as last seen.
    ends: BTreeMap<Partition, Offset>,
    /// The positions that consumers were last told are the ends, and how many reads ago.
    reported: Option<(Cut, u32)>,
    /// When consumers were last told where all partitions end.
    ends_told: Instant,
    /// Of the records that were read last.
    bytes_a_record: usize,
}

/// After this many reads consumers are told again of ends that have not moved: so those that are gone are noticed.
const READS_UNTIL_REPORTED_AGAIN: u32 = 10;

impl Reading {
    /// From the positions of whoever is furthest behind, partition by partition.
    pub(super) fn new(served: &[Served], partitions: &[Partition]) -> Reading {
        let earliest = |partition| served.iter().filter_map(|served| served.position(partition)).min();
        // Nobody needs it any more: then from where that was so.
        let latest = |partition| served.iter().filter_map(|served| served.before(partition)).map(|before| before.position).max();
        let from = |partition| earliest(partition).or_else(|| latest(partition)).unwrap_or_default();
        let positions = partitions.iter().map(|partition| (*partition, from(*partition))).collect();
        Reading::from(positions)
    }

    fn from(positions: Cut) -> Reading {
        Reading {
            reader: None,
            undecoded: None,
            positions,
            ends: BTreeMap::new(),
            reported: None,
            ends_told: now(),
            bytes_a_record: LIKELY_BYTES_A_RECORD,
        }
    }

    /// How much is read at a time: less where a version may not be fast, so that it goes on in small steps.
    fn most_bytes(&self, chunk_bytes: usize, served: &[Served]) -> usize {
        let slice = served.iter().filter_map(|served| served.consumer.pace.slice()).min();
        slice.map_or(chunk_bytes, |events| {
            usize::try_from(events).unwrap_or(usize::MAX).saturating_mul(self.bytes_a_record).min(chunk_bytes)
        })
    }

    /// The records of a partition below `start` are gone, and nobody needs them.
    pub(super) fn skip_to(&mut self, partition: Partition, start: Offset) {
        self.positions.set(partition, self.positions.position(partition).max(start));
    }

    /// Whether consumers should be told that everything is read to its end.
    fn should_report_ends(&mut self) -> bool {
        match &mut self.reported {
            Some((reported, reads)) if *reported == self.positions && *reads < READS_UNTIL_REPORTED_AGAIN => {
                *reads += 1;
                false
            }
            _ => {
                self.reported = Some((self.positions.clone(), 0));
                true
            }
        }
    }

    /// The position of the next record to decode.
    pub(super) fn position(&self, partition: Partition) -> Offset {
        self.positions.position(partition)
    }

    /// Records up to `next` were decoded.
    pub(super) fn passed(&mut self, partition: Partition, next: Offset) {
        self.positions.set(partition, next);
    }

    /// Records that could not be decoded are the next ones again.
    pub(super) fn put_back(&mut self, records: Records) {
        self.undecoded = Some(records);
    }

    /// By how many events this is ahead of a version, all partitions together.
    pub(super) fn ahead_of(&self, served: &Served) -> u64 {
        let ahead =
            |(partition, position): (Partition, Offset)| position.0.saturating_sub(served.position(partition).unwrap_or(position).0);
        self.positions.iter().map(ahead).sum()
    }

    /// Whether every partition is read to its end, as last seen.
    pub(super) fn is_at_end(&self) -> bool {
        self.reader.is_some() && self.ends.iter().all(|(partition, end)| self.position(*partition) >= *end)
    }

    /// The records to decode next.
    pub(super) fn next(
        &mut self,
        settings: &FeedsSettings,
        source: &Source,
        partitions: &[Partition],
        served: &mut Vec<Served>,
    ) -> Result<Read, EngineError> {
        if let Some(records) = self.undecoded.take() {
            return Ok(Read::Records(records));
        }
        if self.ends_told.elapsed() > ASK_FOR_ENDS_EVERY {
            self.ends_told = now();
            // Up to the first that cannot be asked for: each may wait for long.
            let end = |partition: &Partition| Some((*partition, settings.log.bounds(&source.topic, *partition).ok()?.end));
            report_ends(served, partitions.iter().map_while(end).collect());
        }
        let most_bytes = self.most_bytes(settings.chunk_bytes, served);
        let Some(reader) = &mut self.reader else {
            let bounds = partitions.iter().map(|partition| Ok((*partition, settings.log.bounds(&source.topic, *partition)?)));
            let bounds = bounds.collect::<Result<Vec<_>, EngineError>>()?;
            refuse_past_end(source, served, &bounds);
            if served.is_empty() {
                return Ok(Read::Opened);
            }
            refuse_replaced(settings, source, served, &self.positions, &bounds)?;
            self.reader = Some(settings.log.reader(&source.topic, &self.positions)?);
            self.ends = bounds.iter().map(|(partition, bounds)| (*partition, bounds.end)).collect();
            report_ends(served, self.ends.clone().into_iter().collect());
            return Ok(Read::Opened);
        };
        match reader.read(most_bytes, READ_WAIT) {
            Ok(Some(records)) => {
                self.bytes_a_record = records.payload.len().div_ceil(records.spans.len().max(1)).max(1);
                self.ends.insert(records.partition, records.end);
                Ok(Read::Records(records))
            }
            Ok(None) => {
                // Every partition is read to its end, so the positions are the ends: nobody has to be asked for them.
                if self.should_report_ends() {
                    self.ends_told = now();
                    report_ends(served, partitions.iter().map(|partition| (*partition, self.positions.position(*partition))).collect());
                }
                Ok(Read::AtEnd)
            }
            Err(error) => {
                self.reader = None;
                Err(error.into())
            }
        }
    }
}

/// Before anything was read.
const LIKELY_BYTES_A_RECORD: usize = 200;

/// How often the log is asked for the ends of partitions while some of them bring records without a pause: that the others are quiet is not
/// known otherwise.
const ASK_FOR_ENDS_EVERY: Duration = Duration::from_secs(300);

#[allow(clippy::disallowed_methods, reason = "paces questions to the log, and reaches no row")]
fn now() -> Instant {
    Instant::now()
}

fn report_ends(served: &mut Vec<Served>, ends: Vec<(Partition, Offset)>) {
    served.retain(|served| served.offer(Message::Ends(ends.clone())));
}

/// Versions that are past the end of the log are of another log, or of one that lost what it had acknowledged. Those that are not go on: a reader
/// is opened where the one furthest behind is, so nothing else would notice.
fn refuse_past_end(source: &Source, served: &mut Vec<Served>, bounds: &[(Partition, Bounds)]) {
    served.retain(|served| {
        let past = bounds.iter().find(|(partition, bounds)| served.position(*partition).is_some_and(|position| position > bounds.end));
        let Some((partition, bounds)) = past else { return true };
        let position = served.position(*partition).unwrap_or_default();
        let error = LogError::PastEnd { topic: source.topic.clone(), partition: *partition, position, end: bounds.end };
        served.refuse(error);
        false
    });
}

/// Refuses versions that have read another log than this one: the last record that they took of each partition is not where it was, and not gone
/// either. A topic that was made anew, or a log that lost what it had acknowledged, would else be gone on with as if nothing had happened.
///
/// This looks at what comes before the reader's first position. Versions that are further meet their last records in what is read
/// ([`Served::take`]).
fn refuse_replaced(
    settings: &FeedsSettings,
    source: &Source,
    served: &mut Vec<Served>,
    positions: &Cut,
    bounds: &[(Partition, Bounds)],
) -> Result<(), EngineError> {
    let mut expected: BTreeMap<Partition, Offset> = BTreeMap::new();
    for (partition, bounds) in bounds {
        let are_before = bounds.start..bounds.end.min(positions.position(*partition));
        let last = served.iter().filter_map(|served| served.last(*partition)).map(|last| last.offset);
        if let Some(offset) = last.filter(|offset| are_before.contains(offset)).max() {
            expected.insert(*partition, offset);
        }
    }
    let from: Cut = expected.iter().map(|(partition, offset)| (*partition, *offset)).collect();
    let mut reader = if expected.is_empty() { return Ok(()) } else { settings.log.reader(&source.topic, &from)? };
    while !expected.is_empty() && !served.is_empty() {
        let Some(records) = reader.read(1, READ_WAIT)? else { return Ok(()) };
        let Some(offset) = expected.remove(&records.partition) else { continue };
        let Some(span) = records.spans.first().filter(|span| span.offset == offset) else { continue };
        let found = LastRecord::of(&records, span);
        served.retain(|served| {
            let is_the_same = served.last(records.partition).is_none_or(|last| last.offset != offset || last == found);
            if !is_the_same {
                served.refuse(LogError::Replaced { topic: source.topic.clone(), partition: records.partition, offset });
            }
            is_the_same
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consumers_are_told_of_ends_when_they_have_moved_and_now_and_then() {
        let at = |offset| [(Partition(0), Offset(offset))].into_iter().collect::<Cut>();
        let mut reading = Reading::from(at(1));
        let told: Vec<bool> = (0..23).map(|_| reading.should_report_ends()).collect();
        let indices: Vec<usize> = told.iter().enumerate().filter_map(|(index, told)| told.then_some(index)).collect();
        assert_eq!(indices, [0, 11, 22]);
        reading.positions = at(2);
        assert!(reading.should_report_ends() && !reading.should_report_ends());
    }
}
