//! `refold test`: cases of views that pass, that fail, and that cannot be run.

use std::path::Path;

use refold_tests::command::{Said, refold, text};
use refold_tests::program::root;

use super::schemas;

/// `refold test` over this folder.
fn test(schemas: &Path, arguments: &[&str]) -> Said {
    refold(&[&["test", "--schemas", text(schemas)], arguments].concat())
}

/// A copy of the sample's declarations with this file of cases.
fn with_cases(cases: &str) -> tempfile::TempDir {
    let folder = schemas();
    std::fs::create_dir(folder.path().join("tests")).unwrap();
    std::fs::write(folder.path().join("tests/cases.toml"), cases).unwrap();
    folder
}

const HEAD: &str = "view = \"hashtag_counts\"\ndefaults = { userid = 1, username = \"ann\", tweetid = 1 }\n";

#[test]
fn the_cases_of_every_application_pass_at_whatever_places_they_are_cut() {
    for seed in ["1", "2", "3", "4", "5"] {
        let said = refold(&["test", "--seed", seed]).ends(0);
        assert_eq!(said.err, "");
        let (cases, summary) = said.out.trim_end().rsplit_once('\n').unwrap();
        let count = cases.lines().count();
        assert!(count >= 10 && cases.lines().all(|line| line.starts_with("ok      hashtag_") && line.ends_with(" ms")), "{said:#?}");
        assert!(summary.starts_with(&format!("{count} cases: {count} passed, 0 failed, in ")), "{summary}");
        assert!(summary.ends_with(&format!("; seed {seed}")), "{summary}");
        let said = test(&root().join("tests/applications/shop"), &["--seed", seed]).ends(0);
        assert!(said.out.lines().filter(|line| line.starts_with("ok ")).count() >= 4, "{said:#?}");
    }
}

#[test]
fn cases_of_one_view_are_run_alone() {
    let said = refold(&["test", "hashtag_trends"]).ends(0).says("ok      hashtag_trends: ").says("; seed ");
    assert!(!said.out.contains("hashtag_counts"), "{said:#?}");
    let objects = refold(&["test", "hashtag_trends", "--json"]).ends(0).complains(" passed, 0 failed").objects();
    assert!(objects.len() >= 5 && objects.iter().all(|case| case["ok"] == true && case["view"] == "hashtag_trends"), "{objects:?}");
}

