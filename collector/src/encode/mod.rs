//! JSON objects → record bytes, by the schema of a declared source.
//!
//! An object names the record's own fields. Times are integers in the schema's unit or RFC 3339 text, local ones without an offset; 64-bit integers are numbers or
//! text; bytes are base64; decimals are numbers or text; enums are their symbols. A field that is nullable, or that has a default, may be left out. A
//! field that the schema does not have is refused, because it is more often a misspelling than a surplus.
//!
//! The schema is compiled once, and values are written straight into the record: about twenty times faster than through a tree of Avro values.

mod key;
mod plan;
#[cfg(test)]
mod tests;
mod value;

use bytes::Bytes;
use refold_processor::decode::rabin_fingerprint;
use refold_processor::log::NewRecord;
use refold_processor::source::{Framing, Source};
use serde_json::Value;

use crate::CollectError;
use crate::event_source::{BadLine, BadReason, Refused};
use crate::input;
use crate::lines::{Line, Lines};
use key::Key;
use plan::{Node, Plan};
pub use refold_processor::text::time::Unit;
pub(crate) use refold_processor::text::{decimal, time};
use value::Writer;
pub(crate) use value::{write_bytes, write_long};

/// Encodes events of one source.
#[derive(Clone, Debug)]
pub struct Encoder {
    source: String,
    plan: Plan,
    framing: Framing,
    header: Vec<u8>,
    /// The field whose value decides the partition, by index.
    key: Option<(usize, Key)>,
    /// The field of the event time, and the unit of its integers.
    event_time: Option<(String, Unit)>,
    lateness_ms: u64,
    max_record_bytes: usize,
    ignore_unknown: bool,
}

impl Encoder {
    /// An encoder for `source`. `schema_id` is the id under which readers find the schema; only the Confluent framing has one.
    ///
    /// # Errors
    /// When the schema is not valid or has a type that cannot be written, the key is not a field that can be one, or the id is missing.
    pub fn new(source: &Source, schema_id: Option<u32>) -> Result<Encoder, CollectError> {
        let invalid = |message: String| CollectError::Invalid(format!("source {}: {message}", source.name));
        let in_schema = |message: String| invalid(format!("schema {}: {message}", source.schema_name));
        let plan = Plan::new(&source.schema_json).map_err(in_schema)?;
        let header = match source.framing {
            Framing::Confluent => {
                let id = schema_id.ok_or_else(|| invalid("its framing, confluent, needs the id of the schema".into()))?;
                let mut header = vec![0];
                header.extend_from_slice(&id.to_be_bytes());
                header
            }
            Framing::SingleObject => {
                let fingerprint = rabin_fingerprint(&source.schema_json).map_err(|error| in_schema(error.to_string()))?;
                let mut header = vec![0xC3, 0x01];
                header.extend_from_slice(&fingerprint.to_le_bytes());
                header
            }
            Framing::Bare | Framing::Json | Framing::JsonSchema => Vec::new(),
        };
        let key = match &source.key {
            Some(name) => {
                let position = plan.fields().iter().position(|field| field.name == *name);
                let index = position.ok_or_else(|| invalid(format!("its key, {name}, is not a field of schema {}", source.schema_name)))?;
                let node = plan.fields().get(index).map_or(&Node::Null, |field| &field.node);
                let key = Key::new(node).ok_or_else(|| {
                    invalid(format!(
                        "its key, {name}, must be an integer, a time, text, an enum or a boolean for partitions to be told by it"
                    ))
                })?;
                Some((index, key))
            }
            None => None,
        };
        let event_time = plan.time_unit(&source.event_time).map(|unit| {
            // Numbers of JSON records stay as they are, in the unit that the source declares.
            (source.event_time.clone(), source.event_time_unit.unwrap_or(unit))
        });
        Ok(Encoder {
            source: source.name.clone(),
            plan,
            framing: source.framing,
            header,
            key,
            event_time,
            lateness_ms: u64::try_from(source.lateness_us / 1_000).unwrap_or_default(),
            max_record_bytes: source.max_record_bytes,
            ignore_unknown: false,
        })
    }

    /// The same encoder, which skips fields that the schema does not have instead of refusing the object.
    pub fn ignoring_unknown_fields(mut self) -> Encoder {
        self.ignore_unknown = true;
        self
    }

