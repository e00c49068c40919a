#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use refold_processor::position::{Cut, Offset, Partition};
use refold_processor::store::memory::MemoryStore;
use refold_processor::store::{Keys, KeysRead, Page, PartitionRead, RowBatch, RowWriter};
use refold_processor::table::{Epoch, Order, TableShape, Version};
use serde_json::json;

use super::*;

const MINUTE_US: i64 = 60_000_000;

/// `tag, slot` → `posts, share`.
fn shape() -> TableShape {
    let slot = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let fields = vec![
        Field::new("tag", DataType::Utf8, false),
        Field::new("slot", slot, false),
        Field::new("posts", DataType::Int64, true),
        Field::new("share", DataType::Float64, true),
    ];
    TableShape { columns: Arc::new(Schema::new(fields)), partition_key: vec![0], clustering: vec![(1, Order::Desc)] }
}

fn side(version: u32, shape: TableShape) -> Compared {
    let window = WindowSpec { column: 1, size_us: MINUTE_US, slide_us: MINUTE_US, pane_us: MINUTE_US };
    Compared {
        table: Table { view: "tags".into(), version: Version(version), shape },
        window: Some(window),
        accept_late_us: Some(MINUTE_US),
    }
}

type Post<'a> = (&'a str, i64, i64, f64);

fn write(store: &MemoryStore, side: &Compared, posts: &[Post<'_>], written_at: i64) {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(posts.iter().map(|post| post.0))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(posts.iter().map(|post| post.1 * MINUTE_US)).with_timezone("UTC")),
        Arc::new(Int64Array::from_iter_values(posts.iter().map(|post| post.2))),
        Arc::new(Float64Array::from_iter_values(posts.iter().map(|post| post.3))),
    ];
    let width = side.table.shape.columns.fields().len();
    let rows = RecordBatch::try_new(side.table.shape.columns.clone(), columns[..width].to_vec()).unwrap();
    let batch = RowBatch { written_at: vec![written_at; posts.len()], deleted: vec![false; posts.len()], rows };
    store.write(&side.table, &batch).unwrap();
}

fn progress(position: u64, watermark_minute: i64) -> Progress {
    let cut: Cut = [(Partition(0), Offset(position))].into_iter().collect();
    Progress { visible: cut.clone(), writing: cut, watermark_us: Some(watermark_minute * MINUTE_US), ..Progress::default() }
}

