//! Live sources: each message is in the log once, whatever the server and the collector go through.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use refold_tests::command::{Said, command, refold, run, text};
use refold_tests::http::{get, wait_until};
use refold_tests::live_server::{Asked, Cut, LiveServer, begin, chunks, respond};
use refold_tests::program::{Program, free_port};
use serde_json::{Value, json};

/// How many messages the misbehaving server has.
const MESSAGES: u64 = 2_000;

const SCHEMA: &str = r#"{"type": "record", "name": "event", "fields": [
    {"name": "id", "type": "string"}, {"name": "n", "type": "long"}, {"name": "kind", "type": "string"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}"#;

/// An application for made-up messages, with streams that are declared by this text.
fn application(folder: &Path, streams: &str) {
    std::fs::create_dir_all(folder.join("events")).unwrap();
    std::fs::create_dir_all(folder.join("views")).unwrap();
    std::fs::write(folder.join("events/event.avsc"), SCHEMA).unwrap();
    let sources = "[sources.events]\ntopic = \"events\"\nschema = \"event\"\nevent_time = \"at\"\nkey = \"id\"\n\
                   [mappings.made_up]\nsource = \"events\"\nskip = { kind = \"canary\" }\n[mappings.made_up.fields]\nid = { from = \"meta.id\" }\n";
    std::fs::write(folder.join("sources.toml"), format!("{sources}{streams}")).unwrap();
    let view = "CREATE MATERIALIZED VIEW times WITH (partition_key = 'kind', clustering = 'id', unbounded = true) AS \
                SELECT kind, id, count(*) AS times FROM events GROUP BY kind, id";
    std::fs::write(folder.join("views/times.sql"), view).unwrap();
}

/// Everything in one process, with a source, once every view is in service.
fn up_with(schemas: &Path, data: &Path, source: &str) -> Program {
    std::fs::create_dir_all(data).unwrap();
    let said = data.join("stderr.log");
    let mut program = Program::start_verb(&["up", "--source", source, "--data", text(data)], schemas, free_port(), &said);
    assert!(program.wait_until_up(), "{}", std::fs::read_to_string(said).unwrap());
    wait_until("every view is in service", || get(&format!("{}/readyz", program.url)).status == 200);
    program
}

fn message(number: u64) -> String {
    let kind = if number % 50 == 7 { "canary" } else { "real" };
    json!({ "meta": { "id": format!("m{number}") }, "n": number, "at": 1_700_000_000_000_u64 + number, "kind": kind }).to_string()
}

/// The ids in the log, and how often each is there.
fn times(program: &Program) -> Vec<(String, u64)> {
    let rows = get(&format!("{}/v1/views/times/rows?kind=real&limit=10000", program.url)).is(200).json["rows"].clone();
    let mut times: Vec<(String, u64)> =
        rows.as_array().unwrap().iter().map(|row| (row["id"].as_str().unwrap().to_owned(), row["times"].as_u64().unwrap())).collect();
    times.sort();
    times
}

fn expected() -> Vec<(String, u64)> {
    let mut expected: Vec<(String, u64)> =
        (0..MESSAGES).filter(|number| number % 50 != 7).map(|number| (format!("m{number}"), 1)).collect();
    expected.sort();
    expected
}

/// From where a connection sends: behind the cursor, or a little before it, or at it.
fn from(cursor: Option<&str>) -> u64 {
    let next = cursor.map_or(0, |cursor| cursor.parse::<u64>().unwrap() + 1);
    next.saturating_sub(rand::random_range(0..20))
}

/// What a connection does before it lets anything through; `true`: it is over.
fn refuses(stream: &mut TcpStream) -> bool {
    let (status, headers) = match rand::random_range(0..10) {
        0 => (503, ""),
        1 => (429, "retry-after: 0\r\n"),
        2 => (500, ""),
        _ => return false,
    };
    respond(stream, status, headers, "not now");
    true
}

