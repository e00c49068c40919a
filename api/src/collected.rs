//! A source that is collected in this process, as readiness and posts of events see it.

use std::sync::Arc;

use parking_lot::Mutex;
use refold_collector::{CollectError, LiveStatus, Report};

/// How far a source is with what it had before now.
#[derive(Clone, Copy, Debug)]
enum History {
    IsWritten,
    IsThere { noted_ms: i64 },
    HasEnded,
}

/// A source that was not heard of for so long has something to make up for.
const STALE_MS: i64 = 10_000;

/// A source that is collected in this process.
#[derive(Debug)]
pub struct Collected {
    /// Its specification.
    pub spec: String,
    /// The declared source that its events are of.
    pub source: String,
    /// Running totals.
    pub report: Report,
    /// How its connection is; `None`: it needs none.
    pub live: Option<Arc<LiveStatus>>,
    history: Mutex<History>,
    failed: Mutex<Option<String>>,
}

impl Collected {
    /// A source of which nothing is collected yet.
    pub fn new(spec: &str, source: &str) -> Collected {
        Collected {
            spec: spec.to_owned(),
            source: source.to_owned(),
            report: Report::default(),
            live: None,
            history: Mutex::new(History::IsWritten),
            failed: Mutex::default(),
        }
    }

    /// The same source, over a connection that has this status.
    pub fn over(self, live: Option<Arc<LiveStatus>>) -> Collected {
        Collected { live, ..self }
    }

    /// Notes whether all that the source had before `now_ms` is in the log. To be called again and again while it is.
    pub fn note_at_present(&self, is_at_present: bool, now_ms: i64) {
        *self.history.lock() = if is_at_present { History::IsThere { noted_ms: now_ms } } else { History::IsWritten };
    }

    /// Notes that the source brings nothing more.
    pub fn note_end(&self) {
        *self.history.lock() = History::HasEnded;
    }

    /// Whether the source still writes what it had before now. An event of now in the midst of that makes what comes after it too late.
    pub fn is_writing_history(&self, now_ms: i64) -> bool {
        match *self.history.lock() {
            History::IsWritten => true,
            // A machine was suspended, or the log unavailable: when it goes on, it first fills the gap.
            History::IsThere { noted_ms } => now_ms - noted_ms > STALE_MS,
            History::HasEnded => false,
        }
    }

    /// Notes that collecting ended, and why.
    pub fn fail(&self, error: &CollectError) {
        *self.failed.lock() = Some(error.to_string());
    }

    /// Why collecting ended before the source did.
    pub fn failed(&self) -> Option<String> {
        self.failed.lock().clone()
    }
}
