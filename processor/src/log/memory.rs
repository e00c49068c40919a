//! The log in memory, for simulations and tests: the same meaning as the others, no threads, no time of its own.
//!
//! `wait` never blocks: a reader at the end answers `None` at once, so that a simulation decides what happens next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use super::placement::{Placement, check_topic, check_values, no_such_partition};
use super::{Bounds, Log, LogError, LogReader, NewRecord, RecordSpan, Records};
use crate::clock::Clock;
use crate::position::{Cut, Offset, Partition};

/// A log that lives as long as this, its clones and its readers. Clones share the records.
#[derive(Clone)]
pub struct MemoryLog {
    topics: Arc<Mutex<Topics>>,
    clock: Arc<dyn Clock>,
}

type Topics = BTreeMap<String, Topic>;

struct Topic {
    partitions: Vec<MemoryPartition>,
    placement: Placement,
}

impl Topic {
    fn append(
        &mut self,
        topic: &str,
        partition: Option<Partition>,
        record: NewRecord,
        now_ms: i64,
    ) -> Result<(Partition, Offset), LogError> {
        let partitions = self.partitions.len();
        let partition = partition.unwrap_or_else(|| self.placement.partition(&record, partitions as u32));
        let kept = self.partitions.get_mut(partition.0 as usize).ok_or_else(|| no_such_partition(topic, partition, partitions))?;
        Ok((partition, kept.append(record.value, now_ms)))
    }
}

#[derive(Default)]
struct MemoryPartition {
    /// How many records were removed: the offset of the first that is kept.
    start: u64,
    records: std::collections::VecDeque<(i64, Bytes)>,
    last_time_ms: Option<i64>,
}

impl MemoryPartition {
    fn bounds(&self) -> Bounds {
        Bounds { start: Offset(self.start), end: Offset(self.start + self.records.len() as u64) }
    }

    fn append(&mut self, value: Bytes, now_ms: i64) -> Offset {
        let offset = self.bounds().end;
        let record_time_ms = self.last_time_ms.map_or(now_ms, |last| last.max(now_ms));
        self.last_time_ms = Some(record_time_ms);
        self.records.push_back((record_time_ms, value));
        offset
    }
}

impl MemoryLog {
    /// An empty log whose record times come from `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> MemoryLog {
        MemoryLog { topics: Arc::default(), clock }
    }

    /// Appends a record as if the log had taken it at this time, or with the one before it if that was later: to this partition, or where its key sends it.
    ///
    /// # Errors
    ///
    /// When there is no such topic or partition, or the value is too long to keep.
    pub fn append_at(
        &self,
        topic: &str,
        partition: Option<Partition>,
        record: NewRecord,
        record_time_ms: i64,
    ) -> Result<(Partition, Offset), LogError> {
        check_values(topic, std::slice::from_ref(&record))?;
        with_topic(&self.topics, topic, |found| found.append(topic, partition, record, record_time_ms))
    }

    /// Forgets the records of a partition below `to`: the start of its log. A start that is further on stays.
    ///
    /// # Errors
    ///
    /// [`LogError::PastEnd`] when `to` is past the end.
    pub fn truncate(&self, topic: &str, partition: Partition, to: Offset) -> Result<(), LogError> {
        with_partition(&self.topics, topic, partition, |kept| {
            let end = kept.bounds().end;
            if to > end {
                return Err(LogError::PastEnd { topic: topic.to_owned(), partition, position: to, end });
            }
            let removed = to.0.saturating_sub(kept.start);
            kept.records.drain(..removed as usize);
            kept.start += removed;
            Ok(())
        })
    }
}

fn with_topic<T>(topics: &Mutex<Topics>, topic: &str, then: impl FnOnce(&mut Topic) -> Result<T, LogError>) -> Result<T, LogError> {
    then(topics.lock().get_mut(topic).ok_or_else(|| LogError::UnknownTopic(topic.to_owned()))?)
}

fn with_partition<T>(
    topics: &Mutex<Topics>,
    topic: &str,
    partition: Partition,
    then: impl FnOnce(&mut MemoryPartition) -> Result<T, LogError>,
) -> Result<T, LogError> {
    with_topic(topics, topic, |found| {
        let partitions = found.partitions.len();
        then(found.partitions.get_mut(partition.0 as usize).ok_or_else(|| no_such_partition(topic, partition, partitions))?)
    })
}

impl Log for MemoryLog {
    fn id(&self) -> Result<String, LogError> {
        Ok(format!("{:p}", Arc::as_ptr(&self.topics)))
    }

    fn create_topic(&self, topic: &str, partitions: u32) -> Result<(), LogError> {
        check_topic(topic, partitions)?;
        self.topics.lock().entry(topic.to_owned()).or_insert_with(|| Topic {
            partitions: (0..partitions).map(|_| MemoryPartition::default()).collect(),
            placement: Placement::default(),
        });
        Ok(())
    }

    fn topics(&self) -> Result<Vec<String>, LogError> {
        Ok(self.topics.lock().keys().cloned().collect())
    }

    fn partitions(&self, topic: &str) -> Result<Vec<Partition>, LogError> {
        with_topic(&self.topics, topic, |topic| Ok((0..topic.partitions.len() as u32).map(Partition).collect()))
    }

    fn bounds(&self, topic: &str, partition: Partition) -> Result<Bounds, LogError> {
        with_partition(&self.topics, topic, partition, |kept| Ok(kept.bounds()))
    }

