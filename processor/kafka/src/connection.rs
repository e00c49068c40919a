//! Asking a cluster: topics, partitions and where they start and end.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::client::Client;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::{Producer, ThreadedProducer};
use refold_processor::backoff::Backoff;
use refold_processor::log::{Bounds, LogError, no_such_partition};
use refold_processor::position::{Offset, Partition};

use crate::bootstrap::{self, SLICE, begin_again};
use crate::errors::{Call, failed, is_lasting, is_unanswered, is_unknown, not_made};
use crate::heard::{Heard, Listener};
use crate::settings::KafkaSettings;

/// A client that asks questions, shared by everything that uses one cluster.
pub struct Connection {
    /// The settings.
    pub settings: KafkaSettings,
    listener: Listener,
    /// It appends nothing: it is of this kind because those have a thread that hears what brokers complain about.
    client: ThreadedProducer<Listener>,
    /// How many partitions the topics have that were asked about.
    known: Mutex<HashMap<String, u32>>,
}

const BETWEEN_TRIES: Duration = Duration::from_millis(50);
const BETWEEN_LATER_TRIES: Duration = Duration::from_millis(400);

impl Connection {
    /// A connection to be; no broker is asked yet.
    pub fn open(settings: KafkaSettings) -> Result<Connection, LogError> {
        settings.check()?;
        // Wrong properties are told now, not when they are used first.
        for config in [settings.appending(), settings.reading()] {
            config.create_native_config().map_err(|error| not_made(&error))?;
        }
        let listener = Listener::default();
        let client = settings.asking().create_with_context(listener.clone()).map_err(|error| not_made(&error))?;
        Ok(Connection { settings, listener, client, known: Mutex::default() })
    }

    /// What brokers complained about.
    pub fn heard(&self) -> &Heard {
        &self.listener.heard
    }

    /// Asks until there is an answer, an error that lasts, or the time for it is up.
    fn ask<T>(&self, call: &Call<'_>, question: impl Fn(&Client<Listener>, Duration) -> KafkaResult<T>) -> Result<T, LogError> {
        let started = Instant::now();
        let until = started + self.settings.request_timeout();
        let client = self.client.client();
        let mut backoff = Backoff::new(BETWEEN_TRIES, BETWEEN_LATER_TRIES);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let error = match question(client, left.min(SLICE)) {
                Ok(answer) => {
                    self.heard().is_well();
                    return Ok(answer);
                }
                Err(error) => error,
            };
            let Some(code) = error.rdkafka_error_code() else {
                return Err(LogError::Refused(format!("{} failed: {error}", call.doing())));
            };
            let is_over = Instant::now() >= until;
            if is_unanswered(code) && (is_over || started.elapsed() >= SLICE) {
                begin_again(client, &self.settings);
            }
            if is_lasting(code) || self.heard().is_refused() || is_over {
                return Err(failed(code, call, &self.settings, self.heard()));
            }
            std::thread::sleep(backoff.pause());
        }
    }

    /// The id that the cluster gave itself.
    pub fn cluster(&self) -> Result<String, LogError> {
        self.ask(&Call::identifying(), |client, timeout| {
            client.fetch_cluster_id(timeout).ok_or(KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut))
        })
    }

    /// The names of all topics but Kafka's own.
    pub fn topics(&self) -> Result<Vec<String>, LogError> {
        let metadata = self.ask(&Call::listing(), |client, timeout| client.fetch_metadata(None, timeout))?;
        let names = metadata.topics().iter().map(|topic| topic.name().to_owned());
        Ok(names.filter(|name| !OF_KAFKA.contains(&name.as_str())).collect())
    }

    /// How many partitions a topic has, as of now.
    pub fn partitions(&self, topic: &str) -> Result<u32, LogError> {
        let call = Call::describing(format!("asking for the partitions of topic {topic}"), topic);
        let asked = self.ask(&call, |client, timeout| bootstrap::partitions(client, topic, timeout));
        match &asked {
            Ok(partitions) => drop(self.known.lock().insert(topic.to_owned(), *partitions)),
            Err(_) => self.forget(topic),
        }
        asked
    }

    /// How many partitions a topic has, as it was when it was last asked for.
    pub fn known_partitions(&self, topic: &str) -> Result<u32, LogError> {
        let known = self.known.lock().get(topic).copied();
        known.map_or_else(|| self.partitions(topic), Ok)
    }

    /// A topic may not be what it was.
    pub fn forget(&self, topic: &str) {
        self.known.lock().remove(topic);
    }

    /// Whether every partition of a topic has a leader.
    pub fn is_led(&self, topic: &str) -> Result<bool, LogError> {
        let call = Call::describing(format!("asking for the leaders of topic {topic}"), topic);
        let metadata = self.ask(&call, |client, timeout| client.fetch_metadata(Some(topic), timeout))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        Ok(found.is_some_and(|found| {
            found.error().is_none() && !found.partitions().is_empty() && found.partitions().iter().all(|partition| partition.leader() >= 0)
        }))
    }

    /// Start and end of a partition's log.
    pub fn bounds(&self, topic: &str, partition: Partition) -> Result<Bounds, LogError> {
        let mut partitions = self.known_partitions(topic)?;
        if partition.0 >= partitions {
            partitions = self.partitions(topic)?;
        }
        let number = i32::try_from(partition.0).ok().filter(|_| partition.0 < partitions);
        let Some(number) = number else { return Err(no_such_partition(topic, partition, partitions as usize)) };
        let call = Call::describing(format!("asking for the start and end of {topic}/{partition}"), topic);
        // This client reads what is committed, as readers do: the end is the last stable offset.
        let asked = self.ask(&call, |client, timeout| {
            let error = match client.fetch_watermarks(topic, number, timeout) {
                Err(error) if error.rdkafka_error_code().is_some_and(is_unknown) => error,
                answer => return answer,
            };
            // Said of a partition without a leader, too, which is there and comes back.
            let asked = bootstrap::partitions(client, topic, timeout);
            if asked.as_ref().is_ok_and(|partitions| partition.0 < *partitions) {
                return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::LeaderNotAvailable));
            }
            self.forget(topic);
            asked.and(Err(error))
        });
        let (start, end) = asked?;
        match (u64::try_from(start), u64::try_from(end)) {
            (Ok(start), Ok(end)) => Ok(Bounds { start: Offset(start), end: Offset(end) }),
            _ => Err(LogError::Unavailable(format!("{topic}/{partition} has no start and end at the moment"))),
        }
    }
}

/// Topics that brokers make for themselves.
const OF_KAFKA: [&str; 4] = ["__consumer_offsets", "__transaction_state", "__share_group_state", "__cluster_metadata"];
