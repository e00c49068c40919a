//! JSON values → Avro bytes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use refold_processor::text::uuid::parse_uuid;
use serde_json::{Map, Number, Value};

use super::decimal;
use super::plan::{Field, Node, Record};
use super::time::{Unit, parse_date, parse_local_timestamp, parse_time_of_day, parse_timestamp};
use crate::event_source::{BadReason, Refused};

/// Values nest no deeper, so that no input can exhaust the stack.
const MAX_DEPTH: usize = 64;

/// Writes values of one schema.
pub(crate) struct Writer<'p> {
    pub records: &'p [Record],
    /// Fields of the input that the schema does not have are skipped instead of refused.
    pub ignore_unknown: bool,
}

/// Appends a zigzag varint.
pub(crate) fn write_long(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push((rest as u8) | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Appends bytes with their length before them.
pub(crate) fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    write_long(bytes.len() as i64, out);
    out.extend_from_slice(bytes);
}

impl Writer<'_> {
    /// Appends `json` as a value of `node`. On error, what was appended is of no use.
    pub fn write(&self, node: &Node, json: &Value, depth: usize, out: &mut Vec<u8>) -> Result<(), Refused> {
        if depth > MAX_DEPTH {
            return Err(Refused::new(BadReason::OutOfRange, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        match node {
            Node::Null => json.as_null().ok_or_else(|| wrong("null", json)),
            Node::Boolean => {
                out.push(u8::from(json.as_bool().ok_or_else(|| wrong("true or false", json))?));
                Ok(())
            }
            Node::Int => integer(json, i64::from(i32::MIN)..=i64::from(i32::MAX)).map(|value| write_long(value, out)),
            Node::Long => integer(json, i64::MIN..=i64::MAX).map(|value| write_long(value, out)),
            Node::Float => {
                let exact = double(json)?;
                let value = exact as f32;
                if value.is_infinite() && exact.is_finite() {
                    return Err(Refused::new(BadReason::OutOfRange, format!("{json} is too large for a float")));
                }
                out.extend_from_slice(&value.to_le_bytes());
                Ok(())
            }
            Node::Double => {
                out.extend_from_slice(&double(json)?.to_le_bytes());
                Ok(())
            }
            Node::String => {
                write_bytes(text(json, "a string")?.as_bytes(), out);
                Ok(())
            }
            Node::Bytes => {
                write_bytes(&base64_bytes(json)?, out);
                Ok(())
            }
            Node::Fixed(size) => {
                let bytes = base64_bytes(json)?;
                if bytes.len() != *size {
                    return Err(Refused::new(BadReason::OutOfRange, format!("{} bytes where the schema has {size}", bytes.len())));
                }
                out.extend_from_slice(&bytes);
                Ok(())
            }
            Node::Enum(symbols) => {
                let symbol = text(json, "a symbol")?;
                let index = symbols.iter().position(|known| known == symbol).ok_or_else(|| {
                    Refused::new(BadReason::OutOfRange, format!("{symbol:?} is not one of its symbols: {}", symbols.join(", ")))
                })?;
                write_long(index as i64, out);
                Ok(())
            }
            Node::Decimal { precision, scale, fixed } => write_decimal(json, (*precision, *scale), *fixed, out),
            Node::UuidText => {
                let text = text(json, "a UUID")?;
                uuid_bytes(text)?;
                write_bytes(text.as_bytes(), out);
                Ok(())
            }
            Node::UuidBytes { with_length } => {
                let bytes = uuid_bytes(text(json, "a UUID")?)?;
                if *with_length {
                    write_long(bytes.len() as i64, out);
                }
                out.extend_from_slice(&bytes);
                Ok(())
            }
            Node::Date => {
                let days = time(json, "a date such as \"2026-11-23\", or days since 1970", parse_date)?;
                integer(&Value::from(days), i64::from(i32::MIN)..=i64::from(i32::MAX)).map(|value| write_long(value, out))
            }
            Node::TimeOfDay(unit) => {
                let value = time(json, "a time of day such as \"13:30:00\", or an integer", |text| parse_time_of_day(text, *unit))?;
                let day = Unit::S.convert(86_400, *unit).unwrap_or(i64::MAX);
                integer(&Value::from(value), 0..=day - 1).map(|value| write_long(value, out))
            }
            Node::Timestamp(unit) => {
                write_long(timestamp(json, *unit)?, out);
                Ok(())
            }
            Node::LocalTimestamp(unit) => {
                let expected = "a local time without an offset such as \"2026-11-23T12:00:00\", or an integer in the schema's unit";
                write_long(time(json, expected, |text| parse_local_timestamp(text, *unit))?, out);
                Ok(())
            }
            Node::Array(items) => {
                let values = json.as_array().ok_or_else(|| wrong("a list", json))?;
                if !values.is_empty() {
                    write_long(values.len() as i64, out);
                }
                for (index, value) in values.iter().enumerate() {
                    self.write(items, value, depth + 1, out).map_err(|refused| inside(&index.to_string(), refused))?;
                }
                out.push(0);
                Ok(())
            }
            Node::Map(values) => {
                let entries = json.as_object().ok_or_else(|| wrong("an object", json))?;
                if !entries.is_empty() {
                    write_long(entries.len() as i64, out);
                }
                for (key, value) in entries {
                    write_bytes(key.as_bytes(), out);
                    self.write(values, value, depth + 1, out).map_err(|refused| inside(key, refused))?;
                }
                out.push(0);
                Ok(())
            }
            Node::Union(branches) => self.write_union(branches, json, depth, out),
            Node::Record(index) => {
                let record = self.records.get(*index).ok_or_else(|| wrong("a record", json))?;
                let object = json.as_object().ok_or_else(|| wrong("an object", json))?;
                self.write_record(record, object, depth, |_, _| {}, out)
            }
        }
    }

    /// Appends an object as a record; tells `wrote` where each field begins.
    pub fn write_record(
        &self,
        record: &Record,
        object: &Map<String, Value>,
        depth: usize,
        mut wrote: impl FnMut(usize, usize),
        out: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        let mut present = 0;
        for (index, field) in record.fields.iter().enumerate() {
            wrote(index, out.len());
            match object.get(&field.name) {
                Some(value) => {
                    present += 1;
                    self.write(&field.node, value, depth + 1, out).map_err(|refused| inside(&field.name, refused))?;
                }
                None => match &field.default {
                    Some(default) => out.extend_from_slice(default),
                    None => return Err(missing(record, field, object)),
                },
            }
        }
        if present < object.len() && !self.ignore_unknown {
            return Err(unknown(record, object));
        }
        Ok(())
    }

    /// The first branch that takes the value; with one branch beside null, its own reason is told.
    fn write_union(&self, branches: &[Node], json: &Value, depth: usize, out: &mut Vec<u8>) -> Result<(), Refused> {
        let start = out.len();
        let mut refused = None;
        for (index, branch) in branches.iter().enumerate() {
            if json.is_null() != (*branch == Node::Null) {
                continue;
            }
            write_long(index as i64, out);
            match self.write(branch, json, depth + 1, out) {
                Ok(()) => return Ok(()),
                Err(reason) => {
                    out.truncate(start);
                    refused = refused.or(Some(reason));
                }
            }
        }
        Err(refused.unwrap_or_else(|| wrong("a value that one of the union's branches takes", json)))
    }
}

fn missing(record: &Record, field: &Field, object: &Map<String, Value>) -> Refused {
    // A misspelt field is both missing and unknown: what was written instead helps more.
    let unknown = object.keys().find(|key| is_near(key, &field.name) && !record.fields.iter().any(|field| field.name == **key));
    let hint = unknown.map(|key| format!("; there is {key:?}")).unwrap_or_default();
    Refused::new(BadReason::MissingField, format!("field {} is missing{hint}", field.name))
}

fn unknown(record: &Record, object: &Map<String, Value>) -> Refused {
    let names = || record.fields.iter().map(|field| field.name.as_str());
    let Some(key) = object.keys().find(|key| !names().any(|name| name == key.as_str())) else {
        return Refused::new(BadReason::UnknownField, "a field that the schema does not have");
    };
    let hint = names()
        .find(|name| is_near(key, name))
        .map(|name| format!("; the nearest is {name}"))
        .unwrap_or_else(|| format!("; it has {}", names().collect::<Vec<_>>().join(", ")));
    Refused::new(BadReason::UnknownField, format!("the schema has no field {key:?}{hint}"))
}

fn is_near(a: &str, b: &str) -> bool {
    strsim::damerau_levenshtein(&a.to_lowercase(), &b.to_lowercase()) <= 2.min(b.len() / 3)
}

fn inside(name: &str, refused: Refused) -> Refused {
    let detail = match refused.detail.strip_prefix("at ") {
        Some(rest) => format!("at {name}.{rest}"),
        None => format!("at {name}: {}", refused.detail),
    };
    Refused { reason: refused.reason, detail }
}

/// The refusal of a value of another type. Of a long value only the beginning is told.
fn wrong(expected: &str, json: &Value) -> Refused {
    let mut found: String = json.to_string().chars().take(60).collect();
    if found.chars().count() == 60 {
        found.push('…');
    }
    Refused::new(BadReason::WrongType, format!("expected {expected}, found {found}"))
}

fn text<'j>(json: &'j Value, expected: &str) -> Result<&'j str, Refused> {
    json.as_str().ok_or_else(|| wrong(expected, json))
}

fn integer(json: &Value, range: std::ops::RangeInclusive<i64>) -> Result<i64, Refused> {
    let value = match json {
        Value::Number(number) => match number.as_i64() {
            Some(value) => value,
            None => whole(number).ok_or_else(|| not_whole(number, json))?,
        },
        // Numbers above 2^53 travel as text, because many JSON writers would round them.
        Value::String(text) => text.parse().map_err(|_| wrong("an integer", json))?,
        _ => return Err(wrong("an integer", json)),
    };
    if range.contains(&value) {
        Ok(value)
    } else {
        Err(Refused::new(BadReason::OutOfRange, format!("{value} is not between {} and {}", range.start(), range.end())))
    }
}

/// A number such as `3.0` or `1e3` that is an integer all the same, where a double holds every integer.
fn whole(number: &Number) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let value = number.as_f64()?;
    (!number.is_u64() && value.fract() == 0.0 && value.abs() <= EXACT).then_some(value as i64)
}

