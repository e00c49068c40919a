//! Values of JSON on their way into columns.

use std::cell::RefCell;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bumpalo::Bump;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::super::columns::{Nothing, Sink};
use super::super::cursor::{Fault, Faulty};
use super::node::{FieldSlot, Node, Record, Slot};
use crate::quarantine::Reason;
use crate::text::decimal;
use crate::text::time::{Unit, parse_date, parse_local_timestamp, parse_time_of_day, parse_timestamp};
use crate::text::uuid::parse_uuid;

/// Whole numbers up to this one are what their text says although they were read as doubles.
const EXACT: f64 = 9_007_199_254_740_992.0;
/// A double tells this many decimal digits apart.
const DOUBLE_DIGITS: usize = 15;

/// What all values of a record share.
pub(super) struct Context<'a> {
    pub records: &'a [Record],
    /// Where text that had escapes is kept until the batch is complete.
    pub arena: &'a Bump,
    /// Why the record is refused: the deserializer's own error has no room for it.
    pub fault: RefCell<Option<Box<Fault>>>,
}

/// Where a value goes.
pub(super) struct Place<'k, 'a, S> {
    pub context: &'k Context<'a>,
    pub slot: &'a Slot,
    pub sink: &'k mut S,
}

impl<'a, S: Sink<'a>> DeserializeSeed<'a> for Place<'_, 'a, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a, S: Sink<'a>> Place<'_, 'a, S> {
    fn done<E: Error>(context: &Context<'a>, taken: Faulty<()>) -> Result<(), E> {
        taken.map_err(|fault| {
            *context.fault.borrow_mut() = Some(fault);
            E::custom("refused")
        })
    }

    fn integer(self, value: i64) -> Faulty<()> {
        match &self.slot.node {
            Node::Int => self.sink.int(i32::try_from(value).map_err(|_| out_of_range(value, i32::MIN, i32::MAX))?),
            Node::Long => self.sink.long(value),
            Node::Float => self.sink.float(value as f32),
            Node::Double => self.sink.double(value as f64),
            Node::Decimal { precision, scale } => self.sink.decimal(decimal_of(&value.to_string(), *precision, *scale)?),
            Node::Date => self.sink.int(i32::try_from(value).map_err(|_| out_of_range(value, i32::MIN, i32::MAX))?),
            Node::TimeOfDay(unit) => time_of_day(value, *unit, self.sink)?,
            Node::Timestamp { unit, numbers } => {
                let time = numbers.convert(value, *unit).ok_or_else(|| Fault::invalid(format!("{value} is out of the range of times")))?;
                self.sink.long(time);
            }
            Node::LocalTimestamp(_) => self.sink.long(value),
            _ => return Err(self.unexpected(&value)),
        }
        Ok(())
    }

    fn number(self, value: f64) -> Faulty<()> {
        match &self.slot.node {
            Node::Double => self.sink.double(value),
            Node::Float => {
                let float = value as f32;
                if float.is_infinite() {
                    return Err(Fault::invalid(format!("{value} is too large for a float")));
                }
                self.sink.float(float);
            }
            Node::Decimal { precision, scale } => {
                let text = value.to_string();
                let digits = text.bytes().filter(u8::is_ascii_digit).count();
                if digits > DOUBLE_DIGITS || value.abs() >= 1e15 {
                    return Err(Fault::invalid(format!("{text} has more digits than a JSON number keeps; write it as text")));
                }
                self.sink.decimal(decimal_of(&text, *precision, *scale)?);
            }
            Node::Timestamp { unit, numbers } if numbers != unit => {
                let time = numbers.convert_text(&value.to_string(), *unit).flatten();
                self.sink.long(time.ok_or_else(|| Fault::invalid(format!("{value} is out of the range of times")))?);
            }
            Node::Int | Node::Long | Node::Date | Node::TimeOfDay(_) | Node::Timestamp { .. } | Node::LocalTimestamp(_) => {
                // JavaScript writes whole numbers so that were computed.
                return match value.fract() == 0.0 && value.abs() <= EXACT {
                    true => self.integer(value as i64),
                    false => Err(Fault::invalid(format!("expected {}, found {value}", self.slot.node))),
                };
            }
            _ => return Err(self.unexpected(&value)),
        }
        Ok(())
    }

