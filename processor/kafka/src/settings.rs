//! What the user said about a Kafka cluster, and the librdkafka properties that follow from it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use refold_processor::log::{LogError, MAX_VALUE_BYTES, check_topic};
use serde::Deserialize;

/// How to reach a Kafka cluster, and how to use it.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaSettings {
    /// Addresses of some of its brokers: `host:port`, separated by commas.
    pub brokers: String,
    /// Properties of librdkafka, such as `security.protocol`, `sasl.*`, `ssl.*`. Not those that the meaning of the log depends on.
    pub properties: BTreeMap<String, String>,
    /// What the names of change feeds' topics and of groups begin with: one name for each deployment on this cluster.
    pub deployment: String,
    /// How appended records are compressed.
    pub compression: Compression,
    /// Copies of each partition of topics that are created; without it the cluster's default.
    pub replication_factor: Option<u16>,
    /// Whether positions are committed to consumer groups, for tools that watch lag.
    pub group_offsets: bool,
    /// How long brokers are given to answer a question, milliseconds; then the log is unavailable.
    pub request_timeout_ms: u64,
    /// How long an append waits for its acknowledgement, brokers that are unavailable included, milliseconds; then the log is unavailable.
    pub delivery_timeout_ms: u64,
    /// How long a record may wait for others to travel with, milliseconds.
    pub linger_ms: u64,
    /// About the most memory that a reader fetches ahead into, bytes.
    pub reader_memory_bytes: usize,
    /// The most memory for records that wait to be acknowledged, bytes. The largest record takes half of it.
    pub append_memory_bytes: usize,
}

/// How appended records are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// LZ4: cheap on both sides.
    #[default]
    Lz4,
    /// Zstandard: smaller, for more processor time.
    Zstd,
}

impl Default for KafkaSettings {
    fn default() -> Self {
        KafkaSettings {
            brokers: "127.0.0.1:9092".to_owned(),
            properties: BTreeMap::new(),
            deployment: "refold".to_owned(),
            compression: Compression::default(),
            replication_factor: None,
            group_offsets: true,
            request_timeout_ms: 10_000,
            delivery_timeout_ms: 120_000,
            linger_ms: 2,
            reader_memory_bytes: 64 << 20,
            append_memory_bytes: 2 * MAX_VALUE_BYTES,
        }
    }
}

/// Values of properties may be secrets: only their names are shown.
impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSettings")
            .field("brokers", &self.brokers)
            .field("properties", &self.properties.keys().collect::<Vec<_>>())
            .field("deployment", &self.deployment)
            .field("compression", &self.compression)
            .field("replication_factor", &self.replication_factor)
            .field("group_offsets", &self.group_offsets)
            .field("request_timeout_ms", &self.request_timeout_ms)
            .field("delivery_timeout_ms", &self.delivery_timeout_ms)
            .field("linger_ms", &self.linger_ms)
            .field("reader_memory_bytes", &self.reader_memory_bytes)
            .field("append_memory_bytes", &self.append_memory_bytes)
            .finish()
    }
}

/// Properties that another value of would change what the log promises, each with why, or what to use instead.
const RESERVED: [(&str, &str); 27] = [
    ("bootstrap.servers", "use the setting kafka"),
    ("metadata.broker.list", "use the setting kafka"),
    ("compression.codec", "use the setting kafka_compression"),
    ("compression.type", "use the setting kafka_compression"),
    ("message.timeout.ms", "appends wait for two minutes, and are tried again"),
    ("delivery.timeout.ms", "appends wait for two minutes, and are tried again"),
    ("linger.ms", "records that are appended at once travel together"),
    ("queue.buffering.max.ms", "records that are appended at once travel together"),
    ("queued.max.messages.kbytes", "what is read ahead is bounded as a whole"),
    ("fetch.max.bytes", "what is read ahead is bounded as a whole"),
    ("queue.buffering.max.kbytes", "what waits to be acknowledged is bounded as a whole"),
    ("queue.buffering.max.messages", "what waits to be acknowledged is bounded as a whole"),
    ("message.max.bytes", "what waits to be acknowledged is bounded as a whole"),
    ("acks", "records are acknowledged by all replicas"),
    ("request.required.acks", "records are acknowledged by all replicas"),
    ("enable.idempotence", "appends are idempotent"),
    ("transactional.id", "appends are not transactional"),
    ("partitioner", "keys are placed as Kafka's own clients place them"),
    ("group.id", "readers belong to no group"),
    ("enable.auto.commit", "positions are not kept in Kafka"),
    ("enable.auto.offset.store", "positions are not kept in Kafka"),
    ("auto.offset.reset", "a hole in the log is an error"),
    ("isolation.level", "what is committed is read"),
    ("enable.partition.eof", "readers need it"),
    ("check.crcs", "what was damaged on a disk or on its way must not be taken for events"),
    ("allow.auto.create.topics", "topics are created by name"),
    ("enable.gapless.guarantee", "an append that fails says so"),
];

