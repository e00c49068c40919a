//! Whether a stream brings what was there before, or what is made now: a stream does not say, but it is waited for in the latter case.

use std::time::Duration;

/// A stream that brings fewer lines while it is waited for a second brings them as they are made.
const PRESENT_LINES: usize = 1_000;
const PRESENT_WAIT: Duration = Duration::from_secs(1);
/// Who sends history may take a moment to begin: to connect, or to look for it.
const FIRST_WAIT: Duration = Duration::from_secs(5);

/// How fast lines come. Only the time in which they are waited for counts: while they are written to the log, more gather in the stream.
#[derive(Default)]
pub(crate) struct Pace {
    lines: usize,
    waited: Duration,
    has_begun: bool,
    is_present: bool,
}

impl Pace {
    /// Notes how long a stream was waited for, and how many lines it brought then.
    pub fn note(&mut self, lines: usize, waited: Duration) {
        self.has_begun |= lines > 0;
        self.lines += lines;
        self.waited += waited;
        let is_fast = self.lines >= PRESENT_LINES;
        if is_fast || self.waited >= if self.has_begun { PRESENT_WAIT } else { FIRST_WAIT } {
            *self = Pace { has_begun: self.has_begun, is_present: !is_fast, ..Pace::default() };
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

    fn after(pulls: &[(usize, u64)]) -> bool {
        let mut pace = Pace::default();
        for (lines, waited_ms) in pulls {
            pace.note(*lines, Duration::from_millis(*waited_ms));
        }
        pace.is_present()
    }

    #[test]
    fn a_stream_is_at_the_present_when_it_is_waited_for() {
        assert!(!after(&[]), "nobody has looked yet");
        assert!(!after(&[(0, 200); 24]), "it may be about to begin");
        assert!(after(&[(0, 200); 25]));
        // Short pulls between which the log took its time: what gathered meanwhile is not waited for.
        assert!(!after(&[(200, 1); 400]));
        assert!(!after(&[(16, 10); 60]), "nor has it come slowly for long");
        assert!(after(&[(9, 10); 100]));
        assert!(!after(&[(5_000, 0), (0, 200), (0, 200), (0, 200), (0, 200)]), "a hiccup");
        assert!(after(&[(5_000, 0), (0, 200), (0, 200), (0, 200), (0, 200), (0, 200)]));
    }

    #[test]
    fn a_stream_that_was_slow_can_bring_history_again() {
        assert!(!after(&[(1, 1_000), (999, 0), (1, 0)]));
        assert!(after(&[(1, 1_000), (998, 100)]), "a burst");
    }
}
