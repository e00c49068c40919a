//! What the API answers over a real connection to the program itself, without a token.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use refold_api::records;
use refold_collector::Encoder;
use refold_processor::clock::SystemClock;
use refold_processor::decode::derived_id;
use refold_processor::log::embedded::{EmbeddedLog, EmbeddedLogSettings};
use refold_processor::log::{Log, NewRecord};
use refold_processor::source::load_sources;
use refold_tests::events::Events;
use refold_tests::http::{get, post_lines, send, wait_until};
use refold_tests::program::{Program, free_port, root};
use serde_json::{Value, json};

/// 2024-01-01T00:00:00Z: far behind every clock, so that nothing is from the future.
pub const NEW_YEAR_MS: i64 = 1_704_067_200_000;
const MINUTE_MS: i64 = 60_000;

/// A running `refold up` with nothing in its log, and every view in service.
pub fn up(data: &Path, arguments: &[&str]) -> Program {
    up_over(&root().join("schemas"), data, arguments)
}

/// The same over a folder of declarations.
pub fn up_over(schemas: &Path, data: &Path, arguments: &[&str]) -> Program {
    let mut program = Program::start_over(schemas, data, free_port(), arguments);
    let said = || std::fs::read_to_string(data.join("stderr.log")).unwrap();
    assert!(program.wait_until_up(), "{}", said());
    wait_until("every view is in service", || get(&format!("{}/readyz", program.url)).status == 200);
    program
}

/// A post of the sample source, as a line.
pub fn post(user: u64, time_ms: i64, text: &str) -> String {
    json!({ "userid": user, "username": "ann", "timestamp": time_ms, "tweetid": time_ms, "tweet": text }).to_string() + "\n"
}

/// The counts of a hashtag's rows, newest first.
pub fn counts(url: &str, hashtag: &str) -> Vec<u64> {
    let rows = get(&format!("{url}/v1/views/hashtag_counts/rows?hashtag={hashtag}&limit=1000")).is(200).json["rows"].clone();
    rows.as_array().unwrap().iter().map(|row| row["occurrences"].as_u64().unwrap()).collect()
}

/// Slots of five minutes with 1, 2, … posts, all by one user.
fn posts_in_slots(slots: u64) -> String {
    let in_slot = |slot: u64| (0..=slot).map(move |number| (slot as i64 * 5 * MINUTE_MS) + number as i64 * 1_000);
    (0..slots).flat_map(in_slot).map(|time_ms| post(7, NEW_YEAR_MS + time_ms, "about #rust")).collect()
}

/// More senders than there is room for at once stop in mid-body.
#[test]
fn who_sends_too_slowly_does_not_keep_others_out() {
    let data = tempfile::tempdir().unwrap();
    let program = up(data.path(), &["--ingest-requests", "2"]);
    let address = program.url.strip_prefix("http://").unwrap();
    let head =
        "POST /v1/sources/tweets/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\ncontent-length: 1000\r\n\r\n{";
    let mut stalled: Vec<TcpStream> = (0..4).map(|_| TcpStream::connect(address).unwrap()).collect();
    stalled.iter_mut().for_each(|sender| sender.write_all(head.as_bytes()).unwrap());
    std::thread::sleep(std::time::Duration::from_millis(300));
    post_lines(&program.url, "tweets", &posts_in_slots(1)).is(200);
    let mut answer = String::new();
    stalled[0].read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("send it in parts"), "{answer}");
}

