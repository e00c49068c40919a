//! Writing the rows of many windows at once, straight from committed state, in the order of the view's partition key.
//!
//! A version without readers does not write rows at every commit but sweeps windows once they have closed: then a replay writes
//! about as many rows as the view has. That a window is not swept yet is itself the durable note that its rows are due, so a sweep
//! needs no dirty rows: if it does not finish, it is done again.

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BTreeSet, BinaryHeap};

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, UInt32Array};
use datafusion::arrow::compute::{filter, filter_record_batch, take_record_batch};

use super::codec::following;
use super::dirty::write_timestamp;
use super::error::EngineError;
use super::layout::Layout;
use super::shard::KeyArena;
use crate::state::{Lookup, Space};
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
    /// Whether the rows of groups that are not kept (HAVING) are deleted: a former owner may have written them.
    pub delete_excluded: bool,
}

/// What a sweep reads from and writes as.
pub struct Sweeper<'a> {
    /// The view.
    pub view: &'a View,
    /// Its layout.
    pub layout: &'a Layout,
    /// A snapshot of committed state.
    pub state: &'a dyn Lookup,
    /// The sum of its positions: what is committed while it is swept is newer by write timestamp too, whichever is written first.
    pub sum: u64,
    /// The owner's epoch.
    pub epoch: Epoch,
    /// About how many rows are sorted and written at a time; bounds the memory.
    pub max_rows: usize,
    /// What all panes of a round together read ahead, bytes.
    pub read_ahead_bytes: usize,
}

/// Where a sweep goes on: every row before is in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// Rounds of panes that are done.
    rounds: usize,
    /// The last group of the next round that is done, less its pane's start.
    after: Option<Vec<u8>>,
}

/// Panes that are read side by side. More would take more memory for little: a batch then holds whole partitions as it is.
const PANES_A_ROUND: usize = 256;

impl Sweeper<'_> {
    /// Hands all rows of the sweep to `write`, in batches sorted by row key, beginning where an earlier run had `reached`. With each batch
    /// goes what is reached once it is written.
    ///
    /// A window's groups lie together in the state, a partition's rows in the store mostly come from many windows. So windows are
    /// read side by side, group by group.
    pub fn run(
        &self,
        sweep: &Sweep,
        reached: Reached,
        write: &mut dyn FnMut(RowBatch, Reached) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let ranges = self.ranges(sweep)?;
        let mut reached = reached;
        for round in ranges.chunks(PANES_A_ROUND).skip(reached.rounds) {
            let mut merge = Merge::new(self.state, round, self.read_ahead_bytes, reached.after.take())?;
            let mut groups = Groups::default();
            while let Some(next) = merge.next()? {
                if groups.keys.len() >= self.max_rows && next.rest != groups.last {
                    let so_far = Reached { rounds: reached.rounds, after: Some(std::mem::take(&mut groups.last)) };
                    self.flush(&mut groups, sweep, so_far, write)?;
                }
                groups.push(&next);
            }
            reached.rounds += 1;
            self.flush(&mut groups, sweep, reached.clone(), write)?;
        }
        Ok(())
    }

    /// The ranges of the groups to read.
    fn ranges(&self, sweep: &Sweep) -> Result<Vec<Range>, EngineError> {
        let (Some(panes), Some(window), Some(prefix)) = (&sweep.panes, self.view.window, &self.layout.panes) else {
            return Ok(vec![Range { prefix: Vec::new(), to: None }]);
        };
        let range = |pane: &i64| Ok(Range { prefix: prefix.bytes(*pane)?, to: Some(prefix.bytes(pane.saturating_add(window.pane_us))?) });
        panes.iter().map(range).collect()
    }

    fn flush(
        &self,
        groups: &mut Groups,
        sweep: &Sweep,
        reached: Reached,
        write: &mut dyn FnMut(RowBatch, Reached) -> Result<(), EngineError>,
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
        let written_at = vec![write_timestamp(self.epoch, self.sum)?; rows.num_rows()];
        write(RowBatch { rows, written_at, deleted }, reached)
    }
}

#[derive(Default)]
struct Groups {
    keys: KeyArena,
    states: KeyArena,
    /// The last group's key, less its pane's start.
    last: Vec<u8>,
}

impl Groups {
    fn push(&mut self, next: &Next<'_>) {
        self.keys.push(next.key);
        self.states.push(next.state);
        if self.last != next.rest {
            self.last.clear();
            self.last.extend_from_slice(next.rest);
        }
    }
}

/// The groups of one pane.
struct Range {
    prefix: Vec<u8>,
    to: Option<Vec<u8>>,
}

/// A group that is next in order.
struct Next<'a> {
    key: &'a [u8],
    /// The key less its pane's start.
    rest: &'a [u8],
    state: &'a [u8],
}

/// What was read ahead of one pane.
struct Lane<'a> {
    range: &'a Range,
    keys: KeyArena,
    states: KeyArena,
    next: usize,
    is_last: bool,
}

