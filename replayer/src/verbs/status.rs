//! `refold status`: how far each version of each view is.

use std::time::Duration;

use anyhow::anyhow;
use serde_json::{Value, json};

use crate::cli::Status;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{Output, complain};
use crate::settings;
use crate::verbs::progress;
use crate::verbs::up::signals;
use crate::verbs::waiting;

const EVERY: Duration = Duration::from_secs(1);
const HEADER: [&str; 11] = ["VIEW", "VERSION", "STATE", "READ", "TO GO", "EVENTS/S", "ETA", "EVENT TIME", "QUARANTINED", "COMMIT", "NOTE"];

/// Shows the versions of one view or of all; with `--watch` again and again, with `--wait` once all have caught up.
pub fn run(arguments: &Status, output: &mut Output) -> Result<(), Failure> {
    let settings = settings::load(&arguments.settings)?;
    let client = Client::new(&settings);
    if arguments.watch {
        // Nothing is half done: whoever has seen enough may leave at any moment.
        signals::watch(|| std::process::exit(0))?;
    }
    if arguments.wait {
        let is_kept = |version: &Value| version.get("state").and_then(Value::as_str) != Some("dropped");
        let kept = |answer: &Value| Ok(versions(answer, arguments.view.as_deref())?.into_iter().filter(is_kept).collect());
        waiting::until_caught_up(&client, kept)?;
    }
    loop {
        let answer = client.get("/v1/admin/status")?;
        let versions = versions(&answer, arguments.view.as_deref())?;
        if arguments.watch && !arguments.json {
            output.clear()?;
        }
        if arguments.json {
            versions.iter().try_for_each(|version| output.json(version))?;
        } else if versions.is_empty() {
            output.line("there are no views yet")?;
        } else {
            output.table(&HEADER, versions.iter().map(row).collect())?;
        }
        if let Some(error) = answer.pointer("/collector/failed").and_then(Value::as_str) {
            let source = answer.pointer("/collector/source").and_then(Value::as_str).unwrap_or_default();
            complain(&format!("source {source} failed, nothing of it is collected any more: {error}"));
        }
        if !arguments.watch {
            return Ok(());
        }
        std::thread::sleep(EVERY);
    }
}

/// The versions that are asked for, each with its view and whether readers are sent to it.
pub fn versions(answer: &Value, view: Option<&str>) -> Result<Vec<Value>, Failure> {
    let all = answer.get("views").and_then(Value::as_array).cloned().unwrap_or_default();
    let name_of = |document: &Value| document.get("view").and_then(Value::as_str).unwrap_or("").to_owned();
    let mut versions = Vec::new();
    let sources: Vec<&Value> = answer.get("sources").and_then(Value::as_array).into_iter().flatten().collect();
    for document in all.iter().filter(|document| view.is_none_or(|view| name_of(document) == view)) {
        let source = sources.iter().find(|source| document.get("source").is_some() && source.get("source") == document.get("source"));
        let retention = source.and_then(|source| source.get("retention"));
        let active = document.pointer("/active/version");
        for version in document.get("versions").and_then(Value::as_array).into_iter().flatten() {
            let mut flat = json!({ "view": name_of(document), "active": active.is_some() && version.get("version") == active });
            if let (Some(flat), Some(version)) = (flat.as_object_mut(), version.as_object()) {
                flat.extend(version.clone());
                flat.extend(retention.map(|retention| ("retention".to_owned(), retention.clone())));
            }
            versions.push(flat);
        }
    }
    match view {
        Some(view) if versions.is_empty() => {
            let known: Vec<String> = all.iter().map(name_of).collect();
            Err(anyhow!("there is no view {view}; there are: {}", known.join(", ")).into())
        }
        _ => Ok(versions),
    }
}

fn row(version: &Value) -> Vec<String> {
    let text = |name: &str| text(version, name);
    let count = |name: &str| version.get(name).and_then(Value::as_u64).map(grouped).unwrap_or_default();
    let quarantined: u64 =
        version.get("quarantined").and_then(Value::as_object).into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum();
    let rate = version.get("events_per_s").and_then(Value::as_f64).map(|rate| grouped(rate.round() as u64));
    vec![
        text("view"),
        text("version"),
        text("state"),
        count("read"),
        count("lag"),
        rate.unwrap_or_default(),
        progress::eta(version),
        to_the_second(&text("event_time")),
        if version.get("quarantined").is_some() { grouped(quarantined) } else { String::new() },
        text("commit"),
        note(version),
    ]
}

