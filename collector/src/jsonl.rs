//! JSON lines from a file or standard input, plain or compressed with gzip or zstd.
//!
//! The last line of a file may lack its line end; it is read as a line all the same, unless it is only the beginning of one.
//!
//! A file is known again by all the text that was read of it: what has only the same name, or the same beginning, is another file.

use std::borrow::Cow;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use refold_processor::clock::{Clock, SystemClock};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::CollectError;
use crate::event_source::{BadLine, BadReason, EventSource, Pull, Refused};
use crate::format::{LineFormat, Outcome};
use crate::input;
use crate::lines::{Lines, Place};
use crate::mapping::LineFacts;
use crate::stream_pace::{Brought, StreamPace};

/// How much is read at once.
const CHUNK_BYTES: usize = 256 << 10;
/// A pull ends when its records have this many bytes, so that long lines do not make a batch without bounds.
pub(crate) const PULL_BYTES: usize = 4 << 20;
/// And when so many lines were left out.
pub(crate) const MOST_LEFT_OUT: usize = 100_000;

/// A source of JSON lines.
pub struct JsonLines {
    name: String,
    /// `None`: standard input.
    path: Option<PathBuf>,
    format: LineFormat,
    lines: Lines,
    input: Input,
    failed: Option<std::io::Error>,
    ended: bool,
    /// Nothing more came of a file.
    has_yielded_all: bool,
}

enum Input {
    File(Box<dyn Read + Send>),
    Pipe(Pipe),
}

/// A stream, read in a thread, because reading blocks for as long as nobody writes.
struct Pipe {
    chunks: Receiver<std::io::Result<Vec<u8>>>,
    pace: StreamPace,
    /// How long it was waited for in this pull.
    waited: Duration,
    /// When the last pull ended.
    pulled: Option<Instant>,
}

/// Where a file was.
#[derive(Debug, Serialize, Deserialize)]
struct Point {
    /// Of the uncompressed text.
    offset: u64,
    lines: u64,
    /// Whether the last line that was read had no line end.
    #[serde(default)]
    continues: bool,
    /// The digest of all text before `offset`.
    #[serde(default)]
    text: Option<String>,
    /// Instead of it, in the points of earlier releases: the beginning of the file as it is on disk.
    #[serde(default, skip_serializing)]
    head: Option<Head>,
}

/// The beginning of a file.
#[derive(Debug, Deserialize)]
struct Head {
    bytes: u64,
    digest: String,
}

impl JsonLines {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be opened, or is no valid beginning of a compressed one.
    pub fn file(path: &Path, format: LineFormat) -> Result<JsonLines, CollectError> {
        let read_error = |error| CollectError::Read { name: path.display().to_string(), error };
        // What was read of a pipe is gone: neither is its beginning looked at, nor is it begun again.
        if path.metadata().map_err(read_error)?.file_type().is_fifo() {
            let name = format!("jsonl:{} into {}", path.display(), format.encoder.source());
            let path = path.to_path_buf();
            return Ok(JsonLines { name, ..JsonLines::opened_stream(move || Ok(Box::new(File::open(path)?)), format) });
        }
        let path = path.canonicalize().map_err(read_error)?;
        let input = File::open(&path).and_then(|file| input::text(Box::new(file))).map_err(read_error)?;
        let name = format!("jsonl:{} into {}", path.display(), format.encoder.source());
        Ok(JsonLines::new(name, Some(path), format, Input::File(input)))
    }

    /// Reads a stream that cannot be read again, such as standard input.
    pub fn stream(input: impl Read + Send + 'static, format: LineFormat) -> JsonLines {
        JsonLines::opened_stream(move || Ok(Box::new(input)), format)
    }

    fn opened_stream(open: impl FnOnce() -> std::io::Result<Box<dyn Read + Send>> + Send + 'static, format: LineFormat) -> JsonLines {
        let (send, chunks) = sync_channel(2);
        std::thread::spawn(move || {
            // Opened here: a pipe waits for who writes to it.
            let mut input = match open().and_then(input::text) {
                Ok(input) => input,
                Err(error) => return drop(send.send(Err(error))),
            };
            loop {
                let mut chunk = vec![0; CHUNK_BYTES];
                let chunk = read_some(&mut input, &mut chunk).map(|len| {
                    chunk.truncate(len);
                    chunk
                });
                let last = !matches!(&chunk, Ok(chunk) if !chunk.is_empty());
                // Nobody listens any more: nothing is left to do.
                if send.send(chunk).is_err() || last {
                    return;
                }
            }
        });
        let name = format!("jsonl:- into {}", format.encoder.source());
        let pipe = Pipe { chunks, pace: StreamPace::default(), waited: Duration::ZERO, pulled: None };
        JsonLines::new(name, None, format, Input::Pipe(pipe))
    }