#[test]
fn a_failed_case_shows_how_rows_differ_and_which_events_are_behind_it() {
    let cases = format!(
        "{HEAD}
[[case]]
name = \"wrong\"
events = [
  {{ event = {{ timestamp = 2026-11-30T12:00:00Z, tweet = \"#rust #rust\" }}, partition = 2 }},
  {{ event = {{ timestamp = 2026-11-30T11:00:00Z, tweet = \"#go\" }}, partition = 2 }},
  {{ event = {{ timestamp = 2026-11-29T11:00:00Z, tweet = \"#old\" }}, partition = 2 }},
  {{ raw = \"no Avro\" }},
]
rows = [
  {{ hashtag = \"rust\", slot = 2026-11-30T12:00:00Z, occurrences = 1 }},
  {{ hashtag = \"old\", slot = 2026-11-29T11:00:00Z, occurrences = 1 }},
]
quarantined = {{ unknown_framing = 1 }}
late = 2

[[case]]
name = \"right\"
events = []
rows = []
"
    );
    let folder = with_cases(&cases);
    let said = test(folder.path(), &[]).ends(1).complains("error: 1 of 2 cases failed");
    let cases_file = folder.path().join("tests/cases.toml");
    let lines: Vec<&str> = said.out.lines().collect();
    assert!(lines[0].starts_with("failed  hashtag_counts: wrong  ") && lines[0].ends_with(" ms"), "{said:#?}");
    assert_eq!(lines[1], format!("  {}:5", cases_file.display()));
    let wanted = [
        "                hashtag  slot                  occurrences",
        "    unexpected  go       2026-11-30T11:00:00Z  1",
        "    missing     old      2026-11-29T11:00:00Z  1",
        "    changed     rust     2026-11-30T12:00:00Z  expected 1, found 2",
        "  quarantined: expected unknown_framing 1, found unknown_framing 1, too_late 1",
        "  late: expected 2, found 1",
        "  event 2 (line 8, partition 2, offset 1) is late, 1h behind the largest event time before it in its partition, and counts (of hashtag go)",
        "  event 3 (line 9, partition 2, offset 2) is quarantined as too_late: its event time is 1day 1h behind the largest one before it in its partition (of hashtag old)",
    ];
    assert_eq!(&lines[2..10], wanted, "{said:#?}");
    assert!(
        lines[10].starts_with("  event 4 (line 10, partition ") && lines[10].contains("is quarantined as unknown_framing: "),
        "{said:#?}"
    );
    assert!(lines[11].starts_with("ok      hashtag_counts: right  "), "{said:#?}");
    assert!(lines[12].starts_with("2 cases: 1 passed, 1 failed, in "), "{said:#?}");

    let objects = test(folder.path(), &["--json", "--seed", "9"]).ends(1).complains("1 of 2 cases failed").objects();
    let wrong = &objects[0];
    assert_eq!((&wrong["ok"], &wrong["line"], &wrong["seed"]), (&false.into(), &5.into(), &9.into()));
    assert_eq!(wrong["rows"]["missing"][0]["hashtag"], "old");
    assert_eq!((&wrong["rows"]["changed"][0]["expected"]["occurrences"], &wrong["late"]), (&1.into(), &1.into()));
    assert_eq!((&wrong["quarantined"]["too_late"], &wrong["events"][1]["verdict"]), (&1.into(), &"too_late".into()));
    assert_eq!(objects[1]["ok"], true);
}

#[test]
fn a_changed_view_fails_the_cases_that_it_changes() {
    let folder = with_cases(&std::fs::read_to_string(root().join("schemas/tests/hashtag_counts.toml")).unwrap());
    let view = folder.path().join("views/hashtag_counts.sql");
    let sql = std::fs::read_to_string(&view).unwrap();
    std::fs::write(&view, sql.replace("INTERVAL '5 minutes'", "INTERVAL '1 minute'")).unwrap();
    let said = test(folder.path(), &["hashtag_counts"]).ends(1);
    said.says("failed  hashtag_counts: hashtags are counted in slots of five minutes")
        .says("ok      hashtag_counts: a hashtag that a post has twice");
}

#[test]
fn what_cannot_be_run_is_named_with_file_line_and_case_and_ends_with_2() {
    let case = "[[case]]\nname = \"one\"\nevents = [{ timestamp = 2026-11-30T12:00:00Z, tweet = \"#a\" }]\nrows = []\n";
    let refused = |cases: String, complaint: &str| {
        let folder = with_cases(&cases);
        let said = test(folder.path(), &[]).ends(2).complains("tests/cases.toml:").complains(complaint);
        assert_eq!(said.out, "");
    };
    refused(format!("{HEAD}{case}rows"), "cases.toml:");
    refused(format!("{HEAD}{}", case.replace("rows", "row")), "cases.toml:6: unknown field `row`");
    refused(format!("{HEAD}{}", case.replace("tweet =", "twet =")), ":5: case \"one\": event 1: field tweet is missing");
    refused(format!("{HEAD}{}", case.replace("2026-11-30T12:00:00Z", "\"noon\"")), "event 1: at timestamp");
    refused(
        format!("{HEAD}{}", case.replace("[{ time", "[{ partition = 9, event = { time").replace("\" }]", "\" } }]")),
        "event 1: partition 9 is not there; source tweets has 0 to 3",
    );
    refused(
        format!("{HEAD}{}", case.replace("rows = []", "rows = [{ hashtag = \"a\" }]")),
        ":6: case \"one\": row 1: slot is part of what names a row",
    );
    refused(format!("{HEAD}{case}mapping = \"none\""), ":7: case \"one\": ");
    refused(
        format!("{}{case}", HEAD.replace("hashtag_counts", "hashtag_count")),
        ":1: case \"one\": there is no view hashtag_count; did you mean hashtag_counts?",
    );
    let folder = with_cases(&format!("{HEAD}{case}"));
    test(folder.path(), &["hashtag_cuonts"]).ends(2).complains("there is no view hashtag_cuonts; did you mean hashtag_counts?");
    test(folder.path(), &["hashtag_trends"]).ends(2).complains("view hashtag_trends has no case in ").complains("docs/testing.md");
    std::fs::write(folder.path().join("tests/cases.toml"), [0xFF]).unwrap();
    test(folder.path(), &[]).ends(2).complains("tests/cases.toml: cannot be read");
    std::fs::remove_dir_all(folder.path().join("tests")).unwrap();
    test(folder.path(), &[]).ends(2).complains("there are no cases in ").complains("--schemas");
    std::fs::write(folder.path().join("views/hashtag_counts.sql"), "SELECT").unwrap();
    test(folder.path(), &[]).ends(2).complains("hashtag_counts.sql:1").complains("refold check");
    test(&folder.path().join("none"), &[]).ends(2).complains("--schemas");
    refold(&["test", "--seed", "x"]).ends(2).complains("--seed");
}

#[test]
fn folders_with_cases_are_declarations_like_others() {
    let folder = with_cases("nothing that a case may say");
    refold(&["check", "--schemas", text(folder.path())]).ends(0).says("hashtag_counts.sql: ok");
}

#[test]
fn the_cases_in_the_documentation_pass() {
    let page = std::fs::read_to_string(root().join("docs/testing.md")).unwrap();
    let cases: Vec<&str> = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(cases.len() >= 2, "the marks have changed");
    for case in cases {
        let folder = with_cases(case);
        test(folder.path(), &[]).ends(0).says("1 case: 1 passed");
    }
}
