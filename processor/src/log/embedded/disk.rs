//! The RocksDB underneath: opening it, writing batches, walking over blocks.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRawIterator, LogLevel, Options, ReadOptions,
    WriteBatch, WriteOptions,
};

use super::EmbeddedLogSettings;
use super::failure::{failure, failure_to_open};
use super::layout::{BLOCKS, BlockEntry, FORMAT, FORMAT_KEY, ID_KEY, INDEX, META, PartitionKey, base_of};
use crate::log::LogError;
use crate::position::Offset;

/// The cache for tables' own indexes and for the small column families; blocks of records are not cached, the system's page cache
/// does that as well and readers keep what they have decompressed.
const CACHE_BYTES: usize = 16 << 20;
const SMALL_WRITE_BUFFER_BYTES: usize = 4 << 20;
/// Every RocksDB has this family; ours stays empty.
const UNUSED: &str = "default";
const INFO_LOGS_KEPT: usize = 2;
/// Files in which half of so many adjacent keys, or of all, are deletions are compacted soon.
const DELETION_WINDOW: usize = 128;
const MAX_READ_AHEAD_BYTES: usize = 1 << 20;

/// An open directory.
pub struct Disk {
    db: DB,
    dir: PathBuf,
    id: String,
    sync: bool,
}

impl Disk {
    /// Opens the directory, creating it when it is not there.
    pub fn open(dir: &Path, settings: &EmbeddedLogSettings) -> Result<Disk, LogError> {
        // RocksDB makes the directory too, but does not say in words why it cannot.
        std::fs::create_dir_all(dir).map_err(|error| failure_to_open(dir, &error.to_string()))?;
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_keep_log_file_num(INFO_LOGS_KEPT);
        options.set_log_level(LogLevel::Warn);
        // The small families fill no buffer of their own, so without this they would hold on to write-ahead logs for long.
        options.set_max_total_wal_size(settings.write_buffer_bytes as u64 * 4);
        let cache = Cache::new_lru_cache(CACHE_BYTES);
        let families = [UNUSED, BLOCKS, INDEX, META].map(|name| {
            let mut tables = BlockBasedOptions::default();
            tables.set_block_cache(&cache);
            let mut family = Options::default();
            family.set_block_based_table_factory(&tables);
            // Blocks are compressed already, and the rest is small.
            family.set_compression_type(DBCompressionType::None);
            // RocksDB resumes after a full disk once the largest of these buffers fits on it: so the unused family has one too.
            let buffer = settings.write_buffer_bytes;
            family.set_write_buffer_size(if name == BLOCKS { buffer } else { buffer.min(SMALL_WRITE_BUFFER_BYTES) });
            if name == BLOCKS || name == INDEX {
                // Merging leaves deletions behind, over which readers would step for as long as nothing else moves those files.
                family.add_compact_on_deletion_collector_factory(DELETION_WINDOW, DELETION_WINDOW / 2, 0.5);
            }
            ColumnFamilyDescriptor::new(name, family)
        });
        let db = DB::open_cf_descriptors(&options, dir, families).map_err(|error| failure_to_open(dir, error.as_ref()))?;
        let mut disk = Disk { db, dir: dir.to_path_buf(), id: String::new(), sync: settings.sync };
        disk.check_format()?;
        disk.id = disk.kept_id()?;
        Ok(disk)
    }

    /// Which log this is.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The id of the directory; a new one gets one.
    fn kept_id(&self) -> Result<String, LogError> {
        if let Some(id) = self.meta(ID_KEY)? {
            return String::from_utf8(id).map_err(|_| self.damaged("its id is not text"));
        }
        let id = format!("{:032x}", rand::random::<u128>());
        let mut batch = WriteBatch::default();
        batch.put_cf(self.family(META)?, ID_KEY, &id);
        self.write(batch, Durability::Synced)?;
        Ok(id)
    }

    fn check_format(&self) -> Result<(), LogError> {
        match self.meta(FORMAT_KEY)?.as_deref() {
            None => {
                let mut batch = WriteBatch::default();
                batch.put_cf(self.family(META)?, FORMAT_KEY, [FORMAT]);
                self.write(batch, Durability::Synced)
            }
            Some([FORMAT]) => Ok(()),
            Some(other) => Err(LogError::Broken(format!(
                "the log in {} has format {other:?}, and this program reads format {FORMAT}; use the program that wrote it",
                self.dir.display()
            ))),
        }
    }

