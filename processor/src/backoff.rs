//! Pauses between retries: each failure in a row doubles the pause, up to a bound, and jitter keeps those that failed together from trying
//! again together ("equal jitter": half of the pause is fixed, half is random; Marc Brooker, "Exponential Backoff And Jitter", 2015).

use std::time::Duration;

use crate::stop::Stop;

/// The pauses of one caller. It paces retries and reaches no row.
#[derive(Clone, Debug)]
pub struct Backoff {
    least: Duration,
    most: Duration,
    failures: u32,
}

impl Default for Backoff {
    /// From 50 ms to 5 s.
    fn default() -> Self {
        Backoff::new(Duration::from_millis(50), Duration::from_secs(5))
    }
}

impl Backoff {
    /// Pauses that grow from `least` to `most`.
    pub fn new(least: Duration, most: Duration) -> Self {
        Backoff { least, most, failures: 0 }
    }

    /// The pause after one more failure in a row.
    pub fn pause(&mut self) -> Duration {
        let full = self.least.saturating_mul(1 << self.failures.min(MOST_DOUBLINGS)).min(self.most);
        self.failures = self.failures.saturating_add(1);
        full.mul_f64(0.5 + rand::random::<f64>() / 2.0)
    }

    /// The pause after a failure that lasts until a person acts: the longest.
    pub fn long_pause(&mut self) -> Duration {
        self.failures = self.failures.max(MOST_DOUBLINGS);
        self.pause()
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// A success: the next pause is the shortest again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Pauses after one more failure, or until `stop`. Returns whether it was stopped.
    pub fn wait(&mut self, stop: &Stop) -> bool {
        stop.wait(self.pause())
    }
}

/// Past it no pause grows: 2^20 times any sensible least one is more than any sensible most.
const MOST_DOUBLINGS: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_bound_and_differ_by_at_most_half() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(100), ms(1_000));
        for full in [100, 200, 400, 800, 1_000, 1_000] {
            let pause = backoff.pause();
            assert!(pause >= ms(full / 2) && pause <= ms(full), "{pause:?} of {full} ms");
        }
        assert_eq!(backoff.failures(), 6);
        backoff.reset();
        assert!(backoff.pause() <= ms(100));
        assert!(backoff.long_pause() >= ms(500));
    }

    #[test]
    fn many_failures_neither_overflow_nor_exceed_the_bound() {
        let mut backoff = Backoff::default();
        let longest = (0..10_000).map(|_| backoff.pause()).max();
        assert!(longest.is_some_and(|longest| longest <= Duration::from_secs(5)));
    }
}
