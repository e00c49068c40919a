//! What is still to be written to the view store, and in which order. Pure: no store, no thread.
//!
//! The rows of fresh commits wait in memory, up to a bound. Beyond it (the store is slow or unavailable), and after a restart, rows are *drained*:
//! read back from the durable dirty set in key order, so that each changed row is written about once however often it changed meanwhile.

use std::collections::VecDeque;
use std::sync::Arc;

use super::dirty::{Acknowledged, DirtyRows};
use super::shares::Shares;
use super::sweep::Sweep;
use crate::position::Cut;
use crate::store::Progress;

/// The rows of one commit.
pub struct Queued {
    number: u64,
    bytes: usize,
    /// The rows.
    pub rows: Vec<DirtyRows>,
    /// What readers may be told once they are written.
    pub progress: Progress,
}

/// The next thing to do.
#[derive(Clone)]
pub enum Work {
    /// Nothing for now.
    Nothing,
    /// Write the rows of a commit.
    Rows(Arc<Queued>),
    /// Write the dirty rows whose keys come after this one.
    Drain(Option<Vec<u8>>),
    /// Write the rows of windows that have closed.
    Sweep(Sweep),
}

struct Drain {
    after: Option<Vec<u8>>,
    progress: Progress,
}

/// What is still to be written.
pub struct Outbox {
    queue: VecDeque<Arc<Queued>>,
    queued_rows: usize,
    queued_bytes: usize,
    max_rows: usize,
    shares: Arc<Shares>,
    next_number: u64,
    must_drain: bool,
    drain: Option<Drain>,
    sweep: Option<Sweep>,
    swept: Vec<Sweep>,
    /// Written, but not known to be durable.
    written: Vec<Acknowledged>,
    acknowledged: Vec<Acknowledged>,
    hold_until: Cut,
    latest: Progress,
    /// A cut that rows were read at, ahead of what was offered: its commit was made, and is about to be offered.
    read_at: Option<(Cut, Option<i64>)>,
    visible: Progress,
    /// Whether readers were sent to the table under a former owner already.
    was_live: bool,
}

impl Outbox {
    /// An outbox that keeps up to `max_rows` rows in memory, and no more than its share takes.
    ///
    /// Nothing is written before a commit has reached the cut that was told to be
    /// `writing`: rows of cuts up to there may be in the store already, and readers must not see them go back. What was told to be
    /// visible still is. `committed` is where the state is now.
    pub fn new(max_rows: usize, shares: Arc<Shares>, told: Progress, committed: Progress) -> Outbox {
        Outbox {
            queue: VecDeque::new(),
            queued_rows: 0,
            queued_bytes: 0,
            max_rows,
            shares,
            next_number: 0,
            // Whatever a former owner left behind.
            must_drain: true,
            drain: None,
            sweep: None,
            swept: Vec::new(),
            written: Vec::new(),
            acknowledged: Vec::new(),
            hold_until: told.writing.clone(),
            was_live: told.live,
            visible: told,
            latest: committed,
            read_at: None,
        }
    }

    /// Takes the rows of a commit; `None`: they are too many to be kept here.
    pub fn offer(&mut self, rows: Option<Vec<DirtyRows>>, progress: Progress) {
        self.latest = progress.clone();
        if self.must_drain {
            return;
        }
        let Some(rows) = rows else { return self.overflow() };
        let count: usize = rows.iter().map(DirtyRows::len).sum();
        // Commits that change no row would else be queued without end while the store is unavailable.
        if count == 0
            && let Some(last) = self.queue.back_mut().and_then(Arc::get_mut)
        {
            last.progress = progress;
            return;
        }
        let bytes: usize = rows.iter().map(DirtyRows::size).sum();
        let is_too_much = self.queued_rows + count > self.max_rows || self.queued_bytes + bytes > self.shares.queue();
        if is_too_much || self.queue.len() >= MOST_COMMITS {
            return self.overflow();
        }
        self.queued_rows += count;
        self.queued_bytes += bytes;
        self.queue.push_back(Arc::new(Queued { number: self.next_number, bytes, rows, progress }));
        self.next_number += 1;
    }

    /// What waits is read back from the dirty rows.
    fn overflow(&mut self) {
        self.queue.clear();
        (self.queued_rows, self.queued_bytes) = (0, 0);
        self.must_drain = true;
    }

    /// Takes a sweep; there is at most one at a time.
    pub fn offer_sweep(&mut self, sweep: Sweep) {
        self.sweep = Some(sweep);
    }

    /// Whether a sweep is still to be done.
    pub fn is_sweeping(&self) -> bool {
        self.sweep.is_some()
    }

    /// Whether what is committed is behind what the owner before may have written.
    fn is_held(&self) -> bool {
        !self.latest.visible.reaches(&self.hold_until)
    }