    /// A column family of the three that exist.
    pub fn family(&self, name: &str) -> Result<&ColumnFamily, LogError> {
        self.db.cf_handle(name).ok_or_else(|| failure(&self.dir, &format!("it has no column family {name}")))
    }

    /// The value of a key in [`META`].
    pub fn meta(&self, key: &[u8]) -> Result<Option<Vec<u8>>, LogError> {
        self.db.get_cf(self.family(META)?, key).map_err(|error| self.failed(&error))
    }

    /// Writes all of a batch or nothing.
    pub fn write(&self, batch: WriteBatch, durability: Durability) -> Result<(), LogError> {
        let mut options = WriteOptions::default();
        options.set_sync(self.sync && durability == Durability::Synced);
        self.db.write_opt(batch, &options).map_err(|error| self.failed(&error))
    }

    /// Walks over the whole of [`META`] from a key on.
    pub fn walk_meta(&self, from: &[u8], mut each: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>) -> Result<(), LogError> {
        let mut walk = self.db.raw_iterator_cf(self.family(META)?);
        walk.seek(from);
        while let Some((key, value)) = walk.item() {
            if each(key, value).is_break() {
                return Ok(());
            }
            walk.next();
        }
        walk.status().map_err(|error| self.failed(&error))
    }

    /// Walks over the index of a partition, over blocks whose base is in `from..to`.
    pub fn walk_index(
        &self,
        place: PartitionKey,
        (from, to): (Offset, Offset),
        mut each: impl FnMut(Offset, BlockEntry) -> ControlFlow<()>,
    ) -> Result<(), LogError> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(place.block(to));
        let mut walk = self.db.raw_iterator_cf_opt(self.family(INDEX)?, options);
        walk.seek(place.block(from));
        while let Some((key, value)) = walk.item() {
            let (base, entry) = base_of(key)
                .zip(BlockEntry::decode(value))
                .ok_or_else(|| failure(&self.dir, &format!("Corruption: the index of block {key:?} is not valid")))?;
            if each(base, entry).is_break() {
                return Ok(());
            }
            walk.next();
        }
        walk.status().map_err(|error| self.failed(&error))
    }

    /// A walk over the blocks of a partition below `end`, not placed yet. It sees one moment of the log.
    pub fn blocks(&self, place: PartitionKey, end: Offset, read_bytes: usize) -> Result<DBRawIterator<'_>, LogError> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(place.block(Offset(0)));
        options.set_iterate_upper_bound(place.block(end));
        options.fill_cache(false);
        options.set_readahead_size(read_bytes.min(MAX_READ_AHEAD_BYTES));
        // Each block has a checksum of its own, which is always checked.
        options.set_verify_checksums(false);
        Ok(self.db.raw_iterator_cf_opt(self.family(BLOCKS)?, options))
    }

    /// Gives whole files of deleted blocks back to the file system at once. The caller has just deleted every block of the partition
    /// from its first offset to `last`.
    pub fn drop_files(&self, place: PartitionKey, last: Offset) -> Result<(), LogError> {
        // Both ends are inclusive. Starting at 0 matters: a file that holds an older deletion may go too, and the one just made covers
        // all that it covered.
        self.db
            .delete_file_in_range_cf(self.family(BLOCKS)?, place.block(Offset(0)), place.block(last))
            .map_err(|error| self.failed(&error))
    }

    /// Has the file system get back what deleted blocks take: of those of a partition before `kept_from`. Until then they are in write-ahead logs
    /// and in the newest files, which are not dropped as a whole.
    pub fn give_back(&self, deleted: &[(PartitionKey, Offset)]) -> Result<(), LogError> {
        // All families share write-ahead logs: each keeps them for as long as it has something in memory.
        let families = [self.family(BLOCKS)?, self.family(INDEX)?, self.family(META)?];
        for family in families {
            self.db.flush_cf(family).map_err(|error| self.failed(&error))?;
        }
        for (place, kept_from) in deleted {
            self.db.compact_range_cf(families[0], Some(place.block(Offset(0))), Some(place.block(*kept_from)));
        }
        Ok(())
    }

    /// The error of a failed call.
    pub fn failed(&self, error: &rocksdb::Error) -> LogError {
        failure(&self.dir, error.as_ref())
    }

    /// The error of stored bytes that cannot be.
    pub fn damaged(&self, what: &str) -> LogError {
        failure(&self.dir, &format!("Corruption: {what}"))
    }
}

/// Whether a write waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Nothing of it is lost by a power cut once it returns.
    Synced,
    /// A power cut may undo it, along with nothing that was synced after it.
    Lazy,
}
