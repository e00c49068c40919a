//! Windows out of panes: the groups of a window are the groups of its panes, merged.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use hashbrown::HashTable;

use super::codec::{arrays_size, group_hash};
use super::error::EngineError;
use super::layout::{Layout, PanePrefix};
use super::shard::KeyArena;
use crate::state::{Space, StateReader};
use crate::view::{View, WindowSpec};

/// The groups of a window and their states.
pub struct Window {
    /// The group columns, with the window's start in place of the pane's.
    pub groups: Vec<ArrayRef>,
    /// Their states.
    pub states: Vec<ArrayRef>,
}

/// Assembles windows from committed state; panes that did not change are kept in memory, up to a bound.
pub struct Assembler {
    view: Arc<View>,
    layout: Arc<Layout>,
    panes: BTreeMap<i64, Arc<Pane>>,
    panes_bytes: usize,
    max_bytes: usize,
}

struct Pane {
    /// The keys of its groups, less the pane's start.
    rests: KeyArena,
    states: Vec<ArrayRef>,
}

impl Pane {
    fn size(&self) -> usize {
        self.rests.size() + arrays_size(&self.states)
    }
}

impl Assembler {
    /// An assembler that keeps up to `max_bytes` of panes in memory.
    pub fn new(view: Arc<View>, layout: Arc<Layout>, max_bytes: usize) -> Assembler {
        Assembler { view, layout, panes: BTreeMap::new(), panes_bytes: 0, max_bytes }
    }

    /// A pane has changed: what is in memory of it is out of date.
    pub fn forget(&mut self, pane_us: i64) {
        if let Some(pane) = self.panes.remove(&pane_us) {
            self.panes_bytes -= pane.size();
        }
    }

    /// The groups of the window that starts at `window_us`.
    pub fn assemble(&mut self, window_us: i64, present: impl Iterator<Item = i64>, state: &dyn StateReader) -> Result<Window, EngineError> {
        let layout = self.layout.clone();
        let (Some(window), Some(prefix)) = (self.view.window, &layout.panes) else {
            return Err(EngineError::Internal("a view without windows has none to assemble".into()));
        };
        let mut merger = self.view.merger()?;
        let mut table: HashTable<usize> = HashTable::new();
        let mut rests = KeyArena::default();
        let mut indices = Vec::new();
        for pane_us in present {
            let pane = self.pane(pane_us, &window, prefix, state)?;
            indices.clear();
            for rest in pane.rests.iter() {
                let found = table.entry(group_hash(rest), |index| rests.get(*index) == rest, |index| group_hash(rests.get(*index)));
                let index = *found.or_insert(rests.len()).get();
                if index == rests.len() {
                    rests.push(rest);
                }
                indices.push(index);
            }
            merger.merge(&pane.states, &indices, rests.len())?;
        }
        let start = prefix.bytes(window_us)?;
        let mut keys = KeyArena::default();
        let mut key = Vec::new();
        for rest in rests.iter() {
            key.clear();
            key.extend_from_slice(&start);
            key.extend_from_slice(rest);
            keys.push(&key);
        }
        Ok(Window { groups: layout.keys.decode(keys.iter())?, states: merger.take()? })
    }

    fn pane(&mut self, pane_us: i64, window: &WindowSpec, prefix: &PanePrefix, state: &dyn StateReader) -> Result<Arc<Pane>, EngineError> {
        if let Some(pane) = self.panes.get(&pane_us) {
            return Ok(pane.clone());
        }
        let mut rests = KeyArena::default();
        let mut rows = KeyArena::default();
        let from = prefix.bytes(pane_us)?;
        let to = prefix.bytes(pane_us.saturating_add(window.pane_us))?;
        state.scan(Space::Groups, &from, Some(&to), &mut |key, value| {
            rests.push(prefix.rest(key));
            rows.push(value);
            true
        })?;
        let pane = Arc::new(Pane { states: self.layout.states.decode(rows.iter())?, rests });
        let size = pane.size();
        while self.panes_bytes + size > self.max_bytes {
            let Some((_, oldest)) = self.panes.pop_first() else { break };
            self.panes_bytes -= oldest.size();
        }
        if size <= self.max_bytes {
            self.panes_bytes += size;
            self.panes.insert(pane_us, pane.clone());
        }
        Ok(pane)
    }
}

/// The starts of the windows that a pane is part of, earliest first.
pub fn windows_of(window: &WindowSpec, pane_us: i64) -> impl Iterator<Item = i64> + use<> {
    let WindowSpec { size_us, slide_us, .. } = *window;
    let last = pane_us.saturating_sub(pane_us.rem_euclid(slide_us));
    // The earliest window still holds the pane: its start + size > pane.
    let count = (size_us - (pane_us - last) + slide_us - 1) / slide_us;
    (0..count).rev().map(move |back| last.saturating_sub(back * slide_us))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(size_us: i64, slide_us: i64, pane_us: i64) -> WindowSpec {
        WindowSpec { column: 0, size_us, slide_us, pane_us }
    }

    #[test]
    fn a_pane_is_part_of_every_window_that_holds_it() {
        assert_eq!(windows_of(&window(60, 60, 60), 120).collect::<Vec<_>>(), [120]);
        assert_eq!(windows_of(&window(60, 20, 20), 120).collect::<Vec<_>>(), [80, 100, 120]);
        assert_eq!(windows_of(&window(50, 20, 10), 110).collect::<Vec<_>>(), [80, 100], "110 lies in [80, 130) and [100, 150)");
        assert_eq!(windows_of(&window(50, 20, 10), 120).collect::<Vec<_>>(), [80, 100, 120]);
        assert_eq!(windows_of(&window(60, 20, 20), -20).collect::<Vec<_>>(), [-60, -40, -20]);
    }
}
