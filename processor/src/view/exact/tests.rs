#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
//! An exact sum is the true sum, rounded once, in every order.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array};
use datafusion::logical_expr::Accumulator;
use datafusion::scalar::ScalarValue;
use proptest::prelude::*;

use super::number::{Exact, variance};
use super::pairs::{Kind, Pairs};

fn sum_of(values: &[f64]) -> Exact {
    let mut sum = Exact::default();
    values.iter().for_each(|value| sum.add(*value));
    sum
}

#[test]
fn sums_are_rounded_once() {
    assert_eq!(sum_of(&[0.1; 10]).rounded(), 1.0);
    assert_eq!(sum_of(&[1e100, 1.0, -1e100]).rounded(), 1.0);
    assert_eq!(sum_of(&[1.0, f64::EPSILON / 2.0]).rounded(), 1.0, "a tie goes to the even neighbour");
    assert_eq!(sum_of(&[1.0, f64::EPSILON / 2.0, 5e-324]).rounded(), 1.0 + f64::EPSILON, "a little more than a tie goes up");
    assert_eq!(sum_of(&[5e-324, 5e-324]).rounded(), 1e-323);
    assert_eq!(sum_of(&[f64::MAX, f64::MAX, -f64::MAX]).rounded(), f64::MAX);
    assert_eq!(sum_of(&[f64::MAX, f64::MAX]).rounded(), f64::INFINITY);
    assert_eq!(sum_of(&[]).rounded(), 0.0);
    assert_eq!(sum_of(&[-1.5, 1.0]).rounded(), -0.5);
}

