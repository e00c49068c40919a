//! The log port, on a Kafka cluster.

use std::sync::Arc;

use refold_processor::log::{Bounds, Log, LogError, LogReader, NewRecord, Retained, check_topic, oldest_ms};
use refold_processor::position::{Cut, Offset, Partition};

use crate::append::{Appender, Outgoing};
use crate::changes::KafkaFeed;
use crate::connection::Connection;
use crate::groups::Groups;
use crate::reader::KafkaReader;
use crate::settings::KafkaSettings;
use crate::topics;

/// The topics of a Kafka cluster.
///
/// Record time is the broker's append time in topics that this log creates (`message.timestamp.type=LogAppendTime`). In a topic that
/// was there before with another type it is what producers said: whether it never decreases is theirs to keep.
pub struct KafkaLog {
    connection: Arc<Connection>,
    appender: Appender,
    groups: Groups,
}

impl KafkaLog {
    /// The log of a cluster. No broker is asked yet: what is unavailable is told by the calls that need it.
    ///
    /// # Errors
    ///
    /// [`LogError::Broken`] when a setting or a property cannot be used.
    pub fn open(settings: KafkaSettings) -> Result<KafkaLog, LogError> {
        Ok(KafkaLog { connection: Arc::new(Connection::open(settings)?), appender: Appender::default(), groups: Groups::default() })
    }

    /// The change feed on the same cluster.
    pub fn feed(&self) -> KafkaFeed {
        KafkaFeed::new(self.connection.clone())
    }
}

impl Log for KafkaLog {
    fn id(&self) -> Result<String, LogError> {
        self.connection.cluster()
    }

    fn create_topic(&self, topic: &str, partitions: u32) -> Result<(), LogError> {
        check_topic(topic, partitions)?;
        match self.connection.partitions(topic) {
            Ok(_) => Ok(()),
            Err(LogError::UnknownTopic(_)) => {
                topics::create(&self.connection, topic, partitions, &[("message.timestamp.type", "LogAppendTime")])
            }
            Err(error) => Err(error),
        }
    }

    fn topics(&self) -> Result<Vec<String>, LogError> {
        self.connection.topics()
    }

    fn partitions(&self, topic: &str) -> Result<Vec<Partition>, LogError> {
        Ok((0..self.connection.partitions(topic)?).map(Partition).collect())
    }

    fn bounds(&self, topic: &str, partition: Partition) -> Result<Bounds, LogError> {
        self.connection.bounds(topic, partition)
    }

    fn retained(&self, topic: &str) -> Result<Retained, LogError> {
        let bounds = self.topic_bounds(topic)?;
        Ok(Retained { retention_ms: topics::retention_ms(&self.connection, topic)?, oldest_ms: oldest_ms(self, topic, &bounds)? })
    }

    fn append(&self, topic: &str, records: Vec<NewRecord>) -> Result<Vec<(Partition, Offset)>, LogError> {
        // Asked for first: librdkafka would wait half a minute for a topic that is not there to come.
        self.connection.known_partitions(topic)?;
        let most = self.connection.settings.max_value_bytes();
        if let Some(at) = records.iter().position(|record| record.value.len() > most) {
            return Err(LogError::Broken(format!(
                "record {at} of this append to {topic} is longer than {most} bytes, half of append_memory_bytes; none of them was appended"
            )));
        }
        if records.is_empty() {
            return Ok(Vec::new());
        }
        self.appender.append(&self.connection, topic, records.iter().map(Outgoing::from))
    }

    fn reader(&self, topic: &str, from: &Cut) -> Result<Box<dyn LogReader>, LogError> {
        Ok(Box::new(KafkaReader::open(self.connection.clone(), topic, from)?))
    }

    fn publish_positions(&self, reader: &str, topic: &str, positions: &Cut) -> Result<(), LogError> {
        match self.connection.settings.group_offsets {
            true => self.groups.publish(
                &self.connection.settings,
                &format!("{}.{reader}", self.connection.settings.deployment),
                topic,
                positions,
            ),
            false => Ok(()),
        }
    }

    fn forget_positions(&self, reader: &str) -> Result<(), LogError> {
        match self.connection.settings.group_offsets {
            true => self.groups.remove(&self.connection, &format!("{}.{reader}", self.connection.settings.deployment)),
            false => Ok(()),
        }
    }
}
