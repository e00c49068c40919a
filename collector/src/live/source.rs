//! A live source as the collector sees it: the reader of its spool.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use refold_processor::clock::{Clock, SystemClock};
use refold_processor::stop::Stop;
use serde::{Deserialize, Serialize};

use super::closer::Closer;
use super::connection::LiveSource;
use super::declared::Limits;
use super::status::{LiveState, LiveStatus};
use super::supervisor::{Shared, Supervisor};
use crate::CollectError;
use crate::event_source::{BadLine, EventSource, Pull};
use crate::format::{LineFormat, Outcome};
use crate::jsonl::{MOST_LEFT_OUT, PULL_BYTES};
use crate::mapping::LineFacts;
use crate::spool::{self, Place, Reader, Spool, SpoolSettings};

/// A source that brings nothing for so long has brought all that there was.
const QUIET: Duration = Duration::from_secs(3);

/// A live source.
pub struct Live {
    name: String,
    format: LineFormat,
    shared: Arc<Shared>,
    closer: Closer,
    /// Until it is started.
    supervisor: Option<Supervisor>,
    reader: Option<Reader>,
    /// Messages before the reader.
    messages: u64,
    /// Whether the last messages were of now.
    is_of_now: bool,
    /// When something was there to read for the last time.
    read_at: Instant,
}

/// What a live source is made of.
pub(crate) struct LiveParts {
    pub name: String,
    pub format: LineFormat,
    pub source: Box<dyn LiveSource>,
    pub limits: Limits,
    pub closer: Closer,
}

/// Where the reader was.
#[derive(Debug, Serialize, Deserialize)]
struct Point {
    #[serde(flatten)]
    place: Place,
    messages: u64,
}

impl Live {
    /// A source whose spool is in a folder of its own in `folder`; nothing is opened yet.
    #[allow(clippy::disallowed_methods, reason = "tells how long a source was quiet, and reaches no record")]
    pub(crate) fn new(parts: LiveParts, folder: &Path, settings: SpoolSettings) -> Live {
        let LiveParts { name, format, source, limits, closer } = parts;
        let readable: String = name.chars().take(40).map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let folder = folder.join("spool").join(format!("{readable}-{:016x}", xxhash_rust::xxh3::xxh3_64(name.as_bytes())));
        let shared = Arc::new(Shared {
            folder,
            settings,
            spool: Default::default(),
            arrived: Default::default(),
            status: Arc::default(),
            stop: Stop::new(),
        });
        let supervisor = Supervisor { name: name.clone(), source, limits, shared: shared.clone() };
        Live {
            name,
            format,
            shared,
            closer,
            supervisor: Some(supervisor),
            reader: None,
            messages: 0,
            is_of_now: false,
            read_at: Instant::now(),
        }
    }

    fn unreadable(&self, error: std::io::Error) -> CollectError {
        CollectError::Read { name: format!("the spool of {} in {}", self.name, self.shared.folder.display()), error }
    }

    /// Opens the spool, at its beginning if it was not read before, and begins to read the source.
    fn start(&mut self) -> Result<(), CollectError> {
        let Some(supervisor) = self.supervisor.take() else { return Ok(()) };
        let first = self.open()?;
        if self.reader.is_none() {
            self.reader = Some(Reader::at(&self.shared.folder, first).map_err(|error| self.unreadable(error))?);
        }
        let started = std::thread::Builder::new().name("live".into()).spawn(move || supervisor.run());
        started.map(drop).map_err(|error| CollectError::Read { name: self.name.clone(), error })
    }

    /// Opens the spool; answers with its first place.
    fn open(&self) -> Result<Place, CollectError> {
        let mut open = self.shared.spool.lock();
        if open.is_none() {
            *open = Some(Spool::open(&self.shared.folder, self.shared.settings).map_err(|error| self.unreadable(error))?);
        }
        open.as_ref().map(Spool::first).ok_or_else(|| self.unreadable(std::io::ErrorKind::NotFound.into()))
    }

