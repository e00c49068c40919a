//! What the routes work with.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use refold_collector::{CollectError, Encoder, Report};
use refold_processor::changes::ChangeFeed;
use refold_processor::clock::Clock;
use refold_processor::decode::SchemaLookup;
use refold_processor::engine::error::EngineError;
use refold_processor::engine::quarantined::{Page, Wanted};
use refold_processor::engine::stalled::Stalls;
use refold_processor::engine::status::RunStatus;
use refold_processor::engine::worker::Worker;
use refold_processor::log::Log;
use refold_processor::source::{Source, Sources};
use refold_processor::store::RowReader;
use refold_processor::store::catalogue::{Catalogue, VersionRecord, VersionState};
use refold_processor::table::Version;
use refold_processor::view::View;
use tokio::sync::{Semaphore, watch};

use crate::gate::Behind;
use crate::limits::{self, AllPlaces, Limits};
use crate::live::{Hubs, Pointers};
use crate::metrics::{HttpMetrics, Seen};
use crate::problem::Problem;
use crate::rates::Rates;
use crate::versions::Planner;

/// The versions that run in this process, or in others.
pub trait Running: Send + Sync {
    /// How far each of them is.
    fn status(&self) -> Vec<RunStatus>;

    /// Whether they run in this process; otherwise this is what others tell of theirs.
    fn is_here(&self) -> bool {
        true
    }

    /// The catalogue has changed: look at it now.
    fn look(&self);

    /// The sizes of their states, bytes, of those that run in this process.
    fn state_sizes(&self) -> BTreeMap<(String, Version), u64> {
        BTreeMap::new()
    }

    /// Quarantined events of one of them; `None` when it is not one of them.
    ///
    /// # Errors
    /// When its state cannot be read.
    fn quarantined(&self, view: &str, version: Version, wanted: &Wanted) -> Result<Option<Page>, EngineError>;
}

impl Running for Worker {
    fn status(&self) -> Vec<RunStatus> {
        Worker::status(self)
    }

    fn look(&self) {
        Worker::look(self);
    }

    fn state_sizes(&self) -> BTreeMap<(String, Version), u64> {
        Worker::state_sizes(self)
    }

    fn quarantined(&self, view: &str, version: Version, wanted: &Wanted) -> Result<Option<Page>, EngineError> {
        Worker::quarantined(self, view, version, wanted)
    }
}

/// How far a source is with what it had before now.
#[derive(Clone, Copy, Debug)]
enum History {
    IsWritten,
    IsThere { noted_ms: i64 },
    HasEnded,
}

/// A source that was not heard of for so long has something to make up for.
const STALE_MS: i64 = 10_000;

/// A source that is collected in this process.
#[derive(Debug)]
pub struct Collected {
    /// Its specification.
    pub spec: String,
    /// The declared source that its events are of.
    pub source: String,
    /// Running totals.
    pub report: Report,
    history: Mutex<History>,
    failed: Mutex<Option<String>>,
}

impl Collected {
    /// A source of which nothing is collected yet.
    pub fn new(spec: &str, source: &str) -> Collected {
        Collected {
            spec: spec.to_owned(),
            source: source.to_owned(),
            report: Report::default(),
            history: Mutex::new(History::IsWritten),
            failed: Mutex::default(),
        }
    }

    /// Notes whether all that the source had before `now_ms` is in the log. To be called again and again while it is.
    pub fn note_at_present(&self, is_at_present: bool, now_ms: i64) {
        *self.history.lock() = if is_at_present { History::IsThere { noted_ms: now_ms } } else { History::IsWritten };
    }

    /// Notes that the source brings nothing more.
    pub fn note_end(&self) {
        *self.history.lock() = History::HasEnded;
    }

    /// Whether the source still writes what it had before now. An event of now in the midst of that makes what comes after it too late.
    pub fn is_writing_history(&self, now_ms: i64) -> bool {
        match *self.history.lock() {
            History::IsWritten => true,
            // A machine was suspended, or the log unavailable: when it goes on, it first fills the gap.
            History::IsThere { noted_ms } => now_ms - noted_ms > STALE_MS,
            History::HasEnded => false,
        }
    }

    /// Notes that collecting ended, and why.
    pub fn fail(&self, error: &CollectError) {
        *self.failed.lock() = Some(error.to_string());
    }

    /// Why collecting ended before the source did.
    pub fn failed(&self) -> Option<String> {
        self.failed.lock().clone()
    }
}

