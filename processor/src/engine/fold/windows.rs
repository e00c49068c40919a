//! The life of windows: their rows become pending, are assembled and written, and in the end their panes are dropped.

use std::collections::BTreeSet;

use super::{Fold, FoldSettings, prefixes};
use crate::engine::assemble::{Assembler, Window, windows_of};
use crate::engine::dirty::{self, DirtyRows};
use crate::engine::emitted::{self, Changed};
use crate::engine::error::EngineError;
use crate::engine::layout::Layout;
use crate::engine::map::state_end_us;
use crate::engine::meta::Meta;
use crate::state::{Batch, Space};

impl Fold {
    /// Notes the windows whose rows a commit changes. They are kept with it, so that a crash before their rows are computed forgets none.
    pub(super) fn mark_pending(&self, next: &mut Meta, touched: &BTreeSet<i64>) {
        let (Some(_), Some(window)) = (&self.assembler, self.view.window) else { return };
        let end = |start: i64| start.saturating_add(window.size_us);
        let tumbles = window.size_us == window.slide_us;
        let closed_to_us = next.watermark_us;
        let is_closed = |start: i64| closed_to_us.is_some_and(|closed_to_us| end(start) <= closed_to_us);
        let next_window_us = match (next.live && !tumbles, closed_to_us) {
            // The first window that ends after the watermark.
            (true, Some(closed_to_us)) => {
                let past_us = closed_to_us.saturating_sub(window.size_us);
                Some(past_us.saturating_sub(past_us.rem_euclid(window.slide_us)).saturating_add(window.slide_us))
            }
            _ => None,
        };
        for pane in touched {
            for start in windows_of(&window, *pane) {
                if is_closed(start) || (next.live && tumbles) || Some(start) == next_window_us {
                    next.pending.insert(start);
                }
            }
        }
        // Windows that close with this commit, or open windows that become visible, although no event touched them.
        let swept_to_us = next.swept_to_us;
        if closed_to_us > swept_to_us || next_window_us != next.next_window_us {
            let unswept_from_us = swept_to_us.map_or(i64::MIN, |swept_to_us| swept_to_us.saturating_sub(window.size_us));
            for pane in self.present.range(unswept_from_us..) {
                for start in windows_of(&window, *pane) {
                    let is_new = swept_to_us.is_none_or(|swept_to_us| end(start) > swept_to_us);
                    if (is_new && is_closed(start)) || (Some(start) == next_window_us && next_window_us != next.next_window_us) {
                        next.pending.insert(start);
                    }
                }
            }
        }
        next.swept_to_us = next.swept_to_us.max(closed_to_us);
        next.next_window_us = next_window_us;
    }

    /// Turns pending windows into dirty rows, computed from committed state. `None`: there are more than are kept in memory.
    pub(super) fn emit_pending(&mut self) -> Result<Option<Vec<DirtyRows>>, EngineError> {
        let FoldSettings { most_rows, emitted_batch_bytes, shares, .. } = &self.settings;
        let mut emission =
            Emission { most_rows: *most_rows, most_bytes: shares.queue(), batch_bytes: *emitted_batch_bytes, ..Emission::default() };
        let Some(mut assembler) = self.assembler.take() else { return Ok(Some(Vec::new())) };
        let emitted = self.emit_windows(&mut assembler, &mut emission);
        self.assembler = Some(assembler);
        emitted?;
        self.next.pending.clear();
        self.next.doubt.clone_from(&self.meta.doubt);
        Ok((!emission.is_too_much()).then_some(emission.handed_on))
    }

    fn emit_windows(&mut self, assembler: &mut Assembler, emission: &mut Emission) -> Result<(), EngineError> {
        while let Some(start) = self.meta.pending.first().copied() {
            self.emit_window(start, assembler, emission)?;
            self.meta.pending.remove(&start);
            if let Some(doubt) = self.meta.doubt.as_mut().filter(|doubt| doubt.end_us.is_some() && doubt.covers(start)) {
                doubt.settled.insert(start);
            }
            if emission.is_due(&self.meta) || self.meta.pending.is_empty() {
                emission.commit(self)?;
            }
        }
        Ok(())
    }

    /// The rows of one window, part by part if it has more groups than there is memory for.
    fn emit_window(&self, start: i64, assembler: &mut Assembler, emission: &mut Emission) -> Result<(), EngineError> {
        let Some(window) = self.view.window else { return Ok(()) };
        let panes: Vec<i64> = self.present.range(start..start.saturating_add(window.size_us)).copied().collect();
        let is_doubtful = self.meta.doubt.as_ref().is_some_and(|doubt| doubt.covers(start));
        let mut after: Option<Vec<u8>> = None;
        let mut first: Option<Window> = None;
        loop {
            let mut part = assembler.assemble(start, &panes, after.as_deref(), self.state.as_ref())?;
            let last = part.last.take();
            if let Some(first) = first.take() {
                part.append(&first)?;
            }
            match (&last, &self.view.ranking) {
                // A group that is not among the first of its part is not among the first of all.
                (Some(_), Some(_)) => first = Some(part.first_groups(&self.view, &self.layout, is_doubtful)?),
                _ => {
                    let is_whole = self.view.ranking.is_some() || (last.is_none() && after.is_none());
                    let wanted = emitted::rows_of(&self.view, &self.layout, &part, is_whole, is_doubtful)?;
                    let changed = emitted::changed(self.state.as_ref(), start, &wanted, is_doubtful)?;
                    emission.put(changed, &self.layout, self.meta.cut.sum())?;
                }
            }
            if last.is_none() {
                return Ok(());
            }
            // The window stays pending: its parts are committed one after the other, and all are done again if not all are.
            if emission.is_due(&self.meta) {
                emission.commit(self)?;
            }
            after = last;
        }
    }

