//! Mappings: how JSON of another shape becomes the fields of a source's record, declared in `sources.toml`.
//!
//! ```toml
//! [mappings.plain_posts]
//! source = "tweets"
//! ignore_unknown = true                             # false, the default: a field that nothing reads is refused
//! only = { kind = "commit" }                        # other lines are left out, and counted; so are those of skip
//! each = "data"                                     # a line holds a list of events
//!
//! [mappings.plain_posts.fields]                     # the other fields are read under their own name
//! timestamp = { from = "time_us", unit = "us" }     # a path, and the unit of the number there
//! tweet     = { from = "payload.texts.0", default = "" }
//! level     = { from = ["log.level"] }              # a path step by step: a key that has a dot in it
//! text      = { first_of = ["note.text", "text"] }  # the first path that leads to something
//! tags      = { from = "tags.*.name" }              # what each item of a list has
//! at        = { from = "when", format = "dd/MMM/yyyy:HH:mm:ss Z" }
//! username  = { value = "unknown" }
//! userid    = { hash = ["did", "rkey"] }            # a digest of these
//! tweetid   = { line = "number" }                   # or "hash", or "received"
//! ```

mod convert;
mod entry;
mod hash;
mod html;
mod times;

use std::path::Path;

use serde_json::{Map, Value};

use crate::CollectError;
use crate::encode::{Encoder, Unit};
use crate::event_source::{BadReason, Refused};
use crate::path::JsonPath;
use convert::Conversions;
use entry::MappingsFile;
use hash::Hash;
pub(crate) use hash::bytes_at;

/// A mapping, checked against the source that it is for.
#[derive(Clone, Debug)]
pub struct Mapping {
    fields: Vec<(String, Rule)>,
    ignore_unknown: bool,
    each: Option<JsonPath>,
    only: Vec<Condition>,
    skip: Vec<Condition>,
}

#[derive(Clone, Debug)]
enum Rule {
    Path { paths: Vec<JsonPath>, conversions: Conversions, default: Option<Value> },
    Hash(Hash),
    Constant(Value),
    LineNumber,
    LineHash,
    Received(Unit),
}

/// That the value at a path is one of these.
#[derive(Clone, Debug)]
struct Condition {
    path: JsonPath,
    values: Vec<Value>,
}

/// A line, as far as a mapping looks at it.
#[derive(Clone, Copy, Debug)]
pub struct LineFacts<'l> {
    /// Its bytes.
    pub text: &'l [u8],
    /// Its number, from 1.
    pub number: u64,
    /// When it was received, milliseconds since the Unix epoch; `None`: nobody noted that.
    pub received_ms: Option<i64>,
}

/// What a mapping makes of a line.
#[derive(Clone, Debug, PartialEq)]
pub enum Mapped {
    /// The object of the record's own fields, for each event of the line.
    Events(Vec<Result<Value, Refused>>),
    /// The line is none of this source, and why.
    LeftOut(String),
}

impl Condition {
    fn holds(&self, json: &Value) -> bool {
        let found = self.path.find_in(json);
        let found = found.as_deref().unwrap_or(&Value::Null);
        self.values.iter().any(|value| value == found)
    }

    fn says(&self) -> String {
        let values: Vec<String> = self.values.iter().map(Value::to_string).collect();
        format!("{} = {}", self.path.text(), values.join(" or "))
    }
}

impl Mapping {
    /// Reads the mapping `name` from `sources.toml` in `folder`, for the source that `encoder` encodes.
    ///
    /// # Errors
    /// When the file cannot be read, or the mapping is not there, is for another source, or does not fit its schema.
    pub fn load(folder: &Path, name: &str, encoder: &Encoder) -> Result<Mapping, CollectError> {
        let (path, text) = read(folder)?;
        Mapping::from_toml(&text, name, encoder).map_err(|message| CollectError::Invalid(format!("{}: {message}", path.display())))
    }

