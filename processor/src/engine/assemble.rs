//! Windows out of panes: the groups of a window are the groups of its panes, merged.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::compute::{concat, take};
use hashbrown::HashTable;

use super::codec::{Codec, arrays_size, following, group_hash};
use super::error::EngineError;
use super::layout::{Layout, PanePrefix};
use super::shard::KeyArena;
use super::shares::Shares;
use crate::state::{Lookup, Space};
use crate::view::{View, WindowSpec};

/// Groups of a window and their states.
pub struct Window {
    /// The group columns, with the window's start in place of the pane's.
    pub groups: Vec<ArrayRef>,
    /// Their states.
    pub states: Vec<ArrayRef>,
    /// The last of its groups, less the window's start, if there are more after it.
    pub last: Option<Vec<u8>>,
}

impl Window {
    /// Of a part of a window the groups that its ranking needs, whatever the others are.
    pub fn first_groups(&self, view: &View, layout: &Layout, possible: bool) -> Result<Window, EngineError> {
        let places = view.first_groups(&self.groups, &self.states, possible)?;
        // Encoded on the way: texts that were taken would else hold on to those of the whole part.
        let of = |codec: &Codec, columns: &[ArrayRef]| {
            let taken = columns.iter().map(|column| take(column, &places, None)).collect::<Result<Vec<_>, _>>()?;
            codec.decode(codec.encode(&taken, places.len())?.iter().map(|row| row.data()))
        };
        Ok(Window { groups: of(&layout.keys, &self.groups)?, states: of(&layout.states, &self.states)?, last: None })
    }

    /// Adds groups of the same window.
    pub fn append(&mut self, others: &Window) -> Result<(), EngineError> {
        for (own, others) in self.groups.iter_mut().zip(&others.groups).chain(self.states.iter_mut().zip(&others.states)) {
            *own = concat(&[own.as_ref(), others.as_ref()])?;
        }
        Ok(())
    }
}

/// Assembles windows from committed state; panes that did not change are kept in memory, up to a bound. A window with more groups than that is
/// assembled in parts.
pub struct Assembler {
    view: Arc<View>,
    layout: Arc<Layout>,
    window: WindowSpec,
    prefix: Arc<PanePrefix>,
    panes: BTreeMap<i64, Arc<Pane>>,
    panes_bytes: usize,
    shares: Arc<Shares>,
}

struct Pane {
    /// The keys of its groups, less the pane's start; ascending.
    rests: KeyArena,
    states: Vec<ArrayRef>,
}

impl Pane {
    fn size(&self) -> usize {
        self.rests.size() + arrays_size(&self.states)
    }

    /// About what so many of its groups take.
    fn size_of(&self, groups: usize) -> usize {
        self.size() / self.rests.len().max(1) * groups
    }

    /// The place of the first group after this one.
    fn place_after(&self, rest: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.rests.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.rests.get(middle) <= rest {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }
}

/// Some groups of a pane, one after the other.
struct Stretch {
    pane: Arc<Pane>,
    from: usize,
    to: usize,
    /// Whether the pane has no groups after these.
    is_last: bool,
}

impl Stretch {
    fn last(&self) -> Option<&[u8]> {
        (!self.is_last).then(|| self.pane.rests.get(self.to - 1))
    }
}

impl Assembler {
    /// An assembler that keeps its share of panes in memory, for a view whose windows have several panes or are ranked; others need none.
    pub fn of(view: &Arc<View>, layout: &Arc<Layout>, shares: &Arc<Shares>) -> Option<Assembler> {
        let (window, prefix) = (view.window?, layout.panes.clone()?);
        (view.ranking.is_some() || window.size_us != window.slide_us).then(|| Assembler {
            view: view.clone(),
            layout: layout.clone(),
            window,
            prefix,
            panes: BTreeMap::new(),
            panes_bytes: 0,
            shares: shares.clone(),
        })
    }

    /// A pane has changed: what is in memory of it is out of date.
    pub fn forget(&mut self, pane_us: i64) {
        if let Some(pane) = self.panes.remove(&pane_us) {
            self.panes_bytes -= pane.size();
        }
    }

