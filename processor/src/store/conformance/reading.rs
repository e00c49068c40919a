//! Reads of a partition: order, bounds, pages.

use bytes::Bytes;

use super::*;
use crate::store::{KeysRead, Page, StoreError};

fn filled(store: &dyn Store, view: &str, order: Order) -> Table {
    let table = created(store, counts_table(view, order));
    let counts: Vec<Count> = [-30, -1, 0, 1, 2, 255, 256, 70_000].into_iter().map(|slot| upsert("rust", slot, slot * 2, 1)).collect();
    write(store, &table, &counts);
    write(store, &table, &[delete("rust", 2, 2), upsert("rus", 1, 7, 1), upsert("rusty", 1, 7, 1)]);
    table
}

fn slots(page: &Page) -> Vec<i64> {
    counts_of(&page.rows).into_iter().map(|(_, slot, _)| slot).collect()
}

/// As declared, ascending or descending; deleted rows are not there.
pub fn rows_come_in_clustering_order(harness: &mut dyn Harness) {
    let store = harness.store();
    let rising = filled(store, "reading_rising", Order::Asc);
    assert_eq!(slots(&store.read(&rising, &whole("rust")).unwrap()), [-30, -1, 0, 1, 255, 256, 70_000]);
    let falling = filled(store, "reading_falling", Order::Desc);
    assert_eq!(slots(&store.read(&falling, &whole("rust")).unwrap()), [70_000, 256, 255, 1, 0, -1, -30]);
    assert!(slots(&store.read(&falling, &whole("nobody")).unwrap()).is_empty());
}

/// Bounds are values, so they mean the same in both directions.
pub fn from_is_included_and_to_excluded_in_both_directions(harness: &mut dyn Harness) {
    let store = harness.store();
    for (view, order) in [("reading_bounds_rising", Order::Asc), ("reading_bounds_falling", Order::Desc)] {
        let table = filled(store, view, order);
        let cases: [(Option<i64>, Option<i64>, &[i64]); 8] = [
            (Some(0), Some(256), &[0, 1, 255]),
            (Some(0), None, &[0, 1, 255, 256, 70_000]),
            (None, Some(0), &[-30, -1]),
            (Some(2), Some(3), &[]),
            (Some(-29), Some(1), &[-1, 0]),
            (Some(1), Some(1), &[]),
            (Some(256), Some(0), &[]),
            (Some(i64::MIN), Some(i64::MAX), &[-30, -1, 0, 1, 255, 256, 70_000]),
        ];
        for (from, to, expected) in cases {
            let bounded = PartitionRead { from: from.map(Into::into), to: to.map(Into::into), ..whole("rust") };
            let mut expected = expected.to_vec();
            if order == Order::Desc {
                expected.reverse();
            }
            assert_eq!(slots(&store.read(&table, &bounded).unwrap()), expected, "{order:?} from {from:?} to {to:?}");
        }
    }
}

/// Whatever the limit, and a last page is known to be the last.
pub fn pages_put_together_are_the_whole_read(harness: &mut dyn Harness) {
    let store = harness.store();
    for (view, order) in [("reading_pages_rising", Order::Asc), ("reading_pages_falling", Order::Desc)] {
        let table = filled(store, view, order);
        for bounds in [(None, None), (Some(0_i64), Some(70_000_i64))] {
            let all = PartitionRead { from: bounds.0.map(Into::<ScalarValue>::into), to: bounds.1.map(Into::into), ..whole("rust") };
            let expected = slots(&store.read(&table, &all).unwrap());
            for limit in 1..=expected.len() + 1 {
                let mut seen = Vec::new();
                let mut cursor = None;
                loop {
                    let page = store.read(&table, &PartitionRead { limit, cursor, ..all.clone() }).unwrap();
                    assert!(page.rows.num_rows() <= limit);
                    seen.extend(slots(&page));
                    cursor = page.next;
                    if cursor.is_none() {
                        break;
                    }
                    assert_eq!(page.rows.num_rows(), limit, "a page with a next one is full");
                    assert!(seen.len() < expected.len(), "a next page has rows");
                }
                assert_eq!(seen, expected, "pages of {limit}");
            }
        }
    }
}

/// A reader in the middle of a partition sees every row that was there all the time, once.
pub fn paging_goes_on_while_rows_are_written(harness: &mut dyn Harness) {
    let store = harness.store();
    let table = created(store, counts_table("reading_while_writing", Order::Asc));
    let there: Vec<Count> = (0..20).map(|slot| upsert("rust", slot * 10, slot, 1)).collect();
    write(store, &table, &there);
    let mut seen = Vec::new();
    let mut cursor = None;
    for round in 0.. {
        let page = store.read(&table, &PartitionRead { limit: 3, cursor, ..whole("rust") }).unwrap();
        seen.extend(slots(&page));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
        let last = *seen.last().unwrap();
        // Behind the reader, before it, and the very row it stands on.
        write(
            store,
            &table,
            &[upsert("rust", last - 5, 0, 2 + round), upsert("rust", last + 5, 0, 2 + round), delete("rust", last, 100 + round)],
        );
    }
    let steady: Vec<i64> = seen.iter().copied().filter(|slot| slot % 10 == 0).collect();
    assert_eq!(steady, (0..20).map(|slot| slot * 10).collect::<Vec<i64>>());
    assert!(seen.is_sorted_by(|left, right| left < right), "no row twice: {seen:?}");
    assert!(seen.iter().any(|slot| slot % 10 != 0), "rows written before the reader are seen");
}

