//! Trouble that lasts: versions that stay behind the log, and versions that nobody runs.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use refold_processor::engine::status::RunStatus;
use refold_processor::store::catalogue::Ownership;
use refold_processor::table::Version;

/// More events behind than `allowance`, and more than the version reads within some seconds at its current rate.
fn is_behind(run: &RunStatus, allowance: u64) -> bool {
    run.unable.is_none() && run.lag > allowance && run.lag as f64 > run.events_per_s * BEHIND_S
}

const BEHIND_S: f64 = 10.0;

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

    /// Whether a version has been behind the log for long enough to be reported.
    pub fn is_for_long(&self, now_ms: i64, view: &str, version: Version) -> bool {
        self.behind.lock().get(&(view.to_owned(), version)).is_some_and(|since_ms| now_ms - since_ms >= LASTING_MS)
    }

    /// Whether no worker has held a version for long enough to be reported, or none ever did. One that was released is counted from when
    /// that was first seen.
    pub fn is_unowned_for_long(&self, now_ms: i64, (view, version): (&str, Version), held: Option<&Ownership>) -> bool {
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
