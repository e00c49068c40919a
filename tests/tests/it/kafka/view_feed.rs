//! The feed of a view on a real Kafka: who keeps a copy of the view has the rows of the version in service, whatever happens to versions and workers.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use refold_processor::clock::{Clock, SystemClock};
use refold_processor::decode::StaticSchemas;
use refold_processor::engine::worker::Ports;
use refold_processor::json;
use refold_processor::log::{Log, NewRecord};
use refold_processor::store::catalogue::{Catalogue, Incarnation, VersionState};
use refold_processor::store::memory::MemoryStore;
use refold_processor::table::{Table, Version};
use refold_processor::view::View;
use refold_tests::program::root;
use refold_tests::scale;
use refold_tests::simulation::events;
use refold_tests::worker::RunningWorker;

use super::*;

const VIEW: &str = "counted";
const DEPLOYMENT: &str = "view-feeds";
const DEFINITIONS: [&str; 2] = [
    "SELECT key, count(*) AS n FROM events GROUP BY key",
    "SELECT key, count(*) * 2 AS n FROM events WHERE key NOT LIKE 'k1%' GROUP BY key",
];

fn ports(topic: &str) -> Ports {
    let mut source = events::source(2);
    source.topic = topic.to_owned();
    let settings = KafkaSettings { deployment: DEPLOYMENT.to_owned(), group_offsets: false, ..shared().log_settings() };
    let log = Arc::new(KafkaLog::open(settings).unwrap());
    log.create_topic(topic, source.partitions).unwrap();
    let changes = Arc::new(log.feed().with_view_feeds());
    let (store, clock) = (Arc::new(MemoryStore::new()), Arc::new(SystemClock));
    let mut schemas = StaticSchemas::default();
    schemas.add(&source.schema_json).unwrap();
    let sources = BTreeMap::from([(source.name.clone(), source)]);
    let catalogue = Catalogue::new(store.clone(), clock.clone());
    Ports { log, store, changes, catalogue, schemas: Arc::new(schemas), sources, clock }
}

fn definition(version: usize) -> String {
    format!("CREATE MATERIALIZED VIEW {VIEW} WITH (partition_key = 'key', unbounded = true) AS {}", DEFINITIONS[version])
}

fn rows(ports: &Ports, version: Version) -> BTreeMap<String, String> {
    let record = ports.catalogue.version(VIEW, version).unwrap().unwrap();
    let schemas =
        ports.sources.iter().map(|(name, source)| (name.clone(), refold_processor::decode::arrow_schema(&source.schema_json).unwrap()));
    let view = View::plan(&record.sql, VIEW, &schemas.collect()).unwrap();
    let table = Table { view: VIEW.into(), version, shape: view.shape };
    let batches = ports.store.scan(&table).unwrap();
    let rows = batches.iter().flat_map(json::rows);
    rows.map(|row| (serde_json::json!([row["key"]]).to_string(), row.to_string())).collect()
}

/// The rows that a program in the documentation has, which reads the topic from its start.
fn followed() -> BTreeMap<String, String> {
    let page = std::fs::read_to_string(root().join("docs/operations/view-feed.md")).unwrap();
    let program = page.split("<<'END'\n").nth(1).and_then(|rest| rest.split("\nEND\n").next()).expect("the page has the program");
    let done = Command::new("/usr/bin/python3")
        .args(["-c", program])
        .env("KAFKA", shared().brokers())
        .env("TOPIC", format!("{DEPLOYMENT}.views.{VIEW}"))
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let lines = String::from_utf8(done.stdout).unwrap();
    let rows = lines.lines().map(|line| line.split_once('\t').expect("key, tab, row"));
    rows.map(|(key, row)| (key.to_owned(), row.to_owned())).collect()
}

#[test]
fn followers_of_a_view_have_the_rows_of_the_version_in_service_through_switches_and_new_workers() {
    let ports = ports("view-feed-events");
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let stop = Arc::<AtomicBool>::default();
    let posting = std::thread::spawn({
        let (stop, log) = (stop.clone(), shared().log());
        move || {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                let now_ms = SystemClock.now_ms();
                let record = |number: u64| NewRecord {
                    key: None,
                    value: events::event(Some(now_ms - 1_000), &format!("k{}", number * 7 % 40), 1).into(),
                };
                log.append("view-feed-events", (number..number + 20).map(record).collect()).unwrap();
                number += 20;
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    });
    let start = |run: usize| {
        // Every third one finds nothing of what was remembered.
        let folder = &folders[usize::from(run % 3 == 2)];
        RunningWorker::start_as(ports.clone(), folder.path(), Incarnation { id: format!("run-{run}"), ..Incarnation::default() })
    };
    for version in 0..2 {
        ports.catalogue.create_version(VIEW, &definition(version), &format!("digest-{version}"), "shape", "test").unwrap();
    }
    let is_in = |version: u32, states: &[&str]| {
        let record = ports.catalogue.version(VIEW, Version(version)).unwrap().unwrap();
        states.contains(&record.state.name())
    };
    let mut worker = start(0);
    worker.wait_for("both are built", |_| (is_in(1, &["active"]) && is_in(2, &["caught_up"])).then_some(()));
    let mut active = 1;
    for run in 1..=scale::pick(9, 40) {
        active = 3 - active;
        ports.catalogue.switch(VIEW, Some(Version(3 - active)), Version(active), "test", None).unwrap();
        if run % 3 == 0 {
            drop(worker);
            worker = start(run);
        }
        worker.wait_for("followers have its rows", |worker| {
            let status = worker.status().into_iter().find(|status| status.version == Some(Version(active)))?;
            (status.view_feed?.version == Some(Version(active))).then_some(())
        });
    }
    stop.store(true, Ordering::Relaxed);
    posting.join().unwrap();
    let ends: u64 = ports.log.topic_bounds("view-feed-events").unwrap().values().map(|bounds| bounds.end.0).sum();
    worker.wait_for("everything is folded and written", |worker| {
        let status = worker.status().into_iter().find(|status| status.version == Some(Version(active)))?;
        (status.read == ends && status.unwritten_events == 0).then_some(())
    });
    assert!(matches!(ports.catalogue.version(VIEW, Version(active)).unwrap().unwrap().state, VersionState::Active));
    let expected = rows(&ports, Version(active));
    assert!(expected.len() > 10);
    until("followers have the last rows", || followed() == expected);
    drop(worker);
    shared().delete_topics(&["view-feed-events", &format!("{DEPLOYMENT}.views.{VIEW}")]);
}
