#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
use std::io::Write;

use bytes::Bytes;
use refold_processor::source::{Framing, Source};

use super::*;
use crate::BadReason;

fn format() -> LineFormat {
    LineFormat { encoder: Encoder::new(&number_source(), None).unwrap(), mapping: None, max_line_bytes: 50 }
}

fn number_source() -> Source {
    Source {
        name: "numbers".into(),
        topic: "numbers".into(),
        schema_name: "number".into(),
        schema_json: r#"{"type":"record","name":"number","fields":[{"name":"n","type":"long"}]}"#.into(),
        event_time: "n".into(),
        key: None,
        partitions: 1,
        framing: Framing::Bare,
        lateness_us: 0,
        future_tolerance_us: 0,
        max_record_bytes: 1000,
        retention: Default::default(),
    }
}

/// Ten good lines from 0 to 9, a bad one after every third, blank ones between.
fn text() -> String {
    (0..10).map(|n| format!("{{\"n\":{n}}}\n{}", if n % 3 == 2 { "bad\n\n" } else { "" })).collect()
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn write(folder: &tempfile::TempDir, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join("numbers");
    std::fs::write(&path, bytes).unwrap();
    path
}

/// All records and bad lines from here, `max` at a time, with the point after each pull.
fn drain(source: &mut JsonLines, max: usize) -> (Vec<Bytes>, Vec<BadLine>, Vec<(usize, usize, String)>) {
    let (mut values, mut bad_lines, mut points) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        match source.next(max, Duration::from_secs(600)).unwrap() {
            Pull::Events { records, bad, resume } => {
                assert!(records.len() + bad.len() <= max);
                values.extend(records.into_iter().map(|record| record.value));
                bad_lines.extend(bad);
                points.push((values.len(), bad_lines.len(), resume));
            }
            Pull::Idle => panic!("a file is never idle"),
            Pull::End => {
                assert!(source.is_at_present());
                return (values, bad_lines, points);
            }
        }
    }
}

fn numbers(range: std::ops::Range<u8>) -> Vec<Bytes> {
    range.map(|n| Bytes::from(vec![n * 2])).collect()
}

#[test]
fn plain_gzip_in_parts_and_zstd_are_read_alike() {
    let folder = tempfile::tempdir().unwrap();
    let text_of_two = text();
    let (first, second) = text_of_two.as_bytes().split_at(30);
    let parts = [gzip(first), gzip(second)].concat();
    let zstd = zstd::encode_all(text().as_bytes(), 1).unwrap();
    for bytes in [text().into_bytes(), gzip(text().as_bytes()), parts, zstd] {
        let path = write(&folder, &bytes);
        let (values, bad, _) = drain(&mut JsonLines::file(&path, format()).unwrap(), 100);
        assert_eq!(values, numbers(0..10));
        assert_eq!(bad.iter().map(|bad| bad.line).collect::<Vec<_>>(), [4, 9, 14]);
    }
}

#[test]
fn it_goes_on_at_every_point() {
    let folder = tempfile::tempdir().unwrap();
    for bytes in [text().into_bytes(), gzip(text().as_bytes())] {
        let path = write(&folder, &bytes);
        let (values, bad, points) = drain(&mut JsonLines::file(&path, format()).unwrap(), 1);
        assert!(points.len() >= 13);
        for (values_before, bad_before, point) in points {
            let mut source = JsonLines::file(&path, format()).unwrap();
            source.resume(&point, 0).unwrap();
            let (rest, rest_bad, _) = drain(&mut source, 4);
            assert_eq!(rest, values[values_before..]);
            assert_eq!(rest_bad, bad[bad_before..], "bad lines keep their numbers");
        }
    }
}

#[test]
fn a_file_that_grew_goes_on_and_one_that_was_replaced_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder, b"{\"n\":0}\n{\"n\":1}\n");
    let (_, _, points) = drain(&mut JsonLines::file(&path, format()).unwrap(), 10);
    let point = &points.last().unwrap().2;
    let reopened = |bytes: &[u8]| {
        write(&folder, bytes);
        let mut source = JsonLines::file(&path, format()).unwrap();
        source.resume(point, 0).map(|()| drain(&mut source, 10).0)
    };
    assert_eq!(reopened(b"{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n").unwrap(), numbers(2..3));
    let other = reopened(b"{\"n\":5}\n{\"n\":1}\n{\"n\":2}\n").unwrap_err().to_string();
    assert!(other.contains("begins with other text") && other.contains("--restart"), "{other}");
    assert!(reopened(b"{\"n\":0}\n").unwrap_err().to_string().contains("shorter"));
}

