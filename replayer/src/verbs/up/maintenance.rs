//! Housekeeping of the embedded log.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use refold_collector::Stop;
use refold_processor::log::embedded::EmbeddedLog;

/// Merges and expires what is in the log, now and then.
pub struct Maintenance {
    stop: Stop,
    thread: JoinHandle<()>,
}

impl Maintenance {
    /// Starts its thread.
    pub fn start(log: Arc<EmbeddedLog>, interval_ms: u64) -> Result<Maintenance> {
        let stop = Stop::new();
        let stopped = stop.clone();
        let body = move || {
            while !stopped.wait(Duration::from_millis(interval_ms)) {
                match log.maintain() {
                    Ok(done) => tracing::debug!(?done, "log maintained"),
                    Err(error) => tracing::warn!(%error, "the log could not be maintained; trying again later"),
                }
            }
        };
        let thread = std::thread::Builder::new().name("maintenance".into()).spawn(body).context("maintenance cannot be started")?;
        Ok(Maintenance { stop, thread })
    }

    /// Ends after what it is at.
    pub fn finish(self) {
        self.stop.stop();
        let _ = self.thread.join();
    }
}
