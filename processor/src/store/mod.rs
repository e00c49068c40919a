//! The view store port: versioned tables of rows, the progress of each version, and the registers that the catalogue is made of.
//!
//! Rows are absolute values. Two writes of the same row are resolved by their *write timestamp*, as Cassandra does: the greater
//! wins, at equal timestamps a delete wins over an upsert. So a slow or repeated write can do no harm.
//! The conformance suite in `conformance` is what every adapter must pass.

pub mod catalogue;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod embedded;
mod keys;
pub mod memory;
mod range;
mod rows;
mod shape;

pub use keys::key_batch;
pub use range::{PartitionRange, before};
pub use rows::RowCodec;
pub use shape::ShapeDescription;

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::scalar::ScalarValue;
use serde::{Deserialize, Serialize};

use crate::position::Cut;
use crate::recovery::Recovery;
use crate::table::{Epoch, Table};

/// Rows to write. `rows`, `written_at` and `deleted` are equally long.
#[derive(Clone, Debug)]
pub struct RowBatch {
    /// The rows, with the columns of the table; of a deleted row only the key columns count.
    pub rows: RecordBatch,
    /// The write timestamp of each row, not below 0.
    pub written_at: Vec<i64>,
    /// Whether the row is to be deleted.
    pub deleted: Vec<bool>,
}

/// A read of one partition of a table.
#[derive(Clone, Debug)]
pub struct PartitionRead {
    /// The values of the partition key, in its order, of the columns' own types.
    pub partition: Vec<ScalarValue>,
    /// The least value of the first clustering column to answer with, included.
    pub from: Option<ScalarValue>,
    /// The value of the first clustering column to stop before, excluded.
    pub to: Option<ScalarValue>,
    /// How many rows at the most.
    pub limit: usize,
    /// Where an earlier read ended ([`Page::next`]).
    pub cursor: Option<Bytes>,
}

/// Rows of a partition, in clustering order.
#[derive(Clone, Debug)]
pub struct Page {
    /// The rows.
    pub rows: RecordBatch,
    /// Where the next page begins; `None` at the end.
    pub next: Option<Bytes>,
}

/// A listing of the partitions of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeysRead {
    /// What the first column of the partition key begins with: of a text its bytes, of other values those of what JSON shows.
    pub prefix: String,
    /// How many keys at the most.
    pub limit: usize,
}

/// Partitions of a table.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The columns of the partition key, in its order; each partition once, in the order of partition keys.
    pub keys: RecordBatch,
    /// Whether these are all there are. A store that does not keep partitions in order looks at a limited number of them, so that it may
    /// not have seen others.
    pub complete: bool,
}

/// About how large a table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSize {
    /// Rows.
    pub rows: u64,
    /// Bytes on disk, or in memory.
    pub bytes: u64,
}

/// How far a version's table is, as its owner tells readers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Everything up to this cut is in the table.
    pub visible: Cut,
    /// Rows of cuts up to this one may be in the table: an owner that restored an older state writes nothing before it has reached it.
    pub writing: Cut,
    /// Event time of the version's watermark, microseconds since the Unix epoch.
    pub watermark_us: Option<i64>,
    /// The largest event time folded in, microseconds since the Unix epoch.
    #[serde(default)]
    pub event_time_us: Option<i64>,
    /// Whether rows are written at every commit.
    #[serde(default)]
    pub live: bool,
    /// The watermark at the cut that is being written: windows that end at or before it may have rows.
    #[serde(default)]
    pub writing_watermark_us: Option<i64>,
    /// Rows whose event time (window start) is below this are past the view's `keep`, microseconds since the Unix epoch.
    pub horizon_us: Option<i64>,
    /// Events read: applied and quarantined.
    pub read: u64,
    /// Events folded into the state.
    pub applied: u64,
    /// Events quarantined, by reason.
    pub quarantined: std::collections::BTreeMap<String, u64>,
}

/// A value in the catalogue, with its revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// JSON text.
    pub value: String,
    /// Grows by one with every change, from 1.
    pub revision: u64,
}

/// Where the keys of isolated registers begin: the owners of versions, the leases of workers, and what they tell of what they build.
pub(crate) const OWNER_PREFIX: &str = "catalogue/owner/";
pub(crate) const WORKER_PREFIX: &str = "catalogue/worker/";
pub(crate) const BUILDING_PREFIX: &str = "catalogue/building/";

/// Whether a register is isolated: set often, or by many at once, and only ever read by its key. It must not contend with others, so an adapter whose
/// compare-and-set contends with that of neighbours keeps it apart from them, and no adapter lists it.
pub fn is_isolated(key: &str) -> bool {
    [OWNER_PREFIX, WORKER_PREFIX, BUILDING_PREFIX].iter().any(|prefix| key.starts_with(prefix))
}

/// What became of a compare-and-set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was carried out; the register has this revision now.
    Set(u64),
    /// The register has another revision than expected: what is there now.
    Conflict(Option<Register>),
}

/// Why a store did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store cannot answer now; the same call may succeed later.
    #[error("the view store is unavailable: {0}")]
    Unavailable(String),
    /// There is no such table.
    #[error("table {0} does not exist in the view store: restore it from a copy, or replay the view into a new version")]
    UnknownTable(String),
    /// A greater epoch was fenced: the caller is no longer the owner.
    #[error("table {table} is written by a later owner, in epoch {}", epoch.0)]
    Superseded {
        /// The table.
        table: String,
        /// The later owner's epoch.
        epoch: Epoch,
    },
    /// The table exists with other columns or another key.
    #[error("table {table} exists with another shape: {difference}")]
    OtherShape {
        /// The table.
        table: String,
        /// What differs.
        difference: String,
    },
    /// The store refuses, or cannot do it, until a person acts: a right is missing, a limit is too low, a setting is wrong.
    #[error("{0}")]
    Refused(String),
    /// What is stored, or what was asked, is not valid.
    #[error("{0}")]
    Broken(String),
}

