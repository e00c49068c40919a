//! `refold drop`: the end of a version, or of a view.

use serde_json::{Value, json};

use crate::cli::Drop;
use crate::client::{Client, escaped};
use crate::failure::Failure;
use crate::output::{Output, answered, complain};
use crate::settings;
use crate::verbs::switch::operator;

/// Asks the server to drop the version, or all of them.
pub fn run(arguments: &Drop, output: &mut Output) -> Result<(), Failure> {
    let settings = settings::load(&arguments.settings)?;
    let client = Client::new(&settings);
    match arguments.version {
        Some(version) => drop_version(&client, version, arguments, output),
        None => drop_view(&client, arguments, output),
    }
}

fn drop_version(client: &Client, version: u32, arguments: &Drop, output: &mut Output) -> Result<(), Failure> {
    let view = &arguments.view;
    let body = json!({ "reason": arguments.reason, "force": arguments.force, "by": operator() });
    let answer = client.post(&format!("/v1/admin/views/{}/versions/{version}/drop", escaped(view)), &body)?;
    if arguments.json {
        return Ok(output.json(&answer)?);
    }
    Ok(output.line(&format!("version {version} of {view} is dropped{}", what_is_left(&answer)))?)
}

fn drop_view(client: &Client, arguments: &Drop, output: &mut Output) -> Result<(), Failure> {
    let view = &arguments.view;
    if !arguments.yes {
        confirm(view)?;
    }
    let body = json!({ "confirm": view, "reason": arguments.reason, "by": operator() });
    let answer = client.post(&format!("/v1/admin/views/{}/drop", escaped(view)), &body)?;
    if arguments.json {
        return Ok(output.json(&answer)?);
    }
    output.line(&format!("view {view} is dropped with all its versions{}", what_is_left(&answer)))?;
    if let Some(file) = answer.get("declared").and_then(Value::as_str) {
        complain(&format!(
            "{file} still declares it: a refold up or process that starts would register it again, unless you remove the file"
        ));
    }
    Ok(())
}

/// What is said of the parts that a drop leaves to the workers.
fn what_is_left(answer: &Value) -> &'static str {
    let is = |name: &str| answer.get(name).and_then(Value::as_bool) == Some(true);
    match (is("dropped"), is("removed")) {
        (true, false) => "; a worker removes its table, change feed and state",
        (true, true) => "",
        (false, false) => " already; its table, change feed and state are still being removed",
        (false, true) => " already, and nothing is left of it",
    }
}

/// Has the name of the view typed.
fn confirm(view: &str) -> Result<(), Failure> {
    let question = format!("this drops all versions of {view}, also the one that readers are on; type the name of the view to go on:\n");
    match answered(&question)? {
        Some(typed) if typed == view => Ok(()),
        Some(_) => Err(Failure::Gate(format!("that is not {view}; nothing was dropped"))),
        None => Err(Failure::Usage(format!(
            "dropping all versions of {view} is confirmed by typing its name on a terminal; elsewhere, say --yes"
        ))),
    }
}
