//! Reads beyond the suite's: several clustering columns in mixed directions, in pages of every size.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::scalar::ScalarValue;
use refold_processor::store::{PartitionRead, RowBatch, RowReader, RowWriter, StoreError, memory::MemoryStore};
use refold_processor::table::{Order, Table, TableShape, Version};

use super::{counts, node, read, rows};

/// As the memory adapter does it, whatever the directions, the bounds and the size of pages.
#[test]
fn pages_over_several_clustering_columns_are_those_of_the_memory_adapter() {
    let store = node().store("reading");
    let memory = MemoryStore::new();
    for (index, orders) in
        [[Order::Asc, Order::Asc, Order::Asc], [Order::Asc, Order::Desc, Order::Asc], [Order::Desc, Order::Asc, Order::Desc]]
            .into_iter()
            .enumerate()
    {
        let fields = ["p", "a", "b", "c", "n"].map(|name| Field::new(name, DataType::Int64, name == "n"));
        let clustering = orders.into_iter().enumerate().map(|(place, order)| (place + 1, order)).collect();
        let shape = TableShape { columns: Arc::new(Schema::new(fields.to_vec())), partition_key: vec![0], clustering };
        let table = Table { view: format!("mixed_{index}"), version: Version(1), shape };
        let mut columns = vec![Vec::new(); 5];
        for number in 0..60_i64 {
            for (column, value) in [number % 2, number / 20, number / 6 % 3, -number, number].into_iter().enumerate() {
                columns[column].push(value);
            }
        }
        let columns = columns.into_iter().map(|column| Arc::new(Int64Array::from(column)) as ArrayRef).collect();
        let rows = RecordBatch::try_new(table.shape.columns.clone(), columns).unwrap();
        let batch = RowBatch { rows, written_at: vec![1; 60], deleted: vec![false; 60] };
        for store in [&store as &dyn RowWriter, &memory] {
            store.create_table(&table).unwrap();
            store.write(&table, &batch).unwrap();
        }
        for (from, to) in [(None, None), (Some(1_i64), None), (None, Some(2_i64)), (Some(1), Some(2))] {
            for limit in [1, 2, 7, 30, 31] {
                let all = PartitionRead {
                    partition: vec![ScalarValue::from(1_i64)],
                    from: from.map(ScalarValue::from),
                    to: to.map(ScalarValue::from),
                    limit,
                    cursor: None,
                };
                assert_eq!(
                    paged(&store, &table, &all),
                    paged(&memory, &table, &all),
                    "{orders:?} from {from:?} to {to:?}, {limit} at a time"
                );
            }
        }
        // A cursor that is used with other bounds than it was made with.
        let wide = PartitionRead { partition: vec![ScalarValue::from(1_i64)], from: None, to: None, limit: 12, cursor: None };
        for (from, to) in [(Some(2_i64), None), (None, Some(1_i64)), (Some(1), Some(2)), (Some(0), Some(1))] {
            let [ours, theirs] = [&store as &dyn RowReader, &memory].map(|store| {
                let cursor = store.read(&table, &wide).unwrap().next;
                let narrow = PartitionRead { from: from.map(ScalarValue::from), to: to.map(ScalarValue::from), cursor, ..wide.clone() };
                store.read(&table, &narrow).unwrap().rows
            });
            assert_eq!(ours, theirs, "{orders:?} from {from:?} to {to:?}");
        }
    }
}

fn paged(store: &dyn RowReader, table: &Table, read: &PartitionRead) -> Vec<RecordBatch> {
    let mut pages = Vec::new();
    let mut cursor = None;
    loop {
        let page = store.read(table, &PartitionRead { cursor, ..read.clone() }).unwrap();
        pages.push(page.rows);
        cursor = page.next;
        if cursor.is_none() {
            return pages;
        }
    }
}

/// A cursor of the memory adapter belongs to the same view and partition, but says nothing that Cassandra understands.
#[test]
fn a_cursor_of_another_adapter_is_refused() {
    let store = node().store("reading");
    let memory = MemoryStore::new();
    let table = counts("cursors");
    for store in [&store as &dyn RowWriter, &memory] {
        store.create_table(&table).unwrap();
        store.write(&table, &rows(&table, &[("rust", 1, Some(1), 1), ("rust", 2, Some(1), 1)])).unwrap();
    }
    let first = PartitionRead { limit: 1, ..super::whole("rust") };
    let cursor = memory.read(&table, &first).unwrap().next;
    let error = store.read(&table, &PartitionRead { cursor, ..first }).unwrap_err();
    assert!(matches!(&error, StoreError::Broken(text) if text.contains("cursor")), "{error}");
}

/// More rows than a page of the driver has, of one partition and of many, and as large as batches allow and larger.
#[test]
fn long_partitions_and_large_rows_are_whole() {
    let store = node().store("reading");
    let table = counts("long");
    store.create_table(&table).unwrap();
    let many: Vec<(&str, i64, Option<i64>, i64)> = (0..20_000).map(|slot| ("rust", slot, Some(slot * 2), 5)).collect();
    store.write(&table, &rows(&table, &many)).unwrap();
    assert_eq!(read(&store, &table, "rust"), (0..20_000).map(|slot| (slot, slot * 2)).collect::<Vec<_>>());

    let fields = vec![Field::new("id", DataType::Int64, false), Field::new("text", DataType::Utf8, true)];
    let shape = TableShape { columns: Arc::new(Schema::new(fields)), partition_key: vec![0], clustering: vec![] };
    let table = Table { view: "large".into(), version: Version(1), shape };
    store.create_table(&table).unwrap();
    let texts: Vec<String> = [10, 4_000, 60_000, 300_000, 5, 6_000].iter().map(|length| "é".repeat(*length)).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(0..6)), Arc::new(StringArray::from(texts.clone()))];
    let batch = RecordBatch::try_new(table.shape.columns.clone(), columns).unwrap();
    store.write(&table, &RowBatch { rows: batch.clone(), written_at: vec![1; 6], deleted: vec![false; 6] }).unwrap();
    for row in 0..6 {
        let one = PartitionRead { partition: vec![ScalarValue::from(row as i64)], from: None, to: None, limit: 1, cursor: None };
        assert_eq!(store.read(&table, &one).unwrap().rows, batch.slice(row, 1));
    }
}
