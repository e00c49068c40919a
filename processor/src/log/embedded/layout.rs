//! The keys and small values of the embedded log: every persisted byte that is not a block.
//!
//! | column family | key | value |
//! |---|---|---|
//! | `blocks` | topic id u32, partition u32, base offset u64 | the block, see [`block`](crate::log::block) |
//! | `index` | the same key | format u8, records u32, raw bytes u32, stored bytes u32, first and last record time i64 |
//! | `meta` | `format` | format u8 of the whole directory |
//! | `meta` | `id` | text: which log this is |
//! | `meta` | `topic/` name | format u8, topic id u32, partitions u32 |
//! | `meta` | `start/` topic id u32, partition u32 | format u8, log start u64, a record time i64 that later ones are not below |
//!
//! Numbers in keys are big endian, so that they sort; in values little endian. A block and its index entry are always written and
//! deleted by the same atomic batch. The index makes opening, retention and merging independent of the size of the blocks.

use crate::position::{Offset, Partition};

/// The column family of blocks.
pub const BLOCKS: &str = "blocks";
/// The column family that describes each block.
pub const INDEX: &str = "index";
/// The column family of topics and log starts.
pub const META: &str = "meta";

/// The key in [`META`] of the directory's format.
pub const FORMAT_KEY: &[u8] = b"format";
/// The key in [`META`] of what tells this log from others.
pub const ID_KEY: &[u8] = b"id";
/// The format of the directory, and the first byte of every value here.
pub const FORMAT: u8 = 1;

const TOPIC_PREFIX: &[u8] = b"topic/";
const START_PREFIX: &[u8] = b"start/";

/// Names a partition in keys: topic id and partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionKey {
    /// The number of the topic.
    pub topic: u32,
    /// The partition.
    pub partition: Partition,
}

impl PartitionKey {
    fn prefix(self) -> [u8; 8] {
        let [a, b, c, d] = self.topic.to_be_bytes();
        let [e, f, g, h] = self.partition.0.to_be_bytes();
        [a, b, c, d, e, f, g, h]
    }

    /// The key of the block whose first record is at `base`.
    pub fn block(self, base: Offset) -> [u8; 16] {
        let mut key = [0; 16];
        key.iter_mut().zip(self.prefix().into_iter().chain(base.0.to_be_bytes())).for_each(|(to, from)| *to = from);
        key
    }

    /// The key of the partition's log start.
    pub fn start(self) -> Vec<u8> {
        [START_PREFIX, self.prefix().as_slice()].concat()
    }
}

/// The base offset in the key of a block.
pub fn base_of(key: &[u8]) -> Option<Offset> {
    key.get(8..)?.try_into().ok().map(u64::from_be_bytes).map(Offset)
}

/// What the index says of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockEntry {
    /// How many records it has.
    pub count: u32,
    /// Its bytes of values and index before compression.
    pub raw_len: u32,
    /// Its bytes as stored.
    pub stored_len: u32,
    /// The record time of its first record.
    pub first_time_ms: i64,
    /// The record time of its last record.
    pub last_time_ms: i64,
}

impl BlockEntry {
    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        bytes.extend_from_slice(&self.count.to_le_bytes());
        bytes.extend_from_slice(&self.raw_len.to_le_bytes());
        bytes.extend_from_slice(&self.stored_len.to_le_bytes());
        bytes.extend_from_slice(&self.first_time_ms.to_le_bytes());
        bytes.extend_from_slice(&self.last_time_ms.to_le_bytes());
        bytes
    }

    /// Reads the stored form; `None` when it is not one.
    pub fn decode(bytes: &[u8]) -> Option<BlockEntry> {
        let mut fields = Fields::of(bytes)?;
        let entry = BlockEntry {
            count: u32::from_le_bytes(fields.take()?),
            raw_len: u32::from_le_bytes(fields.take()?),
            stored_len: u32::from_le_bytes(fields.take()?),
            first_time_ms: i64::from_le_bytes(fields.take()?),
            last_time_ms: i64::from_le_bytes(fields.take()?),
        };
        fields.end(entry)
    }
}

/// What is known of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicEntry {
    /// Its number in keys.
    pub id: u32,
    /// How many partitions it has.
    pub partitions: u32,
}

