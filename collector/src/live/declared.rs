//! Streams as `sources.toml` declares them.
//!
//! ```toml
//! [streams.quakes]
//! url = "wss://example.org/feed"              # or a list of hosts that have the same stream, asked in turn
//! protocol = "websocket"                      # or sse, or lines (a body of HTTP that does not end)
//! mapping = "quakes"                          # without it the mapping of the stream's own name
//! headers = { Authorization = "Bearer ${QUAKES_TOKEN}" }
//! id = "data.id"                              # what identifies a message
//! cursor = "data.time_us"                     # how far the stream was read; with sse also "event id"
//! resume = { query = "since" }                # how that is said to the server; or { header = "…" }
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use refold_processor::source::parse_duration_us;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::CollectError;
use crate::path::JsonPath;

/// A stream, valid in itself.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub name: String,
    pub urls: Vec<String>,
    pub protocol: Protocol,
    /// The mapping of its messages, where one is named.
    pub mapping: Option<String>,
    /// With secrets still named and not said.
    pub headers: Vec<(String, String)>,
    pub greetings: Vec<String>,
    /// What identifies a message: all of them together.
    pub id: Vec<JsonPath>,
    pub cursor: Option<CursorPath>,
    pub resume: Option<Resume>,
    /// What is taken from a cursor that is a number when it is said to the server.
    pub rewind: i64,
    /// The same when it is said to another host than the one that it came from.
    pub switch_rewind: i64,
    /// Whether the server begins with the message that has the cursor.
    pub is_inclusive: bool,
    /// Names of server-sent events that are messages; empty: all.
    pub events: Vec<String>,
    /// What X is asked for; of no meaning elsewhere.
    pub rules: Vec<Rule>,
    pub limits: Limits,
}

/// A rule of X.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// As X reads it.
    pub value: String,
    /// A name for it.
    #[serde(default)]
    pub tag: String,
}

/// The bounds of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub connect: Duration,
    pub headers: Duration,
    pub silence: Duration,
    /// Longer without a message, although the connection is alive, it is made anew.
    pub quiet: Option<Duration>,
    pub least_pause: Duration,
    pub longest_pause: Duration,
    pub max_message_bytes: usize,
}

/// How messages come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    /// Server-sent events.
    Sse,
    /// A WebSocket.
    Websocket,
    /// Lines of a body that does not end.
    Lines,
}

/// Where the cursor is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CursorPath {
    /// The id of the server-sent event.
    EventId,
    /// In the message.
    Path(JsonPath),
}

/// How a cursor is said to the server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Resume {
    /// As a parameter of the address.
    Query(String),
    /// As a header.
    Header(String),
}

#[derive(Deserialize)]
struct StreamsFile {
    #[serde(default)]
    streams: BTreeMap<String, toml::Table>,
    #[serde(default, rename = "sources")]
    _sources: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StreamEntry {
    url: OneOrMany,
    protocol: Option<Protocol>,
    mapping: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    send: Vec<String>,
    id: Option<OneOrMany>,
    cursor: Option<String>,
    resume: Option<Resume>,
    #[serde(default)]
    rewind: i64,
    #[serde(default)]
    switch_rewind: i64,
    #[serde(default)]
    inclusive: bool,
    events: Option<OneOrMany>,
    #[serde(default)]
    rules: Vec<Rule>,
    connect_timeout: Option<String>,
    headers_timeout: Option<String>,
    silence: Option<String>,
    quiet: Option<String>,
    least_pause: Option<String>,
    longest_pause: Option<String>,
    max_message_bytes: Option<usize>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn into_vec(self) -> Vec<String> {
        match self {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        }
    }
}

/// How a cursor is written that is the event's id.
const EVENT_ID: &str = "event id";
/// Where browsers say the id of the last event.
const LAST_EVENT_ID: &str = "Last-Event-ID";

impl Stream {
    /// Reads the stream `name` from `sources.toml` in `folder`.
    ///
    /// # Errors
    /// When the file cannot be read, or the stream is not there or not valid.
    pub fn load(folder: &Path, name: &str) -> Result<Stream, CollectError> {
        let (path, mut streams) = entries(folder)?;
        let invalid = |message: String| CollectError::Invalid(format!("{}: {message}", path.display()));
        let Some(entry) = streams.remove(name) else {
            let known: Vec<String> = streams.into_keys().collect();
            let known = if known.is_empty() { "there is none".into() } else { format!("there is {}", known.join(", ")) };
            return Err(invalid(format!("no stream is called {name:?}; {known}")));
        };
        entry_of(entry).and_then(|entry| entry.stream(name)).map_err(|message| invalid(format!("streams.{name}: {message}")))
    }

