//! Replays, switches, and who may ask for them.

use super::*;

#[tokio::test]
async fn the_first_version_that_a_replay_makes_waits_for_no_switch() {
    let world = world(open());
    let body = json!({ "sql": COUNTS, "file": "new.sql" });
    let (status, answer) = world.post("/v1/admin/views/counts/replay", "application/json", body.to_string()).await;
    assert_eq!((status, &answer["version"], &answer["waits_for_switch"]), (StatusCode::ACCEPTED, &json!(1), &json!(false)), "{answer}");
}

#[tokio::test]
async fn a_replay_makes_a_version_once_and_a_switch_moves_readers_to_it() {
    let world = world(open());
    let first = world.version(COUNTS, "ann", &[10], &at([1, 1]));
    world.serve(first);
    let body = json!({ "sql": KEPT, "file": "new.sql", "by": "ann" });
    let (status, answer) = world.post("/v1/admin/views/counts/replay", "application/json", body.to_string()).await;
    assert_eq!((status, &answer["version"], &answer["created"]), (StatusCode::ACCEPTED, &json!(2), &json!(true)), "{answer}");
    assert_eq!(answer["waits_for_switch"], true);
    assert_eq!(world.told.looks.load(Ordering::SeqCst), 1, "the worker is told at once");
    let (status, again) = world.post("/v1/admin/views/counts/replay", "application/json", body.to_string()).await;
    assert_eq!((status, &again["version"], &again["created"]), (StatusCode::OK, &json!(2), &json!(false)));

    let (status, early) = world.post("/v1/admin/views/counts/switch", "application/json", "{\"to\":2}").await;
    assert_eq!((status, &early["type"]), (StatusCode::CONFLICT, &json!("urn:refold:problem:gate")));
    assert!(early["detail"].as_str().unwrap().ends_with("wait until it is caught up"), "{early}");
    let (status, early) = world.post("/v1/admin/views/counts/switch", "application/json", "{}").await;
    assert_eq!((status, &early["type"]), (StatusCode::CONFLICT, &json!("urn:refold:problem:gate")));
    assert!(early["detail"].as_str().unwrap().contains("v2 is building"));
    let (status, mistaken) = world.post("/v1/admin/views/counts/switch", "application/json", "{\"expected\":7}").await;
    assert_eq!((status, &mistaken["type"], &mistaken["active"]), (StatusCode::CONFLICT, &json!("urn:refold:problem:conflict"), &json!(1)));

    // A worker has taken it.
    assert_eq!(world.version(KEPT, "ann", &[10], &at([1, 1])), Version(2));
    world.catalogue.set_state("counts", Version(2), &[VersionState::Building], VersionState::CaughtUp, "test").unwrap();
    let (status, other) = world.post("/v1/admin/views/counts/switch", "application/json", "{\"to\":2,\"expected\":7}").await;
    assert_eq!((status, &other["type"], &other["active"]), (StatusCode::CONFLICT, &json!("urn:refold:problem:conflict"), &json!(1)));
    let (status, moved) = world.post("/v1/admin/views/counts/switch", "application/json", "{\"reason\":\"new slots\"}").await;
    assert_eq!((status, &moved), (StatusCode::OK, &json!({ "view": "counts", "from": 1, "to": 2, "switched": true })));
    for again in ["{}", "{\"expected\":1}"] {
        let (status, again) = world.post("/v1/admin/views/counts/switch", "application/json", again).await;
        assert_eq!((status, &again["switched"]), (StatusCode::OK, &json!(false)), "{again}");
    }
    let (_, history) = world.get("/v1/admin/history?view=counts&limit=1").await;
    assert_eq!(history["history"][0]["reason"], "new slots");
    let (status, mistaken) = world.post("/v1/admin/views/counts/switch", "application/json", "{\"expected\":7}").await;
    assert_eq!((status, &mistaken["active"]), (StatusCode::CONFLICT, &json!(2)), "that one was never replaced: {mistaken}");
    world.catalogue.switch("counts", Some(Version(2)), Version(1), "ann", None).unwrap();
    let (status, back) = world.post("/v1/admin/views/counts/switch", "application/json", "{\"expected\":2}").await;
    assert_eq!(
        (status, &back["active"]),
        (StatusCode::CONFLICT, &json!(1)),
        "that is no switch that was made, but one that was taken back: {back}"
    );
    world.catalogue.switch("counts", Some(Version(1)), Version(2), "ann", None).unwrap();
    let third = world.version(COUNTS, "bob", &[10], &at([1, 1]));
    let (status, again) = world.post("/v1/admin/views/counts/switch", "application/json", "{\"expected\":1}").await;
    assert_eq!((status, &again["switched"]), (StatusCode::OK, &json!(false)), "made before, whatever is being built: {again}");
    world.catalogue.set_state("counts", third, &[VersionState::Building], VersionState::CaughtUp, "test").unwrap();
    let (status, late) = world.post("/v1/admin/views/counts/switch", "application/json", "{\"expected\":1}").await;
    assert_eq!((status, &late["active"]), (StatusCode::CONFLICT, &json!(2)), "{late}");
}

