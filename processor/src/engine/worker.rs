//! Runs what the catalogue wants run, in this process: opens versions, connects them to feeds, keeps their leases, and stops what is
//! dropped, lost or failed.

mod ending;
mod opening;
mod pacing;
mod reconcile;
mod removing;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use self::opening::Openings;
pub use self::reconcile::first_to_serve;
use self::removing::Removals;
use super::error::EngineError;
use super::faults::Faults;
use super::feed::{Feeds, FeedsSettings};
use super::lease::{Held, Leases};
use super::outbox::Outbox;
use super::pace::{Limit, Pace};
use super::quarantined::{Lent, Page, Wanted};
use super::run::RunSettings;
use super::shares::Shares;
use super::status::RunStatus;
use super::view_feed::ViewFeeders;
use super::wake::Wake;
use super::watermark::Quiet;
use crate::backoff::Backoff;
use crate::changes::ChangeFeed;
use crate::clock::Clock;
use crate::decode::SchemaLookup;
use crate::log::Log;
use crate::recovery::Recovery;
use crate::source::Sources;
use crate::state::rocks::RocksMemory;
use crate::stop::Stop;
use crate::store::Store;
use crate::store::catalogue::{Catalogue, Incarnation, Owner, VersionRecord, VersionState};
use crate::table::Version;
use crate::view::View;

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
    /// This run of it.
    pub incarnation: Incarnation,
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
    /// How long after it was retired a version is dropped, milliseconds; `None`: never by itself.
    pub retire_after_ms: Option<i64>,
    /// Where to end the process, for tests.
    pub faults: Arc<Faults>,
}

/// The threads of one version.
struct Running {
    record: VersionRecord,
    lease: Held,
    view: Arc<View>,
    pace: Arc<Pace>,
    topic: String,
    partitions: usize,
    /// Stops the fold; given with the worker's.
    stop: Stop,
    /// Stops the writer, once the fold has made its last commit.
    stop_writing: Stop,
    status: Arc<Mutex<RunStatus>>,
    outbox: Arc<Mutex<Outbox>>,
    lent: Lent,
    wake_fold: Wake,
    wake_writer: Wake,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    /// How far it is.
    fn reported(&self) -> RunStatus {
        let (queued_rows, unwritten_events) = {
            let outbox = self.outbox.lock();
            (outbox.queued_rows(), outbox.unwritten_events())
        };
        let limit = self.pace.limit();
        RunStatus {
            queued_rows,
            unwritten_events,
            paused: limit == Limit::Paused,
            limit_per_s: limit.per_s(),
            spent: self.pace.spent(),
            ..self.status.lock().clone()
        }
    }
}

/// Why a version does not run here for now, and when it is tried again.
struct Unable {
    error: String,
    recovery: Recovery,
    retry_at_ms: i64,
    backoff: Backoff,
}

type Key = (String, Version);

/// Runs versions in this process until it is stopped.
pub struct Worker {
    ports: Ports,
    settings: WorkerSettings,
    memory: RocksMemory,
    leases: Arc<Leases>,
    running: Mutex<BTreeMap<Key, Running>>,
    openings: Openings,
    /// Versions that are being ended: their state is still open.
    ending: Mutex<BTreeMap<Key, JoinHandle<()>>>,
    unable: Mutex<BTreeMap<Key, Unable>>,
    removals: Removals,
    feeds: Arc<Feeds>,
    view_feeders: ViewFeeders,
    shares: Arc<Shares>,
    /// The most events per second that are read for each version that yields to those in service.
    yielding: Mutex<Option<f64>>,
    /// How many partitions the topics that are read have now.
    partitions: Mutex<BTreeMap<String, usize>>,
    stop: Stop,
    nudge: (Mutex<bool>, Condvar),
}

impl Worker {
    /// A worker that does not run anything yet.
    pub fn new(ports: Ports, settings: WorkerSettings) -> Arc<Worker> {
        let memory = RocksMemory::new(settings.memory_bytes / 4);
        let part = |of| settings.memory_bytes / of;
        let shares = Arc::new(Shares::new(part(16), part(8), part(8)));
        let owner = Owner { name: settings.owner.clone(), incarnation: settings.incarnation.clone() };
        let leases = Leases::new(ports.catalogue.clone(), owner, settings.lease_ms);
        let stop = Stop::new();
        let feeds = Feeds::new(FeedsSettings {
            log: ports.log.clone(),
            schemas: ports.schemas.clone(),
            chunk_bytes: settings.chunk_bytes,
            threads: settings.feed_threads,
            stop: stop.child(),
        });
        let removals = Removals::new(&ports, &settings);
        let view_feeders = ViewFeeders::new(&ports, &settings.state_dir, &memory, stop.child());
        Arc::new(Worker {
            ports,
            settings,
            memory,
            leases,
            running: Mutex::default(),
            openings: Openings::default(),
            ending: Mutex::default(),
            unable: Mutex::default(),
            removals,
            feeds,
            view_feeders,
            shares,
            yielding: Mutex::default(),
            partitions: Mutex::default(),
            stop,
            nudge: Default::default(),
        })
    }

