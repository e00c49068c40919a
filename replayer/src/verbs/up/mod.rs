//! `refold up`: everything in one process.
//!
//! It starts from the outside in: what can fail for reasons that a user can mend is opened first, then threads are started. It stops in the order in which
//! events flow: collector, worker, API, log.

mod collecting;
pub mod signals;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use refold_api::versions::{Planner, register};
use refold_api::{Admin, ApiSettings, ApiState};
use refold_collector::{Stop, Totals};
use refold_processor::engine::faults::Faults;
use refold_processor::engine::run::RunSettings;
use refold_processor::engine::watermark::Quiet;
use refold_processor::engine::worker::{Ports, Worker, WorkerSettings};
use refold_processor::log::embedded::EmbeddedLog;
use refold_processor::store::catalogue::VersionState;
use refold_processor::view::View;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::cli::Up;
use crate::embedded::{Embedded, SELF};
use crate::failure::Failure;
use crate::output::{Output, complain};
use crate::settings::{self, Settings};
use crate::views::{self, ViewFolder};
use collecting::Collecting;

/// The name under which this process owns versions. The data folder lets in one process only, so that a restart can take at once what
/// a crash left behind.
const OWNER: &str = "up";
/// Views are built when the history of the source is written, but wait no longer than this for it.
const HISTORY_WAIT: Duration = Duration::from_secs(600);
/// How long open requests may take after a stop was asked for.
const API_GRACE: Duration = Duration::from_secs(5);

/// What the threads tell the main one.
pub enum Happened {
    /// A signal to stop.
    Signal,
    /// The source has caught up with the present.
    HistoryWritten,
    /// The source has nothing more, or failed.
    SourceEnded(Result<Totals>),
    /// The API failed.
    ApiEnded(std::io::Result<()>),
}

/// Runs until a signal comes or something fails for good.
pub fn run(arguments: &Up, output: &mut Output) -> Result<(), Failure> {
    let settings = settings::load(&arguments.settings)?;
    let (happened, events) = channel();
    let signalled = happened.clone();
    signals::watch(move || {
        complain("stopping; once more ends it at once");
        let _ = signalled.send(Happened::Signal);
    })?;
    // Before anything is opened: the likeliest thing to be wrong.
    let listener = std::net::TcpListener::bind(settings.listen).with_context(|| {
        format!("cannot listen on {}; is another refold up running? take another address with --listen", settings.listen)
    })?;
    let address = listener.local_addr()?;
    let embedded = Embedded::open(&settings)?;
    let views = views::load(&settings.schemas, &Planner::new(&embedded.sources)?)?;
    let source = collecting::open(&embedded, &settings)?;
    let noted = register_views(&embedded, &views)?;
    let must_build = is_all_building(&embedded)?;

    let worker = Worker::new(ports(&embedded), worker_settings(&settings)?);
    let api = Api::start(&embedded, &settings, &worker, listener, happened.clone())?;
    announce(arguments, &settings, address, source.as_ref().map(|source| source.spec.as_str()), output)?;
    noted.iter().for_each(|note| complain(note));

    let maintenance = Maintenance::start(embedded.log.clone(), settings.maintain_interval_ms)?;
    let has_source = source.is_some();
    let collecting = source.map(|source| source.start(&settings, happened.clone())).transpose()?;
    // A history is folded fastest when it is there: read whole, by versions that know that they are behind.
    let mut running =
        Supervised { worker, thread: None, collecting, waits_until: (must_build && has_source).then(|| Instant::now() + HISTORY_WAIT) };
    let ended = running.supervise(&events);
    running.finish();
    api.finish();
    maintenance.finish();
    drop(embedded);
    ended
}

/// Worker and collector, while they run.
struct Supervised {
    worker: Arc<Worker>,
    thread: Option<JoinHandle<()>>,
    collecting: Option<Collecting>,
    /// The worker is not started before the history is written, or this moment.
    waits_until: Option<Instant>,
}

