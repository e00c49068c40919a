//! The fold of one version: merge, commit, and which rows follow.
//!
//! Nothing here waits, reads a clock or starts a thread: the loop around it (`worker`) and the simulation drive the very same steps.
//! One commit is one atomic batch of group states, positions, quarantined events and dirty rows.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, UInt32Array};
use datafusion::arrow::compute::{filter_record_batch, take};

use super::assemble::Assembler;
use super::dirty::{self, Acknowledged, DirtyRows};
use super::error::EngineError;
use super::layout::Layout;
use super::map::{Before, ChunkMapper, Mapped, Rules, state_end_us};
use super::meta::{Doubt, Meta};
use super::quarantined::{Keeper, Limits, Quarantined};
use super::shard::{KeyArena, Shard, Touched};
use super::shares::Shares;
use super::sweep::Sweep;
use super::watermark::{Quiet, Times};
use crate::position::{Cut, Partition};
use crate::quarantine::Rejected;
use crate::state::{Batch, Space, State};
use crate::view::{Rows, View};

mod windows;

/// What a fold needs to know besides its view.
#[derive(Clone, Debug)]
pub struct FoldSettings {
    /// Shards that groups are split among.
    pub shards: usize,
    /// When an event is not acceptable.
    pub rules: Rules,
    /// How far the watermark is behind the largest event time, microseconds.
    pub lateness_us: i64,
    /// When quiet partitions stop counting.
    pub quiet: Quiet,
    /// The memory that it may take.
    pub shares: Arc<Shares>,
    /// The most bytes of a quarantined record that are kept.
    pub max_quarantined_bytes: usize,
    /// The most rows of windows that a commit hands on in memory.
    pub most_rows: usize,
    /// Rows of windows are committed when they are about so many bytes.
    pub emitted_batch_bytes: usize,
}

/// What is known from outside when a fold is opened.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Rows of cuts up to here may be in the view store.
    pub writing: Cut,
    /// Windows that end at or before this time may have rows in it.
    pub writing_watermark_us: Option<i64>,
    /// The clock, milliseconds since the Unix epoch.
    pub now_ms: i64,
}

/// What one commit made.
pub struct Committed {
    /// Everything up to here is in the state.
    pub cut: Cut,
    /// The rows that changed, if rows are written at every commit or for late events. `None`: they are too many to be kept in memory, and are
    /// among the dirty ones.
    pub rows: Option<Vec<DirtyRows>>,
}

/// The fold of one version.
pub struct Fold {
    view: Arc<View>,
    layout: Arc<Layout>,
    state: Arc<dyn State>,
    settings: FoldSettings,
    remapper: ChunkMapper,
    shards: Vec<Shard>,
    /// As of the last commit.
    meta: Meta,
    /// Ahead of the last commit by what is in the shards.
    next: Meta,
    /// Whether `next` may differ from `meta`: comparing them costs as much as there are windows in them.
    is_changed: bool,
    times: Times,
    quarantine: Keeper,
    /// The panes that committed state holds, and their key prefixes.
    present: BTreeSet<i64>,
    present_prefixes: HashSet<Vec<u8>>,
    assembler: Option<Assembler>,
    /// Rows of cuts up to here may be in the store although this state does not know them: a former owner was ahead of it.
    unknown_until: Cut,
}

