//! Tables as a whole: creating and dropping them, their progress, what expires, what survives.

use datafusion::arrow::array::TimestampMillisecondArray;
use datafusion::arrow::datatypes::TimeUnit;

use super::*;
use crate::position::{Offset, Partition};
use crate::store::{Progress, StoreError};
use crate::table::Epoch;

/// Creating again is how an interrupted start goes on; a version whose output changed must not write into it.
pub fn create_is_idempotent_and_refuses_another_shape(harness: &mut dyn Harness) {
    let store = harness.store();
    let table = created(store, counts_table("tables_create", Order::Asc));
    write(store, &table, &[upsert("rust", 1, 1, 1)]);
    store.create_table(&table).unwrap();
    assert_eq!(scan(store, &table).len(), 1, "rows are kept");

    let reshaped = |change: &dyn Fn(&mut TableShape)| {
        let mut other = table.clone();
        change(&mut other.shape);
        other
    };
    let renamed = Schema::new(
        table.shape.columns.fields().iter().map(|field| field.as_ref().clone().with_name(format!("{}_", field.name()))).collect::<Vec<_>>(),
    );
    let retyped = Schema::new(
        table
            .shape
            .columns
            .fields()
            .iter()
            .map(|field| field.as_ref().clone())
            .map(|field| if field.name() == "note" { field.with_data_type(DataType::Binary) } else { field })
            .collect::<Vec<_>>(),
    );
    let shorter = table.shape.columns.project(&[0, 1, 2]).unwrap();
    let cases = [
        (reshaped(&|shape| shape.columns = Arc::new(renamed.clone())), "hashtag_"),
        (reshaped(&|shape| shape.columns = Arc::new(retyped.clone())), "note"),
        (reshaped(&|shape| shape.columns = Arc::new(shorter.clone())), "3"),
        (reshaped(&|shape| shape.clustering = vec![(1, Order::Desc)]), "slot"),
        (reshaped(&|shape| (shape.partition_key, shape.clustering) = (vec![0, 1], vec![])), "slot"),
    ];
    for (other, named) in cases {
        let error = store.create_table(&other).unwrap_err();
        assert!(
            matches!(&error, StoreError::OtherShape { table, difference } if table == "tables_create__v1" && difference.contains(named)),
            "{error}"
        );
        assert!(matches!(store.read(&other, &whole("rust")), Err(StoreError::OtherShape { .. })));
    }
}

/// Dropping is final, and can be done again.
pub fn a_dropped_table_is_gone_and_comes_back_empty(harness: &mut dyn Harness) {
    let store = harness.store();
    let table = created(store, counts_table("tables_drop", Order::Asc));
    let neighbour = created(store, Table { version: Version(2), ..table.clone() });
    write(store, &table, &[upsert("rust", 1, 1, 9), delete("rust", 2, 9)]);
    write(store, &neighbour, &[upsert("rust", 1, 1, 9)]);
    store.tell(&table, Epoch(1), &Progress::default()).unwrap();
    store.drop_table(&Table::named(&table.view, table.version)).unwrap();
    store.drop_table(&table).unwrap();
    assert!(matches!(store.read(&table, &whole("rust")), Err(StoreError::UnknownTable(name)) if name == "tables_drop__v1"));
    assert_eq!(scan(store, &neighbour).len(), 1);
    store.create_table(&table).unwrap();
    assert_eq!(scan(store, &table), []);
    assert_eq!(store.progress(&table).unwrap(), None);
    write(store, &table, &[upsert("rust", 1, 10, 1), upsert("rust", 2, 20, 1)]);
    assert_eq!(scan(store, &table).len(), 2, "what was written before the drop does not win over what is written after it");
}

