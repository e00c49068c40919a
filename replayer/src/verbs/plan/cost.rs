//! What a new version of a view will take, as far as the versions that are there tell.

use std::time::Duration;

use serde_json::{Value, json};

use crate::verbs::reports::number;
use crate::verbs::status::{grouped, text};

/// Seconds that building a version will take about, and how that is known.
pub struct Estimate {
    /// Seconds.
    pub seconds: f64,
    /// How it is known, in words.
    pub from: String,
}

/// From the rate at which a version of any view is being built now, else from the last replay of the view.
pub fn estimate(events: u64, status: &Value, cost: &Value) -> Option<Estimate> {
    let views = status.get("views").and_then(Value::as_array).into_iter().flatten();
    let building = views.flat_map(|view| {
        let versions = view.get("versions").and_then(Value::as_array).into_iter().flatten();
        let of_state = versions.filter(|version| text(version, "state") == "building");
        of_state.filter_map(|version| Some((text(view, "view"), number(version, "version"), version.get("events_per_s")?.as_f64()?)))
    });
    let fastest = building.filter(|(_, _, rate)| *rate >= 1.0).max_by(|one, other| one.2.total_cmp(&other.2));
    if let Some((view, version, rate)) = fastest {
        let from = format!("at {} events a second, the rate of version {version} of {view}, which is being built", grouped(rate as u64));
        return Some(Estimate { seconds: events as f64 / rate, from });
    }
    let last = cost.get("last_replay").filter(|last| !last.is_null())?;
    let seconds = last.get("took_s")?.as_f64()?;
    Some(Estimate {
        seconds,
        from: format!("as long as version {} took until it was caught up, at {}", number(last, "version"), text(last, "ended")),
    })
}

impl Estimate {
    /// For people.
    pub fn sentence(&self) -> String {
        let whole = Duration::from_secs(self.seconds.ceil().clamp(1.0, 1e9) as u64);
        format!("that takes about {}, {}", humantime::format_duration(whole), self.from)
    }
}

/// What the version in service takes, and those that are kept beside it, one sentence each.
pub fn sizes(cost: &Value, active: Option<u64>) -> Vec<String> {
    let mut sentences = Vec::new();
    for version in cost.get("versions").and_then(Value::as_array).into_iter().flatten() {
        let (version_number, state) = (number(version, "version"), text(version, "state"));
        let Some(size) = size(version) else { continue };
        if Some(version_number) == active {
            sentences.push(format!("version {version_number} takes {size}; a new one takes about as much beside it"));
        } else if state == "retired" {
            sentences.push(format!("version {version_number} is retired and still fed: {size}"));
        }
    }
    sentences
}

fn size(version: &Value) -> Option<String> {
    let bytes = |name: &str| version.get(name).and_then(Value::as_u64);
    let table = bytes("table_bytes")
        .map(|size| format!("about {} rows, {} in the view store", grouped(number(version, "table_rows")), of_bytes(size)));
    let state = bytes("state_bytes").map(|size| format!("{} of state", of_bytes(size)));
    let parts: Vec<String> = [table, state].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Bytes in the unit that suits them.
fn of_bytes(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes.div_ceil(1 << 10)),
        1_048_576..1_073_741_824 => format!("{} MiB", bytes.div_ceil(1 << 20)),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

/// Events that the version in service could not decode because their schema is not known or does not fit.
pub fn unresolved(status: &Value, view: &str, active: Option<u64>) -> u64 {
    let views = status.get("views").and_then(Value::as_array).into_iter().flatten();
    let versions =
        views.filter(|document| text(document, "view") == view).filter_map(|document| document.get("versions")?.as_array()).flatten();
    let mut in_service = versions.filter(|version| version.get("version").and_then(Value::as_u64) == active);
    let counts = in_service.next().and_then(|version| version.get("quarantined"));
    ["unknown_schema", "unresolvable_schema"].iter().filter_map(|reason| counts?.get(reason)?.as_u64()).sum()
}

/// The same for programs.
pub fn document(estimate: Option<&Estimate>, cost: &Value) -> Value {
    json!({
        "estimate_s": estimate.map(|estimate| estimate.seconds),
        "estimate_from": estimate.map(|estimate| estimate.from.as_str()),
        "versions": cost.get("versions"),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    fn cost() -> Value {
        json!({
            "versions": [
                { "version": 1, "state": "retired", "table_rows": 10, "table_bytes": 2_000, "state_bytes": null },
                { "version": 2, "state": "active", "table_rows": 1_000, "table_bytes": 5 << 20, "state_bytes": 3_u64 << 30 },
            ],
            "last_replay": { "version": 2, "took_s": 61.0, "ended": "2026-11-30T12:00:00Z" },
        })
    }

    #[test]
    fn how_long_it_takes_is_said_with_how_that_is_known() {
        let estimated = estimate(1_000_000, &json!({}), &cost()).unwrap().sentence();
        assert_eq!(estimated, "that takes about 1m 1s, as long as version 2 took until it was caught up, at 2026-11-30T12:00:00Z");
        let building = json!({ "views": [{ "view": "w", "versions": [{ "version": 3, "state": "building", "events_per_s": 50_000.0 }] }] });
        let estimated = estimate(1_000_000, &building, &cost()).unwrap().sentence();
        assert_eq!(estimated, "that takes about 20s, at 50 000 events a second, the rate of version 3 of w, which is being built");
        assert!(estimate(1, &json!({}), &json!({})).is_none(), "nothing was ever built");
    }

    #[test]
    fn what_versions_take_is_said_as_far_as_it_is_known() {
        let sizes = sizes(&cost(), Some(2));
        assert_eq!(sizes[0], "version 1 is retired and still fed: about 10 rows, 2 KiB in the view store");
        assert_eq!(
            sizes[1],
            "version 2 takes about 1 000 rows, 5 MiB in the view store, 3.0 GiB of state; a new one takes about as much beside it"
        );
    }
}
