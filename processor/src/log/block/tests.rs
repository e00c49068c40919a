#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use proptest::prelude::*;

use super::*;

const KEY: &[u8; 16] = b"topicpartbaseoff";

/// A record: its value (none for a tombstone) and how long after the record before it was appended.
type Row = (Option<Vec<u8>>, u32);

fn encode(rows: &[Row], base_time_ms: i64) -> Vec<u8> {
    let mut builder = BodyBuilder::default();
    let mut time_ms = base_time_ms;
    for (place, (value, advance)) in rows.iter().enumerate() {
        time_ms += if place == 0 { 0 } else { i64::from(*advance) };
        builder.push(value.as_deref(), time_ms);
    }
    builder.finish().seal(KEY, base_time_ms)
}

/// Offset, record time and value of a record that was read.
type Read = (u64, i64, Option<Vec<u8>>);

/// The records, read behind `before` bytes that are in the buffer already.
fn decode(bytes: &[u8], base: u64, before: usize) -> Result<Vec<Read>, Damage> {
    let mut values = vec![b'-'; before];
    let mut spans = Vec::new();
    let block = Block::open(KEY, bytes)?;
    block.read_into(Offset(base), &mut values, &mut spans)?;
    assert_eq!(spans.len(), block.count() as usize);
    assert_eq!(values.len(), before + block.values_len(), "only values stay in the buffer");
    let value = |span: &RecordSpan| span.len.map(|len| values[span.start as usize..(span.start + len) as usize].to_vec());
    Ok(spans.iter().map(|span| (span.offset.0, span.record_time_ms, value(span))).collect())
}

fn expected(rows: &[Row], base: u64, base_time_ms: i64) -> Vec<Read> {
    let mut time_ms = base_time_ms;
    let mut all = Vec::new();
    for (place, (value, advance)) in rows.iter().enumerate() {
        time_ms += if place == 0 { 0 } else { i64::from(*advance) };
        all.push((base + place as u64, time_ms, value.clone()));
    }
    all
}

fn golden_rows() -> Vec<Row> {
    vec![(Some(b"one".to_vec()), 0), (None, 300), (Some(Vec::new()), 0), (Some(b"four".to_vec()), 1)]
}

/// The bytes of format 1, kept for ever.
const GOLDEN_PLAIN: &str = "0100cd331417040000000068e5cf8b01000010000000070000006f6e65666f7572040000ac0201000501";
const GOLDEN_COMPRESSED: &str = concat!(
    "0101260d71f206000000f9ffffffffffffff5c01000050010000",
    "ff0e612076616c75652074686174207265706561747320697473656c662c201d00080f1b00080f3800eac0390039053905390539053905",
);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

#[test]
fn format_1_is_written_as_it_always_was() {
    assert_eq!(hex(&encode(&golden_rows(), 1_700_000_000_000)), GOLDEN_PLAIN);
    assert_eq!(decode(&unhex(GOLDEN_PLAIN), 40, 0).unwrap(), expected(&golden_rows(), 40, 1_700_000_000_000));
}

/// Another compressor may find other bytes, so only reading is held to these.
#[test]
fn compressed_blocks_of_format_1_are_read() {
    let rows: Vec<Row> = (0..6).map(|_| (Some(b"a value that repeats itself, a value that repeats itself".to_vec()), 5)).collect();
    assert_eq!(encode(&rows, -7)[1], COMPRESSED, "what repeats itself is compressed");
    assert_eq!(decode(&unhex(GOLDEN_COMPRESSED), 1 << 40, 0).unwrap(), expected(&rows, 1 << 40, -7));
}

#[test]
fn damage_names_its_place_and_the_way_out() {
    let mut bytes = encode(&golden_rows(), 5);
    bytes[30] ^= 1;
    let error = Block::open(KEY, &bytes).unwrap_err().at("tweets", Partition(3), Offset(77));
    let said = error.to_string();
    assert!(said.starts_with("the block at offset 77 of tweets/3 is damaged: its checksum is "), "{said}");
    assert!(said.contains("restore"), "{said}");
    assert!(!error.is_retryable());
}

#[test]
fn a_block_of_a_newer_program_is_not_guessed_at() {
    let mut bytes = encode(&golden_rows(), 5);
    bytes[0] = 2;
    assert_eq!(Block::open(KEY, &bytes).unwrap_err(), Damage::Format(2));
}

#[test]
fn a_block_at_the_place_of_another_is_noticed() {
    let bytes = encode(&golden_rows(), 5);
    assert!(matches!(Block::open(b"topicpartanother", &bytes), Err(Damage::Checksum { .. })));
}

/// A header that lies, under a checksum that is right: what a fault in memory before sealing would leave.
fn resealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let checksum = checksum(KEY, &bytes);
    copy_to(&mut bytes, CHECKSUM_AT, &checksum.to_le_bytes());
    bytes
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let value = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80),
        // Repetition, so that some blocks are compressed.
        (any::<u8>(), 0..400_usize).prop_map(|(byte, len)| vec![byte; len]),
    ];
    prop::collection::vec((prop::option::weighted(0.9, value), prop_oneof![Just(0), any::<u32>()]), 1..40)
}

proptest! {
    #[test]
    fn records_come_back(rows in rows(), base in 0..1_u64 << 60, time_ms in -1_i64 << 50..1 << 50, before in 0..50_usize) {
        prop_assert_eq!(decode(&encode(&rows, time_ms), base, before).unwrap(), expected(&rows, base, time_ms));
    }

    #[test]
    fn any_changed_byte_is_noticed(rows in rows(), at: prop::sample::Index, change in 1..=255_u8) {
        let mut bytes = encode(&rows, 5);
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        prop_assert!(decode(&bytes, 0, 0).is_err());
    }

    #[test]
    fn any_cut_is_noticed(rows in rows(), at: prop::sample::Index) {
        let bytes = encode(&rows, 5);
        prop_assert!(decode(&bytes[..at.index(bytes.len())], 0, 0).is_err());
    }

    #[test]
    fn lies_under_a_right_checksum_do_not_panic(rows in rows(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = encode(&rows, 5);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let mut values = Vec::new();
        let mut spans = Vec::new();
        let bytes = resealed(bytes);
        if let Ok(block) = Block::open(KEY, &bytes)
            && block.read_into(Offset(0), &mut values, &mut spans).is_ok()
        {
            for span in &spans {
                prop_assert!((span.start + span.len.unwrap_or(0)) as usize <= values.len());
            }
        }
    }

    #[test]
    fn random_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(decode(&bytes, 0, 0).is_err());
    }
}
