//! One version as a feed sees it: where it is, and the mapping of chunks for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{SendTimeoutError, TrySendError};

use super::{Consumer, Message};
use crate::engine::error::EngineError;
use crate::engine::map::{Before, Chunk, ChunkMapper, Mapped};
use crate::engine::pace::On;
use crate::engine::watermark::LastRecord;
use crate::log::LogError;
use crate::position::{Offset, Partition};
use crate::recovery::Recovery;

/// What became of a chunk that was to be handed over.
pub(super) enum Handed {
    /// The fold has it.
    Taken,
    /// The fold has ended.
    Gone,
    /// The fold is busy, and takes no more for now.
    Full(Box<Mapped>),
}

/// One version that a feed serves, for the feed's partitions.
pub(super) struct Served {
    pub(super) consumer: Consumer,
    mapper: ChunkMapper,
    before: BTreeMap<Partition, Before>,
    /// Partitions of which nothing more is for the version.
    ended: BTreeSet<Partition>,
}

impl Served {
    pub(super) fn new(consumer: Consumer, partitions: &[Partition]) -> Result<Served, EngineError> {
        let mapper = ChunkMapper::new(&consumer.view, consumer.rules.clone(), consumer.shards)?;
        let before = partitions
            .iter()
            .map(|partition| {
                let time = consumer.times.get(partition).copied().unwrap_or_default();
                (*partition, Before { position: consumer.cut.position(*partition), time, dropped_to_us: None })
            })
            .collect();
        let ended = consumer.ended.iter().copied().filter(|partition| partitions.contains(partition)).collect();
        Ok(Served { consumer, mapper, before, ended })
    }

    /// Whether nothing of any partition is for the version any more.
    pub(super) fn is_over(&self) -> bool {
        !self.before.is_empty() && self.before.keys().all(|partition| self.ended.contains(partition))
    }

    /// What is known before the next chunk of a partition.
    pub(super) fn before(&self, partition: Partition) -> Option<&Before> {
        self.before.get(&partition)
    }

    /// The position after the last chunk handed over; `None`: nothing of the partition is for the version, or not any more.
    pub(super) fn position(&self, partition: Partition) -> Option<Offset> {
        self.before(partition).filter(|_| !self.ended.contains(&partition)).map(|before| before.position)
    }

    /// The last record that was taken of a partition, of which more is for the version.
    pub(super) fn last(&self, partition: Partition) -> Option<LastRecord> {
        self.before(partition).filter(|_| !self.ended.contains(&partition)).and_then(|before| before.time.last)
    }

    /// Whether the last record that was taken is still what it was, as far as this chunk has it: a version that is further than others of its feed.
    fn check_last(&self, topic: &str, chunk: &Chunk) -> Result<(), EngineError> {
        let Some(last) = self.last(chunk.partition()).filter(|last| last.offset >= chunk.from) else { return Ok(()) };
        let spans = &chunk.records.spans;
        let found = spans.binary_search_by_key(&last.offset, |span| span.offset).ok().and_then(|index| spans.get(index));
        match found.is_none_or(|span| LastRecord::of(&chunk.records, span) == last) {
            true => Ok(()),
            false => Err(LogError::Replaced { topic: topic.to_owned(), partition: chunk.partition(), offset: last.offset }.into()),
        }
    }

    /// Maps a chunk of a topic and hands it over, if the fold takes it at once. The time that mapping takes is added to `mapping`.
    ///
    /// # Errors
    /// When the version has read another log than this one, or its view cannot be mapped.
    #[allow(clippy::disallowed_methods, reason = "paces reads, and reaches no row")]
    pub(super) fn take(&mut self, topic: &str, chunk: &Arc<Chunk>, mapping: &mut Duration) -> Result<Handed, EngineError> {
        if self.ended.contains(&chunk.partition()) {
            return Ok(Handed::Taken);
        }
        self.check_last(topic, chunk)?;
        let before = self.before.entry(chunk.partition()).or_default();
        if chunk.records.next <= before.position {
            return Ok(Handed::Taken);
        }
        let dropped_to_us = self.consumer.dropped_to_us.load(Ordering::Relaxed);
        before.dropped_to_us = (dropped_to_us != i64::MIN).then_some(dropped_to_us);
        let begun = std::time::Instant::now();
        let mapped = Box::new(self.mapper.map(chunk, *before)?);
        let took = begun.elapsed();
        self.consumer.pace.spend(On::Working, took);
        self.consumer.pace.took(begun, chunk.records.spans.len() as u64);
        *mapping += took;
        Ok(self.hand_over(mapped, Duration::ZERO))
    }

    /// Hands a mapped chunk over, within `wait`.
    pub(super) fn hand_over(&mut self, mapped: Box<Mapped>, wait: Duration) -> Handed {
        let (partition, time, next) = (mapped.chunk.partition(), mapped.time, mapped.chunk.records.next);
        let is_last = mapped.chunk.is_last;
        match self.consumer.sender.send_timeout(Message::Mapped(mapped), wait) {
            Ok(()) => {
                let before = self.before.entry(partition).or_default();
                before.time = time;
                before.position = next;
                if is_last {
                    self.ended.insert(partition);
                }
                Handed::Taken
            }
            Err(SendTimeoutError::Timeout(Message::Mapped(mapped))) => Handed::Full(mapped),
            Err(_) => Handed::Gone,
        }
    }

    /// Tells the fold that nothing more is read for its version, and why. A fold that is gone needs no news.
    pub(super) fn refuse(&self, error: impl Into<EngineError>) {
        let _ = self.consumer.sender.send(Message::Failed(error.into()));
    }

    /// Sends a message that the next of its kind replaces: a fold that is busy goes without it. `false`: the fold has ended.
    pub(super) fn offer(&self, message: Message) -> bool {
        !matches!(self.consumer.sender.try_send(message), Err(TrySendError::Disconnected(_)))
    }
}

impl Drop for Served {
    /// Whoever drops a version leaves its partitions without a reader, which its fold has to know: the other threads that read for it keep its
    /// channel open. A fold that has ended, or hears why before, needs no news.
    fn drop(&mut self) {
        if self.is_over() {
            return;
        }
        let text = "the thread that reads the log for this version has ended; it is opened again".to_owned();
        let message = Message::Failed(EngineError::Unreadable { text, recovery: Recovery::Transient });
        let _ = self.consumer.sender.send_timeout(message, LONGEST_FAREWELL);
    }
}

/// A fold that takes nothing for this long is stuck for another reason.
const LONGEST_FAREWELL: Duration = Duration::from_secs(60);
