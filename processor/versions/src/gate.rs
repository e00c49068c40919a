//! Decides whether a version may be switched to, from current facts instead of the state in the catalogue.

use std::collections::BTreeMap;

use refold_processor::json;
use refold_processor::position::{Cut, Offset, Partition};
use refold_processor::store::catalogue::{VersionRecord, VersionState};
use refold_processor::table::Version;

/// Current facts about the target version of a switch.
#[derive(Debug, Default)]
pub struct Facts {
    /// Why this process cannot run it, if it should.
    pub unable: Option<String>,
    /// Whether it is paused.
    pub is_paused: bool,
    /// The record time at which it ends, milliseconds since the Unix epoch.
    pub until_ms: Option<i64>,
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
    /// It is paused.
    Paused,
    /// It ends at a record time, milliseconds since the Unix epoch: events after it never come into its rows.
    Ends(i64),
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
    if let Some(until_ms) = facts.until_ms {
        return Some(Gate::Ends(until_ms));
    }
    if facts.is_paused {
        return Some(Gate::Paused);
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
            Gate::Paused => format!("version {version} is paused"),
            Gate::Ends(until_ms) => {
                let until = json::millis(*until_ms);
                let until = until.as_str().map_or_else(|| until.to_string(), str::to_owned);
                format!("version {version} ends at {until}, so later events never come into its rows")
            }
            Gate::NotRun(Some(owner)) => {
                format!("version {version} is run by no worker (the last owner was {owner}), so its rows are not updated")
            }
            Gate::NotRun(None) => format!("version {version} is run by no worker"),
            Gate::NoRows => format!("version {version} has no rows yet"),
            Gate::Behind(events) => format!("version {version} is {events} events behind"),
        }
    }

    /// What to do.
    pub fn way_out(&self, view: &str, version: Version) -> String {
        let way_out = match self {
            Gate::Unable(_) => "fix the cause first".to_owned(),
            Gate::Paused => format!("refold resume {view} {} lets it go on", version.0),
            Gate::Ends(_) => format!("refold replay {view} without --until builds one that follows the log"),
            Gate::NotRun(_) => "start refold process, or wait until a worker has taken it".to_owned(),
            Gate::NoRows | Gate::Behind(_) => "wait until it has caught up".to_owned(),
        };
        format!("{way_out} (refold status {view} --watch shows how far it is)")
    }

    /// The reason with the way out.
    pub fn explain(&self, view: &str, version: Version) -> String {
        let (what, way_out) = (self.describe(version), self.way_out(view, version));
        format!("view {view}: {what}; {way_out}, or override this with --force and --reason")
    }
}

/// The ways out for a failed version; `versions` are those that readers could be switched to.
pub fn ways_on(failed: &VersionRecord, versions: &[VersionRecord]) -> String {
    let (view, version) = (&failed.view, failed.version.0);
    let resume = format!("once the cause is gone, refold resume {view} {version} continues it");
    match other_ready(versions, &[failed.version]) {
        Some(other) => {
            let state = if other.state == VersionState::Retired { "still fed" } else { "caught up" };
            format!("{resume}; version {} is {state}: refold switch {view} {} sends readers to it", other.version, other.version.0)
        }
        None => resume,
    }
}

/// The newest version, apart from some, that readers could be switched to.
pub fn other_ready<'a>(versions: &'a [VersionRecord], apart_from: &[Version]) -> Option<&'a VersionRecord> {
    let is_ready = |record: &&VersionRecord| {
        matches!(record.state, VersionState::CaughtUp | VersionState::Retired) && record.controls.until_ms.is_none()
    };
    versions.iter().filter(|record| !apart_from.contains(&record.version)).rfind(is_ready)
}

/// The newest version that waits to be switched to. Where the newest of all is in service already, it is that one: asked again, a switch is done.
///
/// # Errors
/// No version is ready, in words for people.
pub fn newest_ready(view: &str, versions: &[VersionRecord], active: Option<Version>) -> Result<Version, String> {
    let newest = versions.iter().rfind(|record| record.state != VersionState::Dropped).map(|record| record.version);
    if let (Some(newest), Some(active)) = (newest, active)
        && newest == active
    {
        return Ok(active);
    }
    let ready = versions.iter().rfind(|record| record.state == VersionState::CaughtUp && record.controls.until_ms.is_none());
    ready.map(|record| record.version).ok_or_else(|| {
        let states: Vec<String> = versions.iter().map(|record| format!("{} is {}", record.version, record.state)).collect();
        format!(
            "view {view}: no version is caught up and waits to be switched to ({}); start one with a replay, wait until it is caught up, or name a version",
            states.join(", ")
        )
    })
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
        assert_eq!(judge(&Facts { until_ms: Some(0), ..run() }, 10), Some(Gate::Ends(0)), "readers would miss what comes");
        assert_eq!(judge(&Facts { is_paused: true, ..run() }, 10), Some(Gate::Paused));
        assert!(Gate::Ends(0).describe(Version(2)).contains("ends at 1970-01-01T00:00:00Z"));
        let alone = Facts { active_visible: None, ends: [(Partition(0), Offset(101)), (Partition(1), Offset(100))].into(), ..run() };
        assert_eq!(judge(&alone, 10), Some(Gate::Behind(11)));
    }
}
