//! Default values of the reader's fields, and the encoding of decimals that they share with records.

use serde_json::Value;

use super::avro::{Body, Field, Logical, Schema, Type};
use super::columns::Sink;
use super::cursor::Faulty;

/// A value that is the same for every record.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Constant {
    Null,
    Boolean(bool),
    Int(i32),
    Long(i64),
    Float(f32),
    Double(f64),
    Decimal {
        value: i128,
        /// As it is encoded.
        bytes: Vec<u8>,
        is_fixed: bool,
    },
    Text(String),
    Symbol {
        index: usize,
        symbol: String,
    },
    Bytes(Vec<u8>),
    Fixed(Vec<u8>),
    Record(Vec<Constant>),
    List(Vec<Constant>),
    Map(Vec<(String, Constant)>),
    /// The value of a branch of a union, which has this number.
    Branch(usize, Box<Constant>),
}

impl Constant {
    /// Appends the value.
    pub(super) fn append<'a, S: Sink<'a>>(&'a self, sink: &mut S) -> Faulty<()> {
        match self {
            Constant::Null => sink.null(),
            Constant::Boolean(value) => sink.boolean(*value),
            Constant::Int(value) => sink.int(*value),
            Constant::Long(value) => sink.long(*value),
            Constant::Float(value) => sink.float(*value),
            Constant::Double(value) => sink.double(*value),
            Constant::Decimal { value, .. } => sink.decimal(*value),
            Constant::Text(value) | Constant::Symbol { symbol: value, .. } => return sink.text(value),
            Constant::Bytes(value) | Constant::Fixed(value) => return sink.bytes(value),
            Constant::Branch(_, value) => return value.append(sink),
            Constant::Record(values) => {
                sink.record();
                for (index, value) in values.iter().enumerate() {
                    append_part(value, index, sink)?;
                }
            }
            Constant::List(values) => {
                for value in values {
                    append_part(value, 0, sink)?;
                }
                return sink.end();
            }
            Constant::Map(entries) => {
                for (key, value) in entries {
                    if let Some(keys) = sink.part(0) {
                        keys.text(key)?;
                    }
                    append_part(value, 1, sink)?;
                }
                return sink.end();
            }
        }
        Ok(())
    }

    /// Appends the value as Avro encodes it.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Constant::Null => {}
            Constant::Boolean(value) => out.push(u8::from(*value)),
            Constant::Int(value) => write_long(i64::from(*value), out),
            Constant::Long(value) => write_long(*value, out),
            Constant::Float(value) => out.extend_from_slice(&value.to_le_bytes()),
            Constant::Double(value) => out.extend_from_slice(&value.to_le_bytes()),
            Constant::Text(value) => write_bytes(value.as_bytes(), out),
            Constant::Symbol { index, .. } => write_long(*index as i64, out),
            Constant::Bytes(bytes) | Constant::Decimal { bytes, is_fixed: false, .. } => write_bytes(bytes, out),
            Constant::Fixed(bytes) | Constant::Decimal { bytes, is_fixed: true, .. } => out.extend_from_slice(bytes),
            Constant::Record(values) => values.iter().for_each(|value| value.encode(out)),
            Constant::List(values) => {
                if !values.is_empty() {
                    write_long(values.len() as i64, out);
                }
                values.iter().for_each(|value| value.encode(out));
                out.push(0);
            }
            Constant::Map(entries) => {
                if !entries.is_empty() {
                    write_long(entries.len() as i64, out);
                }
                for (key, value) in entries {
                    write_bytes(key.as_bytes(), out);
                    value.encode(out);
                }
                out.push(0);
            }
            Constant::Branch(index, value) => {
                write_long(*index as i64, out);
                value.encode(out);
            }
        }
    }
}

