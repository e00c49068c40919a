//! What every log must do, whoever keeps it. Each adapter runs [`run`].
//!
//! Values and their order are compared, not offsets: an offset may leave gaps (transaction markers, compaction), it only has to rise.
//! Which partition a key goes to is the log's affair, as long as equal keys go to the same one.

// These are tests; they are library code only so that adapters in other crates run the very same ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Log, LogError, LogReader, NewRecord, Records};
use crate::position::{Cut, Offset, Partition};

/// A log under test, and what the suite does to it behind its back.
pub trait Harness {
    /// The log.
    fn log(&self) -> Arc<dyn Log>;

    /// Closes the log and opens it again, as another process would. The suite holds no reader then.
    fn reopen(&mut self);

    /// Makes the log forget the records of a partition below `to`, as retention does.
    fn forget_below(&mut self, topic: &str, partition: Partition, to: Offset);

    /// Puts the clock behind record times back, where the harness has it in hand.
    fn turn_clock_back(&self) {}

    /// Whether a reader sleeps while it waits; a log for simulations answers at once.
    fn readers_sleep(&self) -> bool {
        true
    }
}

/// Long enough that a reader which is not woken is noticed, whatever the machine is busy with.
const LONG: Duration = Duration::from_secs(60);
/// Enough for any log to hand over what it has.
const SOON: Duration = Duration::from_secs(5);
const ROOMY: usize = 1 << 20;
const TOPIC: &str = "events";

/// Runs the suite; each case has a log of its own.
///
/// # Panics
///
/// When the log does not do what it must.
pub fn run(make: &dyn Fn() -> Box<dyn Harness>) {
    type Case = fn(&mut dyn Harness);
    let cases: [(&str, Case); 21] = [
        ("a log is known again", known_again),
        ("topics are created once and listed", topics_are_created_once),
        ("an unknown topic is said to be one", unknown_topics),
        ("an unknown partition is refused", unknown_partitions),
        ("an empty topic reads as nothing", empty_topic),
        ("records are read in the order of their partition", order_of_a_partition),
        ("equal keys share a partition", equal_keys),
        ("records without a key are spread", keyless_records),
        ("an append says where each record is", appends_say_where),
        ("reading starts at any position", any_position),
        ("a run holds about max_bytes and at least one record", max_bytes),
        ("every partition gets its turn", fair_turns),
        ("readers do not disturb each other", independent_readers),
        ("an append ends a wait", append_ends_a_wait),
        ("concurrent appends are all kept, each in its own order", concurrent_appends),
        ("a position below the start is a hole", hole),
        ("the end outlives the last record", forgetting_everything),
        ("a position past the end is an error", past_end),
        ("record times never decrease", record_times),
        ("values of any size come back", sizes),
        ("what was acknowledged outlives the process", durability),
    ];
    for (name, case) in cases {
        let checked = std::panic::catch_unwind(AssertUnwindSafe(|| case(make().as_mut())));
        assert!(checked.is_ok(), "this log does not conform: {name}");
    }
}

fn keyed(key: &str, value: &str) -> NewRecord {
    NewRecord { key: Some(Bytes::copy_from_slice(key.as_bytes())), value: Bytes::copy_from_slice(value.as_bytes()) }
}

fn keyless(value: impl Into<Bytes>) -> NewRecord {
    NewRecord { key: None, value: value.into() }
}

fn from_start(log: &dyn Log) -> Cut {
    log.partitions(TOPIC).unwrap().into_iter().map(|partition| (partition, log.bounds(TOPIC, partition).unwrap().start)).collect()
}

fn at(partition: Partition, position: Offset) -> Cut {
    Cut::from_iter([(partition, position)])
}

/// A record as the suite compares it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    partition: Partition,
    offset: Offset,
    record_time_ms: i64,
    value: Vec<u8>,
}

impl Seen {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.value).unwrap()
    }
}