    /// Whether `sources.toml` in `folder` has a mapping `name` for the source that `encoder` encodes.
    ///
    /// # Errors
    /// When the file cannot be read, or is not valid.
    pub fn is_declared(folder: &Path, name: &str, encoder: &Encoder) -> Result<bool, CollectError> {
        let (path, text) = read(folder)?;
        let file: MappingsFile = toml::from_str(&text).map_err(|error| CollectError::Invalid(format!("{}: {error}", path.display())))?;
        Ok(file.mappings.get(name).is_some_and(|entry| entry.source == encoder.source()))
    }

    /// Checks all mappings of `sources.toml` in `folder`, for the sources that these encoders encode.
    ///
    /// # Errors
    /// As [`Mapping::load`], of the first one that is not valid.
    pub fn check_all(folder: &Path, encoders: &[Encoder]) -> Result<(), CollectError> {
        let (path, text) = read(folder)?;
        let invalid = |message: String| CollectError::Invalid(format!("{}: {message}", path.display()));
        let file: MappingsFile = toml::from_str(&text).map_err(|error| invalid(error.to_string()))?;
        for (name, entry) in file.mappings {
            let encoder = encoders.iter().find(|encoder| encoder.source() == entry.source);
            let encoder =
                encoder.ok_or_else(|| invalid(format!("mappings.{name} is for source {}, which is not declared", entry.source)))?;
            let checked = entry.without_secret().and_then(|entry| entry.mapping(encoder));
            checked.map_err(|message| invalid(format!("mappings.{name}.{message}")))?;
        }
        Ok(())
    }

    pub(crate) fn from_toml(text: &str, name: &str, encoder: &Encoder) -> Result<Mapping, String> {
        let mut file: MappingsFile = toml::from_str(text).map_err(|error| error.to_string())?;
        let Some(entry) = file.mappings.remove(name) else {
            let known: Vec<String> = file.mappings.into_keys().collect();
            let known = if known.is_empty() { "there is none".into() } else { format!("there is {}", known.join(", ")) };
            return Err(format!("no mapping is called {name:?}; {known}"));
        };
        if entry.source != encoder.source() {
            return Err(format!("mappings.{name} is for source {}, not {}", entry.source, encoder.source()));
        }
        entry.mapping(encoder).map_err(|message| format!("mappings.{name}.{message}"))
    }

    /// Whether it needs the time when a line was received.
    pub fn needs_receipt(&self) -> bool {
        self.fields.iter().any(|(_, rule)| matches!(rule, Rule::Received(_)))
    }

    /// The events of one line, `json` as it was read from its text.
    ///
    /// # Errors
    /// When the line is not an object, or has no list where there is to be one.
    pub fn map(&self, json: &Value, line: LineFacts<'_>) -> Result<Mapped, Refused> {
        if !json.is_object() {
            return Err(Refused::new(BadReason::NotAnObject, "a line is an object"));
        }
        if let Some(condition) = self.only.iter().find(|condition| !condition.holds(json)) {
            return Ok(Mapped::LeftOut(format!("not {}", condition.says())));
        }
        if let Some(condition) = self.skip.iter().find(|condition| condition.holds(json)) {
            return Ok(Mapped::LeftOut(condition.says()));
        }
        let Some(each) = &self.each else {
            return Ok(Mapped::Events(vec![self.event(json, line)]));
        };
        match each.find_in(json).as_deref() {
            Some(Value::Array(items)) => Ok(Mapped::Events(items.iter().map(|item| self.event(item, line)).collect())),
            Some(Value::Null) | None => Err(Refused::new(BadReason::MissingField, format!("there is no list {} (each)", each.text()))),
            Some(other) => Err(Refused::new(BadReason::WrongType, format!("at {}: expected a list (each), found {other}", each.text()))),
        }
    }

