//! What a planned view says of itself.

use datafusion::arrow::datatypes::DataType;

use super::harness::{HASHTAG_COUNTS, HASHTAG_TRENDS, planned};
use crate::table::Order;
use crate::view::{Ranking, WindowSpec};

#[test]
fn hashtag_counts() {
    let view = planned(HASHTAG_COUNTS);
    assert_eq!((view.name.as_str(), view.source.as_str()), ("hashtag_counts", "tweets"));
    assert_eq!(view.source_columns, [2, 3]);
    assert_eq!(view.window_source_column, Some(2));
    assert_eq!(view.window, Some(WindowSpec { column: 1, size_us: 300_000_000, slide_us: 300_000_000, pane_us: 300_000_000 }));
    assert_eq!(view.shape.partition_key, [0]);
    assert_eq!(view.shape.clustering, [(1, Order::Desc)]);
    assert_eq!(view.options.accept_late_us, Some(86_400_000_000));
    assert_eq!(view.ranking, None);
    let names = |schema: &datafusion::arrow::datatypes::SchemaRef| schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
    assert_eq!(names(&view.shape.columns), ["hashtag", "slot", "occurrences"]);
    assert_eq!(names(&view.groups), ["slot", "hashtag"]);
    assert_eq!(names(&view.states), ["r0[count]"]);
    assert!(view.shape.columns.fields().iter().all(|field| field.is_nullable()));
}

#[test]
fn hashtag_trends() {
    let view = planned(HASHTAG_TRENDS);
    assert_eq!(view.window, Some(WindowSpec { column: 0, size_us: 600_000_000, slide_us: 10_000_000, pane_us: 10_000_000 }));
    assert_eq!(view.ranking, Some(Ranking { within: vec![0], column: 3, k: 20 }));
    assert_eq!(view.shape.partition_key, [0]);
    assert_eq!(view.shape.clustering, [(3, Order::Asc)]);
    assert_eq!(view.options.keep_us, Some(86_400_000_000));
}

#[test]
fn white_space_comments_and_the_case_of_keywords_do_not_change_the_digest() {
    let view = planned(HASHTAG_COUNTS);
    assert_eq!(view.digest.len(), 32);
    let rewritten = HASHTAG_COUNTS.replace("SELECT", "select -- a comment\n").replace("GROUP BY", "group /* another */ by") + ";";
    assert_eq!(planned(&rewritten).digest, view.digest);
    let other_window = HASHTAG_COUNTS.replace("5 minutes", "5 minute");
    assert_ne!(planned(&other_window).digest, view.digest);
    let other_name = HASHTAG_COUNTS.replace("occurrences", "Occurrences");
    assert_ne!(planned(&other_name).digest, view.digest);
}

#[test]
fn a_view_explains_itself() {
    let text = planned(HASHTAG_TRENDS).explain();
    for part in [
        "view        hashtag_trends\n",
        "source      tweets (timestamp, tweet)\n",
        "window      10m of timestamp every 10s, as slot; state by panes of 10s\n",
        "ranking     first 20 within slot, as rank\n",
        "partition   slot\n",
        "clustering  rank\n",
        "accept late 1m\n",
        "keep        1day\n",
        "AggregateExec: mode=Partial",
        "Events: timestamp, tweet",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

#[test]
fn texts_of_every_kind_are_one_type_in_a_table() {
    let view = planned(
        "CREATE MATERIALIZED VIEW kinds WITH (partition_key = 'kind', unbounded = true) AS
         SELECT CAST(shop AS VARCHAR) AS kind, max(arrow_cast(customer, 'Dictionary(Int32, Utf8)')) AS last FROM orders GROUP BY 1",
    );
    let types: Vec<DataType> = view.shape.columns.fields().iter().map(|field| field.data_type().clone()).collect();
    assert_eq!(types, [DataType::Utf8, DataType::Utf8]);
}
