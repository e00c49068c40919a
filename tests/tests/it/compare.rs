//! What a change of a view's logic does to its rows, and which events are behind them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use refold_tests::command::text;
use refold_tests::http::{get, post_lines, wait_until};
use refold_tests::program::{Program, root};
use serde_json::{Value, json};

use crate::cli::client::ask;
use crate::http::{NEW_YEAR_MS, counts, post, up};

const MINUTE_MS: i64 = 60_000;

/// Builds a version of a changed definition, and waits until it is caught up.
fn replay(program: &Program, view: &str, change: impl Fn(&str) -> String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("new.sql");
    let sql = std::fs::read_to_string(root().join(format!("schemas/views/{view}.sql"))).unwrap();
    let changed = change(&sql);
    assert_ne!(sql, changed);
    std::fs::write(&file, changed).unwrap();
    ask(&program.url, &["replay", view, "--file", text(&file)]).ends(0);
    let states = || get(&format!("{}/v1/views/{view}", program.url)).is(200).json["versions"].clone();
    wait_until("it is caught up", || states().as_array().unwrap().last().unwrap()["state"] == "caught_up");
}

#[test]
fn a_diff_finds_what_a_change_of_the_logic_changes_and_nothing_else() {
    let data = tempfile::tempdir().unwrap();
    let program = up(data.path(), &[]);
    // Two hours of posts: in each slot of five minutes a post of two tags, and every tenth minute one more that the new logic leaves out.
    let minute = |number: i64| {
        let at = NEW_YEAR_MS + number * MINUTE_MS;
        let more = if number % 10 == 0 { post(13, at + 1, "#rust #spam") } else { String::new() };
        post(1, at, "#rust #c") + &more
    };
    post_lines(&program.url, "tweets", &(0..120).map(minute).collect::<String>()).is(200);
    wait_until("version 1 has them", || counts(&program.url, "rust").iter().sum::<u64>() == 132);
    ask(&program.url, &["diff", "hashtag_counts"])
        .ends(3)
        .complains("has no other version than v1")
        .complains("refold replay hashtag_counts");
    replay(&program, "hashtag_counts", |sql| sql.replace("FROM tweets)", "FROM tweets WHERE userid <> 13)"));

    let said = ask(&program.url, &["diff", "hashtag_counts", "--json"]).ends(3).complains("24 rows of version 2 differ from version 1");
    let report = said.objects().remove(0);
    // Every other slot has a post of user 13: one less for rust, and none of spam.
    let count = |name: &str| report[name].as_u64().unwrap();
    assert_eq!([count("equal"), count("changed"), count("missing"), count("extra"), count("moving")], [36, 12, 12, 0, 0], "{report:#}");
    assert_eq!((&report["left"]["version"], &report["right"]["version"], &report["is_equal"]), (&json!(1), &json!(2), &json!(false)));
    assert_eq!(report["windows"].as_array().unwrap().len(), 12);
    for example in report["examples"].as_array().unwrap() {
        match example["kind"].as_str().unwrap() {
            "changed" => {
                assert_eq!(example["key"]["hashtag"], "rust");
                assert_eq!((&example["left"], &example["right"]), (&json!({ "occurrences": 6 }), &json!({ "occurrences": 5 })));
            }
            "missing" => assert_eq!((&example["key"]["hashtag"], &example["right"]), (&json!("spam"), &Value::Null)),
            other => panic!("{other}"),
        }
    }
    let shown = ask(&program.url, &["diff", "hashtag_counts", "1", "2"]).ends(3);
    shown.says("version 2 compared with version 1").says("occurrences 6 -> 5").says("hashtag spam");
    let within = ask(&program.url, &["diff", "hashtag_counts", "--tolerance", "0.2", "--json"]).ends(3).objects().remove(0);
    assert_eq!((&within["changed"], &within["missing"], &within["within_tolerance"]), (&json!(0), &json!(12), &json!(12)));
    ask(&program.url, &["diff", "hashtag_counts", "--tolerance", "7"]).ends(1).complains("tolerance");
    ask(&program.url, &["diff", "hashtag_counts", "2", "2"]).ends(1).complains("compared with itself");
    ask(&program.url, &["diff", "hashtag_counts", "1", "9"]).ends(1).complains("no version v9");
    // After the switch nothing waits: what it has changed.
    ask(&program.url, &["switch", "hashtag_counts"]).ends(0);
    let after = ask(&program.url, &["diff", "hashtag_counts", "--json"]).ends(3).objects().remove(0);
    assert_eq!((&after["left"]["version"], &after["right"]["version"], &after["changed"]), (&json!(1), &json!(2), &json!(12)));
}

