//! What came of a case, in words and as JSON.

use std::time::Duration;

use serde_json::{Map, Value, json as object};

use super::difference::shown;
use super::outcome::{Found, Outcome};
use super::verdicts::{Noted, Verdict};

/// The most events that are named.
const MOST_EVENTS: usize = 20;

/// A line for a case, and below it what is not as expected. `partition_key` names the columns of a partition's key.
pub fn text(outcome: &Outcome, partition_key: &[String]) -> String {
    let Outcome { file, line, name, view, found, .. } = outcome;
    let took = milliseconds(outcome.took);
    if outcome.is_passed() {
        return format!("ok      {view}: {name}  {took} ms");
    }
    let mut lines = vec![format!("failed  {view}: {name}  {took} ms"), format!("  {}:{line}", file.display())];
    let Found { error, rows, counts, cut, events, .. } = found;
    lines.extend(error.iter().map(|error| format!("  it cannot be run to its end: {error}")));
    lines.extend(rows.lines().into_iter().map(|line| format!("    {line}")));
    lines.extend(counts.iter().map(|count| format!("  {count}")));
    if let Some(cut) = cut {
        lines.push(format!(
            "  cut at random places (--seed {}) it has other rows than straight, which are the expected here:",
            outcome.seed
        ));
        lines.extend(cut.lines().into_iter().map(|line| format!("    {line}")));
    }
    lines.extend(events.iter().take(MOST_EVENTS).map(|event| format!("  {}", of_event(event, partition_key))));
    if events.len() > MOST_EVENTS {
        lines.push(format!("  … and {} more events that were late or quarantined", events.len() - MOST_EVENTS));
    }
    lines.join("\n")
}

fn of_event(event: &Noted, partition_key: &[String]) -> String {
    let (partition, offset) = event.place;
    let verdict = match &event.verdict {
        Verdict::Late { behind_us } => {
            let behind = humantime::format_duration(Duration::from_secs(behind_us.unsigned_abs() / 1_000_000));
            format!("is late, {behind} behind the largest event time before it in its partition, and counts")
        }
        Verdict::Quarantined { reason, detail } => format!("is quarantined as {}: {detail}", reason.as_str()),
    };
    let key = |values: &Vec<Value>| {
        let named = partition_key.iter().zip(values).map(|(name, value)| format!("{name} {}", shown(value)));
        named.collect::<Vec<_>>().join(", ")
    };
    let of = match event.partition_keys.as_slice() {
        [] => String::new(),
        [one] => format!(" (of {})", key(one)),
        [one, others @ ..] => format!(" (of {} and {} more)", key(one), others.len()),
    };
    format!("event {} (line {}, partition {partition}, offset {offset}) {verdict}{of}", event.number, event.line)
}

/// An object for a case.
pub fn json(outcome: &Outcome) -> Value {
    let found = &outcome.found;
    let quarantined: Map<String, Value> =
        found.quarantined.iter().map(|(reason, count)| (reason.as_str().to_owned(), (*count).into())).collect();
    let event = |event: &Noted| {
        let (partition, offset) = event.place;
        let (verdict, detail) = match &event.verdict {
            Verdict::Late { behind_us } => ("late", object!({ "behind_ms": behind_us / 1_000 })),
            Verdict::Quarantined { reason, detail } => (reason.as_str(), Value::from(detail.as_str())),
        };
        object!({
            "event": event.number, "line": event.line, "partition": partition.0, "offset": offset.0, "verdict": verdict, "detail": detail
        })
    };
    object!({
        "file": outcome.file.display().to_string(),
        "line": outcome.line,
        "case": outcome.name,
        "view": outcome.view,
        "ok": outcome.is_passed(),
        "ms": outcome.took.as_micros() as f64 / 1_000.0,
        "seed": outcome.seed,
        "error": found.error,
        "rows": found.rows.json(),
        "counts": found.counts,
        "cut": found.cut.as_ref().map(|cut| cut.json()),
        "quarantined": quarantined,
        "late": found.late,
        "events": found.events.iter().map(event).collect::<Vec<_>>(),
    })
}

/// With one decimal.
pub fn milliseconds(took: Duration) -> String {
    format!("{:.1}", took.as_secs_f64() * 1_000.0)
}
