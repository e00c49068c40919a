//! Avro schemas, as the decoder needs them: names resolved, logical types known, everything else forgotten.
//!
//! The grammar is that of the Avro 1.12 specification, "Schema Declaration". Named types may refer to themselves.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::defaults::{self, Constant};

/// How many bytes a UUID has.
const UUID_BYTES: usize = 16;
/// The most fields, symbols and types that one schema may have in all; a schema is read from outside and must not exhaust memory.
const MAX_PARTS: usize = 100_000;

/// A parsed schema.
#[derive(Clone, Debug)]
pub struct Schema {
    /// The type of a whole record.
    pub root: Type,
    named: Vec<Named>,
}

/// A type where it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// `null`.
    Null,
    /// `boolean`.
    Boolean,
    /// `int`.
    Int(Option<Logical>),
    /// `long`.
    Long(Option<Logical>),
    /// `float`.
    Float,
    /// `double`.
    Double,
    /// `bytes`.
    Bytes(Option<Logical>),
    /// `string`.
    String(Option<Logical>),
    /// `array`: the type of its items.
    Array(Box<Type>),
    /// `map`: the type of its values.
    Map(Box<Type>),
    /// A union of these types, in the order that their numbers have in a record.
    Union(Vec<Type>),
    /// A record, enum or fixed: see [`Schema::named`].
    Named(NamedId),
}

/// A record, enum or fixed of a [`Schema`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NamedId(usize);

/// What a value means, beyond its encoding. One that changes nothing about any value (`duration`) is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logical {
    /// Days since the Unix epoch.
    Date,
    /// Milliseconds since midnight.
    TimeMillis,
    /// Microseconds since midnight.
    TimeMicros,
    /// Milliseconds since the Unix epoch.
    TimestampMillis,
    /// Microseconds since the Unix epoch.
    TimestampMicros,
    /// Nanoseconds since the Unix epoch.
    TimestampNanos,
    /// Milliseconds since 1970 began, by a clock of no zone.
    LocalTimestampMillis,
    /// Microseconds since 1970 began, by a clock of no zone.
    LocalTimestampMicros,
    /// Nanoseconds since 1970 began, by a clock of no zone.
    LocalTimestampNanos,
    /// A number of `precision` digits, `scale` of them behind the point.
    Decimal {
        /// The most digits.
        precision: u32,
        /// How many of them are behind the point.
        scale: u32,
    },
    /// A UUID, as text or as sixteen bytes. It is decoded as the text or the bytes that it is.
    Uuid,
}

/// A type that has a name.
#[derive(Clone, Debug)]
pub struct Named {
    /// The full name, with its namespace.
    pub name: String,
    /// Other names, as written.
    pub aliases: Vec<String>,
    /// What it is.
    pub body: Body,
}

/// The content of a named type.
#[derive(Clone, Debug)]
pub enum Body {
    /// A record of these fields.
    Record(Vec<Field>),
    /// An enum.
    Enum {
        /// Its symbols, in order.
        symbols: Vec<String>,
        /// What a reader takes a symbol for that it does not have.
        default: Option<String>,
    },
    /// Bytes of a fixed number.
    Fixed {
        /// How many.
        size: usize,
        /// What they mean.
        logical: Option<Logical>,
    },
}

/// A field of a record.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Other names.
    pub aliases: Vec<String>,
    /// Its type.
    pub of: Type,
    /// Its default, as written.
    pub default: Option<Value>,
}

/// What is wrong with a schema, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadSchema(pub(super) String);

impl Schema {
    /// Reads a schema from its JSON text.
    ///
    /// # Errors
    /// The text is not JSON, or not an Avro schema.
    pub fn parse(json: &str) -> Result<Schema, BadSchema> {
        let value: Value = serde_json::from_str(json).map_err(|error| BadSchema(format!("the schema is not JSON: {error}")))?;
        let mut parser = Parser::default();
        let root = parser.parse(&value, "")?;
        let named = parser.named.into_iter().flatten().collect();
        Ok(Schema { root, named })
    }

    /// The named type of an id that this schema's types hold.
    pub fn named(&self, id: NamedId) -> Option<&Named> {
        self.named.get(id.0)
    }

    /// The default of a field, encoded as a value of its type: `None` if it has none. What a reader takes for a field that is not written, and what a
    /// writer writes for one that it is not given, are the same value so.
    ///
    /// # Errors
    /// The default is not a value of the field's type.
    pub fn encoded_default(&self, field: &Field) -> Result<Option<Vec<u8>>, String> {
        let encoded = |constant: Constant| {
            let mut bytes = Vec::new();
            constant.encode(&mut bytes);
            bytes
        };
        Ok(defaults::default_of(self, field)?.map(encoded))
    }
}

impl Named {
    /// The name without its namespace, by which Avro matches writer and reader.
    pub(super) fn short_name(&self) -> &str {
        short(&self.name)
    }

    /// Whether a writer's type of this name is this type.
    pub(super) fn answers_to(&self, writer: &Named) -> bool {
        self.short_name() == writer.short_name() || self.aliases.iter().any(|alias| short(alias) == writer.short_name())
    }
}

