//! Every refusal, by its text: what is refused, what is said, and what is proposed instead.

use super::harness::{HASHTAG_COUNTS, sources};
use crate::view::View;

/// Blocks of a view, a line `=>` and the error, separated by lines `----`.
const REFUSALS: &str = include_str!("refusals.txt");

fn refusal(sql: &str) -> String {
    match View::plan(sql, "v.sql", &sources()) {
        Ok(view) => format!("accepted\n{}", view.explain()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn views_are_refused_with_a_place_a_reason_and_a_way_out() {
    let mut differing = String::new();
    for block in REFUSALS.split("\n----\n") {
        let (sql, expected) = block.split_once("\n=>\n").unwrap_or((block, ""));
        let found = refusal(sql);
        if found != expected.trim_end() {
            differing.push_str(&format!("{sql}\n=>\n{found}\n----\n"));
        }
    }
    assert!(differing.is_empty(), "these differ:\n{differing}");
}

#[test]
fn hostile_text_is_refused_and_does_no_harm() {
    let long = "x".repeat(70_000);
    let chain = format!("SELECT shop, count(*) AS n FROM orders WHERE {} GROUP BY shop", vec!["1"; 16_000].join("+"));
    let nested = format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000));
    let negated = format!("SELECT {} 1", "- ".repeat(20_000));
    let cases = format!("SELECT {} 1", "CASE WHEN 1 = 1 THEN ".repeat(2_000));
    let froms = format!("SELECT 1 FROM {}", "(SELECT 1 FROM ".repeat(3_000));
    let arrays = format!("SELECT {}", "[".repeat(20_000));
    let wrap = |query: &str| format!("CREATE MATERIALIZED VIEW v WITH (partition_key = 'shop', unbounded = true) AS {query}");
    for text in [long, wrap(&chain), wrap(&nested), wrap(&negated), wrap(&cases), wrap(&froms), wrap(&arrays), "\0\u{feff}'\"`$$".to_owned()] {
        assert!(View::plan(&text, "v.sql", &sources()).is_err());
    }
}

#[test]
fn no_cut_or_changed_view_makes_the_planner_panic() {
    let text: Vec<char> = HASHTAG_COUNTS.chars().collect();
    for end in (0..text.len()).step_by(3) {
        let cut: String = text[..end].iter().collect();
        assert!(!refusal(&cut).contains("the planner failed"), "{cut}");
        let without: String = text[..end].iter().chain(&text[(end + 3).min(text.len())..]).collect();
        assert!(!refusal(&without).contains("the planner failed"), "{without}");
    }
}
