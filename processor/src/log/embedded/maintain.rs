//! What the log does to itself from time to time: it forgets what is too old or too much, and merges small blocks into large ones.
//!
//! Readers and appenders go on meanwhile. A reader sees one moment of the log in each call, so it finds a record in the small
//! block or in the merged one; removal moves the start of the log in the same batch that removes the blocks.

use std::ops::ControlFlow;

use rocksdb::WriteBatch;

use super::disk::{Disk, Durability};
use super::layout::{BLOCKS, BlockEntry, INDEX, META, StartEntry, base_of};
use super::topic::{PartitionState, Topic};
use crate::log::block::{Block, BodyBuilder, Damage};
use crate::log::{Bounds, LogError};
use crate::position::Offset;

/// How many runs are looked for before they are merged.
const RUNS_AT_ONCE: usize = 64;

/// What a call of maintenance did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Small blocks that are gone.
    pub merged_blocks: u64,
    /// Larger blocks that took their place.
    pub written_blocks: u64,
    /// Records that were removed.
    pub removed_records: u64,
    /// The bytes they took, as stored.
    pub removed_bytes: u64,
}

/// Where retention wants the log of a partition to start: the greatest age of a record in milliseconds, and the most bytes of a partition.
pub fn start_by_retention(
    disk: &Disk,
    partition: &PartitionState,
    (retention_ms, retention_bytes): (Option<u64>, Option<u64>),
    now_ms: i64,
) -> Result<Offset, LogError> {
    let Bounds { start, end } = partition.bounds();
    if retention_ms.is_none() && retention_bytes.is_none() {
        return Ok(start);
    }
    let oldest_ms = retention_ms.map(|age_ms| now_ms.saturating_sub_unsigned(age_ms));
    let mut kept_bytes = partition.stored_bytes();
    let mut wanted = start;
    disk.walk_index(partition.place, (Offset(0), end), |base, entry| {
        let behind = Offset(base.0 + u64::from(entry.count));
        let too_old = oldest_ms.is_some_and(|oldest_ms| entry.last_time_ms < oldest_ms);
        // The newest block stays, however large: a limit in bytes must not make a record vanish as soon as it is appended.
        let too_much = behind < end && retention_bytes.is_some_and(|most| kept_bytes > most);
        if !too_old && !too_much {
            return ControlFlow::Break(());
        }
        kept_bytes = kept_bytes.saturating_sub(u64::from(entry.stored_len));
        wanted = wanted.max(behind);
        ControlFlow::Continue(())
    })?;
    Ok(wanted)
}

/// Moves the start of a partition's log to `to` and removes the blocks that are wholly below it.
pub fn remove_below(disk: &Disk, partition: &PartitionState, to: Offset, report: &mut Maintained) -> Result<(), LogError> {
    let start = partition.start();
    if to <= start {
        return Ok(());
    }
    let mut removed_bytes = 0;
    let mut kept_from = Offset(0);
    disk.walk_index(partition.place, (Offset(0), to), |base, entry| {
        let behind = Offset(base.0 + u64::from(entry.count));
        if behind > to {
            return ControlFlow::Break(());
        }
        removed_bytes += u64::from(entry.stored_len);
        kept_from = behind;
        ControlFlow::Continue(())
    })?;
    let mut batch = WriteBatch::default();
    let entry = StartEntry { start: to, time_floor_ms: partition.last_time_ms() };
    batch.put_cf(disk.family(META)?, partition.place.start(), entry.encode());
    for family in [BLOCKS, INDEX] {
        batch.delete_range_cf(disk.family(family)?, partition.place.block(Offset(0)), partition.place.block(kept_from));
    }
    let held = partition.hold_start();
    disk.write(batch, Durability::Synced)?;
    partition.started_at(to);
    drop(held);
    partition.replaced(removed_bytes, 0);
    report.removed_records += to.0 - start.0;
    report.removed_bytes += removed_bytes;
    match kept_from.0.checked_sub(1) {
        Some(last) => disk.drop_files(partition.place, Offset(last)),
        None => Ok(()),
    }
}

/// Adjacent blocks that together make a large one.
#[derive(Default)]
struct Run {
    bases: Vec<Offset>,
    raw_bytes: u64,
    stored_bytes: u64,
    behind: Offset,
}

