//! Where events go: a topic of a log, or whatever stands before one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use refold_processor::log::{Log, LogError, NewRecord};
use refold_processor::position::Cut;
use serde::{Deserialize, Serialize};

use crate::CollectError;

/// The most that is read from the log at once, in bytes.
const READ_BYTES: usize = 1 << 20;

/// A log, and how far it reaches in one topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEnds {
    /// Which log it is: its id.
    pub log: String,
    /// The ends of the topic's partitions.
    pub positions: Cut,
}

impl LogEnds {
    /// The ends of a topic now.
    ///
    /// # Errors
    /// When the log does not answer.
    pub fn of(log: &dyn Log, topic: &str) -> Result<LogEnds, LogError> {
        let positions = log.topic_bounds(topic)?.into_iter().map(|(partition, bounds)| (partition, bounds.end)).collect();
        Ok(LogEnds { log: log.id()?, positions })
    }

    /// In what the log that has these ends now is another one than that which was left with the ends `left`. A log only grows.
    pub fn differs(&self, left: &LogEnds) -> Option<String> {
        if self.log != left.log {
            return Some(format!("its id is {}, and that of the other was {}", self.log, left.log));
        }
        let shorter = left.positions.iter().find(|(partition, end)| self.positions.position(*partition) < *end);
        shorter.map(|(partition, end)| {
            format!("partition {partition} ends at {}, and reached to {end} before", self.positions.position(partition))
        })
    }
}

/// The way into one topic.
pub trait Sink: Send + Sync {
    /// The log and the ends of the topic's partitions.
    ///
    /// # Errors
    /// When the log does not answer.
    fn ends(&self) -> Result<LogEnds, CollectError>;

    /// Appends records that are being sent for the first time since the log had the ends `since`; on return they are durable. Returns how many were
    /// found there all the same, and not appended, where that is looked for.
    ///
    /// # Errors
    /// Some of the records may have been appended all the same.
    fn append(&self, records: Vec<NewRecord>, since: &Cut) -> Result<usize, CollectError>;

    /// Appends those records that are not in the log past `since`, and returns how many were there; on return all are durable.
    /// Equal ones count as often as they are there.
    ///
    /// # Errors
    /// As [`append`](Sink::append).
    fn append_missing(&self, records: Vec<NewRecord>, since: &Cut) -> Result<usize, CollectError>;
}

/// A topic of a log in reach.
#[derive(Clone)]
pub struct TopicSink {
    log: Arc<dyn Log>,
    topic: String,
}

impl TopicSink {
    /// The way into `topic`, which exists.
    pub fn new(log: Arc<dyn Log>, topic: &str) -> Self {
        TopicSink { log, topic: topic.to_string() }
    }

    fn error(&self, error: LogError) -> CollectError {
        CollectError::Log { topic: self.topic.clone(), error }
    }
}

impl Sink for TopicSink {
    fn ends(&self) -> Result<LogEnds, CollectError> {
        LogEnds::of(self.log.as_ref(), &self.topic).map_err(|error| self.error(error))
    }

    fn append(&self, records: Vec<NewRecord>, _since: &Cut) -> Result<usize, CollectError> {
        self.log.append(&self.topic, records).map(|_| 0).map_err(|error| self.error(error))
    }

    fn append_missing(&self, records: Vec<NewRecord>, since: &Cut) -> Result<usize, CollectError> {
        let count = records.len();
        let found = find(self.log.as_ref(), &self.topic, records, since).map_err(|error| self.error(error))?;
        let there = count - found.missing.len();
        if !found.missing.is_empty() {
            self.append(found.missing, since)?;
        }
        Ok(there)
    }
}

/// What was found of some records in the log.
#[derive(Debug, Default)]
pub struct Found {
    /// Those that are not there, in their order.
    pub missing: Vec<NewRecord>,
    /// The positions past the others.
    pub positions: Cut,
}

/// Looks for records, by their values, in a topic past `since`; equal ones count as often as they are there.
///
/// # Errors
/// When the log cannot be read; [`LogError::PastEnd`] when it does not reach to `since`.
pub fn find(log: &dyn Log, topic: &str, records: Vec<NewRecord>, since: &Cut) -> Result<Found, LogError> {
    // Without a limit it always completes.
    Ok(find_while(log, topic, records, since, &mut |_| true)?.unwrap_or_default())
}

/// [`find`] with a limit: `goes_on` is called before each read with the bytes of record values read so far; `None` when it returned `false`.
///
/// # Errors
/// As [`find`].
pub fn find_while(
    log: &dyn Log,
    topic: &str,
    records: Vec<NewRecord>,
    since: &Cut,
    goes_on: &mut dyn FnMut(u64) -> bool,
) -> Result<Option<Found>, LogError> {
    // How often each value is wanted, and how often it was found.
    let mut counts: HashMap<Bytes, (usize, usize)> = HashMap::new();
    for record in &records {
        counts.entry(record.value.clone()).or_default().0 += 1;
    }
    let mut found = Found::default();
    let (mut left, mut read_bytes) = (records.len(), 0);
    let (mut from, mut until) = (Cut::default(), Cut::default());
    for (partition, bounds) in log.topic_bounds(topic)? {
        let position = since.position(partition);
        if position > bounds.end {
            return Err(LogError::PastEnd { topic: topic.to_owned(), partition, position, end: bounds.end });
        }
        if position < bounds.start {
            tracing::warn!(topic, %partition, %position, log_start = %bounds.start,
                "what an interrupted batch had appended may have expired since; it may be appended again");
        }
        from.set(partition, position.max(bounds.start));
        until.set(partition, bounds.end);
    }
    if !from.reaches(&until) {
        let mut reader = log.reader(topic, &from)?;
        // Mostly they are right at the beginning, and what others appended since need not be read.
        while left > 0 && !from.reaches(&until) {
            if !goes_on(read_bytes) {
                return Ok(None);
            }
            let Some(read) = reader.read(READ_BYTES, Duration::ZERO)? else {
                return Err(LogError::Unavailable(format!("{topic} could not be searched to the end that it had")));
            };
            for span in &read.spans {
                let count = read.value(span).and_then(|value| counts.get_mut(value));
                if let Some(count) = count.filter(|(wanted, there)| there < wanted) {
                    count.1 += 1;
                    left -= 1;
                    found.positions.set(read.partition, span.offset.next());
                }
            }
            read_bytes += read.payload.len() as u64;
            from.set(read.partition, read.next);
        }
    }
    found.missing = records;
    found.missing.retain(|record| match counts.get_mut(&record.value) {
        Some((_, there)) if *there > 0 => {
            *there -= 1;
            false
        }
        _ => true,
    });
    Ok(Some(found))
}
