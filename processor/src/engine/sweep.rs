//! Writing the rows of many windows at once, straight from committed state, in the order of the view's partition key.
//!
//! A version without readers does not write rows at every commit but sweeps windows once they have closed: then a replay writes
//! about as many rows as the view has. That a window is not swept yet is itself the durable note that its rows are due, so a sweep
//! needs no dirty rows: if it does not finish, it is done again.

use std::collections::BTreeSet;

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, UInt32Array};
use datafusion::arrow::compute::{filter, filter_record_batch, take_record_batch};

use super::dirty::write_timestamp;
use super::error::EngineError;
use super::layout::Layout;
use super::shard::KeyArena;
use crate::state::{Space, StateReader};
use crate::store::RowBatch;
use crate::table::Epoch;
use crate::view::View;

/// A sweep to be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sweep {
    /// The panes whose rows to write; `None`: all groups of a view without windows.
    pub panes: Option<BTreeSet<i64>>,
    /// Windows that end at or before this time are swept with it; `None`: it is the last sweep, after which rows are written at every commit.
    pub to_us: Option<i64>,
    /// The sum of positions when it was made. State read later is at least as new, so the rows' write timestamps never claim too much.
    pub sum: u64,
    /// Whether the rows of groups that are not kept (HAVING) are deleted: a former owner may have written them.
    pub delete_excluded: bool,
}

/// What a sweep reads from and writes as.
pub struct Sweeper<'a> {
    /// The view.
    pub view: &'a View,
    /// Its layout.
    pub layout: &'a Layout,
    /// Committed state.
    pub state: &'a dyn StateReader,
    /// The owner's epoch.
    pub epoch: Epoch,
    /// How many rows are sorted and written at a time; bounds the memory.
    pub max_rows: usize,
}

impl Sweeper<'_> {
    /// Hands all rows of the sweep to `write`, in batches sorted by row key.
    pub fn run(&self, sweep: &Sweep, write: &mut dyn FnMut(RowBatch) -> Result<(), EngineError>) -> Result<(), EngineError> {
        let mut groups = Groups::default();
        match (&sweep.panes, self.view.window, &self.layout.panes) {
            (Some(panes), Some(window), Some(prefix)) => {
                for pane in panes {
                    let end = prefix.bytes(pane.saturating_add(window.pane_us))?;
                    self.collect(prefix.bytes(*pane)?, Some(&end), sweep, &mut groups, write)?;
                }
            }
            _ => self.collect(Vec::new(), None, sweep, &mut groups, write)?,
        }
        self.flush(&mut groups, sweep, write)
    }

    fn collect(
        &self,
        mut from: Vec<u8>,
        to: Option<&[u8]>,
        sweep: &Sweep,
        groups: &mut Groups,
        write: &mut dyn FnMut(RowBatch) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        loop {
            let room = self.max_rows.saturating_sub(groups.keys.len()).max(1);
            let before = groups.keys.len();
            self.state.scan(Space::Groups, &from, to, &mut |key, value| {
                groups.keys.push(key);
                groups.states.push(value);
                groups.keys.len() - before < room
            })?;
            if groups.keys.len() - before < room {
                return Ok(());
            }
            from = [groups.keys.get(groups.keys.len() - 1), &[0]].concat();
            self.flush(groups, sweep, write)?;
        }
    }

    fn flush(
        &self,
        groups: &mut Groups,
        sweep: &Sweep,
        write: &mut dyn FnMut(RowBatch) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let groups = std::mem::take(groups);
        if groups.keys.is_empty() {
            return Ok(());
        }
        let columns: Vec<ArrayRef> = self.layout.keys.decode(groups.keys.iter())?;
        let states = self.layout.states.decode(groups.states.iter())?;
        let evaluated = self.view.rows(&columns, &states)?;
        let written: BooleanArray = (0..evaluated.rows.num_rows())
            .map(|row| Some((evaluated.kept.value(row) || sweep.delete_excluded) && self.layout.rows.has_key(&evaluated.rows, row)))
            .collect();
        let rows = filter_record_batch(&evaluated.rows, &written)?;
        let kept = filter(&evaluated.kept, &written)?;
        let keys = self.layout.rows.encode_keys(&rows)?;
        let mut order: Vec<u32> = (0..rows.num_rows() as u32).collect();
        order.sort_unstable_by(|a, b| keys.row(*a as usize).cmp(&keys.row(*b as usize)));
        let deleted = order.iter().map(|row| !kept.as_boolean().value(*row as usize)).collect();
        let rows = take_record_batch(&rows, &UInt32Array::from(order))?;
        let written_at = vec![write_timestamp(self.epoch, sweep.sum)?; rows.num_rows()];
        write(RowBatch { rows, written_at, deleted })
    }
}

#[derive(Default)]
struct Groups {
    keys: KeyArena,
    states: KeyArena,
}