    /// The groups of the window that starts at `window_us`, from the first one after `after` on, as many as there is memory for.
    pub fn assemble(&mut self, window_us: i64, present: &[i64], after: Option<&[u8]>, state: &dyn Lookup) -> Result<Window, EngineError> {
        let mut left_bytes = self.shares.part();
        let mut stretches = Vec::with_capacity(present.len());
        for (index, pane_us) in present.iter().enumerate() {
            // What one does not need is for those after it.
            let most_bytes = left_bytes / (present.len() - index);
            let stretch = self.stretch(*pane_us, after, most_bytes, state)?;
            left_bytes = left_bytes.saturating_sub(stretch.pane.size_of(stretch.to - stretch.from));
            stretches.push(stretch);
        }
        // What comes after it is not known of every pane.
        let last = stretches.iter().filter_map(Stretch::last).min().map(<[u8]>::to_vec);
        let mut merger = self.view.merger()?;
        let mut table: HashTable<usize> = HashTable::new();
        let mut rests = KeyArena::default();
        let mut indices = Vec::new();
        for Stretch { pane, from, to, .. } in &stretches {
            let to = last.as_deref().map_or(*to, |last| pane.place_after(last));
            indices.clear();
            for rest in (*from..to).map(|place| pane.rests.get(place)) {
                let found = table.entry(group_hash(rest), |index| rests.get(*index) == rest, |index| group_hash(rests.get(*index)));
                let index = *found.or_insert(rests.len()).get();
                if index == rests.len() {
                    rests.push(rest);
                }
                indices.push(index);
            }
            let states: Vec<ArrayRef> = pane.states.iter().map(|states| states.slice(*from, indices.len())).collect();
            merger.merge(&states, &indices, rests.len())?;
        }
        let start = self.prefix.bytes(window_us)?;
        let mut keys = KeyArena::default();
        let mut key = Vec::new();
        for rest in rests.iter() {
            key.clear();
            key.extend_from_slice(&start);
            key.extend_from_slice(rest);
            keys.push(&key);
        }
        Ok(Window { groups: self.layout.keys.decode(keys.iter())?, states: merger.take()?, last })
    }

    /// The groups of a pane after `after`, up to about so many bytes.
    fn stretch(&mut self, pane_us: i64, after: Option<&[u8]>, most_bytes: usize, state: &dyn Lookup) -> Result<Stretch, EngineError> {
        if let Some(pane) = self.panes.get(&pane_us) {
            let from = after.map_or(0, |after| pane.place_after(after));
            let most = (most_bytes / pane.size_of(1).max(1)).max(1);
            let to = pane.rests.len().min(from + most);
            return Ok(Stretch { pane: pane.clone(), from, to, is_last: to == pane.rests.len() });
        }
        let (mut rests, mut rows, mut is_last) = (KeyArena::default(), KeyArena::default(), true);
        let start = self.prefix.bytes(pane_us)?;
        let from = after.map_or(start.clone(), |after| following(&[&start[..], after].concat()));
        let to = self.prefix.bytes(pane_us.saturating_add(self.window.pane_us))?;
        state.scan(Space::Groups, &from, Some(&to), &mut |key, value| {
            is_last = rests.is_empty() || rests.size() + rows.size() < most_bytes;
            if is_last {
                rests.push(self.prefix.rest(key));
                rows.push(value);
            }
            is_last
        })?;
        let pane = Arc::new(Pane { states: self.layout.states.decode(rows.iter())?, rests });
        if is_last && after.is_none() {
            self.keep(pane_us, &pane);
        }
        Ok(Stretch { from: 0, to: pane.rests.len(), pane, is_last })
    }

    /// Keeps a whole pane if it fits, in place of the oldest.
    fn keep(&mut self, pane_us: i64, pane: &Arc<Pane>) {
        let (size, most_bytes) = (pane.size(), self.shares.panes());
        while self.panes_bytes > most_bytes.saturating_sub(size) {
            let Some((_, oldest)) = self.panes.pop_first() else { break };
            self.panes_bytes -= oldest.size();
        }
        if size <= most_bytes {
            self.panes_bytes += size;
            self.panes.insert(pane_us, pane.clone());
        }
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
