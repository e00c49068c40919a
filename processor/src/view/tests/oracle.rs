//! Rows are a function of the events: however they are cut, spread and merged, they are those of the same SELECT as one batch.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, Decimal128Array, Int64Array, StringArray, TimestampMillisecondArray};
use datafusion::arrow::compute::{cast, filter_record_batch};
use datafusion::arrow::datatypes::{Decimal128Type, Int32Type};
use rand::Rng;

use super::harness::{HASHTAG_COUNTS, HASHTAG_TRENDS, orders, planned, rng, run, text_of, time_type, tweets};

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
        let missing: Vec<&String> = expected.iter().filter(|row| !found.contains(row)).collect();
        let extra: Vec<&String> = found.iter().filter(|row| !expected.contains(row)).collect();
        assert!(found == expected, "round {round} of {sql}\nmissing {missing:#?}\nextra {extra:#?}");
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

#[test]
fn several_keys_aggregates_and_conditions_are_those_of_one_batch() {
    is_its_batch(
        "CREATE MATERIALIZED VIEW shop_hours WITH (partition_key = 'shop, country', clustering = 'hour DESC') AS
         SELECT shop, country, tumble(ordered_at, INTERVAL '1 hour') AS hour, count(*) AS orders, count(amount) AS paid,
                sum(amount) AS revenue, avg(amount) AS average, min(amount) AS least, max(amount) AS most,
                sum(pieces) AS pieces, sum(CASE WHEN express THEN 1 ELSE 0 END) AS express,
                count(*) FILTER (WHERE amount > 100) AS large, bool_or(express) AS any_express, bit_xor(id) AS check_sum,
                sum(amount) / CAST(count(*) AS DECIMAL(10, 0)) AS per_order,
                CASE WHEN sum(amount) > 50000 THEN 'much' ELSE 'little' END AS verdict
         FROM orders WHERE pieces > 1 OR pieces IS NULL
         GROUP BY shop, country, hour
         HAVING count(*) > 2 AND sum(amount) > 20000",
    );
}

#[test]
fn floating_point_aggregates_are_those_of_one_batch_to_the_last_bit() {
    is_its_batch(
        "CREATE MATERIALIZED VIEW weights WITH (partition_key = 'shop', clustering = 'slot') AS
         SELECT shop, slot, sum(weight) AS total, avg(weight) AS average, min(weight) AS least, max(weight) AS most,
                stddev(weight) AS deviation, var_pop(weight) AS variance, stddev_pop(pieces) AS spread, avg(pieces) AS pieces,
                sum(weight * CAST(pieces AS FLOAT)) AS total_weight, count(weight) AS weighed
         FROM (SELECT *, unnest(hop(ordered_at, INTERVAL '20 minutes', INTERVAL '1 hour')) AS slot FROM orders)
         GROUP BY shop, slot HAVING avg(weight) > -100",
    );
}

#[test]
fn aggregates_of_pairs_are_those_of_one_batch_to_the_last_bit() {
    is_its_batch(
        "CREATE MATERIALIZED VIEW sizes WITH (partition_key = 'shop', clustering = 'slot') AS
         SELECT shop, slot, covar_samp(weight, pieces) AS sample, covar_pop(weight, pieces) AS population, corr(weight, pieces) AS correlation,
                regr_slope(weight, pieces) AS slope, regr_intercept(weight, pieces) AS intercept, regr_r2(weight, pieces) AS r2,
                regr_count(weight, pieces) AS pairs, regr_avgx(weight, pieces) AS x, regr_avgy(weight, pieces) AS y,
                regr_sxx(weight, pieces) AS sxx, regr_syy(weight, pieces) AS syy, regr_sxy(weight, pieces) AS sxy
         FROM (SELECT *, unnest(hop(ordered_at, INTERVAL '20 minutes', INTERVAL '1 hour')) AS slot FROM orders)
         GROUP BY shop, slot HAVING regr_count(weight, pieces) <> 2",
    );
}

