//! `refold collect`: into a data folder, into a running `refold up`, from a file and from stdin.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use refold_tests::command::{Said, command, refold, run, run_with, text};
use refold_tests::http::{get, wait_until};
use refold_tests::program::{Program, free_port, root};
use serde_json::json;

use crate::http::{NEW_YEAR_MS, counts, post, up};

fn posts(numbers: std::ops::Range<i64>) -> String {
    numbers.map(|number| post(number as u64, NEW_YEAR_MS + number, "#collected")).collect()
}

fn append(file: &Path, lines: &str) {
    OpenOptions::new().create(true).append(true).open(file).unwrap().write_all(lines.as_bytes()).unwrap();
}

fn server(data: &Path, port: u16) -> Program {
    let mut program = Program::start(data, port, &[]);
    assert!(program.wait_until_up());
    program
}

#[test]
fn a_file_is_brought_into_a_data_folder_once_and_bad_lines_are_told_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    // With a space, as folders of people have.
    let (data, file) = (folder.path().join("my data"), folder.path().join("my posts.jsonl"));
    append(&file, &posts(0..3));
    append(&file, "{\"userid\": 1}\nnot json\n");
    append(&file, &posts(3..5));
    let spec = format!("jsonl:{}", file.display());
    let collect = |more: &[&str]| refold(&[&["collect", &spec, "--data", text(&data)], more].concat());

    let first = collect(&[]).ends(0);
    assert_eq!(first.out, "7 read, 5 written, 2 skipped\n  1 missing_field\n  1 not_json\n");
    let first = first.complains(&format!("{}:4: missing_field: ", file.display())).complains(&format!("{}:5: not_json: ", file.display()));
    let kept = data.join("collector/bad_lines.jsonl");
    first.complains(text(&kept));
    let kept: Vec<serde_json::Value> =
        std::fs::read_to_string(kept).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        kept.iter().map(|bad| (bad["line"].as_u64(), bad["text"].as_str())).collect::<Vec<_>>(),
        [(Some(4), Some("{\"userid\": 1}")), (Some(5), Some("not json"))]
    );
    let again = collect(&[]).ends(0).complains("nothing new").complains("--restart");
    assert_eq!(again.out, "0 read, 0 written, 0 skipped\n");
    append(&file, &posts(5..7));
    assert_eq!(collect(&["--json"]).ends(0).objects(), [json!({ "read": 2, "written": 2, "already_there": 0, "bad": {}, "skipped": 0 })]);
    assert_eq!(collect(&["--restart"]).ends(0).out.lines().next().unwrap(), "9 read, 7 written, 2 skipped");

    let program = up(&data, &[]);
    wait_until("all are counted, the restarted ones twice", || counts(&program.url, "collected") == [14]);
}

#[test]
fn a_file_that_was_replaced_is_not_taken_for_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("posts.jsonl"));
    let spec = format!("jsonl:{}", file.display());
    std::fs::write(&file, posts(0..3)).unwrap();
    refold(&["collect", &spec, "--data", text(&data)]).ends(0);
    std::fs::write(&file, posts(50..52)).unwrap();
    refold(&["collect", &spec, "--data", text(&data)]).ends(1).complains("--restart");
    refold(&["collect", &spec, "--data", text(&data), "--restart"]).ends(0).says("2 read, 2 written");
}

