//! Rows into a real Cassandra node: the adapter, beside the plain driver with an insert for each row.
//!
//! The rows are shaped as those of `hashtag_counts`: (hashtag; slot, occurrences), 5.5 slots a hashtag, in the order in which a sweep writes them.
//! `ROWS=…` sets their number, `BATCH_ROWS`, `BATCH_PARTITIONS`, `BATCH_BYTES`, `IN_FLIGHT` and `THREADS` the adapter's settings.
//! Processor time is that of all threads of a process, and is said for the adapter and for Cassandra.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout, missing_docs)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use futures::StreamExt;
use rand::{Rng, SeedableRng};
use refold_cassandra::{CassandraSettings, CassandraStore};
use refold_processor::store::{RowBatch, RowReader, RowWriter};
use refold_processor::table::{Epoch, Order, Table, TableShape, Version};
use refold_tests::services::cassandra::Cassandra;
use refold_tests::services::processor_time;
use scylla::client::session_builder::SessionBuilder;
use scylla::value::CqlTimestamp;

/// How many rows the engine hands over at a time.
const ROWS_A_WRITE: usize = 10_000;

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn table(view: &str) -> Table {
    let columns = Schema::new(vec![
        Field::new("hashtag", DataType::Utf8, false),
        Field::new("slot", DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into())), false),
        Field::new("occurrences", DataType::Int64, false),
    ]);
    let shape = TableShape { columns: Arc::new(columns), partition_key: vec![0], clustering: vec![(1, Order::Desc)] };
    Table { view: view.into(), version: Version(1), shape }
}

struct Counts {
    hashtags: Vec<String>,
    slots: Vec<i64>,
    occurrences: Vec<i64>,
}

fn counts(rows: usize) -> Counts {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let mut counts = Counts { hashtags: Vec::new(), slots: Vec::new(), occurrences: Vec::new() };
    let mut hashtag = 0;
    while counts.slots.len() < rows {
        let name = format!("{:08x}tag", hashtag * 7_919);
        for slot in 0..random.random_range(1..=10) {
            counts.hashtags.push(name.clone());
            counts.slots.push(1_700_000_000_000 + slot * 60_000);
            counts.occurrences.push(random.random_range(1..100));
        }
        hashtag += 1;
    }
    counts
}

fn batches(table: &Table, counts: &Counts) -> Vec<RowBatch> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(counts.hashtags.clone())),
        Arc::new(TimestampMillisecondArray::from(counts.slots.clone()).with_timezone("+00:00")),
        Arc::new(Int64Array::from(counts.occurrences.clone())),
    ];
    let rows = RecordBatch::try_new(table.shape.columns.clone(), columns).unwrap();
    let starts = (0..rows.num_rows()).step_by(ROWS_A_WRITE);
    starts
        .map(|start| {
            let length = ROWS_A_WRITE.min(rows.num_rows() - start);
            RowBatch { rows: rows.slice(start, length), written_at: vec![1 << 47; length], deleted: vec![false; length] }
        })
        .collect()
}

/// Runs something that writes rows, and says what it took.
fn measure(name: &str, node: &Cassandra, rows: usize, run: impl FnOnce()) {
    let (own, theirs, started) = (processor_time("self"), node.process().processor_time(), Instant::now());
    run();
    let took = started.elapsed();
    let micros = |spent: Duration| spent.as_secs_f64() * 1e6 / rows as f64;
    println!(
        "{name:<44} {:>8.0} rows/s   own {:>6.2} µs/row   Cassandra {:>6.2} µs/row",
        rows as f64 / took.as_secs_f64(),
        micros(processor_time("self") - own),
        micros(node.process().processor_time() - theirs)
    );
}

fn main() {
    let node = Cassandra::start();
    let defaults = node.settings("benchmark");
    let settings = CassandraSettings {
        batch_rows: setting("BATCH_ROWS", defaults.batch_rows),
        batch_partitions: setting("BATCH_PARTITIONS", defaults.batch_partitions),
        batch_bytes: setting("BATCH_BYTES", defaults.batch_bytes),
        batches_in_flight: setting("IN_FLIGHT", defaults.batches_in_flight),
        io_threads: setting("THREADS", defaults.io_threads),
        ..defaults
    };
    println!(
        "batches of up to {} rows, {} partitions, {} bytes; {} in flight; {} threads",
        settings.batch_rows, settings.batch_partitions, settings.batch_bytes, settings.batches_in_flight, settings.io_threads
    );
    let store = CassandraStore::connect(&settings).unwrap();
    let counts = counts(setting("ROWS", 500_000));
    let rows = counts.slots.len();

    // Java compiles what it runs often: the first rounds are not representative.
    for round in ["warming up", "adapter", "adapter, again"] {
        let table = table(&format!("adapter_{}", round.len()));
        store.create_table(&table).unwrap();
        let batches = batches(&table, &counts);
        measure(round, &node, rows, || batches.iter().for_each(|batch| store.write(&table, batch).unwrap()));
        let read: usize = store.scan(&table).unwrap().iter().map(RecordBatch::num_rows).sum();
        assert_eq!(read, rows);
        store.drop_table(&table).unwrap();
    }
    let tell = table("tellings");
    store.create_table(&tell).unwrap();
    let told = store.fence(&tell, Epoch(1)).unwrap();
    let tellings = 2_000;
    measure("tellings of progress (a row is a telling)", &node, tellings, || {
        (0..tellings).for_each(|_| store.tell(&tell, Epoch(1), &told).unwrap());
    });

    for _ in 0..setting("PLAIN", 1) {
        let table = table("plain");
        store.create_table(&table).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let session = SessionBuilder::new().known_node(format!("127.0.0.1:{}", node.port)).build().await.unwrap();
            let cql = "INSERT INTO benchmark.plain__v1 (hashtag, slot, occurrences) VALUES (?, ?, ?) USING TIMESTAMP ?";
            let insert = session.prepare(cql).await.unwrap();
            let insert_one = |row: usize| {
                let values = (&counts.hashtags[row], CqlTimestamp(counts.slots[row]), counts.occurrences[row], 1_i64 << 47);
                session.execute_unpaged(&insert, values)
            };
            let (own, theirs, started) = (processor_time("self"), node.process().processor_time(), Instant::now());
            futures::stream::iter(0..rows).map(insert_one).buffer_unordered(256).for_each(|done| async { drop(done.unwrap()) }).await;
            let (took, own, theirs) = (started.elapsed(), processor_time("self") - own, node.process().processor_time() - theirs);
            println!(
                "plain driver, one insert each, 256 in flight {:>8.0} rows/s   own {:>6.2} µs/row   Cassandra {:>6.2} µs/row",
                rows as f64 / took.as_secs_f64(),
                own.as_secs_f64() * 1e6 / rows as f64,
                theirs.as_secs_f64() * 1e6 / rows as f64
            );
        });
        store.drop_table(&table).unwrap();
    }
}
