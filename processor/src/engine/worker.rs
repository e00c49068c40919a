//! Runs what the catalogue wants run, in this process: opens versions, connects them to feeds, keeps their leases, and stops what is
//! dropped, lost or failed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::error::EngineError;
use super::faults::Faults;
use super::feed::{self, Consumer, FeedSettings};
use super::fold::{Fold, FoldSettings, Told};
use super::lease::{Lease, Leases};
use super::map::Rules;
use super::outbox::Outbox;
use super::quarantined::{Lent, Page, Wanted};
use super::run::{self, RunSettings, Runner, Shared, progress};
use super::status::RunStatus;
use super::watermark::Quiet;
use super::writer::Writer;
use crate::clock::Clock;
use crate::decode::{SchemaLookup, arrow_schema};
use crate::log::Log;
use crate::position::{Cut, Partition};
use crate::source::{Source, Sources};
use crate::state::rocks::{RocksMemory, RocksState};
use crate::store::catalogue::{Catalogue, Take, VersionRecord, VersionState};
use crate::store::{Progress, Store};
use crate::table::{Table, Version};
use crate::view::View;

/// What a worker works with.
#[derive(Clone)]
pub struct Ports {
    /// The log.
    pub log: Arc<dyn Log>,
    /// The view store, with the catalogue in it.
    pub store: Arc<dyn Store>,
    /// The catalogue.
    pub catalogue: Catalogue,
    /// Writer schemas.
    pub schemas: Arc<dyn SchemaLookup>,
    /// The declared sources.
    pub sources: Sources,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

/// Which versions a worker takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pool {
    /// All.
    #[default]
    All,
    /// Those that readers are or were sent to, and the first one of each view.
    Live,
    /// Those that are being built while another is in service: so a replay takes nothing from what is live.
    Replay,
}

impl Pool {
    /// Whether a version in this state is for this pool. What a worker has taken it keeps.
    pub fn takes(self, state: &VersionState, another_is_active: bool) -> bool {
        let is_replay = another_is_active && *state == VersionState::Building;
        match self {
            Pool::All => true,
            Pool::Live => !is_replay,
            Pool::Replay => is_replay,
        }
    }
}

/// How a worker works.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// The name under which it owns versions: unique among running processes.
    pub owner: String,
    /// Which versions it takes.
    pub pool: Pool,
    /// Where the state of each version lives, in a folder of its own.
    pub state_dir: PathBuf,
    /// Memory for all state together, bytes: caches, write buffers, and groups touched since the last commit.
    pub memory_bytes: usize,
    /// Threads that read, decode and pre-aggregate, for each feed.
    pub feed_threads: usize,
    /// Shards of each version.
    pub shards: usize,
    /// About how many bytes of records are read at a time.
    pub chunk_bytes: usize,
    /// When versions commit and sweep.
    pub run: RunSettings,
    /// When quiet partitions stop counting.
    pub quiet: Quiet,
    /// How long an ownership lasts unless it is renewed, milliseconds.
    pub lease_ms: i64,
    /// How often the catalogue is looked at, milliseconds.
    pub reconcile_interval_ms: u64,
    /// How many rows may wait in memory to be written, for each version.
    pub queued_rows: usize,
    /// How many rows are drained or swept at a time.
    pub rows_per_write: usize,
    /// Where to end the process, for tests.
    pub faults: Arc<Faults>,
}

/// The threads of one version.
struct Running {
    record: VersionRecord,
    table: Table,
    lease: Arc<Lease>,
    topic: String,
    partitions: usize,
    stop: Arc<AtomicBool>,
    stop_writing: Arc<AtomicBool>,
    status: Arc<Mutex<RunStatus>>,
    lent: Lent,
    threads: Vec<JoinHandle<()>>,
}

/// A version, planned, with what it reads from.
struct Planned {
    view: Arc<View>,
    source: Source,
    partitions: Vec<Partition>,
}

/// Why a version does not run here for now, and how many looks at the catalogue to wait before it is tried again.
struct Unable {
    error: String,
    looks: u32,
}

type Key = (String, Version);

/// A version that is opened but not yet connected to a feed.
struct Opened {
    running: Running,
    source: Source,
    consumer: Consumer,
    live: bool,
}