/// Room for a fetch of at least the largest record that brokers take by default.
const LEAST_READER_MEMORY: usize = 8 << 20;
const MOST_READER_MEMORY: usize = 1 << 30;
const LEAST_APPEND_MEMORY: usize = 4 << 20;
/// librdkafka takes no answer of more than 100 MB by default; what a fetch asks for has to stay below.
const MOST_FETCH_BYTES: usize = 90 << 20;

/// A transaction whose client is gone is taken back after this long, unless the next one has done so.
const TRANSACTION_TIMEOUT_MS: u64 = 60_000;

impl KafkaSettings {
    /// Refuses what cannot work, before a client is made of it.
    pub(crate) fn check(&self) -> Result<(), LogError> {
        if self.brokers.trim().is_empty() {
            return Err(LogError::Broken("brokers is empty: name at least one broker of the kafka cluster, as host:port".to_owned()));
        }
        check_topic(&self.deployment, 1)
            .map_err(|error| LogError::Broken(format!("{error} (names of topics begin with the setting cassandra_keyspace)")))?;
        for name in self.properties.keys() {
            if let Some((_, why)) = RESERVED.iter().find(|(reserved, _)| reserved == name) {
                return Err(LogError::Broken(format!("kafka property {name} cannot be set: {why}")));
            }
        }
        let within = |name: &str, value: usize, least: usize, most: usize| match (least..=most).contains(&value) {
            true => Ok(()),
            false => Err(LogError::Broken(format!("{name} is {value}: use {least} to {most}"))),
        };
        within("reader_memory_bytes", self.reader_memory_bytes, LEAST_READER_MEMORY, MOST_READER_MEMORY)?;
        within("append_memory_bytes", self.append_memory_bytes, LEAST_APPEND_MEMORY, 2 * MAX_VALUE_BYTES)?;
        within("request_timeout_ms", self.request_timeout_ms as usize, 100, 600_000)?;
        within("delivery_timeout_ms", self.delivery_timeout_ms as usize, 100, 24 * 3_600_000)?;
        within("linger_ms", self.linger_ms as usize, 0, 10_000)
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    pub(crate) fn delivery_timeout(&self) -> Duration {
        Duration::from_millis(self.delivery_timeout_ms)
    }

    /// Who its clients are to the cluster, for errors.
    pub(crate) fn user(&self) -> String {
        match self.properties.get("sasl.username") {
            Some(user) => format!("the Kafka user {user}"),
            None if self.properties.keys().any(|name| name.starts_with("ssl.certificate") || name.starts_with("ssl.keystore")) => {
                "the Kafka user of this client's certificate".to_owned()
            }
            None => "this Kafka client, which has no user name,".to_owned(),
        }
    }

    /// The largest value that can be appended.
    pub(crate) fn max_value_bytes(&self) -> usize {
        self.append_memory_bytes / 2
    }

    /// For a client that asks questions.
    pub(crate) fn asking(&self) -> ClientConfig {
        self.client([])
    }

    /// For the client that appends.
    pub(crate) fn appending(&self) -> ClientConfig {
        let compression = match self.compression {
            Compression::None => "none",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        };
        // Room for the key and the record's envelope.
        let max_record_bytes = self.max_value_bytes() + (64 << 10);
        self.client([
            ("acks", "all".to_owned()),
            ("enable.idempotence", "true".to_owned()),
            // The partitions that Java clients would choose.
            ("partitioner", "murmur2_random".to_owned()),
            ("compression.codec", compression.to_owned()),
            ("linger.ms", self.linger_ms.to_string()),
            ("message.timeout.ms", self.delivery_timeout_ms.to_string()),
            ("message.max.bytes", max_record_bytes.to_string()),
            ("queue.buffering.max.messages", "0".to_owned()),
            ("queue.buffering.max.kbytes", (self.append_memory_bytes / 1024).to_string()),
        ])
    }

    /// For a client that appends in transactions in the name of `id`.
    pub(crate) fn transactional(&self, id: &str) -> ClientConfig {
        let mut config = self.appending();
        config
            .set("transactional.id", id)
            .set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS.to_string())
            // librdkafka refuses a longer one.
            .set("message.timeout.ms", (TRANSACTION_TIMEOUT_MS / 2).min(self.delivery_timeout_ms).to_string());
        config
    }

