//! A schema as the decoder of JSON needs it.

use std::collections::HashMap;

use super::super::arrow::nullable;
use super::super::avro::{Body, Field, Logical, NamedId, Schema, Type};
use super::super::defaults::{self, Constant};
use crate::text::time::Unit;

/// A value: its type, and whether it may be NULL.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub node: Node,
    pub nullable: bool,
}

/// A type.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Text,
    /// A UUID, as text.
    UuidText,
    /// A UUID, as its sixteen bytes.
    UuidBytes,
    Bytes,
    Fixed(usize),
    /// The symbols, and what is taken for any other.
    Enum(Vec<String>, Option<String>),
    Decimal {
        precision: usize,
        scale: usize,
    },
    Date,
    TimeOfDay(Unit),
    Timestamp {
        unit: Unit,
        /// What numbers are in.
        numbers: Unit,
    },
    LocalTimestamp(Unit),
    Array(Box<Slot>),
    Map(Box<Slot>),
    /// A record of the program.
    Record(usize),
}

/// A record.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub fields: Vec<FieldSlot>,
    /// The place of a field by its name and its aliases.
    pub by_name: HashMap<String, usize>,
}

/// A field of a record.
#[derive(Debug)]
pub(super) struct FieldSlot {
    pub name: String,
    pub slot: Slot,
    /// The part of the sink that takes it; `None` if nothing does.
    pub part: Option<usize>,
    /// What it is where it is left out; `None`: it may not be.
    pub default: Option<Constant>,
}

/// Makes a program of a schema.
pub(super) struct Compiler<'s> {
    pub schema: &'s Schema,
    pub records: Vec<Record>,
    pub named: HashMap<NamedId, usize>,
}

impl Compiler<'_> {
    /// The record of the source, of which some columns are wanted; and the field of the event time with the unit of its numbers.
    pub fn root(&mut self, columns: &[usize], event_time: Option<(&str, Unit)>) -> Result<Slot, String> {
        let schema = self.schema;
        let Type::Named(id) = &schema.root else { return Err("the schema of a source must be a record".into()) };
        let named = schema.named(*id).ok_or("the schema of a source has an undefined type")?;
        let Body::Record(fields) = &named.body else { return Err("the schema of a source must be a record".into()) };
        let place = self.records.len();
        self.records.push(Record::default());
        let mut record = Record::default();
        for (index, field) in fields.iter().enumerate() {
            let mut compiled = self.field(field, columns.iter().position(|column| *column == index))?;
            if let Some((name, unit)) = event_time
                && name == field.name
                && let Node::Timestamp { numbers, .. } = &mut compiled.slot.node
            {
                *numbers = unit;
            }
            record.add(field, compiled);
        }
        self.put(place, record);
        Ok(Slot { node: Node::Record(place), nullable: false })
    }

    fn field(&mut self, field: &Field, part: Option<usize>) -> Result<FieldSlot, String> {
        let slot = self.slot(&field.of)?;
        let default = match defaults::default_of(self.schema, field)? {
            Some(default) => Some(default),
            None => slot.nullable.then_some(Constant::Null),
        };
        Ok(FieldSlot { name: field.name.clone(), slot, part, default })
    }

    fn slot(&mut self, of: &Type) -> Result<Slot, String> {
        let (of, nullable) = nullable(of).ok_or("a union of several types has no column")?;
        Ok(Slot { node: self.node(of)?, nullable })
    }

    fn node(&mut self, of: &Type) -> Result<Node, String> {
        Ok(match of {
            Type::Null => Node::Null,
            Type::Boolean => Node::Boolean,
            Type::Int(logical) => logical.map_or(Node::Int, number),
            Type::Long(logical) => logical.map_or(Node::Long, number),
            Type::Float => Node::Float,
            Type::Double => Node::Double,
            Type::String(Some(Logical::Uuid)) => Node::UuidText,
            Type::String(_) => Node::Text,
            Type::Bytes(Some(Logical::Decimal { precision, scale })) => decimal(*precision, *scale),
            Type::Bytes(_) => Node::Bytes,
            Type::Array(items) => Node::Array(Box::new(self.slot(items)?)),
            Type::Map(values) => Node::Map(Box::new(self.slot(values)?)),
            Type::Union(_) => return Err("a union may not contain a union".into()),
            Type::Named(id) => self.named(*id)?,
        })
    }

    fn named(&mut self, id: NamedId) -> Result<Node, String> {
        if let Some(place) = self.named.get(&id) {
            return Ok(Node::Record(*place));
        }
        let schema = self.schema;
        let named = schema.named(id).ok_or("an undefined type")?;
        Ok(match &named.body {
            Body::Enum { symbols, default } => Node::Enum(symbols.clone(), default.clone()),
            Body::Fixed { logical: Some(Logical::Decimal { precision, scale }), .. } => decimal(*precision, *scale),
            Body::Fixed { logical: Some(Logical::Uuid), .. } => Node::UuidBytes,
            Body::Fixed { size, .. } => Node::Fixed(*size),
            Body::Record(fields) => {
                let place = self.records.len();
                self.records.push(Record::default());
                self.named.insert(id, place);
                let mut record = Record::default();
                for (index, field) in fields.iter().enumerate() {
                    let compiled = self.field(field, Some(index))?;
                    record.add(field, compiled);
                }
                self.put(place, record);
                Node::Record(place)
            }
        })
    }

    fn put(&mut self, place: usize, record: Record) {
        if let Some(slot) = self.records.get_mut(place) {
            *slot = record;
        }
    }
}

impl Record {
    fn add(&mut self, field: &Field, compiled: FieldSlot) {
        for alias in &field.aliases {
            self.by_name.entry(alias.clone()).or_insert(self.fields.len());
        }
        self.by_name.insert(field.name.clone(), self.fields.len());
        self.fields.push(compiled);
    }
}

/// A logical type of an integer.
fn number(logical: Logical) -> Node {
    let timestamp = |unit| Node::Timestamp { unit, numbers: unit };
    match logical {
        Logical::Date => Node::Date,
        Logical::TimeMillis => Node::TimeOfDay(Unit::Ms),
        Logical::TimeMicros => Node::TimeOfDay(Unit::Us),
        Logical::TimestampMillis => timestamp(Unit::Ms),
        Logical::TimestampMicros => timestamp(Unit::Us),
        Logical::TimestampNanos => timestamp(Unit::Ns),
        Logical::LocalTimestampMillis => Node::LocalTimestamp(Unit::Ms),
        Logical::LocalTimestampMicros => Node::LocalTimestamp(Unit::Us),
        Logical::LocalTimestampNanos => Node::LocalTimestamp(Unit::Ns),
        // Of other types.
        Logical::Decimal { .. } | Logical::Uuid => Node::Long,
    }
}

fn decimal(precision: u32, scale: u32) -> Node {
    Node::Decimal { precision: precision as usize, scale: scale as usize }
}
