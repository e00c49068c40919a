#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use serde_json::json;

use super::*;
use crate::cases::events::Content;

fn parsed(text: &str) -> Vec<Case> {
    parse(Path::new("cases.toml"), text).unwrap_or_else(|mistake| panic!("{mistake}"))
}

fn refused(text: &str) -> String {
    parse(Path::new("cases.toml"), text).unwrap_err().to_string()
}

const SHORT: &str = "[[case]]\nname = \"short\"\nview = \"v\"\nevents = []\nrows = []\n";

#[test]
fn a_case_says_what_happens_and_what_is_expected() {
    let cases = parsed(
        r#"
view = "counts"
defaults = { userid = 1, name = "ann" }

[[case]]
name = "all there is"
now = 2026-11-30T12:00:00Z
mapping = "posts"
defaults = { name = "bob" }
events = [
    { at = 2026-11-30T12:00:00Z, text = "a" },
    '{"at": null, "userid": 7}',
    {
        event = { text = "b" },
        partition = 2, key = "k", record_time = "2026-11-30T12:00:01Z", cut_bytes = 3,
    },
    { raw = "not Avro" },
    { base64 = "/wA=" },
]
expect = "by_key"
rows = [{ key = "a", n = 1 }, '{"key": "b", "n": null}']
keys = [{ key = "c" }]
quarantined = { too_late = 2, truncated = 1, tombstone = 0 }
late = 3

[[case]]
name = "another"
view = "totals"
events = []
rows = []
"#,
    );
    let case = &cases[0];
    assert_eq!((case.line, case.name.as_str(), case.view.as_str(), case.view_line), (6, "all there is", "counts", 2));
    assert_eq!((case.now_ms, &case.mapping), (Some(1_796_040_000_000), &Some((8, "posts".to_owned()))));
    let contents: Vec<&Content> = case.events.iter().map(|event| &event.content).collect();
    let event = |event| Content::Event(event);
    assert_eq!(contents[0], &event(json!({ "at": "2026-11-30T12:00:00Z", "text": "a", "userid": 1, "name": "bob" })));
    assert_eq!(contents[1], &event(json!({ "at": null, "userid": 7, "name": "bob" })));
    assert_eq!(contents[2], &event(json!({ "text": "b", "userid": 1, "name": "bob" })));
    assert_eq!((contents[3], contents[4]), (&Content::Raw(b"not Avro".to_vec()), &Content::Raw(vec![0xFF, 0])));
    let told = &case.events[2];
    assert_eq!((told.line, told.partition, told.key.as_deref(), told.cut_bytes), (13, Some(2), Some("k"), 3));
    assert_eq!((told.record_time_ms, case.events[0].record_time_ms), (Some(1_796_040_001_000), None));
    assert_eq!(case.mode, Mode::ByKey);
    let rows: Vec<Value> = case.rows.iter().map(|(_, row)| Value::Object(row.clone())).collect();
    assert_eq!(rows, [json!({ "key": "a", "n": 1 }), json!({ "key": "b", "n": null })]);
    assert_eq!(case.keys.len(), 1);
    assert_eq!(case.quarantined, BTreeMap::from([(Reason::TooLate, 2), (Reason::Truncated, 1)]));
    assert_eq!(case.late, Some(3));
    let other = &cases[1];
    assert_eq!((other.view.as_str(), other.mode, other.quarantined.len(), other.late), ("totals", Mode::Exact, 0, None));
}

#[test]
fn mistakes_are_named_with_file_line_and_case() {
    for (text, complaint) in [
        (SHORT.replace("rows = []", "row = []"), "cases.toml:5: unknown field `row`"),
        (SHORT.replace("rows = []", ""), "cases.toml:1: missing field `rows`"),
        (SHORT.replace("rows = []", "rows = ["), "cases.toml:"),
        (SHORT.replace("view = \"v\"", ""), "cases.toml:2: case \"short\": it names no view; add view"),
        (format!("{SHORT}\n{SHORT}"), "cases.toml:8: case \"short\": line 2 has a case of this name too"),
        (SHORT.replace("events = []", "events = [5]"), "cases.toml:4: case \"short\": event 1: it is neither a table nor JSON text: 5"),
        (SHORT.replace("events = []", "events = [\n'{',\n]"), "cases.toml:5: case \"short\": event 1: its text is not JSON"),
        (SHORT.replace("events = []", "events = [{ raw = \"a\", base64 = \"b\" }]"), "event 1: write one of event, raw, base64"),
        (
            SHORT.replace("events = []", "events = [{ raw = \"a\", partion = 1 }]"),
            "event 1: partion is not known beside event, raw, base64",
        ),
        (SHORT.replace("events = []", "events = [{ raw = \"a\", partition = -1 }]"), "partition is a whole number from 0, found -1"),
        (SHORT.replace("events = []", "events = [{ base64 = \"*\" }]"), "event 1: base64: "),
        (
            SHORT.replace("events = []", "events = [{ event = {}, record_time = 2026-11-30T12:00:00 }]"),
            "event 1: record_time: 2026-11-30T12:00:00 is no time with an offset; write for instance 2026-11-30T12:00:00Z",
        ),
        (SHORT.replace("rows = []", "rows = [1]"), "cases.toml:5: case \"short\": row 1: it is neither a table"),
        (format!("{SHORT}keys = [{{ a = 1 }}]"), "cases.toml:6: case \"short\": keys go with expect = \"by_key\""),
        (format!("{SHORT}expect = \"some\""), "cases.toml:6: unknown variant `some`, expected one of `exact`, `by_key`, `subset`"),
        (
            format!("{SHORT}quarantined = {{ late = 1 }}"),
            "cases.toml:6: case \"short\": quarantined: late is no reason; there are tombstone",
        ),
        (format!("{SHORT}now = 2026-11-30"), "cases.toml:6: case \"short\": now: 2026-11-30 is no time with an offset"),
    ] {
        let said = refused(&text);
        assert!(said.contains(complaint), "{complaint:?} is not in {said:?}");
    }
}
