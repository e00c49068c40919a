//! The view feed port on Kafka: a compacted topic of one partition for each view, `<deployment>.views.<view>`.
//!
//! | record | key | value | headers |
//! |---|---|---|---|
//! | a row | its key columns, a JSON array | the row, a JSON object by column | `version`; `written_at`, of a row that its version changed |
//! | a row that is no more | likewise | none (a tombstone) | likewise |
//! | a mark: `"begin"` and `"end"` of a difference, `"progress"` | its name, a JSON text | a JSON object | |
//!
//! Records are published in transactions, in the name of a transactional id that is the topic's: Kafka shuts out whoever used it before, and readers of
//! committed records see each publication once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::Producer;
use rdkafka::{Offset, TopicPartitionList};
use refold_processor::changes::view_feed::{ViewFeed, ViewFeedError, ViewFeeds, ViewRecord, Visit};
use refold_processor::log::LogError;
use refold_processor::position::Partition;

use crate::append::{Appender, Outgoing, Transactional};
use crate::connection::Connection;
use crate::errors::{Call, failed, is_fenced, is_lasting, not_made};
use crate::heard::Listener;
use crate::topics;

/// The feeds of views on a cluster.
pub struct KafkaViewFeeds {
    connection: Arc<Connection>,
}

impl KafkaViewFeeds {
    /// Those of the cluster that this connection is to.
    pub(crate) fn new(connection: Arc<Connection>) -> KafkaViewFeeds {
        KafkaViewFeeds { connection }
    }

    fn topic_of(&self, view: &str) -> String {
        format!("{}.views.{view}", self.connection.settings.deployment)
    }
}

impl ViewFeeds for KafkaViewFeeds {
    fn open(&self, view: &str, keep_us: Option<i64>) -> Result<Box<dyn ViewFeed>, ViewFeedError> {
        let topic = self.topic_of(view);
        topics::create_feed(&self.connection, &topic, keep_us)?;
        let (appender, producer) = Appender::transactional(&self.connection, &topic)?;
        let feed = KafkaViewFeed { connection: self.connection.clone(), topic, appender, producer };
        feed.until_done(|producer, wait| producer.init_transactions(wait))?;
        Ok(Box::new(feed))
    }

    fn remove(&self, view: &str) -> Result<(), LogError> {
        topics::remove(&self.connection, &self.topic_of(view))
    }
}

struct KafkaViewFeed {
    connection: Arc<Connection>,
    topic: String,
    appender: Appender,
    producer: Arc<Transactional>,
}

/// How long the topic is waited for between two looks.
const POLL: Duration = Duration::from_millis(200);
/// Between two tries of a step of a transaction.
const RETRY: Duration = Duration::from_millis(50);

impl KafkaViewFeed {
    /// Repeats a step of a transaction until it is done, cannot be, or the time for it is up.
    fn until_done(&self, step: impl Fn(&Transactional, Duration) -> KafkaResult<()>) -> Result<(), ViewFeedError> {
        let wait = self.connection.settings.request_timeout();
        let until = Instant::now() + wait;
        loop {
            let Err(error) = step(&self.producer, wait) else { return Ok(()) };
            let is_retriable = matches!(&error, KafkaError::Transaction(error) if error.is_retriable());
            if !is_retriable || Instant::now() >= until {
                return Err(self.refused(&error));
            }
            std::thread::sleep(RETRY);
        }
    }

    fn refused(&self, error: &KafkaError) -> ViewFeedError {
        let fatal = self.producer.client().fatal_error().map(|(code, _)| code);
        let code = fatal.or(error.rdkafka_error_code()).unwrap_or(RDKafkaErrorCode::Fail);
        match is_fenced(code) {
            true => ViewFeedError::Fenced,
            false => failed(code, &Call::transaction(&self.topic), &self.connection.settings, self.appender.heard()).into(),
        }
    }

