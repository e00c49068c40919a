//! `refold resume`: resumes a version that has failed or is paused where it stopped.

use serde_json::{Value, json};

use crate::cli::Resume;
use crate::client::{Client, escaped};
use crate::failure::Failure;
use crate::output::{Output, complain};
use crate::settings;
use crate::verbs::switch::operator;

/// Asks the server to resume the version.
pub fn run(arguments: &Resume, output: &mut Output) -> Result<(), Failure> {
    let settings = settings::load(&arguments.settings)?;
    let (view, version) = (&arguments.view, arguments.version);
    let path = format!("/v1/admin/views/{}/versions/{version}/resume", escaped(view));
    let answer = Client::new(&settings).post(&path, &json!({ "by": operator() }))?;
    if arguments.json {
        return Ok(output.json(&answer)?);
    }
    let state = answer.get("state").and_then(Value::as_str).unwrap_or("");
    if answer.get("resumed").and_then(Value::as_bool) == Some(false) {
        return Ok(output.line(&format!("version {version} of {view} has not failed and is not paused, it is {state}"))?);
    }
    output.line(&format!("version {version} of {view} is resumed, it is {state}"))?;
    let unless = match answer.get("was").and_then(Value::as_str) {
        Some("paused") => "",
        _ => "; unless the cause is fixed, it fails again",
    };
    complain(&format!("refold status {view} --watch shows how far it is{unless}"));
    Ok(())
}