    fn append(&self, topic: &str, records: Vec<NewRecord>) -> Result<Vec<(Partition, Offset)>, LogError> {
        check_values(topic, &records)?;
        let now_ms = self.clock.now_ms();
        with_topic(&self.topics, topic, |found| records.into_iter().map(|record| found.append(topic, None, record, now_ms)).collect())
    }

    fn reader(&self, topic: &str, from: &Cut) -> Result<Box<dyn LogReader>, LogError> {
        for (partition, _) in from.iter() {
            self.bounds(topic, partition)?;
        }
        with_topic(&self.topics, topic, |_| Ok(()))?;
        Ok(Box::new(MemoryReader { topics: self.topics.clone(), topic: topic.to_owned(), positions: from.iter().collect(), turn: 0 }))
    }
}

/// Reads some partitions in turn.
struct MemoryReader {
    topics: Arc<Mutex<Topics>>,
    topic: String,
    positions: Vec<(Partition, Offset)>,
    turn: usize,
}

impl LogReader for MemoryReader {
    fn read(&mut self, max_bytes: usize, _wait: Duration) -> Result<Option<Records>, LogError> {
        for _ in 0..self.positions.len() {
            let turn = self.turn % self.positions.len();
            self.turn = turn + 1;
            let Some((partition, position)) = self.positions.get_mut(turn) else { continue };
            let read = with_partition(&self.topics, &self.topic, *partition, |kept| {
                read_from(kept, (&self.topic, *partition), *position, max_bytes)
            })?;
            if let Some(records) = read {
                *position = records.next;
                return Ok(Some(records));
            }
        }
        Ok(None)
    }
}

fn read_from(
    kept: &MemoryPartition,
    (topic, partition): (&str, Partition),
    position: Offset,
    max_bytes: usize,
) -> Result<Option<Records>, LogError> {
    let Bounds { start, end } = kept.bounds();
    if position < start {
        return Err(LogError::Hole { topic: topic.to_owned(), partition, position, log_start: start });
    }
    if position > end {
        return Err(LogError::PastEnd { topic: topic.to_owned(), partition, position, end });
    }
    let mut spans = Vec::new();
    let mut payload = BytesMut::new();
    let mut next = position;
    for (record_time_ms, value) in kept.records.range((position.0 - start.0) as usize..) {
        if !spans.is_empty() && payload.len() + value.len() > max_bytes {
            break;
        }
        let len = Some(value.len() as u32);
        spans.push(RecordSpan { offset: next, record_time_ms: *record_time_ms, start: payload.len() as u32, len });
        payload.extend_from_slice(value);
        next = next.next();
    }
    let records = Records { partition, spans, payload: payload.freeze(), next, end };
    Ok((!records.spans.is_empty()).then_some(records))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use crate::clock::ManualClock;
    use crate::log::conformance::{self, Harness};

    struct InMemory {
        log: MemoryLog,
        clock: Arc<ManualClock>,
    }

    impl Harness for InMemory {
        fn log(&self) -> Arc<dyn Log> {
            Arc::new(self.log.clone())
        }

        /// What outlives the process is what clones share.
        fn reopen(&mut self) {
            self.log = self.log.clone();
        }

        fn forget_below(&mut self, topic: &str, partition: Partition, to: Offset) {
            self.log.truncate(topic, partition, to).unwrap();
        }

        fn turn_clock_back(&self) {
            self.clock.advance_ms(-1_000);
        }

        fn readers_sleep(&self) -> bool {
            false
        }
    }

    #[test]
    fn does_what_every_log_must() {
        conformance::run(&|| {
            let clock = Arc::new(ManualClock::at(1_700_000_000_000));
            Box::new(InMemory { log: MemoryLog::new(clock.clone()), clock })
        });
    }

    #[test]
    fn a_record_is_placed_and_timed_as_it_is_told() {
        let log = MemoryLog::new(Arc::new(ManualClock::at(5)));
        log.create_topic("events", 2).unwrap();
        let record = || NewRecord { key: Some(Bytes::from_static(b"a key")), value: Bytes::from_static(b"value") };
        let (by_key, _) = log.append("events", vec![record()]).unwrap()[0];
        assert_eq!(log.append_at("events", None, record(), 7).unwrap(), (by_key, Offset(1)));
        assert_eq!(log.append_at("events", Some(by_key), record(), 6).unwrap(), (by_key, Offset(2)));
        let other = Partition(1 - by_key.0);
        assert_eq!(log.append_at("events", Some(other), record(), 6).unwrap(), (other, Offset(0)));
        let times = |partition| {
            let from: Cut = [(partition, Offset(0))].into_iter().collect();
            let records = log.reader("events", &from).unwrap().read(1_000, Duration::ZERO).unwrap().unwrap();
            records.spans.iter().map(|span| span.record_time_ms).collect::<Vec<_>>()
        };
        assert_eq!((times(by_key), times(other)), (vec![5, 7, 7], vec![6]));
        assert!(log.append_at("events", Some(Partition(2)), record(), 6).is_err());
    }

    #[test]
    fn a_truncation_past_the_end_is_refused() {
        let log = MemoryLog::new(Arc::new(ManualClock::default()));
        log.create_topic("events", 1).unwrap();
        assert!(matches!(log.truncate("events", Partition(0), Offset(1)), Err(LogError::PastEnd { .. })));
    }
}
