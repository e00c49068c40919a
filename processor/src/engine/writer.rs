//! Carries out what the outbox says: rows → view store, step by step; what the store has is handed to the publisher of the change feed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::Receiver;
use parking_lot::Mutex;

use super::ahead::Ahead;
use super::dirty::{self, write_timestamp};
use super::error::EngineError;
use super::faults::{Faults, Step};
use super::layout::Layout;
use super::meta::Meta;
use super::outbox::{Outbox, Work};
use super::publisher::Publisher;
use super::status::{RunStatus, timed};
use super::sweep::{Reached, Sweep, Sweeper};
use super::timing::TimedStep;
use crate::position::Cut;
use crate::state::{Space, StateReader};
use crate::store::{Progress, RowBatch, RowWriter};
use crate::table::{Epoch, Table};
use crate::view::View;

/// Writes the rows of one version.
pub struct Writer {
    /// The view.
    pub view: Arc<View>,
    /// Its layout.
    pub layout: Arc<Layout>,
    /// Committed state.
    pub state: Arc<dyn StateReader>,
    /// Where rows go.
    pub store: Arc<dyn RowWriter>,
    /// Publishes them once they are there: who follows the table hears of them so.
    pub publisher: Publisher,
    /// The version's table.
    pub table: Table,
    /// The owner's epoch.
    pub epoch: Epoch,
    /// What is to be written.
    pub outbox: Arc<Mutex<Outbox>>,
    /// How many rows are drained or swept at a time.
    pub rows_per_write: usize,
    /// How much of the state a sweep reads ahead, bytes.
    pub read_ahead_bytes: usize,
    /// How far it is; by default it has not begun.
    pub underway: Underway,
    /// Whether rows are made durable as soon as there is nothing else to do; otherwise only when they are many.
    pub may_sync: bool,
    /// Set when another has taken the version.
    pub lost: Arc<AtomicBool>,
    /// How long its steps take.
    pub status: Arc<Mutex<RunStatus>>,
    /// Where to end the process, for tests.
    pub faults: Arc<Faults>,
}

/// How far a writer is.
#[derive(Default)]
pub struct Underway {
    /// The cut and the watermark up to which rows may be in the store, as they were told last.
    announced: Option<(Cut, Option<i64>)>,
    /// Rows that were written newer than commits that wait have them.
    ahead: Ahead,
    /// Where the drain that was begun ends.
    drain_to: Option<Vec<u8>>,
    /// Whether what can be told now was not told yet.
    is_untold: bool,
    /// How far the sweep that was begun is.
    sweeping: Option<(Sweep, Reached)>,
    /// Rows of windows that begin before this time were given back.
    reclaimed_to_us: Option<i64>,
    /// The thread that gives space back.
    reclaiming: Option<JoinHandle<()>>,
}

/// Rows written before they are made durable without a pause, in units of the rows of one write.
const UNSYNCED_ROWS: usize = 4;

/// How often the space of rows is given back in the time that a view keeps them.
const RECLAIMS_PER_KEEP: i64 = 16;

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stepped {
    /// There was nothing to write.
    Nothing,
    /// Rows were written, or readers were told of some.
    Wrote(usize),
    /// Rows that were written are durable now.
    Synced,
}

