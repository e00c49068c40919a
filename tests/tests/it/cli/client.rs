//! Verbs that speak to a running `refold up`.

use std::sync::Arc;

use refold_processor::clock::SystemClock;
use refold_processor::store::catalogue::{Catalogue, VersionState};
use refold_processor::store::embedded::{EmbeddedStore, EmbeddedStoreSettings};
use refold_processor::table::Version;
use refold_tests::command::{Said, command, run, text};
use refold_tests::http::{get, post_lines, wait_until};
use refold_tests::program::{Program, free_port, root};
use serde_json::json;

use crate::http::{NEW_YEAR_MS, counts, post, up};

/// Asks a running program; who asks is ann.
pub fn ask(url: &str, arguments: &[&str]) -> Said {
    run(command(arguments).env("REFOLD_SERVER", url).env("USER", "ann"))
}

#[test]
fn status_shows_versions_as_a_table_and_as_objects() {
    let data = tempfile::tempdir().unwrap();
    let program = up(data.path(), &[]);
    let in_a_day = chrono::Utc::now().timestamp_millis() + 86_400_000;
    let lines: String = (0..1_234).map(|number| post(number, NEW_YEAR_MS, "#a")).collect();
    post_lines(&program.url, "tweets", &(lines + &post(1, in_a_day, "#a"))).is(200);
    wait_until("they are counted", || counts(&program.url, "a") == [1_234]);
    let read = || get(&format!("{}/v1/views/hashtag_counts", program.url)).json["versions"][0]["read"].clone();
    wait_until("and that is told", || read() == 1_235);
    let said = ask(&program.url, &["status"]).ends(0);
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!((lines.len(), said.err.as_str()), (3, ""), "{said:#?}");
    for column in ["VIEW", "VERSION", "STATE", "READ", "TO GO", "QUARANTINED"] {
        assert!(lines[0].contains(column), "{column}: {}", lines[0]);
    }
    assert!(lines[1].contains("hashtag_counts") && lines[1].contains("active") && lines[1].contains("1 235"), "{}", lines[1]);
    assert!(lines.iter().all(|line| line.chars().count() <= 120 && line.trim_end() == *line && !line.starts_with(' ')), "{said:#?}");
    let objects = ask(&program.url, &["status", "hashtag_counts", "--json"]).ends(0).objects();
    assert_eq!(objects.len(), 1);
    let version = &objects[0];
    assert_eq!((&version["view"], &version["active"], &version["read"]), (&json!("hashtag_counts"), &json!(true), &json!(1_235)));
    assert_eq!(version["quarantined"], json!({ "from_the_future": 1 }));
    ask(&program.url, &["status", "nothing"]).ends(1).complains("there are: hashtag_counts, hashtag_trends");
    let unavailable = format!("http://127.0.0.1:{}", free_port());
    let said = ask(&unavailable, &["status"]).ends(1).complains(&unavailable).complains("start refold up");
    assert_eq!(said.out, "");
}

