//! One owner of a version, driven step by step: the engine's own parts, without its threads.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use refold_processor::clock::Clock;
use refold_processor::decode::{Decoder, SchemaLookup};
use refold_processor::engine::error::EngineError;
use refold_processor::engine::feed::columns;
use refold_processor::engine::fold::{Fold, FoldSettings, Told};
use refold_processor::engine::map::{Before, Chunk, ChunkMapper, Mapped};
use refold_processor::engine::outbox::{Outbox, Work};
use refold_processor::engine::publisher::{Publications, Publisher};
use refold_processor::engine::run::progress;
use refold_processor::engine::sweep::Sweep;
use refold_processor::engine::writer::Writer;
use refold_processor::log::memory::MemoryLog;
use refold_processor::log::{Log, LogReader};
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
    /// The fold.
    pub fold: Arc<Mutex<Fold>>,
    /// The writer.
    pub writer: Writer,
    /// What it has to publish.
    pub publications: Arc<Publications>,
    /// Its disk.
    pub disk: Disk,
    /// Its epoch.
    pub epoch: Epoch,
    mapper: ChunkMapper,
    decoder: Decoder,
    readers: BTreeMap<Partition, (Box<dyn LogReader>, Before)>,
    mapped: Arc<Mutex<BTreeMap<Partition, VecDeque<Mapped>>>>,
}

impl Owner {
    /// Takes the version with the state on `disk`.
    pub fn open(scene: &Scene, disk: Disk, epoch: Epoch) -> Result<Owner, EngineError> {
        let partitions = scene.log.partitions(&scene.source.topic)?;
        let state = Arc::new(disk.clone());
        let mut before = scene.store.kept.fence(&scene.table, epoch)?;
        if matches!(scene.mutant, Some(Mutant::AnnouncedUnheard | Mutant::TimestampWithoutEpoch)) {
            (before.writing, before.writing_watermark_us) = (Cut::default(), None);
        }
        let told =
            Told { writing: before.writing.clone(), writing_watermark_us: before.writing_watermark_us, now_ms: scene.clock.now_ms() };
        let fold = Fold::open(scene.view.clone(), state.clone(), scene.settings.clone(), &partitions, &told)?;
        let outbox = Outbox::new(20, scene.settings.shares.clone(), before, progress(fold.meta(), None));
        let publications =
            Publications::new(scene.followers.clone(), scene.table.clone(), None, scene.settings.shares.clone(), Arc::default());
        let publications = Arc::new(publications);
        scene.followers.owner.fetch_max(epoch.0, Ordering::Relaxed);
        scene.store.owner.fetch_max(epoch.0, Ordering::Relaxed);
        if !fold.meta().cut.reaches(&told.writing) {
            Situation::Held.note();
        }
        let writer = Writer {
            view: scene.view.clone(),
            layout: fold.layout().clone(),
            state,
            store: scene.store.clone(),
            publisher: Publisher::simulated(publications.clone()),
            table: scene.table.clone(),
            epoch,
            outbox: Arc::new(Mutex::new(outbox)),
            rows_per_write: [1, 2, 1, 5][epoch.0 as usize % 4],
            read_ahead_bytes: 100,
            announced: None,
            ahead: Default::default(),
            drain_to: None,
            is_untold: false,
            sweeping: None,
            reclaimed_to_us: None,
            reclaiming: None,
            may_sync: true,
            lost: Arc::default(),
            status: Arc::default(),
            faults: Arc::default(),
        };
        let mut readers = BTreeMap::new();
        for partition in partitions {
            let before = fold.before(partition);
            let from: Cut = [(partition, before.position)].into_iter().collect();
            readers.insert(partition, (scene.log.reader(&scene.source.topic, &from)?, before));
        }
        Ok(Owner {
            mapper: ChunkMapper::new(&scene.view, scene.settings.rules.clone(), scene.settings.shards)?,
            decoder: Decoder::new(&scene.source, &columns(&scene.source, std::iter::once(scene.view.as_ref()))?, scene.schemas.clone())?,
            fold: Arc::new(Mutex::new(fold)),
            writer,
            publications,
            disk,
            epoch,
            readers,
            mapped: Arc::default(),
        })
    }

    /// Reads and maps one chunk of a partition. `false`: it is read to its end.
    pub fn map(&mut self, scene: &Scene, partition: Partition, max_bytes: usize) -> Result<bool, EngineError> {
        let latest = self.readers.values().filter_map(|(_, before)| before.time.max_us).max();
        let Some((reader, before)) = self.readers.get_mut(&partition) else { return Ok(false) };
        let Some(records) = reader.read(max_bytes, std::time::Duration::ZERO)? else {
            if self.fold.lock().before(partition).position >= scene.log.bounds(&scene.source.topic, partition)?.end {
                self.fold.lock().at_end(partition, scene.clock.now_ms());
            }
            return Ok(false);
        };
        before.dropped_to_us = self.fold.lock().meta().dropped_to_us;
        let decoded = self.decoder.decode(&records)?;
        let chunk = Arc::new(Chunk { from: before.position, records, decoded });
        let mut judged_by = *before;
        if scene.mutant == Some(Mutant::LatenessAcrossPartitions) {
            judged_by.time.max_us = latest;
        }
        let mut mapped = self.mapper.map(&chunk, judged_by)?;
        // The fold maps again what was judged by another progress than its own; the mutant hides that.
        mapped.before = *before;
        before.position = chunk.records.next;
        before.time = mapped.time;
        self.mapped.lock().entry(partition).or_default().push_back(mapped);
        Ok(true)
    }

