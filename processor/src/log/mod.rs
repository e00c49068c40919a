//! The log port: partitioned topics of records that are read from explicit positions.
//!
//! A log keeps what it acknowledged, in the order of its partition, and never skips: a position below the start of the
//! log is a [`LogError::Hole`]. The conformance suite in `conformance` is what every adapter must pass.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::position::{Cut, Offset, Partition};
use crate::recovery::Recovery;

mod block;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod embedded;
pub mod memory;
mod placement;
pub mod run;

pub use self::placement::{MAX_VALUE_BYTES, check_topic, check_values, no_such_partition};

/// A record to append.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewRecord {
    /// Decides the partition: equal keys go to the same one. Without a key, partitions take turns.
    pub key: Option<Bytes>,
    /// The encoded event.
    pub value: Bytes,
}

/// One record inside [`Records`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordSpan {
    /// Where the record is in its partition.
    pub offset: Offset,
    /// The log's append time, milliseconds since the Unix epoch; never decreases within a partition.
    pub record_time_ms: i64,
    /// Where the value starts in [`Records::payload`], in bytes.
    pub start: u32,
    /// The length of the value in bytes; `None` for a tombstone (a record without a value).
    pub len: Option<u32>,
}

/// A run of records of one partition in log order; offsets rise, gaps (compaction, transaction markers) are normal. A run without
/// records only moves the position: what lies between is a gap that reaches to the end of the log.
#[derive(Clone, Debug)]
pub struct Records {
    /// The partition all records are of.
    pub partition: Partition,
    /// The records.
    pub spans: Vec<RecordSpan>,
    /// The values of all records.
    pub payload: Bytes,
    /// The position after this run: past its last record, and past a gap behind it where that is known.
    pub next: Offset,
    /// The end of the partition's log when this run was read: the position of the next record to be appended.
    /// Records before it that belong to a transaction which is still open cannot be read yet.
    pub end: Offset,
}

impl Records {
    /// The bytes of a record's value; `None` for a tombstone.
    pub fn value(&self, span: &RecordSpan) -> Option<&[u8]> {
        let start = span.start as usize;
        self.payload.get(start..start + span.len? as usize)
    }
}

/// First and last position of a partition's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The offset of the oldest record still kept.
    pub start: Offset,
    /// The position of the next record to be appended, or of the first that cannot be read yet (its transaction is open): what a reader can reach.
    pub end: Offset,
}

/// How long a log keeps the records of a topic, as far as it knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    /// Records older than this are removed, milliseconds; `None`: none is for its age, or that is not known.
    pub retention_ms: Option<u64>,
    /// The record time of the oldest record of any partition, milliseconds since the Unix epoch; `None`: there is none, or it is not known.
    pub oldest_ms: Option<i64>,
}

/// Why a log did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The records from `position` to `log_start` are gone.
    #[error(
        "records {position} to {log_start} of {topic}/{partition} are no longer in the log (its start is {log_start}); \
         replay the view from the log's start, or restore them from an archive"
    )]
    Hole {
        /// The topic.
        topic: String,
        /// The partition.
        partition: Partition,
        /// The position that was to be read.
        position: Offset,
        /// The offset of the oldest record.
        log_start: Offset,
    },
    /// The position is past the end: the log is not the one the position is of, or it was truncated.
    #[error(
        "position {position} of {topic}/{partition} is past the end of the log, {end}: the log was truncated or replaced; if that was meant, \
         replay the view from the log's start, and begin collectors again with --restart"
    )]
    PastEnd {
        /// The topic.
        topic: String,
        /// The partition.
        partition: Partition,
        /// The position that was to be read.
        position: Offset,
        /// The end of the log.
        end: Offset,
    },
    /// A record is not the one that was read there before.
    #[error(
        "record {offset} of {topic}/{partition} is not the one that was read there before: the topic was made anew, or its log was truncated \
         and written again; replay the view from the log's start"
    )]
    Replaced {
        /// The topic.
        topic: String,
        /// The partition.
        partition: Partition,
        /// The record.
        offset: Offset,
    },
    /// There is no such topic.
    #[error("topic {0} does not exist")]
    UnknownTopic(String),
    /// The log cannot answer now; the same call may succeed later.
    #[error("the log is unavailable: {0}")]
    Unavailable(String),
    /// The log refuses, or cannot do it, until a person acts: a right is missing, a limit is too low, a setting is wrong.
    #[error("{0}")]
    Refused(String),
    /// What is stored, or what was asked, is not valid.
    #[error("{0}")]
    Broken(String),
}

