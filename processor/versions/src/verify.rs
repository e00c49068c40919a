//! Whether the rows of a version are those that the log makes.
//!
//! The windows that change no more are computed anew from the log, by the view's own SELECT run as a batch ([`View::batch`]): nothing of the engine's
//! state, panes or writes is in between. What is kept at a time is bounded. The log is read once to see which part of it is of which time, then window by window,
//! as many at once as fit; of the table and of the batch a digest of each window is kept, and only of windows whose digests differ the rows.
//!
//! Events that a version quarantines are left out, by the same verdicts: judged in the order of each partition. The one verdict that depends on more than
//! the log, `late_after_idle`, is told by whoever asks.

mod digest;
mod history;
mod report;
mod slices;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::error::DataFusionError;
use refold_processor::decode::{DecodeError, SchemaLookup};
use refold_processor::engine::error::EngineError;
use refold_processor::log::{Log, LogError};
use refold_processor::position::{Offset, Partition};
use refold_processor::source::Source;
use refold_processor::store::{Progress, RowReader, StoreError};
use refold_processor::table::Table;
use refold_processor::view::{View, ViewError, WindowSpec};

pub use self::report::{Different, Report, Unknown, Window};

use self::digest::Digests;
use self::history::History;
use self::slices::{Span, slices};

/// What is verified.
pub struct Verified<'a> {
    /// Rows.
    pub rows: &'a dyn RowReader,
    /// The version's table.
    pub table: &'a Table,
    /// The log.
    pub log: &'a dyn Log,
    /// Writer schemas.
    pub schemas: Arc<dyn SchemaLookup>,
    /// The source of the view.
    pub source: &'a Source,
    /// The view.
    pub view: &'a Arc<View>,
    /// The events that the version has quarantined as `late_after_idle`.
    pub late_after_idle: &'a BTreeSet<(Partition, Offset)>,
}

/// How to verify.
#[derive(Clone, Debug)]
pub struct VerifySettings {
    /// Only windows that begin at this time or later, microseconds since the Unix epoch.
    pub from_us: Option<i64>,
    /// Only windows that begin before this time, microseconds since the Unix epoch.
    pub to_us: Option<i64>,
    /// Events that are computed at once take about so many bytes.
    pub slice_bytes: usize,
    /// How many rows that differ are named.
    pub most_rows: usize,
}

