//! What keeps a wrong version from its readers: audits, gates, groups that switch as one, and rows that are computed anew from the log.

use std::path::Path;
use std::process::Command;

use refold_processor::source::load_sources;
use refold_processor::store::embedded::{EmbeddedStore, EmbeddedStoreSettings};
use refold_processor::store::{RowBatch, RowReader, RowWriter};
use refold_processor::table::{Table, Version};
use refold_tests::command::{Said, refold, run, text};
use refold_tests::http::{get, post_lines, wait_until};
use refold_tests::program::{Program, binary, free_port, root};
use refold_versions::planner::Planner;
use serde_json::{Value, json};

use crate::cli::client::ask;
use crate::http::{NEW_YEAR_MS, counts, post, up_over};

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

/// The sample application, whose views may be changed, and a running program over it.
struct World {
    folder: tempfile::TempDir,
    data: tempfile::TempDir,
    program: Program,
}

fn world(change: impl Fn(&Path)) -> World {
    let (folder, data) = (crate::cli::schemas(), tempfile::tempdir().unwrap());
    change(folder.path());
    let program = up_over(folder.path(), data.path(), &[]);
    World { folder, data, program }
}

impl World {
    /// Asks with the folder's declarations.
    fn ask(&self, arguments: &[&str]) -> Said {
        ask(&self.program.url, &[arguments, &["--schemas", text(self.folder.path())]].concat())
    }

    fn asks(&self, arguments: &[&str]) -> Said {
        ask(&self.program.url, arguments)
    }

    fn change(&self, view: &str, from: &str, to: &str) {
        change(self.folder.path(), view, from, to);
    }

    fn post(&self, lines: &str) {
        post_lines(&self.program.url, "tweets", lines).is(200);
    }
}

fn change(folder: &Path, view: &str, from: &str, to: &str) {
    let path = folder.join(format!("views/{view}.sql"));
    let sql = std::fs::read_to_string(&path).unwrap();
    assert!(sql.contains(from), "{sql}");
    std::fs::write(path, sql.replacen(from, to, 1)).unwrap();
}

fn ten_minutes() -> String {
    (0..10).map(|minute| post(1, NEW_YEAR_MS + minute * MINUTE_MS, "#rust")).collect()
}

#[test]
fn a_version_whose_rows_fail_an_audit_is_not_switched_to_and_an_audit_alone_replays_nothing() {
    let world = world(|folder| change(folder, "hashtag_counts", "WITH (", "WITH (audit_small = 'occurrences <= 5',"));
    world.post(&ten_minutes());
    wait_until("version 1 has them", || counts(&world.program.url, "rust") == [5, 5]);
    world.asks(&["audit", "hashtag_counts"]).ends(0).says("small").says("hashtag_counts: version 1, 2 rows");
    world.change("hashtag_counts", "5 minutes", "10 minutes");
    let refused = world.ask(&["apply", "--yes"]).ends(3).complains("1 of 1 rows fail small (occurrences <= 5)");
    refused.complains("refold audit hashtag_counts 2").complains("--force");
    assert_eq!(counts(&world.program.url, "rust"), [5, 5]);
    world.asks(&["switch", "hashtag_counts"]).ends(3).complains("fail small");

    let said = world.asks(&["audit", "hashtag_counts", "2", "--json"]).ends(3).complains("rows of version 2 fail small");
    let report = said.objects().remove(0);
    let example = json!({ "hashtag": "rust", "slot": "2024-01-01T00:00:00Z", "occurrences": 10 });
    assert_eq!((&report["rows"], &report["audits"][0]["failed"], &report["audits"][0]["examples"][0]), (&json!(1), &json!(1), &example));
    let dry = world.asks(&["switch", "hashtag_counts", "--dry-run", "--diff-within", "0.1"]).ends(3);
    dry.says("audits      refused").says("current     passed").says("diff        refused").complains("would not be switched");
    // An audit that is changed counts for the version that is there.
    world.change("hashtag_counts", "occurrences <= 5", "occurrences <= 10");
    world.ask(&["plan", "--detailed-exitcode"]).ends(4).complains("1 view to change");
    world.asks(&["audit", "hashtag_counts", "2"]).ends(0);
    world.change("hashtag_counts", "occurrences <= 10", "occurrences < 10");
    world.asks(&["switch", "hashtag_counts", "--force", "--reason", "large ones are fine"]).ends(0);
    assert_eq!(counts(&world.program.url, "rust"), [10]);
    let last = world.asks(&["history", "hashtag_counts", "--limit", "1", "--json"]).ends(0).objects().remove(0);
    assert_eq!(last["reason"], "large ones are fine (forced: audits: 1 of 1 rows fail small (occurrences < 10))");
    // No gate but that of current rows is in the way back.
    world.asks(&["rollback", "hashtag_counts"]).ends(0);
    let check = || refold(&["check", "--schemas", text(world.folder.path())]);
    check().ends(0).says("audit       small: occurrences < 10");
    world.change("hashtag_counts", "occurrences < 10", "ocurrences < 10");
    check().ends(1).complains("audit small: unknown column ocurrences").complains("did you mean occurrences?");
    world.asks(&["audit", "hashtag_trends"]).ends(1).complains("declares no audits");
}