#[test]
fn distinct_customers_are_those_of_one_batch() {
    is_its_batch(
        "CREATE MATERIALIZED VIEW customers WITH (partition_key = 'shop', clustering = 'slot') AS
         SELECT shop, unnested AS slot, approx_distinct(customer) AS customers, approx_distinct(pieces) AS sizes
         FROM (SELECT shop, customer, pieces, unnest(hop(ordered_at, INTERVAL '15 minutes', INTERVAL '1 hour')) AS unnested FROM orders)
         GROUP BY shop, unnested",
    );
}

#[test]
fn first_and_last_values_are_those_of_one_batch() {
    is_its_batch(
        "CREATE MATERIALIZED VIEW ends WITH (partition_key = 'shop', clustering = 'slot') AS
         SELECT shop, slot, first_value(customer ORDER BY ordered_at) AS first_customer,
                last_value(customer ORDER BY country) AS last_customer,
                last_value(amount ORDER BY ordered_at DESC, id) AS last_amount
         FROM (SELECT *, unnest(hop(ordered_at, INTERVAL '20 minutes', INTERVAL '30 minutes')) AS slot FROM orders)
         GROUP BY shop, slot",
    );
}

#[test]
fn a_view_without_windows_is_that_of_one_batch() {
    is_its_batch(
        "CREATE MATERIALIZED VIEW totals WITH (partition_key = 'country', unbounded = true) AS
         SELECT country, occurrences * 2 AS twice, upper(country) AS name
         FROM (SELECT country, count(*) AS occurrences FROM orders GROUP BY country)
         WHERE occurrences > 1",
    );
}

#[test]
fn a_view_that_needs_no_column_but_the_time_is_that_of_one_batch() {
    is_its_batch(
        "CREATE MATERIALIZED VIEW minutes WITH (partition_key = 'minute') AS
         WITH events AS (SELECT ordered_at FROM orders)
         SELECT count(*) AS occurrences, tumble(ordered_at, INTERVAL '1 minute') AS minute FROM events GROUP BY 2",
    );
}

#[test]
fn a_ranking_within_more_than_the_window_is_that_of_one_batch() {
    is_its_batch(
        "CREATE MATERIALIZED VIEW best WITH (partition_key = 'slot, country', clustering = 'place') AS
         SELECT * FROM (
             SELECT country, tumble(ordered_at, INTERVAL '30 minutes') AS slot, customer, sum(amount) AS spent,
                    row_number() OVER (PARTITION BY tumble(ordered_at, INTERVAL '30 minutes'), country ORDER BY sum(amount) DESC NULLS LAST, customer) AS place
             FROM orders WHERE customer IS NOT NULL GROUP BY country, slot, customer HAVING count(*) > 0)
         WHERE place < 4",
    );
}

#[test]
fn rows_that_having_excludes_keep_their_key_and_nothing_else() {
    let view = planned(
        "CREATE MATERIALIZED VIEW busy WITH (partition_key = 'shop', unbounded = true) AS
         SELECT shop, count(*) AS orders, 10 / (count(*) - 1) AS inverse FROM orders GROUP BY shop HAVING count(*) > 1",
    );
    let groups: Vec<ArrayRef> = vec![Arc::new(StringArray::from(vec!["a", "b", "c"]))];
    let states: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![1, 6, 1]))];
    let rows = view.rows(&groups, &states).unwrap();
    assert_eq!(rows.kept, BooleanArray::from(vec![false, true, false]));
    assert_eq!(text_of(&[rows.rows]), ["a | NULL | NULL", "b | 6 | 2", "c | NULL | NULL"]);
}

