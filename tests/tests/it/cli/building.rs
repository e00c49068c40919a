//! A version while it is built: paused, throttled, ended at a record time.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use refold_processor::clock::SystemClock;
use refold_processor::store::catalogue::{ActivePointer, Asking, Catalogue, Controls, VersionRecord};
use refold_processor::store::embedded::{EmbeddedStore, EmbeddedStoreSettings};
use refold_processor::table::Version;
use refold_tests::http::{get, post_lines, wait_until};
use refold_tests::program::{Program, free_port};
use serde_json::Value;

use super::client::ask;
use crate::http::{NEW_YEAR_MS, counts, post, up};

const EVENTS: i64 = 12_000;
/// A version is being built until it has read all.
const EXACTLY: [&str; 2] = ["--caught-up-lag-events", "0"];

fn version(url: &str, number: usize) -> Value {
    get(&format!("{url}/v1/views/hashtag_counts")).json["versions"][number - 1].clone()
}

fn read(url: &str) -> u64 {
    version(url, 2)["read"].as_u64().unwrap_or_default()
}

fn started(data: &Path) -> Program {
    let mut program = Program::start(data, free_port(), &EXACTLY);
    assert!(program.wait_until_up());
    program
}

/// Version 2 of the same definition, paused before anything is read for it: what is built else would be done before it is paused.
fn paused_version(data: &Path) {
    let store = Arc::new(EmbeddedStore::open(&data.join("store"), &EmbeddedStoreSettings::default()).unwrap());
    let catalogue = Catalogue::new(store, Arc::new(SystemClock));
    let first = catalogue.version("hashtag_counts", Version(1)).unwrap().unwrap();
    catalogue.create_version("hashtag_counts", &first.sql, &first.digest, &first.schema_fingerprint, "ann").unwrap();
    let asking = Asking { verb: "pause", by: "ann", reason: None };
    let pause = |record: &VersionRecord, _: Option<&ActivePointer>| Ok::<_, ()>(Some(Controls { pause: true, ..record.controls.clone() }));
    catalogue.control("hashtag_counts", Version(2), &asking, pause).unwrap().unwrap();
}

#[test]
fn a_version_that_is_paused_and_throttled_over_restarts_ends_with_the_rows_of_one_that_is_not() {
    let data = tempfile::tempdir().unwrap();
    let mut program = up(data.path(), &[]);
    let of = |from: i64| (from..from + EVENTS / 3).map(|number| post(1, NEW_YEAR_MS + number * 100, "#rust and #go")).collect::<String>();
    (0..3).for_each(|part| drop(post_lines(&program.url, "tweets", &of(part * EVENTS / 3)).is(200)));
    wait_until("version 1 has them", || counts(&program.url, "rust").iter().sum::<u64>() == EVENTS as u64);
    ask(&program.url, &["pause", "hashtag_counts", "1"]).ends(3).complains("readers are on").complains("refold switch hashtag_counts");

    assert!(program.stop());
    paused_version(data.path());
    let mut program = started(data.path());
    wait_until("it runs", || version(&program.url, 2)["replay"]["bottleneck"] == "paused");
    assert_eq!(read(&program.url), 0);
    ask(&program.url, &["throttle", "hashtag_counts", "2", "--rate", "1000"]).ends(0).says("at most 1 000 events a second");
    ask(&program.url, &["throttle", "hashtag_counts", "2", "--rate", "1000"]).ends(0).says("as before");
    ask(&program.url, &["resume", "hashtag_counts", "2"]).ends(0).says("is resumed, it is building");
    wait_until("it goes on", || read(&program.url) > 0);
    let paused = ask(&program.url, &["pause", "hashtag_counts", "2", "--reason", "not now"]).ends(0).complains("refold resume");
    assert_eq!(paused.out, "version 2 of hashtag_counts is paused\n");
    ask(&program.url, &["pause", "hashtag_counts", "2"]).ends(0).says("is paused already");
    // What had been read is folded and committed.
    std::thread::sleep(Duration::from_millis(1_500));
    let stands_at = read(&program.url);
    assert!(stands_at < EVENTS as u64, "it was built before it could be paused");
    assert!(program.stop());

    let mut program = started(data.path());
    wait_until("it is paused again", || version(&program.url, 2)["replay"]["bottleneck"] == "paused");
    post_lines(&program.url, "tweets", &post(1, NEW_YEAR_MS, "#rust")).is(200);
    wait_until("version 1 goes on", || counts(&program.url, "rust").iter().sum::<u64>() == EVENTS as u64 + 1);
    assert_eq!((read(&program.url), &version(&program.url, 2)["state"]), (stands_at, &"building".into()));
    ask(&program.url, &["status", "hashtag_counts"]).ends(0).says("paused: refold resume hashtag_counts 2");
    get(&format!("{}/readyz", program.url)).is(200);

    ask(&program.url, &["resume", "hashtag_counts", "2"]).ends(0).says("is resumed, it is building");
    wait_until("it goes on", || read(&program.url) > stands_at);
    let limited = version(&program.url, 2);
    assert_eq!((&limited["throttle"]["is"], &limited["throttle"]["limit_per_s"]), (&"rate".into(), &1_000.0.into()));
    wait_until("the throttle is what it waits for", || version(&program.url, 2)["replay"]["bottleneck"] == "throttle");
    wait_until("it is told when it has read all", || version(&program.url, 2)["replay"]["eta"]["is"] == "in");
    program.kill();

    let program = started(data.path());
    ask(&program.url, &["throttle", "hashtag_counts", "2", "--off"]).ends(0);
    wait_until("version 2 is caught up", || version(&program.url, 2)["state"] == "caught_up");
    ask(&program.url, &["diff", "hashtag_counts", "1", "2"]).ends(0);
    ask(&program.url, &["throttle", "hashtag_counts", "2", "--auto"]).ends(3).complains("only a version that is being built");
    ask(&program.url, &["resume", "hashtag_counts", "2"]).ends(0).says("is not paused");
    let history = ask(&program.url, &["history", "hashtag_counts"]).ends(0).says("pause building -> paused").says("not now");
    assert!(history.out.contains("throttle auto -> 1000 events/s") && history.out.contains("resume paused -> building"), "{history:#?}");
}

