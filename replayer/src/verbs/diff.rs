//! `refold diff`: how the rows of two versions of a view differ.

use serde_json::{Map, Value, json};

use crate::cli::Diff;
use crate::client::{Client, escaped};
use crate::failure::Failure;
use crate::output::Output;
use crate::settings;
use crate::verbs::reports::{self, number};
use crate::verbs::status::{grouped, plain, text};
use crate::verbs::why;

/// Asks for a comparison, and shows its report.
pub fn run(arguments: &Diff, output: &mut Output) -> Result<(), Failure> {
    let settings = settings::load(&arguments.settings)?;
    // One version alone is compared with the one in service.
    let (left, right) = match (arguments.left, arguments.right) {
        (Some(right), None) => (None, Some(right)),
        both => both,
    };
    let given = [
        ("left", left.map(Value::from)),
        ("right", right.map(Value::from)),
        ("tolerance", arguments.tolerance.map(Value::from)),
        ("examples", arguments.examples.map(Value::from)),
        ("settle_s", arguments.settle.map(Value::from)),
    ];
    let body: Map<String, Value> = given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    let client = Client::new(&settings);
    let mut report = ask(&client, &arguments.view, &json!(body))?;
    if arguments.why {
        trace(&client, &arguments.view, EVENTS, &mut report)?;
    }
    match arguments.json {
        true => output.json(&report)?,
        false => show(&report, output)?,
    }
    match report.get("is_equal").and_then(Value::as_bool) {
        Some(true) => Ok(()),
        _ => Err(Failure::Gate(verdict(&report))),
    }
}

/// Adds the events behind each example to the report, in both versions.
fn trace(client: &Client, view: &str, limit: usize, report: &mut Value) -> Result<(), Failure> {
    let versions = ["left", "right"].map(|side| report.get(side).map_or(0, |side| number(side, "version")));
    let examples = report.get_mut("examples").and_then(Value::as_array_mut).into_iter().flatten();
    for example in examples.take(TRACED) {
        let mut key: Vec<(String, String)> = Vec::new();
        for (name, value) in example.get("key").and_then(Value::as_object).into_iter().flatten() {
            key.push((name.clone(), plain(value)));
        }
        let mut events = Map::new();
        for (side, version) in ["left", "right"].iter().zip(versions) {
            let found = why::find(client, view, &why::Asked { key: &key, version: Some(version), limit })?;
            events.insert((*side).to_owned(), found.into());
        }
        if let Some(members) = example.as_object_mut() {
            members.insert("events".into(), events.into());
        }
    }
    Ok(())
}

/// So many examples are traced at the most: each reads the log twice.
const TRACED: usize = 5;
/// How many events of an example are shown.
const EVENTS: usize = 20;

/// Asks for a comparison; on a terminal, with how far it is.
pub fn ask(client: &Client, view: &str, body: &Value) -> Result<Value, Failure> {
    reports::ask(client, &format!("/v1/admin/views/{}/diff", escaped(view)), body, &|going| {
        let read = grouped(number(going, "rows_read"));
        match number(going, "unsettled") {
            0 => format!("{read} rows read"),
            unsettled => format!("{read} rows read, {} differ and may only be on their way", grouped(unsettled)),
        }
    })
}

/// What it comes to, on one line.
pub fn verdict(report: &Value) -> String {
    let number = |name: &str| number(report, name);
    let (view, left, right) = names(report);
    let differing = number("changed") + number("missing") + number("extra");
    match (differing, number("moving")) {
        (0, 0) => format!("{view}: {right} has the rows of {left}"),
        (0, moving) => format!("{view}: {moving} rows kept changing while {right} was compared with {left}: try a longer --settle"),
        (differing, _) => format!("{view}: {} of {right} differ from {left}", rows(differing)),
    }
}

fn rows(count: u64) -> String {
    if count == 1 { "1 row".to_owned() } else { format!("{} rows", grouped(count)) }
}

fn names(report: &Value) -> (&str, String, String) {
    let version = |side: &str| report.get(side).and_then(|side| side.get("version")).and_then(Value::as_u64).unwrap_or_default();
    let view = report.get("view").and_then(Value::as_str).unwrap_or_default();
    (view, format!("version {}", version("left")), format!("version {}", version("right")))
}