impl Logical {
    /// The name in a schema.
    pub(super) fn name(self) -> &'static str {
        match self {
            Logical::Date => "date",
            Logical::TimeMillis => "time-millis",
            Logical::TimeMicros => "time-micros",
            Logical::TimestampMillis => "timestamp-millis",
            Logical::TimestampMicros => "timestamp-micros",
            Logical::TimestampNanos => "timestamp-nanos",
            Logical::LocalTimestampMillis => "local-timestamp-millis",
            Logical::LocalTimestampMicros => "local-timestamp-micros",
            Logical::LocalTimestampNanos => "local-timestamp-nanos",
            Logical::Decimal { .. } => "decimal",
            Logical::Uuid => "uuid",
        }
    }
}

fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

#[derive(Default)]
struct Parser {
    /// `None` while the type is being read: it may be referred to, by itself.
    named: Vec<Option<Named>>,
    ids: HashMap<String, NamedId>,
    parts: usize,
}

impl Parser {
    fn parse(&mut self, value: &Value, namespace: &str) -> Result<Type, BadSchema> {
        self.parts += 1;
        if self.parts > MAX_PARTS {
            return Err(BadSchema(format!("the schema has more than {MAX_PARTS} parts")));
        }
        match value {
            Value::String(name) => self.reference(name, namespace),
            Value::Array(branches) => self.union(branches, namespace),
            Value::Object(object) => self.object(object, namespace),
            other => Err(BadSchema(format!("{other} is not a type; write a name, an object or a list"))),
        }
    }

    fn reference(&self, name: &str, namespace: &str) -> Result<Type, BadSchema> {
        if let Some(primitive) = primitive(name, None) {
            return Ok(primitive);
        }
        let full = full_name(name, namespace);
        let id = self.ids.get(&full).ok_or_else(|| BadSchema(format!("type {full:?} is not defined before it is used")))?;
        Ok(Type::Named(*id))
    }

    fn union(&mut self, branches: &[Value], namespace: &str) -> Result<Type, BadSchema> {
        let mut types: Vec<Type> = Vec::new();
        for branch in branches {
            let of = self.parse(branch, namespace)?;
            if matches!(of, Type::Union(_)) {
                return Err(BadSchema("a union may not contain a union".into()));
            }
            if types.iter().any(|earlier| same_branch(earlier, &of)) {
                return Err(BadSchema(format!("a union names the type {branch} twice")));
            }
            types.push(of);
        }
        Ok(Type::Union(types))
    }

    fn object(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<Type, BadSchema> {
        let kind = match object.get("type") {
            Some(Value::String(kind)) => kind.as_str(),
            Some(nested) => return self.parse(nested, namespace),
            None => return Err(BadSchema("a type has no \"type\"".into())),
        };
        match kind {
            "array" => Ok(Type::Array(Box::new(self.parse(required(object, "items", kind)?, namespace)?))),
            "map" => Ok(Type::Map(Box::new(self.parse(required(object, "values", kind)?, namespace)?))),
            "record" | "error" | "enum" | "fixed" => self.definition(object, kind, namespace),
            _ => match primitive(kind, logical(object, kind, None)) {
                Some(primitive) => Ok(primitive),
                None => self.reference(kind, namespace),
            },
        }
    }

    fn definition(&mut self, object: &Map<String, Value>, kind: &str, enclosing: &str) -> Result<Type, BadSchema> {
        let written = required(object, "name", kind)?.as_str().unwrap_or_default();
        let namespace = object.get("namespace").and_then(Value::as_str).unwrap_or(enclosing);
        let name = full_name(written, namespace);
        if short(&name).is_empty() || primitive(&name, None).is_some() {
            return Err(BadSchema(format!("{written:?} cannot name a type")));
        }
        let id = NamedId(self.named.len());
        if self.ids.insert(name.clone(), id).is_some() {
            return Err(BadSchema(format!("type {name:?} is defined twice")));
        }
        self.named.push(None);
        let inner = name.rsplit_once('.').map_or("", |(namespace, _)| namespace);
        let body = match kind {
            "enum" => self.enumeration(object, &name)?,
            "fixed" => fixed(object, &name)?,
            _ => Body::Record(self.fields(object, &name, inner)?),
        };
        if let Some(place) = self.named.get_mut(id.0) {
            *place = Some(Named { name, aliases: strings(object, "aliases")?, body });
        }
        Ok(Type::Named(id))
    }

    fn fields(&mut self, object: &Map<String, Value>, record: &str, namespace: &str) -> Result<Vec<Field>, BadSchema> {
        let Some(Value::Array(entries)) = object.get("fields") else {
            return Err(BadSchema(format!("record {record:?} has no list of \"fields\"")));
        };
        let mut fields: Vec<Field> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for entry in entries {
            let field = entry.as_object().ok_or_else(|| BadSchema(format!("record {record:?}: {entry} is not a field")))?;
            let name = required(field, "name", "field")?.as_str().unwrap_or_default().to_string();
            let at = |BadSchema(message): BadSchema| BadSchema(format!("field {name:?} of {record:?}: {message}"));
            if name.is_empty() || !seen.insert(name.clone()) {
                return Err(BadSchema(format!("record {record:?} has the field {name:?} twice, or without a name")));
            }
            let of = self.parse(required(field, "type", "field").map_err(at)?, namespace).map_err(at)?;
            let aliases = strings(field, "aliases").map_err(at)?;
            fields.push(Field { aliases, of, default: field.get("default").cloned(), name });
        }
        Ok(fields)
    }

    fn enumeration(&mut self, object: &Map<String, Value>, name: &str) -> Result<Body, BadSchema> {
        required(object, "symbols", "enum")?;
        let symbols = strings(object, "symbols")?;
        self.parts += symbols.len();
        let default = object.get("default").and_then(Value::as_str).map(String::from);
        if let Some(symbol) = default.as_ref().filter(|symbol| !symbols.contains(symbol)) {
            return Err(BadSchema(format!("enum {name:?}: its default {symbol:?} is not one of its symbols")));
        }
        Ok(Body::Enum { symbols, default })
    }
}

fn fixed(object: &Map<String, Value>, name: &str) -> Result<Body, BadSchema> {
    // The canonical form permits a quoted size.
    let size = required(object, "size", "fixed")?;
    let size = size.as_u64().or_else(|| size.as_str()?.parse().ok());
    let size = size.and_then(|size| i32::try_from(size).ok()).and_then(|size| usize::try_from(size).ok());
    let size = size.ok_or_else(|| BadSchema(format!("fixed {name:?} needs a \"size\" in bytes, up to {}", i32::MAX)))?;
    Ok(Body::Fixed { size, logical: logical(object, "fixed", Some(size)) })
}

fn required<'a>(object: &'a Map<String, Value>, key: &str, kind: &str) -> Result<&'a Value, BadSchema> {
    object.get(key).ok_or_else(|| BadSchema(format!("{kind} has no {key:?}")))
}

