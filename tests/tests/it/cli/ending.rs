//! The way back, and the end of versions and views, over the embedded parts.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use refold_processor::engine::faults::Step;
use refold_processor::store::embedded::{EmbeddedStore, EmbeddedStoreSettings};
use refold_processor::store::{RowReader, StoreError};
use refold_processor::table::{Table, Version};
use refold_tests::command::{run_with, text};
use refold_tests::http::{get, post_lines, wait_until};
use refold_tests::program::{Program, binary, free_port, root};
use serde_json::{Value, json};

use super::client::ask;
use crate::http::{NEW_YEAR_MS, counts, post, up};

/// Builds version 2 of the counts, of slots twice as long, and waits until it is caught up.
fn second_version(url: &str, folder: &Path) {
    let file = folder.join("new.sql");
    let sql = std::fs::read_to_string(root().join("schemas/views/hashtag_counts.sql")).unwrap();
    std::fs::write(&file, sql.replace("5 minutes", "10 minutes")).unwrap();
    ask(url, &["replay", "hashtag_counts", "--file", text(&file), "--wait"]).ends(0);
}

fn posts(url: &str) {
    let lines: String = (0..10).map(|minute| post(1, NEW_YEAR_MS + minute * 60_000, "#rust")).collect();
    post_lines(url, "tweets", &lines).is(200);
    wait_until("version 1 has them", || counts(url, "rust") == [5, 5]);
}

fn version(url: &str, number: usize) -> Value {
    get(&format!("{url}/v1/views/hashtag_counts")).json["versions"][number - 1].clone()
}

fn has_state(data: &Path, version: &str) -> bool {
    data.join("state/hashtag_counts").join(version).exists()
}

