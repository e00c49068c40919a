//! Stopping from outside, and waiting that a stop ends at once.

use std::time::Duration;

use refold_processor::clock::{Clock, SystemClock};
pub use refold_processor::stop::Stop;

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
