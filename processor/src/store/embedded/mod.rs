//! The view store that ships: RocksDB in a directory of its own, nothing else to run.
//!
//! Rows are written without waiting for the disk: they survive the end of the process, and a power cut after
//! [`RowWriter::sync`](super::RowWriter::sync). All column families share one write-ahead log and are flushed together, so what a power cut leaves is a
//! prefix of what was written: progress never survives without the rows that it speaks of. Registers and the journal are synced.

mod layout;
mod open;
mod reading;
mod registers;
mod syncing;
#[cfg(test)]
mod tests;
mod writing;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use rocksdb::{ColumnFamily, DB, ErrorKind};

use self::layout::{META, ROWS, StoredTable, decode_json, rows_prefix, table_key};
use self::syncing::GroupSync;
use super::StoreError;
use super::rows::RowCodec;
use super::shape::ShapeDescription;
use crate::clock::{Clock, SystemClock};
use crate::table::Table;

/// Settings of an [`EmbeddedStore`].
#[derive(Clone)]
pub struct EmbeddedStoreSettings {
    /// Memory for blocks of the tables' files, in bytes.
    pub cache_bytes: usize,
    /// Memory for rows that are not in a file yet, in bytes.
    pub write_buffer_bytes: usize,
    /// How long a deletion is remembered, in milliseconds: a write of an older fact that comes later than this brings the row
    /// back. Only an owner that was frozen for as long can be so late.
    pub tombstone_age_ms: i64,
    /// Threads for flushes and compactions.
    pub background_jobs: i32,
    /// Dates deletions.
    pub clock: Arc<dyn Clock>,
}

impl Default for EmbeddedStoreSettings {
    fn default() -> Self {
        EmbeddedStoreSettings {
            cache_bytes: 64 << 20,
            write_buffer_bytes: 64 << 20,
            tombstone_age_ms: 24 * 60 * 60 * 1000,
            background_jobs: 2,
            clock: Arc::new(SystemClock),
        }
    }
}

/// The embedded view store. One process at a time can have its directory open.
pub struct EmbeddedStore {
    db: DB,
    folder: PathBuf,
    clock: Arc<dyn Clock>,
    /// Tables in use. Held for writing while one is created or dropped.
    tables: RwLock<HashMap<String, Arc<OpenTable>>>,
    /// Held while a register is compared and set.
    registers: Mutex<()>,
    /// The number of the next journal entry.
    next_entry: Mutex<u64>,
    syncs: GroupSync,
}

/// A table in use.
struct OpenTable {
    codec: RowCodec,
    /// Held while stored rows are compared with new ones and replaced.
    writing: Mutex<TableState>,
}

/// Whether a table is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TableState {
    Present,
    Dropped,
}

impl EmbeddedStore {
    /// Opens the store in `folder`, which is made if it is not there.
    pub fn open(folder: &Path, settings: &EmbeddedStoreSettings) -> Result<Self, StoreError> {
        open::open(folder, settings)
    }

    /// The directory it is in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn rows(&self) -> Result<&ColumnFamily, StoreError> {
        self.family(ROWS)
    }

    fn meta(&self) -> Result<&ColumnFamily, StoreError> {
        self.family(META)
    }

    fn family(&self, name: &str) -> Result<&ColumnFamily, StoreError> {
        self.db.cf_handle(name).ok_or_else(|| StoreError::Broken(format!("the view store in {} has no part {name}", self.folder.display())))
    }

    fn stored_table(&self, name: &str) -> Result<Option<StoredTable>, StoreError> {
        let stored = self.db.get_pinned_cf(self.meta()?, table_key(name)).map_err(|error| self.error(&error))?;
        stored.map(|bytes| decode_json(name, &bytes)).transpose()
    }

    /// The table in use, if it has the shape asked for.
    fn table(&self, table: &Table) -> Result<Arc<OpenTable>, StoreError> {
        let name = table.name();
        if let Some(open) = self.tables.read().get(&name) {
            if open.codec.table.shape != table.shape {
                ShapeDescription::of(&open.codec.table.shape).require(table)?;
            }
            return Ok(Arc::clone(open));
        }
        let mut tables = self.tables.write();
        let stored = self.stored_table(&name)?.ok_or_else(|| StoreError::UnknownTable(name.clone()))?;
        stored.shape.require(table)?;
        if let Some(open) = tables.get(&name) {
            return Ok(Arc::clone(open));
        }
        let codec = RowCodec::with_prefix(table, rows_prefix(stored.id))?;
        let open = Arc::new(OpenTable { codec, writing: Mutex::new(TableState::Present) });
        tables.insert(name, Arc::clone(&open));
        Ok(open)
    }

    fn error(&self, error: &rocksdb::Error) -> StoreError {
        store_error(&self.folder, error)
    }
}

/// What RocksDB says, as the port's callers need it: whether waiting helps.
fn store_error(folder: &Path, error: &rocksdb::Error) -> StoreError {
    let text = format!("{}: {error}", folder.display());
    match error.kind() {
        ErrorKind::IOError
        | ErrorKind::Busy
        | ErrorKind::TimedOut
        | ErrorKind::TryAgain
        | ErrorKind::Aborted
        | ErrorKind::Incomplete
        | ErrorKind::MergeInProgress
        | ErrorKind::CompactionTooLarge => StoreError::Unavailable(text),
        _ => StoreError::Broken(text),
    }
}