/// Whether the store of a program that has ended has the table of a version.
fn has_table(data: &Path, version: u32) -> bool {
    let store = EmbeddedStore::open(&data.join("store"), &EmbeddedStoreSettings::default()).unwrap();
    // Of another shape, if it is there: nothing more is to be known of it.
    match store.progress(&Table::named("hashtag_counts", Version(version))) {
        Err(StoreError::UnknownTable(_)) => false,
        Ok(_) | Err(StoreError::OtherShape { .. }) => true,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn readers_go_back_and_what_nobody_needs_is_dropped() {
    let (data, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut program = up(data.path(), &[]);
    let url = &program.url;
    posts(url);
    ask(url, &["rollback", "hashtag_counts"]).ends(3).complains("v1 is the first version in service");
    second_version(url, folder.path());
    wait_until("it is switched to", || ask(url, &["switch", "hashtag_counts", "2"]).status == Some(0));
    assert_eq!(counts(url, "rust"), [10]);

    ask(url, &["rollback", "hashtag_counts", "--expected", "1"]).ends(3).complains("v2 is in service");
    let back = ask(url, &["rollback", "hashtag_counts", "--reason", "v2 miscounts"]).ends(0);
    assert_eq!(back.out, "readers of hashtag_counts are back on version 1; forward to 2: refold switch hashtag_counts 2\n");
    assert_eq!(counts(url, "rust"), [5, 5]);
    let again = ask(url, &["rollback", "hashtag_counts"]).ends(0);
    assert_eq!(again.out, "readers of hashtag_counts are back on version 1 already; forward to 2: refold switch hashtag_counts 2\n");
    let again = ask(url, &["rollback", "hashtag_counts", "--expected", "2", "--json"]).ends(0).objects();
    assert_eq!(again, [json!({ "view": "hashtag_counts", "from": 2, "to": 1, "rolled_back": false })]);
    let history = ask(url, &["history", "hashtag_counts"]).ends(0).says("rollback v2 -> v1");
    let entry = history.out.lines().find(|line| line.contains("rollback")).unwrap();
    assert!(entry.contains("ann") && entry.ends_with("v2 miscounts"), "{entry}");

    ask(url, &["drop", "hashtag_counts", "1"])
        .ends(3)
        .complains("readers are sent to version v1")
        .complains("refold switch hashtag_counts 2");
    ask(url, &["drop", "hashtag_counts", "2"]).ends(3).complains("drop_grace_ms").complains("--force");
    ask(url, &["drop", "hashtag_counts", "9"]).ends(1).complains("v9");
    let dropped = ask(url, &["drop", "hashtag_counts", "2", "--force", "--reason", "the disk is full"]).ends(0);
    assert!(dropped.out.starts_with("version 2 of hashtag_counts is dropped"), "{dropped:#?}");
    wait_until("nothing is left of it", || version(url, 2)["removed"] == true);
    assert_eq!((has_state(data.path(), "v1"), has_state(data.path(), "v2")), (true, false));
    let again = ask(url, &["drop", "hashtag_counts", "2"]).ends(0);
    assert_eq!(again.out, "version 2 of hashtag_counts is dropped already, and nothing is left of it\n");
    ask(url, &["status", "hashtag_counts"]).ends(0).says("dropped");
    ask(url, &["switch", "hashtag_counts", "2"]).ends(1);
    assert_eq!(counts(url, "rust"), [5, 5], "the other one is as it was");
    assert!(program.stop());
    assert_eq!((has_table(data.path(), 1), has_table(data.path(), 2)), (true, false));
}

#[test]
fn a_dropped_view_is_gone_until_a_file_that_still_declares_it_is_read_again() {
    let data = tempfile::tempdir().unwrap();
    let mut program = up(data.path(), &[]);
    posts(&program.url);
    // On a terminal the name is asked for.
    let typed = |name: &str| {
        let command = format!("{} drop hashtag_counts --all --server {}", binary().display(), program.url);
        let mut terminal = Command::new("script");
        terminal.args(["--quiet", "--return", "--command", &command, "/dev/null"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        run_with(&mut terminal, &format!("{name}\n"))
    };
    typed("hashtag_trends").ends(3).says("that is not hashtag_counts; nothing was dropped");
    assert_eq!(counts(&program.url, "rust"), [5, 5]);
    typed("hashtag_counts")
        .ends(0)
        .says("view hashtag_counts is dropped with all its versions")
        .says("hashtag_counts.sql still declares it");
    let rows = format!("{}/v1/views/hashtag_counts/rows?hashtag=rust", program.url);
    get(&rows).is_problem(404, "not-found").with_detail("refold replay hashtag_counts");
    let again = ask(&program.url, &["drop", "hashtag_counts", "--all", "--yes", "--json"]).ends(0).objects();
    assert_eq!((&again[0]["dropped"], &again[0]["versions"]), (&json!(false), &json!([])));
    let removed = || ask(&program.url, &["drop", "hashtag_counts", "--all", "--yes", "--json"]).objects()[0]["removed"] == true;
    wait_until("nothing is left of it", removed);
    assert!(!data.path().join("state/hashtag_counts").exists());
    ask(&program.url, &["drop", "nothing", "--all", "--yes"]).ends(1).complains("there is no view nothing; there are: hashtag_trends");
    ask(&program.url, &["history", "hashtag_counts"]).ends(0).says("drop v1 -> dropped").says("remove");
    get(&format!("{}/readyz", program.url)).is(200);
    get(&format!("{}/v1/views/hashtag_trends", program.url)).is(200);
    assert!(program.stop());
    assert!(!has_table(data.path(), 1));
    let program = up(data.path(), &[]);
    wait_until("the declared view is built again", || get(&rows_at(&program)).status == 200);
    assert_eq!(counts(&program.url, "rust"), [5, 5]);
    assert_eq!(get(&rows_at(&program)).json["version"], 2);
}

fn rows_at(program: &Program) -> String {
    format!("{}/v1/views/hashtag_counts/rows?hashtag=rust", program.url)
}

#[test]
fn a_drop_that_is_killed_at_any_step_is_finished_by_the_next_process() {
    for step in Step::REMOVAL {
        let (data, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut program = up(data.path(), &["--fault", &format!("{}:1", step.name())]);
        posts(&program.url);
        second_version(&program.url, folder.path());
        // Readers were never sent to it. The answer may or may not come before the process ends.
        let _ = ask(&program.url, &["drop", "hashtag_counts", "2"]);
        wait_until("the process ends itself", || program.has_ended());
        let mut program = Program::start(data.path(), free_port(), &[]);
        assert!(program.wait_until_up());
        let is_removed = || version(&program.url, 2)["removed"] == true;
        wait_until(&format!("what was left at {} is removed", step.name()), is_removed);
        assert_eq!(version(&program.url, 2)["state"], "dropped");
        wait_until("the other one is in service", || get(&rows_at(&program)).status == 200);
        assert_eq!(counts(&program.url, "rust"), [5, 5], "{}", step.name());
        assert!(program.stop());
        assert_eq!((has_state(data.path(), "v1"), has_state(data.path(), "v2")), (true, false), "{}", step.name());
        assert_eq!((has_table(data.path(), 1), has_table(data.path(), 2)), (true, false), "{}", step.name());
    }
}

#[test]
fn a_retired_version_is_dropped_by_itself() {
    let (data, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let program = up(data.path(), &["--drop-grace-ms", "0", "--retire-after-ms", "4000"]);
    let url = &program.url;
    posts(url);
    second_version(url, folder.path());
    wait_until("it is switched to", || ask(url, &["switch", "hashtag_counts", "2"]).status == Some(0));
    ask(url, &["status", "hashtag_counts"]).ends(0).says("dropped by itself at");
    wait_until("it is dropped", || version(url, 1)["state"] == "dropped" && version(url, 1)["removed"] == true);
    assert_eq!(counts(url, "rust"), [10]);
    ask(url, &["history", "hashtag_counts"]).ends(0).says("drop retired -> dropped").says("retire_after_ms has passed");
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(version(url, 2)["state"], "active");
}
