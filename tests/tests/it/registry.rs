//! A real schema registry: what it knows, what it does not, and what happens to the stream while it is unavailable.

use std::collections::BTreeMap;
use std::sync::Arc;

use refold_collector::Encoder;
use refold_kafka::RegistryError;
use refold_processor::changes::LocalFeed;
use refold_processor::clock::SystemClock;
use refold_processor::decode::{SchemaError, SchemaLookup};
use refold_processor::engine::status::RunStatus;
use refold_processor::engine::worker::{Ports, Worker};
use refold_processor::log::Log;
use refold_processor::log::embedded::{EmbeddedLog, EmbeddedLogSettings};
use refold_processor::recovery::Recovery;
use refold_processor::source::Framing;
use refold_processor::store::catalogue::Catalogue;
use refold_processor::store::memory::MemoryStore;
use refold_tests::program::root;
use refold_tests::services::registry::SchemaRegistry;
use refold_tests::simulation::replay::Application;
use refold_tests::worker::RunningWorker;

const FIRST: &str = r#"{"type":"record","name":"A","fields":[{"name":"a","type":"long"}]}"#;
const SECOND: &str = r#"{"type":"record","name":"A","fields":[{"name":"a","type":"long"},{"name":"b","type":"string","default":""}]}"#;

fn canonical(json: &str) -> u64 {
    refold_processor::decode::rabin_fingerprint(json).unwrap()
}

#[test]
fn schemas_have_ids_and_ids_have_schemas() {
    let registry = SchemaRegistry::started();
    let writer = registry.client();
    let first = writer.register("an/odd subject", FIRST).unwrap();
    let second = writer.register("an/odd subject", SECOND).unwrap();
    assert_ne!(first, second);
    assert_eq!(writer.register("an/odd subject", FIRST).unwrap(), first, "a schema keeps its id");
    let reader = registry.client();
    for (id, schema) in [(first, FIRST), (second, SECOND)] {
        assert_eq!(canonical(&reader.by_id(id).unwrap().unwrap()), canonical(schema));
    }
    assert_eq!(reader.by_id(first + second + 1000).unwrap(), None);
    assert_eq!(reader.by_id(u32::MAX).unwrap(), None, "no registry gives such an id");
    let error = writer.register("an/odd subject", "{not a schema").unwrap_err();
    assert!(matches!(&error, RegistryError::Refused { subject, .. } if subject == "an/odd subject"), "{error}");
    assert_eq!(error.recovery(), Recovery::Operator);
}

#[test]
fn a_registry_that_is_unavailable_is_not_a_schema_that_is_unknown() {
    let mut registry = SchemaRegistry::started();
    let client = registry.client();
    let id = client.register("subject", FIRST).unwrap();
    // Another address of the same server: a 404 that is none of the registry's.
    let astray = refold_kafka::Registry::new(&refold_kafka::RegistrySettings {
        url: registry.url().replace("/apis/ccompat/v7", "/astray"),
        ..Default::default()
    })
    .unwrap();
    let error = astray.by_id(id).unwrap_err();
    assert!(matches!(&error, SchemaError::Refused(said) if said.contains("check that the setting registry")), "{error}");
    let fresh = registry.client();
    registry.kill();
    let error = fresh.by_id(id).unwrap_err();
    assert!(matches!(&error, SchemaError::Unavailable(said) if said.contains(&registry.url())), "{error}");
    assert!(client.by_id(id).unwrap().is_some(), "what is known stays known");
    registry.start();
    assert_eq!(fresh.by_id(id).unwrap(), None, "this one forgets");
    assert_eq!(registry.client().register("subject", FIRST).unwrap(), id);
    assert!(fresh.by_id(id).unwrap().is_some());
}

#[test]
fn the_stream_waits_for_a_registry_that_is_unavailable() {
    let mut application = Application::load(&root().join("schemas"), "tweets");
    application.source.framing = Framing::Confluent;
    let source = application.source.clone();
    let view = application.views.iter().find(|view| view.name == "hashtag_counts").unwrap().clone();
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(SystemClock);
    let log = Arc::new(EmbeddedLog::open(&folder.path().join("log"), EmbeddedLogSettings::default(), clock.clone()).unwrap());
    log.create_topic(&source.topic, source.partitions).unwrap();
    let registry = SchemaRegistry::started();
    let id = registry.client().register("tweets-value", &source.schema_json).unwrap();
    registry.freeze();
    let schemas = Arc::new(registry.client());
    let encoder = Encoder::new(&source, Some(id)).unwrap();
    let posts = (0..500).map(|number| {
        let now_ms = chrono::Utc::now().timestamp_millis();
        let post = serde_json::json!({"userid": number, "username": "u", "timestamp": now_ms, "tweetid": number, "tweet": "a #tag"});
        encoder.encode(&post).unwrap()
    });
    log.append(&source.topic, posts.collect()).unwrap();

    let store = Arc::new(MemoryStore::new());
    let catalogue = Catalogue::new(store.clone(), clock.clone());
    catalogue.create_version(&view.name, &view.sql, &view.digest, "", "test").unwrap();
    let sources = BTreeMap::from([(source.name.clone(), source.clone())]);
    let ports = Ports { log, store, changes: Arc::new(LocalFeed::default()), catalogue, schemas, sources, clock };
    let worker = RunningWorker::start(ports, folder.path());
    let only = |is_so: fn(&RunStatus) -> bool| move |worker: &Worker| worker.status().pop().filter(is_so);
    let waiting = worker.wait_for("the version says that it waits", only(|status| status.source_error.is_some()));
    assert!(waiting.source_error.as_ref().unwrap().contains("schema registry"), "{waiting:?}");
    assert_eq!((waiting.read, waiting.quarantined.len()), (0, 0), "nothing is passed over");
    registry.thaw();
    let done = worker.wait_for("all events are read", only(|status| status.read == 500 && status.source_error.is_none()));
    assert_eq!((done.applied, done.quarantined.len(), done.failed), (500, 0, None));
}