/// A reader may be switched to another version between two pages.
pub fn a_cursor_holds_in_another_version_and_nowhere_else(harness: &mut dyn Harness) {
    let store = harness.store();
    let table = filled(store, "reading_cursor", Order::Asc);
    let next_version = created(store, Table { version: Version(2), ..table.clone() });
    write(store, &next_version, &[upsert("rust", 0, 1, 1), upsert("rust", 5, 1, 1)]);
    let first = store.read(&table, &PartitionRead { limit: 3, ..whole("rust") }).unwrap();
    assert_eq!(slots(&first), [-30, -1, 0]);
    let after = PartitionRead { cursor: first.next.clone(), ..whole("rust") };
    assert_eq!(slots(&store.read(&next_version, &after).unwrap()), [5]);

    let cursor = first.next.unwrap();
    let mut changed = cursor.to_vec();
    *changed.last_mut().unwrap() ^= 1;
    let strangers = [Bytes::new(), Bytes::from_static(b"not a cursor at all"), changed.into(), cursor.slice(..cursor.len() - 1)];
    for stranger in strangers {
        let read = PartitionRead { cursor: Some(stranger), ..whole("rust") };
        let error = store.read(&table, &read).unwrap_err();
        assert!(matches!(&error, StoreError::Broken(text) if text.contains("cursor")), "{error}");
    }
    let elsewhere = PartitionRead { cursor: Some(cursor.clone()), ..whole("rusty") };
    assert!(store.read(&table, &elsewhere).is_err(), "a cursor of another partition is refused");
    let other_view = filled(store, "reading_cursor_other", Order::Asc);
    assert!(store.read(&other_view, &PartitionRead { cursor: Some(cursor), ..whole("rust") }).is_err());
}

/// Keys that begin alike, that hold zero bytes, and composite keys whose parts could be confused.
pub fn a_partition_is_not_its_namesakes(harness: &mut dyn Harness) {
    let store = harness.store();
    let table = created(store, counts_table("reading_namesakes", Order::Asc));
    let names =
        ["", "\0", "\0\0", "a", "a\0", "a\0b", "ab", "é", "e", "#😀", "long enough to need more than one block of thirty-two bytes"];
    for (slot, name) in names.iter().enumerate() {
        write(store, &table, &[upsert(name, slot as i64, 1, 1)]);
    }
    for (slot, name) in names.iter().enumerate() {
        assert_eq!(read(store, &table, &whole(name)), [(slot as i64, 1)], "{name:?}");
    }

    let columns = Schema::new(vec![
        Field::new("count", DataType::Int64, true),
        Field::new("country", DataType::Utf8, false),
        Field::new("rank", DataType::Int64, false),
        Field::new("city", DataType::Utf8, false),
    ]);
    let shape = TableShape { columns: Arc::new(columns), partition_key: vec![3, 1], clustering: vec![(2, Order::Desc)] };
    let table = created(store, Table { view: "reading_composite".into(), version: Version(1), shape });
    let rows: [(&str, &str, i64, i64); 4] = [("a", "bc", 1, 10), ("ab", "c", 1, 20), ("ab", "c", 2, 30), ("", "abc", 1, 40)];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.3))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.2))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.0))),
    ];
    let batch = RecordBatch::try_new(Arc::clone(&table.shape.columns), columns).unwrap();
    store.write(&table, &RowBatch { rows: batch, written_at: vec![1; 4], deleted: vec![false; 4] }).unwrap();
    let counts = |city: &str, country: &str| {
        let read = PartitionRead { partition: vec![city.into(), country.into()], from: None, to: None, limit: 9, cursor: None };
        let rows = store.read(&table, &read).unwrap().rows;
        rows.column(0).as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec()
    };
    assert_eq!(counts("ab", "c"), [30, 20]);
    assert_eq!(counts("a", "bc"), [10]);
    assert_eq!(counts("", "abc"), [40]);
    assert_eq!(counts("abc", ""), [0_i64; 0]);
}

/// Each row once, deleted ones and those of other tables not.
pub fn scan_sees_all_live_rows_of_its_table_alone(harness: &mut dyn Harness) {
    let store = harness.store();
    let table = created(store, counts_table("reading_scan", Order::Desc));
    let other = created(store, Table { version: Version(2), ..table.clone() });
    assert_eq!(scan(store, &table), []);
    let many: Vec<Count> = (0..10_000).map(|slot| upsert(["rust", "zig"][slot as usize % 2], slot, slot, 1)).collect();
    write(store, &table, &many);
    write(store, &table, &[delete("rust", 0, 2), delete("zig", 1, 2)]);
    write(store, &other, &[upsert("rust", 0, 0, 1)]);
    let rows = scan(store, &table);
    assert_eq!(rows.len(), 9_998);
    assert!(rows.windows(2).all(|pair| pair[0] != pair[1]));
    assert_eq!(scan(store, &other).len(), 1);
}

