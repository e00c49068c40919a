//! Many views of one source in one process: what they share is no reason for any of them to stand still.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Int64Type;
use refold_collector::Encoder;
use refold_processor::changes::LocalFeed;
use refold_processor::clock::{Clock, SystemClock};
use refold_processor::decode::{StaticSchemas, arrow_schema};
use refold_processor::engine::worker::{Ports, Worker};
use refold_processor::log::embedded::{EmbeddedLog, EmbeddedLogSettings};
use refold_processor::log::{Log, NewRecord};
use refold_processor::store::RowReader;
use refold_processor::store::catalogue::Catalogue;
use refold_processor::store::memory::MemoryStore;
use refold_processor::table::{Table, Version};
use refold_processor::view::View;
use refold_tests::program::root;
use refold_tests::simulation::replay::Application;
use refold_tests::worker::RunningWorker;

const VIEWS: u64 = 40;

fn sql(view: u64) -> String {
    format!(
        "CREATE MATERIALIZED VIEW v{view} WITH (partition_key = 'u', clustering = 'slot DESC', accept_late = '1 day') AS
         SELECT userid % {view} AS u, tumble(timestamp, INTERVAL '{view} minutes') AS slot, count(*) AS posts FROM tweets GROUP BY u, slot"
    )
}

/// Their write buffers, almost empty, take several times the memory that there is for all: with a limit that stalls whoever writes, all would wait for ever.
#[test]
fn forty_views_of_one_source_all_fold_on_after_they_went_into_service() {
    let source = Application::load(&root().join("schemas"), "tweets").source.clone();
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(SystemClock);
    let log = Arc::new(EmbeddedLog::open(&folder.path().join("log"), EmbeddedLogSettings::default(), clock.clone()).unwrap());
    log.create_topic(&source.topic, source.partitions).unwrap();
    let store = Arc::new(MemoryStore::new());
    let catalogue = Catalogue::new(store.clone(), clock.clone());
    let columns = BTreeMap::from([(source.name.clone(), arrow_schema(&source.schema_json).unwrap())]);
    let views: Vec<View> = (1..=VIEWS).map(|view| View::plan(&sql(view), "test", &columns).unwrap()).collect();
    for view in &views {
        catalogue.create_version(&view.name, &view.sql, &view.digest, "", "test").unwrap();
    }
    let mut schemas = StaticSchemas::default();
    schemas.add_with_id(1, &source.schema_json).unwrap();
    let encoder = Encoder::new(&source, Some(1)).unwrap();
    let append = |posts: std::ops::Range<u64>| {
        let now_ms = clock.now_ms();
        let post = |id: u64| serde_json::json!({"userid": id % 97, "username": "u", "timestamp": now_ms, "tweetid": id, "tweet": "a post"});
        let posts: Vec<NewRecord> = posts.map(|id| encoder.encode(&post(id)).unwrap()).collect();
        log.append(&source.topic, posts).unwrap();
    };
    append(0..2_000);
    let ports = Ports {
        log: log.clone(),
        store: store.clone(),
        changes: Arc::new(LocalFeed::default()),
        catalogue: catalogue.clone(),
        schemas: Arc::new(schemas),
        sources: BTreeMap::from([(source.name.clone(), source.clone())]),
        clock: clock.clone(),
    };
    let worker = RunningWorker::start(ports, folder.path());
    let all_wrote = |worker: &Worker, posts: u64| {
        let statuses = worker.status();
        let wrote = statuses.iter().filter(|status| status.live && status.read == posts && status.unwritten_events == 0);
        (wrote.count() as u64 == VIEWS).then_some(())
    };
    worker.wait_for("all views have the first posts", |worker| all_wrote(worker, 2_000));
    worker.wait_for("all views are in service", |_| views.iter().all(|view| catalogue.active(&view.name).unwrap().is_some()).then_some(()));
    for ten in 0..50 {
        append(2_000 + ten * 10..2_010 + ten * 10);
        std::thread::sleep(Duration::from_millis(20));
    }
    worker.wait_for("all views have the posts that came then", |worker| all_wrote(worker, 2_500));
    let stopping = Instant::now();
    drop(worker);
    assert!(stopping.elapsed() < Duration::from_secs(10), "a stop took {:?}", stopping.elapsed());
    for view in &views {
        let table = Table { view: view.name.clone(), version: Version(1), shape: view.shape.clone() };
        let rows = store.scan(&table).unwrap();
        let counts = rows.iter().map(|rows| rows.column_by_name("posts").unwrap().as_primitive::<Int64Type>().values().iter().sum::<i64>());
        assert_eq!(counts.sum::<i64>(), 2_500, "view {}", view.name);
    }
}