    fn append(&self, records: &[ViewRecord]) -> Result<u64, ViewFeedError> {
        let outgoing = records.iter().map(|record| Outgoing {
            key: Some(record.key.as_bytes()),
            value: record.value.as_deref().map(str::as_bytes),
            headers: headers(record),
        });
        let places = self.appender.append(&self.connection, &self.topic, outgoing).map_err(|error| {
            let fatal = self.producer.client().fatal_error().map(|(code, _)| code);
            if fatal.is_some_and(is_fenced) { ViewFeedError::Fenced } else { error.into() }
        })?;
        Ok(places.iter().map(|(_, offset)| offset.0 + 1).max().unwrap_or_default())
    }
}

fn headers(record: &ViewRecord) -> Option<OwnedHeaders> {
    let version = record.version?.to_string();
    let headers = OwnedHeaders::new_with_capacity(2).insert(Header { key: "version", value: Some(&version) });
    let written_at = record.written_at.map(|written_at| written_at.to_string());
    Some(match &written_at {
        Some(written_at) => headers.insert(Header { key: "written_at", value: Some(written_at) }),
        None => headers,
    })
}

impl ViewFeed for KafkaViewFeed {
    fn start(&mut self) -> Result<u64, ViewFeedError> {
        Ok(self.connection.bounds(&self.topic, Partition(0))?.start.0)
    }

    fn read_back(&mut self, from: u64, visit: &mut Visit<'_>) -> Result<Option<u64>, ViewFeedError> {
        let bounds = self.connection.bounds(&self.topic, Partition(0))?;
        if from < bounds.start.0 || from > bounds.end.0 {
            return Ok(None);
        }
        if from == bounds.end.0 {
            return Ok(Some(from));
        }
        let listener = Listener::default();
        let mut reading = self.connection.settings.reading();
        // librdkafka hands out partitions in the name of a group only; nothing is committed to it.
        reading.set("group.id", "refold-views");
        let consumer: BaseConsumer<Listener> = reading.create_with_context(listener.clone()).map_err(|error| not_made(&error))?;
        let call = Call::reading(&self.topic, "");
        let refused = |code| ViewFeedError::from(failed(code, &call, &self.connection.settings, &listener.heard));
        let mut list = TopicPartitionList::new();
        let assigned = list.add_partition_offset(&self.topic, 0, Offset::Offset(from as i64)).and_then(|()| consumer.assign(&list));
        assigned.map_err(|error| refused(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)))?;
        let mut heard_at = Instant::now();
        loop {
            match consumer.poll(POLL) {
                Some(Ok(message)) => {
                    heard_at = Instant::now();
                    if let Some(key) = message.key() {
                        visit(key, message.payload())?;
                    }
                    if message.offset() as u64 + 1 >= bounds.end.0 {
                        return Ok(Some(bounds.end.0));
                    }
                }
                // Behind the last record there may be markers of transactions alone.
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(Some(bounds.end.0)),
                Some(Err(error)) => {
                    let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
                    if is_lasting(code) || matches!(code, RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset) {
                        return Err(refused(code));
                    }
                }
                None if heard_at.elapsed() > self.connection.settings.request_timeout() => {
                    return Err(refused(RDKafkaErrorCode::OperationTimedOut));
                }
                None => {}
            }
        }
    }

    fn publish(&mut self, records: &[ViewRecord]) -> Result<u64, ViewFeedError> {
        let most = self.connection.settings.max_value_bytes();
        if let Some(large) = records.iter().find(|record| record.value.as_ref().is_some_and(|value| value.len() > most)) {
            let text = format!("row {} of {} is longer than {most} bytes as JSON; turn view_feeds off", large.key, self.topic);
            return Err(LogError::Refused(text).into());
        }
        self.producer.begin_transaction().map_err(|error| self.refused(&error))?;
        let published = self.append(records).and_then(|position| {
            self.until_done(|producer, wait| producer.commit_transaction(wait))?;
            Ok(position)
        });
        if published.is_err() {
            // Whoever opens the feed next takes it back, if this does not.
            let _ = self.producer.abort_transaction(self.connection.settings.request_timeout());
        }
        published
    }
}
