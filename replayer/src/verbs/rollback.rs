//! `refold rollback`: readers back to the version before, in one step.

use serde_json::{Value, json};

use crate::cli::Rollback;
use crate::client::{Client, escaped};
use crate::failure::Failure;
use crate::output::Output;
use crate::settings;
use crate::verbs::switch::operator;

/// Asks the server to move the pointer back.
pub fn run(arguments: &Rollback, output: &mut Output) -> Result<(), Failure> {
    let settings = settings::load(&arguments.settings)?;
    let view = &arguments.view;
    let body = json!({ "expected": arguments.expected, "reason": arguments.reason, "force": arguments.force, "by": operator() });
    let answer = Client::new(&settings).post(&format!("/v1/admin/views/{}/rollback", escaped(view)), &body)?;
    if arguments.json {
        return Ok(output.json(&answer)?);
    }
    let number = |name: &str| answer.get(name).and_then(Value::as_u64).unwrap_or_default();
    let already = if answer.get("rolled_back").and_then(Value::as_bool) == Some(false) { " already" } else { "" };
    let (from, to) = (number("from"), number("to"));
    Ok(output.line(&format!("readers of {view} are back on version {to}{already}; forward to {from}: refold switch {view} {from}"))?)
}
