//! What a planned view says of itself.

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
