//! `refold pause`: a version that is being built stands still.

use serde_json::{Value, json};

use crate::cli::Pause;
use crate::client::{Client, escaped};
use crate::failure::Failure;
use crate::output::{Output, complain};
use crate::settings;
use crate::verbs::switch::operator;

/// Asks the server to pause the version.
pub fn run(arguments: &Pause, output: &mut Output) -> Result<(), Failure> {
    let settings = settings::load(&arguments.settings)?;
    let (view, version) = (&arguments.view, arguments.version);
    let path = format!("/v1/admin/views/{}/versions/{version}/pause", escaped(view));
    let answer = Client::new(&settings).post(&path, &json!({ "reason": arguments.reason, "by": operator() }))?;
    if arguments.json {
        return Ok(output.json(&answer)?);
    }
    let already = if answer.get("paused").and_then(Value::as_bool) == Some(false) { " already" } else { "" };
    output.line(&format!("version {version} of {view} is paused{already}"))?;
    complain(&format!("refold resume {view} {version} lets it go on"));
    Ok(())
}