#[test]
fn a_long_line_is_skipped_and_resuming_never_begins_inside_one() {
    let folder = tempfile::tempdir().unwrap();
    let long = format!("{{\"n\":0}}\n\"{}\"\n{{\"n\":1}}\n", "x".repeat(3 * CHUNK_BYTES));
    let path = write(&folder, long.as_bytes());
    let (values, bad, points) = drain(&mut JsonLines::file(&path, format()).unwrap(), 1);
    assert_eq!(values, numbers(0..2));
    assert_eq!((bad.len(), bad[0].line, bad[0].reason), (1, 2, BadReason::LineTooLong));
    assert!(bad[0].text.len() <= 1024);
    for (values_before, bad_before, point) in points {
        let mut source = JsonLines::file(&path, format()).unwrap();
        source.resume(&point, 0).unwrap();
        let (rest, rest_bad, _) = drain(&mut source, 1);
        assert_eq!((rest.len(), rest_bad.len()), (2 - values_before, 1 - bad_before));
    }
}

#[test]
fn a_line_that_is_still_being_written_is_read_whole_later() {
    let folder = tempfile::tempdir().unwrap();
    let whole = "{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n";
    for cut in 9..whole.len() {
        let path = write(&folder, &whole.as_bytes()[..cut]);
        let (mut values, _, points) = drain(&mut JsonLines::file(&path, format()).unwrap(), 100);
        write(&folder, whole.as_bytes());
        let mut source = JsonLines::file(&path, format()).unwrap();
        // What is known of the file's beginning was read when it was shorter.
        source.resume(&points.last().unwrap().2, 0).unwrap();
        let (more, bad, _) = drain(&mut source, 100);
        values.extend(more);
        assert_eq!((values, bad.len()), (numbers(0..3), 0), "cut at {cut}");
    }
}

#[test]
fn a_named_pipe_is_read_from_its_first_byte() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let mut source = JsonLines::file(&path, format()).unwrap();
    assert!(!source.is_resumable());
    let writing = std::thread::spawn(move || std::fs::write(path, text()).unwrap());
    let mut values = Vec::new();
    loop {
        match source.next(100, Duration::from_secs(20)).unwrap() {
            Pull::Events { records, .. } => values.extend(records.into_iter().map(|record| record.value)),
            Pull::Idle => panic!("somebody writes"),
            Pull::End => break,
        }
    }
    writing.join().unwrap();
    assert_eq!(values, numbers(0..10));
}

#[test]
fn a_damaged_archive_yields_what_is_before_the_damage_and_then_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let text: String = (0..200_000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    let whole = gzip(text.as_bytes());
    let path = write(&folder, &whole[..whole.len() / 2]);
    let mut source = JsonLines::file(&path, format()).unwrap();
    let mut read = 0;
    let error = loop {
        match source.next(1000, Duration::ZERO) {
            Ok(Pull::Events { records, .. }) => read += records.len(),
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert!(read > 10_000);
    assert!(error.to_string().starts_with("cannot read jsonl:"), "{error}");
}

/// A stream that brings what a test sends, when it sends it.
struct Sent(Receiver<Vec<u8>>, Vec<u8>);

impl Read for Sent {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.1.is_empty() {
            self.1 = self.0.recv().unwrap_or_default();
        }
        let len = self.1.len().min(into.len());
        into[..len].copy_from_slice(&self.1[..len]);
        self.1.drain(..len);
        Ok(len)
    }
}

#[test]
fn a_file_is_at_the_present_at_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = JsonLines::file(&write(&folder, text().as_bytes()), format()).unwrap();
    while matches!(file.next(1, Duration::ZERO).unwrap(), Pull::Events { .. }) {
        assert!(file.ended || !file.is_at_present());
    }
    assert!(file.is_at_present());
}

