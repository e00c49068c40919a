//! One line for each thing that matters, with the way out.

use super::*;

fn item<'a>(health: &'a Value, kind: &str, name: &str) -> &'a Value {
    let items = health["items"].as_array().unwrap();
    items.iter().find(|item| item["kind"] == kind && item["name"] == name).unwrap_or_else(|| panic!("no {kind} {name}: {health}"))
}

#[tokio::test]
async fn everything_is_told_in_words_with_since_when_and_the_way_out() {
    let world = world(open());
    let version = world.version(COUNTS, "ann", &[1], &at([5, 7]));
    world.serve(version);
    let run = RunStatus { view: "counts".into(), version: Some(version), topic: "tweet_feed".into(), lag: 3, ..RunStatus::default() };
    world.told.statuses.lock().push(RunStatus { quarantined: [("too_late".to_owned(), 2)].into(), ..run });
    let (status, health) = world.get("/v1/health").await;
    assert_eq!((status, &health["state"]), (StatusCode::OK, &json!("ok")), "{health}");
    for (kind, name) in
        [("catalogue", "catalogue"), ("log", "log"), ("store", "store"), ("source", "tweets"), ("worker", "worker"), ("view", "counts")]
    {
        let item = item(&health, kind, name);
        assert_eq!((&item["state"], &item["hint"]), (&json!("ok"), &Value::Null), "{item}");
        assert_eq!(item["since"], "1970-01-01T00:00:00Z");
    }
    let values = &item(&health, "source", "tweets")["values"];
    assert_eq!((&values["lag"], &values["quarantined"]), (&json!(3), &json!({ "too_late": 2 })));
    assert_eq!(item(&health, "worker", "worker")["values"]["versions"], json!(["counts v1"]));

    world.clock.advance_ms(LEASE_MS + 5_000);
    let (_, health) = world.get("/v1/health").await;
    assert_eq!(health["state"], "degraded");
    let (unowned, view) = (item(&health, "worker", "none"), item(&health, "view", "counts"));
    assert_eq!((&unowned["state"], &view["state"]), (&json!("warning"), &json!("warning")));
    assert!(unowned["detail"].as_str().unwrap().contains("nobody runs counts v1"), "{unowned}");
    assert!(unowned["hint"].as_str().unwrap().contains("start refold process"), "{unowned}");
    assert_eq!(view["since"], "1970-01-01T00:00:15Z", "since it is so");
    assert!(view["detail"].as_str().unwrap().starts_with("version v1 is run by no worker"), "{view}");
    world.take(version, "worker", LEASE_MS);
    let (_, health) = world.get("/v1/health").await;
    assert_eq!(health["state"], "ok", "{health}");
}

#[tokio::test]
async fn a_source_says_how_fast_it_grows() {
    let world = world(open());
    drop(world.state.watch.ends.look());
    world.log.append("tweet_feed", vec![NewRecord { key: None, value: "x".into() }; 40]).unwrap();
    world.clock.advance_ms(2_000);
    drop(world.state.watch.ends.look());
    let (_, health) = world.get("/v1/health").await;
    let values = &item(&health, "source", "tweets")["values"];
    assert_eq!((&values["events_per_s"], &values["events"]), (&json!(20.0), &json!(40)), "{health}");
}

#[tokio::test]
async fn a_view_that_cannot_be_read_at_all_is_down() {
    let world = world(open());
    world.version(COUNTS, "ann", &[1], &at([1, 1]));
    let (_, health) = world.get("/v1/health").await;
    assert_eq!((&health["state"], &item(&health, "view", "counts")["state"]), (&json!("down"), &json!("error")));
    assert!(item(&health, "view", "counts")["hint"].as_str().unwrap().contains("refold status counts"));
}
