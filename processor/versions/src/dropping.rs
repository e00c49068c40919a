//! Decides whether a version may be dropped: not while readers are sent to it, and not for some time after they were sent away from it, in which they may have
//! to be sent back.

use refold_processor::store::catalogue::{ActivePointer, VersionRecord, VersionState};
use refold_processor::table::Version;

use crate::gate::other_ready;

/// A version that is to be dropped.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The version.
    pub record: &'a VersionRecord,
    /// Which version readers are sent to.
    pub pointer: Option<&'a ActivePointer>,
    /// The time, milliseconds since the Unix epoch.
    pub now_ms: i64,
    /// How long a version is kept after it was in service, milliseconds.
    pub grace_ms: i64,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is dropped.
    Drop,
    /// It was dropped before.
    Done,
    /// It is not: readers are sent to it.
    InService,
    /// It is not: readers were sent to it until lately. This can be overridden.
    InGrace(Grace),
}

/// The time in which a version that was in service is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grace {
    /// How long ago it was in service, milliseconds.
    pub since_ms: i64,
    /// How long it is still kept, milliseconds.
    pub left_ms: i64,
}

/// The states that a version may be dropped in.
pub fn droppable() -> [VersionState; 4] {
    let failed = VersionState::Failed { error: String::new() };
    [VersionState::Building, VersionState::CaughtUp, VersionState::Retired, failed]
}

/// Returns what dropping a version does.
pub fn judge(facts: &Facts<'_>) -> Verdict {
    let Facts { record, pointer, now_ms, grace_ms } = *facts;
    if record.state == VersionState::Dropped {
        return Verdict::Done;
    }
    if pointer.is_some_and(|pointer| pointer.version == record.version) {
        return Verdict::InService;
    }
    let since_ms = last_in_service_ms(record, pointer).map(|at_ms| now_ms.saturating_sub(at_ms));
    match since_ms.filter(|since_ms| *since_ms < grace_ms) {
        Some(since_ms) => Verdict::InGrace(Grace { since_ms, left_ms: grace_ms - since_ms }),
        None => Verdict::Drop,
    }
}

/// Until when readers were sent to a version that they are not sent to now, as far as that is known.
fn last_in_service_ms(record: &VersionRecord, pointer: Option<&ActivePointer>) -> Option<i64> {
    let switched_away = pointer.filter(|pointer| pointer.previous == Some(record.version)).map(|pointer| pointer.switched_ms);
    let retired = (record.state == VersionState::Retired).then_some(record.changed_ms);
    switched_away.or(retired)
}

/// Why a version in service is not dropped, with the ways out.
pub fn explain_in_service(record: &VersionRecord, pointer: Option<&ActivePointer>, versions: &[VersionRecord]) -> String {
    let VersionRecord { view, version, .. } = record;
    let is_back = |other: &VersionRecord| pointer.is_some_and(|pointer| pointer.previous == Some(other.version) && !pointer.is_rollback);
    let way_out = match other_ready(versions, &[*version]) {
        Some(other) if is_back(other) => format!("refold rollback {view} sends them back to {}", other.version),
        Some(other) => format!("refold switch {view} {} sends them to {}", other.version.0, other.version),
        None => format!("refold replay {view} builds another version"),
    };
    format!(
        "view {view}: readers are sent to version {version}, so it is not dropped; {way_out}, and refold drop {view} --all drops the whole view"
    )
}

impl Grace {
    /// Why the version is still kept, for people.
    pub fn describe(&self, version: Version) -> String {
        format!("version {version} was in service until {} ago", time(self.since_ms))
    }

    /// The reason with the way out.
    pub fn explain(&self, view: &str, version: Version) -> String {
        format!(
            "view {view}: {}, and is kept for a rollback for {} more (drop_grace_ms); wait, or override this with --force and --reason",
            self.describe(version),
            time(self.left_ms)
        )
    }
}

