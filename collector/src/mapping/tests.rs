#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
use std::path::Path;

use refold_processor::source::load_sources;
use serde_json::{Number, json};

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
    let text = json.to_string();
    match mapping.map(&json, LineFacts { text: text.as_bytes(), number: 7, received_ms: Some(9) })? {
        Mapped::Events(mut events) => events.remove(0),
        Mapped::LeftOut(why) => panic!("left out: {why}"),
    }
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

/// What field `at` of a line becomes in `timestamp`, which is in milliseconds.
fn time_in(unit: &str, text: &str) -> Result<Value, Refused> {
    let mapping = mapping(&format!("timestamp = {{ from = \"at\", unit = \"{unit}\" }}")).unwrap();
    let line: Value = serde_json::from_str(&format!("{{\"at\": {text}}}")).unwrap();
    apply(&mapping, line).map(|event| event["timestamp"].clone())
}

/// The case that was seen: `1651591055.0` and `1.651591055e9` went on unconverted, and the event was one of 1970.
#[test]
fn a_number_with_a_fraction_or_an_exponent_is_a_time_in_the_unit_too() {
    for text in
        ["1651591055", "1651591055.0", "1.651591055e9", "\"1651591055\"", "\"1651591055.0\"", "\"1.651591055E9\"", "\"+1651591055\""]
    {
        assert_eq!(time_in("s", text).unwrap(), json!(1_651_591_055_000_i64), "{text}");
    }
    assert_eq!(time_in("s", "1651591054.5349035").unwrap(), json!(1_651_591_054_534_i64));
    assert_eq!(time_in("s", "-0.0001").unwrap(), json!(-1), "towards the past");
    assert_eq!(time_in("ns", "1.651591055123456789e18").unwrap(), json!(1_651_591_055_123_i64));
    assert_eq!(time_in("us", "1651591055123456.5").unwrap(), json!(1_651_591_055_123_i64));
}

#[test]
fn what_is_no_time_is_refused_and_never_passed_on_unconverted() {
    for (text, reason) in [
        ("18446744073709551615", BadReason::OutOfRange),
        ("1e300", BadReason::OutOfRange),
        ("\"99999999999999999999\"", BadReason::OutOfRange),
        ("true", BadReason::WrongType),
        ("[1651591055]", BadReason::WrongType),
        ("{\"sec\": 1651591055}", BadReason::WrongType),
    ] {
        let refused = time_in("s", text).unwrap_err();
        assert_eq!(refused.reason, reason, "{text}: {refused}");
        assert!(refused.detail.starts_with("at timestamp: "), "{refused}");
    }
    // Text that is no number goes on as it is, and is a time in full or refused.
    let passed = time_in("s", "\"1651591055 s\"").unwrap();
    let event = json!({"userid": 1, "username": "u", "timestamp": passed, "tweetid": 1, "tweet": "t"});
    assert_eq!(tweets().encode(&event).unwrap_err().reason, BadReason::WrongType);
    assert_eq!(time_in("s", "null").unwrap(), Value::Null, "whether it may be NULL is for the schema to say");
}

#[test]
fn more_digits_than_a_json_number_keeps_are_refused_where_they_would_be_seen() {
    let is_rounded_in = |unit: Unit, text: &str| {
        let number: Number = serde_json::from_str(text).unwrap();
        convert::is_rounded(&number, &number.to_string(), Unit::S.ratio(unit))
    };
    assert!(is_rounded_in(Unit::Ns, "1651591055.1234567"));
    assert!(!is_rounded_in(Unit::Us, "1651591055.1234567"));
    assert!(!is_rounded_in(Unit::Ns, "1651591055.5"));
    assert!(!is_rounded_in(Unit::Ns, "1651591055"));
}

#[test]
fn a_default_is_in_the_unit_of_what_it_stands_in_for() {
    let mapping = mapping("timestamp = { from = \"at\", unit = \"s\", default = 2 }").unwrap();
    assert_eq!(apply(&mapping, json!({})).unwrap()["timestamp"], 2000);
    assert_eq!(apply(&mapping, json!({"at": null})).unwrap()["timestamp"], 2000);
    assert!(super::tests::mapping("timestamp = { from = \"at\", unit = \"s\", default = true }").unwrap_err().contains("expected a time"));
}

/// The case that was seen: a key such as `log.level` could not be named, and was refused as one that nothing reads.
#[test]
fn a_key_with_a_dot_in_it_can_be_named() {
    let own = |tweet: Value| {
        let mut line = json!({"userid": 1, "username": "u", "timestamp": 2, "tweetid": 3});
        line.as_object_mut().unwrap().extend(tweet.as_object().unwrap().clone());
        line
    };
    let read = |from: &str, line: Value| {
        apply(&mapping(&format!("tweet = {{ from = {from} }}")).unwrap(), own(line)).map(|event| event["tweet"].clone())
    };
    for line in [json!({"log.level": "WARN"}), json!({"log": {"level": "WARN"}})] {
        assert_eq!(read("\"log.level\"", line.clone()).unwrap(), "WARN", "{line}");
    }
    let both = json!({"log.level": "key", "log": {"level": "nested"}});
    assert_eq!(read("\"log.level\"", both.clone()).unwrap(), "nested", "as it was read before");
    assert_eq!(read("[\"log.level\"]", json!({"log.level": "key"})).unwrap(), "key");
    assert_eq!(read("[\"a.b\", \"0\", \"c\"]", json!({"a.b": [{"c": "deep"}]})).unwrap(), "deep");
    assert_eq!(read("\"a.b.c.d\"", json!({"a": {"b.c": {"d": "deep"}}})).unwrap(), "deep");
    assert_eq!(read("[\"log.level\"]", json!({"log": {"level": "nested"}})).unwrap_err().reason, BadReason::UnknownField);
    assert_eq!(read("\"log.level\"", json!({"log.levels": "x"})).unwrap_err().reason, BadReason::UnknownField);
    for wrong in ["tweet = { from = [] }", "tweet = { from = 7 }"] {
        assert!(mapping(wrong).unwrap_err().contains("from"), "{wrong}");
    }
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
    assert!(refused("tweet = { value = 1, line = \"hash\" }").contains("write one of from, first_of, hash, value and line"));
    assert!(refused("tweet = { default = 1 }").contains("go with from"));
    assert!(refused("tweet = { from = \"a\", unit = \"ms\" }").contains("a unit is for a time"));
    assert!(refused("tweet = { form = \"a\" }").contains("form"));
    let missing = Mapping::load(schemas(), "other", &tweets()).unwrap_err().to_string();
    assert!(missing.contains("there is plain_posts"), "{missing}");
}
