//! One event of a case: its fields, or the bytes of a record that is none; and where and when the log took it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::values::{object, time_ms};

/// A record of a case.
#[derive(Clone, Debug, PartialEq)]
pub struct DeclaredEvent {
    /// Where it is declared.
    pub line: usize,
    /// What it is.
    pub content: Content,
    /// How many bytes are missing at its end.
    pub cut_bytes: usize,
    /// The partition; `None`: where its key sends it.
    pub partition: Option<u32>,
    /// The key; `None`: what the source says.
    pub key: Option<String>,
    /// When the log took it, milliseconds since the Unix epoch.
    pub record_time_ms: Option<i64>,
}

/// What a record holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// An event, by the fields of the source's record.
    Event(Value),
    /// These bytes, framing and all.
    Raw(Vec<u8>),
}

/// A table with one of these is a record that says more than its event.
const CONTENTS: [&str; 3] = ["event", "raw", "base64"];
const KEYS: [&str; 7] = ["event", "raw", "base64", "cut_bytes", "partition", "key", "record_time"];

/// Reads an event: the JSON text of one, a table of its fields, or a table that holds it as `event` and says more. The latter two get `defaults`.
pub fn event(declared: &toml::Value, line: usize, defaults: &Map<String, Value>) -> Result<DeclaredEvent, String> {
    let plain = |fields: Map<String, Value>| DeclaredEvent {
        line,
        content: Content::Event(with_defaults(fields, defaults)),
        cut_bytes: 0,
        partition: None,
        key: None,
        record_time_ms: None,
    };
    let Some(table) = declared.as_table().filter(|table| CONTENTS.iter().any(|content| table.contains_key(*content))) else {
        return object(declared).map(plain);
    };
    if let Some(unknown) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(format!("{unknown} is not known beside {}; known are {}", CONTENTS.join(", "), KEYS.join(", ")));
    }
    let content = match (table.get("event"), table.get("raw"), table.get("base64")) {
        (Some(event), None, None) => Content::Event(with_defaults(object(event).map_err(|why| format!("event: {why}"))?, defaults)),
        (None, Some(raw), None) => Content::Raw(text("raw", raw)?.as_bytes().to_vec()),
        (None, None, Some(base64)) => Content::Raw(STANDARD.decode(text("base64", base64)?).map_err(|error| format!("base64: {error}"))?),
        _ => return Err(format!("write one of {}", CONTENTS.join(", "))),
    };
    let record_time = match table.get("record_time") {
        Some(toml::Value::Datetime(time)) => Some(time.to_string()),
        Some(other) => Some(text("record_time", other)?.to_owned()),
        None => None,
    };
    Ok(DeclaredEvent {
        line,
        content,
        cut_bytes: number("cut_bytes", table.get("cut_bytes"))?.unwrap_or(0) as usize,
        partition: number("partition", table.get("partition"))?,
        key: table.get("key").map(|key| text("key", key).map(str::to_owned)).transpose()?,
        record_time_ms: record_time.map(|time| time_ms(&time).map_err(|why| format!("record_time: {why}"))).transpose()?,
    })
}

fn with_defaults(mut fields: Map<String, Value>, defaults: &Map<String, Value>) -> Value {
    for (name, value) in defaults {
        fields.entry(name.clone()).or_insert_with(|| value.clone());
    }
    Value::Object(fields)
}

fn text<'v>(name: &str, value: &'v toml::Value) -> Result<&'v str, String> {
    value.as_str().ok_or_else(|| format!("{name} is text, found {value}"))
}

fn number(name: &str, value: Option<&toml::Value>) -> Result<Option<u32>, String> {
    let number = |value: &toml::Value| value.as_integer().and_then(|number| u32::try_from(number).ok());
    value.map(|value| number(value).ok_or_else(|| format!("{name} is a whole number from 0, found {value}"))).transpose()
}
