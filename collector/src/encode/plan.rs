//! An Avro schema, compiled to what the encoder walks.
//!
//! It is parsed, and its defaults are encoded, by what decodes its records: what can be read can be written, and the other way round.

use std::collections::HashMap;

use refold_processor::decode::avro::{Body, Logical, NamedId, Schema, Type};

use super::time::Unit;
use super::value;

/// How one type is written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    Enum(Vec<String>),
    Array(Box<Node>),
    Map(Box<Node>),
    Union(Vec<Node>),
    /// An index into [`Plan::records`], so that a record may contain itself.
    Record(usize),
    /// Unscaled two's complement, big endian; of `fixed` bytes, or as few as it needs.
    Decimal {
        precision: usize,
        scale: usize,
        fixed: Option<usize>,
    },
    UuidText,
    /// Sixteen bytes; `bytes` writes their length first, `fixed` does not.
    UuidBytes {
        with_length: bool,
    },
    Date,
    TimeOfDay(Unit),
    Timestamp(Unit),
    /// A time of a clock of no zone.
    LocalTimestamp(Unit),
}

/// One field of a record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Field {
    pub name: String,
    pub node: Node,
    /// What is written when the field is not there, already encoded.
    pub default: Option<Vec<u8>>,
}

/// One record type.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Record {
    pub fields: Vec<Field>,
}

/// A whole schema. The event itself is the first record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub records: Vec<Record>,
}

impl Plan {
    /// Compiles a schema; `Err` says what in it cannot be written.
    pub fn new(schema_json: &str) -> Result<Plan, String> {
        let schema = Schema::parse(schema_json).map_err(|error| error.to_string())?;
        let mut compiler = Compiler { schema: &schema, records: Vec::new(), known: HashMap::new() };
        match compiler.node(&schema.root)? {
            Node::Record(_) => Ok(Plan { records: compiler.records }),
            _ => Err("an event's schema must be a record".into()),
        }
    }

    /// The fields of the event.
    pub fn fields(&self) -> &[Field] {
        self.records.first().map_or(&[], |record| &record.fields)
    }

    /// Whether a field is text, or nothing.
    pub fn is_text(&self, field: &str) -> bool {
        let is_text = |node: &Node| match node {
            Node::Union(branches) => branches.contains(&Node::String),
            node => *node == Node::String,
        };
        self.fields().iter().find(|known| known.name == field).is_some_and(|field| is_text(&field.node))
    }

    /// The unit of a field's integers, when it is a time.
    pub fn time_unit(&self, field: &str) -> Option<Unit> {
        fn unit(node: &Node) -> Option<Unit> {
            match node {
                Node::Timestamp(unit) | Node::LocalTimestamp(unit) | Node::TimeOfDay(unit) => Some(*unit),
                Node::Union(branches) => branches.iter().find_map(unit),
                _ => None,
            }
        }
        self.fields().iter().find(|known| known.name == field).and_then(|field| unit(&field.node))
    }
}

struct Compiler<'s> {
    schema: &'s Schema,
    records: Vec<Record>,
    /// The record types that are compiled, or are being compiled: one may contain itself.
    known: HashMap<NamedId, usize>,
}

impl Compiler<'_> {
    fn node(&mut self, of: &Type) -> Result<Node, String> {
        Ok(match of {
            Type::Null => Node::Null,
            Type::Boolean => Node::Boolean,
            Type::Int(logical) => time(*logical).unwrap_or(Node::Int),
            Type::Long(logical) => time(*logical).unwrap_or(Node::Long),
            Type::Float => Node::Float,
            Type::Double => Node::Double,
            Type::Bytes(logical) => bytes(*logical, None)?,
            Type::String(Some(Logical::Uuid)) => Node::UuidText,
            Type::String(_) => Node::String,
            Type::Array(items) => Node::Array(Box::new(self.node(items)?)),
            Type::Map(values) => Node::Map(Box::new(self.node(values)?)),
            Type::Union(branches) => Node::Union(branches.iter().map(|branch| self.node(branch)).collect::<Result<_, _>>()?),
            Type::Named(id) => self.named(*id)?,
        })
    }

    fn named(&mut self, id: NamedId) -> Result<Node, String> {
        if let Some(index) = self.known.get(&id) {
            return Ok(Node::Record(*index));
        }
        let schema = self.schema;
        let named = schema.named(id).ok_or("a type that is not defined")?;
        match &named.body {
            Body::Enum { symbols, .. } => Ok(Node::Enum(symbols.clone())),
            Body::Fixed { size, logical } => bytes(*logical, Some(*size)),
            Body::Record(declared) => {
                let index = self.records.len();
                self.records.push(Record::default());
                self.known.insert(id, index);
                let mut fields = Vec::with_capacity(declared.len());
                for field in declared {
                    let node = self.node(&field.of).map_err(|message| format!("field {}: {message}", field.name))?;
                    let default = schema.encoded_default(field)?.or_else(|| null_branch(&node));
                    fields.push(Field { name: field.name.clone(), node, default });
                }
                if let Some(slot) = self.records.get_mut(index) {
                    slot.fields = fields;
                }
                Ok(Node::Record(index))
            }
        }
    }
}

fn time(logical: Option<Logical>) -> Option<Node> {
    Some(match logical? {
        Logical::Date => Node::Date,
        Logical::TimeMillis => Node::TimeOfDay(Unit::Ms),
        Logical::TimeMicros => Node::TimeOfDay(Unit::Us),
        Logical::TimestampMillis => Node::Timestamp(Unit::Ms),
        Logical::TimestampMicros => Node::Timestamp(Unit::Us),
        Logical::TimestampNanos => Node::Timestamp(Unit::Ns),
        Logical::LocalTimestampMillis => Node::LocalTimestamp(Unit::Ms),
        Logical::LocalTimestampMicros => Node::LocalTimestamp(Unit::Us),
        Logical::LocalTimestampNanos => Node::LocalTimestamp(Unit::Ns),
        Logical::Decimal { .. } | Logical::Uuid => return None,
    })
}

/// Bytes, `fixed` of them or any number.
fn bytes(logical: Option<Logical>, fixed: Option<usize>) -> Result<Node, String> {
    match (logical, fixed) {
        (Some(Logical::Decimal { precision, scale }), fixed) => {
            let (precision, scale) = (precision as usize, scale as usize);
            if precision > super::decimal::MAX_PRECISION {
                return Err(format!("decimals of more than {} digits are not supported", super::decimal::MAX_PRECISION));
            }
            Ok(Node::Decimal { precision, scale, fixed })
        }
        (Some(Logical::Uuid), fixed) => Ok(Node::UuidBytes { with_length: fixed.is_none() }),
        (_, Some(size)) => Ok(Node::Fixed(size)),
        (_, None) => Ok(Node::Bytes),
    }
}

/// The encoded null of a type that has one: a nullable field without a default may be left out all the same.
fn null_branch(node: &Node) -> Option<Vec<u8>> {
    match node {
        Node::Null => Some(Vec::new()),
        Node::Union(branches) => {
            let index = branches.iter().position(|branch| *branch == Node::Null)?;
            let mut bytes = Vec::new();
            value::write_long(index as i64, &mut bytes);
            Some(bytes)
        }
        _ => None,
    }
}
