//! The embedded log: topics in one RocksDB directory, durable, for one process. The default that needs no services.
//!
//! Records of one append are kept as one compressed [`block`](super::block) a partition. A reader decompresses a block at a time, so
//! history reads fast when blocks are large; small appends make small blocks, which [`EmbeddedLog::maintain`] merges.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use rocksdb::WriteBatch;

use self::commit::{Append, Committer};
use self::disk::{Disk, Durability};
use self::layout::{META, TopicEntry};
pub use self::maintain::Maintained;
use self::reader::EmbeddedReader;
use self::topic::{PartitionState, Topic};
use super::block::BodyBuilder;
use super::placement::{check_topic, check_values};
use super::{Bounds, Log, LogError, LogReader, NewRecord, Retained};
use crate::clock::Clock;
use crate::position::{Cut, Offset, Partition};
use crate::source::Retention;

mod commit;
mod disk;
mod failure;
mod layout;
mod maintain;
mod reader;
#[cfg(test)]
mod tests;
mod topic;

/// Settings of the embedded log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddedLogSettings {
    /// About how many bytes of values a large block holds: appends are cut and small blocks are merged to this. Larger ones read
    /// faster, smaller ones cost less to read from the middle.
    pub block_bytes: usize,
    /// Records older than this are removed, by whole blocks; `None` keeps them for ever. Milliseconds. A topic may have a limit of its own.
    pub retention_ms: Option<u64>,
    /// A partition that takes more than this, as stored, loses its oldest blocks; `None` keeps them for ever. Bytes.
    pub retention_bytes: Option<u64>,
    /// Whether an append waits for the disk. Without it a power cut (not a crash of the process) may lose the last appends.
    pub sync: bool,
    /// How much is collected in memory before it becomes a file. Bytes.
    pub write_buffer_bytes: usize,
}

impl Default for EmbeddedLogSettings {
    fn default() -> Self {
        EmbeddedLogSettings { block_bytes: 256 << 10, retention_ms: None, retention_bytes: None, sync: true, write_buffer_bytes: 64 << 20 }
    }
}

/// A log in a directory. Its readers keep the directory open after it is dropped.
pub struct EmbeddedLog {
    disk: Arc<Disk>,
    settings: EmbeddedLogSettings,
    clock: Arc<dyn Clock>,
    topics: RwLock<BTreeMap<String, Arc<Topic>>>,
    /// Of topics that have limits of their own.
    retention: RwLock<BTreeMap<String, Retention>>,
    committer: Committer,
    maintenance: Mutex<()>,
    /// Of removed blocks, since their space was given back.
    removed_bytes: AtomicU64,
}

/// Less than this is not given back: it is what files and buffers take in any case.
const LEAST_GIVEN_BACK_BYTES: u64 = 16 << 20;

impl EmbeddedLog {
    /// Opens the log in `dir`, creating it when it is not there. `clock` gives record times and the age of records.
    ///
    /// # Errors
    ///
    /// [`LogError::Broken`] when another process has it open, or it is damaged; [`LogError::Unavailable`] when the disk is full.
    pub fn open(dir: &Path, settings: EmbeddedLogSettings, clock: Arc<dyn Clock>) -> Result<EmbeddedLog, LogError> {
        let disk = Disk::open(dir, &settings)?;
        let mut entries = Vec::new();
        let mut invalid = None;
        disk.walk_meta(TopicEntry::first_key(), |key, value| {
            let Some(name) = TopicEntry::name_in(key) else { return ControlFlow::Break(()) };
            match TopicEntry::decode(value) {
                Some(entry) => entries.push((name.to_owned(), entry)),
                None => invalid = Some(name.to_owned()),
            }
            ControlFlow::Continue(())
        })?;
        if let Some(name) = invalid {
            return Err(disk.damaged(&format!("what is stored of topic {name} is not valid")));
        }
        let mut topics = BTreeMap::new();
        for (name, entry) in entries {
            topics.insert(name.clone(), Arc::new(Topic::open(&disk, &name, entry)?));
        }
        Ok(EmbeddedLog {
            disk: Arc::new(disk),
            settings,
            clock,
            topics: RwLock::new(topics),
            retention: RwLock::default(),
            committer: Committer::default(),
            maintenance: Mutex::new(()),
            removed_bytes: AtomicU64::new(0),
        })
    }

    /// How much of a topic is kept from now on; limits that it does not name are those of the settings.
    pub fn set_retention(&self, topic: &str, retention: Retention) {
        self.retention.write().insert(topic.to_owned(), retention);
    }

