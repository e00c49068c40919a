//! `refold audit`: whether the rows of a version meet the audits that its view declares.

use serde_json::{Map, Value, json};

use crate::cli::Audit;
use crate::client::{Client, escaped};
use crate::failure::Failure;
use crate::output::Output;
use crate::settings;
use crate::verbs::reports::{self, number, version_to_look_at};
use crate::verbs::status::{grouped, plain, text};

/// Asks for the audits of a version, and shows what came of each.
pub fn run(arguments: &Audit, output: &mut Output) -> Result<(), Failure> {
    let settings = settings::load(&arguments.settings)?;
    let client = Client::new(&settings);
    let view = &arguments.view;
    let version = arguments.version.map_or_else(|| version_to_look_at(&client, view), |version| Ok(version.into()))?;
    let path = format!("/v1/admin/views/{}/versions/{version}/audit", escaped(view));
    let body = json!({ "examples": arguments.examples });
    let report = reports::ask(&client, &path, &body, &|going| format!("{} rows checked", grouped(number(going, "rows_read"))))?;
    match arguments.json {
        true => output.json(&report)?,
        false => show(&report, output)?,
    }
    match report.get("is_passed").and_then(Value::as_bool) {
        Some(true) => Ok(()),
        _ => Err(Failure::Judged(verdict(&report))),
    }
}

fn audits(report: &Value) -> impl Iterator<Item = &Value> {
    report.get("audits").and_then(Value::as_array).into_iter().flatten()
}

/// What it comes to, on one line.
fn verdict(report: &Value) -> String {
    let failed: Vec<String> = audits(report).filter(|audit| number(audit, "failed") > 0).map(|audit| text(audit, "audit")).collect();
    let (view, version) = (text(report, "view"), number(report, "version"));
    format!("{view}: rows of version {version} fail {}", failed.join(", "))
}

fn show(report: &Value, output: &mut Output) -> Result<(), Failure> {
    output.line(&format!("{}: version {}, {} rows\n", text(report, "view"), text(report, "version"), grouped(number(report, "rows"))))?;
    let row = |audit: &Value| vec![text(audit, "audit"), grouped(number(audit, "failed")), text(audit, "condition")];
    output.table(&["AUDIT", "ROWS THAT FAIL", "CONDITION"], audits(report).map(row).collect())?;
    let examples: Vec<Vec<String>> = audits(report)
        .flat_map(|audit| {
            let rows = audit.get("examples").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object);
            rows.map(|row| vec![text(audit, "audit"), pairs(row)]).collect::<Vec<_>>()
        })
        .collect();
    if !examples.is_empty() {
        output.line("")?;
        output.table(&["AUDIT", "ROW"], examples)?;
    }
    Ok(())
}

/// The members of a row.
pub fn pairs(members: &Map<String, Value>) -> String {
    members.iter().map(|(name, value)| format!("{name} {}", plain(value))).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_names_the_audits_that_fail() {
        let audit = |name: &str, failed: u64| json!({ "audit": name, "failed": failed });
        let report = json!({ "view": "v", "version": 2, "audits": [audit("positive", 0), audit("small", 3), audit("named", 1)] });
        assert_eq!(verdict(&report), "v: rows of version 2 fail small, named");
    }
}