#[test]
fn quarantined_events_are_listed_and_shown() {
    let data = tempfile::tempdir().unwrap();
    let program = up(data.path(), &["--token", "secret"]);
    let ask = |arguments: &[&str]| run(command(arguments).env("REFOLD_SERVER", &program.url).env("REFOLD_TOKEN", "secret"));
    let list = ["quarantine", "list", "hashtag_counts"];
    let none = ask(&list).ends(0).complains("version 1 of hashtag_counts has quarantined no event");
    assert_eq!(none.out, "");
    let in_a_day = chrono::Utc::now().timestamp_millis() + 86_400_000;
    let lines: String = (0..1_500).map(|number| post(1, in_a_day + number, "from tomorrow")).collect();
    post_lines(&program.url, "tweets", &lines).is(200);
    wait_until("they are judged", || ask(&[&list[..], &["--json", "--limit", "2000"]].concat()).objects().len() == 1_500);

    let said = ask(&[&list[..], &["--limit", "2"]].concat()).ends(0).complains("the first 2 of 1 500 quarantined by version 1");
    let lines: Vec<&str> = said.out.lines().collect();
    assert!(lines.len() == 3 && lines[0].starts_with("PARTITION  ") && lines[1].contains("from_the_future"), "{said:#?}");
    let objects =
        ask(&[&list[..], &["--json", "--limit", "1", "--reason", "from_the_future", "--version", "1"]].concat()).ends(0).objects();
    assert_eq!(objects[0]["value"]["tweet"], "from tomorrow");
    let (partition, offset) = (objects[0]["partition"].to_string(), objects[0]["offset"].to_string());
    let show = ["quarantine", "show", "hashtag_counts", &partition, &offset];
    ask(&show).ends(0).says("reason       from_the_future\n").says("\"tweet\":\"from tomorrow\"");
    assert_eq!(ask(&[&show[..], &["--json"]].concat()).ends(0).objects(), objects);
    ask(&["quarantine", "show", "hashtag_counts", &partition, "99999"]).ends(1).complains("no quarantined event");
    ask(&[&list[..], &["--reason", "late"]].concat()).ends(1).complains("late_after_idle");
    ask(&[&list[..], &["--version", "7"]].concat()).ends(1).complains("no version v7");
    ask(&["quarantine", "list", "a/b c"]).ends(1).complains("\"a/b c\" cannot be a view's name");
    run(command(&list).env("REFOLD_SERVER", &program.url)).ends(1).complains("REFOLD_TOKEN");
}

