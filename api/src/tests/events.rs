//! Events that are posted: taken once, refused by line, and waiting for the history of their source.

use super::*;

#[tokio::test]
async fn good_lines_are_kept_and_bad_ones_refused_by_number() {
    let world = world(open());
    let body = "{\"username\":\"ann\",\"timestamp\":0}\nnot json\n\n{\"username\":\"bob\"}\n{\"username\":\"ann\",\"timestamp\":\"1970-01-01T00:00:01Z\"}\n";
    let (status, answer) = world.post("/v1/sources/tweets/events", "application/x-ndjson", body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!((&answer["written"], &answer["refused_count"]), (&json!(2), &json!(2)));
    let lines: Vec<_> =
        answer["refused"].as_array().unwrap().iter().map(|refused| (refused["line"].clone(), refused["reason"].clone())).collect();
    assert_eq!(lines, [(json!(2), json!("not_json")), (json!(4), json!("missing_field"))]);
    let (partition, position) = answer["positions"].as_object().unwrap().iter().next().unwrap();
    let bounds = world.log.bounds("tweet_feed", Partition(partition.parse().unwrap())).unwrap();
    assert_eq!((position.as_u64(), answer["positions"].as_object().unwrap().len()), (Some(bounds.end.0), 1), "one author, one partition");
}

#[tokio::test]
async fn events_wait_while_the_history_of_their_source_is_written() {
    let world = world(open());
    let post = r#"{"username": "ann", "timestamp": 0}"#;
    world.collected.note_at_present(false, 0);
    let (status, problem) = world.post("/v1/sources/tweets/events", "application/x-ndjson", post).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        problem["detail"],
        "generate:1 is still writing its history into the log of tweets (0 events so far); try again in some seconds"
    );
    world.collected.note_at_present(true, -60_000);
    let (status, _) = world.post("/v1/sources/tweets/events", "application/x-ndjson", post).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "nothing was heard of it for a minute");
    world.collected.note_at_present(true, 0);
    let (status, answer) = world.post("/v1/sources/tweets/events", "application/x-ndjson", post).await;
    assert_eq!((status, &answer["written"]), (StatusCode::OK, &json!(1)), "{answer}");
}

#[tokio::test]
async fn the_same_events_sent_again_are_taken_once() {
    let world = world(open());
    let line = |second| format!("{{\"username\":\"ann\",\"timestamp\":\"1970-01-01T00:00:0{second}Z\"}}\n");
    let send =
        async |query: &str, body: String| world.post(&format!("/v1/sources/tweets/events{query}"), "application/x-ndjson", body).await;
    let (_, before) = send("", line(0)).await;
    let (partition, position) = before["positions"].as_object().unwrap().iter().next().unwrap();
    let since = format!("?since={partition}:{position}");
    // Two equal events are two, and those that another sent before count as nobody's.
    let body = [line(1), line(1), line(0)].concat();
    let (_, first) = send(&since, body.clone()).await;
    assert_eq!((&first["written"], &first["already_there"]), (&json!(3), &json!(0)), "{first}");
    let (_, again) = send(&since, body.clone() + &line(2)).await;
    assert_eq!((&again["written"], &again["already_there"]), (&json!(1), &json!(3)), "{again}");
    let (_, all) = send(&since, body).await;
    assert_eq!((&all["written"], &all["already_there"]), (&json!(0), &json!(3)), "{all}");
    assert_eq!(all["positions"], first["positions"], "past the events that were sent, wherever the log ends by now");
    let (_, source) = world.get("/v1/sources/tweets").await;
    assert_eq!(source["partitions"][partition]["end"], 5, "{source}");
    assert_eq!(world.get("/v1/sources").await.1["sources"], json!([source]));
    for (query, status, kind) in [
        ("?since=0:9", StatusCode::CONFLICT, "past-end"),
        ("?since=0", StatusCode::BAD_REQUEST, "parameter"),
        ("?since=", StatusCode::BAD_REQUEST, "parameter"),
        ("?since=0:1,0:2", StatusCode::BAD_REQUEST, "parameter"),
        ("?since=9:0", StatusCode::BAD_REQUEST, "parameter"),
        ("?until=0:9", StatusCode::BAD_REQUEST, "request"),
    ] {
        let (answered, problem) = send(query, line(3)).await;
        assert_eq!((answered, &problem["type"]), (status, &json!(format!("urn:refold:problem:{kind}"))), "{query}: {problem}");
    }
}

/// A client that gave up and asks anew, while its first request is still under way.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_events_sent_at_once_are_taken_once() {
    let world = world(open());
    for round in 0..100 {
        let body = format!("{{\"username\":\"ann\",\"timestamp\":{round}}}\n").repeat(20);
        let send = || world.post("/v1/sources/tweets/events?since=0:0,1:0", "application/x-ndjson", body.clone());
        let answers = futures::future::join_all((0..4).map(|_| send())).await;
        let mut written: Vec<_> = answers.iter().map(|(_, answer)| answer["written"].as_u64()).collect();
        written.sort_unstable();
        assert_eq!(written, [Some(0), Some(0), Some(0), Some(20)], "{answers:?}");
    }
}

#[tokio::test]
async fn a_body_without_a_good_line_is_a_problem_and_changes_nothing() {
    let world = world(open());
    let (status, answer) = world.post("/v1/sources/tweets/events", "application/x-ndjson", "[]\n").await;
    assert_eq!((status, &answer["refused"][0]["reason"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("not_an_object")));
    let (status, answer) = world.post("/v1/sources/tweets/events", "application/x-ndjson", "x".repeat(5 << 10)).await;
    assert_eq!((status, &answer["max_body_bytes"]), (StatusCode::PAYLOAD_TOO_LARGE, &json!(4 << 10)));
    let (status, _) = world.post("/v1/sources/tweets/events", "image/png", "x").await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let (status, answer) = world.post("/v1/sources/posts/events", "application/x-ndjson", "{}").await;
    assert_eq!((status, &answer["sources"]), (StatusCode::NOT_FOUND, &json!(["tweets"])));
    let ends: u64 = [0, 1].iter().map(|partition| world.log.bounds("tweet_feed", Partition(*partition)).unwrap().end.0).sum();
    assert_eq!(ends, 0);
}

#[tokio::test]
async fn encoded_records_are_decoded_before_they_are_taken() {
    let world = world(open());
    let encoder = refold_collector::Encoder::new(&tweets(), Some(1)).unwrap();
    let good = encoder.encode(&json!({ "username": "ann", "timestamp": 0 })).unwrap();
    let mut bad = good.clone();
    bad.value = bad.value.slice(..bad.value.len() - 1);
    let (status, answer) = world.post("/v1/sources/tweets/events", records::RECORDS, records::encode(&[bad.clone(), good])).await;
    assert_eq!((status, &answer["written"]), (StatusCode::OK, &json!(1)), "{answer}");
    assert_eq!((&answer["refused"][0]["line"], &answer["refused"][0]["reason"]), (&json!(1), &json!("truncated")));
    let (status, _) = world.post("/v1/sources/tweets/events", records::RECORDS, records::encode(&[bad])).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let (status, answer) = world.post("/v1/sources/tweets/events", records::RECORDS, vec![0_u8, 0, 0]).await;
    assert_eq!((status, answer["detail"].as_str().unwrap().contains("record 1")), (StatusCode::BAD_REQUEST, true));
}
