//! `refold replay`: a new version of a view, built from the start of the log.

use anyhow::Context;
use serde_json::{Value, json};

use crate::cli::Replay;
use crate::client::{Client, escaped};
use crate::failure::Failure;
use crate::output::{Output, complain};
use crate::settings;
use crate::verbs::switch::operator;

/// Asks the server for the new version.
pub fn run(arguments: &Replay, output: &mut Output) -> Result<(), Failure> {
    let settings = settings::load(&arguments.settings)?;
    let mut body = json!({ "by": operator() });
    if let (Some(path), Some(members)) = (&arguments.file, body.as_object_mut()) {
        let sql = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        members.insert("sql".into(), sql.into());
        members.insert("file".into(), path.display().to_string().into());
    }
    let view = &arguments.view;
    let answer = Client::new(&settings).post(&format!("/v1/admin/views/{}/replay", escaped(view)), &body)?;
    if arguments.json {
        return Ok(output.json(&answer)?);
    }
    let version = answer.get("version").and_then(Value::as_u64).unwrap_or_default();
    let state = answer.get("state").and_then(Value::as_str).unwrap_or("");
    match answer.get("created").and_then(Value::as_bool) {
        Some(false) => output.line(&format!("version {version} of {view} has this definition already and is {state}"))?,
        _ => output.line(&format!("version {version} of {view} is being built from the start of the log"))?,
    }
    complain(&match (state, answer.get("waits_for_switch").and_then(Value::as_bool)) {
        ("active", _) => format!("readers of {view} are on it"),
        (_, Some(false)) => format!("refold status {view} --watch shows how far it is; caught up, it goes into service by itself"),
        _ => format!("refold status {view} --watch shows how far it is; refold switch {view} {version} sends readers to it"),
    });
    Ok(())
}
