//! An Avro schema, compiled to what the encoder walks.

use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::schema::{InnerDecimalSchema, UuidSchema};

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
        let schema = Schema::parse_str(schema_json).map_err(|error| error.to_string())?;
        let Schema::Record(_) = &schema else { return Err("an event's schema must be a record".into()) };
        let mut compiler = Compiler { records: Vec::new(), named: HashMap::new() };
        compiler.node(&schema, "")?;
        compiler.defaults(&schema)?;
        Ok(Plan { records: compiler.records })
    }

    /// The fields of the event.
    pub fn fields(&self) -> &[Field] {
        self.records.first().map_or(&[], |record| &record.fields)
    }

    /// The unit of a field's integers, when it is a time.
    pub fn time_unit(&self, field: &str) -> Option<Unit> {
        fn unit(node: &Node) -> Option<Unit> {
            match node {
                Node::Timestamp(unit) | Node::TimeOfDay(unit) => Some(*unit),
                Node::Union(branches) => branches.iter().find_map(unit),
                _ => None,
            }
        }
        self.fields().iter().find(|known| known.name == field).and_then(|field| unit(&field.node))
    }
}

struct Compiler {
    records: Vec<Record>,
    named: HashMap<String, Node>,
}

impl Compiler {
    fn node(&mut self, schema: &Schema, namespace: &str) -> Result<Node, String> {
        let node = match schema {
            Schema::Null => Node::Null,
            Schema::Boolean => Node::Boolean,
            Schema::Int => Node::Int,
            Schema::Long => Node::Long,
            Schema::Float => Node::Float,
            Schema::Double => Node::Double,
            Schema::Bytes => Node::Bytes,
            Schema::String => Node::String,
            Schema::Date => Node::Date,
            Schema::TimeMillis => Node::TimeOfDay(Unit::Ms),
            Schema::TimeMicros => Node::TimeOfDay(Unit::Us),
            Schema::TimestampMillis | Schema::LocalTimestampMillis => Node::Timestamp(Unit::Ms),
            Schema::TimestampMicros | Schema::LocalTimestampMicros => Node::Timestamp(Unit::Us),
            Schema::TimestampNanos | Schema::LocalTimestampNanos => Node::Timestamp(Unit::Ns),
            Schema::Uuid(UuidSchema::String) => Node::UuidText,
            Schema::Uuid(UuidSchema::Bytes) => Node::UuidBytes { with_length: true },
            Schema::Uuid(UuidSchema::Fixed(fixed)) => {
                self.name(fixed.name.fullname(Some(namespace)), Node::UuidBytes { with_length: false })
            }
            Schema::Fixed(fixed) => self.name(fixed.name.fullname(Some(namespace)), Node::Fixed(fixed.size)),
            Schema::Enum(symbols) => self.name(symbols.name.fullname(Some(namespace)), Node::Enum(symbols.symbols.clone())),
            Schema::Decimal(decimal) => {
                let (precision, scale) = (decimal.precision, decimal.scale);
                if precision > super::decimal::MAX_PRECISION {
                    return Err(format!("decimals of more than {} digits are not supported", super::decimal::MAX_PRECISION));
                }
                match &decimal.inner {
                    InnerDecimalSchema::Bytes => Node::Decimal { precision, scale, fixed: None },
                    InnerDecimalSchema::Fixed(fixed) => {
                        let node = Node::Decimal { precision, scale, fixed: Some(fixed.size) };
                        self.name(fixed.name.fullname(Some(namespace)), node)
                    }
                }
            }
            Schema::Array(array) => Node::Array(Box::new(self.node(&array.items, namespace)?)),
            Schema::Map(map) => Node::Map(Box::new(self.node(&map.types, namespace)?)),
            Schema::Union(union) => {
                Node::Union(union.variants().iter().map(|branch| self.node(branch, namespace)).collect::<Result<_, _>>()?)
            }
            Schema::Record(record) => {
                let index = self.records.len();
                self.records.push(Record::default());
                let full_name = record.name.fullname(Some(namespace));
                let inner_namespace = full_name.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_string();
                self.named.insert(full_name, Node::Record(index));
                let mut fields = Vec::with_capacity(record.fields.len());
                for field in &record.fields {
                    let node = self.node(&field.schema, &inner_namespace).map_err(|message| format!("field {}: {message}", field.name))?;
                    fields.push(Field { name: field.name.clone(), node, default: None });
                }
                if let Some(slot) = self.records.get_mut(index) {
                    slot.fields = fields;
                }
                Node::Record(index)
            }
            Schema::Ref { name } => {
                let full_name = name.fullname(Some(namespace));
                self.named.get(&full_name).cloned().ok_or_else(|| format!("the type {full_name} is not declared before it is used"))?
            }
            Schema::BigDecimal => return Err("big-decimal is not supported; declare a decimal with precision and scale".into()),
            Schema::Duration(_) => return Err("duration is not supported; declare an integer with its unit in its name".into()),
        };
        Ok(node)
    }

    fn name(&mut self, full_name: String, node: Node) -> Node {
        self.named.insert(full_name, node.clone());
        node
    }

    /// Encodes the defaults of all records. Those of inner records come first, because an outer default may rely on them.
    fn defaults(&mut self, schema: &Schema) -> Result<(), String> {
        let mut declared = Vec::new();
        collect_defaults(schema, &mut declared);
        for (index, defaults) in declared.into_iter().enumerate().rev() {
            for (position, default) in defaults.into_iter().enumerate() {
                let Some(field) = self.records.get(index).and_then(|record| record.fields.get(position)) else { continue };
                let encoded = match default {
                    Some(json) => {
                        let mut bytes = Vec::new();
                        value::write_default(&self.records, &field.node, &json, &mut bytes)
                            .map_err(|refused| format!("the default of field {}: {refused}", field.name))?;
                        Some(bytes)
                    }
                    None => null_branch(&field.node),
                };
                if let Some(field) = self.records.get_mut(index).and_then(|record| record.fields.get_mut(position)) {
                    field.default = encoded;
                }
            }
        }
        Ok(())
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

/// The defaults of every record's fields, in depth-first order of declaration.
fn collect_defaults(schema: &Schema, into: &mut Vec<Vec<Option<serde_json::Value>>>) {
    match schema {
        Schema::Record(record) => {
            into.push(record.fields.iter().map(|field| field.default.clone()).collect());
            for field in &record.fields {
                collect_defaults(&field.schema, into);
            }
        }
        Schema::Array(array) => collect_defaults(&array.items, into),
        Schema::Map(map) => collect_defaults(&map.types, into),
        Schema::Union(union) => union.variants().iter().for_each(|branch| collect_defaults(branch, into)),
        _ => {}
    }
}
