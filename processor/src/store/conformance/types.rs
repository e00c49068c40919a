//! Columns of every type that a view can have, as values and as keys.

use datafusion::arrow::array::{
    Array, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array,
    ListArray, TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray, UInt8Array, UInt16Array, UInt32Array,
    UInt64Array,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};

use super::*;
use crate::store::StoreError;

/// For each type, three values in rising order: the least, one between, and the greatest.
fn samples() -> Vec<(&'static str, ArrayRef)> {
    let times = vec![-62_135_596_800_000_i64, 0, 1_700_000_000_123];
    let zone = "+00:00";
    vec![
        ("boolean", Arc::new(BooleanArray::from(vec![false, true, true]))),
        ("int8", Arc::new(Int8Array::from(vec![i8::MIN, 0, i8::MAX]))),
        ("int16", Arc::new(Int16Array::from(vec![i16::MIN, -1, i16::MAX]))),
        ("int32", Arc::new(Int32Array::from(vec![i32::MIN, 1, i32::MAX]))),
        ("int64", Arc::new(Int64Array::from(vec![i64::MIN, 0, i64::MAX]))),
        ("uint8", Arc::new(UInt8Array::from(vec![0, 128, u8::MAX]))),
        ("uint16", Arc::new(UInt16Array::from(vec![0, 1 << 15, u16::MAX]))),
        ("uint32", Arc::new(UInt32Array::from(vec![0, 1 << 31, u32::MAX]))),
        ("uint64", Arc::new(UInt64Array::from(vec![0, 1 << 63, u64::MAX]))),
        ("float32", Arc::new(Float32Array::from(vec![f32::NEG_INFINITY, 0.1, f32::MAX]))),
        ("float64", Arc::new(Float64Array::from(vec![-1e300, 0.1, f64::INFINITY]))),
        ("utf8", Arc::new(StringArray::from(vec!["", "nul\0byte", "é😀 longer than one block of thirty-two bytes"]))),
        ("binary", Arc::new(BinaryArray::from(vec![&[][..], &[0, 255, 0], &[255; 40]]))),
        ("timestamp_ms", Arc::new(TimestampMillisecondArray::from(times.clone()))),
        ("timestamp_us", Arc::new(TimestampMicrosecondArray::from(times.clone()))),
        ("timestamp_ns", Arc::new(TimestampNanosecondArray::from(times.clone()))),
        ("timestamp_ms_utc", Arc::new(TimestampMillisecondArray::from(times.clone()).with_timezone(zone))),
        ("timestamp_us_utc", Arc::new(TimestampMicrosecondArray::from(times.clone()).with_timezone(zone))),
        ("timestamp_ns_utc", Arc::new(TimestampNanosecondArray::from(times).with_timezone(zone))),
        ("date32", Arc::new(Date32Array::from(vec![-719_162, 0, 20_000]))),
        ("decimal128", Arc::new(Decimal128Array::from(vec![-12_345, 0, 99_999]).with_precision_and_scale(20, 2).unwrap())),
    ]
}

/// The samples as a list column: empty, one value and a NULL, all three values.
fn list_of(values: &ArrayRef) -> ArrayRef {
    let null = datafusion::arrow::array::new_null_array(values.data_type(), 1);
    let parts: [&dyn Array; 3] = [&values.slice(1, 1), &null, values];
    let items = datafusion::arrow::compute::concat(&parts).unwrap();
    let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    Arc::new(ListArray::new(field, OffsetBuffer::from_lengths([0, 2, 3]), items, None))
}

/// The same column with a NULL in the place of its second value.
fn with_null(column: &ArrayRef) -> ArrayRef {
    let null = datafusion::arrow::array::new_null_array(column.data_type(), 1);
    let parts: [&dyn Array; 3] = [&column.slice(0, 1), &null, &column.slice(2, 1)];
    datafusion::arrow::compute::concat(&parts).unwrap()
}

