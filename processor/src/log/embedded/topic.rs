//! What is kept in memory of a topic: the bounds of its partitions, and the signal that wakes waiting readers.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::disk::Disk;
use super::layout::{PartitionKey, StartEntry, TopicEntry};
use crate::log::placement::{Placement, no_such_partition};
use crate::log::{Bounds, LogError};
use crate::position::{Offset, Partition};

/// A topic that is open.
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionState>,
    /// Decides which partition a record goes to.
    pub placement: Placement,
    signal: Mutex<()>,
    appended: Condvar,
}

impl Topic {
    /// Reads what is stored of a topic.
    pub fn open(disk: &Disk, name: &str, entry: TopicEntry) -> Result<Topic, LogError> {
        let places = (0..entry.partitions).map(|number| PartitionKey { topic: entry.id, partition: Partition(number) });
        Ok(Topic {
            name: name.to_owned(),
            partitions: places.map(|place| PartitionState::open(disk, name, place)).collect::<Result<_, _>>()?,
            placement: Placement::default(),
            signal: Mutex::new(()),
            appended: Condvar::new(),
        })
    }

    /// One of the partitions.
    pub fn partition(&self, partition: Partition) -> Result<&PartitionState, LogError> {
        self.partitions.get(partition.0 as usize).ok_or_else(|| no_such_partition(&self.name, partition, self.partitions.len()))
    }

    /// Wakes all readers that wait; called after the new ends are visible.
    pub fn tell_appended(&self) {
        // Taking the lock once puts the new ends either before a reader's last look or behind its falling asleep.
        drop(self.signal.lock());
        self.appended.notify_all();
    }

    /// Sleeps until `idle` is no longer true, at most for `wait`.
    pub fn wait_while(&self, mut idle: impl FnMut() -> bool, wait: Duration) {
        let mut signal = self.signal.lock();
        self.appended.wait_while_for(&mut signal, |()| idle(), wait);
    }
}

/// A partition that is open.
pub struct PartitionState {
    /// Its name in keys.
    pub place: PartitionKey,
    start: AtomicU64,
    end: AtomicU64,
    last_time_ms: AtomicI64,
    stored_bytes: AtomicU64,
    merged_to: AtomicU64,
    moving_start: Mutex<()>,
}

impl PartitionState {
    fn open(disk: &Disk, topic: &str, place: PartitionKey) -> Result<PartitionState, LogError> {
        let removed = match disk.meta(&place.start())? {
            None => StartEntry { start: Offset(0), time_floor_ms: i64::MIN },
            Some(bytes) => StartEntry::decode(&bytes)
                .ok_or_else(|| disk.damaged(&format!("the stored start of {topic}/{} is not valid", place.partition)))?,
        };
        let mut stored_bytes = 0;
        let mut last_time_ms = removed.time_floor_ms;
        let mut end = None;
        let mut gap = None;
        disk.walk_index(place, (Offset(0), Offset(u64::MAX)), |base, entry| {
            if end.is_some_and(|end| end != base) {
                gap = Some(base);
                return ControlFlow::Break(());
            }
            stored_bytes += u64::from(entry.stored_len);
            last_time_ms = last_time_ms.max(entry.last_time_ms);
            end = Some(Offset(base.0 + u64::from(entry.count)));
            ControlFlow::Continue(())
        })?;
        if let Some(base) = gap {
            return Err(disk.damaged(&format!("records are missing before offset {base} of {topic}/{}", place.partition)));
        }
        Ok(PartitionState {
            place,
            start: AtomicU64::new(removed.start.0),
            end: AtomicU64::new(end.unwrap_or_default().max(removed.start).0),
            last_time_ms: AtomicI64::new(last_time_ms),
            stored_bytes: AtomicU64::new(stored_bytes),
            merged_to: AtomicU64::new(0),
            moving_start: Mutex::new(()),
        })
    }

    /// The offset of the oldest record kept.
    pub fn start(&self) -> Offset {
        Offset(self.start.load(Ordering::Acquire))
    }

    /// The position of the next record; everything below it is durable.
    pub fn end(&self) -> Offset {
        Offset(self.end.load(Ordering::Acquire))
    }

    /// Start and end.
    pub fn bounds(&self) -> Bounds {
        let start = self.start();
        Bounds { start, end: self.end() }
    }

    /// The largest record time so far.
    pub fn last_time_ms(&self) -> i64 {
        self.last_time_ms.load(Ordering::Acquire)
    }

    /// The bytes of all blocks, as stored.
    pub fn stored_bytes(&self) -> u64 {
        self.stored_bytes.load(Ordering::Acquire)
    }

    /// Below this, small blocks were merged already.
    pub fn merged_to(&self) -> Offset {
        Offset(self.merged_to.load(Ordering::Acquire))
    }

    /// Makes written records visible. Only the committer calls this.
    pub fn publish(&self, end: Offset, last_time_ms: i64, written_bytes: u64) {
        self.stored_bytes.fetch_add(written_bytes, Ordering::AcqRel);
        self.last_time_ms.store(last_time_ms, Ordering::Release);
        self.end.store(end.0, Ordering::Release);
    }

    /// Says that merging has come to `to` and changed the stored bytes. Only maintenance calls this.
    pub fn merged(&self, to: Offset) {
        self.merged_to.store(to.0, Ordering::Release);
    }

    /// Says that blocks were replaced by others, or removed. Only maintenance calls this.
    pub fn replaced(&self, old_bytes: u64, new_bytes: u64) {
        self.stored_bytes.fetch_add(new_bytes, Ordering::AcqRel);
        self.stored_bytes.fetch_sub(old_bytes, Ordering::AcqRel);
    }

    /// Keeps the start still, or for who moves it, keeps those away who need it to agree with the disk.
    pub fn hold_start(&self) -> MutexGuard<'_, ()> {
        self.moving_start.lock()
    }

    /// Moves the start forward, once that is on disk. Only maintenance calls this, holding the start.
    pub fn started_at(&self, start: Offset) {
        self.start.fetch_max(start.0, Ordering::AcqRel);
    }
}
