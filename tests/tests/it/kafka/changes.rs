//! The change feed on a real Kafka: what every feed must do, and what others find in its topics.

use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{ClientConfig, TopicPartitionList};
use refold_kafka::{KafkaLog, KafkaSettings};
use refold_processor::changes::{ChangeFeed, conformance};
use refold_processor::log::Log;
use refold_processor::position::{Offset, Partition};
use refold_processor::store::{Progress, RowBatch};
use refold_processor::table::{Order, Table, TableShape, Version};

use super::{shared, until};

#[test]
fn does_what_every_feed_must() {
    conformance::run(&|| {
        until("the topics of the case before are gone", || {
            let topics = Log::topics(&shared().log()).unwrap();
            !topics.iter().any(|topic| topic.starts_with("refold.changes.conforming."))
        });
        (Arc::new(shared().log().feed()) as Arc<dyn ChangeFeed>, Arc::new(shared().log().feed()))
    });
}

fn text<'a>(message: &'a BorrowedMessage<'_>, header: &str) -> Option<&'a str> {
    let value = message.headers()?.iter().find(|found| found.key == header)?.value?;
    Some(std::str::from_utf8(value).unwrap())
}

/// A table of hashtags alone.
fn hashtags(view: &str) -> Table {
    let columns = Schema::new(vec![Field::new("hashtag", DataType::Utf8, false)]);
    let shape = TableShape { columns: Arc::new(columns), partition_key: vec![0], clustering: vec![] };
    Table { view: view.into(), version: Version(1), shape }
}

#[test]
fn a_topic_that_somebody_removed_is_made_again() {
    let table = hashtags("removed");
    let log = shared().log();
    let is_there = || Log::topics(&log).unwrap().contains(&"refold.changes.removed.v1".to_owned());
    let (feed, another) = (shared().log().feed(), shared().log().feed());
    let rows = RecordBatch::try_new(table.shape.columns.clone(), vec![Arc::new(StringArray::from(vec!["rust"]))]).unwrap();
    let batch = RowBatch { rows, written_at: vec![11], deleted: vec![false] };
    let publish = || feed.publish(&table, std::slice::from_ref(&batch), &Progress::default());
    feed.create(&table, None).unwrap();
    publish().unwrap();
    another.remove(&table).unwrap();
    until("the topic is gone", || !is_there());
    // Brokers and clients hear of what is gone and what is new one after another; nothing but that may be said meanwhile.
    until("changes are published again", || match publish() {
        Ok(()) => true,
        Err(error) => {
            assert!(error.is_retryable(), "{error}");
            false
        }
    });
    assert!(is_there());
    feed.remove(&table).unwrap();
}

#[test]
fn other_clients_find_rows_by_their_keys_in_a_compacted_topic() {
    let columns = Schema::new(vec![Field::new("hashtag", DataType::Utf8, false), Field::new("posts", DataType::Int64, true)]);
    let shape = TableShape { columns: Arc::new(columns), partition_key: vec![0], clustering: vec![(1, Order::Asc)] };
    let table = Table { view: "followed".into(), version: Version(3), shape };
    let feed = shared().log().feed();
    feed.create(&table, Some(3_600_000_000)).unwrap();
    let (hashtags, posts) = (StringArray::from(vec!["rust", "gone"]), Int64Array::from(vec![7, 8]));
    let rows = RecordBatch::try_new(table.shape.columns.clone(), vec![Arc::new(hashtags), Arc::new(posts)]).unwrap();
    let batch = RowBatch { rows, written_at: vec![11, 12], deleted: vec![false, true] };
    let cut = [(Partition(0), Offset(5))].into_iter().collect();
    feed.publish(&table, &[batch], &Progress { writing: cut, ..Progress::default() }).unwrap();

    let brokers = shared().brokers();
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &brokers)
        .set("group.id", "another")
        .set("enable.partition.eof", "false")
        .create()
        .unwrap();
    let mut from = TopicPartitionList::new();
    from.add_partition_offset("refold.changes.followed.v3", 0, rdkafka::Offset::Beginning).unwrap();
    consumer.assign(&from).unwrap();
    let next = || consumer.poll(Duration::from_secs(20)).unwrap().unwrap();
    let written = next();
    assert_eq!((written.key().unwrap(), written.payload().unwrap()), (&br#"["rust",7]"#[..], &br#"{"hashtag":"rust","posts":7}"#[..]));
    assert_eq!((text(&written, "written_at"), text(&written, "positions")), (Some("11"), Some(r#"{"0":5}"#)));
    let deleted = next();
    assert_eq!((deleted.key().unwrap(), deleted.payload(), text(&deleted, "written_at")), (&br#"["gone",8]"#[..], None, Some("12")));
    assert_eq!(next().key().unwrap(), br#""progress""#);
    let config = shared().topic_config("refold.changes.followed.v3");
    for setting in ["cleanup.policy=compact,delete", "retention.ms=3600000"] {
        assert!(config.contains(setting), "{setting} is not in {config}");
    }
}

/// Versions of two deployments may have the same names on one cluster.
#[test]
fn deployments_on_one_cluster_have_feeds_of_their_own() {
    let table = hashtags("shared");
    let feeds = ["staging", "production"].map(|deployment| {
        let settings = KafkaSettings { deployment: deployment.into(), ..shared().log_settings() };
        KafkaLog::open(settings).unwrap().feed()
    });
    feeds.iter().for_each(|feed| feed.create(&table, None).unwrap());
    let topics = || Log::topics(&shared().log()).unwrap();
    until("both are there", || ["staging", "production"].iter().all(|name| topics().contains(&format!("{name}.changes.shared.v1"))));
    feeds[0].remove(&table).unwrap();
    until("one is gone", || !topics().contains(&"staging.changes.shared.v1".to_owned()));
    assert!(topics().contains(&"production.changes.shared.v1".to_owned()));
    feeds[1].remove(&table).unwrap();
}
