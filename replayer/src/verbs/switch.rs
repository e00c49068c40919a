//! `refold switch`: readers to another version, in one step.

use serde_json::{Value, json};

use crate::cli::Switch;
use crate::client::{Client, escaped};
use crate::failure::Failure;
use crate::output::Output;
use crate::settings;

/// Asks the server to move the pointer.
pub fn run(arguments: &Switch, output: &mut Output) -> Result<(), Failure> {
    let settings = settings::load(&arguments.settings)?;
    let given = [
        ("to", arguments.version.map(Value::from)),
        ("expected", arguments.expected.map(Value::from)),
        ("reason", arguments.reason.clone().map(Value::from)),
        ("force", arguments.force.then(|| true.into())),
        ("by", Some(operator().into())),
    ];
    let body: serde_json::Map<String, Value> = given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    ask(&Client::new(&settings), &arguments.view, &json!(body), arguments.json, output)
}

/// Asks for a switch, and tells what came of it.
pub fn ask(client: &Client, view: &str, body: &Value, as_json: bool, output: &mut Output) -> Result<(), Failure> {
    let answer = client.post(&format!("/v1/admin/views/{}/switch", escaped(view)), body)?;
    if as_json {
        return Ok(output.json(&answer)?);
    }
    let number = |name: &str| answer.get(name).and_then(Value::as_u64);
    let to = number("to").unwrap_or_default();
    let line = match (answer.get("switched").and_then(Value::as_bool), number("from")) {
        (Some(false), _) => format!("readers of {view} are on version {to} already"),
        (_, Some(_)) => format!("readers of {view} are on version {to}; back: refold rollback {view}"),
        (_, None) => format!("readers of {view} are on version {to}"),
    };
    Ok(output.line(&line)?)
}

/// Who asks, for the audit trail.
pub fn operator() -> String {
    ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok()).filter(|name| !name.is_empty()).unwrap_or_else(|| "cli".into())
}