impl TopicEntry {
    /// The key of the topic called `name`.
    pub fn key(name: &str) -> Vec<u8> {
        [TOPIC_PREFIX, name.as_bytes()].concat()
    }

    /// Where the keys of topics begin.
    pub fn first_key() -> &'static [u8] {
        TOPIC_PREFIX
    }

    /// The name in the key of a topic; `None` for other keys.
    pub fn name_in(key: &[u8]) -> Option<&str> {
        key.strip_prefix(TOPIC_PREFIX).and_then(|name| std::str::from_utf8(name).ok())
    }

    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        [[FORMAT].as_slice(), &self.id.to_le_bytes(), &self.partitions.to_le_bytes()].concat()
    }

    /// Reads the stored form; `None` when it is not one.
    pub fn decode(bytes: &[u8]) -> Option<TopicEntry> {
        let mut fields = Fields::of(bytes)?;
        let entry = TopicEntry { id: u32::from_le_bytes(fields.take()?), partitions: u32::from_le_bytes(fields.take()?) };
        fields.end(entry)
    }
}

/// Where the log of a partition starts once records were removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartEntry {
    /// The offset of the oldest record kept.
    pub start: Offset,
    /// No later record has a smaller record time, even when no record is left that says so.
    pub time_floor_ms: i64,
}

impl StartEntry {
    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        [[FORMAT].as_slice(), &self.start.0.to_le_bytes(), &self.time_floor_ms.to_le_bytes()].concat()
    }

    /// Reads the stored form; `None` when it is not one.
    pub fn decode(bytes: &[u8]) -> Option<StartEntry> {
        let mut fields = Fields::of(bytes)?;
        let entry = StartEntry { start: Offset(u64::from_le_bytes(fields.take()?)), time_floor_ms: i64::from_le_bytes(fields.take()?) };
        fields.end(entry)
    }
}

/// Takes the fields of a value one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn of(bytes: &'a [u8]) -> Option<Fields<'a>> {
        let (format, rest) = bytes.split_first()?;
        (*format == FORMAT).then_some(Fields(rest))
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    fn end<T>(self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    const PLACE: PartitionKey = PartitionKey { topic: 7, partition: Partition(3) };

    /// The bytes of format 1, kept for ever.
    #[test]
    fn the_bytes_of_format_1() {
        assert_eq!(PLACE.block(Offset(258)), [0, 0, 0, 7, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(PLACE.start(), b"start/\0\0\0\x07\0\0\0\x03");
        assert_eq!(TopicEntry::key("tweets"), b"topic/tweets");
        assert_eq!(TopicEntry { id: 7, partitions: 4 }.encode(), [1, 7, 0, 0, 0, 4, 0, 0, 0]);
        let start = StartEntry { start: Offset(258), time_floor_ms: -1 };
        assert_eq!(start.encode(), [1, 2, 1, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
        let entry = BlockEntry { count: 1, raw_len: 2, stored_len: 3, first_time_ms: 4, last_time_ms: 5 };
        assert_eq!(entry.encode(), [1, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn blocks_sort_by_partition_then_offset() {
        let next = PartitionKey { partition: Partition(4), ..PLACE };
        assert!(PLACE.block(Offset(255)) < PLACE.block(Offset(256)));
        assert!(PLACE.block(Offset(u64::MAX)) < next.block(Offset(0)));
        assert_eq!(base_of(&PLACE.block(Offset(256))), Some(Offset(256)));
    }

    proptest! {
        #[test]
        fn entries_come_back(numbers: [u32; 3], times: [i64; 2], start: u64) {
            let [count, raw_len, stored_len] = numbers;
            let block = BlockEntry { count, raw_len, stored_len, first_time_ms: times[0], last_time_ms: times[1] };
            prop_assert_eq!(BlockEntry::decode(&block.encode()), Some(block));
            let topic = TopicEntry { id: count, partitions: raw_len };
            prop_assert_eq!(TopicEntry::decode(&topic.encode()), Some(topic));
            let floor = StartEntry { start: Offset(start), time_floor_ms: times[0] };
            prop_assert_eq!(StartEntry::decode(&floor.encode()), Some(floor));
        }

        #[test]
        fn other_bytes_are_refused_not_guessed(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if bytes.first() != Some(&FORMAT) || bytes.len() != 29 {
                prop_assert_eq!(BlockEntry::decode(&bytes), None);
            }
        }
    }
}