/// Checks what holds of every run, and takes it apart.
fn take_apart(records: &Records) -> Vec<Seen> {
    let mut seen: Vec<Seen> = Vec::new();
    for span in &records.spans {
        if let Some(before) = seen.last() {
            assert!(before.offset < span.offset, "offsets rise within a run");
        }
        let value = records.value(span).expect("a value that was appended is not a tombstone").to_vec();
        seen.push(Seen { partition: records.partition, offset: span.offset, record_time_ms: span.record_time_ms, value });
    }
    if let Some(last) = seen.last() {
        assert!(last.offset < records.next, "the next position is behind the run");
    }
    assert!(records.next <= records.end, "a run does not go past the end it tells");
    seen
}

/// Reads until every partition has been read to the end that it has now.
fn read_to_end(log: &dyn Log, reader: &mut dyn LogReader, from: &Cut, max_bytes: usize) -> Vec<Seen> {
    let goal: Cut = from.iter().map(|(partition, _)| (partition, log.bounds(TOPIC, partition).unwrap().end)).collect();
    let mut reached = from.clone();
    let mut seen = Vec::new();
    while !reached.reaches(&goal) {
        let records = reader.read(max_bytes, SOON).unwrap().expect("there is more to read");
        let before = reached.position(records.partition);
        let run = take_apart(&records);
        assert!(run.first().is_none_or(|first| first.offset >= before), "a run starts at the position or behind it");
        assert!(records.next > before, "a run moves the position, also one without records");
        reached.set(records.partition, records.next);
        seen.extend(run);
    }
    assert!(reader.read(max_bytes, Duration::ZERO).unwrap().is_none(), "nothing is behind the end");
    seen
}

fn read_all(log: &dyn Log, max_bytes: usize) -> Vec<Seen> {
    let from = from_start(log);
    let mut reader = log.reader(TOPIC, &from).unwrap();
    read_to_end(log, reader.as_mut(), &from, max_bytes)
}

fn texts(seen: &[Seen]) -> Vec<&str> {
    seen.iter().map(Seen::text).collect()
}

fn numbered(count: usize) -> Vec<NewRecord> {
    (0..count).map(|number| keyless(format!("record {number}"))).collect()
}

fn known_again(harness: &mut dyn Harness) {
    let id = harness.log().id().unwrap();
    assert!(!id.is_empty());
    harness.reopen();
    assert_eq!(harness.log().id().unwrap(), id);
}

fn topics_are_created_once(harness: &mut dyn Harness) {
    let log = harness.log();
    log.create_topic(TOPIC, 3).unwrap();
    log.append(TOPIC, vec![keyless("kept")]).unwrap();
    log.create_topic(TOPIC, 5).unwrap();
    log.create_topic("other", 1).unwrap();
    assert_eq!(log.partitions(TOPIC).unwrap(), [0, 1, 2].map(Partition), "an existing topic is left as it is");
    assert_eq!(texts(&read_all(log.as_ref(), ROOMY)), ["kept"]);
    let topics = log.topics().unwrap();
    assert!(topics.contains(&TOPIC.to_owned()) && topics.contains(&"other".to_owned()), "{topics:?}");
    assert!(log.create_topic("none", 0).is_err(), "a topic without partitions is refused");
}

fn unknown_topics(harness: &mut dyn Harness) {
    let log = harness.log();
    let unknown = |error: Option<LogError>| assert!(matches!(error, Some(LogError::UnknownTopic(ref name)) if name == TOPIC), "{error:?}");
    unknown(log.append(TOPIC, vec![keyless("lost")]).err());
    unknown(log.partitions(TOPIC).err());
    unknown(log.bounds(TOPIC, Partition(0)).err());
    unknown(log.reader(TOPIC, &at(Partition(0), Offset(0))).err());
}

fn unknown_partitions(harness: &mut dyn Harness) {
    let log = harness.log();
    log.create_topic(TOPIC, 2).unwrap();
    let error = log.bounds(TOPIC, Partition(2)).unwrap_err();
    assert!(!error.is_retryable() && error.to_string().contains(TOPIC), "{error}");
    assert!(log.reader(TOPIC, &at(Partition(2), Offset(0))).is_err());
}