/// All types at once, with and without NULLs, and lists of all of them.
pub fn every_type_comes_back_as_it_was(harness: &mut dyn Harness) {
    let store = harness.store();
    let mut fields = vec![Field::new("id", DataType::Int64, false), Field::new("place", DataType::Int64, false)];
    let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![7, 7, 7])), Arc::new(Int64Array::from(vec![0, 1, 2]))];
    for (name, values) in samples() {
        let list = list_of(&values);
        let (field, offsets, items, _) = list.as_any().downcast_ref::<ListArray>().unwrap().clone().into_parts();
        let null_list: ArrayRef = Arc::new(ListArray::new(field, offsets, items, Some(NullBuffer::from(vec![false, true, true]))));
        for (kind, column) in [("", values.clone()), ("_null", with_null(&values)), ("_list", list), ("_null_list", null_list)] {
            fields.push(Field::new(format!("{name}{kind}"), column.data_type().clone(), true));
            columns.push(column);
        }
    }
    let shape = TableShape { columns: Arc::new(Schema::new(fields)), partition_key: vec![0], clustering: vec![(1, Order::Asc)] };
    let table = created(store, Table { view: "types_values".into(), version: Version(1), shape });
    let rows = RecordBatch::try_new(Arc::clone(&table.shape.columns), columns).unwrap();
    store.write(&table, &RowBatch { rows: rows.clone(), written_at: vec![1; 3], deleted: vec![false; 3] }).unwrap();
    let read = PartitionRead { partition: vec![ScalarValue::from(7_i64)], from: None, to: None, limit: 10, cursor: None };
    let answer = store.read(&table, &read).unwrap().rows;
    for (index, field) in table.shape.columns.fields().iter().enumerate() {
        assert_eq!(answer.column(index), rows.column(index), "{}", field.name());
    }
    assert_eq!(answer, rows);
}

/// As a partition key and as a clustering column, in both directions.
pub fn every_key_type_orders_its_rows(harness: &mut dyn Harness) {
    let store = harness.store();
    for (name, values) in samples() {
        for order in [Order::Asc, Order::Desc] {
            let fields = vec![Field::new("k", values.data_type().clone(), false), Field::new("n", DataType::Int64, true)];
            let view = format!("types_clustering_{name}_{order:?}").to_lowercase();
            let columns = Arc::new(Schema::new([Field::new("p", DataType::Utf8, false)].into_iter().chain(fields).collect::<Vec<_>>()));
            let shape = TableShape { columns, partition_key: vec![0], clustering: vec![(1, order)] };
            let table = created(store, Table { view, version: Version(1), shape });
            let distinct = if name == "boolean" { 2 } else { 3 };
            let keys = values.slice(0, distinct);
            let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..distinct as i64));
            let partition: ArrayRef = Arc::new(StringArray::from(vec!["p"; distinct]));
            let rows = RecordBatch::try_new(Arc::clone(&table.shape.columns), vec![partition, keys.clone(), numbers]).unwrap();
            store.write(&table, &RowBatch { rows, written_at: vec![1; distinct], deleted: vec![false; distinct] }).unwrap();
            let read_from = |from: Option<ScalarValue>| {
                let read = PartitionRead { partition: vec!["p".into()], from, to: None, limit: 10, cursor: None };
                let rows = store.read(&table, &read).unwrap().rows;
                rows.column(2).as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec()
            };
            let mut all: Vec<i64> = (0..distinct as i64).collect();
            let mut upper = all[1..].to_vec();
            if order == Order::Desc {
                all.reverse();
                upper.reverse();
            }
            assert_eq!(read_from(None), all, "{name} {order:?}");
            assert_eq!(read_from(Some(ScalarValue::try_from_array(&keys, 1).unwrap())), upper, "{name} {order:?}");
        }
        let columns = Schema::new(vec![Field::new("k", values.data_type().clone(), false), Field::new("n", DataType::Int64, true)]);
        let shape = TableShape { columns: Arc::new(columns), partition_key: vec![0], clustering: vec![] };
        let table = created(store, Table { view: format!("types_partition_{name}"), version: Version(1), shape });
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![0, 1, 2]));
        let rows = RecordBatch::try_new(Arc::clone(&table.shape.columns), vec![values.clone(), numbers]).unwrap();
        store.write(&table, &RowBatch { rows: rows.clone(), written_at: vec![1, 2, 3], deleted: vec![false; 3] }).unwrap();
        let key = ScalarValue::try_from_array(&values, 2).unwrap();
        let read = PartitionRead { partition: vec![key], from: None, to: None, limit: 10, cursor: None };
        assert_eq!(store.read(&table, &read).unwrap().rows, rows.slice(2, 1), "{name}");
    }
}

