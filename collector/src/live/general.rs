//! A live source that is all declared: which messages are which, how far it was read, and how that is said.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_128;

use super::closer::Closer;
use super::connection::{Connection, Incoming, LiveSource, Received};
use super::declared::{CursorPath, Protocol, Resume, Stream};
use super::error::LiveError;
use super::frame::{Frame, Frames};
use super::http::{LineFrames, Request, SseFrames, ask};
use super::websocket::SocketFrames;
use crate::mapping::bytes_at;
use crate::secret;

/// A declared stream, and what cannot be declared of it.
pub(crate) struct General {
    stream: Stream,
    special: Arc<dyn Special>,
    closer: Closer,
    /// The host that is asked, by index.
    host: usize,
    /// The host that the cursor is of.
    cursor_host: Option<usize>,
    failures: usize,
}

/// What cannot be declared of a source.
pub(crate) trait Special: Send + Sync {
    /// What the cursor of the last message is for a server that is to send again what it may have missed; `None`: as declared.
    fn cursor_to_send(&self, _cursor: &str) -> Option<String> {
        None
    }

    /// What a frame is, if not what the declaration says.
    ///
    /// # Errors
    /// When it says that the stream ends.
    fn read(&self, _name: Option<&str>, _id: Option<&str>, _data: &Bytes) -> Result<Option<Incoming>, LiveError> {
        Ok(None)
    }

    /// Whether what passes between two connections can be asked for, although nothing is declared for it.
    fn can_resume(&self) -> bool {
        false
    }

    /// What is to be done before the stream is asked for; answers with the scheme and host to ask, if not those that are declared.
    ///
    /// # Errors
    /// When it cannot be done.
    fn prepare(&self, _headers: &Headers, _closer: &Closer) -> Result<Option<String>, LiveError> {
        Ok(None)
    }

    /// What passed since `cursor`, and is asked for after the stream has begun.
    ///
    /// # Errors
    /// When it cannot be had.
    fn missed(&self, _cursor: &str, _headers: &Headers, _closer: &Closer) -> Result<Vec<Incoming>, LiveError> {
        Ok(Vec::new())
    }
}

/// Headers with their secrets.
pub(crate) type Headers = [(String, String)];

/// Nothing.
pub(crate) struct Plain;

impl Special for Plain {}

/// After so many attempts the next host is asked.
const ATTEMPTS: usize = 3;

impl General {
    /// A stream that `closer` ends.
    pub fn new(stream: Stream, special: Arc<dyn Special>, closer: Closer) -> General {
        General { stream, special, closer, host: 0, cursor_host: None, failures: 0 }
    }

    fn url(&self) -> &str {
        self.stream.urls.get(self.host).map_or("", String::as_str)
    }

    /// The cursor as the server is to hear it.
    fn cursor_to_send(&self, cursor: &str) -> String {
        if let Some(special) = self.special.cursor_to_send(cursor) {
            return special;
        }
        let rewind = match self.cursor_host {
            Some(host) if host != self.host => self.stream.switch_rewind.max(self.stream.rewind),
            Some(_) => self.stream.rewind,
            // Which host it is of was not kept.
            None if self.stream.urls.len() > 1 => self.stream.switch_rewind.max(self.stream.rewind),
            None => self.stream.rewind,
        };
        match cursor.parse::<i64>() {
            Ok(number) if rewind > 0 => number.saturating_sub(rewind).to_string(),
            _ => cursor.to_owned(),
        }
    }

    fn request(&self, cursor: Option<&str>, headers: Vec<(String, String)>) -> Request {
        let mut request = Request { url: self.url().to_owned(), headers };
        match cursor.zip(self.stream.resume.as_ref()) {
            Some((cursor, Resume::Query(name))) => {
                let separator = if request.url.contains('?') { '&' } else { '?' };
                request.url.push_str(&format!("{separator}{name}={}", utf8_percent_encode(cursor, NON_ALPHANUMERIC)));
            }
            Some((cursor, Resume::Header(name))) => request.headers.push((name.clone(), cursor.to_owned())),
            None => {}
        }
        request
    }

    /// Connects, in the order in which nothing is missed.
    fn begin(&mut self, cursor: Option<&str>) -> Result<Box<dyn Connection>, LiveError> {
        let headers = self.stream.headers.iter().map(|(name, value)| {
            let value = secret::expand(value).map_err(|message| LiveError::operator(format!("header {name}: {message}")))?;
            Ok((name.clone(), value))
        });
        let headers = headers.collect::<Result<Vec<_>, LiveError>>()?;
        let base = self.special.prepare(&headers, &self.closer)?;
        let cursor_to_send = cursor.map(|cursor| self.cursor_to_send(cursor));
        let is_rewound = cursor != cursor_to_send.as_deref();
        let mut request = self.request(cursor_to_send.as_deref(), headers.clone());
        if let Some((base, path)) = base.zip(request.url.splitn(4, '/').nth(3)) {
            request.url = format!("{base}/{path}");
        }
        let frames = self.frames(&request)?;
        // The stream has begun: what passed before it is asked for now, so that nothing falls between the two.
        let missed = cursor.map_or(Ok(Vec::new()), |cursor| self.special.missed(cursor, &headers, &self.closer))?;
        self.failures = 0;
        self.cursor_host = Some(self.host);
        let expected = cursor.filter(|_| self.stream.is_inclusive && !is_rewound).map(str::to_owned);
        Ok(Box::new(GeneralConnection {
            stream: self.stream.clone(),
            frames,
            missed: missed.into(),
            expected,
            special: self.special.clone(),
            closer: self.closer.clone(),
        }))
    }