impl Writer {
    /// Does the next piece of work. On error nothing is taken as written, and the next step tries the same again.
    pub fn step(&mut self) -> Result<Stepped, EngineError> {
        if !self.publisher.has_begun() {
            // What a former owner has written, and not published, is heard of nowhere else.
            self.publish_progress(Vec::new());
        }
        // Under steady load there is no pause to sync in. Should it fail, nothing is added to what waits for it.
        let should_sync = self.outbox.lock().should_sync(UNSYNCED_ROWS * self.rows_per_write);
        if should_sync {
            return self.sync();
        }
        let work = self.outbox.lock().work();
        if !matches!(work, Work::Nothing) {
            self.faults.reach(Step::Write);
        }
        let rows = match work {
            Work::Nothing if self.underway.is_untold => {
                self.tell()?;
                self.underway.is_untold = false;
                return Ok(Stepped::Wrote(0));
            }
            Work::Nothing if !self.may_sync => return Ok(Stepped::Nothing),
            Work::Nothing => return self.sync(),
            Work::Rows(queued) => {
                self.announce()?;
                let mut written = Vec::with_capacity(queued.rows.len());
                for rows in queued.rows.iter().filter(|rows| !rows.is_empty()) {
                    let batch = self.underway.ahead.less(&self.layout.rows, rows.to_batch(self.epoch)?)?;
                    if batch.rows.num_rows() > 0 {
                        self.write(&batch)?;
                        written.push(batch);
                    }
                }
                // What is announced may be ahead of these rows, never behind.
                let writing = self.outbox.lock().progress().writing;
                let count = written.iter().map(|batch| batch.rows.num_rows()).sum();
                self.publish(written, Progress { writing, ..queued.progress.clone() });
                self.faults.reach(Step::Acknowledge);
                let mut outbox = self.outbox.lock();
                outbox.wrote(&queued);
                if outbox.oldest_queued().is_none() {
                    self.underway.ahead.clear();
                }
                count
            }
            Work::Drain(after) => {
                if after.is_none() {
                    // A drain begins when no commit waits.
                    self.underway.ahead.clear();
                    // Keys that rise with time would else be followed for ever; what comes behind the last is queued, or drained next.
                    self.underway.drain_to = self.state.last_key(Space::Dirty)?;
                }
                let last = self.underway.drain_to.as_deref().unwrap_or_default();
                let rows = dirty::read(self.state.as_ref(), &self.layout.rows, after.as_deref(), last, self.rows_per_write)?;
                if rows.is_empty() {
                    self.outbox.lock().drained(&rows);
                    // This is for followers who wait for positions.
                    self.publish_progress(Vec::new());
                } else {
                    self.announce_read()?;
                    let batch = rows.to_batch(self.epoch)?;
                    self.write(&batch)?;
                    self.publish_read(batch)?;
                    self.outbox.lock().drained(&rows);
                }
                rows.len()
            }
            Work::Sweep(sweep) => {
                let Some(count) = self.sweep(&sweep)? else { return Ok(Stepped::Wrote(0)) };
                // A sweep is forgotten as soon as it is noted, so its rows must be durable first.
                self.sync_store()?;
                self.outbox.lock().swept();
                self.underway.sweeping = None;
                count
            }
        };
        self.faults.reach(Step::Tell);
        // Should it fail, there may be no further row to tell of.
        self.underway.is_untold = true;
        self.tell()?;
        self.underway.is_untold = false;
        self.reclaim();
        Ok(Stepped::Wrote(rows))
    }

    /// Writes the rows of a sweep, the next ones being read meanwhile. After an error it goes on where it was. `None`: there is a commit that
    /// has to be written first.
    fn sweep(&mut self, sweep: &Sweep) -> Result<Option<usize>, EngineError> {
        let (view, layout, state) = (self.view.clone(), self.layout.clone(), self.state.clone());
        let snapshot = state.snapshot();
        let meta = Meta::load(&view, snapshot.as_ref())?;
        let sum = meta.cut.sum();
        {
            let mut outbox = self.outbox.lock();
            // It came after this work was chosen, and has older values of the rows: who follows changes must not hear of them later.
            if outbox.oldest_queued().is_some_and(|oldest| oldest < sum) {
                return Ok(None);
            }
            outbox.read_at(meta.cut, meta.watermark_us);
        }
        self.announce()?;
        let reached = self.underway.sweeping.take().filter(|(begun, _)| begun == sweep).map(|(_, reached)| reached).unwrap_or_default();
        self.underway.sweeping = Some((sweep.clone(), reached.clone()));
        let (epoch, max_rows, read_ahead_bytes) = (self.epoch, self.rows_per_write, self.read_ahead_bytes);
        let sweeper = Sweeper { view: &view, layout: &layout, state: snapshot.as_ref(), sum, epoch, max_rows, read_ahead_bytes };
        let (sender, batches) = crossbeam_channel::bounded(1);
        std::thread::scope(|scope| {
            let reading = scope.spawn(move || {
                sweeper.run(sweep, reached, &mut |rows, reached| sender.send((rows, reached)).map_err(|_| EngineError::Lost))
            });
            let written = self.write_swept(sweep, batches);
            let read = reading.join().unwrap_or_else(|_| Err(EngineError::Internal("the thread that reads a sweep panicked".into())));
            // When nothing more is written, reading ends too: why is then known here.
            let count = written?;
            read.map(|()| Some(count))
        })
    }

