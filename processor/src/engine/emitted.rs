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

/// The rows that a window is to have, or a part of it.
pub struct Wanted {
    rows: RecordBatch,
    keys: KeyArena,
    others: KeyArena,
    /// The keys of rows that it may have had while it had fewer events, and is not to have. Of a whole window that is not in doubt they are not worked
    /// out: what was emitted tells.
    excluded: KeyArena,
    is_whole: bool,
}

/// How the rows of a window differ from those that readers may see.
pub struct Changed {
    start_us: i64,
    /// New and changed rows.
    rows: RecordBatch,
    keys: KeyArena,
    others: KeyArena,
    /// The keys of rows that are no more.
    deleted: KeyArena,
}

/// The prefix of a window's emitted rows: its start, in an encoding that sorts as the time does.
pub fn window_key(start_us: i64) -> [u8; 8] {
    ((start_us as u64) ^ (1 << 63)).to_be_bytes()
}

/// Evaluates a window, or a part of it; a ranking only as a whole. If it is in doubt, what else it may have had is worked out too.
pub fn rows_of(view: &View, layout: &Layout, window: &Window, is_whole: bool, doubtful: bool) -> Result<Wanted, EngineError> {
    let (rows, excluded) = match view.ranking {
        Some(_) => {
            let excluded = doubtful.then(|| view.possible_ranks(&window.groups, &window.states)).transpose()?;
            (view.rank(&window.groups, &window.states)?, excluded)
        }
        None => {
            let rows = view.rows(&window.groups, &window.states)?;
            let excluded = (doubtful || !is_whole).then(|| filter_record_batch(&rows.rows, &not(&rows.kept)?)).transpose()?;
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
    Ok(Wanted { rows, keys, others, excluded: unwanted, is_whole })
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
    let mut emitted = wanted.emitted(state, start_us)?;
    let mut indices = Vec::new();
    let (mut keys, mut others) = (KeyArena::default(), KeyArena::default());
    for (index, (key, other)) in wanted.keys.iter().zip(wanted.others.iter()).enumerate() {
        if emitted.remove(key).is_none_or(|before| before != other) || all {
            indices.push(index as u32);
            keys.push(key);
            others.push(other);
        }
    }
    let rows = take_record_batch(&wanted.rows, &UInt32Array::from(indices))?;
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
    Ok(Changed { start_us, rows, keys, others, deleted })
}

impl Wanted {
    /// What was emitted of the window; of a part of it, what its groups had.
    fn emitted(&self, state: &dyn StateReader, start_us: i64) -> Result<HashMap<Vec<u8>, Vec<u8>>, EngineError> {
        let mut emitted = HashMap::new();
        let prefix = window_key(start_us);
        if self.is_whole {
            let end = window_key(start_us.saturating_add(1));
            state.scan(Space::Emitted, &prefix, Some(&end), &mut |key, value| {
                emitted.insert(key.get(prefix.len()..).unwrap_or_default().to_vec(), value.to_vec());
                true
            })?;
            return Ok(emitted);
        }
        let mut keys: Vec<Vec<u8>> = self.keys.iter().chain(self.excluded.iter()).map(|key| [&prefix, key].concat()).collect();
        keys.sort_unstable();
        let found = state.get_sorted(Space::Emitted, &keys.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        for (key, value) in keys.iter().zip(found) {
            emitted.extend(value.map(|value| (key.get(prefix.len()..).unwrap_or_default().to_vec(), value)));
        }
        Ok(emitted)
    }
}

impl Changed {
    /// Notes the new rows as emitted.
    pub fn put_emitted(&self, batch: &mut Batch) {
        let prefix = window_key(self.start_us);
        for (key, other) in self.keys.iter().zip(self.others.iter()) {
            batch.put(Space::Emitted, &[&prefix, key].concat(), other);
        }
        for key in self.deleted.iter() {
            batch.delete(Space::Emitted, &[&prefix, key].concat());
        }
    }

    /// The changes as rows to be written.
    pub fn into_dirty(self, layout: &Layout, sum: u64) -> Result<Vec<DirtyRows>, EngineError> {
        let mut dirty = Vec::new();
        if !self.keys.is_empty() {
            let len = self.keys.len();
            dirty.push(DirtyRows { keys: self.keys, rows: self.rows, deleted: vec![false; len], sums: vec![sum; len] });
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
