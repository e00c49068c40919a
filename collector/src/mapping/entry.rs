//! A mapping as `sources.toml` has it, and what it means.

use std::collections::BTreeMap;

use chrono_tz::Tz;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::convert::{Cast, Conversions};
use super::hash::{Hash, HashKey};
use super::times::TimeFormat;
use super::{Condition, Mapping, Rule};
use crate::encode::{Encoder, Unit};
use crate::path::JsonPath;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MappingsFile {
    #[serde(default)]
    pub mappings: BTreeMap<String, MappingEntry>,
    #[serde(default, rename = "sources")]
    _sources: IgnoredAny,
    #[serde(default, rename = "streams")]
    _streams: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MappingEntry {
    pub source: String,
    #[serde(default)]
    ignore_unknown: bool,
    /// The list in a line that has an event in each item.
    each: Option<PathEntry>,
    /// What a line must have to be an event; others are left out, and counted.
    #[serde(default)]
    only: BTreeMap<String, OneOrMany<Value>>,
    /// What leaves a line out.
    #[serde(default)]
    skip: BTreeMap<String, OneOrMany<Value>>,
    /// The secret of hashes.
    hash_key: Option<String>,
    #[serde(default)]
    fields: BTreeMap<String, RuleEntry>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleEntry {
    from: Option<PathEntry>,
    first_of: Option<Vec<PathEntry>>,
    hash: Option<OneOrMany<String>>,
    unit: Option<Unit>,
    format: Option<OneOrMany<String>>,
    zone: Option<String>,
    #[serde(rename = "as")]
    cast: Option<Cast>,
    #[serde(default)]
    html_to_text: bool,
    default: Option<Value>,
    value: Option<Value>,
    line: Option<LineEntry>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a path is written such as \"a.b\", or as a list of keys such as [\"a\", \"b.c\"]")]
enum PathEntry {
    Dotted(String),
    Steps(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    Many(Vec<T>),
    One(T),
}

impl<T> OneOrMany<T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum LineEntry {
    Number,
    Hash,
    Received,
}

impl MappingEntry {
    /// The same mapping without its secret, which a check needs not have.
    ///
    /// # Errors
    /// When the secret is said in a way that is not valid.
    pub fn without_secret(self) -> Result<MappingEntry, String> {
        match self.hash_key.as_deref().map_or(Ok(()), HashKey::check) {
            Ok(()) => Ok(MappingEntry { hash_key: None, ..self }),
            Err(message) => Err(format!("hash_key: {message}")),
        }
    }

    /// The mapping for the source that `encoder` encodes; `Err` names the key, without that of the mapping.
    pub fn mapping(self, encoder: &Encoder) -> Result<Mapping, String> {
        let hash_key = self.hash_key.as_deref().map(HashKey::read).transpose().map_err(|message| format!("hash_key: {message}"))?;
        let mut rules = self.fields;
        let mut fields = Vec::new();
        for field in encoder.field_names() {
            let rule = match rules.remove(field) {
                Some(entry) => entry.rule(field, encoder, hash_key.as_ref()).map_err(|message| format!("fields.{field}: {message}"))?,
                None => Rule::own(field),
            };
            fields.push((field.to_string(), rule));
        }
        if let Some(field) = rules.into_keys().next() {
            let known = encoder.field_names().collect::<Vec<_>>().join(", ");
            return Err(format!("fields: the schema has no field {field:?}; it has {known}"));
        }
        let each = self.each.map(|each| each.path("each")).transpose()?;
        let conditions = |entries: BTreeMap<String, OneOrMany<Value>>| {
            entries.into_iter().map(|(path, values)| Condition { path: JsonPath::of_text(&path), values: values.into_vec() }).collect()
        };
        Ok(Mapping { fields, ignore_unknown: self.ignore_unknown, each, only: conditions(self.only), skip: conditions(self.skip) })
    }
}

impl PathEntry {
    fn path(self, key: &str) -> Result<JsonPath, String> {
        match self {
            PathEntry::Dotted(text) if text.is_empty() => Err(format!("{key} names no key")),
            PathEntry::Dotted(text) => Ok(JsonPath::of_text(&text)),
            PathEntry::Steps(steps) if steps.is_empty() => Err(format!("{key} names no key")),
            PathEntry::Steps(steps) => Ok(JsonPath::of_steps(steps)),
        }
    }
}

impl RuleEntry {
    fn rule(mut self, field: &str, encoder: &Encoder, key: Option<&HashKey>) -> Result<Rule, String> {
        let is_from = self.from.is_some() || self.first_of.is_some();
        let has_conversion =
            self.unit.is_some() || self.format.is_some() || self.zone.is_some() || self.cast.is_some() || self.html_to_text;
        if !is_from && (has_conversion || self.default.is_some()) {
            return Err("unit, format, zone, as, html_to_text and default go with from or first_of".into());
        }
        match (self.from.take(), self.first_of.take(), self.hash.take(), self.value.take(), self.line.take()) {
            (Some(from), None, None, None, None) => self.paths(vec![from.path("from")?], field, encoder),
            (None, Some(paths), None, None, None) => {
                if paths.is_empty() {
                    return Err("first_of names no path".into());
                }
                let paths = paths.into_iter().map(|path| path.path("first_of")).collect::<Result<_, _>>()?;
                self.paths(paths, field, encoder)
            }
            (None, None, Some(paths), None, None) => Hash::new(paths.into_vec(), encoder.is_text(field), key).map(Rule::Hash),
            (None, None, None, Some(value), None) => Ok(Rule::Constant(value)),
            (None, None, None, None, Some(LineEntry::Number)) => Ok(Rule::LineNumber),
            (None, None, None, None, Some(LineEntry::Hash)) => Ok(Rule::LineHash),
            (None, None, None, None, Some(LineEntry::Received)) => match encoder.time_unit(field) {
                Some(unit) => Ok(Rule::Received(unit)),
                None => Err("line = \"received\" is a time, and the schema has none here".into()),
            },
            _ => Err("write one of from, first_of, hash, value and line".into()),
        }
    }

    fn paths(self, paths: Vec<JsonPath>, field: &str, encoder: &Encoder) -> Result<Rule, String> {
        let target = encoder.time_unit(field);
        let what_is_for_times = if self.unit.is_some() { "a unit" } else { "a format" };
        if target.is_none() && (self.unit.is_some() || self.format.is_some()) {
            return Err(format!("{what_is_for_times} is for a time, and the schema has none here"));
        }
        if self.zone.is_some() && self.format.is_none() {
            return Err("zone goes with format".into());
        }
        let zone = self.zone.as_deref().map_or(Ok(Tz::UTC), |zone| {
            zone.parse().map_err(|_| format!("zone: {zone:?} is not a time zone; write for instance \"Europe/Berlin\""))
        })?;
        let letters = self.format.map(OneOrMany::into_vec).unwrap_or_default();
        let formats = letters.iter().map(|letters| TimeFormat::new(letters, zone)).collect::<Result<Vec<_>, _>>()?;
        let units = match (self.unit, target) {
            (Some(unit), Some(target)) => Some((unit, target)),
            // Numbers are in the schema's unit where none is said.
            (None, Some(target)) if !formats.is_empty() => Some((target, target)),
            _ => None,
        };
        let conversions = Conversions { html_to_text: self.html_to_text, cast: self.cast, formats, units };
        // What stands in for a value is in its unit.
        let default = self.default.map(|default| super::convert::convert(&default, units, "default")).transpose();
        Ok(Rule::Path { paths, conversions, default: default.map_err(|refused| refused.detail)? })
    }
}
