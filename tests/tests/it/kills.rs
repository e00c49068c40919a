//! `kill -9` of the whole process under load, at random moments and at every named step of a commit: the rows in the end are those of the batch over
//! what the log holds, nothing acknowledged is lost, and a reader never sees a row go back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use refold_processor::clock::SystemClock;
use refold_processor::decode::{SchemaLookup, StaticSchemas};
use refold_processor::engine::faults::Step;
use refold_processor::log::embedded::{EmbeddedLog, EmbeddedLogSettings};
use refold_processor::store::embedded::{EmbeddedStore, EmbeddedStoreSettings};
use refold_tests::deployment::compare;
use refold_tests::program::{Program, free_port, get, root};
use refold_tests::scale;
use refold_tests::simulation::replay::Application;
use serde_json::Value;

const TAGS: usize = 20;

/// Sets a flag when it goes out of scope, so that a failure ends the threads that wait for it.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Posts batch after batch until told to stop, and counts what was acknowledged.
fn post(url: &str, stop: &AtomicBool, acknowledged: &AtomicU64) {
    let mut number = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let now_ms = chrono::Utc::now().timestamp_millis();
        let mut body = String::new();
        for _ in 0..40 {
            number += 1;
            let (tag, jitter_ms) = (number as usize % TAGS, number % 7_000);
            body.push_str(&format!(
                "{{\"userid\":{tag},\"username\":\"u\",\"timestamp\":{},\"tweetid\":{number},\"tweet\":\"post #tag{tag} and #all\"}}\n",
                now_ms - jitter_ms as i64
            ));
        }
        let sent = ureq::post(format!("{url}/v1/sources/tweets/events")).header("content-type", "application/x-ndjson").send(body);
        match sent {
            Ok(_) => drop(acknowledged.fetch_add(40, Ordering::Relaxed)),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Reads rows again and again; answers what went back.
fn watch(url: &str, stop: &AtomicBool) -> Vec<String> {
    let mut seen: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut problems = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        for tag in ["tag1", "tag7", "all"] {
            let Some(answer) = get(&format!("{url}/v1/views/hashtag_counts/rows?hashtag={tag}")) else {
                std::thread::sleep(Duration::from_millis(10));
                continue;
            };
            let rows = answer["rows"].as_array().unwrap();
            let now: BTreeMap<String, u64> =
                rows.iter().map(|row| (row["slot"].as_str().unwrap().to_owned(), row["occurrences"].as_u64().unwrap())).collect();
            for ((_, slot), before) in seen.iter().filter(|((seen_tag, _), _)| seen_tag == tag) {
                if now.get(slot).is_none_or(|count| count < before) {
                    problems.push(format!("{tag} {slot} went back from {before} to {:?}", now.get(slot)));
                }
            }
            seen.extend(now.into_iter().map(|(slot, count)| ((tag.to_owned(), slot), count)));
        }
    }
    assert!(!seen.is_empty(), "the reader never saw a row");
    problems
}

#[test]
fn kills_under_load_neither_lose_nor_double_nor_turn_back() {
    let data = tempfile::tempdir().unwrap();
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}");
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    let kills = scale::pick(12, 200);
    std::thread::scope(|scope| {
        let poster = scope.spawn(|| post(&url, &stop, &acknowledged));
        let watcher = scope.spawn(|| watch(&url, &stop));
        let _stop_at_failure = SetAtEnd(&stop);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for kill in 0..kills {
            // Every other time the process ends itself at a step of a commit.
            let step = Step::COMMIT[(kill / 2) % Step::COMMIT.len()];
            let fault = format!("{}:{}", step.name(), rng.random_range(1..30));
            let has_fault = kill % 2 == 1;
            let arguments: &[&str] = if has_fault { &["--fault", &fault] } else { &[] };
            let mut program = Program::start(data.path(), port, arguments);
            if program.wait_until_up() {
                let after_ms = if has_fault { 30_000 } else { rng.random_range(50..1_500) };
                let deadline = Instant::now() + Duration::from_millis(if kill == 0 { 5_000 } else { after_ms });
                while Instant::now() < deadline && !program.has_ended() {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            assert_eq!(program.has_ended(), has_fault, "kill {kill}, fault {fault}");
            program.kill();
        }
        let mut program = Program::start(data.path(), port, &[]);
        let said = || std::fs::read_to_string(data.path().join("stderr.log")).unwrap_or_default();
        assert!(program.wait_until_up(), "{}", said().lines().rev().take(10).collect::<Vec<_>>().join("\n"));
        std::thread::sleep(Duration::from_millis(500));
        stop.store(true, Ordering::Relaxed);
        poster.join().unwrap();
        assert_eq!(watcher.join().unwrap(), Vec::<String>::new());
        wait_until_current(&url);
        assert!(program.stop(), "a stop is clean");
    });
    let applied = applied(data.path());
    assert!(applied >= acknowledged.load(Ordering::Relaxed), "{applied} of {acknowledged:?} acknowledged events are there");
}

/// Every view has folded the whole log. Their lag would not tell: they hear of what was appended when it is read.
fn wait_until_current(url: &str) {
    let source = get(&format!("{url}/v1/sources/tweets")).unwrap();
    let in_log: u64 = source["partitions"].as_object().unwrap().values().map(|partition| partition["end"].as_u64().unwrap()).sum();
    let status = || get(&format!("{url}/v1/admin/status")).unwrap_or_default();
    let is_current = |view: &Value| {
        let versions = view["versions"].as_array();
        versions.is_some_and(|versions| versions.iter().any(|version| version["read"] == in_log && version["state"] == "active"))
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while !status()["views"].as_array().is_some_and(|views| !views.is_empty() && views.iter().all(is_current)) {
        assert!(Instant::now() < deadline, "the views do not catch up with {in_log} events: {}", status());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Compares the rows of each view with the batch over the log, and answers how many events that is.
fn applied(data: &std::path::Path) -> u64 {
    let application = Application::load(&root().join("schemas"), "tweets");
    let log = EmbeddedLog::open(&data.join("log"), EmbeddedLogSettings::default(), Arc::new(SystemClock)).unwrap();
    let store = EmbeddedStore::open(&data.join("store"), &EmbeddedStoreSettings::default()).unwrap();
    let mut schemas = StaticSchemas::default();
    schemas.add_with_id(1, &application.source.schema_json).unwrap();
    let schemas: Arc<dyn SchemaLookup> = Arc::new(schemas);
    let progress = compare(&application, &log, &store, &schemas);
    assert_eq!(progress.quarantined.values().sum::<u64>(), 0, "{progress:?}");
    progress.applied
}