/// What the user should know of a version beside its figures.
pub fn note(version: &Value) -> String {
    let text = |name: &str| text(version, name);
    let is_dropped = text("state") == "dropped";
    let is_stopped = version.get("running") == Some(&Value::Bool(false)) && !is_dropped && text("state") != "failed";
    let unable = if is_dropped { "something is left of it" } else { "cannot be run here" };
    let waiting = [
        (unable, text("unable")),
        ("events wait", text("source_error")),
        ("rows wait", text("store_error")),
        ("changes are not published", text("feed_error")),
        ("the feed of the view is not published", version.get("view_feed").map(|feed| self::text(feed, "error")).unwrap_or_default()),
    ];
    let mut waiting: Vec<String> =
        waiting.iter().filter(|(_, error)| !error.is_empty()).map(|(what, error)| format!("{what}: {error}")).collect();
    if let Some(seconds) = version.get("stalled_s").and_then(Value::as_u64) {
        waiting.push(format!("stalled: nothing folded for {}", humantime::format_duration(Duration::from_secs(seconds))));
    }
    // Where the log ends is not known before it was looked at.
    let has_read_all = text("lag") == "0" && version.get("ends").and_then(Value::as_object).is_some_and(|ends| !ends.is_empty());
    let note = match text("error") {
        error if !error.is_empty() && text("way_on").is_empty() => error,
        error if !error.is_empty() => format!("{error}; {}", text("way_on")),
        _ if !waiting.is_empty() => waiting.join("; "),
        _ if is_dropped && text("removed") == "false" => "its table, change feed and state are being removed".to_owned(),
        _ if !text("waits_for").is_empty() => format!("waits: {}", text("waits_for")),
        _ if is_stopped && text("state") == "building" => "waits for a worker".to_owned(),
        _ if is_stopped => "not running here".to_owned(),
        _ if text("state") == "building" && has_read_all => "writes its rows".to_owned(),
        _ => String::new(),
    };
    let drops_at =
        Some(text("drops_at")).filter(|time| !time.is_empty()).map(|time| format!("dropped by itself at {}", to_the_second(&time)));
    let mut notes = vec![note];
    notes.extend(progress::waits(version));
    notes.extend([progress::retention(version), absent(version), drops_at.unwrap_or_default()]);
    notes.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
}

/// A member as text; empty where there is none.
pub fn text(version: &Value, name: &str) -> String {
    version.get(name).filter(|value| !value.is_null()).map(plain).unwrap_or_default()
}

/// A value as text, without quotes.
pub fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The rows that could not be made: how often, and the last one.
fn absent(version: &Value) -> String {
    let count = version.get("absent_rows").and_then(Value::as_u64).unwrap_or(0);
    let last = version.get("absent_examples").and_then(Value::as_array).and_then(|examples| examples.last());
    let text = |name: &str| last.and_then(|last| last.get(name)).and_then(Value::as_str).unwrap_or_default();
    match count {
        0 => String::new(),
        _ => format!("no row for some groups, {} times; the last: {}: {}", grouped(count), text("key"), text("reason")),
    }
}

/// A time without its fraction of a second.
fn to_the_second(time: &str) -> String {
    time.split_once('.').map_or_else(|| time.to_owned(), |(seconds, _)| format!("{seconds}Z"))
}

/// `1234567` as `1 234 567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1 000", "1 234 567"]);
    }

    #[test]
    fn versions_are_flat_and_the_active_one_is_marked() {
        let answer = json!({ "views": [
            { "view": "a", "active": { "version": 2 }, "versions": [{ "version": 1 }, { "version": 2, "quarantined": { "too_late": 3, "truncated": 1 } }] },
            { "view": "b", "active": null, "versions": [{ "version": 1, "state": "caught_up", "running": false, "event_time": "2026-11-23T16:19:51.887Z" }] },
        ]});
        let all = versions(&answer, None).unwrap();
        assert_eq!(all.iter().map(|version| version["active"] == json!(true)).collect::<Vec<_>>(), [false, true, false]);
        assert_eq!(row(&all[1])[8], "4");
        assert_eq!((row(&all[2])[7].as_str(), row(&all[2])[10].as_str()), ("2026-11-23T16:19:51Z", "not running here"));
        assert_eq!(row(&json!({ "state": "building", "running": false, "waits_for": null }))[10], "waits for a worker");
        assert_eq!(
            row(&json!({ "state": "building", "running": false, "waits_for": "generate:1 is still writing" }))[10],
            "waits: generate:1 is still writing"
        );
        let failed = json!({ "state": "failed", "running": false, "error": "it broke", "way_on": "refold resume a 1 lets it go on" });
        assert_eq!(row(&failed)[10], "it broke; refold resume a 1 lets it go on");
        let building = |lag: u64, ends: Value| row(&json!({ "state": "building", "running": true, "lag": lag, "ends": ends }))[10].clone();
        assert_eq!([building(0, json!({})), building(0, json!({ "0": 7 })), building(1, json!({ "0": 7 }))], ["", "writes its rows", ""]);
        let without = json!({ "state": "active", "running": true, "absent_rows": 1_200,
            "absent_examples": [{ "key": "k=a", "reason": "divide by zero" }, { "key": "k=b", "reason": "overflow" }] });
        assert_eq!(row(&without)[10], "no row for some groups, 1 200 times; the last: k=b: overflow");
        let retired = json!({ "state": "retired", "running": true, "drops_at": "2026-12-07T16:19:51.887Z" });
        assert_eq!(row(&retired)[10], "dropped by itself at 2026-12-07T16:19:51Z");
        let dropped = |removed: bool, unable: Value| {
            row(&json!({ "state": "dropped", "running": false, "removed": removed, "unable": unable }))[10].clone()
        };
        assert_eq!(
            [dropped(true, Value::Null), dropped(false, Value::Null), dropped(false, json!("no right"))],
            ["", "its table, change feed and state are being removed", "something is left of it: no right"]
        );
        assert_eq!(versions(&answer, Some("b")).unwrap().len(), 1);
        assert_eq!(versions(&answer, Some("c")).unwrap_err().to_string(), "there is no view c; there are: a, b");
    }
}