#[test]
fn a_version_that_quarantines_every_event_is_refused_with_the_reason() {
    let world = world(|_| {});
    world.post(&ten_minutes());
    wait_until("version 1 has them", || counts(&world.program.url, "rust") == [5, 5]);
    world.change("hashtag_counts", "FROM tweets)", "FROM tweets WHERE 10 / (userid - 1) >= 0)");
    let refused = world.ask(&["apply", "--yes"]).ends(3).complains("none of the 10 events that it has read is applied (evaluation 10)");
    refused.complains("refold quarantine list hashtag_counts --version 2");
    assert_eq!(counts(&world.program.url, "rust"), [5, 5]);
    let path = format!("{}/v1/admin/views/hashtag_counts/switch", world.program.url);
    let problem = refold_tests::http::send("POST", &path, &[("content-type", "application/json")], "{}").is_problem(409, "gate").json;
    assert_eq!(
        (&problem["gate"], &problem["gates"][0]["passed"], &problem["gates"][1]["gate"]),
        (&json!("quarantine"), &json!(true), &json!("quarantine"))
    );
}

#[test]
fn the_views_of_a_plan_are_switched_as_one_and_a_declared_tolerance_is_a_gate() {
    let world = world(|folder| change(folder, "hashtag_counts", "WITH (", "WITH (diff_tolerance = '0.2',"));
    world.post(&ten_minutes());
    wait_until("version 1 has them", || counts(&world.program.url, "rust") == [5, 5]);
    // One in ten fewer is less than a fifth; the other view changes as well.
    world.change("hashtag_counts", "count(*) AS occurrences", "count(*) + 1 AS occurrences");
    world.change("hashtag_trends", "rank <= 20", "rank <= 10");
    let said = world.ask(&["apply", "--yes", "--reason", "one more"]).ends(0).says("hashtag_counts: version 2 has the rows of version 1");
    said.says("readers of hashtag_counts are on version 2").says("readers of hashtag_trends are on version 2");
    assert_eq!(counts(&world.program.url, "rust"), [6, 6]);
    for view in ["hashtag_counts", "hashtag_trends"] {
        let last = world.asks(&["history", view, "--limit", "1", "--json"]).ends(0).objects().remove(0);
        assert_eq!((&last["verb"], &last["reason"]), (&json!("switch"), &json!("one more (as one with hashtag_counts, hashtag_trends)")));
    }
    // Twice as many is too many: neither view moves.
    world.change("hashtag_counts", "count(*) + 1", "count(*) * 2");
    world.change("hashtag_trends", "rank <= 10", "rank <= 5");
    let refused = world.ask(&["apply", "--yes"]).ends(3).complains("nothing was switched: version 3 of hashtag_counts");
    refused.complains("the tolerance that the view declares (diff_tolerance)");
    world
        .asks(&["switch", "hashtag_counts", "3"])
        .ends(3)
        .complains("2 rows differ by more than 0.2 from v2")
        .complains("refold diff hashtag_counts 2 3");
    world.asks(&["diff", "hashtag_counts", "2", "3", "--tolerance", "0.9"]).ends(0);
    let traced = world.asks(&["diff", "hashtag_counts", "2", "3", "--why"]).ends(3).says("events behind hashtag rust");
    traced.says("occurrences 6 -> 10").says("#rust");
    world.ask(&["apply", "--yes", "--no-diff"]).ends(0).says("readers of hashtag_trends are on version 3");
    assert_eq!(counts(&world.program.url, "rust"), [10, 10]);
    let active = |view: &str| get(&format!("{}/v1/views/{view}", world.program.url)).is(200).json["active"]["version"].clone();
    assert_eq!([active("hashtag_counts"), active("hashtag_trends")], [json!(3), json!(3)]);
}