/// A length of time for people, rounded up.
fn time(ms: i64) -> String {
    match ms {
        ..=120_000 => format!("{} s", ms.max(0).saturating_add(999) / 1_000),
        120_001..=7_200_000 => format!("{} min", ms.saturating_add(59_999) / 60_000),
        _ => format!("{} h", ms.saturating_add(3_599_999) / 3_600_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::record;

    const V1: Version = Version(1);
    const V2: Version = Version(2);
    const MINUTE_MS: i64 = 60_000;

    fn pointer(version: Version, previous: Option<Version>, switched_ms: i64) -> ActivePointer {
        ActivePointer { version, previous, switched_ms, switched_by: "ann".into(), reason: None, is_rollback: false }
    }

    fn verdict(record: &VersionRecord, pointer: Option<&ActivePointer>, now_ms: i64) -> Verdict {
        judge(&Facts { record, pointer, now_ms, grace_ms: 10 * MINUTE_MS })
    }

    #[test]
    fn what_readers_are_sent_to_or_were_lately_is_kept() {
        let pointer = pointer(V2, Some(V1), 5 * MINUTE_MS);
        assert_eq!(verdict(&record(2, VersionState::Active), Some(&pointer), i64::MAX), Verdict::InService);
        let failed = VersionState::Failed { error: "it broke".into() };
        assert_eq!(verdict(&record(2, failed.clone()), Some(&pointer), i64::MAX), Verdict::InService, "readers are on it all the same");
        let grace = |since_ms| Verdict::InGrace(Grace { since_ms, left_ms: 10 * MINUTE_MS - since_ms });
        for state in [VersionState::Retired, failed.clone()] {
            let before = record(1, state);
            assert_eq!(verdict(&before, Some(&pointer), 8 * MINUTE_MS), grace(3 * MINUTE_MS));
            assert_eq!(verdict(&before, Some(&pointer), 15 * MINUTE_MS), Verdict::Drop);
        }
        // Retired by an earlier switch than the last one.
        let earlier = VersionRecord { changed_ms: 4 * MINUTE_MS, ..record(7, VersionState::Retired) };
        assert_eq!(verdict(&earlier, Some(&pointer), 5 * MINUTE_MS), grace(MINUTE_MS));
        assert_eq!(verdict(&earlier, Some(&pointer), 14 * MINUTE_MS), Verdict::Drop);
        for state in [VersionState::Building, VersionState::CaughtUp, failed] {
            assert_eq!(verdict(&record(3, state), Some(&pointer), 5 * MINUTE_MS), Verdict::Drop, "nobody was ever on it");
        }
        assert_eq!(verdict(&record(1, VersionState::Dropped), Some(&pointer), 5 * MINUTE_MS), Verdict::Done);
        assert_eq!(verdict(&record(1, VersionState::Building), None, 0), Verdict::Drop);
    }

    #[test]
    fn a_refusal_has_the_way_out() {
        let versions = [record(1, VersionState::Retired), record(2, VersionState::Active)];
        let active = &versions[1];
        let explained = |pointer: &ActivePointer, versions: &[VersionRecord]| explain_in_service(active, Some(pointer), versions);
        assert!(
            explained(&pointer(V2, Some(V1), 0), &versions).contains("; refold rollback v sends them back to v1, and refold drop v --all")
        );
        assert!(explained(&pointer(V2, None, 0), &versions).contains("; refold switch v 1 sends them to v1"));
        assert!(explained(&pointer(V2, None, 0), &versions[1..]).contains("; refold replay v builds another version"));
        let grace = Grace { since_ms: 3 * MINUTE_MS, left_ms: 7 * MINUTE_MS - 1 };
        assert_eq!(
            grace.explain("v", V1),
            "view v: version v1 was in service until 3 min ago, and is kept for a rollback for 7 min more (drop_grace_ms); \
             wait, or override this with --force and --reason"
        );
        assert_eq!([time(-5), time(1_001), time(8_000_000)], ["0 s", "2 s", "3 h"]);
    }
}
