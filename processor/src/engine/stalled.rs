//! Versions that make no progress although there is something to fold, whatever the cause.
//!
//! Judged from facts that do not need the version's own threads, for it may be one of those that hangs: the positions that were committed last, and where
//! the log ends.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::status::RunStatus;
use crate::table::Version;

/// A version whose positions have not moved for so long while there were events to fold is stalled, milliseconds. Commits are made every few seconds at most.
pub const STALLED_AFTER_MS: i64 = 30_000;

/// When each version was last seen to move, or to have nothing to do.
#[derive(Debug, Default)]
pub struct Stalls(Mutex<BTreeMap<(String, Option<Version>), Seen>>);

#[derive(Clone, Copy, Debug)]
struct Seen {
    /// The sum of its positions.
    at: u64,
    since_ms: i64,
}

impl Stalls {
    /// Notes how far versions are at `now_ms`, and fills in [`RunStatus::stalled_s`].
    pub fn apply(&self, now_ms: i64, statuses: &mut [RunStatus]) {
        let mut seen = self.0.lock();
        seen.retain(|(view, version), _| statuses.iter().any(|status| status.view == *view && status.version == *version));
        for status in statuses {
            let now = Seen { at: status.positions.sum(), since_ms: now_ms };
            let seen = seen.entry((status.view.clone(), status.version)).or_insert(now);
            if seen.at != now.at || status.lag == 0 || status.paused {
                *seen = now;
            }
            let still_ms = now_ms.saturating_sub(seen.since_ms);
            status.stalled_s = (still_ms >= STALLED_AFTER_MS).then_some(still_ms.unsigned_abs() / 1_000);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::{Offset, Partition};

    fn status(position: u64, lag: u64) -> RunStatus {
        let positions = [(Partition(0), Offset(position))].into_iter().collect();
        RunStatus { view: "v".into(), version: Some(Version(1)), positions, lag, ..RunStatus::default() }
    }

    fn stalled_at(stalls: &Stalls, now_ms: i64, position: u64, lag: u64) -> Option<u64> {
        let mut statuses = [status(position, lag)];
        stalls.apply(now_ms, &mut statuses);
        statuses.first().and_then(|status| status.stalled_s)
    }

    #[test]
    fn a_version_that_does_not_move_while_events_wait_is_stalled_and_no_other() {
        let stalls = Stalls::default();
        assert_eq!(stalled_at(&stalls, 0, 5, 0), None);
        assert_eq!(stalled_at(&stalls, 100_000, 5, 0), None, "it has folded all there is");
        assert_eq!(stalled_at(&stalls, 101_000, 5, 10), None, "these have just come");
        assert_eq!(stalled_at(&stalls, 129_999, 5, 20), None);
        assert_eq!(stalled_at(&stalls, 130_000, 5, 30), Some(30));
        assert_eq!(stalled_at(&stalls, 190_500, 5, 30), Some(90));
        assert_eq!(stalled_at(&stalls, 191_000, 6, 30), None, "it moves");
        assert_eq!(stalled_at(&stalls, 221_000, 6, 30), Some(30));
        assert_eq!(stalled_at(&stalls, 222_000, 6, 0), None, "what it was to fold is gone");
    }

    #[test]
    fn a_version_that_is_paused_is_not_stalled() {
        let stalls = Stalls::default();
        let mut paused = [RunStatus { paused: true, ..status(5, 10) }];
        for now_ms in [0, 100_000, 200_000] {
            stalls.apply(now_ms, &mut paused);
            assert_eq!(paused.first().and_then(|status| status.stalled_s), None);
        }
        assert_eq!(stalled_at(&stalls, 229_999, 5, 10), None, "it was resumed");
        assert_eq!(stalled_at(&stalls, 230_000, 5, 10), Some(30));
    }

    #[test]
    fn a_version_that_is_gone_leaves_nothing_behind() {
        let stalls = Stalls::default();
        stalled_at(&stalls, 0, 5, 1);
        stalls.apply(1_000, &mut []);
        assert!(stalls.0.lock().is_empty());
    }
}
