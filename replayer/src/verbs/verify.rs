//! `refold verify`: whether the rows of a version are those that the log makes.

use serde_json::{Value, json};

use crate::cli::Verify;
use crate::client::{Client, escaped};
use crate::failure::Failure;
use crate::output::{Output, complain};
use crate::settings;
use crate::verbs::audit::pairs;
use crate::verbs::reports::{self, number, version_to_look_at};
use crate::verbs::status::{grouped, plain, text};

/// How many rows that differ are shown on a terminal or in a file for people.
const SHOWN: usize = 100;

/// Asks for a verification, and shows what differs.
pub fn run(arguments: &Verify, output: &mut Output) -> Result<(), Failure> {
    let settings = settings::load(&arguments.settings)?;
    let client = Client::new(&settings);
    let view = &arguments.view;
    let version = arguments.version.map_or_else(|| version_to_look_at(&client, view), |version| Ok(version.into()))?;
    let path = format!("/v1/admin/views/{}/versions/{version}/verify", escaped(view));
    let body = json!({ "window": arguments.window, "from": arguments.from, "to": arguments.to, "rows": arguments.rows });
    let report = reports::ask(&client, &path, &body, &going)?;
    match arguments.json {
        true => output.json(&report)?,
        false => show(&report, output)?,
    }
    match report.get("is_equal").and_then(Value::as_bool) {
        Some(true) => {
            complain(&verdict(&report));
            Ok(())
        }
        _ => Err(Failure::Judged(verdict(&report))),
    }
}

fn going(going: &Value) -> String {
    let of = |name: &str| grouped(number(going, name));
    match (going.get("records"), going.get("computed")) {
        (Some(_), _) => format!("{} of {} records read", of("records_read"), of("records")),
        (_, Some(_)) => format!("{} of {} parts computed", of("computed"), of("of")),
        _ => format!("{} rows of the table read", of("rows_read")),
    }
}

/// What it comes to, on one line.
fn verdict(report: &Value) -> String {
    let (view, version, differing) = (text(report, "view"), number(report, "version"), number(report, "differing"));
    let all = differing + number(report, "equal");
    let unknown = members(report, "unknown").len();
    let windows = |count: u64| if count == 1 { "1 window".to_owned() } else { format!("{} windows", grouped(count)) };
    match (differing, unknown) {
        (0, 0) if all == 0 => format!("{view}: version {version} has no closed window of that time"),
        (0, 0) => format!(
            "{view}: {} of version {version} have the rows that the log makes, {} in all",
            windows(all),
            grouped(number(report, "rows"))
        ),
        (0, unknown) => format!("{view}: {} of version {version} could not be computed", windows(unknown as u64)),
        (differing, _) => format!("{view}: {} of {} of version {version} differ from what the log makes", grouped(differing), windows(all)),
    }
}

fn members<'a>(report: &'a Value, name: &str) -> Vec<&'a Value> {
    report.get(name).and_then(Value::as_array).into_iter().flatten().collect()
}

fn show(report: &Value, output: &mut Output) -> Result<(), Failure> {
    let windows = members(report, "windows");
    if !windows.is_empty() {
        let row = |window: &&Value| ["window", "stored_rows", "computed_rows"].map(|name| text(window, name)).to_vec();
        output.table(&["WINDOW", "ROWS IN THE TABLE", "ROWS BY THE LOG"], windows.iter().map(row).collect())?;
    }
    let examples = members(report, "examples");
    if !examples.is_empty() {
        output.line("")?;
        output.table(&["ROW", "KEY", "IN THE TABLE", "BY THE LOG"], examples.iter().take(SHOWN).map(|example| row(example)).collect())?;
    }
    for unknown in members(report, "unknown") {
        complain(&format!("window {} could not be computed: {}", text(unknown, "window"), text(unknown, "reason")));
    }
    if examples.len() > SHOWN {
        complain(&format!("{SHOWN} of {} rows are shown; --json has them all", grouped(examples.len() as u64)));
    }
    match text(report, "whole_from").as_str() {
        "" => {}
        from => complain(&format!("the log has lost its beginning: windows before {from} were not compared")),
    }
    Ok(())
}

/// A row that differs: of one with other values, the columns that differ.
fn row(example: &Value) -> Vec<String> {
    let side = |name: &str| example.get(name).and_then(Value::as_object);
    let key = side("key").cloned().unwrap_or_default();
    let values = |this: &str, other: &str| -> String {
        let Some(row) = side(this) else { return "-".to_owned() };
        let other = side(other);
        let differs = |name: &String| !key.contains_key(name) && other.is_none_or(|other| other.get(name) != row.get(name));
        row.iter().filter(|(name, _)| differs(name)).map(|(name, value)| format!("{name} {}", plain(value))).collect::<Vec<_>>().join(", ")
    };
    vec![text(example, "kind"), pairs(&key), values("stored", "computed"), values("computed", "stored")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_differs_shows_both_sides() {
        let changed = json!({ "kind": "changed", "key": { "tag": "a" }, "stored": { "tag": "a", "n": 7, "m": 1 }, "computed": { "tag": "a", "n": 6, "m": 1 } });
        assert_eq!(row(&changed), ["changed", "tag a", "n 7", "n 6"]);
        let extra = json!({ "kind": "extra", "key": { "tag": "a" }, "stored": { "tag": "a", "n": 7 }, "computed": null });
        assert_eq!(row(&extra), ["extra", "tag a", "n 7", "-"]);
    }

    #[test]
    fn the_verdict_says_how_many_windows_differ() {
        let report = |equal: u64, differing: u64| json!({ "view": "v", "version": 2, "equal": equal, "differing": differing, "rows": 1_200, "unknown": [] });
        assert_eq!(verdict(&report(12, 0)), "v: 12 windows of version 2 have the rows that the log makes, 1 200 in all");
        assert_eq!(verdict(&report(11, 1)), "v: 1 of 12 windows of version 2 differ from what the log makes");
        assert_eq!(verdict(&report(0, 0)), "v: version 2 has no closed window of that time");
    }
}