fn empty_topic(harness: &mut dyn Harness) {
    let log = harness.log();
    log.create_topic(TOPIC, 2).unwrap();
    let bounds = log.bounds(TOPIC, Partition(1)).unwrap();
    assert_eq!(bounds.start, bounds.end);
    assert!(read_all(log.as_ref(), ROOMY).is_empty());
    assert!(log.append(TOPIC, Vec::new()).unwrap().is_empty(), "appending nothing is nothing");
    assert_eq!(log.bounds(TOPIC, Partition(1)).unwrap(), bounds);
}

fn order_of_a_partition(harness: &mut dyn Harness) {
    let log = harness.log();
    log.create_topic(TOPIC, 3).unwrap();
    let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for append in 0..20 {
        let mut records = Vec::new();
        for number in 0..25 {
            let key = format!("key {}", (append + number) % 7);
            let value = format!("{key}: {append}.{number}");
            records.push(keyed(&key, &value));
            expected.entry(key).or_default().push(value);
        }
        log.append(TOPIC, records).unwrap();
    }
    for max_bytes in [1, 40, 1000, ROOMY] {
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for seen in read_all(log.as_ref(), max_bytes) {
            let key = seen.text().split(':').next().unwrap().to_owned();
            found.entry(key).or_default().push(seen.text().to_owned());
        }
        assert_eq!(found, expected, "read by {max_bytes} bytes");
    }
}

fn equal_keys(harness: &mut dyn Harness) {
    let log = harness.log();
    log.create_topic(TOPIC, 4).unwrap();
    let keys: Vec<String> = (0..40).map(|number| format!("user {number}")).collect();
    let append = || log.append(TOPIC, keys.iter().map(|key| keyed(key, "x")).collect()).unwrap();
    let partitions = |places: Vec<(Partition, Offset)>| places.into_iter().map(|(partition, _)| partition).collect::<Vec<_>>();
    let first = partitions(append());
    assert_eq!(first, partitions(append()), "equal keys go to the same partition");
    assert!(first.iter().collect::<BTreeSet<_>>().len() > 1, "forty keys do not all go to one of four partitions");
}

fn keyless_records(harness: &mut dyn Harness) {
    let log = harness.log();
    log.create_topic(TOPIC, 2).unwrap();
    let mut used = BTreeSet::new();
    for _ in 0..50 {
        used.extend(log.append(TOPIC, numbered(4)).unwrap().into_iter().map(|(partition, _)| partition));
    }
    assert_eq!(used.len(), 2, "records without a key reach every partition");
}

fn appends_say_where(harness: &mut dyn Harness) {
    let log = harness.log();
    log.create_topic(TOPIC, 3).unwrap();
    let mut placed = BTreeMap::new();
    for append in 0..5 {
        let records: Vec<NewRecord> = (0..10).map(|number| keyed(&format!("key {number}"), &format!("{append}.{number}"))).collect();
        let places = log.append(TOPIC, records.clone()).unwrap();
        assert_eq!(places.len(), records.len());
        placed.extend(places.into_iter().zip(records.into_iter().map(|record| record.value.to_vec())));
    }
    let read: BTreeMap<(Partition, Offset), Vec<u8>> =
        read_all(log.as_ref(), ROOMY).into_iter().map(|seen| ((seen.partition, seen.offset), seen.value)).collect();
    assert_eq!(read, placed);
}

fn any_position(harness: &mut dyn Harness) {
    let log = harness.log();
    log.create_topic(TOPIC, 1).unwrap();
    log.append(TOPIC, numbered(30)).unwrap();
    log.append(TOPIC, numbered(1)).unwrap();
    log.append(TOPIC, numbered(9)).unwrap();
    let all = read_all(log.as_ref(), ROOMY);
    assert_eq!(all.len(), 40);
    for (skipped, first) in all.iter().enumerate() {
        let from = at(Partition(0), first.offset);
        for max_bytes in [1, 25, ROOMY] {
            let mut reader = log.reader(TOPIC, &from).unwrap();
            let rest = read_to_end(log.as_ref(), reader.as_mut(), &from, max_bytes);
            assert_eq!(rest, all[skipped..], "from {} by {max_bytes} bytes", first.offset);
        }
    }
    let end = log.bounds(TOPIC, Partition(0)).unwrap().end;
    let mut reader = log.reader(TOPIC, &at(Partition(0), end)).unwrap();
    assert!(reader.read(ROOMY, Duration::ZERO).unwrap().is_none(), "the end is a position too");
}