fn not_whole(number: &Number, json: &Value) -> Refused {
    if number.as_f64().is_some_and(|value| value.fract() != 0.0) {
        wrong("an integer", json)
    } else {
        Refused::new(BadReason::OutOfRange, format!("{number} is not between {} and {}", i64::MIN, i64::MAX))
    }
}

fn double(json: &Value) -> Result<f64, Refused> {
    match json {
        Value::Number(number) => number.as_f64().ok_or_else(|| wrong("a number", json)),
        // JSON has no way to write these three as numbers.
        Value::String(text) => match text.as_str() {
            "NaN" => Ok(f64::NAN),
            "Infinity" => Ok(f64::INFINITY),
            "-Infinity" => Ok(f64::NEG_INFINITY),
            _ => Err(wrong("a number", json)),
        },
        _ => Err(wrong("a number", json)),
    }
}

/// The time that a value names, in `unit` since the Unix epoch.
pub(super) fn timestamp(json: &Value, unit: Unit) -> Result<i64, Refused> {
    let expected = "an RFC 3339 time such as \"2026-11-23T12:00:00Z\", or an integer in the schema's unit";
    time(json, expected, |text| parse_timestamp(text, unit))
}

fn time(json: &Value, expected: &str, parse: impl Fn(&str) -> Option<i64>) -> Result<i64, Refused> {
    match json {
        Value::Number(_) => integer(json, i64::MIN..=i64::MAX),
        Value::String(text) => parse(text).or_else(|| text.parse().ok()).ok_or_else(|| wrong(expected, json)),
        _ => Err(wrong(expected, json)),
    }
}