    /// The name of the source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Encodes one object.
    ///
    /// # Errors
    /// When the object does not fit the schema: at which field, and why.
    pub fn encode(&self, json: &Value) -> Result<NewRecord, Refused> {
        let Some(object) = json.as_object() else {
            return Err(Refused::new(BadReason::NotAnObject, "an event is an object of the record's fields"));
        };
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&self.header);
        let mut key_at = 0;
        let key_field = self.key.as_ref().map(|(index, _)| *index);
        let event = self.plan.records.first().ok_or_else(|| Refused::new(BadReason::WrongType, "the schema has no record"))?;
        let note_key = |index, at| {
            if Some(index) == key_field {
                key_at = at;
            }
        };
        let writer = Writer { records: &self.plan.records, ignore_unknown: self.ignore_unknown };
        writer.write_record(event, object, 0, note_key, &mut bytes)?;
        let key = self.key.as_ref().and_then(|(_, key)| key.text(bytes.get(key_at..)?));
        let value = self.value(json, bytes)?;
        self.check_size(value.len())?;
        Ok(NewRecord { key: key.map(Bytes::from), value: Bytes::from(value) })
    }

    /// The value of a record of an object that fits the schema; `avro`: its Avro encoding.
    fn value(&self, json: &Value, avro: Vec<u8>) -> Result<Vec<u8>, Refused> {
        match self.framing {
            Framing::Confluent | Framing::SingleObject | Framing::Bare => Ok(avro),
            Framing::Json => Ok(json.to_string().into_bytes()),
            Framing::JsonSchema => {
                let detail = format!("records of source {} have the id of a JSON Schema, which only its own writers know", self.source);
                Err(Refused::new(BadReason::WrongType, detail))
            }
        }
    }

    /// Encodes one JSON text.
    ///
    /// # Errors
    /// When it is not JSON, or as [`Encoder::encode`].
    pub fn encode_text(&self, text: &[u8]) -> Result<NewRecord, Refused> {
        self.encode(&parse(text)?)
    }

    /// The event time of an object, microseconds since the Unix epoch, rounded towards the past; `None` where it cannot be told.
    pub fn event_time_us(&self, json: &Value) -> Option<i64> {
        let (field, unit) = self.event_time.as_ref()?;
        let time = value::timestamp(json.get(field)?, *unit).ok()?;
        unit.convert(time, Unit::Us)
    }

    /// Whether an event of `now_ms` makes none of the time of this one too late, nor the other way round; `false` where that time cannot be told.
    pub(crate) fn is_of_now(&self, json: &Value, now_ms: i64) -> bool {
        let time_ms = self.event_time_us(json).and_then(|time_us| Unit::Us.convert(time_us, Unit::Ms));
        time_ms.is_some_and(|time_ms| time_ms.abs_diff(now_ms) <= self.lateness_ms)
    }

    /// Refuses a record of this many bytes if the source does.
    pub(crate) fn check_size(&self, bytes: usize) -> Result<(), Refused> {
        if bytes > self.max_record_bytes {
            let detail =
                format!("the record has {bytes} bytes; source {} accepts {} (max_record_bytes)", self.source, self.max_record_bytes);
            return Err(Refused::new(BadReason::RecordTooLarge, detail));
        }
        Ok(())
    }

    /// Whether records are JSON texts.
    pub(crate) fn writes_json(&self) -> bool {
        self.framing == Framing::Json
    }

    /// What every record begins with.
    pub(crate) fn header(&self) -> &[u8] {
        &self.header
    }

    /// The index of the field that is the key.
    pub(crate) fn key_field(&self) -> Option<usize> {
        self.key.as_ref().map(|(index, _)| *index)
    }

    /// The text of the key whose encoded field `bytes` begin with; `None` when it is null.
    pub(crate) fn key_text(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.key.as_ref().and_then(|(_, key)| key.text(bytes))
    }

    /// The names of the record's fields, in order.
    pub(crate) fn field_names(&self) -> impl Iterator<Item = &str> {
        self.plan.fields().iter().map(|field| field.name.as_str())
    }

    /// The unit of a field's integers, when it is a time.
    pub(crate) fn time_unit(&self, field: &str) -> Option<Unit> {
        self.plan.time_unit(field)
    }

    /// Whether a field is text.
    pub(crate) fn is_text(&self, field: &str) -> bool {
        self.plan.is_text(field)
    }

    /// Whether both write the same bytes for the same event, headers aside.
    pub(crate) fn has_layout_of(&self, schema_json: &str) -> bool {
        Plan::new(schema_json).is_ok_and(|plan| plan == self.plan)
    }
}

/// Reads one JSON text.
pub(crate) fn parse(text: &[u8]) -> Result<Value, Refused> {
    serde_json::from_slice(text).map_err(|error| Refused::new(BadReason::NotJson, error.to_string()))
}

/// Encodes a body of JSON lines. Blank lines are nothing; a bad line is told by its number, from 1, and the others are kept.
pub fn encode_ndjson(encoder: &Encoder, body: &[u8]) -> (Vec<NewRecord>, Vec<BadLine>) {
    let (mut records, mut bad) = (Vec::new(), Vec::new());
    if let Some(why) = input::refused(body) {
        return (records, vec![BadLine::new(1, Refused::new(BadReason::NotJson, why), body)]);
    }
    // The body is in memory already, and its size was judged by who took it.
    let mut lines = Lines::new(usize::MAX);
    lines.push(body);
    lines.finish();
    while let Some(Line { number, content, .. }) = lines.next() {
        let Ok(text) = content else { continue };
        if text.trim_ascii().is_empty() {
            continue;
        }
        match encoder.encode_text(text) {
            Ok(record) => records.push(record),
            Err(refused) => bad.push(BadLine::new(number, refused, text)),
        }
    }
    (records, bad)
}
