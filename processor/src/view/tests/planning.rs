//! What a planned view says of itself.

use datafusion::arrow::datatypes::DataType;

use super::harness::{HASHTAG_COUNTS, HASHTAG_TRENDS, planned};
use crate::table::Order;
use crate::view::{Dashboard, DashboardKind, Mapper, Merger, Ranking, View, WindowSpec};

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
    let names =
        |schema: &datafusion::arrow::datatypes::SchemaRef| schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
    assert_eq!(names(&view.shape.columns), ["hashtag", "slot", "occurrences"]);
    assert_eq!(names(&view.groups), ["slot", "hashtag"]);
    assert_eq!(names(&view.states), ["r0[count]"]);
    assert!(view.shape.columns.fields().iter().all(|field| field.is_nullable()));
}

#[test]
fn views_go_from_thread_to_thread() {
    fn is_shared<T: Send + Sync>() {}
    fn is_sent<T: Send>() {}
    is_shared::<View>();
    is_sent::<Mapper>();
    is_sent::<Merger>();
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
fn what_rows_are_held_to_does_not_change_the_digest() {
    let plain = planned(HASHTAG_COUNTS);
    let held = HASHTAG_COUNTS.replacen("WITH (", "WITH (audit_positive = 'occurrences IN (1, 2)', diff_tolerance = '0.01', ", 1);
    let held = planned(&held);
    assert_eq!((held.checks.audits.len(), held.checks.diff_tolerance), (1, Some(0.01)));
    assert_eq!(held.digest, plain.digest, "no row changes, so nothing is replayed");
}

#[test]
fn how_a_view_is_drawn_does_not_change_the_digest() {
    let plain = planned(HASHTAG_COUNTS).digest;
    for (from, to) in [
        ("WITH (", "WITH (dashboard = 'series', "),
        ("WITH (", "WITH (dashboard_title = 'Posts, by tag (live)', Dashboard = 'series', "),
        ("'1 day') AS", "'1 day', dashboard_title = 'Tags') AS"),
        ("clustering =", "dashboard_value = 'occurrences', clustering ="),
    ] {
        let drawn = HASHTAG_COUNTS.replace(from, to);
        assert_ne!(drawn, HASHTAG_COUNTS);
        assert_eq!(planned(&drawn).digest, plain, "{drawn}");
    }
    let other = HASHTAG_COUNTS.replace("'1 day') AS", "'2 days', dashboard_title = 'Tags') AS");
    assert_ne!(planned(&other).digest, plain);
}

#[test]
fn a_view_is_drawn_as_it_says_and_otherwise_as_it_looks() {
    let series = Dashboard { kind: DashboardKind::Series, label: Some(0), value: Some(2), time: Some(1), ..Dashboard::default() };
    assert_eq!(planned(HASHTAG_COUNTS).dashboard, series);
    let ranking =
        Dashboard { kind: DashboardKind::Ranking, label: Some(1), value: Some(2), rank: Some(3), time: Some(0), ..Dashboard::default() };
    assert_eq!(planned(HASHTAG_TRENDS).dashboard, ranking);
    let declared = HASHTAG_TRENDS.replace(
        "WITH (",
        "WITH (dashboard = 'ranking', dashboard_title = 'Trends', dashboard_series = 'hashtag_counts', dashboard_series_label = 'tag', ",
    );
    let expected = Dashboard {
        title: Some("Trends".into()),
        series: Some("hashtag_counts".into()),
        series_label: Some("tag".into()),
        ..ranking.clone()
    };
    assert_eq!(planned(&declared).dashboard, expected);
    let none = HASHTAG_TRENDS.replace("WITH (", "WITH (dashboard = 'none', ");
    assert_eq!(planned(&none).dashboard, Dashboard::default());
    let shops = |options: &str| {
        planned(&format!(
            "CREATE MATERIALIZED VIEW v WITH (partition_key = 'shop', unbounded = true{options}) AS
             SELECT shop, count(*) AS n FROM orders GROUP BY shop"
        ))
    };
    assert_eq!(shops("").dashboard, Dashboard::default(), "neither windows nor an order");
    let places = shops(", dashboard = 'ranking', dashboard_label = 'shop'").dashboard;
    assert_eq!((places.label, places.value, places.time), (Some(0), Some(1), None));
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