fn max_bytes(harness: &mut dyn Harness) {
    let log = harness.log();
    log.create_topic(TOPIC, 1).unwrap();
    let value = |number: usize| Bytes::from(vec![number as u8; 100]);
    for first in (0..200).step_by(10) {
        log.append(TOPIC, (first..first + 10).map(|number| keyless(value(number))).collect()).unwrap();
    }
    let from = from_start(log.as_ref());
    for max_bytes in [0, 1, 99, 100, 250, 1050, 100_000] {
        let mut reader = log.reader(TOPIC, &from).unwrap();
        let mut read = 0;
        let mut runs = 0;
        while read < 200 {
            let records = reader.read(max_bytes, SOON).unwrap().expect("there is more to read");
            let bytes: usize = take_apart(&records).iter().map(|seen| seen.value.len()).sum();
            assert!(records.spans.len() == 1 || bytes <= max_bytes, "{bytes} bytes where {max_bytes} were asked for");
            read += records.spans.len();
            runs += 1;
        }
        assert_eq!(read, 200);
        if max_bytes < 200 {
            assert_eq!(runs, 200, "one record a run when no two fit");
        }
    }
}

fn fair_turns(harness: &mut dyn Harness) {
    let log = harness.log();
    log.create_topic(TOPIC, 3).unwrap();
    for _ in 0..30 {
        log.append(TOPIC, (0..30).map(|number| keyed(&format!("key {number}"), "a value of some length")).collect()).unwrap();
    }
    let from = from_start(log.as_ref());
    let filled = from.iter().filter(|(partition, start)| log.bounds(TOPIC, *partition).unwrap().end > *start).count();
    let mut reader = log.reader(TOPIC, &from).unwrap();
    let mut met = BTreeSet::new();
    let mut read = 0;
    while met.len() < filled {
        let records = reader.read(1, SOON).unwrap().expect("there is more to read");
        met.insert(records.partition);
        read += 1;
        assert!(read < 900, "a partition with records is not left until the others are read to their ends");
    }
}

