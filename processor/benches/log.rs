//! How fast the embedded log reads and appends, bare: no decoding, no fold.
//!
//! `read/*` reads a million records of 200 bytes from their files, in runs of 1 MiB on one thread: in blocks as merging leaves them, in blocks of
//! 12 records as a busy collector appends them, and in blocks of random bytes, which do not compress.
//! `append/*` appends records of 200 bytes; `synced` waits for the disk each time.

// The macro of the benchmark runner writes functions without docs.
#![allow(missing_docs)]
// As in tests: what fails here is the benchmark.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use refold_processor::clock::SystemClock;
use refold_processor::log::embedded::{EmbeddedLog, EmbeddedLogSettings};
use refold_processor::log::{Log, NewRecord};
use refold_processor::position::{Cut, Offset, Partition};
use tempfile::TempDir;

const RECORDS: usize = 1_000_000;
const RECORD_BYTES: usize = 200;
const RUN_BYTES: usize = 1 << 20;
const TOPIC: &str = "tweet_feed";

const WORDS: [&str; 24] = [
    "the", "log", "is", "read", "again", "and", "every", "view", "of", "it", "comes", "back", "#rust", "#kafka", "#streams", "while",
    "nobody", "waits", "for", "what", "was", "already", "counted", "today",
];

/// Something like an encoded post: some bytes of ids and times, then words.
fn post(random: &mut ChaCha8Rng) -> Bytes {
    let mut bytes = Vec::with_capacity(RECORD_BYTES + 16);
    bytes.extend_from_slice(&random.random::<[u8; 40]>());
    while bytes.len() < RECORD_BYTES {
        bytes.extend_from_slice(WORDS[random.random_range(0..WORDS.len())].as_bytes());
        bytes.push(b' ');
    }
    bytes.truncate(RECORD_BYTES);
    bytes.into()
}

fn noise(random: &mut ChaCha8Rng) -> Bytes {
    let mut bytes = vec![0; RECORD_BYTES];
    random.fill(bytes.as_mut_slice());
    bytes.into()
}

fn open(sync: bool) -> (TempDir, EmbeddedLog) {
    let dir = TempDir::new().unwrap();
    let settings = EmbeddedLogSettings { sync, ..EmbeddedLogSettings::default() };
    let log = EmbeddedLog::open(dir.path(), settings, Arc::new(SystemClock)).unwrap();
    log.create_topic(TOPIC, 4).unwrap();
    (dir, log)
}

fn records(count: usize, value: fn(&mut ChaCha8Rng) -> Bytes) -> Vec<NewRecord> {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    (0..count).map(|_| NewRecord { key: None, value: value(&mut random) }).collect()
}

fn filled(records_an_append: usize, value: fn(&mut ChaCha8Rng) -> Bytes) -> (TempDir, EmbeddedLog) {
    let (dir, log) = open(false);
    for append in records(RECORDS, value).chunks(records_an_append) {
        log.append(TOPIC, append.to_vec()).unwrap();
    }
    drop(log);
    let settings = EmbeddedLogSettings::default();
    let log = EmbeddedLog::open(dir.path(), settings, Arc::new(SystemClock)).unwrap();
    (dir, log)
}

fn read_all(log: &EmbeddedLog) -> usize {
    let from: Cut = (0..4).map(|number| (Partition(number), Offset(0))).collect();
    let mut reader = log.reader(TOPIC, &from).unwrap();
    let mut read = 0;
    while let Some(run) = reader.read(RUN_BYTES, Duration::ZERO).unwrap() {
        read += black_box(&run).spans.len();
    }
    read
}

fn reading(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read");
    group.throughput(Throughput::Elements(RECORDS as u64)).sample_size(10);
    let (_large_dir, large) = filled(20_000, post);
    let (_small_dir, small) = filled(48, post);
    let (_noise_dir, incompressible) = filled(20_000, noise);
    for (name, log) in [("large_blocks", &large), ("blocks_of_12", &small), ("large_blocks_incompressible", &incompressible)] {
        group.bench_function(name, |bencher| bencher.iter(|| assert_eq!(read_all(log), RECORDS)));
    }
    small.maintain().unwrap();
    group.bench_function("blocks_of_12_merged", |bencher| bencher.iter(|| assert_eq!(read_all(&small), RECORDS)));
    group.finish();
}

fn appending(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    group.sample_size(10);
    for (name, sync, count) in
        [("bulk_of_10000", false, 10_000), ("12", false, 12), ("bulk_of_10000_synced", true, 10_000), ("12_synced", true, 12)]
    {
        let (_dir, log) = open(sync);
        let batch = records(count, post);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(name, |bencher| bencher.iter(|| log.append(TOPIC, batch.clone()).unwrap()));
    }
    group.finish();
}

fn merging(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("merge");
    group.throughput(Throughput::Elements(RECORDS as u64)).sample_size(10);
    group.bench_function("blocks_of_12", |bencher| {
        bencher.iter_batched(
            || filled(48, post),
            |(dir, log)| {
                log.maintain().unwrap();
                (dir, log)
            },
            criterion::BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, reading, appending, merging);
criterion_main!(benches);
