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
    assert!(missing.contains("there is bluesky, mastodon, plain_posts, x"), "{missing}");
}

/// A source of these fields.
fn encoder(fields: &str) -> Encoder {
    let mut source = load_sources(schemas()).unwrap()["tweets"].clone();
    source.key = None;
    source.schema_json = format!("{{\"type\": \"record\", \"name\": \"r\", \"fields\": [{fields}]}}");
    Encoder::new(&source, Some(1)).unwrap()
}

const TIME: &str = "{\"name\": \"timestamp\", \"type\": {\"type\": \"long\", \"logicalType\": \"timestamp-millis\"}}";

fn mapping_over(fields: &str, entry: &str) -> Result<Mapping, String> {
    Mapping::from_toml(&format!("[mappings.m]\nsource = \"tweets\"\nignore_unknown = true\n{entry}"), "m", &encoder(fields))
}

fn map(mapping: &Mapping, json: &Value) -> Mapped {
    mapping.map(json, LineFacts { text: json.to_string().as_bytes(), number: 1, received_ms: Some(12_345) }).unwrap()
}

#[test]
fn the_first_path_that_leads_to_something_is_taken() {
    let mapping = mapping("tweet = { first_of = [\"note.text\", [\"text.old\"], \"text\"], default = \"none\" }").unwrap();
    let own = |more: Value| {
        let mut line = json!({"userid": 1, "username": "u", "timestamp": 2, "tweetid": 3});
        line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        apply(&mapping, line).unwrap()["tweet"].clone()
    };
    assert_eq!(own(json!({"note": {"text": "whole"}, "text": "cut"})), "whole");
    assert_eq!(own(json!({"note": null, "text": "cut"})), "cut");
    assert_eq!(own(json!({"text.old": "dotted", "text": "cut"})), "dotted");
    assert_eq!(own(json!({"note": {"text": null}})), "none");
}

#[test]
fn what_is_none_of_the_source_is_left_out_and_not_bad() {
    let entry = "only = { kind = \"commit\", \"c.op\" = [\"create\", \"update\"] }\nskip = { bot = true }\n[mappings.m.fields]\ntimestamp = { value = 1 }";
    let mapping = mapping_over(TIME, entry).unwrap();
    let left_out = |json: Value| if let Mapped::LeftOut(why) = map(&mapping, &json) { Some(why) } else { None };
    assert_eq!(left_out(json!({"kind": "commit", "c": {"op": "update"}})), None);
    assert_eq!(left_out(json!({"kind": "account", "c": {"op": "create"}})).unwrap(), "not kind = \"commit\"");
    assert_eq!(left_out(json!({"kind": "commit", "c": {"op": "delete"}})).unwrap(), "not c.op = \"create\" or \"update\"");
    assert_eq!(left_out(json!({"kind": "commit", "c": {"op": "create"}, "bot": true})).unwrap(), "bot = true");
}

#[test]
fn a_line_may_hold_a_list_of_events_and_a_bad_one_costs_no_other() {
    let mapping = mapping_over(TIME, "each = \"data.items\"\n[mappings.m.fields]\ntimestamp = { from = \"at\", unit = \"s\" }").unwrap();
    let Mapped::Events(events) = map(&mapping, &json!({"data": {"items": [{"at": 1}, {"at": true}, {"at": 3}]}})) else {
        panic!("left out")
    };
    assert_eq!(
        events.iter().map(|event| event.as_ref().ok().map(|event| event["timestamp"].clone())).collect::<Vec<_>>(),
        [Some(json!(1000)), None, Some(json!(3000))]
    );
    let facts = LineFacts { text: b"", number: 1, received_ms: None };
    assert_eq!(mapping.map(&json!({"data": {}}), facts).unwrap_err().reason, BadReason::MissingField);
    assert_eq!(mapping.map(&json!({"data": {"items": 1}}), facts).unwrap_err().reason, BadReason::WrongType);
}

#[test]
fn times_are_read_in_the_formats_that_are_declared_and_in_no_other() {
    let fields = "[mappings.m.fields]\ntimestamp = { from = \"at\", unit = \"s\", format = [\"dd/MMM/yyyy:HH:mm:ss Z\", \"yyyy-MM-dd HH:mm:ss\"], zone = \"Europe/Berlin\" }";
    let mapping = mapping_over(TIME, fields).unwrap();
    let time = |at: Value| apply(&mapping, json!({ "at": at })).map(|event| event["timestamp"].clone());
    assert_eq!(time(json!("31/Aug/2014:02:29:15 +0200")).unwrap(), 1_409_444_955_000_i64);
    assert_eq!(time(json!("2014-08-31 02:29:15")).unwrap(), 1_409_444_955_000_i64);
    assert_eq!(time(json!(1_409_444_955.5)).unwrap(), 1_409_444_955_500_i64, "a number is in the unit");
    let refused = time(json!("2014-08-31T02:29:15Z")).unwrap_err();
    assert!(refused.detail.contains("nor of yyyy-MM-dd HH:mm:ss"), "{refused}");
    for (wrong, complaint) in [
        ("timestamp = { from = \"at\", format = \"qq\" }", "fields.timestamp: the format \"qq\" has \"qq\", which is not known"),
        ("timestamp = { from = \"at\", format = \"yyyy\", zone = \"Berlin\" }", "zone: \"Berlin\" is not a time zone"),
        ("timestamp = { from = \"at\", zone = \"UTC\" }", "zone goes with format"),
        ("timestamp = { hash = [] }", "hash names no path"),
    ] {
        let error = mapping_over(TIME, &format!("[mappings.m.fields]\n{wrong}")).unwrap_err();
        assert!(error.contains(complaint), "{error}");
    }
}

