//! How fast versions are built beside versions in service: as fast as these do not mind.
//!
//! Additive increase, multiplicative decrease, as congestion control of networks does it: while versions in service are as they were, the rate grows by a part of
//! the best rate seen; when they fall behind, or their commits and writes take much longer than they use to, it is halved, and left alone until that can have had
//! an effect. Pure: whoever drives it says what is observed. Without a version in service there is no rate at all.

use std::collections::VecDeque;

/// What is seen of the versions in service, and of those being built, since the step before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Observed {
    /// How long ago the log reached past the place where the version in service that is furthest behind is, seconds.
    pub lag_s: f64,
    /// What a commit and its write took on average, milliseconds; `None`: there were too few.
    pub commit_ms: Option<f64>,
    /// Whether their rows wait for the view store.
    pub is_store_behind: bool,
    /// Events per second that were read for the version being built that is fastest.
    pub built_per_s: f64,
}

/// The controller.
#[derive(Clone, Debug, Default)]
pub struct Yielding {
    rate: Option<f64>,
    best: f64,
    usual_ms: Option<f64>,
    /// Until then what is seen is still the effect of a higher rate, seconds from now.
    settling_s: f64,
}

/// A version in service that is so far behind is held up, seconds. Its commits make it up to some tenths.
pub const HELD_UP_S: f64 = 2.0;
/// And well below this it is not.
const WELL_S: f64 = 1.0;
/// Commits that take so many times what they use to, and so much longer at least, are held up.
const SLOWER_TIMES: f64 = 4.0;
const SLOWER_MS: f64 = 50.0;
/// How long a decrease takes to have an effect, seconds.
const SETTLES_S: f64 = 2.0;
/// In a second the rate grows by this part of the best one.
const GROWTH: f64 = 0.05;
/// And by this part of what it is, at least.
const GROWTH_FROM_BELOW: f64 = 0.1;
/// A limit that is not reached grows no further than this many times what is.
const AHEAD: f64 = 1.5;
/// A version that is built always goes on at least so fast, events per second.
pub const FLOOR: f64 = 1_000.0;

impl Yielding {
    /// The limit from now on, events per second for each version being built; `None`: none. `dt_s`: since the step before.
    pub fn step(&mut self, observed: &Observed, dt_s: f64) -> Option<f64> {
        self.best = self.best.max(observed.built_per_s);
        self.settling_s -= dt_s;
        let is_slow = observed.commit_ms.is_some_and(|commit_ms| self.is_slow(commit_ms));
        let is_held_up = observed.lag_s >= HELD_UP_S || observed.is_store_behind || is_slow;
        if !is_held_up {
            self.learn(observed.commit_ms);
        }
        match (is_held_up, self.rate) {
            (true, _) if self.settling_s > 0.0 => {}
            // So little is not what holds them up.
            (true, None) if observed.built_per_s < FLOOR => {}
            (true, rate) => {
                let reached = rate.map_or(observed.built_per_s, |rate| rate.min(observed.built_per_s.max(FLOOR)));
                self.rate = Some((reached / 2.0).max(FLOOR));
                self.settling_s = SETTLES_S;
            }
            (false, Some(rate)) if observed.lag_s < WELL_S && self.settling_s <= 0.0 => {
                let most = (observed.built_per_s * AHEAD).max(rate);
                let growth = (GROWTH * self.best).max(GROWTH_FROM_BELOW * rate);
                self.rate = Some((rate + growth * dt_s).min(most).max(FLOOR));
            }
            (false, _) => {}
        }
        self.rate
    }

    /// Nothing is in service, or nothing is being built: what was learnt of rates is of no use for what comes.
    pub fn forget(&mut self) {
        *self = Yielding { usual_ms: self.usual_ms, ..Yielding::default() };
    }

    fn is_slow(&self, commit_ms: f64) -> bool {
        self.usual_ms.is_some_and(|usual_ms| commit_ms > usual_ms * SLOWER_TIMES && commit_ms > usual_ms + SLOWER_MS)
    }

    /// What commits use to take: the least, forgotten slowly.
    fn learn(&mut self, commit_ms: Option<f64>) {
        if let Some(commit_ms) = commit_ms {
            self.usual_ms = Some(self.usual_ms.map_or(commit_ms, |usual_ms| commit_ms.min(usual_ms * 1.01)));
        }
    }
}

/// When a log reached where: so a distance in events is one in time, whatever the times of the events say.
#[derive(Clone, Debug, Default)]
pub struct Reached(VecDeque<(i64, u64)>);

/// A version that is further behind than that is held up all the same, milliseconds.
const REMEMBERED_MS: i64 = 60_000;