    fn write_swept(&mut self, sweep: &Sweep, batches: Receiver<(RowBatch, Reached)>) -> Result<usize, EngineError> {
        let mut count = 0;
        for (rows, reached) in batches {
            if self.lost.load(Ordering::Relaxed) {
                return Err(EngineError::Lost);
            }
            self.write(&rows)?;
            count += rows.rows.num_rows();
            self.publish_progress(vec![rows]);
            self.underway.sweeping = Some((sweep.clone(), reached));
        }
        Ok(count)
    }

    /// Says up to which cut rows may be in the store, before any of them is. Under load that was said when the commit before was told of.
    fn announce(&mut self) -> Result<(), EngineError> {
        let progress = self.outbox.lock().progress();
        match self.underway.announced == Some((progress.writing, progress.writing_watermark_us)) {
            true => Ok(()),
            false => self.tell(),
        }
    }

    /// Says so for rows that were just read from the state: the fold may have committed since the last cut that was announced.
    fn announce_read(&mut self) -> Result<(), EngineError> {
        let meta = Meta::load(&self.view, self.state.as_ref())?;
        self.outbox.lock().read_at(meta.cut, meta.watermark_us);
        self.announce()
    }

    /// Gives back the space of rows that are past the view's `keep`, each time that a good part of them is. That may be a walk through the whole
    /// table, so it has a thread of its own: readers do not see these rows in any case.
    fn reclaim(&mut self) {
        if self.underway.reclaiming.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        let (Some(window), Some(keep_us)) = (self.view.window, self.view.options.keep_us) else { return };
        let Some(horizon_us) = self.outbox.lock().progress().horizon_us else { return };
        let step_us = (keep_us / RECLAIMS_PER_KEEP).max(window.slide_us);
        if self.underway.reclaimed_to_us.is_none_or(|reclaimed_to_us| horizon_us >= reclaimed_to_us.saturating_add(step_us)) {
            let (store, table) = (self.store.clone(), self.table.clone());
            let body = move || {
                if let Err(error) = store.reclaim(&table, window.column, horizon_us) {
                    tracing::warn!(table = table.name(), %error, "the space of rows past keep is not given back; trying again later");
                }
            };
            match std::thread::Builder::new().name(format!("reclaim-{}", self.table.name())).spawn(body) {
                Ok(thread) => self.underway.reclaiming = Some(thread),
                Err(error) => tracing::warn!(%error, "no thread to give space back"),
            }
            self.underway.reclaimed_to_us = Some(horizon_us);
        }
    }

    /// Waits for what is still going on beside it.
    pub fn finish(&mut self) {
        self.publisher.finish(!self.lost.load(Ordering::Relaxed));
        if let Some(thread) = self.underway.reclaiming.take() {
            let _ = thread.join();
        }
    }

    fn tell(&mut self) -> Result<(), EngineError> {
        let progress = self.outbox.lock().progress();
        timed(&self.status, TimedStep::Tell, || self.store.tell(&self.table, self.epoch, &progress))?;
        self.underway.announced = Some((progress.writing, progress.writing_watermark_us));
        Ok(())
    }

    fn write(&self, rows: &RowBatch) -> Result<(), EngineError> {
        Ok(timed(&self.status, TimedStep::Write, || self.store.write(&self.table, rows))?)
    }

    /// Publishes rows that were read from the state, and written.
    fn publish_read(&mut self, rows: RowBatch) -> Result<(), EngineError> {
        let oldest = self.outbox.lock().oldest_queued();
        if let Some(oldest) = oldest {
            self.underway.ahead.note(&self.layout.rows, &rows, write_timestamp(self.epoch, oldest)?)?;
        }
        self.publish_progress(vec![rows]);
        Ok(())
    }

    /// Publishes written rows, as far as readers are told now.
    fn publish_progress(&mut self, rows: Vec<RowBatch>) {
        let progress = self.outbox.lock().progress();
        self.publish(rows, progress);
    }

    fn publish(&mut self, rows: Vec<RowBatch>, progress: Progress) {
        if self.outbox.lock().has_readers() {
            self.publisher.publish(rows, progress);
        }
    }

    fn sync_store(&self) -> Result<(), EngineError> {
        Ok(timed(&self.status, TimedStep::Sync, || self.store.sync())?)
    }

    fn sync(&self) -> Result<Stepped, EngineError> {
        if self.outbox.lock().unsynced_rows() == 0 {
            return Ok(Stepped::Nothing);
        }
        self.sync_store()?;
        // Only this thread writes: what is noted as written now was so before the sync.
        self.outbox.lock().synced();
        Ok(Stepped::Synced)
    }
}