impl Fold {
    /// Opens the fold at its last commit. Every partition that is to be read must be named; `told` is what readers were told last.
    pub fn open(
        view: Arc<View>,
        state: Arc<dyn State>,
        settings: FoldSettings,
        partitions: &[Partition],
        told: &Told,
    ) -> Result<Fold, EngineError> {
        let meta = Meta::load(&view, state.as_ref())?;
        let layout = Arc::new(Layout::new(&view)?);
        let shards = (0..settings.shards.max(1)).map(|_| Shard::new(&view)).collect::<Result<Vec<_>, _>>()?;
        let remapper = ChunkMapper::new(&view, settings.rules.clone(), shards.len())?;
        let assembler = Assembler::of(&view, &layout, &settings.shares);
        let mut times = Times::restore(partitions, meta.times.clone(), told.now_ms);
        meta.ended.iter().for_each(|partition| times.at_end(*partition, told.now_ms));
        let present = present_panes(&layout, state.as_ref())?;
        let present_prefixes = prefixes(&layout, present.iter())?;
        let mut next = meta.clone();
        // A former owner saw these windows closed: they stay so, or their rows would wait to be corrected.
        next.watermark_us = next.watermark_us.max(told.writing_watermark_us);
        next.doubtful |= !meta.complete && told.writing.sum() > 0;
        // While it was being built, this state did not write what a former owner wrote at the same cuts.
        let wrote_less = !meta.complete && told.writing.sum() > 0;
        // And at these very positions it may have worked out windows that are still to be worked out here, with more events by then.
        let is_pending = !meta.pending.is_empty() && told.writing.sum() > 0;
        // At these very positions, but later, it may have seen windows closed that are open in this state.
        let saw_more_closed = told.writing_watermark_us > meta.watermark_us;
        if assembler.is_some() && (wrote_less || is_pending || saw_more_closed || !meta.cut.reaches(&told.writing)) {
            next.doubt = Some(Doubt { until: told.writing.clone(), ..Doubt::default() });
        }
        Ok(Fold {
            view,
            layout,
            state,
            settings,
            remapper,
            shards,
            is_changed: next != meta,
            meta,
            next,
            times,
            quarantine: Keeper::new(Limits::default()),
            present,
            present_prefixes,
            assembler,
            unknown_until: told.writing.clone(),
        })
    }

    /// The view that is folded.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// How its state and rows are laid out.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The committed facts.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// What is known before the next chunk of a partition.
    pub fn before(&self, partition: Partition) -> Before {
        Before { position: self.next.cut.position(partition), time: self.times.get(partition), dropped_to_us: self.meta.dropped_to_us }
    }

    /// Whether anything was merged since the last commit.
    pub fn is_ahead(&self) -> bool {
        self.next.cut != self.meta.cut
    }

    /// The memory of what was merged since the last commit, bytes.
    pub fn size(&self) -> usize {
        self.shards.iter().map(Shard::size).sum()
    }

    /// Merges a chunk. One that is already applied changes nothing.
    pub fn merge(&mut self, mut mapped: Mapped, now_ms: i64) -> Result<(), EngineError> {
        let chunk = mapped.chunk.clone();
        let partition = chunk.partition();
        let position = self.next.cut.position(partition);
        if self.has_ended(partition) {
            return Ok(());
        }
        if chunk.records.next <= position {
            // It holds nothing but the news that the partition ends here.
            if chunk.is_last {
                self.end(partition, now_ms);
            }
            return Ok(());
        }
        let dropped_meanwhile = match (mapped.oldest_end_us, self.meta.dropped_to_us) {
            (Some(oldest_end_us), Some(dropped_to_us)) => oldest_end_us <= dropped_to_us,
            _ => false,
        };
        let skipped_otherwise = mapped.before.position != position && chunk.from < position;
        if dropped_meanwhile || skipped_otherwise || mapped.before.time != self.times.get(partition) {
            mapped = self.remapper.map(&chunk, self.before(partition))?;
        }
        if mapped.before.position.max(chunk.from) > position {
            return Err(EngineError::Internal(format!("chunk of partition {partition} at {} does not follow {position}", chunk.from)));
        }
        self.is_changed = true;
        self.merge_shards(&mapped)?;
        for rejected in &mapped.rejected {
            self.quarantine_event(&mapped, rejected)?;
        }
        self.next.applied += mapped.applied;
        self.next.read += mapped.applied + mapped.rejected.len() as u64;
        self.next.cut.set(partition, chunk.records.next);
        self.times.moved(partition, mapped.time, chunk.records.next >= chunk.records.end, now_ms);
        if chunk.is_last {
            self.end(partition, now_ms);
        }
        Ok(())
    }