/// Whatever is asked of them.
pub fn unknown_tables_are_said_to_be_unknown(harness: &mut dyn Harness) {
    let store = harness.store();
    let table = counts_table("tables_unknown", Order::Asc);
    let unknown = |error: Option<StoreError>| matches!(&error, Some(StoreError::UnknownTable(name)) if name == "tables_unknown__v1");
    assert!(unknown(store.write(&table, &counts_batch(&table, &[upsert("rust", 1, 1, 1)])).err()));
    assert!(unknown(store.read(&table, &whole("rust")).err()));
    assert!(unknown(store.scan(&table).err()));
    assert!(unknown(store.tell(&table, Epoch(1), &Progress::default()).err()));
    assert!(unknown(store.progress(&table).err()));
    store.drop_table(&table).unwrap();
}

fn progress(writing: u64, visible: u64, read: u64) -> Progress {
    let cut = |sum: u64| [(Partition(0), Offset(sum / 2)), (Partition(3), Offset(sum - sum / 2))].into_iter().collect();
    Progress {
        event_time_us: Some(3),
        live: true,
        visible: cut(visible),
        writing: cut(writing),
        watermark_us: Some(-5),
        writing_watermark_us: None,
        horizon_us: None,
        read,
        applied: read,
        quarantined: [("truncated".to_owned(), 2)].into(),
    }
}

/// By what may be in the table, then by what is visible; an owner of a lesser epoch is refused.
pub fn the_greatest_telling_of_progress_stays(harness: &mut dyn Harness) {
    let store = harness.store();
    let table = created(store, counts_table("tables_progress", Order::Asc));
    assert_eq!(store.progress(&table).unwrap(), None);
    let tellings = [
        (Epoch(1), progress(10, 5, 1), true),
        (Epoch(1), progress(9, 9, 2), false),
        (Epoch(1), progress(10, 4, 3), false),
        (Epoch(1), progress(10, 10, 4), true),
        (Epoch(2), progress(3, 1, 5), true),
        (Epoch(1), progress(99, 99, 6), false),
        (Epoch(2), progress(4, 1, 7), true),
    ];
    let mut stays = None;
    for (epoch, telling, is_greater) in tellings {
        let told = store.tell(&table, epoch, &telling);
        let is_fenced_off = matches!(told, Err(StoreError::Superseded { epoch: Epoch(2), .. }));
        assert!(told.is_ok() || (is_fenced_off && epoch == Epoch(1)));
        if is_greater {
            stays = Some(telling);
        }
        assert_eq!(store.progress(&table).unwrap(), stays);
    }
}

/// Who is fenced off learns it before it can tell that it writes more.
pub fn a_fence_shuts_out_lesser_epochs(harness: &mut dyn Harness) {
    let store = harness.store();
    let table = created(store, counts_table("tables_fence", Order::Asc));
    assert_eq!(store.fence(&table, Epoch(1)).unwrap(), Progress::default());
    store.tell(&table, Epoch(1), &progress(10, 5, 1)).unwrap();
    assert_eq!(store.fence(&table, Epoch(3)).unwrap(), progress(10, 5, 1));
    assert_eq!(store.progress(&table).unwrap(), Some(progress(10, 5, 1)), "what was told stays");
    assert!(matches!(store.tell(&table, Epoch(1), &progress(99, 99, 2)), Err(StoreError::Superseded { epoch: Epoch(3), .. })));
    assert!(matches!(store.fence(&table, Epoch(2)), Err(StoreError::Superseded { epoch: Epoch(3), .. })));
    assert_eq!(store.progress(&table).unwrap(), Some(progress(10, 5, 1)));
    store.tell(&table, Epoch(3), &progress(7, 7, 3)).unwrap();
    assert_eq!(store.progress(&table).unwrap(), Some(progress(10, 5, 1)), "until its owner has passed it");
    store.tell(&table, Epoch(3), &progress(11, 11, 4)).unwrap();
    assert_eq!(store.progress(&table).unwrap(), Some(progress(11, 11, 4)));
}