    /// The stream that `declaration` declares, with those of its keys replaced that `streams.NAME` of `sources.toml` in `folder` has.
    ///
    /// # Errors
    /// When the file cannot be read, or what comes of it is not valid.
    pub fn overridden(name: &str, declaration: &str, folder: &Path) -> Result<Stream, CollectError> {
        let (path, mut streams) = entries(folder)?;
        let invalid = |message: String| CollectError::Invalid(format!("{}: streams.{name}: {message}", path.display()));
        let mut table: toml::Table = toml::from_str(declaration).map_err(|error| invalid(error.to_string()))?;
        table.extend(streams.remove(name).unwrap_or_default());
        entry_of(table).and_then(|entry| entry.stream(name)).map_err(invalid)
    }

    /// Checks all streams of `sources.toml` in `folder`. `usual` has the declaration of those that are known by name.
    ///
    /// # Errors
    /// As [`Stream::load`], of the first one that is not valid.
    pub fn check_all(folder: &Path, usual: impl Fn(&str) -> Option<&'static str>) -> Result<(), CollectError> {
        let (_, streams) = entries(folder)?;
        streams.keys().try_for_each(|name| match usual(name) {
            Some(declaration) => Stream::overridden(name, declaration, folder).map(drop),
            None => Stream::load(folder, name).map(drop),
        })
    }

    /// A stream of which only the address is known.
    ///
    /// # Errors
    /// When the address is not valid for the protocol.
    pub fn of_url(protocol: Protocol, url: &str) -> Result<Stream, String> {
        let table = toml::Table::from_iter([("url".to_owned(), toml::Value::String(url.to_owned()))]);
        let mut entry = entry_of(table)?;
        entry.protocol = Some(protocol);
        entry.stream(url)
    }

