//! What comes before a record's body, and the programs for the writers that it names.

use std::collections::HashMap;
use std::sync::Arc;

use super::DecodeError;
use super::avro::Schema;
use super::cursor::{Fault, Faulty};
use super::program::Program;
use super::resolve::resolve;
use super::schemas::SchemaLookup;
use crate::quarantine::Reason;
use crate::source::Framing;

/// How a record names its writer's schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Id(u32),
    Fingerprint(u64),
    Declared,
}

/// The programs of all writers seen so far.
pub(super) struct Writers {
    framing: Framing,
    reader: Schema,
    projection: Vec<usize>,
    schemas: Arc<dyn SchemaLookup>,
    known: HashMap<Key, usize>,
    /// For each writer its program, or why its records are refused.
    programs: Vec<Result<Program, Box<Fault>>>,
    /// Schemas that nobody knew when they were last asked for.
    unknown: HashMap<Key, Box<Fault>>,
    /// The writer of the record before, most often that of the next.
    last: Option<(Key, usize)>,
}

impl Writers {
    pub(super) fn new(framing: Framing, reader: Schema, projection: Vec<usize>, schemas: Arc<dyn SchemaLookup>) -> Writers {
        let (known, unknown, programs) = (HashMap::new(), HashMap::new(), Vec::new());
        Writers { framing, reader, projection, schemas, known, programs, unknown, last: None }
    }

    /// Forgets which schemas were not known: they may have been registered since.
    pub(super) fn forget_unknown(&mut self) {
        self.unknown.clear();
    }

    /// Takes a record's value apart: its writer, for [`Writers::program`], and its body.
    ///
    /// # Errors
    /// The outer error is of the lookup, the inner one the record's own.
    pub(super) fn frame<'a>(&mut self, value: &'a [u8]) -> Result<Faulty<(usize, &'a [u8])>, DecodeError> {
        let (key, body) = match unframe(self.framing, value) {
            Ok(parts) => parts,
            Err(fault) => return Ok(Err(fault)),
        };
        if let Some((last, writer)) = self.last
            && last == key
        {
            return Ok(Ok((writer, body)));
        }
        let writer = self.writer(key)?;
        if let Ok(writer) = &writer {
            self.last = Some((key, *writer));
        }
        Ok(writer.map(|writer| (writer, body)))
    }

    /// The program of a writer.
    pub(super) fn program(&self, writer: usize) -> Faulty<&Program> {
        match self.programs.get(writer) {
            Some(Ok(program)) => Ok(program),
            Some(Err(fault)) => Err(fault.clone()),
            None => Err(Fault::new(Reason::UnknownSchema, "a writer that was never looked up")),
        }
    }

    fn writer(&mut self, key: Key) -> Result<Faulty<usize>, DecodeError> {
        if let Some(writer) = self.known.get(&key) {
            return Ok(Ok(*writer));
        }
        if let Some(fault) = self.unknown.get(&key) {
            return Ok(Err(fault.clone()));
        }
        let (name, json) = match key {
            Key::Id(id) => (format!("id {id}"), self.schemas.by_id(id)?),
            Key::Fingerprint(fingerprint) => (format!("fingerprint {fingerprint:016x}"), self.schemas.by_fingerprint(fingerprint)?),
            Key::Declared => (String::new(), None),
        };
        let program = match (key, json) {
            (Key::Declared, _) => resolve(&self.reader, &self.reader, &self.projection),
            (_, Some(json)) => {
                Schema::parse(&json).map_err(|error| error.0).and_then(|writer| resolve(&writer, &self.reader, &self.projection))
            }
            (_, None) => {
                let fault = Fault::new(Reason::UnknownSchema, format!("no schema has the {name}"));
                self.unknown.insert(key, fault.clone());
                return Ok(Err(fault));
            }
        };
        self.programs.push(program.map_err(|why| Fault::new(Reason::UnresolvableSchema, format!("schema with the {name}: {why}"))));
        let writer = self.programs.len() - 1;
        self.known.insert(key, writer);
        Ok(Ok(writer))
    }
}

fn unframe(framing: Framing, value: &[u8]) -> Faulty<(Key, &[u8])> {
    match framing {
        Framing::Bare | Framing::Json | Framing::JsonSchema => Ok((Key::Declared, value)),
        Framing::Confluent => match value.split_first_chunk::<5>() {
            Some(([0, a, b, c, d], body)) => Ok((Key::Id(u32::from_be_bytes([*a, *b, *c, *d])), body)),
            _ => Err(misframed(value, &[0], 5, "Confluent's wire format starts with a zero byte and four of the schema's id")),
        },
        Framing::SingleObject => match value.split_first_chunk::<10>() {
            Some(([0xc3, 0x01, fingerprint @ ..], body)) => Ok((Key::Fingerprint(u64::from_le_bytes(*fingerprint)), body)),
            _ => Err(misframed(
                value,
                &[0xc3, 0x01],
                10,
                "single-object encoding starts with c3 01 and eight bytes of the schema's fingerprint",
            )),
        },
    }
}

/// A value that is the beginning of what it should be is cut short, every other is of another kind.
#[cold]
fn misframed(value: &[u8], magic: &[u8], length: usize, expected: &str) -> Box<Fault> {
    let found: Vec<String> = value.iter().take(length).map(|byte| format!("{byte:02x}")).collect();
    let begins = value.iter().zip(magic).all(|(byte, expected)| byte == expected);
    let reason = if begins && value.len() < length { Reason::Truncated } else { Reason::UnknownFraming };
    Fault::new(reason, format!("{expected}; the record starts with [{}]", found.join(" ")))
}