#[test]
fn averages_are_rounded_once() {
    let average = |values: &[f64]| sum_of(values).average(values.len() as u64);
    assert_eq!(average(&[1.7e308, 1.7e308]), 1.7e308, "although the sum is infinite");
    assert_eq!(average(&[f64::MAX; 1_000]), f64::MAX);
    assert_eq!(average(&[-f64::MAX, -f64::MAX]), -f64::MAX);
    assert_eq!(average(&[1.0, 2.0]), 1.5);
    assert_eq!(average(&[1.0, 1.0, -1.0]), 1.0 / 3.0);
    assert_eq!(average(&[5e-324, 0.0]), 0.0, "half of the least number: a tie goes to the even neighbour");
    assert_eq!(average(&[5e-324, 5e-324, 0.0]), 5e-324, "two thirds of the least number");
    assert_eq!(average(&[0.0, 0.0]), 0.0);
    assert_eq!(average(&[f64::INFINITY, 1.0]), f64::INFINITY);
    assert!(average(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
}

#[test]
fn what_is_no_number_stays_so() {
    assert_eq!(sum_of(&[f64::INFINITY, 1.0]).rounded(), f64::INFINITY);
    assert_eq!(sum_of(&[f64::NEG_INFINITY, 1.0]).rounded(), f64::NEG_INFINITY);
    assert!(sum_of(&[f64::INFINITY, f64::NEG_INFINITY]).rounded().is_nan());
    assert!(sum_of(&[f64::NAN, 1.0]).rounded().is_nan());
}

#[test]
fn a_variance_does_not_lose_what_a_large_mean_hides() {
    let values: Vec<f64> = [4.0, 7.0, 13.0, 16.0].iter().map(|value| value + 1e9).collect();
    let (sum, mut squares) = (sum_of(&values), Exact::default());
    values.iter().for_each(|value| squares.add_product(*value, *value));
    assert_eq!(variance(4, &sum, &squares, true), Some(30.0));
    assert_eq!(variance(4, &sum, &squares, false), Some(22.5));
    assert_eq!(variance(1, &sum_of(&[3.0]), &squares, true), None);
    assert_eq!(variance(0, &Exact::default(), &Exact::default(), false), None);
}

fn of_pairs(kind: Kind, pairs: &[(f64, f64)]) -> Option<f64> {
    let mut accumulator = Pairs::new(kind);
    accumulator.update_batch(&columns(pairs)).unwrap();
    number(&mut accumulator)
}

/// As SQL has them: y, then x.
fn columns(pairs: &[(f64, f64)]) -> [ArrayRef; 2] {
    let of = |values: Vec<f64>| -> ArrayRef { Arc::new(Float64Array::from(values)) };
    [of(pairs.iter().map(|(_, y)| *y).collect()), of(pairs.iter().map(|(x, _)| *x).collect())]
}

fn number(accumulator: &mut Pairs) -> Option<f64> {
    match accumulator.evaluate().unwrap() {
        ScalarValue::Float64(value) => value,
        ScalarValue::UInt64(count) => count.map(|count| count as f64),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_line_is_found_however_far_off_it_is() {
    let line: Vec<(f64, f64)> = [1.0, 2.0, 4.0, 8.0].iter().map(|x| (x + 1e9, 3.0 - 0.5 * x)).collect();
    let expected = [
        (Kind::Count, 4.0),
        (Kind::AverageX, 1e9 + 3.75),
        (Kind::AverageY, 1.125),
        (Kind::SumXX, 28.75),
        (Kind::SumYY, 7.1875),
        (Kind::SumXY, -14.375),
        (Kind::Slope, -0.5),
        (Kind::Intercept, 5e8 + 3.0),
        (Kind::Determination, 1.0),
        (Kind::Correlation, -1.0),
        (Kind::Covariance { sample: false }, -3.59375),
        (Kind::Covariance { sample: true }, -14.375 / 3.0),
    ];
    for (kind, expected) in expected {
        assert_eq!(of_pairs(kind, &line), Some(expected), "{kind:?}");
    }
}

#[test]
fn where_no_line_is_there_is_no_value() {
    let (point, upright, level) = ([(1.0, 2.0)], [(1.0, 2.0), (1.0, 3.0)], [(1.0, 2.0), (2.0, 2.0)]);
    for kind in [Kind::Correlation, Kind::Determination, Kind::Slope, Kind::Intercept] {
        assert_eq!((of_pairs(kind, &[]), of_pairs(kind, &point), of_pairs(kind, &upright)), (None, None, None), "{kind:?}");
    }
    assert_eq!(
        (of_pairs(Kind::Slope, &level), of_pairs(Kind::Correlation, &level), of_pairs(Kind::Determination, &level)),
        (Some(0.0), None, None)
    );
    assert_eq!(
        (
            of_pairs(Kind::Covariance { sample: true }, &point),
            of_pairs(Kind::Covariance { sample: false }, &point),
            of_pairs(Kind::Count, &[])
        ),
        (None, Some(0.0), Some(0.0))
    );
    for kind in [Kind::Correlation, Kind::Determination, Kind::Slope, Kind::Intercept] {
        assert_eq!(of_pairs(kind, &[(f64::NAN, f64::INFINITY)]), None, "{kind:?}");
    }
    assert!(of_pairs(Kind::Slope, &[(1.0, f64::NAN), (2.0, 1.0)]).is_some_and(f64::is_nan));
    assert!(of_pairs(Kind::Covariance { sample: false }, &[(f64::INFINITY, 1.0), (2.0, 1.0)]).is_some_and(f64::is_nan));
}

#[test]
fn what_is_no_state_is_refused() {
    for bytes in [&[][..], &[0, 0], &[0, 0, 0, 1], &[0, 255, 255, 1, 0, 0, 0]] {
        assert!(Exact::default().merge(bytes).is_err(), "{bytes:?}");
    }
}

fn numbers() -> impl Strategy<Value = Vec<f64>> {
    let any = any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |value| value.is_finite());
    let near = (-1_000_000_i32..1_000_000).prop_map(|value| f64::from(value) / 64.0);
    prop::collection::vec(prop_oneof![any, near], 0..40)
}

proptest! {
    #[test]
    fn two_numbers_add_as_ieee_754_says(a in any::<f64>(), b in any::<f64>()) {
        let sum = sum_of(&[a, b]).rounded();
        prop_assert!(sum == a + b || (sum.is_nan() && (a + b).is_nan()), "{a:?} + {b:?} = {sum:?}");
    }

    #[test]
    fn every_order_and_split_has_the_same_state(values in numbers(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6), seed in any::<u64>()) {
        let straight = sum_of(&values).to_bytes();
        let mut shuffled = values.clone();
        shuffled.sort_by_key(|value| value.to_bits().wrapping_mul(seed | 1));
        prop_assert_eq!(&sum_of(&shuffled).to_bytes(), &straight);
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(shuffled.len() + 1)).chain([0, shuffled.len()]).collect();
        ends.sort_unstable();
        let mut merged = Exact::default();
        for part in ends.windows(2) {
            merged.merge(&sum_of(&shuffled[part[0]..part[1]]).to_bytes()).unwrap();
        }
        prop_assert_eq!(&merged.to_bytes(), &straight);
        let negated: Vec<f64> = values.iter().map(|value| -value).collect();
        merged.merge(&sum_of(&negated).to_bytes()).unwrap();
        prop_assert_eq!(merged.rounded(), 0.0);
    }

    #[test]
    fn variances_are_those_of_the_textbook(values in prop::collection::vec(-1e6_f64..1e6, 2..50)) {
        let mut squares = Exact::default();
        values.iter().for_each(|value| squares.add_product(*value, *value));
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let expected = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let found = variance(values.len() as u64, &sum_of(&values), &squares, true).unwrap();
        prop_assert!((found - expected).abs() <= 1e-9 * expected.max(1e-9), "{found} {expected}");
    }

    #[test]
    fn aggregates_of_pairs_are_those_of_the_textbook(pairs in prop::collection::vec((-1e3_f64..1e3, -1e3_f64..1e3), 3..50)) {
        let count = pairs.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / count;
        let (x, y) = (mean(|pair| pair.0), mean(|pair| pair.1));
        let sum = |of: &dyn Fn(f64, f64) -> f64| pairs.iter().map(|pair| of(pair.0 - x, pair.1 - y)).sum::<f64>();
        let (xx, yy, xy) = (sum(&|x, _| x * x), sum(&|_, y| y * y), sum(&|x, y| x * y));
        let slope = xy / xx;
        let expected = [
            (Kind::Covariance { sample: false }, xy / count), (Kind::Covariance { sample: true }, xy / (count - 1.0)), (Kind::Correlation, xy / (xx * yy).sqrt()), (Kind::Determination, xy * xy / (xx * yy)),
            (Kind::Slope, slope), (Kind::Intercept, y - slope * x), (Kind::SumXX, xx), (Kind::SumYY, yy), (Kind::SumXY, xy),
        ];
        for (kind, expected) in expected {
            let found = of_pairs(kind, &pairs).unwrap();
            prop_assert!((found - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{:?} is {}, not {}", kind, found, expected);
        }
    }

    #[test]
    fn every_order_and_split_of_pairs_has_the_same_value(pairs in prop::collection::vec((any::<f64>(), any::<f64>()), 0..30), cut in any::<prop::sample::Index>()) {
        for kind in [Kind::Correlation, Kind::Covariance { sample: true }, Kind::Intercept, Kind::SumXY] {
            let mut reversed = pairs.clone();
            reversed.reverse();
            let (first, second) = reversed.split_at(cut.index(reversed.len() + 1));
            let mut merged = Pairs::new(kind);
            for part in [first, second] {
                let mut accumulator = Pairs::new(kind);
                accumulator.update_batch(&columns(part)).unwrap();
                let state: Vec<ArrayRef> = accumulator.state().unwrap().iter().map(|state| state.to_array().unwrap()).collect();
                merged.merge_batch(&state).unwrap();
            }
            prop_assert_eq!(number(&mut merged).map(f64::to_bits), of_pairs(kind, &pairs).map(f64::to_bits));
        }
    }
}
