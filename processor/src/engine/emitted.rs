//! The rows of assembled windows that readers may see: what a new evaluation of a window is compared with, so that
//! only rows that changed are written, and rows that are no more are deleted.

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
    /// The keys of groups that are to have no row (HAVING).
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

/// Evaluates a window.
pub fn rows_of(view: &View, layout: &Layout, window: &Window) -> Result<Wanted, EngineError> {
    let (rows, not_kept) = match view.ranking {
        Some(_) => (view.rank(&window.groups, &window.states)?, None),
        None => {
            let rows = view.rows(&window.groups, &window.states)?;
            let not_kept = filter_record_batch(&rows.rows, &not(&rows.kept)?)?;
            (filter_record_batch(&rows.rows, &rows.kept)?, Some(not_kept))
        }
    };
    let has_key: BooleanArray = (0..rows.num_rows()).map(|row| Some(layout.rows.has_key(&rows, row))).collect();
    let rows = match has_key.false_count() {
        0 => rows,
        _ => filter_record_batch(&rows, &has_key)?,
    };
    let mut wanted = Wanted { keys: KeyArena::default(), others: KeyArena::default(), excluded: KeyArena::default(), rows };
    if let Some(not_kept) = not_kept {
        let has_key: BooleanArray = (0..not_kept.num_rows()).map(|row| Some(layout.rows.has_key(&not_kept, row))).collect();
        for key in layout.rows.encode_keys(&filter_record_batch(&not_kept, &has_key)?)?.iter() {
            wanted.excluded.push(key.data());
        }
    }
    for key in layout.rows.encode_keys(&wanted.rows)?.iter() {
        wanted.keys.push(key.data());
    }
    for other in layout.rows.encode_others(&wanted.rows)?.iter() {
        wanted.others.push(other.data());
    }
    Ok(wanted)
}

/// Compares a window's rows with those emitted before. With `all`, rows that seem unchanged count as changed too, and groups
/// without a row are deleted: another owner may have written something else.
pub fn changed(state: &dyn StateReader, start_us: i64, wanted: &Wanted, all: bool) -> Result<Changed, EngineError> {
    let prefix = window_key(start_us);
    let end = window_key(start_us.saturating_add(1));
    let mut emitted = std::collections::HashMap::new();
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