#[test]
fn a_view_is_changed_by_replay_and_switch_and_the_history_tells() {
    let (data, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // A version leaves `building` when the catalogue is next looked at: long enough to be refused a switch before.
    let program = up(data.path(), &["--reconcile-interval-ms", "10000", "--lease-ms", "30000"]);
    let url = &program.url;
    let lines: String = (0..10).map(|minute| post(1, NEW_YEAR_MS + minute * 60_000, "#rust")).collect();
    post_lines(url, "tweets", &lines).is(200);
    wait_until("version 1 has them", || counts(url, "rust") == [5, 5]);
    let file = folder.path().join("new.sql");
    let sql = std::fs::read_to_string(root().join("schemas/views/hashtag_counts.sql")).unwrap();
    std::fs::write(&file, sql.replace("5 minutes", "5 mintues")).unwrap();
    ask(url, &["replay", "hashtag_counts", "--file", text(&file)]).ends(1).complains(&format!("{}:", file.display()));
    ask(url, &["replay", "hashtag_counts", "--file", "none.sql"]).ends(1).complains("cannot read none.sql");
    ask(url, &["replay", "hashtag_trends", "--file", "schemas/views/hashtag_counts.sql"]).ends(1).complains("defines view hashtag_counts");
    std::fs::write(&file, sql.replace("5 minutes", "10 minutes")).unwrap();

    let begun = ask(url, &["replay", "hashtag_counts", "--file", text(&file)]).ends(0);
    assert_eq!(begun.out, "version 2 of hashtag_counts is being built from the start of the log\n");
    begun.complains("refold status hashtag_counts --watch");
    let early = ask(url, &["switch", "hashtag_counts"]).ends(3).complains("v2 is building");
    assert_eq!(early.out, "");
    ask(url, &["replay", "hashtag_counts", "--file", text(&file)]).ends(0).says("version 2 of hashtag_counts has this definition already");
    wait_until("version 2 is caught up", || ask(url, &["status", "hashtag_counts"]).out.contains("caught_up"));
    ask(url, &["switch", "hashtag_counts", "--expected", "2"]).ends(3).complains("v1");
    let switched = ask(url, &["switch", "hashtag_counts", "--reason", "longer slots"]).ends(0);
    assert_eq!(switched.out, "readers of hashtag_counts are on version 2; back: refold rollback hashtag_counts\n");
    assert_eq!(counts(url, "rust"), [10]);
    ask(url, &["switch", "hashtag_counts", "v2"]).ends(0).says("on version 2 already");
    let back = ask(url, &["switch", "hashtag_counts", "1", "--json"]).ends(0).objects();
    assert_eq!(back, [json!({ "view": "hashtag_counts", "from": 2, "to": 1, "switched": true })]);
    ask(url, &["switch", "hashtag_counts", "9"]).ends(1).complains("v9");
    ask(url, &["resume", "hashtag_counts", "1"]).ends(0).says("version 1 of hashtag_counts has not failed and is not paused, it is active");
    ask(url, &["resume", "hashtag_counts", "9"]).ends(1).complains("v9");

    let history = ask(url, &["history", "hashtag_counts"]).ends(0);
    let lines: Vec<&str> = history.out.lines().collect();
    assert!(lines[0].starts_with("TIME  ") && lines[0].ends_with("REASON"), "{history:#?}");
    let switch = lines.iter().find(|line| line.contains("switch v1 -> v2")).unwrap_or_else(|| panic!("{history:#?}"));
    assert!(switch.contains("ann") && switch.ends_with("longer slots"), "{switch}");
    assert!(lines.last().unwrap().contains("switch v2 -> v1"), "the newest is the last: {history:#?}");
    let newest = ask(url, &["history", "hashtag_counts", "--limit", "1", "--json"]).ends(0).objects();
    assert_eq!((newest.len(), &newest[0]["to"], &newest[0]["by"]), (1, &json!("v1"), &json!("ann")));
    ask(url, &["history", "nothing"]).ends(1).complains("there is no view nothing");
}

#[test]
fn a_failed_version_goes_on_when_it_is_resumed() {
    let data = tempfile::tempdir().unwrap();
    let mut program = up(data.path(), &[]);
    post_lines(&program.url, "tweets", &post(1, NEW_YEAR_MS, "#rust")).is(200);
    wait_until("version 1 has it", || counts(&program.url, "rust") == [1]);
    assert!(program.stop());
    {
        let store = Arc::new(EmbeddedStore::open(&data.path().join("store"), &EmbeddedStoreSettings::default()).unwrap());
        let failed = VersionState::Failed { error: "the disk broke".into() };
        let catalogue = Catalogue::new(store, Arc::new(SystemClock));
        catalogue.set_state("hashtag_counts", Version(1), &[VersionState::Active], failed, "test").unwrap();
    }
    let program = Program::start(data.path(), free_port(), &[]);
    let url = &program.url;
    wait_until("it answers", || ureq::get(format!("{url}/healthz")).call().is_ok());
    let ready = get(&format!("{url}/readyz")).is(503);
    assert!(ready.text.contains("the disk broke") && ready.text.contains("refold resume hashtag_counts 1"), "{ready:?}");
    ask(url, &["status", "hashtag_counts"]).ends(0).says("refold resume hashtag_counts 1");
    ask(url, &["switch", "hashtag_counts", "1"]).ends(3).complains("it has failed").complains("refold resume hashtag_counts 1");
    post_lines(url, "tweets", &post(2, NEW_YEAR_MS, "#rust")).is(200);
    assert_eq!(counts(url, "rust"), [1]);
    ask(url, &["resume", "hashtag_counts", "1"]).ends(0).says("version 1 of hashtag_counts is resumed, it is active");
    wait_until("it goes on", || counts(url, "rust") == [2]);
    ask(url, &["history", "hashtag_counts", "--limit", "9"]).ends(0).says("resume failed -> active");
}

#[test]
fn a_server_that_is_no_refold_is_told_so() {
    let listener = std::net::TcpListener::bind(("127.0.0.1", free_port())).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answering = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut connection, _) = listener.accept().unwrap();
        let _ = connection.read(&mut [0; 4096]).unwrap();
        connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello").unwrap();
    });
    ask(&url, &["status"]).ends(1).complains("is it a refold?");
    answering.join().unwrap();
}