impl StoreError {
    /// What it takes for the call to succeed.
    pub fn recovery(&self) -> Recovery {
        match self {
            StoreError::Unavailable(_) => Recovery::Transient,
            // A table that was dropped can be restored, and a node may hear of a new one later than others.
            StoreError::Refused(_) | StoreError::UnknownTable(_) => Recovery::Operator,
            StoreError::Superseded { .. } | StoreError::OtherShape { .. } | StoreError::Broken(_) => Recovery::Final,
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.recovery().is_retried()
    }
}

/// The write side of the view store: only the engine has it.
pub trait RowWriter: Send + Sync {
    /// Creates a table; an existing one of the same shape is left as it is.
    fn create_table(&self, table: &Table) -> Result<(), StoreError>;

    /// Removes a table, its rows and its progress; a table that is not there is no error. Only its name counts ([`Table::named`]).
    fn drop_table(&self, table: &Table) -> Result<(), StoreError>;

    /// Writes rows. When it returns they are readable; on error some of them may be. A NULL in a key column is an error that names the
    /// column: the caller leaves such rows out.
    fn write(&self, table: &Table, rows: &RowBatch) -> Result<(), StoreError>;

    /// Shuts out owners of lesser epochs: what they tell from now on is refused. Answers what was told last; rows of cuts up to its
    /// `writing` may be in the table, and no others of a former owner's can come.
    fn fence(&self, table: &Table, epoch: Epoch) -> Result<Progress, StoreError>;

    /// Tells how far the table is. An owner tells up to which cut it is `writing` before it writes rows of that cut, so that one who was fenced off
    /// finds out first. Of two tellings in an epoch, the one with the greater `(progress.writing.sum(), progress.visible.sum())` stays.
    fn tell(&self, table: &Table, epoch: Epoch, progress: &Progress) -> Result<(), StoreError>;

    /// Makes everything written before durable.
    fn sync(&self) -> Result<(), StoreError>;

    /// Gives back the space of rows whose column `column` (a timestamp) is below `before_us`. Readers do not see such rows anyway.
    fn reclaim(&self, table: &Table, column: usize, before_us: i64) -> Result<(), StoreError>;
}

/// The read side of the view store.
pub trait RowReader: Send + Sync {
    /// Rows of one partition, in clustering order.
    fn read(&self, table: &Table, read: &PartitionRead) -> Result<Page, StoreError>;

    /// Hands on all rows of the table, batch by batch, in no particular order. An error of `each` ends the scan and is answered.
    fn scan_each(&self, table: &Table, each: &mut dyn FnMut(RecordBatch) -> Result<(), StoreError>) -> Result<(), StoreError>;

    /// All rows of the table at once, in no particular order: for tables that fit into memory.
    fn scan(&self, table: &Table) -> Result<Vec<RecordBatch>, StoreError> {
        let mut batches = Vec::new();
        self.scan_each(table, &mut |batch| {
            batches.push(batch);
            Ok(())
        })?;
        Ok(batches)
    }

    /// Partitions that begin with a text. A partition whose rows are all deleted may be among them for a while.
    fn keys(&self, table: &Table, read: &KeysRead) -> Result<Keys, StoreError>;

    /// The last partition in the order of partition keys; `None`: there is none, or the store does not keep partitions in order.
    fn last_partition(&self, table: &Table) -> Result<Option<Vec<ScalarValue>>, StoreError> {
        let _ = table;
        Ok(None)
    }

    /// About how large a table is, without reading it; `None`: the store does not know.
    fn size(&self, table: &Table) -> Result<Option<TableSize>, StoreError> {
        let _ = table;
        Ok(None)
    }

    /// What [`RowWriter::tell`] last said.
    fn progress(&self, table: &Table) -> Result<Option<Progress>, StoreError>;
}

/// Registers with compare-and-set, and an append-only journal: the ground that the catalogue stands on.
pub trait Registers: Send + Sync {
    /// The value of a register.
    fn get(&self, key: &str) -> Result<Option<Register>, StoreError>;

    /// The values of registers, in the order of `keys`. An adapter with a network in between reads them at once, not one after the other.
    fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Register>>, StoreError> {
        keys.iter().map(|key| self.get(key)).collect()
    }

    /// Sets a register, or removes it (`None`), if it has the revision `expected` (`None`: if it does not exist).
    fn compare_and_set(&self, key: &str, expected: Option<u64>, value: Option<&str>) -> Result<Outcome, StoreError>;

    /// All registers whose key starts with `prefix`, by key; [isolated](is_isolated) ones are not among them.
    fn list(&self, prefix: &str) -> Result<Vec<(String, Register)>, StoreError>;

    /// Adds an entry (JSON text) to the journal.
    fn append_journal(&self, entry: &str) -> Result<(), StoreError>;

    /// The newest entries of the journal, oldest of them first.
    fn journal(&self, limit: usize) -> Result<Vec<String>, StoreError>;
}

/// A whole view store.
pub trait Store: RowWriter + RowReader + Registers {}

impl<T: RowWriter + RowReader + Registers> Store for T {}
