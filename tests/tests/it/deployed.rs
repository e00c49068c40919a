//! Collector, worker and API as processes of their own, over a real Kafka and a real Cassandra: the rows read back from Cassandra are those
//! of the batch over what is in Kafka, whoever was killed, frozen or unavailable meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Int64Type;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use refold_collector::generate::{Generator, Pace};
use refold_processor::decode::{Decoder, StaticSchemas, arrow_schema};
use refold_processor::log::Log;
use refold_processor::position::{Cut, Partition};
use refold_processor::store::RowReader;
use refold_processor::view::View;
use refold_tests::command::refold;
use refold_tests::deployment::{Deployment, table};
use refold_tests::events::Events;
use refold_tests::http::wait_until;
use refold_tests::program::{Program, get, root};
use refold_tests::scale;
use refold_tests::services::cassandra::{Cassandra, Options};
use refold_tests::services::kafka::Kafka;
use refold_tests::simulation::oracle::lines;

use crate::cassandra::plain_cql::Plain;

/// A number from what a worker measures.
fn metric(program: &Program, name: &str) -> f64 {
    let text = ureq::get(format!("{}/metrics", program.url)).call().unwrap().body_mut().read_to_string().unwrap();
    let values = text.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}

/// A single node that can be killed without losing what it acknowledged.
fn durable() -> Cassandra {
    Cassandra::start_with(Options { synced: true, ..Options::default() })
}

fn real_posts() -> Option<String> {
    let posts = root().join("../shared/data/posts-2024.jsonl.gz");
    posts.exists().then(|| posts.to_str().unwrap().to_owned())
}

#[test]
fn separate_processes_give_the_rows_of_the_batch() {
    let (kafka, cassandra) = (Kafka::start(), Cassandra::start());
    let deployment = Deployment::new(&kafka, &cassandra, "straight");
    if let Some(posts) = real_posts() {
        deployment.collect(&format!("jsonl:{posts}?mapping=plain_posts"), &[]).ends(0).says("12463 written");
    }
    let count = scale::pick(200_000, 1_000_000);
    deployment.collect(&format!("generate:1?seed=4&backlog=6h&backlog_rate=100&count={count}"), &[]).ends(0);

    let mut serve = deployment.serve(&[]);
    let mut worker = deployment.process("worker", &[]);
    assert!(serve.wait_until_up(), "{}", deployment.last_words("serve"));
    deployment.wait_until_current(&kafka, &cassandra, &mut serve);
    let progress = deployment.compare(&kafka, &cassandra);
    assert!(progress.applied >= count, "{progress:?}");

    // The API, which runs nothing itself, answers with the rows.
    let view = deployment.application.views.iter().find(|view| view.name == "hashtag_counts").unwrap();
    let store = cassandra.store("straight");
    let rows = store.scan(&table(view)).unwrap();
    let some = rows.iter().find(|rows| rows.num_rows() > 0).unwrap();
    let hashtag = datafusion::arrow::array::AsArray::as_string::<i32>(some.column(0)).value(0).to_owned();
    let answer = get(&format!("{}/v1/views/hashtag_counts/rows?hashtag={}", serve.url, encoded(&hashtag))).unwrap();
    assert!(!answer["rows"].as_array().unwrap().is_empty(), "{answer}");
    // It follows what the worker changes.
    let stream = Events::open(&format!("{}/v1/views/hashtag_counts/live?hashtag={}", serve.url, encoded(&hashtag)));
    assert_eq!(stream.expect("snapshot")["rows"], answer["rows"]);
    let newest = &answer["rows"][0];
    let time_ms = chrono::DateTime::parse_from_rfc3339(newest["slot"].as_str().unwrap()).unwrap().timestamp_millis();
    let folder = tempfile::tempdir().unwrap();
    let post = folder.path().join("post.jsonl");
    std::fs::write(&post, crate::http::post(1, time_ms, &format!("once more #{hashtag}"))).unwrap();
    deployment.collect(&format!("jsonl:{}", post.display()), &[]).ends(0);
    let change = stream.expect("change");
    let grown = newest["occurrences"].as_u64().unwrap() + 1;
    assert_eq!((&change["version"], change["rows"][0]["occurrences"].as_u64()), (&1.into(), Some(grown)), "{change}");
    drop(stream);
    deployment.wait_until_current(&kafka, &cassandra, &mut serve);
    let answer = get(&format!("{}/v1/views/hashtag_counts/rows?hashtag={}", serve.url, encoded(&hashtag))).unwrap();

    // A version more, built from the log beside the one in service by the same worker, on the word of the API.
    refold(&["replay", "hashtag_counts", "--server", &serve.url]).ends(0);
    deployment.wait("caught up", &mut serve, |versions| {
        versions.iter().any(|version| version["version"] == 2 && version["state"] == "caught_up")
    });
    refold(&["switch", "hashtag_counts", "--server", &serve.url]).ends(0);
    let switched = get(&format!("{}/v1/views/hashtag_counts/rows?hashtag={}", serve.url, encoded(&hashtag))).unwrap();
    assert_eq!((&switched["version"], &switched["rows"]), (&2.into(), &answer["rows"]), "the same log gives the same rows");
    assert!(worker.stop() && serve.stop(), "a stop is clean: {} {}", deployment.last_words("worker"), deployment.last_words("serve"));
}