/// DataFusion evaluates the second part of an AND for all rows or for none, depending on how many of them pass the first.
#[test]
fn what_a_condition_guards_does_not_fail_whichever_groups_come_together() {
    let guarded = "count(*) > 1 AND 10 / (count(*) - 1) > 1";
    let view = planned(&format!(
        "CREATE MATERIALIZED VIEW busy WITH (partition_key = 'shop', unbounded = true) AS
         SELECT shop, count(*) AS orders FROM orders GROUP BY shop HAVING {guarded}"
    ));
    let ranking = planned(&format!(
        "CREATE MATERIALIZED VIEW best WITH (partition_key = 'slot', clustering = 'place') AS
         SELECT slot, shop, count(*) AS orders, 10 / (count(*) - 1) AS inverse,
                row_number() OVER (PARTITION BY slot ORDER BY count(*) DESC, shop) AS place
         FROM (SELECT tumble(ordered_at, INTERVAL '1 minute') AS slot, shop FROM orders) GROUP BY slot, shop HAVING {guarded}
         QUALIFY place <= 3"
    ));
    for others in 0..12 {
        let counts: Vec<i64> = [1, 6].into_iter().chain((0..others).map(|other| 1 + other % 2 * 19)).collect();
        let shops: Vec<String> = (0..counts.len()).map(|shop| format!("shop {shop:02}")).collect();
        let shops: ArrayRef = Arc::new(StringArray::from(shops));
        let states: ArrayRef = Arc::new(Int64Array::from(counts.clone()));
        let rows = view.rows(std::slice::from_ref(&shops), std::slice::from_ref(&states)).unwrap();
        let wanted: Vec<bool> = counts.iter().map(|count| *count > 1 && 10 / (count - 1) > 1).collect();
        assert_eq!(rows.kept, BooleanArray::from(wanted), "{counts:?}");
        let slot = TimestampMillisecondArray::from(vec![0; counts.len()]).with_timezone("+00:00");
        let slot = cast(&slot, ranking.groups.field(0).data_type()).unwrap();
        let ranked = ranking.rank(&[slot.clone(), shops.clone()], std::slice::from_ref(&states)).unwrap();
        assert_eq!(text_of(&[ranked]), ["1970-01-01T00:00:00Z | shop 01 | 6 | 2 | 1"], "{counts:?}");
        assert_eq!(ranking.possible_ranks(&[slot, shops], &[states]).unwrap().num_rows(), counts.len().min(3));
    }
}

#[test]
fn a_condition_that_is_null_excludes() {
    let view = planned(
        "CREATE MATERIALIZED VIEW none WITH (partition_key = 'shop', unbounded = true) AS
         SELECT shop, count(*) AS orders FROM orders GROUP BY shop HAVING NULL",
    );
    let groups: Vec<ArrayRef> = vec![Arc::new(StringArray::from(vec!["a", "b"]))];
    let states: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![1, 6]))];
    assert_eq!(view.rows(&groups, &states).unwrap().kept.true_count(), 0);
}

#[test]
fn a_group_whose_expression_fails_has_no_row_and_the_others_have_theirs() {
    let view = planned(
        "CREATE MATERIALIZED VIEW busy WITH (partition_key = 'shop', unbounded = true) AS
         SELECT shop, count(*) AS orders, 10 / (count(*) - 1) AS inverse FROM orders GROUP BY shop",
    );
    let groups: Vec<ArrayRef> = vec![Arc::new(StringArray::from(vec!["a", "b", "c", "d"]))];
    let states: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![1, 6, 1, 3]))];
    let rows = view.rows(&groups, &states).unwrap();
    assert_eq!(rows.kept, BooleanArray::from(vec![false, true, false, true]));
    assert_eq!(text_of(&[rows.rows]), ["a | NULL | NULL", "b | 6 | 2", "c | NULL | NULL", "d | 3 | 5"]);

    let ranked = planned(
        "CREATE MATERIALIZED VIEW best WITH (partition_key = 'slot', clustering = 'place') AS
         SELECT tumble(ordered_at, INTERVAL '30 minutes') AS slot, shop, 10 / (count(*) - 1) AS inverse,
                row_number() OVER (PARTITION BY tumble(ordered_at, INTERVAL '30 minutes') ORDER BY 10 / (count(*) - 1) DESC, shop) AS place
         FROM orders GROUP BY slot, shop QUALIFY place <= 2",
    );
    let slots: ArrayRef = cast(&Int64Array::from(vec![0; 4]), &time_type()).unwrap();
    let by_name = |name: &str| if name == "shop" { groups[0].clone() } else { slots.clone() };
    let of_window: Vec<ArrayRef> = ranked.groups.fields().iter().map(|field| by_name(field.name())).collect();
    let best = ranked.rank(&of_window, &states).unwrap();
    assert_eq!(best.num_rows(), 2, "the groups that fail are not ranked: {best:?}");
}