#[test]
fn a_stream_that_is_taken_slowly_is_not_at_the_present_until_it_is_waited_for() {
    let (send, receive) = std::sync::mpsc::channel();
    let mut stream = JsonLines::stream(Sent(receive, Vec::new()), LineFormat { max_line_bytes: 300, ..format() });
    // As much as a pipe holds.
    let full = format!("{:<210}\n", "{\"n\":0}").repeat(300);
    for _ in 0..3 {
        send.send(full.clone().into_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(700));
        stream.next(10_000, Duration::from_secs(600)).unwrap();
        assert!(!stream.is_at_present(), "more was there whenever it was looked");
    }
    assert_eq!(stream.next(10, Duration::from_millis(1_100)).unwrap(), Pull::Idle);
    assert!(stream.is_at_present());
}

#[test]
fn a_stream_of_events_of_now_is_at_the_present_at_once() {
    let times = r#"{"type":"record","name":"number","fields":[{"name":"n","type":{"type":"long","logicalType":"timestamp-millis"}}]}"#;
    let source = Source { schema_json: times.into(), lateness_us: 60_000_000, ..number_source() };
    for (age_ms, is_at_present) in [(0, true), (30_000, true), (3_600_000, false), (-3_600_000, false)] {
        let (send, receive) = std::sync::mpsc::channel();
        let format = LineFormat { encoder: Encoder::new(&source, None).unwrap(), ..format() };
        let mut stream = JsonLines::stream(Sent(receive, Vec::new()), format);
        let time_ms = SystemClock.now_ms() - age_ms;
        send.send(format!("{{\"n\":{time_ms}}}\n").repeat(5).into_bytes()).unwrap();
        stream.next(10, Duration::from_secs(600)).unwrap();
        assert_eq!(stream.is_at_present(), is_at_present, "{age_ms} ms old");
    }
}

#[test]
fn a_stream_yields_lines_as_they_come_and_is_idle_between() {
    let (send, receive) = std::sync::mpsc::channel();
    let mut source = JsonLines::stream(Sent(receive, Vec::new()), format());
    assert!(!source.is_resumable());
    let long = Duration::from_secs(600);
    assert!(!source.is_at_present(), "nobody has looked yet");
    assert_eq!(source.next(10, Duration::ZERO).unwrap(), Pull::Idle);
    assert!(!source.is_at_present(), "who writes may be about to begin");
    send.send(b"{\"n\":0}\n{\"n\"".to_vec()).unwrap();
    let Pull::Events { records, .. } = source.next(10, long).unwrap() else { panic!("no events") };
    assert_eq!(records.len(), 1, "the line that is whole does not wait for the one that is not");
    send.send(b":1}".to_vec()).unwrap();
    drop(send);
    let mut records = Vec::new();
    while let Pull::Events { records: more, .. } = source.next(10, long).unwrap() {
        records.extend(more);
    }
    assert_eq!(records.len(), 1, "the last line, without its line end");
    assert_eq!(source.next(10, long).unwrap(), Pull::End);
}

#[test]
fn the_real_posts_are_read_through_the_declared_mapping() {
    let folders = ["../../shared/data", "../../../shared/data"];
    let path = folders.iter().map(|folder| Path::new(folder).join("posts-2024.jsonl.gz")).find(|path| path.exists());
    let Some(path) = path else {
        writeln!(std::io::stderr(), "skipped: ../shared/data/posts-2024.jsonl.gz is not here").unwrap();
        return;
    };
    let tweets = refold_processor::source::load_sources("../schemas".as_ref()).unwrap().remove("tweets").unwrap();
    let encoder = Encoder::new(&tweets, Some(1)).unwrap();
    let mapping = Mapping::load("../schemas".as_ref(), "plain_posts", &encoder).unwrap();
    let format = LineFormat { encoder, mapping: Some(mapping), max_line_bytes: MAX_LINE_BYTES };
    let (values, bad, _) = drain(&mut JsonLines::file(&path, format).unwrap(), 1000);
    assert_eq!((values.len(), bad.len()), (12_463, 0));
}