/// Two versions of the same rows, up to a watermark.
fn versions(posts: &[Post<'_>], watermark_minute: i64) -> (MemoryStore, Compared, Compared) {
    let store = MemoryStore::default();
    let (left, right) = (side(1, shape()), side(2, shape()));
    for side in [&left, &right] {
        store.create_table(&side.table).unwrap();
        store.fence(&side.table, Epoch(1)).unwrap();
        write(&store, side, posts, 1);
        store.tell(&side.table, Epoch(1), &progress(100, watermark_minute)).unwrap();
    }
    (store, left, right)
}

fn settings() -> DiffSettings {
    DiffSettings { settle_for: Duration::from_secs(3), ..DiffSettings::default() }
}

fn diff(rows: &dyn RowReader, left: &Compared, right: &Compared, settings: &DiffSettings) -> Report {
    compare(rows, [left, right], settings, &mut |_| true).unwrap()
}

fn counts(report: &Report) -> [u64; 5] {
    [report.equal, report.changed, report.missing, report.extra, report.moving]
}

#[test]
fn planted_differences_are_found_and_no_others_whatever_fits_into_memory() {
    let posts: Vec<(String, i64)> = (0..500).map(|number| (format!("tag {}", number % 50), number / 50)).collect();
    let posts: Vec<Post<'_>> = posts.iter().enumerate().map(|(number, (tag, slot))| (tag.as_str(), *slot, number as i64, 0.5)).collect();
    let (store, left, right) = versions(&posts, 1_000);
    write(&store, &right, &[("tag 7", 3, -1, 0.5), ("tag 8", 4, 409, 0.5)], 2);
    write(&store, &left, &[("only left", 1, 1, 1.0), ("only left", 2, 1, 1.0)], 2);
    write(&store, &right, &[("only right", 9, 1, 1.0)], 2);
    for part_bytes in [usize::MAX, 20_000, 1_000] {
        let report = diff(&store, &left, &right, &DiffSettings { part_bytes, ..settings() });
        assert_eq!(counts(&report), [498, 2, 2, 1, 0], "{part_bytes}");
        assert!(!report.is_equal());
        let worst = &report.examples[0];
        assert_eq!(
            (worst.kind, &worst.key),
            (Kind::Changed, json!({ "slot": "1970-01-01T00:03:00Z", "tag": "tag 7" }).as_object().unwrap())
        );
        assert_eq!((&worst.left.as_ref().unwrap()["posts"], &worst.right.as_ref().unwrap()["posts"]), (&json!(157), &json!(-1)));
        let windows: Vec<(&str, u64)> = report.windows.iter().map(|window| (window.window.as_str(), window.all())).collect();
        assert_eq!(windows.len(), 5, "{windows:?}");
    }
}

#[test]
fn numbers_within_the_tolerance_are_equal_and_counted() {
    let (store, left, right) = versions(&[("a", 1, 1_000, 0.5), ("b", 1, 1_000, 0.5)], 1_000);
    write(&store, &right, &[("a", 1, 1_005, 0.5), ("b", 1, 1_020, 0.5)], 2);
    let report = diff(&store, &left, &right, &DiffSettings { tolerance: 0.01, ..settings() });
    assert_eq!((counts(&report), report.within_tolerance), ([1, 1, 0, 0, 0], 1));
    assert!((report.examples[0].by - 20.0 / 1_020.0).abs() < 1e-9);
}

#[test]
fn columns_of_one_version_alone_are_named_and_other_keys_refused() {
    let (store, left, _) = versions(&[("a", 1, 1, 0.5)], 1_000);
    let narrow = TableShape { columns: Arc::new(shape().columns.project(&[0, 1, 2]).unwrap()), ..shape() };
    let right = side(3, narrow.clone());
    store.create_table(&right.table).unwrap();
    write(&store, &right, &[("a", 1, 1, 0.0)], 1);
    let report = diff(&store, &left, &right, &settings());
    assert_eq!(counts(&report), [1, 0, 0, 0, 0]);
    assert_eq!((report.columns.left_only, report.columns.right_only.len()), (vec!["share".to_owned()], 0));
    let other = side(4, TableShape { clustering: vec![(1, Order::Desc), (2, Order::Asc)], ..narrow });
    store.create_table(&other.table).unwrap();
    let error = compare(&store, [&left, &other], &settings(), &mut |_| true).unwrap_err().to_string();
    assert!(error.contains("tags__v4") && error.contains("posts Int64"), "{error}");
}

#[test]
fn who_asked_and_is_gone_ends_it() {
    let (store, left, right) = versions(&[("a", 1, 1, 0.5)], 1_000);
    assert!(matches!(compare(&store, [&left, &right], &settings(), &mut |_| false), Err(DiffError::Stopped)));
}

/// Readers of a store to which something happens with each look at how far a version is.
struct Moving<F> {
    store: MemoryStore,
    looks: AtomicI64,
    happens: F,
}

impl<F: Fn(&MemoryStore, i64) + Send + Sync> RowReader for Moving<F> {
    fn read(&self, table: &Table, read: &PartitionRead) -> Result<Page, StoreError> {
        self.store.read(table, read)
    }

    fn scan_each(&self, table: &Table, each: &mut dyn FnMut(RecordBatch) -> Result<(), StoreError>) -> Result<(), StoreError> {
        self.store.scan_each(table, each)
    }

    fn keys(&self, table: &Table, read: &KeysRead) -> Result<Keys, StoreError> {
        self.store.keys(table, read)
    }

    fn progress(&self, table: &Table) -> Result<Option<Progress>, StoreError> {
        (self.happens)(&self.store, self.looks.fetch_add(1, Ordering::Relaxed));
        self.store.progress(table)
    }
}

#[test]
fn a_row_that_is_on_its_way_is_equal_once_it_arrives() {
    let (store, left, right) = versions(&[("a", 1, 1, 0.5)], 0);
    write(&store, &left, &[("a", 1, 2, 0.5), ("b", 2, 1, 0.5)], 2);
    let late = right.clone();
    let happens = move |store: &MemoryStore, look: i64| {
        if look == 6 {
            write(store, &late, &[("a", 1, 2, 0.5), ("b", 2, 1, 0.5)], 2);
        }
    };
    // The right version is behind by what it does not have.
    store.tell(&left.table, Epoch(1), &progress(110, 0)).unwrap();
    let rows = Moving { store, looks: AtomicI64::new(0), happens };
    assert_eq!(counts(&diff(&rows, &left, &right, &settings())), [2, 0, 0, 0, 0]);
}

#[test]
fn open_rows_differ_once_both_versions_went_past_each_other_with_them_as_they_are() {
    let (store, left, right) = versions(&[("a", 1, 1, 0.5), ("b", 1, 1, 0.5)], 0);
    write(&store, &right, &[("a", 1, 2, 0.5)], 2);
    assert_eq!(counts(&diff(&store, &left, &right, &settings())), [1, 1, 0, 0, 0], "nothing comes, and both are at the same cut");
    store.tell(&left.table, Epoch(1), &progress(150, 0)).unwrap();
    let short = DiffSettings { settle_for: Duration::from_millis(700), ..settings() };
    assert_eq!(counts(&diff(&store, &left, &right, &short)), [1, 0, 0, 0, 1], "the right version may still get what the left one has");
}

#[test]
fn a_row_that_changes_all_the_time_is_moving() {
    let (store, left, right) = versions(&[("a", 1, 1, 0.5), ("b", 1, 1, 0.5)], 0);
    write(&store, &right, &[("a", 1, -1, 0.5)], 2);
    let (of_left, of_right) = (left.clone(), right.clone());
    let happens = move |store: &MemoryStore, look: i64| {
        write(store, &of_left, &[("a", 1, look, 0.5)], 10 + look);
        write(store, &of_right, &[("a", 1, -look - 2, 0.5)], 10 + look);
    };
    let rows = Moving { store, looks: AtomicI64::new(0), happens };
    let short = DiffSettings { settle_for: Duration::from_millis(900), ..settings() };
    let report = diff(&rows, &left, &right, &short);
    assert_eq!(counts(&report), [1, 0, 0, 0, 1]);
    assert!(!report.is_equal(), "nothing is known of it");
}

#[test]
fn a_column_that_is_ignored_differs_nowhere() {
    let (store, left, right) = versions(&[("rust", 0, 5, 0.5), ("go", 0, 2, 0.2)], 9);
    write(&store, &right, &[("rust", 0, 5, 0.9)], 2);
    assert_eq!(diff(&store, &left, &right, &settings()).changed, 1);
    let ignoring = DiffSettings { ignore: vec!["share".into()], ..settings() };
    let report = diff(&store, &left, &right, &ignoring);
    assert_eq!((report.equal, report.changed, report.columns.ignored), (2, 0, vec!["share".to_owned()]));
    write(&store, &right, &[("rust", 0, 6, 0.9)], 3);
    assert_eq!(diff(&store, &left, &right, &ignoring).changed, 1, "the others are compared");
}
