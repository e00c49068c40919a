#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
use std::io::Write;

use bytes::Bytes;
use refold_processor::source::{Framing, Source};

use super::*;
use crate::BadReason;
use crate::{Encoder, Mapping};

fn format() -> LineFormat {
    LineFormat { max_line_bytes: 50, ..LineFormat::new(Encoder::new(&number_source(), None).unwrap()) }
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
        event_time_unit: None,
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

fn zstd(text: &[u8]) -> Vec<u8> {
    zstd::encode_all(text, 1).unwrap()
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
            Pull::Events { records, bad, resume, .. } => {
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
    assert!(other.contains("does not begin with the text that was read") && other.contains("--restart"), "{other}");
    assert!(reopened(b"{\"n\":0}\n").unwrap_err().to_string().contains("shorter"));
}

/// The case that was seen: the dump of a day took the place of the one before, with the same first 4 KiB, and was gone on with in the midst of a line.
#[test]
fn a_file_that_only_begins_like_the_one_before_is_another_file() {
    let folder = tempfile::tempdir().unwrap();
    let dump = |middle: &str| format!("{}{}{}", "{\"n\":0}\n".repeat(1_000), middle, "{\"n\":0}\n".repeat(20_000));
    let (old, new) = (dump("{\"n\":1}\n"), dump("{\"n\":2}\n"));
    assert_eq!((&old[..4_096], &old[old.len() - 65_536..]), (&new[..4_096], &new[new.len() - 65_536..]), "they differ only between");
    let longer = |dump: &str| format!("{dump}{{\"n\":3}}\n").into_bytes();
    type Pack = fn(&[u8]) -> Vec<u8>;
    for pack in [<[u8]>::to_vec as Pack, gzip, zstd] {
        let path = write(&folder, &pack(old.as_bytes()));
        let (values, _, points) = drain(&mut JsonLines::file(&path, format()).unwrap(), 100_000);
        assert_eq!(values.len(), 21_001);
        let point = &points.last().unwrap().2;
        // Written over, and put in its place: neither makes it the file that it was.
        write(&folder, &pack(&longer(&new)));
        let refused = JsonLines::file(&path, format()).unwrap().resume(point, 0).unwrap_err();
        assert!(matches!(refused, CollectError::Replaced { .. }), "{refused}");
        assert!(refused.to_string().contains("--restart"), "{refused}");
        // The same text is the same file, wherever it comes from.
        std::fs::remove_file(&path).unwrap();
        write(&folder, &longer(&old));
        let mut source = JsonLines::file(&path, format()).unwrap();
        source.resume(point, 0).unwrap();
        assert_eq!(drain(&mut source, 10).0, numbers(3..4));
    }
}

#[test]
fn a_point_of_an_earlier_release_is_gone_on_from() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder, b"{\"n\":0}\n{\"n\":1}\n");
    let digest = written(xxhash_rust::xxh3::xxh3_64(b"{\"n\":0}\n"));
    let point = format!(r#"{{"head":{{"bytes":8,"digest":"{digest}"}},"offset":8,"lines":1}}"#);
    let mut source = JsonLines::file(&path, format()).unwrap();
    source.resume(&point, 0).unwrap();
    let (values, _, points) = drain(&mut source, 10);
    assert_eq!(values, numbers(1..2));
    write(&folder, b"{\"n\":7}\n{\"n\":1}\n");
    assert!(matches!(JsonLines::file(&path, format()).unwrap().resume(&point, 0), Err(CollectError::Replaced { .. })));
    write(&folder, b"{\"n\":0}\n{\"n\":1}\n");
    let mut again = JsonLines::file(&path, format()).unwrap();
    again.resume(&points.last().unwrap().2, 0).unwrap();
    assert_eq!(drain(&mut again, 10).0.len(), 0, "and from now on it is known by all its text");
}

#[test]
fn a_byte_order_mark_costs_no_event() {
    let folder = tempfile::tempdir().unwrap();
    // Also within, as files that are put together have it.
    let text = b"\xEF\xBB\xBF{\"n\":0}\r\n\xEF\xBB\xBF{\"n\":1}\r\n{\"n\":2}\r\n";
    for bytes in [text.to_vec(), gzip(text), zstd(text)] {
        let path = write(&folder, &bytes);
        let (values, bad, points) = drain(&mut JsonLines::file(&path, format()).unwrap(), 1);
        assert_eq!((values, bad), (numbers(0..3), Vec::new()));
        let mut source = JsonLines::file(&path, format()).unwrap();
        source.resume(&points[0].2, 0).unwrap();
        assert_eq!(drain(&mut source, 10).0, numbers(1..3));
    }
}

/// The case that was seen: every line of such a file was bad, without a hint.
#[test]
fn what_is_no_json_lines_is_refused_once_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let utf_16 = |unit: fn(u16) -> [u8; 2]| text().encode_utf16().flat_map(unit).collect::<Vec<u8>>();
    let (little, big) = (utf_16(u16::to_le_bytes), utf_16(u16::to_be_bytes));
    let cases = [
        ([&[0xFF, 0xFE], little.as_slice()].concat(), "iconv -f UTF-16 "),
        ([&[0xFE, 0xFF], big.as_slice()].concat(), "iconv -f UTF-16 "),
        (little.clone(), "iconv -f UTF-16LE "),
        (big, "iconv -f UTF-16BE "),
        (gzip(&little), "iconv -f UTF-16LE "),
        (b"BZh91AY&SY".to_vec(), "bzcat "),
        (b"PK\x03\x04\x14\0".to_vec(), "unzip -p "),
        (b"\xFD7zXZ\0".to_vec(), "xzcat "),
        (gzip(&gzip(text().as_bytes())), "compressed twice"),
    ];
    for (bytes, way_out) in cases {
        let path = write(&folder, &bytes);
        let refused = JsonLines::file(&path, format()).err().unwrap().to_string();
        assert!(refused.starts_with("cannot read ") && refused.contains(way_out), "{way_out}: {refused}");
        // A stream says it too, once.
        let mut stream = JsonLines::stream(std::io::Cursor::new(bytes), format());
        let refused = stream.next(10, Duration::from_secs(600)).unwrap_err().to_string();
        assert!(refused.contains(way_out), "{refused}");
        assert_eq!(stream.next(10, Duration::from_secs(600)).unwrap(), Pull::End);
    }
}