/// A view may select its key and nothing else.
pub fn key_columns_alone_make_a_table(harness: &mut dyn Harness) {
    let store = harness.store();
    let columns = Schema::new(vec![Field::new("hashtag", DataType::Utf8, false)]);
    let shape = TableShape { columns: Arc::new(columns), partition_key: vec![0], clustering: vec![] };
    let table = created(store, Table { view: "types_keys_alone".into(), version: Version(1), shape });
    let names: ArrayRef = Arc::new(StringArray::from(vec!["rust", "zig"]));
    let rows = RecordBatch::try_new(Arc::clone(&table.shape.columns), vec![names]).unwrap();
    store.write(&table, &RowBatch { rows: rows.clone(), written_at: vec![1, 1], deleted: vec![false, false] }).unwrap();
    assert_eq!(store.read(&table, &whole("rust")).unwrap().rows, rows.slice(0, 1));
    store.write(&table, &RowBatch { rows, written_at: vec![2, 2], deleted: vec![true, false] }).unwrap();
    assert_eq!(store.read(&table, &whole("rust")).unwrap().rows.num_rows(), 0);
}

/// The engine leaves such rows out; a store says which column it was.
pub fn null_in_a_key_is_refused_by_name(harness: &mut dyn Harness) {
    let store = harness.store();
    let columns = Schema::new(vec![Field::new("hashtag", DataType::Utf8, true), Field::new("slot", DataType::Int64, true)]);
    let shape = TableShape { columns: Arc::new(columns), partition_key: vec![0], clustering: vec![(1, Order::Asc)] };
    let table = created(store, Table { view: "types_null_keys".into(), version: Version(1), shape });
    for (hashtag, slot, named) in [(None, Some(1), "hashtag"), (Some("rust"), None, "slot")] {
        let columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(vec![hashtag])), Arc::new(Int64Array::from(vec![slot]))];
        let rows = RecordBatch::try_new(Arc::clone(&table.shape.columns), columns).unwrap();
        let error = store.write(&table, &RowBatch { rows, written_at: vec![1], deleted: vec![false] }).unwrap_err();
        assert!(matches!(&error, StoreError::Broken(text) if text.contains(named) && text.contains("NULL")), "{error}");
    }
    assert_eq!(store.scan(&table).unwrap().len(), 0);
}

/// Before anything is written.
pub fn rows_of_other_columns_are_refused(harness: &mut dyn Harness) {
    let store = harness.store();
    let table = created(store, counts_table("types_refused", Order::Asc));
    let good = counts_batch(&table, &[upsert("rust", 1, 1, 1)]);
    let fewer = RowBatch { rows: good.rows.project(&[0, 1, 2]).unwrap(), ..good.clone() };
    let swapped = RowBatch { rows: good.rows.project(&[0, 3, 2, 1]).unwrap(), ..good.clone() };
    let no_timestamps = RowBatch { written_at: vec![], ..good.clone() };
    let no_flags = RowBatch { deleted: vec![], ..good };
    for bad in [fewer, swapped, no_timestamps, no_flags] {
        assert!(matches!(store.write(&table, &bad), Err(StoreError::Broken(_))));
    }
    assert_eq!(scan(store, &table), []);
}