/// Runs versions in this process until it is stopped.
pub struct Worker {
    ports: Ports,
    settings: WorkerSettings,
    memory: RocksMemory,
    leases: Arc<Leases>,
    running: Mutex<BTreeMap<Key, Running>>,
    /// Versions that are being ended: their state is still open.
    ending: Mutex<BTreeMap<Key, JoinHandle<()>>>,
    unable: Mutex<BTreeMap<Key, Unable>>,
    feeds: Mutex<Vec<JoinHandle<()>>>,
    overlay_bytes: Arc<AtomicUsize>,
    looks: AtomicUsize,
    stop: Arc<AtomicBool>,
    nudge: (Mutex<bool>, Condvar),
}

impl Worker {
    /// A worker that does not run anything yet.
    pub fn new(ports: Ports, settings: WorkerSettings) -> Arc<Worker> {
        let memory = RocksMemory::new(settings.memory_bytes / 4);
        let overlay_bytes = Arc::new(AtomicUsize::new(settings.run.overlay_bytes));
        let leases = Arc::new(Leases::new(ports.catalogue.clone(), &settings.owner, settings.lease_ms));
        Arc::new(Worker {
            ports,
            settings,
            memory,
            leases,
            running: Mutex::default(),
            ending: Mutex::default(),
            unable: Mutex::default(),
            feeds: Mutex::default(),
            overlay_bytes,
            looks: AtomicUsize::new(0),
            stop: Arc::default(),
            nudge: Default::default(),
        })
    }

    /// Looks at the catalogue again and again, until [`Worker::stop`]. Returns when every version has committed, written what it could
    /// and was released.
    pub fn run(&self) {
        std::thread::scope(|scope| {
            scope.spawn(|| self.leases.keep());
            while !self.stop.load(Ordering::Relaxed) {
                self.reconcile();
                let (flag, condition) = &self.nudge;
                let mut nudged = flag.lock();
                if !*nudged {
                    condition.wait_for(&mut nudged, Duration::from_millis(self.settings.reconcile_interval_ms));
                }
                *nudged = false;
            }
            let keys: Vec<Key> = self.running.lock().keys().cloned().collect();
            keys.iter().for_each(|key| self.end(key, false));
            let ending = std::mem::take(&mut *self.ending.lock());
            for thread in ending.into_values().chain(self.feeds.lock().drain(..)) {
                let _ = thread.join();
            }
            self.leases.end();
        });
    }

