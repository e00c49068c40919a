#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
//! Every event is in the log once and in order, wherever a run was cut off.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use refold_processor::log::{Bounds, Log, LogError, LogReader, RecordSpan, Records};
use refold_processor::position::{Cut, Offset, Partition};

use super::*;
use crate::event_source::{BadReason, Refused};
use crate::sink::{LogEnds, TopicSink};

/// Decides, call by call, whether a step fails.
#[derive(Default)]
struct Faults {
    steps: u64,
    fail_at: Option<u64>,
    /// The failure is one after which the same call may succeed.
    unavailable: bool,
}

impl Faults {
    /// Counts a step; true when it is the one that fails, or, unless something is only unavailable, comes after it.
    fn step(&mut self) -> bool {
        self.steps += 1;
        match self.unavailable {
            true => Some(self.steps - 1) == self.fail_at,
            false => self.fail_at.is_some_and(|at| self.steps > at),
        }
    }
}

type Shared<T> = Arc<Mutex<T>>;

/// A log of two partitions in memory; an append has a step before it, one in its middle, and one after it.
#[derive(Clone, Default)]
struct MemoryLog {
    partitions: Shared<[Vec<Bytes>; 2]>,
    faults: Shared<Faults>,
    id: &'static str,
}

impl MemoryLog {
    fn fault(&self) -> Result<(), LogError> {
        let mut faults = self.faults.lock();
        match (faults.step(), faults.unavailable) {
            (false, _) => Ok(()),
            (true, true) => Err(LogError::Unavailable("injected".into())),
            (true, false) => Err(LogError::Broken("injected".into())),
        }
    }

    fn contents(&self) -> Vec<Bytes> {
        self.partitions.lock().concat()
    }
}

impl Log for MemoryLog {
    fn id(&self) -> Result<String, LogError> {
        Ok(self.id.to_owned())
    }

    fn create_topic(&self, _: &str, _: u32) -> Result<(), LogError> {
        Ok(())
    }

    fn topics(&self) -> Result<Vec<String>, LogError> {
        Ok(vec!["t".into()])
    }

    fn partitions(&self, _: &str) -> Result<Vec<Partition>, LogError> {
        Ok(vec![Partition(0), Partition(1)])
    }

    fn bounds(&self, _: &str, partition: Partition) -> Result<Bounds, LogError> {
        self.fault()?;
        let end = Offset(self.partitions.lock()[partition.0 as usize].len() as u64);
        Ok(Bounds { start: Offset(0), end })
    }

    fn append(&self, _: &str, records: Vec<NewRecord>) -> Result<Vec<(Partition, Offset)>, LogError> {
        self.fault()?;
        let mut places = Vec::new();
        let half = records.len() / 2;
        for (index, record) in records.into_iter().enumerate() {
            if index == half {
                self.fault()?;
            }
            let partition = usize::from(record.value[0]) % 2;
            let mut partitions = self.partitions.lock();
            places.push((Partition(partition as u32), Offset(partitions[partition].len() as u64)));
            partitions[partition].push(record.value);
        }
        self.fault()?;
        Ok(places)
    }

    fn reader(&self, _: &str, from: &Cut) -> Result<Box<dyn LogReader>, LogError> {
        self.fault()?;
        Ok(Box::new(MemoryReader { log: self.clone(), next: from.clone() }))
    }
}

struct MemoryReader {
    log: MemoryLog,
    next: Cut,
}

impl LogReader for MemoryReader {
    /// One record at a time.
    fn read(&mut self, _: usize, _: Duration) -> Result<Option<Records>, LogError> {
        self.log.fault()?;
        let partitions = self.log.partitions.lock();
        for (index, records) in partitions.iter().enumerate() {
            let partition = Partition(index as u32);
            let offset = self.next.position(partition);
            if let Some(value) = records.get(offset.0 as usize) {
                self.next.set(partition, offset.next());
                let spans = vec![RecordSpan { offset, record_time_ms: 0, start: 0, len: Some(value.len() as u32) }];
                let end = Offset(records.len() as u64);
                return Ok(Some(Records { partition, spans, payload: value.clone(), next: offset.next(), end }));
            }
        }
        Ok(None)
    }
}

/// Progress in memory; a step before and after keeping it.
#[derive(Clone, Default)]
struct MemoryResume {
    kept: Shared<BTreeMap<String, Progress>>,
    faults: Shared<Faults>,
}

impl ResumeStore for MemoryResume {
    fn load(&self, name: &str) -> Result<Progress, CollectError> {
        Ok(self.kept.lock().get(name).cloned().unwrap_or_default())
    }

