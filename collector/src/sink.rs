//! Where events go: a topic of a log, or whatever stands before one.

use std::sync::Arc;
use std::time::Duration;

use refold_processor::log::{Log, LogError, NewRecord};
use refold_processor::position::Cut;

use crate::CollectError;

/// The most that is read from the log at once, in bytes.
const READ_BYTES: usize = 1 << 20;

/// The way into one topic.
pub trait Sink: Send + Sync {
    /// The ends of the topic's partitions; `None` when this sink cannot look into the log, so that after a crash a batch may be appended twice.
    ///
    /// # Errors
    /// When the log does not answer.
    fn ends(&self) -> Result<Option<Cut>, CollectError>;

    /// Appends records; on return they are durable.
    ///
    /// # Errors
    /// Some of the records may have been appended all the same.
    fn append(&self, records: Vec<NewRecord>) -> Result<(), CollectError>;

    /// Shows the values of all records past `ends`, up to the ends of now.
    ///
    /// # Errors
    /// When they cannot be read.
    fn since(&self, ends: &Cut, see: &mut dyn FnMut(&[u8])) -> Result<(), CollectError>;
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

    fn read_since(&self, ends: &Cut, see: &mut dyn FnMut(&[u8])) -> Result<(), LogError> {
        let (mut from, mut until) = (Cut::default(), Cut::default());
        for partition in self.log.partitions(&self.topic)? {
            let bounds = self.log.bounds(&self.topic, partition)?;
            let position = ends.position(partition);
            if position > bounds.end {
                let topic = self.topic.clone();
                return Err(LogError::PastEnd { topic, partition, position, end: bounds.end });
            }
            if position < bounds.start {
                tracing::warn!(topic = %self.topic, %partition, %position, log_start = %bounds.start,
                    "what an interrupted batch had appended may have expired since; it may be appended again");
            }
            from.set(partition, position.max(bounds.start));
            until.set(partition, bounds.end);
        }
        if from.reaches(&until) {
            return Ok(());
        }
        let mut reader = self.log.reader(&self.topic, &from)?;
        while !from.reaches(&until) {
            let Some(records) = reader.read(READ_BYTES, Duration::ZERO)? else { break };
            records.spans.iter().filter_map(|span| records.value(span)).for_each(&mut *see);
            from.set(records.partition, records.next);
        }
        Ok(())
    }
}

impl Sink for TopicSink {
    fn ends(&self) -> Result<Option<Cut>, CollectError> {
        let read = || -> Result<Cut, LogError> {
            let partitions = self.log.partitions(&self.topic)?;
            partitions.into_iter().map(|partition| Ok((partition, self.log.bounds(&self.topic, partition)?.end))).collect()
        };
        read().map(Some).map_err(|error| self.error(error))
    }

    fn append(&self, records: Vec<NewRecord>) -> Result<(), CollectError> {
        self.log.append(&self.topic, records).map(|_| ()).map_err(|error| self.error(error))
    }

    fn since(&self, ends: &Cut, see: &mut dyn FnMut(&[u8])) -> Result<(), CollectError> {
        self.read_since(ends, see).map_err(|error| self.error(error))
    }
}
