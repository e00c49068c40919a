#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use refold_processor::source::load_sources;

use super::declared::{Protocol, Stream};
use super::*;
use crate::event_source::{EventSource, Pull};
use crate::format::LineFormat;
use crate::spool::SpoolSettings;
use crate::{Encoder, Mapping};

/// A source of numbered messages. Each connection begins a little before the cursor, and fails after some.
struct Numbers {
    count: u64,
    connections: Arc<AtomicU64>,
}

struct NumbersConnection {
    next: u64,
    until: u64,
    is_last: bool,
}

impl LiveSource for Numbers {
    fn connect(&mut self, cursor: Option<&str>) -> Result<Box<dyn Connection>, LiveError> {
        let number = self.connections.fetch_add(1, Ordering::SeqCst);
        if number % 3 == 1 {
            return Err(LiveError::transient("not now"));
        }
        let next = cursor.map_or(0, |cursor| (cursor.parse::<u64>().unwrap() + 1).saturating_sub(number % 7));
        let until = (next + 40 + number * 13 % 200).min(self.count);
        Ok(Box::new(NumbersConnection { next, until, is_last: until == self.count }))
    }

    fn host(&self) -> String {
        "numbers".into()
    }

    fn can_resume(&self) -> bool {
        true
    }
}

impl Connection for NumbersConnection {
    fn next(&mut self) -> Result<Incoming, LiveError> {
        if self.next == self.until {
            if self.is_last {
                std::thread::sleep(Duration::from_millis(20));
                return Ok(Incoming::Sign);
            }
            return Err(LiveError::transient("it has ended"));
        }
        let number = self.next;
        self.next += 1;
        let body = format!("{{\"time_us\": {}, \"text\": \"post {number}\"}}", 1_700_000_000_000_000 + number);
        Ok(Incoming::Message(Received { body: Bytes::from(body), id: Some(u128::from(number)), cursor: Some(number.to_string()) }))
    }
}

const SCHEMAS: &str = "../schemas";

fn limits() -> declared::Limits {
    let mut limits = Stream::of_url(Protocol::Lines, "http://h").unwrap().limits;
    (limits.least_pause, limits.longest_pause) = (Duration::from_millis(1), Duration::from_millis(5));
    limits
}

fn live(folder: &Path, count: u64, settings: SpoolSettings) -> Live {
    let encoder = Encoder::new(&load_sources(SCHEMAS.as_ref()).unwrap()["tweets"], Some(1)).unwrap();
    let mapping = Some(Mapping::load(SCHEMAS.as_ref(), "plain_posts", &encoder).unwrap());
    let source = Box::new(Numbers { count, connections: Arc::default() });
    let format = LineFormat { mapping, ..LineFormat::new(encoder) };
    Live::new(LiveParts { name: "numbers".into(), format, source, limits: limits(), closer: Closer::default() }, folder, settings)
}

/// The values of the next events, and the point behind them.
fn pull(source: &mut Live, max: usize) -> (Vec<Bytes>, String) {
    let began = Instant::now();
    loop {
        match source.next(max, Duration::from_millis(50)).unwrap() {
            Pull::Events { records, resume, .. } if !records.is_empty() => {
                return (records.into_iter().map(|record| record.value).collect(), resume);
            }
            _ => assert!(began.elapsed() < Duration::from_secs(20), "nothing comes"),
        }
    }
}

#[test]
fn each_message_comes_once_over_connections_that_fail_and_repeat() {
    let folder = tempfile::tempdir().unwrap();
    let mut source = live(folder.path(), 5_000, SpoolSettings::of_bytes(1 << 20));
    let mut values = Vec::new();
    while values.len() < 5_000 {
        let (more, point) = pull(&mut source, 97);
        values.extend(more);
        source.acknowledged(&point).unwrap();
    }
    let texts: Vec<String> = values.iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect();
    for (number, text) in texts.iter().enumerate() {
        assert!(text.ends_with(&format!("post {number}")), "{number}: {text}");
    }
    let counts = source.live().unwrap().counts();
    assert!(counts.repeated > 0 && counts.reconnects > 3 && counts.received == 5_000 + counts.repeated, "{counts:?}");
    assert_eq!(counts.gaps, 0);
}

#[test]
fn what_was_announced_comes_again_to_the_byte_after_a_restart_at_any_point() {
    let folder = tempfile::tempdir().unwrap();
    let mut points: Vec<(String, Vec<Bytes>)> = Vec::new();
    for round in 0..20 {
        let mut source = live(folder.path(), 2_000, SpoolSettings::of_bytes(1 << 20));
        if let Some((point, announced)) = points.last() {
            source.resume(point, announced.len() as u64).unwrap();
            let mut again = Vec::new();
            let mut after = point.clone();
            while again.len() < announced.len() {
                let (more, point) = pull(&mut source, announced.len() - again.len());
                again.extend(more);
                after = point;
            }
            assert_eq!(&again, announced, "round {round}");
            source.acknowledged(&after).unwrap();
            points.push((after, Vec::new()));
        }
        let from = points.last().map(|(point, _)| point.clone());
        let (announced, point) = pull(&mut source, 10 + round);
        // Announced and not acknowledged: the point before it is what is kept. Every other time it went well.
        match from {
            Some(from) if round % 2 == 0 => points.push((from, announced)),
            _ => points.push((point, Vec::new())),
        }
    }
}

#[test]
fn a_full_spool_stops_the_source_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let settings = SpoolSettings { max_bytes: 20_000, segment_bytes: 4_000, remembered: 50 };
    let mut source = live(folder.path(), 3_000, settings);
    let (mut values, first) = pull(&mut source, 1);
    source.acknowledged(&first).unwrap();
    let began = Instant::now();
    while source.live().unwrap().state() != LiveState::Full {
        assert!(began.elapsed() < Duration::from_secs(10), "it does not become full: {:?}", source.live().unwrap().state());
        let _ = source.is_at_present();
        std::thread::sleep(Duration::from_millis(5));
    }
    let received = source.live().unwrap().counts().received;
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(source.live().unwrap().counts().received, received, "it is not read");
    while values.len() < 3_000 {
        let (more, point) = pull(&mut source, 500);
        values.extend(more);
        source.acknowledged(&point).unwrap();
    }
    assert_eq!(values.len(), 3_000);
}

#[test]
fn a_spool_that_is_gone_is_refused_and_not_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut source = live(folder.path(), 100, SpoolSettings::of_bytes(1 << 20));
    let (_, point) = pull(&mut source, 50);
    drop(source);
    let mut source = live(folder.path(), 100, SpoolSettings::of_bytes(1 << 20));
    source.restart().unwrap();
    let error = source.resume(&point, 0).unwrap_err().to_string();
    assert!(error.contains("cannot be resumed") && error.contains("--restart"), "{error}");
}
