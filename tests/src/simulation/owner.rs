//! One owner of a version, driven step by step: the engine's own steps, over ports that fail, and with what is wrong in them on purpose.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use refold_processor::clock::Clock;
use refold_processor::decode::SchemaLookup;
use refold_processor::engine::error::EngineError;
use refold_processor::engine::fold::{Fold, FoldSettings};
use refold_processor::engine::outbox::{Outbox, Work};
use refold_processor::engine::publisher::{Publications, Publisher};
use refold_processor::engine::steps::{self, Parts, Steps, Writes};
use refold_processor::engine::sweep::Sweep;
use refold_processor::log::Log;
use refold_processor::log::memory::MemoryLog;
use refold_processor::position::{Cut, Partition};
use refold_processor::source::Source;
use refold_processor::store::{Progress, RowWriter, StoreError};
use refold_processor::table::{Epoch, Table, Version};
use refold_processor::view::View;

use super::followers::Followers;
use super::situations::Situation;
use super::world::{self, Disk, FaultyStore, Mutant};

/// When the fold commits while the writer takes a step.
#[derive(Clone, Copy, Debug)]
pub enum Beside {
    /// While a write is on its way, after so many others.
    Write(usize),
    /// Before a snapshot is taken.
    Snapshot,
}

/// What all owners of a simulated version share.
pub struct Scene {
    /// The source.
    pub source: Source,
    /// Writer schemas.
    pub schemas: Arc<dyn SchemaLookup>,
    /// The view.
    pub view: Arc<View>,
    /// The log.
    pub log: Arc<MemoryLog>,
    /// The view store.
    pub store: Arc<FaultyStore>,
    /// Who follows the table.
    pub followers: Arc<Followers>,
    /// The version's table.
    pub table: Table,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// How the version is folded.
    pub settings: FoldSettings,
    /// What is wrong on purpose.
    pub mutant: Option<Mutant>,
}

impl Scene {
    /// An empty log and an empty table for a view.
    pub fn new(
        source: Source,
        schemas: Arc<dyn SchemaLookup>,
        view: &Arc<View>,
        clock: Arc<dyn Clock>,
        settings: FoldSettings,
        mutant: Option<Mutant>,
    ) -> Scene {
        let log = Arc::new(MemoryLog::new(clock.clone()));
        log.create_topic(&source.topic, source.partitions).unwrap();
        let store = Arc::new(FaultyStore::new(mutant));
        let table = Table { view: view.name.clone(), version: Version(1), shape: view.shape.clone() };
        store.create_table(&table).unwrap();
        let followers = Arc::new(Followers::new(store.clone(), mutant));
        Scene { source, schemas, view: view.clone(), log, store, followers, table, clock, settings, mutant }
    }
}

/// One owner.
pub struct Owner {
    /// What it has to publish.
    pub publications: Arc<Publications>,
    /// Its disk.
    pub disk: Disk,
    /// Its epoch.
    pub epoch: Epoch,
    steps: Steps,
}

impl Deref for Owner {
    type Target = Steps;

    fn deref(&self) -> &Steps {
        &self.steps
    }
}

impl DerefMut for Owner {
    fn deref_mut(&mut self) -> &mut Steps {
        &mut self.steps
    }
}

impl Owner {
    /// Takes the version with the state on `disk`.
    pub fn open(scene: &Scene, disk: Disk, epoch: Epoch) -> Result<Owner, EngineError> {
        let mut told = scene.store.kept.fence(&scene.table, epoch)?;
        if matches!(scene.mutant, Some(Mutant::AnnouncedUnheard | Mutant::TimestampWithoutEpoch)) {
            (told.writing, told.writing_watermark_us) = (Cut::default(), None);
        }
        let writing = told.writing.clone();
        let publications =
            Publications::new(scene.followers.clone(), scene.table.clone(), None, scene.settings.shares.clone(), Arc::default());
        let publications = Arc::new(publications);
        let parts = Parts {
            source: scene.source.clone(),
            schemas: scene.schemas.clone(),
            view: scene.view.clone(),
            log: scene.log.clone(),
            state: Arc::new(disk.clone()),
            store: scene.store.clone(),
            table: scene.table.clone(),
            settings: scene.settings.clone(),
            writes: Writes { queued_rows: 20, rows_per_write: [1, 2, 1, 5][epoch.0 as usize % 4], read_ahead_bytes: 100 },
        };
        let steps = Steps::open(&parts, Publisher::simulated(publications.clone()), told, epoch, scene.clock.now_ms())?;
        scene.followers.owner.fetch_max(epoch.0, Ordering::Relaxed);
        scene.store.owner.fetch_max(epoch.0, Ordering::Relaxed);
        if !steps.fold.lock().meta().cut.reaches(&writing) {
            Situation::Held.note();
        }
        Ok(Owner { publications, disk, epoch, steps })
    }

