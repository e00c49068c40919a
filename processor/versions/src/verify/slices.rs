//! Which windows are computed at once: as many as their events fit into memory.

use std::collections::BTreeMap;

use refold_processor::view::WindowSpec;

/// A span of time, microseconds since the Unix epoch: of windows by their beginnings, or of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Its begin.
    pub from_us: i64,
    /// Where it ends; this time is not in it.
    pub to_us: i64,
}

impl Span {
    pub fn has(&self, time_us: i64) -> bool {
        (self.from_us..self.to_us).contains(&time_us)
    }

    /// The events of the windows that begin in it.
    pub fn events(&self, window: &WindowSpec) -> Span {
        Span { from_us: self.from_us, to_us: self.to_us.saturating_sub(window.slide_us).saturating_add(window.size_us) }
    }

    /// Its windows in two parts; `None`: it is one window.
    pub fn halved(&self, window: &WindowSpec) -> Option<[Span; 2]> {
        let count = self.to_us.checked_sub(self.from_us)? / window.slide_us;
        let middle_us = self.from_us + count / 2 * window.slide_us;
        (count > 1).then_some([Span { to_us: middle_us, ..*self }, Span { from_us: middle_us, ..*self }])
    }
}

/// The windows over these events, in parts whose events take at most `most` bytes; at least one window each. `bytes_by_slot`: the bytes of the events of each
/// slide of the window.
pub(super) fn slices(bytes_by_slot: &BTreeMap<i64, u64>, window: &WindowSpec, most: u64) -> Vec<Span> {
    let slide_us = window.slide_us.max(1);
    // How far a window reaches, in whole slides.
    let reach_us = (window.size_us + slide_us - 1).div_euclid(slide_us) * slide_us;
    let first_window = |slot_us: i64| slot_us.saturating_sub(reach_us - slide_us);
    let mut spans = Vec::new();
    let Some(mut from_us) = bytes_by_slot.keys().next().map(|slot_us| first_window(*slot_us)) else { return spans };
    loop {
        let mut bytes: u64 = bytes_by_slot.range(from_us..from_us.saturating_add(reach_us)).map(|(_, bytes)| bytes).sum();
        let mut to_us = from_us.saturating_add(slide_us);
        let mut next = None;
        for (slot_us, more) in bytes_by_slot.range(from_us.saturating_add(reach_us)..) {
            bytes = bytes.saturating_add(*more);
            if bytes > most {
                next = Some(*slot_us);
                break;
            }
            to_us = first_window(*slot_us).saturating_add(slide_us);
        }
        let Some(next_us) = next else {
            // The last events: with all windows that they are of.
            let last_us = bytes_by_slot.keys().next_back().copied().unwrap_or(from_us);
            spans.push(Span { from_us, to_us: to_us.max(last_us.saturating_add(slide_us)) });
            return spans;
        };
        spans.push(Span { from_us, to_us });
        // Windows without events are skipped, unless earlier events reach into them.
        let reached = bytes_by_slot.range(to_us..to_us.saturating_add(reach_us)).next().is_some();
        from_us = if reached { to_us } else { first_window(next_us) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(size_us: i64, slide_us: i64) -> WindowSpec {
        WindowSpec { column: 0, size_us, slide_us, pane_us: slide_us }
    }

    fn spans(slots: &[(i64, u64)], window: &WindowSpec, most: u64) -> Vec<(i64, i64)> {
        slices(&slots.iter().copied().collect(), window, most).into_iter().map(|span| (span.from_us, span.to_us)).collect()
    }

    #[test]
    fn windows_go_together_as_long_as_their_events_fit() {
        let tumble = window(10, 10);
        assert_eq!(spans(&[], &tumble, 5), []);
        assert_eq!(spans(&[(0, 3), (10, 3), (20, 3)], &tumble, 6), [(0, 20), (20, 30)]);
        assert_eq!(spans(&[(0, 30), (10, 3), (20, 3)], &tumble, 6), [(0, 10), (10, 30)], "at least one window");
        assert_eq!(spans(&[(0, 4), (1_000_000, 4)], &tumble, 6), [(0, 10), (1_000_000, 1_000_010)], "and none without events");
    }

    #[test]
    fn each_window_over_an_event_is_in_one_part_with_all_its_events() {
        for (size, slide) in [(30, 10), (25, 10), (10, 10), (60, 20)] {
            let window = window(size, slide);
            let slots: BTreeMap<i64, u64> =
                [0, 1, 2, 7, 8, 40, 41, 90].map(|slot: i64| (slot * slide, (slot as u64 * 7) % 5 + 1)).into_iter().collect();
            for most in [1, 4, 9, 1_000] {
                let spans = slices(&slots, &window, most);
                assert!(spans.windows(2).all(|pair| matches!(pair, [one, other] if one.to_us <= other.from_us)), "{spans:?}");
                for slot in slots.keys() {
                    let windows = (0..=size / slide).map(|back| slot - back * slide).filter(|start| *slot < start + size);
                    for start in windows {
                        assert_eq!(spans.iter().filter(|span| span.has(start)).count(), 1, "{size}/{slide} window {start} of {spans:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_part_is_halved_down_to_one_window() {
        let window = window(30, 10);
        let span = Span { from_us: -10, to_us: 20 };
        assert_eq!(span.events(&window), Span { from_us: -10, to_us: 40 });
        assert_eq!(span.halved(&window), Some([Span { from_us: -10, to_us: 0 }, Span { from_us: 0, to_us: 20 }]));
        assert_eq!(Span { from_us: 0, to_us: 10 }.halved(&window), None);
    }
}
