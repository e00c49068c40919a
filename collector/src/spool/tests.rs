#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

const SMALL: SpoolSettings = SpoolSettings { max_bytes: 1 << 20, segment_bytes: 400, remembered: 5 };

/// Message `number` of a source whose cursor is that number.
fn message(number: u64) -> Message {
    Message {
        received_ms: 1,
        id: Some(u128::from(number)),
        cursor: Some(number.to_string()),
        body: Bytes::from(format!("message {number}")),
    }
}

fn bodies(folder: &Path, from: Place, until: Place) -> Vec<String> {
    let mut reader = Reader::at(folder, from).unwrap();
    let mut bodies = Vec::new();
    while let Some(message) = reader.next(until).unwrap() {
        bodies.push(String::from_utf8(message.body.to_vec()).unwrap());
    }
    bodies
}

fn expected(numbers: std::ops::Range<u64>) -> Vec<String> {
    numbers.map(|number| format!("message {number}")).collect()
}

#[test]
fn messages_are_read_in_their_order_across_segments_and_from_any_place() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), SMALL).unwrap();
    for number in 0..50 {
        assert!(spool.append(message(number)).unwrap());
    }
    let end = spool.sync().unwrap();
    assert!(end.segment > 3, "{end:?}");
    assert_eq!(bodies(folder.path(), spool.first(), end), expected(0..50));
    let mut reader = Reader::at(folder.path(), spool.first()).unwrap();
    for number in 1..=50 {
        reader.next(end).unwrap().unwrap();
        assert_eq!(bodies(folder.path(), reader.place(), end), expected(number..50));
    }
}

#[test]
fn readers_see_what_is_durable_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), SMALL).unwrap();
    let before = spool.sync().unwrap();
    spool.append(message(0)).unwrap();
    assert_eq!(bodies(folder.path(), spool.first(), before), expected(0..0));
    let after = spool.sync().unwrap();
    assert_eq!(bodies(folder.path(), before, after), expected(0..1));
}

#[test]
fn what_was_seen_is_not_appended_again_also_after_its_segment_was_released_and_the_spool_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), SMALL).unwrap();
    for number in 0..30 {
        spool.append(message(number)).unwrap();
    }
    let end = spool.sync().unwrap();
    spool.release(end).unwrap();
    assert_eq!(spool.first().segment, end.segment, "one segment is left");
    drop(spool);
    let mut spool = Spool::open(folder.path(), SMALL).unwrap();
    assert_eq!(spool.cursor(), Some("29"));
    for number in 25..30 {
        assert!(!spool.append(message(number)).unwrap(), "{number}");
    }
    assert!(spool.append(message(30)).unwrap());
    assert!(spool.append(Message { id: None, ..message(30) }).unwrap(), "what has no id is never a repetition");
}

#[test]
fn a_cursor_moves_on_without_a_message() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), SMALL).unwrap();
    spool.append(message(1)).unwrap();
    spool.move_cursor("7".into());
    spool.sync().unwrap();
    drop(spool);
    assert_eq!(Spool::open(folder.path(), SMALL).unwrap().cursor(), Some("7"));
}

#[test]
fn a_full_spool_has_room_again_when_a_segment_was_released() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), SpoolSettings { max_bytes: 1200, ..SMALL }).unwrap();
    let mut number = 0;
    while !spool.is_full() {
        spool.append(message(number)).unwrap();
        number += 1;
    }
    let end = spool.sync().unwrap();
    spool.release(end).unwrap();
    assert!(!spool.is_full() && spool.bytes() < 1200);
}

#[test]
fn damage_before_the_end_is_an_error_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), SMALL).unwrap();
    for number in 0..20 {
        spool.append(message(number)).unwrap();
    }
    let end = spool.sync().unwrap();
    let path = path_of(folder.path(), 1);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() - 3;
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    let mut reader = Reader::at(folder.path(), spool.first()).unwrap();
    let error = loop {
        match reader.next(end) {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the damage is not seen"),
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.contains("00001.segment is damaged at offset"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A crash leaves any beginning of what was not durable yet, and a power failure may leave rubbish behind it. The source then sends again from the cursor
    /// that is left, some of it twice: each message is there once, in its order.
    #[test]
    fn whatever_a_crash_leaves_nothing_is_lost_and_nothing_there_twice(
        before in 0_u64..30,
        after in 0_u64..30,
        keeps in 0.0_f64..=1.0,
        rubbish in prop::collection::vec(any::<u8>(), 0..20),
        again in 0_u64..5,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), SMALL).unwrap();
        for number in 0..before {
            spool.append(message(number)).unwrap();
        }
        let durable = spool.sync().unwrap();
        for number in before..before + after {
            spool.append(message(number)).unwrap();
        }
        let end = spool.sync().unwrap();
        drop(spool);
        // Only the last segment can be torn: the others were durable before the next one began.
        let torn = path_of(folder.path(), end.segment);
        let least = if durable.segment == end.segment { durable.offset } else { 0 };
        let kept = least + ((end.offset - least) as f64 * keeps) as u64;
        let mut bytes = fs::read(&torn).unwrap();
        bytes.truncate(kept as usize);
        bytes.extend_from_slice(&rubbish);
        fs::write(&torn, bytes).unwrap();

        let mut spool = Spool::open(folder.path(), SMALL).unwrap();
        let cursor = spool.cursor().map(|cursor| cursor.parse::<u64>().unwrap());
        let from = cursor.map_or(0, |cursor| (cursor + 1).saturating_sub(again));
        prop_assert!(from <= before + after);
        prop_assert!(cursor.map_or(0, |cursor| cursor + 1) >= before, "what was durable is there");
        for number in from..before + after + 3 {
            spool.append(message(number)).unwrap();
        }
        let end = spool.sync().unwrap();
        prop_assert_eq!(bodies(folder.path(), spool.first(), end), expected(0..before + after + 3));
    }
}
