//! Reading a Kafka topic: the bare batch queue of librdkafka beside Refold's reader, over the same posts on a real broker.
//!
//! `EVENTS=…` sets how many posts of 200 bytes, `PARTITIONS=…` and `RUNS=…` the rest. Each run alternates between the two, so that what else the machine
//! does meets both. The bare rate counts records and looks at nothing; the reader copies values and hands out runs of about a megabyte.
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout, missing_docs)]

use std::ffi::CString;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::{Rng, SeedableRng};
use rdkafka::bindings::{
    rd_kafka_consume_batch_queue, rd_kafka_consume_start_queue, rd_kafka_consume_stop, rd_kafka_message_destroy, rd_kafka_message_t,
    rd_kafka_queue_destroy, rd_kafka_queue_new, rd_kafka_topic_destroy, rd_kafka_topic_new,
};
use rdkafka::consumer::{BaseConsumer, Consumer};
use refold_kafka::{Compression, KafkaLog, KafkaSettings};
use refold_processor::log::{Log, NewRecord};
use refold_processor::position::{Cut, Offset};
use refold_tests::services::kafka::Kafka;

const TOPIC: &str = "posts";

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() {
    let events = setting("EVENTS", 2_000_000);
    let partitions = setting("PARTITIONS", 4) as u32;
    let runs = setting("RUNS", 5);
    let kafka = Kafka::start();
    for compression in [Compression::Lz4, Compression::None] {
        let log = KafkaLog::open(KafkaSettings { compression, ..kafka.log_settings() }).unwrap();
        kafka.delete_topics(&[TOPIC]);
        while log.topics().unwrap().contains(&TOPIC.to_owned()) {
            std::thread::sleep(Duration::from_millis(20));
        }
        fill(&log, events, partitions, compression);
        let (mut bare, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            bare.push(rate(events, || bare_read(&kafka, partitions, events)));
            ours.push(rate(events, || reader(&log, events)));
        }
        let (bare, ours) = (median(&mut bare), median(&mut ours));
        println!(
            "{compression:?}: bare batch queue {:.2} M/s, reader {:.2} M/s, {:.2} of it (medians of {runs})",
            bare / 1e6,
            ours / 1e6,
            ours / bare
        );
        latency(&log);
    }
}

fn rate(events: u64, read: impl FnOnce()) -> f64 {
    let started = Instant::now();
    read();
    events as f64 / started.elapsed().as_secs_f64()
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Posts of words, so that they compress as posts do.
fn fill(log: &KafkaLog, events: u64, partitions: u32, compression: Compression) {
    log.create_topic(TOPIC, partitions).unwrap();
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let words: Vec<String> = (0..5_000).map(|_| (0..random.random_range(2..9)).map(|_| random.random_range('a'..='z')).collect()).collect();
    let started = Instant::now();
    let mut written = 0;
    while written < events {
        let count = (events - written).min(20_000);
        let records = (0..count).map(|number| {
            let mut post = (written + number).to_be_bytes().to_vec();
            while post.len() < 200 {
                post.extend_from_slice(words[random.random_range(0..words.len())].as_bytes());
                post.push(b' ');
            }
            post.truncate(200);
            NewRecord { key: Some(Bytes::copy_from_slice(&(number as u32 % 10_000).to_be_bytes())), value: Bytes::from(post) }
        });
        log.append(TOPIC, records.collect()).unwrap();
        written += count;
    }
    println!(
        "{compression:?}: {events} posts of 200 bytes over {partitions} partitions, appended and acknowledged at {:.0} k/s",
        events as f64 / started.elapsed().as_secs_f64() / 1e3
    );
}

fn reader(log: &KafkaLog, events: u64) {
    let from: Cut = log.partitions(TOPIC).unwrap().into_iter().map(|partition| (partition, Offset(0))).collect();
    let mut reader = log.reader(TOPIC, &from).unwrap();
    let (mut read, mut bytes) = (0, 0);
    while let Some(records) = reader.read(1 << 20, Duration::ZERO).unwrap() {
        read += records.spans.len() as u64;
        bytes += records.payload.len() as u64;
    }
    assert_eq!((read, bytes), (events, events * 200));
}

/// The least that a client in this process can do: the same properties as the reader's where they matter.
fn bare_read(kafka: &Kafka, partitions: u32, events: u64) {
    let consumer: BaseConsumer = kafka
        .client()
        .set("fetch.queue.backoff.ms", "1")
        .set("queued.max.messages.kbytes", "32768")
        .set("fetch.max.bytes", "16777216")
        .set("max.partition.fetch.bytes", "4194304")
        .set("fetch.wait.max.ms", "100")
        .create()
        .unwrap();
    let name = CString::new(TOPIC).unwrap();
    let mut batch: Vec<*mut rd_kafka_message_t> = vec![std::ptr::null_mut(); 1024];
    let mut read = 0;
    // SAFETY: handles are made, used and destroyed here, by one thread, while the client lives; each message is destroyed once.
    unsafe {
        let topic = rd_kafka_topic_new(consumer.client().native_ptr(), name.as_ptr(), std::ptr::null_mut());
        let queue = rd_kafka_queue_new(consumer.client().native_ptr());
        for partition in 0..partitions as i32 {
            assert_eq!(rd_kafka_consume_start_queue(topic, partition, 0, queue), 0);
        }
        while read < events {
            let taken = rd_kafka_consume_batch_queue(queue, 0, batch.as_mut_ptr(), batch.len());
            for message in &batch[..taken as usize] {
                rd_kafka_message_destroy(*message);
            }
            read += taken as u64;
            if taken == 0 {
                let first = rd_kafka_consume_batch_queue(queue, 100, batch.as_mut_ptr(), 1);
                for message in &batch[..first as usize] {
                    rd_kafka_message_destroy(*message);
                }
                read += first as u64;
            }
        }
        for partition in 0..partitions as i32 {
            rd_kafka_consume_stop(topic, partition);
        }
        rd_kafka_queue_destroy(queue);
        rd_kafka_topic_destroy(topic);
    }
}

/// From the beginning of an append to the record in hand, with a reader that waits.
fn latency(log: &KafkaLog) {
    let from: Cut =
        log.partitions(TOPIC).unwrap().into_iter().map(|partition| (partition, log.bounds(TOPIC, partition).unwrap().end)).collect();
    let mut reader = log.reader(TOPIC, &from).unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let waiting = std::thread::spawn(move || {
        while reader.read(1 << 20, Duration::from_secs(10)).unwrap().is_some_and(|records| !records.spans.is_empty()) {
            if tell.send(Instant::now()).is_err() {
                break;
            }
        }
    });
    let mut latencies: Vec<(Duration, Duration)> = (0..500)
        .map(|_| {
            let started = Instant::now();
            log.append(TOPIC, vec![NewRecord { key: None, value: Bytes::from_static(&[7; 200]) }]).unwrap();
            let acknowledged = started.elapsed();
            (told.recv().unwrap() - started, acknowledged)
        })
        .collect();
    drop(told);
    log.append(TOPIC, vec![NewRecord::default()]).unwrap();
    waiting.join().unwrap();
    latencies.sort();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize].0.as_secs_f64() * 1e3;
    let acknowledged = latencies[latencies.len() / 2].1.as_secs_f64() * 1e3;
    println!("  append begun to record read: p50 {:.1} ms, p99 {:.1} ms; acknowledged after about {acknowledged:.1} ms", at(0.5), at(0.99));
}
