//! The view store on a real Cassandra node: the suite that every adapter passes, and what only a cluster can do to it.

mod access;
mod cluster;
mod conformance;
mod faults;
mod ownership;
pub mod plain_cql;
mod reading;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::scalar::ScalarValue;
use refold_processor::position::{Offset, Partition};
use refold_processor::store::{PartitionRead, Progress, RowBatch, RowReader, StoreError};
use refold_processor::table::{Order, Table, TableShape, Version};
use refold_tests::services::cassandra::Cassandra;

/// The node that tests share which do it no harm.
fn node() -> &'static Cassandra {
    static NODE: OnceLock<Cassandra> = OnceLock::new();
    NODE.get_or_init(Cassandra::start)
}

/// A table (hashtag, slot; occurrences).
fn counts(view: &str) -> Table {
    let columns = Schema::new(vec![
        Field::new("hashtag", DataType::Utf8, false),
        Field::new("slot", DataType::Int64, false),
        Field::new("occurrences", DataType::Int64, true),
    ]);
    let shape = TableShape { columns: Arc::new(columns), partition_key: vec![0], clustering: vec![(1, Order::Asc)] };
    Table { view: view.into(), version: Version(1), shape }
}

/// Rows (hashtag, slot, occurrences; write timestamp), `None` deletes.
fn rows(table: &Table, rows: &[(&str, i64, Option<i64>, i64)]) -> RowBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.0))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1))),
        Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.2))),
    ];
    RowBatch {
        rows: RecordBatch::try_new(table.shape.columns.clone(), columns).unwrap(),
        written_at: rows.iter().map(|row| row.3).collect(),
        deleted: rows.iter().map(|row| row.2.is_none()).collect(),
    }
}

fn whole(hashtag: &str) -> PartitionRead {
    PartitionRead { partition: vec![ScalarValue::from(hashtag)], from: None, to: None, limit: 100_000, cursor: None }
}

/// The rows of a hashtag: (slot, occurrences).
fn read(store: &dyn RowReader, table: &Table, hashtag: &str) -> Vec<(i64, i64)> {
    let rows = store.read(table, &whole(hashtag)).unwrap().rows;
    let numbers = |column: usize| rows.column(column).as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec();
    numbers(1).into_iter().zip(numbers(2)).collect()
}

/// Tries again until it works, as the engine does; every failure until then must say that trying again helps.
fn in_the_end<T>(what: &str, mut attempt: impl FnMut() -> Result<T, StoreError>) -> T {
    let started = Instant::now();
    loop {
        match attempt() {
            Ok(done) => return done,
            Err(error) if error.is_retryable() => assert!(started.elapsed() < Duration::from_secs(60), "{what}: {error}"),
            Err(error) => panic!("{what}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn progress(sum: u64) -> Progress {
    let cut: refold_processor::position::Cut = [(Partition(0), Offset(sum))].into_iter().collect();
    Progress { visible: cut.clone(), writing: cut, read: sum, ..Progress::default() }
}
