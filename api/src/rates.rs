//! Events per second, from how counts of events grow.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;
use refold_processor::engine::pace::Spent;
use refold_processor::engine::status::{RunStatus, Spread};
use refold_processor::table::Version;

/// How far back a rate looks, milliseconds.
const WINDOW_MS: i64 = 10_000;
/// Samples closer together than this are not kept, milliseconds.
const STEP_MS: i64 = 500;

/// A count that grows, over the last seconds.
#[derive(Clone, Debug, Default)]
pub struct Growth(VecDeque<(i64, u64)>);

impl Growth {
    /// Notes the count at `now_ms`.
    pub fn note(&mut self, now_ms: i64, count: u64) {
        let samples = &mut self.0;
        if samples.back().is_none_or(|(at_ms, _)| now_ms - at_ms >= STEP_MS) {
            samples.push_back((now_ms, count));
        }
        // The newest one outside of the window stays: the rate is measured from it.
        while samples.get(1).is_some_and(|(at_ms, _)| now_ms - at_ms >= WINDOW_MS) {
            samples.pop_front();
        }
    }

    /// How much it grows a second, up to what was noted last; `None` before there are two counts.
    pub fn per_s(&self, now_ms: i64) -> Option<f64> {
        let (_, last) = self.0.back()?;
        let (at_ms, before) = self.0.front()?;
        (now_ms > *at_ms && self.0.len() > 1).then(|| per_s(last.saturating_sub(*before), now_ms - at_ms))
    }

    /// How fast it grows, with the slowest and the fastest part of the window; `None` before it was seen for long enough.
    pub fn spread(&self) -> Option<Spread> {
        let ((from_ms, from), (to_ms, to)) = (self.0.front()?, self.0.back()?);
        let mean = (to_ms - from_ms >= PART_MS).then(|| per_s(to.saturating_sub(*from), to_ms - from_ms))?;
        let (mut spread, mut begun) = (Spread { mean, low: mean, high: mean }, (*from_ms, *from));
        for (at_ms, count) in &self.0 {
            if at_ms - begun.0 >= PART_MS {
                let rate = per_s(count.saturating_sub(begun.1), at_ms - begun.0);
                (spread.low, spread.high) = (spread.low.min(rate), spread.high.max(rate));
                begun = (*at_ms, *count);
            }
        }
        Some(spread)
    }

    fn rate(&self, now_ms: i64, count: u64) -> f64 {
        match self.0.front() {
            Some((at_ms, before)) if now_ms > *at_ms => per_s(count.saturating_sub(*before), now_ms - at_ms),
            _ => 0.0,
        }
    }
}

fn per_s(count: u64, ms: i64) -> f64 {
    count as f64 * 1000.0 / ms as f64
}

/// Parts of the window that the slowest and the fastest are of: longer than versions take between two commits, milliseconds.
const PART_MS: i64 = 2_000;

/// What is known of a version of the last seconds.
#[derive(Debug, Default)]
struct Seen {
    read: Growth,
    /// The sum of its positions.
    at: Growth,
    spent: VecDeque<(i64, Spent)>,
}

impl Seen {
    /// What was spent in the window.
    fn spent_lately(&mut self, now_ms: i64, spent: Spent) -> Option<Spent> {
        // It was opened anew.
        if self.spent.back().is_some_and(|(_, last)| last.reading_us > spent.reading_us || last.working_us > spent.working_us) {
            self.spent.clear();
        }
        self.spent.push_back((now_ms, spent));
        while self.spent.get(1).is_some_and(|(at_ms, _)| now_ms - at_ms >= WINDOW_MS) {
            self.spent.pop_front();
        }
        let (_, before) = self.spent.front()?;
        (self.spent.len() > 1).then(|| spent.since(*before))
    }
}

/// Counts of events of the last seconds, by version.
#[derive(Debug, Default)]
pub struct Rates(Mutex<BTreeMap<(String, Option<Version>), Seen>>);

impl Rates {
    /// Notes the counts at `now_ms`, and fills in [`RunStatus::events_per_s`] where nobody has, [`RunStatus::drain`] and [`RunStatus::spent_lately`].
    pub fn apply(&self, now_ms: i64, statuses: &mut [RunStatus]) {
        let mut known = self.0.lock();
        known.retain(|(view, version), _| statuses.iter().any(|status| status.view == *view && status.version == *version));
        for status in statuses {
            let seen = known.entry((status.view.clone(), status.version)).or_default();
            seen.at.note(now_ms, status.positions.sum());
            status.drain = seen.at.spread();
            status.spent_lately = seen.spent_lately(now_ms, status.spent);
            let growth = &mut seen.read;
            growth.note(now_ms, status.read);
            if status.events_per_s == 0.0 {
                status.events_per_s = growth.rate(now_ms, status.read);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    fn rate_at(rates: &Rates, now_ms: i64, read: u64) -> f64 {
        let mut statuses = [RunStatus { view: "v".into(), version: Some(Version(1)), read, ..RunStatus::default() }];
        rates.apply(now_ms, &mut statuses);
        statuses[0].events_per_s
    }

    #[test]
    fn a_rate_is_of_the_last_ten_seconds() {
        let rates = Rates::default();
        assert_eq!(rate_at(&rates, 0, 0), 0.0);
        assert_eq!(rate_at(&rates, 1_000, 5_000), 5_000.0);
        for second in 2..=20 {
            rate_at(&rates, second * 1_000, 5_000);
        }
        assert_eq!(rate_at(&rates, 21_000, 5_000), 0.0, "nothing came for twenty seconds");
        assert_eq!(rate_at(&rates, 22_000, 6_000), 100.0);
    }

    #[test]
    fn a_spread_is_of_parts_of_the_last_seconds() {
        let mut growth = Growth::default();
        for (at_ms, count) in [(0, 0), (1_000, 900)] {
            growth.note(at_ms, count);
            assert_eq!(growth.spread(), None, "too short to tell");
        }
        growth.note(2_000, 1_000);
        growth.note(3_000, 1_100);
        growth.note(4_000, 2_000);
        assert_eq!(growth.spread(), Some(Spread { mean: 500.0, low: 500.0, high: 500.0 }), "commits in between do not count");
        growth.note(6_000, 2_000);
        assert_eq!(growth.spread(), Some(Spread { mean: 2_000.0 / 6.0, low: 0.0, high: 500.0 }));
    }

    #[test]
    fn a_version_that_is_gone_leaves_nothing_behind() {
        let rates = Rates::default();
        rate_at(&rates, 0, 0);
        rates.apply(1_000, &mut []);
        assert!(rates.0.lock().is_empty());
    }
}