fn strings(object: &Map<String, Value>, key: &str) -> Result<Vec<String>, BadSchema> {
    let Some(value) = object.get(key) else {
        return Ok(Vec::new());
    };
    let texts = value.as_array().and_then(|list| list.iter().map(|item| item.as_str().map(String::from)).collect());
    texts.ok_or_else(|| BadSchema(format!("{key:?} must be a list of strings")))
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.trim_start_matches('.').to_string() } else { format!("{namespace}.{name}") }
}

fn primitive(name: &str, logical: Option<Logical>) -> Option<Type> {
    Some(match name {
        "null" => Type::Null,
        "boolean" => Type::Boolean,
        "int" => Type::Int(logical),
        "long" => Type::Long(logical),
        "float" => Type::Float,
        "double" => Type::Double,
        "bytes" => Type::Bytes(logical),
        "string" => Type::String(logical),
        _ => return None,
    })
}

/// The logical type, or `None` if there is none, it is unknown, or it does not fit the type: then the specification wants it ignored.
fn logical(object: &Map<String, Value>, kind: &str, size: Option<usize>) -> Option<Logical> {
    let name = object.get("logicalType")?.as_str()?;
    Some(match (kind, name) {
        ("int", "date") => Logical::Date,
        ("int", "time-millis") => Logical::TimeMillis,
        ("long", "time-micros") => Logical::TimeMicros,
        ("long", "timestamp-millis") => Logical::TimestampMillis,
        ("long", "timestamp-micros") => Logical::TimestampMicros,
        ("long", "timestamp-nanos") => Logical::TimestampNanos,
        ("long", "local-timestamp-millis") => Logical::LocalTimestampMillis,
        ("long", "local-timestamp-micros") => Logical::LocalTimestampMicros,
        ("long", "local-timestamp-nanos") => Logical::LocalTimestampNanos,
        ("string" | "bytes", "uuid") => Logical::Uuid,
        ("fixed", "uuid") if size == Some(UUID_BYTES) => Logical::Uuid,
        ("bytes" | "fixed", "decimal") => {
            let number = |key: &str| object.get(key).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok());
            let precision = number("precision")?;
            let scale = if object.contains_key("scale") { number("scale")? } else { 0 };
            let fits = size.is_none_or(|size| f64::from(precision) <= digits(size));
            if precision == 0 || scale > precision || !fits {
                return None;
            }
            Logical::Decimal { precision, scale }
        }
        _ => return None,
    })
}

/// How many decimal digits always fit a two's complement number of so many bytes.
fn digits(size: usize) -> f64 {
    let bits = u32::try_from(size).map_or(f64::MAX, |size| f64::from(size) * 8.0 - 1.0);
    (bits * std::f64::consts::LOG10_2).floor()
}

/// Whether a union may not hold both: only named types may occur more than once, by different names.
fn same_branch(a: &Type, b: &Type) -> bool {
    match (a, b) {
        (Type::Named(a), Type::Named(b)) => a == b,
        _ => std::mem::discriminant(a) == std::mem::discriminant(b),
    }
}
