//! Switches to versions that are not what they were, failed versions, and what readiness says of them.

use super::*;

const SWITCH: &str = "/v1/admin/views/counts/switch";

impl World {
    fn fail(&self, version: Version, state: VersionState) {
        let failed = VersionState::Failed { error: "the disk broke".into() };
        self.catalogue.set_state("counts", version, &[state], failed, "worker").unwrap();
    }

    async fn reasons(&self) -> Vec<String> {
        let (_, ready) = self.get("/readyz").await;
        ready["reasons"].as_array().unwrap().iter().map(|reason| reason.as_str().unwrap().to_owned()).collect()
    }
}

/// Version 1 in service, version 2 caught up.
fn two_versions(second: &Progress) -> World {
    let world = world(open());
    let first = world.version(COUNTS, "ann", &[10], &at([5_000, 5_000]));
    world.serve(first);
    let second = world.version(KEPT, "ann", &[10], second);
    world.catalogue.set_state("counts", second, &[VersionState::Building], VersionState::CaughtUp, "test").unwrap();
    world
}

#[tokio::test]
async fn a_version_that_fell_behind_after_it_was_caught_up_is_not_switched_to() {
    let world = two_versions(&at([5_000, 3_999]));
    for body in [json!({ "to": 2 }), json!({})] {
        let (status, refused) = world.ask(SWITCH, body).await;
        assert_eq!((status, &refused["type"]), (StatusCode::CONFLICT, &json!("urn:refold:problem:gate")), "{refused}");
        assert_eq!(refused["behind_events"], 1_001);
        let detail = refused["detail"].as_str().unwrap();
        assert!(detail.contains("version v2 is 1001 events behind") && detail.contains("--force"), "{detail}");
    }
    let (status, refused) = world.ask(SWITCH, json!({ "to": 2, "force": true })).await;
    assert_eq!((status, refused["detail"].as_str().unwrap().contains("reason")), (StatusCode::BAD_REQUEST, true), "{refused}");
    let (status, forced) = world.ask(SWITCH, json!({ "to": 2, "force": true, "reason": "v1 is wrong" })).await;
    assert_eq!((status, &forced["switched"]), (StatusCode::OK, &json!(true)), "{forced}");
    let (_, history) = world.get("/v1/admin/history?view=counts&limit=1").await;
    assert_eq!(history["history"][0]["reason"], "v1 is wrong (forced: version v2 is 1001 events behind)");
    let (status, back) = world.ask(SWITCH, json!({ "to": 1 })).await;
    assert_eq!((status, &back["switched"]), (StatusCode::OK, &json!(true)), "the one before is as current as readers had it: {back}");
}

#[tokio::test]
async fn a_version_that_nobody_runs_is_not_switched_to_though_the_catalogue_says_caught_up() {
    let world = two_versions(&at([5_000, 4_000]));
    world.catalogue.release("counts", Version(2), &owner("worker"), Epoch(1)).unwrap();
    let (status, refused) = world.ask(SWITCH, json!({ "to": 2 })).await;
    assert_eq!((status, &refused["type"]), (StatusCode::CONFLICT, &json!("urn:refold:problem:gate")), "{refused}");
    assert!(refused["detail"].as_str().unwrap().contains("run by no worker (the last owner was worker)"), "{refused}");
    world.take(Version(2), "other", LEASE_MS);
    // What runs here began its state anew: rows stand still until it is where it was.
    let positions = at([12, 0]).visible;
    world.told.statuses.lock().push(RunStatus { view: "counts".into(), version: Some(Version(2)), positions, ..RunStatus::default() });
    let (_, refused) = world.ask(SWITCH, json!({ "to": 2 })).await;
    assert_eq!(refused["behind_events"], 4_988 + 5_000, "{refused}");
    world.told.statuses.lock()[0].positions = at([5_000, 5_000]).visible;
    let (status, moved) = world.ask(SWITCH, json!({ "to": 2 })).await;
    assert_eq!(status, StatusCode::OK, "{moved}");
    world.clock.advance_ms(LEASE_MS);
    let (_, refused) = world.ask(SWITCH, json!({ "to": 1 })).await;
    assert!(refused["detail"].as_str().unwrap().contains("version v1 is run by no worker"), "a rollback is judged as well: {refused}");
}

