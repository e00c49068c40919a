//! The verbs that stay: `refold up` (everything in one process), `refold process` (a worker) and `refold serve` (the API).
//!
//! They start from the outside in: what can fail for reasons that a user can mend is opened first, then threads are started. They stop in the order in which
//! events flow: collector, worker, API, log.

mod collecting;
mod first_versions;
mod maintenance;
mod owner;
mod serving;
pub mod signals;
mod worker;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use refold_api::{Elsewhere, Running};
use refold_collector::Totals;
use refold_processor::engine::worker::{Pool, Worker};
use refold_versions::planner::Planner;
use serde_json::json;

use crate::cli::{PoolArgument, Process, Serve, Up};
use crate::commit;
use crate::failure::Failure;
use crate::output::{Output, complain};
use crate::parts::Parts;
use crate::settings::{self, Settings};
use crate::views;
use collecting::{Collecting, Opened};
use first_versions::{is_all_building, register_views};
use maintenance::Maintenance;
use serving::Api;

/// Views are built when the history of the source is written, but wait no longer than this for it.
const HISTORY_WAIT: Duration = Duration::from_secs(600);
/// Where a worker listens unless told: beside the API of the same machine.
const WORKER_PORT: u16 = 7071;

/// What the threads tell the main one.
pub enum Happened {
    /// A signal to stop.
    Signal,
    /// The source has caught up with the present, or has ended.
    HistoryWritten,
    /// The source has nothing more, or failed.
    SourceEnded(Result<Totals>),
    /// The API failed.
    ApiEnded(std::io::Result<()>),
    /// The worker ended, asked to or not.
    WorkerEnded,
}

/// What a process is there for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Everything; the source from its start if `restart`.
    Up { restart: bool },
    /// To run versions.
    Process(Pool),
    /// To answer readers.
    Serve,
}

impl Role {
    fn pool(self) -> Option<Pool> {
        match self {
            Role::Up { .. } => Some(Pool::All),
            Role::Process(pool) => Some(pool),
            Role::Serve => None,
        }
    }
}

/// `refold up`
pub fn run(arguments: &Up, output: &mut Output) -> Result<(), Failure> {
    let settings = settings::load(&arguments.settings)?;
    stay(Role::Up { restart: arguments.restart }, arguments.json, &settings, output)
}

/// `refold process`
pub fn process(arguments: &Process, output: &mut Output) -> Result<(), Failure> {
    let mut settings = settings::load(&arguments.settings)?;
    require_services("process", &settings)?;
    if !settings.listen_was_said {
        settings.listen.set_port(WORKER_PORT);
    }
    let pool = match arguments.pool {
        PoolArgument::All => Pool::All,
        PoolArgument::Live => Pool::Live,
        PoolArgument::Replay => Pool::Replay,
    };
    stay(Role::Process(pool), arguments.json, &settings, output)
}

/// `refold serve`
pub fn serve(arguments: &Serve, output: &mut Output) -> Result<(), Failure> {
    let settings = settings::load(&arguments.settings)?;
    require_services("serve", &settings)?;
    stay(Role::Serve, arguments.json, &settings, output)
}

/// Embedded parts let in one process at a time, so processes of one purpose each need the services.
fn require_services(verb: &str, settings: &Settings) -> Result<(), Failure> {
    let missing = match (&settings.kafka, settings.cassandra.is_empty()) {
        (None, true) => "--kafka and --cassandra",
        (None, false) => "--kafka",
        (Some(_), true) => "--cassandra",
        (Some(_), false) => return Ok(()),
    };
    Err(Failure::Usage(format!(
        "refold {verb} works over Kafka and Cassandra; name them with {missing}, or run everything in one process: refold up"
    )))
}

/// Runs until a signal comes or something fails for good.
fn stay(role: Role, as_json: bool, settings: &Settings, output: &mut Output) -> Result<(), Failure> {
    let (happened, events) = channel();
    let signalled = happened.clone();
    signals::watch(move || {
        complain("stopping; once more ends it at once");
        let _ = signalled.send(Happened::Signal);
    })?;
    // Before anything is opened: the likeliest thing to be wrong.
    let listener = TcpListener::bind(settings.listen)
        .with_context(|| format!("cannot listen on {}; is another refold running? take another address with --listen", settings.listen))?;
    let address = listener.local_addr()?;
    let parts = Parts::open(settings)?;
    let views = views::load(&settings.schemas, &Planner::new(&parts.intake.sources)?)?;
    let source = match role {
        Role::Up { restart } => collecting::open(&parts.intake, settings, restart)?,
        _ => None,
    };
    let noted =
        if role == Role::Serve { Vec::new() } else { register_views(&parts.catalogue, &views, commit::of(&settings.schemas).as_deref())? };
    let must_build = is_all_building(&parts.catalogue)?;
    let locked = role.pool().map(|pool| worker::open(&parts, settings, pool)).transpose()?;
    let running: Arc<dyn Running> = match &locked {
        Some(locked) => locked.worker.clone(),
        None => {
            let Parts { intake, store, catalogue, .. } = &parts;
            Arc::new(Elsewhere::new(catalogue.clone(), store.clone(), intake.sources.clone(), parts.clock.clone())?)
        }
    };
    let collected = source.as_ref().map(|source| source.collected.clone());
    let api = Api::start(&parts, settings, running, collected.clone(), listener, happened.clone())?;
    announce(role, as_json, settings, address, source.as_ref(), output)?;
    noted.iter().for_each(|note| complain(note));

    let maintained = parts.intake.embedded_log.clone();
    let maintenance = maintained.map(|log| Maintenance::start(log, settings.maintain_interval_ms)).transpose()?;
    let has_source = source.is_some();
    let collecting = source.map(|source| source.start(settings, happened.clone())).transpose()?;
    let mut running = Supervised {
        worker: locked.as_ref().map(|locked| locked.worker.clone()),
        thread: None,
        collecting,
        // A history is folded fastest when it is there: read whole, by versions that know that they are behind.
        waits_until: (must_build && has_source).then(|| Instant::now() + HISTORY_WAIT),
    };
    let ended = running.supervise(&events, &happened);
    running.finish();
    api.finish();
    if let Some(maintenance) = maintenance {
        maintenance.finish();
    }
    ended
}

