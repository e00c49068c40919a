//! The change feed port: rows that changed in the table of a version that has readers, for whoever follows it.
//!
//! The owner publishes what it has written, in that order, some time after it was written: the feed lags behind the store, and holds nobody up.
//! Each publication says up to which positions rows may be as new ([`Changes::writing`]) and up to which everything is out
//! ([`Changes::visible`]). After an error the same rows come again; where they cannot, and with each new owner, followers are told to *begin
//! anew* ([`Changes::anew`]). An owner that was replaced may still publish: its rows have lesser write timestamps.
//! The conformance suite in `conformance` is what every adapter must pass.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod interest;
mod local;
pub mod view_feed;

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use serde_json::Value;
use tokio::sync::broadcast;

pub use self::interest::Interest;
pub use self::local::LocalFeed;
use crate::json;
use crate::log::LogError;
use crate::position::Cut;
use crate::store::{Progress, RowBatch};
use crate::table::Table;

/// One row that was written or deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct ChangedRow {
    /// The values of the partition key, then of the clustering columns, as JSON.
    pub key: Vec<Value>,
    /// The row, an object by column; `None`: it was deleted.
    pub row: Option<Value>,
    /// Its write timestamp: of two changes of a row the one with the greater is the newer.
    pub written_at: i64,
}

/// Rows that were published together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// The rows.
    pub rows: Vec<ChangedRow>,
    /// No row is of events past this cut.
    pub writing: Cut,
    /// All changes by events up to this cut are published.
    pub visible: Cut,
    /// The version's watermark at `visible`, microseconds since the Unix epoch.
    pub watermark_us: Option<i64>,
    /// Changes before this are missing: what was followed so far counts no more, and rows are to be read again. The store had the missing ones
    /// before this was published.
    pub anew: bool,
}

impl Changes {
    /// The changes that these rows are, as they were written to `table`.
    pub fn of(table: &Table, rows: &[RowBatch], progress: &Progress) -> Changes {
        Changes::where_wanted(table, rows, progress, |_| true)
    }

    /// Only the changes in partitions whose key values are `wanted`.
    pub fn where_wanted(table: &Table, rows: &[RowBatch], progress: &Progress, wanted: impl Fn(&[Value]) -> bool) -> Changes {
        Changes {
            rows: rows.iter().flat_map(|batch| changed_rows(table, batch, &wanted)).collect(),
            writing: progress.writing.clone(),
            visible: progress.visible.clone(),
            watermark_us: progress.watermark_us,
            anew: false,
        }
    }

    /// That followers are to begin anew.
    pub fn begin_anew(progress: &Progress) -> Changes {
        Changes {
            rows: Vec::new(),
            writing: progress.writing.clone(),
            visible: progress.visible.clone(),
            watermark_us: progress.watermark_us,
            anew: true,
        }
    }
}

/// What comes from a feed. A follower that is too slow is told that it has missed changes, and reads rows anew.
pub type Subscription = broadcast::Receiver<Arc<Changes>>;

/// The change feed port.
pub trait ChangeFeed: Send + Sync {
    /// Makes a table's feed, before anything is published to it; one that is there is left as it is. Changes need not be kept for longer
    /// than `keep_us`, microseconds, where it is given.
    ///
    /// # Errors
    /// When the feed is unavailable, or refuses.
    fn create(&self, table: &Table, keep_us: Option<i64>) -> Result<(), LogError>;

    /// Publishes rows that are in the store, as far as `progress` tells readers. When it returns, they will be with every follower.
    ///
    /// # Errors
    /// When the feed is unavailable, or refuses; some of the rows may be out then.
    fn publish(&self, table: &Table, rows: &[RowBatch], progress: &Progress) -> Result<(), LogError>;

    /// Tells followers that changes are missing before this, so that they begin anew. When it returns, every follower will hear of it.
    ///
    /// # Errors
    /// As of [`ChangeFeed::publish`].
    fn begin_anew(&self, table: &Table, progress: &Progress) -> Result<(), LogError>;

    /// Whether a call may take longer than it takes to hand something to another thread.
    fn may_block(&self) -> bool {
        true
    }

    /// Follows a table: all that is published from now on, and perhaps some of what was published just before.
    ///
    /// # Errors
    /// When the feed is unavailable, or there is none for this table.
    fn subscribe(&self, table: &Table) -> Result<Subscription, LogError>;

    /// Follows some partitions of a table: like [`subscribe`](ChangeFeed::subscribe), but changes in partitions that are not in `interest` may be left out. Positions are
    /// always published. Partitions that are added to `interest` later take effect with the next publication.
    ///
    /// # Errors
    /// As [`subscribe`](ChangeFeed::subscribe).
    fn subscribe_to(&self, table: &Table, _interest: &Arc<Interest>) -> Result<Subscription, LogError> {
        self.subscribe(table)
    }

    /// The feeds of views, where they are to be published beside those of their versions.
    fn view_feeds(&self) -> Option<Arc<dyn view_feed::ViewFeeds>> {
        None
    }

    /// Removes the feed of a table that is no more; its followers are told that it has ended. Only the name of the table counts ([`Table::named`]).
    ///
    /// # Errors
    /// When the feed is unavailable, or refuses.
    fn remove(&self, table: &Table) -> Result<(), LogError>;
}

/// Publications that may wait for a follower before it is told that it has missed some.
pub const WAITING: usize = 32;

fn changed_rows<'a>(table: &'a Table, batch: &'a RowBatch, wanted: &'a impl Fn(&[Value]) -> bool) -> impl Iterator<Item = ChangedRow> + 'a {
    let partition_columns = table.shape.partition_key.len();
    let marks = batch.written_at.iter().zip(&batch.deleted).enumerate();
    marks.filter_map(move |(row, (written_at, deleted))| {
        let mut key: Vec<Value> = key(table, &batch.rows, row).take(partition_columns).collect();
        if !wanted(&key) {
            return None;
        }
        key.extend(self::key(table, &batch.rows, row).skip(partition_columns));
        Some(ChangedRow { key, row: (!deleted).then(|| json::object(&batch.rows, row)), written_at: *written_at })
    })
}

/// The values of the key columns of a row: of the partition key, then of the clustering columns.
pub(crate) fn key<'a>(table: &'a Table, rows: &'a RecordBatch, row: usize) -> impl Iterator<Item = Value> + 'a {
    let columns = table.shape.key_columns().filter_map(|column| rows.columns().get(column));
    columns.map(move |column| json::value(column.as_ref(), row))
}
