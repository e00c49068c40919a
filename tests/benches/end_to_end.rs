//! Log → decode → fold → committed state → rows, in one run beside their limit: the bare read of the same log.
//!
//! Four parts. *One core*: the stages in turn on one thread, with the share of each. *Many keys*: the same with millions of groups of state, from
//! `MANY=…` posts. *Replay*: a whole worker with its threads, until the version is live.
//! *Live*: posts appended at an even rate, and how long each takes to be a readable row. `EVENTS=…` sets the number of posts, `RATE=…` the rate.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout, missing_docs)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::scalar::ScalarValue;
use refold_collector::{Encoder, Opening, Pull, Spec, Stop, SystemTimer};
use refold_processor::changes::LocalFeed;
use refold_processor::clock::SystemClock;
use refold_processor::decode::{Decoder, StaticSchemas, arrow_schema};
use refold_processor::engine::feed::columns;
use refold_processor::engine::fold::{Fold, FoldSettings, Told};
use refold_processor::engine::map::{Chunk, ChunkMapper, Rules};
use refold_processor::engine::run::RunSettings;
use refold_processor::engine::shares::Shares;
use refold_processor::engine::watermark::Quiet;
use refold_processor::engine::worker::{Pool, Ports, Worker, WorkerSettings};
use refold_processor::log::embedded::{EmbeddedLog, EmbeddedLogSettings};
use refold_processor::log::{Log, NewRecord};
use refold_processor::position::Cut;
use refold_processor::source::Source;
use refold_processor::state::rocks::{RocksMemory, RocksState};
use refold_processor::state::{Lookup, Space};
use refold_processor::store::catalogue::Catalogue;
use refold_processor::store::embedded::{EmbeddedStore, EmbeddedStoreSettings};
use refold_processor::store::{PartitionRead, RowReader};
use refold_processor::table::{Table, Version};
use refold_processor::view::View;
use refold_tests::program::{Program, free_port, root};
use refold_tests::simulation::replay::Application;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() {
    let events = setting("EVENTS", 2_000_000);
    let application = Application::load(&root().join("schemas"), "tweets");
    let view = application.views.iter().find(|view| view.name == "hashtag_counts").unwrap().clone();
    let folder = tempfile::tempdir().unwrap();
    let log = Arc::new(EmbeddedLog::open(&folder.path().join("log"), EmbeddedLogSettings::default(), Arc::new(SystemClock)).unwrap());
    log.create_topic(&application.source.topic, application.source.partitions).unwrap();
    let bytes = fill(log.as_ref(), &application.source, events, 6);
    println!("{events} posts over 6 hours of event time, {} bytes a record, {} partitions", bytes / events, application.source.partitions);

    let bare = bare_read(log.as_ref(), &application.source);
    let bare_rate = events as f64 / bare.as_secs_f64();
    println!("bare read of the log, one thread: {:.2} M/s", bare_rate / 1e6);
    let rate = one_core(log.as_ref(), &application.source, &view, &folder.path().join("one-core"));
    println!("that is {:.2} of the bare read", rate / bare_rate);
    many_keys(log.as_ref(), &application.source, &view, folder.path(), rate);
    replay(&log, &application.source, &view, folder.path(), bare_rate);
    live(&log, &application.source, &view, folder.path());
    live_in_up(folder.path());
}

fn schemas(source: &Source) -> Arc<StaticSchemas> {
    let mut schemas = StaticSchemas::default();
    schemas.add_with_id(1, &source.schema_json).unwrap();
    Arc::new(schemas)
}

fn encoder(source: &Source) -> Encoder {
    Encoder::new(source, Some(1)).unwrap()
}

/// Writes posts of so many hours into the log; answers how many bytes.
fn fill(log: &dyn Log, source: &Source, events: u64, hours: u64) -> u64 {
    let rate = events.div_ceil(hours * 3_600);
    let spec = Spec::parse(&format!("generate:1?seed=1&count={events}&backlog={hours}h&backlog_rate={rate}")).unwrap();
    let timer = Arc::new(SystemTimer::new(Stop::new()));
    let schemas = root().join("schemas");
    let mut posts = spec.open(encoder(source), &Opening::new(&schemas, &schemas, timer)).unwrap();
    let (mut written, mut bytes) = (0, 0);
    let started = Instant::now();
    while written < events {
        match posts.next(10_000, Duration::from_millis(10)).unwrap() {
            Pull::Events { records, .. } => {
                written += records.len() as u64;
                bytes += records.iter().map(|record| record.value.len() as u64).sum::<u64>();
                log.append(&source.topic, records).unwrap();
            }
            Pull::Idle => {}
            Pull::End => break,
        }
    }
    println!("generate and append, durable: {:.0} k/s", written as f64 / started.elapsed().as_secs_f64() / 1e3);
    bytes
}