    /// Text; `keep` makes it last as long as the columns.
    fn text(self, text: &str, keep: impl FnOnce() -> &'a str) -> Faulty<()> {
        let refused = || Fault::invalid(format!("expected {}, found {}", self.slot.node, shortened(text)));
        match &self.slot.node {
            Node::Text => return self.sink.text(keep()),
            Node::UuidText => {
                parse_uuid(text).ok_or_else(refused)?;
                return self.sink.text(keep());
            }
            Node::UuidBytes => {
                let bytes = parse_uuid(text).ok_or_else(refused)?;
                return self.sink.bytes(self.context.arena.alloc_slice_copy(&bytes));
            }
            Node::Enum(symbols, default) => match (symbols.iter().find(|symbol| *symbol == text), default) {
                (Some(symbol), _) | (None, Some(symbol)) => return self.sink.text(symbol),
                (None, None) => return Err(refused()),
            },
            Node::Bytes | Node::Fixed(_) => {
                let bytes = STANDARD.decode(text).map_err(|_| refused())?;
                if let Node::Fixed(size) = &self.slot.node
                    && bytes.len() != *size
                {
                    return Err(Fault::invalid(format!("{} bytes where the schema has {size}", bytes.len())));
                }
                return self.sink.bytes(self.context.arena.alloc_slice_copy(&bytes));
            }
            Node::Decimal { precision, scale } => self.sink.decimal(decimal_of(text, *precision, *scale)?),
            Node::Double | Node::Float => {
                // JSON has no way to write these three as numbers.
                let value = match text {
                    "NaN" => f64::NAN,
                    "Infinity" => f64::INFINITY,
                    "-Infinity" => f64::NEG_INFINITY,
                    _ => return Err(refused()),
                };
                if matches!(self.slot.node, Node::Double) { self.sink.double(value) } else { self.sink.float(value as f32) }
            }
            Node::Int | Node::Long => return text.parse().map_err(|_| refused()).and_then(|value| self.integer(value)),
            Node::Date => return self.time(text, parse_date(text)),
            Node::TimeOfDay(unit) => return self.time(text, parse_time_of_day(text, *unit)),
            Node::LocalTimestamp(unit) => return self.time(text, parse_local_timestamp(text, *unit)),
            Node::Timestamp { unit, .. } => match parse_timestamp(text, *unit) {
                Some(time) => self.sink.long(time),
                None => return text.parse().map_err(|_| refused()).and_then(|value| self.integer(value)),
            },
            _ => return Err(refused()),
        }
        Ok(())
    }

    /// A time that was read from its text, or a number that is written as text.
    fn time(self, text: &str, time: Option<i64>) -> Faulty<()> {
        match time.or_else(|| text.parse().ok()) {
            Some(time) => self.integer(time),
            None => Err(Fault::invalid(format!("expected {}, found {}", self.slot.node, shortened(text)))),
        }
    }

    #[cold]
    fn unexpected(&self, found: &dyn fmt::Display) -> Box<Fault> {
        Fault::invalid(format!("expected {}, found {found}", self.slot.node))
    }
}

