//! What cannot be computed takes away the row of its own group, or its own event, and is counted with the reason.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, AsArray, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef};

use super::harness::{text_of, time_type};
use crate::view::View;

const MOST: i128 = 99_999_999_999_999_999_999_999_999_999_999_999_999;

/// An event: its key, a decimal of 38 digits, an integer, and a floating-point number.
type Event = (&'static str, i128, i64, f64);

fn schema(scale: i8) -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("at", time_type(), false),
        Field::new("k", DataType::Utf8, false),
        Field::new("d", DataType::Decimal128(38, scale), false),
        Field::new("n", DataType::Int64, false),
        Field::new("x", DataType::Float64, false),
    ]))
}

fn view(select: &str, scale: i8) -> View {
    let sql =
        format!("CREATE MATERIALIZED VIEW v WITH (partition_key = 'k', unbounded = true) AS SELECT k, {select} FROM events GROUP BY k");
    plan(&sql, scale)
}

fn plan(sql: &str, scale: i8) -> View {
    View::plan(sql, "v.sql", &BTreeMap::from([("events".to_owned(), schema(scale))])).unwrap_or_else(|error| panic!("{error}"))
}

fn events(events: &[Event], scale: i8) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMillisecondArray::from(vec![1_000; events.len()]).with_timezone("+00:00")),
        Arc::new(StringArray::from_iter_values(events.iter().map(|event| event.0))),
        Arc::new(Decimal128Array::from_iter_values(events.iter().map(|event| event.1)).with_precision_and_scale(38, scale).unwrap()),
        Arc::new(Int64Array::from_iter_values(events.iter().map(|event| event.2))),
        Arc::new(Float64Array::from_iter_values(events.iter().map(|event| event.3))),
    ];
    RecordBatch::try_new(schema(scale), columns).unwrap()
}

/// The groups of events, in the order of their first events, and their states.
fn grouped(view: &View, batch: &RecordBatch) -> (Vec<ArrayRef>, Vec<ArrayRef>) {
    let partial = view.mapper().unwrap().map(batch).unwrap().unwrap();
    (partial.groups, partial.states)
}

/// The rows that a view has of events, and the keys and reasons of those that are absent.
fn rows(select: &str, of: &[Event], scale: i8) -> (Vec<String>, Vec<String>) {
    let view = view(select, scale);
    let (groups, states) = grouped(&view, &events(of, scale));
    let rows = view.rows(&groups, &states).unwrap();
    let absent = view.absent();
    assert_eq!(absent.count, absent.examples.len() as u64);
    let examples = absent.examples.into_iter().map(|example| format!("{}: {}", example.key, example.reason)).collect();
    (text_of(&[filter_record_batch(&rows.rows, &rows.kept).unwrap()]), examples)
}

#[test]
fn an_average_that_does_not_fit_its_type_takes_away_its_own_row_alone() {
    // 99999999999999999999 at 18 digits after the point: its average would have 22, so 42 in all.
    let large = 99_999_999_999_999_999_999 * 10_i128.pow(18);
    let of = [("ok", 15 * 10_i128.pow(17), 0, 0.0), ("big", large, 0, 0.0), ("ok", 25 * 10_i128.pow(17), 0, 0.0)];
    let (rows, absent) = rows("count(*) AS c, avg(d) AS m", &of, 18);
    assert_eq!(rows, ["ok | 2 | 2.0000000000000000000000"]);
    assert_eq!(absent.len(), 1);
    assert!(
        absent[0].starts_with("k=big: the average of what adds up to 99999999999999999999.000000000000000000 does not fit"),
        "{absent:?}"
    );
}

#[test]
fn two_positive_decimals_do_not_add_up_to_a_negative_one() {
    let nine = 9 * 10_i128.pow(37);
    let of = [("x", nine, 0, 0.0), ("x", nine, 0, 0.0), ("y", nine, 0, 0.0), ("y", nine, 0, 0.0), ("y", -nine, 0, 0.0)];
    let (rows, absent) = rows("sum(d) AS m", &of, 0);
    assert_eq!(rows, [format!("y | {nine}")], "what goes beyond the bounds and comes back is right");
    assert_eq!(absent, ["k=x: the sum 180000000000000000000000000000000000000 does not fit Decimal128(38, 0)"]);
}