/// A body in which messages are as `framed` writes them; it is cut at any byte, stalls, or has rubbish in it, and reaches the end now and then.
fn body(stream: &mut TcpStream, content_type: &str, from: u64, framed: impl Fn(u64) -> String) {
    begin(stream, content_type);
    let until = (from + rand::random_range(20..600)).min(MESSAGES);
    let mut text: Vec<u8> = (from..until).flat_map(|number| framed(number).into_bytes()).collect();
    let stalls = rand::random_range(0..4) == 0;
    if until < MESSAGES {
        text.truncate(text.len() - rand::random_range(0..60));
    }
    // Slowly, so that collectors are killed in its middle.
    for part in text.chunks(2_000) {
        if !chunks(stream, part, rand::random_range(1..900)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    if until == MESSAGES || stalls {
        std::thread::sleep(Duration::from_secs(if until == MESSAGES { 30 } else { 2 }));
    }
}

fn sse(asked: Asked, mut stream: TcpStream) {
    if refuses(&mut stream) {
        return;
    }
    let from = from(asked.header("last-event-id"));
    body(&mut stream, "text/event-stream", from, |number| {
        format!(":sign\nid: {number}\nevent: message\ndata: {}\r\n\r\n", message(number))
    });
}

fn lines(asked: Asked, mut stream: TcpStream) {
    if refuses(&mut stream) {
        return;
    }
    let from = from(asked.parameter("since"));
    body(&mut stream, "application/x-ndjson", from, |number| format!("\r\n{}\r\n", message(number)));
}

fn websocket(asked: Asked, mut stream: TcpStream) {
    if refuses(&mut stream) {
        return;
    }
    let from = from(asked.parameter("cursor"));
    let left = if rand::random() { usize::MAX } else { rand::random_range(200..60_000) };
    let Ok(mut socket) = tungstenite::accept(Cut { stream, left }) else { return };
    for number in from..MESSAGES {
        if socket.send(tungstenite::Message::text(message(number))).is_err() {
            return;
        }
        if number % 20 == 0 {
            std::thread::sleep(Duration::from_millis(15));
        }
    }
    // The rest of a stream in which nothing happens: pings are answered.
    while socket.read().is_ok() {}
}

/// Collects from a misbehaving server, killed again and again, until all is there; then counts.
fn survives(stream: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (schemas, data) = (folder.path().join("schemas"), folder.path().join("data"));
    let impatient = "least_pause = \"10 ms\"\nlongest_pause = \"50 ms\"\nsilence = \"1 second\"\n";
    application(&schemas, &format!("[streams.made_up]\nid = \"meta.id\"\n{impatient}{stream}"));
    let collect = || command(&["collect", "stream:made_up", "--schemas", text(&schemas), "--data", text(&data), "--json"]);
    let began = Instant::now();
    let mut kills = 0;
    while began.elapsed() < Duration::from_secs(4) {
        let mut child = collect().spawn().unwrap();
        std::thread::sleep(Duration::from_millis(rand::random_range(100..700)));
        assert_eq!(child.try_wait().unwrap(), None, "a live source does not end");
        child.kill().unwrap();
        let said = Said::of(child.wait_with_output().unwrap());
        assert!(!said.err.contains("panicked"), "{said:#?}");
        kills += 1;
    }
    assert!(kills > 3);
    let program = up_with(&schemas, &data, "stream:made_up");
    wait_until("all messages are there", || times(&program).len() == expected().len());
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(times(&program), expected());
}

#[test]
fn events_of_a_server_that_misbehaves_are_there_once_however_often_the_collector_is_killed() {
    let server = LiveServer::start(sse);
    survives(&format!("url = \"{}/stream\"\nprotocol = \"sse\"\n", server.url("http")));
}

#[test]
fn lines_of_a_server_that_misbehaves_are_there_once_however_often_the_collector_is_killed() {
    let server = LiveServer::start(lines);
    survives(&format!("url = \"{}/stream\"\nprotocol = \"lines\"\ncursor = \"n\"\nresume = {{ query = \"since\" }}\n", server.url("http")));
}

#[test]
fn messages_of_a_websocket_that_misbehaves_are_there_once_however_often_the_collector_is_killed() {
    let server = LiveServer::start(websocket);
    survives(&format!("url = \"{}/stream\"\ncursor = \"n\"\nresume = {{ query = \"cursor\" }}\n", server.url("ws")));
}

/// A server that is not there: the process serves, and says what it waits for.
#[test]
fn a_source_that_is_down_is_waited_for_in_words_while_the_rest_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let (schemas, data) = (folder.path().join("schemas"), folder.path().join("data"));
    let url = LiveServer::start(|asked, mut stream| {
        assert_eq!(asked.header("authorization"), Some("Bearer very-secret"));
        respond(&mut stream, 401, "", "bad token");
    })
    .url("http");
    std::fs::create_dir_all(&schemas).unwrap();
    let token = schemas.join("token");
    std::fs::write(&token, "very-secret\n").unwrap();
    let headers = format!("headers = {{ Authorization = \"Bearer ${{file:{}}}\" }}", token.display());
    application(&schemas, &format!("[streams.made_up]\nurl = \"{url}\"\nprotocol = \"sse\"\n{headers}\n"));
    let program = up_with(&schemas, &data, "stream:made_up");
    let source = || {
        let health = get(&format!("{}/v1/health", program.url)).json;
        health["items"].as_array().unwrap().iter().find(|item| item["kind"] == "source").cloned().unwrap_or_default()
    };
    wait_until("it says what it waits for", || {
        source()["detail"].as_str().unwrap_or("").contains("refuses the token or password (401): bad token")
    });
    assert_eq!(source()["state"], "error", "{}", source());
    let metrics = get(&format!("{}/metrics", program.url)).text;
    assert!(metrics.contains("refold_collector_connected 0") && metrics.contains("refold_collector_received_total 0"), "{metrics}");
    let said = std::fs::read_to_string(data.join("stderr.log")).unwrap();
    assert!(said.contains("401") && !said.contains("very-secret"), "{said}");
}

/// A dry run of a source by name against this server.
fn printed(spec: &str, schemas: &str, count: usize, environment: &[(&str, &str)]) -> (Vec<Value>, String) {
    let count = count.to_string();
    let mut collect = command(&["collect", spec, "--schemas", schemas, "--print", &count]);
    collect.envs(environment.iter().copied());
    let said = run(&mut collect).ends(0).complains("nothing was written");
    (said.objects(), said.err)
}

fn event(stream: &mut TcpStream, id: &str, data: &str) {
    chunks(stream, format!("event: message\nid: {id}\ndata: {data}\n\n").as_bytes(), 1000);
}

#[test]
fn wikimedia_is_told_who_asks_and_its_canaries_are_left_out() {
    let server = LiveServer::start(|asked, mut stream| {
        if !asked.header("user-agent").is_some_and(|agent| agent.starts_with("refold/") && agent.contains("me@example.org")) {
            return respond(&mut stream, 403, "", "say who you are");
        }
        let change = |uuid: &str, domain: &str, kind: &str| {
            let meta = json!({ "id": uuid, "dt": "2026-11-30T12:00:00.123Z", "domain": domain });
            let length = json!({ "old": null, "new": 5 });
            json!({ "meta": meta, "id": null, "type": kind, "title": "T", "namespace": 0, "wiki": "enwiki", "bot": false, "length": length }).to_string()
        };
        begin(&mut stream, "text/event-stream");
        chunks(&mut stream, b":ok\n\n", 9);
        event(&mut stream, "[]", &change("c", "canary", "edit"));
        event(&mut stream, "[]", &change("a", "en.wikipedia.org", "new"));
        event(&mut stream, "[]", &change("l", "en.wikipedia.org", "log"));
        event(&mut stream, "[]", &change("a", "en.wikipedia.org", "new"));
        event(&mut stream, "[]", &change("b", "en.wikipedia.org", "edit"));
        std::thread::sleep(Duration::from_secs(20));
    });
    let spec = format!("wikimedia?url={}/v2/stream/recentchange&contact=me@example.org", server.url("http"));
    let (events, said) = printed(&spec, "apps/wikipedia", 2, &[]);
    let ids: Vec<&str> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["a", "b"], "{said}");
    assert_eq!(events[0]["bytes_after"], 5);
    assert!(said.contains("1 left out: not type = \"edit\" or \"new\""), "{said}");
}

