//! Versions while they are built: what is wanted of them, and how far they are.

use refold_processor::engine::pace::Spent;

use super::*;

const VERSIONS: &str = "/v1/admin/views/counts/versions";

/// A view with a version in service and one that is being built, which runs in another process.
fn building() -> World {
    let world = world_with(open(), |ports| {
        let (catalogue, rows) = (ports.catalogue.clone(), ports.rows.clone());
        ports.running = Arc::new(crate::Elsewhere::new(catalogue, rows, ports.sources.clone(), ports.clock.clone()).unwrap());
    });
    let first = world.version(COUNTS, "ann", &[10], &at([1, 1]));
    world.serve(first);
    world.version(KEPT, "ann", &[10], &at([0, 0]));
    world
}

#[tokio::test]
async fn what_is_being_built_is_paused_throttled_and_resumed() {
    let world = building();
    let (status, paused) = world.ask(&format!("{VERSIONS}/2/pause"), json!({ "by": "ann", "reason": "not now" })).await;
    assert_eq!((status, &paused), (StatusCode::OK, &json!({ "view": "counts", "version": 2, "state": "building", "paused": true })));
    assert_eq!(world.ask(&format!("{VERSIONS}/2/pause"), json!({})).await.1["paused"], false, "asked again, it is done");
    let (status, throttled) = world.ask(&format!("{VERSIONS}/2/throttle"), json!({ "throttle": "rate", "events_per_s": 500 })).await;
    assert_eq!((status, &throttled["changed"]), (StatusCode::OK, &json!(true)), "{throttled}");
    let (_, view) = world.get("/v1/views/counts").await;
    let version = &view["versions"][1];
    assert_eq!((&version["paused"], &version["throttle"]["events_per_s"], &version["until"]), (&json!(true), &json!(500), &Value::Null));
    let (status, resumed) = world.ask(&format!("{VERSIONS}/2/resume"), json!({})).await;
    assert_eq!((status, &resumed["resumed"], &resumed["was"]), (StatusCode::OK, &json!(true), &json!("paused")), "{resumed}");
    assert_eq!(world.ask(&format!("{VERSIONS}/2/resume"), json!({})).await.1["resumed"], false);

    for (path, body, status, word) in [
        ("1/pause", json!({}), StatusCode::CONFLICT, "readers are on"),
        ("1/throttle", json!({ "throttle": "off" }), StatusCode::CONFLICT, "readers are on"),
        ("2/throttle", json!({ "throttle": "rate", "events_per_s": 0 }), StatusCode::CONFLICT, "refold pause counts 2"),
        ("2/throttle", json!({ "throttle": "rate" }), StatusCode::BAD_REQUEST, "needs events_per_s"),
        ("2/throttle", json!({ "throttle": "auto", "events_per_s": 5 }), StatusCode::BAD_REQUEST, "alone"),
        ("9/pause", json!({}), StatusCode::NOT_FOUND, "v9"),
    ] {
        let (found, problem) = world.ask(&format!("{VERSIONS}/{path}"), body).await;
        assert_eq!(found, status, "{path}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(word), "{path}: {problem}");
    }
}

#[tokio::test]
async fn how_far_a_version_is_that_another_process_builds_is_what_that_one_tells() {
    let world = building();
    let run = RunStatus {
        view: "counts".into(),
        version: Some(Version(2)),
        topic: "tweet_feed".into(),
        positions: at([4, 4]).visible,
        ends: [(Partition(0), Offset(100)), (Partition(1), Offset(100))].into(),
        read: 8,
        limit_per_s: Some(1_500.0),
        paused: true,
        spent: Spent { throttled_us: 5, ..Spent::default() },
        ..RunStatus::default()
    };
    world.catalogue.tell_building("worker", vec![run]).unwrap();
    world.state.watch.ends.look();
    let (_, view) = world.get("/v1/views/counts").await;
    let version = &view["versions"][1];
    assert_eq!((&version["read"], &version["lag"], &version["committed"]), (&json!(8), &json!(192), &json!({ "0": 4, "1": 4 })));
    assert_eq!(version["throttle"]["limit_per_s"], 1_500.0);
    assert_eq!((&version["replay"]["left"], &version["replay"]["bottleneck"]), (&json!(192), &json!("paused")), "{version}");
    assert_eq!(view["versions"][0]["replay"], Value::Null, "the one in service is not being built");
}

#[tokio::test]
async fn a_version_that_ends_waits_for_no_switch_and_is_not_the_one_that_follows() {
    let world = world(open());
    let first = world.version(COUNTS, "ann", &[10], &at([1, 1]));
    world.serve(first);
    let replay = |until: Value| json!({ "sql": KEPT, "file": "new.sql", "until": until });
    let path = "/v1/admin/views/counts/replay";
    let (status, ends) = world.ask(path, replay(json!("1970-01-01T00:00:01Z"))).await;
    assert_eq!((status, &ends["version"], &ends["until"]), (StatusCode::ACCEPTED, &json!(2), &json!("1970-01-01T00:00:01Z")), "{ends}");
    assert_eq!(world.ask(path, replay(json!("1970-01-01T01:00:01+01:00"))).await.1["version"], 2, "the same time");
    assert_eq!(world.ask(path, replay(Value::Null)).await.1["version"], 3);
    let (status, problem) = world.ask(path, replay(json!("yesterday"))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{problem}");
    world.catalogue.set_state("counts", Version(2), &[VersionState::Building], VersionState::CaughtUp, "test").unwrap();
    let (status, refused) = world.ask("/v1/admin/views/counts/switch", json!({ "to": 2 })).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(refused["detail"].as_str().unwrap().contains("ends at 1970-01-01T00:00:01Z"), "{refused}");
}