    fn save(&self, name: &str, progress: &Progress) -> Result<(), CollectError> {
        let fault = || {
            let mut faults = self.faults.lock();
            let kind = if faults.unavailable { ErrorKind::StorageFull } else { ErrorKind::Other };
            match faults.step() {
                true => Err(CollectError::Keep { what: "progress".into(), error: kind.into() }),
                false => Ok(()),
            }
        };
        fault()?;
        self.kept.lock().insert(name.into(), progress.clone());
        fault()
    }
}

/// Events 0, 0, 1, 1, 2, 2 … : equal ones are different events. Pulls have different sizes at every run, as those of a growing file have.
struct Numbers {
    next: u64,
    end: u64,
    pull: usize,
    resumable: bool,
}

impl Numbers {
    fn new(end: u64, pull: usize) -> Self {
        Numbers { next: 0, end, pull, resumable: true }
    }

    fn value(index: u64) -> Bytes {
        Bytes::from(vec![(index / 2) as u8])
    }
}

impl EventSource for Numbers {
    fn name(&self) -> String {
        "numbers".into()
    }

    fn is_resumable(&self) -> bool {
        self.resumable
    }

    fn resume(&mut self, point: &str, _again: u64) -> Result<(), CollectError> {
        self.next = point.parse().unwrap();
        Ok(())
    }

    fn next(&mut self, max: usize, _: Duration) -> Result<Pull, CollectError> {
        if self.next == self.end {
            return Ok(Pull::End);
        }
        let to = self.end.min(self.next + max.min(self.pull) as u64);
        let records = (self.next..to).map(|index| NewRecord { key: None, value: Numbers::value(index) }).collect();
        self.next = to;
        Ok(Pull::Events { records, bad: Vec::new(), left_out: 0, resume: to.to_string() })
    }

    fn is_at_present(&self) -> bool {
        true
    }
}

struct KeptLines(Vec<BadLine>);

impl BadLines for KeptLines {
    fn keep(&mut self, _: &str, bad: &[BadLine]) -> Result<(), CollectError> {
        self.0.extend_from_slice(bad);
        Ok(())
    }
}

fn run(source: &mut dyn EventSource, log: &MemoryLog, resume: &MemoryResume, stop: &Stop) -> Result<Totals, CollectError> {
    let sink = TopicSink::new(Arc::new(log.clone()), "t");
    let collection = Collection {
        sink: &sink,
        resume,
        bad_lines: &mut KeptLines(Vec::new()),
        report: &Report::new(),
        batch_events: 5,
        retry_pause: Duration::ZERO,
        stop,
    };
    collect(source, collection)
}

/// Partition by partition, in order.
fn expected(events: u64) -> Vec<Bytes> {
    let values = |parity| (0..events).map(Numbers::value).filter(move |value| u64::from(value[0]) % 2 == parity);
    values(0).chain(values(1)).collect()
}

fn sorted(mut values: Vec<Bytes>) -> Vec<Bytes> {
    values.sort();
    values
}

fn stand() -> (MemoryLog, MemoryResume) {
    let log = MemoryLog::default();
    let resume = MemoryResume { faults: log.faults.clone(), ..MemoryResume::default() };
    (log, resume)
}

/// How many steps a run has that nothing fails.
fn steps_of_a_straight_run() -> u64 {
    let (log, resume) = stand();
    let totals = run(&mut Numbers::new(17, 4), &log, &resume, &Stop::new()).unwrap();
    assert_eq!((totals.read, totals.written, totals.already_there), (17, 17, 0));
    assert_eq!(log.contents(), expected(17));
    log.faults.lock().steps
}

#[test]
fn a_crash_at_any_step_loses_and_doubles_nothing() {
    let steps = steps_of_a_straight_run();
    assert!(steps > 30, "{steps} steps");
    for first in 0..steps {
        let (log, resume) = stand();
        log.faults.lock().fail_at = Some(first);
        run(&mut Numbers::new(17, 4), &log, &resume, &Stop::new()).expect_err("the first run crashes");
        // The next runs crash too, each further on than the one before, also while they look for the interrupted batch.
        for second in 0..6 {
            *log.faults.lock() = Faults { steps: 0, fail_at: Some(second), unavailable: false };
            let _ = run(&mut Numbers::new(17, 3), &log, &resume, &Stop::new());
        }
        *log.faults.lock() = Faults::default();
        run(&mut Numbers::new(17, 2), &log, &resume, &Stop::new()).unwrap();
        assert_eq!(sorted(log.contents()), sorted(expected(17)), "crashed at step {first}");
    }
}