#[test]
fn what_follows_the_last_compressed_part_costs_no_line_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let text = b"{\"n\":0}\n{\"n\":1}";
    for packed in [gzip(text), zstd(text)] {
        let path = write(&folder, &[packed.as_slice(), &[0; 1_000]].concat());
        assert_eq!(drain(&mut JsonLines::file(&path, format()).unwrap(), 10).0, numbers(0..2), "zeros fill up what is left of a block");

        let path = write(&folder, &[packed.as_slice(), b"rubbish"].concat());
        let mut source = JsonLines::file(&path, format()).unwrap();
        let Pull::Events { records, bad, resume, .. } = source.next(10, Duration::ZERO).unwrap() else { panic!("no events") };
        assert_eq!((records.len(), bad), (2, Vec::new()), "the last line is whole, also without its line end");
        let error = source.next(10, Duration::ZERO).unwrap_err().to_string();
        assert!(error.contains("begins with 72 75 62 62"), "{error}");
        assert_eq!(source.next(10, Duration::ZERO).unwrap(), Pull::End);
        // Once it is cut off, reading goes on behind what was read.
        write(&folder, &[packed.as_slice(), &gzip(b"\n{\"n\":2}\n")].concat());
        let mut source = JsonLines::file(&path, format()).unwrap();
        source.resume(&resume, 0).unwrap();
        assert_eq!(drain(&mut source, 10).0, numbers(2..3));
    }
}

#[test]
fn a_last_line_that_is_half_written_is_neither_bad_nor_read_twice() {
    let folder = tempfile::tempdir().unwrap();
    let first = b"{\"n\":0}\n{\"n\":1";
    let path = write(&folder, first);
    let (values, bad, points) = drain(&mut JsonLines::file(&path, format()).unwrap(), 10);
    assert_eq!((values, bad), (numbers(0..1), Vec::new()), "its end may come yet");
    write(&folder, &[first.as_slice(), b"}\nbad\n"].concat());
    let mut source = JsonLines::file(&path, format()).unwrap();
    source.resume(&points.last().unwrap().2, 0).unwrap();
    let (values, bad, _) = drain(&mut source, 10);
    assert_eq!((values, bad.len(), bad[0].line), (numbers(1..2), 1, 3));
}

#[test]
fn a_last_line_that_can_be_no_event_is_bad_once_and_what_is_added_to_it_is_no_line() {
    let folder = tempfile::tempdir().unwrap();
    for (last, added) in [("nonsense", ""), ("nonsense", "{\"n\":7}"), ("{\"n\":\"x\"}", ""), ("{\"n\":1}", "{\"n\":7}")] {
        let path = write(&folder, format!("{{\"n\":0}}\n{last}").as_bytes());
        let (mut values, mut bad, points) = drain(&mut JsonLines::file(&path, format()).unwrap(), 10);
        write(&folder, format!("{{\"n\":0}}\n{last}{added}\n{{\"n\":2}}\nbad\n").as_bytes());
        let mut source = JsonLines::file(&path, format()).unwrap();
        source.resume(&points.last().unwrap().2, 0).unwrap();
        let (more, more_bad, _) = drain(&mut source, 10);
        values.extend(more);
        bad.extend(more_bad);
        let good = if last == "{\"n\":1}" { numbers(0..3) } else { [numbers(0..1), numbers(2..3)].concat() };
        assert_eq!(values, good, "{last}{added}");
        let mut lines = if last == "{\"n\":1}" { vec![] } else { vec![2] };
        lines.extend((!added.is_empty()).then_some(2));
        lines.push(4);
        assert_eq!(bad.iter().map(|bad| bad.line).collect::<Vec<_>>(), lines, "{last}{added}");
    }
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
    let format = LineFormat { mapping: Some(mapping), ..LineFormat::new(encoder) };
    let (values, bad, _) = drain(&mut JsonLines::file(&path, format).unwrap(), 1000);
    assert_eq!((values.len(), bad.len()), (12_463, 0));
}