#[tokio::test]
async fn a_failed_version_in_service_is_not_said_to_be_served_already_and_goes_on_when_it_is_resumed() {
    let world = two_versions(&at([5_000, 5_000]));
    world.fail(Version(1), VersionState::Active);
    let (status, refused) = world.ask(SWITCH, json!({ "to": 1 })).await;
    assert_eq!(status, StatusCode::CONFLICT, "{refused}");
    let ways = ["refold resume counts 1", "refold switch counts 2", "the disk broke"];
    for text in [refused["detail"].as_str().unwrap(), &world.reasons().await[0]] {
        assert!(ways.iter().all(|way| text.contains(way)), "{text}");
    }
    let (_, status) = world.get("/v1/admin/status").await;
    let way_on = status["views"][0]["versions"][0]["way_on"].as_str().unwrap();
    assert!(way_on.contains("refold resume counts 1") && way_on.contains("refold switch counts 2"), "{way_on}");

    let resume = "/v1/admin/views/counts/versions/1/resume";
    let looks = world.told.looks.load(Ordering::SeqCst);
    let (status, resumed) = world.ask(resume, json!({ "by": "ann" })).await;
    assert_eq!(
        (status, &resumed),
        (StatusCode::OK, &json!({ "view": "counts", "version": 1, "state": "active", "resumed": true, "was": "failed" }))
    );
    assert_eq!(world.told.looks.load(Ordering::SeqCst), looks + 1, "the worker is told at once");
    let (_, again) = world.ask(resume, json!({})).await;
    assert_eq!(again, json!({ "view": "counts", "version": 1, "state": "active", "resumed": false }));
    assert_eq!(world.reasons().await, Vec::<String>::new());
    world.fail(Version(2), VersionState::CaughtUp);
    let (_, resumed) = world.ask("/v1/admin/views/counts/versions/v2/resume", json!({})).await;
    assert_eq!(resumed["state"], "building", "it is caught up by itself");
    for (path, status) in [("9", StatusCode::NOT_FOUND), ("x", StatusCode::BAD_REQUEST)] {
        let (answered, refused) = world.ask(&format!("/v1/admin/views/counts/versions/{path}/resume"), json!({})).await;
        assert_eq!(answered, status, "{refused}");
    }
    world.catalogue.set_state("counts", Version(2), &[VersionState::Building], VersionState::Dropped, "test").unwrap();
    let (status, gone) = world.ask("/v1/admin/views/counts/versions/2/resume", json!({})).await;
    assert_eq!(status, StatusCode::GONE, "{gone}");
}

#[tokio::test]
async fn a_version_in_service_that_nobody_runs_or_that_is_far_behind_is_not_ready() {
    let world = two_versions(&at([5_000, 5_000]));
    assert_eq!(world.reasons().await, Vec::<String>::new());
    world.clock.advance_ms(LEASE_MS + 4_999);
    assert_eq!(world.reasons().await, Vec::<String>::new(), "another may be about to take it");
    world.clock.advance_ms(1);
    let reasons = world.reasons().await;
    assert!(reasons[0].contains("version v1 is run by no worker (the last owner was worker)"), "{reasons:?}");
    world.take(Version(1), "other", 60_000);
    let run = RunStatus { view: "counts".into(), version: Some(Version(1)), lag: 20_000, ..RunStatus::default() };
    world.told.statuses.lock().push(run);
    assert_eq!(world.reasons().await, Vec::<String>::new(), "a burst is no trouble");
    world.clock.advance_ms(5_000);
    let reasons = world.reasons().await;
    assert!(reasons[0].contains("version v1 is 20000 events behind the log"), "{reasons:?}");
}
