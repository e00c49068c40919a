#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
use std::path::Path;

use refold_processor::source::load_sources;
use serde_json::json;

use super::*;

fn schemas() -> &'static Path {
    Path::new("../schemas")
}

fn tweets() -> Encoder {
    Encoder::new(&load_sources(schemas()).unwrap()["tweets"], Some(1)).unwrap()
}

fn mapping(fields: &str) -> Result<Mapping, String> {
    Mapping::from_toml(&format!("[mappings.m]\nsource = \"tweets\"\n[mappings.m.fields]\n{fields}"), "m", &tweets())
}

fn apply(mapping: &Mapping, json: Value) -> Result<Value, Refused> {
    mapping.apply(&json, json.to_string().as_bytes(), 7)
}

#[test]
fn the_declared_mapping_of_the_sample_reads_plain_posts() {
    let mapping = Mapping::load(schemas(), "plain_posts", &tweets()).unwrap();
    let event = apply(&mapping, json!({"time_us": 1_723_760_649_123_999_i64, "lang": "en", "text": "hi #there"})).unwrap();
    assert_eq!(event["timestamp"], 1_723_760_649_123_i64);
    assert_eq!(event["tweet"], "hi #there");
    assert_eq!(event["tweetid"], 7);
    assert_eq!(event["username"], "unknown");
    assert!(event["userid"].as_i64().unwrap() >= 0);
    assert!(tweets().encode(&event).is_ok());
}

#[test]
fn paths_step_into_objects_and_lists_and_fall_back_to_a_default() {
    let mapping = mapping("tweet = { from = \"a.b.1\", default = \"none\" }").unwrap();
    let own = |a: Value| json!({"a": a, "userid": 1, "username": "u", "timestamp": 2, "tweetid": 3});
    assert_eq!(apply(&mapping, own(json!({"b": ["x", "y"]}))).unwrap()["tweet"], "y");
    assert_eq!(apply(&mapping, own(json!({"b": ["x"]}))).unwrap()["tweet"], "none");
    assert_eq!(apply(&mapping, own(json!({"b": ["x", null]}))).unwrap()["tweet"], "none");
    assert_eq!(apply(&mapping, own(json!(5))).unwrap()["userid"], 1, "other fields are read under their own name");
}

#[test]
fn units_convert_integers_and_leave_text() {
    let mapping = mapping("timestamp = { from = \"at\", unit = \"s\" }").unwrap();
    assert_eq!(apply(&mapping, json!({"at": 2})).unwrap()["timestamp"], 2000);
    assert_eq!(apply(&mapping, json!({"at": "2"})).unwrap()["timestamp"], 2000);
    assert_eq!(apply(&mapping, json!({"at": "2026-11-23T00:00:00Z"})).unwrap()["timestamp"], "2026-11-23T00:00:00Z");
    assert_eq!(apply(&mapping, json!({"at": i64::MAX})).unwrap_err().reason, BadReason::OutOfRange);
}

#[test]
fn the_hash_is_of_the_line_and_a_field_that_nothing_reads_is_refused() {
    let mapping = mapping("userid = { line = \"hash\" }\ntweet = { from = \"t\" }").unwrap();
    let hash = |text: &str| apply(&mapping, json!({ "t": text })).unwrap()["userid"].as_i64().unwrap();
    assert_eq!(hash("a"), hash("a"));
    assert_ne!(hash("a"), hash("b"));
    assert_eq!(apply(&mapping, json!({"t": "a", "lang": "en"})).unwrap_err().reason, BadReason::UnknownField);
    assert_eq!(apply(&mapping, json!("a")).unwrap_err().reason, BadReason::NotAnObject);
}

#[test]
fn a_mapping_that_does_not_fit_is_refused_at_once() {
    let refused = |fields: &str| mapping(fields).unwrap_err();
    assert!(refused("twet = { value = 1 }").contains("no field \"twet\"; it has userid"));
    assert!(refused("tweet = { value = 1, line = \"hash\" }").contains("write one of from, value and line"));
    assert!(refused("tweet = { default = 1 }").contains("go with from"));
    assert!(refused("tweet = { from = \"a\", unit = \"ms\" }").contains("a unit is for a time"));
    assert!(refused("tweet = { form = \"a\" }").contains("form"));
    let missing = Mapping::load(schemas(), "other", &tweets()).unwrap_err().to_string();
    assert!(missing.contains("there is plain_posts"), "{missing}");
}
