//! What ordinary trouble does to the versions of a worker: nothing that lasts.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use refold_processor::changes::LocalFeed;
use refold_processor::clock::{Clock, SystemClock};
use refold_processor::decode::StaticSchemas;
use refold_processor::engine::status::RunStatus;
use refold_processor::engine::worker::Ports;
use refold_processor::log::embedded::{EmbeddedLog, EmbeddedLogSettings};
use refold_processor::log::{Log, LogError, NewRecord};
use refold_processor::store::catalogue::{Catalogue, Incarnation, VersionState};
use refold_processor::store::{Registers, RowReader, StoreError};
use refold_processor::table::{Epoch, Table, Version};
use refold_tests::ports::{Gate, HookedLog, HookedStore};
use refold_tests::simulation::events;
use refold_tests::worker::RunningWorker;
use tempfile::TempDir;

const V1: Version = Version(1);

struct World {
    log: Arc<HookedLog>,
    store: Arc<HookedStore>,
    ports: Ports,
    folder: TempDir,
}

impl World {
    /// An application with these views, each in its first version, and some events.
    fn new(views: &[&str]) -> World {
        let source = events::source(1);
        let clock = Arc::new(SystemClock);
        let folder = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(&folder.path().join("log"), EmbeddedLogSettings::default(), clock.clone()).unwrap();
        let log = Arc::new(HookedLog::new(Arc::new(log)));
        log.create_topic(&source.topic, source.partitions).unwrap();
        let store = Arc::new(HookedStore::default());
        let catalogue = Catalogue::new(store.clone(), clock.clone());
        for view in views {
            catalogue.create_version(view, &definition(view), "digest", "shape", "test").unwrap();
        }
        let mut schemas = StaticSchemas::default();
        schemas.add(&source.schema_json).unwrap();
        let sources = BTreeMap::from([(source.name.clone(), source)]);
        let (changes, schemas) = (Arc::new(LocalFeed::default()), Arc::new(schemas));
        let ports = Ports { log: log.clone(), store: store.clone(), changes, catalogue, schemas, sources, clock };
        let world = World { log, store, ports, folder };
        world.append(100);
        world
    }

    fn append(&self, count: usize) {
        let now_ms = SystemClock.now_ms();
        let record = |number| NewRecord { key: None, value: events::event(Some(now_ms - 1_000), &format!("k{}", number % 7), 1).into() };
        let topic = &self.ports.sources.values().next().unwrap().topic;
        self.log.append(topic, (0..count).map(record).collect()).unwrap();
    }

    fn start(&self) -> RunningWorker {
        RunningWorker::start(self.ports.clone(), self.folder.path())
    }

    fn state(&self, view: &str) -> VersionState {
        self.ports.catalogue.version(view, V1).unwrap().unwrap().state
    }

    /// Waits until all views are in service and have folded everything.
    #[track_caller]
    fn wait_until_current(&self, worker: &RunningWorker, views: &[&str], events: u64) {
        for view in views {
            worker.wait_for(&format!("{view} is current"), |worker| {
                let status = status_of(&worker.status(), view)?;
                (self.state(view) == VersionState::Active && status.applied == events).then_some(())
            });
        }
    }
}

fn definition(view: &str) -> String {
    format!(
        "CREATE MATERIALIZED VIEW {view} WITH (partition_key = 'key', unbounded = true) AS SELECT key, count(*) AS n FROM events GROUP BY key"
    )
}

fn status_of(statuses: &[RunStatus], view: &str) -> Option<RunStatus> {
    statuses.iter().find(|status| status.view == view && status.unable.is_none()).cloned()
}

#[test]
fn a_stop_while_the_catalogue_is_slow_fails_no_version() {
    let views = ["aa", "bb", "zz"];
    let world = World::new(&views);
    let worker = world.start();
    world.wait_until_current(&worker, &views, 100);
    let gate = Arc::new(Gate::default());
    gate.close();
    world.store.before_get(gate.guard(|key| key == "catalogue/view/bb"));
    gate.wait_for_call();
    worker.stop();
    // All that reads or folds has ended by then; the poll of the catalogue has not, and looks after the last view next.
    worker.wait_for("feeds have ended", |worker| (worker.reading_threads() == 0).then_some(()));
    gate.open();
    drop(worker);
    for view in views {
        assert_eq!(world.state(view), VersionState::Active, "{view}");
    }
    world.append(50);
    world.wait_until_current(&world.start(), &views, 150);
}