    /// Applies retention, then merges small blocks. To be called now and then, from any thread; calls wait for each other.
    ///
    /// # Errors
    ///
    /// The first that a partition met; the others are maintained all the same.
    pub fn maintain(&self) -> Result<Maintained, LogError> {
        let now_ms = self.clock.now_ms();
        let maintained = self.for_each_partition(|topic, partition, report| {
            let retention = self.retention.read().get(&topic.name).copied().unwrap_or_default();
            let limits = retention.over(self.settings.retention_ms, self.settings.retention_bytes);
            let start = maintain::start_by_retention(&self.disk, partition, limits, now_ms)?;
            maintain::remove_below(&self.disk, partition, start, report)?;
            maintain::merge_small(&self.disk, topic, partition, self.settings.block_bytes as u64, report)
        })?;
        self.give_back(maintained.removed_bytes)?;
        Ok(maintained)
    }

    /// Gives the space of removed blocks back once they take as much as those that are kept: so it costs no more than appending those did.
    fn give_back(&self, removed_bytes: u64) -> Result<(), LogError> {
        let held = self.maintenance.lock();
        let removed_bytes = self.removed_bytes.fetch_add(removed_bytes, Ordering::Relaxed) + removed_bytes;
        let topics: Vec<Arc<Topic>> = self.topics.read().values().cloned().collect();
        let partitions = || topics.iter().flat_map(|topic| &topic.partitions);
        let kept_bytes: u64 = partitions().map(PartitionState::stored_bytes).sum();
        if removed_bytes > kept_bytes.max(LEAST_GIVEN_BACK_BYTES) {
            self.disk.give_back(&partitions().map(|partition| (partition.place, partition.start())).collect::<Vec<_>>())?;
            self.removed_bytes.store(0, Ordering::Relaxed);
        }
        drop(held);
        Ok(())
    }

    /// Merges runs of small blocks into blocks of about `block_bytes`. [`maintain`](Self::maintain) does this too.
    ///
    /// # Errors
    ///
    /// The first that a partition met; the others are merged all the same.
    pub fn compact_blocks(&self) -> Result<Maintained, LogError> {
        self.for_each_partition(|topic, partition, report| {
            maintain::merge_small(&self.disk, topic, partition, self.settings.block_bytes as u64, report)
        })
    }

    /// Forgets the records of a partition below `to`: the start of its log, for good. A start that is further on stays.
    ///
    /// # Errors
    ///
    /// [`LogError::PastEnd`] when `to` is past the end.
    pub fn truncate(&self, topic: &str, partition: Partition, to: Offset) -> Result<(), LogError> {
        let held = self.maintenance.lock();
        let topic = self.topic(topic)?;
        let state = topic.partition(partition)?;
        let end = state.end();
        if to > end {
            return Err(LogError::PastEnd { topic: topic.name.clone(), partition, position: to, end });
        }
        let result = maintain::remove_below(&self.disk, state, to, &mut Maintained::default());
        drop(held);
        result
    }

    fn for_each_partition(
        &self,
        each: impl Fn(&Topic, &PartitionState, &mut Maintained) -> Result<(), LogError>,
    ) -> Result<Maintained, LogError> {
        let held = self.maintenance.lock();
        let topics: Vec<Arc<Topic>> = self.topics.read().values().cloned().collect();
        let mut report = Maintained::default();
        let mut first_error = None;
        for topic in &topics {
            for partition in &topic.partitions {
                if let Err(error) = each(topic, partition, &mut report) {
                    first_error.get_or_insert(error);
                }
            }
        }
        drop(held);
        first_error.map_or(Ok(report), Err)
    }

    fn topic(&self, name: &str) -> Result<Arc<Topic>, LogError> {
        self.topics.read().get(name).cloned().ok_or_else(|| LogError::UnknownTopic(name.to_owned()))
    }
}

impl Log for EmbeddedLog {
    fn id(&self) -> Result<String, LogError> {
        Ok(self.disk.id().to_owned())
    }

    fn create_topic(&self, topic: &str, partitions: u32) -> Result<(), LogError> {
        check_topic(topic, partitions)?;
        let mut topics = self.topics.write();
        if topics.contains_key(topic) {
            return Ok(());
        }
        // Topics are never removed, so their number is the next free one.
        let entry = TopicEntry { id: topics.len() as u32, partitions };
        let mut batch = WriteBatch::default();
        batch.put_cf(self.disk.family(META)?, TopicEntry::key(topic), entry.encode());
        self.disk.write(batch, Durability::Synced)?;
        let opened = Topic::open(&self.disk, topic, entry)?;
        topics.insert(topic.to_owned(), Arc::new(opened));
        Ok(())
    }