    /// Asks [`Worker::run`] to end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.look();
    }

    /// Asks for a look at the catalogue now.
    pub fn look(&self) {
        *self.nudge.0.lock() = true;
        self.nudge.1.notify_all();
    }

    /// How far each running version is, and why others that should run here do not.
    pub fn status(&self) -> Vec<RunStatus> {
        let running = self.running.lock();
        let status = |running: &Running| RunStatus { state_bytes: running.lent.size(), ..running.status.lock().clone() };
        let mut statuses: Vec<RunStatus> = running.values().map(status).collect();
        for ((view, version), unable) in self.unable.lock().iter().filter(|(key, _)| !running.contains_key(*key)) {
            let failed = Some(format!("it cannot be run here: {}", unable.error));
            statuses.push(RunStatus { view: view.clone(), version: Some(*version), failed, ..RunStatus::default() });
        }
        statuses
    }

    /// Quarantined events of a version; `None` when it does not run here.
    ///
    /// # Errors
    /// When its state cannot be read.
    pub fn quarantined(&self, view: &str, version: Version, wanted: &Wanted) -> Result<Option<Page>, EngineError> {
        let lent = self.running.lock().get(&(view.to_owned(), version)).map(|running| running.lent.clone());
        // Without the lock: a read must not hold up who looks after the versions.
        lent.map_or(Ok(None), |lent| lent.quarantined(wanted))
    }

    /// What is wrong with one view, or one version, does not keep the others from being looked after.
    fn reconcile(&self) {
        self.ending.lock().retain(|_, thread| !thread.is_finished());
        self.looks.fetch_add(1, Ordering::Relaxed);
        let views = match self.ports.catalogue.views() {
            Ok(views) => views,
            Err(error) => return tracing::warn!(%error, "the catalogue cannot be read; trying again"),
        };
        let mut opened = Vec::new();
        for view in views {
            if let Err(error) = self.reconcile_view(&view, &mut opened) {
                tracing::warn!(view, %error, "the catalogue could not be followed; trying again");
            }
        }
        self.connect(opened);
    }

    fn reconcile_view(&self, view: &str, opened: &mut Vec<Opened>) -> Result<(), EngineError> {
        let active = self.ports.catalogue.active(view)?.map(|active| active.version);
        for record in self.ports.catalogue.versions(view)? {
            let key = (view.to_owned(), record.version);
            let is_running = self.running.lock().contains_key(&key);
            let is_wanted =
                matches!(record.state, VersionState::Building | VersionState::CaughtUp | VersionState::Active | VersionState::Retired);
            match (is_running, is_wanted) {
                (true, true) => self.keep(&key, &record, active)?,
                (true, false) => self.end(&key, record.state == VersionState::Dropped),
                (false, true) if self.is_due(&key) && self.is_ours(&record, active)? => opened.extend(self.open(&key, &record)?),
                (false, _) => {}
            }
        }
        Ok(())
    }

    /// Whether a version that does not run here may be tried now.
    fn is_due(&self, key: &Key) -> bool {
        if self.ending.lock().contains_key(key) {
            return false;
        }
        match self.unable.lock().get_mut(key) {
            Some(unable) if unable.looks > 0 => {
                unable.looks -= 1;
                false
            }
            _ => true,
        }
    }

    /// Whether a version is for this worker's pool, or was run by this worker before: then its state is here.
    fn is_ours(&self, record: &VersionRecord, active: Option<Version>) -> Result<bool, EngineError> {
        let another_is_active = active.is_some_and(|active| active != record.version);
        if self.settings.pool.takes(&record.state, another_is_active) {
            return Ok(true);
        }
        let ownership = self.ports.catalogue.ownership(&record.view, record.version)?;
        Ok(ownership.is_some_and(|held| held.owner == self.settings.owner))
    }

    /// Moves the version on in its life, or ends it here.
    fn keep(&self, key: &Key, record: &VersionRecord, active: Option<Version>) -> Result<(), EngineError> {
        let catalogue = &self.ports.catalogue;
        let found = self.running.lock().get(key).map(|running| {
            let is_lost = running.lease.lost.load(Ordering::Relaxed);
            (is_lost, running.status.lock().clone(), running.topic.clone(), running.partitions, running.lease.epoch)
        });
        let Some((is_lost, status, topic, partitions, epoch)) = found else { return Ok(()) };
        if is_lost {
            self.end(key, false);
            return Ok(());
        }
        if let Some(error) = status.failed {
            // An owner that was replaced fails too, and that is no fault of the version.
            if let Err(error) = catalogue.renew(&key.0, key.1, &self.settings.owner, epoch, self.settings.lease_ms) {
                tracing::warn!(view = key.0, version = %key.1, %error, "version was taken over");
                self.end(key, false);
                return Ok(());
            }
            self.fail(record, &error)?;
            self.end(key, false);
            return Ok(());
        }
        if self.looks.load(Ordering::Relaxed).is_multiple_of(LOOKS_PER_PARTITION_CHECK)
            && self.ports.log.partitions(&topic)?.len() > partitions
        {
            tracing::info!(view = key.0, version = %key.1, topic, "the topic has more partitions; the version is opened again with them");
            self.end(key, false);
            return Ok(());
        }
        if status.live && record.state == VersionState::Building {
            catalogue.set_state(&key.0, key.1, &[VersionState::Building], VersionState::CaughtUp, &self.settings.owner)?;
            tracing::info!(view = key.0, version = %key.1, "version is caught up");
        }
        // The first version has nothing to be compared with.
        if status.live && active.is_none() && matches!(record.state, VersionState::Building | VersionState::CaughtUp) {
            catalogue.switch(&key.0, None, key.1, &self.settings.owner, Some("first version"))?;
        }
        Ok(())
    }

    fn fail(&self, record: &VersionRecord, error: &str) -> Result<(), EngineError> {
        tracing::error!(view = record.view, version = %record.version, error, "version failed");
        let states = [VersionState::Building, VersionState::CaughtUp, VersionState::Active, VersionState::Retired];
        let failed = VersionState::Failed { error: error.to_owned() };
        self.ports.catalogue.set_state(&record.view, record.version, &states, failed, &self.settings.owner)?;
        Ok(())
    }

    /// Ends a version in a thread of its own: what is left to be written may take long.
    fn end(&self, key: &Key, dropped: bool) {
        let Some(running) = self.running.lock().remove(key) else { return };
        self.share_memory();
        running.stop.store(true, Ordering::Relaxed);
        let (leases, store, state) = (self.leases.clone(), self.ports.store.clone(), self.state_dir(&key.0, key.1));
        let finish = move || {
            let (table, lease) = (running.table.clone(), running.lease.clone());
            finish(running);
            leases.release(&lease);
            if dropped {
                if let Err(error) = store.drop_table(&table) {
                    tracing::warn!(table = table.name(), %error, "the table of a dropped version is left behind");
                }
                if let Err(error) = std::fs::remove_dir_all(&state) {
                    tracing::warn!(state = %state.display(), %error, "the state of a dropped version is left behind");
                }
            }
        };
        match spawn(&format!("end-{}-{}", key.0, key.1), finish) {
            Ok(thread) => drop(self.ending.lock().insert(key.clone(), thread)),
            Err(error) => tracing::error!(view = key.0, version = %key.1, %error, "version could not be ended in order"),
        }
    }

    fn state_dir(&self, view: &str, version: Version) -> PathBuf {
        self.settings.state_dir.join(view).join(version.to_string())
    }

    /// Takes a version and starts its threads; `None` when it cannot be run here now.
    fn open(&self, key: &Key, record: &VersionRecord) -> Result<Option<Opened>, EngineError> {
        let catalogue = &self.ports.catalogue;
        let before = catalogue.ownership(&record.view, record.version)?;
        let now_ms = self.ports.clock.now_ms();
        if before.as_ref().is_some_and(|held| !held.released && held.owner != self.settings.owner && held.lease_until_ms > now_ms) {
            return Ok(None);
        }
        // All that can go wrong without it comes before the version is taken from whoever else could run it.
        let planned = match self.plan(record) {
            Ok(planned) => Some(planned),
            // One that nobody ever ran cannot be run anywhere, as far as anybody knows.
            Err(error) if before.is_some() || error.is_retryable() => {
                self.note_unable(key, &error);
                return Ok(None);
            }
            Err(error) => {
                self.fail(record, &error.to_string())?;
                None
            }
        };
        let Some(planned) = planned else { return Ok(None) };
        let epoch = match catalogue.take(&record.view, record.version, &self.settings.owner, self.settings.lease_ms)? {
            Take::Taken(epoch) => epoch,
            Take::HeldBy { owner, .. } => {
                tracing::debug!(view = record.view, version = %record.version, owner, "version is run elsewhere");
                return Ok(None);
            }
        };
        let lease = Arc::new(Lease { view: record.view.clone(), version: record.version, epoch, lost: Arc::default() });
        self.leases.hold(lease.clone());
        match self.start(record, planned, lease.clone()) {
            Ok(opened) => {
                self.unable.lock().remove(key);
                Ok(Some(opened))
            }
            Err(error) => {
                self.leases.release(&lease);
                self.note_unable(key, &error);
                Ok(None)
            }
        }
    }

    fn note_unable(&self, key: &Key, error: &EngineError) {
        tracing::warn!(view = key.0, version = %key.1, %error, "version cannot be run here; trying again");
        let looks = if error.is_retryable() { LOOKS_UNTIL_RETRY } else { LOOKS_UNTIL_ANOTHER_TRY };
        self.unable.lock().insert(key.clone(), Unable { error: error.to_string(), looks });
    }

    fn plan(&self, record: &VersionRecord) -> Result<Planned, EngineError> {
        let Ports { log, sources, .. } = &self.ports;
        let schemas = sources
            .iter()
            .map(|(name, source)| Ok((name.clone(), arrow_schema(&source.schema_json)?)))
            .collect::<Result<BTreeMap<_, _>, EngineError>>()?;
        let view = Arc::new(View::plan(&record.sql, &record.view, &schemas)?);
        let Some(source) = sources.get(&view.source).cloned() else {
            return Err(EngineError::Internal(format!("source {} of view {} is not declared any more", view.source, view.name)));
        };
        check_window(&view, &source)?;
        log.create_topic(&source.topic, source.partitions)?;
        let partitions = log.partitions(&source.topic)?;
        Ok(Planned { view, source, partitions })
    }

    /// Whether the log still has what this state needs next. If it does not, but another's state was further, that one can go on.
    fn check_readable(&self, source: &Source, cut: &Cut, told: &Progress, partitions: &[Partition]) -> Result<(), EngineError> {
        for partition in partitions {
            let (position, start) = (cut.position(*partition), self.ports.log.bounds(&source.topic, *partition)?.start);
            if position < start && told.visible.position(*partition) >= start {
                return Err(EngineError::Behind { topic: source.topic.clone(), partition: *partition, position, log_start: start });
            }
        }
        Ok(())
    }

    fn start(&self, record: &VersionRecord, planned: Planned, lease: Arc<Lease>) -> Result<Opened, EngineError> {
        let Ports { store, clock, .. } = &self.ports;
        let Planned { view, source, partitions } = planned;
        let epoch = lease.epoch;
        let table = Table { view: view.name.clone(), version: record.version, shape: view.shape.clone() };
        store.create_table(&table)?;
        let state = RocksState::open(&self.state_dir(&record.view, record.version), &self.memory)?;
        let rules = Rules::new(&view, &source);
        let fold_settings = FoldSettings {
            shards: self.settings.shards,
            rules: rules.clone(),
            lateness_us: view.options.lateness_us.unwrap_or(source.lateness_us),
            quiet: self.settings.quiet,
            pane_cache_bytes: self.settings.memory_bytes / 8,
            max_quarantined_bytes: MAX_QUARANTINED_BYTES,
        };
        let before = store.fence(&table, epoch)?;
        let told = Told { writing: before.writing.clone(), writing_watermark_us: before.writing_watermark_us, now_ms: clock.now_ms() };
        let fold = Fold::open(view.clone(), state.clone(), fold_settings, &partitions, &told)?;
        self.check_readable(&source, &fold.meta().cut, &before, &partitions)?;
        let committed = progress(fold.meta(), view.options.keep_us);
        let status = Arc::new(Mutex::new(RunStatus { view: view.name.clone(), version: Some(record.version), ..RunStatus::default() }));
        status.lock().committed(fold.meta(), &BTreeMap::new());
        let outbox = Arc::new(Mutex::new(Outbox::new(self.settings.queued_rows, before, committed)));
        let (stop, stop_writing) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let dropped_to_us = Arc::new(AtomicI64::new(fold.meta().dropped_to_us.unwrap_or(i64::MIN)));
        let wake: Arc<(Mutex<bool>, Condvar)> = Arc::default();
        let shared = |stop: &Arc<AtomicBool>| Shared {
            outbox: outbox.clone(),
            wake: wake.clone(),
            stop: stop.clone(),
            dropped_to_us: dropped_to_us.clone(),
            status: status.clone(),
            clock: clock.clone(),
            overlay_bytes: self.overlay_bytes.clone(),
            lost: lease.lost.clone(),
            faults: self.settings.faults.clone(),
        };
        let lent = Lent::new(state.clone());
        let mut writer = Writer {
            view: view.clone(),
            layout: fold.layout().clone(),
            state,
            store: store.clone(),
            table: table.clone(),
            epoch,
            outbox: outbox.clone(),
            rows_per_write: self.settings.rows_per_write,
            announced: None,
            sweeping: None,
            reclaimed_to_us: None,
            lost: lease.lost.clone(),
            status: status.clone(),
            faults: self.settings.faults.clone(),
        };
        let live = fold.is_live();
        let (cut, times) = (fold.meta().cut.clone(), fold.meta().times.clone());
        let (sender, messages) = crossbeam_channel::bounded(CHUNKS_IN_FLIGHT);
        let mut runner = Runner { fold, settings: self.settings.run.clone(), messages, shared: shared(&stop), ends: BTreeMap::new() };
        let write_shared = shared(&stop_writing);
        let name = format!("{}-{}", view.name, record.version);
        let failed = status.clone();
        let fold_thread = spawn(&format!("fold-{name}"), move || note_failure(&failed, || runner.run()))?;
        let failed = status.clone();
        let write_thread =
            spawn(&format!("write-{name}"), move || note_failure(&failed, || run::write(&mut writer, &write_shared, DRAIN_AT_STOP)))?;
        let consumer = Consumer { view, rules, shards: self.settings.shards, cut, times, dropped_to_us, sender };
        let threads = vec![fold_thread, write_thread];
        let (record, topic, partitions) = (record.clone(), source.topic.clone(), partitions.len());
        let running = Running { record, table, lease, topic, partitions, stop, stop_writing, status, lent, threads };
        Ok(Opened { running, source, consumer, live })
    }

    /// Starts feeds: versions that are live share one read of the log, each that is being built has its own.
    fn connect(&self, opened: Vec<Opened>) {
        let mut groups: BTreeMap<(String, Option<(String, Version)>), Vec<Opened>> = BTreeMap::new();
        for opened in opened {
            let record = &opened.running.record;
            let apart = (!opened.live).then(|| (record.view.clone(), record.version));
            groups.entry((opened.source.name.clone(), apart)).or_default().push(opened);
        }
        for group in groups.into_values() {
            let started = self.start_feed(&group);
            let mut keys: Vec<Key> = Vec::new();
            for opened in group {
                let key = (opened.running.record.view.clone(), opened.running.record.version);
                self.running.lock().insert(key.clone(), opened.running);
                keys.push(key);
            }
            if let Err(error) = started {
                tracing::warn!(%error, "the log cannot be read; trying again");
                keys.iter().for_each(|key| self.end(key, false));
            }
        }
        self.share_memory();
    }

    /// Running versions have equal shares of the memory for groups that are not committed yet.
    fn share_memory(&self) {
        let versions = self.running.lock().len().max(1);
        self.overlay_bytes.store(self.settings.run.overlay_bytes / versions, Ordering::Relaxed);
    }

    fn start_feed(&self, group: &[Opened]) -> Result<(), EngineError> {
        let Some(source) = group.first().map(|opened| opened.source.clone()) else { return Ok(()) };
        let partitions = self.ports.log.partitions(&source.topic)?;
        let threads = self.settings.feed_threads.clamp(1, partitions.len().max(1));
        for thread in 0..threads {
            let served: Vec<Partition> = partitions.iter().copied().skip(thread).step_by(threads).collect();
            let settings = FeedSettings {
                log: self.ports.log.clone(),
                source: source.clone(),
                schemas: self.ports.schemas.clone(),
                partitions: served,
                chunk_bytes: self.settings.chunk_bytes,
                stop: self.stop.clone(),
            };
            let consumers: Vec<Consumer> = group.iter().map(|opened| opened.consumer.share()).collect();
            let handle = spawn(&format!("feed-{}-{thread}", source.name), move || feed::run(&settings, consumers))?;
            self.feeds.lock().push(handle);
        }
        Ok(())
    }
}

