//! Refold over a real Kafka and a real Cassandra, in one run beside its limits: librdkafka alone, a store that writes to nothing, and the plain
//! driver with the same rows in its best order.
//!
//! `EVENTS=…` sets the number of posts, over 6 hours of event time and 3 partitions. `ONLY=bare,read,nothing,first,cassandra,plain` leaves parts out. Each part
//! runs in a process of its own, so that processor time and peak memory are its own; broker, database and all parts share the machine.
//! The first replay into Cassandra finds a Java that has compiled nothing yet; it is repeated, and then left running for the live part.
//! Before each of the parts that follow Cassandra may finish what it was left with: what it compacts meanwhile would be counted against the wrong one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout, missing_docs)]

mod figures;
mod live;
mod plain;
mod replay;

use std::process::Command;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::TopicPartitionList;
use refold_collector::{Encoder, Opening, Pull, Spec, Stop, SystemTimer};
use refold_kafka::{KafkaLog, KafkaSettings};
// For its allocator: the parts use memory as the program does.
use refold_processor::log::Log;
use refold_processor::position::Offset;
use refold_processor::source::Source;
use refold_replayer as _;
use refold_tests::program::root;
use refold_tests::services::cassandra::Cassandra;
use refold_tests::services::kafka::Kafka;
use refold_tests::services::processor_time;
use refold_tests::simulation::replay::Application;

use crate::figures::{Figures, load};

const TOPIC: &str = "posts";
const PARTITIONS: u32 = 3;
/// What Cassandra is given to finish what it was left with.
const SETTLES: Duration = Duration::from_secs(60);
const PART: &str = "DEPLOYED_PART";

pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Where the services are, for a part in a process of its own.
pub struct Site {
    pub brokers: String,
    pub cassandra_port: u16,
    /// Process ids.
    pub broker: String,
    pub node: String,
    pub application: Application,
}

impl Site {
    fn from_environment() -> Site {
        let text = |name: &str| std::env::var(name).unwrap();
        Site {
            brokers: text("DEPLOYED_BROKERS"),
            cassandra_port: text("DEPLOYED_CASSANDRA").parse().unwrap(),
            broker: text("DEPLOYED_BROKER"),
            node: text("DEPLOYED_NODE"),
            application: application(),
        }
    }

    pub fn log(&self) -> KafkaLog {
        KafkaLog::open(KafkaSettings { brokers: self.brokers.clone(), reader_memory_bytes: replay::reader_memory(), ..Default::default() })
            .unwrap()
    }

    /// Waits until Cassandra has compacted what was written before, and compiled what it took: until it uses less than a fifth of a core.
    pub fn settle(&self) {
        let started = Instant::now();
        loop {
            let before = processor_time(&self.node);
            std::thread::sleep(Duration::from_secs(1));
            if processor_time(&self.node) - before < Duration::from_millis(200) {
                break;
            }
            if started.elapsed() > SETTLES {
                println!("  Cassandra is still busy after {SETTLES:?}");
                return;
            }
        }
        println!("  Cassandra was quiet after {:.0} s", started.elapsed().as_secs_f64());
    }

    pub fn source(&self) -> &Source {
        &self.application.source
    }

    pub fn events(&self, log: &dyn Log) -> u64 {
        log.partitions(TOPIC).unwrap().into_iter().map(|partition| log.bounds(TOPIC, partition).unwrap().end.0).sum()
    }
}

/// The sample application with a topic of three partitions.
fn application() -> Application {
    let mut application = Application::load(&root().join("schemas"), "tweets");
    application.source.topic = TOPIC.into();
    application.source.partitions = PARTITIONS;
    application.views.retain(|view| view.name == "hashtag_counts");
    application
}

