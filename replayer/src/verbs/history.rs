//! `refold history`: what was done to views, by whom, when, why.

use chrono::{DateTime, SecondsFormat};
use serde_json::Value;

use crate::cli::History;
use crate::client::{Client, escaped};
use crate::failure::Failure;
use crate::output::{Output, complain};
use crate::settings;
use crate::verbs::status::text;

const HEADER: [&str; 6] = ["TIME", "VIEW", "VERSION", "WHAT", "BY", "REASON"];

/// Shows the audit trail, the newest entry last.
pub fn run(arguments: &History, output: &mut Output) -> Result<(), Failure> {
    let settings = settings::load(&arguments.settings)?;
    let of_view = arguments.view.as_ref().map(|view| format!("&view={}", escaped(view))).unwrap_or_default();
    let answer = Client::new(&settings).get(&format!("/v1/admin/history?limit={}{of_view}", arguments.limit))?;
    let entries = answer.get("history").and_then(Value::as_array).cloned().unwrap_or_default();
    if arguments.json {
        return Ok(entries.iter().try_for_each(|entry| output.json(entry))?);
    }
    if entries.is_empty() {
        complain("nothing was done yet");
        return Ok(());
    }
    Ok(output.table(&HEADER, entries.iter().map(row).collect())?)
}

fn row(entry: &Value) -> Vec<String> {
    let text = |name: &str| text(entry, name);
    let at = entry.get("at_ms").and_then(Value::as_i64).and_then(DateTime::from_timestamp_millis);
    let at = at.map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true)).unwrap_or_default();
    let what = match (text("from"), text("to")) {
        (from, to) if from.is_empty() && to.is_empty() => text("verb"),
        (from, to) if from.is_empty() => format!("{} {to}", text("verb")),
        (from, to) if to.is_empty() => format!("{} {from}", text("verb")),
        (from, to) => format!("{} {from} -> {to}", text("verb")),
    };
    vec![at, text("view"), text("version"), what, text("by"), text("reason")]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_entry_says_what_became_of_what() {
        let switch = json!({ "at_ms": 1_500, "by": "ann", "verb": "switch", "view": "v", "version": 2, "from": "v1", "to": "v2", "reason": "slots" });
        assert_eq!(row(&switch), ["1970-01-01T00:00:01Z", "v", "2", "switch v1 -> v2", "ann", "slots"]);
        let release = json!({ "at_ms": 0, "by": "w", "verb": "release", "view": "v", "version": 1, "from": "w in epoch 1", "to": null });
        assert_eq!(row(&release).get(3).map(String::as_str), Some("release w in epoch 1"));
        let create =
            json!({ "at_ms": 0, "by": "ann", "verb": "create", "view": "v", "version": 1, "from": null, "to": null, "reason": null });
        assert_eq!(row(&create), ["1970-01-01T00:00:00Z", "v", "1", "create", "ann", ""]);
    }
}