#[test]
fn a_log_that_refuses_for_a_while_costs_no_version() {
    let views = ["aa", "bb"];
    let world = World::new(&views);
    let worker = world.start();
    world.wait_until_current(&worker, &views, 100);
    let refuses = Arc::new(AtomicBool::new(true));
    let refusing = refuses.clone();
    world.log.before_read(move |reader| match refusing.load(Ordering::Relaxed) {
        true => Err(LogError::Refused(format!("the user may not read {reader}: grant READ"))),
        false => Ok(()),
    });
    for view in views {
        let error = worker.wait_for("the refusal is reported", |worker| status_of(&worker.status(), view)?.source_error);
        assert!(error.contains("grant READ"), "{error}");
    }
    refuses.store(false, Ordering::Relaxed);
    world.append(20);
    world.wait_until_current(&worker, &views, 120);
    for view in views {
        let status = worker.wait_for("the version runs", |worker| status_of(&worker.status(), view));
        assert_eq!(status.source_error, None, "{view}");
    }
}

#[test]
fn a_store_that_refuses_for_a_while_costs_no_version() {
    let world = World::new(&["aa"]);
    let worker = world.start();
    world.wait_until_current(&worker, &["aa"], 100);
    let refusals = Arc::new(AtomicUsize::new(2));
    let left = refusals.clone();
    world.store.before_write(move |table| match left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) {
        Ok(_) => Err(StoreError::Refused(format!("the user may not write table {table}: grant MODIFY"))),
        Err(_) => Ok(()),
    });
    world.append(1);
    let error = worker.wait_for("the refusal is reported", |worker| status_of(&worker.status(), "aa")?.store_error);
    assert!(error.contains("grant MODIFY"), "{error}");
    worker.wait_for("the rows are written", |worker| {
        let status = status_of(&worker.status(), "aa")?;
        (status.unwritten_events == 0 && status.store_error.is_none() && status.applied == 101).then_some(())
    });
    assert_eq!(world.state("aa"), VersionState::Active);
}

#[test]
fn a_view_whose_catalogue_entry_cannot_be_read_keeps_no_other_from_being_looked_after() {
    let views = ["aa", "bb"];
    let world = World::new(&views);
    let damaged = "catalogue/view/aa";
    let revision = world.store.get(damaged).unwrap().unwrap().revision;
    world.store.compare_and_set(damaged, Some(revision), Some("damaged")).unwrap();
    let worker = world.start();
    worker.wait_for("the other is in service", |_| {
        let active = world.ports.catalogue.active("bb").unwrap();
        active.map(|active| assert_eq!(active.version, V1))
    });
}

#[test]
fn following_the_catalogue_goes_on_after_a_panic() {
    let world = World::new(&["aa"]);
    let panics = Arc::new(AtomicUsize::new(1));
    let left = panics.clone();
    world.store.before_get(move |key| {
        let is_next =
            key == "catalogue/view/aa" && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        assert!(!is_next, "a panic on purpose");
        Ok(())
    });
    let worker = world.start();
    world.wait_until_current(&worker, &["aa"], 100);
    assert_eq!(panics.load(Ordering::Relaxed), 0);
}

#[test]
fn a_second_worker_with_the_same_name_runs_nothing_and_says_why() {
    let world = World::new(&["aa"]);
    let worker = world.start();
    world.wait_until_current(&worker, &["aa"], 100);
    let copy = tempfile::tempdir().unwrap();
    let second = RunningWorker::start_as(world.ports.clone(), copy.path(), Incarnation { id: "copy".into(), replaces: None });
    let why = second.wait_for("it is refused", |worker| worker.status().into_iter().find_map(|status| status.unable));
    assert!(why.starts_with("another process runs as owner test, "), "{why}");
    world.append(20);
    world.wait_until_current(&worker, &["aa"], 120);
    assert_eq!(world.ports.catalogue.ownership("aa", V1).unwrap().unwrap().epoch, Epoch(1), "nobody takes it from the other");
    drop(worker);
    world.append(1);
    world.wait_until_current(&second, &["aa"], 121);
}

