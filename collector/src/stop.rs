//! Stopping from outside, and waiting that a stop ends at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use refold_processor::clock::{Clock, SystemClock};

/// A signal to stop, shared by clones: given once, for good.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<(Mutex<bool>, Condvar)>);

impl Stop {
    /// A signal that is not given yet.
    pub fn new() -> Self {
        Stop::default()
    }

    /// Gives the signal, and wakes everyone who waits on it.
    pub fn stop(&self) {
        *self.0.0.lock() = true;
        self.0.1.notify_all();
    }

    /// Whether the signal was given.
    pub fn is_stopped(&self) -> bool {
        *self.0.0.lock()
    }

    /// Waits until the signal is given, at most `time`. Returns whether it was.
    pub fn wait(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        let mut stopped = self.0.0.lock();
        while !*stopped {
            if self.0.1.wait_until(&mut stopped, end).timed_out() {
                break;
            }
        }
        *stopped
    }
}

/// The clock that paces a source, and its way to let time pass.
pub trait Timer: Send + Sync {
    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> i64;

    /// Lets this much time pass; may return early.
    fn pause(&self, time: Duration);
}

/// The machine's clock; a pause ends when the signal to stop is given.
#[derive(Clone, Debug, Default)]
pub struct SystemTimer {
    stop: Stop,
}

impl SystemTimer {
    /// A timer whose pauses end with `stop`.
    pub fn new(stop: Stop) -> Self {
        SystemTimer { stop }
    }
}

impl Timer for SystemTimer {
    fn now_ms(&self) -> i64 {
        SystemClock.now_ms()
    }

    fn pause(&self, time: Duration) {
        self.stop.wait(time);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_stop_wakes_who_waits_and_stays_given() {
        let stop = Stop::new();
        assert!(!stop.is_stopped());
        assert!(!stop.wait(Duration::ZERO));
        let waiting = std::thread::spawn({
            let stop = stop.clone();
            move || stop.wait(Duration::from_secs(600))
        });
        stop.stop();
        assert!(waiting.join().unwrap());
        assert!(stop.is_stopped());
        assert!(stop.wait(Duration::from_secs(600)), "given for good: no more waiting");
    }
}