impl<'a, S: Sink<'a>> Visitor<'a> for Place<'_, 'a, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.slot.node)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        if self.slot.nullable || matches!(self.slot.node, Node::Null) {
            self.sink.null();
            return Ok(());
        }
        Self::done(self.context, Err(self.unexpected(&"null")))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        if matches!(self.slot.node, Node::Boolean) {
            self.sink.boolean(value);
            return Ok(());
        }
        Self::done(self.context, Err(self.unexpected(&value)))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        let context = self.context;
        Self::done(context, self.integer(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        let context = self.context;
        let taken = match (i64::try_from(value), &self.slot.node) {
            (Ok(value), _) => self.integer(value),
            (Err(_), Node::Decimal { precision, scale }) => {
                decimal_of(&value.to_string(), *precision, *scale).map(|value| self.sink.decimal(value))
            }
            (Err(_), Node::Double | Node::Float) => self.number(value as f64),
            (Err(_), Node::Int | Node::Long | Node::Timestamp { .. }) => Err(out_of_range(value, i64::MIN, i64::MAX)),
            (Err(_), _) => Err(self.unexpected(&value)),
        };
        Self::done(context, taken)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        let context = self.context;
        Self::done(context, self.number(value))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'a str) -> Result<(), E> {
        let context = self.context;
        Self::done(context, self.text(text, || text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let context = self.context;
        let arena = context.arena;
        Self::done(context, self.text(text, || arena.alloc_str(text)))
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut items: A) -> Result<(), A::Error> {
        let Place { context, slot, sink } = self;
        let Node::Array(item) = &slot.node else {
            return Self::done(context, Err(Fault::invalid(format!("expected {}, found a list", slot.node))));
        };
        loop {
            let next = match sink.part(0) {
                Some(part) => items.next_element_seed(Place { context, slot: item, sink: part }),
                None => items.next_element_seed(Place { context, slot: item, sink: &mut Nothing }),
            };
            if next?.is_none() {
                return Self::done(context, sink.end());
            }
        }
    }

    fn visit_map<A: MapAccess<'a>>(self, object: A) -> Result<(), A::Error> {
        let Place { context, slot, sink } = self;
        match &slot.node {
            Node::Map(values) => map(context, values, sink, object),
            Node::Record(index) => match context.records.get(*index) {
                Some(fields) => record(context, fields, sink, object),
                None => Self::done(context, Err(Fault::invalid("record"))),
            },
            _ => Self::done(context, Err(Fault::invalid(format!("expected {}, found an object", slot.node)))),
        }
    }
}

fn map<'a, S: Sink<'a>, A: MapAccess<'a>>(context: &Context<'a>, values: &'a Slot, sink: &mut S, mut object: A) -> Result<(), A::Error> {
    while let Some(key) = object.next_key_seed(Key { context })? {
        let taken = sink.part(0).map_or(Ok(()), |keys| keys.text(key));
        Place::<S>::done(context, taken)?;
        match sink.part(1) {
            Some(part) => object.next_value_seed(Place { context, slot: values, sink: part })?,
            None => object.next_value_seed(Place { context, slot: values, sink: &mut Nothing })?,
        }
    }
    Place::<S>::done(context, sink.end())
}

/// Which fields of a record were there: a bit each, of the first of them without an allocation.
struct Seen {
    first: u64,
    rest: Vec<bool>,
}

impl Seen {
    fn new(fields: usize) -> Seen {
        Seen { first: 0, rest: vec![false; fields.saturating_sub(64)] }
    }

    fn has(&self, field: usize) -> bool {
        match field.checked_sub(64) {
            None => self.first & (1 << field) != 0,
            Some(field) => self.rest.get(field).copied().unwrap_or_default(),
        }
    }

    fn add(&mut self, field: usize) {
        match field.checked_sub(64) {
            None => self.first |= 1 << field,
            Some(field) => self.rest.get_mut(field).into_iter().for_each(|seen| *seen = true),
        }
    }
}

fn record<'a, S: Sink<'a>, A: MapAccess<'a>>(
    context: &Context<'a>,
    record: &'a Record,
    sink: &mut S,
    mut object: A,
) -> Result<(), A::Error> {
    sink.record();
    let mut seen = Seen::new(record.fields.len());
    // Writers mostly keep one order.
    let mut expected = 0;
    while let Some(found) = object.next_key_seed(Name { record, expected })? {
        let Some((index, field)) = found.and_then(|index| Some((index, record.fields.get(index)?))) else {
            object.next_value::<IgnoredAny>()?;
            continue;
        };
        if seen.has(index) {
            let fault = Fault::invalid("it is there more than once").in_field(&field.name);
            return Place::<S>::done(context, Err(fault));
        }
        seen.add(index);
        expected = index + 1;
        value(context, field, sink, &mut object)?;
    }
    for field in record.fields.iter().enumerate().filter(|(index, _)| !seen.has(*index)).map(|(_, field)| field) {
        let part = field.part.and_then(|part| sink.part(part));
        let taken = match (&field.default, part) {
            (Some(default), Some(part)) => default.append(part),
            (Some(_), None) => Ok(()),
            (None, _) => Err(Fault::invalid("it is missing, and has no default").in_field(&field.name)),
        };
        Place::<S>::done(context, taken)?;
    }
    Ok(())
}