#[test]
fn a_sum_of_integers_does_not_wrap_around() {
    let of = [("x", 0, i64::MAX, 0.0), ("x", 0, 1, 0.0), ("y", 0, i64::MAX, 0.0), ("y", 0, 1, 0.0), ("y", 0, -1, 0.0)];
    let (rows, absent) = rows("sum(n) AS s, avg(n) AS m", &of, 0);
    assert_eq!(rows, [format!("y | {} | {:?}", i64::MAX, i64::MAX as f64 / 3.0)]);
    assert_eq!(absent, ["k=x: the sum 9223372036854775808 does not fit Int64"]);
}

#[test]
fn arithmetic_above_the_aggregate_does_not_wrap_around() {
    let of = [("x", MOST, i64::MAX, 0.0), ("y", 5, 7, 0.0)];
    for (select, row) in [
        ("max(n) * 2 AS r", "y | 14"),
        ("max(n) + 1 AS r", "y | 8"),
        ("-max(n) - 2 AS r", "y | -9"),
        ("max(d) + 1 AS r", "y | 6"),
        ("CAST(max(d) AS DECIMAL(37, 0)) AS r", "y | 5"),
        ("count(*) AS r, sum(n) AS s", "y | 1 | 7"),
    ] {
        let (rows, absent) = rows(select, &of, 0);
        let is_whole = select.starts_with("count");
        assert_eq!((rows.len(), absent.len()), if is_whole { (2, 0) } else { (1, 1) }, "{select}: {rows:?} {absent:?}");
        assert!(rows.contains(&row.to_owned()), "{select}: {rows:?}");
    }
    let (rows, absent) = rows("-min(n) AS r", &[("x", 0, i64::MIN, 0.0), ("y", 0, -3, 0.0)], 0);
    assert_eq!((rows, absent.len()), (vec!["y | 3".to_owned()], 1));
}

#[test]
fn arithmetic_below_the_aggregate_fails_for_its_event() {
    for select in ["sum(n * 2) AS r", "sum(n + 1) AS r", "max(-n - 2) AS r", "sum(d * d) AS r"] {
        let view = view(select, 0);
        let mut mapper = view.mapper().unwrap();
        let error = mapper.map(&events(&[("x", MOST, i64::MAX, 0.0)], 0)).unwrap_err();
        assert!(error.to_string().contains("verflow"), "{select}: {error}");
        assert!(mapper.map(&events(&[("x", 3, 3, 0.0)], 0)).unwrap().is_some(), "{select}");
    }
    let filtered = plan(
        "CREATE MATERIALIZED VIEW v WITH (partition_key = 'k', unbounded = true) AS
         SELECT k, count(*) AS c FROM events WHERE n * 2 > 0 GROUP BY k",
        0,
    );
    assert!(filtered.mapper().unwrap().map(&events(&[("x", 0, i64::MAX, 0.0)], 0)).is_err());
}

#[test]
fn an_average_of_the_largest_numbers_is_not_infinite() {
    let view = view("avg(x) AS m, regr_avgx(x, x) AS o", 0);
    let (groups, states) = grouped(&view, &events(&[("x", 0, 0, 1.7e308), ("x", 0, 0, 1.7e308)], 0));
    let rows = view.rows(&groups, &states).unwrap().rows;
    for column in 1..3 {
        assert_eq!(rows.column(column).as_primitive::<Float64Type>().value(0), 1.7e308);
    }
}

#[test]
fn a_panic_of_a_kernel_takes_away_the_row_of_its_group() {
    let (rows, absent) = rows("panics_on_boom(max(k)) AS r", &[("a", 0, 0, 0.0), ("boom", 0, 0, 0.0), ("c", 0, 0, 0.0)], 0);
    assert_eq!(rows, ["a | a", "c | c"]);
    assert_eq!(absent, ["k=boom: the computation panicked: boom"]);
}

