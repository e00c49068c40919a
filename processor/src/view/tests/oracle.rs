//! Rows are a function of the events: however they are cut, spread and merged, they are those of the same SELECT as one batch.

use super::harness::{HASHTAG_COUNTS, HASHTAG_TRENDS, orders, planned, rng, run, text_of, tweets};
use rand::Rng;

fn is_its_batch(sql: &str) {
    let view = planned(sql);
    let mut rng = rng(7);
    let mut any = false;
    for round in 0..12 {
        let count = if round == 0 { 0 } else { rng.random_range(1..600) };
        let events = if view.source == "tweets" { tweets(&mut rng, count) } else { orders(&mut rng, count) };
        let rows = run(&view, &events, &mut rng);
        assert_eq!(rows.schema(), view.shape.columns);
        let batch = view.batch(vec![events]).unwrap();
        let (found, expected) = (text_of(&[rows]), text_of(&batch));
        any |= !expected.is_empty();
        assert_eq!(found, expected, "round {round} of {sql}");
    }
    assert!(any, "the batches of {sql} have no rows");
}

#[test]
fn hashtag_counts_are_those_of_one_batch() {
    is_its_batch(HASHTAG_COUNTS);
}

#[test]
fn hashtag_trends_are_those_of_one_batch() {
    is_its_batch(HASHTAG_TRENDS);
}