/// Worker and collector, while they run.
struct Supervised {
    worker: Option<Arc<Worker>>,
    thread: Option<JoinHandle<()>>,
    collecting: Option<Collecting>,
    /// The worker is not started before the history is written, or this moment.
    waits_until: Option<Instant>,
}

impl Supervised {
    fn supervise(&mut self, events: &Receiver<Happened>, happened: &Sender<Happened>) -> Result<(), Failure> {
        match self.waits_until {
            None => self.start_worker(happened)?,
            Some(_) => tracing::info!("the source writes its history into the log; views are built when it is there"),
        }
        loop {
            let now = match self.waits_until {
                None => events.recv().map_err(|_| anyhow!("nothing is running any more"))?,
                Some(until) => match events.recv_timeout(until.saturating_duration_since(Instant::now())) {
                    Ok(happened) => happened,
                    Err(RecvTimeoutError::Timeout) => Happened::HistoryWritten,
                    Err(RecvTimeoutError::Disconnected) => return Err(anyhow!("nothing is running any more").into()),
                },
            };
            match now {
                Happened::Signal => return Ok(()),
                Happened::HistoryWritten => {
                    if self.waits_until.take().is_some() {
                        let written = self.collecting.as_ref().map_or(0, |collecting| collecting.collected.report.totals().written);
                        tracing::info!(added = written, "building views of what is in the log");
                        self.start_worker(happened)?;
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
                Happened::SourceEnded(Err(error)) => {
                    tracing::error!(
                        error = format!("{error:#}"),
                        "the source failed; still serving; started again, it goes on where it was"
                    );
                }
                Happened::WorkerEnded => return Err(anyhow!("the worker ended; see the log").into()),
                Happened::ApiEnded(ended) => {
                    return Err(ended.err().map_or_else(|| anyhow!("the API ended"), |error| anyhow!("the API failed: {error}")).into());
                }
            }
        }
    }

    fn start_worker(&mut self, happened: &Sender<Happened>) -> Result<()> {
        let Some(worker) = self.worker.clone() else { return Ok(()) };
        let happened = happened.clone();
        let body = move || {
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| worker.run()));
            let _ = happened.send(Happened::WorkerEnded);
        };
        let thread = std::thread::Builder::new().name("worker".into()).spawn(body).context("the worker cannot be started")?;
        self.thread = Some(thread);
        Ok(())
    }

    fn finish(&mut self) {
        if let Some(collecting) = self.collecting.take() {
            let totals = collecting.finish();
            tracing::info!(read = totals.read, written = totals.written, skipped = totals.skipped(), "collector stopped");
        }
        if let Some(worker) = &self.worker {
            worker.stop();
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn announce(
    role: Role,
    as_json: bool,
    settings: &Settings,
    address: SocketAddr,
    source: Option<&Opened>,
    output: &mut Output,
) -> std::io::Result<()> {
    let spec = source.map(|source| source.collected.spec.as_str());
    let scheme = if settings.tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{address}");
    let log = settings.kafka.as_ref().map(|brokers| format!("kafka {brokers}"));
    let store = (!settings.cassandra.is_empty()).then(|| format!("cassandra {}", settings.cassandra.join(",")));
    if as_json {
        return output
            .json(&json!({ "listening": url, "data": settings.data.display().to_string(), "log": log, "store": store, "source": spec }));
    }
    output.line(&format!("refold is at {url}"))?;
    if role != Role::Serve {
        output.line(&format!("  data    {}", settings.data.display()))?;
    }
    for (name, service) in [("log", log), ("store", store)] {
        service.map_or(Ok(()), |service| output.line(&format!("  {name:7} {service}")))?;
    }
    if matches!(role, Role::Up { .. }) {
        output.line(&format!("  source  {}", spec.unwrap_or("none; post events to /v1/sources/<source>/events")))?;
    }
    if !address.ip().is_loopback() {
        let has_token = settings.token.is_some() || settings.tokens_file.is_some();
        if !has_token {
            output.line("  admin   closed: this address can be reached from other machines; set a token (REFOLD_TOKEN) to open it")?;
        }
        match (settings.public_reads, has_token) {
            (true, _) => output.line("  reads   open: rows may be read by whoever reaches this address, without a token")?,
            (false, true) => output.line("  reads   with a token; public_reads = true opens them to whoever reaches this address")?,
            (false, false) => output.line("  reads   closed, as admin; public_reads = true opens them to whoever reaches this address")?,
        }
    }
    output.line(match source.is_none_or(Opened::is_resumable) {
        true => "Ctrl-C stops it; started again, it goes on where it was",
        false => "Ctrl-C stops it",
    })
}
