//! The life of windows: their rows become pending, are assembled and written, and in the end their panes are dropped.

use std::collections::BTreeSet;

use super::{Fold, prefixes};
use crate::engine::assemble::windows_of;
use crate::engine::dirty::{self, DirtyRows};
use crate::engine::emitted;
use crate::engine::error::EngineError;
use crate::engine::map::state_end_us;
use crate::engine::meta::Meta;
use crate::state::{Batch, Space};

/// Bounds the memory of a batch of emitted rows.
const EMITTED_PER_BATCH: usize = 100_000;

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
        let mut emitted = Some(Vec::new());
        let mut count = 0;
        let (Some(assembler), Some(window)) = (&mut self.assembler, self.view.window) else { return Ok(emitted) };
        let sum = self.meta.cut.sum();
        while !self.meta.pending.is_empty() {
            let mut batch = Batch::default();
            let mut rows = Vec::new();
            while let Some(start) = self.meta.pending.pop_first() {
                let panes = self.present.range(start..start.saturating_add(window.size_us)).copied();
                let assembled = assembler.assemble(start, panes, self.state.as_ref())?;
                let is_doubtful = self.meta.doubt.as_ref().is_some_and(|doubt| doubt.covers(start));
                let wanted = emitted::rows_of(&self.view, &self.layout, &assembled, is_doubtful)?;
                let changed = emitted::changed(self.state.as_ref(), start, &wanted, is_doubtful)?;
                changed.put_emitted(&mut batch);
                if let Some(doubt) = self.meta.doubt.as_mut().filter(|doubt| is_doubtful && doubt.end_us.is_some()) {
                    doubt.settled.insert(start);
                }
                rows.extend(changed.into_dirty(&self.layout, sum)?);
                if batch.len() > EMITTED_PER_BATCH {
                    break;
                }
            }
            for rows in &rows {
                dirty::put(&mut batch, &self.layout.rows, rows)?;
            }
            self.meta.put(&mut batch)?;
            // Not synced: if this batch is lost, its windows are still pending in the one before.
            self.state.commit(&batch, false)?;
            count += rows.iter().map(DirtyRows::len).sum::<usize>();
            emitted = emitted.filter(|_| count <= self.settings.most_rows);
            if let Some(emitted) = &mut emitted {
                emitted.extend(rows.into_iter().filter(|rows| !rows.is_empty()));
            }
        }
        self.next.pending.clear();
        self.next.doubt.clone_from(&self.meta.doubt);
        Ok(emitted)
    }

    /// Drops panes that no event can reach any more.
    pub(super) fn drop_panes(&mut self, batch: &mut Batch, next: &mut Meta, now_ms: i64) -> Result<(), EngineError> {
        let (Some(window), Some(prefix), Some(accept_late_us)) = (self.view.window, &self.layout.panes, self.settings.rules.accept_late_us)
        else {
            return Ok(());
        };
        let Some(horizon_us) = self.times.drop_horizon_us(accept_late_us, self.settings.quiet, now_ms) else { return Ok(()) };
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