    fn frames(&self, request: &Request) -> Result<Box<dyn Frames>, LiveError> {
        let limits = &self.stream.limits;
        Ok(match self.stream.protocol {
            Protocol::Sse => Box::new(SseFrames::new(ask(request, "text/event-stream", limits, &self.closer)?, limits)),
            Protocol::Lines => {
                Box::new(LineFrames::new(ask(request, "application/x-ndjson, application/json, */*", limits, &self.closer)?, limits))
            }
            Protocol::Websocket => Box::new(SocketFrames::connect(request, &self.stream.greetings, limits, &self.closer)?),
        })
    }
}

impl LiveSource for General {
    fn connect(&mut self, cursor: Option<&str>) -> Result<Box<dyn Connection>, LiveError> {
        self.begin(cursor).inspect_err(|_| self.closer.release())
    }

    fn host(&self) -> String {
        let address = self.url().split_once("://").map_or("", |(_, rest)| rest);
        let host = address.split(['/', '?']).next().unwrap_or_default();
        // What stands before the host may be a password.
        host.rsplit('@').next().unwrap_or_default().to_owned()
    }

    fn failed(&mut self) {
        self.failures += 1;
        if self.failures.is_multiple_of(ATTEMPTS) && self.stream.urls.len() > 1 {
            self.host = (self.host + 1) % self.stream.urls.len();
        }
    }

    fn can_resume(&self) -> bool {
        self.stream.resume.is_some() || self.special.can_resume()
    }
}

/// A connection of a declared stream.
struct GeneralConnection {
    stream: Stream,
    frames: Box<dyn Frames>,
    /// What passed before it began.
    missed: VecDeque<Incoming>,
    /// The cursor that the first message is to have, if the server still had what was asked for.
    expected: Option<String>,
    special: Arc<dyn Special>,
    closer: Closer,
}

impl Drop for GeneralConnection {
    fn drop(&mut self) {
        self.closer.release();
    }
}

impl Connection for GeneralConnection {
    fn next(&mut self) -> Result<Incoming, LiveError> {
        if let Some(missed) = self.missed.pop_front() {
            return Ok(missed);
        }
        let (name, id, data) = match self.frames.next()? {
            Frame::Sign => return Ok(Incoming::Sign),
            Frame::TooLarge => return Ok(Incoming::TooLarge),
            Frame::Message { name, id, data } => (name, id, data),
        };
        if let Some(incoming) = self.special.read(name.as_deref(), id.as_deref(), &data)? {
            return Ok(incoming);
        }
        let is_wanted = self.stream.events.is_empty() || self.stream.events.iter().any(|event| Some(event.as_str()) == name.as_deref());
        if !is_wanted {
            return Ok(id.filter(|_| self.stream.cursor == Some(CursorPath::EventId)).map_or(Incoming::Sign, Incoming::Moved));
        }
        let received = message(&self.stream, id, data);
        if let Some((expected, found)) = self.expected.take().zip(received.cursor.as_ref())
            && expected != *found
        {
            return Ok(Incoming::AfterGap { asked: expected, received });
        }
        Ok(Incoming::Message(received))
    }
}

/// A message with its id and its cursor, as declared. What is no JSON has neither; it goes on all the same, to be counted as a bad line.
fn message(stream: &Stream, event_id: Option<String>, data: Bytes) -> Received {
    let needs_json = !stream.id.is_empty() || matches!(stream.cursor, Some(CursorPath::Path(_)));
    let json: Option<Value> = needs_json.then(|| serde_json::from_slice(&data).ok()).flatten();
    let id = json.as_ref().filter(|_| !stream.id.is_empty()).and_then(|json| bytes_at(&stream.id, json)).map(|bytes| xxh3_128(&bytes));
    let cursor = match &stream.cursor {
        None => None,
        Some(CursorPath::EventId) => event_id.filter(|id| !id.is_empty()),
        Some(CursorPath::Path(path)) => json.as_ref().and_then(|json| match path.find_in(json).as_deref() {
            Some(Value::String(text)) => Some(text.clone()),
            Some(value @ Value::Number(_)) => Some(value.to_string()),
            _ => None,
        }),
    };
    Received { body: data, id, cursor }
}
