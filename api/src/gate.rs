//! Decides whether a version may be switched to and whether the active version is healthy, from current facts instead of the state in the catalogue.
//!
//! Facts are the progress in the view store, the ownership in the catalogue, the status of this process' worker, and the log ends seen last. Nothing here waits for
//! a log.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use parking_lot::Mutex;
use refold_processor::engine::status::RunStatus;
use refold_processor::position::{Cut, Offset, Partition};
use refold_processor::store::catalogue::{Ownership, VersionRecord, VersionState};
use refold_processor::table::Version;

use crate::problem::Problem;
use crate::state::ApiState;
use crate::views::progress_of;

/// Current facts about the target version of a switch.
#[derive(Debug, Default)]
pub struct Facts {
    /// Why this process cannot run it, if it should.
    pub unable: Option<String>,
    /// Whether a worker holds its lease.
    pub is_run: bool,
    /// Its last owner.
    pub owner: Option<String>,
    /// The visible positions of its rows; `None`: no rows were written yet.
    pub visible: Option<Cut>,
    /// Committed positions of its state, if it runs in this process. A state that was lost is rebuilt from the start, and rows are held back meanwhile.
    pub folded: Option<Cut>,
    /// The visible positions of the active version.
    pub active_visible: Option<Cut>,
    /// The ends of the log as seen last.
    pub ends: BTreeMap<Partition, Offset>,
}

/// Why a version may not be switched to.
#[derive(Debug, PartialEq, Eq)]
pub enum Gate {
    /// This process cannot run it.
    Unable(String),
    /// No worker runs it; its last owner, if any.
    NotRun(Option<String>),
    /// It has no rows.
    NoRows,
    /// Number of events behind the active version, or behind the end of the log if no version is active.
    Behind(u64),
}

/// Returns the gate that refuses the switch, if any. The target may be at most `allowance` events behind.
pub fn judge(facts: &Facts, allowance: u64) -> Option<Gate> {
    if let Some(error) = &facts.unable {
        return Some(Gate::Unable(error.clone()));
    }
    if !facts.is_run {
        return Some(Gate::NotRun(facts.owner.clone()));
    }
    let Some(visible) = &facts.visible else { return Some(Gate::NoRows) };
    let is_at = |partition: Partition| {
        let visible = visible.position(partition);
        facts.folded.as_ref().map_or(visible, |folded| visible.min(folded.position(partition)))
    };
    let behind = |to: &mut dyn Iterator<Item = (Partition, Offset)>| -> u64 {
        to.map(|(partition, offset)| offset.0.saturating_sub(is_at(partition).0)).sum()
    };
    let behind = match &facts.active_visible {
        Some(active) => behind(&mut active.iter()),
        None => behind(&mut facts.ends.iter().map(|(partition, end)| (*partition, *end))),
    };
    (behind > allowance).then_some(Gate::Behind(behind))
}

impl Gate {
    /// The reason, for people.
    pub fn describe(&self, version: Version) -> String {
        match self {
            Gate::Unable(error) => format!("version {version} cannot be run here: {error}"),
            Gate::NotRun(Some(owner)) => {
                format!("version {version} is run by no worker (the last owner was {owner}), so its rows are not updated")
            }
            Gate::NotRun(None) => format!("version {version} is run by no worker"),
            Gate::NoRows => format!("version {version} has no rows yet"),
            Gate::Behind(events) => format!("version {version} is {events} events behind"),
        }
    }

    /// The reason with the way out.
    fn explain(&self, view: &str, version: Version) -> String {
        let way_out = match self {
            Gate::Unable(_) => "fix the cause first",
            Gate::NotRun(_) => "start refold process, or wait until a worker has taken it",
            Gate::NoRows | Gate::Behind(_) => "wait until it has caught up",
        };
        let what = self.describe(version);
        format!(
            "view {view}: {what}; {way_out} (refold status {view} --watch shows how far it is), or override this with --force and --reason"
        )
    }

    /// The problem document.
    pub fn problem(&self, view: &str, version: Version) -> Problem {
        let problem =
            Problem::new(StatusCode::CONFLICT, "gate", "The version is not as current as readers need it", self.explain(view, version));
        match self {
            Gate::Behind(events) => problem.with("behind_events", *events),
            _ => problem,
        }
    }
}

