#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use tempfile::TempDir;

use super::*;
use crate::store::conformance::Harness;
use crate::store::{PartitionRead, RowBatch, RowReader, RowWriter, Store, TableSize};
use crate::table::{Order, TableShape, Version};

struct OnDisk {
    folder: TempDir,
    store: Option<EmbeddedStore>,
}

impl OnDisk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Some(open(folder.path()).unwrap());
        OnDisk { folder, store }
    }
}

fn open(folder: &Path) -> Result<EmbeddedStore, StoreError> {
    EmbeddedStore::open(
        folder,
        &EmbeddedStoreSettings { write_buffer_bytes: 1 << 20, cache_bytes: 1 << 20, ..EmbeddedStoreSettings::default() },
    )
}

impl Harness for OnDisk {
    fn store(&self) -> &dyn Store {
        self.store.as_ref().unwrap()
    }

    fn reopen(&mut self) -> bool {
        self.store = None;
        self.store = Some(open(self.folder.path()).unwrap());
        true
    }
}

crate::store_conformance!(OnDisk::new());

/// A table (hashtag; occurrences).
fn counts() -> Table {
    let columns = Schema::new(vec![Field::new("hashtag", DataType::Utf8, false), Field::new("occurrences", DataType::Int64, true)]);
    let shape = TableShape { columns: Arc::new(columns), partition_key: vec![0], clustering: vec![] };
    Table { view: "counts".into(), version: Version(1), shape }
}

fn write(store: &EmbeddedStore, occurrences: Option<i64>, written_at: i64) {
    let columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(vec!["rust"])), Arc::new(Int64Array::from(vec![occurrences]))];
    let rows = RecordBatch::try_new(counts().shape.columns, columns).unwrap();
    store.write(&counts(), &RowBatch { rows, written_at: vec![written_at], deleted: vec![occurrences.is_none()] }).unwrap();
}

fn read(store: &EmbeddedStore) -> Option<i64> {
    let batches = store.scan(&counts()).unwrap();
    batches.first().map(|rows| rows.column(1).as_any().downcast_ref::<Int64Array>().unwrap().value(0))
}

/// Moves everything from memory to files, and rewrites all files.
fn settle(store: &EmbeddedStore) {
    store.db.flush_cf(store.rows().unwrap()).unwrap();
    store.db.compact_range_cf(store.rows().unwrap(), None::<&[u8]>, None::<&[u8]>);
}

#[test]
fn a_directory_in_use_is_named_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let _held = open(folder.path()).unwrap();
    let error = open(folder.path()).err().unwrap();
    assert!(!error.is_retryable());
    let text = error.to_string();
    let start =
        format!("the view store in {} is in use by another process; stop that one, or use another directory", folder.path().display());
    assert!(text.starts_with(&start), "{text}");
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let folder = file.path().join("store");
    let error = open(&folder).err().unwrap().to_string();
    assert!(error.contains(&folder.display().to_string()), "{error}");
}

#[test]
fn a_directory_of_another_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    store.db.put_cf(store.meta().unwrap(), layout::FORMAT_KEY, layout::encode_number(layout::FORMAT + 1)).unwrap();
    drop(store);
    let error = open(folder.path()).err().unwrap();
    assert!(matches!(&error, StoreError::Broken(text) if text.contains("has format 2, this release has 1")), "{error}");
}

#[test]
fn writes_are_compared_with_rows_in_files_too() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    store.create_table(&counts()).unwrap();
    write(&store, Some(10), 5);
    settle(&store);
    write(&store, Some(9), 4);
    assert_eq!(read(&store), Some(10));
    write(&store, None, 6);
    settle(&store);
    write(&store, Some(11), 5);
    assert_eq!(read(&store), None);
    write(&store, Some(12), 7);
    assert_eq!(read(&store), Some(12));
}

#[test]
fn deletions_are_forgotten_when_they_are_old_enough_and_never_bring_a_row_back() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(crate::clock::ManualClock::at(1_000));
    let settings = EmbeddedStoreSettings { tombstone_age_ms: 500, clock: clock.clone(), ..EmbeddedStoreSettings::default() };
    let store = EmbeddedStore::open(folder.path(), &settings).unwrap();
    store.create_table(&counts()).unwrap();
    write(&store, Some(10), 5);
    settle(&store);
    write(&store, None, 6);
    clock.advance_ms(500);
    settle(&store);
    write(&store, Some(11), 5);
    assert_eq!(read(&store), None, "still remembered");
    clock.advance_ms(1);
    settle(&store);
    assert_eq!(read(&store), None, "the row below the deletion is gone as well");
    write(&store, Some(11), 5);
    assert_eq!(read(&store), Some(11), "forgotten");
}