fn independent_readers(harness: &mut dyn Harness) {
    let log = harness.log();
    log.create_topic(TOPIC, 2).unwrap();
    log.append(TOPIC, numbered(100)).unwrap();
    let from = from_start(log.as_ref());
    let expected = read_all(log.as_ref(), ROOMY).len();
    let mut readers: Vec<Box<dyn LogReader>> = (0..3).map(|_| log.reader(TOPIC, &from).unwrap()).collect();
    let mut read = [0; 3];
    for step in 0.. {
        let reader = step % 3;
        // They go at different speeds.
        match readers[reader].read(1 + 60 * reader, SOON * u32::from(read[reader] < expected)).unwrap() {
            Some(records) => read[reader] += records.spans.len(),
            None if read == [expected; 3] => break,
            None => assert_eq!(read[reader], expected, "a reader ends only at the end"),
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "it is about how long a wait takes")]
fn append_ends_a_wait(harness: &mut dyn Harness) {
    let log = harness.log();
    log.create_topic(TOPIC, 2).unwrap();
    let from = from_start(log.as_ref());
    if !harness.readers_sleep() {
        let started = Instant::now();
        assert!(log.reader(TOPIC, &from).unwrap().read(ROOMY, LONG).unwrap().is_none());
        assert!(started.elapsed() < LONG / 2, "a log for simulations does not sleep");
        return;
    }
    let mut reader = log.reader(TOPIC, &from).unwrap();
    let (tell, told) = mpsc::channel();
    let waiting = std::thread::spawn(move || {
        let mut waits = Vec::new();
        for _ in 0..20 {
            tell.send(()).unwrap();
            let started = Instant::now();
            let records = reader.read(ROOMY, LONG).unwrap().expect("the append ends the wait");
            waits.push(started.elapsed());
            assert_eq!(texts(&take_apart(&records)), ["awaited"]);
        }
        waits
    });
    for _ in 0..20 {
        told.recv().unwrap();
        log.append(TOPIC, vec![keyless("awaited")]).unwrap();
    }
    let waits = waiting.join().unwrap();
    assert!(waits.iter().all(|wait| *wait < LONG / 2), "woken, not timed out: {waits:?}");
}

fn concurrent_appends(harness: &mut dyn Harness) {
    const APPENDERS: usize = 8;
    const APPENDS: usize = 25;
    let log = harness.log();
    log.create_topic(TOPIC, 3).unwrap();
    let from = from_start(log.as_ref());
    let following = harness.readers_sleep().then(|| {
        let mut reader = log.reader(TOPIC, &from).unwrap();
        std::thread::spawn(move || {
            let mut seen = Vec::new();
            while seen.len() < APPENDERS * APPENDS * 3 {
                seen.extend(take_apart(&reader.read(100, LONG).unwrap().expect("everything that was appended arrives")));
            }
            seen
        })
    });
    let appenders: Vec<_> = (0..APPENDERS)
        .map(|appender| {
            let log = log.clone();
            std::thread::spawn(move || {
                let key = format!("appender {appender}");
                for append in 0..APPENDS {
                    let records: Vec<NewRecord> = (0..3).map(|number| keyed(&key, &format!("{key}/{}", append * 3 + number))).collect();
                    let places = log.append(TOPIC, records).unwrap();
                    assert!(places.windows(2).all(|pair| pair[0].1 < pair[1].1), "an append keeps its order");
                }
            })
        })
        .collect();
    appenders.into_iter().for_each(|appender| appender.join().unwrap());
    let mut all = read_all(log.as_ref(), ROOMY);
    for appender in 0..APPENDERS {
        let key = format!("appender {appender}");
        let own: Vec<&str> = all.iter().map(Seen::text).filter(|value| value.starts_with(&format!("{key}/"))).collect();
        let expected: Vec<String> = (0..APPENDS * 3).map(|number| format!("{key}/{number}")).collect();
        assert_eq!(own, expected, "nothing is lost or out of order");
    }
    if let Some(following) = following {
        let mut followed = following.join().unwrap();
        // Turns differ between readers, the order within a partition does not.
        all.sort_by_key(|seen| seen.partition);
        followed.sort_by_key(|seen| seen.partition);
        assert_eq!(followed, all, "who reads meanwhile sees the same");
    }
}

fn hole(harness: &mut dyn Harness) {
    let log = harness.log();
    log.create_topic(TOPIC, 1).unwrap();
    log.append(TOPIC, numbered(20)).unwrap();
    log.append(TOPIC, numbered(20)).unwrap();
    let all = read_all(log.as_ref(), ROOMY);
    let partition = Partition(0);
    for kept in [7, 20, 31] {
        let start = all[kept].offset;
        harness.forget_below(TOPIC, partition, start);
        assert_eq!(log.bounds(TOPIC, partition).unwrap().start, start);
        assert_eq!(read_all(log.as_ref(), ROOMY), all[kept..], "what is kept is unchanged");
        for gone in [all[0].offset, all[kept - 1].offset] {
            let error = log.reader(TOPIC, &at(partition, gone)).unwrap().read(ROOMY, SOON).unwrap_err();
            let said = matches!(&error, LogError::Hole { topic, partition: Partition(0), position, log_start }
                if topic == TOPIC && *position == gone && *log_start == start);
            assert!(said, "{error:?}");
            assert!(!error.is_retryable(), "records that are gone do not come back");
        }
    }
}

fn forgetting_everything(harness: &mut dyn Harness) {
    harness.log().create_topic(TOPIC, 1).unwrap();
    harness.log().append(TOPIC, numbered(10)).unwrap();
    let end = harness.log().bounds(TOPIC, Partition(0)).unwrap().end;
    harness.forget_below(TOPIC, Partition(0), end);
    harness.reopen();
    let log = harness.log();
    let bounds = log.bounds(TOPIC, Partition(0)).unwrap();
    assert_eq!((bounds.start, bounds.end), (end, end), "an offset is never given twice");
    let placed = log.append(TOPIC, vec![keyless("after")]).unwrap();
    assert!(placed[0].1 >= end);
    assert_eq!(texts(&read_all(log.as_ref(), ROOMY)), ["after"]);
}

fn past_end(harness: &mut dyn Harness) {
    let log = harness.log();
    log.create_topic(TOPIC, 1).unwrap();
    log.append(TOPIC, numbered(3)).unwrap();
    let end = log.bounds(TOPIC, Partition(0)).unwrap().end;
    let past = end.next();
    let error = log.reader(TOPIC, &at(Partition(0), past)).unwrap().read(ROOMY, SOON).unwrap_err();
    let said = matches!(&error, LogError::PastEnd { topic, partition: Partition(0), position, end: told }
        if topic == TOPIC && *position == past && *told == end);
    assert!(said, "{error:?}");
}

fn record_times(harness: &mut dyn Harness) {
    harness.log().create_topic(TOPIC, 2).unwrap();
    for round in 0..12 {
        harness.log().append(TOPIC, numbered(10)).unwrap();
        harness.turn_clock_back();
        if round == 6 {
            harness.reopen();
        }
    }
    let mut last: BTreeMap<Partition, i64> = BTreeMap::new();
    for seen in read_all(harness.log().as_ref(), ROOMY) {
        let last = last.entry(seen.partition).or_insert(seen.record_time_ms);
        assert!(*last <= seen.record_time_ms, "record times never decrease within a partition");
        *last = seen.record_time_ms;
    }
}

fn sizes(harness: &mut dyn Harness) {
    let log = harness.log();
    log.create_topic(TOPIC, 1).unwrap();
    // Close to a megabyte, with a pattern that does not compress to nothing: brokers take a megabyte with its envelope by default.
    let large: Vec<u8> = (0..1_000_000_u32).map(|place| (place.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let values = [Vec::new(), large.clone(), vec![0], Vec::new(), Vec::new(), vec![7; 70_000], large];
    log.append(TOPIC, values[..3].iter().cloned().map(keyless).collect()).unwrap();
    for value in &values[3..] {
        log.append(TOPIC, vec![keyless(value.clone())]).unwrap();
    }
    for max_bytes in [1, 100_000, 10 << 20] {
        let read: Vec<Vec<u8>> = read_all(log.as_ref(), max_bytes).into_iter().map(|seen| seen.value).collect();
        assert!(read == values, "values came back changed when read by {max_bytes} bytes");
    }
}

fn durability(harness: &mut dyn Harness) {
    harness.log().create_topic(TOPIC, 3).unwrap();
    for _ in 0..5 {
        harness.log().append(TOPIC, (0..20).map(|number| keyed(&format!("key {number}"), "before")).collect()).unwrap();
    }
    let before = read_all(harness.log().as_ref(), ROOMY);
    let cut: Cut = harness
        .log()
        .partitions(TOPIC)
        .unwrap()
        .into_iter()
        .map(|partition| (partition, harness.log().bounds(TOPIC, partition).unwrap().end))
        .collect();
    let placed = harness.log().append(TOPIC, vec![keyed("key 3", "last")]).unwrap();
    harness.reopen();
    let log = harness.log();
    assert!(log.topics().unwrap().contains(&TOPIC.to_owned()));
    assert_eq!(log.partitions(TOPIC).unwrap().len(), 3);
    let mut reader = log.reader(TOPIC, &cut).unwrap();
    let rest = read_to_end(log.as_ref(), reader.as_mut(), &cut, ROOMY);
    assert_eq!(texts(&rest), ["last"], "a position outlives the process");
    let after: Vec<Seen> = read_all(log.as_ref(), ROOMY).into_iter().filter(|seen| seen.text() == "before").collect();
    let in_order = |mut seen: Vec<Seen>| {
        seen.sort_by_key(|seen| (seen.partition, seen.offset));
        seen
    };
    assert_eq!(in_order(after), in_order(before));
    let again = log.append(TOPIC, vec![keyed("key 3", "again")]).unwrap();
    assert_eq!(again[0].0, placed[0].0, "a key keeps its partition");
    assert!(again[0].1 > placed[0].1, "offsets go on where they were");
}
