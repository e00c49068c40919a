//! Appends, one group at a time.
//!
//! Callers compress their records side by side, then queue. Whoever finds nobody writing takes all that is queued, gives out offsets and
//! record times, and writes the group as one synced batch; the others find their results there. So concurrent callers share one
//! sync, offsets have no holes whatever fails, and nobody sees a record before those in front of it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use rocksdb::WriteBatch;

use super::disk::{Disk, Durability};
use super::layout::{BLOCKS, BlockEntry, INDEX, PartitionKey};
use super::topic::Topic;
use crate::clock::Clock;
use crate::log::LogError;
use crate::log::block::Body;
use crate::position::{Offset, Partition};

/// The records of one call, as blocks in the order of each partition.
pub struct Append {
    /// The topic appended to.
    pub topic: Arc<Topic>,
    /// The blocks and where each goes.
    pub blocks: Vec<(Partition, Body)>,
}

/// The base offset that each block was given.
pub type Bases = Vec<Offset>;

#[derive(Default)]
struct Queue {
    waiting: Vec<(u64, Append)>,
    done: HashMap<u64, Result<Bases, LogError>>,
    tickets: u64,
    writing: bool,
    /// Why nothing can be appended any more.
    broken: Option<String>,
}

/// Writes appends in groups.
#[derive(Default)]
pub struct Committer {
    queue: Mutex<Queue>,
    written: Condvar,
}

/// What a group changes in a partition.
struct Tail {
    topic: Arc<Topic>,
    end: Offset,
    last_time_ms: i64,
    written_bytes: u64,
}

impl Committer {
    /// Returns once the append is durable and visible, or failed.
    pub fn commit(&self, disk: &Disk, clock: &dyn Clock, append: Append) -> Result<Bases, LogError> {
        let mut queue = self.queue.lock();
        let ticket = queue.tickets;
        queue.tickets += 1;
        queue.waiting.push((ticket, append));
        loop {
            if let Some(result) = queue.done.remove(&ticket) {
                return result;
            }
            if queue.writing {
                self.written.wait(&mut queue);
                continue;
            }
            if let Some(broken) = queue.broken.clone() {
                queue.waiting.retain(|(waiting, _)| *waiting != ticket);
                return Err(LogError::Refused(broken));
            }
            queue.writing = true;
            let group = std::mem::take(&mut queue.waiting);
            drop(queue);
            let mut turn = Turn::new(self, ticket, &group);
            turn.results = write_group(disk, clock, group, &mut turn.is_uncertain);
            drop(turn);
            queue = self.queue.lock();
        }
    }
}

/// Who writes a group. Others wait for their results: they get them when it ends, even if that is by a panic.
struct Turn<'a> {
    committer: &'a Committer,
    own: u64,
    tickets: Vec<u64>,
    results: Vec<(u64, Result<Bases, LogError>)>,
    /// Whether the group may be on disk without being known to readers and later appends.
    is_uncertain: bool,
}

impl Turn<'_> {
    fn new<'a>(committer: &'a Committer, own: u64, group: &[(u64, Append)]) -> Turn<'a> {
        let tickets = group.iter().map(|(ticket, _)| *ticket).collect();
        Turn { committer, own, tickets, results: Vec::new(), is_uncertain: false }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut queue = self.committer.queue.lock();
        queue.writing = false;
        if self.is_uncertain {
            // The next append would get offsets that the disk may have given out already.
            queue.broken =
                Some("appending to the log panicked while it wrote: restart this process, which reads what is on disk".to_owned());
        }
        if self.results.is_empty() {
            let others = self.tickets.iter().filter(|ticket| **ticket != self.own);
            let panicked = || {
                LogError::Unavailable("the append that was written together with this one panicked; it may or may not be there".to_owned())
            };
            queue.done.extend(others.map(|ticket| (*ticket, Err(panicked()))));
        }
        queue.done.extend(self.results.drain(..));
        self.committer.written.notify_all();
    }
}

fn write_group(disk: &Disk, clock: &dyn Clock, group: Vec<(u64, Append)>, is_uncertain: &mut bool) -> Vec<(u64, Result<Bases, LogError>)> {
    let now_ms = clock.now_ms();
    let mut batch = WriteBatch::default();
    let mut tails = HashMap::new();
    let mut placed = Vec::with_capacity(group.len());
    for (ticket, append) in group {
        placed.push((ticket, place(disk, append, (&mut batch, &mut tails), now_ms)));
    }
    *is_uncertain = true;
    let written = disk.write(batch, Durability::Synced);
    if written.is_ok() {
        for (place, tail) in &tails {
            if let Ok(partition) = tail.topic.partition(place.partition) {
                partition.publish(tail.end, tail.last_time_ms, tail.written_bytes);
            }
        }
    }
    *is_uncertain = false;
    match written {
        Ok(()) => {
            tails.values().for_each(|tail| tail.topic.tell_appended());
            placed
        }
        Err(error) => {
            let again = |error: &LogError| match error {
                LogError::Unavailable(message) => LogError::Unavailable(message.clone()),
                LogError::Refused(message) => LogError::Refused(message.clone()),
                other => LogError::Broken(other.to_string()),
            };
            placed.into_iter().map(|(ticket, result)| (ticket, result.and(Err(again(&error))))).collect()
        }
    }
}

/// Adds an append to the batch behind what the batch has of its partitions already.
fn place(
    disk: &Disk,
    append: Append,
    (batch, tails): (&mut WriteBatch, &mut HashMap<PartitionKey, Tail>),
    now_ms: i64,
) -> Result<Bases, LogError> {
    let (blocks, index) = (disk.family(BLOCKS)?, disk.family(INDEX)?);
    let Append { topic, blocks: bodies } = append;
    let mut bases = Vec::with_capacity(bodies.len());
    for (number, body) in bodies {
        let partition = topic.partition(number)?;
        let tail = tails.entry(partition.place).or_insert_with(|| Tail {
            topic: topic.clone(),
            end: partition.end(),
            last_time_ms: partition.last_time_ms(),
            written_bytes: 0,
        });
        let base = tail.end;
        let time_ms = tail.last_time_ms.max(now_ms);
        let key = partition.place.block(base);
        let (count, raw_len) = (body.count(), body.raw_len());
        let block = body.seal(&key, time_ms);
        let entry = BlockEntry { count, raw_len, stored_len: block.len() as u32, first_time_ms: time_ms, last_time_ms: time_ms };
        batch.put_cf(blocks, key, &block);
        batch.put_cf(index, key, entry.encode());
        tail.end = Offset(base.0 + u64::from(count));
        tail.last_time_ms = time_ms;
        tail.written_bytes += block.len() as u64;
        bases.push(base);
    }
    Ok(bases)
}
