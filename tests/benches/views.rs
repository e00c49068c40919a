//! What a process costs by the number of its views: a worker on embedded parts, the sample source, and 1, 10, 100 and 500 views over it, each number in a
//! process of its own.
//!
//! Posts of an hour are in the log first and are folded by all views at once (*replay*, until every view is in service); then posts come at an even rate
//! (*live*); then the worker stops. `VIEWS=1,500` sets the numbers, `HISTORY=…` how many posts there are first, `RATE=…` the posts a second, `LIVE=…` the seconds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout, missing_docs)]

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use refold_collector::{Encoder, Opening, Pull, Spec, Stop, SystemTimer};
use refold_processor::changes::LocalFeed;
use refold_processor::clock::SystemClock;
use refold_processor::decode::{StaticSchemas, arrow_schema};
use refold_processor::engine::run::RunSettings;
use refold_processor::engine::status::RunStatus;
use refold_processor::engine::timing::TimedStep;
use refold_processor::engine::watermark::Quiet;
use refold_processor::engine::worker::{Pool, Ports, Worker, WorkerSettings};
use refold_processor::log::Log;
use refold_processor::log::embedded::{EmbeddedLog, EmbeddedLogSettings};
use refold_processor::source::Source;
use refold_processor::store::catalogue::Catalogue;
use refold_processor::store::embedded::{EmbeddedStore, EmbeddedStoreSettings};
use refold_processor::view::View;
use refold_tests::program::root;
use refold_tests::services::processor_time;
use refold_tests::simulation::replay::Application;
// With the allocator of the program.
use refold_replayer as _;

/// What the program has of its `memory_mb`, 512, for everything below.
const MEMORY_BYTES: usize = 356 << 20;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() {
    if let Ok(views) = std::env::var("VIEWS_HERE") {
        return measure(views.parse().unwrap());
    }
    let numbers = std::env::var("VIEWS").unwrap_or_else(|_| "1,10,100,500".into());
    for views in numbers.split(',') {
        assert!(Command::new(std::env::current_exe().unwrap()).env("VIEWS_HERE", views).status().unwrap().success());
    }
}

/// What all versions have done so far.
struct Figures {
    at: Instant,
    processor: Duration,
    folded: u64,
    commits: u64,
    commit_s: f64,
    store_syncs: u64,
    written_bytes: u64,
}

impl Figures {
    fn of(statuses: &[RunStatus]) -> Figures {
        let steps =
            |step: TimedStep| statuses.iter().flat_map(move |status| status.timings.iter().filter(move |(timed, _)| *timed == step));
        let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
        let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        Figures {
            at: Instant::now(),
            processor: processor_time("self"),
            folded: statuses.iter().map(|status| status.applied).sum(),
            commits: statuses.iter().map(|status| status.commits).sum(),
            commit_s: steps(TimedStep::Commit).map(|(_, durations)| durations.sum_s).sum(),
            store_syncs: steps(TimedStep::Sync).map(|(_, durations)| durations.count).sum(),
            written_bytes: written.and_then(|bytes| bytes.parse().ok()).unwrap_or(0),
        }
    }
}

/// Resident memory and its peak, threads and open files.
fn holds() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let number = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').split_whitespace().next().unwrap().parse().unwrap()
    };
    let files = std::fs::read_dir("/proc/self/fd").unwrap().count();
    format!("{} MiB, at most {} MiB; {} threads, {files} open files", number("VmRSS") >> 10, number("VmHWM") >> 10, number("Threads"))
}

fn sql(view: u64) -> String {
    format!(
        "CREATE MATERIALIZED VIEW v{view} WITH (partition_key = 'u', clustering = 'slot DESC', accept_late = '1 day') AS
         SELECT userid % {view} AS u, tumble(timestamp, INTERVAL '{view} minutes') AS slot, count(*) AS posts FROM tweets GROUP BY u, slot"
    )
}

/// Appends what a generator yields, until there is no more or somebody says so.
fn append(log: &EmbeddedLog, source: &Source, spec: &str, is_over: &AtomicBool) -> u64 {
    let encoder = Encoder::new(source, Some(1)).unwrap();
    let timer = Arc::new(SystemTimer::new(Stop::new()));
    let schemas = root().join("schemas");
    let mut posts = Spec::parse(spec).unwrap().open(encoder, &Opening::new(&schemas, &schemas, timer)).unwrap();
    let mut appended = 0;
    while !is_over.load(Ordering::Relaxed) {
        match posts.next(10_000, Duration::from_millis(10)).unwrap() {
            Pull::Events { records, .. } => {
                appended += records.len() as u64;
                log.append(&source.topic, records).unwrap();
            }
            Pull::Idle => {}
            Pull::End => break,
        }
    }
    appended
}

fn settings(folder: &std::path::Path) -> WorkerSettings {
    WorkerSettings {
        owner: "bench".into(),
        incarnation: Default::default(),
        pool: Pool::All,
        state_dir: folder.join("state"),
        memory_bytes: MEMORY_BYTES,
        feed_threads: 1,
        shards: 1,
        chunk_bytes: 1 << 20,
        run: RunSettings { commit_interval_ms: 20, building_commit_interval_ms: 1_000, sweep_windows: 12, caught_up_lag: 1_000 },
        quiet: Quiet { idle_after_ms: 5_000, idle_drop_after_ms: 86_400_000 },
        lease_ms: 10_000,
        reconcile_interval_ms: 1_000,
        queued_rows: 100_000,
        rows_per_write: 100_000,
        retire_after_ms: None,
        faults: Arc::default(),
    }
}

