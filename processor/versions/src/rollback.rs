//! Decides where a rollback sends readers: back to the version that was in service before. Whether that one is current is judged as for a switch ([`crate::gate`]).

use refold_processor::store::catalogue::{ActivePointer, VersionRecord, VersionState};
use refold_processor::table::Version;

use crate::gate::{other_ready, ways_on};

/// A view whose readers are to be sent back.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The view.
    pub view: &'a str,
    /// Which version readers are sent to.
    pub pointer: Option<&'a ActivePointer>,
    /// All versions, the dropped ones too.
    pub versions: &'a [VersionRecord],
    /// The version that readers are to be sent back from; `None`: the one in service.
    pub expected: Option<Version>,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Readers go from one version to the other.
    Back {
        /// The version in service.
        from: Version,
        /// The one before.
        to: Version,
    },
    /// They did before.
    Done {
        /// The version that they were sent back from.
        from: Version,
        /// The version in service.
        to: Version,
    },
    /// Nothing is changed.
    Refused(Refusal),
}

/// Why readers are not sent back.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another version is in service than the one that they were to be sent back from.
    Other {
        /// That one.
        expected: Version,
        /// The version in service.
        active: Version,
    },
    /// There is no way back: why, and the way out.
    NoWay(String),
}

/// Returns what a rollback does. Done once, it is done until readers are switched to another version: repeated, it does not send them forward again.
pub fn judge(facts: &Facts<'_>) -> Verdict {
    let Facts { view, pointer, versions, expected } = *facts;
    let no_way = |why: String| Verdict::Refused(Refusal::NoWay(format!("view {view}: {why}")));
    let Some(pointer) = pointer else {
        return no_way(format!("no version is in service, so there is no way back; refold status {view} shows what is being built"));
    };
    let active = pointer.version;
    let sent_back_from = pointer.previous.filter(|_| pointer.is_rollback);
    match (expected, sent_back_from) {
        (None, Some(from)) => return Verdict::Done { from, to: active },
        (Some(expected), Some(from)) if expected == from => return Verdict::Done { from, to: active },
        (Some(expected), Some(from)) if expected == active => {
            return no_way(format!(
                "{active} is in service because readers were sent back to it from {from}; refold switch {view} VERSION sends them to another one"
            ));
        }
        (Some(expected), _) if expected != active => return Verdict::Refused(Refusal::Other { expected, active }),
        _ => {}
    }
    let Some(before) = pointer.previous else {
        return no_way(format!(
            "{active} is the first version in service, so there is no way back; refold replay {view} builds another one"
        ));
    };
    let other = || match other_ready(versions, &[active, before]) {
        Some(other) => format!("refold switch {view} {} sends readers to {}, which is {}", other.version.0, other.version, other.state),
        None => format!("refold replay {view} --file FILE builds a definition again"),
    };
    let Some(record) = versions.iter().find(|record| record.version == before) else {
        return no_way(format!("{before}, which was in service before {active}, is not known any more; {}", other()));
    };
    match &record.state {
        VersionState::Dropped => no_way(format!("{before}, which was in service before {active}, is dropped; {}", other())),
        VersionState::Failed { error } => {
            no_way(format!("{before}, which was in service before {active}, has failed: {error}; {}", ways_on(record, versions)))
        }
        VersionState::Building => no_way(format!(
            "{before}, which was in service before {active}, is building; wait until it is caught up (refold status {view} --watch shows how far it is)"
        )),
        VersionState::CaughtUp | VersionState::Active | VersionState::Retired => Verdict::Back { from: active, to: before },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]

    use super::*;
    use crate::testing::record;

    const V1: Version = Version(1);
    const V2: Version = Version(2);
    const V3: Version = Version(3);

    fn pointer(version: Version, previous: Option<Version>, is_rollback: bool) -> ActivePointer {
        ActivePointer { version, previous, switched_ms: 0, switched_by: "ann".into(), reason: None, is_rollback }
    }

    fn verdict(pointer: &ActivePointer, states: &[VersionState], expected: Option<Version>) -> Verdict {
        let versions: Vec<VersionRecord> = states.iter().zip(1..).map(|(state, number)| record(number, state.clone())).collect();
        judge(&Facts { view: "v", pointer: Some(pointer), versions: &versions, expected })
    }

    fn refusal(verdict: Verdict) -> String {
        match verdict {
            Verdict::Refused(Refusal::NoWay(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn readers_go_back_once() {
        let states = [VersionState::Retired, VersionState::Active];
        let switched = pointer(V2, Some(V1), false);
        for expected in [None, Some(V2)] {
            assert_eq!(verdict(&switched, &states, expected), Verdict::Back { from: V2, to: V1 });
        }
        let back = pointer(V1, Some(V2), true);
        let states = [VersionState::Active, VersionState::Retired];
        for expected in [None, Some(V2)] {
            assert_eq!(verdict(&back, &states, expected), Verdict::Done { from: V2, to: V1 }, "asked again");
        }
        assert!(refusal(verdict(&back, &states, Some(V1))).contains("sent back to it from v2; refold switch v VERSION"));
        assert_eq!(verdict(&back, &states, Some(V3)), Verdict::Refused(Refusal::Other { expected: V3, active: V1 }));
        // Switched again, it is another matter.
        assert_eq!(
            verdict(&pointer(V3, Some(V1), false), &[VersionState::Retired, VersionState::Retired, VersionState::Active], None),
            Verdict::Back { from: V3, to: V1 }
        );
    }

    #[test]
    fn where_there_is_no_way_back_the_reason_and_the_way_out_are_given() {
        let none = judge(&Facts { view: "v", pointer: None, versions: &[], expected: None });
        assert!(refusal(none).ends_with("refold status v shows what is being built"));
        let first = pointer(V1, None, false);
        assert!(refusal(verdict(&first, &[VersionState::Active], None)).contains("v1 is the first version in service"));
        let switched = pointer(V2, Some(V1), false);
        let dropped = refusal(verdict(&switched, &[VersionState::Dropped, VersionState::Active], None));
        assert_eq!(
            dropped,
            "view v: v1, which was in service before v2, is dropped; refold replay v --file FILE builds a definition again"
        );
        let states = [VersionState::Dropped, VersionState::Active, VersionState::CaughtUp];
        assert!(refusal(verdict(&switched, &states, None)).ends_with("refold switch v 3 sends readers to v3, which is caught_up"));
        let failed = VersionState::Failed { error: "the disk broke".into() };
        let failed = refusal(verdict(&switched, &[failed, VersionState::Active], None));
        assert_eq!(
            failed,
            "view v: v1, which was in service before v2, has failed: the disk broke; once the cause is gone, refold resume v 1 continues it"
        );
        assert!(refusal(verdict(&switched, &[VersionState::Building, VersionState::Active], None)).contains("wait until it is caught up"));
    }
}
