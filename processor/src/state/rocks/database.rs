//! An open database, as its state and the upkeep of all of them see it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rocksdb::{DBWithThreadMode, Error, FlushOptions, MultiThreaded};

use crate::state::Space;

pub type Rocks = DBWithThreadMode<MultiThreaded>;

/// An open database.
pub struct Database {
    pub rocks: Rocks,
    pub path: PathBuf,
    /// Whether there are commits that a power cut would undo.
    unsynced: AtomicBool,
    syncs: AtomicUsize,
}

/// RocksDB slows down who writes from 20 files of the first level on.
const MANY_FILES: u64 = 16;

/// What the write buffers of a database take, bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Buffered {
    /// What a flush would give back.
    pub active: u64,
    /// That, and what is being flushed.
    pub all: u64,
}

impl Database {
    pub fn new(rocks: Rocks, path: &Path) -> Database {
        Database { rocks, path: path.to_path_buf(), unsynced: AtomicBool::new(false), syncs: AtomicUsize::new(0) }
    }

    /// Notes a commit. `true`: it is the first one since the last sync.
    pub fn wrote(&self) -> bool {
        !self.unsynced.swap(true, Ordering::Relaxed)
    }

    /// Makes everything committed durable, unless it is already.
    pub fn sync(&self) -> Result<(), Error> {
        // Before the sync: a commit made during it is noted again.
        if !self.unsynced.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        self.rocks.flush_wal(true).inspect_err(|_| self.unsynced.store(true, Ordering::Relaxed))?;
        self.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// How often it was synced.
    #[cfg(test)]
    pub fn syncs(&self) -> usize {
        self.syncs.load(Ordering::Relaxed)
    }

    /// A figure of RocksDB about a column family; 0 when it has none.
    pub fn property(&self, space: Space, name: &str) -> u64 {
        let family = self.rocks.cf_handle(space.name());
        family.and_then(|family| self.rocks.property_int_value_cf(&family, name).ok().flatten()).unwrap_or(0)
    }

    pub fn buffered(&self) -> Buffered {
        let sum = |name: &str| Space::ALL.into_iter().map(|space| self.property(space, name)).sum();
        Buffered { active: sum("rocksdb.cur-size-active-mem-table"), all: sum("rocksdb.size-all-mem-tables") }
    }

    /// Whether compaction is so far behind that a flush would have to wait for it.
    pub fn is_compacting_behind(&self) -> bool {
        let files = |space: Space| -> Option<u64> {
            let family = self.rocks.cf_handle(space.name())?;
            self.rocks.property_value_cf(&family, "rocksdb.num-files-at-level0").ok().flatten()?.parse().ok()
        };
        Space::ALL.into_iter().filter_map(files).any(|files| files >= MANY_FILES)
    }

    /// Has what is in the write buffers written to files, without waiting for it. All families at once: the write-ahead log is given back only
    /// when none of them needs it.
    pub fn flush(&self) -> Result<(), Error> {
        let mut options = FlushOptions::default();
        options.set_wait(false);
        let families: Vec<_> = Space::ALL.into_iter().filter_map(|space| self.rocks.cf_handle(space.name())).collect();
        self.rocks.flush_cfs_opt(&families.iter().collect::<Vec<_>>(), &options)
    }
}
