//! Ctrl-C: once, it ends cleanly; twice, at once.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use refold_tests::command::{command, ended_within, signal, text};
use refold_tests::http::{get, post_lines, wait_until};
use refold_tests::program::free_port;
use refold_tests::services::kafka::Kafka;

use crate::http::{NEW_YEAR_MS, counts, post, up};

const SOON: Duration = Duration::from_secs(3);
const CLEANLY: Duration = Duration::from_secs(30);

fn start(data: &std::path::Path, port: u16, more: &[&str]) -> Child {
    let listen = format!("127.0.0.1:{port}");
    let child = command(&[&["up", "--listen", &listen, "--data", text(data)], more].concat()).spawn().unwrap();
    let url = format!("http://{listen}");
    wait_until("it is ready", || ureq::get(format!("{url}/readyz")).call().is_ok());
    child
}

#[test]
fn once_it_stops_cleanly_and_goes_on_where_it_was() {
    let (data, port) = (tempfile::tempdir().unwrap(), free_port());
    let url = format!("http://127.0.0.1:{port}");
    let child = start(data.path(), port, &["--source", "none"]);
    post_lines(&url, "tweets", &post(1, NEW_YEAR_MS, "#kept")).is(200);
    signal(&child, "-INT");
    let said = ended_within(child, CLEANLY).ends(0).complains("stopping; once more ends it at once");
    assert!(said.out.starts_with(&format!("refold is at {url}\n")), "{said:#?}");
    assert!(!said.out.contains('\u{1b}') && !said.err.contains('\u{1b}'), "no colours where nobody sees them: {said:#?}");
    assert!(!said.err.contains("ERROR") && !said.err.contains("WARN"), "{said:#?}");
    let child = start(data.path(), port, &["--source", "none", "--json"]);
    wait_until("the post is counted", || counts(&url, "kept") == [1]);
    signal(&child, "-TERM");
    let said = ended_within(child, CLEANLY).ends(0);
    assert_eq!(said.objects()[0]["listening"], url);
}

#[test]
fn with_the_generator_running_it_stops_cleanly_too_and_started_again_goes_on_until_each_post_is_there_once() {
    let (data, port) = (tempfile::tempdir().unwrap(), free_port());
    let status = || get(&format!("http://127.0.0.1:{port}/v1/views/hashtag_counts")).json["versions"][0].clone();
    let start = || start(data.path(), port, &["--source", "generate:500?backlog=10m&backlog_rate=5&count=5000"]);
    let child = start();
    wait_until("posts arrive", || status()["read"].as_u64() > Some(1_000));
    signal(&child, "-INT");
    ended_within(child, CLEANLY).ends(0).complains("collector stopped");
    let child = start();
    wait_until("all posts are there", || status()["read"].as_u64() >= Some(5_000));
    std::thread::sleep(Duration::from_millis(500));
    let version = status();
    assert_eq!((&version["read"], &version["lag"]), (&5_000.into(), &0.into()), "each once: {version}");
    signal(&child, "-INT");
    ended_within(child, CLEANLY).ends(0);
}

#[test]
fn twice_it_ends_at_once_although_a_request_is_open() {
    let (data, port) = (tempfile::tempdir().unwrap(), free_port());
    let child = start(data.path(), port, &["--source", "none"]);
    let mut open = TcpStream::connect(("127.0.0.1", port)).unwrap();
    open.write_all(b"POST /v1/sources/tweets/events HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{").unwrap();
    // The request has begun when a later one has been answered.
    get(&format!("http://127.0.0.1:{port}/healthz")).is(200);
    // One that comes at once is the same one: some send it to a process and to its group.
    let both = format!("kill -INT {0}; kill -TERM {0}", child.id());
    assert!(Command::new("sh").args(["-c", &both]).status().unwrap().success());
    let mut child = child;
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(said.by_ref().map(Result::unwrap).any(|line| line.contains("stopping; once more ends it at once")));
    std::thread::sleep(Duration::from_millis(1_000));
    assert!(child.try_wait().unwrap().is_none());
    signal(&child, "-INT");
    ended_within(child, SOON).ends(130);
    assert!(said.map(Result::unwrap).any(|line| line.contains("ended at once; what was committed is safe")));
}

#[test]
fn a_watched_status_ends_cleanly() {
    let data = tempfile::tempdir().unwrap();
    let program = up(data.path(), &[]);
    let mut child = command(&["status", "--watch", "--server", &program.url]).spawn().unwrap();
    let mut shown = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(shown.by_ref().filter(|line| line.starts_with("VIEW ")).take(2).count(), 2, "it is shown again and again");
    signal(&child, "-INT");
    let said = ended_within(child, CLEANLY).ends(0);
    assert_eq!(said.err, "");
}

#[test]
fn a_collector_without_an_end_stops_cleanly_with_its_totals() {
    let data = tempfile::tempdir().unwrap();
    let program = up(data.path(), &[]);
    let mut collect = command(&["collect", "generate:200", "--to", &program.url]);
    let child = collect.env("REFOLD_DATA", data.path().join("kept")).spawn().unwrap();
    wait_until("posts arrive", || {
        let status = get(&format!("{}/v1/views/hashtag_counts", program.url)).json;
        status["versions"][0]["read"].as_u64().unwrap_or(0) > 50
    });
    signal(&child, "-INT");
    ended_within(child, CLEANLY).ends(0).says(" written, 0 skipped\n");
}

#[test]
fn a_log_that_is_unavailable_holds_up_neither_posts_nor_the_end() {
    let (mut kafka, data, port) = (Kafka::start(), tempfile::tempdir().unwrap(), free_port());
    let url = format!("http://127.0.0.1:{port}");
    let child = start(data.path(), port, &["--source", "none", "--kafka", &kafka.brokers()]);
    let event = |number: u64| post(number, NEW_YEAR_MS, "#kept");
    post_lines(&url, "tweets", &event(1)).is(200);
    wait_until("the post is counted", || counts(&url, "kept") == [1]);
    kafka.signal("-STOP");
    // It is known to be unavailable when a question of every second has had no answer for ten.
    std::thread::sleep(Duration::from_secs(15));
    let asked = Instant::now();
    post_lines(&url, "tweets", &event(2)).is(503);
    get(&format!("{url}/v1/admin/status")).is(200);
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    signal(&child, "-TERM");
    let said = ended_within(child, Duration::from_secs(60));
    assert!(said.status == Some(0) || said.err.contains("so what it waits for is unavailable"), "{said:#?}");
}