fn show(report: &Value, output: &mut Output) -> Result<(), Failure> {
    let (view, left, right) = names(report);
    let number = |name: &str| number(report, name);
    output.line(&format!("{view}: {right} compared with {left}\n"))?;
    let counts = ["equal", "changed", "missing", "extra", "moving"].into_iter().filter(|name| *name != "moving" || number(name) > 0);
    let what = |name: &str| match name {
        "equal" if number("within_tolerance") > 0 => {
            format!("of them {} within the tolerance, {}", grouped(number("within_tolerance")), text(report, "tolerance"))
        }
        "missing" => format!("not in {right}"),
        "extra" => format!("only in {right}"),
        "moving" => "kept changing while they were compared".to_owned(),
        _ => String::new(),
    };
    output.table(&["ROWS", "", ""], counts.map(|name| vec![name.to_owned(), grouped(number(name)), what(name)]).collect())?;
    let listed = |side: &str| -> Vec<&str> {
        let names = report.get("columns").and_then(|columns| columns.get(side)).and_then(Value::as_array);
        names.into_iter().flatten().filter_map(Value::as_str).collect()
    };
    if !listed("ignored").is_empty() {
        output.line(&format!("columns not compared, as declared (diff_ignore): {}", listed("ignored").join(", ")))?;
    }
    for (side, version) in [("left_only", &left), ("right_only", &right)] {
        if !listed(side).is_empty() {
            output.line(&format!("columns of {version} alone, not compared: {}", listed(side).join(", ")))?;
        }
    }
    let members = |name: &str| report.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let windows = members("windows");
    if !windows.is_empty() {
        output.line("")?;
        let rows = windows.iter().map(|window| ["window", "changed", "missing", "extra"].map(|name| text(window, name)).to_vec());
        output.table(&["WINDOW", "CHANGED", "MISSING", "EXTRA"], rows.collect())?;
    }
    let examples = members("examples");
    if !examples.is_empty() {
        output.line("")?;
        output.table(&["EXAMPLE", "KEY", "VALUES"], examples.iter().map(example).collect())?;
    }
    for traced in examples.iter().filter(|example| example.get("events").is_some()) {
        output.line(&format!("\nevents behind {}", traced.get("key").and_then(Value::as_object).map(pairs).unwrap_or_default()))?;
        let of =
            |side: &str| traced.get("events").and_then(|events| events.get(side)).and_then(Value::as_array).cloned().unwrap_or_default();
        for (side, name) in [("left", &left), ("right", &right)] {
            let events = of(side);
            match events.is_empty() {
                true => output.line(&format!("{name}: none"))?,
                false => {
                    output.line(&format!("{name}:"))?;
                    output.table(&why::HEADER, events.iter().map(why::row).collect())?;
                }
            }
        }
    }
    Ok(())
}

fn example(example: &Value) -> Vec<String> {
    let side = |name: &str| example.get(name).and_then(Value::as_object);
    let kind = example.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    let key = side("key").map(pairs).unwrap_or_default();
    let values = match (side("left"), side("right")) {
        (Some(left), Some(right)) => {
            let changed = left.iter().filter(|(name, value)| right.get(*name) != Some(*value));
            let shown = |value: Option<&Value>| value.map(plain).unwrap_or_default();
            changed.map(|(name, value)| format!("{name} {} -> {}", plain(value), shown(right.get(name)))).collect::<Vec<_>>().join(", ")
        }
        (left, right) => left.or(right).map(pairs).unwrap_or_default(),
    };
    vec![kind, key, values]
}

fn pairs(members: &Map<String, Value>) -> String {
    members.iter().map(|(name, value)| format!("{name} {}", plain(value))).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_shows_what_changed_of_which_row() {
        let changed = json!({ "kind": "changed", "key": { "tag": "rust", "slot": "2026-01-01T00:00:00Z" }, "left": { "n": 3, "m": 1 }, "right": { "n": 4, "m": 1 } });
        assert_eq!(example(&changed), ["changed", "tag rust, slot 2026-01-01T00:00:00Z", "n 3 -> 4"]);
        let extra = json!({ "kind": "extra", "key": { "tag": "c" }, "left": null, "right": { "n": 4 } });
        assert_eq!(example(&extra), ["extra", "tag c", "n 4"]);
    }

    #[test]
    fn the_verdict_says_how_many_rows_differ() {
        let report = |changed: u64, moving: u64| {
            json!({ "view": "v", "changed": changed, "missing": 0, "extra": 1_000 * changed, "moving": moving,
                    "left": { "version": 1 }, "right": { "version": 2 } })
        };
        assert_eq!(verdict(&report(0, 0)), "v: version 2 has the rows of version 1");
        assert_eq!(verdict(&report(1, 4)), "v: 1 001 rows of version 2 differ from version 1");
        assert!(verdict(&report(0, 4)).contains("4 rows kept changing"));
    }
}