#[test]
fn bluesky_posts_are_posts_of_the_sample_and_of_an_application_of_their_own() {
    let server = LiveServer::start(|asked, stream| {
        assert!(asked.path.contains("wantedCollections=app.bsky.feed.post"), "{asked:?}");
        let Ok(mut socket) = tungstenite::accept(stream) else { return };
        let commit = |rkey: &str, operation: &str| {
            let facets = json!([{ "features": [{ "tag": "Rust" }, { "uri": "u" }] }]);
            let record = json!({ "text": "hi #Rust", "langs": ["en"], "createdAt": "2026-11-30T12:00:00Z", "facets": facets });
            let commit = json!({ "rev": "r", "operation": operation, "collection": "app.bsky.feed.post", "rkey": rkey, "record": record });
            json!({ "did": "did:plc:a", "time_us": 1_700_000_000_000_001_u64, "kind": "commit", "commit": commit }).to_string()
        };
        let account = json!({ "did": "did:plc:a", "time_us": 1_700_000_000_000_002_u64, "kind": "account", "account": {} }).to_string();
        for text in [commit("1", "create"), account, commit("1", "create"), commit("1", "delete"), "{broken".into(), commit("2", "create")]
        {
            let _ = socket.send(tungstenite::Message::text(text));
        }
        while socket.read().is_ok() {}
    });
    let spec = format!("bluesky?url={}/subscribe", server.url("ws"));
    let (events, said) = printed(&spec, "schemas", 2, &[]);
    assert_eq!((events[0]["tweet"].as_str(), events[0]["timestamp"].as_i64()), (Some("hi #Rust"), Some(1_700_000_000_000)), "{said}");
    assert_ne!(events[0]["tweetid"], events[1]["tweetid"]);
    assert!(said.contains("not_json") && said.contains("1 left out: not commit.collection = \"app.bsky.feed.post\""), "{said}");
    let (events, _) = printed(&spec, "apps/bluesky", 2, &[]);
    assert_eq!((&events[0]["tags"], &events[0]["langs"]), (&json!(["Rust"]), &json!(["en"])));
}