#[test]
fn a_log_that_was_unavailable_and_a_disk_that_was_full_get_what_they_have_not_got() {
    for step in 0..steps_of_a_straight_run() {
        let (log, resume) = stand();
        *log.faults.lock() = Faults { steps: 0, fail_at: Some(step), unavailable: true };
        run(&mut Numbers::new(17, 4), &log, &resume, &Stop::new()).unwrap();
        assert_eq!(sorted(log.contents()), sorted(expected(17)), "unavailable at step {step}");
    }
}

/// Fails after some pulls.
struct Failing(Numbers, usize);

impl EventSource for Failing {
    fn name(&self) -> String {
        self.0.name()
    }

    fn is_resumable(&self) -> bool {
        true
    }

    fn resume(&mut self, point: &str, again: u64) -> Result<(), CollectError> {
        self.0.resume(point, again)
    }

    fn next(&mut self, max: usize, wait: Duration) -> Result<Pull, CollectError> {
        let Some(left) = self.1.checked_sub(1) else {
            return Err(CollectError::Read { name: self.name(), error: std::io::Error::other("damaged") });
        };
        self.1 = left;
        self.0.next(max, wait)
    }

    fn is_at_present(&self) -> bool {
        true
    }
}

#[test]
fn what_came_before_a_source_failed_is_not_appended_again() {
    let (log, resume) = stand();
    for pulls in 0..4 {
        run(&mut Failing(Numbers::new(60, 4), pulls), &log, &resume, &Stop::new()).expect_err("the source fails");
        assert_eq!(resume.kept.lock().get("numbers").map_or(0, |kept| kept.announced), 0, "nothing is left to look for");
    }
    run(&mut Numbers::new(60, 4), &log, &resume, &Stop::new()).unwrap();
    assert_eq!(log.contents(), expected(60));
}

/// Swaps the log behind the sink when it is pulled for the third time.
struct Swapping(Numbers, Arc<Swapped>, usize);

struct Swapped(Mutex<MemoryLog>);

impl Sink for Swapped {
    fn ends(&self) -> Result<LogEnds, CollectError> {
        self.sink().ends()
    }

    fn append(&self, records: Vec<NewRecord>, since: &Cut) -> Result<usize, CollectError> {
        self.sink().append(records, since)
    }

    fn append_missing(&self, records: Vec<NewRecord>, since: &Cut) -> Result<usize, CollectError> {
        self.sink().append_missing(records, since)
    }
}

impl Swapped {
    fn sink(&self) -> TopicSink {
        TopicSink::new(Arc::new(self.0.lock().clone()), "t")
    }
}

impl EventSource for Swapping {
    fn name(&self) -> String {
        self.0.name()
    }

    fn is_resumable(&self) -> bool {
        self.0.resumable
    }

    fn resume(&mut self, point: &str, again: u64) -> Result<(), CollectError> {
        self.0.resume(point, again)
    }

    fn next(&mut self, max: usize, wait: Duration) -> Result<Pull, CollectError> {
        self.2 += 1;
        if self.2 == 3 {
            *self.1.0.lock() = MemoryLog { id: "new", ..stand().0 };
        }
        // The acknowledgement is kept when there is nothing to do: that must not make the new log the known one.
        if self.2 == 3 { Ok(Pull::Idle) } else { self.0.next(max, wait) }
    }

    fn is_at_present(&self) -> bool {
        true
    }
}

#[test]
fn a_log_that_becomes_another_one_on_the_way_is_told_too() {
    for resumable in [true, false] {
        let (log, resume) = stand();
        let swapped = Arc::new(Swapped(Mutex::new(log)));
        let numbers = Numbers { resumable, ..Numbers::new(17, 4) };
        let collection = Collection {
            sink: swapped.as_ref(),
            resume: &resume,
            bad_lines: &mut KeptLines(Vec::new()),
            report: &Report::new(),
            batch_events: 5,
            retry_pause: Duration::ZERO,
            stop: &Stop::new(),
        };
        let error = collect(&mut Swapping(numbers, swapped.clone(), 0), collection).unwrap_err().to_string();
        assert!(error.contains("its id is new"), "{error}");
        assert!(swapped.0.lock().contents().is_empty());
    }
}

#[test]
fn a_finished_run_is_not_repeated_and_a_longer_input_goes_on() {
    let (log, resume) = stand();
    run(&mut Numbers::new(6, 4), &log, &resume, &Stop::new()).unwrap();
    assert_eq!(run(&mut Numbers::new(6, 4), &log, &resume, &Stop::new()).unwrap(), Totals::default());
    assert_eq!(run(&mut Numbers::new(9, 4), &log, &resume, &Stop::new()).unwrap().written, 3);
    assert_eq!(log.contents(), expected(9));
}