#[test]
fn a_mapper_goes_on_after_a_panic() {
    let view = view("max(panics_on_boom(k)) AS r", 0);
    let mut mapper = view.mapper().unwrap();
    let error = mapper.map(&events(&[("a", 0, 0, 0.0), ("boom", 0, 0, 0.0)], 0)).unwrap_err();
    assert_eq!(error.message, "the computation panicked: boom");
    let partial = mapper.map(&events(&[("a", 0, 0, 0.0), ("b", 0, 0, 0.0)], 0)).unwrap().unwrap();
    assert_eq!(partial.groups[0].len(), 2);
}

#[test]
fn a_row_too_large_for_a_store_is_absent() {
    let of = [("a", 0, 3, 0.0), ("b", 0, 9 << 20, 0.0)];
    let (rows, absent) = rows("repeat('x', max(n)) AS r", &of, 0);
    assert_eq!(rows, ["a | xxx"]);
    assert_eq!(absent, [format!("k=b: its text and binary columns have {} bytes, more than {}", (9 << 20) + 1, 8 << 20)]);
}

#[test]
fn a_time_in_seconds_beyond_what_a_store_holds_is_absent() {
    let of = [("a", 0, 1_700_000_000, 0.0), ("b", 0, i64::MAX, 0.0)];
    let (rows, absent) = rows("max(to_timestamp_seconds(n)) AS r", &of, 0);
    assert_eq!(rows, ["a | 2023-11-14T22:13:20"]);
    assert_eq!(absent.len(), 1);
    // In the key: the group has no row, and those of the others are not touched.
    let keyed = plan(
        "CREATE MATERIALIZED VIEW v WITH (partition_key = 't', unbounded = true) AS
         SELECT to_timestamp_seconds(n) AS t, count(*) AS c FROM events GROUP BY to_timestamp_seconds(n)",
        0,
    );
    let (groups, states) = grouped(&keyed, &events(&of, 0));
    let rows = keyed.rows(&groups, &states).unwrap();
    assert_eq!(rows.kept.true_count(), 1);
    let unkept = (0..2).find(|row| !rows.kept.value(*row)).unwrap();
    assert!(rows.rows.column(0).is_null(unkept), "no row of this key is deleted");
}

#[test]
fn a_ranking_leaves_out_what_cannot_be_computed() {
    let view = plan(
        "CREATE MATERIALIZED VIEW v WITH (partition_key = 'slot', clustering = 'rank') AS
         SELECT slot, k, avg(d) AS m, row_number() OVER (PARTITION BY slot ORDER BY avg(d) DESC, k) AS rank
         FROM (SELECT tumble(at, INTERVAL '1 minute') AS slot, k, d FROM events) GROUP BY slot, k QUALIFY rank <= 2",
        0,
    );
    let of = [("a", 1, 0, 0.0), ("b", MOST, 0, 0.0), ("c", 3, 0, 0.0), ("d", 2, 0, 0.0)];
    let (groups, states) = grouped(&view, &events(&of, 0));
    let ranked = view.rank(&groups, &states).unwrap();
    assert_eq!(text_of(&[ranked]), ["1970-01-01T00:00:00Z | c | 3.0000 | 1", "1970-01-01T00:00:00Z | d | 2.0000 | 2"]);
    assert_eq!((view.absent().count, view.absent().examples[0].key.as_str()), (1, "slot=1970-01-01T00:00:00Z, k=b"));
    let first = view.first_groups(&groups, &states, false).unwrap();
    assert_eq!(first.len(), 2);
    assert_eq!(view.possible_ranks(&groups, &states).unwrap().num_rows(), 2);
}

#[test]
fn former_rows_count_nothing_again() {
    let view = view("100 / sum(n) AS r", 0);
    let (groups, states) = grouped(&view, &events(&[("a", 0, 0, 0.0)], 0));
    assert_eq!(view.former_rows(&groups, &states).unwrap().kept.true_count(), 0);
    assert_eq!(view.absent().count, 0);
    view.rows(&groups, &states).unwrap();
    view.rows(&groups, &states).unwrap();
    assert_eq!((view.absent().count, view.absent().examples.len()), (2, 1), "each evaluation counts, a group is named once");
}
