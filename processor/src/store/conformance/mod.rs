//! What every view store must do, as one suite that every adapter runs.
//!
//! An adapter writes a [`Harness`] and calls [`store_conformance!`](crate::store_conformance) in its test module. Every check has tables of its own, so that all
//! may run against one store.

// Checks fail by panicking, as tests do; they are compiled outside of this crate's tests for adapters that live elsewhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

pub mod merging;
pub mod reading;
pub mod registers;
pub mod tables;
pub mod types;

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::scalar::ScalarValue;

use super::{PartitionRead, RowBatch, Store};
use crate::table::{Order, Table, TableShape, Version};

/// A store under test.
pub trait Harness {
    /// The store.
    fn store(&self) -> &dyn Store;

    /// Ends the store without any ceremony and opens it again, as after a crash. `false`: it does not outlive its handle, so there is
    /// nothing to prove.
    fn reopen(&mut self) -> bool;
}

/// Makes one test of each check; `$harness` is an expression that makes a [`Harness`] of an empty store.
#[macro_export]
macro_rules! store_conformance {
    ($harness:expr) => {
        $crate::store_conformance!(@each $harness;
            merging: [
                every_order_of_writing_a_row_ends_with_the_same_row,
                at_equal_timestamps_a_delete_wins,
                the_same_write_again_changes_nothing,
                a_delete_is_remembered_against_older_upserts,
                of_one_row_twice_in_a_batch_the_greater_timestamp_wins,
                writers_at_once_end_with_the_greatest_timestamps,
            ],
            reading: [
                rows_come_in_clustering_order,
                from_is_included_and_to_excluded_in_both_directions,
                pages_put_together_are_the_whole_read,
                paging_goes_on_while_rows_are_written,
                a_cursor_holds_in_another_version_and_nowhere_else,
                a_partition_is_not_its_namesakes,
                scan_sees_all_live_rows_of_its_table_alone,
                reads_that_make_no_sense_are_refused,
                partitions_are_listed_by_how_they_begin,
                partitions_of_times_are_listed_by_their_text_and_the_last_one_is_known,
            ],
            types: [
                every_type_comes_back_as_it_was,
                every_key_type_orders_its_rows,
                key_columns_alone_make_a_table,
                null_in_a_key_is_refused_by_name,
                rows_of_other_columns_are_refused,
            ],
            tables: [
                create_is_idempotent_and_refuses_another_shape,
                a_dropped_table_is_gone_and_comes_back_empty,
                unknown_tables_are_said_to_be_unknown,
                the_greatest_telling_of_progress_stays,
                a_fence_shuts_out_lesser_epochs,
                reclaim_removes_expired_rows_alone,
                what_was_synced_is_there_after_reopening,
            ],
            registers: [
                a_register_is_set_by_its_revision_alone,
                a_removed_register_can_be_created_again,
                isolated_registers_are_read_together_and_never_listed,
                of_many_at_once_exactly_one_wins_each_revision,
                list_finds_a_prefix_in_order_of_keys,
                the_journal_keeps_its_order,
                registers_and_journal_are_there_after_reopening,
            ],
        );
    };
    (@each $harness:expr; $($module:ident: [$($check:ident,)*],)*) => {
        $(mod $module {
            #[allow(unused_imports)]
            use super::*;
            $(#[test]
            fn $check() {
                $crate::store::conformance::$module::$check(&mut $harness);
            })*
        })*
    };
}

/// A table (hashtag, slot; occurrences, note), the slots of a hashtag in the given order.
fn counts_table(view: &str, order: Order) -> Table {
    let columns = Schema::new(vec![
        Field::new("hashtag", DataType::Utf8, false),
        Field::new("slot", DataType::Int64, false),
        Field::new("occurrences", DataType::Int64, true),
        Field::new("note", DataType::Utf8, true),
    ]);
    let shape = TableShape { columns: Arc::new(columns), partition_key: vec![0], clustering: vec![(1, order)] };
    Table { view: view.into(), version: Version(1), shape }
}

/// One write of a row of [`counts_table`].
#[derive(Clone, Copy, Debug)]
struct Count {
    hashtag: &'static str,
    slot: i64,
    /// `None`: the row is deleted.
    occurrences: Option<i64>,
    written_at: i64,
}

fn upsert(hashtag: &'static str, slot: i64, occurrences: i64, written_at: i64) -> Count {
    Count { hashtag, slot, occurrences: Some(occurrences), written_at }
}

fn delete(hashtag: &'static str, slot: i64, written_at: i64) -> Count {
    Count { hashtag, slot, occurrences: None, written_at }
}

fn counts_batch(table: &Table, counts: &[Count]) -> RowBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(counts.iter().map(|count| count.hashtag))),
        Arc::new(Int64Array::from_iter_values(counts.iter().map(|count| count.slot))),
        Arc::new(Int64Array::from_iter(counts.iter().map(|count| count.occurrences))),
        Arc::new(StringArray::from_iter(counts.iter().map(|count| count.occurrences.map(|number| format!("n{number}"))))),
    ];
    RowBatch {
        rows: RecordBatch::try_new(Arc::clone(&table.shape.columns), columns).unwrap(),
        written_at: counts.iter().map(|count| count.written_at).collect(),
        deleted: counts.iter().map(|count| count.occurrences.is_none()).collect(),
    }
}

fn write(store: &dyn Store, table: &Table, counts: &[Count]) {
    store.write(table, &counts_batch(table, counts)).unwrap();
}

fn created(store: &dyn Store, table: Table) -> Table {
    store.create_table(&table).unwrap();
    table
}

fn whole(hashtag: &str) -> PartitionRead {
    PartitionRead { partition: vec![ScalarValue::from(hashtag)], from: None, to: None, limit: 1000, cursor: None }
}

/// Rows of [`counts_table`] as (hashtag, slot, occurrences).
fn counts_of(rows: &RecordBatch) -> Vec<(String, i64, i64)> {
    let texts = |column: usize| rows.column(column).as_any().downcast_ref::<StringArray>().unwrap();
    let numbers = |column: usize| rows.column(column).as_any().downcast_ref::<Int64Array>().unwrap();
    let count = |row: usize| {
        let occurrences = numbers(2).value(row);
        assert_eq!(texts(3).value(row), format!("n{occurrences}"), "a row is wholly of one write");
        (texts(0).value(row).to_owned(), numbers(1).value(row), occurrences)
    };
    (0..rows.num_rows()).map(count).collect()
}

/// The rows of a partition as (slot, occurrences).
fn read(store: &dyn Store, table: &Table, read: &PartitionRead) -> Vec<(i64, i64)> {
    let page = store.read(table, read).unwrap();
    assert!(page.next.is_none(), "no more rows than the limit are expected");
    counts_of(&page.rows).into_iter().map(|(_, slot, occurrences)| (slot, occurrences)).collect()
}

/// All rows of a table, sorted.
fn scan(store: &dyn Store, table: &Table) -> Vec<(String, i64, i64)> {
    let batches = store.scan(table).unwrap();
    let mut rows = counts_of(&concat_batches(&table.shape.columns, &batches).unwrap());
    rows.sort();
    rows
}