#[test]
fn a_version_that_ends_at_a_record_time_has_what_the_log_had_by_then() {
    let data = tempfile::tempdir().unwrap();
    let mut program = up(data.path(), &[]);
    let minutes = |from: i64| (from..from + 10).map(|minute| post(1, NEW_YEAR_MS + minute * 60_000, "#rust")).collect::<String>();
    post_lines(&program.url, "tweets", &minutes(0)).is(200);
    std::thread::sleep(Duration::from_millis(20));
    // With a fraction, so that it is written in one way.
    let until = std::iter::repeat_with(chrono::Utc::now).find(|now| now.timestamp_subsec_millis() > 0).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    post_lines(&program.url, "tweets", &minutes(5)).is(200);
    wait_until("version 1 has all", || counts(&program.url, "rust") == [5, 10, 5]);

    let time = until.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    ask(&program.url, &["replay", "hashtag_counts", "--until", "yesterday"]).ends(2).complains("RFC 3339");
    ask(&program.url, &["replay", "hashtag_counts", "--until", &time, "--wait"]).ends(0).says(&format!("up to {time}"));
    let of_then = |program: &Program| -> Vec<u64> {
        let rows = get(&format!("{}/v1/views/hashtag_counts/rows?hashtag=rust&version=2", program.url)).is(200).json["rows"].clone();
        rows.as_array().unwrap().iter().map(|row| row["occurrences"].as_u64().unwrap()).collect()
    };
    assert_eq!(of_then(&program), [5, 5]);
    post_lines(&program.url, "tweets", &minutes(0)).is(200);
    wait_until("version 1 goes on", || counts(&program.url, "rust") == [5, 15, 10]);
    assert_eq!(of_then(&program), [5, 5]);
    ask(&program.url, &["status", "hashtag_counts"]).ends(0).says(&format!("ends at {time}"));
    let version_2 = version(&program.url, 2);
    assert_eq!((&version_2["state"], &version_2["lag"]), (&"caught_up".into(), &0.into()));
    ask(&program.url, &["diff", "hashtag_counts", "1", "2", "--settle", "1"]).ends(3);
    ask(&program.url, &["switch", "hashtag_counts", "2"]).ends(3).complains(&format!("ends at {time}")).complains("--force");
    ask(&program.url, &["switch", "hashtag_counts"]).ends(3);
    let slot = "slot=2024-01-01T00:05:00Z";
    let behind = |version: &str| {
        let said = ask(&program.url, &["why", "hashtag_counts", "hashtag=rust", slot, "--version", version]).ends(0);
        said.out + &said.err
    };
    assert!(behind("2").contains("5 events are behind") && behind("1").contains("15 events are behind"), "{}", behind("2"));
    assert!(program.stop());

    let mut program = Program::start(data.path(), free_port(), &[]);
    assert!(program.wait_until_up());
    wait_until("both run", || version(&program.url, 2)["running"] == true && counts(&program.url, "rust") == [5, 15, 10]);
    assert_eq!(of_then(&program), [5, 5]);
    // The next one of the definition follows the log.
    ask(&program.url, &["replay", "hashtag_counts", "--wait"]).ends(0).says("version 3");
    ask(&program.url, &["diff", "hashtag_counts", "1", "3"]).ends(0);
    assert!(program.stop());
}