#[test]
fn a_reader_sees_the_rows_of_one_write_all_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let mut table = counts();
    let slot = Field::new("slot", DataType::Int64, false);
    table.shape.columns =
        Arc::new(Schema::new([table.shape.columns.field(0).clone(), table.shape.columns.field(1).clone(), slot].to_vec()));
    table.shape.clustering = vec![(2, Order::Desc)];
    store.create_table(&table).unwrap();
    let (rounds, slots) = (300, 50);
    let write = |round: i64| {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec!["rust"; slots])),
            Arc::new(Int64Array::from(vec![round; slots])),
            Arc::new(Int64Array::from_iter_values(0..slots as i64)),
        ];
        let rows = RecordBatch::try_new(Arc::clone(&table.shape.columns), columns).unwrap();
        store.write(&table, &RowBatch { rows, written_at: vec![round; slots], deleted: vec![false; slots] }).unwrap();
    };
    write(0);
    std::thread::scope(|scope| {
        scope.spawn(|| (1..=rounds).for_each(&write));
        let mut last = 0;
        while last < rounds {
            let read = PartitionRead { partition: vec!["rust".into()], from: None, to: None, limit: 100, cursor: None };
            let rows = store.read(&table, &read).unwrap().rows;
            let values = rows.column(1).as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec();
            assert_eq!(values, vec![values[0]; slots]);
            assert!(values[0] >= last, "no reader sees a row go backwards");
            last = values[0];
        }
    });
}

#[test]
fn errors_of_the_file_system_are_waited_for_and_damage_is_not() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("CURRENT")).unwrap();
    let error = open(folder.path()).err().unwrap();
    assert!(error.is_retryable(), "{error}");

    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).unwrap());
    std::fs::write(folder.path().join("CURRENT"), "nonsense\n").unwrap();
    let error = open(folder.path()).err().unwrap();
    assert!(!error.is_retryable(), "{error}");
}

#[test]
fn entries_beside_the_rows_read_back_as_they_were_written() {
    use super::layout::*;
    let table = StoredTable { id: 7, shape: ShapeDescription::of(&counts().shape) };
    let text = String::from_utf8(encode_json("t", &table).unwrap()).unwrap();
    let format_1 = r#"{"id":7,"shape":{"columns":[{"name":"hashtag","type":"Utf8"},{"name":"occurrences","type":"Int64"}],"partition_key":["hashtag"],"clustering":[]}}"#;
    assert_eq!(text, format_1);
    assert_eq!(decode_json::<StoredTable>("t", format_1.as_bytes()).unwrap(), table);
    let told = Told { epoch: crate::table::Epoch(3), progress: crate::store::Progress { read: 9, ..Default::default() } };
    assert_eq!(decode_json::<Told>("p", &encode_json("p", &told).unwrap()).unwrap(), told);
    let register = crate::store::Register { value: "é".into(), revision: 258 };
    assert_eq!(encode_register(&register), [0, 0, 0, 0, 0, 0, 1, 2, 0xC3, 0xA9]);
    assert_eq!(decode_register("r", &encode_register(&register)).unwrap(), register);
    assert!(decode_register("r", &[0; 7]).is_err());
    assert_eq!(journal_number(&journal_key(u64::MAX - 1)), Some(u64::MAX - 1));
    assert_eq!((table_key("a"), progress_key("a"), register_key("a")), (b"ta".to_vec(), b"pa".to_vec(), b"ra".to_vec()));
    assert_eq!(rows_prefix(258), [0, 0, 1, 2]);
    assert_eq!(decode_number("n", &encode_number(7)).unwrap(), 7);
}

#[test]
fn the_size_of_a_table_is_known_without_reading_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    store.create_table(&counts()).unwrap();
    assert_eq!(store.size(&counts()).unwrap(), Some(TableSize::default()));
    write(&store, Some(1), 1);
    assert_eq!(store.size(&counts()).unwrap().unwrap().rows, 1, "of a small one the rows are counted");
    let names: Vec<String> = (0..100_000).map(|number| format!("tag {number:06}")).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(names)), Arc::new(Int64Array::from_iter_values(0..100_000))];
    let rows = RecordBatch::try_new(counts().shape.columns, columns).unwrap();
    store.write(&counts(), &RowBatch { rows, written_at: vec![1; 100_000], deleted: vec![false; 100_000] }).unwrap();
    settle(&store);
    let size = store.size(&counts()).unwrap().unwrap();
    assert!((50_000..200_000).contains(&size.rows) && size.bytes > 100_000, "{size:?}");
}