/// Where the declared definitions of views are.
pub trait Definitions: Send + Sync {
    /// The file that declares a view now, and its text; `None` when there is none.
    ///
    /// # Errors
    /// What could not be read, for people.
    fn of(&self, view: &str) -> Result<Option<(String, String)>, String>;
}

/// What the API reads from and writes to. It has no way to write rows.
#[derive(Clone)]
pub struct Ports {
    /// Versions and the active pointers.
    pub catalogue: Catalogue,
    /// Rows.
    pub rows: Arc<dyn RowReader>,
    /// What changes in rows.
    pub changes: Arc<dyn ChangeFeed>,
    /// Where events go.
    pub log: Arc<dyn Log>,
    /// Writer schemas.
    pub schemas: Arc<dyn SchemaLookup>,
    /// The declared sources.
    pub sources: Sources,
    /// The number under which the schema of each source is found by readers of the log, by the source's name.
    pub schema_ids: BTreeMap<String, u32>,
    /// What runs in this process.
    pub running: Arc<dyn Running>,
    /// What is collected in this process.
    pub collected: Option<Arc<Collected>>,
    /// The declared definitions of views.
    pub definitions: Arc<dyn Definitions>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

/// Who may use `/v1/admin/…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admin {
    /// Who has this bearer token.
    Token(String),
    /// Everyone who can connect: for a listener that only this machine reaches.
    Open,
    /// Nobody.
    Closed,
}

/// Limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiSettings {
    /// Who may use `/v1/admin/…`.
    pub admin: Admin,
    /// The largest body of events, bytes.
    pub max_body_bytes: usize,
    /// How many bodies of events are processed concurrently; memory for as many bodies of the maximum size is available. Further ones wait on their connection.
    pub ingest_requests: usize,
    /// How many streams of changes may be open at once.
    pub live_streams: usize,
    /// Rows of a page when the reader names no limit.
    pub rows_default: usize,
    /// The greatest limit a reader may name.
    pub rows_max: usize,
    /// Maximum lag of a version that may be switched to, in events behind the active version; an active version with a lasting greater lag is not ready.
    pub caught_up_lag_events: u64,
    /// Accepted names in the `Host` header besides addresses and `localhost`; `None`: all, for a listener that other machines reach.
    pub own_names: Option<Vec<String>>,
    /// Concurrency limits and timeouts.
    pub limits: Limits,
}

impl Default for ApiSettings {
    fn default() -> Self {
        ApiSettings {
            admin: Admin::Closed,
            max_body_bytes: 16 << 20,
            ingest_requests: 8,
            live_streams: 1_000,
            rows_default: 100,
            rows_max: 10_000,
            caught_up_lag_events: 1_000,
            own_names: None,
            limits: Limits::default(),
        }
    }
}

/// Why the API cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// Events of a source cannot be encoded.
    #[error(transparent)]
    Encoder(#[from] CollectError),
    /// A source's schema has no columns.
    #[error("source {source_name}: {message}")]
    Schema {
        /// The source.
        source_name: String,
        /// What is wrong.
        message: String,
    },
}

/// One source, ready to take events.
pub(crate) struct Intake {
    pub source: Source,
    pub encoder: Encoder,
    /// Held while events are appended that may be in the log already.
    pub retries: Arc<tokio::sync::Mutex<()>>,
}

pub(crate) struct Inner {
    pub ports: Ports,
    pub settings: ApiSettings,
    pub intakes: BTreeMap<String, Arc<Intake>>,
    pub places: AllPlaces,
    /// One for each stream of changes that may be open.
    pub streams: Arc<Semaphore>,
    pub http: HttpMetrics,
    pub seen: Seen,
    pub rates: Rates,
    pub behind: Behind,
    /// Which versions do not move although there are events to fold.
    pub stalls: Stalls,
    pub pointers: Pointers,
    pub hubs: Hubs,
    pub closing: watch::Sender<bool>,
    planner: Planner,
    planned: RwLock<HashMap<String, Arc<View>>>,
}

/// What the routes work with. Cheap to clone.
#[derive(Clone)]
pub struct ApiState(pub(crate) Arc<Inner>);