    fn new(name: String, path: Option<PathBuf>, format: LineFormat, input: Input) -> JsonLines {
        let digest = path.is_some().then(Xxh3::new);
        let lines = Lines::at(format.max_line_bytes, &Place::default(), digest);
        JsonLines { name, path, format, lines, input, failed: None, ended: false, has_yielded_all: false }
    }

    /// Moves the bytes that are there now, at most one chunk, into `lines`. `false`: none came within `wait`.
    #[allow(clippy::disallowed_methods, reason = "tells how long a stream was waited for, and reaches no record")]
    fn fill(&mut self, wait: Duration) -> bool {
        let received = match &mut self.input {
            Input::File(file) => {
                let mut chunk = vec![0; CHUNK_BYTES];
                read_some(file, &mut chunk).map(|len| {
                    chunk.truncate(len);
                    chunk
                })
            }
            Input::Pipe(pipe) => {
                let began = Instant::now();
                let received = pipe.chunks.recv_timeout(wait);
                pipe.waited += began.elapsed();
                match received {
                    Ok(received) => received,
                    Err(RecvTimeoutError::Timeout) => return false,
                    Err(RecvTimeoutError::Disconnected) => Ok(Vec::new()),
                }
            }
        };
        match received {
            Ok(chunk) if chunk.is_empty() => {
                self.ended = true;
                self.lines.finish();
            }
            Ok(chunk) => self.lines.push(&chunk),
            Err(error) => {
                self.ended = true;
                if input::is_behind_parts(&error) {
                    self.lines.finish();
                }
                self.failed = Some(error);
            }
        }
        true
    }

    /// Notes whether what a pull has yielded is the last from before now: a file ends, a stream brings events of now or becomes slow.
    #[allow(clippy::disallowed_methods, reason = "tells how fast a stream brings its lines, and reaches no record")]
    fn note(&mut self, lines: usize, bytes: u64, began: Instant, of_now: usize) {
        self.has_yielded_all = lines == 0;
        let Input::Pipe(pipe) = &mut self.input else { return };
        let between = pipe.pulled.map_or(Duration::ZERO, |pulled| began - pulled);
        pipe.pace.note(Brought { lines, bytes, waited: std::mem::take(&mut pipe.waited), between, of_now });
        pipe.pulled = Some(Instant::now());
    }

    /// Opens the file again, at an offset of its text; answers with the digest of the text up to there, or `None` where the file does not begin
    /// with what an earlier release kept as its `head`.
    fn skip_to(&mut self, path: &Path, head: Option<&Head>, offset: u64) -> std::io::Result<Option<Xxh3>> {
        let mut file = File::open(path)?;
        if let Some(head) = head {
            let mut begins = Vec::new();
            file.by_ref().take(head.bytes).read_to_end(&mut begins)?;
            if written(xxhash_rust::xxh3::xxh3_64(&begins)) != head.digest {
                return Ok(None);
            }
            file.rewind()?;
        }
        let mut input = input::text(Box::new(file))?;
        let mut digest = Xxh3::new();
        let (mut left, mut chunk) = (offset, vec![0; CHUNK_BYTES]);
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_BYTES);
            let read = read_some(&mut input, chunk.get_mut(..most).unwrap_or_default())?;
            if read == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            digest.update(chunk.get(..read).unwrap_or_default());
            left -= read as u64;
        }
        self.input = Input::File(input);
        Ok(Some(digest))
    }
}

impl EventSource for JsonLines {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn is_resumable(&self) -> bool {
        self.path.is_some()
    }