/// Appends a zigzag varint.
fn write_long(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push((rest as u8) | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Appends bytes with their length before them.
fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    write_long(bytes.len() as i64, out);
    out.extend_from_slice(bytes);
}

fn append_part<'a, S: Sink<'a>>(value: &'a Constant, index: usize, sink: &mut S) -> Faulty<()> {
    match sink.part(index) {
        Some(part) => value.append(part),
        None => Ok(()),
    }
}

/// The default of a reader's field: `None` if it has none.
///
/// # Errors
/// The default is not a value of the field's type.
pub(super) fn default_of(schema: &Schema, field: &Field) -> Result<Option<Constant>, String> {
    let Some(json) = &field.default else {
        return Ok(None);
    };
    default_within(schema, field, json, MOST_LEVELS).map(Some)
}

fn default_within(schema: &Schema, field: &Field, json: &Value, levels: usize) -> Result<Constant, String> {
    constant(schema, &field.of, json, levels).map_err(|why| format!("field {:?}: its default {json} is not valid: {why}", field.name))
}

/// How deep a default may be: that of a record may be made of the defaults of its fields, which may be made of it again.
const MOST_LEVELS: usize = 32;

fn constant(schema: &Schema, of: &Type, json: &Value, levels: usize) -> Result<Constant, String> {
    let Some(levels) = levels.checked_sub(1) else { return Err(format!("it has more than {MOST_LEVELS} levels, or is part of itself")) };
    let wrong = |expected: &str| format!("{expected} is needed, not {json}");
    match of {
        Type::Null => json.as_null().map(|()| Constant::Null).ok_or_else(|| wrong("null")),
        Type::Boolean => json.as_bool().map(Constant::Boolean).ok_or_else(|| wrong("true or false")),
        Type::Int(_) => {
            json.as_i64().and_then(|value| i32::try_from(value).ok()).map(Constant::Int).ok_or_else(|| wrong("a number of 32 bits"))
        }
        Type::Long(_) => json.as_i64().map(Constant::Long).ok_or_else(|| wrong("a number of 64 bits")),
        Type::Float => number(json).map(|value| Constant::Float(value as f32)).ok_or_else(|| wrong("a number")),
        Type::Double => number(json).map(Constant::Double).ok_or_else(|| wrong("a number")),
        Type::String(_) => json.as_str().map(|value| Constant::Text(value.into())).ok_or_else(|| wrong("a string")),
        Type::Bytes(logical) => {
            let bytes = latin_1(json).ok_or_else(|| wrong("a string of the characters U+0000 to U+00FF"))?;
            bytes_or_decimal(bytes, *logical, false)
        }
        Type::Array(items) => {
            let values = json.as_array().ok_or_else(|| wrong("a list"))?;
            values.iter().map(|value| constant(schema, items, value, levels)).collect::<Result<_, _>>().map(Constant::List)
        }
        Type::Map(of) => {
            let values = json.as_object().ok_or_else(|| wrong("an object"))?;
            let entries = values.iter().map(|(key, value)| Ok((key.clone(), constant(schema, of, value, levels)?)));
            entries.collect::<Result<_, String>>().map(Constant::Map)
        }
        Type::Union(branches) => {
            // Since Avro 1.12 the default may be of any branch, not only of the first.
            let branch =
                |(index, branch)| constant(schema, branch, json, levels).ok().map(|value| Constant::Branch(index, Box::new(value)));
            branches.iter().enumerate().find_map(branch).ok_or_else(|| wrong("a value of one of the union's types"))
        }
        Type::Named(id) => match schema.named(*id).map(|named| &named.body) {
            Some(Body::Record(fields)) => {
                let values = json.as_object().ok_or_else(|| wrong("an object"))?;
                let value = |field: &Field| match values.get(&field.name) {
                    Some(value) => constant(schema, &field.of, value, levels),
                    None => match &field.default {
                        Some(json) => default_within(schema, field, json, levels),
                        None => Err(format!("field {:?} is missing", field.name)),
                    },
                };
                fields.iter().map(value).collect::<Result<_, _>>().map(Constant::Record)
            }
            Some(Body::Enum { symbols, .. }) => {
                let index = json.as_str().and_then(|symbol| symbols.iter().position(|known| known == symbol));
                let symbol = index.and_then(|index| Some(Constant::Symbol { index, symbol: symbols.get(index)?.clone() }));
                symbol.ok_or_else(|| wrong("a symbol of the enum"))
            }
            Some(Body::Fixed { size, logical }) => {
                let bytes = latin_1(json).filter(|bytes| bytes.len() == *size);
                bytes_or_decimal(bytes.ok_or_else(|| wrong("a string of as many characters as there are bytes"))?, *logical, true)
            }
            None => Err(wrong("a defined type")),
        },
    }
}

/// A number; JSON has no word for those that are none, the Java implementation writes them as strings.
fn number(json: &Value) -> Option<f64> {
    match json.as_str() {
        Some("NaN") => Some(f64::NAN),
        Some("Infinity" | "INF") => Some(f64::INFINITY),
        Some("-Infinity" | "-INF") => Some(f64::NEG_INFINITY),
        _ => json.as_f64(),
    }
}

fn latin_1(json: &Value) -> Option<Vec<u8>> {
    json.as_str()?.chars().map(|character| u8::try_from(u32::from(character)).ok()).collect()
}

fn bytes_or_decimal(bytes: Vec<u8>, logical: Option<Logical>, is_fixed: bool) -> Result<Constant, String> {
    match logical {
        Some(Logical::Decimal { precision, .. }) => decimal(&bytes, precision).map(|value| Constant::Decimal { value, bytes, is_fixed }),
        _ if is_fixed => Ok(Constant::Fixed(bytes)),
        _ => Ok(Constant::Bytes(bytes)),
    }
}

/// An unscaled decimal: two's complement, big endian, of any length.
///
/// # Errors
/// There are no bytes, or more digits than `precision`.
pub(super) fn decimal(bytes: &[u8], precision: u32) -> Result<i128, String> {
    let negative = bytes.first().ok_or("a decimal of no bytes")? & 0x80 != 0;
    let padding = if negative { 0xff } else { 0 };
    let (head, tail) = bytes.split_at(bytes.len().saturating_sub(16));
    let mut value: i128 = if negative { -1 } else { 0 };
    for byte in tail {
        value = (value << 8) | i128::from(*byte);
    }
    let fits = head.iter().all(|byte| *byte == padding) && (value < 0) == negative;
    let limit = 10u128.checked_pow(precision).unwrap_or(u128::MAX);
    if fits && value.unsigned_abs() < limit { Ok(value) } else { Err(format!("a decimal of more than {precision} digits")) }
}