impl LogError {
    /// What it takes for the call to succeed.
    pub fn recovery(&self) -> Recovery {
        match self {
            LogError::Unavailable(_) => Recovery::Transient,
            // A topic may be created any time; whether it then is the one that was read before is checked by its records.
            LogError::Refused(_) | LogError::UnknownTopic(_) => Recovery::Operator,
            LogError::Hole { .. } | LogError::PastEnd { .. } | LogError::Replaced { .. } | LogError::Broken(_) => Recovery::Final,
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.recovery().is_retried()
    }
}

/// The log port.
pub trait Log: Send + Sync {
    /// Which log this is: another folder or cluster says something else, the same one always the same.
    fn id(&self) -> Result<String, LogError>;

    /// Creates a topic; an existing one is left as it is.
    fn create_topic(&self, topic: &str, partitions: u32) -> Result<(), LogError>;

    /// The names of all topics.
    fn topics(&self) -> Result<Vec<String>, LogError>;

    /// The partitions of a topic, in order.
    fn partitions(&self, topic: &str) -> Result<Vec<Partition>, LogError>;

    /// Start and end of a partition's log.
    fn bounds(&self, topic: &str, partition: Partition) -> Result<Bounds, LogError>;

    /// Start and end of each partition of a topic.
    fn topic_bounds(&self, topic: &str) -> Result<BTreeMap<Partition, Bounds>, LogError> {
        self.partitions(topic)?.into_iter().map(|partition| Ok((partition, self.bounds(topic, partition)?))).collect()
    }

    /// How long the records of a topic are kept, and how old the oldest one is, where the log knows. May take as long as a read.
    ///
    /// # Errors
    ///
    /// When the log is unavailable, or refuses.
    fn retained(&self, _topic: &str) -> Result<Retained, LogError> {
        Ok(Retained::default())
    }

    /// Appends records and returns the place of each, in the order given, once they are durable. On error some may
    /// have been appended: a caller that retries appends at least once.
    fn append(&self, topic: &str, records: Vec<NewRecord>) -> Result<Vec<(Partition, Offset)>, LogError>;

    /// A reader of the partitions that `from` names, starting at its positions.
    fn reader(&self, topic: &str, from: &Cut) -> Result<Box<dyn LogReader>, LogError>;

    /// Publishes how far `reader` (of this deployment) is in a topic, where others look for that. For people and tools only; nothing depends on it.
    fn publish_positions(&self, _reader: &str, _topic: &str, _positions: &Cut) -> Result<(), LogError> {
        Ok(())
    }

    /// Removes what [`publish_positions`](Log::publish_positions) has published of a reader that is no more; where there is nothing, that is no error.
    ///
    /// # Errors
    ///
    /// When the log is unavailable, or refuses.
    fn forget_positions(&self, _reader: &str) -> Result<(), LogError> {
        Ok(())
    }
}

/// The record time of the oldest record of any partition, by reading the first of each.
pub fn oldest_ms(log: &(impl Log + ?Sized), topic: &str, bounds: &BTreeMap<Partition, Bounds>) -> Result<Option<i64>, LogError> {
    let with_records = bounds.iter().filter(|(_, bounds)| bounds.start < bounds.end);
    let from: Cut = with_records.map(|(partition, bounds)| (*partition, bounds.start)).collect();
    let mut left: Vec<Partition> = from.iter().map(|(partition, _)| partition).collect();
    let mut oldest: Option<i64> = None;
    if left.is_empty() {
        return Ok(None);
    }
    let mut reader = log.reader(topic, &from)?;
    // One that is read again and again before another's first record came tells enough.
    for _ in 0..from.iter().count() * READS_A_PARTITION {
        let Some(records) = reader.read(1, OLDEST_WAIT)? else { break };
        if left.contains(&records.partition) {
            left.retain(|partition| *partition != records.partition);
            oldest = oldest.into_iter().chain(records.spans.first().map(|span| span.record_time_ms)).min();
        }
        if left.is_empty() {
            break;
        }
    }
    Ok(oldest)
}

const READS_A_PARTITION: usize = 4;
const OLDEST_WAIT: Duration = Duration::from_secs(2);

/// Reads some partitions of one topic in turn.
pub trait LogReader: Send {
    /// The next run of records of one of the partitions, of about `max_bytes` of values and at least one record; a run without any
    /// moves the position past a gap at the end. `None`: every partition is read to its end, and nothing was appended for `wait`. A
    /// record that is appended meanwhile ends the wait at once.
    ///
    /// # Errors
    ///
    /// After a retryable one the reader goes on where it was; so it does after another, which comes again.
    fn read(&mut self, max_bytes: usize, wait: Duration) -> Result<Option<Records>, LogError>;
}
