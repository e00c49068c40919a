//! The rows of assembled windows that readers may see: what a new evaluation of a window is compared with, so that
//! only rows that changed are written, and rows that are no more are deleted.

use std::collections::{HashMap, HashSet};

use datafusion::arrow::array::{BooleanArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::{filter_record_batch, not, take_record_batch};

use super::assemble::Window;
use super::dirty::DirtyRows;
use super::error::EngineError;
use super::layout::Layout;
use super::shard::KeyArena;
use crate::state::{Batch, Space, StateReader};
use crate::view::View;

/// The rows that a window is to have.
pub struct Wanted {
    rows: RecordBatch,
    keys: KeyArena,
    others: KeyArena,
    /// If the window is in doubt: the keys of rows that it may have had while it had fewer events, and is not to have.
    excluded: KeyArena,
}

/// How the rows of a window differ from those that readers may see.
pub struct Changed {
    start_us: i64,
    /// New and changed rows.
    upserts: Wanted,
    /// The keys of rows that are no more.
    deleted: KeyArena,
}

/// The prefix of a window's emitted rows: its start, in an encoding that sorts as the time does.
pub fn window_key(start_us: i64) -> [u8; 8] {
    ((start_us as u64) ^ (1 << 63)).to_be_bytes()
}

/// Evaluates a window. If it is in doubt, what else it may have had is worked out too.
pub fn rows_of(view: &View, layout: &Layout, window: &Window, doubtful: bool) -> Result<Wanted, EngineError> {
    let (rows, excluded) = match view.ranking {
        Some(_) => {
            let excluded = doubtful.then(|| view.possible_ranks(&window.groups, &window.states)).transpose()?;
            (view.rank(&window.groups, &window.states)?, excluded)
        }
        None => {
            let rows = view.rows(&window.groups, &window.states)?;
            let excluded = doubtful.then(|| filter_record_batch(&rows.rows, &not(&rows.kept)?)).transpose()?;
            (filter_record_batch(&rows.rows, &rows.kept)?, excluded)
        }
    };
    let rows = with_keys(layout, rows)?;
    let (mut keys, mut others, mut unwanted) = (KeyArena::default(), KeyArena::default(), KeyArena::default());
    for key in layout.rows.encode_keys(&rows)?.iter() {
        keys.push(key.data());
    }
    for other in layout.rows.encode_others(&rows)?.iter() {
        others.push(other.data());
    }
    if let Some(excluded) = excluded {
        let wanted: HashSet<&[u8]> = keys.iter().collect();
        for key in layout.rows.encode_keys(&with_keys(layout, excluded)?)?.iter().filter(|key| !wanted.contains(key.data())) {
            unwanted.push(key.data());
        }
    }
    Ok(Wanted { rows, keys, others, excluded: unwanted })
}

/// The rows that have a key: no NULL in it.
fn with_keys(layout: &Layout, rows: RecordBatch) -> Result<RecordBatch, EngineError> {
    let has_key: BooleanArray = (0..rows.num_rows()).map(|row| Some(layout.rows.has_key(&rows, row))).collect();
    Ok(match has_key.false_count() {
        0 => rows,
        _ => filter_record_batch(&rows, &has_key)?,
    })
}

/// Compares a window's rows with those emitted before. With `all`, rows that seem unchanged count as changed too, and what the window
/// may have had besides is deleted: another owner may have written something else.
pub fn changed(state: &dyn StateReader, start_us: i64, wanted: &Wanted, all: bool) -> Result<Changed, EngineError> {
    let prefix = window_key(start_us);
    let end = window_key(start_us.saturating_add(1));
    let mut emitted = HashMap::new();
    state.scan(Space::Emitted, &prefix, Some(&end), &mut |key, value| {
        emitted.insert(key.get(prefix.len()..).unwrap_or_default().to_vec(), value.to_vec());
        true
    })?;
    let mut indices = Vec::new();
    let mut upserts =
        Wanted { rows: wanted.rows.slice(0, 0), keys: KeyArena::default(), others: KeyArena::default(), excluded: KeyArena::default() };
    for (index, (key, other)) in wanted.keys.iter().zip(wanted.others.iter()).enumerate() {
        if emitted.remove(key).is_none_or(|before| before != other) || all {
            indices.push(index as u32);
            upserts.keys.push(key);
            upserts.others.push(other);
        }
    }
    upserts.rows = take_record_batch(&wanted.rows, &UInt32Array::from(indices))?;
    // What is left was emitted and is no more; in key order, so that equal states make equal batches.
    let mut gone: Vec<Vec<u8>> = emitted.into_keys().collect();
    if all {
        gone.extend(wanted.excluded.iter().map(<[u8]>::to_vec));
    }
    gone.sort_unstable();
    gone.dedup();
    let mut deleted = KeyArena::default();
    for key in &gone {
        deleted.push(key);
    }
    Ok(Changed { start_us, upserts, deleted })
}

impl Changed {
    /// Notes the new rows as emitted.
    pub fn put_emitted(&self, batch: &mut Batch) {
        let prefix = window_key(self.start_us);
        for (key, other) in self.upserts.keys.iter().zip(self.upserts.others.iter()) {
            batch.put(Space::Emitted, &[&prefix, key].concat(), other);
        }
        for key in self.deleted.iter() {
            batch.delete(Space::Emitted, &[&prefix, key].concat());
        }
    }

    /// The changes as rows to be written.
    pub fn into_dirty(self, layout: &Layout, sum: u64) -> Result<Vec<DirtyRows>, EngineError> {
        let mut dirty = Vec::new();
        if !self.upserts.keys.is_empty() {
            let len = self.upserts.keys.len();
            dirty.push(DirtyRows { keys: self.upserts.keys, rows: self.upserts.rows, deleted: vec![false; len], sums: vec![sum; len] });
        }
        if !self.deleted.is_empty() {
            let keys: Vec<&[u8]> = self.deleted.iter().collect();
            let rows = layout.rows.decode(&keys, &vec![None; keys.len()])?;
            let len = keys.len();
            dirty.push(DirtyRows { rows, deleted: vec![true; len], sums: vec![sum; len], keys: self.deleted });
        }
        Ok(dirty)
    }
}