fn start_of(log: &dyn Log, source: &Source) -> Cut {
    log.partitions(&source.topic).unwrap().into_iter().map(|partition| (partition, Default::default())).collect()
}

fn bare_read(log: &dyn Log, source: &Source) -> Duration {
    let started = Instant::now();
    let mut reader = log.reader(&source.topic, &start_of(log, source)).unwrap();
    let mut bytes = 0;
    while let Some(records) = reader.read(1 << 20, Duration::ZERO).unwrap() {
        bytes += records.spans.iter().filter_map(|span| records.value(span)).map(<[u8]>::len).sum::<usize>();
    }
    assert!(bytes > 0);
    started.elapsed()
}

const QUIET: Quiet = Quiet { idle_after_ms: 5_000, idle_drop_after_ms: 86_400_000 };

/// Folds the whole topic on this thread; answers events per second.
fn one_core(log: &dyn Log, source: &Source, view: &Arc<View>, folder: &Path) -> f64 {
    let state = RocksState::open(folder, &RocksMemory::new(256 << 20)).unwrap();
    let settings = FoldSettings {
        shards: 1,
        rules: Rules::new(view, source),
        lateness_us: source.lateness_us,
        quiet: QUIET,
        shares: Arc::new(Shares::new(usize::MAX, 64 << 20, usize::MAX)),
        max_quarantined_bytes: 1 << 10,
        most_rows: usize::MAX,
        emitted_batch_bytes: 4 << 20,
    };
    let partitions = log.partitions(&source.topic).unwrap();
    let mut fold = Fold::open(view.clone(), state.clone(), settings.clone(), &partitions, &Told::default()).unwrap();
    let mut mapper = ChunkMapper::new(view, settings.rules, 1).unwrap();
    let mut decoder = Decoder::new(source, &columns(source, std::iter::once(view.as_ref())).unwrap(), schemas(source)).unwrap();
    let mut reader = log.reader(&source.topic, &start_of(log, source)).unwrap();
    let mut spent: BTreeMap<&str, Duration> = BTreeMap::new();
    let (mut events, mut uncommitted) = (0u64, 0);
    let started = Instant::now();
    let mut mark = Instant::now();
    let mut lap = |stage: &'static str| {
        *spent.entry(stage).or_default() += mark.elapsed();
        mark = Instant::now();
    };
    while let Some(records) = reader.read(1 << 20, Duration::ZERO).unwrap() {
        lap("1 read");
        let decoded = decoder.decode(&records).unwrap();
        lap("2 decode");
        let before = fold.before(records.partition);
        events += records.spans.len() as u64;
        uncommitted += records.spans.len();
        let chunk = Arc::new(Chunk::new(before.position, records, decoded));
        let mapped = mapper.map(&chunk, before).unwrap();
        lap("3 judge, evaluate, pre-aggregate");
        fold.merge(mapped, 0).unwrap();
        lap("4 merge with state");
        if uncommitted >= 500_000 {
            fold.commit(&[], 0).unwrap();
            uncommitted = 0;
            lap("5 commit");
        }
    }
    fold.commit(&[], 0).unwrap();
    lap("5 commit");
    let total = started.elapsed();
    let rate = events as f64 / total.as_secs_f64();
    let mut groups = 0u64;
    state
        .scan(Space::Groups, &[], None, &mut |_, _| {
            groups += 1;
            true
        })
        .unwrap();
    println!("one core, read to committed state: {:.2} M/s; {groups} groups", rate / 1e6);
    let without_read = (total - spent["1 read"]).as_secs_f64();
    println!("one core, decode to committed state: {:.2} M/s", events as f64 / without_read / 1e6);
    for (stage, time) in spent {
        let share = time.as_secs_f64() / total.as_secs_f64();
        println!("  {:34} {:5.0} ns/event {:4.0} %", &stage[2..], time.as_nanos() as f64 / events as f64, share * 100.0);
    }
    rate
}

