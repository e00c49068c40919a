//! What the databases of all versions share: one cache, one bound on write buffers, one thread that looks after them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rocksdb::{Cache, WriteBufferManager};

use super::database::Database;
use super::upkeep::{Upkeep, UpkeepSettings};

/// What a database may keep in its write buffers whatever the others have: flushing less than that gives nothing back, only more files.
pub(super) const LEAST_BUFFERED_BYTES: usize = 128 << 10;

/// Counting is all that RocksDB's own manager does. Its stall is no use to many databases: it ends when something is flushed, and it keeps all who
/// write from filling a buffer that would be.
const NO_LIMIT: usize = 1 << 50;

/// Memory of the states of all versions together. Clones share it.
#[derive(Clone)]
pub struct RocksMemory(Arc<Shared>);

struct Shared {
    cache: Cache,
    buffers: WriteBufferManager,
    bytes: usize,
    open: AtomicUsize,
    upkeep: Upkeep,
}

impl RocksMemory {
    /// Blocks read and rows not yet flushed take `bytes` together, of all states that are opened with it. What does not fit is read from
    /// disk again.
    pub fn new(bytes: usize) -> Self {
        RocksMemory::with(bytes, UpkeepSettings::default())
    }

    /// The same, with an upkeep of its own pace.
    pub(crate) fn with(bytes: usize, settings: UpkeepSettings) -> Self {
        let cache = Cache::new_lru_cache(bytes);
        // What is in write buffers counts as used in the cache, so that there is one limit.
        let buffers = WriteBufferManager::new_write_buffer_manager_with_cache(NO_LIMIT, false, cache.clone());
        RocksMemory(Arc::new(Shared { cache, buffers, bytes, open: AtomicUsize::new(0), upkeep: Upkeep::new(settings) }))
    }

    pub(super) fn cache(&self) -> &Cache {
        &self.0.cache
    }

    pub(super) fn buffers(&self) -> &WriteBufferManager {
        &self.0.buffers
    }

    /// How many databases are open.
    pub(super) fn open(&self) -> usize {
        self.0.open.load(Ordering::Relaxed)
    }

    /// The largest write buffer of a database that is opened now: a part of its share.
    pub(super) fn write_buffer_bytes(&self) -> usize {
        let most = (self.0.bytes / 8).clamp(1 << 20, 64 << 20);
        (self.0.bytes / 2 / (self.open() + 1)).clamp(1 << 20, most)
    }

    /// What all write buffers may take.
    fn bound(&self) -> usize {
        (self.0.bytes / 2).max(self.open() * LEAST_BUFFERED_BYTES)
    }

    /// What all write buffers take.
    pub(crate) fn buffered(&self) -> usize {
        self.0.buffers.get_usage()
    }

    pub(super) fn opened(&self, database: &Arc<Database>) {
        self.0.open.fetch_add(1, Ordering::Relaxed);
        self.0.upkeep.add(database);
    }

    pub(super) fn closed(&self, database: &Arc<Database>) {
        self.0.upkeep.remove(database);
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Holds up who writes while flushing does not keep up: a little each time, and only while something is there to be flushed, so that nobody ever waits for
    /// somebody who waits.
    pub(super) fn wait_for_room(&self) {
        let bound = self.bound();
        if self.buffered() > 2 * bound {
            self.0.upkeep.flush(bound);
            self.0.upkeep.wait_for_flush();
        }
    }

    pub(super) fn wrote(&self, database: &Arc<Database>) {
        if database.wrote() {
            self.0.upkeep.sync_later(database);
        }
        let bound = self.bound();
        if self.buffered() > bound {
            self.0.upkeep.flush(bound);
        }
    }

    /// How many syncs there were.
    #[cfg(test)]
    pub(crate) fn syncs(&self) -> usize {
        self.0.upkeep.syncs()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.upkeep.end();
    }
}