/// Gathers the facts about a version.
pub fn facts(state: &ApiState, record: &VersionRecord, active: Option<&VersionRecord>) -> Result<Facts, Problem> {
    let ports = &state.0.ports;
    let running = state.running();
    let run = running.iter().find(|run| run.view == record.view && run.version == Some(record.version));
    let held = ports.catalogue.ownership(&record.view, record.version)?;
    let unable = run.and_then(|run| run.unable.clone());
    let is_held = held.as_ref().is_some_and(|held| held.is_held(ports.clock.now_ms()));
    let visible = |record: &VersionRecord| Ok::<_, Problem>(progress_of(state, record)?.map(|progress| progress.visible));
    let topic = state.planned(record).ok().and_then(|view| ports.sources.get(&view.source).map(|source| source.topic.clone()));
    Ok(Facts {
        // Another worker may be able to run it.
        unable: unable.filter(|_| !is_held),
        is_run: is_held,
        owner: held.map(|held| held.owner),
        visible: visible(record)?,
        folded: run.filter(|run| run.unable.is_none() && ports.running.is_here()).map(|run| run.positions.clone()),
        active_visible: active.map(visible).transpose()?.flatten(),
        ends: topic.map(|topic| state.0.seen.ends_of(&topic)).unwrap_or_default(),
    })
}

/// Reasons why the active version of a view is not healthy, with ways out, for `/readyz`.
pub fn health(
    state: &ApiState,
    record: &VersionRecord,
    versions: &[VersionRecord],
    run: Option<&RunStatus>,
) -> Result<Vec<String>, Problem> {
    let ports = &state.0.ports;
    let (view, version) = (&record.view, record.version);
    if let VersionState::Failed { error } = &record.state {
        return Ok(vec![format!("view {view}: version {version} failed: {error}; {}", ways_on(record, versions))]);
    }
    let mut reasons = Vec::new();
    let now_ms = ports.clock.now_ms();
    if let Some(error) = run.and_then(|run| run.unable.as_ref()) {
        reasons.push(format!("view {view}: version {version} cannot be run here: {error}"));
    } else {
        let held = ports.catalogue.ownership(view, version)?;
        // During a hand-over between two workers, no worker holds the lease for a moment.
        if state.0.behind.is_unowned_for_long(now_ms, (view, version), held.as_ref()) {
            let last = held.map_or(String::new(), |held| format!(" (the last owner was {})", held.owner));
            reasons.push(format!(
                "view {view}: version {version} is run by no worker{last}, so its rows are not updated: start refold process"
            ));
        }
    }
    if let Some(run) = run.filter(|_| state.0.behind.is_for_long(now_ms, view, version)) {
        reasons.push(format!(
            "view {view}: version {version} is {} events behind the log, and reads {:.0} events a second",
            run.lag, run.events_per_s
        ));
    }
    Ok(reasons)
}

/// More events behind than `allowance`, and more than the version reads within some seconds at its current rate.
fn is_behind(run: &RunStatus, allowance: u64) -> bool {
    run.unable.is_none() && run.lag > allowance && run.lag as f64 > run.events_per_s * BEHIND_S
}

const BEHIND_S: f64 = 10.0;

/// The ways out for a failed version; `versions` are those that readers could be switched to.
pub fn ways_on(failed: &VersionRecord, versions: &[VersionRecord]) -> String {
    let (view, version) = (&failed.view, failed.version.0);
    let resume = format!("once the cause is gone, refold resume {view} {version} continues it");
    let is_ready = |record: &&VersionRecord| matches!(record.state, VersionState::CaughtUp | VersionState::Retired);
    match versions.iter().filter(|record| record.version != failed.version).rfind(is_ready) {
        Some(other) => {
            let state = if other.state == VersionState::Retired { "still fed" } else { "caught up" };
            format!("{resume}; version {} is {state}: refold switch {view} {} sends readers to it", other.version, other.version.0)
        }
        None => resume,
    }
}

/// How long a problem must last before it is reported, milliseconds: longer than a hand-over between workers or a burst of events.
const LASTING_MS: i64 = 5_000;

/// The time since which each version has been behind the log.
#[derive(Debug, Default)]
pub struct Behind {
    behind: Mutex<BTreeMap<(String, Version), i64>>,
    unowned: Mutex<BTreeMap<(String, Version), i64>>,
}

