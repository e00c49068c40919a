//! Waiting for versions to catch up, as `--wait` does.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use serde_json::{Value, json};

use crate::client::Client;
use crate::failure::Failure;
use crate::output::complain;
use crate::verbs::progress;
use crate::verbs::status::{grouped, note, text, versions};

const EVERY: Duration = Duration::from_secs(1);
/// A gate may refuse a version for so long before that is final.
const GATE_FOR: Duration = Duration::from_secs(60);
/// Progress is told at least this far apart.
const TELL_EVERY: Duration = Duration::from_secs(30);
/// A server may be unavailable for so long, as when it is restarted.
const UNAVAILABLE_FOR: Duration = Duration::from_secs(120);

/// What a look at the versions comes to.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// All have caught up.
    CaughtUp,
    /// One of them never will: why, and the way out.
    Failed(String),
    /// What is still to be done.
    Waits(String),
}

/// Returns once these versions of views have all caught up; fails if one of them has failed.
pub fn until_all_caught_up(client: &Client, wanted: &[(&str, u64)]) -> Result<(), Failure> {
    until_caught_up(client, |answer| {
        let mut found = Vec::new();
        for (view, version) in wanted {
            let is_wanted = |found: &Value| found.get("version").and_then(Value::as_u64) == Some(*version);
            let known = versions(answer, Some(view))?.into_iter().find(is_wanted);
            found.push(known.unwrap_or_else(|| json!({ "view": view, "version": version, "state": "building" })));
        }
        Ok(found)
    })
}

/// Does something again for as long as a gate refuses it, up to some time: a version that has caught up may be refused for some moments, until its
/// progress and its lease are known to all.
pub fn until_gate_is_passed<T>(mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    let begun = Instant::now();
    loop {
        match attempt() {
            Err(Failure::Gate(_)) if begun.elapsed() < GATE_FOR => std::thread::sleep(EVERY),
            ended => return ended,
        }
    }
}

/// Returns once all versions that `select` picks from the answer of `status` have caught up; fails if one of them has failed.
pub fn until_caught_up(client: &Client, select: impl Fn(&Value) -> Result<Vec<Value>, Failure>) -> Result<(), Failure> {
    let (mut answered, mut told) = (Instant::now(), None::<Instant>);
    loop {
        let versions = match client.get("/v1/admin/status") {
            Ok(answer) => select(&answer)?,
            Err(failure) if answered.elapsed() > UNAVAILABLE_FOR => return Err(failure),
            Err(failure) => {
                complain(&format!("{failure}; this is retried"));
                std::thread::sleep(EVERY);
                continue;
            }
        };
        answered = Instant::now();
        let verdict = judge(&versions);
        if told.is_some() && !matches!(verdict, Verdict::Waits(_)) && std::io::stderr().is_terminal() {
            redraw("");
        }
        match verdict {
            Verdict::CaughtUp => return Ok(()),
            Verdict::Failed(why) => return Err(anyhow!(why).into()),
            Verdict::Waits(what) if std::io::stderr().is_terminal() => {
                redraw(&format!("{} {what}", bar_of(&versions)));
                told = Some(Instant::now());
            }
            Verdict::Waits(what) => {
                if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                    complain(&what);
                    told = Some(Instant::now());
                }
            }
        }
        std::thread::sleep(EVERY);
    }
}

/// How far those are that are still being built, all together.
fn bar_of(versions: &[Value]) -> String {
    let shares: Vec<f64> = versions
        .iter()
        .map(|version| if text(version, "state") == "building" { progress::share(version).unwrap_or(0.0) } else { 1.0 })
        .collect();
    progress::bar(shares.iter().sum::<f64>() / shares.len().max(1) as f64)
}

/// Writes over the line that was written last.
fn redraw(line: &str) {
    // Who cannot see it misses nothing.
    let _ = write!(std::io::stderr(), "\r\x1b[2K{line}").and_then(|()| std::io::stderr().flush());
}

fn judge(versions: &[Value]) -> Verdict {
    let name = |version: &Value| {
        let number = version.get("version").and_then(Value::as_u64).unwrap_or_default();
        format!("version {number} of {}", text(version, "view"))
    };
    let mut waits = Vec::new();
    for version in versions {
        match text(version, "state").as_str() {
            "failed" => return Verdict::Failed(format!("{} has failed: {}", name(version), note(version))),
            "dropped" => return Verdict::Failed(format!("{} was dropped", name(version))),
            "building" => {
                let to_go = version.get("lag").and_then(Value::as_u64).map(|lag| format!(", {} events to go", grouped(lag)));
                let eta = Some(progress::eta(version)).filter(|eta| !eta.is_empty()).map(|eta| format!(", {eta}"));
                let note = Some(note(version)).filter(|note| !note.is_empty()).map(|note| format!(": {note}"));
                waits.push(format!(
                    "{} is being built{}{}{}",
                    name(version),
                    to_go.unwrap_or_default(),
                    eta.unwrap_or_default(),
                    note.unwrap_or_default()
                ));
            }
            _ => {}
        }
    }
    if waits.is_empty() { Verdict::CaughtUp } else { Verdict::Waits(waits.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_versions_have_to_catch_up_and_one_that_failed_ends_the_wait() {
        let version =
            |number: u32, state: &str| json!({ "view": "a", "version": number, "state": state, "lag": 1_200, "error": "it broke" });
        let building = json!({ "view": "a", "version": 2, "state": "building", "lag": 1_200, "running": true });
        assert_eq!(judge(&[]), Verdict::CaughtUp);
        assert_eq!(judge(&[version(1, "active"), version(2, "caught_up"), version(3, "retired")]), Verdict::CaughtUp);
        assert_eq!(
            judge(&[version(1, "active"), building.clone()]),
            Verdict::Waits("version 2 of a is being built, 1 200 events to go".into())
        );
        assert_eq!(judge(&[building, version(3, "failed")]), Verdict::Failed("version 3 of a has failed: it broke".into()));
        assert_eq!(judge(&[version(4, "dropped")]), Verdict::Failed("version 4 of a was dropped".into()));
    }
}
