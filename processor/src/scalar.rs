//! Values as texts → values of a column's type. The texts are those that [`crate::json`] shows, and what people write for them.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use chrono::{DateTime, NaiveDate, NaiveDateTime};
use datafusion::arrow::array::{ArrayRef, StringArray};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::scalar::ScalarValue;
use serde_json::Value;

use crate::json::per_second;

/// The value that a JSON value is for a column of this type, as [`crate::json::value`] shows it.
///
/// # Errors
/// What it should look like.
pub fn of_json(value: &Value, data_type: &DataType) -> Result<ScalarValue, String> {
    match value {
        Value::String(text) => parse(text, data_type),
        other => parse(&other.to_string(), data_type),
    }
}

/// The value that `text` is for a column of this type.
///
/// # Errors
/// What it should look like.
pub fn parse(text: &str, data_type: &DataType) -> Result<ScalarValue, String> {
    let scalar = match data_type {
        DataType::Utf8 => ScalarValue::Utf8(Some(text.to_owned())),
        DataType::LargeUtf8 => ScalarValue::LargeUtf8(Some(text.to_owned())),
        DataType::Utf8View => ScalarValue::Utf8View(Some(text.to_owned())),
        DataType::Binary => ScalarValue::Binary(Some(binary(text)?)),
        DataType::LargeBinary => ScalarValue::LargeBinary(Some(binary(text)?)),
        DataType::BinaryView => ScalarValue::BinaryView(Some(binary(text)?)),
        DataType::FixedSizeBinary(size) => ScalarValue::FixedSizeBinary(*size, Some(fixed(text, *size)?)),
        DataType::Boolean => match text {
            "true" => ScalarValue::Boolean(Some(true)),
            "false" => ScalarValue::Boolean(Some(false)),
            _ => return Err("is not true or false".into()),
        },
        DataType::Timestamp(unit, zone) => {
            let time = time(text, *unit, zone.is_some())?;
            match unit {
                TimeUnit::Second => ScalarValue::TimestampSecond(Some(time), zone.clone()),
                TimeUnit::Millisecond => ScalarValue::TimestampMillisecond(Some(time), zone.clone()),
                TimeUnit::Microsecond => ScalarValue::TimestampMicrosecond(Some(time), zone.clone()),
                TimeUnit::Nanosecond => ScalarValue::TimestampNanosecond(Some(time), zone.clone()),
            }
        }
        DataType::Dictionary(keys, values) => ScalarValue::Dictionary(keys.clone(), Box::new(parse(text, values)?)),
        _ => cast(text, data_type)?,
    };
    Ok(scalar)
}

/// What a value of this type looks like, for people.
pub fn describe(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "bytes in Base64".into(),
        DataType::Boolean => "true or false".into(),
        DataType::Timestamp(..) => "a time such as 2026-11-23T13:30:00Z".into(),
        DataType::Date32 | DataType::Date64 => "a date such as 2026-11-23".into(),
        DataType::Dictionary(_, values) => describe(values),
        data_type if data_type.is_integer() => "a whole number".into(),
        data_type if data_type.is_numeric() => "a number".into(),
        other => format!("a value of type {other}"),
    }
}

fn cast(text: &str, data_type: &DataType) -> Result<ScalarValue, String> {
    let refused = || format!("is not {} that the column can hold", describe(data_type));
    let array: ArrayRef = Arc::new(StringArray::from(vec![text]));
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let array = cast_with_options(&array, data_type, &options).map_err(|_| refused())?;
    ScalarValue::try_from_array(&array, 0).map_err(|_| refused())
}

/// RFC 3339 with any zone, or a date (its first moment in UTC). A column of no zone is named without one, as it is shown.
fn time(text: &str, unit: TimeUnit, has_zone: bool) -> Result<i64, String> {
    let parsed = DateTime::parse_from_rfc3339(text).ok().or_else(|| {
        // An unescaped plus of a zone arrives as a space.
        let (before, zone) = text.rsplit_once(' ')?;
        DateTime::parse_from_rfc3339(&format!("{before}+{zone}")).ok()
    });
    let local = || text.parse::<NaiveDateTime>().ok().filter(|_| !has_zone).map(|time| time.and_utc());
    let instant = parsed.map(|time| time.to_utc()).or_else(local).or_else(|| {
        let date: NaiveDate = text.parse().ok()?;
        Some(date.and_hms_opt(0, 0, 0)?.and_utc())
    });
    let instant = instant.ok_or("is not a time; write for instance 2026-11-23T13:30:00Z or 2026-11-23")?;
    let per_second = per_second(unit);
    let nanoseconds = i64::from(instant.timestamp_subsec_nanos());
    let each = 1_000_000_000 / per_second;
    if nanoseconds % each != 0 {
        return Err(format!("is finer than the column's unit, 1/{per_second} of a second"));
    }
    let whole = instant.timestamp().checked_mul(per_second);
    whole.and_then(|whole| whole.checked_add(nanoseconds / each)).ok_or_else(|| "is a time that the column cannot hold".into())
}