#[test]
fn versions_of_one_definition_are_equal_while_events_come() {
    let data = tempfile::tempdir().unwrap();
    let program = up(data.path(), &[]);
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _ended = Ended(&ended);
        scope.spawn(|| {
            // The rows of the last slot change all the time.
            for number in (0..).take_while(|_| !ended.load(Ordering::Relaxed)) {
                let of_round = |post_number: i64| post(1, NEW_YEAR_MS + number * 1_000 + post_number, &format!("#a{} #b", post_number % 9));
                post_lines(&program.url, "tweets", &(0..20).map(of_round).collect::<String>()).is(200);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        replay(&program, "hashtag_counts", |sql| sql.replace("count(*)", "count(hashtag)"));
        let said = ask(&program.url, &["diff", "hashtag_counts", "--settle", "30", "--json"]);
        let report = said.objects().remove(0);
        let none = json!(0);
        assert_eq!([&report["changed"], &report["missing"], &report["extra"]], [&none; 3], "{report:#}");
        assert!(report["equal"].as_u64().unwrap() + report["moving"].as_u64().unwrap() >= 10, "{report:#}");
    });
    let report = ask(&program.url, &["diff", "hashtag_counts", "--settle", "30", "--json"]).ends(0).objects().remove(0);
    assert_eq!((&report["is_equal"], &report["moving"]), (&json!(true), &json!(0)), "nothing comes any more");
}

/// Ends what goes on beside a test, also when it fails.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn the_events_behind_a_row_are_found_by_the_views_own_logic() {
    let data = tempfile::tempdir().unwrap();
    let program = up(data.path(), &[]);
    let days = |days: i64| NEW_YEAR_MS + days * 24 * 60 * MINUTE_MS;
    let mut lines: String = (0..2_000).map(|number| post(number, days(3) + number as i64, "#c #c++")).collect();
    lines += &post(7, days(3) + 5_000, "#Rust and #rust again");
    lines += &post(7, days(3) + 6_000, "about #rust");
    lines += &post(7, days(3) + 5 * MINUTE_MS, "#rust, of the next slot");
    // In all partitions, so that windows close.
    lines += &(0..40).map(|user| post(user, days(3) + 30 * MINUTE_MS, "#later")).collect::<String>();
    post_lines(&program.url, "tweets", &lines).is(200);
    wait_until("they are counted", || counts(&program.url, "rust").len() == 2);
    // Two days behind the others of its partition, wherever that is: too late for the view.
    let late: String = (0..50).map(|user| post(user, days(1), "#late")).collect();
    post_lines(&program.url, "tweets", &late).is(200);

    let row = ["why", "hashtag_counts", "hashtag=rust", "slot=2024-01-04T00:00:00Z"];
    let said = ask(&program.url, &[&row[..], &["--json"]].concat()).ends(0).complains("2 events are behind this row");
    let events = said.objects();
    let posts: Vec<&str> = events.iter().map(|event| event["value"]["tweet"].as_str().unwrap()).collect();
    assert_eq!(posts.len(), 2);
    assert!(posts.contains(&"#Rust and #rust again") && posts.contains(&"about #rust"), "{posts:?}");
    assert!(events.iter().all(|event| event["applied"] == true && event["offset"].is_u64() && event["topic"] == "tweet_feed"));
    ask(&program.url, &row).ends(0).says("about #rust").says("PARTITION");
    let many = ask(&program.url, &["why", "hashtag_counts", "hashtag=c", "slot=2024-01-04T00:00:00Z", "--limit", "3", "--json"]).ends(0);
    assert_eq!(many.objects().len(), 3);
    many.complains("2 000 events are behind this row").complains("--limit 2000");

    // There is no such row: the events that would have been behind it say why.
    wait_until("they are judged", || {
        let versions = get(&format!("{}/v1/views/hashtag_counts", program.url)).is(200).json["versions"].clone();
        versions[0]["read"] == 2_093
    });
    let refused = ask(&program.url, &["why", "hashtag_counts", "hashtag=late", "slot=2024-01-02T00:00:00Z", "--json"]).ends(0);
    let too_late: Vec<Value> = refused.objects().into_iter().filter(|event| event["applied"] == false).collect();
    assert!(!too_late.is_empty() && too_late.iter().all(|event| event["reason"] == "too_late"), "{too_late:#?}");

    // An entry of a ranking by its rank: which hashtag that is, is known from its row.
    let latest = || get(&format!("{}/v1/views/hashtag_trends/rows?slot=latest&limit=1", program.url));
    wait_until("windows have closed", || latest().status == 200);
    let rows = latest().is(200).json;
    let (slot, first) = (rows["key"]["slot"].as_str().unwrap().to_owned(), rows["rows"][0]["hashtag"].as_str().unwrap().to_owned());
    let ranked =
        ask(&program.url, &["why", "hashtag_trends", &format!("slot={slot}"), "rank=1", "--json", "--limit", "5000"]).ends(0).objects();
    assert_eq!(ranked.len() as u64, rows["rows"][0]["occurrences"].as_u64().unwrap(), "{first}: one event each");
    assert!(ranked.iter().all(|event| event["value"]["tweet"].as_str().unwrap().to_lowercase().contains(&format!("#{first}"))));
    ask(&program.url, &["why", "hashtag_counts", "hashtag=rust"]).ends(1).complains("slot is missing");
    ask(&program.url, &["why", "hashtag_counts", "tag=rust"]).ends(1).complains("there are: hashtag, slot, occurrences");
}

