//! How far a version is that is being built, in words: from its document in the answer of `status`.

use std::time::Duration;

use serde_json::Value;

use crate::verbs::status::{grouped, text};

/// How long it still takes: `4m (3m to 6m)`, `never at this rate`; empty where that cannot be told.
pub fn eta(version: &Value) -> String {
    let Some(eta) = version.pointer("/replay/eta").filter(|eta| !eta.is_null()) else { return String::new() };
    if text(eta, "is") == "never" {
        return "never at this rate".to_owned();
    }
    let of = |name: &str| eta.get(name).and_then(Value::as_u64).map(span);
    match (of("expected_s"), of("soonest_s"), of("latest_s")) {
        (Some(expected), Some(soonest), Some(latest)) if soonest == latest => expected,
        (Some(expected), Some(soonest), Some(latest)) => format!("{expected} ({soonest} to {latest})"),
        (Some(expected), Some(soonest), None) => format!("{expected} ({soonest} to never)"),
        _ => String::new(),
    }
}

/// What it waits for, and what holds it back.
pub fn waits(version: &Value) -> Vec<String> {
    let mut waits = Vec::new();
    let is_paused = version.get("paused") == Some(&Value::Bool(true));
    let (view, number) = (text(version, "view"), text(version, "version"));
    if is_paused {
        waits.push(format!("paused: refold resume {view} {number} lets it go on"));
    }
    if text(version, "state") == "building" && !is_paused {
        let limit = version.pointer("/throttle/limit_per_s").and_then(Value::as_f64).map(|limit| grouped(limit.round() as u64));
        match (limit, version.pointer("/throttle/is").and_then(Value::as_str)) {
            (Some(limit), Some("rate")) => waits.push(format!("throttled to {limit} events/s")),
            (Some(limit), _) => waits.push(format!("yields to versions in service at {limit} events/s")),
            _ => {}
        }
        match version.pointer("/replay/bottleneck").and_then(Value::as_str) {
            Some("log") => waits.push("waits for the log".to_owned()),
            Some("processor") => waits.push("waits for the processor".to_owned()),
            _ => {}
        }
    }
    if let Some(until) = Some(text(version, "until")).filter(|until| !until.is_empty()) {
        waits.push(format!("ends at {until}"));
    }
    waits
}

/// What becomes of the records that it still has to read: empty where they are kept for long.
pub fn retention(version: &Value) -> String {
    let retention = version.get("retention").filter(|_| text(version, "state") == "building");
    let Some(retention) = retention else { return String::new() };
    match (text(retention, "beginning").as_str(), retention.get("kept_for_s").and_then(Value::as_u64)) {
        ("gone", _) => "the log has lost its beginning: rows made of earlier events are missing".to_owned(),
        ("kept_for", Some(seconds)) if seconds < SOON_S => {
            format!("retention removes the oldest records in {}: what is not read by then is lost", span(seconds))
        }
        _ => String::new(),
    }
}

/// A day.
const SOON_S: u64 = 86_400;

/// The part of the log that it has read, from 0 to 1.
pub fn share(version: &Value) -> Option<f64> {
    let sum = |name: &str| version.get(name)?.as_object()?.values().map(Value::as_u64).sum::<Option<u64>>();
    let (at, end) = (sum("committed")?, sum("ends")?);
    (end > 0).then(|| (at as f64 / end as f64).min(1.0))
}

/// `[######----]  60 %`
pub fn bar(share: f64) -> String {
    let filled = (share.clamp(0.0, 1.0) * BAR as f64).round() as usize;
    format!("[{}{}] {:>3} %", "#".repeat(filled), "-".repeat(BAR - filled), (share.clamp(0.0, 1.0) * 100.0).floor() as u64)
}

const BAR: usize = 30;

/// Seconds for people, in at most two units.
pub fn span(seconds: u64) -> String {
    let rounded = match seconds {
        0..=3_599 => seconds,
        3_600..=86_399 => seconds - seconds % 60,
        _ => seconds - seconds % 3_600,
    };
    humantime::format_duration(Duration::from_secs(rounded)).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn how_long_it_takes_is_said_with_its_range() {
        let eta = |eta: Value| eta_of(&eta);
        assert_eq!(eta(json!({ "is": "in", "expected_s": 240, "soonest_s": 180, "latest_s": 365 })), "4m (3m to 6m 5s)");
        assert_eq!(eta(json!({ "is": "in", "expected_s": 240, "soonest_s": 180, "latest_s": null })), "4m (3m to never)");
        assert_eq!(eta(json!({ "is": "in", "expected_s": 7_299, "soonest_s": 7_299, "latest_s": 7_299 })), "2h 1m");
        assert_eq!(eta(json!({ "is": "never" })), "never at this rate");
        assert_eq!(eta(Value::Null), "");
    }

    fn eta_of(eta: &Value) -> String {
        super::eta(&json!({ "replay": { "eta": eta } }))
    }

    #[test]
    fn what_holds_a_version_back_is_said() {
        let version = |throttle: Value, bottleneck: &str| {
            waits(&json!({ "view": "v", "version": 2, "state": "building", "throttle": throttle, "replay": { "bottleneck": bottleneck } }))
        };
        assert_eq!(version(json!({ "is": "rate", "limit_per_s": 5_000.0 }), "throttle"), ["throttled to 5 000 events/s"]);
        assert_eq!(
            version(json!({ "is": "auto", "limit_per_s": 1_200.0 }), "throttle"),
            ["yields to versions in service at 1 200 events/s"]
        );
        assert_eq!(version(json!({ "is": "auto", "limit_per_s": null }), "processor"), ["waits for the processor"]);
        let paused = json!({ "view": "v", "version": 2, "state": "building", "paused": true, "until": "2026-01-01T00:00:00Z" });
        assert_eq!(waits(&paused), ["paused: refold resume v 2 lets it go on", "ends at 2026-01-01T00:00:00Z"]);
    }

    #[test]
    fn a_bar_is_as_full_as_the_log_is_read() {
        let version = json!({ "committed": { "0": 30, "1": 30 }, "ends": { "0": 50, "1": 50 } });
        assert_eq!(share(&version).map(bar), Some("[##################------------]  60 %".to_owned()));
        assert_eq!(share(&json!({ "committed": {}, "ends": {} })), None);
        assert!(bar(1.0).ends_with("100 %"));
    }

    #[test]
    fn retention_is_told_where_it_reaches_what_is_still_to_be_read() {
        let told = |beginning: &str, kept_for_s: u64, state: &str| {
            retention(&json!({ "state": state, "retention": { "beginning": beginning, "kept_for_s": kept_for_s } }))
        };
        assert!(told("kept_for", 7_200, "building").contains("in 2h"));
        assert!(told("gone", 0, "building").contains("lost its beginning"));
        assert_eq!([told("kept_for", 90_000, "building"), told("gone", 0, "active")], ["", ""]);
    }
}
