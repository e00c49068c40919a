//! Rollbacks, and the end of versions and views.

use super::*;

const ROLLBACK: &str = "/v1/admin/views/counts/rollback";

/// Two versions, of which the second is in service.
fn switched() -> (World, Version, Version) {
    let world = world(open());
    let first = world.version(COUNTS, "ann", &[10], &at([1, 1]));
    world.serve(first);
    let second = world.version(KEPT, "ann", &[11], &at([1, 1]));
    world.serve(second);
    (world, first, second)
}

impl World {
    async fn operate(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.post(path, "application/json", body.to_string()).await
    }

    /// Fails unless it is refused by a gate, for this reason.
    #[track_caller]
    fn is_gate((status, answer): &(StatusCode, Value), reason: &str) {
        assert_eq!((status, &answer["type"]), (&StatusCode::CONFLICT, &json!("urn:refold:problem:gate")), "{answer}");
        assert!(answer["detail"].as_str().unwrap().contains(reason), "{answer}");
    }
}

#[tokio::test]
async fn readers_are_sent_back_once_however_often_it_is_asked() {
    let (world, first, second) = switched();
    assert_eq!(world.operate(ROLLBACK, json!({ "force": true })).await.0, StatusCode::BAD_REQUEST, "force needs a reason");
    let (status, other) = world.operate(ROLLBACK, json!({ "expected": 7 })).await;
    assert_eq!((status, &other["type"], &other["active"]), (StatusCode::CONFLICT, &json!("urn:refold:problem:conflict"), &json!(2)));
    world.clock.advance_ms(LEASE_MS + 1);
    World::is_gate(&world.operate(ROLLBACK, json!({})).await, "version v1 is run by no worker");
    world.take(first, "worker", LEASE_MS);
    let looks = world.told.looks.load(Ordering::SeqCst);
    let (status, back) = world.operate(ROLLBACK, json!({ "reason": "v2 miscounts", "by": "ann" })).await;
    assert_eq!((status, back), (StatusCode::OK, json!({ "view": "counts", "from": 2, "to": 1, "rolled_back": true })));
    assert_eq!(world.told.looks.load(Ordering::SeqCst), looks + 1, "the worker is told at once");
    for again in [json!({}), json!({ "expected": 2 })] {
        let (status, again) = world.operate(ROLLBACK, again).await;
        assert_eq!((status, again), (StatusCode::OK, json!({ "view": "counts", "from": 2, "to": 1, "rolled_back": false })));
    }
    World::is_gate(&world.operate(ROLLBACK, json!({ "expected": 1 })).await, "refold switch counts VERSION");
    let (_, view) = world.get("/v1/views/counts").await;
    let active = &view["active"];
    assert_eq!((&active["version"], &active["previous"], &active["rolled_back"]), (&json!(1), &json!(2), &json!(true)));
    let (_, history) = world.get("/v1/admin/history?view=counts&limit=1").await;
    let entry = &history["history"][0];
    assert_eq!((&entry["verb"], &entry["from"], &entry["to"]), (&json!("rollback"), &json!("v2"), &json!("v1")), "{entry}");
    assert_eq!((&entry["by"], &entry["reason"]), (&json!("ann"), &json!("v2 miscounts")));
    // Switched forward, it can be gone back again.
    world.take(second, "worker", LEASE_MS);
    assert_eq!(world.operate("/v1/admin/views/counts/switch", json!({ "to": 2 })).await.0, StatusCode::OK);
    world.clock.advance_ms(LEASE_MS + 1);
    let (status, forced) = world.operate(ROLLBACK, json!({ "force": true, "reason": "all the same" })).await;
    assert_eq!((status, &forced["rolled_back"]), (StatusCode::OK, &json!(true)), "{forced}");
    let (_, history) = world.get("/v1/admin/history?view=counts&limit=1").await;
    let reason = history["history"][0]["reason"].as_str().unwrap();
    assert!(reason.starts_with("all the same (forced: version v1 is run by no worker"), "{reason}");
}

#[tokio::test]
async fn where_there_is_no_way_back_it_is_said_why() {
    let world = world(open());
    let (status, none) = world.operate(ROLLBACK, json!({})).await;
    assert_eq!((status, &none["type"]), (StatusCode::NOT_FOUND, &json!("urn:refold:problem:not-found")));
    let first = world.version(COUNTS, "ann", &[10], &at([1, 1]));
    World::is_gate(&world.operate(ROLLBACK, json!({})).await, "no version is in service");
    world.serve(first);
    World::is_gate(&world.operate(ROLLBACK, json!({})).await, "v1 is the first version in service");
    let second = world.version(KEPT, "ann", &[11], &at([1, 1]));
    world.serve(second);
    let failed = VersionState::Failed { error: "the disk broke".into() };
    world.catalogue.set_state("counts", first, &[VersionState::Retired], failed, "worker").unwrap();
    let force = json!({ "force": true, "reason": "all the same" });
    for body in [json!({}), force] {
        let refused = world.operate(ROLLBACK, body).await;
        World::is_gate(&refused, "has failed: the disk broke; once the cause is gone, refold resume counts 1 continues it");
    }
    world.catalogue.drop_version("counts", first, &[VersionState::Failed { error: String::new() }], "ann", None).unwrap();
    World::is_gate(&world.operate(ROLLBACK, json!({})).await, "v1, which was in service before v2, is dropped");
}

