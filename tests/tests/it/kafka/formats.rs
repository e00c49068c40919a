//! Records that are no Avro, written by a client that is not ours.

use std::collections::BTreeMap;

use refold_processor::changes::LocalFeed;
use refold_processor::clock::SystemClock;
use refold_processor::decode::{StaticSchemas, arrow_schema};
use refold_processor::engine::worker::Ports;
use refold_processor::json;
use refold_processor::source::{Framing, Source};
use refold_processor::store::RowReader as _;
use refold_processor::store::catalogue::Catalogue;
use refold_processor::store::memory::MemoryStore;
use refold_processor::table::{Table, Version};
use refold_processor::text::time::Unit;
use refold_processor::view::View;
use refold_tests::services::kcat::Kcat;
use refold_tests::simulation::events;
use refold_tests::worker::RunningWorker;

use super::*;

const ORDER: &str = r#"{"type":"record","name":"order","fields":[
    {"name":"customer","type":"string"},{"name":"amount","type":{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}},
    {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},{"name":"coupon","type":["null","string"],"default":null}]}"#;
const VIEW: &str = "CREATE MATERIALIZED VIEW spent WITH (partition_key = 'customer', unbounded = true) AS
    SELECT customer, count(*) AS orders, sum(amount) AS total, count(coupon) AS coupons FROM orders GROUP BY customer";

/// The rows, and the quarantined events by reason, of a topic with these records.
fn folded(topic: &str, framing: Framing, values: &[Vec<u8>]) -> (Vec<String>, BTreeMap<String, u64>) {
    let source = Source {
        name: "orders".into(),
        topic: topic.to_owned(),
        schema_json: ORDER.into(),
        event_time: "at".into(),
        framing,
        event_time_unit: Some(Unit::S),
        ..events::source(1)
    };
    let log = Arc::new(shared().log());
    log.create_topic(topic, 1).unwrap();
    Kcat::new(&shared().brokers()).write(topic, 0, values);
    let (store, clock) = (Arc::new(MemoryStore::new()), Arc::new(SystemClock));
    let catalogue = Catalogue::new(store.clone(), clock.clone());
    catalogue.create_version("spent", VIEW, "digest", "shape", "test").unwrap();
    let view = View::plan(VIEW, "spent", &BTreeMap::from([("orders".to_owned(), arrow_schema(ORDER).unwrap())])).unwrap();
    let (changes, schemas) = (Arc::new(LocalFeed::default()), Arc::new(StaticSchemas::default()));
    let sources = BTreeMap::from([("orders".to_owned(), source)]);
    let folder = tempfile::tempdir().unwrap();
    let ports = Ports { log, store: store.clone(), changes, catalogue, schemas, sources, clock };
    let worker = RunningWorker::start(ports, folder.path());
    let status = worker.wait_for("everything is read and written", |worker| {
        let status = worker.status().into_iter().next()?;
        (status.live && status.read == values.len() as u64 && status.unwritten_events == 0).then_some(status)
    });
    drop(worker);
    shared().delete_topics(&[topic]);
    let table = Table { view: "spent".into(), version: Version(1), shape: view.shape };
    let mut rows: Vec<String> = store.scan(&table).unwrap().iter().flat_map(json::rows).map(|row| row.to_string()).collect();
    rows.sort();
    (rows, status.quarantined)
}

fn orders() -> Vec<String> {
    let now_s = chrono::Utc::now().timestamp();
    vec![
        format!(r#"{{"customer": "ann", "amount": 12.5, "at": {now_s}, "shop": {{"id": 7}}}}"#),
        format!(r#"{{"at": {now_s}.25, "amount": "0.05", "coupon": "X\u00d7", "customer": "ann"}}"#),
        format!(r#"{{"customer": "b\u00f6b", "amount": 3, "at": "{}", "coupon": null}}"#, chrono::Utc::now().to_rfc3339()),
        // No JSON, cut off, a field that is missing, a value that is no amount, and no object.
        "customer=ann".to_owned(),
        r#"{"customer": "ann""#.to_owned(),
        format!(r#"{{"customer": "ann", "at": {now_s}}}"#),
        format!(r#"{{"customer": "ann", "amount": "much", "at": {now_s}}}"#),
        "[]".to_owned(),
    ]
}

const ROWS: [&str; 2] =
    [r#"{"customer":"ann","orders":2,"total":"12.55","coupons":1}"#, r#"{"customer":"böb","orders":1,"total":"3.00","coupons":0}"#];

#[test]
fn json_objects_are_folded_and_what_is_damaged_is_quarantined_with_its_reason() {
    let values: Vec<Vec<u8>> = orders().into_iter().map(String::into_bytes).collect();
    let (rows, quarantined) = folded("orders-json", Framing::Json, &values);
    assert_eq!(rows, ROWS);
    let expected = [("invalid_value", 3), ("not_json", 1), ("truncated", 1)];
    assert_eq!(quarantined, expected.map(|(reason, count)| (reason.to_owned(), count)).into());
}

#[test]
fn json_behind_the_id_of_a_schema_is_folded() {
    let framed = |text: String| [&[0, 0, 0, 0, 9], text.as_bytes()].concat();
    let mut values: Vec<Vec<u8>> = orders().into_iter().take(3).map(framed).collect();
    values.push(orders().remove(0).into_bytes());
    let (rows, quarantined) = folded("orders-json-schema", Framing::JsonSchema, &values);
    assert_eq!(rows, ROWS);
    assert_eq!(quarantined, BTreeMap::from([("unknown_framing".to_owned(), 1)]));
}