    /// What to do next. The same work is answered until it is reported as done.
    pub fn work(&mut self) -> Work {
        if self.is_held() {
            return Work::Nothing;
        }
        if let Some(drain) = &self.drain {
            return Work::Drain(drain.after.clone());
        }
        if let Some(sweep) = self.sweep.clone() {
            // It reads newer values than commits that wait have, so theirs are read back after it. Were they written before it, commits that
            // come faster than they are written would keep it from ever beginning.
            if !self.queue.is_empty() {
                self.overflow();
            }
            return Work::Sweep(sweep);
        }
        if let Some(queued) = self.queue.front() {
            return Work::Rows(queued.clone());
        }
        if self.must_drain {
            // Commits from now on are queued again; this pass writes all before them.
            self.must_drain = false;
            self.drain = Some(Drain { after: None, progress: self.latest.clone() });
            return Work::Drain(None);
        }
        Work::Nothing
    }

    /// The rows of a commit are in the store.
    pub fn wrote(&mut self, queued: &Queued) {
        for rows in &queued.rows {
            self.written.push(acknowledge(rows));
        }
        if self.queue.front().is_some_and(|front| front.number == queued.number) {
            self.queue.pop_front();
            self.queued_rows -= queued.rows.iter().map(DirtyRows::len).sum::<usize>();
            self.queued_bytes -= queued.bytes;
            self.visible = queued.progress.clone();
        }
    }

    /// Drained rows are in the store; there were no more if `rows` is empty.
    pub fn drained(&mut self, rows: &DirtyRows) {
        if !rows.is_empty() {
            self.written.push(acknowledge(rows));
            if let Some(drain) = &mut self.drain {
                drain.after = Some(rows.keys.get(rows.keys.len() - 1).to_vec());
            }
        } else if let Some(drain) = self.drain.take() {
            self.visible = drain.progress;
        }
    }

    /// The rows of the sweep are in the store.
    pub fn swept(&mut self) {
        self.swept.extend(self.sweep.take());
    }

    /// Everything written so far is durable in the store.
    pub fn synced(&mut self) {
        self.acknowledged.append(&mut self.written);
    }

    /// Rows written that are not known to be durable.
    pub fn unsynced_rows(&self) -> usize {
        self.written.iter().map(|written| written.sums.len()).sum()
    }

    /// Whether what is not known to be durable is more than so many rows, or than may be kept in memory.
    pub fn should_sync(&self, most_rows: usize) -> bool {
        self.unsynced_rows() > most_rows || size(&self.written) > self.shares.queue() / 2
    }

    /// Whether so much waits to be taken out of the dirty rows that writing had better wait for it.
    pub fn is_ahead_of_clearing(&self) -> bool {
        size(&self.acknowledged) > self.shares.queue() / 2
    }

    /// Whether there are acknowledgements or finished sweeps to be committed.
    pub fn has_acknowledged(&self) -> bool {
        !self.acknowledged.is_empty() || !self.swept.is_empty()
    }

    /// Whether there are finished sweeps to be committed.
    pub fn has_swept(&self) -> bool {
        !self.swept.is_empty()
    }

    /// The rows that the store has, to be taken out of the dirty set.
    pub fn take_acknowledged(&mut self) -> Vec<Acknowledged> {
        std::mem::take(&mut self.acknowledged)
    }

    /// The sweeps that are finished.
    pub fn take_swept(&mut self) -> Vec<Sweep> {
        std::mem::take(&mut self.swept)
    }

    /// Rows about to be written were read from a state with this cut and watermark.
    pub fn read_at(&mut self, cut: Cut, watermark_us: Option<i64>) {
        self.read_at = Some((cut, watermark_us));
    }

    /// What readers may be told: everything up to its `visible` cut is in the store, rows up to `writing` may be.
    pub fn progress(&self) -> Progress {
        let offered = (self.latest.visible.clone(), self.latest.watermark_us);
        let (writing, writing_watermark_us) = match &self.read_at {
            Some(read_at) if (read_at.0.sum(), read_at.1) > (offered.0.sum(), offered.1) => read_at.clone(),
            _ => offered,
        };
        // An owner that catches up has the readers of the one before.
        Progress { writing, writing_watermark_us, live: self.visible.live || self.was_live, ..self.visible.clone() }
    }

    /// The sum of positions of the oldest commit whose rows wait in memory.
    pub fn oldest_queued(&self) -> Option<u64> {
        self.queue.front().map(|queued| queued.progress.visible.sum())
    }

    /// Whether the table may have readers, who want to know what changes.
    pub fn has_readers(&self) -> bool {
        self.was_live || self.latest.live
    }

