#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use serde_json::json;

use super::*;

fn lines() -> Vec<Value> {
    vec![
        json!({"when": "2026-11-30 12:00:00", "user": {"id": 7, "name": "ann"}, "total": 1, "tags": ["a"], "paid": true, "day": "03/04/2026", "ts": 1_700_000_000}),
        json!({"when": "2026-11-30 12:00:01", "user": {"id": 8}, "total": 1.5, "tags": [], "paid": false, "day": "03/05/2026", "ts": 1_700_000_001, "items": [{"a": 1}]}),
        json!({"when": "2026-11-30 12:00:02", "user": {"id": 7}, "total": 2, "tags": ["b"], "paid": true, "day": "03/06/2026", "ts": 1_700_000_002, "log.level": "info"}),
    ]
}

#[test]
fn schema_mapping_time_and_key_are_proposed_and_what_is_not_taken_is_told() {
    let proposal = propose("orders", &lines()).unwrap();
    assert_eq!((proposal.event_time.as_str(), proposal.key.as_deref()), ("ts", Some("user_id")));
    let schema: Value = serde_json::from_str(&proposal.schema).unwrap();
    let types: Vec<(String, String)> = schema["fields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|field| (field["name"].as_str().unwrap().to_owned(), field["type"].to_string()))
        .collect();
    let of = |name: &str| types.iter().find(|(known, _)| known == name).unwrap().1.clone();
    assert_eq!(of("total"), "\"double\"");
    assert_eq!(of("user_name"), "[\"null\",\"string\"]");
    assert_eq!(of("tags"), "{\"type\":\"array\",\"items\":\"string\"}");
    assert_eq!(of("day"), "\"string\"", "it can be read in two ways");
    assert!(proposal.declaration.contains("when = { from = \"when\", format = \"yyyy-MM-dd HH:mm:ss\" }"), "{}", proposal.declaration);
    assert!(proposal.declaration.contains("ts = { from = \"ts\", unit = \"s\" }"), "{}", proposal.declaration);
    assert!(proposal.declaration.contains("log_level = { from = [\"log.level\"] }"), "{}", proposal.declaration);
    let notes = proposal.notes.join("\n");
    assert!(notes.contains("items is not taken") && notes.contains("day may be a time"), "{notes}");
}

#[test]
fn without_a_time_there_is_nothing_to_propose() {
    assert!(propose("x", &[json!({"a": 1})]).unwrap_err().contains("no field of every line is a time"));
    assert!(propose("x", &[json!([1])]).unwrap_err().contains("no line is a JSON object"));
}
