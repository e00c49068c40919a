//! Rights that are taken away and given back while versions run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use refold_collector::Encoder;
use refold_processor::changes::{ChangeFeed, LocalFeed};
use refold_processor::clock::SystemClock;
use refold_processor::decode::StaticSchemas;
use refold_processor::engine::status::RunStatus;
use refold_processor::engine::worker::Ports;
use refold_processor::store::catalogue::{Catalogue, VersionState};
use refold_processor::store::memory::MemoryStore;
use refold_processor::table::{Table, Version};
use refold_tests::program::root;
use refold_tests::services::kafka::PASSWORD;
use refold_tests::simulation::replay::Application;
use refold_tests::worker::RunningWorker;
use tempfile::TempDir;
use tokio::sync::broadcast::error::TryRecvError;

use super::*;

/// Views that run over a topic that somebody else posts to all the time.
struct Stand {
    worker: RunningWorker,
    catalogue: Catalogue,
    tables: Vec<Table>,
    posted: Arc<AtomicU64>,
    posting: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
    _folder: TempDir,
}

impl Stand {
    /// Starts them as the user with a password. `feed` says what their change feed is, from that user's log.
    fn start(topic: &str, feed: impl FnOnce(&KafkaLog) -> Arc<dyn ChangeFeed>) -> Stand {
        let application = Application::load(&root().join("schemas"), "tweets");
        let mut source = application.source.clone();
        source.topic = topic.to_owned();
        shared().log().create_topic(topic, source.partitions).unwrap();
        let settings = KafkaSettings {
            deployment: topic.to_owned(),
            request_timeout_ms: 5_000,
            group_offsets: false,
            ..shared().settings_with_password(PASSWORD)
        };
        let log = Arc::new(KafkaLog::open(settings).unwrap());
        let changes = feed(&log);
        let (store, clock) = (Arc::new(MemoryStore::new()), Arc::new(SystemClock));
        let catalogue = Catalogue::new(store.clone(), clock.clone());
        let mut tables = Vec::new();
        for view in &application.views {
            catalogue.create_version(&view.name, &view.sql, &view.digest, "", "test").unwrap();
            tables.push(Table { view: view.name.clone(), version: Version(1), shape: view.shape.clone() });
        }
        let mut schemas = StaticSchemas::default();
        schemas.add_with_id(1, &source.schema_json).unwrap();
        let (stop, posted) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let posting = std::thread::spawn({
            let (log, encoder, topic) = (shared().log(), Encoder::new(&source, Some(1)).unwrap(), topic.to_owned());
            let (stop, posted) = (stop.clone(), posted.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let now_ms = chrono::Utc::now().timestamp_millis();
                    let post = |number| serde_json::json!({"userid": number, "username": "u", "timestamp": now_ms, "tweetid": number, "tweet": "a #tag"});
                    let records: Vec<NewRecord> = (0..10).map(|number| encoder.encode(&post(number)).unwrap()).collect();
                    posted.fetch_add(records.len() as u64, Ordering::Relaxed);
                    log.append(&topic, records).unwrap();
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let sources = BTreeMap::from([(source.name.clone(), source)]);
        let ports = Ports { log, store, changes, catalogue: catalogue.clone(), schemas: Arc::new(schemas), sources, clock };
        let worker = RunningWorker::start(ports, folder.path());
        let stand = Stand { worker, catalogue, tables, posted, posting: Some((stop, posting)), _folder: folder };
        stand.wait_until_all("versions write at every commit", |status| status.live && status.read > 0);
        stand
    }

    fn wait_until_all(&self, what: &str, is_so: impl Fn(&RunStatus) -> bool) {
        self.worker.wait_for(what, |worker| {
            let statuses = worker.status();
            (statuses.len() == self.tables.len() && statuses.iter().all(&is_so)).then_some(())
        });
    }

    /// All that was posted until now.
    fn posted(&self) -> u64 {
        self.posted.load(Ordering::Relaxed)
    }

    /// Ends the posts, and waits until every version has read them all, and written their rows.
    fn finish(mut self) {
        if let Some((stop, posting)) = self.posting.take() {
            stop.store(true, Ordering::Relaxed);
            posting.join().unwrap();
        }
        let posted = self.posted();
        self.wait_until_all("all is read and written", |status| {
            status.read == posted && status.unwritten_events == 0 && status.source_error.is_none()
        });
        for status in self.worker.wait_for("statuses", |worker| Some(worker.status())) {
            assert_eq!((status.failed, status.quarantined.len()), (None, 0), "{}", status.view);
        }
        for table in &self.tables {
            let record = self.catalogue.version(&table.view, table.version).unwrap().unwrap();
            assert!(!matches!(record.state, VersionState::Failed { .. }), "{}: {:?}", table.view, record.state);
        }
    }
}

#[test]
fn versions_go_on_by_themselves_once_a_right_to_read_that_was_taken_is_given_back() {
    let stand = Stand::start("governed", |_| Arc::new(LocalFeed::default()));
    for (right, said) in [
        ("Read", "may not READ topic governed: grant READ and DESCRIBE"),
        ("Describe", "may not DESCRIBE topic governed: grant DESCRIBE on topic governed"),
    ] {
        shared().deny(right, "governed");
        stand.wait_until_all("every version names the right", |status| {
            status.source_error.as_ref().is_some_and(|error| error.contains("the Kafka user refold") && error.contains(said))
        });
        shared().permit(right, "governed");
        let posted = stand.posted();
        stand.wait_until_all("every version goes on", |status| status.read > posted && status.source_error.is_none());
    }
    stand.finish();
}

#[test]
fn rows_are_written_on_while_the_change_feed_may_not_be_and_followers_begin_anew_afterwards() {
    let stand = Stand::start("fed", |log| Arc::new(log.feed()));
    let feed = KafkaLog::open(KafkaSettings { deployment: "fed".into(), ..shared().log_settings() }).unwrap().feed();
    let mut subscription = patiently(|| feed.subscribe(&stand.tables[0]));
    let mut next = || {
        let deadline = Instant::now() + Duration::from_secs(90);
        loop {
            match subscription.try_recv() {
                Ok(changes) => return changes,
                Err(TryRecvError::Empty | TryRecvError::Lagged(_)) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5))
                }
                Err(error) => panic!("no changes come: {error}"),
            }
        }
    };
    while next().rows.is_empty() {}
    shared().deny("Write", "fed.changes.");
    stand.wait_until_all("every feed names the right", |status| {
        status.feed_error.as_ref().is_some_and(|error| error.contains("the Kafka user refold may not WRITE to topic fed.changes."))
    });
    for _ in 0..3 {
        let posted = stand.posted();
        stand.wait_until_all("rows are written on", |status| {
            status.read - status.unwritten_events > posted && status.store_error.is_none() && status.feed_error.is_some()
        });
    }
    shared().permit("Write", "fed.changes.");
    stand.wait_until_all("changes are published again", |status| status.feed_error.is_none());
    let told = loop {
        let changes = next();
        if changes.anew {
            break changes;
        }
    };
    while !next().visible.reaches(&told.writing) {}
    stand.finish();
}

#[test]
fn rows_are_written_on_while_the_change_feed_takes_no_record_of_their_size() {
    let views = Application::load(&root().join("schemas"), "tweets").views;
    for view in &views {
        shared().create_topic(&format!("narrow.changes.{}.v1", view.name), &[("max.message.bytes", "100")]);
    }
    let stand = Stand::start("narrow", |log| Arc::new(log.feed()));
    stand.wait_until_all("every feed names the limit", |status| {
        status.feed_error.as_ref().is_some_and(|error| error.contains("max.message.bytes"))
    });
    stand.finish();
}