#[tokio::test]
async fn a_replay_without_a_definition_takes_the_declared_one_and_a_wrong_one_is_refused_with_its_place() {
    let world = world(open());
    let (status, answer) = world.post("/v1/admin/views/counts/replay", "application/json", "{}").await;
    assert_eq!((status, &answer["version"]), (StatusCode::ACCEPTED, &json!(1)), "{answer}");
    let body = json!({ "sql": COUNTS.replace("username, tumble", "usrname, tumble"), "file": "new.sql" });
    let (status, answer) = world.post("/v1/admin/views/counts/replay", "application/json", body.to_string()).await;
    assert_eq!((status, &answer["type"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("urn:refold:problem:view")));
    assert!(answer["detail"].as_str().unwrap().starts_with("new.sql:3:"), "{answer}");
    let body = json!({ "sql": COUNTS.replace("VIEW counts", "VIEW other") });
    let (status, answer) = world.post("/v1/admin/views/counts/replay", "application/json", body.to_string()).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(answer["detail"].as_str().unwrap().contains("defines view other, not counts"));
    let (status, answer) = world.post("/v1/admin/views/counts/replay", "application/json", "{\"sqll\":\"\"}").await;
    assert_eq!((status, answer["detail"].as_str().unwrap().contains("sqll")), (StatusCode::BAD_REQUEST, true));
}

#[tokio::test]
async fn administration_needs_the_token_and_is_closed_without_one_where_others_reach_it() {
    let with_token = world(ApiSettings { access: with_token(), ..open() });
    let request = |token: Option<&str>| {
        let request = Request::get("/v1/admin/status");
        let request =
            token.map_or(Request::get("/v1/admin/status"), |token| request.header(header::AUTHORIZATION, format!("Bearer {token}")));
        request.body(Body::empty()).unwrap()
    };
    let (status, headers, _) = with_token.answer(request(None)).await;
    assert_eq!((status, &headers[header::WWW_AUTHENTICATE]), (StatusCode::UNAUTHORIZED, &"Bearer".parse().unwrap()));
    assert_eq!(with_token.answer(request(Some("guess"))).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(with_token.answer(request(Some("secret"))).await.0, StatusCode::OK);
    assert_eq!(with_token.get("/v1/views").await.0, StatusCode::OK, "reading needs none");
    let closed = world(ApiSettings { access: AccessSettings::default(), ..open() });
    let (status, _, answer) = closed.answer(request(None)).await;
    assert_eq!((status, answer["detail"].as_str().unwrap().contains("REFOLD_TOKEN")), (StatusCode::FORBIDDEN, true));
}

#[tokio::test]
async fn a_page_of_another_site_changes_nothing() {
    let world = world(open());
    let post = |origin: &str| {
        let request = Request::post("/v1/sources/tweets/events").header(header::HOST, "127.0.0.1:7070").header(header::ORIGIN, origin);
        request.body(Body::from("{\"username\":\"ann\",\"timestamp\":0}")).unwrap()
    };
    assert_eq!(world.answer(post("https://evil.example")).await.0, StatusCode::FORBIDDEN);
    assert_eq!(world.answer(post("http://127.0.0.1:7070")).await.0, StatusCode::OK);
}
