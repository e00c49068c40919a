#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::clock::ManualClock;
use crate::log::conformance::{self, Harness};
use crate::position::Offset;

const TOPIC: &str = "events";
const ONLY: Partition = Partition(0);

struct InDirectory {
    dir: TempDir,
    settings: EmbeddedLogSettings,
    clock: Arc<ManualClock>,
    log: Option<Arc<EmbeddedLog>>,
    /// Whether small blocks are merged before each look at the log.
    merging: bool,
}

impl InDirectory {
    fn new(settings: EmbeddedLogSettings) -> InDirectory {
        let dir = TempDir::new().unwrap();
        let clock = Arc::new(ManualClock::at(1_700_000_000_000));
        let log = EmbeddedLog::open(dir.path(), settings.clone(), clock.clone()).unwrap();
        InDirectory { dir, settings, clock, log: Some(Arc::new(log)), merging: false }
    }

    fn embedded(&self) -> &EmbeddedLog {
        self.log.as_ref().unwrap()
    }

    fn append(&self, values: &[&str]) {
        let records = values.iter().map(|value| NewRecord { key: None, value: Bytes::copy_from_slice(value.as_bytes()) }).collect();
        self.embedded().append(TOPIC, records).unwrap();
    }

    fn read_from(&self, position: Offset, max_bytes: usize) -> Vec<String> {
        let mut reader = self.embedded().reader(TOPIC, &Cut::from_iter([(ONLY, position)])).unwrap();
        let mut values = Vec::new();
        while let Some(records) = reader.read(max_bytes, Duration::ZERO).unwrap() {
            values.extend(records.spans.iter().map(|span| String::from_utf8(records.value(span).unwrap().to_vec()).unwrap()));
        }
        values
    }

    fn bounds(&self) -> (u64, u64) {
        let bounds = self.embedded().bounds(TOPIC, ONLY).unwrap();
        (bounds.start.0, bounds.end.0)
    }

    fn blocks(&self) -> Vec<u64> {
        let mut bases = Vec::new();
        let log = self.embedded();
        let place = log.topic(TOPIC).unwrap().partition(ONLY).unwrap().place;
        log.disk
            .walk_index(place, (Offset(0), Offset(u64::MAX)), |base, _| {
                bases.push(base.0);
                ControlFlow::Continue(())
            })
            .unwrap();
        bases
    }
}

impl Harness for InDirectory {
    fn log(&self) -> Arc<dyn Log> {
        if self.merging {
            self.embedded().compact_blocks().unwrap();
        }
        self.log.clone().unwrap()
    }

    fn reopen(&mut self) {
        let closed = Arc::downgrade(&self.log.take().unwrap().disk);
        assert_eq!(closed.strong_count(), 0, "nobody else holds the directory open");
        self.log = Some(Arc::new(EmbeddedLog::open(self.dir.path(), self.settings.clone(), self.clock.clone()).unwrap()));
    }

    fn forget_below(&mut self, topic: &str, partition: Partition, to: Offset) {
        self.embedded().truncate(topic, partition, to).unwrap();
    }

    fn turn_clock_back(&self) {
        self.clock.advance_ms(-1_000);
    }
}

fn quick() -> EmbeddedLogSettings {
    // A power cut is not among what these tests do, so they need not wait for the disk.
    EmbeddedLogSettings { sync: false, ..EmbeddedLogSettings::default() }
}

fn one_partition(settings: EmbeddedLogSettings) -> InDirectory {
    let harness = InDirectory::new(settings);
    harness.embedded().create_topic(TOPIC, 1).unwrap();
    harness
}

#[test]
fn does_what_every_log_must() {
    conformance::run(&|| Box::new(InDirectory::new(EmbeddedLogSettings::default())));
}

#[test]
fn does_what_every_log_must_with_tiny_blocks() {
    conformance::run(&|| Box::new(InDirectory::new(EmbeddedLogSettings { block_bytes: 64, ..quick() })));
}

#[test]
fn does_what_every_log_must_while_blocks_are_merged() {
    conformance::run(&|| {
        let settings = EmbeddedLogSettings { block_bytes: 500, ..quick() };
        Box::new(InDirectory { merging: true, ..InDirectory::new(settings) })
    });
}

