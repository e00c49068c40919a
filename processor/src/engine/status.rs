//! How far a running version is, for `status`, metrics and readiness.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::meta::Meta;
use super::pace::Spent;
use super::timing::{TimedStep, Timings};
use super::view_feed::ViewFeedStatus;
use crate::position::{Cut, Offset, Partition};
use crate::table::Version;
use crate::view::{Absent, AbsentRow};

/// How far a running version is, as of its last commit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunStatus {
    /// The view.
    pub view: String,
    /// The version, once it runs.
    pub version: Option<Version>,
    /// The topic that it reads.
    #[serde(default)]
    pub topic: String,
    /// The positions committed.
    pub positions: Cut,
    /// The ends of the source's partitions, as last seen.
    pub ends: BTreeMap<Partition, Offset>,
    /// Events between the two.
    pub lag: u64,
    /// The version's watermark, microseconds since the Unix epoch.
    pub watermark_us: Option<i64>,
    /// The largest event time folded in, microseconds since the Unix epoch.
    pub event_time_us: Option<i64>,
    /// Whether rows are written at every commit.
    pub live: bool,
    /// Events read: applied and quarantined.
    pub read: u64,
    /// Events folded in.
    pub applied: u64,
    /// Quarantined events by reason.
    pub quarantined: BTreeMap<String, u64>,
    /// Quarantined events that are counted, but not kept any more: there were too many.
    #[serde(default)]
    pub quarantine_let_go: u64,
    /// The partitions that are folded up to where the version ends.
    #[serde(default)]
    pub ended: BTreeSet<Partition>,
    /// Whether it is paused.
    #[serde(default)]
    pub paused: bool,
    /// The most events per second that may be read for it now; `None`: there is no limit.
    #[serde(default)]
    pub limit_per_s: Option<f64>,
    /// What reading for it has waited for since it was opened here.
    #[serde(default)]
    pub spent: Spent,
    /// The same, of the last seconds; filled in by whoever shows it, like `events_per_s`.
    #[serde(default)]
    pub spent_lately: Option<Spent>,
    /// How fast its positions moved lately; filled in likewise.
    #[serde(default)]
    pub drain: Option<Spread>,
    /// Events per second that came into its log lately; filled in likewise.
    #[serde(default)]
    pub arrival_per_s: Option<f64>,
    /// Events read per second, lately; worked out by whoever shows it, from `read` over time.
    pub events_per_s: f64,
    /// Commits since the version was started here.
    pub commits: u64,
    /// Rows waiting in memory to be written.
    pub queued_rows: usize,
    /// Rows written since the version was started here.
    pub rows_written: u64,
    /// Events folded in whose rows are not all known to be in the view store.
    #[serde(default)]
    pub unwritten_events: u64,
    /// The largest event time folded in from each partition, microseconds since the Unix epoch.
    #[serde(default)]
    pub event_times_us: BTreeMap<Partition, i64>,
    /// Reads of the log that failed and were tried again, since the version was started here.
    #[serde(default)]
    pub read_retries: u64,
    /// Writes that failed and were tried again, since the version was started here.
    #[serde(default)]
    pub write_retries: u64,
    /// Evaluations of groups that made no row because something failed for the group, since the version was started here. A group counts each time.
    #[serde(default)]
    pub absent_rows: u64,
    /// The last such groups, and why each has no row.
    #[serde(default)]
    pub absent_examples: Vec<AbsentRow>,
    /// The size of the version's state on disk and in write buffers, bytes.
    #[serde(default)]
    pub state_bytes: u64,
    /// How long its steps took here.
    #[serde(skip)]
    pub timings: Timings,
    /// For how long the positions have not moved although there are events to fold, seconds, if that is long; filled in by whoever shows it, like `events_per_s`.
    #[serde(default)]
    pub stalled_s: Option<u64>,
    /// Why events are not being read at the moment: the log or the schemas are unavailable.
    #[serde(default)]
    pub source_error: Option<String>,
    /// Why rows are not being written at the moment.
    pub store_error: Option<String>,
    /// Why changes of rows are not being published at the moment. It holds neither events nor rows up.
    #[serde(default)]
    pub feed_error: Option<String>,
    /// How many times changes were left out of the change feed, so that followers were told to begin anew, since the version was started here.
    #[serde(default)]
    pub feed_gaps: u64,
    /// The feed of the view, while this version is in service and such feeds are published.
    #[serde(default)]
    pub view_feed: Option<ViewFeedStatus>,
    /// Why the version stopped.
    pub failed: Option<String>,
    /// Why the version cannot be run here for now; that is tried again. Nothing else is told of it then.
    #[serde(default)]
    pub unable: Option<String>,
}

impl RunStatus {
    /// Notes a commit.
    pub fn committed(&mut self, meta: &Meta, ends: &BTreeMap<Partition, Offset>) {
        self.positions = meta.cut.clone();
        self.ended.clone_from(&meta.ended);
        self.set_ends(ends.clone());
        self.watermark_us = meta.watermark_us;
        self.event_times_us = meta.times.iter().filter_map(|(partition, time)| Some((*partition, time.latest_us()?))).collect();
        self.event_time_us = self.event_times_us.values().copied().max();
        self.live = meta.complete;
        self.read = meta.read;
        self.applied = meta.applied;
        self.quarantined = meta.quarantined.iter().map(|(reason, count)| (reason.as_str().to_owned(), *count)).collect();
        self.quarantine_let_go = meta.quarantine.let_go;
        self.commits += 1;
    }

    /// Which rows could not be made.
    pub fn set_absent(&mut self, absent: Absent) {
        self.absent_rows = absent.count;
        self.absent_examples = absent.examples;
    }

    /// Where the log ends, as of now; for a partition that has ended, where it did.
    pub fn set_ends(&mut self, mut ends: BTreeMap<Partition, Offset>) {
        ends.extend(self.ended.iter().map(|partition| (*partition, self.positions.position(*partition))));
        self.lag = self.positions.behind(ends.iter().map(|(partition, end)| (*partition, *end)));
        self.ends = ends;
    }
}

/// A rate over some time, events per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// On average.
    pub mean: f64,
    /// The slowest part of that time.
    pub low: f64,
    /// The fastest.
    pub high: f64,
}

/// Does a step and notes how long it took, if it succeeded.
#[allow(clippy::disallowed_methods, reason = "measured for people, and reaches no row")]
pub fn timed<T, E>(status: &Mutex<RunStatus>, step: TimedStep, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let begun = Instant::now();
    let done = work()?;
    status.lock().timings.note(step, begun.elapsed());
    Ok(done)
}