    /// For a client that reads.
    pub(crate) fn reading(&self) -> ClientConfig {
        // Half is what waits to be taken, a quarter what is on its way; the rest is what was taken and is being handed out.
        let queued_kbytes = self.reader_memory_bytes / 2 / 1024;
        let fetch_bytes = (self.reader_memory_bytes / 4).min(MOST_FETCH_BYTES);
        let partition_bytes = fetch_bytes.min(4 << 20);
        self.client([
            ("isolation.level", "read_committed".to_owned()),
            ("auto.offset.reset", "error".to_owned()),
            ("enable.auto.commit", "false".to_owned()),
            ("enable.auto.offset.store", "false".to_owned()),
            ("enable.partition.eof", "true".to_owned()),
            // What was damaged on a disk or on its way must not be taken for events.
            ("check.crcs", "true".to_owned()),
            ("queued.max.messages.kbytes", queued_kbytes.to_string()),
            ("fetch.max.bytes", fetch_bytes.to_string()),
            ("max.partition.fetch.bytes", partition_bytes.to_string()),
            // A record that is appended is sent at once; this only bounds how late the end is told behind a transaction's marker.
            ("fetch.min.bytes", "1".to_owned()),
            ("fetch.wait.max.ms", "100".to_owned()),
            // By default a second passes before a queue that was full is filled again.
            ("fetch.queue.backoff.ms", "1".to_owned()),
            ("fetch.error.backoff.ms", "100".to_owned()),
        ])
    }

    /// Of a client that commits positions of a group, and reads nothing.
    pub(crate) fn committing(&self, group: &str) -> ClientConfig {
        self.client([("group.id", group.to_owned()), ("enable.auto.commit", "false".to_owned())])
    }

    fn client<const N: usize>(&self, own: [(&str, String); N]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("client.id", "refold")
            .set("socket.keepalive.enable", "true")
            .set("log.connection.close", "false")
            .set("reconnect.backoff.max.ms", "1000");
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config.set("bootstrap.servers", &self.brokers).set("allow.auto.create.topics", "false");
        for (name, value) in own {
            // What only tunes gives way to what the user said.
            if config.get(name).is_none() {
                config.set(name, value);
            }
        }
        // What is shown is decided by whoever listens.
        config.set_log_level(RDKafkaLogLevel::Info);
        config
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn with(name: &str, value: &str) -> KafkaSettings {
        KafkaSettings { properties: BTreeMap::from([(name.to_owned(), value.to_owned())]), ..KafkaSettings::default() }
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?}", with("sasl.password", "hunter2"));
        assert!(shown.contains("sasl.password") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn what_the_log_depends_on_cannot_be_set() {
        for (name, value) in [("isolation.level", "read_uncommitted"), ("check.crcs", "false")] {
            let error = with(name, value).check().unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
        assert!(with("sasl.mechanism", "PLAIN").check().is_ok());
    }

    #[test]
    fn what_only_tunes_can_be_set() {
        assert_eq!(with("fetch.wait.max.ms", "7").reading().get("fetch.wait.max.ms"), Some("7"));
    }

    #[test]
    fn bounds_are_said_with_the_setting() {
        let error = KafkaSettings { reader_memory_bytes: 1, ..KafkaSettings::default() }.check().unwrap_err().to_string();
        assert!(error.starts_with("reader_memory_bytes is 1: use "), "{error}");
    }
}
