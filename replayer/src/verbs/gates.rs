//! What the gates of a switch came to, for people.

use serde_json::Value;

use crate::failure::Failure;
use crate::output::Output;
use crate::verbs::status::text;

/// Shows the gates of a view.
pub fn show(weighed: &Value, output: &mut Output) -> Result<(), Failure> {
    let row = |gate: &Value| {
        let verdict = if gate.get("passed").and_then(Value::as_bool) == Some(true) { "passed" } else { "refused" };
        let reason = match text(gate, "way_out") {
            way_out if way_out.is_empty() => text(gate, "reason"),
            way_out => format!("{}; {way_out}", text(gate, "reason")),
        };
        vec![text(gate, "gate"), verdict.to_owned(), reason]
    };
    let gates: Vec<Vec<String>> = weighed.get("gates").and_then(Value::as_array).into_iter().flatten().map(row).collect();
    let (view, to) = (text(weighed, "view"), text(weighed, "to"));
    if gates.is_empty() {
        return Ok(output.line(&format!("readers of {view} are on version {to} already"))?);
    }
    let from = match text(weighed, "from") {
        from if from.is_empty() => String::new(),
        from => format!(" from version {from}"),
    };
    output.line(&format!("{view}{from} to version {to}"))?;
    Ok(output.table(&["GATE", "", "REASON"], gates)?)
}

/// Whether the version passes all of them.
pub fn is_passed(weighed: &Value) -> bool {
    weighed.get("passed").and_then(Value::as_bool) == Some(true)
}
