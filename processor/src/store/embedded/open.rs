//! Opening the directory: how RocksDB is set up, and what may stand in the way.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, Options, compaction_filter::Decision,
};

use super::layout::{FORMAT, FORMAT_KEY, JOURNAL_PREFIX, META, ROWS, decode_number, encode_number, journal_key, journal_number};
use super::{EmbeddedStore, EmbeddedStoreSettings, store_error};
use crate::clock::Clock;
use crate::store::StoreError;
use crate::store::rows::deleted_at_ms;

/// Bits of a row's filter: one in a hundred rows that are not there is looked for in a file.
const FILTER_BITS: f64 = 10.0;
/// Part of the write buffer that is spent on a filter of it: most rows of a replay are new, and this is how it is known.
const WRITE_BUFFER_FILTER: f64 = 0.05;

pub(super) fn open(folder: &Path, settings: &EmbeddedStoreSettings) -> Result<EmbeddedStore, StoreError> {
    std::fs::create_dir_all(folder).map_err(|error| StoreError::Unavailable(format!("{} cannot be made: {error}", folder.display())))?;
    let families = [ColumnFamilyDescriptor::new(ROWS, rows_options(settings)), ColumnFamilyDescriptor::new(META, Options::default())];
    let db = DB::open_cf_descriptors(&database_options(settings), folder, families).map_err(|error| open_error(folder, &error))?;
    let mut store = EmbeddedStore {
        db,
        folder: folder.to_path_buf(),
        clock: Arc::clone(&settings.clock),
        tables: RwLock::new(HashMap::new()),
        registers: Mutex::new(()),
        next_entry: Mutex::new(0),
        syncs: Default::default(),
    };
    check_format(&store)?;
    store.next_entry = Mutex::new(next_entry(&store)?);
    Ok(store)
}

fn database_options(settings: &EmbeddedStoreSettings) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_atomic_flush(true);
    options.set_max_background_jobs(settings.background_jobs);
    options.set_bytes_per_sync(1 << 20);
    // For each file of a compaction.
    options.set_compaction_readahead_size(256 << 10);
    options.set_wal_bytes_per_sync(1 << 20);
    options.set_keep_log_file_num(4);
    options.set_max_log_file_size(8 << 20);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options
}

fn rows_options(settings: &EmbeddedStoreSettings) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&Cache::new_lru_cache(settings.cache_bytes));
    blocks.set_bloom_filter(FILTER_BITS, false);
    blocks.set_block_size(8 << 10);
    blocks.set_format_version(5);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    // Filters in parts: a whole one is larger than a shard of the cache, so it would be read again for every few rows.
    blocks.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    blocks.set_partition_filters(true);
    blocks.set_metadata_block_size(8 << 10);
    blocks.set_pin_top_level_index_and_filter(true);
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(settings.write_buffer_bytes / 2);
    options.set_max_write_buffer_number(3);
    options.set_memtable_prefix_bloom_ratio(WRITE_BUFFER_FILTER);
    options.set_memtable_whole_key_filtering(true);
    options.set_level_compaction_dynamic_level_bytes(true);
    let (clock, age_ms) = (Arc::clone(&settings.clock), settings.tombstone_age_ms);
    options.set_compaction_filter("forget_old_deletions", move |_, _, value| forget_old_deletions(clock.as_ref(), age_ms, value));
    options
}

fn forget_old_deletions(clock: &dyn Clock, age_ms: i64, value: &[u8]) -> Decision {
    match deleted_at_ms(value) {
        Some(at_ms) if at_ms.saturating_add(age_ms) < clock.now_ms() => Decision::Remove,
        _ => Decision::Keep,
    }
}

fn open_error(folder: &Path, error: &rocksdb::Error) -> StoreError {
    let text = error.to_string();
    if text.contains("lock file") || text.contains("lock hold") {
        return StoreError::Broken(format!(
            "the view store in {} is in use by another process; stop that one, or use another directory ({text})",
            folder.display()
        ));
    }
    store_error(folder, error)
}

fn check_format(store: &EmbeddedStore) -> Result<(), StoreError> {
    let stored = store.db.get_cf(store.meta()?, FORMAT_KEY).map_err(|error| store.error(&error))?;
    let Some(stored) = stored else {
        return store.db.put_cf(store.meta()?, FORMAT_KEY, encode_number(FORMAT)).map_err(|error| store.error(&error));
    };
    let format = decode_number("format", &stored)?;
    if format == FORMAT {
        return Ok(());
    }
    let folder = store.folder.display();
    Err(StoreError::Broken(format!(
        "the view store in {folder} has format {format}, this release has {FORMAT}; use the release that wrote it, or replay its views into another directory"
    )))
}

fn next_entry(store: &EmbeddedStore) -> Result<u64, StoreError> {
    let mut entries = store.db.raw_iterator_cf(store.meta()?);
    entries.seek_for_prev(journal_key(u64::MAX));
    entries.status().map_err(|error| store.error(&error))?;
    let last = entries.key().filter(|key| key.starts_with(JOURNAL_PREFIX)).and_then(journal_number);
    Ok(last.map_or(0, |last| last + 1))
}