#[tokio::test]
async fn a_version_is_dropped_once_nobody_may_need_it() {
    let (world, first, _) = switched();
    let drop = |version: u32| format!("/v1/admin/views/counts/versions/{version}/drop");
    World::is_gate(
        &world.operate(&drop(2), json!({ "force": true, "reason": "why not" })).await,
        "refold rollback counts sends them back to v1",
    );
    world.clock.advance_ms(60_000);
    let lately = world.operate(&drop(1), json!({})).await;
    World::is_gate(&lately, "(drop_grace_ms)");
    assert_eq!(lately.1["grace_left_ms"], 540_000);
    assert_eq!(world.operate(&drop(1), json!({ "force": true })).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(world.operate(&drop(9), json!({})).await.0, StatusCode::NOT_FOUND);
    assert_eq!(world.operate("/v1/admin/views/counts/versions/one/drop", json!({})).await.0, StatusCode::BAD_REQUEST);
    let dropped = |is_new: bool, is_removed: bool| {
        (StatusCode::OK, json!({ "view": "counts", "version": 1, "state": "dropped", "dropped": is_new, "removed": is_removed }))
    };
    assert_eq!(world.operate(&drop(1), json!({ "force": true, "reason": "the disk is full", "by": "ann" })).await, dropped(true, false));
    assert_eq!(world.operate(&drop(1), json!({})).await, dropped(false, false));
    let (_, view) = world.get("/v1/views/counts").await;
    assert_eq!((&view["versions"][0]["state"], &view["versions"][0]["removed"]), (&json!("dropped"), &json!(false)));
    world.catalogue.note_removed("counts", first, "worker").unwrap();
    assert_eq!(world.operate(&drop(1), json!({})).await, dropped(false, true));
    assert_eq!(world.get("/v1/views/counts/rows?username=ann&version=1").await.0, StatusCode::GONE);
    assert_eq!(world.get("/v1/views/counts/rows?username=ann").await.0, StatusCode::OK);
    let (_, history) = world.get("/v1/admin/history?view=counts&limit=2").await;
    let entry = &history["history"][0];
    let told = (&entry["verb"], &entry["version"], &entry["by"], entry["reason"].as_str().unwrap());
    let reason = "the disk is full (forced: version v1 was in service until 60 s ago)";
    assert_eq!(told, (&json!("drop"), &json!(1), &json!("ann"), reason));
    // One that readers were never sent to has no time of grace.
    let third = world.version(COUNTS, "ann", &[10], &at([1, 1]));
    assert_eq!(world.operate(&drop(third.0), json!({})).await.1["dropped"], true);
}

#[tokio::test]
async fn a_view_that_is_dropped_is_not_there_for_readers_and_can_be_built_again() {
    let (world, ..) = switched();
    let drop = "/v1/admin/views/counts/drop";
    for unconfirmed in [json!({}), json!({ "confirm": "count" })] {
        let (status, answer) = world.operate(drop, unconfirmed).await;
        assert_eq!((status, &answer["type"]), (StatusCode::BAD_REQUEST, &json!("urn:refold:problem:body")), "{answer}");
    }
    assert_eq!(world.operate("/v1/admin/views/nothing/drop", json!({ "confirm": "nothing" })).await.0, StatusCode::NOT_FOUND);
    let confirmed = json!({ "confirm": "counts", "reason": "no more", "by": "ann" });
    let answer = json!({ "view": "counts", "versions": [1, 2], "dropped": true, "removed": false, "declared": "views/counts.sql" });
    assert_eq!(world.operate(drop, confirmed.clone()).await, (StatusCode::OK, answer));
    let (_, again) = world.operate(drop, confirmed).await;
    assert_eq!((&again["versions"], &again["dropped"]), (&json!([]), &json!(false)));
    for path in
        ["/v1/views/counts", "/v1/views/counts/rows?username=ann", "/v1/views/counts/rows?username=ann&version=2", "/v1/views/counts/keys"]
    {
        let (status, answer) = world.get(path).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}: {answer}");
        assert!(answer["detail"].as_str().unwrap().contains("refold replay counts"), "{path}: {answer}");
    }
    assert_eq!(world.get("/v1/views").await.1["views"], json!([]));
    assert_eq!(world.get("/v1/admin/status").await.1["views"], json!([]));
    assert_eq!(world.get("/readyz").await, (StatusCode::OK, json!({ "ready": true, "reasons": [] })));
    let (_, health) = world.get("/v1/health").await;
    assert!(!health.to_string().contains("counts"), "{health}");
    let (_, history) = world.get("/v1/admin/history?view=counts&limit=1").await;
    assert_eq!((&history["history"][0]["verb"], &history["history"][0]["from"]), (&json!("drop"), &json!("v1, v2")));
    let (status, begun) = world.operate("/v1/admin/views/counts/replay", json!({})).await;
    assert_eq!((status, &begun["version"], &begun["waits_for_switch"]), (StatusCode::ACCEPTED, &json!(3), &json!(false)));
    assert_eq!(world.get("/v1/views/counts").await.0, StatusCode::OK);
}

#[tokio::test]
async fn when_a_retired_version_is_dropped_by_itself_is_told() {
    let world = world(ApiSettings { retire_after_ms: Some(86_400_000), ..open() });
    let first = world.version(COUNTS, "ann", &[10], &at([1, 1]));
    world.serve(first);
    let second = world.version(KEPT, "ann", &[11], &at([1, 1]));
    world.serve(second);
    let (_, view) = world.get("/v1/views/counts").await;
    let drops_at = |version: usize| view["versions"][version]["drops_at"].clone();
    assert_eq!((drops_at(0), drops_at(1)), (json!("1970-01-02T00:00:00Z"), Value::Null), "{view}");
}