#[test]
fn views_say_what_they_declare_and_how_fresh_they_are() {
    let data = tempfile::tempdir().unwrap();
    let program = up(data.path(), &[]);
    let url = &program.url;
    let taken = post_lines(url, "tweets", &posts_in_slots(3)).is(200).json;
    wait_until("the rows are there", || counts(url, "rust") == [3, 2, 1]);
    let all = get(&format!("{url}/v1/views")).is(200).json;
    let names: Vec<&Value> = all["views"].as_array().unwrap().iter().map(|view| &view["view"]).collect();
    assert_eq!(names, ["hashtag_counts", "hashtag_trends"]);
    let view = || get(&format!("{url}/v1/views/hashtag_counts")).is(200).json;
    wait_until("it is told how many were read", || view()["versions"][0]["read"] == 6);
    let view = view();
    assert_eq!((&view["partition_key"], &view["active"]["version"], &view["source"]), (&json!(["hashtag"]), &json!(1), &json!("tweets")));
    assert_eq!(view["rows"], "/v1/views/hashtag_counts/rows?hashtag={hashtag}");
    let version = &view["versions"][0];
    assert_eq!(
        (&version["state"], &version["running"], &version["lag"], &version["read"]),
        (&json!("active"), &json!(true), &json!(0), &json!(6))
    );
    let (partition, position) = taken["positions"].as_object().unwrap().iter().next().unwrap();
    assert_eq!(&version["positions"][partition], position, "a reader can tell that its events are counted");
    get(&format!("{url}/v1/views/nothing")).is_problem(404, "not-found").with_detail("there are: hashtag_counts, hashtag_trends");
}