/// Two hours of posts on the first day, and one in each partition two days later, so that their windows are closed.
fn closed_hours() -> String {
    let hours =
        (0..120).map(|minute| post(minute, NEW_YEAR_MS + minute as i64 * MINUTE_MS, if minute % 3 == 0 { "#rust #c" } else { "#rust" }));
    let later = (0..60).map(|user| post(user, NEW_YEAR_MS + 2 * DAY_MS, "#later"));
    hours.chain(later).collect()
}

#[test]
fn a_row_that_is_not_what_the_log_makes_is_named_and_no_other() {
    let mut world = world(|folder| change(folder, "hashtag_trends", "keep = '1 day'", "keep = '9 days'"));
    world.post(&closed_hours());
    wait_until("version 1 has them", || counts(&world.program.url, "later") == [60]);
    world.asks(&["verify", "hashtag_counts"]).ends(0).complains("24 windows of version 1 have the rows that the log makes, 48 in all");
    let trends = || world.asks(&["verify", "hashtag_trends", "--json"]).ends(0).objects().remove(0);
    wait_until("the rankings of the first day are closed", || trends()["equal"].as_u64().unwrap() > 700);
    let narrow = ["verify", "hashtag_counts", "--from", "2024-01-01T00:30:00Z", "--to", "2024-01-01T01:00:00Z", "--json"];
    let report = world.asks(&narrow).ends(0).objects().remove(0);
    assert_eq!(
        (&report["equal"], &report["rows"], &report["closed_to"]),
        (&json!(6), &json!(12), &json!("2024-01-01T23:59:50Z")),
        "{report}"
    );

    assert!(world.program.stop());
    corrupt(&world);
    world.program = Program::start_over(world.folder.path(), world.data.path(), free_port(), &[]);
    assert!(world.program.wait_until_up());
    wait_until("it is in service", || get(&format!("{}/readyz", world.program.url)).status == 200);
    let said = world.asks(&["verify", "hashtag_counts", "--json"]).ends(3).complains("1 of 24 windows of version 1 differ");
    let report = said.objects().remove(0);
    assert_eq!(
        (&report["differing"], &report["equal"], report["examples"].as_array().unwrap().len()),
        (&json!(1), &json!(23), 1),
        "{report}"
    );
    let example = &report["examples"][0];
    assert_eq!((&example["kind"], &example["window"]), (&json!("changed"), &json!("2024-01-01T00:10:00Z")));
    assert_eq!(example["key"], json!({ "hashtag": "rust", "slot": "2024-01-01T00:10:00Z" }));
    assert_eq!((&example["stored"]["occurrences"], &example["computed"]["occurrences"]), (&json!(777), &json!(5)));
    world.asks(&["verify", "hashtag_counts", "--window", "2024-01-01T00:10:00Z"]).ends(3).says("occurrences 777").says("occurrences 5");
    world.asks(&["verify", "hashtag_counts", "--window", "2024-01-01T00:15:00Z"]).ends(0);
    world.asks(&["verify", "hashtag_counts", "--from", "noon"]).ends(1).complains("\"noon\" is not a time");
}

