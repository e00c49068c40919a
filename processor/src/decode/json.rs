//! JSON objects straight into columns, by the schema of the source.
//!
//! An object has the schema's fields by name, in any order; others are passed over. Values are as in events that are posted: times as RFC 3339 text or as
//! numbers in the schema's unit, bytes as Base64, decimals as numbers or text, enums as their symbols. A field that is left out is its default, or NULL if it may be.
//! Nothing is built between the text and the columns: text without escapes is not even copied.

mod node;
#[cfg(test)]
mod tests;
mod visit;

use std::cell::RefCell;
use std::collections::HashMap;

use bumpalo::Bump;
use serde::de::DeserializeSeed;

use self::node::{Compiler, Record, Slot};
use self::visit::{Context, Place};
use super::avro::Schema;
use super::columns::Column;
use super::cursor::{Fault, Faulty};
use crate::quarantine::Reason;
use crate::source::{Framing, Source};

/// How many bytes come before the object where an id does: a zero byte, and four of the id.
const ID_BYTES: usize = 5;

/// Decodes the records of one source whose records are JSON.
#[derive(Debug)]
pub(super) struct JsonProgram {
    root: Slot,
    records: Vec<Record>,
    has_id: bool,
}

impl JsonProgram {
    /// The program for some columns of a source; `None`: its records are Avro.
    pub(super) fn new(source: &Source, reader: &Schema, columns: &[usize]) -> Option<Result<JsonProgram, String>> {
        let has_id = match source.framing {
            Framing::Json => false,
            Framing::JsonSchema => true,
            Framing::Confluent | Framing::SingleObject | Framing::Bare => return None,
        };
        let event_time = source.event_time_unit.map(|unit| (source.event_time.as_str(), unit));
        let mut compiler = Compiler { schema: reader, records: Vec::new(), named: HashMap::new() };
        let compiled = compiler.root(columns, event_time);
        let records = compiler.records;
        Some(compiled.map(|root| JsonProgram { root, records, has_id }))
    }

    /// Decodes one record into `sink`. After a fault, the sink may hold parts of the record.
    pub(super) fn decode<'a>(&'a self, value: &'a [u8], arena: &'a Bump, sink: &mut Column<'a>) -> Faulty<()> {
        let text = match (self.has_id, value.split_at_checked(ID_BYTES)) {
            (false, _) => value,
            (true, Some(([0, ..], text))) => text,
            (true, None) if value.first().is_none_or(|first| *first == 0) => {
                return Err(Fault::new(Reason::Truncated, "the record ends before its JSON begins"));
            }
            (true, _) => {
                return Err(Fault::new(
                    Reason::UnknownFraming,
                    "a record with a JSON Schema starts with a zero byte and four of the schema's id",
                ));
            }
        };
        let context = Context { records: &self.records, arena, fault: RefCell::new(None) };
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        let place = Place { context: &context, slot: &self.root, sink };
        let read = place.deserialize(&mut deserializer).and_then(|()| deserializer.end());
        read.map_err(|error| {
            let fault = context.fault.borrow_mut().take();
            fault.unwrap_or_else(|| syntax(&error, text))
        })
    }
}

/// What is wrong with a text that is not JSON.
#[cold]
fn syntax(error: &serde_json::Error, text: &[u8]) -> Box<Fault> {
    match error.classify() {
        serde_json::error::Category::Eof => Fault::new(Reason::Truncated, format!("the JSON text ends too early: {error}")),
        _ if std::str::from_utf8(text).is_err() => Fault::new(Reason::InvalidUtf8, error.to_string()),
        _ => Fault::new(Reason::NotJson, error.to_string()),
    }
}