/// The same view over ten times the history, so that it has millions of groups of state; and a view whose every post is in a group of its own.
fn many_keys(log: &dyn Log, source: &Source, view: &Arc<View>, folder: &Path, rate: f64) {
    let events = setting("MANY", 20_000_000);
    let long = Source { topic: "many_keys".into(), ..source.clone() };
    log.create_topic(&long.topic, long.partitions).unwrap();
    println!("the same over 60 hours, {events} posts:");
    fill(log, &long, events, 60);
    let schema = arrow_schema(&source.schema_json).unwrap();
    // All of it stays: no window closes for late events.
    let sql = view.sql.replace("'1 day'", "'30 days'");
    let kept = View::plan(&sql, "many_keys", &BTreeMap::from([(source.name.clone(), schema.clone())])).unwrap();
    assert_ne!(kept.options.accept_late_us, view.options.accept_late_us);
    println!("  {:.2} of the rate over 6 hours", one_core(log, &long, &Arc::new(kept), &folder.join("many-keys")) / rate);
    let view = View::plan(EACH, "each", &BTreeMap::from([(source.name.clone(), schema)])).unwrap();
    println!("a group for each post of 6 hours:");
    one_core(log, source, &Arc::new(view), &folder.join("each"));
}

const EACH: &str = "CREATE MATERIALIZED VIEW each WITH (partition_key = 'key', unbounded = true) AS
SELECT tweetid AS key, count(*) AS posts FROM tweets GROUP BY key";