#[test]
fn mastodon_brings_posts_as_text_and_those_of_a_gap() {
    let status = |number: u64, text: &str| {
        let account = json!({ "id": "1", "acct": "ann" });
        let uri = format!("https://h/{number}");
        json!({ "id": number.to_string(), "uri": uri, "visibility": "public", "account": account, "content": text, "tags": [] })
    };
    let server = LiveServer::start(move |asked, mut stream| {
        if asked.header("authorization") != Some("Bearer t") {
            return respond(&mut stream, 401, "", "{\"error\":\"The access token is invalid\"}");
        }
        if asked.path.starts_with("/api/v2/instance") {
            return respond(&mut stream, 404, "", "");
        }
        if asked.path.starts_with("/api/v1/timelines/public") {
            assert_eq!(asked.parameter("min_id"), Some("1"), "{asked:?}");
            return respond(&mut stream, 200, "", &json!([status(3, "three"), status(2, "two"), status(1, "one")]).to_string());
        }
        begin(&mut stream, "text/event-stream");
        chunks(&mut stream, b":)\n:thump\n", 3);
        let update = |number, text| format!("event: update\ndata: {}\n\n", status(number, text));
        if asked.number < 2 {
            chunks(&mut stream, update(1, "<p>one &amp; <b>#Rust</b></p>").as_bytes(), 7);
            chunks(&mut stream, b"event: delete\ndata: 106692867363994015\n\nevent: update\ndata: {\"id\":\"2\",\"ur", 7);
            return;
        }
        chunks(&mut stream, update(4, "four").as_bytes(), 7);
        std::thread::sleep(Duration::from_secs(20));
    });
    let spec = format!("mastodon:h.example?url={}", server.url("http"));
    let (events, said) = printed(&spec, "schemas", 4, &[("MASTODON_TOKEN", "t")]);
    let texts: Vec<&str> = events.iter().map(|event| event["tweet"].as_str().unwrap()).collect();
    assert_eq!(texts, ["one & #Rust", "two", "three", "four"], "{said}");
}