#[test]
fn a_mapper_goes_on_after_an_event_that_does_not_evaluate() {
    let view = planned(
        "CREATE MATERIALIZED VIEW shares WITH (partition_key = 'shop', unbounded = true) AS
         SELECT shop, sum(60 / (pieces - 3)) AS share FROM orders WHERE pieces IS NOT NULL GROUP BY shop",
    );
    let mut mapper = view.mapper().unwrap();
    let events = orders(&mut rng(3), 60);
    let pieces = events.column_by_name("pieces").unwrap().as_primitive::<Int32Type>();
    let harmless: BooleanArray = pieces.iter().map(|pieces| Some(pieces != Some(3))).collect();
    let error = mapper.map(&events).unwrap_err();
    assert!(error.to_string().contains("ivide by zero"), "{error}");
    assert!(mapper.map(&filter_record_batch(&events, &harmless).unwrap()).unwrap().is_some());
}

#[test]
fn an_empty_batch_has_no_partial() {
    let view = planned(HASHTAG_COUNTS);
    let mut mapper = view.mapper().unwrap();
    assert!(mapper.map(&tweets(&mut rng(1), 0)).unwrap().is_none());
    assert!(view.batch(vec![]).unwrap().iter().all(|batch| batch.num_rows() == 0));
}

#[test]
fn a_sum_of_nothing_is_null_whatever_the_order_of_groups() {
    let view = planned(
        "CREATE MATERIALIZED VIEW sums WITH (partition_key = 'shop', unbounded = true) AS
         SELECT shop, sum(pieces) AS pieces FROM orders GROUP BY shop",
    );
    let mut merger = view.merger().unwrap();
    let totals = |values: Vec<Option<i128>>| Decimal128Array::from(values).with_precision_and_scale(38, 0).unwrap();
    let state = |value: Option<i128>| vec![Arc::new(totals(vec![value])) as ArrayRef];
    merger.merge(&state(Some(5)), &[2], 3).unwrap();
    merger.merge(&state(None), &[0], 3).unwrap();
    merger.merge(&state(Some(7)), &[1], 3).unwrap();
    merger.merge(&state(Some(1)), &[2], 3).unwrap();
    let states = merger.take().unwrap();
    assert_eq!(states[0].as_primitive::<Decimal128Type>(), &totals(vec![None, Some(7), Some(6)]));
    merger.merge(&state(Some(5)), &[1], 2).unwrap();
    assert!(merger.take().unwrap_err().to_string().contains("nothing was merged"));
}

#[test]
fn states_that_do_not_fit_are_refused() {
    let view = planned(HASHTAG_COUNTS);
    let mut merger = view.merger().unwrap();
    let one: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    assert!(merger.merge(&[one.clone(), one.clone()], &[0], 1).is_err());
    assert!(merger.merge(std::slice::from_ref(&one), &[1], 1).is_err());
    assert!(merger.merge(&[], &[0], 1).is_err());
    let mut merger = view.merger().unwrap();
    merger.merge(&[one], &[0], 1).unwrap();
    assert!(merger.size() > 0);
    assert_eq!(merger.take().unwrap()[0].len(), 1);
    assert_eq!(merger.take().unwrap()[0].len(), 0);
}