#[test]
fn values_are_cast_hashed_and_made_text_as_declared() {
    let text = |name: &str| format!("{{\"name\": \"{name}\", \"type\": \"string\"}}");
    let schema = format!(
        "{TIME}, {}, {}, {{\"name\": \"n\", \"type\": \"double\"}}, {{\"name\": \"id\", \"type\": \"long\"}}, {{\"name\": \"tags\", \"type\": \
         {{\"type\": \"array\", \"items\": \"string\"}}}}, {}",
        text("t"),
        text("h"),
        text("plain")
    );
    let fields = "[mappings.m.fields]\ntimestamp = { line = \"received\" }\nt = { from = \"t\", as = \"text\" }\nn = { from = \"n\", as = \"number\" }\n\
                  id = { hash = [\"a\", \"b\"] }\nh = { hash = \"a\" }\ntags = { from = \"tags.*.name\" }\nplain = { from = \"html\", html_to_text = true }";
    let mapping = mapping_over(&schema, fields).unwrap();
    let line = json!({"t": 7, "n": "1.5", "a": "x", "b": 2, "tags": [{"name": "p"}, {"name": "q"}], "html": "<p>a&amp;b</p>"});
    let event = apply_at(&mapping, &line).unwrap();
    assert_eq!((&event["t"], &event["n"], &event["tags"], &event["plain"]), (&json!("7"), &json!(1.5), &json!(["p", "q"]), &json!("a&b")));
    assert_eq!(event["timestamp"], 12_345);
    assert!(event["id"].as_i64().unwrap() >= 0);
    assert_eq!(event["h"].as_str().unwrap().len(), 32);
    assert!(encoder(&schema).encode(&event).is_ok());
    let other = apply_at(&mapping, &json!({"t": 7, "n": "1.5", "a": "x2", "b": "", "tags": [], "html": ""})).unwrap();
    assert_ne!(other["id"], event["id"]);
}

fn apply_at(mapping: &Mapping, json: &Value) -> Result<Value, Refused> {
    mapping.apply(json, LineFacts { text: json.to_string().as_bytes(), number: 1, received_ms: Some(12_345) })
}

#[test]
fn a_secret_changes_digests_and_is_never_written_in_the_declaration() {
    let folder = tempfile::tempdir().unwrap();
    let schema = format!("{TIME}, {{\"name\": \"h\", \"type\": \"string\"}}");
    let digest = |key: &str| {
        let path = folder.path().join("key");
        std::fs::write(&path, key).unwrap();
        let fields = "[mappings.m.fields]\ntimestamp = { value = 1 }\nh = { hash = \"a\" }";
        let mapping = mapping_over(&schema, &format!("hash_key = \"${{file:{}}}\"\n{fields}", path.display())).unwrap();
        assert!(!format!("{mapping:?}").contains(key));
        apply_at(&mapping, &json!({"a": "x"})).unwrap()["h"].clone()
    };
    assert_eq!(digest("first-secret"), digest("first-secret"));
    assert_ne!(digest("first-secret"), digest("second-secret"));
    let error = mapping_over(&schema, "hash_key = \"plain\"\n[mappings.m.fields]").unwrap_err();
    assert!(error.contains("a secret is not written here"), "{error}");
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    fn json_values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(|number| json!(number)),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::btree_map("[abc.]{1,3}", inner, 0..4).prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Whatever a line is, the mapping answers, the same each time; and what it makes is encoded or refused with the field.
        #[test]
        fn any_line_becomes_the_same_or_is_refused(json in json_values()) {
            let schema = format!("{TIME}, {{\"name\": \"h\", \"type\": [\"null\", \"string\"]}}, {{\"name\": \"l\", \"type\": {{\"type\": \"array\", \"items\": \"long\"}}}}");
            let fields = "skip = { c = 1 }\n[mappings.m.fields]\ntimestamp = { first_of = [\"a\", \"b.a\"], unit = \"us\", format = \"yyyy\" }\n\
                          h = { from = \"b\", html_to_text = true }\nl = { from = \"c.*.a\", default = [] }";
            let mapping = mapping_over(&schema, fields).unwrap();
            let facts = LineFacts { text: b"", number: 1, received_ms: None };
            let mapped = mapping.map(&json, facts);
            prop_assert_eq!(&mapped, &mapping.map(&json, facts));
            if let Ok(Mapped::Events(events)) = mapped {
                for event in events.into_iter().flatten() {
                    let _ = encoder(&schema).encode(&event);
                }
            }
        }

        /// Different values never have the same digest by being put together.
        #[test]
        fn digests_tell_apart_what_is_apart(a in ".{0,6}", b in ".{0,6}", c in ".{0,6}", d in ".{0,6}") {
            let paths = [JsonPath::of_text("a"), JsonPath::of_text("b")];
            let left = bytes_at(&paths, &json!({ "a": a, "b": b }));
            let right = bytes_at(&paths, &json!({ "a": c, "b": d }));
            prop_assert_eq!((a, b) == (c, d), left == right);
        }

        #[test]
        fn html_to_text_takes_any_text_and_leaves_plain_words(text in "\\PC{0,40}", word in "[a-z ]{0,20}") {
            let _ = html::to_text(&text);
            prop_assert_eq!(html::to_text(&word), word);
        }
    }
}
