//! How the rows of two versions of a view differ.
//!
//! Both tables are read whole, in parts that fit into memory: the rows of one version are kept, those of the other are looked up among them. While events
//! come, two versions are hardly ever at the same cut, so two rows that differ are not yet a difference:
//!
//! - A row of a window that is closed in both versions changes no more: it differs.
//! - Any other is read again, until both are equal, or until both have stayed what they were while each version went past the place where the other one was. Then
//!   there is a cut at which the versions had these rows, and they differ.
//! - What keeps changing until the time is up is *moving*: it is counted apart.

mod columns;
mod part;
mod report;
mod settling;
#[cfg(test)]
mod tests;

use std::time::Duration;

use refold_processor::store::{Progress, RowReader, StoreError};
use refold_processor::table::Table;
use refold_processor::view::WindowSpec;

pub use self::report::{Difference, Kind, Report, Side, WindowCounts};

use self::columns::Columns;
use self::part::{Part, Slice};
use self::settling::Unsettled;
use crate::rows::starts;

/// One of the two versions.
#[derive(Clone, Debug)]
pub struct Compared {
    /// Its table.
    pub table: Table,
    /// Its window.
    pub window: Option<WindowSpec>,
    /// Events further behind are not folded in any more, microseconds: windows that ended so long before the watermark do not change.
    pub accept_late_us: Option<i64>,
}

/// How to compare.
#[derive(Clone, Debug)]
pub struct DiffSettings {
    /// Numbers that differ by at most this part of the larger one count as equal.
    pub tolerance: f64,
    /// Columns that are not compared, by name.
    pub ignore: Vec<String>,
    /// How many examples of each kind of difference are kept: those that differ the most.
    pub examples: usize,
    /// For how long rows that change meanwhile are read again.
    pub settle_for: Duration,
    /// How many bytes of rows are kept at a time. A larger table is compared in parts, each of which reads both tables once more.
    pub part_bytes: usize,
}

impl Default for DiffSettings {
    fn default() -> Self {
        DiffSettings { tolerance: 0.0, ignore: Vec::new(), examples: 5, settle_for: Duration::from_secs(10), part_bytes: 128 << 20 }
    }
}

/// Why two versions are not compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiffError {
    /// Their rows have different keys, so no row of one corresponds to a row of the other.
    #[error(
        "rows of {left} have the key ({left_key}), rows of {right} the key ({right_key}): rows can be compared where the keys are equal"
    )]
    OtherKey {
        /// A version.
        left: String,
        /// Its key columns and their types.
        left_key: String,
        /// The other one.
        right: String,
        /// Its key columns and their types.
        right_key: String,
    },
    /// A version cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// A table cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Whoever asked is not there any more.
    #[error("the comparison was given up")]
    Stopped,
}

/// How far a comparison is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Going {
    /// Rows read so far, of both tables.
    pub rows_read: u64,
    /// Rows that differ and may only be on their way.
    pub unsettled: usize,
}

/// Is told how far a comparison is; `false` ends it.
pub type Watcher<'a> = dyn FnMut(Going) -> bool + 'a;

