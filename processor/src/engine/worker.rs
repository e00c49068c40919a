//! Runs what the catalogue wants run, in this process: opens versions, connects them to feeds, keeps their leases, and stops what is
//! dropped, lost or failed.

mod opening;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::error::EngineError;
use super::faults::Faults;
use super::feed::{self, Consumer, FeedSettings};
use super::lease::{Lease, Leases};
use super::outbox::Outbox;
use super::quarantined::{Lent, Page, Wanted};
use super::run::RunSettings;
use super::shares::Shares;
use super::status::RunStatus;
use super::wake::Wake;
use super::watermark::Quiet;
use crate::changes::ChangeFeed;
use crate::clock::Clock;
use crate::decode::SchemaLookup;
use crate::log::Log;
use crate::position::Partition;
use crate::source::{Source, Sources};
use crate::state::rocks::RocksMemory;
use crate::store::Store;
use crate::store::catalogue::{Catalogue, Ownership, VersionRecord, VersionState};
use crate::table::{Table, Version};

/// What a worker works with.
#[derive(Clone)]
pub struct Ports {
    /// The log.
    pub log: Arc<dyn Log>,
    /// The view store, with the catalogue in it.
    pub store: Arc<dyn Store>,
    /// Who follows tables hears of what changes in them there.
    pub changes: Arc<dyn ChangeFeed>,
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
    /// Memory for all versions together, bytes: caches, write buffers, groups touched since the last commit, and rows that wait.
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
    outbox: Arc<Mutex<Outbox>>,
    lent: Lent,
    wake_fold: Wake,
    wake_writer: Wake,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    /// How far it is.
    fn told(&self) -> RunStatus {
        let (queued_rows, unwritten_events) = {
            let outbox = self.outbox.lock();
            (outbox.queued_rows(), outbox.unwritten_events())
        };
        RunStatus { queued_rows, unwritten_events, ..self.status.lock().clone() }
    }
}

/// Why a version does not run here for now, and how many looks at the catalogue to wait before it is tried again.
struct Unable {
    error: String,
    /// Whether it does not fit what this process has; otherwise something is away.
    is_lasting: bool,
    looks: u32,
    /// How many it had to wait for the last time.
    waits: u32,
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
    shares: Arc<Shares>,
    looks: AtomicUsize,
    stop: Arc<AtomicBool>,
    nudge: (Mutex<bool>, Condvar),
}

impl Worker {
    /// A worker that does not run anything yet.
    pub fn new(ports: Ports, settings: WorkerSettings) -> Arc<Worker> {
        let memory = RocksMemory::new(settings.memory_bytes / 4);
        let part = |of| settings.memory_bytes / of;
        let shares = Arc::new(Shares::new(part(16), part(8), part(8)));
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
            shares,
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
        let mut statuses: Vec<RunStatus> = running.values().map(Running::told).collect();
        for ((view, version), unable) in self.unable.lock().iter().filter(|(key, _)| !running.contains_key(*key)) {
            let unable = Some(unable.error.clone());
            statuses.push(RunStatus { view: view.clone(), version: Some(*version), unable, ..RunStatus::default() });
        }
        statuses
    }

    /// The sizes of the states here, on disk and in write buffers, bytes.
    pub fn state_sizes(&self) -> BTreeMap<(String, Version), u64> {
        let lent: Vec<(Key, Lent)> = self.running.lock().iter().map(|(key, running)| (key.clone(), running.lent.clone())).collect();
        // Without the lock, as below.
        lent.into_iter().map(|(key, lent)| (key, lent.size())).collect()
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
        // In this order: a version that goes into service in between is seen as active, not as one that still could.
        let versions = self.ports.catalogue.versions(view)?;
        let active = self.ports.catalogue.active(view)?.map(|active| active.version);
        let mut able = Vec::with_capacity(versions.len());
        for record in &versions {
            if self.is_able(record)? {
                able.push((record.version, &record.state));
            }
        }
        let first = first_to_serve(active, able.into_iter());
        for record in versions {
            let key = (view.to_owned(), record.version);
            let is_running = self.running.lock().contains_key(&key);
            let is_wanted =
                matches!(record.state, VersionState::Building | VersionState::CaughtUp | VersionState::Active | VersionState::Retired);
            match (is_running, is_wanted) {
                (true, true) => self.keep(&key, &record, first)?,
                (true, false) => self.end(&key, record.state == VersionState::Dropped),
                (false, false) => drop(self.unable.lock().remove(&key)),
                (false, true) if self.is_due(&key) && self.is_ours(&record, active)? => opened.extend(self.open(&key, &record)?),
                (false, _) => {}
            }
        }
        Ok(())
    }

