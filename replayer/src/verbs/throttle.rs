//! `refold throttle`: how fast a version may be built.

use serde_json::{Value, json};

use crate::cli::Throttle;
use crate::client::{Client, escaped};
use crate::failure::Failure;
use crate::output::Output;
use crate::settings;
use crate::verbs::status::grouped;
use crate::verbs::switch::operator;

/// Asks the server to throttle the version.
pub fn run(arguments: &Throttle, output: &mut Output) -> Result<(), Failure> {
    let settings = settings::load(&arguments.settings)?;
    let (view, version) = (&arguments.view, arguments.version);
    let (throttle, how) = match (arguments.rate, arguments.auto) {
        (Some(rate), _) => ("rate", format!("reads at most {} events a second while it is built", grouped(rate))),
        (None, true) => ("auto", "is built as fast as leaves versions in service as they were".to_owned()),
        (None, false) => ("off", "is built as fast as it can".to_owned()),
    };
    let mut body = json!({ "throttle": throttle, "reason": arguments.reason, "by": operator() });
    if let (Some(rate), Some(members)) = (arguments.rate, body.as_object_mut()) {
        members.insert("events_per_s".into(), rate.into());
    }
    let path = format!("/v1/admin/views/{}/versions/{version}/throttle", escaped(view));
    let answer = Client::new(&settings).post(&path, &body)?;
    if arguments.json {
        return Ok(output.json(&answer)?);
    }
    let already = if answer.get("changed").and_then(Value::as_bool) == Some(false) { ", as before" } else { "" };
    Ok(output.line(&format!("version {version} of {view} {how}{already}"))?)
}
