//! HTTP bodies that do not end: server-sent events, and lines.

use std::collections::VecDeque;
use std::io::Read;
use std::time::Duration;

use refold_processor::clock::{Clock, SystemClock};
use ureq::Agent;

use super::closer::Closer;
use super::declared::Limits;
use super::error::{LiveError, of_status, retry_after};
use super::frame::{Frame, Frames};
use super::sse::{Item, Parser};
use crate::lines::Lines;

/// How much is read at once.
const CHUNK_BYTES: usize = 64 << 10;
/// The most of a refusal that is read.
const REFUSAL_BYTES: u64 = 4 << 10;

/// A request: its address with all parameters, and headers with secrets in them.
pub(crate) struct Request {
    pub url: String,
    pub headers: Vec<(String, String)>,
}

/// Asks, and answers with the response, or with why there is none.
pub(crate) fn ask(
    request: &Request,
    accept: &str,
    limits: &Limits,
    closer: &Closer,
) -> Result<ureq::http::Response<ureq::Body>, LiveError> {
    let agent = agent(limits);
    closer.note_http(&agent);
    let mut builder = agent.get(&request.url).header("accept", accept);
    for (name, value) in &request.headers {
        builder = builder.header(name, value);
    }
    let mut response = builder.call().map_err(|error| unreachable(&error))?;
    let status = response.status().as_u16();
    if status == 200 {
        return Ok(response);
    }
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let names = ["retry-after", "x-rate-limit-reset", "x-ratelimit-reset"];
    let headers: Vec<(&str, Option<String>)> = names.iter().map(|name| (*name, header(name))).collect();
    let after =
        retry_after(|name| headers.iter().find(|(known, _)| *known == name).and_then(|(_, value)| value.as_deref()), SystemClock.now_ms());
    let mut text = Vec::new();
    // How it says no is for people: half of it is enough.
    let _ = response.body_mut().as_reader().take(REFUSAL_BYTES).read_to_end(&mut text);
    Err(of_status(status, after, &String::from_utf8_lossy(&text)))
}

/// An agent of one connection, which is not kept for the next one.
pub(crate) fn agent(limits: &Limits) -> Agent {
    Agent::config_builder()
        .timeout_resolve(Some(limits.connect))
        .timeout_connect(Some(limits.connect))
        .timeout_send_request(Some(limits.connect))
        .timeout_recv_response(Some(limits.headers))
        .timeout_per_read(Some(limits.silence))
        .accept_encoding("identity")
        .http_status_as_error(false)
        .max_idle_connections(0)
        .user_agent(concat!("refold/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent()
}

/// Why there is no response. The address is not in it: it may have a secret.
pub(crate) fn unreachable(error: &ureq::Error) -> LiveError {
    let why = match error {
        ureq::Error::Timeout(what) => format!("the server does not answer in time ({what})"),
        ureq::Error::Io(error) => format!("the server cannot be reached: {error}"),
        ureq::Error::HostNotFound => "the host is not found".to_owned(),
        ureq::Error::BadUri(_) => return LiveError::operator("the address of the stream is not valid"),
        error => format!("the server cannot be reached: {error}"),
    };
    LiveError::transient(why)
}

/// A body, read as it comes.
struct Body {
    reader: ureq::BodyReader<'static>,
    chunk: Vec<u8>,
    silence: Duration,
}

impl Body {
    fn new(response: ureq::http::Response<ureq::Body>, limits: &Limits) -> Body {
        let reader = response.into_body().into_with_config().limit(u64::MAX).reader();
        Body { reader, chunk: vec![0; CHUNK_BYTES], silence: limits.silence }
    }

    /// Some more bytes.
    fn read(&mut self) -> Result<&[u8], LiveError> {
        let ended = || LiveError::transient("the server has ended the stream");
        match self.reader.read(&mut self.chunk) {
            Ok(0) => Err(ended()),
            Ok(read) => Ok(self.chunk.get(..read).unwrap_or_default()),
            Err(error) if is_silence(&error) => Err(LiveError::transient(format!("nothing was received for {} s", self.silence.as_secs()))),
            Err(error) => Err(LiveError::transient(format!("the connection was lost: {error}"))),
        }
    }
}

fn is_silence(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>());
    matches!(inner, Some(ureq::Error::Timeout(_))) || matches!(error.kind(), std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock)
}

/// A stream of server-sent events.
pub(crate) struct SseFrames {
    body: Body,
    parser: Parser,
    items: VecDeque<Item>,
}

impl SseFrames {
    /// Reads the events of a response.
    pub fn new(response: ureq::http::Response<ureq::Body>, limits: &Limits) -> SseFrames {
        SseFrames { body: Body::new(response, limits), parser: Parser::new(limits.max_message_bytes), items: VecDeque::new() }
    }
}

impl Frames for SseFrames {
    fn next(&mut self) -> Result<Frame, LiveError> {
        loop {
            match self.items.pop_front() {
                Some(Item::Event(event)) => return Ok(Frame::Message { name: event.name, id: event.id, data: event.data.into() }),
                Some(Item::Sign) => return Ok(Frame::Sign),
                Some(Item::TooLarge) => return Ok(Frame::TooLarge),
                None => {
                    let mut items = Vec::new();
                    self.parser.push(self.body.read()?, &mut items);
                    self.items.extend(items);
                }
            }
        }
    }
}

/// A stream of lines.
pub(crate) struct LineFrames {
    body: Body,
    lines: Lines,
}

impl LineFrames {
    /// Reads the lines of a response.
    pub fn new(response: ureq::http::Response<ureq::Body>, limits: &Limits) -> LineFrames {
        LineFrames { body: Body::new(response, limits), lines: Lines::new(limits.max_message_bytes) }
    }
}

impl Frames for LineFrames {
    fn next(&mut self) -> Result<Frame, LiveError> {
        loop {
            match self.lines.next() {
                // What has no end yet was cut off: it is not asked for before the end, as files are.
                Some(line) => {
                    return Ok(match line.content {
                        Ok(text) if text.trim_ascii().is_empty() => Frame::Sign,
                        Ok(text) => Frame::Message { name: None, id: None, data: bytes::Bytes::copy_from_slice(text) },
                        Err(_) => Frame::TooLarge,
                    });
                }
                None => {
                    let more = self.body.read()?;
                    self.lines.push(more);
                }
            }
        }
    }
}
