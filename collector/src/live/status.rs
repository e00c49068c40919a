//! How the connection of a live source is, for people and for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::Serialize;

/// How the connection is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LiveState {
    /// Not asked for yet.
    Starting,
    /// Being made, to this host.
    Connecting(String),
    /// There, to this host.
    Connected(String),
    /// Not there: why, when it is tried again, and whether it takes a person.
    Waiting {
        /// In words.
        why: String,
        /// Milliseconds since the Unix epoch.
        until_ms: i64,
        /// Whether time alone does not help.
        needs_operator: bool,
    },
    /// Not read, because the spool is full: the log takes nothing.
    Full,
}

/// How the connection of a live source is, and what came over it. Shared with whoever shows it.
#[derive(Debug)]
pub struct LiveStatus {
    state: Mutex<LiveState>,
    counts: Counts,
    /// The newest event time, milliseconds since the Unix epoch; 0: none yet.
    newest_ms: AtomicU64,
}

#[derive(Debug, Default)]
struct Counts {
    received: AtomicU64,
    repeated: AtomicU64,
    reconnects: AtomicU64,
    gaps: AtomicU64,
    too_large: AtomicU64,
}

/// The counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LiveCounts {
    /// Messages that came over the network.
    pub received: u64,
    /// Those of them that had come before.
    pub repeated: u64,
    /// Connections after the first one.
    pub reconnects: u64,
    /// Times when messages between two connections may be missing.
    pub gaps: u64,
    /// Messages that were larger than allowed, and were left out.
    pub too_large: u64,
}

impl Default for LiveStatus {
    fn default() -> Self {
        LiveStatus { state: Mutex::new(LiveState::Starting), counts: Counts::default(), newest_ms: AtomicU64::default() }
    }
}

impl LiveStatus {
    /// How the connection is.
    pub fn state(&self) -> LiveState {
        self.state.lock().clone()
    }

    /// Whether messages can arrive.
    pub fn is_connected(&self) -> bool {
        matches!(*self.state.lock(), LiveState::Connected(_))
    }

    /// What came over it.
    pub fn counts(&self) -> LiveCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts { received, repeated, reconnects, gaps, too_large } = &self.counts;
        LiveCounts {
            received: read(received),
            repeated: read(repeated),
            reconnects: read(reconnects),
            gaps: read(gaps),
            too_large: read(too_large),
        }
    }

    /// How far the newest event is behind `now_ms`, in milliseconds; `None`: there is none yet.
    pub fn behind_ms(&self, now_ms: i64) -> Option<i64> {
        let newest = i64::try_from(self.newest_ms.load(Ordering::Relaxed)).ok().filter(|newest| *newest > 0)?;
        Some((now_ms - newest).max(0))
    }

    /// How it is, in words.
    pub fn words(&self, now_ms: i64) -> String {
        match self.state() {
            LiveState::Starting => "it is not connected yet".to_owned(),
            LiveState::Connecting(host) => format!("connecting to {host}"),
            LiveState::Connected(host) => match self.behind_ms(now_ms).map(|behind| behind / 1000) {
                Some(seconds) => format!("connected to {host}; the newest event is {seconds} s old"),
                None => format!("connected to {host}; no event yet"),
            },
            LiveState::Waiting { why, until_ms, .. } => {
                format!("not connected: {why}; it is tried again in {} s", (until_ms - now_ms).max(0) / 1000)
            }
            LiveState::Full => {
                "not read: the spool is full, because the log does not take the events; it goes on when it has room".to_owned()
            }
        }
    }

    pub(crate) fn set(&self, state: LiveState) {
        *self.state.lock() = state;
    }

    pub(crate) fn add_received(&self) {
        self.counts.received.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_repeated(&self) {
        self.counts.repeated.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_reconnect(&self) {
        self.counts.reconnects.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_gap(&self) {
        self.counts.gaps.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_too_large(&self) {
        self.counts.too_large.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn note_event(&self, time_ms: i64) {
        self.newest_ms.fetch_max(u64::try_from(time_ms).unwrap_or_default(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_in_words_what_it_waits_for() {
        let status = LiveStatus::default();
        status.set(LiveState::Waiting { why: "the server is not able to stream now (503)".into(), until_ms: 9_000, needs_operator: false });
        assert_eq!(status.words(2_000), "not connected: the server is not able to stream now (503); it is tried again in 7 s");
        status.set(LiveState::Connected("h".into()));
        assert_eq!(status.words(2_000), "connected to h; no event yet");
        status.note_event(1_000);
        status.note_event(500);
        assert_eq!(status.words(4_000), "connected to h; the newest event is 3 s old");
    }
}
