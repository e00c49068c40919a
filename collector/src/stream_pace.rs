//! Whether a stream brings what was there before, or what is made now. It does not say so: what tells is how old its events are, and how fast it brings them.

use std::time::Duration;

/// A stream that brings less in a second, of lines and of bytes, brings it as it is made.
const PRESENT_LINES: usize = 1_000;
const PRESENT_BYTES: u64 = 1 << 20;
const SECOND: Duration = Duration::from_secs(1);
/// Who sends history may take a moment to begin: to connect, or to look for it.
const FIRST_WAIT: Duration = Duration::from_secs(5);
/// What was brought goes to the log between two pulls. Of that time no more counts if a stream was full meanwhile: who writes to it was held up, and history
/// would seem slow.
const MOST_BETWEEN: Duration = Duration::from_millis(20);
/// What a pipe holds at the least, a little less because of lines that are not whole.
const FULL_BYTES: u64 = 60_000;

/// How fast a stream brings its lines.
#[derive(Default)]
pub(crate) struct StreamPace {
    lines: usize,
    bytes: u64,
    took: Duration,
    has_begun: bool,
    is_present: bool,
}

/// What a pull has brought.
pub(crate) struct Brought {
    pub lines: usize,
    pub bytes: u64,
    /// How long the stream was waited for.
    pub waited: Duration,
    /// The time since the pull before.
    pub between: Duration,
    /// How many of them are of now: an event of this moment would make none like them too late.
    pub of_now: usize,
}

impl StreamPace {
    /// Notes what a pull has brought.
    pub fn note(&mut self, brought: Brought) {
        // Some of a live stream may have come late, and some of history have a wrong time.
        if brought.of_now * 2 > brought.lines {
            *self = StreamPace { has_begun: true, is_present: true, ..StreamPace::default() };
            return;
        }
        if brought.lines > 0 && !self.has_begun {
            // How long it took to begin says nothing of how fast it goes on: history may begin late.
            *self = StreamPace { has_begun: true, ..StreamPace::default() };
        } else {
            let most = if brought.bytes >= FULL_BYTES { MOST_BETWEEN } else { Duration::MAX };
            self.took += brought.waited + brought.between.min(most);
        }
        self.lines += brought.lines;
        self.bytes += brought.bytes;
        let is_fast = self.lines >= PRESENT_LINES || self.bytes >= PRESENT_BYTES;
        if is_fast || self.took >= if self.has_begun { SECOND } else { FIRST_WAIT } {
            *self = StreamPace { has_begun: self.has_begun, is_present: !is_fast, ..StreamPace::default() };
        }
    }

    /// Whether the stream has brought what was there before, as far as one can see.
    pub fn is_present(&self) -> bool {
        self.is_present
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After pulls of so many lines of so many bytes each, that were waited for so many milliseconds, so many after the pull before.
    fn after(pulls: &[(usize, u64, u64, u64)]) -> bool {
        let mut pace = StreamPace::default();
        for (lines, line_bytes, waited_ms, between_ms) in pulls {
            let [waited, between] = [waited_ms, between_ms].map(|ms| Duration::from_millis(*ms));
            pace.note(Brought { lines: *lines, bytes: *lines as u64 * line_bytes, waited, between, of_now: 0 });
        }
        pace.is_present()
    }

    const IDLE: (usize, u64, u64, u64) = (0, 0, 200, 0);

    #[test]
    fn a_stream_is_at_the_present_when_it_brings_little_in_a_second() {
        assert!(!after(&[]), "nobody has looked yet");
        assert!(!after(&[(9, 300, 10, 0); 100]), "not for a second yet");
        assert!(after(&[(9, 300, 10, 0); 101]));
        assert!(after(&[(2, 300, 0, 10); 101]), "it is never waited for, because each line goes on its way at once");
        assert!(!after(&[(11, 300, 10, 0); 101]));
        assert!(!after(&[(3, 4_000, 10, 0); 101]), "longer lines");
    }

    #[test]
    fn history_is_none_of_the_present_because_the_log_is_slow() {
        assert!(!after(&[(220, 300, 0, 2_000); 100]));
        assert!(!after(&[(16, 4_000, 0, 2_000); 100]));
        assert!(after(&[(190, 290, 0, 250); 5]), "nobody who writes was held up");
    }

    #[test]
    fn a_stream_is_at_the_present_after_a_pause_and_later_when_it_has_not_begun() {
        assert!(!after(&[IDLE; 24]));
        assert!(after(&[IDLE; 25]));
        let begun = [[IDLE; 10].as_slice(), &[(430, 300, 150, 0)]].concat();
        assert!(!after(&begun), "it took two seconds to begin");
        assert!(!after(&[begun.as_slice(), &[IDLE; 4]].concat()), "a hiccup");
        assert!(after(&[begun.as_slice(), &[IDLE; 5]].concat()));
    }

    #[test]
    fn history_may_begin_after_a_pause() {
        assert!(!after(&[[IDLE; 25].as_slice(), &[(1, 300, 100, 0)]].concat()));
        assert!(after(&[[IDLE; 25].as_slice(), &[(1, 300, 100, 0)], &[IDLE; 5]].concat()));
    }

    #[test]
    fn a_stream_of_events_of_now_is_at_the_present_however_many_there_are() {
        let mut pace = StreamPace::default();
        let note = |pace: &mut StreamPace, lines, of_now| {
            pace.note(Brought { lines, bytes: 0, waited: Duration::ZERO, between: Duration::ZERO, of_now });
            pace.is_present()
        };
        assert!(!note(&mut pace, 5_000, 1), "a wrong time in a file of last year");
        assert!(note(&mut pace, 5_000, 4_999), "one that came late");
        assert!(note(&mut pace, 500, 0) && !note(&mut pace, 500, 0), "a file of last year");
    }

    #[test]
    fn a_stream_that_was_slow_can_bring_history_again() {
        let slow = [(1, 300, 0, 0), (1, 300, 1_000, 0)];
        assert!(after(&[slow.as_slice(), &[(999, 300, 100, 0)]].concat()), "a burst");
        assert!(!after(&[slow.as_slice(), &[(999, 300, 100, 0), (1, 300, 0, 0)]].concat()));
    }
}