#[test]
fn everything_in_one_process_gives_the_rows_of_the_batch() {
    let (kafka, cassandra) = (Kafka::start(), durable());
    let deployment = Deployment::new(&kafka, &cassandra, "one");
    deployment.collect("generate:1?seed=8&backlog=1h&backlog_rate=20&count=20000", &[]).ends(0);
    let start = || {
        let mut up = deployment.up("worker", &["--source", "generate:1?seed=9&backlog=1h&backlog_rate=60&count=200000"]);
        assert!(up.wait_until_up(), "{}", deployment.last_words("worker"));
        up
    };
    for _ in 0..2 {
        start().kill();
    }
    let mut up = start();
    let log = kafka.log();
    let collected = || log.topic_bounds(&deployment.application.source.topic).unwrap().values().map(|bounds| bounds.end.0).sum::<u64>();
    let deadline = Instant::now() + Duration::from_secs(120);
    while collected() < 220_000 {
        assert!(Instant::now() < deadline, "{} collected: {}", collected(), deployment.last_words("worker"));
        std::thread::sleep(Duration::from_millis(100));
    }
    deployment.wait_until_current(&kafka, &cassandra, &mut up);
    assert!(up.stop(), "a stop is clean: {}", deployment.last_words("worker"));
    let progress = deployment.compare(&kafka, &cassandra);
    assert_eq!((collected(), progress.read), (220_000, 220_000), "each event once");
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Which of its source's posts a generated one is: the lower bits of its number.
fn place(tweetid: i64) -> u64 {
    (tweetid & ((1 << 22) - 1)) as u64
}

/// Partition by partition, which of its source's posts each generated post in the log is.
fn places(deployment: &Deployment, log: &dyn Log, from: &Cut) -> Vec<Vec<u64>> {
    let source = &deployment.application.source;
    let mut schemas = StaticSchemas::default();
    schemas.add(&source.schema_json).unwrap();
    let id = arrow_schema(&source.schema_json).unwrap().index_of("tweetid").unwrap();
    let mut decoder = Decoder::new(source, &[id], Arc::new(schemas)).unwrap();
    let mut of = |partition: Partition| {
        let mut reader = log.reader(&source.topic, &[(partition, from.position(partition))].into_iter().collect()).unwrap();
        let mut places = Vec::new();
        while let Some(records) = reader.read(1 << 20, Duration::ZERO).unwrap() {
            let decoded = decoder.decode(&records).unwrap();
            let ids = decoded.events.column(0).as_primitive::<Int64Type>().clone();
            places.extend(ids.values().iter().map(|id| place(*id)));
        }
        places
    };
    log.partitions(&source.topic).unwrap().into_iter().map(&mut of).collect()
}

#[test]
fn kills_and_services_that_restart_neither_lose_nor_double() {
    let (mut kafka, mut cassandra) = (Kafka::start(), durable());
    let deployment = Deployment::new(&kafka, &cassandra, "kills");
    let topic = &deployment.application.source.topic;
    deployment.collect("generate:1?seed=5&backlog=1h&backlog_rate=20&count=60000", &[]).ends(0);
    let before: Cut = kafka.log().topic_bounds(topic).unwrap().iter().map(|(partition, bounds)| (*partition, bounds.end)).collect();
    let collector = deployment.start_collecting("generate:2000?seed=6");
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let kills = scale::pick(8, 50);
    for kill in 0..kills {
        let mut worker = deployment.process("worker", &["--lease-ms", "2000"]);
        worker.wait_until_up();
        std::thread::sleep(Duration::from_millis(rng.random_range(100..3_000)));
        // Now and then a service goes too: the log, the store, or both.
        let (with_kafka, with_cassandra) =
            [(false, false), (true, false), (false, false), (false, true), (false, false), (true, true)][kill % 6];
        if with_kafka {
            kafka.kill();
        }
        if with_cassandra {
            cassandra.kill();
        }
        if with_kafka || with_cassandra {
            std::thread::sleep(Duration::from_millis(rng.random_range(100..2_000)));
        }
        if rng.random_bool(0.5) || kill % 6 == 0 {
            worker.kill();
        }
        if with_kafka {
            kafka.start_again();
        }
        if with_cassandra {
            cassandra.restart();
        }
        if !worker.has_ended() {
            // It recovers by itself: what it reads grows again.
            let before = metric(&worker, "refold_events_read_total");
            let deadline = Instant::now() + Duration::from_secs(60);
            while metric(&worker, "refold_events_read_total") <= before {
                assert!(Instant::now() < deadline && !worker.has_ended(), "no events after {kill}: {}", deployment.last_words("worker"));
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        worker.kill();
    }
    let mut worker = deployment.process("worker", &["--lease-ms", "2000"]);
    assert!(worker.wait_until_up(), "{}", deployment.last_words("worker"));
    let written = collector.stop(Duration::from_secs(150));
    deployment.wait_until_current(&kafka, &cassandra, &mut worker);
    let progress = deployment.compare(&kafka, &cassandra);
    assert!(progress.applied > 60_000, "{progress:?}");
    // What the collector says to have written is there once, and in order.
    let partitions = places(&deployment, &kafka.log(), &before);
    assert_eq!(partitions.concat().len() as u64, written, "events in the log, and those that were written");
    let mut found = partitions.concat();
    found.sort_unstable();
    let pace = Pace { first: 0, origin_us: 0, rate: 2_000 };
    let mut generated: Vec<u64> = Generator::new(6).posts(pace).take(written as usize).map(|post| place(post.tweetid)).collect();
    generated.sort_unstable();
    assert!(
        found == generated,
        "the log has other events than were generated (or collecting stood still for a minute: then the generator begins a new stretch)"
    );
    for places in partitions {
        // Some posts are an earlier one again.
        let mut seen = BTreeSet::new();
        let first: Vec<u64> = places.into_iter().filter(|place| seen.insert(*place)).collect();
        assert!(first.is_sorted(), "events have changed places");
    }
    assert!(worker.stop(), "a stop is clean: {}", deployment.last_words("worker"));
}

#[test]
fn a_frozen_worker_that_was_replaced_changes_nothing_when_it_thaws() {
    let (kafka, cassandra) = (Kafka::start(), Cassandra::start());
    let deployment = Deployment::new(&kafka, &cassandra, "frozen");
    deployment.collect("generate:1?seed=7&backlog=30m&backlog_rate=20&count=30000", &[]).ends(0);
    let collector = deployment.start_collecting("generate:500?seed=8");
    let mut first = deployment.process("worker", &["--lease-ms", "2000"]);
    first.wait_until_up();
    deployment.wait("live", &mut first, |versions| versions.iter().all(|version| version["live"] == true));
    let mut second = deployment.process("other", &["--lease-ms", "2000"]);
    second.wait_until_up();
    for _ in 0..scale::pick(1, 5) {
        first.signal("-STOP");
        deployment.wait("taken over", &mut second, |versions| {
            versions.iter().all(|version| version["running"] == true && version["live"] == true)
        });
        first.signal("-CONT");
        // What it still had in hand is written, or refused, meanwhile.
        std::thread::sleep(Duration::from_secs(3));
        std::mem::swap(&mut first, &mut second);
    }
    collector.stop(Duration::from_secs(60));
    deployment.wait_until_current(&kafka, &cassandra, &mut first);
    deployment.compare(&kafka, &cassandra);
    let states = get(&format!("{}/v1/admin/status", first.url)).unwrap().to_string();
    assert!(!states.contains("failed\""), "nobody fails for being replaced: {states}");
    assert!(first.stop() && second.stop(), "a stop is clean: {} {}", deployment.last_words("worker"), deployment.last_words("other"));
}

/// Collects while the store does not keep up, for seconds or for minutes, and waits until all of it is folded all the same.
fn fold_on(deployment: &Deployment, worker: &mut Program, seed: u64, posts: u64) {
    let (rate, posts) = scale::pick((20_000, posts), (1_000, 120_000));
    let before = metric(worker, "refold_events_read_total");
    deployment.collect(&format!("generate:{rate}?seed={seed}&count={posts}"), &[]).ends(0);
    let deadline = Instant::now() + Duration::from_secs(120);
    while metric(worker, "refold_events_read_total") < before + 2.0 * posts as f64 {
        assert!(Instant::now() < deadline && !worker.has_ended(), "folding stands still: {}", deployment.last_words("worker"));
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// All rows of all views, as they are in Cassandra.
fn stored(deployment: &Deployment, cassandra: &Cassandra) -> BTreeSet<String> {
    let store = cassandra.store(deployment.keyspace());
    let of = |view: &View| {
        lines(&store.scan(&table(view)).unwrap()).into_iter().map(|line| format!("{}: {line}", view.name)).collect::<Vec<_>>()
    };
    deployment.application.views.iter().flat_map(|view| of(view.as_ref())).collect()
}

/// Unavailable, refusing, slow: events are folded on, and then each row that has changed is written about once.
#[test]
fn while_the_store_does_not_keep_up_events_are_folded_and_each_changed_row_is_written_about_once_after() {
    let (kafka, mut cassandra) = (Kafka::start(), durable());
    let deployment = Deployment::new(&kafka, &cassandra, "unavailable");
    deployment.collect("generate:1?seed=9&backlog=30m&backlog_rate=20&count=30000", &[]).ends(0);
    let mut worker = deployment.process("worker", &["--queued-rows", "2000", "--memory-mb", "400"]);
    worker.wait_until_up();
    deployment.wait_until_current(&kafka, &cassandra, &mut worker);
    let about_once = |what: &str, rows_before: &BTreeSet<String>, written_before: f64, worker: &Program, cassandra: &Cassandra| {
        let written = metric(worker, "refold_rows_written_total") - written_before;
        let changed = stored(&deployment, cassandra).symmetric_difference(rows_before).count();
        println!("{what}: {written} rows written for {changed} rows that are new, gone or have changed");
        // Some change again while the others are being written. Were they written at each commit that changes them, they would be hundreds of thousands.
        assert!(written <= 2.5 * changed as f64 + 4_000.0, "{what}: {written} rows written for {changed}");
    };

    let (rows, written) = (stored(&deployment, &cassandra), metric(&worker, "refold_rows_written_total"));
    cassandra.kill();
    fold_on(&deployment, &mut worker, 10, 100_000);
    assert!(metric(&worker, "refold_unwritten_events") > 0.0, "the lag of rows is shown");
    assert!(ureq::get(format!("{}/readyz", worker.url)).call().is_err(), "that rows wait is said");
    cassandra.restart();
    deployment.wait_until_current(&kafka, &cassandra, &mut worker);
    deployment.compare(&kafka, &cassandra);
    about_once("unavailable", &rows, written, &worker, &cassandra);

    // Three copies on one node: everything is refused at once.
    let (rows, written) = (stored(&deployment, &cassandra), metric(&worker, "refold_rows_written_total"));
    let copies =
        |copies: u8| format!("ALTER KEYSPACE unavailable WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': {copies}}}");
    Plain::to(&cassandra).run(&copies(3));
    fold_on(&deployment, &mut worker, 11, 50_000);
    assert!(metric(&worker, "refold_unwritten_events") > 0.0, "the lag of rows is shown");
    Plain::to(&cassandra).run(&copies(1));
    deployment.wait_until_current(&kafka, &cassandra, &mut worker);
    deployment.compare(&kafka, &cassandra);
    about_once("refusing", &rows, written, &worker, &cassandra);

    // Four fifths of the time it does nothing.
    let (slow, begun) = (AtomicBool::new(true), Instant::now());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while slow.load(Ordering::Relaxed) && begun.elapsed() < Duration::from_secs(300) {
                cassandra.process().signal("-STOP");
                std::thread::sleep(Duration::from_millis(400));
                cassandra.process().signal("-CONT");
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        fold_on(&deployment, &mut worker, 12, 50_000);
        slow.store(false, Ordering::Relaxed);
    });
    deployment.wait_until_current(&kafka, &cassandra, &mut worker);
    deployment.compare(&kafka, &cassandra);
    assert!(worker.peak_memory_mb() <= 400, "{} MiB", worker.peak_memory_mb());
    assert!(worker.stop(), "{}", deployment.last_words("worker"));
}

#[test]
fn partitions_that_a_topic_gets_later_are_read_too() {
    let (kafka, cassandra) = (Kafka::start(), Cassandra::start());
    let deployment = Deployment::new(&kafka, &cassandra, "expanded");
    deployment.collect("generate:1?seed=13&backlog=30m&backlog_rate=10&count=5000", &[]).ends(0);
    let mut worker = deployment.process("worker", &[]);
    worker.wait_until_up();
    deployment.wait_until_current(&kafka, &cassandra, &mut worker);
    let topic = &deployment.application.source.topic;
    let log = kafka.log();
    let before = log.partitions(topic).unwrap();
    kafka.expand_topic(topic, before.len() + 2);
    wait_until("they are there", || log.partitions(topic).is_ok_and(|now| now.len() == before.len() + 2));
    deployment.collect("generate:1?seed=14&backlog=30m&backlog_rate=10&count=5000", &[]).ends(0);
    deployment.wait_until_current(&kafka, &cassandra, &mut worker);
    let progress = deployment.compare(&kafka, &cassandra);
    let added: Vec<_> = progress.visible.iter().filter(|(partition, _)| !before.contains(partition)).collect();
    assert!(added.len() == 2 && added.iter().all(|(_, offset)| offset.0 > 0), "{progress:?}");
    assert!(worker.stop(), "{}", deployment.last_words("worker"));
}

/// Waits until all versions have failed, and looks for what the error of one must name.
fn all_fail_with(deployment: &Deployment, worker: &mut Program, parts: &[&str]) {
    deployment.wait("failed", worker, |versions| versions.iter().all(|version| version["state"] == "failed"));
    let status = get(&format!("{}/v1/admin/status", worker.url)).unwrap();
    let error = status["views"][0]["versions"][0]["error"].as_str().unwrap().to_owned();
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in {error:?}");
    }
}

#[test]
fn a_topic_that_was_made_anew_is_not_gone_on_with() {
    let (kafka, cassandra) = (Kafka::start(), Cassandra::start());
    let deployment = Deployment::new(&kafka, &cassandra, "anew");
    deployment.collect("generate:1?seed=15&backlog=30m&backlog_rate=10&count=3000", &[]).ends(0);
    let mut worker = deployment.process("worker", &[]);
    worker.wait_until_up();
    deployment.wait_until_current(&kafka, &cassandra, &mut worker);
    assert!(worker.stop());
    let topic = &deployment.application.source.topic;
    kafka.delete_topics(&[topic.as_str()]);
    let log = kafka.log();
    wait_until("the topic is gone", || !refold_processor::log::Log::topics(&log).unwrap().contains(topic));
    // Longer than before: positions alone tell nothing.
    deployment.collect("generate:1?seed=16&backlog=30m&backlog_rate=10&count=6000", &["--restart"]).ends(0);
    let mut worker = deployment.process("worker", &[]);
    worker.wait_until_up();
    all_fail_with(&deployment, &mut worker, &[topic, "made anew", "replay"]);
    // The way out that is named.
    refold(&["replay", "hashtag_counts", "--server", &worker.url]).ends(0);
    // In service at once, where the first version has failed before it was.
    deployment.wait("caught up", &mut worker, |versions| {
        let is_built = |version: &serde_json::Value| version["state"] == "caught_up" || version["state"] == "active";
        versions.iter().any(|version| version["version"] == 2 && is_built(version))
    });
    assert!(worker.stop());
}

#[test]
fn a_log_that_starts_behind_the_position_stops_the_version_with_the_way_out() {
    let (kafka, cassandra) = (Kafka::start(), Cassandra::start());
    let deployment = Deployment::new(&kafka, &cassandra, "hole");
    deployment.collect("generate:1?seed=11&backlog=30m&backlog_rate=10&count=5000", &[]).ends(0);
    let mut worker = deployment.process("worker", &[]);
    worker.wait_until_up();
    deployment.wait("live", &mut worker, |versions| versions.iter().all(|version| version["live"] == true && version["lag"] == 0));
    assert!(worker.stop());
    deployment.collect("generate:1?seed=12&backlog=30m&backlog_rate=10&count=5000", &[]).ends(0);
    let log = kafka.log();
    let topic = &deployment.application.source.topic;
    let end = refold_processor::log::Log::bounds(&log, topic, refold_processor::position::Partition(1)).unwrap().end;
    kafka.delete_records(topic, 1, end.0);
    let mut worker = deployment.process("worker", &[]);
    worker.wait_until_up();
    all_fail_with(&deployment, &mut worker, &[topic, "/1 ", &end.0.to_string(), "replay"]);
    assert!(worker.stop());
}