    fn resume(&mut self, point: &str, _again: u64) -> Result<(), CollectError> {
        let Some(path) = self.path.clone() else { return Ok(()) };
        let name = self.name.clone();
        let point: Point =
            serde_json::from_str(point).map_err(|error| CollectError::Resume { name: name.clone(), reason: error.to_string() })?;
        let replaced = |reason: &str| CollectError::Replaced { name: name.clone(), reason: reason.to_string() };
        let digest = match self.skip_to(&path, point.head.as_ref().filter(|_| point.text.is_none()), point.offset) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Err(replaced("it is shorter than it was")),
            skipped => skipped.map_err(|error| CollectError::Read { name: name.clone(), error })?,
        };
        let is_same = |digest: &Xxh3| point.text.as_ref().is_none_or(|text| *text == written(digest.digest()));
        let Some(digest) = digest.filter(is_same) else {
            return Err(replaced("it is another file, or was changed: it does not begin with the text that was read of it"));
        };
        let place = Place { offset: point.offset, lines: point.lines, continues: point.continues, digest: None };
        self.lines = Lines::at(self.format.max_line_bytes, &place, Some(digest));
        Ok(())
    }

    #[allow(clippy::disallowed_methods, reason = "tells how fast a stream brings its lines, and reaches no record")]
    fn next(&mut self, max: usize, wait: Duration) -> Result<Pull, CollectError> {
        let (began, now_ms) = (Instant::now(), SystemClock.now_ms());
        let (mut records, mut bad) = (Vec::new(), Vec::new());
        let (mut bytes, mut of_now, mut left_out) = (0, 0, 0);
        let before = self.lines.position();
        // A file that is still being written may end within a line: a later run reads that line again, whole.
        let mut is_left = false;
        while records.len() + bad.len() < max && left_out < MOST_LEFT_OUT && bytes < PULL_BYTES {
            let Some(line) = self.lines.next() else {
                // A stream is not waited for when it has brought something; what is there is read on, of a file too, until the batch is full.
                let wait = if records.is_empty() && bad.is_empty() && left_out == 0 { wait } else { Duration::ZERO };
                if self.ended || !self.fill(wait) {
                    break;
                }
                continue;
            };
            let may_grow = !line.is_ended && self.path.is_some();
            let (outcomes, content) = match line.content {
                Ok(text) if text.trim_ascii().is_empty() => {
                    is_left |= may_grow;
                    continue;
                }
                Ok(text) if line.continues => (vec![Outcome::Bad(went_on())], Cow::Borrowed(text)),
                Ok(text) => {
                    let facts = LineFacts { text, number: line.number, received_ms: None };
                    (self.format.outcomes(facts), Cow::Borrowed(text))
                }
                Err((refused, begins)) => (vec![Outcome::Bad(refused)], Cow::Owned(begins)),
            };
            for outcome in outcomes {
                match outcome {
                    Outcome::Event(record, object) => {
                        of_now += usize::from(self.path.is_none() && self.format.encoder.is_of_now(&object, now_ms));
                        bytes += record.value.len();
                        records.push(record);
                    }
                    Outcome::LeftOut => left_out += 1,
                    Outcome::Bad(refused) if may_grow && is_half(&refused, &content) => {
                        let (name, line) = (&self.name, line.number);
                        tracing::warn!(source = %name, line, "the last line is only the beginning of one: it is read when the file has its end");
                        is_left = true;
                    }
                    Outcome::Bad(refused) => bad.push(BadLine::new(line.number, refused, &content)),
                }
            }
        }
        let (offset, _) = self.lines.position();
        self.note(records.len() + bad.len() + left_out, offset - before.0, began, of_now);
        if self.lines.position() == before {
            return match self.failed.take() {
                Some(error) => Err(CollectError::Read { name: self.name.clone(), error }),
                None if self.ended => Ok(Pull::End),
                None => Ok(Pull::Idle),
            };
        }
        let place = if is_left { self.lines.place_before_last() } else { self.lines.place() };
        let Place { offset, lines, continues, digest } = place;
        let point = Point { offset, lines, continues, text: digest.map(written), head: None };
        let resume =
            serde_json::to_string(&point).map_err(|error| CollectError::Resume { name: self.name.clone(), reason: error.to_string() })?;
        Ok(Pull::Events { records, bad, left_out, resume })
    }

    fn is_at_present(&self) -> bool {
        match &self.input {
            Input::File(_) => self.has_yielded_all,
            Input::Pipe(pipe) => pipe.pace.is_present(),
        }
    }
}

fn written(digest: u64) -> String {
    format!("{digest:016x}")
}

/// Whether a line is refused because its end is not there yet.
fn is_half(refused: &Refused, begins: &[u8]) -> bool {
    match refused.reason {
        BadReason::NotJson => serde_json::from_slice::<IgnoredAny>(begins).is_err_and(|error| error.is_eof()),
        reason => reason == BadReason::LineTooLong,
    }
}

fn went_on() -> Refused {
    Refused::new(BadReason::NotJson, "the line was read when it had no line end yet, and went on since")
}

/// Reads what is there, at least one byte; 0 only at the end.
fn read_some(input: &mut dyn Read, into: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match input.read(into) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests;