impl Behind {
    /// Records which versions are behind at `now_ms`.
    pub fn note(&self, now_ms: i64, runs: &[RunStatus], allowance: u64) {
        let mut since = self.behind.lock();
        let behind: BTreeMap<(String, Version), i64> = runs
            .iter()
            .filter(|run| is_behind(run, allowance))
            .filter_map(|run| {
                let key = (run.view.clone(), run.version?);
                let at_ms = since.get(&key).copied().unwrap_or(now_ms);
                Some((key, at_ms))
            })
            .collect();
        *since = behind;
    }

    /// Whether a version has been behind for long enough to be reported.
    fn is_for_long(&self, now_ms: i64, view: &str, version: Version) -> bool {
        self.behind.lock().get(&(view.to_owned(), version)).is_some_and(|since_ms| now_ms - since_ms >= LASTING_MS)
    }

    /// Whether no worker has held a version for long enough to be reported, or none ever did. One that was released is counted from when
    /// that was first seen.
    fn is_unowned_for_long(&self, now_ms: i64, (view, version): (&str, Version), held: Option<&Ownership>) -> bool {
        let Some(held) = held else { return true };
        let mut unowned = self.unowned.lock();
        let key = (view.to_owned(), version);
        if held.is_held(now_ms) {
            unowned.remove(&key);
            return false;
        }
        let since_ms = *unowned.entry(key).or_insert_with(|| held.until_ms.unwrap_or(now_ms));
        now_ms - since_ms >= LASTING_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(offsets: [u64; 2]) -> Cut {
        [(Partition(0), Offset(offsets[0])), (Partition(1), Offset(offsets[1]))].into_iter().collect()
    }

    fn run() -> Facts {
        Facts { is_run: true, visible: Some(cut([90, 100])), active_visible: Some(cut([100, 100])), ..Facts::default() }
    }

    #[test]
    fn what_is_judged_is_how_far_rows_are_and_who_keeps_them_so() {
        assert_eq!(judge(&run(), 10), None);
        assert_eq!(judge(&run(), 9), Some(Gate::Behind(10)));
        assert_eq!(judge(&Facts { is_run: false, owner: Some("w".into()), ..run() }, 10), Some(Gate::NotRun(Some("w".into()))));
        assert_eq!(judge(&Facts { unable: Some("no source".into()), ..run() }, 10), Some(Gate::Unable("no source".into())));
        assert_eq!(judge(&Facts { visible: None, ..run() }, 10), Some(Gate::NoRows));
        let rebuilt = Facts { folded: Some(cut([0, 100])), ..run() };
        assert_eq!(judge(&rebuilt, 10), Some(Gate::Behind(100)), "its state was lost: rows stand still until it is there again");
        let ahead = Facts { visible: Some(cut([500, 500])), ends: [(Partition(0), Offset(9_000))].into(), ..run() };
        assert_eq!(judge(&ahead, 0), None, "readers lose nothing, however far the log reaches");
        let alone = Facts { active_visible: None, ends: [(Partition(0), Offset(101)), (Partition(1), Offset(100))].into(), ..run() };
        assert_eq!(judge(&alone, 10), Some(Gate::Behind(11)));
    }

    #[test]
    fn a_version_is_behind_when_it_stays_so() {
        let behind = Behind::default();
        let is_trouble = |now_ms, lag, events_per_s| {
            let run = RunStatus { view: "v".into(), version: Some(Version(1)), lag, events_per_s, ..RunStatus::default() };
            behind.note(now_ms, &[run], 1_000);
            behind.is_for_long(now_ms, "v", Version(1))
        };
        assert_eq!([is_trouble(0, 1_001, 0.0), is_trouble(4_999, 9, 0.0)], [false, false], "a burst that was read");
        assert_eq!([is_trouble(5_000, 1_001, 0.0), is_trouble(10_000, 1_001, 0.0)], [false, true]);
        assert!(!is_trouble(20_000, 50_000, 5_000.0), "ten seconds' worth of what it reads");
        assert_eq!([is_trouble(30_000, 50_001, 5_000.0), is_trouble(35_000, 60_000, 5_000.0)], [false, true]);
    }
}