/// Each with a message that names what is wrong.
pub fn reads_that_make_no_sense_are_refused(harness: &mut dyn Harness) {
    let store = harness.store();
    let table = filled(store, "reading_refused", Order::Asc);
    let cases = [
        (PartitionRead { partition: vec![], ..whole("rust") }, "partition key"),
        (PartitionRead { partition: vec![ScalarValue::from(1_i64)], ..whole("rust") }, "hashtag"),
        (PartitionRead { partition: vec![ScalarValue::Utf8(None)], ..whole("rust") }, "hashtag"),
        (PartitionRead { from: Some("0".into()), ..whole("rust") }, "slot"),
        (PartitionRead { to: Some(ScalarValue::Int64(None)), ..whole("rust") }, "slot"),
        (PartitionRead { limit: 0, ..whole("rust") }, "limit"),
    ];
    for (read, named) in cases {
        let error = store.read(&table, &read).unwrap_err();
        assert!(matches!(&error, StoreError::Broken(text) if text.contains(named)), "{error}");
    }
}

fn names(keys: &crate::store::Keys) -> Vec<String> {
    crate::json::rows(&keys.keys).iter().map(|key| key["hashtag"].as_str().unwrap().to_owned()).collect()
}

/// In the order of keys, each once, none of deleted rows alone, and it is told whether there are more.
pub fn partitions_are_listed_by_how_they_begin(harness: &mut dyn Harness) {
    let store = harness.store();
    let table = created(store, counts_table("reading_keys", Order::Desc));
    let other = created(store, Table { version: Version(2), ..table.clone() });
    let list = |prefix: &str, limit: usize| {
        let keys = store.keys(&table, &KeysRead { prefix: prefix.into(), limit }).unwrap();
        (names(&keys), keys.complete)
    };
    let all = |names: &[&str]| (names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(), true);
    assert_eq!(list("", 10), all(&[]));
    let long = "rust in words that need more than one block of thirty-two bytes";
    for name in ["zig", "rust", "rusty", "rus", "Rust", "éclair", "ru\0", long] {
        write(store, &table, &[upsert(name, 1, 1, 1), upsert(name, 2, 1, 1)]);
    }
    write(store, &table, &[upsert("ruby", 1, 1, 1), delete("ruby", 1, 2)]);
    write(store, &other, &[upsert("rune", 1, 1, 1)]);
    assert_eq!(list("ru", 10), all(&["ru\0", "rus", "rust", long, "rusty"]));
    assert_eq!(list("rust", 10), all(&["rust", long, "rusty"]));
    assert_eq!(list("rust in words that need more than one block of", 10), all(&[long]));
    assert_eq!(list("R", 10), all(&["Rust"]), "capitals are letters of their own");
    assert_eq!(list("é", 10), all(&["éclair"]));
    assert_eq!(list("x", 10), all(&[]));
    assert_eq!(list("", 20).0.len(), 8);
    let (first, complete) = list("ru", 2);
    assert_eq!((first, complete), (vec!["ru\0".to_owned(), "rus".to_owned()], false), "there are more");
    assert!(list("ru", 5).1, "there are no more");
}

/// A number or a time begins as JSON shows it.
pub fn partitions_of_times_are_listed_by_their_text_and_the_last_one_is_known(harness: &mut dyn Harness) {
    let store = harness.store();
    let columns = Schema::new(vec![Field::new("slot", DataType::Int64, false), Field::new("rank", DataType::Int64, false)]);
    let shape = TableShape { columns: Arc::new(columns), partition_key: vec![0], clustering: vec![(1, Order::Asc)] };
    let table = created(store, Table { view: "reading_numbers".into(), version: Version(1), shape });
    assert_eq!(store.last_partition(&table).unwrap(), None);
    let slots = [-7_i64, 30, 3, 31, 400, 300];
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(slots.to_vec())), Arc::new(Int64Array::from(vec![1; slots.len()]))];
    let rows = RecordBatch::try_new(Arc::clone(&table.shape.columns), columns).unwrap();
    store.write(&table, &RowBatch { rows, written_at: vec![1; slots.len()], deleted: vec![false; slots.len()] }).unwrap();
    let listed = |prefix: &str| {
        let keys = store.keys(&table, &KeysRead { prefix: prefix.into(), limit: 10 }).unwrap();
        assert!(keys.complete);
        keys.keys.column(0).as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec()
    };
    assert_eq!(listed("3"), [3, 30, 31, 300]);
    assert_eq!(listed("-"), [-7]);
    assert_eq!(listed(""), [-7, 3, 30, 31, 300, 400]);
    // A store that keeps no order does not know.
    let last = store.last_partition(&table).unwrap();
    assert!(last.as_deref().is_none_or(|last| last == [ScalarValue::from(400_i64)]), "{last:?}");
}