impl Supervised {
    fn supervise(&mut self, events: &Receiver<Happened>) -> Result<(), Failure> {
        match self.waits_until {
            None => self.start_worker()?,
            Some(_) => tracing::info!("the source writes its history into the log; views are built when it is there"),
        }
        loop {
            let happened = match self.waits_until {
                None => events.recv().map_err(|_| anyhow!("nothing is running any more"))?,
                Some(until) => match events.recv_timeout(until.saturating_duration_since(Instant::now())) {
                    Ok(happened) => happened,
                    Err(RecvTimeoutError::Timeout) => Happened::HistoryWritten,
                    Err(RecvTimeoutError::Disconnected) => return Err(anyhow!("nothing is running any more").into()),
                },
            };
            match happened {
                Happened::Signal => return Ok(()),
                Happened::HistoryWritten => {
                    if self.waits_until.take().is_some() {
                        let written = self.collecting.as_ref().map_or(0, |collecting| collecting.report.totals().written);
                        tracing::info!(events = written, "the source's history is in the log; building views");
                        self.start_worker()?;
                    }
                }
                Happened::SourceEnded(Ok(totals)) => {
                    tracing::info!(
                        read = totals.read,
                        written = totals.written,
                        skipped = totals.skipped(),
                        "the source has ended; still serving"
                    );
                }
                Happened::SourceEnded(Err(error)) => return Err(error.context("the source failed").into()),
                Happened::ApiEnded(ended) => {
                    return Err(ended.err().map_or_else(|| anyhow!("the API ended"), |error| anyhow!("the API failed: {error}")).into());
                }
            }
        }
    }

    fn start_worker(&mut self) -> Result<()> {
        let worker = self.worker.clone();
        let thread =
            std::thread::Builder::new().name("worker".into()).spawn(move || worker.run()).context("the worker cannot be started")?;
        self.thread = Some(thread);
        Ok(())
    }

