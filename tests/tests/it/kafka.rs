//! The log on a real Kafka: what every log must do, and what is Kafka's own.

mod access;
mod changes;
mod faults;
mod formats;
mod reading;
mod rights;
mod view_feed;

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use refold_kafka::{Compression, KafkaLog, KafkaSettings};
use refold_processor::log::conformance::{self, Harness};
use refold_processor::log::{Log, LogError, LogReader, NewRecord, Records};
use refold_processor::position::{Cut, Offset, Partition};
use refold_tests::services::kafka::Kafka;

const ONLY: Partition = Partition(0);
const ROOMY: usize = 1 << 20;
/// Enough for a broker to hand over what it has.
const SOON: Duration = Duration::from_secs(20);

/// The broker that tests share, each with topics of its own.
fn shared() -> &'static Kafka {
    static SHARED: OnceLock<Kafka> = OnceLock::new();
    SHARED.get_or_init(Kafka::start)
}

/// Topics of conformance are called the same in every case, so each case begins without them. No other test uses their names.
struct OnKafka {
    log: Option<Arc<KafkaLog>>,
}

impl OnKafka {
    fn new() -> OnKafka {
        let log = shared().log();
        shared().delete_topics(&["events", "other"]);
        until("topics are gone", || {
            let topics = log.topics().unwrap();
            !topics.iter().any(|topic| topic == "events" || topic == "other")
        });
        OnKafka { log: Some(Arc::new(log)) }
    }
}

impl Harness for OnKafka {
    fn log(&self) -> Arc<dyn Log> {
        self.log.clone().unwrap()
    }

    fn reopen(&mut self) {
        self.log = None;
        self.log = Some(Arc::new(shared().log()));
    }

    fn forget_below(&mut self, topic: &str, partition: Partition, to: Offset) {
        shared().delete_records(topic, partition.0, to.0);
    }
}

#[test]
fn does_what_every_log_must() {
    conformance::run(&|| Box::new(OnKafka::new()));
}

/// Asks again and again, for a minute.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "it does not come to it that {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn keyless(value: &str) -> NewRecord {
    NewRecord { key: None, value: Bytes::copy_from_slice(value.as_bytes()) }
}

fn at(position: u64) -> Cut {
    Cut::from_iter([(ONLY, Offset(position))])
}

fn texts(records: &Records) -> Vec<String> {
    records.spans.iter().map(|span| String::from_utf8(records.value(span).unwrap().to_vec()).unwrap()).collect()
}

/// Reads until there is nothing more: what was read, and the position then.
fn read_to_end(reader: &mut dyn LogReader, from: u64) -> (Vec<String>, u64) {
    let (mut read, mut position) = (Vec::new(), from);
    while let Some(records) = reader.read(ROOMY, Duration::ZERO).unwrap() {
        assert!(records.next.0 > position && records.next <= records.end);
        position = records.next.0;
        read.extend(texts(&records));
    }
    (read, position)
}

/// Positions of a client's group in partitions of a topic, as tools see them; none while they cannot be asked for.
fn committed(client: &BaseConsumer, topic: &str, partitions: RangeInclusive<i32>) -> Vec<Option<i64>> {
    let mut asked = TopicPartitionList::new();
    asked.add_partition_range(topic, *partitions.start(), *partitions.end());
    let found = client.committed_offsets(asked, Duration::from_secs(5));
    found.map(|found| found.elements().iter().map(|element| element.offset().to_raw()).collect()).unwrap_or_default()
}

/// Calls again what answers that the log is unavailable.
fn patiently<T>(mut call: impl FnMut() -> Result<T, LogError>) -> T {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        match call() {
            Ok(answer) => return answer,
            Err(error) if error.is_retryable() && Instant::now() < deadline => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn distinct(values: &[String]) -> usize {
    values.iter().collect::<HashSet<_>>().len()
}
