#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

//! The routes over a log and a view store in memory.

mod access;
mod admin;
mod assets;
mod building;
mod definitions;
mod ending;
mod ends;
mod events;
mod gate;
mod health;
mod limits;
mod reads;
mod search;
mod sockets;
mod streams;
mod tls;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, BodyDataStream, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use datafusion::arrow::compute::cast;
use futures::StreamExt;
use parking_lot::Mutex;
use refold_processor::changes::{ChangeFeed, LocalFeed};
use refold_processor::clock::ManualClock;
use refold_processor::decode::StaticSchemas;
use refold_processor::engine::error::EngineError;
use refold_processor::engine::quarantined::{self, Page, Quarantined, Wanted};
use refold_processor::engine::status::RunStatus;
use refold_processor::log::memory::MemoryLog;
use refold_processor::log::{Log, NewRecord};
use refold_processor::position::{Cut, Offset, Partition};
use refold_processor::quarantine::{Reason, Rejected};
use refold_processor::source::{Framing, Source, Sources};
use refold_processor::state::memory::MemoryState;
use refold_processor::state::{Batch, Space, State};
use refold_processor::store::catalogue::{Catalogue, Incarnation, Owner, VersionState};
use refold_processor::store::memory::MemoryStore;
use refold_processor::store::{Progress, RowBatch, RowWriter};
use refold_processor::table::{Epoch, Table, Version};
use refold_versions::planner::{Planner, register};
use serde_json::{Value, json};
use tower::ServiceExt;

use self::world::*;
use super::*;
use crate::limits::Class;

#[tokio::test]
async fn rows_of_a_partition_page_by_page_newest_first() {
    let world = world(open());
    let version = world.version(COUNTS, "ann", &[10, 20, 30], &at([5, 7]));
    world.serve(version);
    let (status, first) = world.get("/v1/views/counts/rows?username=ann").await;
    assert_eq!(status, StatusCode::OK, "{first}");
    let cursor = first["next_cursor"].as_str().unwrap().to_owned();
    let expected = json!({
        "view": "counts",
        "version": 1,
        "positions": { "0": 5, "1": 7 },
        "watermark": "1970-01-01T01:30:00Z",
        "rows": [
            { "username": "ann", "slot": "1970-01-01T00:10:00Z", "posts": 30 },
            { "username": "ann", "slot": "1970-01-01T00:05:00Z", "posts": 20 },
        ],
        "next_cursor": cursor,
    });
    assert_eq!(first.to_string(), expected.to_string(), "members and columns have their order");
    let (_, second) = world.get(&format!("/v1/views/counts/rows?username=ann&cursor={cursor}")).await;
    assert_eq!(second["rows"], json!([{ "username": "ann", "slot": "1970-01-01T00:00:00Z", "posts": 10 }]));
    assert_eq!(second["next_cursor"], Value::Null);
    let (_, between) = world.get("/v1/views/counts/rows?username=ann&from=1970-01-01T00:05:00Z&to=1970-01-01T00:10:00Z").await;
    assert_eq!(between["rows"].as_array().unwrap().len(), 1);
    let (status, nobody) = world.get("/v1/views/counts/rows?username=bob").await;
    assert_eq!((status, &nobody["rows"]), (StatusCode::OK, &json!([])));
}

#[tokio::test]
async fn a_page_that_follows_stays_with_its_version_after_a_switch() {
    let world = world(open());
    let first = world.version(COUNTS, "ann", &[10, 20, 30], &at([1, 1]));
    world.serve(first);
    let (_, page) = world.get("/v1/views/counts/rows?username=ann").await;
    let second = world.version(KEPT, "ann", &[1, 2, 3], &at([1, 1]));
    world.serve(second);
    let (_, anew) = world.get("/v1/views/counts/rows?username=ann&limit=5").await;
    assert_eq!((&anew["version"], &anew["rows"][0]["posts"]), (&json!(2), &json!(3)));
    let (_, next) = world.get(&format!("/v1/views/counts/rows?username=ann&cursor={}", page["next_cursor"].as_str().unwrap())).await;
    assert_eq!((&next["version"], &next["rows"][0]["posts"]), (&json!(1), &json!(10)));
    let (_, old) = world.get("/v1/views/counts/rows?username=ann&version=1&limit=5").await;
    assert_eq!(old["rows"][0]["posts"], 30);
}

