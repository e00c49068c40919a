//! The gates that a version passes before readers are sent to it. Each is a function from facts to a verdict with a name of its own; all of them are shown, and
//! what is overridden is in the audit trail.
//!
//! A rollback asks the first alone ([`crate::gate`]): it has to be possible when everything else is in doubt.

use std::collections::BTreeMap;

use refold_processor::quarantine::Reason;
use refold_processor::store::Progress;
use refold_processor::table::Version;
use serde::Serialize;

use crate::gate::Gate;
use crate::{audit, diff};

/// What a gate came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judged {
    /// Its name.
    pub gate: &'static str,
    /// Whether the version passes it.
    pub passed: bool,
    /// Why it does, or does not.
    pub reason: String,
    /// What to do where it does not; for people, after the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub way_out: Option<String>,
    /// How many events the version is behind, where that is the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behind_events: Option<u64>,
}

/// The gate of current rows: a worker runs the version, and its rows are hardly behind.
pub const CURRENT: &str = "current";
/// The gate of declared audits.
pub const AUDITS: &str = "audits";
/// The gate of quarantined events.
pub const QUARANTINE: &str = "quarantine";
/// The gate of late events.
pub const LATENESS: &str = "lateness";
/// The gate of the comparison with the version in service.
pub const DIFF: &str = "diff";

impl Judged {
    fn passed(gate: &'static str, reason: impl Into<String>) -> Judged {
        Judged { gate, passed: true, reason: reason.into(), way_out: None, behind_events: None }
    }

    fn failed(gate: &'static str, reason: impl Into<String>, way_out: impl Into<String>) -> Judged {
        Judged { gate, passed: false, reason: reason.into(), way_out: Some(way_out.into()), behind_events: None }
    }

    /// A gate that could not be judged: it does not count as passed.
    pub fn unknown(gate: &'static str, why: impl std::fmt::Display) -> Judged {
        Judged::failed(gate, format!("it could not be judged: {why}"), "try again once the cause is gone")
    }

    /// The reason with its gate, for the audit trail.
    pub fn describe(&self) -> String {
        format!("{}: {}", self.gate, self.reason)
    }
}

/// What a version has read, and what of it was not applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The version.
    pub version: Option<Version>,
    /// Events read.
    pub read: u64,
    /// Events applied.
    pub applied: u64,
    /// Events quarantined, by reason.
    pub quarantined: BTreeMap<String, u64>,
}

impl Counts {
    /// The counts that a version's owner has told.
    pub fn of(version: Version, progress: &Progress) -> Counts {
        Counts { version: Some(version), read: progress.read, applied: progress.applied, quarantined: progress.quarantined.clone() }
    }

    /// The events that were too late.
    fn late(&self) -> u64 {
        [Reason::TooLate, Reason::LateAfterIdle].iter().filter_map(|reason| self.quarantined.get(reason.as_str())).sum()
    }

    /// The events that were quarantined for another reason.
    fn bad(&self) -> u64 {
        self.quarantined.values().sum::<u64>().saturating_sub(self.late())
    }

    fn share(&self, events: u64) -> f64 {
        if self.read == 0 { 0.0 } else { events as f64 / self.read as f64 }
    }

    /// The reasons of events of which there are most, in words; those of late ones, or the others.
    fn most(&self, late: bool) -> String {
        let is_late = |reason: &str| [Reason::TooLate, Reason::LateAfterIdle].iter().any(|late| late.as_str() == reason);
        let mut counts: Vec<(&String, &u64)> = self.quarantined.iter().filter(|(reason, _)| is_late(reason) == late).collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        counts.iter().take(3).map(|(reason, count)| format!("{reason} {count}")).collect::<Vec<_>>().join(", ")
    }
}

/// The gate of current rows.
pub fn current(refused: Option<&Gate>, view: &str, version: Version) -> Judged {
    match refused {
        None => Judged::passed(CURRENT, format!("a worker runs version {version}, and its rows are up to date")),
        Some(gate) => {
            let behind_events = if let Gate::Behind(events) = gate { Some(*events) } else { None };
            Judged { behind_events, ..Judged::failed(CURRENT, gate.describe(version), gate.way_out(view, version)) }
        }
    }
}