fn measure(views: u64) {
    let (rate, history, seconds) = (setting("RATE", 1_000), setting("HISTORY", 360_000), setting("LIVE", 30));
    let source = Application::load(&root().join("schemas"), "tweets").source.clone();
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(SystemClock);
    let log_settings = EmbeddedLogSettings { write_buffer_bytes: MEMORY_BYTES / 32, ..EmbeddedLogSettings::default() };
    let log = Arc::new(EmbeddedLog::open(&folder.path().join("log"), log_settings, clock.clone()).unwrap());
    log.create_topic(&source.topic, source.partitions).unwrap();
    let backlog = format!("generate:1?seed=1&count={history}&backlog=1h&backlog_rate={}", history.div_ceil(3_600));
    let history = append(&log, &source, &backlog, &AtomicBool::new(false));
    println!("{views} views over {history} posts of an hour, then {rate}/s:");

    let store_settings =
        EmbeddedStoreSettings { cache_bytes: MEMORY_BYTES / 16, write_buffer_bytes: MEMORY_BYTES / 16, ..EmbeddedStoreSettings::default() };
    let store = Arc::new(EmbeddedStore::open(&folder.path().join("store"), &store_settings).unwrap());
    let catalogue = Catalogue::new(store.clone(), clock.clone());
    let columns = BTreeMap::from([(source.name.clone(), arrow_schema(&source.schema_json).unwrap())]);
    for view in 1..=views {
        let view = View::plan(&sql(view), "bench", &columns).unwrap();
        catalogue.create_version(&view.name, &view.sql, &view.digest, "", "bench").unwrap();
    }
    let mut schemas = StaticSchemas::default();
    schemas.add_with_id(1, &source.schema_json).unwrap();
    let ports = Ports {
        log: log.clone(),
        store,
        changes: Arc::new(LocalFeed::default()),
        catalogue: catalogue.clone(),
        schemas: Arc::new(schemas),
        sources: BTreeMap::from([(source.name.clone(), source.clone())]),
        clock,
    };
    println!("  before: {}", holds());
    let started = (Instant::now(), processor_time("self"));
    let worker = Worker::new(ports, settings(folder.path()));
    let running = {
        let worker = worker.clone();
        std::thread::spawn(move || worker.run())
    };
    let deadline = started.0 + Duration::from_secs(setting("PATIENCE", 1_800));
    let mut opened_s = None;
    loop {
        let statuses = worker.status();
        if statuses.len() as u64 == views {
            opened_s.get_or_insert(started.0.elapsed().as_secs_f64());
        }
        let live = statuses.iter().filter(|status| status.live && status.lag == 0 && status.read >= history).count() as u64;
        if live == views && (1..=views).all(|view| catalogue.active(&format!("v{view}")).unwrap().is_some()) {
            break;
        }
        assert!(Instant::now() < deadline, "{live} of {views} views are live; {}", holds());
        std::thread::sleep(Duration::from_millis(200));
    }
    let (took, processor) = (started.0.elapsed().as_secs_f64(), (processor_time("self") - started.1).as_secs_f64());
    println!(
        "  replay until all are in service: {took:.1} s, of these opening {:.1} s; {:.2} M folds/s; processor time {processor:.1} s; {}",
        opened_s.unwrap_or(took),
        (history * views) as f64 / took / 1e6,
        holds()
    );

    let is_over = Arc::new(AtomicBool::new(false));
    let appending = {
        let (log, source, is_over) = (log.clone(), source.clone(), is_over.clone());
        std::thread::spawn(move || append(&log, &source, &format!("generate:{rate}?seed=2"), &is_over))
    };
    std::thread::sleep(Duration::from_secs(5));
    let before = Figures::of(&worker.status());
    std::thread::sleep(Duration::from_secs(seconds));
    let statuses = worker.status();
    let after = Figures::of(&statuses);
    let seconds = (after.at - before.at).as_secs_f64();
    let ends: u64 =
        log.partitions(&source.topic).unwrap().into_iter().map(|partition| log.bounds(&source.topic, partition).unwrap().end.0).sum();
    let most_behind = statuses.iter().map(|status| ends.saturating_sub(status.positions.sum())).max().unwrap_or(0);
    println!(
        "  live: {:.0} events/s a view; {:.2} cores; {:.1} commits/s a view, {:.2} ms each; {:.1} syncs/s of the store asked for; {:.2} MB/s written; {most_behind} events behind at most; {}",
        (after.folded - before.folded) as f64 / seconds / views as f64,
        (after.processor - before.processor).as_secs_f64() / seconds,
        (after.commits - before.commits) as f64 / seconds / views as f64,
        (after.commit_s - before.commit_s) * 1e3 / (after.commits - before.commits).max(1) as f64,
        (after.store_syncs - before.store_syncs) as f64 / seconds,
        (after.written_bytes - before.written_bytes) as f64 / seconds / 1e6,
        holds()
    );
    is_over.store(true, Ordering::Relaxed);
    appending.join().unwrap();
    // Until what was appended last is folded, and made durable.
    std::thread::sleep(Duration::from_secs(setting("CALM", 15)));
    let idle = (Instant::now(), processor_time("self"));
    std::thread::sleep(Duration::from_secs(5));
    let idle_cores = (processor_time("self") - idle.1).as_secs_f64() / idle.0.elapsed().as_secs_f64();
    let stopping = Instant::now();
    worker.stop();
    running.join().unwrap();
    println!("  idle: {idle_cores:.3} cores; stop: {:.2} s", stopping.elapsed().as_secs_f64());
}