#[test]
fn rows_are_read_in_pages_between_times_and_of_a_version() {
    let data = tempfile::tempdir().unwrap();
    let program = up(data.path(), &["--rows-default", "50", "--rows-max", "50"]);
    let url = &program.url;
    post_lines(url, "tweets", &posts_in_slots(5)).is(200);
    wait_until("the rows are there", || counts_within(url) == [5, 4, 3, 2, 1]);
    let rows = |parameters: &str| get(&format!("{url}/v1/views/hashtag_counts/rows?{parameters}"));
    let occurrences = |answer: &Value| -> Vec<u64> {
        answer["rows"].as_array().unwrap().iter().map(|row| row["occurrences"].as_u64().unwrap()).collect()
    };

    let first = rows("hashtag=rust&limit=1").is(200).json;
    assert_eq!(first["rows"], json!([{ "hashtag": "rust", "slot": "2024-01-01T00:20:00Z", "occurrences": 5 }]));
    assert_eq!((&first["view"], &first["version"]), (&json!("hashtag_counts"), &json!(1)));
    let (mut paged, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = rows(&format!("hashtag=rust&limit=2{cursor}")).is(200).json;
        paged.extend(occurrences(&page));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(paged, [5, 4, 3, 2, 1]);
    let between = rows("hashtag=rust&from=2024-01-01T00:05:00Z&to=2024-01-01T00:15:00Z").is(200).json;
    assert_eq!(occurrences(&between), [3, 2], "from is included, to is not");
    assert_eq!(occurrences(&rows("hashtag=rust&version=1").is(200).json), [5, 4, 3, 2, 1]);
    assert_eq!(occurrences(&rows("hashtag=nobody").is(200).json), Vec::<u64>::new());

    let missing = rows("").is_problem(400, "parameter").with_detail("parameter hashtag is missing");
    assert_eq!(missing.json["parameters"], json!(["hashtag", "from", "to", "limit", "cursor", "version"]));
    for (parameters, in_detail) in [
        ("hashtg=rust", "there is no parameter hashtg"),
        ("hashtag=rust&limit=1&limit=2", "twice"),
        ("hashtag=rust&from=soon", "from"),
        ("hashtag=rust&limit=0", "limit"),
        ("hashtag=rust&limit=51", "more than 50"),
        ("hashtag=rust&limit=-1", "limit"),
        ("hashtag=rust&version=new", "version"),
    ] {
        rows(parameters).is_problem(400, "parameter").with_detail(in_detail);
    }
    get(&format!("{url}/v1/views/hashtag_trends/rows?slot=yesterday")).is_problem(400, "parameter").with_detail("slot");
    let unknown = rows("hashtag=rust&version=9").is_problem(404, "not-found").with_detail("no version v9");
    assert_eq!(unknown.json["versions"], json!([1]));
    let garbage = "A".repeat(20_000);
    for cursor in ["x", "v1.", "v1.AAAA", "v1.%00%FF", "v4294967296.AAAA", "%F0%9F%A6%80", &format!("v1.{garbage}"), &garbage] {
        let answer = rows(&format!("hashtag=rust&cursor={cursor}"));
        assert!(answer.json["detail"].as_str().unwrap_or("").contains("cursor"), "{cursor}: {answer:?}");
        answer.is_problem(400, "parameter");
    }
}

fn counts_within(url: &str) -> Vec<u64> {
    let rows = get(&format!("{url}/v1/views/hashtag_counts/rows?hashtag=rust&limit=50")).is(200).json["rows"].clone();
    rows.as_array().unwrap().iter().map(|row| row["occurrences"].as_u64().unwrap()).collect()
}

#[test]
fn good_lines_are_kept_and_counted_and_bad_ones_are_refused_by_number() {
    let data = tempfile::tempdir().unwrap();
    let program = up(data.path(), &[]);
    let url = &program.url;
    let lines = format!(
        "{}not json\n{{\"userid\":1}}\n\n{}{{\"userid\":\"x\",\"username\":\"u\",\"timestamp\":0,\"tweetid\":1,\"tweet\":\"t\"}}\n{}",
        post(1, NEW_YEAR_MS, "#kept"),
        post(2, NEW_YEAR_MS, "#kept"),
        post(3, NEW_YEAR_MS, "#kept"),
    );
    let answer = post_lines(url, "tweets", &lines).is(200).json;
    assert_eq!((&answer["written"], &answer["refused_count"]), (&json!(3), &json!(3)), "{answer}");
    let refused: Vec<(u64, &str)> =
        answer["refused"].as_array().unwrap().iter().map(|bad| (bad["line"].as_u64().unwrap(), bad["reason"].as_str().unwrap())).collect();
    assert_eq!(refused, [(2, "not_json"), (3, "missing_field"), (6, "wrong_type")], "lines count from 1, empty ones too");
    wait_until("the good ones are counted", || counts(url, "kept") == [3]);
    let none = post_lines(url, "tweets", "{}\n[]\n").is_problem(422, "events");
    assert_eq!(none.json["refused_count"], 2);
    assert_eq!(counts(url, "kept"), [3]);
    post_lines(url, "posts", "{}").is_problem(404, "not-found").with_detail("there are: tweets");
}

#[test]
fn encoded_records_are_taken_when_they_decode() {
    let data = tempfile::tempdir().unwrap();
    let program = up(data.path(), &[]);
    let source = load_sources(&root().join("schemas")).unwrap().remove("tweets").unwrap();
    let encoder = Encoder::new(&source, Some(derived_id(&source.schema_json).unwrap())).unwrap();
    let record = |user: u64| encoder.encode(&serde_json::from_str(&post(user, NEW_YEAR_MS, "#avro")).unwrap()).unwrap();
    let mut cut_off = record(2);
    cut_off.value = cut_off.value.slice(..cut_off.value.len() - 3);
    let body = records::encode(&[record(1), cut_off, record(3)]);
    let url = format!("{}/v1/sources/tweets/events", program.url);
    let taken = send("POST", &url, &[("content-type", records::RECORDS)], &body[..]).is(200).json;
    assert_eq!(
        (&taken["written"], &taken["refused"][0]["line"], &taken["refused"][0]["reason"]),
        (&json!(2), &json!(2), &json!("truncated"))
    );
    wait_until("they are counted", || counts(&program.url, "avro") == [2]);
    send("POST", &url, &[("content-type", records::RECORDS)], &body[..body.len() - 1]).is_problem(400, "body").with_detail("record 3");
}

#[test]
fn what_no_route_takes_is_a_problem_document() {
    let data = tempfile::tempdir().unwrap();
    let program = up(data.path(), &["--max-body-mb", "1"]);
    let url = &program.url;
    let events = format!("{url}/v1/sources/tweets/events");
    get(&format!("{url}/v1/nothing")).is_problem(404, "route").with_detail("/openapi.json");
    get(&events).is_problem(405, "method");
    send("DELETE", &format!("{url}/v1/views"), &[], ()).is_problem(405, "method").with_detail("DELETE is not possible at /v1/views");
    get(&format!("{url}/v1/views/%FF")).is_problem(400, "request").with_detail("UTF-8");
    get(&format!("{url}/v1/admin/history?limit=many")).is_problem(400, "request").with_detail("limit");

    let large = post(1, NEW_YEAR_MS, &"x".repeat(2 << 20));
    let too_large = post_lines(url, "tweets", &large).is_problem(413, "too-large").with_detail("more than 1048576 bytes");
    assert_eq!(too_large.json["max_body_bytes"], 1 << 20);
    // Of a length that is not told before.
    let chunked = ureq::SendBody::from_owned_reader(std::io::Cursor::new(large.into_bytes()));
    send("POST", &events, &[("content-type", "application/x-ndjson")], chunked).is_problem(413, "too-large");
    send("POST", &events, &[("content-type", "image/png")], "x").is_problem(415, "media-type");
    send("POST", &events, &[("content-type", "application/x-ndjson"), ("content-encoding", "gzip")], "x").is_problem(415, "media-type");
    send("POST", &format!("{url}/v1/admin/views/hashtag_counts/replay"), &[("content-type", "application/json")], "{\"sqll\":1}")
        .is_problem(400, "body")
        .with_detail("sqll");
    assert_eq!(get(&format!("{url}/healthz")).is(200).json, json!({ "alive": true }));
}

#[test]
fn pages_of_other_sites_change_nothing_and_read_nothing() {
    let data = tempfile::tempdir().unwrap();
    let program = up(data.path(), &[]);
    let url = &program.url;
    let foreign = [("origin", "https://evil.example"), ("content-type", "text/plain")];
    send("POST", &format!("{url}/v1/sources/tweets/events"), &foreign, post(1, NEW_YEAR_MS, "#evil").as_str()).is_problem(403, "origin");
    send("POST", &format!("{url}/v1/admin/views/hashtag_counts/replay"), &foreign, "").is_problem(403, "origin");
    let read = send("GET", &format!("{url}/v1/views"), &foreign[..1], ()).is(200);
    assert_eq!(read.headers.get("access-control-allow-origin"), None, "no browser hands the answer to that page");
    send("OPTIONS", &format!("{url}/v1/views"), &[("origin", "https://evil.example"), ("access-control-request-method", "POST")], ())
        .is_problem(405, "method");
    let rebound = [("host", "evil.example:7070")];
    for path in ["/v1/admin/status", "/v1/views", "/v1/views/hashtag_counts/rows?hashtag=rust", "/readyz"] {
        send("GET", &format!("{url}{path}"), &rebound, ()).is_problem(403, "host");
    }
    let rebound = [("host", "evil.example:7070"), ("origin", "http://evil.example:7070"), ("content-type", "text/plain")];
    send("POST", &format!("{url}/v1/sources/tweets/events"), &rebound, post(1, NEW_YEAR_MS, "#evil").as_str()).is_problem(403, "host");
}

#[test]
fn a_stream_has_the_rows_of_a_partition_then_its_changes_and_goes_on_after_a_switch() {
    let data = tempfile::tempdir().unwrap();
    let mut program = up(data.path(), &[]);
    let url = program.url.clone();
    post_lines(&url, "tweets", &posts_in_slots(2)).is(200);
    wait_until("the rows are there", || counts(&url, "rust") == [2, 1]);
    let live = format!("{url}/v1/views/hashtag_counts/live");
    let stream = Events::open(&format!("{live}?hashtag=rust"));
    let snapshot = stream.expect("snapshot");
    assert_eq!((&snapshot["version"], &snapshot["rows"][0]["occurrences"]), (&json!(1), &json!(2)), "{snapshot}");

    post_lines(&url, "tweets", &post(8, NEW_YEAR_MS, "of no interest: #go")).is(200);
    let taken = post_lines(&url, "tweets", &post(9, NEW_YEAR_MS, "late, but about #rust")).is(200).json;
    let change = stream.expect("change");
    let row = json!({ "hashtag": "rust", "slot": "2024-01-01T00:00:00Z", "occurrences": 2 });
    assert_eq!((&change["view"], &change["version"]), (&json!("hashtag_counts"), &json!(1)));
    assert_eq!((&change["rows"], &change["deleted"]), (&json!([row]), &json!([])), "only what changed of this hashtag");
    let (partition, position) = taken["positions"].as_object().unwrap().iter().next().unwrap();
    assert!(change["positions"][partition].as_u64() >= position.as_u64(), "a reader can tell that its event is counted: {change}");

    send("POST", &format!("{url}/v1/admin/views/hashtag_counts/replay"), &[("content-type", "application/json")], "{}").is(202);
    wait_until("it is built", || get(&format!("{url}/v1/views/hashtag_counts")).json["versions"][1]["state"] == "caught_up");
    send("POST", &format!("{url}/v1/admin/views/hashtag_counts/switch"), &[("content-type", "application/json")], "{}").is(200);
    assert_eq!(stream.expect("switch"), json!({ "view": "hashtag_counts", "from": 1, "to": 2 }));
    let snapshot = stream.expect("snapshot");
    assert_eq!((&snapshot["version"], &snapshot["rows"][1]), (&json!(2), &row));
    post_lines(&url, "tweets", &post(9, NEW_YEAR_MS, "again about #rust")).is(200);
    let change = stream.expect("change");
    assert_eq!((&change["version"], &change["rows"][0]["occurrences"]), (&json!(2), &json!(3)), "{change}");

    get(&format!("{live}?hashtag=rust&from=2024-01-01")).is_problem(400, "parameter").with_detail("parameter from has no meaning");
    get(&live).is_problem(400, "parameter").with_detail("parameter hashtag is missing");
    get(&format!("{live}?hashtag=rust&version=9")).is_problem(404, "not-found");
    assert!(program.stop(), "an open stream keeps nobody from stopping");
    assert!(stream.next().is_none());
}

#[test]
fn health_readiness_and_the_documented_routes_answer() {
    let data = tempfile::tempdir().unwrap();
    let program = up(data.path(), &[]);
    let url = &program.url;
    assert_eq!(get(&format!("{url}/readyz")).is(200).json, json!({ "ready": true, "reasons": [] }));
    let page = get(&format!("{url}/")).is(200);
    assert!(page.headers["content-type"].to_str().unwrap().starts_with("text/html") && page.text.contains("<title>Refold"));

    let documented = get(&format!("{url}/openapi.json")).is(200).json;
    let paths = documented["paths"].as_object().unwrap();
    assert!(paths.len() > 10, "{}", paths.len());
    for (path, methods) in paths {
        let filled = ["{view}", "{source}", "{partition}", "{offset}", "{version}"]
            .iter()
            .zip(["hashtag_counts", "tweets", "0", "0", "1"])
            .fold(path.clone(), |path, (name, value)| path.replace(name, value));
        for method in methods.as_object().unwrap().keys() {
            let answer = send(&method.to_uppercase(), &format!("{url}{filled}"), &[], ());
            let kind = answer.json["type"].as_str().unwrap_or("");
            assert!(!["urn:refold:problem:route", "urn:refold:problem:method"].contains(&kind), "{method} {path}: {answer:?}");
            let content = &methods[method]["responses"][answer.status.to_string()]["content"];
            if answer.status == 200 {
                let content_type = answer.headers["content-type"].to_str().unwrap().split(';').next().unwrap().to_owned();
                assert!(content.get(&content_type).is_some(), "{method} {path} answers with {content_type}");
            }
        }
        if !methods.as_object().unwrap().contains_key("delete") {
            send("DELETE", &format!("{url}{filled}"), &[], ()).is_problem(405, "method");
        }
    }
}

/// What one scrape says: the type of each family, and its samples.
fn scraped(text: &str) -> (BTreeMap<String, String>, Vec<(String, f64)>) {
    let (mut types, mut helped, mut samples) = (BTreeMap::new(), Vec::new(), Vec::new());
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(help.len() > 10, "{line}");
            helped.push(name.to_owned());
        } else if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').unwrap();
            assert_eq!(types.insert(name.to_owned(), kind.to_owned()), None, "{name} is there twice");
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            samples.push((sample.split('{').next().unwrap().to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}"))));
        }
    }
    assert_eq!(types.keys().cloned().collect::<Vec<_>>(), helped, "every family has a help, and they are sorted");
    (types, samples)
}

