//! The arithmetic of windows.

use proptest::prelude::*;

use super::super::windows::{Slots, pane_of, starts_of};

#[test]
fn slots_are_aligned_to_the_epoch_on_both_sides_of_it() {
    let mut slots = Slots::new(10);
    for (time, start) in [(0, 0), (9, 0), (10, 10), (-1, -10), (-10, -10), (-11, -20)] {
        assert_eq!(slots.start_of(time), Some(start), "{time}");
    }
}

#[test]
fn a_slot_that_would_start_before_time_itself_is_none() {
    assert_eq!(Slots::new(10).start_of(i64::MIN), None);
    assert_eq!(Slots::new(8).start_of(i64::MIN), Some(i64::MIN));
    assert_eq!(Slots::new(i64::MAX).start_of(i64::MAX), Some(i64::MAX));
}

#[test]
fn windows_overlap_and_come_in_order() {
    assert_eq!(starts_of(25, 10, 30).collect::<Vec<_>>(), [0, 10, 20]);
    assert_eq!(starts_of(-5, 10, 30).collect::<Vec<_>>(), [-30, -20, -10]);
    assert_eq!(starts_of(7, 4, 6).collect::<Vec<_>>(), [4], "2..8 is no window: windows start at multiples of the slide");
    assert_eq!(starts_of(5, 4, 6).collect::<Vec<_>>(), [0, 4]);
}

#[test]
fn windows_before_time_itself_are_left_out() {
    assert_eq!(starts_of(i64::MIN, 8, 24).collect::<Vec<_>>(), [i64::MIN]);
}

fn times() -> impl Strategy<Value = i64> {
    prop_oneof![3 => -1000_i64..1000, 1 => any::<i64>(), 1 => Just(i64::MIN), 1 => Just(i64::MAX)]
}

proptest! {
    #[test]
    fn a_slot_contains_its_times_whatever_came_before(length in prop_oneof![1_i64..50, 1..=i64::MAX], many in proptest::collection::vec(times(), 1..20)) {
        let mut slots = Slots::new(length);
        for time in many {
            let exact = i128::from(time).div_euclid(i128::from(length)) * i128::from(length);
            prop_assert_eq!(slots.start_of(time), i64::try_from(exact).ok());
        }
    }

    #[test]
    fn the_windows_of_a_time_are_all_that_contain_it(time in -1000_i64..1000, slide in 1_i64..40, more in 0_i64..100) {
        let size = slide + more;
        let by_trial: Vec<i64> = (time - size..=time).filter(|s| s.rem_euclid(slide) == 0 && *s <= time && time < s + size).collect();
        prop_assert_eq!(starts_of(time, slide, size).collect::<Vec<_>>(), by_trial);
    }

    #[test]
    fn windows_never_panic(time in times(), slide in 1_i64..=i64::MAX, size in any::<i64>()) {
        let starts: Vec<i64> = starts_of(time, slide, size.max(slide)).take(5).collect();
        prop_assert!(starts.is_sorted());
    }

    #[test]
    fn a_window_is_made_of_whole_panes(time in -1000_i64..1000, slide in 1_i64..40, more in 0_i64..100) {
        let size = slide + more;
        let pane = pane_of(slide, size);
        prop_assert_eq!((slide % pane, size % pane), (0, 0));
        let start = Slots::new(pane).start_of(time).unwrap();
        let windows: Vec<i64> = starts_of(time, slide, size).collect();
        // All times of the pane are in the same windows, so that its state can stand for them.
        for other in start..start + pane {
            prop_assert_eq!(starts_of(other, slide, size).collect::<Vec<_>>(), windows.clone());
        }
    }
}