    fn topics(&self) -> Result<Vec<String>, LogError> {
        Ok(self.topics.read().keys().cloned().collect())
    }

    fn partitions(&self, topic: &str) -> Result<Vec<Partition>, LogError> {
        Ok(self.topic(topic)?.partitions.iter().map(|partition| partition.place.partition).collect())
    }

    fn bounds(&self, topic: &str, partition: Partition) -> Result<Bounds, LogError> {
        Ok(self.topic(topic)?.partition(partition)?.bounds())
    }

    fn retained(&self, topic: &str) -> Result<Retained, LogError> {
        let own = self.retention.read().get(topic).copied().unwrap_or_default();
        let (retention_ms, _) = own.over(self.settings.retention_ms, self.settings.retention_bytes);
        let mut oldest_ms: Option<i64> = None;
        for partition in &self.topic(topic)?.partitions {
            let Bounds { start, end } = partition.bounds();
            // A block goes when the newest record in it is too old.
            self.disk.walk_index(partition.place, (Offset(0), end), |base, entry| {
                if base.0 + u64::from(entry.count) <= start.0 {
                    return ControlFlow::Continue(());
                }
                oldest_ms = oldest_ms.into_iter().chain([entry.last_time_ms]).min();
                ControlFlow::Break(())
            })?;
        }
        Ok(Retained { retention_ms, oldest_ms })
    }

    fn append(&self, topic: &str, records: Vec<NewRecord>) -> Result<Vec<(Partition, Offset)>, LogError> {
        let topic = self.topic(topic)?;
        check_values(&topic.name, &records)?;
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let mut layout = BlockLayout::new(topic.partitions.len(), self.settings.block_bytes);
        let places: Vec<Place> = records
            .iter()
            .map(|record| layout.add(topic.placement.partition(record, topic.partitions.len() as u32), &record.value))
            .collect();
        drop(records);
        let bases = self.committer.commit(&self.disk, self.clock.as_ref(), Append { topic, blocks: layout.finish() })?;
        places
            .into_iter()
            .map(|place| match bases.get(place.block) {
                Some(base) => Ok((place.partition, Offset(base.0 + u64::from(place.at)))),
                None => Err(self.disk.damaged("an append was given no offset")),
            })
            .collect()
    }

    fn reader(&self, topic: &str, from: &Cut) -> Result<Box<dyn LogReader>, LogError> {
        let topic = self.topic(topic)?;
        Ok(Box::new(EmbeddedReader::new(self.disk.clone(), topic, from)?))
    }
}

/// Where a record of an append is: in which of its blocks, and at which place there.
struct Place {
    partition: Partition,
    block: usize,
    at: u32,
}

/// Collects the records of an append into blocks.
struct BlockLayout {
    blocks: Vec<(Partition, BodyBuilder)>,
    /// The block that each partition is filling.
    filling: Vec<Option<usize>>,
    block_bytes: usize,
}

impl BlockLayout {
    fn new(partitions: usize, block_bytes: usize) -> BlockLayout {
        BlockLayout { blocks: Vec::new(), filling: vec![None; partitions], block_bytes }
    }

    fn add(&mut self, partition: Partition, value: &[u8]) -> Place {
        let filling = self.filling.get(partition.0 as usize).copied().flatten();
        let fits = |block: &usize| self.blocks.get(*block).is_some_and(|(_, body)| body.raw_len() + value.len() <= self.block_bytes);
        let block = filling.filter(fits).unwrap_or_else(|| {
            self.blocks.push((partition, BodyBuilder::default()));
            self.blocks.len() - 1
        });
        if let Some(filling) = self.filling.get_mut(partition.0 as usize) {
            *filling = Some(block);
        }
        let mut at = 0;
        if let Some((_, body)) = self.blocks.get_mut(block) {
            at = body.count();
            // All records of a block are appended at one time, which is known when it is sealed.
            body.push(Some(value), 0);
        }
        Place { partition, block, at }
    }

    fn finish(self) -> Vec<(Partition, super::block::Body)> {
        self.blocks.into_iter().map(|(partition, body)| (partition, body.finish())).collect()
    }
}
