#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
//! An exact sum is the true sum, rounded once, in every order.

use proptest::prelude::*;

use super::number::{Exact, variance};

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
    values.iter().for_each(|value| squares.add_square(*value));
    assert_eq!(variance(4, &sum, &squares, true), Some(30.0));
    assert_eq!(variance(4, &sum, &squares, false), Some(22.5));
    assert_eq!(variance(1, &sum_of(&[3.0]), &squares, true), None);
    assert_eq!(variance(0, &Exact::default(), &Exact::default(), false), None);
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
        values.iter().for_each(|value| squares.add_square(*value));
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let expected = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let found = variance(values.len() as u64, &sum_of(&values), &squares, true).unwrap();
        prop_assert!((found - expected).abs() <= 1e-9 * expected.max(1e-9), "{found} {expected}");
    }
}
