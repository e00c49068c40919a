//! State in RocksDB: one database for each version, and what all of them share.

mod database;
mod memory;
mod options;
mod upkeep;

use std::path::Path;
use std::sync::Arc;

use rocksdb::{BoundColumnFamily, Direction, IteratorMode, ReadOptions, SnapshotWithThreadMode, WriteBatch};

use self::database::{Database, Rocks};
pub use self::memory::RocksMemory;
#[cfg(test)]
pub(crate) use self::upkeep::UpkeepSettings;
use super::{Batch, Change, Lookup, Space, State, StateError, StateReader};

/// State in RocksDB.
pub struct RocksState {
    database: Arc<Database>,
    memory: RocksMemory,
}

impl RocksState {
    /// Opens the state in `path`, or creates it.
    pub fn open(path: &Path, memory: &RocksMemory) -> Result<Arc<RocksState>, StateError> {
        let open_error = |message: String| StateError::Open { path: path.to_path_buf(), message };
        std::fs::create_dir_all(path).map_err(|error| open_error(error.to_string()))?;
        let rocks = options::open(path, memory).map_err(|error| {
            let text = error.to_string();
            open_error(match () {
                () if text.contains("lock") => {
                    format!("another process is using it; stop that one or choose another data directory ({text})")
                }
                () if text.contains("Too many open files") => {
                    format!("this process may not open more files; raise its limit (ulimit -n), each version takes about ten ({text})")
                }
                () => text,
            })
        })?;
        let database = Arc::new(Database::new(rocks, path));
        memory.opened(&database);
        Ok(Arc::new(RocksState { database, memory: memory.clone() }))
    }

    /// Bytes in files.
    pub(crate) fn files(&self) -> u64 {
        Space::ALL.into_iter().map(|space| self.database.property(space, "rocksdb.total-sst-files-size")).sum()
    }

    /// Whether nothing of it was made durable yet.
    #[cfg(test)]
    pub(crate) fn was_never_synced(&self) -> bool {
        self.database.syncs() == 0
    }

    fn rocks(&self) -> &Rocks {
        &self.database.rocks
    }

    fn family(&self, space: Space) -> Result<Arc<BoundColumnFamily<'_>>, StateError> {
        self.rocks().cf_handle(space.name()).ok_or_else(|| self.failed(format!("it has no column family {}", space.name())))
    }

    fn get_with(&self, options: &ReadOptions, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.rocks().get_cf_opt(&self.family(space)?, key, options).map_err(|error| self.failed(error.to_string()))
    }

    fn scan_with(
        &self,
        mut options: ReadOptions,
        space: Space,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StateError> {
        if let Some(to) = to {
            options.set_iterate_upper_bound(to.to_vec());
        }
        let family = self.family(space)?;
        for pair in self.rocks().iterator_cf_opt(&family, options, IteratorMode::From(from, Direction::Forward)) {
            let (key, value) = pair.map_err(|error| self.failed(error.to_string()))?;
            if !visit(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    fn failed(&self, message: String) -> StateError {
        StateError::Failed { path: self.database.path.clone(), message }
    }
}

impl Drop for RocksState {
    fn drop(&mut self) {
        // Upkeep works on what is registered: from here on this is the only one that holds the database, which closes with it.
        self.memory.closed(&self.database);
    }
}

impl Lookup for RocksState {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.get_with(&ReadOptions::default(), space, key)
    }

    fn scan(&self, space: Space, from: &[u8], to: Option<&[u8]>, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), StateError> {
        self.scan_with(ReadOptions::default(), space, from, to, visit)
    }
}

/// The state at one moment.
struct RocksSnapshot<'a> {
    state: &'a RocksState,
    snapshot: SnapshotWithThreadMode<'a, Rocks>,
}

impl RocksSnapshot<'_> {
    fn options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        options.set_snapshot(&self.snapshot);
        options
    }
}

impl Lookup for RocksSnapshot<'_> {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.state.get_with(&self.options(), space, key)
    }

    fn scan(&self, space: Space, from: &[u8], to: Option<&[u8]>, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), StateError> {
        self.state.scan_with(self.options(), space, from, to, visit)
    }
}

impl StateReader for RocksState {
    fn get_sorted(&self, space: Space, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, StateError> {
        let family = self.family(space)?;
        self.rocks()
            .batched_multi_get_cf(&family, keys, true)
            .into_iter()
            .map(|found| found.map(|value| value.map(|value| value.to_vec())).map_err(|error| self.failed(error.to_string())))
            .collect()
    }

    fn last_key(&self, space: Space) -> Result<Option<Vec<u8>>, StateError> {
        let mut iterator = self.rocks().raw_iterator_cf(&self.family(space)?);
        iterator.seek_to_last();
        iterator.status().map_err(|error| self.failed(error.to_string()))?;
        Ok(iterator.key().map(<[u8]>::to_vec))
    }

    fn snapshot(&self) -> Box<dyn Lookup + '_> {
        Box::new(RocksSnapshot { state: self, snapshot: self.rocks().snapshot() })
    }

    fn size(&self) -> u64 {
        self.files() + self.database.buffered().all
    }
}

impl State for RocksState {
    fn commit(&self, batch: &Batch) -> Result<(), StateError> {
        let families = Space::ALL.map(|space| self.rocks().cf_handle(space.name()));
        let family = |space: Space| {
            families.get(space as usize).and_then(Option::as_ref).ok_or_else(|| self.failed(format!("no column family {}", space.name())))
        };
        let mut writes = WriteBatch::default();
        for change in batch.changes() {
            match change {
                Change::Put(space, key, value) => writes.put_cf(family(space)?, key, value),
                Change::Delete(space, key) => writes.delete_cf(family(space)?, key),
                Change::DeleteRange(space, from, to) => writes.delete_range_cf(family(space)?, from, to),
            }
        }
        self.memory.wait_for_room();
        self.rocks().write(writes).map_err(|error| self.failed(error.to_string()))?;
        self.memory.wrote(&self.database);
        Ok(())
    }

    fn sync(&self) -> Result<(), StateError> {
        self.database.sync().map_err(|error| self.failed(error.to_string()))
    }
}