#[test]
fn a_version_whose_state_was_lost_is_not_said_to_be_caught_up() {
    let world = World::new(&["aa"]);
    let worker = world.start();
    world.wait_until_current(&worker, &["aa"], 100);
    world.ports.catalogue.create_version("aa", &definition("aa"), "another", "shape", "test").unwrap();
    let state = || world.ports.catalogue.version("aa", Version(2)).unwrap().unwrap().state;
    worker.wait_for("the second version is caught up", |_| (state() == VersionState::CaughtUp).then_some(()));
    drop(worker);
    std::fs::remove_dir_all(world.folder.path().join("state/aa/v2")).unwrap();
    let gate = Arc::new(Gate::default());
    gate.close();
    world.log.before_read(gate.guard(|_| true));
    let worker = world.start();
    worker.wait_for("it is built again", |_| (state() == VersionState::Building).then_some(()));
    gate.open();
    worker.wait_for("it is caught up again", |_| (state() == VersionState::CaughtUp).then_some(()));
}

#[test]
fn a_live_version_that_is_far_behind_does_not_hold_up_the_others_of_its_source() {
    let views = ["new", "old"];
    let world = World::new(&views);
    world.wait_until_current(&world.start(), &views, 100);
    let (state, kept) = (world.folder.path().join("state/old"), world.folder.path().join("kept"));
    std::fs::rename(&state, &kept).unwrap();
    copy_folder(&kept, &state);
    world.append(60_000);
    world.wait_until_current(&world.start(), &views, 60_100);
    std::fs::remove_dir_all(&state).unwrap();
    std::fs::rename(&kept, &state).unwrap();
    // What is read from the old state on is waited for, and nothing else.
    let gate = Arc::new(Gate::default());
    gate.close();
    world.log.before_read(gate.guard(|reader| reader == "events@100"));
    let worker = world.start();
    gate.wait_for_call();
    world.append(500);
    world.wait_until_current(&worker, &["new"], 60_600);
    gate.open();
    world.wait_until_current(&worker, &views, 60_600);
    worker.wait_for("both are read for by one thread", |worker| (worker.reading_threads() == 1).then_some(()));
    world.append(10);
    world.wait_until_current(&worker, &views, 60_610);
}