    /// Merges the oldest mapped chunk of a partition.
    pub fn merge(&mut self, scene: &Scene, partition: Partition) -> Result<bool, EngineError> {
        let Some(mapped) = self.mapped.lock().get_mut(&partition).and_then(VecDeque::pop_front) else { return Ok(false) };
        self.fold.lock().merge(mapped, scene.clock.now_ms())?;
        Ok(true)
    }

    /// Commits what is merged, and offers the rows to the writer.
    pub fn commit(&mut self, scene: &Scene) -> Result<(), EngineError> {
        commit(&mut self.fold.lock(), &mut self.writer.outbox.lock(), scene.mutant, scene.clock.now_ms())
    }

    /// One step of the writer. While a write is on its way after so many others, or before it takes a snapshot, the fold merges a chunk and commits, so
    /// many times.
    pub fn write(&mut self, scene: &Scene, commits: usize, beside: Beside) -> Result<(), EngineError> {
        let (fold, mapped, outbox) = (self.fold.clone(), self.mapped.clone(), self.writer.outbox.clone());
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
        let stepped = self.writer.step().map(drop);
        *scene.store.beside.lock() = None;
        *self.disk.beside.lock() = None;
        ended.lock().take().map_or(stepped, Err)
    }

    /// One step of the publisher. What the feed refuses is no error of the version.
    pub fn publish(&self) {
        let _ = self.publications.step();
    }

    /// Whether a commit would change anything.
    pub fn is_commit_due(&self, now_ms: i64) -> bool {
        let fold = self.fold.lock();
        fold.is_ahead() || fold.has_news(now_ms) || self.writer.outbox.lock().has_acknowledged()
    }

    /// Writes at every commit from now on.
    pub fn go_live(&mut self, scene: &Scene) -> Result<(), EngineError> {
        let sweep = if self.is_between_sweeps() { self.fold.lock().go_live() } else { None };
        self.begin(scene, sweep)
    }

    /// Sweeps what has closed.
    pub fn sweep(&mut self, scene: &Scene) -> Result<(), EngineError> {
        let sweep = if self.is_between_sweeps() { self.fold.lock().closed_sweep(1) } else { None };
        self.begin(scene, sweep)
    }

    /// That a sweep was begun is committed before it begins.
    fn begin(&mut self, scene: &Scene, sweep: Option<Sweep>) -> Result<(), EngineError> {
        if let Some(sweep) = sweep {
            self.commit(scene)?;
            self.writer.outbox.lock().offer_sweep(sweep);
        }
        Ok(())
    }

    fn is_between_sweeps(&self) -> bool {
        let outbox = self.writer.outbox.lock();
        !outbox.is_sweeping() && !outbox.has_acknowledged()
    }

    /// What it tells readers.
    pub fn progress(&self) -> Progress {
        self.writer.outbox.lock().progress()
    }

    /// What it still has to do, for people.
    pub fn unfinished(&self, now_ms: i64) -> String {
        let (fold, outbox) = (self.fold.lock(), self.writer.outbox.lock());
        format!(
            "mapped {} live {} ahead {} news {} outbox empty {} unsynced {} acknowledged {}",
            self.mapped.lock().values().map(VecDeque::len).sum::<usize>(),
            fold.is_live(),
            fold.is_ahead(),
            fold.has_news(now_ms),
            outbox.is_empty(),
            outbox.unsynced_rows() > 0,
            outbox.has_acknowledged(),
        )
    }

    /// Whether everything read is folded and everything folded is written.
    pub fn is_done(&self, now_ms: i64) -> bool {
        let (fold, outbox) = (self.fold.lock(), self.writer.outbox.lock());
        let nothing_mapped = self.mapped.lock().values().all(VecDeque::is_empty);
        nothing_mapped
            && fold.is_live()
            && !fold.is_ahead()
            && !fold.has_news(now_ms)
            && outbox.is_empty()
            && outbox.unsynced_rows() == 0
            && !outbox.has_acknowledged()
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
    let acknowledged = outbox.take_acknowledged();
    for sweep in &outbox.take_swept() {
        fold.swept(sweep);
    }
    let committed = fold.commit(&acknowledged, now_ms)?;
    outbox.offer(committed.rows, progress(fold.meta(), None));
    Ok(())
}
