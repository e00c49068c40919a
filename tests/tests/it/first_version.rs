//! Which version of a view goes into service by itself, of several that are built at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use refold_processor::changes::LocalFeed;
use refold_processor::clock::SystemClock;
use refold_processor::decode::StaticSchemas;
use refold_processor::engine::worker::{Ports, Worker};
use refold_processor::log::Log;
use refold_processor::log::embedded::{EmbeddedLog, EmbeddedLogSettings};
use refold_processor::store::catalogue::{Catalogue, Incarnation, Owner, Take, VersionState};
use refold_processor::store::memory::MemoryStore;
use refold_processor::table::{Epoch, Version};
use refold_tests::program::root;
use refold_tests::simulation::replay::Application;
use refold_tests::worker::RunningWorker;
use tempfile::TempDir;

const VIEW: &str = "hashtag_counts";
const V1: Version = Version(1);
const V2: Version = Version(2);

struct World {
    catalogue: Catalogue,
    ports: Ports,
    folder: TempDir,
}

/// A view with two versions, the first by `sql` if it is said.
fn world(sql: Option<&str>) -> World {
    let application = Application::load(&root().join("schemas"), "tweets");
    let source = application.source.clone();
    let view = application.views.iter().find(|view| view.name == VIEW).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(SystemClock);
    let log = Arc::new(EmbeddedLog::open(&folder.path().join("log"), EmbeddedLogSettings::default(), clock.clone()).unwrap());
    log.create_topic(&source.topic, source.partitions).unwrap();
    let store = Arc::new(MemoryStore::new());
    let catalogue = Catalogue::new(store.clone(), clock.clone());
    catalogue.create_version(VIEW, sql.unwrap_or(&view.sql), "first", "", "test").unwrap();
    catalogue.create_version(VIEW, &view.sql, "second", "", "test").unwrap();
    let mut schemas = StaticSchemas::default();
    schemas.add(&source.schema_json).unwrap();
    let sources = BTreeMap::from([(source.name.clone(), source)]);
    let (changes, schemas) = (Arc::new(LocalFeed::default()), Arc::new(schemas));
    World { catalogue: catalogue.clone(), ports: Ports { log, store, changes, catalogue, schemas, sources, clock }, folder }
}

fn another() -> Owner {
    Owner { name: "another".into(), incarnation: Incarnation::default() }
}

/// Has another process take a version.
fn taken_by_another(catalogue: &Catalogue, version: Version) -> Epoch {
    catalogue.renew(&another(), 600_000, None).unwrap();
    match catalogue.take(VIEW, version, &another(), None).unwrap() {
        Take::Taken(epoch) => epoch,
        held => panic!("{held:?}"),
    }
}

/// Has another process let a version go.
fn released_by_another(catalogue: &Catalogue, version: Version, epoch: Epoch) {
    catalogue.release(VIEW, version, &another(), epoch).unwrap();
}

/// Waits until the second version has caught up, and then for twenty looks at the catalogue.
fn wait_for_second(worker: &RunningWorker, catalogue: &Catalogue) {
    let state = || catalogue.version(VIEW, V2).unwrap().unwrap().state;
    worker.wait_for("the second version has caught up", |_| (state() == VersionState::CaughtUp).then_some(()));
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(state(), VersionState::CaughtUp);
}

fn why_unable(worker: &Worker) -> Option<String> {
    worker.status().into_iter().find(|status| status.version == Some(V1))?.unable
}

fn active(catalogue: &Catalogue) -> Option<Version> {
    catalogue.active(VIEW).unwrap().map(|active| active.version)
}

#[test]
fn a_later_version_that_catches_up_first_waits_for_a_switch() {
    let World { catalogue, ports, folder } = world(None);
    let epoch = taken_by_another(&catalogue, V1);
    let worker = RunningWorker::start(ports, folder.path());
    wait_for_second(&worker, &catalogue);
    assert_eq!(active(&catalogue), None);
    released_by_another(&catalogue, V1, epoch);
    assert_eq!(worker.wait_for("a version is in service", |_| active(&catalogue)), V1);
}

/// What no process declares any more. Another could run it once, with what was declared then.
const UNDECLARED: &str = "CREATE MATERIALIZED VIEW hashtag_counts WITH (partition_key = 'name', unbounded = true) AS \
                          SELECT name, count(*) AS n FROM nowhere GROUP BY name";

#[test]
fn a_first_version_that_cannot_be_run_keeps_no_other_out_of_service() {
    let World { catalogue, ports, folder } = world(Some(UNDECLARED));
    let epoch = taken_by_another(&catalogue, V1);
    released_by_another(&catalogue, V1, epoch);
    let worker = RunningWorker::start(ports, folder.path());
    assert_eq!(worker.wait_for("a version is in service", |_| active(&catalogue)), V2);
    assert_eq!(catalogue.version(VIEW, V1).unwrap().unwrap().state, VersionState::Building, "what cannot be run here is no failure");
    let why = worker.wait_for("it is told why", why_unable);
    assert!(why.contains("nowhere"), "{why}");
}

#[test]
fn a_first_version_that_only_another_can_run_is_waited_for() {
    let World { catalogue, ports, folder } = world(Some(UNDECLARED));
    let epochs = [V1, V2].map(|version| taken_by_another(&catalogue, version));
    released_by_another(&catalogue, V1, epochs[0]);
    let worker = RunningWorker::start(ports, folder.path());
    worker.wait_for("it cannot be run here", why_unable);
    taken_by_another(&catalogue, V1);
    released_by_another(&catalogue, V2, epochs[1]);
    wait_for_second(&worker, &catalogue);
    assert_eq!(active(&catalogue), None);
}
