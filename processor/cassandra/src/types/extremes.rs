//! Whatever a view can make of whatever an event can hold: a row that every store takes, or none, with a count and a reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::*;
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use refold_processor::store::memory::MemoryStore;
use refold_processor::store::{RowBatch, RowReader, RowWriter};
use refold_processor::table::{Table, Version};
use refold_processor::view::View;

use super::{Role, encoder};

/// Columns of every type that an event can have, each with the least, the greatest and other values.
fn columns() -> Vec<ArrayRef> {
    let (least, most) = (-(10_i128.pow(38) - 1), 10_i128.pow(38) - 1);
    let decimals = |precision, scale| -> ArrayRef {
        let bound = 10_i128.pow(u32::from(precision)) - 1;
        let values = [least, most, 0, 1, -1].map(|value| value.clamp(-bound, bound));
        Arc::new(Decimal128Array::from(values.to_vec()).with_precision_and_scale(precision, scale).unwrap())
    };
    vec![
        Arc::new(BooleanArray::from(vec![true, false, true, false, true])),
        Arc::new(Int32Array::from(vec![i32::MIN, i32::MAX, 0, 1, -1])),
        Arc::new(Int64Array::from(vec![i64::MIN, i64::MAX, 0, 1, -1])),
        Arc::new(Float32Array::from(vec![f32::MIN, f32::MAX, 0.0, f32::NAN, f32::INFINITY])),
        Arc::new(Float64Array::from(vec![f64::MIN, f64::MAX, -0.0, f64::NAN, f64::NEG_INFINITY])),
        decimals(38, 0),
        decimals(38, 18),
        decimals(38, 38),
        decimals(37, 9),
        decimals(18, 2),
        Arc::new(StringArray::from(vec!["", "\0", "ä", "\u{10ffff}", "x"])),
        Arc::new(BinaryArray::from(vec![&b""[..], b"\0", b"\xff\xff", b"a", b"b"])),
        Arc::new(Date32Array::from(vec![i32::MIN, i32::MAX, 0, 1, -1])),
        Arc::new(TimestampMillisecondArray::from(vec![i64::MIN, i64::MAX, 0, 1, -1])),
        Arc::new(TimestampMicrosecondArray::from(vec![i64::MIN, i64::MAX, 0, 1, -1]).with_timezone("+00:00")),
        Arc::new(TimestampNanosecondArray::from(vec![i64::MIN, i64::MAX, 0, 1, -1])),
        Arc::new(Time32MillisecondArray::from(vec![0, 86_399_999, 1, 2, 3])),
        Arc::new(Time64MicrosecondArray::from(vec![0, 86_399_999_999, 1, 2, 3])),
    ]
}

/// What is written around a column `x`; `n` is an integer.
const RESULTS: [&str; 34] = [
    "count(x)",
    "sum(x)",
    "avg(x)",
    "min(x)",
    "max(x)",
    "var(x)",
    "stddev_pop(x)",
    "bool_and(x)",
    "bit_xor(x)",
    "approx_distinct(x)",
    "first_value(x ORDER BY n)",
    "last_value(x ORDER BY n DESC)",
    "corr(x, n)",
    "regr_slope(x, n)",
    "sum(x) * 1000000",
    "sum(x) + sum(x)",
    "sum(x) - max(x)",
    "-sum(x)",
    "max(x) * max(x)",
    "max(x) - min(x)",
    "100 / sum(x)",
    "avg(x) * avg(x)",
    "sum(x * 3)",
    "sum(x + x)",
    "CAST(max(x) AS BIGINT)",
    "CAST(sum(x) AS DECIMAL(38, 10))",
    "CAST(min(x) AS DATE)",
    "to_timestamp_seconds(max(x))",
    "to_timestamp_millis(min(x))",
    "to_timestamp_nanos(max(x))",
    "max(to_timestamp_seconds(x))",
    "CAST(max(x) AS TIMESTAMP)",
    "repeat(CAST(max(x) AS VARCHAR), 4000000)",
    "arrow_cast(max(x), 'Date64')",
];

fn events(column: &ArrayRef) -> RecordBatch {
    let (nulls, twice) = (new_null_array(column.data_type(), 1), datafusion::arrow::compute::concat(&[column, column]).unwrap());
    let x = datafusion::arrow::compute::concat(&[&twice, &nulls]).unwrap();
    let count = x.len();
    // Each value alone in a group, and all of them in one.
    let keys: Vec<String> = (0..count).map(|row| if row < column.len() { format!("alone {row}") } else { "all".to_owned() }).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(keys)),
        Arc::new(Int64Array::from_iter_values(0..count as i64)),
        x,
        Arc::new(TimestampMillisecondArray::from(vec![0; count]).with_timezone("+00:00")),
    ];
    RecordBatch::try_new(schema(column.data_type()), columns).unwrap()
}

