//! JSON lines from a file or standard input, plain or compressed with gzip or zstd.
//!
//! The last line of a file may lack its line end; it is read as a line all the same.

use std::fs::File;
use std::io::{Cursor, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use refold_processor::clock::{Clock, SystemClock};
use refold_processor::log::NewRecord;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::encode::{Encoder, parse};
use crate::event_source::{BadLine, EventSource, Pull, Refused};
use crate::lines::Lines;
use crate::stream_pace::{Brought, StreamPace};
use crate::{CollectError, Mapping};

/// The usual longest line, in bytes.
pub const MAX_LINE_BYTES: usize = 1 << 20;
/// How much is read at once.
const CHUNK_BYTES: usize = 256 << 10;
/// A pull ends when its records have this many bytes, so that long lines do not make a batch without bounds.
const PULL_BYTES: usize = 4 << 20;
/// The part at the beginning of a file by which it is known again.
const HEAD_BYTES: u64 = 4096;

/// How lines become events.
#[derive(Clone, Debug)]
pub struct LineFormat {
    /// The encoder of the source.
    pub encoder: Encoder,
    /// The mapping, when lines are not objects of the record's own fields.
    pub mapping: Option<Mapping>,
    /// The longest line, in bytes; a longer one is a bad line, and is skipped without being held.
    pub max_line_bytes: usize,
}

impl LineFormat {
    /// A record, and the object of its fields.
    fn record(&self, text: &[u8], number: u64) -> Result<(NewRecord, Value), Refused> {
        let line = parse(text)?;
        let object = match &self.mapping {
            None => line,
            Some(mapping) => mapping.apply(&line, text, number)?,
        };
        self.encoder.encode(&object).map(|record| (record, object))
    }
}

/// A source of JSON lines.
pub struct JsonLines {
    name: String,
    /// `None`: standard input.
    path: Option<PathBuf>,
    format: LineFormat,
    lines: Lines,
    input: Input,
    head: Head,
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

/// The beginning of a file, as it is on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    bytes: u64,
    digest: String,
}

/// Where a file was.
#[derive(Debug, Serialize, Deserialize)]
struct Point {
    head: Head,
    /// Of the uncompressed text.
    offset: u64,
    lines: u64,
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
        let head = Head::read(&path, HEAD_BYTES).map_err(read_error)?;
        let input = File::open(&path).and_then(|file| decompressed(Box::new(file))).map_err(read_error)?;
        let name = format!("jsonl:{} into {}", path.display(), format.encoder.source());
        Ok(JsonLines::new(name, Some(path), format, Input::File(input), head))
    }

    /// Reads a stream that cannot be read again, such as standard input.
    pub fn stream(input: impl Read + Send + 'static, format: LineFormat) -> JsonLines {
        JsonLines::opened_stream(move || Ok(Box::new(input)), format)
    }

    fn opened_stream(open: impl FnOnce() -> std::io::Result<Box<dyn Read + Send>> + Send + 'static, format: LineFormat) -> JsonLines {
        let (send, chunks) = sync_channel(2);
        std::thread::spawn(move || {
            // Opened here: a pipe waits for who writes to it.
            let mut input = match open().and_then(decompressed) {
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
        JsonLines::new(name, None, format, Input::Pipe(pipe), Head::default())
    }

    fn new(name: String, path: Option<PathBuf>, format: LineFormat, input: Input, head: Head) -> JsonLines {
        let lines = Lines::new(format.max_line_bytes);
        JsonLines { name, path, format, lines, input, head, failed: None, ended: false, has_yielded_all: false }
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

    /// Goes to an offset of the uncompressed text.
    fn skip_to(&mut self, path: &Path, offset: u64) -> std::io::Result<()> {
        let mut file = File::open(path)?;
        if compression(&mut file)?.is_none() {
            if file.metadata()?.len() < offset {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            file.seek(SeekFrom::Start(offset))?;
            self.input = Input::File(Box::new(file));
            return Ok(());
        }
        file.rewind()?;
        let mut input = decompressed(Box::new(file))?;
        if std::io::copy(&mut input.by_ref().take(offset), &mut std::io::sink())? < offset {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.input = Input::File(input);
        Ok(())
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
        let read_error = |error| CollectError::Read { name: name.clone(), error };
        let head = Head::read(&path, point.head.bytes).map_err(read_error)?;
        if head.bytes < point.head.bytes {
            return Err(replaced("it is shorter than it was"));
        }
        if head != point.head {
            return Err(replaced("it begins with other text than it did"));
        }
        match self.skip_to(&path, point.offset) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Err(replaced("it is shorter than it was")),
            skipped => skipped.map_err(read_error)?,
        }
        self.lines = Lines::at(self.format.max_line_bytes, point.offset, point.lines);
        Ok(())
    }

    #[allow(clippy::disallowed_methods, reason = "tells how fast a stream brings its lines, and reaches no record")]
    fn next(&mut self, max: usize, wait: Duration) -> Result<Pull, CollectError> {
        let (began, now_ms) = (Instant::now(), SystemClock.now_ms());
        let (mut records, mut bad) = (Vec::new(), Vec::new());
        let (mut bytes, mut of_now) = (0, 0);
        let before = self.lines.position();
        // A file that is still being written may end within a line: a later run reads that line again, whole.
        let mut whole_to = None;
        while records.len() + bad.len() < max && bytes < PULL_BYTES {
            let Some(line) = self.lines.next() else {
                // A stream is not waited for when it has brought something; what is there is read on, of a file too, until the batch is full.
                let wait = if records.is_empty() && bad.is_empty() { wait } else { Duration::ZERO };
                if self.ended || !self.fill(wait) {
                    break;
                }
                continue;
            };
            if !line.is_ended && self.path.is_some() {
                whole_to = Some(line.begin);
            }
            match line.content {
                Ok(text) if text.trim_ascii().is_empty() => {}
                Ok(text) => match self.format.record(text, line.number) {
                    Ok((record, object)) => {
                        whole_to = None;
                        of_now += usize::from(self.path.is_none() && self.format.encoder.is_of_now(&object, now_ms));
                        bytes += record.value.len();
                        records.push(record);
                    }
                    Err(refused) => bad.push(BadLine::new(line.number, refused, text)),
                },
                Err((refused, begins)) => bad.push(BadLine::new(line.number, refused, &begins)),
            }
        }
        let (offset, lines) = self.lines.position();
        self.note(records.len() + bad.len(), offset - before.0, began, of_now);
        if (offset, lines) == before {
            return match self.failed.take() {
                Some(error) => Err(CollectError::Read { name: self.name.clone(), error }),
                None if self.ended => Ok(Pull::End),
                None => Ok(Pull::Idle),
            };
        }
        let (offset, lines) = whole_to.map_or((offset, lines), |begin| (begin, lines - 1));
        let point = Point { head: self.head.clone(), offset, lines };
        let resume =
            serde_json::to_string(&point).map_err(|error| CollectError::Resume { name: self.name.clone(), reason: error.to_string() })?;
        Ok(Pull::Events { records, bad, resume })
    }

    fn is_at_present(&self) -> bool {
        match &self.input {
            Input::File(_) => self.has_yielded_all,
            Input::Pipe(pipe) => pipe.pace.is_present(),
        }
    }
}

impl Head {
    fn read(path: &Path, bytes: u64) -> std::io::Result<Head> {
        let mut head = Vec::new();
        File::open(path)?.take(bytes).read_to_end(&mut head)?;
        Ok(Head { bytes: head.len() as u64, digest: format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&head)) })
    }
}

#[derive(Clone, Copy)]
enum Compression {
    Gzip,
    Zstd,
}

fn compression_of(magic: &[u8]) -> Option<Compression> {
    match magic {
        [0x1F, 0x8B, ..] => Some(Compression::Gzip),
        [0x28, 0xB5, 0x2F, 0xFD] => Some(Compression::Zstd),
        _ => None,
    }
}

fn magic(input: &mut dyn Read) -> std::io::Result<Vec<u8>> {
    let mut magic = Vec::with_capacity(4);
    input.take(4).read_to_end(&mut magic)?;
    Ok(magic)
}

fn compression(file: &mut File) -> std::io::Result<Option<Compression>> {
    magic(file).map(|magic| compression_of(&magic))
}

fn decompressed(mut input: Box<dyn Read + Send>) -> std::io::Result<Box<dyn Read + Send>> {
    let magic = magic(&mut input)?;
    let compression = compression_of(&magic);
    let whole = Cursor::new(magic).chain(input);
    Ok(match compression {
        // Both may be several compressed files in a row.
        Some(Compression::Gzip) => Box::new(flate2::read::MultiGzDecoder::new(whole)),
        Some(Compression::Zstd) => Box::new(zstd::stream::read::Decoder::new(whole)?),
        None => Box::new(whole),
    })
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
