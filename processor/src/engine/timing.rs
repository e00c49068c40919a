//! How long the steps of a commit take.

use std::time::Duration;

/// Upper bounds of the classes that durations are counted in, seconds.
pub const BOUNDS_S: [f64; 13] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// The steps between an event that is merged and readers who are told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimedStep {
    /// The atomic commit of states, positions and dirty rows; what was acknowledged is cleared with it.
    Commit,
    /// Rows to the view store.
    Write,
    /// Changes to whoever follows the table.
    Publish,
    /// Written rows made durable there.
    Sync,
    /// Readers told.
    Tell,
}

impl TimedStep {
    /// All of them, in the order in which they follow each other.
    pub const ALL: [TimedStep; 5] = [TimedStep::Commit, TimedStep::Write, TimedStep::Publish, TimedStep::Sync, TimedStep::Tell];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            TimedStep::Commit => "commit",
            TimedStep::Write => "write",
            TimedStep::Publish => "publish",
            TimedStep::Sync => "sync",
            TimedStep::Tell => "tell",
        }
    }
}

/// Durations, counted by class.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Durations {
    classes: [u64; BOUNDS_S.len()],
    /// How many there were.
    pub count: u64,
    /// Their sum, seconds.
    pub sum_s: f64,
}

impl Durations {
    fn note(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        self.count += 1;
        self.sum_s += seconds;
        if let Some(class) = self.classes.iter_mut().zip(BOUNDS_S).find_map(|(class, bound)| (seconds <= bound).then_some(class)) {
            *class += 1;
        }
    }

    /// Each bound, seconds, with how many durations were not longer.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        BOUNDS_S.into_iter().zip(self.classes.iter().scan(0, |sum, class| {
            *sum += class;
            Some(*sum)
        }))
    }
}

/// The durations of each step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timings([Durations; TimedStep::ALL.len()]);

impl Timings {
    /// Counts one more.
    pub fn note(&mut self, step: TimedStep, duration: Duration) {
        if let Some(durations) = self.0.get_mut(step as usize) {
            durations.note(duration);
        }
    }

    /// Each step with its durations.
    pub fn iter(&self) -> impl Iterator<Item = (TimedStep, &Durations)> {
        TimedStep::ALL.into_iter().zip(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_its_class_and_all_longer_ones() {
        let mut timings = Timings::default();
        for millis in [1, 3, 3, 60_000] {
            timings.note(TimedStep::Write, Duration::from_millis(millis));
        }
        let written =
            timings.iter().find(|(step, _)| *step == TimedStep::Write).map(|(_, durations)| durations.clone()).unwrap_or_default();
        let counts: Vec<u64> = written.cumulative().map(|(_, count)| count).collect();
        assert_eq!(counts, [0, 1, 1, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3], "what is longer than every bound is only in the count of all");
        assert_eq!((written.count, written.sum_s), (4, 60.007));
        assert!(timings.iter().filter(|(step, _)| *step != TimedStep::Write).all(|(_, durations)| durations.count == 0));
    }
}
