//! Decides whether a version may be paused or throttled: only while it is being built, for that is when nobody waits for its rows.

use refold_processor::store::catalogue::{ActivePointer, Controls, Throttle, VersionRecord, VersionState};

/// What is wanted of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// It stands still.
    Pause,
    /// It is built no faster than so.
    Throttle(Throttle),
}

/// The least rate that a version can be throttled to, events per second: one that stands still is paused.
pub const LEAST_RATE: u64 = 1;

/// The controls that follow; `None`: they are so already.
///
/// # Errors
/// Why they do not, with the way out.
pub fn judge(record: &VersionRecord, pointer: Option<&ActivePointer>, wanted: Wanted) -> Result<Option<Controls>, String> {
    let VersionRecord { view, version, state, controls, .. } = record;
    let what = match wanted {
        Wanted::Pause => "paused",
        Wanted::Throttle(_) => "throttled",
    };
    let refused = |why: &str| Err(format!("view {view}: version {version} {why}"));
    if wanted == Wanted::Throttle(Throttle::Rate(0)) {
        return refused(&format!("cannot be built at 0 events a second: refold pause {view} {} stops it", version.0));
    }
    if pointer.is_some_and(|pointer| pointer.version == *version) {
        return refused(&format!(
            "is the one readers are on, so it is not {what}: its rows would fall behind; refold switch {view} VERSION sends them to another first"
        ));
    }
    match state {
        VersionState::Failed { error } => refused(&format!(
            "has failed and stands still already: {error}; once the cause is gone, refold resume {view} {} continues it",
            version.0
        )),
        VersionState::Dropped => refused(&format!("is dropped; refold replay {view} builds another one")),
        VersionState::CaughtUp | VersionState::Active | VersionState::Retired if !controls.pause => refused(&format!(
            "is {state}, and only a version that is being built can be {what}; refold drop {view} {} ends it if it is not needed",
            version.0
        )),
        _ => {
            let next = match wanted {
                Wanted::Pause => Controls { pause: true, ..controls.clone() },
                Wanted::Throttle(throttle) => Controls { throttle, ..controls.clone() },
            };
            Ok((next != *controls).then_some(next))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use refold_processor::table::Version;

    use super::*;
    use crate::testing::record;

    fn pointer(version: u32) -> ActivePointer {
        ActivePointer {
            version: Version(version),
            previous: None,
            switched_ms: 0,
            switched_by: "ann".into(),
            reason: None,
            is_rollback: false,
        }
    }

    #[test]
    fn what_is_being_built_is_paused_and_throttled_once() {
        let building = record(2, VersionState::Building);
        let paused = judge(&building, Some(&pointer(1)), Wanted::Pause).unwrap().unwrap();
        assert!(paused.pause);
        let again = VersionRecord { controls: paused.clone(), ..building.clone() };
        assert_eq!(judge(&again, Some(&pointer(1)), Wanted::Pause), Ok(None));
        let throttled = judge(&again, None, Wanted::Throttle(Throttle::Rate(500))).unwrap().unwrap();
        assert_eq!((throttled.pause, throttled.throttle), (true, Throttle::Rate(500)), "one does not undo the other");
        // It caught up in the moment in which it was paused.
        let caught_up = VersionRecord { controls: paused, ..record(2, VersionState::CaughtUp) };
        assert!(judge(&caught_up, None, Wanted::Throttle(Throttle::Off)).unwrap().is_some());
    }

    #[test]
    fn what_readers_need_is_neither_and_the_way_out_is_given() {
        let refusal = |state: VersionState, active: u32, wanted| judge(&record(1, state), Some(&pointer(active)), wanted).unwrap_err();
        let failed = VersionState::Failed { error: "the disk broke".into() };
        assert!(refusal(VersionState::Active, 1, Wanted::Pause).contains("refold switch v VERSION"));
        assert!(refusal(VersionState::Building, 1, Wanted::Pause).contains("readers are on"), "its state was lost, and is built again");
        assert!(refusal(VersionState::Retired, 2, Wanted::Throttle(Throttle::Off)).contains("refold drop v 1"));
        assert!(refusal(failed, 2, Wanted::Pause).contains("the disk broke; once the cause is gone, refold resume v 1"));
        assert!(refusal(VersionState::Dropped, 2, Wanted::Pause).contains("refold replay v"));
        assert!(refusal(VersionState::Building, 2, Wanted::Throttle(Throttle::Rate(0))).contains("refold pause v 1"));
    }
}