/// Writes another count into one row of the stopped program's table.
fn corrupt(world: &World) {
    let planner = Planner::new(&load_sources(world.folder.path()).unwrap()).unwrap();
    let sql = std::fs::read_to_string(world.folder.path().join("views/hashtag_counts.sql")).unwrap();
    let view = planner.plan(&sql, "hashtag_counts.sql").unwrap();
    let table = Table { view: view.name.clone(), version: Version(1), shape: view.shape };
    let store = EmbeddedStore::open(&world.data.path().join("store"), &EmbeddedStoreSettings::default()).unwrap();
    for batch in store.scan(&table).unwrap() {
        for row in 0..batch.num_rows() {
            let object = refold_processor::json::object(&batch, row);
            if object["hashtag"] == "rust" && object["slot"] == "2024-01-01T00:10:00Z" {
                let mut columns = batch.slice(row, 1).columns().to_vec();
                columns[2] = std::sync::Arc::new(datafusion::arrow::array::Int64Array::from(vec![777]));
                let rows = datafusion::arrow::array::RecordBatch::try_new(batch.schema(), columns).unwrap();
                store.write(&table, &RowBatch { rows, written_at: vec![1 << 62], deleted: vec![false] }).unwrap();
                return;
            }
        }
    }
    panic!("there is no such row");
}

#[test]
fn a_case_is_recorded_from_the_log_and_passes() {
    let world = world(|folder| change(folder, "hashtag_trends", "keep = '1 day'", "keep = '9 days'"));
    world.post(&closed_hours());
    wait_until("version 1 has them", || counts(&world.program.url, "later") == [60]);
    let said = world.ask(&["test", "--record", "hashtag_counts", "--key", "hashtag=rust", "--key", "slot=2024-01-01T00:10:00Z"]).ends(0);
    said.says("tests/hashtag_counts_recorded_rust_2024_01_01t00_10_00z.toml: a row of hashtag_counts, and 5 events")
        .complains("as they were posted");
    world.ask(&["test", "--record", "hashtag_counts"]).ends(0);
    let of_window = "slot=2024-01-01T00:20:00Z";
    world.ask(&["test", "--record", "hashtag_trends", "--key", of_window]).ends(0).says("2 rows of hashtag_trends");
    world
        .ask(&["test"])
        .ends(0)
        .says("3 cases: 3 passed, 0 failed")
        .says("ok      hashtag_counts: recorded: hashtag rust, slot 2024-01-01T00:10:00Z");
    // What the case shows, when the view is changed.
    world.change("hashtag_counts", "5 minutes", "10 minutes");
    world
        .ask(&["test", "hashtag_counts"])
        .ends(1)
        .says("failed  hashtag_counts: recorded: hashtag c, slot 2024-01-01T01:55:00Z and 1 more");
    world.ask(&["test", "--record", "hashtag_counts"]).ends(3).complains("is not the definition that is in service");
    world.change("hashtag_counts", "10 minutes", "5 minutes");
    world.ask(&["test", "--record", "hashtag_counts", "--key", "hashtag=none"]).ends(3).complains("no such row");
    world
        .ask(&["test", "--record", "hashtag_counts", "--key", "tag=none"])
        .ends(2)
        .complains("the key of a row of hashtag_counts is hashtag, slot");
    let half = ["test", "--record", "hashtag_trends", "--key", of_window, "--key", "rank=2"];
    world.ask(&half).ends(3).complains("nothing was recorded").complains("name the whole window");
}