fn main() {
    if let Ok(part) = std::env::var(PART) {
        let site = Site::from_environment();
        match part.as_str() {
            "bare" => bare(&site),
            "read" => read(&site),
            "nothing" => replay::into_nothing(&site),
            "first" => drop(replay::into_cassandra(&site, "first")),
            "cassandra" => {
                site.settle();
                let running = replay::into_cassandra(&site, "second");
                for rate in [1_000, 7_000] {
                    site.settle();
                    live::run(&site, &running, rate);
                }
            }
            "plain" => {
                site.settle();
                plain::run(&site);
            }
            other => panic!("there is no part {other}"),
        }
        return;
    }
    let mut kafka = Kafka::start();
    let cassandra = Cassandra::start();
    let events = setting("EVENTS", 5_100_000);
    fill(&kafka.log(), events);
    let only = std::env::var("ONLY").unwrap_or_else(|_| "bare,read,nothing,first,cassandra,plain".into());
    for part in only.split(',') {
        println!("{} (load average before: {})", part, load());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(PART, part)
            .env("DEPLOYED_BROKERS", kafka.brokers())
            .env("DEPLOYED_CASSANDRA", cassandra.port.to_string())
            .env("DEPLOYED_BROKER", kafka.process_id())
            .env("DEPLOYED_NODE", cassandra.process().id())
            .spawn()
            .unwrap();
        assert!(child.wait().unwrap().success());
    }
}

/// Writes generated posts into the topic.
fn fill(log: &dyn Log, events: u64) {
    let application = application();
    let source = &application.source;
    log.create_topic(TOPIC, PARTITIONS).unwrap();
    let rate = events.div_ceil(6 * 3_600);
    let spec = Spec::parse(&format!("generate:1?seed=1&count={events}&backlog=6h&backlog_rate={rate}")).unwrap();
    let encoder = Encoder::new(source, Some(1)).unwrap();
    let schemas = root().join("schemas");
    let mut posts = spec.open(encoder, &Opening::new(&schemas, &schemas, std::sync::Arc::new(SystemTimer::new(Stop::new())))).unwrap();
    let (mut written, mut bytes) = (0, 0);
    let started = Instant::now();
    while written < events {
        match posts.next(50_000, Duration::from_millis(10)).unwrap() {
            Pull::Events { records, .. } => {
                written += records.len() as u64;
                bytes += records.iter().map(|record| record.value.len() as u64).sum::<u64>();
                log.append(TOPIC, records).unwrap();
            }
            Pull::Idle => {}
            Pull::End => break,
        }
    }
    let rate = written as f64 / started.elapsed().as_secs_f64() / 1e3;
    println!(
        "{written} posts of {} bytes, 6 hours of event time, {PARTITIONS} partitions, LZ4; appended at {rate:.0} k/s",
        bytes / written
    );
}

/// The topic read by librdkafka's own consumer, message by message, and nothing done with it. `--bench read` has its batch queue.
fn bare(site: &Site) {
    let events = site.events(&site.log());
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &site.brokers)
        .set("group.id", "bare")
        .set("enable.auto.commit", "false")
        .set("queued.max.messages.kbytes", "32768")
        .set("fetch.queue.backoff.ms", "1")
        .create()
        .unwrap();
    let mut from = TopicPartitionList::new();
    for partition in 0..PARTITIONS as i32 {
        from.add_partition_offset(TOPIC, partition, rdkafka::Offset::Beginning).unwrap();
    }
    consumer.assign(&from).unwrap();
    let figures = Figures::start(site);
    let mut read = 0;
    while read < events {
        read += u64::from(consumer.poll(Duration::from_secs(1)).is_some_and(|message| message.is_ok()));
    }
    figures.print("librdkafka's consumer, one thread", events, 0);
}

/// The topic read by the log's reader and nothing done with it: librdkafka's batch queue, and a copy of each value.
fn read(site: &Site) {
    let log = site.log();
    let events = site.events(&log);
    let from = log.partitions(TOPIC).unwrap().into_iter().map(|partition| (partition, Offset(0))).collect();
    let figures = Figures::start(site);
    let mut reader = log.reader(TOPIC, &from).unwrap();
    let mut read = 0;
    while let Some(records) = reader.read(1 << 20, Duration::ZERO).unwrap() {
        read += records.spans.len() as u64;
    }
    assert_eq!(read, events);
    figures.print("the log's reader, one thread", events, 0);
}