fn schema(data_type: &DataType) -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Utf8, false),
        Field::new("n", DataType::Int64, false),
        Field::new("x", data_type.clone(), true),
        Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into())), false),
    ]))
}

/// Folds events one by one, without those that fail.
fn folded(view: &View, events: &RecordBatch) -> (Vec<ArrayRef>, Vec<ArrayRef>) {
    let (mut mapper, mut merger) = (view.mapper().unwrap(), view.merger().unwrap());
    let mut groups: Vec<Vec<ArrayRef>> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for row in 0..events.num_rows() {
        let Ok(Some(partial)) = mapper.map(&events.slice(row, 1)) else { continue };
        let key = format!("{:?}", partial.groups);
        let next = places.len();
        let place = *places.entry(key).or_insert(next);
        if place == next {
            groups.push(partial.groups.clone());
        }
        merger.merge(&partial.states, &[place], places.len()).unwrap();
    }
    let columns = (0..view.groups.fields().len()).map(|column| {
        let parts: Vec<&dyn Array> = groups.iter().map(|group| group[column].as_ref()).collect();
        match parts.is_empty() {
            true => new_empty_array(view.groups.field(column).data_type()),
            false => datafusion::arrow::compute::concat(&parts).unwrap(),
        }
    });
    (columns.collect(), merger.take().unwrap())
}

/// Whether a view could be planned.
fn is_stored_or_absent(sql: &str, column: &ArrayRef) -> bool {
    let sources = BTreeMap::from([("events".to_owned(), schema(column.data_type()))]);
    let Ok(view) = View::plan(sql, "v.sql", &sources) else { return false };
    let name = format!("{sql} over {}", column.data_type());
    let (groups, states) = folded(&view, &events(column));
    let count = groups[0].len() as u64;
    let rows = view.rows(&groups, &states).unwrap_or_else(|error| panic!("{name}: {error}"));
    let absent = view.absent();
    assert_eq!(rows.kept.true_count() as u64 + absent.count, count, "{name}: {absent:?}");
    assert!(absent.examples.iter().all(|example| !example.key.is_empty() && !example.reason.is_empty()), "{name}");
    let kept = filter_record_batch(&rows.rows, &rows.kept).unwrap();
    let key = view.shape.partition_key[0];
    for (index, column) in kept.columns().iter().enumerate() {
        let encoder = encoder(column, if index == key { Role::WholePartitionKey } else { Role::Value }).unwrap();
        let mut wire = Vec::new();
        for row in 0..kept.num_rows() {
            encoder.cell(row, &mut wire).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
    let table = Table { view: view.name.clone(), version: Version(1), shape: view.shape.clone() };
    let store = MemoryStore::new();
    store.create_table(&table).unwrap();
    let (written_at, deleted) = (vec![1; kept.num_rows()], vec![false; kept.num_rows()]);
    store.write(&table, &RowBatch { rows: kept.clone(), written_at, deleted }).unwrap_or_else(|error| panic!("{name}: {error}"));
    let stored: usize = store.scan(&table).unwrap().iter().map(RecordBatch::num_rows).sum();
    assert_eq!(stored, kept.num_rows(), "{name}");
    true
}

#[test]
fn whatever_a_view_makes_is_a_row_in_every_store_or_absent_with_a_reason() {
    let (mut planned, mut refused) = (0, 0);
    for column in columns() {
        for result in RESULTS {
            let sql = format!(
                "CREATE MATERIALIZED VIEW v WITH (partition_key = 'k', unbounded = true) AS SELECT k, {result} AS r FROM events GROUP BY k"
            );
            match is_stored_or_absent(&sql, &column) {
                true => planned += 1,
                false => refused += 1,
            }
        }
    }
    assert!(planned > 200 && refused > 50, "{planned} views were planned, {refused} refused");
}

#[test]
fn whatever_a_view_groups_by_is_a_key_in_every_store_or_has_no_row() {
    let mut planned = 0;
    for column in columns() {
        for key in ["x", "CAST(x AS VARCHAR)", "to_timestamp_seconds(x)"] {
            let sql = format!(
                "CREATE MATERIALIZED VIEW v WITH (partition_key = 'r', unbounded = true) AS
                 SELECT {key} AS r, count(*) AS c FROM events WHERE x IS NOT NULL GROUP BY {key}"
            );
            planned += usize::from(is_stored_or_absent(&sql, &column));
        }
    }
    assert!(planned > 20, "{planned} views were planned");
}
