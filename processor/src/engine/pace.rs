//! How fast a version is read for, and what that waits for: set by whoever follows the catalogue, obeyed by the threads that read, measured for people.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::store::catalogue::{Throttle, VersionRecord, VersionState};

/// How fast a version may be read for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Limit {
    /// As fast as it can.
    #[default]
    None,
    /// So many events a second, as all versions that yield to those in service.
    Yielding(f64),
    /// So many events a second, as an operator wants it for this one.
    Rate(f64),
    /// Not at all.
    Paused,
}

impl Limit {
    /// Events per second; `None`: there is no limit, or it is paused.
    pub fn per_s(self) -> Option<f64> {
        match self {
            Limit::Yielding(rate) | Limit::Rate(rate) => Some(rate),
            Limit::None | Limit::Paused => None,
        }
    }
}

/// How fast a version may be read for: one that is being built yields at `yielding` events a second, if that is a limit now, unless an operator wants
/// it otherwise. What readers are or were on is never held back.
pub fn limit(record: &VersionRecord, yielding: Option<f64>) -> Limit {
    match (&record.state, record.controls.throttle) {
        (VersionState::Building | VersionState::CaughtUp, _) if record.controls.pause => Limit::Paused,
        (VersionState::Building, Throttle::Auto) => yielding.map_or(Limit::None, Limit::Yielding),
        (VersionState::Building, Throttle::Rate(rate)) => Limit::Rate(rate as f64),
        _ => Limit::None,
    }
}

/// What reading for a version has waited for since it was opened, microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// For records of the log.
    pub reading_us: u64,
    /// For the processor: decoding and pre-aggregating, and folds that take no more for now.
    pub working_us: u64,
    /// Because it may not be faster.
    pub throttled_us: u64,
}

impl Spent {
    /// What was spent since `before`.
    pub fn since(self, before: Spent) -> Spent {
        Spent {
            reading_us: self.reading_us.saturating_sub(before.reading_us),
            working_us: self.working_us.saturating_sub(before.working_us),
            throttled_us: self.throttled_us.saturating_sub(before.throttled_us),
        }
    }
}

/// What is spent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// See [`Spent::reading_us`].
    Reading,
    /// See [`Spent::working_us`].
    Working,
    /// See [`Spent::throttled_us`].
    Throttled,
}

/// The pace of one version, shared by all who read for it.
#[derive(Debug, Default)]
pub struct Pace {
    /// Whether there is any limit: most versions have none, and pay one look for that.
    is_limited: AtomicBool,
    limit: Mutex<Limit>,
    /// When the events that were taken last are paid for.
    free_at: Mutex<Option<Instant>>,
    reading_us: AtomicU64,
    working_us: AtomicU64,
    throttled_us: AtomicU64,
}

/// What is read at a time takes about so long at the rate that is allowed: positions go on moving however low it is.
const SLICE_S: f64 = 0.25;

impl Pace {
    /// A pace with this limit.
    pub fn new(limit: Limit) -> Pace {
        let pace = Pace::default();
        pace.set(limit);
        pace
    }

    /// From now on there is this limit.
    pub fn set(&self, limit: Limit) {
        *self.limit.lock() = limit;
        self.is_limited.store(limit != Limit::None, Ordering::Relaxed);
    }

    /// The limit.
    pub fn limit(&self) -> Limit {
        if self.is_limited.load(Ordering::Relaxed) { *self.limit.lock() } else { Limit::None }
    }

    /// How long nothing may be read yet at `now`.
    pub fn wait(&self, now: Instant) -> Duration {
        match self.limit().per_s() {
            Some(_) => self.free_at.lock().map_or(Duration::ZERO, |free_at| free_at.saturating_duration_since(now)),
            None => Duration::ZERO,
        }
    }

    /// How many events are read at a time; `None`: as many as fit.
    pub fn slice(&self) -> Option<u64> {
        self.limit().per_s().map(|rate| ((rate * SLICE_S) as u64).max(1))
    }

    /// Notes that events were taken at `now`.
    pub fn took(&self, now: Instant, events: u64) {
        let Some(rate) = self.limit().per_s().filter(|rate| *rate > 0.0) else { return };
        let cost = Duration::try_from_secs_f64(events as f64 / rate).unwrap_or(LONGEST_DEBT).min(LONGEST_DEBT);
        let mut free_at = self.free_at.lock();
        *free_at = Some(free_at.map_or(now, |free_at| free_at.max(now)) + cost);
    }

    /// Notes what a reader has spent its time on.
    pub fn spend(&self, on: On, time: Duration) {
        let spent = match on {
            On::Reading => &self.reading_us,
            On::Working => &self.working_us,
            On::Throttled => &self.throttled_us,
        };
        spent.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What readers have spent their time on.
    pub fn spent(&self) -> Spent {
        Spent {
            reading_us: self.reading_us.load(Ordering::Relaxed),
            working_us: self.working_us.load(Ordering::Relaxed),
            throttled_us: self.throttled_us.load(Ordering::Relaxed),
        }
    }
}

/// A chunk that was read before the limit is not paid for longer than this.
const LONGEST_DEBT: Duration = Duration::from_secs(10);

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    #[test]
    fn events_are_paid_for_with_time_at_the_rate_that_is_allowed() {
        let (pace, begun) = (Pace::new(Limit::Rate(1_000.0)), Instant::now());
        assert_eq!((pace.wait(begun), pace.slice()), (Duration::ZERO, Some(250)));
        pace.took(begun, 250);
        pace.took(begun, 250);
        assert_eq!(pace.wait(begun), Duration::from_millis(500));
        assert_eq!(pace.wait(begun + Duration::from_millis(499)), Duration::from_millis(1));
        let later = begun + Duration::from_secs(9);
        pace.took(later, 100);
        assert_eq!(pace.wait(later), Duration::from_millis(100), "what was not used is not saved up");
        pace.set(Limit::None);
        assert_eq!((pace.wait(later), pace.slice()), (Duration::ZERO, None));
        pace.took(later, 1_000_000);
        pace.set(Limit::Rate(0.1));
        assert_eq!(pace.slice(), Some(1), "it always goes on");
    }
}