/// Compares all rows of two versions.
///
/// # Errors
/// When their keys differ, when a table cannot be read, or when `watcher` ends it.
pub fn compare(
    rows: &dyn RowReader,
    sides: [&Compared; 2],
    settings: &DiffSettings,
    watcher: &mut Watcher<'_>,
) -> Result<Report, DiffError> {
    let columns = [
        Columns::of(&sides[0].table, &sides[1].table, &settings.ignore)?,
        Columns::of(&sides[1].table, &sides[0].table, &settings.ignore)?,
    ];
    let progress = [progress_of(rows, sides[0])?, progress_of(rows, sides[1])?];
    let mut report = Report::new(sides, &progress, &columns, settings);
    let closed = Closed::of(sides, &progress);
    let mut unsettled = Unsettled::default();
    let mut counted = Counted { going: Going::default(), watcher };
    let mut slice = Slice::WHOLE;
    while let Some(at) = slice {
        let Some(mut part) = Part::read(rows, sides[0], &columns[0], &at, settings.part_bytes, &mut counted)? else {
            slice = at.halved();
            continue;
        };
        rows_of(rows, sides[1], &columns[1], &mut counted, &mut |key, row| {
            if !at.has(key) {
                return;
            }
            match part.take(key) {
                Some(left) if report.agree(&left.text, &row.text) => {}
                Some(left) if closed.has(&left) && closed.has(&row) => report.differ(key, Some(&left.text), Some(&row.text)),
                Some(left) => unsettled.add(key, Some(left.text), Some(row.text), &mut report),
                None if closed.has(&row) => report.differ(key, None, Some(&row.text)),
                None => unsettled.add(key, None, Some(row.text), &mut report),
            }
        })?;
        for (key, left) in part.rest() {
            match closed.has(&left) {
                true => report.differ(&key, Some(&left.text), None),
                false => unsettled.add(&key, Some(left.text), None, &mut report),
            }
        }
        slice = at.next();
    }
    settling::settle(rows, sides, &columns, unsettled, settings, &mut report, &mut counted)?;
    report.finish();
    Ok(report)
}

fn progress_of(rows: &dyn RowReader, side: &Compared) -> Result<Progress, StoreError> {
    Ok(rows.progress(&side.table)?.unwrap_or_default())
}

/// What has been read, and who wants to know.
struct Counted<'a, 'w> {
    going: Going,
    watcher: &'a mut Watcher<'w>,
}

impl Counted<'_, '_> {
    fn read(&mut self, rows: usize) -> Result<(), DiffError> {
        self.going.rows_read += rows as u64;
        if (self.watcher)(self.going) { Ok(()) } else { Err(DiffError::Stopped) }
    }
}

/// A row, as far as it is compared.
struct Row {
    /// The values of the columns that both versions have, a JSON array.
    text: Box<str>,
    /// When its window begins, microseconds since the Unix epoch.
    window_us: Option<i64>,
}

/// Hands on the key (a JSON array) and the values of each row of a table.
fn rows_of(
    rows: &dyn RowReader,
    side: &Compared,
    columns: &Columns,
    counted: &mut Counted<'_, '_>,
    each: &mut dyn FnMut(&str, Row),
) -> Result<(), DiffError> {
    let mut ended = None;
    let scanned = rows.scan_each(&side.table, &mut |batch| {
        if let Err(error) = counted.read(batch.num_rows()) {
            ended = Some(error);
            return Err(StoreError::Broken("the comparison was given up".to_owned()));
        }
        let windows = starts(&batch, side.window.as_ref());
        for row in 0..batch.num_rows() {
            let window_us = windows.as_ref().and_then(|windows| windows.get(row).copied().flatten());
            each(&columns.key(&batch, row), Row { text: columns.values(&batch, row).into(), window_us });
        }
        Ok(())
    });
    match ended {
        Some(error) => Err(error),
        None => Ok(scanned?),
    }
}

/// Up to where windows are closed in both versions.
struct Closed {
    size_us: i64,
    to_us: Option<i64>,
}

impl Closed {
    fn of(sides: [&Compared; 2], progress: &[Progress; 2]) -> Closed {
        let to_us = |side: &Compared, progress: &Progress| progress.watermark_us?.checked_sub(side.accept_late_us?);
        let to_us = to_us(sides[0], &progress[0]).zip(to_us(sides[1], &progress[1])).map(|(left, right)| left.min(right));
        let size_us = sides.iter().filter_map(|side| side.window.map(|window| window.size_us)).max().unwrap_or_default();
        Closed { size_us, to_us }
    }

    fn has(&self, row: &Row) -> bool {
        let end_us = row.window_us.and_then(|start_us| start_us.checked_add(self.size_us));
        end_us.zip(self.to_us).is_some_and(|(end_us, to_us)| end_us <= to_us)
    }
}