/// Lateness and watermarks are about the source's event time, so windows must be too.
fn check_window(view: &View, source: &Source) -> Result<(), EngineError> {
    let schema = arrow_schema(&source.schema_json)?;
    let column = view.window_source_column.map(|column| schema.field(column).name().as_str());
    match column {
        Some(column) if column != source.event_time => {
            Err(EngineError::OtherTime { view: view.name.clone(), column: column.to_owned(), event_time: source.event_time.clone() })
        }
        _ => Ok(()),
    }
}

/// Stops a version's threads: first the fold, which commits, then the writer, which writes what is left.
fn finish(running: Running) {
    running.stop.store(true, Ordering::Relaxed);
    let mut threads = running.threads.into_iter();
    if let Some(fold) = threads.next() {
        let _ = fold.join();
    }
    running.stop_writing.store(true, Ordering::Relaxed);
    for thread in threads {
        let _ = thread.join();
    }
    running.lent.close();
}

/// Runs a thread's work, and notes why it ended before it was told to.
fn note_failure(status: &Mutex<RunStatus>, work: impl FnOnce() -> Result<(), EngineError>) {
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    let failed = match ended {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "a thread of it panicked; see the log".to_owned(),
    };
    status.lock().failed.get_or_insert(failed);
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, EngineError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(|error| EngineError::Internal(format!("thread {name} cannot be started: {error}")))
}

/// A version that cannot be run here because something is away is tried again after so many looks at the catalogue.
const LOOKS_UNTIL_RETRY: u32 = 4;
/// And one that does not fit what this process has, after so many.
const LOOKS_UNTIL_ANOTHER_TRY: u32 = 60;
/// Topics rarely get more partitions.
const LOOKS_PER_PARTITION_CHECK: usize = 10;

/// Mapped chunks that may wait for a fold.
const CHUNKS_IN_FLIGHT: usize = 8;

/// How long a writer goes on after a stop was asked for.
const DRAIN_AT_STOP: Duration = Duration::from_secs(10);

/// The most bytes of a quarantined record that are kept.
const MAX_QUARANTINED_BYTES: usize = 64 << 10;