fn value<'a, S: Sink<'a>, A: MapAccess<'a>>(
    context: &Context<'a>,
    field: &'a FieldSlot,
    sink: &mut S,
    object: &mut A,
) -> Result<(), A::Error> {
    let part = field.part.and_then(|part| sink.part(part));
    let read = match part {
        Some(part) => object.next_value_seed(Place { context, slot: &field.slot, sink: part }),
        None => object.next_value_seed(Place { context, slot: &field.slot, sink: &mut Nothing }),
    };
    if read.is_err() {
        let mut fault = context.fault.borrow_mut();
        *fault = fault.take().map(|fault| fault.in_field(&field.name));
    }
    read
}

/// A key of a map, kept as long as the columns.
struct Key<'k, 'a> {
    context: &'k Context<'a>,
}

impl<'a> DeserializeSeed<'a> for Key<'_, 'a> {
    type Value = &'a str;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<&'a str, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'a> for Key<'_, 'a> {
    type Value = &'a str;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'a str) -> Result<&'a str, E> {
        Ok(text)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<&'a str, E> {
        Ok(self.context.arena.alloc_str(text))
    }
}

/// The name of a field: which one it is of a record, if any.
struct Name<'a> {
    record: &'a Record,
    expected: usize,
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Option<usize>, E> {
        match self.record.fields.get(self.expected) {
            Some(field) if field.name == name => Ok(Some(self.expected)),
            _ => Ok(self.record.by_name.get(name).copied()),
        }
    }
}

fn time_of_day<'a>(value: i64, unit: Unit, sink: &mut impl Sink<'a>) -> Faulty<()> {
    let day = Unit::S.convert(86_400, unit).unwrap_or(i64::MAX);
    if !(0..day).contains(&value) {
        return Err(out_of_range(value, 0, day - 1));
    }
    match (unit, i32::try_from(value)) {
        (Unit::Ms, Ok(value)) => sink.int(value),
        _ => sink.long(value),
    }
    Ok(())
}

fn decimal_of(text: &str, precision: usize, scale: usize) -> Faulty<i128> {
    decimal::parse(text, precision, scale)
        .map_err(|why| Fault::invalid(format!("{} {why} (precision {precision}, scale {scale})", shortened(text))))
}

#[cold]
fn out_of_range(value: impl fmt::Display, least: impl fmt::Display, most: impl fmt::Display) -> Box<Fault> {
    Fault::new(Reason::InvalidValue, format!("{value} is not between {least} and {most}"))
}

/// A text as it is shown in an error.
#[cold]
fn shortened(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Null => f.write_str("null"),
            Node::Boolean => f.write_str("true or false"),
            Node::Int | Node::Long => f.write_str("an integer"),
            Node::Float | Node::Double => f.write_str("a number"),
            Node::Text => f.write_str("a string"),
            Node::UuidText | Node::UuidBytes => f.write_str("a UUID"),
            Node::Bytes | Node::Fixed(_) => f.write_str("Base64 text"),
            Node::Enum(symbols, _) => write!(f, "one of {}", symbols.join(", ")),
            Node::Decimal { .. } => f.write_str("a decimal number"),
            Node::Date => f.write_str("a date such as \"2026-11-23\", or days since 1970"),
            Node::TimeOfDay(_) => f.write_str("a time of day such as \"13:30:00\", or an integer"),
            Node::Timestamp { .. } => f.write_str("an RFC 3339 time such as \"2026-11-23T12:00:00Z\", or an integer"),
            Node::LocalTimestamp(_) => f.write_str("a local time without an offset such as \"2026-11-23T12:00:00\", or an integer"),
            Node::Array(_) => f.write_str("a list"),
            Node::Map(_) | Node::Record(_) => f.write_str("an object"),
        }
    }
}