impl ApiState {
    /// The state over these ports.
    ///
    /// # Errors
    /// When a source's schema is not valid, or cannot be written.
    pub fn new(ports: Ports, settings: ApiSettings) -> Result<ApiState, ApiError> {
        let planner = Planner::new(&ports.sources)?;
        let mut intakes = BTreeMap::new();
        for (name, source) in &ports.sources {
            let encoder = Encoder::new(source, ports.schema_ids.get(name).copied())?;
            intakes.insert(name.clone(), Arc::new(Intake { source: source.clone(), encoder, retries: Arc::default() }));
        }
        let places = AllPlaces::new(&settings.limits, settings.ingest_requests, settings.max_body_bytes);
        let streams = Arc::new(Semaphore::new(settings.live_streams));
        Ok(ApiState(Arc::new(Inner {
            ports,
            settings,
            intakes,
            places,
            streams,
            http: HttpMetrics::new(),
            seen: Seen::default(),
            rates: Rates::default(),
            behind: Behind::default(),
            stalls: Stalls::default(),
            pointers: Pointers::default(),
            hubs: Hubs::default(),
            closing: watch::Sender::new(false),
            planner,
            planned: RwLock::default(),
        })))
    }

    /// The planned view of a version. Equal definitions are planned once.
    pub(crate) fn planned(&self, record: &VersionRecord) -> Result<Arc<View>, Problem> {
        if let Some(view) = self.0.planned.read().get(&record.digest) {
            return Ok(view.clone());
        }
        let label = format!("{} {}", record.view, record.version);
        let view = self.0.planner.plan(&record.sql, &label).map_err(|error| {
            Problem::definition(format!(
                "version {} of view {} does not match the declared sources: {error}; restore the declaration, or build a version of the new \
                 definition with refold replay {}",
                record.version, record.view, record.view
            ))
        })?;
        let view = Arc::new(view);
        self.0.planned.write().insert(record.digest.clone(), view.clone());
        Ok(view)
    }

    /// Ends the streams of changes: nobody is to be served any more.
    pub(crate) fn close_streams(&self) {
        self.0.closing.send_replace(true);
    }

    /// Plans a definition that is new here.
    pub(crate) fn plan(&self, sql: &str, file: &str) -> Result<View, Problem> {
        Ok(self.0.planner.plan(sql, file)?)
    }

    /// That what is collected here still writes its history into the log of a source, for people.
    pub(crate) fn history_of(&self, source: &str) -> Option<String> {
        let now_ms = self.0.ports.clock.now_ms();
        let collected = self.0.ports.collected.as_deref();
        let writing = collected.filter(|collected| collected.source == source && collected.is_writing_history(now_ms));
        writing.map(|Collected { spec, report, .. }| {
            let written = report.totals().written;
            format!("{spec} is still writing its history into the log of {source} ({written} events so far)")
        })
    }

    /// What a version is waiting for that is not begun yet, so that there is no `run`: the history of its source.
    pub(crate) fn waits_for(&self, record: &VersionRecord, run: Option<&RunStatus>) -> Option<String> {
        if record.state != VersionState::Building || run.is_some() {
            return None;
        }
        self.history_of(&self.planned(record).ok()?.source)
    }

    /// How far each running version is, with its rate of the last seconds.
    pub(crate) fn running(&self) -> Vec<RunStatus> {
        let mut statuses = self.0.ports.running.status();
        let is_here = self.0.ports.running.is_here();
        for status in &mut statuses {
            // Who folds knows best whether it can be read.
            if !is_here {
                status.source_error = self.0.seen.trouble_of(&status.topic);
            }
            // What is being folded was read some time ago: by now the log may reach further.
            let seen = self.0.seen.ends_of(&status.topic);
            if !seen.is_empty() {
                let mut ends = status.ends.clone();
                for (partition, seen) in seen {
                    let end = ends.entry(partition).or_default();
                    *end = seen.max(*end);
                }
                status.set_ends(ends);
            }
        }
        let now_ms = self.0.ports.clock.now_ms();
        self.0.rates.apply(now_ms, &mut statuses);
        self.0.behind.note(now_ms, &statuses, self.0.settings.caught_up_lag_events);
        self.0.stalls.apply(now_ms, &mut statuses);
        statuses
    }
}

/// Runs something that waits for a disk or a database where it holds up no other request.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Problem> + Send + 'static) -> Result<T, Problem> {
    let place = limits::held();
    let work = move || {
        let done = work();
        // Held until here, because the thread is occupied even if the client has hung up.
        drop(place);
        done
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(error) => Err(Problem::internal(format!("the request was not finished: {error}"))),
    }
}