#[test]
fn a_plan_says_what_has_changed_and_applying_it_changes_what_readers_see() {
    let (data, folder) = (tempfile::tempdir().unwrap(), crate::cli::schemas());
    let program = crate::http::up_over(folder.path(), data.path(), &[]);
    let lines: String = (0..10).map(|minute| post(1, NEW_YEAR_MS + minute * MINUTE_MS, "#rust")).collect();
    post_lines(&program.url, "tweets", &lines).is(200);
    wait_until("version 1 has them", || counts(&program.url, "rust") == [5, 5]);
    let schemas = ["--schemas", text(folder.path())];
    let ask = |arguments: &[&str]| ask(&program.url, &[arguments, &schemas[..]].concat());
    ask(&["plan", "--detailed-exitcode"]).ends(0).says("hashtag_counts  unchanged");
    ask(&["apply", "--yes"]).ends(0).says("nothing to do");

    let path = folder.path().join("views/hashtag_counts.sql");
    let sql = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, sql.replace("5 minutes", "10 minutes")).unwrap();
    let said = ask(&["plan"]).ends(0).says("hashtag_counts  changed").says("version 1 is in service").says("a new version reads 10 events");
    said.says("-SELECT hashtag, tumble(timestamp, INTERVAL '5 minutes')").says("+SELECT hashtag, tumble(timestamp, INTERVAL '10 minutes')");
    ask(&["plan", "--detailed-exitcode"]).ends(4).complains("1 view to change, 1 unchanged; refold apply carries this out");
    let objects = ask(&["plan", "hashtag_counts", "--json"]).ends(0).objects();
    assert_eq!((objects.len(), &objects[0]["change"], &objects[0]["events"]), (1, &json!("changed"), &json!(10)));
    ask(&["plan", "--markdown"]).ends(0).says("| `hashtag_counts` | changed |").says("```diff\n");
    ask(&["plan", "nothing"]).ends(2).complains("there are: hashtag_counts, hashtag_trends");

    ask(&["apply"]).ends(2).complains("--yes");
    let gated = ask(&["apply", "--yes", "--tolerance", "0.1"]).ends(3).complains("nothing was switched");
    gated.says("version 2 of hashtag_counts is being built");
    assert_eq!(counts(&program.url, "rust"), [5, 5], "readers are where they were");
    ask(&["plan"]).ends(0).says("hashtag_counts  built").says("version 2 has this definition");
    let applied = ask(&["apply", "--yes", "--reason", "longer slots"]).ends(0).says("2 rows of version 2 differ from version 1");
    applied.says("readers of hashtag_counts are on version 2");
    assert_eq!(counts(&program.url, "rust"), [10]);
    ask(&["apply", "--yes"]).ends(0).says("nothing to do");

    // Back to what it was: the version that is still kept up to date.
    std::fs::write(&path, sql).unwrap();
    ask(&["apply", "--yes"]).ends(0).says("readers of hashtag_counts are on version 1");
    assert_eq!(counts(&program.url, "rust"), [5, 5]);
}
