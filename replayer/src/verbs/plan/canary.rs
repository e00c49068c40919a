//! What a new definition would change in a sample of the log, in words.

use serde_json::{Map, Value};

use crate::verbs::audit::pairs;
use crate::verbs::reports::number;
use crate::verbs::status::{grouped, plain, text};

/// What it comes to, in one sentence.
pub fn sentence(report: &Value) -> String {
    let of = |name: &str| grouped(number(report, name));
    let percent = report.get("share").and_then(Value::as_f64).unwrap_or_default() * 100.0;
    let rows = match number(report, "changed") + number(report, "missing") + number(report, "extra") {
        0 => format!("rows: none differs, {} equal", of("equal")),
        _ => format!("rows: {} changed, {} missing, {} new, {} equal", of("changed"), of("missing"), of("extra"), of("equal")),
    };
    let sample = format!(
        "canary: over the first {} of {} events, for {} % of the partition keys",
        of("records"),
        of("of_records"),
        (percent * 1e3).round() / 1e3
    );
    let left_out =
        |index: usize| report.get("quarantined").and_then(|counts| counts.get(index)).and_then(Value::as_u64).unwrap_or_default();
    match (left_out(0), left_out(1)) {
        (old, new) if old == new => format!("{sample}, {rows}"),
        (old, new) => format!("{sample}, {rows}; {} events are quarantined, {} by the definition in service", grouped(new), grouped(old)),
    }
}

/// Some rows that differ, one a line.
pub fn examples(report: &Value) -> Vec<String> {
    let examples = report.get("examples").and_then(Value::as_array).into_iter().flatten();
    examples.map(example).collect()
}

fn example(example: &Value) -> String {
    let side = |name: &str| example.get(name).and_then(Value::as_object);
    let kind = text(example, "kind");
    match (side("left"), side("right")) {
        (Some(left), Some(right)) => {
            let (same, differing): (Map<String, Value>, Map<String, Value>) =
                left.clone().into_iter().partition(|(name, value)| right.get(name) == Some(value));
            let shown = |name: &String| right.get(name).map(plain).unwrap_or_default();
            let changed: Vec<String> =
                differing.iter().map(|(name, value)| format!("{name} {} -> {}", plain(value), shown(name))).collect();
            format!("{kind}  {}: {}", pairs(&same), changed.join(", "))
        }
        (left, right) => format!("{kind}  {}", left.or(right).map(pairs).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_canary_says_over_what_it_looked_and_what_differs() {
        let report = json!({ "records": 1_000, "of_records": 5_000, "share": 0.1, "quarantined": [0, 3], "equal": 7, "changed": 1, "missing": 0, "extra": 2,
            "examples": [{ "kind": "changed", "left": { "tag": "a", "n": 1 }, "right": { "tag": "a", "n": 2 } }] });
        let told = sentence(&report);
        assert!(
            told.starts_with(
                "canary: over the first 1 000 of 5 000 events, for 10 % of the partition keys, rows: 1 changed, 0 missing, 2 new, 7 equal"
            ),
            "{told}"
        );
        assert!(told.ends_with("; 3 events are quarantined, 0 by the definition in service"), "{told}");
        assert_eq!(examples(&report), ["changed  tag a: n 1 -> 2"]);
    }
}