impl Lane<'_> {
    fn rest(&self) -> Option<&[u8]> {
        (self.next < self.keys.len()).then(|| self.keys.get(self.next).get(self.range.prefix.len()..).unwrap_or_default())
    }

    fn read(&mut self, state: &dyn Lookup, from: &[u8], bytes: usize) -> Result<(), EngineError> {
        (self.keys, self.states, self.next, self.is_last) = (KeyArena::default(), KeyArena::default(), 0, true);
        let (keys, states, is_last) = (&mut self.keys, &mut self.states, &mut self.is_last);
        state.scan(Space::Groups, from, self.range.to.as_deref(), &mut |key, value| {
            keys.push(key);
            states.push(value);
            *is_last = keys.size() + states.size() < bytes;
            *is_last
        })?;
        Ok(())
    }
}

/// The groups of some panes, merged in the order of their keys less the pane's start.
struct Merge<'a> {
    state: &'a dyn Lookup,
    lanes: Vec<Lane<'a>>,
    /// Lanes by what is next in each.
    order: BinaryHeap<Reverse<(Vec<u8>, usize)>>,
    /// The lane whose head was handed out.
    taken: Option<usize>,
    bytes_a_lane: usize,
}

impl<'a> Merge<'a> {
    fn new(state: &'a dyn Lookup, ranges: &'a [Range], read_ahead_bytes: usize, after: Option<Vec<u8>>) -> Result<Merge<'a>, EngineError> {
        let bytes_a_lane = read_ahead_bytes / ranges.len().max(1);
        let mut merge = Merge { state, lanes: Vec::new(), order: BinaryHeap::new(), taken: None, bytes_a_lane };
        for (index, range) in ranges.iter().enumerate() {
            let from = match &after {
                Some(after) => following(&[&range.prefix[..], after].concat()),
                None => range.prefix.clone(),
            };
            let mut lane = Lane { range, keys: KeyArena::default(), states: KeyArena::default(), next: 0, is_last: true };
            lane.read(state, &from, bytes_a_lane)?;
            merge.order.extend(lane.rest().map(|rest| Reverse((rest.to_vec(), index))));
            merge.lanes.push(lane);
        }
        Ok(merge)
    }

    fn next(&mut self) -> Result<Option<Next<'_>>, EngineError> {
        if let Some((index, lane)) = self.taken.take().and_then(|index| Some((index, self.lanes.get_mut(index)?))) {
            lane.next += 1;
            if lane.next == lane.keys.len() && !lane.is_last {
                let from = following(lane.keys.get(lane.next - 1));
                lane.read(self.state, &from, self.bytes_a_lane)?;
            }
            // The entry that was handed out is still on top: changing it in place spares a removal.
            match (lane.rest(), self.order.peek_mut()) {
                (Some(rest), Some(mut top)) => {
                    top.0.0.clear();
                    top.0.0.extend_from_slice(rest);
                    debug_assert_eq!(top.0.1, index);
                }
                (None, Some(top)) => drop(PeekMut::pop(top)),
                (_, None) => {}
            }
        }
        let Some(Reverse((_, index))) = self.order.peek() else { return Ok(None) };
        let index = *index;
        self.taken = Some(index);
        Ok(self
            .lanes
            .get(index)
            .and_then(|lane| Some(Next { key: lane.keys.get(lane.next), rest: lane.rest()?, state: lane.states.get(lane.next) })))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

    use super::*;
    use crate::state::memory::MemoryState;
    use crate::state::{Batch, State};

    fn state(keys: &[&str]) -> MemoryState {
        let state = MemoryState::default();
        let mut batch = Batch::default();
        for key in keys {
            batch.put(Space::Groups, key.as_bytes(), format!("state of {key}").as_bytes());
        }
        state.commit(&batch).unwrap();
        state
    }

    /// The panes `1` and `2`, read ahead by so many bytes.
    fn merged(state: &MemoryState, after: Option<&str>, bytes_a_lane: usize) -> Vec<String> {
        let range = |pane: &str, to: &str| Range { prefix: pane.as_bytes().to_vec(), to: Some(to.as_bytes().to_vec()) };
        let ranges = [range("1", "2"), range("2", "3")];
        let mut merge = Merge::new(state, &ranges, 2 * bytes_a_lane, after.map(|after| after.as_bytes().to_vec())).unwrap();
        let mut found = Vec::new();
        while let Some(next) = merge.next().unwrap() {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            assert_eq!((text(next.state), text(next.rest)), (format!("state of {}", text(next.key)), text(&next.key[1..])));
            found.push(text(next.key));
        }
        found
    }

    #[test]
    fn groups_of_all_panes_come_by_key_whatever_is_read_ahead() {
        let state = state(&["0a", "1a", "1b", "1d", "1e", "2", "2a", "2c", "2d", "3a"]);
        for bytes_a_lane in [1, 20, 40, 1 << 20] {
            assert_eq!(merged(&state, None, bytes_a_lane), ["2", "1a", "2a", "1b", "2c", "1d", "2d", "1e"]);
            assert_eq!(merged(&state, Some("a"), bytes_a_lane), ["1b", "2c", "1d", "2d", "1e"]);
            assert_eq!(merged(&state, Some("e"), bytes_a_lane), Vec::<String>::new());
        }
    }
}
