//! `refold quarantine`: the events that a version did not apply, and why.

use serde_json::Value;

use crate::cli::{Quarantine, QuarantineList, QuarantineShow};
use crate::client::{Client, escaped};
use crate::failure::Failure;
use crate::output::{Output, complain};
use crate::settings;
use crate::verbs::status::grouped;
use crate::verbs::status::text;

/// The most events that are asked for at once.
const PAGE: u64 = 1_000;
const HEADER: [&str; 5] = ["PARTITION", "OFFSET", "RECORD TIME", "REASON", "DETAIL"];

/// Lists quarantined events, or shows one.
pub fn run(arguments: &Quarantine, output: &mut Output) -> Result<(), Failure> {
    match arguments {
        Quarantine::List(arguments) => list(arguments, output),
        Quarantine::Show(arguments) => show(arguments, output),
    }
}

fn list(arguments: &QuarantineList, output: &mut Output) -> Result<(), Failure> {
    let settings = settings::load(&arguments.settings)?;
    let client = Client::new(&settings);
    let view = &arguments.view;
    let reason = arguments.reason.as_ref().map(|reason| format!("&reason={}", escaped(reason))).unwrap_or_default();
    let mut at = arguments.version.map(|version| format!("&version={version}")).unwrap_or_default();
    let (mut rows, mut shown) = (Vec::new(), 0);
    let answer = loop {
        let limit = PAGE.min(arguments.limit - shown);
        let answer = client.get(&format!("/v1/views/{}/quarantine?limit={limit}{reason}{at}", escaped(view)))?;
        for record in answer.get("records").and_then(Value::as_array).into_iter().flatten() {
            shown += 1;
            match arguments.json {
                true => output.json(record)?,
                false => rows.push(row(record)),
            }
        }
        match answer.get("next_cursor").and_then(Value::as_str) {
            Some(cursor) if shown < arguments.limit => at = format!("&cursor={cursor}"),
            _ => break answer,
        }
    };
    if !rows.is_empty() {
        output.table(&HEADER, rows)?;
    }
    if !arguments.json {
        complain(&summary(arguments, &answer, shown));
    }
    Ok(())
}

/// What the list is of, and how to see more.
fn summary(arguments: &QuarantineList, answer: &Value, shown: u64) -> String {
    let (view, version) = (&arguments.view, answer.get("version").and_then(Value::as_u64).unwrap_or_default());
    let with_reason = arguments.reason.as_ref().map(|reason| format!(" as {reason}")).unwrap_or_default();
    let counted = |(reason, count): (&String, &Value)| {
        let is_counted = arguments.reason.as_ref().is_none_or(|wanted| wanted == reason);
        count.as_u64().filter(|_| is_counted)
    };
    let all: u64 = answer.get("quarantined").and_then(Value::as_object).into_iter().flatten().filter_map(counted).sum();
    if shown == 0 {
        return format!("version {version} of {view} has quarantined no event{with_reason}");
    }
    let more = answer.get("next_cursor").is_some_and(Value::is_string);
    let (of_all, how) = match more {
        true => (format!("the first {} of ", grouped(shown)), "; --limit shows more"),
        false => (String::new(), ""),
    };
    format!(
        "{of_all}{} quarantined{with_reason} by version {version} of {view}{how}; refold quarantine show {view} PARTITION OFFSET shows one with its value",
        grouped(all.max(shown))
    )
}

fn show(arguments: &QuarantineShow, output: &mut Output) -> Result<(), Failure> {
    let settings = settings::load(&arguments.settings)?;
    let QuarantineShow { view, partition, offset, .. } = arguments;
    let version = arguments.version.map(|version| format!("?version={version}")).unwrap_or_default();
    let record = Client::new(&settings).get(&format!("/v1/views/{}/quarantine/{partition}/{offset}{version}", escaped(view)))?;
    if arguments.json {
        return Ok(output.json(&record)?);
    }
    let mut members: Vec<(&str, String)> =
        ["topic", "partition", "offset", "record_time", "reason", "detail"].iter().map(|name| (*name, text(&record, name))).collect();
    let size =
        record.get("bytes").and_then(Value::as_u64).map_or_else(|| "unknown".to_owned(), |bytes| format!("{} bytes", grouped(bytes)));
    members.push(("size", size));
    match (record.get("value").filter(|value| !value.is_null()), record.get("base64").and_then(Value::as_str)) {
        (Some(value), _) => members.push(("value", value.to_string())),
        (None, Some(base64)) if record.get("truncated") == Some(&Value::Bool(true)) => {
            members.push(("value", format!("{base64}… (Base64, its beginning)")))
        }
        (None, Some(base64)) => members.push(("value", format!("{base64} (Base64: it does not decode)"))),
        (None, None) => {}
    }
    Ok(output.members(&members)?)
}

fn row(record: &Value) -> Vec<String> {
    ["partition", "offset", "record_time", "reason", "detail"].iter().map(|name| text(record, name)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::Parser;
    use serde_json::json;

    use super::*;
    use crate::cli::{Command, Refold};

    fn arguments(flags: &[&str]) -> QuarantineList {
        let all = ["refold", "quarantine", "list", "v"].iter().chain(flags);
        match Refold::try_parse_from(all).unwrap().command {
            Command::Quarantine(Quarantine::List(arguments)) => arguments,
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn a_list_says_of_how_many_it_is() {
        let answer = json!({ "version": 2, "quarantined": { "too_late": 3_000, "truncated": 1 }, "next_cursor": "v2.0.5" });
        let said = summary(&arguments(&["--reason", "too_late"]), &answer, 1_000);
        assert!(said.starts_with("the first 1 000 of 3 000 quarantined as too_late by version 2 of v; --limit shows more;"), "{said}");
        let answer = json!({ "version": 2, "quarantined": { "too_late": 3, "truncated": 1 }, "next_cursor": null });
        assert!(summary(&arguments(&[]), &answer, 4).starts_with("4 quarantined by version 2 of v; refold quarantine show v"));
        let answer = json!({ "version": 2, "quarantined": {}, "next_cursor": null });
        assert_eq!(summary(&arguments(&["--reason", "too_late"]), &answer, 0), "version 2 of v has quarantined no event as too_late");
    }
}