#[test]
fn small_blocks_become_large_ones_and_nothing_else_changes() {
    let mut harness = one_partition(EmbeddedLogSettings { block_bytes: 1_000, ..quick() });
    let values: Vec<String> = (0..300).map(|number| format!("value {number}")).collect();
    for (number, value) in values.iter().enumerate() {
        harness.clock.advance_ms(i64::from(number % 3 == 0));
        harness.append(&[value]);
    }
    assert_eq!(harness.blocks().len(), 300);
    let stored = |harness: &InDirectory| harness.embedded().topic(TOPIC).unwrap().partition(ONLY).unwrap().stored_bytes();
    let stored_small = stored(&harness);
    let times = |harness: &InDirectory| -> Vec<i64> {
        let mut reader = harness.embedded().reader(TOPIC, &Cut::from_iter([(ONLY, Offset(0))])).unwrap();
        let mut times = Vec::new();
        while let Some(records) = reader.read(1 << 20, Duration::ZERO).unwrap() {
            times.extend(records.spans.iter().map(|span| span.record_time_ms));
        }
        times
    };
    let times_before = times(&harness);

    let report = harness.embedded().maintain().unwrap();

    assert!(harness.blocks().len() < 100, "{:?}", harness.blocks());
    assert_eq!(report.merged_blocks - report.written_blocks, 300 - harness.blocks().len() as u64);
    assert_eq!(harness.embedded().maintain().unwrap(), Maintained::default(), "what is merged stays merged");
    assert_eq!(harness.read_from(Offset(0), 1 << 20), values);
    assert_eq!(times(&harness), times_before);
    for position in [1, 149, 150, 299] {
        assert_eq!(harness.read_from(Offset(position), 30), values[position as usize..]);
    }
    let stored_merged = stored(&harness);
    assert!(stored_merged < stored_small / 2, "{stored_merged} of {stored_small}");
    harness.reopen();
    assert_eq!(stored(&harness), stored_merged, "the count of stored bytes is kept right while blocks come and go");
    assert_eq!(harness.read_from(Offset(0), 1 << 20), values);
}

#[test]
fn a_reader_goes_on_where_its_blocks_were_merged() {
    let harness = one_partition(EmbeddedLogSettings { block_bytes: 1_000, ..quick() });
    let values: Vec<String> = (0..200).map(|number| format!("value {number}")).collect();
    values.iter().for_each(|value| harness.append(&[value]));
    let mut reader = harness.embedded().reader(TOPIC, &Cut::from_iter([(ONLY, Offset(0))])).unwrap();
    let mut read = Vec::new();
    while let Some(records) = reader.read(100, Duration::ZERO).unwrap() {
        read.extend(records.spans.iter().map(|span| String::from_utf8(records.value(span).unwrap().to_vec()).unwrap()));
        harness.embedded().compact_blocks().unwrap();
    }
    assert_eq!(read, values);
}

