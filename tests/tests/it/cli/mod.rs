//! The command line, as it is typed: what goes to stdout, what to stderr, and how it ends.

mod building;
mod cases;
pub mod client;
mod collect;
mod ending;
mod projects;
mod refusals;
mod stopping;

use std::process::Command;

use refold_tests::command::{Said, command, refold, run, text};
use refold_tests::program::{binary, root};

/// All verbs, with those below them.
const VERBS: [&[&str]; 26] = [
    &["up"],
    &["collect"],
    &["source"],
    &["source", "infer"],
    &["new"],
    &["check"],
    &["test"],
    &["status"],
    &["plan"],
    &["apply"],
    &["replay"],
    &["switch"],
    &["diff"],
    &["audit"],
    &["verify"],
    &["why"],
    &["rollback"],
    &["drop"],
    &["resume"],
    &["quarantine"],
    &["quarantine", "list"],
    &["quarantine", "show"],
    &["history"],
    &["settings"],
    &["completions"],
    &["help"],
];

/// A copy of the sample's declarations, to be changed.
pub fn schemas() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["sources.toml", "events/tweet.avsc", "views/hashtag_counts.sql", "views/hashtag_trends.sql"] {
        let to = folder.path().join(name);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(root().join("schemas").join(name), to).unwrap();
    }
    folder
}

#[test]
fn every_verb_has_a_help_that_fits_a_page() {
    let listed = refold(&["--help"]).ends(0);
    assert_eq!(listed.err, "");
    for verb in VERBS {
        let said = match verb {
            ["help"] => refold(&["help"]),
            verb => refold(&[verb, &["--help"][..]].concat()),
        }
        .ends(0);
        assert_eq!(said.err, "", "{verb:?}");
        let usage = if verb == ["help"] { "Usage: refold <COMMAND>".to_owned() } else { format!("Usage: refold {}", verb.join(" ")) };
        assert!(said.out.contains(&usage), "{verb:?}: {}", said.out);
        assert!(listed.out.contains(&format!("\n  {} ", verb[0])), "{verb:?} is not in the list of verbs");
        let widest = said.out.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= 120, "{verb:?} has a line of {widest} characters");
        assert!(!said.out.contains('\u{1b}'), "{verb:?}: no colours where nobody sees them");
    }
    refold(&["--version"]).ends(0).says("refold 0.");
}

#[test]
fn wrong_usage_ends_with_2_and_the_way_out() {
    refold(&[]).ends(2).complains("Usage: refold <COMMAND>");
    refold(&["stauts"]).ends(2).complains("'status'");
    refold(&["status", "--wtach"]).ends(2).complains("'--watch'");
    refold(&["switch"]).ends(2).complains("<VIEW>");
    refold(&["switch", "v", "two"]).ends(2).complains("not the number of a version");
    refold(&["switch", "v", "2", "--force"]).ends(2).complains("--reason");
    refold(&["rollback", "v", "--force"]).ends(2).complains("--reason");
    refold(&["drop", "v"]).ends(2).complains("<VERSION>");
    refold(&["drop", "v", "1", "--all"]).ends(2).complains("cannot be used with");
    refold(&["drop", "v", "1", "--yes"]).ends(2).complains("cannot be used with");
    refold(&["drop", "v", "--all"]).ends(2).complains("--yes");
    refold(&["resume", "v"]).ends(2).complains("<VERSION>");
    refold(&["quarantine", "list", "v", "--limit", "0"]).ends(2).complains("--limit");
    refold(&["collect", "jsnol:x"]).ends(2).complains("did you mean jsonl");
    refold(&["collect", "jsonl:x", "--to", "http://127.0.0.1:1", "--data", "d"]).ends(2).complains("cannot be used with");
    refold(&["up", "--memory-mb", "lots"]).ends(2).complains("--memory-mb: \"lots\" is not a whole number");
    refold(&["up", "--source", "generate:1?sed=1"]).ends(2).complains("there is count, seed");
    refold(&["completions", "tcsh"]).ends(2).complains("bash");
}