    fn end(&mut self, partition: Partition, now_ms: i64) {
        self.is_changed = true;
        self.next.ended.insert(partition);
        self.times.at_end(partition, now_ms);
    }

    /// The partitions that are read.
    pub fn partitions(&self) -> impl Iterator<Item = Partition> + '_ {
        self.times.all().keys().copied()
    }

    /// Whether a partition is folded up to where the version ends.
    pub fn has_ended(&self, partition: Partition) -> bool {
        self.next.ended.contains(&partition)
    }

    /// Whether all partitions are.
    pub fn has_ended_everywhere(&self) -> bool {
        !self.next.ended.is_empty() && self.times.all().keys().all(|partition| self.has_ended(*partition))
    }

    /// A partition was found read to its end.
    pub fn at_end(&mut self, partition: Partition, now_ms: i64) {
        self.times.at_end(partition, now_ms);
    }

    fn merge_shards(&mut self, mapped: &Mapped) -> Result<(), EngineError> {
        let (layout, state, present) = (&self.layout, self.state.as_ref(), &self.present_prefixes);
        // A group of a pane that is not in the state needs no look-up.
        let is_kept = |key: &[u8]| layout.panes.as_ref().is_none_or(|panes| present.contains(panes.of(key)));
        let merge = |shard: &mut Shard, index: usize| -> Result<(), EngineError> {
            for partial in mapped.shards.iter().filter(|partial| partial.shard == index) {
                shard.merge(partial, state, &layout.states, &is_kept)?;
            }
            Ok(())
        };
        let groups: usize = mapped.shards.iter().map(|partial| partial.hashes.len()).sum();
        if self.shards.len() == 1 || groups < PARALLEL_GROUPS {
            return self.shards.iter_mut().enumerate().try_for_each(|(index, shard)| merge(shard, index));
        }
        std::thread::scope(|scope| {
            let merge = &merge;
            let running: Vec<_> =
                self.shards.iter_mut().enumerate().map(|(index, shard)| scope.spawn(move || merge(shard, index))).collect();
            running
                .into_iter()
                .try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(EngineError::Internal("a shard's thread panicked".into()))))
        })
    }

    fn quarantine_event(&mut self, mapped: &Mapped, rejected: &Rejected) -> Result<(), EngineError> {
        *self.next.quarantined.entry(rejected.reason).or_default() += 1;
        let (partition, chunk) = (mapped.chunk.partition(), &mapped.chunk);
        let (record_time_ms, record) = (chunk.record_time_ms(rejected.offset), chunk.value(rejected.offset));
        let entry = Quarantined::encode(partition, rejected, record_time_ms, record, self.settings.max_quarantined_bytes)?;
        self.quarantine.add(entry, &mut self.next.quarantine);
        Ok(())
    }

    /// Commits everything merged so far in one batch: states, positions, quarantine, and the rows that changed. Rows
    /// that the view store has acknowledged leave the dirty set.
    pub fn commit(&mut self, acknowledged: &[Acknowledged], now_ms: i64) -> Result<Committed, EngineError> {
        let is_behind = !self.meta.cut.reaches(&self.unknown_until);
        let mut batch = Batch::default();
        dirty::clear(&mut batch, self.state.as_ref(), acknowledged)?;
        let mut next = self.next.clone();
        self.quarantine.put(&mut batch, self.state.as_ref(), &mut next.quarantine)?;
        next.times = self.times.all().clone();
        let watermark_us = self.times.watermark_us(self.settings.lateness_us, self.settings.quiet, now_ms);
        next.watermark_us = next.watermark_us.max(watermark_us);
        let sum = next.cut.sum();
        let mut rows = Vec::new();
        let mut touched_panes = BTreeSet::new();
        let touched = self.shards.iter_mut().map(Shard::take).collect::<Result<Vec<_>, _>>()?;
        for touched in &touched {
            self.put_groups(&mut batch, touched, &mut touched_panes)?;
            if self.assembler.is_none() {
                rows.extend(self.changed_rows(touched, sum, is_behind)?.filter(|rows| !rows.is_empty()));
            }
        }
        self.present_prefixes.extend(prefixes(&self.layout, touched_panes.difference(&self.present))?);
        self.present.extend(touched_panes.iter().copied());
        self.mark_pending(&mut next, &touched_panes);
        if let Some(doubt) = &mut next.doubt
            && doubt.end_us.is_none()
            && next.cut.reaches(&doubt.until)
        {
            doubt.end_us = next.times.values().filter_map(|time| time.latest_us()).max();
        }
        self.drop_panes(&mut batch, &mut next)?;
        for rows in &rows {
            dirty::put(&mut batch, &self.layout.rows, rows)?;
        }
        next.put(&mut batch)?;
        self.state.commit(&batch)?;
        self.meta = next.clone();
        self.next = next;
        self.is_changed = false;
        if let Some(assembler) = &mut self.assembler {
            for pane in &touched_panes {
                assembler.forget(*pane);
            }
        }
        let rows = match self.emit_pending()? {
            Some(emitted) => {
                rows.extend(emitted);
                Some(rows)
            }
            None => None,
        };
        Ok(Committed { cut: self.meta.cut.clone(), rows })
    }

    /// Makes everything committed durable. Nothing waits for that but the end: whoever opens an older state goes on from there.
    pub fn sync(&self) -> Result<(), EngineError> {
        Ok(self.state.sync()?)
    }

    fn put_groups(&self, batch: &mut Batch, touched: &Touched, panes: &mut BTreeSet<i64>) -> Result<(), EngineError> {
        let states = self.layout.states.encode(&touched.states, touched.keys.len())?;
        let mut last_prefix: &[u8] = &[];
        for (key, state) in touched.keys.iter().zip(states.iter()) {
            batch.put(Space::Groups, key, state.data());
            let Some(prefix) = &self.layout.panes else { continue };
            if prefix.of(key) != last_prefix {
                panes.extend(prefix.parse(key)?);
                last_prefix = prefix.of(key);
            }
        }
        Ok(())
    }

    /// The rows of touched groups that readers are to see now.
    fn changed_rows(&self, touched: &Touched, sum: u64, is_behind: bool) -> Result<Option<DirtyRows>, EngineError> {
        let selected = self.visible_groups(touched)?;
        if selected.is_empty() {
            return Ok(None);
        }
        let keys: Vec<&[u8]> = selected.iter().map(|index| touched.keys.get(*index as usize)).collect();
        let groups = self.layout.keys.decode(keys.iter().copied())?;
        let indices = UInt32Array::from(selected);
        let states = touched.states.iter().map(|states| take(states, &indices, None)).collect::<Result<Vec<_>, _>>()?;
        let rows = self.view.rows(&groups, &states)?;
        // A former owner may have written what this state never had: then every row that is not kept is deleted.
        let retracted = match is_behind {
            true => vec![true; keys.len()],
            false => self.retracted(&keys, &groups, &rows)?,
        };
        self.dirty_rows(&rows, &retracted, sum).map(Some)
    }

    /// The touched groups whose rows readers see: all once live, before that those of windows that were swept.
    fn visible_groups(&self, touched: &Touched) -> Result<Vec<u32>, EngineError> {
        if self.next.live {
            return Ok((0..touched.keys.len() as u32).collect());
        }
        let (Some(prefix), Some(window), Some(swept_to_us)) =
            (&self.layout.panes, self.view.window, self.next.sweeping_to_us.max(self.next.swept_to_us))
        else {
            return Ok(Vec::new());
        };
        let mut visible = Vec::new();
        let mut last: (&[u8], bool) = (&[], false);
        for (index, key) in touched.keys.iter().enumerate() {
            if prefix.of(key) != last.0 {
                let is_swept = prefix.parse(key)?.is_none_or(|pane| state_end_us(&window, pane) <= swept_to_us);
                last = (prefix.of(key), is_swept);
            }
            if last.1 {
                visible.push(index as u32);
            }
        }
        Ok(visible)
    }

    /// Of the groups whose rows are not kept (HAVING), those whose rows were kept before.
    fn retracted(&self, keys: &[&[u8]], groups: &[ArrayRef], rows: &Rows) -> Result<Vec<bool>, EngineError> {
        let mut retracted = vec![false; keys.len()];
        let mut excluded: Vec<u32> = (0..keys.len() as u32).filter(|row| !rows.kept.value(*row as usize)).collect();
        if excluded.is_empty() {
            return Ok(retracted);
        }
        let key = |row: &u32| keys.get(*row as usize).copied().unwrap_or_default();
        excluded.sort_unstable_by(|a, b| key(a).cmp(key(b)));
        let found = self.state.get_sorted(Space::Groups, &excluded.iter().map(key).collect::<Vec<_>>())?;
        let (old_rows, old_states): (Vec<u32>, Vec<&[u8]>) =
            excluded.iter().zip(&found).filter_map(|(row, value)| Some((*row, value.as_deref()?))).unzip();
        if old_rows.is_empty() {
            return Ok(retracted);
        }
        let states = self.layout.states.decode(old_states)?;
        let indices = UInt32Array::from(old_rows.clone());
        let groups = groups.iter().map(|groups| take(groups, &indices, None)).collect::<Result<Vec<_>, _>>()?;
        let before = self.view.former_rows(&groups, &states)?;
        for (index, row) in old_rows.iter().enumerate() {
            if let Some(retracted) = retracted.get_mut(*row as usize) {
                *retracted = before.kept.value(index);
            }
        }
        Ok(retracted)
    }

    fn dirty_rows(&self, rows: &Rows, retracted: &[bool], sum: u64) -> Result<DirtyRows, EngineError> {
        let mut mask = Vec::with_capacity(retracted.len());
        let mut deleted = Vec::new();
        for (row, retracted) in retracted.iter().enumerate() {
            let kept = rows.kept.value(row);
            let is_written = (kept || *retracted) && self.layout.rows.has_key(&rows.rows, row);
            mask.push(is_written);
            if is_written {
                deleted.push(!kept);
            }
        }
        let rows = filter_record_batch(&rows.rows, &mask.into())?;
        let mut keys = KeyArena::default();
        for key in self.layout.rows.encode_keys(&rows)?.iter() {
            keys.push(key.data());
        }
        let sums = vec![sum; deleted.len()];
        Ok(DirtyRows { keys, rows, deleted, sums })
    }

    /// From now on rows are written at every commit. What readers have not seen yet follows from the sweep that this answers with, or, for
    /// assembled windows, with the next commit. That a sweep was begun must be committed before it begins. Asked again after a crash, it answers with that sweep again.
    pub fn go_live(&mut self) -> Option<Sweep> {
        if self.next.complete {
            return None;
        }
        self.is_changed = true;
        if self.assembler.is_none() {
            self.next.live = true;
            return Some(self.sweep(None));
        }
        if let Some(window) = self.view.window.filter(|window| window.size_us == window.slide_us && !self.next.live) {
            let swept_to_us = self.next.swept_to_us;
            let is_unseen = |pane: &&i64| swept_to_us.is_none_or(|swept_to_us| state_end_us(&window, **pane) > swept_to_us);
            self.next.pending.extend(self.present.iter().filter(is_unseen));
        }
        self.next.live = true;
        self.next.complete = true;
        None
    }

    /// A sweep of the windows that have closed since the last one, if there are at least `least` of them. That it was begun must be
    /// committed before it begins.
    pub fn closed_sweep(&mut self, least: usize) -> Option<Sweep> {
        if self.next.live || self.assembler.is_some() {
            return None;
        }
        let window = self.view.window?;
        let closed_to_us = self.meta.watermark_us?;
        // Only the panes that are due are looked at, and no more of them than are needed: this is asked with every message.
        let swept_to_us = self.next.swept_to_us.unwrap_or(i64::MIN);
        let unswept = self.present.range(swept_to_us.saturating_sub(window.size_us)..).map(|pane| state_end_us(&window, *pane));
        let closed = unswept.filter(|end| *end > swept_to_us || self.next.swept_to_us.is_none()).take_while(|end| *end <= closed_to_us);
        let least = least.max(1);
        if closed.take(least).count() < least {
            return None;
        }
        Some(self.sweep(Some(closed_to_us)))
    }

    fn sweep(&mut self, to_us: Option<i64>) -> Sweep {
        self.is_changed = true;
        let swept_to_us = self.next.swept_to_us;
        let panes = self.view.window.map(|window| {
            let is_due = |pane: &i64| {
                let end = state_end_us(&window, *pane);
                to_us.is_none_or(|to_us| end <= to_us) && swept_to_us.is_none_or(|swept_to_us| end > swept_to_us)
            };
            self.present.iter().copied().filter(is_due).collect()
        });
        self.next.sweeping_to_us = self.next.sweeping_to_us.max(to_us);
        Sweep { panes, to_us, delete_excluded: self.next.doubtful }
    }

    /// The rows of a sweep are in the view store: noted with the next commit.
    pub fn swept(&mut self, sweep: &Sweep) {
        self.is_changed = true;
        match sweep.to_us {
            Some(to_us) => self.next.swept_to_us = self.next.swept_to_us.max(Some(to_us)),
            None => self.next.complete = true,
        }
    }

    /// Whether rows are written at every commit and readers have all of them, and that is committed.
    pub fn is_live(&self) -> bool {
        self.meta.complete
    }

    /// Whether rows are written at every commit, from the last sweep on, which may still be under way.
    pub fn is_going_live(&self) -> bool {
        self.next.live
    }

    /// How long it is until a commit can be due although nothing is read, milliseconds. `None`: none can.
    pub fn due_in_ms(&self, now_ms: i64) -> Option<i64> {
        self.assembler.as_ref().and_then(|_| self.times.quiet_in_ms(self.settings.quiet, now_ms))
    }

    /// Whether a commit is due although nothing was merged: facts have changed, or time has passed a window's end.
    pub fn has_news(&self, now_ms: i64) -> bool {
        let watermark_us = self.times.watermark_us(self.settings.lateness_us, self.settings.quiet, now_ms);
        self.is_changed || !self.meta.pending.is_empty() || (self.assembler.is_some() && watermark_us > self.meta.watermark_us)
    }
}

