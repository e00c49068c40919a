#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use serde_json::{Value, json};

use crate::decode::tests::{NESTED, TWEET, all_columns, records, rows, source};
use crate::decode::{Decoded, Decoder, StaticSchemas};
use crate::json;
use crate::quarantine::Reason;
use crate::source::{Framing, Source};
use crate::text::time::Unit;

const TYPES: &str = r#"{"type":"record","name":"types","fields":[
    {"name":"i","type":"int","default":7},{"name":"l","type":["null","long"]},{"name":"f","type":["null","float"]},{"name":"d","type":["null","double"]},
    {"name":"s","type":["null","string"]},{"name":"b","type":["null","bytes"]},
    {"name":"m","type":["null",{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}]},
    {"name":"t","type":["null",{"type":"long","logicalType":"timestamp-micros"}]},
    {"name":"o","type":["null",{"type":"long","logicalType":"local-timestamp-millis"}]},
    {"name":"y","type":["null",{"type":"int","logicalType":"date"}]},
    {"name":"c","type":["null",{"type":"int","logicalType":"time-millis"}]},
    {"name":"u","type":["null",{"type":"string","logicalType":"uuid"}]},
    {"name":"k","type":["null",{"type":"enum","name":"size","symbols":["SMALL","LARGE"]}],"aliases":["kind"]}]}"#;

fn decoded(source: &Source, columns: &[usize], texts: &[&str]) -> Decoded {
    let values: Vec<_> = texts.iter().map(|text| Some(text.as_bytes().to_vec())).collect();
    Decoder::new(source, columns, Arc::new(StaticSchemas::default())).unwrap().decode(&records(&values)).unwrap()
}

/// What an object decodes to, as JSON again, or why it does not.
fn decode(schema: &str, text: &str) -> Result<Value, String> {
    let decoded = decoded(&source(schema, Framing::Json), &all_columns(schema), &[text]);
    match decoded.rejected.first() {
        None => Ok(json::rows(&decoded.events).remove(0)),
        Some(rejected) => Err(format!("{}: {}", rejected.reason.as_str(), rejected.detail)),
    }
}

