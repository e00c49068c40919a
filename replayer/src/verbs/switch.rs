//! `refold switch`: readers to another version, in one step.

use serde_json::{Value, json};

use crate::cli::Switch;
use crate::client::{Client, escaped};
use crate::failure::Failure;
use crate::output::Output;
use crate::settings;
use crate::verbs::gates;

/// Asks the server to move the pointer.
pub fn run(arguments: &Switch, output: &mut Output) -> Result<(), Failure> {
    let settings = settings::load(&arguments.settings)?;
    let given = [
        ("to", arguments.version.map(Value::from)),
        ("expected", arguments.expected.map(Value::from)),
        ("reason", arguments.reason.clone().map(Value::from)),
        ("force", arguments.force.then(|| true.into())),
        ("diff_within", arguments.diff_within.map(Value::from)),
        ("no_diff", arguments.no_diff.then(|| true.into())),
        ("dry_run", arguments.dry_run.then(|| true.into())),
        ("by", Some(operator().into())),
    ];
    let body: serde_json::Map<String, Value> = given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    let client = Client::new(&settings);
    if !arguments.dry_run {
        return ask(&client, &arguments.view, &json!(body), arguments.json, output);
    }
    let weighed = client.post_for_long(&path(&arguments.view), &json!(body))?;
    match arguments.json {
        true => output.json(&weighed)?,
        false => gates::show(&weighed, output)?,
    }
    match gates::is_passed(&weighed) {
        true => Ok(()),
        false => Err(Failure::Judged(format!("readers of {} would not be switched", arguments.view))),
    }
}

fn path(view: &str) -> String {
    format!("/v1/admin/views/{}/switch", escaped(view))
}

/// Asks for a switch, and tells what came of it.
pub fn ask(client: &Client, view: &str, body: &Value, as_json: bool, output: &mut Output) -> Result<(), Failure> {
    let answer = client.post_for_long(&path(view), body)?;
    if as_json {
        return Ok(output.json(&answer)?);
    }
    Ok(output.line(&told(view, &answer))?)
}

/// What came of a switch, for people.
pub fn told(view: &str, answer: &Value) -> String {
    let number = |name: &str| answer.get(name).and_then(Value::as_u64);
    let to = number("to").unwrap_or_default();
    match (answer.get("switched").and_then(Value::as_bool), number("from")) {
        (Some(false), _) => format!("readers of {view} are on version {to} already"),
        (_, Some(_)) => format!("readers of {view} are on version {to}; back: refold rollback {view}"),
        (_, None) => format!("readers of {view} are on version {to}"),
    }
}

/// Who asks, for the audit trail.
pub fn operator() -> String {
    ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok()).filter(|name| !name.is_empty()).unwrap_or_else(|| "cli".into())
}