#[test]
fn what_an_interrupted_run_had_appended_is_told() {
    let (log, resume) = stand();
    let ends = [(Partition(0), Offset(0)), (Partition(1), Offset(0))].into_iter().collect();
    let progress = Progress { point: None, ends: Some(LogEnds { log: String::new(), positions: ends }), announced: 4 };
    resume.kept.lock().insert("numbers".into(), progress);
    // Of the batch 0 0 1 1, one 0 and one 1 had arrived.
    *log.partitions.lock() = [vec![Numbers::value(0)], vec![Numbers::value(2)]];
    let totals = run(&mut Numbers::new(4, 4), &log, &resume, &Stop::new()).unwrap();
    assert_eq!((totals.read, totals.written, totals.already_there), (4, 2, 2));
    assert_eq!(log.contents(), expected(4));
}

#[test]
fn another_log_is_told_from_the_one_before() {
    let (log, resume) = stand();
    run(&mut Numbers::new(6, 4), &log, &resume, &Stop::new()).unwrap();
    let refused = |log: MemoryLog, difference: &str| {
        let error = run(&mut Numbers::new(9, 4), &log, &resume, &Stop::new()).unwrap_err().to_string();
        assert!(error.contains("another log before") && error.contains(difference) && error.contains("--restart"), "{error}");
    };
    refused(MemoryLog { id: "new", ..stand().0 }, "its id is new");
    refused(stand().0, "partition 0 ends at 0, and reached to 4 before");
    run(&mut Numbers::new(9, 4), &log, &resume, &Stop::new()).unwrap();
    assert_eq!(log.contents(), expected(9));
}

#[test]
fn a_stop_ends_it_and_leaves_it_resumable() {
    let (log, resume) = stand();
    let stop = Stop::new();
    stop.stop();
    assert_eq!(run(&mut Numbers::new(9, 4), &log, &resume, &stop).unwrap().read, 0);
    run(&mut Numbers::new(9, 4), &log, &resume, &Stop::new()).unwrap();
    assert_eq!(log.contents(), expected(9));
}

#[test]
fn a_source_that_cannot_be_read_again_leaves_no_resume_point() {
    let (log, resume) = stand();
    run(&mut Numbers { resumable: false, ..Numbers::new(9, 4) }, &log, &resume, &Stop::new()).unwrap();
    assert_eq!(log.contents(), expected(9));
    assert!(resume.kept.lock().is_empty());
}

/// Pulls that were written down beforehand.
struct Script(Vec<Pull>);

impl EventSource for Script {
    fn name(&self) -> String {
        "script".into()
    }

    fn resume(&mut self, _: &str, _: u64) -> Result<(), CollectError> {
        Ok(())
    }

    fn next(&mut self, _: usize, _: Duration) -> Result<Pull, CollectError> {
        Ok(if self.0.is_empty() { Pull::End } else { self.0.remove(0) })
    }

    fn is_at_present(&self) -> bool {
        true
    }
}

#[test]
fn bad_lines_are_kept_counted_and_passed_over() {
    let (log, resume) = stand();
    let bad = |line| BadLine::new(line, Refused::new(BadReason::NotJson, "not JSON"), b"x");
    let good = |index| NewRecord { key: None, value: Numbers::value(index) };
    let pulls = vec![
        Pull::Events { records: vec![good(0)], bad: vec![bad(2)], left_out: 0, resume: "a".into() },
        Pull::Idle,
        Pull::Events { records: vec![], bad: vec![bad(3)], left_out: 0, resume: "b".into() },
    ];
    let (mut kept, report) = (KeptLines(Vec::new()), Report::new());
    let sink = TopicSink::new(Arc::new(log.clone()), "t");
    let collection = Collection {
        sink: &sink,
        resume: &resume,
        bad_lines: &mut kept,
        report: &report,
        batch_events: 5,
        retry_pause: Duration::ZERO,
        stop: &Stop::new(),
    };
    let totals = collect(&mut Script(pulls), collection).unwrap();
    assert_eq!((totals.read, totals.written, totals.skipped(), totals.bad["not_json"]), (3, 1, 2, 2));
    assert_eq!(kept.0.iter().map(|bad| bad.line).collect::<Vec<_>>(), [2, 3]);
    let kept = resume.kept.lock()["script"].clone();
    assert_eq!((kept.point.as_deref(), kept.announced), (Some("b"), 0));
}
