//! The embedded view store: how many rows a second it takes, and how long a page takes.
//!
//! The rows are those of a view of counts by hashtag and 5 minutes: one sweep writes the row of one slot for every hashtag, in the
//! order of hashtags, as a replay does when a window has closed.

#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::scalar::ScalarValue;
use refold_processor::store::embedded::{EmbeddedStore, EmbeddedStoreSettings};
use refold_processor::store::memory::MemoryStore;
use refold_processor::store::{PartitionRead, RowBatch, RowReader, RowWriter};
use refold_processor::table::{Order, Table, TableShape, Version};

const HASHTAGS: usize = 100_000;
const ROWS_A_BATCH: usize = 10_000;
const SLOT_MS: i64 = 300_000;

fn table(view: &str) -> Table {
    let columns = Schema::new(vec![
        Field::new("hashtag", DataType::Utf8, false),
        Field::new("slot", DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into())), false),
        Field::new("occurrences", DataType::Int64, false),
    ]);
    let shape = TableShape { columns: Arc::new(columns), partition_key: vec![0], clustering: vec![(1, Order::Desc)] };
    Table { view: view.into(), version: Version(1), shape }
}

fn hashtag(number: usize) -> String {
    format!("hashtag{number:06}")
}

/// The rows of one slot, in the order of hashtags.
fn sweep(table: &Table, slot: i64, written_at: i64) -> Vec<RowBatch> {
    let batch = |start: usize| {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values((start..start + ROWS_A_BATCH).map(hashtag))),
            Arc::new(TimestampMillisecondArray::from(vec![slot * SLOT_MS; ROWS_A_BATCH]).with_timezone("+00:00")),
            Arc::new(Int64Array::from_iter_values((0..ROWS_A_BATCH as i64).map(|number| number % 97))),
        ];
        RowBatch {
            rows: RecordBatch::try_new(Arc::clone(&table.shape.columns), columns).unwrap(),
            written_at: vec![written_at; ROWS_A_BATCH],
            deleted: vec![false; ROWS_A_BATCH],
        }
    };
    (0..HASHTAGS).step_by(ROWS_A_BATCH).map(batch).collect()
}

fn write_all(store: &dyn RowWriter, table: &Table, batches: &[RowBatch]) {
    for batch in batches {
        store.write(table, batch).unwrap();
    }
}

fn writes(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(folder.path(), &EmbeddedStoreSettings::default()).unwrap();
    let mut group = criterion.benchmark_group("write");
    group.sample_size(20).throughput(Throughput::Elements(HASHTAGS as u64));

    let mut views = 0;
    group.bench_function("new rows where there are none", |bencher| {
        let new_table = || {
            views += 1;
            let table = table(&format!("empty{views}"));
            store.create_table(&table).unwrap();
            let rows = sweep(&table, 0, 1);
            (table, rows)
        };
        bencher.iter_batched(new_table, |(table, rows)| write_all(&store, &table, &rows), BatchSize::PerIteration);
    });

    let swept = table("swept");
    store.create_table(&swept).unwrap();
    write_all(&store, &swept, &sweep(&swept, 0, 1));
    let mut slot = 0;
    group.bench_function("new rows among others", |bencher| {
        let next_slot = || {
            slot += 1;
            sweep(&swept, slot, slot)
        };
        bencher.iter_batched(next_slot, |rows| write_all(&store, &swept, &rows), BatchSize::PerIteration);
    });

    let mut written_at = 1_000_000;
    group.bench_function("rows that are there", |bencher| {
        let newer = || {
            written_at += 1;
            sweep(&swept, 0, written_at)
        };
        bencher.iter_batched(newer, |rows| write_all(&store, &swept, &rows), BatchSize::PerIteration);
    });
    group.finish();
}

fn reads(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let embedded = EmbeddedStore::open(folder.path(), &EmbeddedStoreSettings::default()).unwrap();
    let memory = MemoryStore::new();
    let table = table("read");
    let mut group = criterion.benchmark_group("read 20 rows of a partition");
    let slots = 40;
    embedded.create_table(&table).unwrap();
    memory.create_table(&table).unwrap();
    for slot in 0..slots {
        let rows = sweep(&table, slot, 1);
        write_all(&embedded, &table, &rows);
        write_all(&memory, &table, rows.get(..1).unwrap_or_default());
    }
    let mut number = 0;
    let mut read = |store: &dyn RowReader, hashtags: usize| {
        number = (number + 7_919) % hashtags;
        let partition = vec![ScalarValue::from(hashtag(number))];
        let page = store.read(&table, &PartitionRead { partition, from: None, to: None, limit: 20, cursor: None }).unwrap();
        assert_eq!(page.rows.num_rows(), 20);
    };
    group.bench_function("embedded", |bencher| bencher.iter(|| read(&embedded, HASHTAGS)));
    group.bench_function("memory", |bencher| bencher.iter(|| read(&memory, ROWS_A_BATCH)));
    group.finish();

    criterion.bench_function("make a store in memory with a table", |bencher| {
        bencher.iter(|| {
            let store = MemoryStore::new();
            store.create_table(&table).unwrap();
            store
        });
    });
}

criterion_group!(store, writes, reads);
criterion_main!(store);