#[test]
fn a_running_program_takes_events_of_files_of_stdin_and_of_the_generator() {
    let (data, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let program = up(data.path(), &[]);
    let url = &program.url;
    let file = folder.path().join("posts.jsonl");
    append(&file, &posts(0..4));
    let spec = format!("jsonl:{}", file.display());
    // Where it was is kept in the folder that REFOLD_DATA names: another one than the program's.
    let collect = |spec: &str, more: &[&str]| {
        let mut collect = command(&[&["collect", spec, "--to", url], more].concat());
        collect.env("REFOLD_DATA", folder.path().join("kept"));
        collect
    };
    assert_eq!(run(&mut collect(&spec, &[])).ends(0).out, "4 read, 4 written, 0 skipped\n");
    append(&file, &posts(4..6));
    assert_eq!(run(&mut collect(&spec, &[])).ends(0).out, "2 read, 2 written, 0 skipped\n", "it goes on where it was");
    let piped = run_with(&mut collect("jsonl:-", &[]), &format!("{}oops\n{}", posts(6..7), posts(7..8))).ends(0);
    assert_eq!(piped.out, "3 read, 2 written, 1 skipped\n  1 not_json\n");
    piped.complains("-:2: not_json");
    wait_until("all are counted", || counts(url, "collected") == [8]);
    let mapped = folder.path().join("plain.jsonl");
    append(&mapped, "{\"text\":\"#mapped\",\"time_us\":1704067200000000,\"other\":1}\n");
    run(&mut collect(&format!("jsonl:{}", mapped.display()), &["--mapping", "plain_posts"])).ends(0).says("1 written");
    wait_until("the mapped one is counted", || counts(url, "mapped") == [1]);
    let generated = run(&mut collect("generate:100000", &["--count", "500", "--seed", "7"])).ends(0);
    assert_eq!(generated.out, "500 read, 500 written, 0 skipped\n");
    assert!(!generated.err.contains('\u{1b}') && !generated.err.contains('\r'), "no progress bar where nobody sees it: {generated:#?}");
    run(&mut collect(&format!("jsonl:{}", mapped.display()), &["--mapping", "plain_psots"])).ends(1).complains("plain_posts");
    run(&mut collect("jsonl:none.jsonl", &[])).ends(1).complains("none.jsonl");
    run(&mut collect(&spec, &["--source", "twets"])).ends(2).complains("declared are: tweets");
}

/// Collectors and servers are killed at random moments, and started again until the whole file is read.
#[test]
fn a_killed_collector_or_server_neither_loses_nor_doubles_an_event() {
    const POSTS: i64 = 400_000;
    let (data, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = folder.path().join("posts.jsonl");
    append(&file, &posts(0..POSTS));
    let port = free_port();
    let mut program = server(data.path(), port);
    let spec = format!("jsonl:{}", file.display());
    let mut rounds = 0;
    let report = loop {
        let mut collect = command(&["collect", &spec, "--json", "--to", &program.url]);
        let mut child = collect.env("REFOLD_DATA", folder.path().join("kept")).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(rand::random_range(20..250)));
        let is_servers_turn = rounds % 3 == 2;
        rounds += 1;
        assert!(rounds < 1_000, "it does not get on");
        if is_servers_turn {
            program.kill();
            program = server(data.path(), port);
            std::thread::sleep(Duration::from_millis(rand::random_range(0..250)));
        }
        if child.try_wait().unwrap().is_some() {
            let said = Said::of(child.wait_with_output().unwrap());
            // One that had not found its server yet when that was killed says so, and ends.
            if is_servers_turn && said.err.contains("does not answer") {
                continue;
            }
            break said.ends(0);
        }
        child.kill().unwrap();
        child.wait().unwrap();
    };
    println!("{rounds} rounds; the last run: {}", report.out.trim());
    assert!(rounds > 2, "{rounds} rounds");
    let counted = || counts(&program.url, "collected").iter().sum::<u64>();
    wait_until("the view is in service", || get(&format!("{}/readyz", program.url)).status == 200);
    wait_until("all are counted", || counted() >= POSTS as u64);
    assert_eq!(counted(), POSTS as u64, "each once");
}

#[test]
fn a_server_with_another_log_is_not_taken_for_the_one_before() {
    let (data, other, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = folder.path().join("posts.jsonl");
    append(&file, &posts(0..4));
    let spec = format!("jsonl:{}", file.display());
    let port = free_port();
    let collect = |url: &str, more: &[&str]| {
        let mut collect = command(&[&["collect", &spec, "--to", url], more].concat());
        run(collect.env("REFOLD_DATA", folder.path().join("kept")))
    };
    let mut program = server(data.path(), port);
    collect(&program.url, &[]).ends(0).says("4 written");
    program.kill();
    let program = server(other.path(), port);
    append(&file, &posts(4..6));
    collect(&program.url, &[]).ends(1).complains("into another log before").complains("--restart");
    collect(&program.url, &["--restart"]).ends(0).says("6 written");
    wait_until("the view is in service", || get(&format!("{}/readyz", program.url)).status == 200);
    wait_until("all are counted", || counts(&program.url, "collected") == [6]);
}

#[test]
fn a_source_of_up_that_failed_is_seen_from_outside() {
    let (data, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = folder.path().join("posts.jsonl");
    append(&file, &posts(0..40));
    assert!(Command::new("gzip").arg(&file).status().unwrap().success());
    let file = folder.path().join("posts.jsonl.gz");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let source = format!("jsonl:{}", file.display());
    let arguments = ["up", "--source", &source, "--data", text(data.path())];
    let mut program = Program::start_verb(&arguments, &root().join("schemas"), free_port(), &data.path().join("stderr.log"));
    assert!(program.wait_until_up());
    wait_until("it failed", || get(&format!("{}/metrics", program.url)).text.contains("refold_collector_failed 1\n"));
    wait_until("views are in service all the same", || get(&format!("{}/readyz", program.url)).status == 200);
    let status = get(&format!("{}/v1/admin/status", program.url)).is(200).json;
    assert_eq!(status["collector"]["source"], source);
    refold(&["status", "--server", &program.url]).ends(0).complains("nothing of it is collected any more").complains("posts.jsonl.gz");
}

#[test]
fn what_is_nearly_a_source_is_told_what_to_write() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    refold(&["collect", "posts.jsonl", "--data", text(&data)]).ends(2).complains("did you mean jsonl:posts.jsonl");
    let empty = folder.path().join("empty.jsonl");
    append(&empty, "");
    let spec = format!("jsonl:{}", empty.display());
    refold(&["collect", &spec, "--data", text(&data)]).ends(0).complains("has no events");
}

#[test]
fn who_is_not_there_is_said_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let unavailable = format!("http://127.0.0.1:{}", free_port());
    let said = run(command(&["collect", "generate:100", "--to", &unavailable]).env("REFOLD_DATA", folder.path())).ends(1);
    let said = said.complains(&format!("{unavailable} does not answer")).complains("start refold up").complains("--to").complains("--data");
    assert_eq!(said.out, "");
}

#[test]
fn compressed_posts_are_read_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("posts.jsonl"));
    append(&file, &posts(0..40));
    assert!(Command::new("gzip").arg(&file).status().unwrap().success());
    let spec = format!("jsonl:{}.gz", file.display());
    assert_eq!(refold(&["collect", &spec, "--data", text(&data)]).ends(0).out, "40 read, 40 written, 0 skipped\n");
    assert_eq!(refold(&["collect", &spec, "--data", text(&data)]).ends(0).out, "0 read, 0 written, 0 skipped\n");
}
