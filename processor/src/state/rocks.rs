//! State in RocksDB: one database for each version.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, BoundColumnFamily, Cache, ColumnFamilyDescriptor, DBCompressionType, DBWithThreadMode,
    Direction, IteratorMode, MultiThreaded, Options, ReadOptions, SnapshotWithThreadMode, WriteBatch, WriteBufferManager, WriteOptions,
};

use super::{Batch, Change, Lookup, Space, State, StateError, StateReader};

/// Memory of the states of all versions together.
#[derive(Clone)]
pub struct RocksMemory {
    cache: Cache,
    buffers: WriteBufferManager,
    write_buffer_bytes: usize,
}

impl RocksMemory {
    /// Blocks read and rows not yet flushed take `bytes` together, of all states that are opened with it. What does not fit is read from
    /// disk again.
    pub fn new(bytes: usize) -> Self {
        let cache = Cache::new_lru_cache(bytes);
        // What is in write buffers counts as used in the cache, so that there is one limit; who writes waits
        // where flushing does not keep up.
        let buffers = WriteBufferManager::new_write_buffer_manager_with_cache(bytes / 2, true, cache.clone());
        RocksMemory { cache, buffers, write_buffer_bytes: (bytes / 8).clamp(1 << 20, 64 << 20) }
    }
}

/// Enough for a disk to read in one go; the default is for machines with much more memory.
const COMPACTION_READ_AHEAD_BYTES: usize = 256 << 10;

type Database = DBWithThreadMode<MultiThreaded>;

/// State in RocksDB.
pub struct RocksState {
    db: Database,
    path: PathBuf,
}

impl RocksState {
    /// Opens the state in `path`, or creates it.
    pub fn open(path: &Path, memory: &RocksMemory) -> Result<Arc<RocksState>, StateError> {
        let open_error = |message: String| StateError::Open { path: path.to_path_buf(), message };
        std::fs::create_dir_all(path).map_err(|error| open_error(error.to_string()))?;
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_max_background_jobs(2);
        options.set_keep_log_file_num(2);
        options.set_max_total_wal_size(4 * memory.write_buffer_bytes as u64);
        options.set_bytes_per_sync(1 << 20);
        // For each file of a compaction.
        options.set_compaction_readahead_size(COMPACTION_READ_AHEAD_BYTES);
        options.set_write_buffer_manager(&memory.buffers);
        let families = Space::ALL.map(|space| ColumnFamilyDescriptor::new(space.name(), family_options(space, memory)));
        let db = Database::open_cf_descriptors(&options, path, families).map_err(|error| {
            let text = error.to_string();
            match text.contains("lock") {
                true => open_error(format!("another process is using it; stop that one or choose another data directory ({text})")),
                false => open_error(text),
            }
        })?;
        Ok(Arc::new(RocksState { db, path: path.to_path_buf() }))
    }

    fn family(&self, space: Space) -> Result<Arc<BoundColumnFamily<'_>>, StateError> {
        self.db.cf_handle(space.name()).ok_or_else(|| self.failed(format!("it has no column family {}", space.name())))
    }

    fn get_with(&self, options: &ReadOptions, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.db.get_cf_opt(&self.family(space)?, key, options).map_err(|error| self.failed(error.to_string()))
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
        for pair in self.db.iterator_cf_opt(&family, options, IteratorMode::From(from, Direction::Forward)) {
            let (key, value) = pair.map_err(|error| self.failed(error.to_string()))?;
            if !visit(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    fn failed(&self, message: String) -> StateError {
        StateError::Failed { path: self.path.clone(), message }
    }
}

fn family_options(space: Space, memory: &RocksMemory) -> Options {
    let mut options = Options::default();
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&memory.cache);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    // Indexes and filters in parts: whole ones are larger than a shard of a small cache, and would be read again for every few keys.
    blocks.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    blocks.set_partition_filters(true);
    blocks.set_pin_top_level_index_and_filter(true);
    blocks.set_bloom_filter(10.0, false);
    blocks.set_block_size(8 << 10);
    blocks.set_format_version(5);
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_level_compaction_dynamic_level_bytes(true);
    // Only the groups are many; the small buffers of the others keep the sum bounded.
    let share = if space == Space::Groups { 1 } else { 4 };
    options.set_write_buffer_size((memory.write_buffer_bytes / share).max(1 << 20));
    options.set_max_write_buffer_number(3);
    options
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
    snapshot: SnapshotWithThreadMode<'a, Database>,
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
        self.db
            .batched_multi_get_cf(&family, keys, true)
            .into_iter()
            .map(|found| found.map(|value| value.map(|value| value.to_vec())).map_err(|error| self.failed(error.to_string())))
            .collect()
    }

    fn last_key(&self, space: Space) -> Result<Option<Vec<u8>>, StateError> {
        let mut iterator = self.db.raw_iterator_cf(&self.family(space)?);
        iterator.seek_to_last();
        iterator.status().map_err(|error| self.failed(error.to_string()))?;
        Ok(iterator.key().map(<[u8]>::to_vec))
    }

    fn snapshot(&self) -> Box<dyn Lookup + '_> {
        Box::new(RocksSnapshot { state: self, snapshot: self.db.snapshot() })
    }

    fn size(&self) -> u64 {
        let property = |space: Space, name: &str| -> u64 {
            let family = self.db.cf_handle(space.name());
            family.and_then(|family| self.db.property_int_value_cf(&family, name).ok().flatten()).unwrap_or(0)
        };
        let of = |space| property(space, "rocksdb.total-sst-files-size") + property(space, "rocksdb.cur-size-all-mem-tables");
        Space::ALL.into_iter().map(of).sum()
    }
}

impl State for RocksState {
    fn commit(&self, batch: &Batch, durable: bool) -> Result<(), StateError> {
        let families = Space::ALL.map(|space| self.db.cf_handle(space.name()));
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
        let mut options = WriteOptions::default();
        options.set_sync(durable);
        self.db.write_opt(writes, &options).map_err(|error| self.failed(error.to_string()))
    }
}