/// The gate of declared audits; `None`: the view declares none.
pub fn audits(report: Option<&audit::Report>, view: &str) -> Judged {
    let Some(report) = report else { return Judged::passed(AUDITS, "the view declares no audits") };
    let failed: Vec<String> = report
        .audits
        .iter()
        .filter(|verdict| verdict.failed > 0)
        .map(|verdict| format!("{} of {} rows fail {} ({})", verdict.failed, report.rows, verdict.audit, verdict.condition))
        .collect();
    match failed.is_empty() {
        true => Judged::passed(AUDITS, format!("{} audits are met by {} rows", report.audits.len(), report.rows)),
        false => Judged::failed(AUDITS, failed.join("; "), format!("refold audit {view} {} shows which rows", report.version)),
    }
}

/// The gate of quarantined events: their share may be greater than that of the version in service by at most `allowance`, and not all may be.
pub fn quarantine(new: &Counts, old: Option<&Counts>, allowance: f64, view: &str) -> Judged {
    let (bad, shown) = (new.bad(), way_to_quarantine(new, view));
    if new.read > 0 && new.applied == 0 {
        let all = format!("none of the {} events that it has read is applied ({})", new.read, new.most(bad < new.late()));
        return Judged::failed(QUARANTINE, all, shown);
    }
    compared(QUARANTINE, "quarantined", (new.share(bad), old.map(|old| old.share(old.bad()))), allowance)
        .map_err(|reason| Judged::failed(QUARANTINE, format!("{reason} ({})", new.most(false)), shown))
        .unwrap_or_else(|failed| failed)
}

/// The gate of late events: their share may be greater than that of the version in service by at most `allowance`.
pub fn lateness(new: &Counts, old: Option<&Counts>, allowance: f64, view: &str) -> Judged {
    compared(LATENESS, "too late", (new.share(new.late()), old.map(|old| old.share(old.late()))), allowance)
        .map_err(|reason| {
            let way_out = format!("{}, accept_late says how late an event may be", way_to_quarantine(new, view));
            Judged::failed(LATENESS, format!("{reason} ({})", new.most(true)), way_out)
        })
        .unwrap_or_else(|failed| failed)
}

fn way_to_quarantine(new: &Counts, view: &str) -> String {
    let version = new.version.map(|version| format!(" --version {}", version.0)).unwrap_or_default();
    format!("refold quarantine list {view}{version} shows them")
}

fn compared(gate: &'static str, what: &str, (new, old): (f64, Option<f64>), allowance: f64) -> Result<Judged, String> {
    let part = |share: f64| format!("{:.2} %", share * 100.0);
    match old {
        // Of a first version there is nothing to compare with.
        None => Ok(Judged::passed(gate, format!("{} of its events are {what}", part(new)))),
        Some(old) if new > old + allowance => {
            Err(format!("{} of its events are {what}, {} of those of the version in service", part(new), part(old)))
        }
        Some(old) => Ok(Judged::passed(gate, format!("{} of its events are {what}, {} of the version in service", part(new), part(old)))),
    }
}

/// What is known of how a version differs from the one in service.
#[derive(Clone, Copy, Debug)]
pub enum Compared<'a> {
    /// Neither the view nor whoever switches says by how much it may.
    NotAsked,
    /// There is no version in service.
    Nothing,
    /// It was compared.
    Report(&'a diff::Report),
}

/// The gate of the comparison with the version in service.
pub fn diff(compared: Compared<'_>, view: &str) -> Judged {
    let report = match compared {
        Compared::NotAsked => return Judged::passed(DIFF, "no tolerance is declared (diff_tolerance, --diff-within)"),
        Compared::Nothing => return Judged::passed(DIFF, "there is no version in service to compare with"),
        Compared::Report(report) => report,
    };
    let (differing, within) = (report.changed + report.missing + report.extra, report.tolerance);
    match (differing, report.moving) {
        (0, 0) => {
            Judged::passed(DIFF, format!("all {} rows are within {within} of those of {}", report.equal, Version(report.left.version)))
        }
        (0, moving) => {
            let reason = format!("{moving} rows kept changing while they were compared");
            Judged::failed(DIFF, reason, "try again, or compare with a longer refold diff --settle")
        }
        (differing, _) => {
            let reason = format!("{differing} rows differ by more than {within} from {}", Version(report.left.version));
            let way_out = format!("refold diff {view} {} {} shows how", report.left.version, report.right.version);
            Judged::failed(DIFF, reason, way_out)
        }
    }
}

