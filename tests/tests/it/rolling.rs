//! Rolling restarts of workers with many views, over a real Kafka and a Cassandra that is some milliseconds away, under load.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use refold_processor::store::RowReader;
use refold_processor::store::catalogue::{Catalogue, CatalogueError, VersionState};
use refold_processor::table::Table;
use refold_tests::deployment::{Deployment, table};
use refold_tests::scale;
use refold_tests::services::cassandra::Cassandra;
use refold_tests::services::delay::Delay;
use refold_tests::services::kafka::Kafka;

/// Replaces the views of a folder of declarations by `count` small ones.
fn many_views(schemas: &Path, count: usize) {
    let folder = schemas.join("views");
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::create_dir(&folder).unwrap();
    for number in 1..=count {
        let name = format!("v{number:02}");
        let sql = format!(
            "CREATE MATERIALIZED VIEW {name} WITH (partition_key = 'u', clustering = 'slot DESC', accept_late = '1 day') AS\n\
             SELECT userid % {number} AS u, tumble(timestamp, INTERVAL '{number} minutes') AS slot, count(*) AS n\n\
             FROM tweets GROUP BY u, slot\n"
        );
        std::fs::write(folder.join(format!("{name}.sql")), sql).unwrap();
    }
}

/// Follows what readers see of each view, and answers for how long that stood still at the most.
fn watch(cassandra: &Cassandra, keyspace: &str, tables: Vec<Table>, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<Duration> {
    let store = cassandra.store(keyspace);
    std::thread::spawn(move || {
        let mut seen: BTreeMap<String, (u64, Instant)> = BTreeMap::new();
        let mut longest = Duration::ZERO;
        while !stop.load(Ordering::Relaxed) {
            for table in &tables {
                let Ok(Some(progress)) = store.progress(table) else { continue };
                let (sum, now) = (progress.visible.sum(), Instant::now());
                let (last, since) = *seen.entry(table.name()).or_insert((sum, now));
                if sum > last {
                    longest = longest.max(now - since);
                    seen.insert(table.name(), (sum, now));
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        longest
    })
}

#[test]
fn a_rolling_restart_of_workers_costs_no_version() {
    let (count, delays_ms, signals) = scale::pick((24, vec![3], 6), (60, vec![1, 3, 10, 40], 50));
    for delay_ms in delays_ms {
        restart(count, delay_ms, signals);
    }
}

fn restart(count: usize, delay_ms: u64, signals: usize) {
    let (kafka, cassandra) = (Kafka::start(), Cassandra::start());
    let mut deployment = Deployment::with(&kafka, &cassandra, "rolling", |schemas| many_views(schemas, count));
    let mut serve = deployment.serve(&[]);
    assert!(serve.wait_until_up(), "{}", deployment.last_words("serve"));
    deployment.reach_cassandra_by(Delay::new(cassandra.port, Duration::from_millis(delay_ms)).port);
    let collector = deployment.start_collecting("generate:200?seed=5");
    let names = ["one", "two"];
    let mut workers = names.map(|name| Some(deployment.process(name, &[])));
    let are_live = |versions: &[serde_json::Value]| versions.len() == count && versions.iter().all(|version| version["state"] == "active");
    deployment.wait("all in service", &mut serve, are_live);

    let stop = Arc::new(AtomicBool::new(false));
    let tables = deployment.application.views.iter().map(|view| table(view)).collect();
    let watching = watch(&cassandra, deployment.keyspace(), tables, stop.clone());
    let store = Arc::new(cassandra.store(deployment.keyspace()));
    let catalogue = Catalogue::new(store, Arc::new(refold_processor::clock::SystemClock));
    for round in 0..signals {
        let index = round % 2;
        let mut worker = workers[index].take().unwrap();
        assert!(worker.stop(), "a stop is clean: {}", deployment.last_words(names[index]));
        for view in &deployment.application.views {
            for record in catalogue.versions(&view.name).unwrap() {
                assert_eq!(record.state, VersionState::Active, "{} after stop {round}", view.name);
            }
        }
        // The other one has all of them by the time that rows go on.
        deployment
            .wait("rows go on", &mut serve, |versions| versions.iter().all(|version| version["lag"].as_u64().is_some_and(|lag| lag < 500)));
        workers[index] = Some(deployment.process(names[index], &[]));
        assert!(workers[index].as_mut().unwrap().wait_until_up(), "{}", deployment.last_words(names[index]));
    }
    stop.store(true, Ordering::Relaxed);
    let longest = watching.join().unwrap();
    collector.stop(Duration::from_secs(30));
    deployment.wait_until_current(&kafka, &cassandra, &mut serve);
    deployment.compare(&kafka, &cassandra);
    println!("rolling: {count} views, {delay_ms} ms each way, {signals} stops: rows stood still for {longest:?} at the most");
}

/// What is wrong while a worker is asked to stop.
#[derive(Clone, Copy, Debug)]
struct Trouble {
    kafka_is_frozen: bool,
    cassandra_is_frozen: bool,
}

#[test]
fn a_stop_at_any_moment_whatever_is_unavailable_leaves_every_version_as_it_is() {
    let (mut kafka, cassandra) = (Kafka::start(), Cassandra::start());
    let deployment = Deployment::with(&kafka, &cassandra, "stopped", |schemas| many_views(schemas, 6));
    let mut serve = deployment.serve(&[]);
    assert!(serve.wait_until_up(), "{}", deployment.last_words("serve"));
    let collector = deployment.start_collecting("generate:200?seed=6");
    let catalogue = Catalogue::new(Arc::new(cassandra.store(deployment.keyspace())), Arc::new(refold_processor::clock::SystemClock));
    let mut rng = ChaCha8Rng::seed_from_u64(17);
    for round in 0..scale::pick(8, 200) {
        let trouble = Trouble { kafka_is_frozen: rng.random_bool(0.5), cassandra_is_frozen: rng.random_bool(0.5) };
        let mut worker = deployment.process("worker", &[]);
        // From the first steps of its start until long after it runs.
        std::thread::sleep(Duration::from_millis(rng.random_range(0..4_000)));
        if trouble.kafka_is_frozen {
            kafka.signal("-STOP");
        }
        if trouble.cassandra_is_frozen {
            cassandra.process().signal("-STOP");
        }
        std::thread::sleep(Duration::from_millis(rng.random_range(0..1_500)));
        worker.signal("-TERM");
        let deadline = Instant::now() + Duration::from_secs(120);
        while !worker.has_ended() {
            assert!(Instant::now() < deadline, "round {round}, {trouble:?}: it does not end: {}", deployment.last_words("worker"));
            std::thread::sleep(Duration::from_millis(20));
        }
        if trouble.kafka_is_frozen {
            kafka.signal("-CONT");
        }
        if trouble.cassandra_is_frozen {
            cassandra.process().signal("-CONT");
        }
        for view in &deployment.application.views {
            for record in once_available(|| catalogue.versions(&view.name)) {
                let is_failed = matches!(record.state, VersionState::Failed { .. });
                assert!(!is_failed, "round {round}, {trouble:?}: {} is {:?}", view.name, record.state);
            }
        }
    }
    collector.stop(Duration::from_secs(60));
    let _worker = deployment.process("worker", &[]);
    deployment.wait_until_current(&kafka, &cassandra, &mut serve);
    deployment.compare(&kafka, &cassandra);
}

/// The answer of a service that was frozen a moment ago.
fn once_available<T>(mut ask: impl FnMut() -> Result<T, CatalogueError>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(error) if error.is_retryable() && Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
            Err(error) => panic!("{error}"),
        }
    }
}