    /// Reads and maps one chunk of a partition. `false`: it is read to its end.
    pub fn map(&mut self, scene: &Scene, partition: Partition, max_bytes: usize) -> Result<bool, EngineError> {
        let latest_us = self.steps.latest_us();
        let Some((chunk, mut judged_by)) = self.steps.read(partition, max_bytes, scene.clock.now_ms())? else { return Ok(false) };
        if scene.mutant == Some(Mutant::LatenessAcrossPartitions) {
            judged_by.time.max_us = latest_us;
        }
        self.steps.map(&chunk, judged_by)?;
        Ok(true)
    }

    /// Merges the oldest mapped chunk of a partition.
    pub fn merge(&mut self, scene: &Scene, partition: Partition) -> Result<bool, EngineError> {
        self.steps.merge(partition, scene.clock.now_ms())
    }

    /// Commits what is merged, and offers the rows to the writer.
    pub fn commit(&mut self, scene: &Scene) -> Result<(), EngineError> {
        commit(&mut self.steps.fold.lock(), &mut self.steps.writer.outbox.lock(), scene.mutant, scene.clock.now_ms())
    }

    /// One step of the writer. While a write is on its way after so many others, or before it takes a snapshot, the fold merges a chunk and commits, so
    /// many times.
    pub fn write(&mut self, scene: &Scene, commits: usize, beside: Beside) -> Result<(), EngineError> {
        let Steps { fold, mapped, writer, .. } = &self.steps;
        let (fold, mapped, outbox) = (fold.clone(), mapped.clone(), writer.outbox.clone());
        let (clock, mutant) = (scene.clock.clone(), scene.mutant);
        let is_sweep = matches!(self.writer.outbox.lock().work(), Work::Sweep(_));
        let commit_once = move || {
            let mut fold = fold.lock();
            let next = mapped.lock().values_mut().find_map(VecDeque::pop_front);
            next.map_or(Ok(()), |mapped| fold.merge(mapped, clock.now_ms()))?;
            commit(&mut fold, &mut outbox.lock(), mutant, clock.now_ms())
        };
        let ended = Arc::new(Mutex::new(None));
        let noted = ended.clone();
        let call: world::Beside = Box::new(move || {
            if is_sweep && commits > 0 {
                Situation::CommitDuringSweep.note();
            }
            let committed = (0..commits).try_for_each(|_| commit_once());
            committed.map_err(|error| StoreError::Unavailable(noted.lock().insert(error).to_string()))
        });
        match beside {
            Beside::Write(writes) => *scene.store.beside.lock() = Some((writes, call)),
            Beside::Snapshot => *self.disk.beside.lock() = Some(call),
        }
        let stepped = self.steps.writer.step().map(drop);
        *scene.store.beside.lock() = None;
        *self.disk.beside.lock() = None;
        ended.lock().take().map_or(stepped, Err)
    }

    /// One step of the publisher. What the feed refuses is no error of the version.
    pub fn publish(&self) {
        let _ = self.publications.step();
    }

    /// Writes at every commit from now on.
    pub fn go_live(&mut self, scene: &Scene) -> Result<(), EngineError> {
        let sweep = self.steps.go_live();
        self.begin(scene, sweep)
    }

    /// Sweeps what has closed.
    pub fn sweep(&mut self, scene: &Scene) -> Result<(), EngineError> {
        let sweep = self.steps.sweep();
        self.begin(scene, sweep)
    }

    /// That a sweep was begun is committed before it begins.
    fn begin(&mut self, scene: &Scene, sweep: Option<Sweep>) -> Result<(), EngineError> {
        if let Some(sweep) = sweep {
            self.commit(scene)?;
            self.steps.begin(sweep);
        }
        Ok(())
    }

    /// What it tells readers.
    pub fn progress(&self) -> Progress {
        self.steps.writer.outbox.lock().progress()
    }
}

/// Commits what is merged; what changed is to be written.
fn commit(fold: &mut Fold, outbox: &mut Outbox, mutant: Option<Mutant>, now_ms: i64) -> Result<(), EngineError> {
    if mutant == Some(Mutant::ClearBeforeAcknowledged)
        && let Work::Rows(queued) = outbox.work()
    {
        outbox.wrote(&queued);
        outbox.synced();
    }
    steps::commit(fold, outbox, now_ms)
}
