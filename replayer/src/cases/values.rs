//! Values as they are written in a case, as JSON, and in the one form in which a column has them.

use chrono::{DateTime, NaiveDateTime};
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use refold_processor::json;
use serde_json::{Map, Number, Value};

/// An object: a table, or the JSON text of one, which can say null.
pub fn object(value: &toml::Value) -> Result<Map<String, Value>, String> {
    match value {
        toml::Value::Table(table) => Ok(table.iter().map(|(name, value)| (name.clone(), to_json(value))).collect()),
        toml::Value::String(text) => match serde_json::from_str(text) {
            Ok(Value::Object(object)) => Ok(object),
            Ok(_) => Err("its text is JSON, but no object".into()),
            Err(error) => Err(format!("its text is not JSON: {error}")),
        },
        other => Err(format!("it is neither a table nor JSON text: {other}")),
    }
}

/// Times become RFC 3339 text; what JSON has no number for is the text that rows have for it.
fn to_json(value: &toml::Value) -> Value {
    match value {
        toml::Value::String(text) => text.as_str().into(),
        toml::Value::Integer(number) => (*number).into(),
        toml::Value::Float(number) => match Number::from_f64(*number) {
            Some(number) => Value::Number(number),
            None if number.is_nan() => "NaN".into(),
            None if *number > 0.0 => "Infinity".into(),
            None => "-Infinity".into(),
        },
        toml::Value::Boolean(value) => (*value).into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(items) => items.iter().map(to_json).collect::<Vec<_>>().into(),
        toml::Value::Table(table) => Value::Object(table.iter().map(|(name, value)| (name.clone(), to_json(value))).collect()),
    }
}

/// The time that an RFC 3339 text names, milliseconds since the Unix epoch.
pub fn time_ms(text: &str) -> Result<i64, String> {
    let time = DateTime::parse_from_rfc3339(text);
    time.map(|time| time.timestamp_millis())
        .map_err(|_| format!("{text} is no time with an offset; write for instance 2026-11-30T12:00:00Z"))
}

/// The value as the column's rows have it: one instant, one decimal, one number has one form. What does not fit the type stays as it is, and is
/// different from everything in it.
pub fn canonical(value: Value, data_type: &DataType) -> Value {
    match (data_type, value) {
        (DataType::Timestamp(unit, Some(_)), Value::String(text)) => {
            let time = DateTime::parse_from_rfc3339(&text).ok().and_then(|time| of_unit(time.naive_utc(), *unit));
            time.map_or(Value::String(text), |time| json::timestamp(time, *unit))
        }
        (DataType::Timestamp(unit, None), Value::String(text)) => {
            let time = text.replacen(' ', "T", 1).parse().ok().and_then(|time| of_unit(time, *unit));
            match time.map(|time| json::timestamp(time, *unit)) {
                Some(Value::String(utc)) => utc.trim_end_matches('Z').into(),
                _ => Value::String(text),
            }
        }
        (DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale), Value::String(text)) => decimal(&text, *scale).into(),
        (DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale), Value::Number(number)) => {
            decimal(&number.to_string(), *scale).into()
        }
        (DataType::Float16 | DataType::Float32 | DataType::Float64, Value::Number(number)) => {
            number.as_f64().and_then(Number::from_f64).map_or(Value::Number(number), Value::Number)
        }
        (DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _), Value::Array(items)) => {
            items.into_iter().map(|value| canonical(value, item.data_type())).collect::<Vec<_>>().into()
        }
        (DataType::Struct(fields), Value::Object(members)) => {
            let member = |(name, value): (String, Value)| match fields.find(&name) {
                Some((_, field)) => (name, canonical(value, field.data_type())),
                None => (name, value),
            };
            Value::Object(members.into_iter().map(member).collect())
        }
        (_, value) => value,
    }
}

/// The time in this unit since 1970; `None` where it is finer than that.
fn of_unit(time: NaiveDateTime, unit: TimeUnit) -> Option<i64> {
    let per_second = json::per_second(unit);
    let (time, nanos_per_unit) = (time.and_utc(), 1_000_000_000 / per_second);
    let nanos = i64::from(time.timestamp_subsec_nanos());
    (nanos % nanos_per_unit == 0).then_some(())?;
    time.timestamp().checked_mul(per_second)?.checked_add(nanos / nanos_per_unit)
}

/// A decimal with as many places as the column has, if it has no more.
fn decimal(text: &str, scale: i8) -> String {
    let (whole, places) = text.split_once('.').unwrap_or((text, ""));
    let (places, scale) = (places.trim_end_matches('0'), usize::try_from(scale).unwrap_or(0));
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-'));
    match (is_plain && places.len() <= scale, scale) {
        (false, _) => text.to_owned(),
        (true, 0) => whole.to_owned(),
        (true, _) => format!("{whole}.{places:0<scale$}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

    use std::sync::Arc;

    use datafusion::arrow::datatypes::Field;
    use serde_json::json;

    use super::*;

    #[test]
    fn one_value_has_one_form() {
        let utc = |unit| DataType::Timestamp(unit, Some("+00:00".into()));
        for (written, data_type, form) in [
            (json!("2026-11-30T13:00:00+01:00"), utc(TimeUnit::Millisecond), json!("2026-11-30T12:00:00Z")),
            (json!("2026-11-30T12:00:00.5Z"), utc(TimeUnit::Microsecond), json!("2026-11-30T12:00:00.500000Z")),
            (json!("2026-11-30T12:00:00.0001Z"), utc(TimeUnit::Millisecond), json!("2026-11-30T12:00:00.0001Z")),
            (json!("2026-11-30 12:00:00"), DataType::Timestamp(TimeUnit::Millisecond, None), json!("2026-11-30T12:00:00")),
            (json!(12.5), DataType::Decimal128(12, 2), json!("12.50")),
            (json!("7"), DataType::Decimal128(12, 2), json!("7.00")),
            (json!("7.000"), DataType::Decimal128(12, 0), json!("7")),
            (json!("1.234"), DataType::Decimal128(12, 2), json!("1.234")),
            (json!(3), DataType::Float64, json!(3.0)),
            (json!("NaN"), DataType::Float64, json!("NaN")),
            (json!(3), DataType::Int64, json!(3)),
            (json!([1, 2]), DataType::List(Arc::new(Field::new_list_field(DataType::Float32, true))), json!([1.0, 2.0])),
        ] {
            assert_eq!(canonical(written.clone(), &data_type), form, "{written} as {data_type}");
        }
    }

    #[test]
    fn tables_and_json_text_are_objects() {
        let table: toml::Table = toml::from_str("at = 2026-11-30T12:00:00Z\nn = 3\nlist = [1.5, nan]").unwrap();
        let object_of = |value: toml::Value| object(&value).map(Value::Object);
        let expected = json!({ "at": "2026-11-30T12:00:00Z", "n": 3, "list": [1.5, "NaN"] });
        assert_eq!(object_of(toml::Value::Table(table)), Ok(expected));
        assert_eq!(object_of(toml::Value::String(r#"{"a": null}"#.into())), Ok(json!({ "a": null })));
        assert!(object_of(toml::Value::String("[]".into())).unwrap_err().contains("no object"));
        assert!(object_of(toml::Value::String("{".into())).unwrap_err().contains("not JSON"));
        assert!(object_of(toml::Value::Integer(5)).unwrap_err().contains("neither a table"));
    }
}
