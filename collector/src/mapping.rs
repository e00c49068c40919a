//! Mappings: how JSON of another shape becomes the fields of a source's record, declared in `sources.toml`.
//!
//! ```toml
//! [mappings.plain_posts]
//! source = "tweets"
//! ignore_unknown = true                             # false, the default: a field that nothing reads is refused
//!
//! [mappings.plain_posts.fields]                     # the other fields are read under their own name
//! timestamp = { from = "time_us", unit = "us" }     # a path, and the unit of the integer there
//! tweet     = { from = "payload.texts.0", default = "" }
//! username  = { value = "unknown" }
//! tweetid   = { line = "number" }                   # or "hash"
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

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
    Path { path: Vec<String>, units: Option<(Unit, Unit)>, default: Option<Value> },
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
    from: Option<String>,
    unit: Option<Unit>,
    default: Option<Value>,
    value: Option<Value>,
    line: Option<LineEntry>,
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
                None => Rule::Path { path: vec![field.to_string()], units: None, default: None },
            };
            fields.push((field.to_string(), rule));
        }
        if let Some(field) = rules.into_keys().next() {
            let known = encoder.field_names().collect::<Vec<_>>().join(", ");
            return Err(format!("mappings.{name}.fields: the schema has no field {field:?}; it has {known}"));
        }
        Ok(Mapping { fields, ignore_unknown: entry.ignore_unknown })
    }

    /// The object of the record's own fields for one line.
    ///
    /// # Errors
    /// When the line is not an object, has a field that nothing reads, or a time that the schema's unit cannot hold.
    pub(crate) fn apply(&self, json: &Value, text: &[u8], number: u64) -> Result<Value, Refused> {
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
                Rule::Path { path, units, default } => match (walk(json, path), default) {
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
        self.fields.iter().any(|(_, rule)| matches!(rule, Rule::Path { path, .. } if path.first().is_some_and(|first| first == key)))
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
                Ok(Rule::Path { path: from.split('.').map(str::to_string).collect(), units, default: self.default })
            }
            (None, Some(value), None) => Ok(Rule::Constant(value)),
            (None, None, Some(LineEntry::Number)) => Ok(Rule::LineNumber),
            (None, None, Some(LineEntry::Hash)) => Ok(Rule::LineHash),
            _ => Err("write one of from, value and line".into()),
        }
    }
}

fn walk<'j>(json: &'j Value, path: &[String]) -> Option<&'j Value> {
    path.iter().try_fold(json, |json, step| match json {
        Value::Array(items) => items.get(step.parse::<usize>().ok()?),
        _ => json.get(step),
    })
}

/// Integers change their unit; text, which says its time in full, stays.
fn convert(value: &Value, units: Option<(Unit, Unit)>, field: &str) -> Result<Value, Refused> {
    let Some((from, to)) = units else { return Ok(value.clone()) };
    let integer = value.as_i64().or_else(|| value.as_str()?.parse().ok());
    match integer {
        None => Ok(value.clone()),
        Some(time) => from
            .convert(time, to)
            .map(Value::from)
            .ok_or_else(|| Refused::new(BadReason::OutOfRange, format!("at {field}: {time} is too large for the schema's unit"))),
    }
}

#[cfg(test)]
mod tests;
