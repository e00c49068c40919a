//! Mappings: how JSON of another shape becomes the fields of a source's record, declared in `sources.toml`.
//!
//! ```toml
//! [mappings.plain_posts]
//! source = "tweets"
//! ignore_unknown = true                             # false, the default: a field that nothing reads is refused
//!
//! [mappings.plain_posts.fields]                     # the other fields are read under their own name
//! timestamp = { from = "time_us", unit = "us" }     # a path, and the unit of the number there
//! tweet     = { from = "payload.texts.0", default = "" }
//! level     = { from = ["log.level"] }              # a path step by step: a key that has a dot in it
//! username  = { value = "unknown" }
//! tweetid   = { line = "number" }                   # or "hash"
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Number, Value};

use crate::CollectError;
use crate::encode::{Encoder, Unit};
use crate::event_source::{BadReason, Refused};

/// A mapping, checked against the source that it is for.
#[derive(Clone, Debug)]
pub struct Mapping {
    fields: Vec<(String, Rule)>,
    ignore_unknown: bool,
}

#[derive(Clone, Debug)]
enum Rule {
    Path { path: JsonPath, units: Option<(Unit, Unit)>, default: Option<Value> },
    Constant(Value),
    LineNumber,
    LineHash,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MappingsFile {
    #[serde(default)]
    mappings: BTreeMap<String, MappingEntry>,
    #[serde(default, rename = "sources")]
    _sources: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MappingEntry {
    source: String,
    #[serde(default)]
    ignore_unknown: bool,
    fields: BTreeMap<String, RuleEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleEntry {
    from: Option<PathEntry>,
    unit: Option<Unit>,
    default: Option<Value>,
    value: Option<Value>,
    line: Option<LineEntry>,
}

/// Where in a line a value is.
#[derive(Clone, Debug)]
struct JsonPath {
    /// For each step the keys that it may be: the shortest first, each next one takes another step with it.
    keys: Vec<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "from is a path such as \"a.b\", or a list of keys such as [\"a\", \"b.c\"]")]
enum PathEntry {
    Dotted(String),
    Steps(Vec<String>),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum LineEntry {
    Number,
    Hash,
}

impl Mapping {
    /// Reads the mapping `name` from `sources.toml` in `folder`, for the source that `encoder` encodes.
    ///
    /// # Errors
    /// When the file cannot be read, or the mapping is not there, is for another source, or does not fit its schema.
    pub fn load(folder: &Path, name: &str, encoder: &Encoder) -> Result<Mapping, CollectError> {
        let path = folder.join("sources.toml");
        let text = std::fs::read_to_string(&path).map_err(|error| CollectError::Read { name: path.display().to_string(), error })?;
        Mapping::from_toml(&text, name, encoder).map_err(|message| CollectError::Invalid(format!("{}: {message}", path.display())))
    }

    /// Checks all mappings of `sources.toml` in `folder`, for the sources that these encoders encode.
    ///
    /// # Errors
    /// As [`Mapping::load`], of the first one that is not valid.
    pub fn check_all(folder: &Path, encoders: &[Encoder]) -> Result<(), CollectError> {
        let path = folder.join("sources.toml");
        let text = std::fs::read_to_string(&path).map_err(|error| CollectError::Read { name: path.display().to_string(), error })?;
        let invalid = |message: String| CollectError::Invalid(format!("{}: {message}", path.display()));
        let file: MappingsFile = toml::from_str(&text).map_err(|error| invalid(error.to_string()))?;
        for (name, entry) in &file.mappings {
            let encoder = encoders.iter().find(|encoder| encoder.source() == entry.source);
            let encoder =
                encoder.ok_or_else(|| invalid(format!("mappings.{name} is for source {}, which is not declared", entry.source)))?;
            Mapping::from_toml(&text, name, encoder).map_err(invalid)?;
        }
        Ok(())
    }

    fn from_toml(text: &str, name: &str, encoder: &Encoder) -> Result<Mapping, String> {
        let mut file: MappingsFile = toml::from_str(text).map_err(|error| error.to_string())?;
        let Some(entry) = file.mappings.remove(name) else {
            let known: Vec<String> = file.mappings.into_keys().collect();
            let known = if known.is_empty() { "there is none".into() } else { format!("there is {}", known.join(", ")) };
            return Err(format!("no mapping is called {name:?}; {known}"));
        };
        if entry.source != encoder.source() {
            return Err(format!("mappings.{name} is for source {}, not {}", entry.source, encoder.source()));
        }
        let mut rules = entry.fields;
        let mut fields = Vec::new();
        for field in encoder.field_names() {
            let rule = match rules.remove(field) {
                Some(entry) => entry.rule(field, encoder).map_err(|message| format!("mappings.{name}.fields.{field}: {message}"))?,
                None => Rule::Path { path: JsonPath::of_steps(vec![field.to_string()]), units: None, default: None },
            };
            fields.push((field.to_string(), rule));
        }
        if let Some(field) = rules.into_keys().next() {
            let known = encoder.field_names().collect::<Vec<_>>().join(", ");
            return Err(format!("mappings.{name}.fields: the schema has no field {field:?}; it has {known}"));
        }
        Ok(Mapping { fields, ignore_unknown: entry.ignore_unknown })
    }

    /// The object of the record's own fields for one line: `json` as it was read from `text`, line `number` from 1.
    ///
    /// # Errors
    /// When the line is not an object, has a field that nothing reads, or a time that the schema's unit cannot hold.
    pub fn apply(&self, json: &Value, text: &[u8], number: u64) -> Result<Value, Refused> {
        let Some(object) = json.as_object() else {
            return Err(Refused::new(BadReason::NotAnObject, "a line is an object"));
        };
        if !self.ignore_unknown
            && let Some(unread) = object.keys().find(|key| !self.reads(key))
        {
            return Err(Refused::new(BadReason::UnknownField, format!("the mapping reads no field {unread:?} (see ignore_unknown)")));
        }
        let mut event = Map::with_capacity(self.fields.len());
        for (field, rule) in &self.fields {
            let value = match rule {
                Rule::Constant(value) => Some(value.clone()),
                Rule::LineNumber => Some(Value::from(number)),
                // Ids are signed; the digest keeps to the positive ones.
                Rule::LineHash => Some(Value::from(xxhash_rust::xxh3::xxh3_64(text) >> 1)),
                Rule::Path { path, units, default } => match (path.walk(json), default) {
                    (None, default) => default.clone(),
                    (Some(Value::Null), Some(default)) => Some(default.clone()),
                    (Some(value), _) => Some(convert(value, *units, field)?),
                },
            };
            if let Some(value) = value {
                event.insert(field.clone(), value);
            }
        }
        Ok(Value::Object(event))
    }

    fn reads(&self, key: &str) -> bool {
        self.fields.iter().any(|(_, rule)| matches!(rule, Rule::Path { path, .. } if path.begins_with(key)))
    }
}

impl RuleEntry {
    fn rule(self, field: &str, encoder: &Encoder) -> Result<Rule, String> {
        if self.from.is_none() && (self.unit.is_some() || self.default.is_some()) {
            return Err("unit and default go with from".into());
        }
        match (self.from, self.value, self.line) {
            (Some(from), None, None) => {
                let units = match (self.unit, encoder.time_unit(field)) {
                    (None, _) => None,
                    (Some(unit), Some(target)) => Some((unit, target)),
                    (Some(_), None) => return Err("a unit is for a time, and the schema has none here".into()),
                };
                let path = match from {
                    PathEntry::Dotted(text) => JsonPath::of_text(&text),
                    PathEntry::Steps(steps) if steps.is_empty() => return Err("from names no key".into()),
                    PathEntry::Steps(steps) => JsonPath::of_steps(steps),
                };
                // What stands in for a value is in its unit.
                let default = self.default.map(|default| convert(&default, units, "default")).transpose();
                Ok(Rule::Path { path, units, default: default.map_err(|refused| refused.detail)? })
            }
            (None, Some(value), None) => Ok(Rule::Constant(value)),
            (None, None, Some(LineEntry::Number)) => Ok(Rule::LineNumber),
            (None, None, Some(LineEntry::Hash)) => Ok(Rule::LineHash),
            _ => Err("write one of from, value and line".into()),
        }
    }
}

impl JsonPath {
    /// A path as it is written in one text. Dots are between its steps, but a key may have some too: `log.level` is `level` in the object `log`, or
    /// else the key `log.level`.
    fn of_text(text: &str) -> JsonPath {
        let steps: Vec<&str> = text.split('.').collect();
        let keys = |from: usize| (from + 1..=steps.len()).filter_map(|to| steps.get(from..to)).map(|keys| keys.join(".")).collect();
        JsonPath { keys: (0..steps.len()).map(keys).collect() }
    }

    /// A path whose steps are these keys, dots and all.
    fn of_steps(steps: Vec<String>) -> JsonPath {
        JsonPath { keys: steps.into_iter().map(|key| vec![key]).collect() }
    }

    fn walk<'j>(&self, json: &'j Value) -> Option<&'j Value> {
        walk(json, &self.keys)
    }

    /// Whether it may lead through this key of a line.
    fn begins_with(&self, key: &str) -> bool {
        self.keys.first().is_some_and(|keys| keys.iter().any(|known| known == key))
    }
}

fn walk<'j>(json: &'j Value, path: &[Vec<String>]) -> Option<&'j Value> {
    let Some((keys, rest)) = path.split_first() else { return Some(json) };
    match json {
        Value::Array(items) => walk(items.get(keys.first()?.parse::<usize>().ok()?)?, rest),
        Value::Object(members) => keys.iter().enumerate().find_map(|(more, key)| walk(members.get(key)?, rest.get(more..)?)),
        _ => None,
    }
}

