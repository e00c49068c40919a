//! The change feed port on Kafka: a compacted topic of one partition for each table, `<deployment>.changes.<view>.<version>`.
//!
//! | record | key | value | headers |
//! |---|---|---|---|
//! | a row that was written | its key columns, a JSON array | the row, a JSON object by column | `written_at`, `positions` |
//! | a row that was deleted | likewise | none (a tombstone) | likewise |
//! | how far the feed is | the JSON text `"progress"` | `{"visible": …, "writing": …, "watermark_us": …}` | |
//! | changes before this are missing | the JSON text `"anew"` | likewise | |
//!
//! `written_at` is the row's write timestamp: a row of an owner that was replaced has a lesser one than what is there. `positions` are a cut that
//! the row is not newer than. The record that tells how far the feed is follows the rows of each publication.

mod follower;
mod record;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rdkafka::message::OwnedHeaders;
use refold_processor::changes::view_feed::ViewFeeds;
use refold_processor::changes::{ChangeFeed, Changes, Subscription};
use refold_processor::log::LogError;
use refold_processor::store::{Progress, RowBatch};
use refold_processor::table::Table;

use self::follower::Followers;
use self::record::Encoded;
use crate::append::{Appender, Outgoing};
use crate::connection::Connection;
use crate::topics;
use crate::view_feed::KafkaViewFeeds;

/// Feeds of a Kafka cluster.
pub struct KafkaFeed {
    connection: Arc<Connection>,
    appender: Appender,
    followers: Followers,
    /// How long changes are kept, by topic, of those that were created here.
    created: Mutex<HashMap<String, Option<i64>>>,
    publishes_views: bool,
}

impl KafkaFeed {
    /// The feeds of the cluster that this connection is to.
    pub(crate) fn new(connection: Arc<Connection>) -> KafkaFeed {
        KafkaFeed {
            followers: Followers::new(connection.clone()),
            connection,
            appender: Appender::default(),
            created: Mutex::default(),
            publishes_views: false,
        }
    }

    /// The same, with the feeds of views beside those of versions.
    pub fn with_view_feeds(self) -> KafkaFeed {
        KafkaFeed { publishes_views: true, ..self }
    }

    /// The name of a table's topic.
    fn topic_of(&self, table: &Table) -> String {
        format!("{}.changes.{}.{}", self.connection.settings.deployment, table.view, table.version)
    }

    fn append(&self, topic: &str, encoded: &Encoded) -> Result<(), LogError> {
        self.connection.known_partitions(topic)?;
        let outgoing = encoded.records.iter().map(|record| Outgoing {
            key: Some(record.key.as_bytes()),
            value: record.value.as_deref().map(str::as_bytes),
            headers: record.written_at.map(|written_at| encoded.headers(written_at)),
        });
        self.appender.append(&self.connection, topic, outgoing).map(drop)
    }

    /// Appends; where there is no topic any more, to a new one.
    fn append_or_create(&self, topic: &str, encoded: &Encoded) -> Result<(), LogError> {
        match self.append(topic, encoded) {
            // Somebody removed it: followers can go on with what comes from now on.
            Err(LogError::UnknownTopic(_)) => {
                let keep_us = self.created.lock().get(topic).copied().flatten();
                topics::create_feed(&self.connection, topic, keep_us)?;
                // Until every broker has heard of the new one.
                self.append(topic, encoded).map_err(|error| match error {
                    LogError::UnknownTopic(_) => LogError::Unavailable(error.to_string()),
                    error => error,
                })
            }
            appended => appended,
        }
    }
}

impl ChangeFeed for KafkaFeed {
    fn create(&self, table: &Table, keep_us: Option<i64>) -> Result<(), LogError> {
        let topic = self.topic_of(table);
        topics::create_feed(&self.connection, &topic, keep_us)?;
        self.created.lock().insert(topic, keep_us);
        Ok(())
    }

    fn publish(&self, table: &Table, rows: &[RowBatch], progress: &Progress) -> Result<(), LogError> {
        let topic = self.topic_of(table);
        let encoded = Encoded::of(&Changes::of(table, rows, progress))?;
        let most = self.connection.settings.max_value_bytes();
        if let Some(key) = encoded.larger_than(most) {
            return Err(LogError::Refused(format!(
                "row {key} of {} is longer than {most} bytes as JSON; turn change_feed off",
                table.name()
            )));
        }
        self.append_or_create(&topic, &encoded)
    }

    fn begin_anew(&self, table: &Table, progress: &Progress) -> Result<(), LogError> {
        self.append_or_create(&self.topic_of(table), &Encoded::of(&Changes::begin_anew(progress))?)
    }

    fn subscribe(&self, table: &Table) -> Result<Subscription, LogError> {
        self.followers.subscribe(&self.topic_of(table))
    }

    fn view_feeds(&self) -> Option<Arc<dyn ViewFeeds>> {
        self.publishes_views.then(|| Arc::new(KafkaViewFeeds::new(self.connection.clone())) as Arc<dyn ViewFeeds>)
    }

    fn remove(&self, table: &Table) -> Result<(), LogError> {
        let topic = self.topic_of(table);
        self.created.lock().remove(&topic);
        topics::remove(&self.connection, &topic)
    }
}

impl Encoded {
    fn headers(&self, written_at: i64) -> OwnedHeaders {
        use rdkafka::message::Header;
        let written_at = written_at.to_string();
        OwnedHeaders::new_with_capacity(2)
            .insert(Header { key: record::WRITTEN_AT, value: Some(&written_at) })
            .insert(Header { key: record::POSITIONS, value: Some(&self.positions) })
    }
}
