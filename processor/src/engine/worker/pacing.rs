//! Making the pace of what runs here equal to what is wanted, and telling how far it is where other processes look for that.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Key, Worker};
use crate::engine::pace::limit;
use crate::engine::status::RunStatus;
use crate::engine::timing::{TimedStep, Timings};
use crate::engine::yielding::{Observed, Reached, Yielding};
use crate::store::catalogue::VersionState;

/// How often it is looked whether versions in service are held up.
const STEP: Duration = Duration::from_millis(500);
/// How often it is told how far versions are that are built.
const STEPS_PER_TELLING: u32 = 4;
/// Of more versions only what their tables have is told: a register should not become large.
const MOST_TOLD: usize = 64;
/// Fewer commits in a step say nothing about how long they take.
const FEWEST_COMMITS: u64 = 3;

/// What the steps before have seen.
#[derive(Default)]
struct Before {
    yielding: Yielding,
    reached: BTreeMap<String, Reached>,
    /// Count and sum of commits and writes of each version in service.
    steps: BTreeMap<Key, (u64, f64)>,
    /// Events read for each version being built.
    read: BTreeMap<Key, u64>,
    has_told: bool,
}

impl Worker {
    /// Looks after the pace of versions until everything ends.
    pub(super) fn pace_versions(&self) {
        let mut before = Before::default();
        let mut steps = 0_u32;
        while !self.stop.wait(STEP) {
            let yielding = self.observe(&mut before);
            *self.yielding.lock() = yielding;
            self.apply_limits();
            steps = steps.wrapping_add(1);
            if steps.is_multiple_of(STEPS_PER_TELLING) {
                self.tell_building(&mut before);
            }
        }
    }

    /// Sets the limits of all that runs here.
    pub(super) fn apply_limits(&self) {
        let yielding = *self.yielding.lock();
        for running in self.running.lock().values() {
            running.pace.set(limit(&running.record, yielding));
        }
    }

    /// The limit of versions that yield; `None` where nothing is in service here, nothing is built, or nothing minds.
    fn observe(&self, before: &mut Before) -> Option<f64> {
        let now_ms = self.ports.clock.now_ms();
        let (mut observed, mut commits) = (Observed::default(), (0_u64, 0.0));
        let (mut is_serving, mut is_building) = (false, false);
        let (mut steps, mut read) = (BTreeMap::new(), BTreeMap::new());
        for (key, running) in self.running.lock().iter() {
            match running.record.state {
                VersionState::Active => {
                    is_serving = true;
                    let outbox = running.outbox.lock();
                    observed.is_store_behind |= outbox.is_behind();
                    drop(outbox);
                    let status = running.status.lock();
                    let end = status.ends.values().map(|end| end.0).sum();
                    let lag_s = before.reached.entry(running.topic.clone()).or_default().lag_s(now_ms, end, status.positions.sum());
                    observed.lag_s = observed.lag_s.max(lag_s);
                    let now = taken(&status.timings);
                    if let Some((count, sum_s)) = before.steps.get(key) {
                        commits.0 += now.0.saturating_sub(*count);
                        commits.1 += now.1 - sum_s;
                    }
                    steps.insert(key.clone(), now);
                }
                VersionState::Building => {
                    is_building = true;
                    let now = running.status.lock().read;
                    let count = now.saturating_sub(before.read.get(key).copied().unwrap_or(now));
                    observed.built_per_s = observed.built_per_s.max(count as f64 / STEP.as_secs_f64());
                    read.insert(key.clone(), now);
                }
                _ => {}
            }
        }
        (before.steps, before.read) = (steps, read);
        observed.commit_ms = (commits.0 >= FEWEST_COMMITS).then(|| commits.1 * 1_000.0 / commits.0 as f64);
        if !is_serving || !is_building {
            before.yielding.forget();
            return None;
        }
        before.yielding.step(&observed, STEP.as_secs_f64())
    }

    fn tell_building(&self, before: &mut Before) {
        let building: Vec<RunStatus> = self
            .running
            .lock()
            .values()
            .filter(|running| matches!(running.record.state, VersionState::Building))
            .take(MOST_TOLD)
            .map(|running| RunStatus { absent_examples: Vec::new(), ..running.reported() })
            .collect();
        // Once more when there is nothing to tell any more.
        if building.is_empty() && !before.has_told {
            return;
        }
        before.has_told = !building.is_empty();
        if let Err(error) = self.ports.catalogue.tell_building(&self.settings.owner, building) {
            tracing::debug!(%error, "how far versions are that are built cannot be told now");
        }
    }
}

/// How many commits there were, and what they and their writes took, seconds.
fn taken(timings: &Timings) -> (u64, f64) {
    let (mut count, mut sum_s) = (0, 0.0);
    for (step, durations) in timings.iter() {
        match step {
            TimedStep::Commit => {
                count = durations.count;
                sum_s += durations.sum_s;
            }
            TimedStep::Write => sum_s += durations.sum_s,
            _ => {}
        }
    }
    (count, sum_s)
}