impl Run {
    fn add(&mut self, base: Offset, entry: &BlockEntry) {
        self.bases.push(base);
        self.raw_bytes += u64::from(entry.raw_len);
        self.stored_bytes += u64::from(entry.stored_len);
        self.behind = Offset(base.0 + u64::from(entry.count));
    }
}

/// Merges runs of adjacent blocks smaller than half of `block_bytes` into blocks of up to that size. The newest run waits until it is full.
pub fn merge_small(
    disk: &Disk,
    topic: &Topic,
    partition: &PartitionState,
    block_bytes: u64,
    report: &mut Maintained,
) -> Result<(), LogError> {
    loop {
        let (runs, merged_to) = find_runs(disk, partition, block_bytes)?;
        let more = runs.len() >= RUNS_AT_ONCE;
        for run in runs {
            merge(disk, topic, partition, &run)?;
            report.merged_blocks += run.bases.len() as u64;
            report.written_blocks += 1;
        }
        partition.merged(merged_to);
        if !more {
            return Ok(());
        }
    }
}

/// The next full runs, and the offset before which nothing is left to merge once they are.
fn find_runs(disk: &Disk, partition: &PartitionState, block_bytes: u64) -> Result<(Vec<Run>, Offset), LogError> {
    let mut runs = Vec::new();
    let mut open = Run::default();
    let from = partition.merged_to();
    let mut merged_to = from;
    disk.walk_index(partition.place, (from, partition.end()), |base, entry| {
        let small = u64::from(entry.raw_len) < block_bytes / 2;
        if !small || open.raw_bytes + u64::from(entry.raw_len) > block_bytes {
            let full = std::mem::take(&mut open);
            if full.bases.len() > 1 {
                runs.push(full);
            }
            merged_to = base;
        }
        if runs.len() >= RUNS_AT_ONCE {
            return ControlFlow::Break(());
        }
        if small {
            open.add(base, &entry);
        } else {
            merged_to = Offset(base.0 + u64::from(entry.count));
        }
        ControlFlow::Continue(())
    })?;
    Ok((runs, merged_to))
}

fn merge(disk: &Disk, topic: &Topic, partition: &PartitionState, run: &Run) -> Result<(), LogError> {
    let Some(first) = run.bases.first().copied() else { return Ok(()) };
    let mut builder = BodyBuilder::default();
    let mut values = Vec::new();
    let mut spans = Vec::new();
    let mut blocks = disk.blocks(partition.place, run.behind, run.stored_bytes as usize)?;
    blocks.seek(partition.place.block(first));
    let mut next = first;
    while let Some((key, bytes)) = blocks.item() {
        let base = base_of(key).filter(|base| *base == next).ok_or_else(|| {
            disk.damaged(&format!("no block at offset {next} of {}/{}, though the index has it", topic.name, partition.place.partition))
        })?;
        let at_block = |damage: Damage| damage.at(&topic.name, partition.place.partition, base);
        let block = Block::open(key, bytes).map_err(at_block)?;
        block.read_into(base, &mut values, &mut spans).map_err(at_block)?;
        next = Offset(base.0 + u64::from(block.count()));
        blocks.next();
    }
    blocks.status().map_err(|error| disk.failed(&error))?;
    let (Some(oldest), Some(newest)) = (spans.first(), spans.last()) else { return Ok(()) };
    let (first_time_ms, last_time_ms) = (oldest.record_time_ms, newest.record_time_ms);
    for span in &spans {
        let start = span.start as usize;
        let value = span.len.and_then(|len| values.get(start..start + len as usize));
        builder.push(value, span.record_time_ms);
    }
    let body = builder.finish();
    let (count, raw_len) = (body.count(), body.raw_len());
    let key = partition.place.block(first);
    let block = body.seal(&key, first_time_ms);
    let entry = BlockEntry { count, raw_len, stored_len: block.len() as u32, first_time_ms, last_time_ms };
    let mut batch = WriteBatch::default();
    let families = (disk.family(BLOCKS)?, disk.family(INDEX)?);
    for base in run.bases.iter().skip(1) {
        batch.delete_cf(families.0, partition.place.block(*base));
        batch.delete_cf(families.1, partition.place.block(*base));
    }
    batch.put_cf(families.0, key, &block);
    batch.put_cf(families.1, key, entry.encode());
    // Nothing is lost when a power cut undoes this: the small blocks are back then.
    disk.write(batch, Durability::Lazy)?;
    partition.replaced(run.stored_bytes, block.len() as u64);
    Ok(())
}
