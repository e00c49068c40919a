//! `refold diff`: how the rows of two versions of a view differ.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::anyhow;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use crate::cli::Diff;
use crate::client::{Client, escaped};
use crate::failure::Failure;
use crate::output::Output;
use crate::settings;
use crate::verbs::status::{grouped, plain, text};

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
    let report = ask(&Client::new(&settings), &arguments.view, &json!(body))?;
    match arguments.json {
        true => output.json(&report)?,
        false => show(&report, output)?,
    }
    match report.get("is_equal").and_then(Value::as_bool) {
        Some(true) => Ok(()),
        _ => Err(Failure::Gate(verdict(&report))),
    }
}

/// Asks for a comparison; on a terminal, with how far it is.
pub fn ask(client: &Client, view: &str, body: &Value) -> Result<Value, Failure> {
    let bar = std::io::stderr().is_terminal().then(|| {
        let bar = ProgressBar::new_spinner()
            .with_style(ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    });
    let mut report = None;
    let asked = client.post_lines(&format!("/v1/admin/views/{}/diff", escaped(view)), body, &mut |mut line| {
        if let (Some(bar), Some(going)) = (&bar, line.get("going")) {
            let number = |name: &str| grouped(going.get(name).and_then(Value::as_u64).unwrap_or_default());
            bar.set_message(match number("unsettled").as_str() {
                "0" => format!("{} rows read", number("rows_read")),
                unsettled => format!("{} rows read, {unsettled} differ and may only be on their way", number("rows_read")),
            });
        }
        report = line.get_mut("report").map(Value::take).or(report.take());
        Ok(())
    });
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    asked?;
    report.ok_or_else(|| anyhow!("the comparison broke off without a report: the server's log says why").into())
}

/// What it comes to, on one line.
pub fn verdict(report: &Value) -> String {
    let number = |name: &str| report.get(name).and_then(Value::as_u64).unwrap_or_default();
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
    let number = |name: &str| report.get(name).and_then(Value::as_u64).unwrap_or_default();
    output.line(&format!("{view}: {right} compared with {left}\n"))?;
    let counts = ["equal", "changed", "missing", "extra", "moving"].into_iter().filter(|name| *name != "moving" || number(name) > 0);
    let what = |name: &str| match name {
        "equal" if number("within_tolerance") > 0 => format!("of them {} within the tolerance", grouped(number("within_tolerance"))),
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