/// By a column of the key or by another; a row without a time does not expire.
pub fn reclaim_removes_expired_rows_alone(harness: &mut dyn Harness) {
    let store = harness.store();
    let time = DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into()));
    let columns = Arc::new(Schema::new(vec![
        Field::new("hashtag", DataType::Utf8, false),
        Field::new("slot", time.clone(), false),
        Field::new("seen", time, true),
    ]));
    let slots = [10, 20, 30, 40];
    let seen = [Some(40), None, Some(20), Some(10)];
    let keys: [(&str, Vec<usize>, Vec<(usize, Order)>); 3] = [
        ("leading", vec![1], vec![(0, Order::Asc)]),
        ("clustering", vec![0], vec![(1, Order::Desc)]),
        ("neither", vec![0], vec![(1, Order::Asc)]),
    ];
    for (name, partition_key, clustering) in keys {
        let shape = TableShape { columns: Arc::clone(&columns), partition_key, clustering };
        let table = created(store, Table { view: format!("tables_reclaim_{name}"), version: Version(1), shape });
        let other = created(store, Table { version: Version(2), ..table.clone() });
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec!["rust"; 4])),
            Arc::new(TimestampMillisecondArray::from(slots.to_vec()).with_timezone("+00:00")),
            Arc::new(TimestampMillisecondArray::from(seen.to_vec()).with_timezone("+00:00")),
        ];
        let rows = RecordBatch::try_new(Arc::clone(&columns), arrays).unwrap();
        let batch = RowBatch { rows, written_at: vec![1; 4], deleted: vec![false; 4] };
        store.write(&table, &batch).unwrap();
        store.write(&other, &batch).unwrap();
        let (column, before_us, left) = if name == "neither" { (2, 20_000, 3) } else { (1, 20_001, 2) };
        store.reclaim(&table, column, before_us).unwrap();
        let count = |table: &Table| store.scan(table).unwrap().iter().map(RecordBatch::num_rows).sum::<usize>();
        assert_eq!(count(&table), left, "{name}");
        assert_eq!(count(&other), 4, "{name}: another table");
        store.reclaim(&table, column, before_us).unwrap();
        assert_eq!(count(&table), left, "{name}, again");
        assert!(store.reclaim(&table, 0, 0).is_err(), "hashtag is not a timestamp");
    }
}

/// Rows, deletions, progress and tables.
pub fn what_was_synced_is_there_after_reopening(harness: &mut dyn Harness) {
    let table = counts_table("tables_reopen", Order::Desc);
    let dropped = counts_table("tables_reopen_dropped", Order::Desc);
    let store = harness.store();
    created(store, table.clone());
    created(store, dropped.clone());
    write(store, &table, &[upsert("rust", 1, 10, 5), upsert("rust", 2, 20, 5), delete("rust", 3, 5)]);
    write(store, &dropped, &[upsert("rust", 1, 10, 5)]);
    store.tell(&table, Epoch(2), &progress(7, 7, 7)).unwrap();
    store.drop_table(&dropped).unwrap();
    store.sync().unwrap();
    if !harness.reopen() {
        return;
    }
    let store = harness.store();
    assert_eq!(read(store, &table, &whole("rust")), [(2, 20), (1, 10)]);
    write(store, &table, &[upsert("rust", 3, 30, 4), upsert("rust", 2, 21, 4)]);
    assert!(matches!(store.tell(&table, Epoch(1), &progress(9, 9, 9)), Err(StoreError::Superseded { .. })));
    assert_eq!(read(store, &table, &whole("rust")), [(2, 20), (1, 10)], "older writes lose as before");
    assert_eq!(store.progress(&table).unwrap(), Some(progress(7, 7, 7)));
    assert!(matches!(store.scan(&dropped), Err(StoreError::UnknownTable(_))));
    created(store, dropped.clone());
    assert_eq!(scan(store, &dropped), []);
    let reshaped = counts_table("tables_reopen", Order::Asc);
    assert!(matches!(store.create_table(&reshaped), Err(StoreError::OtherShape { .. })));
}
