//! What collecting has done so far.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::Serialize;

use crate::event_source::BadLine;

/// Running totals, shared with whoever shows progress.
#[derive(Debug, Default)]
pub struct Report {
    read: AtomicU64,
    written: AtomicU64,
    already_there: AtomicU64,
    left_out: AtomicU64,
    bad: Mutex<BTreeMap<&'static str, u64>>,
}

/// The totals at one moment. `read` = `written` + `already_there` + all of `bad`, between two batches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Events and bad lines that the source yielded.
    pub read: u64,
    /// Events that were appended to the log and acknowledged.
    pub written: u64,
    /// Events that an interrupted earlier run had already appended, and that were therefore not appended again.
    pub already_there: u64,
    /// Lines that are none of the source, by its mapping. They are not among those that were read.
    #[serde(skip_serializing_if = "is_zero")]
    pub left_out: u64,
    /// Lines that were no events, by reason.
    pub bad: BTreeMap<&'static str, u64>,
}

impl Totals {
    /// All bad lines.
    pub fn skipped(&self) -> u64 {
        self.bad.values().sum()
    }
}

impl Report {
    /// Nothing done yet.
    pub fn new() -> Self {
        Report::default()
    }

    /// The totals now.
    pub fn totals(&self) -> Totals {
        Totals {
            read: self.read.load(Ordering::Relaxed),
            written: self.written.load(Ordering::Relaxed),
            already_there: self.already_there.load(Ordering::Relaxed),
            left_out: self.left_out.load(Ordering::Relaxed),
            bad: self.bad.lock().clone(),
        }
    }

    pub(crate) fn add_read(&self, events: usize) {
        self.read.fetch_add(events as u64, Ordering::Relaxed);
    }

    pub(crate) fn add_written(&self, events: usize) {
        self.written.fetch_add(events as u64, Ordering::Relaxed);
    }

    pub(crate) fn add_already_there(&self, events: usize) {
        self.already_there.fetch_add(events as u64, Ordering::Relaxed);
    }

    pub(crate) fn add_left_out(&self, lines: usize) {
        self.left_out.fetch_add(lines as u64, Ordering::Relaxed);
    }

    pub(crate) fn add_bad(&self, lines: &[BadLine]) {
        let mut bad = self.bad.lock();
        for line in lines {
            *bad.entry(line.reason.as_str()).or_default() += 1;
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde asks")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
