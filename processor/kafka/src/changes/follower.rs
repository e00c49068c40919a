//! Following topics: a thread for each that somebody in this process follows, however many do.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use refold_processor::changes::{Changes, Subscription, WAITING};
use refold_processor::log::LogError;
use refold_processor::position::Partition;
use tokio::sync::broadcast::{self, Sender};

use super::record::{WRITTEN_AT, take};
use crate::bootstrap::partitions_or_begin_again;
use crate::connection::Connection;
use crate::errors::{Call, failed, is_lasting, is_unknown, not_made};
use crate::heard::Listener;

/// Who follows which topic.
pub struct Followers {
    connection: Arc<Connection>,
    followed: Followed,
}

type Followed = Arc<Mutex<HashMap<String, Sender<Arc<Changes>>>>>;

/// How long a topic is waited for before it is seen whether anybody still follows it.
const POLL: Duration = Duration::from_millis(200);
/// How long one who wants to follow waits for others who begin to.
const LOCK_FOR: Duration = Duration::from_secs(1);
/// Rows of a publication are handed on when there are so many: it may be a large one.
const MOST_ROWS: usize = 5_000;
/// How often a topic that sends nothing is asked for: librdkafka keeps to itself for long that it is gone.
const POLLS_PER_CHECK: u32 = 10;

impl Followers {
    /// Nobody yet.
    pub fn new(connection: Arc<Connection>) -> Followers {
        Followers { connection, followed: Followed::default() }
    }

    /// Follows a topic from its end.
    pub fn subscribe(&self, topic: &str) -> Result<Subscription, LogError> {
        // Whoever holds it may be waiting for a broker that is unavailable: those who come meanwhile must not all wait in line.
        let Some(mut followed) = self.followed.try_lock_for(LOCK_FOR) else {
            return Err(LogError::Unavailable(format!("topic {topic} cannot be followed yet: another one waits for the brokers")));
        };
        if let Some(sender) = followed.get(topic) {
            return Ok(sender.subscribe());
        }
        // Asked of the broker now: rows that are read after this are not older than where following begins.
        self.connection.partitions(topic)?;
        let end = self.connection.bounds(topic, Partition(0))?.end;
        let listener = Listener::default();
        let mut reading = self.connection.settings.reading();
        // librdkafka hands out partitions in the name of a group only; nothing is committed to it.
        reading.set("group.id", "refold-changes");
        let consumer: BaseConsumer<Listener> = reading.create_with_context(listener.clone()).map_err(|error| not_made(&error))?;
        let mut from = TopicPartitionList::new();
        let assigned = from.add_partition_offset(topic, 0, Offset::Offset(end.0 as i64)).and_then(|()| consumer.assign(&from));
        assigned.map_err(|error| {
            let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
            failed(code, &Call::reading(topic, ""), &self.connection.settings, &listener.heard)
        })?;
        let (sender, subscription) = broadcast::channel(WAITING);
        let follower =
            Follower { connection: self.connection.clone(), consumer, topic: topic.to_owned(), followed: self.followed.clone(), quiet: 0 };
        let started = std::thread::Builder::new().name(format!("follow-{topic}")).spawn({
            let sender = sender.clone();
            move || follower.run(&sender)
        });
        started.map_err(|error| LogError::Unavailable(format!("the thread that follows {topic} cannot be started: {error}")))?;
        followed.insert(topic.to_owned(), sender);
        Ok(subscription)
    }
}

/// Reads one topic as long as somebody follows it.
struct Follower {
    connection: Arc<Connection>,
    consumer: BaseConsumer<Listener>,
    topic: String,
    followed: Followed,
    quiet: u32,
}

impl Follower {
    fn run(mut self, sender: &Sender<Arc<Changes>>) {
        let mut changes = Changes::default();
        loop {
            let is_whole = match self.next(&mut changes) {
                Ok(is_whole) => is_whole,
                // Its followers find out why when they begin again.
                Err(why) => {
                    tracing::warn!(topic = self.topic, why, "the change feed is no longer followed");
                    break;
                }
            };
            if is_whole || changes.rows.len() >= MOST_ROWS {
                let _ = sender.send(Arc::new(changes.clone()));
                changes.rows.clear();
                changes.anew = false;
            }
            if sender.receiver_count() == 0 {
                let followed = self.followed.lock();
                // Nobody can come while this is held.
                if sender.receiver_count() == 0 {
                    return self.leave(followed);
                }
            }
        }
        let followed = self.followed.lock();
        self.leave(followed);
    }

    fn leave(&self, mut followed: parking_lot::MutexGuard<'_, HashMap<String, Sender<Arc<Changes>>>>) {
        followed.remove(&self.topic);
    }

    /// Takes the next record. Answers whether a publication is whole with it.
    fn next(&mut self, changes: &mut Changes) -> Result<bool, String> {
        let message = match self.consumer.poll(POLL) {
            Some(Ok(message)) => message,
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(false),
            Some(Err(error)) => {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
                let is_lost = is_lasting(code) || matches!(code, RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset);
                // From others librdkafka recovers by itself.
                if !is_lost {
                    return Ok(false);
                }
                let (topic, listener) = (self.topic.as_str(), self.consumer.context());
                return Err(failed(code, &Call::reading(topic, ""), &self.connection.settings, &listener.heard).to_string());
            }
            None => {
                self.quiet += 1;
                if self.quiet.is_multiple_of(POLLS_PER_CHECK)
                    && let Err(error) = partitions_or_begin_again(self.consumer.client(), &self.topic, &self.connection.settings)
                    && error.rdkafka_error_code().is_some_and(is_unknown)
                {
                    return Err(LogError::UnknownTopic(self.topic.clone()).to_string());
                }
                return Ok(false);
            }
        };
        self.quiet = 0;
        let written_at = message.headers().and_then(|headers| headers.iter().find(|header| header.key == WRITTEN_AT)?.value);
        match take(changes, message.key(), message.payload(), written_at) {
            Some(is_whole) => Ok(is_whole),
            None => {
                tracing::warn!(
                    topic = self.topic,
                    offset = message.offset(),
                    "a record of the change feed is none of Refold's; it is left out"
                );
                Ok(false)
            }
        }
    }
}