    /// Polls the catalogue until [`Worker::stop`]. Returns when every version has committed, written what it could
    /// and was released.
    pub fn run(self: &Arc<Self>) {
        std::thread::scope(|scope| {
            scope.spawn(|| self.leases.keep());
            scope.spawn(|| self.watch_topics());
            scope.spawn(|| self.pace_versions());
            // Whatever happens in between: leases that are renewed for ever would keep the versions from everybody.
            let _guard = EndLeases(&self.leases);
            while !self.stop.is_stopped() {
                let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.reconcile()));
                if polled.is_err() {
                    tracing::error!("following the catalogue panicked; it is tried again");
                }
                let (flag, condition) = &self.nudge;
                let mut nudged = flag.lock();
                if !*nudged {
                    condition.wait_for(&mut nudged, Duration::from_millis(self.settings.reconcile_interval_ms));
                }
                *nudged = false;
            }
            self.view_feeders.end();
            self.end_all();
        });
    }

    /// Asks [`Worker::run`] to end.
    pub fn stop(&self) {
        self.stop.stop();
        self.look();
    }

    /// Asks for a poll of the catalogue now.
    pub fn look(&self) {
        *self.nudge.0.lock() = true;
        self.nudge.1.notify_all();
    }

    /// How far each running version is, and why others that should run here do not.
    pub fn status(&self) -> Vec<RunStatus> {
        let running = self.running.lock();
        let mut statuses: Vec<RunStatus> = running.values().map(Running::reported).collect();
        for status in &mut statuses {
            status.view_feed = self.view_feeders.status(&status.view, status.version);
        }
        for ((view, version), unable) in self.unable.lock().iter().filter(|(key, _)| !running.contains_key(*key)) {
            let unable = Some(unable.error.clone());
            statuses.push(RunStatus { view: view.clone(), version: Some(*version), unable, ..RunStatus::default() });
        }
        statuses.extend(self.removals.statuses());
        statuses
    }

    /// Threads that read the log.
    pub fn reading_threads(&self) -> usize {
        self.feeds.count()
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

    /// Keeps an eye on how many partitions the topics have. A log that is unavailable answers late, which holds up nothing but this.
    fn watch_topics(&self) {
        let pause = Duration::from_millis(self.settings.reconcile_interval_ms * POLLS_PER_PARTITION_CHECK);
        while !self.stop.wait(pause) {
            let topics: BTreeSet<String> = self.running.lock().values().map(|running| running.topic.clone()).collect();
            for topic in topics {
                if self.stop.is_stopped() {
                    return;
                }
                match self.ports.log.partitions(&topic) {
                    Ok(partitions) => drop(self.partitions.lock().insert(topic, partitions.len())),
                    Err(error) => tracing::debug!(topic, %error, "the partitions of a topic are not known"),
                }
            }
        }
    }

    /// Notes why a version cannot be run here, and when it is tried again: ever later, at first soon where only time is needed.
    fn note_unable(&self, key: &Key, error: &str, recovery: Recovery) {
        tracing::warn!(view = key.0, version = %key.1, error, %recovery, "version cannot be run here; it is tried again");
        let mut unable = self.unable.lock();
        let mut backoff = match unable.remove(key) {
            Some(before) if before.recovery == recovery => before.backoff,
            _ if recovery == Recovery::Transient => Backoff::new(LEAST_RETRY, MOST_RETRY),
            _ => Backoff::new(LEAST_RETRY_OF_OPERATOR, MOST_RETRY_OF_OPERATOR),
        };
        let pause_ms = i64::try_from(backoff.pause().as_millis()).unwrap_or(i64::MAX);
        let retry_at_ms = self.ports.clock.now_ms().saturating_add(pause_ms);
        unable.insert(key.clone(), Unable { error: error.to_owned(), recovery, retry_at_ms, backoff });
    }

    fn share_memory(&self) {
        self.shares.divide(self.running.lock().len());
    }
}

/// Ends the renewal of leases, also when the worker's thread panics.
struct EndLeases<'a>(&'a Leases);

impl Drop for EndLeases<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Topics rarely get more partitions.
const POLLS_PER_PARTITION_CHECK: u64 = 10;

/// Pauses before a version is tried again whose log or store was unavailable.
const LEAST_RETRY: Duration = Duration::from_millis(500);
const MOST_RETRY: Duration = Duration::from_secs(30);
/// And one that waits for a person. A try may take the version, which uses up an epoch and an entry in the journal.
const LEAST_RETRY_OF_OPERATOR: Duration = Duration::from_secs(2);
const MOST_RETRY_OF_OPERATOR: Duration = Duration::from_secs(120);

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, EngineError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(|error| EngineError::Internal(format!("thread {name} cannot be started: {error}")))
}