const OF_LIVE_SOURCES: [&str; 8] = [
    "behind_seconds",
    "connected",
    "gaps_total",
    "received_total",
    "reconnects_total",
    "refused_total",
    "repeated_total",
    "too_large_total",
];

#[test]
fn every_documented_metric_is_scraped_and_every_scraped_one_is_documented() {
    let data = tempfile::tempdir().unwrap();
    // With a source, which has figures of its own.
    let arguments = ["up", "--source", "generate:100?count=10", "--data", data.path().to_str().unwrap()];
    let mut program = Program::start_verb(&arguments, &root().join("schemas"), free_port(), &data.path().join("stderr.log"));
    assert!(program.wait_until_up());
    wait_until("every view is in service", || get(&format!("{}/readyz", program.url)).status == 200);
    let url = &program.url;
    let in_a_day = chrono::Utc::now().timestamp_millis() + 86_400_000;
    post_lines(url, "tweets", &format!("{}{}x\n", post(1, NEW_YEAR_MS, "#a"), post(1, in_a_day, "#b"))).is(200);
    wait_until("they are judged", || get(&format!("{url}/metrics")).text.contains("reason=\"from_the_future\""));
    let answer = get(&format!("{url}/metrics")).is(200);
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let (types, samples) = scraped(&answer.text);

    for (name, kind) in &types {
        assert!(name.starts_with("refold_") && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
        assert_eq!(name.ends_with("_duration_seconds"), kind == "histogram", "{name} is a {kind}");
        for unit in ["_ms", "_us", "_mb", "_kb", "_count", "_sum", "_bucket"] {
            assert!(!name.ends_with(unit), "{name}: base units, and no name that a histogram needs");
        }
        let is_of = |sample: &str| {
            sample == name || (kind == "histogram" && sample.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('_')))
        };
        assert!(samples.iter().any(|(sample, _)| is_of(sample)), "{name} has no sample");
    }
    let documentation = std::fs::read_to_string(root().join("docs/operations/monitoring.md")).unwrap();
    let documented: Vec<String> = documentation
        .lines()
        .filter_map(|line| line.strip_prefix("| `refold_")?.split_once('`'))
        .map(|(name, _)| format!("refold_{}", name.split('{').next().unwrap()))
        .collect();
    // Those of live sources, and of lines by the reason they were refused for, are there once there is something to tell.
    let is_of_others = |name: &String| OF_LIVE_SOURCES.contains(&name.trim_start_matches("refold_collector_"));
    let mut sorted: Vec<String> = documented.into_iter().filter(|name| !is_of_others(name)).collect();
    sorted.sort();
    assert_eq!(sorted, types.into_keys().collect::<Vec<_>>(), "docs/operations/monitoring.md against /metrics");
}