    /// Whether a version can be run, as far as is known here. A service that was away for a moment says nothing about that, and another process may have what
    /// this one lacks.
    fn is_able(&self, record: &VersionRecord) -> Result<bool, EngineError> {
        let key = (record.view.clone(), record.version);
        if !self.unable.lock().get(&key).is_some_and(|unable| unable.is_lasting) {
            return Ok(true);
        }
        let held = self.ports.catalogue.ownership(&record.view, record.version)?;
        Ok(held.is_some_and(|held| self.is_run_elsewhere(&held)))
    }

    fn is_run_elsewhere(&self, held: &Ownership) -> bool {
        !held.released && held.owner != self.settings.owner && held.lease_until_ms > self.ports.clock.now_ms()
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

    /// Moves the version on in its life, or ends it here. Readers are sent to `first` once it has caught up.
    fn keep(&self, key: &Key, record: &VersionRecord, first: Option<Version>) -> Result<(), EngineError> {
        let catalogue = &self.ports.catalogue;
        self.publish_positions(key);
        let found = self.running.lock().get(key).map(|running| {
            let is_lost = running.lease.lost.load(Ordering::Relaxed);
            // Not only is everything folded: what was folded is written, too.
            let is_caught_up = running.status.lock().live && running.outbox.lock().progress().live;
            let (failed, unable, commits) = {
                let status = running.status.lock();
                (status.failed.clone(), status.unable.clone(), status.commits)
            };
            (is_lost, is_caught_up, failed, unable, commits, running.topic.clone(), running.partitions, running.lease.epoch)
        });
        let Some((is_lost, is_caught_up, failed, unable, commits, topic, partitions, epoch)) = found else { return Ok(()) };
        if is_lost {
            self.end(key, false);
            return Ok(());
        }
        if let Some(error) = unable {
            self.note_unable(key, &error, true);
            self.end(key, false);
            return Ok(());
        }
        if commits > 0 {
            self.unable.lock().remove(key);
        }
        if let Some(error) = failed {
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
        if is_caught_up && record.state == VersionState::Building {
            catalogue.set_state(&key.0, key.1, &[VersionState::Building], VersionState::CaughtUp, &self.settings.owner)?;
            tracing::info!(view = key.0, version = %key.1, "version is caught up");
        }
        if is_caught_up && first == Some(record.version) {
            catalogue.switch(&key.0, None, key.1, &self.settings.owner, Some("first version"))?;
        }
        Ok(())
    }

    fn publish_positions(&self, (view, version): &Key) {
        let key = (view.clone(), *version);
        let found = self.running.lock().get(&key).map(|running| (running.topic.clone(), running.status.lock().positions.clone()));
        let Some((topic, positions)) = found else { return };
        if let Err(error) = self.ports.log.publish_positions(&format!("{view}.{version}"), &topic, &positions) {
            tracing::debug!(view, %version, %error, "positions are not published");
        }
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
        running.wake_fold.wake();
        let (leases, store, changes) = (self.leases.clone(), self.ports.store.clone(), self.ports.changes.clone());
        let state = self.state_dir(&key.0, key.1);
        let finish = move || {
            let (table, lease) = (running.table.clone(), running.lease.clone());
            finish(running);
            leases.release(&lease);
            if dropped {
                if let Err(error) = store.drop_table(&table) {
                    tracing::warn!(table = table.name(), %error, "the table of a dropped version is left behind");
                }
                if let Err(error) = changes.remove(&table) {
                    tracing::warn!(table = table.name(), %error, "the change feed of a dropped version is left behind");
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

    /// Starts feeds: versions that are live share one read of the log, and so do those that are built from the same place on.
    fn connect(&self, opened: Vec<Opened>) {
        let place = |opened: &Opened| (opened.source.name.clone(), (!opened.live).then(|| opened.consumer.cut.clone()));
        let mut groups: Vec<Vec<Opened>> = Vec::new();
        for opened in opened {
            match groups.iter_mut().find(|group| group.first().is_some_and(|first| place(first) == place(&opened))) {
                Some(group) => group.push(opened),
                None => groups.push(vec![opened]),
            }
        }
        for group in groups {
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

    fn share_memory(&self) {
        self.shares.divide(self.running.lock().len());
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
            let mut feeds = self.feeds.lock();
            feeds.retain(|feed| !feed.is_finished());
            feeds.push(handle);
        }
        Ok(())
    }
}

/// Stops a version's threads: first the fold, which commits, then the writer, which writes what is left.
fn finish(running: Running) {
    running.stop.store(true, Ordering::Relaxed);
    running.wake_fold.wake();
    let mut threads = running.threads.into_iter();
    if let Some(fold) = threads.next() {
        let _ = fold.join();
    }
    running.stop_writing.store(true, Ordering::Relaxed);
    running.wake_writer.wake();
    for thread in threads {
        let _ = thread.join();
    }
    running.lent.close();
}

/// Runs a thread's work, and notes why it ended before it was told to.
fn note_failure(status: &Mutex<RunStatus>, work: impl FnOnce() -> Result<(), EngineError>) {
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    let mut status = status.lock();
    match ended {
        Ok(Ok(())) => {}
        // A disk that is full or broken is this machine's fault, not the version's.
        Ok(Err(error @ EngineError::State(_))) => drop(status.unable.get_or_insert(error.to_string())),
        Ok(Err(error)) => drop(status.failed.get_or_insert(error.to_string())),
        Err(_) => drop(status.failed.get_or_insert("a thread of it panicked; see the log".to_owned())),
    }
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
/// Each further time it waits twice as long, up to so many times the first: a try may take the version, which uses up an epoch and an entry in the
/// journal.
const MOST_WAITS: u32 = 64;
/// Topics rarely get more partitions.
const LOOKS_PER_PARTITION_CHECK: usize = 10;

/// Mapped chunks that may wait for a fold.
const CHUNKS_IN_FLIGHT: usize = 8;

/// How long a writer goes on after a stop was asked for.
const DRAIN_AT_STOP: Duration = Duration::from_secs(10);

/// The most bytes of a quarantined record that are kept.
const MAX_QUARANTINED_BYTES: usize = 64 << 10;

/// The version that goes into service by itself, of those that can be run: a view's first one has nothing to be compared with. Others wait for a switch, also
/// those that catch up before it does.
pub fn first_to_serve<'a>(active: Option<Version>, versions: impl Iterator<Item = (Version, &'a VersionState)>) -> Option<Version> {
    let is_candidate = |state: &VersionState| matches!(state, VersionState::Building | VersionState::CaughtUp);
    let candidates = versions.filter(|(_, state)| is_candidate(state)).map(|(version, _)| version);
    candidates.min().filter(|_| active.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_version_that_lives_goes_into_service_by_itself_and_no_later_one_before_it() {
        let failed = VersionState::Failed { error: String::new() };
        let first = |active: Option<u32>, states: &[(u32, &VersionState)]| {
            let versions = states.iter().map(|(version, state)| (Version(*version), *state));
            first_to_serve(active.map(Version), versions).map(|version| version.0)
        };
        assert_eq!(first(None, &[(2, &VersionState::CaughtUp), (1, &VersionState::Building)]), Some(1), "the second was faster");
        assert_eq!(first(None, &[(1, &failed), (2, &VersionState::Building)]), Some(2));
        assert_eq!(first(None, &[(1, &VersionState::Dropped)]), None);
        assert_eq!(first(Some(1), &[(1, &VersionState::Active), (2, &VersionState::CaughtUp)]), None);
    }
}
