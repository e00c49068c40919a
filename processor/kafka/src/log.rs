//! The log port, on a Kafka cluster.

use std::sync::Arc;
use std::time::Instant;

use futures::executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::RDKafkaErrorCode;
use refold_processor::log::{Bounds, Log, LogError, LogReader, NewRecord, check_topic};
use refold_processor::position::{Cut, Offset, Partition};

use crate::append::Appender;
use crate::connection::Connection;
use crate::errors::{failed, not_made};
use crate::heard::Listener;
use crate::reader::KafkaReader;
use crate::settings::KafkaSettings;

/// The topics of a Kafka cluster.
///
/// Record time is the broker's append time in topics that this log creates (`message.timestamp.type=LogAppendTime`). In a topic that
/// was there before with another type it is what producers said: whether it never decreases is theirs to keep.
pub struct KafkaLog {
    connection: Arc<Connection>,
    appender: Appender,
}

impl KafkaLog {
    /// The log of a cluster. No broker is asked yet: what is away is told by the calls that need it.
    ///
    /// # Errors
    ///
    /// [`LogError::Broken`] when a setting or a property cannot be used.
    pub fn open(settings: KafkaSettings) -> Result<KafkaLog, LogError> {
        Ok(KafkaLog { connection: Arc::new(Connection::open(settings)?), appender: Appender::default() })
    }

    fn create(&self, topic: &str, partitions: u32) -> Result<(), LogError> {
        let settings = &self.connection.settings;
        let doing = format!("creating topic {topic}");
        let partitions = i32::try_from(partitions).map_err(|_| LogError::Broken(format!("{partitions} partitions are too many")))?;
        let listener = Listener::default();
        let admin: AdminClient<Listener> = settings.asking().create_with_context(listener.clone()).map_err(|error| not_made(&error))?;
        // Without a number of copies the cluster's default is asked for.
        let replication = TopicReplication::Fixed(settings.replication_factor.map_or(-1, i32::from));
        let new = NewTopic::new(topic, partitions, replication).set("message.timestamp.type", "LogAppendTime");
        let timeout = Some(settings.request_timeout());
        let options = AdminOptions::new().request_timeout(timeout).operation_timeout(timeout);
        let code = match block_on(admin.create_topics([&new], &options)) {
            Ok(results) => results.into_iter().find_map(|result| result.err().map(|(_, code)| code)),
            Err(error) => Some(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)),
        };
        match code {
            None | Some(RDKafkaErrorCode::TopicAlreadyExists) => self.wait_until_led(topic),
            Some(code) => Err(failed(code, &doing, None, &listener.heard)),
        }
    }

    /// Other brokers learn of a new topic a little later than the one that made it.
    fn wait_until_led(&self, topic: &str) -> Result<(), LogError> {
        let until = Instant::now() + self.connection.settings.request_timeout();
        while !self.connection.is_led(topic)? {
            if Instant::now() >= until {
                return Err(LogError::Away(format!("topic {topic} was created, but has partitions without a leader")));
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Log for KafkaLog {
    fn create_topic(&self, topic: &str, partitions: u32) -> Result<(), LogError> {
        check_topic(topic, partitions)?;
        match self.connection.partitions(topic) {
            Ok(_) => Ok(()),
            Err(LogError::UnknownTopic(_)) => self.create(topic, partitions),
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
        self.appender.append(&self.connection, topic, &records)
    }

    fn reader(&self, topic: &str, from: &Cut) -> Result<Box<dyn LogReader>, LogError> {
        Ok(Box::new(KafkaReader::open(self.connection.clone(), topic, from)?))
    }
}
