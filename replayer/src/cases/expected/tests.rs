#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use refold_processor::table::Order;
use serde_json::json;

use super::*;
use crate::cases::declared::parse;

fn shape() -> TableShape {
    let columns = Schema::new(vec![
        Field::new("tag", DataType::Utf8, false),
        Field::new("slot", DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into())), false),
        Field::new("n", DataType::Int64, false),
        Field::new("mean", DataType::Float64, true),
    ]);
    TableShape { columns: Arc::new(columns), partition_key: vec![0], clustering: vec![(1, Order::Desc)] }
}

/// What a case with these lines expects.
fn expected(lines: &str) -> Result<Expected, String> {
    let text = format!("[[case]]\nname = \"c\"\nview = \"v\"\nevents = []\n{lines}");
    let cases = parse(Path::new("cases.toml"), &text).map_err(|mistake| mistake.to_string())?;
    Expected::new(&cases[0], &shape()).map_err(|mistake| mistake.to_string())
}

fn row(tag: &str, minute: u32, n: i64) -> Row {
    vec![json!(tag), json!(format!("2026-11-30T12:{minute:02}:00Z")), json!(n), Value::Null]
}

fn lines(declared: &str, found: &[Row]) -> Vec<String> {
    expected(declared).unwrap().compare(found).lines()
}

const TWO: &str = r#"rows = [
    { tag = "go", slot = 2026-11-30T12:05:00Z, n = 1 },
    { tag = "rust", slot = 2026-11-30T13:00:00+01:00, n = 2 },
]
"#;

#[test]
fn equal_rows_do_not_differ_whatever_their_order_and_the_zone_they_are_written_in() {
    assert_eq!(lines(TWO, &[row("rust", 0, 2), row("go", 5, 1)]), Vec::<String>::new());
}

#[test]
fn missing_unexpected_and_changed_rows_are_aligned_by_the_key() {
    let found = [row("rust", 0, 3), row("rust", 10, 1), row("ada", 0, 12)];
    assert_eq!(
        lines(TWO, &found),
        [
            "            tag   slot                  n                    mean",
            "unexpected  ada   2026-11-30T12:00:00Z  12                   null",
            "missing     go    2026-11-30T12:05:00Z  1                    null",
            "changed     rust  2026-11-30T12:00:00Z  expected 2, found 3  null",
            "unexpected  rust  2026-11-30T12:10:00Z  1                    null",
        ]
    );
    let json = expected(TWO).unwrap().compare(&found).json();
    assert_eq!(json["missing"], json!([{ "tag": "go", "slot": "2026-11-30T12:05:00Z", "n": 1, "mean": null }]));
    assert_eq!((json["changed"][0]["expected"]["n"].as_i64(), json["changed"][0]["found"]["n"].as_i64()), (Some(2), Some(3)));
    assert_eq!(json["unexpected"].as_array().unwrap().len(), 2);
}

#[test]
fn by_key_all_rows_of_the_partitions_named_are_spoken_of_and_no_others() {
    let by_key = format!("{TWO}expect = \"by_key\"\nkeys = [{{ tag = \"gone\" }}]");
    let good = [row("rust", 0, 2), row("go", 5, 1)];
    assert_eq!(lines(&by_key, &[&good[..], &[row("ada", 0, 1)]].concat()), Vec::<String>::new());
    assert_eq!(lines(&by_key, &[&good[..], &[row("go", 0, 1)]].concat()).len(), 2);
    assert_eq!(lines(&by_key, &[&good[..], &[row("gone", 0, 1)]].concat()).len(), 2);
}

#[test]
fn of_a_subset_other_rows_and_columns_that_are_not_written_may_be_anything() {
    let subset = "rows = [{ tag = \"go\", slot = 2026-11-30T12:05:00Z }]\nexpect = \"subset\"";
    assert_eq!(lines(subset, &[row("go", 5, 9), row("rust", 0, 1)]), Vec::<String>::new());
    assert_eq!(
        lines(subset, &[row("go", 0, 9)]),
        ["         tag  slot                  n    mean", "missing  go   2026-11-30T12:05:00Z  any  any"]
    );
}

#[test]
fn a_row_that_the_view_cannot_have_is_a_mistake() {
    for (rows, complaint) in [
        ("rows = [{ tga = \"go\" }]", "cases.toml:5: case \"c\": row 1: the view has no column tga; it has tag, slot, n, mean"),
        ("rows = [{ tag = \"go\", n = 1 }]", "row 1: slot is part of what names a row; write it"),
        (
            "rows = [\n{ tag = \"go\", slot = 2026-11-30T12:05:00Z },\n{ tag = \"go\", slot = 2026-11-30T12:05:00.000Z },\n]",
            "cases.toml:7: case \"c\": row 2: line 6 has a row of the same key",
        ),
        ("rows = []\nexpect = \"by_key\"\nkeys = [{ n = 1 }]", "key 1: tag is part of what names a row; write it"),
    ] {
        let said = expected(rows).err().unwrap();
        assert!(said.contains(complaint), "{complaint:?} is not in {said:?}");
    }
}