fn base64_bytes(json: &Value) -> Result<Vec<u8>, Refused> {
    let text = text(json, "base64 text")?;
    STANDARD.decode(text).map_err(|error| Refused::new(BadReason::WrongType, format!("expected base64 text: {error}")))
}

fn uuid_bytes(text: &str) -> Result<[u8; 16], Refused> {
    parse_uuid(text).ok_or_else(|| Refused::new(BadReason::WrongType, format!("expected a UUID, found {text:?}")))
}

fn write_decimal(json: &Value, (precision, scale): (usize, usize), fixed: Option<usize>, out: &mut Vec<u8>) -> Result<(), Refused> {
    /// A double tells this many decimal digits apart.
    const DOUBLE_DIGITS: usize = 15;
    let text = match json {
        Value::String(text) => text.clone(),
        Value::Number(number) => {
            let text = number.to_string();
            let digits = text.split(['e', 'E']).next().unwrap_or("").bytes().filter(u8::is_ascii_digit).count();
            // A whole number that is longer than 64 bits was rounded when it was read, whatever few digits are left of it.
            let is_long = number.as_f64().is_some_and(|value| value.abs() >= 1e15);
            if number.is_f64() && (digits > DOUBLE_DIGITS || is_long) {
                let message = format!("{text} has more digits than a JSON number keeps; write it as text");
                return Err(Refused::new(BadReason::OutOfRange, message));
            }
            text
        }
        _ => return Err(wrong("a decimal number", json)),
    };
    let unscaled = decimal::parse(&text, precision, scale)
        .map_err(|reason| Refused::new(BadReason::OutOfRange, format!("{text:?} {reason} (precision {precision}, scale {scale})")))?;
    let bytes = unscaled.to_be_bytes();
    let needed = bytes.get(decimal::first_needed_byte(&bytes)..).unwrap_or(&bytes);
    match fixed {
        None => write_bytes(needed, out),
        Some(size) => {
            let Some(padding) = size.checked_sub(needed.len()) else {
                return Err(Refused::new(BadReason::OutOfRange, format!("{text:?} does not fit {size} bytes")));
            };
            let sign = if unscaled < 0 { 0xFF } else { 0 };
            out.extend(std::iter::repeat_n(sign, padding));
            out.extend_from_slice(needed);
        }
    }
    Ok(())
}
