//! Decides whether a version may be switched to and whether the active version is healthy, from current facts instead of the state in the catalogue.
//!
//! Facts are the progress in the view store, the ownership in the catalogue, the status of this process' worker, and the log ends seen last. Nothing here waits for
//! a log.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use refold_processor::engine::status::RunStatus;
use refold_processor::position::{Cut, Offset, Partition};
use refold_processor::store::catalogue::{VersionRecord, VersionState};
use refold_processor::table::Version;

use crate::problem::Problem;
use crate::views::Views;

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
pub fn facts(views: &Views, record: &VersionRecord, active: Option<&VersionRecord>) -> Result<Facts, Problem> {
    let watch = &views.watch;
    let running = watch.running();
    let run = running.iter().find(|run| run.view == record.view && run.version == Some(record.version));
    let held = views.catalogue.ownership(&record.view, record.version)?;
    let unable = run.and_then(|run| run.unable.clone());
    let is_held = held.as_ref().is_some_and(|held| held.is_held(views.clock.now_ms()));
    let visible = |record: &VersionRecord| Ok::<_, Problem>(views.progress_of(record)?.map(|progress| progress.visible));
    let topic = views.planned(record).ok().and_then(|view| views.sources.get(&view.source).map(|source| source.topic.clone()));
    Ok(Facts {
        // Another worker may be able to run it.
        unable: unable.filter(|_| !is_held),
        is_run: is_held,
        owner: held.map(|held| held.owner),
        visible: visible(record)?,
        folded: run.filter(|run| run.unable.is_none() && watch.running.is_here()).map(|run| run.positions.clone()),
        active_visible: active.map(visible).transpose()?.flatten(),
        ends: topic.map(|topic| watch.ends.of(&topic)).unwrap_or_default(),
    })
}

/// Why a view cannot be read, or is not as fresh as it should be, with ways out.
pub fn reasons(views: &Views, view: &str, running: &[RunStatus]) -> Result<Vec<String>, Problem> {
    let catalogue = &views.catalogue;
    let mut reasons = Vec::new();
    let Some(active) = catalogue.active(view)? else {
        let runs: Vec<&RunStatus> = running.iter().filter(|run| run.view == view).collect();
        // As long as nothing is read there is no telling.
        let why = match runs.iter().map(|run| run.lag).sum::<u64>() {
            0 if runs.is_empty() => catalogue.versions(view)?.iter().find_map(|record| views.waits_for(record, None)),
            0 => None,
            lag => Some(format!("the first is being built ({lag} events to go)")),
        };
        let why = why.unwrap_or_else(|| "the first is being built".to_owned());
        reasons.push(format!("view {view}: no version is in service yet, {why}"));
        let unable = runs.iter().filter_map(|run| Some((run.version?, run.unable.as_ref()?)));
        reasons.extend(unable.map(|(version, error)| format!("view {view}: version {version} cannot be run here: {error}")));
        return Ok(reasons);
    };
    let versions = catalogue.versions(view)?;
    let run = running.iter().find(|run| run.view == view && run.version == Some(active.version));
    if let Some(record) = versions.iter().find(|record| record.version == active.version) {
        reasons.extend(health(views, record, &versions, run)?);
    }
    if let Some(RunStatus { store_error: Some(error), .. }) = run {
        reasons.push(format!("view {view}: rows of version {} wait: {error}", active.version));
    }
    if let Some(RunStatus { stalled_s: Some(seconds), source_error: None, lag, .. }) = run {
        reasons.push(format!("view {view}: version {} has folded nothing for {seconds} s although {lag} events wait", active.version));
    }
    // Where nothing is folded, rows are as good to read as ever.
    if let Some(RunStatus { source_error: Some(error), .. }) = run
        && views.watch.running.is_here()
    {
        reasons.push(format!("view {view}: version {} waits for events: {error}", active.version));
    }

    Ok(reasons)
}

/// Reasons why the active version of a view is not healthy, with ways out.
fn health(views: &Views, record: &VersionRecord, versions: &[VersionRecord], run: Option<&RunStatus>) -> Result<Vec<String>, Problem> {
    let watch = &views.watch;
    let (view, version) = (&record.view, record.version);
    if let VersionState::Failed { error } = &record.state {
        return Ok(vec![format!("view {view}: version {version} failed: {error}; {}", ways_on(record, versions))]);
    }
    let mut reasons = Vec::new();
    let now_ms = views.clock.now_ms();
    if let Some(error) = run.and_then(|run| run.unable.as_ref()) {
        reasons.push(format!("view {view}: version {version} cannot be run here: {error}"));
    } else {
        let held = views.catalogue.ownership(view, version)?;
        // During a hand-over between two workers, no worker holds the lease for a moment.
        if watch.behind.is_unowned_for_long(now_ms, (view, version), held.as_ref()) {
            let last = held.map_or(String::new(), |held| format!(" (the last owner was {})", held.owner));
            reasons.push(format!(
                "view {view}: version {version} is run by no worker{last}, so its rows are not updated: start refold process"
            ));
        }
    }
    if let Some(run) = run.filter(|_| watch.behind.is_for_long(now_ms, view, version)) {
        reasons.push(format!(
            "view {view}: version {version} is {} events behind the log, and reads {:.0} events a second",
            run.lag, run.events_per_s
        ));
    }
    Ok(reasons)
}

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
}