#[test]
fn readers_and_appenders_go_on_during_maintenance() {
    let settings = EmbeddedLogSettings { block_bytes: 2_000, retention_bytes: Some(20_000), ..quick() };
    let harness = one_partition(settings);
    let log = harness.log.clone().unwrap();
    std::thread::scope(|scope| {
        let appender = scope.spawn(|| {
            for number in 0..3_000_u32 {
                let value = Bytes::from(format!("{number:08} and some more that makes it longer"));
                log.append(TOPIC, vec![NewRecord { key: None, value }]).unwrap();
            }
        });
        let reader = scope.spawn(|| {
            let mut position = Offset(0);
            let mut reader = log.reader(TOPIC, &Cut::from_iter([(ONLY, position)])).unwrap();
            while position < Offset(3_000) {
                match reader.read(500, Duration::from_secs(60)) {
                    Ok(records) => {
                        let records = records.expect("the appender is still there");
                        for span in &records.spans {
                            let value = std::str::from_utf8(records.value(span).unwrap()).unwrap();
                            assert_eq!(value[..8].parse::<u64>().unwrap(), span.offset.0);
                            assert_eq!(span.offset, position, "nothing is skipped");
                            position = span.offset.next();
                        }
                    }
                    // Retention overtook us: said out loud, and the way out works.
                    Err(LogError::Hole { log_start, .. }) => {
                        assert!(log_start > position);
                        position = log_start;
                        reader = log.reader(TOPIC, &Cut::from_iter([(ONLY, position)])).unwrap();
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        });
        while !appender.is_finished() || !reader.is_finished() {
            log.maintain().unwrap();
        }
        appender.join().unwrap();
        reader.join().unwrap();
    });
    log.maintain().unwrap();
    assert!(harness.bounds().0 > 0, "retention removed something meanwhile");
}

#[test]
fn old_records_are_removed_and_never_come_back() {
    let mut harness = one_partition(EmbeddedLogSettings { retention_ms: Some(10_000), ..quick() });
    harness.append(&["old", "old too"]);
    harness.clock.advance_ms(6_000);
    harness.append(&["younger"]);
    harness.clock.advance_ms(4_000);
    assert_eq!(harness.embedded().maintain().unwrap().removed_records, 0, "an age of exactly the limit is not over it");
    harness.clock.advance_ms(1);

    let report = harness.embedded().maintain().unwrap();

    assert_eq!(report.removed_records, 2);
    assert!(report.removed_bytes > 0);
    assert_eq!(harness.bounds(), (2, 3));
    harness.reopen();
    assert_eq!(harness.bounds(), (2, 3), "the start is kept on disk");
    harness.clock.advance_ms(-20_000);
    harness.embedded().maintain().unwrap();
    assert_eq!(harness.bounds(), (2, 3), "a clock that goes back does not bring records back");
    harness.clock.advance_ms(40_000);
    harness.embedded().maintain().unwrap();
    harness.reopen();
    assert_eq!(harness.bounds(), (3, 3));
    assert_eq!(harness.embedded().topic(TOPIC).unwrap().partition(ONLY).unwrap().stored_bytes(), 0);
    harness.append(&["after"]);
    assert_eq!(harness.read_from(Offset(3), 100), ["after"]);
}

#[test]
fn a_topic_with_limits_of_its_own_is_kept_by_them() {
    let harness = one_partition(EmbeddedLogSettings { retention_ms: Some(10_000), ..quick() });
    let log = harness.embedded();
    for topic in ["shorter", "forever"] {
        log.create_topic(topic, 1).unwrap();
        log.append(topic, vec![NewRecord { key: None, value: "a".into() }]).unwrap();
    }
    harness.append(&["a"]);
    log.set_retention("shorter", Retention { ms: Some(1_000), bytes: None });
    log.set_retention("forever", Retention { ms: Some(0), bytes: None });
    let starts = || ["shorter", TOPIC, "forever"].map(|topic| log.bounds(topic, ONLY).unwrap().start.0);
    harness.clock.advance_ms(5_000);
    log.maintain().unwrap();
    assert_eq!(starts(), [1, 0, 0]);
    harness.clock.advance_ms(10_000);
    log.maintain().unwrap();
    assert_eq!(starts(), [1, 1, 0]);
}

#[test]
fn a_partition_that_takes_too_much_loses_its_oldest_but_never_its_newest_block() {
    let harness = one_partition(EmbeddedLogSettings { block_bytes: 1, retention_bytes: Some(300), ..quick() });
    for _ in 0..20 {
        harness.append(&["a value"]);
    }
    harness.embedded().maintain().unwrap();
    let (start, end) = harness.bounds();
    assert!(start > 0 && start < end - 1, "{start} to {end}");
    assert!(harness.embedded().topic(TOPIC).unwrap().partition(ONLY).unwrap().stored_bytes() <= 300);
    harness.append(&[&"large ".repeat(1_000)]);
    let log = &harness.embedded();
    let random: Vec<u8> = (0..5_000_u32).map(|place| (place.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    log.append(TOPIC, vec![NewRecord { key: None, value: random.into() }]).unwrap();
    log.maintain().unwrap();
    let (start, end) = harness.bounds();
    assert_eq!(start, end - 1, "what was just appended stays, though it is over the limit");
}

#[test]
fn a_second_opening_says_who_is_in_the_way() {
    let harness = InDirectory::new(quick());
    let error = EmbeddedLog::open(harness.dir.path(), quick(), harness.clock.clone()).err().unwrap();
    let said = error.to_string();
    assert!(said.contains(&harness.dir.path().display().to_string()) && said.contains("already open in this process"), "{said}");
    assert!(!error.is_retryable());
}

#[test]
fn a_directory_of_a_newer_program_is_left_alone() {
    let mut harness = InDirectory::new(quick());
    {
        let disk = &harness.embedded().disk;
        let mut batch = WriteBatch::default();
        batch.put_cf(disk.family(META).unwrap(), layout::FORMAT_KEY, [9]);
        disk.write(batch, Durability::Lazy).unwrap();
    }
    drop(harness.log.take());
    let error = EmbeddedLog::open(harness.dir.path(), quick(), harness.clock.clone()).err().unwrap();
    assert!(error.to_string().contains("has format [9]"), "{error}");
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let dir = file.path().join("log");
    let error = EmbeddedLog::open(&dir, quick(), Arc::new(ManualClock::default())).err().unwrap();
    assert!(error.to_string().contains(&dir.display().to_string()), "{error}");
}

#[test]
fn a_damaged_block_is_named_and_does_not_pass_for_records() {
    let harness = one_partition(quick());
    harness.append(&["first"]);
    harness.append(&["second"]);
    let log = harness.embedded();
    let place = log.topic(TOPIC).unwrap().partition(ONLY).unwrap().place;
    let mut batch = WriteBatch::default();
    batch.put_cf(log.disk.family(layout::BLOCKS).unwrap(), place.block(Offset(1)), b"not a block");
    log.disk.write(batch, Durability::Lazy).unwrap();
    let mut reader = log.reader(TOPIC, &Cut::from_iter([(ONLY, Offset(1))])).unwrap();
    let error = reader.read(100, Duration::ZERO).unwrap_err();
    assert!(error.to_string().contains("the block at offset 1 of events/0 is damaged"), "{error}");
}

#[test]
fn a_missing_block_is_noticed_when_the_log_is_opened() {
    let mut harness = one_partition(quick());
    ["first", "second", "third"].iter().for_each(|value| harness.append(&[value]));
    {
        let log = harness.embedded();
        let place = log.topic(TOPIC).unwrap().partition(ONLY).unwrap().place;
        let mut batch = WriteBatch::default();
        batch.delete_cf(log.disk.family(layout::INDEX).unwrap(), place.block(Offset(1)));
        log.disk.write(batch, Durability::Lazy).unwrap();
    }
    drop(harness.log.take());
    let error = EmbeddedLog::open(harness.dir.path(), quick(), harness.clock.clone()).err().unwrap();
    assert!(error.to_string().contains("records are missing before offset 2 of events/0"), "{error}");
}

#[test]
fn a_reader_keeps_its_decompressed_block_and_shares_it() {
    let harness = one_partition(quick());
    let values: Vec<String> = (0..100).map(|number| format!("value {number:03}")).collect();
    harness.append(&values.iter().map(String::as_str).collect::<Vec<_>>());
    let mut reader = harness.embedded().reader(TOPIC, &Cut::from_iter([(ONLY, Offset(10))])).unwrap();
    let first = reader.read(90, Duration::ZERO).unwrap().unwrap();
    let second = reader.read(90, Duration::ZERO).unwrap().unwrap();
    assert_eq!(first.spans.len(), 10);
    assert_eq!(first.payload.len(), 90, "a run shows its own values only");
    let behind_first = first.payload.as_ptr().wrapping_add(90);
    assert_eq!(behind_first, second.payload.as_ptr(), "both runs are parts of one buffer");
}

#[test]
fn small_blocks_are_joined_into_one_run() {
    let harness = one_partition(quick());
    for number in 0..50 {
        harness.append(&[&format!("value {number:02}"), "x"]);
    }
    let mut reader = harness.embedded().reader(TOPIC, &Cut::from_iter([(ONLY, Offset(1))])).unwrap();
    let run = reader.read(10_000, Duration::ZERO).unwrap().unwrap();
    assert_eq!(run.spans.len(), 99);
    assert_eq!(run.next, run.end);
    assert_eq!(run.value(&run.spans[1]), Some(b"value 01".as_slice()));
}

#[test]
fn a_value_over_the_limit_is_refused_before_anything_is_appended() {
    let harness = one_partition(quick());
    let small = NewRecord { key: None, value: "small".into() };
    let huge = NewRecord { key: None, value: Bytes::from(vec![0; crate::log::placement::MAX_VALUE_BYTES + 1]) };
    let error = harness.embedded().append(TOPIC, vec![small, huge]).unwrap_err();
    assert!(error.to_string().contains("record 1 of this append to events is longer than"), "{error}");
    assert_eq!(harness.bounds(), (0, 0));
}

/// What a crash of the process leaves: the files as they are now, the last one cut off by `lost` bytes.
fn after_a_crash(harness: &InDirectory, lost: usize) -> (TempDir, EmbeddedLog) {
    let copy = TempDir::new().unwrap();
    let mut write_ahead_logs = Vec::new();
    for entry in std::fs::read_dir(harness.dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let to = copy.path().join(path.file_name().unwrap());
        std::fs::copy(&path, &to).unwrap();
        if to.extension().is_some_and(|extension| extension == "log") {
            write_ahead_logs.push(to);
        }
    }
    let newest = write_ahead_logs.iter().max().unwrap();
    let bytes = std::fs::read(newest).unwrap();
    std::fs::write(newest, &bytes[..bytes.len().saturating_sub(lost)]).unwrap();
    let log = EmbeddedLog::open(copy.path(), quick(), harness.clock.clone()).unwrap();
    (copy, log)
}

fn values_of(log: &EmbeddedLog) -> Vec<String> {
    let mut reader = log.reader(TOPIC, &Cut::from_iter([(ONLY, Offset(0))])).unwrap();
    let mut values = Vec::new();
    while let Some(records) = reader.read(1 << 20, Duration::ZERO).unwrap() {
        values.extend(records.spans.iter().map(|span| String::from_utf8(records.value(span).unwrap().to_vec()).unwrap()));
    }
    values
}

#[test]
fn a_crash_loses_nothing_that_was_acknowledged() {
    let harness = one_partition(EmbeddedLogSettings { block_bytes: 200, ..EmbeddedLogSettings::default() });
    let values: Vec<String> = (0..30).map(|number| format!("value {number}")).collect();
    for (number, value) in values.iter().enumerate() {
        harness.append(&[value]);
        if number % 10 == 5 {
            harness.embedded().maintain().unwrap();
        }
    }
    let (_dir, log) = after_a_crash(&harness, 0);
    assert_eq!(values_of(&log), values);
}

#[test]
fn a_crash_in_the_middle_of_a_write_leaves_whole_appends_without_a_gap() {
    let harness = one_partition(EmbeddedLogSettings { block_bytes: 200, ..quick() });
    let values: Vec<String> = (0..20).map(|number| format!("value {number}")).collect();
    for pair in values.chunks(2) {
        harness.append(&[&pair[0], &pair[1]]);
    }
    harness.embedded().maintain().unwrap();
    let mut lengths = std::collections::BTreeSet::new();
    for lost in (0..1_500).step_by(37) {
        let (_dir, log) = after_a_crash(&harness, lost);
        if !log.topics().unwrap().contains(&TOPIC.to_owned()) {
            continue;
        }
        let kept = values_of(&log);
        assert_eq!(kept, values[..kept.len()]);
        assert_eq!(kept.len() % 2, 0, "an append to one partition is kept whole or not at all");
        let placed = log.append(TOPIC, vec![NewRecord { key: None, value: "after".into() }]).unwrap();
        assert_eq!(placed, [(ONLY, Offset(kept.len() as u64))], "the log goes on where it was cut");
        lengths.insert(kept.len());
    }
    assert!(lengths.len() > 3, "the cuts met different appends: {lengths:?}");
}

/// A clock that panics when it is asked for the first time.
struct Panicking(std::sync::atomic::AtomicBool);

impl Clock for Panicking {
    fn now_ms(&self) -> i64 {
        assert!(self.0.swap(true, std::sync::atomic::Ordering::SeqCst), "on purpose");
        1_700_000_000_000
    }
}

#[test]
fn an_append_that_panics_leaves_the_log_to_others() {
    let dir = TempDir::new().unwrap();
    let log = EmbeddedLog::open(dir.path(), EmbeddedLogSettings::default(), Arc::new(Panicking(false.into()))).unwrap();
    log.create_topic(TOPIC, 1).unwrap();
    let log = Arc::new(log);
    let append = |value: &'static str| {
        let (log, (sender, appended)) = (log.clone(), std::sync::mpsc::channel());
        let thread = std::thread::spawn(move || {
            sender.send(log.append(TOPIC, vec![NewRecord { key: None, value: Bytes::from(value) }])).unwrap();
        });
        (thread, appended)
    };
    let (panicking, _) = append("lost");
    assert!(panicking.join().is_err(), "the first one panics");
    let (_, appended) = append("kept");
    let placed = appended.recv_timeout(Duration::from_secs(60)).expect("the next one is not held up");
    assert_eq!(placed.unwrap(), [(ONLY, Offset(0))], "what panicked took no offset");
}

/// RocksDB drops no file of its newest level as a whole, and keeps write-ahead logs until all families have written what is in them.
#[test]
fn the_folder_of_a_log_with_a_limit_stays_near_it() {
    let settings = EmbeddedLogSettings { retention_bytes: Some(1 << 20), sync: false, ..EmbeddedLogSettings::default() };
    let log = InDirectory::new(settings);
    log.embedded().create_topic(TOPIC, 4).unwrap();
    for _ in 0..50 {
        // Random, so that it is as large when compressed.
        let records = (0..16).map(|_| NewRecord { key: None, value: (0..256 << 10).map(|_| rand::random::<u8>()).collect() });
        log.embedded().append(TOPIC, records.collect()).unwrap();
        log.embedded().maintain().unwrap();
    }
    let files = std::fs::read_dir(log.dir.path()).unwrap().map(|file| file.unwrap().metadata().unwrap().len());
    let total: u64 = files.sum();
    assert!(total < 64 << 20, "200 MB went through a log that keeps 4 MB, and {} MB are on disk", total >> 20);
}