    /// Whether everything committed is written.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.drain.is_none() && !self.must_drain && self.sweep.is_none()
    }

    /// Events that are committed and whose rows are not all known to be written.
    pub fn unwritten_events(&self) -> u64 {
        self.latest.visible.sum().saturating_sub(self.visible.visible.sum())
    }

    /// Whether the store does not keep up: rows wait beside those of the commit that is being written, and not for the fold to get far enough.
    pub fn is_behind(&self) -> bool {
        !self.is_held() && (self.queue.len() > 1 || self.must_drain || self.drain.is_some())
    }

    /// Rows waiting in memory.
    pub fn queued_rows(&self) -> usize {
        self.queued_rows
    }
}

/// Commits of a row or two take more memory than the rows.
const MOST_COMMITS: usize = 2_000;

fn size(acknowledged: &[Acknowledged]) -> usize {
    acknowledged.iter().map(Acknowledged::size).sum()
}

fn acknowledge(rows: &DirtyRows) -> Acknowledged {
    let mut keys = super::shard::KeyArena::default();
    for key in rows.keys.iter() {
        keys.push(key);
    }
    Acknowledged { keys, sums: rows.sums.clone() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

    use datafusion::arrow::array::RecordBatch;
    use datafusion::arrow::datatypes::Schema;

    use super::*;
    use crate::engine::shard::KeyArena;
    use crate::position::{Offset, Partition};

    const QUEUE_BYTES: usize = 10_000;

    fn rows(count: usize) -> DirtyRows {
        let mut keys = KeyArena::default();
        for row in 0..count {
            keys.push(format!("a key of some length, {row}").as_bytes());
        }
        let none = RecordBatch::new_empty(Arc::new(Schema::empty()));
        DirtyRows { keys, rows: none, deleted: vec![false; count], sums: vec![1; count] }
    }

    fn outbox() -> Outbox {
        let mut outbox = Outbox::new(1_000, Arc::new(Shares::new(0, 0, QUEUE_BYTES)), Progress::default(), Progress::default());
        assert!(matches!(outbox.work(), Work::Drain(None)));
        outbox
    }

    #[test]
    fn what_is_written_is_made_durable_and_cleared_before_it_takes_more_than_its_share() {
        let mut outbox = outbox();
        let mut drained = 0;
        while !outbox.should_sync(usize::MAX) {
            outbox.drained(&rows(10));
            drained += 10;
            assert!(drained < 1_000, "no bound");
        }
        assert!(drained > 10 && !outbox.is_ahead_of_clearing(), "nothing is durable yet");
        outbox.synced();
        assert!(!outbox.should_sync(usize::MAX) && outbox.is_ahead_of_clearing());
        assert_eq!(outbox.take_acknowledged().iter().map(|rows| rows.sums.len()).sum::<usize>(), drained);
        assert!(!outbox.is_ahead_of_clearing());
    }

    #[test]
    fn a_store_does_not_keep_up_while_a_second_commit_or_a_drain_waits() {
        let mut outbox = outbox();
        assert!(outbox.is_behind(), "what a former owner left is drained");
        outbox.drained(&rows(0));
        assert!(!outbox.is_behind());
        outbox.offer(Some(vec![rows(2)]), Progress::default());
        assert!(!outbox.is_behind(), "one is on its way");
        outbox.offer(Some(vec![rows(2)]), Progress::default());
        assert!(outbox.is_behind());
        let Work::Rows(queued) = outbox.work() else { panic!("there are commits") };
        outbox.wrote(&queued);
        assert!(!outbox.is_behind());
        outbox.offer(None, Progress::default());
        assert!(outbox.is_behind(), "too many rows: they are read back");
    }

    #[test]
    fn a_sweep_waits_for_no_commit_and_what_waited_is_read_back_after_it() {
        let mut outbox = outbox();
        outbox.drained(&rows(0));
        outbox.offer(Some(vec![rows(2)]), Progress::default());
        outbox.offer_sweep(Sweep { panes: None, to_us: None, delete_excluded: false });
        assert!(matches!(outbox.work(), Work::Sweep(_)) && outbox.oldest_queued().is_none());
        outbox.offer(Some(vec![rows(2)]), Progress::default());
        assert!(matches!(outbox.work(), Work::Sweep(_)));
        outbox.swept();
        assert!(matches!(outbox.work(), Work::Drain(None)));
        outbox.drained(&rows(0));
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_store_that_waits_for_the_fold_keeps_up() {
        let cut = |position| [(Partition(0), Offset(position))].into_iter().collect::<Cut>();
        let told = Progress { writing: cut(5), ..Progress::default() };
        let mut outbox = Outbox::new(1_000, Arc::new(Shares::new(0, 0, QUEUE_BYTES)), told, Progress::default());
        assert!(!outbox.is_behind() && matches!(outbox.work(), Work::Nothing));
        outbox.offer(None, Progress { visible: cut(5), ..Progress::default() });
        assert!(outbox.is_behind() && matches!(outbox.work(), Work::Drain(None)));
    }
}
