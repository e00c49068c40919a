//! Collector, worker and API as processes of their own, over a real Kafka and a real Cassandra: the rows read back from Cassandra are those
//! of the batch over what is in Kafka, whoever was killed, frozen or away meanwhile.

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use refold_processor::store::RowReader;
use refold_tests::command::refold;
use refold_tests::deployment::{Deployment, table};
use refold_tests::events::Events;
use refold_tests::program::{Program, get, root};
use refold_tests::scale;
use refold_tests::services::cassandra::{Cassandra, Options};
use refold_tests::services::kafka::Kafka;

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

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn kills_and_services_that_restart_neither_lose_nor_double() {
    let (mut kafka, mut cassandra) = (Kafka::start(), durable());
    let deployment = Deployment::new(&kafka, &cassandra, "kills");
    deployment.collect("generate:1?seed=5&backlog=1h&backlog_rate=20&count=60000", &[]).ends(0);
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
    collector.stop(Duration::from_secs(150));
    deployment.wait_until_current(&kafka, &cassandra, &mut worker);
    let progress = deployment.compare(&kafka, &cassandra);
    assert!(progress.applied > 60_000, "{progress:?}");
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

#[test]
fn while_the_store_is_away_events_are_folded_and_each_changed_row_is_written_about_once_after() {
    let (kafka, mut cassandra) = (Kafka::start(), durable());
    let deployment = Deployment::new(&kafka, &cassandra, "away");
    deployment.collect("generate:1?seed=9&backlog=30m&backlog_rate=20&count=30000", &[]).ends(0);
    let mut worker = deployment.process("worker", &["--queued-rows", "2000"]);
    worker.wait_until_up();
    deployment.wait("live", &mut worker, |versions| versions.iter().all(|version| version["live"] == true && version["lag"] == 0));
    cassandra.kill();
    let before = metric(&worker, "refold_events_read_total");
    deployment.collect("generate:20000?seed=10&count=100000", &[]).ends(0);
    let deadline = Instant::now() + Duration::from_secs(120);
    while metric(&worker, "refold_events_read_total") < before + 2.0 * 100_000.0 {
        assert!(Instant::now() < deadline && !worker.has_ended(), "folding stands still: {}", deployment.last_words("worker"));
        std::thread::sleep(Duration::from_millis(100));
    }
    let written = metric(&worker, "refold_rows_written_total");
    let ready = ureq::get(format!("{}/readyz", worker.url)).call();
    assert!(ready.is_err(), "that rows wait is said");
    cassandra.restart();
    deployment.wait_until_current(&kafka, &cassandra, &mut worker);
    deployment.compare(&kafka, &cassandra);
    let written_after = metric(&worker, "refold_rows_written_total") - written;
    println!("100,000 posts folded while cassandra was away: {written_after} rows written when it was back");
    assert!(written_after < 100_000.0, "{written_after} rows were written for far fewer that had changed");
    assert!(worker.stop(), "{}", deployment.last_words("worker"));
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
    deployment.wait("failed", &mut worker, |versions| versions.iter().all(|version| version["state"] == "failed"));
    let status = get(&format!("{}/v1/admin/status", worker.url)).unwrap();
    let error = status["views"][0]["versions"][0]["error"].as_str().unwrap().to_owned();
    let offset = end.0.to_string();
    for part in [topic.as_str(), "/1 ", &offset, "replay"] {
        assert!(error.contains(part), "{part:?} is not in {error:?}");
    }
    assert!(worker.stop());
}
