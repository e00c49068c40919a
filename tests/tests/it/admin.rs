//! Administration over a real listener: who may, and a version's way from a replay to its switch and back.

use std::process::Child;
use std::time::Duration;

use refold_tests::command::{command, ended_within, signal, text};
use refold_tests::http::{get, get_as, post_lines, send, wait_until};
use refold_tests::program::{free_port, root};
use serde_json::{Value, json};

use crate::http::{NEW_YEAR_MS, counts, post, up};

const TOKEN: &str = "correct-horse-battery-staple";

fn ask(url: &str, path: &str, body: &Value, token: Option<&str>) -> refold_tests::http::Answer {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
    send("POST", &format!("{url}{path}"), &headers, body.to_string().as_str())
}

#[test]
fn who_has_the_token_may_administrate_and_nobody_else() {
    let data = tempfile::tempdir().unwrap();
    let program = up(data.path(), &["--token", TOKEN]);
    let url = &program.url;
    let guarded =
        ["/v1/admin/status", "/v1/admin/history", "/v1/views/hashtag_counts/quarantine", "/v1/views/hashtag_counts/quarantine/0/0"];
    for path in guarded {
        let refused = get(&format!("{url}{path}")).is_problem(401, "token").with_detail("Bearer");
        assert_eq!(refused.headers["www-authenticate"], "Bearer");
        // One that is of the same length, one that begins the same, one that goes on, none, and one of another scheme.
        for wrong in [&TOKEN.replace('h', "H"), "correct", &format!("{TOKEN}x"), "", " "] {
            get_as(&format!("{url}{path}"), wrong).is_problem(401, "token");
        }
        send("GET", &format!("{url}{path}"), &[("authorization", TOKEN)], ()).is_problem(401, "token");
        send("GET", &format!("{url}{path}"), &[("authorization", &format!("Basic {TOKEN}"))], ()).is_problem(401, "token");
        assert_ne!(get_as(&format!("{url}{path}"), TOKEN).status, 401, "{path}");
    }
    for verb in ["replay", "switch"] {
        ask(url, &format!("/v1/admin/views/hashtag_counts/{verb}"), &json!({}), None).is_problem(401, "token");
    }
    get(&format!("{url}/v1/views/hashtag_counts")).is(200);
    post_lines(url, "tweets", &post(1, NEW_YEAR_MS, "#open")).is(200);
    let history = get_as(&format!("{url}/v1/admin/history"), TOKEN).is(200).json["history"].to_string();
    assert!(!history.contains("\"v2\""), "nobody without the token has changed anything: {history}");
}

#[test]
fn a_listener_that_others_reach_has_no_administration_without_a_token() {
    let data = tempfile::tempdir().unwrap();
    let port = free_port();
    let running =
        Running(command(&["up", "--source", "none", "--listen", &format!("0.0.0.0:{port}"), "--data", text(data.path())]).spawn().ok());
    let url = format!("http://127.0.0.1:{port}");
    wait_until("it answers", || ureq::get(format!("{url}/healthz")).call().is_ok());
    get(&format!("{url}/v1/admin/status")).is_problem(403, "closed").with_detail("REFOLD_TOKEN");
    ask(&url, "/v1/admin/views/hashtag_counts/replay", &json!({}), Some("guess")).is_problem(403, "closed");
    get(&format!("{url}/v1/views")).is_problem(403, "closed").with_detail("public_reads = true");
    post_lines(&url, "tweets", &post(1, NEW_YEAR_MS, "#closed")).is_problem(403, "closed");
    let said = running.stop();
    assert!(said.out.contains("admin   closed") && said.out.contains("reads   closed"), "{said:#?}");
}

/// Ends the process when a test fails.
struct Running(Option<Child>);

impl Running {
    fn stop(mut self) -> refold_tests::command::Said {
        let child = self.0.take().unwrap();
        signal(&child, "-TERM");
        ended_within(child, Duration::from_secs(30)).ends(0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn a_version_is_replayed_switched_to_and_back_and_all_of_it_is_in_the_history() {
    let data = tempfile::tempdir().unwrap();
    let program = up(data.path(), &["--token", TOKEN]);
    let url = &program.url;
    let lines: String = (0..10).map(|minute| post(1, NEW_YEAR_MS + minute * 60_000, "#rust")).collect();
    post_lines(url, "tweets", &lines).is(200);
    wait_until("version 1 has them", || counts(url, "rust") == [5, 5]);
    let sql = std::fs::read_to_string(root().join("schemas/views/hashtag_counts.sql")).unwrap().replace("5 minutes", "10 minutes");
    let replay = json!({ "sql": sql, "file": "new.sql", "by": "ann" });
    let path = |verb: &str| format!("/v1/admin/views/hashtag_counts/{verb}");

    let begun = ask(url, &path("replay"), &replay, Some(TOKEN)).is(202).json;
    assert_eq!((&begun["version"], &begun["created"]), (&json!(2), &json!(true)));
    assert_eq!(ask(url, &path("replay"), &replay, Some(TOKEN)).is(200).json["created"], false, "asked again, it is the same one");
    let state = || get(&format!("{url}/v1/views/hashtag_counts")).is(200).json["versions"][1]["state"].clone();
    wait_until("version 2 is caught up", || state() == "caught_up");
    assert_eq!(counts(url, "rust"), [5, 5], "readers see version 1 until the switch");
    let new = get(&format!("{url}/v1/views/hashtag_counts/rows?hashtag=rust&version=2")).is(200).json;
    assert_eq!(new["rows"], json!([{ "hashtag": "rust", "slot": "2024-01-01T00:00:00Z", "occurrences": 10 }]));

    ask(url, &path("switch"), &json!({ "to": 2, "expected": 7 }), Some(TOKEN)).is_problem(409, "conflict");
    ask(url, &path("switch"), &json!({ "to": 9 }), Some(TOKEN)).is_problem(404, "not-found");
    let switch = json!({ "reason": "longer slots", "by": "ann" });
    let moved = ask(url, &path("switch"), &switch, Some(TOKEN)).is(200).json;
    assert_eq!(moved, json!({ "view": "hashtag_counts", "from": 1, "to": 2, "switched": true }));
    assert_eq!(ask(url, &path("switch"), &switch, Some(TOKEN)).is(200).json["switched"], false);
    assert_eq!(counts(url, "rust"), [10]);
    post_lines(url, "tweets", &post(1, NEW_YEAR_MS + 540_000, "#rust")).is(200);
    wait_until("version 2 goes on", || counts(url, "rust") == [11]);
    ask(url, &path("switch"), &json!({ "to": 1, "by": "bob" }), Some(TOKEN)).is(200);
    wait_until("version 1 was fed meanwhile", || counts(url, "rust") == [6, 5]);

    let history = get_as(&format!("{url}/v1/admin/history?view=hashtag_counts"), TOKEN).is(200).json["history"].clone();
    let switches: Vec<(&Value, &Value, &Value, &Value)> = history
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["verb"] == "switch")
        .map(|entry| (&entry["from"], &entry["to"], &entry["by"], &entry["reason"]))
        .collect();
    let (first, second) = (json!("v1"), json!("v2"));
    assert_eq!(switches[1], (&first, &second, &json!("ann"), &json!("longer slots")));
    assert_eq!(switches[2], (&second, &first, &json!("bob"), &Value::Null));
    get_as(&format!("{url}/v1/admin/history?view=nothing"), TOKEN).is_problem(404, "not-found");
}