    /// A stream as a text declares it.
    #[cfg(test)]
    pub fn of_toml(name: &str, text: &str) -> Result<Stream, String> {
        let entry: StreamEntry = toml::from_str(text).map_err(|error| error.to_string())?;
        entry.stream(name)
    }
}

fn entries(folder: &Path) -> Result<(std::path::PathBuf, BTreeMap<String, toml::Table>), CollectError> {
    let path = folder.join("sources.toml");
    let text = std::fs::read_to_string(&path).map_err(|error| CollectError::Read { name: path.display().to_string(), error })?;
    let file: StreamsFile = toml::from_str(&text).map_err(|error| CollectError::Invalid(format!("{}: {error}", path.display())))?;
    Ok((path, file.streams))
}

fn entry_of(table: toml::Table) -> Result<StreamEntry, String> {
    table.try_into().map_err(|error: toml::de::Error| error.to_string().trim_end().to_owned())
}

impl StreamEntry {
    fn stream(self, name: &str) -> Result<Stream, String> {
        let urls = self.url.into_vec();
        let first = urls.first().ok_or("url names no address")?;
        let protocol = match (self.protocol, first.split(':').next().unwrap_or_default()) {
            (Some(protocol), _) => protocol,
            (None, "ws" | "wss") => Protocol::Websocket,
            (None, _) => return Err("protocol is missing: write websocket, sse or lines".into()),
        };
        for url in &urls {
            check_url(url, protocol)?;
        }
        let (cursor, resume) = match (self.cursor, self.resume) {
            (None, None) if protocol == Protocol::Sse => (Some(CursorPath::EventId), Some(Resume::Header(LAST_EVENT_ID.into()))),
            (None, None) => (None, None),
            (Some(_), None) => return Err("a cursor is of use with resume: write { query = \"NAME\" } or { header = \"NAME\" }".into()),
            (None, Some(resume)) if protocol == Protocol::Sse => (Some(CursorPath::EventId), Some(resume)),
            (None, Some(_)) => return Err("resume needs a cursor: the path of what the server is to go on behind".into()),
            (Some(cursor), resume) if cursor == EVENT_ID && protocol == Protocol::Sse => (Some(CursorPath::EventId), resume),
            (Some(cursor), resume) => (Some(CursorPath::Path(JsonPath::of_text(&cursor))), resume),
        };
        let duration = |key: &str, text: Option<String>, usual_ms: u64| match text {
            None => Ok(Duration::from_millis(usual_ms)),
            Some(text) => parse_duration_us(&text)
                .and_then(|us| u64::try_from(us).ok().filter(|us| *us > 0))
                .map(Duration::from_micros)
                .ok_or_else(|| format!("{key}: {text:?} is not a duration; write for instance \"30 seconds\"")),
        };
        let limits = Limits {
            connect: duration("connect_timeout", self.connect_timeout, 10_000)?,
            headers: duration("headers_timeout", self.headers_timeout, 30_000)?,
            silence: duration("silence", self.silence, 60_000)?,
            quiet: self.quiet.map(|quiet| duration("quiet", Some(quiet), 0)).transpose()?,
            least_pause: duration("least_pause", self.least_pause, 1_000)?,
            longest_pause: duration("longest_pause", self.longest_pause, 60_000)?,
            max_message_bytes: self.max_message_bytes.unwrap_or(1 << 20),
        };
        Ok(Stream {
            name: name.to_owned(),
            urls,
            protocol,
            mapping: self.mapping,
            headers: self.headers.into_iter().collect(),
            greetings: self.send,
            id: self.id.map(OneOrMany::into_vec).unwrap_or_default().iter().map(|path| JsonPath::of_text(path)).collect(),
            cursor,
            resume,
            rewind: self.rewind,
            switch_rewind: self.switch_rewind,
            is_inclusive: self.inclusive,
            events: self.events.map(OneOrMany::into_vec).unwrap_or_default(),
            rules: self.rules,
            limits,
        })
    }
}

fn check_url(url: &str, protocol: Protocol) -> Result<(), String> {
    let schemes = match protocol {
        Protocol::Websocket => ["ws://", "wss://"],
        Protocol::Sse | Protocol::Lines => ["http://", "https://"],
    };
    match schemes.iter().any(|scheme| url.len() > scheme.len() && url.starts_with(scheme)) {
        true => Ok(()),
        // Not the whole of it: it may have a secret.
        false => Err(format!(
            "the address begins with {:?}; it is to begin with {}",
            url.chars().take(8).collect::<String>(),
            schemes.join(" or ")
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_stream_is_declared_by_little_or_by_all_its_keys() {
        let short = Stream::of_toml("s", "url = \"https://h/s\"\nprotocol = \"sse\"").unwrap();
        assert_eq!((short.cursor, short.resume), (Some(CursorPath::EventId), Some(Resume::Header("Last-Event-ID".into()))));
        let long = "url = [\"wss://a/s\", \"wss://b/s\"]\nid = [\"did\", \"rev\"]\ncursor = \"time_us\"\nresume = { query = \"cursor\" }\n\
                    switch_rewind = 5\ninclusive = true\nsilence = \"45 seconds\"\nmax_message_bytes = 9\nheaders = { A = \"${B}\" }";
        let long = Stream::of_toml("s", long).unwrap();
        assert_eq!((long.protocol, long.urls.len(), long.id.len()), (Protocol::Websocket, 2, 2));
        assert_eq!((long.limits.silence, long.limits.max_message_bytes), (Duration::from_secs(45), 9));
        assert_eq!(long.headers, [("A".to_owned(), "${B}".to_owned())]);
    }

    #[test]
    fn mistakes_are_named_with_the_way_out() {
        for (text, complaint) in [
            ("protocol = \"sse\"", "url"),
            ("url = \"https://h\"", "write websocket, sse or lines"),
            ("url = \"ftp://h\"\nprotocol = \"lines\"", "begin with http:// or https://"),
            ("url = \"https://h\"\nprotocol = \"websocket\"", "begin with ws:// or wss://"),
            ("url = \"ws://h\"\ncursor = \"a\"", "is of use with resume"),
            ("url = \"ws://h\"\nresume = { query = \"a\" }", "resume needs a cursor"),
            ("url = \"ws://h\"\nsilence = \"long\"", "silence: \"long\" is not a duration"),
            ("url = \"ws://h\"\ncurser = \"a\"", "curser"),
        ] {
            let error = Stream::of_toml("s", text).unwrap_err();
            assert!(error.contains(complaint), "{text}: {error}");
        }
    }
}
