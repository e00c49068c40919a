//! How long a replay can still read a log from offset zero.

use refold_processor::log::Retained;

/// Whether the first records of a log are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// They are, and stay, as far as is known.
    Kept,
    /// They are, for so many seconds more: then retention removes the oldest record.
    KeptFor(u64),
    /// The first ones are gone.
    Gone,
}

/// Whether the first records of a log are there. `is_whole`: all partitions begin at offset zero.
pub fn beginning(is_whole: bool, retained: &Retained, now_ms: i64) -> Beginning {
    if !is_whole {
        return Beginning::Gone;
    }
    match (retained.retention_ms, retained.oldest_ms) {
        (Some(retention_ms), Some(oldest_ms)) => {
            let gone_ms = oldest_ms.saturating_add_unsigned(retention_ms);
            Beginning::KeptFor(u64::try_from(gone_ms.saturating_sub(now_ms)).unwrap_or(0) / 1_000)
        }
        _ => Beginning::Kept,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_record_and_the_retention_say_how_long_a_replay_is_whole() {
        let retained = |retention_ms, oldest_ms| Retained { retention_ms, oldest_ms };
        assert_eq!(beginning(true, &retained(None, Some(5)), 100), Beginning::Kept);
        assert_eq!(beginning(true, &retained(Some(1), None), 100), Beginning::Kept, "nothing is in it yet");
        assert_eq!(beginning(true, &retained(Some(60_000), Some(5_000)), 35_000), Beginning::KeptFor(30));
        assert_eq!(beginning(true, &retained(Some(60_000), Some(5_000)), 95_000), Beginning::KeptFor(0), "any moment");
        assert_eq!(beginning(false, &retained(None, None), 0), Beginning::Gone);
    }
}
