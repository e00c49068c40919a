//! Which partition a record goes to, for the logs that this crate keeps itself; and what a topic may be called.
//!
//! With a key: XXH3 (64 bits, seed 0) of the key, modulo the number of partitions. This is part of the format of a log: another
//! function would send the later records of a key to another partition than its earlier ones.

use std::sync::atomic::{AtomicU64, Ordering};

use xxhash_rust::xxh3::xxh3_64;

use crate::log::{LogError, NewRecord};
use crate::position::Partition;

/// The longest value of a record, in bytes.
pub const MAX_VALUE_BYTES: usize = 64 << 20;

const MAX_TOPIC_BYTES: usize = 249;

/// Places records; those without a key take turns.
#[derive(Debug, Default)]
pub struct Placement {
    turn: AtomicU64,
}

impl Placement {
    /// The partition of a record of a topic with so many partitions.
    pub fn partition(&self, record: &NewRecord, partitions: u32) -> Partition {
        let number = match &record.key {
            Some(key) => xxh3_64(key),
            None => self.turn.fetch_add(1, Ordering::Relaxed),
        };
        Partition((number % u64::from(partitions.max(1))) as u32)
    }
}

/// Refuses what no topic can be called, by the rule of Kafka, so that a name works with every log.
pub fn check_topic(topic: &str, partitions: u32) -> Result<(), LogError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if topic.is_empty() || topic.len() > MAX_TOPIC_BYTES || topic == "." || topic == ".." || !topic.bytes().all(plain) {
        return Err(LogError::Broken(format!(
            "{topic:?} cannot be the name of a topic: use 1 to {MAX_TOPIC_BYTES} letters, digits, dots, underscores and dashes"
        )));
    }
    if partitions == 0 {
        return Err(LogError::Broken(format!("topic {topic} needs at least one partition")));
    }
    Ok(())
}

/// Refuses values that are too long to keep.
pub fn check_values(topic: &str, records: &[NewRecord]) -> Result<(), LogError> {
    match records.iter().position(|record| record.value.len() > MAX_VALUE_BYTES) {
        None => Ok(()),
        Some(at) => Err(LogError::Broken(format!(
            "record {at} of this append to {topic} is longer than {MAX_VALUE_BYTES} bytes; none of them was appended"
        ))),
    }
}

/// The error of a partition that a topic does not have.
pub fn no_such_partition(topic: &str, partition: Partition, partitions: usize) -> LogError {
    LogError::Broken(format!("topic {topic} has no partition {partition}, only {partitions} partitions numbered from 0"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn placed(key: &'static str, partitions: u32) -> u32 {
        Placement::default().partition(&NewRecord { key: Some(key.into()), value: "".into() }, partitions).0
    }

    /// Kept for ever: a log that was written with this placement is read with it.
    #[test]
    fn keys_go_where_they_always_went() {
        let places: Vec<u32> =
            ["", "a", "user-1", "user-2", "a longer key that takes another path through the hash"].map(|key| placed(key, 1000)).to_vec();
        assert_eq!(places, GOLDEN);
    }

    const GOLDEN: [u32; 5] = [138, 719, 57, 220, 995];

    #[test]
    fn records_without_a_key_take_turns() {
        let placement = Placement::default();
        let record = NewRecord::default();
        let turns: Vec<u32> = (0..5).map(|_| placement.partition(&record, 3).0).collect();
        assert_eq!(turns, [0, 1, 2, 0, 1]);
    }

    #[test]
    fn names_that_kafka_refuses_are_refused_here_too() {
        for name in ["", ".", "..", "a b", "a/b", "hé", &"x".repeat(250)] {
            assert!(check_topic(name, 1).is_err(), "{name:?}");
        }
        for name in ["tweet_feed", "refold.exchange.counts.7", "A-1"] {
            assert!(check_topic(name, 1).is_ok(), "{name:?}");
        }
        assert!(check_topic("a", 0).unwrap_err().to_string().contains("at least one partition"));
    }
}