    fn finish(&mut self) {
        if let Some(collecting) = self.collecting.take() {
            let totals = collecting.finish();
            tracing::info!(read = totals.read, written = totals.written, skipped = totals.skipped(), "collector stopped");
        }
        self.worker.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The API, while it is served.
struct Api {
    runtime: Runtime,
    shutdown: oneshot::Sender<()>,
    served: oneshot::Receiver<()>,
}

impl Api {
    fn start(
        embedded: &Embedded,
        settings: &Settings,
        worker: &Arc<Worker>,
        listener: std::net::TcpListener,
        happened: Sender<Happened>,
    ) -> Result<Api> {
        let planner = Planner::new(&embedded.sources)?;
        let ports = refold_api::Ports {
            catalogue: embedded.catalogue.clone(),
            rows: embedded.store.clone(),
            log: embedded.log.clone(),
            schemas: embedded.schemas.clone(),
            sources: embedded.sources.clone(),
            schema_ids: embedded.schema_ids.clone(),
            running: worker.clone(),
            definitions: Arc::new(ViewFolder::new(&settings.schemas, planner)),
            clock: embedded.clock.clone(),
        };
        let state = ApiState::new(ports, api_settings(settings, &listener.local_addr()?))?;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("api").build().context("the API cannot be started")?;
        listener.set_nonblocking(true)?;
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let (shutdown, asked) = oneshot::channel::<()>();
        let (done, served) = oneshot::channel();
        runtime.spawn(async move {
            let until = async move {
                let _ = asked.await;
            };
            let ended = refold_api::serve(state, listener, until).await;
            let _ = done.send(());
            let _ = happened.send(Happened::ApiEnded(ended));
        });
        Ok(Api { runtime, shutdown, served })
    }

    fn finish(self) {
        let _ = self.shutdown.send(());
        let served = self.served;
        let is_served = self.runtime.block_on(async move { tokio::time::timeout(API_GRACE, served).await });
        if is_served.is_err() {
            tracing::warn!("requests that took too long were cut off");
        }
        self.runtime.shutdown_timeout(API_GRACE);
    }
}

/// Merges and expires what is in the log, now and then.
struct Maintenance {
    stop: Stop,
    thread: JoinHandle<()>,
}

impl Maintenance {
    fn start(log: Arc<EmbeddedLog>, interval_ms: u64) -> Result<Maintenance> {
        let stop = Stop::new();
        let stopped = stop.clone();
        let body = move || {
            while !stopped.wait(Duration::from_millis(interval_ms)) {
                match log.maintain() {
                    Ok(done) => tracing::debug!(?done, "log maintained"),
                    Err(error) => tracing::warn!(%error, "the log could not be maintained; trying again later"),
                }
            }
        };
        let thread = std::thread::Builder::new().name("maintenance".into()).spawn(body).context("maintenance cannot be started")?;
        Ok(Maintenance { stop, thread })
    }

    fn finish(self) {
        self.stop.stop();
        let _ = self.thread.join();
    }
}

/// Creates version 1 of views that have none. Answers with what the user should know of the others.
fn register_views(embedded: &Embedded, declared: &[(PathBuf, View)]) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    for (path, view) in declared {
        let versions = embedded.catalogue.versions(&view.name)?;
        match versions.iter().rfind(|record| record.state != VersionState::Dropped) {
            None => {
                register(&embedded.catalogue, view, SELF)?;
            }
            Some(newest) if newest.digest != view.digest => notes.push(format!(
                "{} is not what {} of view {} was built from; to build a version of it, run: refold replay {}",
                path.display(),
                newest.version,
                view.name,
                view.name
            )),
            Some(_) => {}
        }
    }
    let names = embedded.catalogue.views()?;
    for name in names.iter().filter(|name| !declared.iter().any(|(_, view)| view.name == **name)) {
        notes.push(format!("view {name} has no file any more; its versions are still kept up to date"));
    }
    if names.is_empty() {
        notes.push("there are no views; declare one in the schemas folder (views/*.sql)".into());
    }
    Ok(notes)
}

/// Whether nothing is in service, so that nothing suffers when building waits for the source's history.
fn is_all_building(embedded: &Embedded) -> Result<bool> {
    for view in embedded.catalogue.views()? {
        let versions = embedded.catalogue.versions(&view)?;
        if versions.iter().any(|record| !matches!(record.state, VersionState::Building | VersionState::Dropped)) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn announce(arguments: &Up, settings: &Settings, address: SocketAddr, source: Option<&str>, output: &mut Output) -> std::io::Result<()> {
    let url = format!("http://{address}");
    if arguments.json {
        return output.json(&json!({ "listening": url, "data": settings.data.display().to_string(), "source": source }));
    }
    output.line(&format!("refold is at {url}"))?;
    output.line(&format!("  data    {}", settings.data.display()))?;
    output.line(&format!("  source  {}", source.unwrap_or("none; post events to /v1/sources/<source>/events")))?;
    if settings.token.is_none() && !address.ip().is_loopback() {
        output.line("  admin   closed: this address can be reached from other machines; set a token (REFOLD_TOKEN) to open it")?;
    }
    output.line("Ctrl-C stops it; started again, it goes on where it was")
}

fn ports(embedded: &Embedded) -> Ports {
    Ports {
        log: embedded.log.clone(),
        store: embedded.store.clone(),
        catalogue: embedded.catalogue.clone(),
        schemas: embedded.schemas.clone(),
        sources: embedded.sources.clone(),
        clock: embedded.clock.clone(),
    }
}

fn worker_settings(settings: &Settings) -> Result<WorkerSettings, Failure> {
    let fault = settings.fault.as_deref().map(Faults::from_str).transpose();
    let faults = fault.map_err(|error| Failure::Usage(format!("fault: {error}")))?.unwrap_or_default();
    Ok(WorkerSettings {
        owner: OWNER.into(),
        state_dir: settings.data.join("state"),
        memory_bytes: settings.memory_bytes,
        feed_threads: settings.threads,
        shards: settings.shards,
        chunk_bytes: settings.chunk_bytes.min(settings.memory_bytes / 128),
        run: RunSettings {
            commit_interval_ms: settings.commit_interval_ms,
            building_commit_interval_ms: settings.building_commit_interval_ms,
            overlay_bytes: settings.memory_bytes / 16,
            sweep_windows: settings.sweep_windows,
            caught_up_lag: settings.caught_up_lag_events,
        },
        quiet: Quiet { idle_after_ms: settings.idle_after_ms, idle_drop_after_ms: settings.idle_drop_after_ms },
        lease_ms: settings.lease_ms,
        reconcile_interval_ms: settings.reconcile_interval_ms,
        queued_rows: settings.queued_rows,
        rows_per_write: settings.rows_per_write,
        faults: Arc::new(faults),
    })
}

fn api_settings(settings: &Settings, address: &SocketAddr) -> ApiSettings {
    let admin = match &settings.token {
        Some(token) => Admin::Token(token.clone()),
        None if address.ip().is_loopback() => Admin::Open,
        None => Admin::Closed,
    };
    ApiSettings {
        admin,
        max_body_bytes: settings.max_body_bytes,
        ingest_requests: settings.ingest_requests,
        rows_default: settings.rows_default,
        rows_max: settings.rows_max,
    }
}
