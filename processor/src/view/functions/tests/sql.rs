//! The functions as a view's author meets them.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, LargeStringArray, RecordBatch, StringArray, StringViewArray, TimestampMillisecondArray, TimestampSecondArray,
};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::SessionContext;

use super::super::{all, for_panes};

fn posts() -> RecordBatch {
    let texts = [Some("Hi @Ada: #Kappa #KAPPA #Straße"), None, Some("nothing"), Some("#ÉTÉ＃no ＃ΟΔΟΣ")];
    let times = [Some(61_500), None, Some(-1), Some(599_999)];
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("text", Arc::new(StringArray::from(texts.to_vec()))),
        ("large", Arc::new(LargeStringArray::from(texts.to_vec()))),
        ("view", Arc::new(StringViewArray::from(texts.to_vec()))),
        ("at", Arc::new(TimestampMillisecondArray::from(times.to_vec()).with_timezone("+00:00"))),
        ("at_s", Arc::new(TimestampSecondArray::from(vec![Some(61), None, Some(-1), Some(599)]))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}

async fn answer(functions: Vec<datafusion::logical_expr::ScalarUDF>, sql: &str) -> Result<String, String> {
    let context = SessionContext::new();
    context.register_batch("posts", posts()).unwrap();
    for function in functions {
        context.register_udf(function);
    }
    let batches = context.sql(sql).await.map_err(|e| e.to_string())?.collect().await.map_err(|e| e.to_string())?;
    Ok(pretty_format_batches(&batches).unwrap().to_string())
}

async fn column(sql: &str) -> Vec<String> {
    let table = answer(all(), sql).await.unwrap();
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with('|')).skip(1).collect();
    rows.into_iter().map(|row| row.trim_matches(['|', ' ']).to_string()).collect()
}

async fn refusal(sql: &str) -> String {
    answer(all(), sql).await.unwrap_err()
}

#[tokio::test]
async fn tumble_answers_with_the_start_of_the_window_in_the_type_of_the_time() {
    let expected = ["1970-01-01T00:01:00Z", "", "1969-12-31T23:59:00Z", "1970-01-01T00:09:00Z"];
    assert_eq!(column("SELECT tumble(at, INTERVAL '1 minute') FROM posts").await, expected);
    let kind = column("SELECT arrow_typeof(tumble(at, INTERVAL '1 minute')) FROM posts LIMIT 1").await;
    assert_eq!(kind, column("SELECT arrow_typeof(at) FROM posts LIMIT 1").await);
    let expected = ["1970-01-01T00:01:00", "", "1969-12-31T23:59:00", "1970-01-01T00:09:00"];
    assert_eq!(column("SELECT tumble(at_s, INTERVAL '1 minute') FROM posts").await, expected);
    assert_eq!(column("SELECT tumble(NULL, INTERVAL '1 minute')").await, [""]);
}

#[tokio::test]
async fn hop_answers_with_all_windows_or_with_the_pane() {
    let sql = "SELECT hop(at, INTERVAL '40 seconds', INTERVAL '1 minute') FROM posts";
    let windows = ["[1970-01-01T00:00:40Z]", "", "[1969-12-31T23:59:20Z]", "[1970-01-01T00:09:20Z]"];
    assert_eq!(column(sql).await, windows);
    let panes = answer(for_panes(), sql).await.unwrap();
    for pane in ["[1970-01-01T00:01:00Z]", "[1969-12-31T23:59:40Z]", "[1970-01-01T00:09:40Z]"] {
        assert!(panes.contains(pane), "{pane} in {panes}");
    }
    let count = column("SELECT count(*) FROM (SELECT unnest(hop(at, INTERVAL '10 seconds', INTERVAL '10 minutes')) FROM posts)").await;
    assert_eq!(count, ["180"], "three times in sixty windows each");
}

#[tokio::test]
async fn words_are_in_lower_case_and_counted_as_often_as_they_appear() {
    let expected = ["[kappa, kappa, straße]", "", "[]", "[οδος]"];
    for text in ["text", "large", "view"] {
        assert_eq!(column(&format!("SELECT hashtags({text}) FROM posts")).await, expected, "{text}");
    }
    assert_eq!(column("SELECT mentions(text) FROM posts").await, ["[ada]", "", "[]", "[]"]);
    assert_eq!(column("SELECT hashtags('#One #two')").await, ["[one, two]"]);
    assert_eq!(column("SELECT hashtags(NULL)").await, [""]);
}

#[tokio::test]
async fn the_sample_views_run_as_a_batch() {
    let counts = "SELECT hashtag, tumble(at, INTERVAL '5 minutes') AS slot, count(*) AS occurrences
                  FROM (SELECT unnest(hashtags(text)) AS hashtag, at FROM posts) GROUP BY hashtag, slot ORDER BY occurrences DESC, hashtag LIMIT 1";
    assert_eq!(column(counts).await, ["kappa   | 1970-01-01T00:00:00Z | 2"]);
}

#[tokio::test]
async fn what_cannot_be_a_window_is_refused_with_the_way_out() {
    for (sql, says) in [
        ("tumble(at, INTERVAL '1 month')", "INTERVAL '30 days'"),
        ("tumble(at, INTERVAL '0 seconds')", "longer than nothing"),
        ("tumble(at, INTERVAL '-5 minutes')", "longer than nothing"),
        ("tumble(at, at - at)", "by an interval, not by Duration"),
        ("tumble(at, '5 minutes')", "write tumble(time, INTERVAL '5 minutes')"),
        ("tumble(text, INTERVAL '5 minutes')", "is a timestamp, not Utf8"),
        ("tumble(at)", "takes 2 arguments, not 1"),
        ("tumble(at, CASE WHEN text IS NULL THEN INTERVAL '1 day' ELSE INTERVAL '2 days' END)", "must be a constant interval"),
        ("tumble(at_s, INTERVAL '1500 milliseconds')", "use whole seconds"),
        ("hop(at, INTERVAL '10 minutes', INTERVAL '10 seconds')", "the slide before the size"),
        ("hop(at, INTERVAL '1 millisecond', INTERVAL '1 day')", "use a longer slide"),
        ("hop(at, INTERVAL '1 minute')", "takes 3 arguments, not 2"),
        ("hashtags(at, text)", "hashtags"),
    ] {
        let refused = refusal(&format!("SELECT {sql} FROM posts")).await;
        assert!(refused.contains(says), "{sql}: {refused}");
    }
}