    /// The event of a line that is to be exactly one.
    ///
    /// # Errors
    /// As [`map`](Mapping::map), and when the line is left out or has another number of events.
    pub fn apply(&self, json: &Value, line: LineFacts<'_>) -> Result<Value, Refused> {
        match self.map(json, line)? {
            Mapped::LeftOut(why) => Err(Refused::new(BadReason::WrongType, format!("the mapping leaves it out: {why}"))),
            Mapped::Events(mut events) => match (events.len(), events.pop()) {
                (1, Some(event)) => event,
                (count, _) => Err(Refused::new(BadReason::WrongType, format!("it has {count} events, and one is wanted"))),
            },
        }
    }

    /// The object of the record's own fields.
    fn event(&self, json: &Value, line: LineFacts<'_>) -> Result<Value, Refused> {
        let Some(object) = json.as_object() else {
            return Err(Refused::new(BadReason::NotAnObject, "an event is an object"));
        };
        if !self.ignore_unknown
            && let Some(unread) = object.keys().find(|key| !self.reads(key))
        {
            return Err(Refused::new(BadReason::UnknownField, format!("the mapping reads no field {unread:?} (see ignore_unknown)")));
        }
        let mut event = Map::with_capacity(self.fields.len());
        for (field, rule) in &self.fields {
            if let Some(value) = rule.value(field, json, line)? {
                event.insert(field.clone(), value);
            }
        }
        Ok(Value::Object(event))
    }

    fn reads(&self, key: &str) -> bool {
        let conditions = self.only.iter().chain(&self.skip).any(|condition| condition.path.begins_with(key));
        conditions || self.fields.iter().any(|(_, rule)| rule.paths().iter().any(|path| path.begins_with(key)))
    }
}

impl Rule {
    /// A field that is read under its own name.
    fn own(field: &str) -> Rule {
        Rule::Path { paths: vec![JsonPath::of_steps(vec![field.to_owned()])], conversions: Conversions::default(), default: None }
    }

    fn paths(&self) -> &[JsonPath] {
        match self {
            Rule::Path { paths, .. } => paths,
            Rule::Hash(hash) => hash.paths(),
            Rule::Constant(_) | Rule::LineNumber | Rule::LineHash | Rule::Received(_) => &[],
        }
    }

    fn value(&self, field: &str, json: &Value, line: LineFacts<'_>) -> Result<Option<Value>, Refused> {
        Ok(match self {
            Rule::Constant(value) => Some(value.clone()),
            Rule::LineNumber => Some(Value::from(line.number)),
            // Ids are signed; the digest keeps to the positive ones.
            Rule::LineHash => Some(Value::from(xxhash_rust::xxh3::xxh3_64(line.text) >> 1)),
            Rule::Received(unit) => line.received_ms.and_then(|received| Unit::Ms.convert(received, *unit)).map(Value::from),
            Rule::Hash(hash) => hash.of(json),
            Rule::Path { paths, conversions, default } => {
                let found: Vec<_> = paths.iter().filter_map(|path| path.find_in(json)).collect();
                let value = found.iter().find(|value| !value.is_null());
                match (value, default) {
                    (Some(value), _) => Some(conversions.apply(value, field)?),
                    (None, Some(default)) => Some(default.clone()),
                    // What leads to null is null, and not missing.
                    (None, None) => found.first().map(|_| Value::Null),
                }
            }
        })
    }
}

/// Whether a text is a time of this format.
pub(crate) fn reads_as(format: &str, text: &str) -> bool {
    times::TimeFormat::new(format, chrono_tz::Tz::UTC).is_ok_and(|format| format.read(text, Unit::Ms).is_some())
}

fn read(folder: &Path) -> Result<(std::path::PathBuf, String), CollectError> {
    let path = folder.join("sources.toml");
    let text = std::fs::read_to_string(&path).map_err(|error| CollectError::Read { name: path.display().to_string(), error })?;
    Ok((path, text))
}

#[cfg(test)]
mod tests;