struct Site {
    worker: Arc<Worker>,
    store: Arc<EmbeddedStore>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Site {
    fn start(log: &Arc<EmbeddedLog>, source: &Source, view: &View, folder: &Path) -> Site {
        let store = Arc::new(EmbeddedStore::open(&folder.join("store"), &EmbeddedStoreSettings::default()).unwrap());
        let clock = Arc::new(SystemClock);
        let catalogue = Catalogue::new(store.clone(), clock.clone());
        catalogue.create_version(&view.name, &view.sql, &view.digest, "", "bench").unwrap();
        let ports = Ports {
            log: log.clone(),
            store: store.clone(),
            changes: Arc::new(LocalFeed::default()),
            catalogue,
            schemas: schemas(source),
            sources: BTreeMap::from([(source.name.clone(), source.clone())]),
            clock,
        };
        let settings = WorkerSettings {
            owner: "bench".into(),
            incarnation: Default::default(),
            pool: Pool::All,
            state_dir: folder.join("state"),
            memory_bytes: 512 << 20,
            feed_threads: 1,
            shards: 1,
            chunk_bytes: 1 << 20,
            run: RunSettings { commit_interval_ms: 20, building_commit_interval_ms: 1_000, sweep_windows: 12, caught_up_lag: 1_000 },
            quiet: QUIET,
            lease_ms: 10_000,
            reconcile_interval_ms: 100,
            queued_rows: 100_000,
            rows_per_write: 100_000,
            retire_after_ms: None,
            faults: Arc::default(),
        };
        let worker = Worker::new(ports, settings);
        let running = worker.clone();
        let thread = Some(std::thread::spawn(move || running.run()));
        Site { worker, store, thread }
    }

    fn wait_until_live(&self, events: u64) {
        loop {
            let status = self.worker.status();
            if status.first().is_some_and(|status| status.live && status.read >= events) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.worker.stop();
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

fn end_of(log: &dyn Log, source: &Source) -> u64 {
    log.partitions(&source.topic).unwrap().into_iter().map(|partition| log.bounds(&source.topic, partition).unwrap().end.0).sum()
}

fn replay(log: &Arc<EmbeddedLog>, source: &Source, view: &View, folder: &Path, bare_rate: f64) {
    let events = end_of(log.as_ref(), source);
    let started = Instant::now();
    let site = Site::start(log, source, view, &folder.join("replay"));
    site.wait_until_live(events);
    let elapsed = started.elapsed();
    let table = Table { view: view.name.clone(), version: Version(1), shape: view.shape.clone() };
    let rows: usize = site.store.scan(&table).unwrap().iter().map(|rows| rows.num_rows()).sum();
    let rate = events as f64 / elapsed.as_secs_f64();
    println!(
        "replay into the embedded store, until live: {:.2} s, {:.2} M/s, {:.2} of the bare read; {rows} rows",
        elapsed.as_secs_f64(),
        rate / 1e6,
        rate / bare_rate
    );
}

/// Appends posts at an even rate; every batch has a post with a hashtag of its own, whose row is waited for.
fn live(log: &Arc<EmbeddedLog>, source: &Source, view: &View, folder: &Path) {
    let rate = setting("RATE", 7_000);
    let site = Site::start(log, source, view, &folder.join("live"));
    site.wait_until_live(end_of(log.as_ref(), source));
    let table = Table { view: view.name.clone(), version: Version(1), shape: view.shape.clone() };
    let encoder = encoder(source);
    let batch = (rate / 200).max(1);
    let (tell, told) = std::sync::mpsc::channel::<(String, Instant)>();
    let store = site.store.clone();
    let waiter = std::thread::spawn(move || {
        let mut latencies = Vec::new();
        for (hashtag, appended) in told {
            let read = PartitionRead { partition: vec![ScalarValue::Utf8(Some(hashtag))], from: None, to: None, limit: 1, cursor: None };
            while store.read(&table, &read).unwrap().rows.num_rows() == 0 {
                std::thread::sleep(Duration::from_micros(500));
            }
            latencies.push(appended.elapsed());
        }
        latencies
    });
    let started = Instant::now();
    let batches = 200 * 15;
    for number in 0..batches {
        let now_ms = chrono::Utc::now().timestamp_millis();
        let posts: Vec<NewRecord> = (0..batch)
            .map(|post| {
                let hashtag = if post == 0 { format!("marker{number}") } else { format!("tag{}", (number * batch + post) % 5_000) };
                let tweet =
                    format!("a post of about a hundred and twenty characters, as most of them are, and then it ends with a #{hashtag}");
                let post = serde_json::json!({"userid": post, "username": "u", "timestamp": now_ms, "tweetid": number, "tweet": tweet});
                encoder.encode(&post).unwrap()
            })
            .collect();
        let appending = Instant::now();
        log.append(&source.topic, posts).unwrap();
        if number > 200 && number % 7 == 0 {
            tell.send((format!("marker{number}"), appending)).unwrap();
        }
        let due = started + Duration::from_millis(5 * (number + 1));
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    drop(tell);
    say_latencies(&format!("live at {rate}/s, append begun to row readable"), waiter.join().unwrap());
}

fn say_latencies(what: &str, mut latencies: Vec<Duration>) {
    latencies.sort();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!("{what}, {} samples: p50 {:.1} ms, p99 {:.1} ms, most {:.1} ms", latencies.len(), at(0.5), at(0.99), at(1.0));
}

/// The program as people run it, with all views of the sample application: posts are generated at an even rate, and now and then one with a hashtag of its own is
/// sent over HTTP, whose row is then asked for over HTTP.
fn live_in_up(folder: &Path) {
    let (rate, data) = (setting("RATE", 7_000), folder.join("up"));
    std::fs::create_dir_all(&data).unwrap();
    let generator = format!("generate:{rate}?seed=5");
    let arguments = ["up", "--data", data.to_str().unwrap(), "--source", &generator];
    let mut program = Program::start_verb(&arguments, &root().join("schemas"), free_port(), &data.join("stderr.log"));
    assert!(program.wait_until_up(), "refold up has ended");
    std::thread::sleep(Duration::from_secs(5));
    let agent = ureq::Agent::new_with_defaults();
    let mut latencies = Vec::new();
    for number in 0..400 {
        let post = serde_json::json!({
            "userid": 1, "username": "u", "timestamp": chrono::Utc::now().timestamp_millis(), "tweetid": number, "tweet": format!("#marker{number}"),
        });
        let posting = Instant::now();
        agent.post(format!("{}/v1/sources/tweets/events", program.url)).send(post.to_string()).unwrap();
        let rows = format!("{}/v1/views/hashtag_counts/rows?hashtag=marker{number}", program.url);
        let is_there = || {
            let answer: serde_json::Value = agent.get(&rows).call().unwrap().body_mut().read_json().unwrap();
            answer["rows"].as_array().is_some_and(|rows| !rows.is_empty())
        };
        while !is_there() {
            assert!(posting.elapsed() < Duration::from_secs(60), "the row of marker{number} does not come");
            std::thread::sleep(Duration::from_micros(500));
        }
        latencies.push(posting.elapsed());
        std::thread::sleep(Duration::from_millis(13));
    }
    say_latencies(&format!("live in refold up at {rate}/s, all views, HTTP request begun to row readable over HTTP"), latencies);
    assert!(program.stop(), "a stop is clean");
}