impl Default for VerifySettings {
    fn default() -> Self {
        VerifySettings { from_us: None, to_us: None, slice_bytes: 64 << 20, most_rows: 1_000 }
    }
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Going {
    /// Rows of the table that were read.
    Table(u64),
    /// Records of the log that were read to see of which time they are.
    Survey {
        /// So far.
        read: u64,
        /// In all.
        of: u64,
    },
    /// Windows that were computed.
    Windows {
        /// Parts of the time that are done.
        done: u64,
        /// In all.
        of: u64,
    },
}

/// Is told how far it is; `false` ends it.
pub type Watcher<'a> = dyn FnMut(Going) -> bool + 'a;

/// Why a version was not verified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// Nothing of it is ever closed.
    #[error(
        "view {0} has no windows, so none of its rows is ever final; build a second version with refold replay {0}, and compare the two with refold diff {0}"
    )]
    NoWindows(String),
    /// It has not written anything yet.
    #[error("table {0} has no watermark yet: no window of it is closed; wait until it is caught up")]
    NothingClosed(String),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Records cannot be decoded for now.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The view cannot be evaluated.
    #[error(transparent)]
    View(#[from] ViewError),
    /// Events cannot be judged.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A table cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A defect.
    #[error("rows cannot be taken apart: {0}")]
    Rows(#[from] DataFusionError),
    /// Whoever asked is not there any more.
    #[error("the verification was given up")]
    Stopped,
}

/// The windows that are compared.
#[derive(Clone, Copy, Debug)]
struct Scope {
    window: WindowSpec,
    /// The first window begins here or later.
    from_us: i64,
    /// The last one begins before.
    to_us: i64,
    /// And ends at this time or before.
    closed_to_us: i64,
}

impl Scope {
    fn of(verified: &Verified<'_>, progress: &Progress, settings: &VerifySettings) -> Result<Scope, VerifyError> {
        let window = verified.view.window.ok_or_else(|| VerifyError::NoWindows(verified.view.name.clone()))?;
        let watermark_us = progress.watermark_us.ok_or_else(|| VerifyError::NothingClosed(verified.table.name()))?;
        let accept_late_us = verified.view.options.accepted_late_us().unwrap_or(0);
        Ok(Scope {
            window,
            from_us: settings.from_us.unwrap_or(i64::MIN).max(progress.horizon_us.unwrap_or(i64::MIN)),
            to_us: settings.to_us.unwrap_or(i64::MAX),
            closed_to_us: watermark_us.saturating_sub(accept_late_us),
        })
    }

    fn has(&self, start_us: i64) -> bool {
        let is_closed = start_us.checked_add(self.window.size_us).is_some_and(|end_us| end_us <= self.closed_to_us);
        is_closed && (self.from_us..self.to_us).contains(&start_us)
    }

    /// The events that are of one of its windows.
    fn events(&self) -> Span {
        let last_us = self.to_us.saturating_add(self.window.size_us);
        Span { from_us: self.from_us, to_us: last_us.min(self.closed_to_us) }
    }
}

/// Computes the windows of a version that are closed anew, and compares the rows.
///
/// # Errors
/// When the view has no windows, log or table cannot be read, or `watcher` ends it.
pub fn verify(verified: &Verified<'_>, settings: &VerifySettings, watcher: &mut Watcher<'_>) -> Result<Report, VerifyError> {
    let progress = verified.rows.progress(verified.table)?.unwrap_or_default();
    let mut scope = Scope::of(verified, &progress, settings)?;
    let mut history = History::survey(verified, &scope, &progress.visible, watcher)?;
    if let Some(whole_from_us) = history.whole_from_us {
        scope.from_us = scope.from_us.max(whole_from_us);
    }
    let mut stored = Digests::of_table(verified, &scope, watcher)?;
    let mut report = Report::new(verified.table, &progress, &scope, history.whole_from_us);
    let mut computed: BTreeMap<i64, Digests> = BTreeMap::new();
    let mut waiting = slices(&history.bytes_by_slot, &scope.window, settings.slice_bytes as u64);
    waiting.reverse();
    let mut of = waiting.len() as u64;
    let mut done = 0;
    while let Some(slice) = waiting.pop() {
        if !watcher(Going::Windows { done, of }) {
            return Err(VerifyError::Stopped);
        }
        let events = history.events(verified, slice.events(&scope.window))?;
        match verified.view.batch(events) {
            Ok(rows) => {
                let mut digests = Digests::default();
                for batch in &rows {
                    digests.add(verified, batch, &|start_us| scope.has(start_us) && slice.has(start_us))?;
                }
                keep_different(&mut stored, digests, &mut computed, &mut report);
                done += 1;
            }
            // The value of some group cannot be computed: the windows of the others are computed without it.
            Err(error) => match slice.halved(&scope.window) {
                Some([first, second]) => {
                    waiting.extend([second, first]);
                    of += 1;
                }
                None => {
                    done += 1;
                    stored.take(slice.from_us);
                    if scope.has(slice.from_us) {
                        report.unknown(slice.from_us, &error.message);
                    }
                }
            },
        }
    }
    // What is left in the table is of windows that the log makes nothing of.
    report.differ(verified, &scope, &stored, &computed, settings, watcher)?;
    Ok(report)
}

/// So many rows of windows that differ are kept; of further windows that do, only the digest is.
const MOST_KEPT: usize = 100_000;

/// Takes out the windows that are equal; of the others the rows that were computed are kept, as far as there is room.
fn keep_different(stored: &mut Digests, digests: Digests, computed: &mut BTreeMap<i64, Digests>, report: &mut Report) {
    for (start_us, digest) in digests.windows() {
        report.rows += digest.rows;
        if stored.window(start_us) == Some(digest) {
            stored.take(start_us);
            report.equal += 1;
        } else {
            let has_room = computed.values().map(Digests::kept).sum::<usize>() < MOST_KEPT;
            computed.insert(start_us, digests.only(start_us, has_room));
        }
    }
}