#[tokio::test]
async fn rows_past_keep_are_not_answered_though_the_table_has_them() {
    let world = world(open());
    let horizon = Progress { horizon_us: Some(4 * 60 * 1_000_000), ..at([1, 1]) };
    let version = world.version(KEPT, "ann", &[10, 20, 30], &horizon);
    world.serve(version);
    let (_, answer) = world.get("/v1/views/counts/rows?username=ann&limit=5").await;
    assert_eq!(answer["rows"].as_array().unwrap().len(), 2);
    let (_, before) = world.get("/v1/views/counts/rows?username=ann&to=1970-01-01T00:05:00Z").await;
    assert_eq!(before["rows"], json!([]));
}

#[tokio::test]
async fn a_view_that_is_being_built_says_how_far_it_is() {
    let world = world(open());
    let version = world.version(COUNTS, "ann", &[1], &at([1, 1]));
    let status = RunStatus { view: "counts".into(), version: Some(version), read: 40, lag: 60, ..RunStatus::default() };
    world.told.statuses.lock().push(status);
    let (status, headers, document) = world.answer(Request::get("/v1/views/counts/rows?username=ann").body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(headers[header::RETRY_AFTER], "5");
    assert_eq!(headers[header::CONTENT_TYPE], PROBLEM_JSON);
    assert_eq!(document["type"], "urn:refold:problem:building");
    assert_eq!((&document["progress"]["read"], &document["progress"]["lag"]), (&json!(40), &json!(60)));
    let (status, ready) = world.get("/readyz").await;
    assert_eq!((status, &ready["ready"]), (StatusCode::SERVICE_UNAVAILABLE, &json!(false)));
    assert!(ready["reasons"][0].as_str().unwrap().contains("60 events to go"));
    let (status, asked_for) = world.get("/v1/views/counts/rows?username=ann&version=1").await;
    assert_eq!((status, asked_for["rows"].as_array().unwrap().len()), (StatusCode::OK, 1), "by its number it can be read");
    world.serve(version);
    assert_eq!(world.get("/readyz").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_view_that_waits_for_history_says_for_which() {
    let world = world(open());
    world.version(COUNTS, "ann", &[1], &at([1, 1]));
    world.collected.note_at_present(false, 0);
    let waits = "generate:1 is still writing its history into the log of tweets (0 events so far)";
    let told = async || {
        let (_, rows) = world.get("/v1/views/counts/rows?username=ann").await;
        let (_, ready) = world.get("/readyz").await;
        let (_, view) = world.get("/v1/views/counts").await;
        [rows["detail"].to_string(), ready["reasons"][0].to_string(), view["versions"][0]["waits_for"].to_string()]
    };
    let while_it_is_written = told().await;
    assert!(while_it_is_written.iter().all(|text| text.contains(waits)), "{while_it_is_written:#?}");
    world.collected.note_at_present(true, 0);
    let then = told().await;
    assert!(!then.iter().any(|text| text.contains(waits)) && then[2] == "null", "{then:#?}");
}

#[tokio::test]
async fn what_is_asked_wrongly_is_answered_with_what_there_is() {
    let world = world(open());
    let version = world.version(COUNTS, "ann", &[1], &at([1, 1]));
    world.serve(version);
    for (path, status, in_detail) in [
        ("/v1/views/nothing", 404, "there are: counts"),
        ("/v1/views/nothing/rows?username=ann", 404, "there are: counts"),
        ("/v1/views/counts/rows", 400, "parameter username is missing"),
        ("/v1/views/counts/rows?user=ann", 400, "there are: username, from, to, limit, cursor, version"),
        ("/v1/views/counts/rows?username=ann&from=soon", 400, "2026-11-23T13:30:00Z"),
        ("/v1/views/counts/rows?username=ann&limit=6", 400, "more than 5"),
        ("/v1/views/counts/rows?username=ann&version=9", 404, "no version v9"),
        ("/v1/views/counts/rows?username=ann&cursor=v1.AAAA", 400, "cursor"),
        ("/v1/views/counts/rows?username=%ff", 400, "not UTF-8"),
        ("/v1/sources/posts", 404, "there are: tweets"),
        ("/v2/views", 404, "/openapi.json"),
    ] {
        let (answered, document) = world.get(path).await;
        assert_eq!((answered.as_u16(), document["status"].as_u64()), (status, Some(u64::from(status))), "{path}: {document}");
        assert!(document["detail"].as_str().unwrap().contains(in_detail), "{path}: {document}");
    }
    let (status, document) = world.post("/v1/views", "application/json", "{}").await;
    assert_eq!((status, &document["type"]), (StatusCode::METHOD_NOT_ALLOWED, &json!("urn:refold:problem:method")));
}

#[tokio::test]
async fn the_lag_is_up_to_where_the_log_ends_now() {
    let world = world(open());
    let version = world.version(COUNTS, "ann", &[1], &at([1, 1]));
    let mut run = RunStatus { view: "counts".into(), version: Some(version), topic: "tweet_feed".into(), ..RunStatus::default() };
    run.set_ends([(Partition(0), Offset(0)), (Partition(7), Offset(5))].into());
    world.told.statuses.lock().push(run);
    let record = NewRecord { key: None, value: "x".into() };
    world.log.append("tweet_feed", vec![record; 4]).unwrap();
    assert_eq!(world.state.watch.running()[0].lag, 5, "as of when it was read");
    drop(world.state.watch.ends.look());
    assert_eq!(world.state.watch.running()[0].lag, 9);
}

#[tokio::test]
async fn a_version_that_folds_nothing_although_events_wait_is_stalled_for_all_who_ask() {
    let world = world(open());
    let version = world.version(COUNTS, "ann", &[1], &at([1, 1]));
    world.serve(version);
    world.take(version, "worker", 600_000);
    let run = RunStatus { view: "counts".into(), version: Some(version), lag: 4, ..RunStatus::default() };
    world.told.statuses.lock().push(run);
    let asked = async || {
        let (_, view) = world.get("/v1/views/counts").await;
        let (_, metrics) = world.get("/metrics").await;
        let metric = metrics.as_str().unwrap().lines().find(|line| line.starts_with("refold_stalled{")).unwrap().to_owned();
        (view["versions"][0]["stalled_s"].clone(), metric.ends_with(" 1"), world.get("/readyz").await)
    };
    let (seconds, metric, (status, _)) = asked().await;
    assert_eq!((seconds, metric, status), (Value::Null, false, StatusCode::OK), "there was no time yet");
    world.clock.advance_ms(45_000);
    let (seconds, metric, (status, ready)) = asked().await;
    assert_eq!((seconds, metric, status), (json!(45), true, StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(ready["reasons"], json!(["view counts: version v1 has folded nothing for 45 s although 4 events wait"]));
}

#[tokio::test]
async fn a_view_says_what_it_declares_and_how_fresh_each_version_is() {
    let world = world(open());
    let version = world.version(COUNTS, "ann", &[1], &at([5, 7]));
    world.serve(version);
    let run =
        RunStatus { view: "counts".into(), version: Some(version), read: 12, applied: 11, lag: 3, live: true, ..RunStatus::default() };
    world.told.statuses.lock().push(RunStatus { quarantined: [("too_late".to_owned(), 1)].into(), ..run });
    let (status, view) = world.get("/v1/views/counts").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(view["rows"], "/v1/views/counts/rows?username={username}");
    assert_eq!(view["partition_key"], json!(["username"]));
    assert_eq!(view["clustering"], json!([{ "column": "slot", "order": "desc" }]));
    assert_eq!(
        view["window"],
        json!({ "column": "slot", "size_ms": 300_000, "slide_ms": 300_000, "newest_closed": "1970-01-01T01:25:00Z" })
    );
    assert_eq!(view["active"]["version"], 1);
    let version = &view["versions"][0];
    assert_eq!((&version["state"], &version["lag"], &version["positions"]), (&json!("active"), &json!(3), &json!({ "0": 5, "1": 7 })));
    assert_eq!((&version["owner"], &version["definition"]), (&json!("worker"), &json!(COUNTS)));
    let (_, all) = world.get("/v1/views").await;
    assert_eq!(all["views"], json!([view]));
    let (_, page) = world.get("/").await;
    assert!(page.as_str().unwrap().contains("href=\"/v1/views/counts\""));
    let (_, metrics) = world.get("/metrics").await;
    for line in [
        "refold_events_read_total{version=\"1\",view=\"counts\"} 12",
        "refold_lag_events{version=\"1\",view=\"counts\"} 3",
        "refold_events_quarantined_total{reason=\"too_late\",version=\"1\",view=\"counts\"} 1",
        "refold_active_version{view=\"counts\"} 1",
        "refold_log_end_offset{partition=\"0\",source=\"tweets\",topic=\"tweet_feed\"} 0",
        "refold_http_request_duration_seconds_count{method=\"GET\",route=\"/v1/views/{view}\",status=\"200\"} 1",
    ] {
        assert!(metrics.as_str().unwrap().lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn quarantined_events_are_listed_by_reason_and_shown_one_by_one() {
    let world = world(open());
    let version = world.version(COUNTS, "ann", &[1], &at([5, 7]));
    world.serve(version);
    let (status, unavailable) = world.get("/v1/views/counts/quarantine").await;
    assert_eq!(
        (status, &unavailable["type"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("urn:refold:problem:unavailable")),
        "it does not run yet"
    );
    let run = RunStatus { view: "counts".into(), version: Some(version), ..RunStatus::default() };
    world.told.statuses.lock().push(RunStatus { quarantined: [("too_late".to_owned(), 2), ("truncated".to_owned(), 1)].into(), ..run });
    let encoder = refold_collector::Encoder::new(&tweets(), Some(1)).unwrap();
    let encode = |name: &str| encoder.encode(&json!({ "username": name, "timestamp": 1_000 })).unwrap().value;
    let mut batch = Batch::default();
    for (partition, offset, reason, value) in [
        (0, 4, Reason::TooLate, encode("ann")),
        (0, 9, Reason::Truncated, encode("bob").slice(..6)),
        (1, 2, Reason::TooLate, encode(&"long ".repeat(2_000))),
    ] {
        let rejected = Rejected { offset: Offset(offset), reason, detail: "why".into() };
        let (key, value) = Quarantined::encode(Partition(partition), &rejected, Some(60_000), Some(&value), 20_000).unwrap();
        batch.put(Space::Quarantine, &key, &value);
    }
    world.told.quarantine.commit(&batch).unwrap();

    let (status, first) = world.get("/v1/views/counts/quarantine?limit=2").await;
    let expected = json!({
        "view": "counts",
        "version": 1,
        "quarantined": { "too_late": 2, "truncated": 1 },
        "records": [
            {
                "topic": "tweet_feed", "partition": 0, "offset": 4, "record_time": "1970-01-01T00:01:00Z", "reason": "too_late", "detail": "why",
                "bytes": 11, "value": { "username": "ann", "timestamp": "1970-01-01T00:00:01Z" }, "base64": null, "truncated": false,
            },
            {
                "topic": "tweet_feed", "partition": 0, "offset": 9, "record_time": "1970-01-01T00:01:00Z", "reason": "truncated", "detail": "why",
                "bytes": 6, "value": null, "base64": "AAAAAAEG", "truncated": false,
            },
        ],
        "next_cursor": "v1.1.2",
    });
    assert_eq!((status, first), (StatusCode::OK, expected));
    let (_, second) = world.get("/v1/views/counts/quarantine?cursor=v1.1.2").await;
    let (long, next) = (&second["records"][0], &second["next_cursor"]);
    assert_eq!((&long["offset"], &long["value"], &long["truncated"], next), (&json!(2), &Value::Null, &json!(true), &Value::Null));
    assert!(long["base64"].as_str().unwrap().len() < 6_000, "a page shows the beginning of what is long");
    let (_, late) = world.get("/v1/views/counts/quarantine?reason=too_late&version=1").await;
    assert_eq!(late["records"].as_array().unwrap().len(), 2);

    let (status, one) = world.get("/v1/views/counts/quarantine/1/2").await;
    assert_eq!((status, &one["reason"], &one["truncated"]), (StatusCode::OK, &json!("too_late"), &json!(false)));
    assert_eq!(one["value"]["username"].as_str().unwrap().len(), 10_000, "alone it is shown whole");
    for (path, status, in_detail) in [
        ("/v1/views/counts/quarantine/0/5", 404, "no quarantined event at 0/5"),
        ("/v1/views/counts/quarantine/9999999999/5", 404, "no quarantined event"),
        ("/v1/views/counts/quarantine/zero/5", 400, "partition"),
        ("/v1/views/counts/quarantine/0/5?reason=too_late", 400, "there are: version"),
        ("/v1/views/counts/quarantine?reason=late", 400, "late_after_idle"),
        ("/v1/views/counts/quarantine?version=9", 404, "no version v9"),
        ("/v1/views/nothing/quarantine", 404, "there are: counts"),
    ] {
        let (answered, document) = world.get(path).await;
        assert_eq!(answered.as_u16(), status, "{path}: {document}");
        assert!(document["detail"].as_str().unwrap().contains(in_detail), "{path}: {document}");
    }
    world.catalogue.set_state("counts", version, &[VersionState::Active], VersionState::Failed { error: "broke".into() }, "test").unwrap();
    world.told.statuses.lock().clear();
    let (status, failed) = world.get("/v1/views/counts/quarantine").await;
    assert_eq!((status, failed["detail"].as_str().unwrap().contains("broke")), (StatusCode::CONFLICT, true), "{failed}");
}

#[tokio::test]
async fn quarantined_events_are_for_those_who_may_administrate() {
    let world = world(ApiSettings { access: with_token(), ..open() });
    world.version(COUNTS, "ann", &[1], &at([5, 7]));
    assert_eq!(world.get("/v1/views/counts/quarantine").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(world.get("/v1/views/counts/quarantine/0/1").await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn what_is_refused_before_a_route_sees_it_is_a_problem_document_too() {
    let world = world(open());
    for (path, in_detail) in [("/v1/views/%FF", "UTF-8"), ("/v1/admin/history?limit=many", "limit"), ("/v1/admin/history?lmit=1", "lmit")] {
        let (status, headers, document) = world.answer(Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(
            (status, &headers[header::CONTENT_TYPE]),
            (StatusCode::BAD_REQUEST, &PROBLEM_JSON.parse().unwrap()),
            "{path}: {document}"
        );
        assert!(document["detail"].as_str().unwrap().contains(in_detail), "{path}: {document}");
    }
}

/// The next event of a stream, by name.
async fn event(body: &mut BodyDataStream) -> (String, Value) {
    let bytes = tokio::time::timeout(Duration::from_secs(20), body.next()).await.expect("no event").expect("the end").unwrap();
    let text = std::str::from_utf8(&bytes).unwrap().to_owned();
    let (name, data) = text.trim_end().split_once('\n').unwrap();
    (name.trim_start_matches("event: ").to_owned(), serde_json::from_str(data.trim_start_matches("data: ")).unwrap())
}

#[tokio::test]
async fn a_stream_holds_back_what_may_be_older_than_its_snapshot() {
    let world = world(open());
    let version = world.version(COUNTS, "ann", &[10, 20], &Progress { writing: at([9, 9]).writing, ..at([5, 7]) });
    world.serve(version);
    let view = world.planner.plan(COUNTS, "test").unwrap();
    let table = Table { view: "counts".into(), version, shape: view.shape.clone() };
    let (status, refused) = world.get("/v1/views/counts/live?username=ann").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "nothing publishes yet: {refused}");
    world.changes.create(&table, None).unwrap();
    let request = Request::get("/v1/views/counts/live?username=ann").body(Body::empty()).unwrap();
    let response = world.router.clone().oneshot(request).await.unwrap();
    assert_eq!((response.status(), &response.headers()[header::CONTENT_TYPE]), (StatusCode::OK, &"text/event-stream".parse().unwrap()));
    let mut stream = response.into_body().into_data_stream();
    let (name, snapshot) = event(&mut stream).await;
    assert_eq!((name.as_str(), &snapshot["rows"][0]["posts"]), ("snapshot", &json!(20)));

    let publish = |user: &str, posts: i64, epoch: i64, offsets: [u64; 2], deleted: bool| {
        let columns: [ArrayRef; 3] = [
            Arc::new(StringArray::from(vec![user])),
            Arc::new(TimestampMillisecondArray::from(vec![0]).with_timezone("+00:00")),
            Arc::new(Int64Array::from(vec![posts])),
        ];
        let columns = columns.iter().zip(view.shape.columns.fields()).map(|(column, field)| cast(column, field.data_type()).unwrap());
        let rows = RecordBatch::try_new(view.shape.columns.clone(), columns.collect()).unwrap();
        let written_at = vec![(epoch << 47) + (offsets[0] + offsets[1]) as i64];
        world.changes.publish(&table, &[RowBatch { rows, written_at, deleted: vec![deleted] }], &at(offsets)).unwrap();
    };
    publish("ann", 11, 2, [6, 7], false);
    publish("ann", 12, 2, [8, 9], false);
    publish("bob", 1, 2, [9, 9], false);
    let (name, change) = event(&mut stream).await;
    let row = |posts: i64| json!({ "username": "ann", "slot": "1970-01-01T00:00:00Z", "posts": posts });
    assert_eq!((name.as_str(), &change["rows"]), ("change", &json!([row(12)])), "the newest, when everything shown is published");
    assert_eq!((&change["positions"], &change["version"]), (&json!({ "0": 9, "1": 9 }), &json!(version.0)));
    publish("ann", 5, 1, [10, 9], false);
    publish("ann", 0, 2, [11, 9], true);
    let (_, change) = event(&mut stream).await;
    let gone = json!([{ "username": "ann", "slot": "1970-01-01T00:00:00Z" }]);
    assert_eq!((&change["rows"], &change["deleted"]), (&json!([]), &gone), "and nothing of an owner that was replaced");
    let (_, _, metrics) = world.answer(Request::get("/metrics").body(Body::empty()).unwrap()).await;
    assert!(metrics.as_str().unwrap().contains("refold_http_live_streams 1"));
    // The feed has lost changes, which the store has.
    publish("ann", 13, 2, [12, 9], false);
    assert_eq!(event(&mut stream).await.1["rows"], json!([row(13)]));
    world.changes.begin_anew(&table, &at([15, 9])).unwrap();
    let (name, snapshot) = event(&mut stream).await;
    assert_eq!((name.as_str(), &snapshot["rows"][0]["posts"]), ("snapshot", &json!(20)), "{snapshot}");
    world.state.live.close();
    assert!(stream.next().await.is_none(), "nobody is served any more");
}

#[tokio::test]
async fn every_documented_route_is_there_and_every_route_is_documented() {
    let world = world(open());
    let (_, document) = world.get("/openapi.json").await;
    let mut documented = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            documented.push(format!("{} {path}", method.to_uppercase()));
            let path = path
                .replace("{view}", "counts")
                .replace("{source}", "tweets")
                .replace("{partition}", "0")
                .replace("{offset}", "0")
                .replace("{version}", "1");
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let (_, _, answer) = world.answer(Request::builder().method(method.clone()).uri(&path).body(Body::empty()).unwrap()).await;
            let kind = answer["type"].as_str().unwrap_or("");
            assert!(!["urn:refold:problem:route", "urn:refold:problem:method"].contains(&kind), "{method} {path}");
        }
    }
    let mut routes: Vec<String> = Vec::new();
    for part in include_str!("router.rs").split(".route(\"").skip(1) {
        let (path, rest) = part.split_once('"').unwrap();
        let handlers = rest.split(".route(").next().unwrap().split(';').next().unwrap();
        for method in ["get", "post", "delete"] {
            // `get(…)` at the beginning, `.post(…)` after it.
            if handlers.trim_start_matches([',', ' ', '\n']).starts_with(&format!("{method}("))
                || handlers.contains(&format!(").{method}("))
            {
                routes.push(format!("{} {path}", method.to_uppercase()));
            }
        }
    }
    routes.sort();
    documented.sort();
    assert_eq!(documented, routes);
}
