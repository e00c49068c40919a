//! What the documentation tells people to type works as it stands, and prints what it promises.
//!
//! A block of shell is run if it is in README.md, or is marked `sh run` elsewhere; `make` is not: the test stands in for `make up`. A block of `text` right after it is what it
//! prints: each of its lines is a line of the output, `…` standing for anything. Nothing in a command is changed. The program, the folder and the port are given by the
//! environment: the working folder has `target/refold` and a copy of `schemas`, `REFOLD_SERVER` is for refold, and a configuration of curl sends what is for port 7070 to ours,
//! and ends each answer with a line break.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use refold_tests::command::{command, ended_within, run, signal, text};
use refold_tests::http::wait_until;
use refold_tests::program::{binary, free_port, root};
use regex::Regex;

/// Some commands, and lines that they print.
#[derive(Debug, PartialEq)]
struct Typed {
    commands: String,
    printed: Vec<String>,
}

/// The fenced blocks of a page: what stands after the fence, the text, and whether nothing but empty lines stands before it since the last block.
fn blocks(page: &str) -> Vec<(String, String, bool)> {
    let (mut blocks, mut open, mut follows) = (Vec::new(), None, false);
    for line in page.lines() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(kind), None) => open = Some((kind.trim().to_owned(), String::new(), follows)),
            (Some(_), Some(block)) => {
                blocks.push(block);
                follows = true;
            }
            (None, Some((kind, text, follows))) => open = Some((kind, text + line + "\n", follows)),
            (None, None) => follows &= line.is_empty(),
        }
    }
    blocks
}

/// What a page tells people to type into a shell.
fn typed(page: &str, kind: &str) -> Vec<Typed> {
    let mut all: Vec<Typed> = Vec::new();
    let mut after_shell = false;
    for (block, text, follows) in blocks(page) {
        match block.as_str() {
            shell if shell == kind && !text.starts_with("make ") => {
                all.push(Typed { commands: text, printed: Vec::new() });
                after_shell = true;
                continue;
            }
            "text" if after_shell && follows => all.last_mut().unwrap().printed = text.lines().map(str::to_owned).collect(),
            _ => {}
        }
        after_shell = false;
    }
    all
}

/// Whether a promised line is the printed one.
fn is_line(promised: &str, printed: &str) -> bool {
    let pattern = promised.split('…').map(regex::escape).collect::<Vec<_>>().join(".*");
    Regex::new(&format!("^{pattern}$")).unwrap().is_match(printed)
}

fn pages() -> Vec<(String, Vec<Typed>)> {
    let mut pages = vec![("README.md".to_owned(), typed(&std::fs::read_to_string(root().join("README.md")).unwrap(), "sh"))];
    for folder in ["docs", "docs/operations"] {
        let mut docs: Vec<_> = std::fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
        docs.sort();
        for path in docs.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
            pages.push((path.display().to_string(), typed(&std::fs::read_to_string(&path).unwrap(), "sh run")));
        }
    }
    pages
}

/// A working folder as `make build` leaves it.
fn checkout(folder: &Path, port: u16) {
    std::fs::create_dir(folder.join("target")).unwrap();
    std::os::unix::fs::symlink(binary(), folder.join("target/refold")).unwrap();
    assert!(Command::new("cp").arg("-r").arg(root().join("schemas")).arg(folder).status().unwrap().success());
    std::fs::write(
        folder.join(".curlrc"),
        format!("connect-to = \"127.0.0.1:7070:127.0.0.1:{port}\"\nsilent\nshow-error\nfail\nwrite-out = \"\\n\"\n"),
    )
    .unwrap();
}

#[test]
fn what_the_documentation_says_to_type_works_and_prints_what_it_promises() {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    checkout(folder.path(), port);
    let url = format!("http://127.0.0.1:{port}");
    let listen = format!("127.0.0.1:{port}");
    // As `make up` does; with less history than there is by default, so that it does not take minutes.
    let mut up = command(&["up", "--source", "generate:20?backlog=2h&backlog_rate=3", "--listen", &listen]);
    let mut up = up.current_dir(folder.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("every view is in service", || ureq::get(format!("{url}/readyz")).call().is_ok());
    let pages = pages();
    let result = std::panic::catch_unwind(|| {
        pages.iter().for_each(|(page, typed)| typed.iter().for_each(|typed| check(page, typed, folder.path(), &url)))
    });
    if result.is_err() {
        let _ = up.kill();
        let _ = up.wait();
    } else {
        signal(&up, "-INT");
        ended_within(up, Duration::from_secs(30)).ends(0);
    }
    result.unwrap();
    let count: usize = pages.iter().map(|(_, typed)| typed.len()).sum();
    assert!(pages[0].1.len() >= 5 && count > pages[0].1.len(), "{count} blocks were found: the marks have changed");
}

fn check(page: &str, typed: &Typed, folder: &Path, url: &str) {
    let mut shell = Command::new("bash");
    shell.args(["-euo", "pipefail", "-c", &typed.commands]).current_dir(folder).stdin(Stdio::null());
    // Settings of the tests are none of the program's.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("REFOLD_")) {
        shell.env_remove(name);
    }
    let said = run(shell.env("CURL_HOME", text(folder)).env("REFOLD_SERVER", url).env("USER", "reader"));
    assert_eq!(said.status, Some(0), "{page}: {}{said:#?}", typed.commands);
    let printed = format!("{}\n{}", said.out, said.err);
    for promised in &typed.printed {
        assert!(printed.lines().any(|line| is_line(promised, line)), "{page} promises {promised:?} of\n{}{said:#?}", typed.commands);
    }
}

#[test]
fn blocks_and_their_promises_are_found() {
    let page = "```sh\nmake up\n```\n\n```sh\na\nb\n```\n\n```text\n1 … 2\n```\n\n```sql\nx\n```\n```sh run\nc\n```\nprose\n```text\nnot c's\n```\n";
    assert_eq!(typed(page, "sh"), [Typed { commands: "a\nb\n".into(), printed: vec!["1 … 2".into()] }]);
    assert_eq!(typed(page, "sh run"), [Typed { commands: "c\n".into(), printed: vec![] }]);
    assert!(is_line("1 … 2", "1 (one) 2") && !is_line("1 … 2", "1 (one) 23") && is_line("…2", "2") && !is_line("a.c", "abc"));
}