fn binary(text: &str) -> Result<Vec<u8>, String> {
    // A plus that was not escaped arrives as a space.
    STANDARD.decode(text.replace(' ', "+")).or_else(|_| URL_SAFE.decode(text)).map_err(|_| "is not Base64".into())
}

fn fixed(text: &str, size: i32) -> Result<Vec<u8>, String> {
    let bytes = binary(text)?;
    if usize::try_from(size).is_ok_and(|size| bytes.len() == size) { Ok(bytes) } else { Err(format!("is not Base64 of {size} bytes")) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

    use super::*;

    #[test]
    fn times_in_any_zone_are_of_the_columns_unit() {
        let column = DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into()));
        let expected = ScalarValue::TimestampMillisecond(Some(5_400_000), Some("+00:00".into()));
        for text in ["1970-01-01T01:30:00Z", "1970-01-01T03:30:00+02:00", "1970-01-01T03:30:00 02:00", "1970-01-01T01:30:00.000Z"] {
            assert_eq!(parse(text, &column), Ok(expected.clone()), "{text}");
        }
        assert_eq!(parse("1970-01-02", &column), Ok(ScalarValue::TimestampMillisecond(Some(86_400_000), Some("+00:00".into()))));
    }

    #[test]
    fn a_time_of_no_zone_is_named_as_it_is_shown() {
        let expected = Ok(ScalarValue::TimestampMillisecond(Some(5_400_500), None));
        assert_eq!(parse("1970-01-01T01:30:00.500", &DataType::Timestamp(TimeUnit::Millisecond, None)), expected);
        let utc = DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into()));
        assert!(parse("1970-01-01T01:30:00.500", &utc).is_err(), "which clock?");
    }

    #[test]
    fn a_time_that_is_not_one_of_the_columns_is_refused_with_the_way_to_write_it() {
        let column = DataType::Timestamp(TimeUnit::Millisecond, None);
        assert!(parse("yesterday", &column).unwrap_err().contains("2026-11-23T13:30:00Z"));
        assert!(parse("1970-01-01T00:00:00.0001Z", &column).unwrap_err().contains("finer"));
        let nanoseconds = DataType::Timestamp(TimeUnit::Nanosecond, None);
        assert!(parse("9999-01-01T00:00:00Z", &nanoseconds).unwrap_err().contains("cannot hold"));
    }

    #[test]
    fn what_json_shows_is_read_back() {
        let all = [
            ScalarValue::Utf8(Some("7".into())),
            ScalarValue::Int64(Some(-7)),
            ScalarValue::Boolean(Some(true)),
            ScalarValue::Binary(Some(vec![0xFB, 0xFF])),
            ScalarValue::Decimal128(Some(1_250), 10, 2),
            ScalarValue::TimestampMillisecond(Some(5_400_500), None),
            ScalarValue::TimestampMicrosecond(Some(5_400_500), Some("+00:00".into())),
        ];
        for scalar in all {
            let shown = crate::json::value(scalar.to_array().unwrap().as_ref(), 0);
            assert_eq!(of_json(&shown, &scalar.data_type()), Ok(scalar), "{shown}");
        }
    }

    #[test]
    fn numbers_are_exact_or_refused() {
        assert_eq!(parse("9223372036854775807", &DataType::Int64), Ok(ScalarValue::Int64(Some(i64::MAX))));
        assert!(parse("300", &DataType::UInt8).unwrap_err().contains("whole number"));
        assert!(parse("ten", &DataType::Int32).unwrap_err().contains("whole number"));
        assert_eq!(parse("12.50", &DataType::Decimal128(10, 2)), Ok(ScalarValue::Decimal128(Some(1_250), 10, 2)));
    }

    #[test]
    fn text_is_taken_as_it_is_and_bytes_are_base64() {
        assert_eq!(parse(" ☃ ", &DataType::Utf8), Ok(ScalarValue::Utf8(Some(" ☃ ".into()))));
        assert_eq!(parse("", &DataType::Utf8View), Ok(ScalarValue::Utf8View(Some(String::new()))));
        assert_eq!(parse("+/8=", &DataType::Binary), Ok(ScalarValue::Binary(Some(vec![0xFB, 0xFF]))));
        assert_eq!(parse("-_8=", &DataType::Binary), Ok(ScalarValue::Binary(Some(vec![0xFB, 0xFF]))));
        assert!(parse("+/8=", &DataType::FixedSizeBinary(3)).unwrap_err().contains("3 bytes"));
        assert_eq!(parse("true", &DataType::Boolean), Ok(ScalarValue::Boolean(Some(true))));
        assert!(parse("yes", &DataType::Boolean).is_err());
    }
}