/// Below this many groups, starting threads costs more than they save.
const PARALLEL_GROUPS: usize = 4_096;

fn prefixes<'a>(layout: &Layout, panes: impl Iterator<Item = &'a i64>) -> Result<HashSet<Vec<u8>>, EngineError> {
    layout.panes.as_ref().map_or(Ok(HashSet::new()), |prefix| panes.map(|pane| prefix.bytes(*pane)).collect())
}

/// The panes that committed state holds.
fn present_panes(layout: &Layout, state: &dyn State) -> Result<BTreeSet<i64>, EngineError> {
    let mut present = BTreeSet::new();
    let Some(prefix) = &layout.panes else { return Ok(present) };
    let mut from = Vec::new();
    loop {
        let mut found: Option<Vec<u8>> = None;
        state.scan(Space::Groups, &from, None, &mut |key, _| {
            found = Some(key.to_vec());
            false
        })?;
        let Some(key) = found else { return Ok(present) };
        let pane = prefix.parse(&key)?;
        present.extend(pane);
        // The least key that does not begin with this pane's prefix.
        let mut after = prefix.of(&key).to_vec();
        while after.last() == Some(&u8::MAX) {
            after.pop();
        }
        match after.last_mut() {
            Some(last) => *last += 1,
            None => return Ok(present),
        }
        from = after;
    }
}