    /// Drops panes that no event can reach any more.
    pub(super) fn drop_panes(&mut self, batch: &mut Batch, next: &mut Meta) -> Result<(), EngineError> {
        let (Some(window), Some(prefix), Some(accept_late_us)) = (self.view.window, &self.layout.panes, self.settings.rules.accept_late_us)
        else {
            return Ok(());
        };
        let Some(horizon_us) = self.times.drop_horizon_us(accept_late_us, self.settings.quiet) else { return Ok(()) };
        // Rows that are not written yet still need their state.
        let horizon_us = match (self.assembler.is_none() && self.meta.complete, next.swept_to_us) {
            (true, _) => horizon_us,
            (false, Some(swept_to_us)) => horizon_us.min(swept_to_us),
            (false, None) => return Ok(()),
        };
        let Some(first) = self.present.first().copied() else { return Ok(()) };
        let first_pending = next.pending.first().copied().unwrap_or(i64::MAX);
        let is_gone = |pane: &i64| state_end_us(&window, *pane) <= horizon_us && *pane < first_pending;
        let gone: Vec<i64> = self.present.iter().copied().take_while(is_gone).collect();
        let Some(last) = gone.last().copied() else { return Ok(()) };
        batch.delete_range(Space::Groups, &prefix.bytes(first)?, &prefix.bytes(last.saturating_add(window.pane_us))?);
        if let Some(assembler) = &mut self.assembler {
            let first_kept = horizon_us.saturating_sub(window.size_us).min(first_pending);
            batch.delete_range(Space::Emitted, &[], &emitted::window_key(first_kept));
            gone.iter().for_each(|pane| assembler.forget(*pane));
        }
        self.present = self.present.split_off(&last.saturating_add(1));
        self.present_prefixes = prefixes(&self.layout, self.present.iter())?;
        next.dropped_to_us = next.dropped_to_us.max(Some(state_end_us(&window, last)));
        Ok(())
    }
}

/// About what the start of a window takes among the facts, as text.
const WINDOW_IN_FACTS_BYTES: usize = 17;

/// How many times the size of its facts a batch of rows has at least.
const ROWS_TO_FACTS: usize = 4;

/// However many windows there are.
const MOST_BATCH_BYTES: usize = 32 << 20;

/// Rows on their way to the dirty ones.
#[derive(Default)]
struct Emission {
    batch: Batch,
    /// Put into the batch already.
    rows: Vec<DirtyRows>,
    /// Committed.
    handed_on: Vec<DirtyRows>,
    count: usize,
    bytes: usize,
    /// What is handed on in memory.
    most_rows: usize,
    most_bytes: usize,
    /// Bounds the memory of a batch.
    batch_bytes: usize,
}

impl Emission {
    fn put(&mut self, changed: Changed, layout: &Layout, sum: u64) -> Result<(), EngineError> {
        changed.put_emitted(&mut self.batch);
        for rows in changed.into_dirty(layout, sum)? {
            dirty::put(&mut self.batch, &layout.rows, &rows)?;
            self.count += rows.len();
            self.bytes += rows.size();
            self.rows.push(rows);
        }
        Ok(())
    }

    /// Every batch holds the facts, and with them the windows that are still to be emitted: with many of those it is made larger, so that they are
    /// not most of what is written.
    fn is_due(&self, meta: &Meta) -> bool {
        let settled = meta.doubt.as_ref().map_or(0, |doubt| doubt.settled.len());
        let facts_bytes = (meta.pending.len() + settled) * WINDOW_IN_FACTS_BYTES;
        self.batch.size() > self.batch_bytes.max((ROWS_TO_FACTS * facts_bytes).min(MOST_BATCH_BYTES))
    }

    fn is_too_much(&self) -> bool {
        self.count > self.most_rows || self.bytes > self.most_bytes
    }

    fn commit(&mut self, fold: &Fold) -> Result<(), EngineError> {
        let mut batch = std::mem::take(&mut self.batch);
        fold.meta.put(&mut batch)?;
        // If this batch is lost, its windows are still pending in the one before.
        fold.state.commit(&batch)?;
        let rows = std::mem::take(&mut self.rows);
        match self.is_too_much() {
            true => self.handed_on.clear(),
            false => self.handed_on.extend(rows),
        }
        Ok(())
    }
}