#[test]
fn quarantined_events_are_listed_and_stay_so_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    {
        let log = EmbeddedLog::open(&data.path().join("log"), EmbeddedLogSettings::default(), Arc::new(SystemClock)).unwrap();
        log.create_topic("tweet_feed", 4).unwrap();
        log.append("tweet_feed", vec![NewRecord { key: Some("k".into()), value: "no record".into() }]).unwrap();
    }
    let port = free_port();
    let mut program = Program::start(data.path(), port, &[]);
    assert!(program.wait_until_up());
    let url = program.url.clone();
    wait_until("every view is in service", || get(&format!("{url}/readyz")).status == 200);
    let two_days_ms = 2 * 86_400_000;
    let lines = format!(
        "{}{}{}",
        post(1, NEW_YEAR_MS + two_days_ms, "#now"),
        post(1, NEW_YEAR_MS, "#late"),
        post(1, chrono::Utc::now().timestamp_millis() + two_days_ms, "#early")
    );
    post_lines(&url, "tweets", &lines).is(200);
    let list = |parameters: &str| get(&format!("{url}/v1/views/hashtag_counts/quarantine{parameters}"));
    wait_until("they are judged", || list("").json["records"].as_array().is_some_and(|records| records.len() == 3));

    let all = list("").is(200).json;
    assert_eq!((&all["view"], &all["version"], &all["next_cursor"]), (&json!("hashtag_counts"), &json!(1), &Value::Null));
    assert_eq!(all["quarantined"], json!({ "unknown_framing": 1, "from_the_future": 1, "too_late": 1 }));
    let late = list("?reason=too_late").is(200).json["records"][0].clone();
    assert_eq!((&late["topic"], &late["reason"], &late["truncated"]), (&json!("tweet_feed"), &json!("too_late"), &json!(false)));
    assert_eq!((&late["value"]["tweet"], &late["value"]["timestamp"]), (&json!("#late"), &json!("2024-01-01T00:00:00Z")));
    assert_eq!(late["detail"], "its event time is 2days behind the largest one before it in its partition");
    let taken = chrono::DateTime::parse_from_rfc3339(late["record_time"].as_str().unwrap()).unwrap();
    assert!((chrono::Utc::now() - taken.to_utc()).num_minutes().abs() < 5, "the log's time, not the event's: {late}");
    let foreign = list("?reason=unknown_framing").is(200).json["records"][0].clone();
    assert_eq!((&foreign["value"], &foreign["base64"], &foreign["bytes"]), (&Value::Null, &json!("bm8gcmVjb3Jk"), &json!(9)));
    let one = |record: &Value| get(&format!("{url}/v1/views/hashtag_counts/quarantine/{}/{}", record["partition"], record["offset"]));
    assert_eq!(one(&late).is(200).json, late);
    one(&json!({ "partition": late["partition"], "offset": 999 })).is_problem(404, "not-found").with_detail("999");

    let first = list("?limit=2").is(200).json;
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = list(&format!("?limit=2&cursor={cursor}")).is(200).json;
    let joined: Vec<&Value> = [&first, &second].iter().flat_map(|page| page["records"].as_array().unwrap()).collect();
    assert_eq!(joined, all["records"].as_array().unwrap().iter().collect::<Vec<_>>());
    list("?version=2").is_problem(404, "not-found").with_detail("no version v2");
    list("?reason=late").is_problem(400, "parameter").with_detail("late_after_idle");
    list(&format!("?cursor={}", "9".repeat(20_000))).is_problem(400, "parameter").with_detail("cursor");
    list("?limit=1001").is_problem(400, "parameter").with_detail("1000");

    program.kill();
    let mut program = Program::start(data.path(), port, &[]);
    assert!(program.wait_until_up());
    wait_until("the version runs again", || list("").status == 200);
    assert_eq!(list("").json["records"], all["records"]);
    assert!(program.stop());
}

