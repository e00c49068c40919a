//! What a value that was found becomes before it is a field's.

use serde_json::{Number, Value};

use super::html;
use super::times::TimeFormat;
use crate::encode::Unit;
use crate::event_source::{BadReason, Refused};

/// What is done to a value, in this order.
#[derive(Clone, Debug, Default)]
pub(super) struct Conversions {
    /// HTML becomes text.
    pub html_to_text: bool,
    /// The type that it is to have.
    pub cast: Option<Cast>,
    /// Formats of a time, tried in their order.
    pub formats: Vec<TimeFormat>,
    /// The unit of a time that is a number, and that of the schema.
    pub units: Option<(Unit, Unit)>,
}

/// A type that a value is made to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Cast {
    /// Numbers and truth values as their text.
    Text,
    /// Text of a number as the number.
    Number,
}

impl Conversions {
    /// The value for `field`.
    pub fn apply(&self, value: &Value, field: &str) -> Result<Value, Refused> {
        let mut value = value.clone();
        if self.html_to_text {
            value = as_text(value, field)?;
        }
        if let Some(cast) = self.cast {
            value = cast.apply(value, field)?;
        }
        match self.time(&value, field)? {
            Some(time) => Ok(time),
            None => convert(&value, self.units, field),
        }
    }

    /// The time of a text in one of the formats; `None`: it is a number, or none are declared.
    fn time(&self, value: &Value, field: &str) -> Result<Option<Value>, Refused> {
        let (Value::String(text), false, Some((_, unit))) = (value, self.formats.is_empty(), self.units) else { return Ok(None) };
        match self.formats.iter().find_map(|format| format.read(text, unit)) {
            Some(time) => Ok(Some(time.into())),
            None => {
                let formats: Vec<&str> = self.formats.iter().map(TimeFormat::letters).collect();
                Err(Refused::new(
                    BadReason::WrongType,
                    format!("at {field}: {text:?} is no time of the format {}", formats.join(", nor of ")),
                ))
            }
        }
    }
}

fn as_text(value: Value, field: &str) -> Result<Value, Refused> {
    match value {
        Value::String(text) => Ok(html::to_text(&text).into()),
        Value::Null => Ok(Value::Null),
        other => Err(Refused::new(BadReason::WrongType, format!("at {field}: expected a text of HTML, found {other}"))),
    }
}

impl Cast {
    fn apply(self, value: Value, field: &str) -> Result<Value, Refused> {
        match (self, value) {
            (_, Value::Null) => Ok(Value::Null),
            (Cast::Text, Value::String(text)) => Ok(text.into()),
            (Cast::Text, value @ (Value::Number(_) | Value::Bool(_))) => Ok(value.to_string().into()),
            (Cast::Number, value @ Value::Number(_)) => Ok(value),
            (Cast::Number, Value::String(text)) => text
                .trim()
                .parse::<Number>()
                .map(Value::Number)
                .map_err(|_| Refused::new(BadReason::WrongType, format!("at {field}: {text:?} is not a number"))),
            (Cast::Text, other) => Err(Refused::new(BadReason::WrongType, format!("at {field}: {other} cannot be made a text"))),
            (Cast::Number, other) => Err(Refused::new(BadReason::WrongType, format!("at {field}: {other} cannot be made a number"))),
        }
    }
}

/// A time's number, as a number or as text, changes its unit. Other text says its time in full, and NULL is none; nothing else is a time.
pub(super) fn convert(value: &Value, units: Option<(Unit, Unit)>, field: &str) -> Result<Value, Refused> {
    let Some((from, to)) = units else { return Ok(value.clone()) };
    let converted = match value {
        Value::Number(number) if number.is_i64() => number.as_i64().map(|time| from.convert(time, to)),
        Value::Number(number) => {
            let digits = number.to_string();
            if is_rounded(number, &digits, from.ratio(to)) {
                let message = format!("at {field}: {digits} has more digits than a JSON number keeps; write it as text");
                return Err(Refused::new(BadReason::OutOfRange, message));
            }
            Some(from.convert_text(&digits, to).flatten())
        }
        Value::String(text) => from.convert_text(text, to),
        Value::Null => None,
        _ => return Err(Refused::new(BadReason::WrongType, format!("at {field}: expected a time, as a number or as text, found {value}"))),
    };
    match converted {
        None => Ok(value.clone()),
        Some(Some(time)) => Ok(time.into()),
        Some(None) => Err(Refused::new(BadReason::OutOfRange, format!("at {field}: {value} is too large for the schema's unit"))),
    }
}

/// Whether a JSON number may have been rounded, when it was read, by one of the unit that it is wanted in: it is a double of more digits than every double
/// keeps, and its neighbours are further away than that.
pub(super) fn is_rounded(number: &Number, digits: &str, ratio: f64) -> bool {
    const KEPT_DIGITS: usize = 15;
    let mantissa = digits.split(['e', 'E']).next().unwrap_or_default();
    let count = mantissa.trim_end_matches('0').bytes().filter(u8::is_ascii_digit).count();
    let to_neighbour = number.as_f64().unwrap_or_default().abs() * f64::EPSILON;
    number.is_f64() && count > KEPT_DIGITS && to_neighbour * ratio > 1.0
}