#[test]
fn a_version_goes_into_service_although_events_come_faster_than_its_store_writes() {
    let world = World::new(&["aa"]);
    world.store.before_write(|_| {
        std::thread::sleep(Duration::from_millis(40));
        Ok(())
    });
    let worker = world.start();
    let is_active = AtomicBool::new(false);
    let appended = std::thread::scope(|scope| {
        let appending = scope.spawn(|| {
            let mut appended = 0_u64;
            while !is_active.load(Ordering::Relaxed) && appended < 20_000 {
                world.append(1);
                appended += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
            appended
        });
        worker.wait_for("it is in service", |_| (world.state("aa") == VersionState::Active).then_some(()));
        is_active.store(true, Ordering::Relaxed);
        appending.join().unwrap()
    });
    assert!(appended < 20_000, "only after events had ceased");
    world.wait_until_current(&worker, &["aa"], 100 + appended);
}

#[test]
fn versions_at_different_places_of_a_log_that_was_made_anew_are_all_refused() {
    let views = ["new", "old"];
    let world = World::new(&views);
    world.wait_until_current(&world.start(), &views, 100);
    let (state, kept) = (world.folder.path().join("state/old"), world.folder.path().join("kept"));
    copy_folder(&state, &kept);
    world.append(50);
    world.wait_until_current(&world.start(), &views, 150);
    std::fs::remove_dir_all(&state).unwrap();
    std::fs::rename(&kept, &state).unwrap();
    // Longer than the one before: positions alone do not give it away.
    let log = EmbeddedLog::open(&world.folder.path().join("another"), EmbeddedLogSettings::default(), world.ports.clock.clone()).unwrap();
    let log = Arc::new(HookedLog::new(Arc::new(log)));
    let source = world.ports.sources.values().next().unwrap();
    log.create_topic(&source.topic, source.partitions).unwrap();
    let world = World { ports: Ports { log: log.clone(), ..world.ports.clone() }, log, ..world };
    world.append(300);
    let worker = world.start();
    for view in views {
        let error = worker.wait_for(&format!("{view} is refused"), |_| match world.state(view) {
            VersionState::Failed { error, .. } => Some(error),
            _ => None,
        });
        assert!(error.contains("made anew") && error.contains("replay"), "{view}: {error}");
    }
}

#[test]
fn what_is_left_of_a_dropped_version_is_removed_although_the_store_refuses_for_a_while() {
    let world = World::new(&["aa"]);
    let worker = world.start();
    world.wait_until_current(&worker, &["aa"], 100);
    let version = world.ports.catalogue.create_version("aa", &definition("aa"), "another", "shape", "test").unwrap().version;
    let state = || world.ports.catalogue.version("aa", version).unwrap().unwrap().state;
    worker.wait_for("the second version is caught up", |_| (state() == VersionState::CaughtUp).then_some(()));
    let refuses = Arc::new(AtomicBool::new(true));
    let refusing = refuses.clone();
    world.store.before_drop(move |table| match refusing.load(Ordering::Relaxed) {
        true => Err(StoreError::Refused(format!("the user may not drop table {table}: grant DROP"))),
        false => Ok(()),
    });
    world.ports.catalogue.drop_version("aa", version, &[VersionState::CaughtUp], "test", None).unwrap();
    let error = worker
        .wait_for("the refusal is reported", |worker| worker.status().into_iter().find(|status| status.version == Some(version))?.unable);
    assert_eq!(error, "the user may not drop table aa__v2: grant DROP");
    refuses.store(false, Ordering::Relaxed);
    let removing = || world.ports.catalogue.removing("aa").unwrap();
    worker.wait_for("nothing is left of it", |_| removing().is_empty().then_some(()));
    assert!(matches!(world.store.progress(&Table::named("aa", version)), Err(StoreError::UnknownTable(_))));
    assert_eq!((state_of(&world, "v1").exists(), state_of(&world, "v2").exists()), (true, false));
    worker.wait_for("and nothing is said of it", |worker| (worker.status().len() == 1).then_some(()));
    world.append(5);
    world.wait_until_current(&worker, &["aa"], 105);
}

#[test]
fn a_state_whose_version_was_dropped_while_its_worker_was_away_is_removed_when_it_is_back() {
    let world = World::new(&["aa", "bb"]);
    world.wait_until_current(&world.start(), &["aa", "bb"], 100);
    world.ports.catalogue.drop_view("aa", "test", None).unwrap();
    let other = tempfile::tempdir().unwrap();
    let elsewhere = RunningWorker::start_with(world.ports.clone(), other.path(), Incarnation::default(), |settings| {
        settings.owner = "other".into();
    });
    elsewhere.wait_for("another worker removes the rest", |_| world.ports.catalogue.removing("aa").unwrap().is_empty().then_some(()));
    assert!(matches!(world.store.progress(&Table::named("aa", V1)), Err(StoreError::UnknownTable(_))));
    drop(elsewhere);
    assert!(state_of(&world, "v1").exists());
    let unknown = world.folder.path().join("state/unknown/v1");
    std::fs::create_dir_all(&unknown).unwrap();
    let worker = world.start();
    worker.wait_for("the state is removed", |_| (!world.folder.path().join("state/aa").exists()).then_some(()));
    world.wait_until_current(&worker, &["bb"], 100);
    assert!(unknown.exists(), "what the catalogue does not know to be dropped is left alone");
}

fn state_of(world: &World, version: &str) -> std::path::PathBuf {
    world.folder.path().join("state/aa").join(version)
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &to.join(entry.file_name())),
            false => drop(std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}