#[test]
fn every_type_is_read_as_it_is_commonly_written() {
    for (field, written, read) in [
        ("i", "5", json!(5)),
        ("i", "\"5\"", json!(5)),
        ("i", "5.0", json!(5)),
        ("l", "9223372036854775807", json!(i64::MAX)),
        ("l", "\"-9223372036854775808\"", json!(i64::MIN)),
        ("f", "0.5", json!(0.5)),
        ("d", "1651591054.5349035", json!(1_651_591_054.534_903_5)),
        ("d", "18446744073709551615", json!(18_446_744_073_709_551_615_f64)),
        ("d", "\"NaN\"", json!("NaN")),
        ("s", r#""tab\t, \"quote\", \u00e9 and \ud83e\udd80""#, json!("tab\t, \"quote\", é and 🦀")),
        ("b", "\"AQID\"", json!("AQID")),
        ("m", "12.5", json!("12.50")),
        ("m", "\"-0.05\"", json!("-0.05")),
        ("t", "\"2026-11-23T12:00:00.5+02:00\"", json!("2026-11-23T10:00:00.500000Z")),
        ("t", "1500000", json!("1970-01-01T00:00:01.500000Z")),
        ("o", "\"2026-11-23T12:00:00\"", json!("2026-11-23T12:00:00")),
        ("y", "\"2026-11-23\"", json!("2026-11-23")),
        ("c", "\"13:30:00.5\"", json!("13:30:00.500")),
        ("u", "\"6f9619ff-8b86-d011-b42d-00c04fc964ff\"", json!("6f9619ff-8b86-d011-b42d-00c04fc964ff")),
        ("k", "\"LARGE\"", json!("LARGE")),
        ("s", "null", json!(null)),
    ] {
        let row = decode(TYPES, &format!("{{\"{field}\": {written}}}"));
        assert_eq!(row.map(|row| row[field].clone()), Ok(read), "{field}: {written}");
    }
}

#[test]
fn fields_come_in_any_order_and_others_are_passed_over() {
    let row = decode(TYPES, r#" {"surplus": {"i": [1, {"l": 2}]}, "s": "a", "kind": "SMALL", "l": 3, "": null} "#).unwrap();
    assert_eq!((&row["i"], &row["l"], &row["s"], &row["k"]), (&json!(7), &json!(3), &json!("a"), &json!("SMALL")), "i is its default");
    let nested = r#"{"price": 1.5, "parts": [{"name": "x", "kind": "SMALL"}, {"kind": "LARGE", "weight": 2.5, "name": "y"}], "kind": "SMALL",
        "tags": ["a", null], "sizes": {"m": [1, 2], "\u0061": []}}"#;
    let row = decode(NESTED, nested).unwrap();
    assert_eq!(row["parts"], json!([{"name": "x", "weight": null, "kind": "SMALL"}, {"name": "y", "weight": 2.5, "kind": "LARGE"}]));
    assert_eq!((&row["tags"], &row["sizes"], &row["flag"]), (&json!(["a", null]), &json!({"m": [1, 2], "a": []}), &json!(null)));
}

#[test]
fn what_does_not_fit_is_refused_with_its_field_and_reason() {
    for (text, why) in [
        ("", "truncated: "),
        ("{\"i\": 1", "truncated: "),
        ("{\"i\": 1}}", "not_json: "),
        ("{i: 1}", "not_json: "),
        ("[]", "invalid_value: expected an object, found a list"),
        ("3", "invalid_value: expected an object, found 3"),
        ("{\"i\": null}", "invalid_value: field i: expected an integer, found null"),
        ("{\"i\": 1.5}", "invalid_value: field i: expected an integer, found 1.5"),
        ("{\"i\": 2147483648}", "invalid_value: field i: 2147483648 is not between"),
        ("{\"l\": 9223372036854775808}", "invalid_value: field l: 9223372036854775808 is not between"),
        ("{\"l\": true}", "invalid_value: field l: expected an integer, found true"),
        ("{\"l\": [1]}", "invalid_value: field l: expected an integer, found a list"),
        ("{\"f\": 1e39}", "invalid_value: field f: "),
        ("{\"d\": 1e999}", "not_json: "),
        ("{\"s\": 1}", "invalid_value: field s: expected a string, found 1"),
        ("{\"b\": \"?\"}", "invalid_value: field b: expected Base64 text, found \"?\""),
        ("{\"m\": 1.005}", "invalid_value: field m: \"1.005\" has more decimal places than its scale"),
        ("{\"m\": 1234567890123456789}", "invalid_value: field m: "),
        ("{\"t\": \"yesterday\"}", "invalid_value: field t: expected an RFC 3339 time"),
        ("{\"o\": \"2026-11-23T12:00:00Z\"}", "invalid_value: field o: expected a local time without an offset"),
        ("{\"c\": 86400000}", "invalid_value: field c: 86400000 is not between 0 and 86399999"),
        ("{\"k\": \"MEDIUM\"}", "invalid_value: field k: expected one of SMALL, LARGE, found \"MEDIUM\""),
        ("{\"l\": 1, \"l\": 2}", "invalid_value: field l: it is there more than once"),
    ] {
        let refused = decode(TYPES, text).unwrap_err();
        assert!(refused.starts_with(why), "{text}: {refused}");
    }
    let nested = r#"{"price": 1, "parts": [{"name": "x", "kind": 3}], "kind": "SMALL", "tags": [], "sizes": {}}"#;
    assert_eq!(decode(NESTED, nested).unwrap_err(), "invalid_value: field parts.kind: expected one of SMALL, LARGE, found 3");
    assert_eq!(decode(TWEET, "{\"userid\": 1}").unwrap_err(), "invalid_value: field username: it is missing, and has no default");
}

#[test]
fn a_bad_record_harms_none_of_its_neighbours() {
    let good = |number: usize| format!("{{\"l\": {number}, \"s\": \"\\u0061{number}\", \"i\": {number}}}");
    let texts: Vec<String> = (0..40)
        .map(|number| match number % 4 {
            // Cut off behind fields that were read already.
            3 => good(number)[..good(number).len() - 2].to_owned(),
            _ => good(number),
        })
        .collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let decoded = decoded(&source(TYPES, Framing::Json), &all_columns(TYPES), &texts);
    assert_eq!((decoded.origins.len(), decoded.rejected.len()), (30, 10));
    let expected = (0..40).filter(|number| number % 4 != 3).map(|number| (json!(number), json!(format!("a{number}"))));
    let found = json::rows(&decoded.events).into_iter().map(|row| (row["l"].clone(), row["s"].clone()));
    assert_eq!(found.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}

#[test]
fn fields_that_no_view_uses_are_checked_all_the_same() {
    let whole = decoded(&source(TYPES, Framing::Json), &[1], &["{\"l\": 1, \"s\": 2}", "{\"l\": 3, \"s\": \"x\"}"]);
    assert_eq!((rows(&whole.events), whole.rejected.len()), (vec![json!({"l": 3})], 1));
    let names = |batch: &RecordBatch| batch.schema().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
    let turned = decoded(&source(TYPES, Framing::Json), &[4, 0], &["{\"s\": \"x\", \"i\": 1}"]);
    assert_eq!((names(&turned.events), rows(&turned.events)), (vec!["s".to_owned(), "i".to_owned()], vec![json!({"s": "x", "i": 1})]));
}

#[test]
fn numbers_of_the_event_time_are_in_the_unit_that_the_source_declares() {
    let seconds = Source { event_time: "t".into(), event_time_unit: Some(Unit::S), ..source(TYPES, Framing::Json) };
    for (written, read) in [
        ("1651591054", "2022-05-03T15:17:34Z"),
        ("1651591054.534903", "2022-05-03T15:17:34.534903Z"),
        ("\"1651591054\"", "2022-05-03T15:17:34Z"),
        ("\"2022-05-03T15:17:34Z\"", "2022-05-03T15:17:34Z"),
    ] {
        let decoded = decoded(&seconds, &all_columns(TYPES), &[&format!("{{\"t\": {written}}}")]);
        assert_eq!(json::rows(&decoded.events).first().map(|row| row["t"].clone()), Some(json!(read)), "{written}: {:?}", decoded.rejected);
    }
}

#[test]
fn the_id_of_a_json_schema_is_passed_over() {
    let source = source(TYPES, Framing::JsonSchema);
    let decoded = decoded(&source, &all_columns(TYPES), &["\0\0\0\0\x07{\"l\": 1}", "{\"l\": 2}", "\0\0"]);
    assert_eq!(json::rows(&decoded.events)[0]["l"], json!(1));
    let reasons: Vec<Reason> = decoded.rejected.iter().map(|rejected| rejected.reason).collect();
    assert_eq!(reasons, [Reason::UnknownFraming, Reason::Truncated]);
}

#[test]
fn what_is_not_utf8_is_said_to_be_so() {
    let mut decoder = Decoder::new(&source(TYPES, Framing::Json), &[4], Arc::new(StaticSchemas::default())).unwrap();
    let decoded = decoder.decode(&records(&[Some(b"{\"s\": \"\xff\"}".to_vec()), None])).unwrap();
    let reasons: Vec<Reason> = decoded.rejected.iter().map(|rejected| rejected.reason).collect();
    assert_eq!(reasons, [Reason::InvalidUtf8, Reason::Tombstone]);
}

#[test]
fn text_that_nests_without_end_is_refused() {
    let deep = format!("{{\"surplus\": {}", "[".repeat(100_000));
    assert!(decode(TYPES, &deep[..4_000]).unwrap_err().starts_with("truncated: "), "without a stack that grows with it");
}