/// A time's number, as a number or as text, changes its unit. Other text says its time in full, and NULL is none; nothing else is a time.
fn convert(value: &Value, units: Option<(Unit, Unit)>, field: &str) -> Result<Value, Refused> {
    let Some((from, to)) = units else { return Ok(value.clone()) };
    let converted = match value {
        Value::Number(number) if number.is_i64() => number.as_i64().map(|time| from.convert(time, to)),
        Value::Number(number) => {
            let digits = number.to_string();
            if is_rounded(number, &digits, from.ratio(to)) {
                let message = format!("at {field}: {digits} has more digits than a JSON number keeps; write it as text");
                return Err(Refused::new(BadReason::OutOfRange, message));
            }
            Some(from.convert_text(&digits, to).flatten())
        }
        Value::String(text) => from.convert_text(text, to),
        Value::Null => None,
        _ => return Err(Refused::new(BadReason::WrongType, format!("at {field}: expected a time, as a number or as text, found {value}"))),
    };
    match converted {
        None => Ok(value.clone()),
        Some(Some(time)) => Ok(time.into()),
        Some(None) => Err(Refused::new(BadReason::OutOfRange, format!("at {field}: {value} is too large for the schema's unit"))),
    }
}

/// Whether a JSON number may have been rounded, when it was read, by one of the unit that it is wanted in: it is a double of more digits than every double
/// keeps, and its neighbours are further away than that.
fn is_rounded(number: &Number, digits: &str, ratio: f64) -> bool {
    const KEPT_DIGITS: usize = 15;
    let mantissa = digits.split(['e', 'E']).next().unwrap_or_default();
    let count = mantissa.trim_end_matches('0').bytes().filter(u8::is_ascii_digit).count();
    let to_neighbour = number.as_f64().unwrap_or_default().abs() * f64::EPSILON;
    number.is_f64() && count > KEPT_DIGITS && to_neighbour * ratio > 1.0
}

#[cfg(test)]
mod tests;