    /// Up to where messages can be read. Waits for the first one no longer than `wait`.
    fn readable(&mut self, wait: Duration) -> Option<Place> {
        let at = self.reader.as_ref()?.place();
        let mut open = self.shared.spool.lock();
        for may_wait in [true, false] {
            if let Some(spool) = open.as_mut() {
                match spool.sync() {
                    Ok(end) if end > at => return Some(end),
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!(source = %self.name, %error, "the spool cannot be written; it is opened again");
                        *open = None;
                    }
                }
            }
            if may_wait {
                self.shared.arrived.wait_for(&mut open, wait);
            }
        }
        None
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.shared.stop.stop();
        self.closer.close();
        // Closed: what the thread still receives is asked for again by the next run.
        if let Some(mut spool) = self.shared.spool.lock().take() {
            let _ = spool.sync();
        }
    }
}

impl EventSource for Live {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn resume(&mut self, point: &str, _again: u64) -> Result<(), CollectError> {
        let name = self.name.clone();
        let point: Point =
            serde_json::from_str(point).map_err(|error| CollectError::Resume { name: name.clone(), reason: error.to_string() })?;
        let first = self.open()?;
        let gone = |reason: String| CollectError::Replaced { name: name.clone(), reason };
        if point.place.segment < first.segment {
            return Err(gone(format!("what was received is no longer in its spool, {}", self.shared.folder.display())));
        }
        let reader = Reader::at(&self.shared.folder, point.place)
            .map_err(|error| gone(format!("its spool, {}, was changed: {error}", self.shared.folder.display())))?;
        self.reader = Some(reader);
        self.messages = point.messages;
        Ok(())
    }

    #[allow(clippy::disallowed_methods, reason = "tells how long a source was quiet, and reaches no record")]
    fn next(&mut self, max: usize, wait: Duration) -> Result<Pull, CollectError> {
        self.start()?;
        let Some(until) = self.readable(wait) else { return Ok(Pull::Idle) };
        let (mut records, mut bad, mut left_out) = (Vec::new(), Vec::new(), 0);
        let (mut bytes, mut of_now) = (0, 0);
        let now_ms = SystemClock.now_ms();
        while records.len() + bad.len() < max && left_out < MOST_LEFT_OUT && bytes < PULL_BYTES {
            let Some(reader) = self.reader.as_mut() else { break };
            let message = match reader.next(until) {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(error) => return Err(self.unreadable(error)),
            };
            self.messages += 1;
            let facts = LineFacts { text: &message.body, number: self.messages, received_ms: Some(message.received_ms) };
            for outcome in self.format.outcomes(facts) {
                match outcome {
                    Outcome::Event(record, object) => {
                        if let Some(time_us) = self.format.encoder.event_time_us(&object) {
                            self.shared.status.note_event(time_us / 1000);
                        }
                        of_now += usize::from(self.format.encoder.is_of_now(&object, now_ms));
                        bytes += record.value.len();
                        records.push(record);
                    }
                    Outcome::LeftOut => left_out += 1,
                    Outcome::Bad(refused) => bad.push(BadLine::new(self.messages, refused, &message.body)),
                }
            }
        }
        self.read_at = Instant::now();
        self.is_of_now = of_now * 2 > records.len();
        let place = self.reader.as_ref().map_or(until, Reader::place);
        let point = Point { place, messages: self.messages };
        let resume =
            serde_json::to_string(&point).map_err(|error| CollectError::Resume { name: self.name.clone(), reason: error.to_string() })?;
        Ok(Pull::Events { records, bad, left_out, resume })
    }

    fn acknowledged(&mut self, point: &str) -> Result<(), CollectError> {
        let Ok(point) = serde_json::from_str::<Point>(point) else { return Ok(()) };
        let released = self.shared.spool.lock().as_mut().map_or(Ok(()), |spool| spool.release(point.place));
        released.map_err(|error| self.unreadable(error))
    }

    fn restart(&mut self) -> Result<(), CollectError> {
        spool::remove(&self.shared.folder).map_err(|error| self.unreadable(error))
    }

    fn live(&self) -> Option<Arc<LiveStatus>> {
        Some(self.shared.status.clone())
    }

    /// While it cannot be connected there is nothing to wait for: what is there is served. Otherwise it is so when its events are of now, or none come.
    fn is_at_present(&self) -> bool {
        let is_waiting = matches!(self.shared.status.state(), LiveState::Waiting { .. });
        self.supervisor.is_none() && (is_waiting || self.is_of_now || self.read_at.elapsed() > QUIET)
    }
}