#[test]
fn a_source_keeps_its_topic_for_as_long_as_it_says_itself() {
    let (data, schemas) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::create_dir(schemas.path().join("events")).unwrap();
    std::fs::copy(root().join("schemas/events/tweet.avsc"), schemas.path().join("events/tweet.avsc")).unwrap();
    let source = |name: &str, more: &str| {
        format!("[sources.{name}]\ntopic = \"{name}\"\nschema = \"tweet\"\nevent_time = \"timestamp\"\npartitions = 1\n{more}\n")
    };
    let sources = format!("{}{}", source("short", "retention_bytes = 1"), source("long", ""));
    std::fs::write(schemas.path().join("sources.toml"), sources).unwrap();
    let program = up_over(schemas.path(), data.path(), &["--maintain-interval-ms", "1000"]);
    let status = || get(&format!("{}/v1/admin/status", program.url)).is(200).json["sources"].clone();
    let start = |name: &str| {
        let sources = status();
        let source = sources.as_array().unwrap().iter().find(|source| source["source"] == name).unwrap().clone();
        (source["partitions"]["0"]["start"].as_u64().unwrap(), source["partitions"]["0"]["end"].as_u64().unwrap())
    };
    for name in ["short", "long"] {
        for number in 0..3 {
            post_lines(&program.url, name, &post(1, NEW_YEAR_MS + number, "#x").repeat(10)).is(200);
        }
    }
    wait_until("the short one has lost its oldest events", || start("short") == (20, 30));
    assert_eq!(start("long"), (0, 30));
}