#[test]
fn settings_that_nothing_knows_are_refused_with_the_nearest_known_one() {
    let refused = run(command(&["check"]).env("REFOLD_MEMROY_MB", "64")).ends(2);
    assert_eq!(refused.err, "error: environment variable REFOLD_MEMROY_MB is not known; did you mean REFOLD_MEMORY_MB?\n");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("refold.toml"), "shcemas = \"x\"\n").unwrap();
    let said = run(command(&["check"]).current_dir(folder.path())).ends(2);
    assert_eq!(said.err, "error: refold.toml: key shcemas is not known; did you mean schemas?\n");
    run(command(&["check", "--config", "none.toml"]).current_dir(folder.path())).ends(2).complains("cannot read none.toml");
    std::fs::write(folder.path().join("refold.toml"), "schemas = \n").unwrap();
    run(command(&["check"]).current_dir(folder.path())).ends(2).complains("refold.toml: TOML parse error at line 1");
    std::fs::write(folder.path().join("refold.toml"), format!("schemas = {:?}\n", text(&root().join("schemas")))).unwrap();
    run(command(&["check"]).current_dir(folder.path())).ends(0).says("hashtag_trends.sql: ok");
}

#[test]
fn settings_and_completions_are_data() {
    let settings = refold(&["settings"]).ends(0);
    assert_eq!((settings.out, settings.err), (std::fs::read_to_string(root().join("docs/refold.toml")).unwrap(), String::new()));
    for (shell, word) in [("bash", "complete -F _refold"), ("zsh", "#compdef refold"), ("fish", "complete -c refold")] {
        let said = refold(&["completions", shell]).ends(0).says(word).says("quarantine").says("caught-up-lag-events");
        assert_eq!(said.err, "");
        if shell == "bash" {
            let checked = refold_tests::command::run_with(Command::new("bash").arg("-n").stdout(std::process::Stdio::piped()), &said.out);
            assert_eq!(checked.status, Some(0));
        }
    }
}

#[test]
fn who_has_read_enough_may_close_the_pipe() {
    let piped = format!("set -o pipefail; {} settings | head -n 1", binary().display());
    let said = run(Command::new("bash").args(["-c", &piped]));
    assert_eq!((said.status, said.out.lines().count(), said.err.as_str()), (Some(0), 1, ""));
}

#[test]
fn good_views_are_explained_on_stdout() {
    let said = refold(&["check"]).ends(0).says("hashtag_counts.sql: ok").says("hashtag_trends.sql: ok").says("tumble");
    assert_eq!(said.err, "");
    let objects = refold(&["check", "--json", "schemas/views/hashtag_counts.sql"]).ends(0).objects();
    assert_eq!((objects.len(), &objects[0]["view"], &objects[0]["ok"]), (1, &"hashtag_counts".into(), &true.into()));
}

#[test]
fn bad_views_are_refused_with_file_line_and_column() {
    let folder = schemas();
    let check = |arguments: &[&str]| -> Said {
        run(command(&["check"]).args(arguments).arg("--schemas").arg(folder.path()).current_dir(folder.path()))
    };
    let path = folder.path().join("views/hashtag_counts.sql");
    let good = std::fs::read_to_string(&path).unwrap();
    let line = 1 + good.lines().position(|line| line.starts_with("SELECT hashtag, tumble")).unwrap();
    std::fs::write(&path, good.replace("SELECT hashtag, tumble(timestamp", "SELECT hashtag, tumbel(timestamp")).unwrap();
    let said = check(&["views/hashtag_counts.sql"]).ends(1).complains(&format!("views/hashtag_counts.sql:{line}:")).complains("tumble");
    assert_eq!(said.out, "");
    let all = check(&[]).ends(1).says("hashtag_trends.sql: ok").complains("1 of 2 view files refused");
    assert!(!all.out.contains("hashtag_counts"), "{all:#?}");
    let objects = check(&["--json"]).ends(1).objects();
    assert_eq!((&objects[0]["ok"], &objects[0]["line"], &objects[1]["ok"]), (&false.into(), &line.into(), &true.into()));
    std::fs::write(&path, &good).unwrap();
    std::fs::copy(&path, folder.path().join("views/more.sql")).unwrap();
    check(&[]).ends(1).complains("views/more.sql:1:1").complains("is defined in");
    check(&["views/none.sql"]).ends(1).complains("cannot read views/none.sql");
    std::fs::write(&path, format!("\u{feff}{good}")).unwrap();
    std::fs::remove_file(folder.path().join("views/more.sql")).unwrap();
    check(&["views"]).ends(0).says("views/hashtag_counts.sql: ok").says("views/hashtag_trends.sql: ok");
    std::fs::write(&path, [b"-- first\n-- caf\xe9\n", good.as_bytes()].concat()).unwrap();
    check(&[]).ends(1).complains("hashtag_counts.sql:2: the file is not UTF-8");
}
