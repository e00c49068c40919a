//! Reading: whole blocks, decompressed one behind the other into one buffer, handed out without copying a record.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rocksdb::DBRawIterator;

use super::disk::Disk;
use super::layout::base_of;
use super::topic::{PartitionState, Topic};
use crate::log::block::Block;
use crate::log::run::Run;
use crate::log::{LogError, LogReader, Records};
use crate::position::{Cut, Offset, Partition};

/// Offsets in a buffer are 32 bits wide; a run stays far below that.
const MAX_RUN_BYTES: usize = 1 << 30;

/// Reads some partitions of a topic in turn.
pub struct EmbeddedReader {
    disk: Arc<Disk>,
    topic: Arc<Topic>,
    follows: Vec<Follow>,
    turn: usize,
}

/// A partition that is read.
struct Follow {
    partition: Partition,
    position: Offset,
    /// Decompressed, not handed out yet; its next record is at `position`.
    ahead: Option<Run>,
    /// How much the last run from disk held, as a guess at the next.
    last_run_bytes: usize,
}

impl EmbeddedReader {
    /// A reader that starts at the positions of `from`.
    pub fn new(disk: Arc<Disk>, topic: Arc<Topic>, from: &Cut) -> Result<EmbeddedReader, LogError> {
        let mut follows = Vec::new();
        for (partition, position) in from.iter() {
            topic.partition(partition)?;
            follows.push(Follow { partition, position, ahead: None, last_run_bytes: 0 });
        }
        Ok(EmbeddedReader { disk, topic, follows, turn: 0 })
    }

    /// The next run of the partition whose turn it is, or of the first behind it that has one.
    fn next(&mut self, max_bytes: usize) -> Result<Option<Records>, LogError> {
        for _ in 0..self.follows.len() {
            let turn = self.turn % self.follows.len();
            self.turn = turn + 1;
            if let Some(follow) = self.follows.get_mut(turn)
                && let Some(records) = follow.next(&self.disk, &self.topic, max_bytes)?
            {
                return Ok(Some(records));
            }
        }
        Ok(None)
    }

    fn is_at_end(&self) -> bool {
        self.follows.iter().all(|follow| self.topic.partition(follow.partition).is_ok_and(|partition| partition.end() == follow.position))
    }
}

impl LogReader for EmbeddedReader {
    fn read(&mut self, max_bytes: usize, wait: Duration) -> Result<Option<Records>, LogError> {
        let max_bytes = max_bytes.min(MAX_RUN_BYTES);
        if let Some(records) = self.next(max_bytes)? {
            return Ok(Some(records));
        }
        if wait.is_zero() {
            return Ok(None);
        }
        self.topic.wait_while(|| self.is_at_end(), wait);
        self.next(max_bytes)
    }
}

impl Follow {
    fn next(&mut self, disk: &Disk, topic: &Topic, max_bytes: usize) -> Result<Option<Records>, LogError> {
        let partition = topic.partition(self.partition)?;
        let bounds = partition.bounds();
        let (end, position) = (bounds.end, self.position);
        if position < bounds.start {
            return Err(self.hole(topic, bounds.start));
        }
        if position > end {
            return Err(LogError::PastEnd { topic: topic.name.clone(), partition: self.partition, position, end });
        }
        if position == end {
            return Ok(None);
        }
        let mut run = match self.ahead.take() {
            Some(run) => run,
            None => self.read_run(disk, topic, (partition, end), max_bytes)?,
        };
        let (spans, payload) = run.take(max_bytes);
        self.position = spans.last().map_or(position, |last| last.offset.next());
        if !run.is_empty() {
            self.ahead = Some(run);
        }
        Ok(Some(Records { partition: self.partition, spans, payload, next: self.position, end }))
    }

    /// Reads the block that holds the position, and those behind it that fit into `max_bytes` with it.
    fn read_run(
        &mut self,
        disk: &Disk,
        topic: &Topic,
        (partition, end): (&PartitionState, Offset),
        max_bytes: usize,
    ) -> Result<Run, LogError> {
        let mut blocks = disk.blocks(partition.place, end, max_bytes)?;
        let mut values = Vec::with_capacity(self.last_run_bytes.min(max_bytes));
        let mut spans = Vec::new();
        let mut next = None;
        seek(&mut blocks, &partition.place.block(self.position));
        while let Some((key, bytes)) = blocks.item() {
            let base = base_of(key).ok_or_else(|| disk.damaged("a block has a key that is not one"))?;
            let block = Block::open(key, bytes).map_err(|damage| damage.at(&topic.name, self.partition, base))?;
            let behind = Offset(base.0 + u64::from(block.count()));
            let follows_on = match next {
                None => base <= self.position && self.position < behind,
                Some(next) => base == next,
            };
            if !follows_on || (next.is_some() && values.len() + block.values_len() > max_bytes) {
                break;
            }
            block.read_into(base, &mut values, &mut spans).map_err(|damage| damage.at(&topic.name, self.partition, base))?;
            next = Some(behind);
            if values.len() >= max_bytes {
                break;
            }
            blocks.next();
        }
        blocks.status().map_err(|error| disk.failed(&error))?;
        if spans.is_empty() {
            return Err(self.missing(disk, topic, partition));
        }
        self.last_run_bytes = values.len();
        let taken = spans.partition_point(|span| span.offset < self.position);
        Ok(Run::new(spans, Bytes::from(values), taken))
    }

    /// Why there is no block at the position: it was removed since the bounds were read, or never should have been missing.
    fn missing(&self, disk: &Disk, topic: &Topic, partition: &PartitionState) -> LogError {
        let held = partition.hold_start();
        let start = partition.start();
        drop(held);
        if self.position < start {
            return self.hole(topic, start);
        }
        disk.damaged(&format!("no block holds offset {} of {}/{}", self.position, topic.name, self.partition))
    }

    fn hole(&self, topic: &Topic, log_start: Offset) -> LogError {
        LogError::Hole { topic: topic.name.clone(), partition: self.partition, position: self.position, log_start }
    }
}

/// Goes to the block at `key`, or to the last one before it. Reading on, the position is where a block starts, unless blocks were
/// merged meanwhile; that way no direction is turned, which costs.
fn seek(blocks: &mut DBRawIterator<'_>, key: &[u8]) {
    blocks.seek(key);
    if blocks.key() != Some(key) {
        blocks.seek_for_prev(key);
    }
}
