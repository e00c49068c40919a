//! The arithmetic of windows, on times and lengths in one unit. Windows start at multiples of their slide since the Unix epoch.

/// The length of the panes of windows of this size and slide: their greatest common divisor.
///
/// Every window is a whole number of panes, and every pane is wholly inside or wholly outside of any window.
#[must_use]
pub fn pane_of(slide: i64, size: i64) -> i64 {
    let (mut a, mut b) = (slide, size);
    while b != 0 {
        (a, b) = (b, a.wrapping_rem(b));
    }
    a.wrapping_abs()
}

/// Puts times into slots of one length. It remembers the slot of the last time, since times that follow each other mostly share one:
/// a comparison instead of a division.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slots {
    length: i64,
    last: Option<i64>,
}

impl Slots {
    /// Slots of this length, which must be positive.
    pub(super) fn new(length: i64) -> Self {
        Slots { length: length.max(1), last: None }
    }

    /// The start of the slot that contains `time`: the largest multiple of the length that is not above it.
    /// `None`: it would lie before the earliest time there is.
    pub(super) fn start_of(&mut self, time: i64) -> Option<i64> {
        if let Some(start) = self.last
            && time >= start
            && time.wrapping_sub(start).cast_unsigned() < self.length.cast_unsigned()
        {
            return Some(start);
        }
        let start = time.checked_sub(time.rem_euclid(self.length))?;
        self.last = Some(start);
        Some(start)
    }
}

/// The starts of all windows `[s, s + size)` with `s` a multiple of `slide` that contain `time`, ascending. Windows that would start before
/// the earliest time there is are left out.
pub(super) fn starts_of(time: i64, slide: i64, size: i64) -> impl Iterator<Item = i64> {
    let (time, slide, size) = (i128::from(time), i128::from(slide.max(1)), i128::from(size));
    let last = time - time.rem_euclid(slide);
    let after = time - size;
    let first = after - after.rem_euclid(slide) + slide;
    let count = if first > last { 0 } else { (last - first) / slide + 1 };
    (0..count).filter_map(move |i| i64::try_from(first + i * slide).ok())
}