/// The shell of each step of the workflow that is for any runner.
fn steps() -> Vec<String> {
    let workflow = std::fs::read_to_string(root().join("docs/workflows/pull-request.yml")).unwrap();
    let mut steps = Vec::new();
    for (_, step) in workflow.match_indices("run: |\n").map(|(at, found)| workflow.split_at(at + found.len())) {
        let lines = step.lines().take_while(|line| line.starts_with("          "));
        steps.push(lines.map(str::trim).collect::<Vec<_>>().join("\n"));
    }
    steps
}

#[test]
fn the_steps_of_the_workflow_for_pull_requests_do_what_it_says() {
    let world = world(|_| {});
    world.post(&ten_minutes());
    wait_until("version 1 has them", || counts(&world.program.url, "rust") == [5, 5]);
    // A checkout of a repository, in which a view was changed.
    let checkout = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").arg("-r").arg(world.folder.path()).arg(checkout.path().join("schemas")).status().unwrap();
    assert!(copied.success());
    std::fs::create_dir(checkout.path().join("schemas/tests")).unwrap();
    std::fs::copy(root().join("schemas/tests/hashtag_trends.toml"), checkout.path().join("schemas/tests/hashtag_trends.toml")).unwrap();
    std::fs::create_dir(checkout.path().join("bin")).unwrap();
    std::os::unix::fs::symlink(binary(), checkout.path().join("bin/refold")).unwrap();
    let git = |arguments: &[&str]| assert!(Command::new("git").arg("-C").arg(checkout.path()).args(arguments).status().unwrap().success());
    git(&["init", "--quiet"]);
    git(&["add", "schemas"]);
    git(&["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false", "commit", "--quiet", "-m", "views"]);
    change(&checkout.path().join("schemas"), "hashtag_counts", "5 minutes", "10 minutes");
    let steps = steps();
    assert_eq!(steps.len(), 3, "{steps:?}");
    for step in &steps {
        let path = format!("{}:{}", checkout.path().join("bin").display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", step]).current_dir(checkout.path()).env("PATH", path);
        run(shell.env("REFOLD_SERVER", &world.program.url)).ends(0);
    }
    let plan = std::fs::read_to_string(checkout.path().join("plan.md")).unwrap();
    assert!(
        plan.contains("| `hashtag_counts` | changed |") && plan.contains("+SELECT hashtag, tumble(timestamp, INTERVAL '10 minutes')"),
        "{plan}"
    );
    assert!(plan.contains("a new version reads 10 events") && plan.contains("version 1 takes about 2 rows"), "{plan}");
    assert!(plan.contains("the folder is at commit ") && plan.contains("-dirty"), "{plan}");
    // What the change does, before anything is built.
    let schemas = checkout.path().join("schemas");
    let canary = ["plan", "hashtag_counts", "--canary=1", "--json", "--schemas", text(&schemas)];
    let canary = ask(&world.program.url, &canary).ends(0).objects().remove(0)["canary"].clone();
    assert_eq!(
        [&canary["records"], &canary["changed"], &canary["missing"], &canary["extra"]],
        [&json!(10), &json!(1), &json!(1), &json!(0)],
        "{canary}"
    );
    ask(&world.program.url, &["plan", "--canary=1", "--schemas", text(&schemas)])
        .ends(0)
        .says("occurrences 5 -> 10")
        .says("canary: over the first 10 of 10 events");
    // The commit stays with the version.
    ask(&world.program.url, &["apply", "--yes", "--schemas", text(&schemas)]).ends(0);
    let versions = get(&format!("{}/v1/views/hashtag_counts", world.program.url)).is(200).json["versions"].clone();
    assert!(versions[1]["commit"].as_str().unwrap().ends_with("-dirty") && versions[0]["commit"] == Value::Null, "{versions}");
    ask(&world.program.url, &["history", "hashtag_counts"]).ends(0).says("commit ");
}