/// Why a switch is refused, for people: each gate that is not passed, with its way out.
pub fn explain(view: &str, version: Version, gates: &[Judged]) -> String {
    let failed = gates.iter().filter(|judged| !judged.passed);
    let reasons = failed.map(|judged| match &judged.way_out {
        Some(way_out) => format!("{}; {way_out}", judged.reason),
        None => judged.reason.clone(),
    });
    let reasons = reasons.collect::<Vec<_>>().join("; ");
    format!("view {view}: version {version} is not fit for readers: {reasons}, or override this with --force and --reason")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(read: u64, quarantined: &[(Reason, u64)]) -> Counts {
        let all: u64 = quarantined.iter().map(|(_, count)| count).sum();
        let quarantined = quarantined.iter().map(|(reason, count)| (reason.as_str().to_owned(), *count)).collect();
        Counts { version: Some(Version(2)), read, applied: read - all, quarantined }
    }

    #[test]
    fn a_version_may_quarantine_about_as_much_as_the_one_in_service() {
        let old = counts(1_000, &[(Reason::Truncated, 10)]);
        let of = |quarantined: u64| counts(1_000, &[(Reason::Evaluation, quarantined), (Reason::TooLate, 500)]);
        assert!(quarantine(&of(20), Some(&old), 0.01, "v").passed, "one in a hundred more");
        let refused = quarantine(&of(21), Some(&old), 0.01, "v");
        assert!(!refused.passed);
        assert_eq!(refused.reason, "2.10 % of its events are quarantined, 1.00 % of those of the version in service (evaluation 21)");
        assert_eq!(refused.way_out.as_deref(), Some("refold quarantine list v --version 2 shows them"));
        assert!(quarantine(&of(400), None, 0.01, "v").passed, "a first version has nothing to be compared with");
    }

    #[test]
    fn a_version_that_has_applied_nothing_is_refused_whatever_the_other_has() {
        let all = counts(7, &[(Reason::Evaluation, 7)]);
        let refused = quarantine(&all, Some(&all), 1.0, "v");
        assert_eq!((refused.passed, refused.reason.as_str()), (false, "none of the 7 events that it has read is applied (evaluation 7)"));
        assert!(!quarantine(&all, None, 1.0, "v").passed);
        assert!(quarantine(&counts(0, &[]), None, 0.0, "v").passed, "an empty log");
    }

    #[test]
    fn late_events_are_judged_apart() {
        let old = counts(1_000, &[(Reason::TooLate, 1)]);
        let new = counts(1_000, &[(Reason::TooLate, 300), (Reason::LateAfterIdle, 1)]);
        assert!(quarantine(&new, Some(&old), 0.01, "v").passed);
        let refused = lateness(&new, Some(&old), 0.01, "v");
        assert!(!refused.passed && refused.reason.contains("30.10 % of its events are too late"), "{refused:?}");
        assert!(lateness(&new, Some(&old), 0.5, "v").passed);
    }

    #[test]
    fn all_gates_that_are_not_passed_are_told_with_their_ways_out() {
        let gates = [
            current(Some(&Gate::Behind(12)), "v", Version(2)),
            audits(None, "v"),
            lateness(&counts(10, &[(Reason::TooLate, 5)]), Some(&counts(10, &[])), 0.0, "v"),
        ];
        assert_eq!(gates.iter().map(|judged| judged.passed).collect::<Vec<_>>(), [false, true, false]);
        let told = explain("v", Version(2), &gates);
        assert!(told.contains(": version v2 is 12 events behind; wait until it has caught up"), "{told}");
        assert!(told.contains("50.00 % of its events are too late") && told.ends_with("--force and --reason"), "{told}");
    }
}