#[test]
fn x_is_asked_for_the_rules_that_are_declared_and_no_other_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let sample = std::fs::read_to_string(refold_tests::program::root().join("schemas/sources.toml")).unwrap();
    std::fs::create_dir_all(folder.path().join("events")).unwrap();
    std::fs::copy(refold_tests::program::root().join("schemas/events/tweet.avsc"), folder.path().join("events/tweet.avsc")).unwrap();
    std::fs::write(folder.path().join("sources.toml"), format!("{sample}\n[streams.x]\nrules = [{{ value = \"#rust\", tag = \"r\" }}]\n"))
        .unwrap();
    let posted = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
    let server = LiveServer::start({
        let posted = posted.clone();
        move |asked, mut stream| {
            assert_eq!(asked.header("authorization"), Some("Bearer x-token"));
            let (is_rules, method) = (asked.path.starts_with("/2/tweets/search/stream/rules"), asked.method.as_str());
            match (is_rules, method) {
                (true, "GET") => {
                    let rules = json!([{ "id": "1", "value": "old", "tag": "refold:o" }, { "id": "2", "value": "theirs", "tag": "t" }]);
                    respond(&mut stream, 200, "", &json!({ "data": rules }).to_string());
                }
                (true, _) => {
                    posted.lock().push(asked.body.clone());
                    respond(&mut stream, 201, "", "{\"meta\":{\"summary\":{\"created\":1,\"invalid\":0}}}");
                }
                _ => {
                    begin(&mut stream, "application/json");
                    let note = json!({ "text": "long &amp; whole" });
                    let data =
                        json!({ "id": "17", "text": "lo", "note_tweet": note, "author_id": "5", "created_at": "2026-11-30T12:00:00.000Z" });
                    let post = json!({ "data": data, "includes": { "users": [{ "id": "5", "username": "ann" }] } });
                    chunks(
                        &mut stream,
                        format!("\r\n{post}\r\n{{\"errors\":[{{\"title\":\"operational-disconnect\"}}]}}\r\n").as_bytes(),
                        11,
                    );
                }
            }
        }
    });
    let spec = format!("x?url={}", server.url("http"));
    let (events, said) = printed(&spec, text(folder.path()), 1, &[("X_BEARER_TOKEN", "x-token")]);
    let event =
        json!({ "userid": "5", "username": "ann", "timestamp": "2026-11-30T12:00:00.000Z", "tweetid": "17", "tweet": "long & whole" });
    assert_eq!(events, [event], "{said}");
    let posted = posted.lock().clone();
    assert!(posted[0].contains("\"add\"") && posted[0].contains("refold:r"), "{posted:?}");
    assert!(posted[1].contains("\"delete\":{\"ids\":[\"1\"]}"), "{posted:?}");
}

/// Garbage in a stream is a bad line, counted and kept, and what is behind it goes on.
#[test]
fn rubbish_between_messages_is_counted_and_the_messages_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let (schemas, data) = (folder.path().join("schemas"), folder.path().join("data"));
    let server = LiveServer::start(|_, mut stream| {
        let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n\r\n");
        let _ = stream.write_all(format!("{}\n? rubbish\n[1]\n{}\n", message(0), message(1)).as_bytes());
        std::thread::sleep(Duration::from_secs(20));
    });
    application(&schemas, &format!("[streams.made_up]\nurl = \"{}/s\"\nprotocol = \"lines\"\n", server.url("http")));
    let program = up_with(&schemas, &data, "stream:made_up");
    wait_until("the messages are there", || times(&program).len() == 2);
    let metrics = get(&format!("{}/metrics", program.url)).text;
    assert!(metrics.contains("refold_collector_refused_total{reason=\"not_json\"} 1"), "{metrics}");
    assert!(metrics.contains("refold_collector_refused_total{reason=\"not_an_object\"} 1"), "{metrics}");
}

#[test]
fn what_is_named_wrongly_is_told_with_the_way_out() {
    for (spec, complaint) in [
        ("blusky", "did you mean bluesky"),
        ("mastodon", "mastodon:HOST"),
        ("sse:ftp://h", "http:// or https://"),
        ("sse:http://h/s?a=b", "write another one at its end"),
        ("bluesky?colections=a", "there is no option \"colections\""),
    ] {
        refold(&["collect", spec, "--print", "1"]).ends(2).complains(complaint);
    }
    refold(&["collect", "wikimedia", "--print", "1"]).ends(1).complains("has no mapping wikimedia for source tweets");
    refold(&["collect", "stream:none", "--print", "1"]).ends(1).complains("no stream is called \"none\"");
    refold(&["check", "--app", "nothing"]).ends(2).complains("there is bluesky, wikipedia");
}