impl Reached {
    /// At `now_ms` the log ends at `end`, the sum of its partitions. Answers how long ago it reached past `position`, seconds.
    pub fn lag_s(&mut self, now_ms: i64, end: u64, position: u64) -> f64 {
        if self.0.back().is_none_or(|(_, last)| *last < end) {
            self.0.push_back((now_ms, end));
        }
        while self.0.get(1).is_some_and(|(at_ms, _)| now_ms - at_ms > REMEMBERED_MS) {
            self.0.pop_front();
        }
        let passed = self.0.iter().find(|(_, end)| *end > position);
        passed.map_or(0.0, |(at_ms, _)| now_ms.saturating_sub(*at_ms).max(0) as f64 / 1_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine that handles so many events a second in all. What is built takes what it may first: the worst case for the version in service.
    struct Plant {
        capacity: f64,
        arrival: f64,
        /// Of the version in service, events.
        behind: f64,
    }

    struct Seen {
        built: f64,
        worst_s: f64,
    }

    const STEP_S: f64 = 0.5;

    impl Plant {
        fn run(&mut self, yielding: &mut Yielding, seconds: u32) -> Seen {
            let (mut built, mut seen) = (yielding.rate.unwrap_or(self.capacity), Seen { built: 0.0, worst_s: 0.0 });
            let steps = seconds * 2;
            for _ in 0..steps {
                let left = (self.capacity - built).max(self.capacity * 0.02);
                self.behind = (self.behind + (self.arrival - left) * STEP_S).max(0.0);
                let lag_s = self.behind / self.arrival;
                seen.worst_s = seen.worst_s.max(lag_s);
                seen.built += built / f64::from(steps);
                let observed = Observed { lag_s, built_per_s: built, ..Observed::default() };
                built = yielding.step(&observed, STEP_S).unwrap_or(self.capacity).min(self.capacity * 0.98);
            }
            seen
        }
    }

    #[test]
    fn what_is_built_takes_most_of_what_is_idle_and_the_version_in_service_stays_near_the_end() {
        let (mut yielding, mut plant) = (Yielding::default(), Plant { capacity: 100_000.0, arrival: 30_000.0, behind: 0.0 });
        plant.run(&mut yielding, 60);
        let seen = plant.run(&mut yielding, 300);
        assert!(seen.built > 0.5 * 70_000.0, "{} of 70,000 that are idle", seen.built);
        assert!(seen.worst_s < 10.0, "{}", seen.worst_s);
        // More comes: it gives way; then less: it takes that.
        plant.arrival = 80_000.0;
        plant.run(&mut yielding, 60);
        let busy = plant.run(&mut yielding, 300);
        assert!(busy.built < 20_000.0 && busy.worst_s < 15.0, "{} built, {} s behind", busy.built, busy.worst_s);
        plant.arrival = 5_000.0;
        plant.run(&mut yielding, 120);
        assert!(plant.run(&mut yielding, 300).built > 50_000.0);
    }

    #[test]
    fn what_is_built_goes_on_even_where_nothing_is_idle() {
        let (mut yielding, mut plant) = (Yielding::default(), Plant { capacity: 10_000.0, arrival: 20_000.0, behind: 0.0 });
        plant.run(&mut yielding, 120);
        assert_eq!(yielding.rate, Some(FLOOR));
    }

    #[test]
    fn there_is_no_limit_before_something_is_held_up() {
        let mut yielding = Yielding::default();
        let well = Observed { commit_ms: Some(5.0), built_per_s: 90_000.0, ..Observed::default() };
        assert!((0..100).all(|_| yielding.step(&well, STEP_S).is_none()));
        let noise = Observed { commit_ms: Some(40.0), ..well };
        assert_eq!(yielding.step(&noise, STEP_S), None, "eight times as long, but short");
        let slow = Observed { commit_ms: Some(80.0), ..well };
        assert_eq!(yielding.step(&slow, STEP_S), Some(45_000.0));
        assert_eq!(yielding.step(&slow, STEP_S), Some(45_000.0), "that has to have its effect first");
        yielding.forget();
        assert_eq!(yielding.step(&Observed { is_store_behind: true, ..well }, STEP_S), Some(45_000.0));
    }

    #[test]
    fn a_distance_in_events_is_one_in_time() {
        let mut reached = Reached::default();
        assert_eq!(reached.lag_s(0, 100, 100), 0.0);
        assert_eq!(reached.lag_s(1_000, 200, 100), 0.0, "they have just come");
        assert_eq!(reached.lag_s(3_000, 300, 150), 2.0, "the log passed 150 two seconds ago");
        assert_eq!(reached.lag_s(4_000, 300, 250), 1.0);
        assert_eq!(reached.lag_s(9_000, 300, 300), 0.0, "all is folded");
    }
}
