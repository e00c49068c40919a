//! How each database is set up: small when it is idle, for there may be hundreds of them.

use std::path::Path;

use rocksdb::{BlockBasedIndexType, BlockBasedOptions, ColumnFamilyDescriptor, DBCompressionType, Error, InfoLogger, LogLevel, Options};

use super::database::Rocks;
use super::memory::RocksMemory;
use crate::state::Space;

/// Enough for a disk to read in one go; the default is for machines with much more memory.
const COMPACTION_READ_AHEAD_BYTES: usize = 256 << 10;

/// The step in which write buffers grow. A version that commits now and then has one of these in each family.
const ARENA_BLOCK_BYTES: usize = 8 << 10;

/// Files that all databases together keep open, besides those they write to.
const OPEN_FILES: usize = 4_096;

/// Space that is reserved on disk for the list of files; the default is 4 MiB.
const MANIFEST_BYTES: usize = 64 << 10;

/// Every RocksDB has this family; ours stays empty.
const UNUSED: &str = "default";

pub fn open(path: &Path, memory: &RocksMemory) -> Result<Rocks, Error> {
    let write_buffer_bytes = memory.write_buffer_bytes();
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // The threads are those of the process, whatever the number of databases.
    options.set_max_background_jobs(2);
    options.set_max_total_wal_size(4 * write_buffer_bytes as u64);
    options.set_bytes_per_sync(1 << 20);
    // For each file of a compaction.
    options.set_compaction_readahead_size(COMPACTION_READ_AHEAD_BYTES);
    options.set_write_buffer_manager(memory.buffers());
    options.set_manifest_preallocation_size(MANIFEST_BYTES);
    options.set_max_open_files((OPEN_FILES / (memory.open() + 1)).clamp(32, 512) as i32);
    options.set_table_cache_num_shard_bits(1);
    options.set_max_file_opening_threads(1);
    options.set_skip_stats_update_on_db_open(true);
    // No work from time to time for what nobody reads.
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    // A file for each database would take a handle and a buffer.
    options.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Error, |level, message| {
        // The headers of a log, with all options of the database, are of the highest level.
        if matches!(level, LogLevel::Error | LogLevel::Fatal) {
            tracing::warn!(message, "RocksDB");
        }
    }));
    let families = Space::ALL.map(|space| {
        // Only the groups are many.
        let share = if space == Space::Groups { 1 } else { 4 };
        ColumnFamilyDescriptor::new(space.name(), family(memory, (write_buffer_bytes / share).max(1 << 20)))
    });
    let unused = ColumnFamilyDescriptor::new(UNUSED, family(memory, 1 << 20));
    Rocks::open_cf_descriptors(&options, path, families.into_iter().chain([unused]))
}

fn family(memory: &RocksMemory, write_buffer_bytes: usize) -> Options {
    let mut options = Options::default();
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(memory.cache());
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
    options.set_write_buffer_size(write_buffer_bytes);
    options.set_arena_block_size(ARENA_BLOCK_BYTES);
    options.set_max_write_buffer_number(3);
    options
}
