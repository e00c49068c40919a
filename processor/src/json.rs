//! Rows as JSON.
//!
//! | column | JSON |
//! |---|---|
//! | integers, also of 64 bits | number, all digits |
//! | floating point | number; `"NaN"`, `"Infinity"` and `"-Infinity"`, which JSON has no numbers for, as text |
//! | decimal | text, so that no reader rounds it: `"12.50"` |
//! | timestamp | RFC 3339 in UTC; the fraction only where it is not zero, with the digits of the column's unit |
//! | timestamp of no zone (a local one) | the same without the offset that it does not have: `"2026-11-23T13:30:00"` |
//! | date, time of day | `"2026-11-23"`, `"13:30:00.5"` |
//! | binary | text, Base64 |
//! | list, struct, map | array, object, object |
//! | others (durations, intervals) | text, as Arrow displays them |

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat, Utc};
use datafusion::arrow::array::types::{
    Decimal128Type, Decimal256Type, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::{Map, Value};

use crate::position::Cut;

/// The rows of a batch, each an object in the order of the columns.
pub fn rows(batch: &RecordBatch) -> Vec<Value> {
    (0..batch.num_rows()).map(|row| object(batch, row)).collect()
}

/// One row of a batch.
pub fn object(batch: &RecordBatch, row: usize) -> Value {
    let schema = batch.schema_ref();
    let columns = schema.fields().iter().zip(batch.columns());
    Value::Object(columns.map(|(field, array)| (field.name().clone(), value(array.as_ref(), row))).collect())
}

/// One value of a column.
pub fn value(array: &dyn Array, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Null => Value::Null,
        DataType::Boolean => array.as_boolean().value(row).into(),
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).into(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into(),
        DataType::UInt8 => array.as_primitive::<UInt8Type>().value(row).into(),
        DataType::UInt16 => array.as_primitive::<UInt16Type>().value(row).into(),
        DataType::UInt32 => array.as_primitive::<UInt32Type>().value(row).into(),
        DataType::UInt64 => array.as_primitive::<UInt64Type>().value(row).into(),
        DataType::Float16 => float(f64::from(array.as_primitive::<Float16Type>().value(row))),
        DataType::Float32 => shortest(array.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => float(array.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(..) => array.as_primitive::<Decimal128Type>().value_as_string(row).into(),
        DataType::Decimal256(..) => array.as_primitive::<Decimal256Type>().value_as_string(row).into(),
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).into(),
        DataType::Utf8View => array.as_string_view().value(row).into(),
        DataType::Binary => STANDARD.encode(array.as_binary::<i32>().value(row)).into(),
        DataType::LargeBinary => STANDARD.encode(array.as_binary::<i64>().value(row)).into(),
        DataType::BinaryView => STANDARD.encode(array.as_binary_view().value(row)).into(),
        DataType::FixedSizeBinary(_) => STANDARD.encode(array.as_fixed_size_binary().value(row)).into(),
        DataType::Timestamp(unit, Some(_)) => timestamp(instant(array, unit, row), *unit),
        DataType::Timestamp(unit, None) => local_timestamp(instant(array, unit, row), *unit),
        DataType::List(_) => list(array.as_list::<i32>().value(row).as_ref()),
        DataType::LargeList(_) => list(array.as_list::<i64>().value(row).as_ref()),
        DataType::FixedSizeList(..) => list(array.as_fixed_size_list().value(row).as_ref()),
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let members = fields.iter().zip(columns).map(|(field, column)| (field.name().clone(), value(column.as_ref(), row)));
            Value::Object(members.collect())
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let members = (0..entries.len()).map(|entry| {
                let name = value(entries.column(0).as_ref(), entry);
                let name = name.as_str().map_or_else(|| name.to_string(), str::to_owned);
                (name, value(entries.column(1).as_ref(), entry))
            });
            Value::Object(members.collect())
        }
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            let at = dictionary.normalized_keys().get(row).copied();
            at.map_or(Value::Null, |at| value(dictionary.values().as_ref(), at))
        }
        _ => displayed(array, row),
    }
}

fn instant(array: &dyn Array, unit: &TimeUnit, row: usize) -> i64 {
    match unit {
        TimeUnit::Second => array.as_primitive::<TimestampSecondType>().value(row),
        TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().value(row),
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().value(row),
        TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().value(row),
    }
}

/// How many of `unit` a second has.
pub fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// A time in `unit` since the Unix epoch as RFC 3339 in UTC; a number where no calendar reaches it.
pub fn timestamp(time: i64, unit: TimeUnit) -> Value {
    let per_second = per_second(unit);
    let (seconds, rest) = (time.div_euclid(per_second), time.rem_euclid(per_second));
    let nanoseconds = rest * (1_000_000_000 / per_second);
    let Some(instant) = u32::try_from(nanoseconds).ok().and_then(|nanoseconds| DateTime::<Utc>::from_timestamp(seconds, nanoseconds))
    else {
        return time.into();
    };
    let digits = match (rest, unit) {
        (0, _) | (_, TimeUnit::Second) => SecondsFormat::Secs,
        (_, TimeUnit::Millisecond) => SecondsFormat::Millis,
        (_, TimeUnit::Microsecond) => SecondsFormat::Micros,
        (_, TimeUnit::Nanosecond) => SecondsFormat::Nanos,
    };
    instant.to_rfc3339_opts(digits, true).into()
}

/// The same of a time of no zone: without an offset.
fn local_timestamp(time: i64, unit: TimeUnit) -> Value {
    match timestamp(time, unit) {
        Value::String(text) => text.trim_end_matches('Z').into(),
        number => number,
    }
}

/// Microseconds since the Unix epoch as RFC 3339, with as many digits as it takes; `null` for none.
pub fn micros(time_us: Option<i64>) -> Value {
    match time_us {
        None => Value::Null,
        Some(time_us) if time_us % 1000 == 0 => timestamp(time_us / 1000, TimeUnit::Millisecond),
        Some(time_us) => timestamp(time_us, TimeUnit::Microsecond),
    }
}

/// Milliseconds since the Unix epoch as RFC 3339.
pub fn millis(time_ms: i64) -> Value {
    timestamp(time_ms, TimeUnit::Millisecond)
}

/// Positions by partition.
pub fn cut(cut: &Cut) -> Value {
    let positions: Map<String, Value> = cut.iter().map(|(partition, offset)| (partition.to_string(), offset.0.into())).collect();
    positions.into()
}

fn list(items: &dyn Array) -> Value {
    (0..items.len()).map(|item| value(items, item)).collect::<Vec<_>>().into()
}

fn float(number: f64) -> Value {
    match serde_json::Number::from_f64(number) {
        Some(number) => Value::Number(number),
        None if number.is_nan() => "NaN".into(),
        None if number > 0.0 => "Infinity".into(),
        None => "-Infinity".into(),
    }
}

/// Widened as it is, 0.1 would become 0.10000000149011612.
fn shortest(number: f32) -> Value {
    number.to_string().parse().map_or_else(|_| float(f64::from(number)), float)
}

fn displayed(array: &dyn Array, row: usize) -> Value {
    let options = FormatOptions::default();
    match ArrayFormatter::try_new(array, &options) {
        Ok(formatter) => formatter.value(row).to_string().into(),
        Err(_) => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

    use std::sync::Arc;

    use datafusion::arrow::array::types::Int32Type as I32;
    use datafusion::arrow::array::{
        ArrayRef, BinaryArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int64Array, ListArray, StringArray,
        StringViewArray, TimestampMicrosecondArray, TimestampMillisecondArray, UInt64Array,
    };
    use serde_json::json;

    use super::*;

    fn of(array: impl Array) -> Vec<Value> {
        (0..array.len()).map(|row| value(&array, row)).collect()
    }

    #[test]
    fn integers_keep_all_their_digits() {
        assert_eq!(of(Int64Array::from(vec![i64::MIN, i64::MAX]))[1].to_string(), "9223372036854775807");
        assert_eq!(of(UInt64Array::from(vec![u64::MAX]))[0].to_string(), "18446744073709551615");
    }

    #[test]
    fn times_are_rfc_3339_with_the_fraction_of_their_unit_unless_it_is_zero() {
        let milliseconds = TimestampMillisecondArray::from(vec![Some(0), Some(1_500), Some(-1), None]).with_timezone("+00:00");
        let expected = [json!("1970-01-01T00:00:00Z"), json!("1970-01-01T00:00:01.500Z"), json!("1969-12-31T23:59:59.999Z"), Value::Null];
        assert_eq!(of(milliseconds), expected);
        let microseconds = TimestampMicrosecondArray::from(vec![1_500_000]).with_timezone("+00:00");
        assert_eq!(of(microseconds)[0], json!("1970-01-01T00:00:01.500000Z"));
        assert_eq!(of(TimestampMillisecondArray::from(vec![i64::MAX]))[0], json!(i64::MAX), "past every calendar");
        assert_eq!(of(Date32Array::from(vec![20_000]))[0], json!("2024-10-04"));
    }

    #[test]
    fn a_time_of_no_zone_is_not_shown_as_one_of_utc() {
        let milliseconds = TimestampMillisecondArray::from(vec![Some(0), Some(1_500), None]);
        assert_eq!(of(milliseconds), [json!("1970-01-01T00:00:00"), json!("1970-01-01T00:00:01.500"), Value::Null]);
    }

    #[test]
    fn decimals_are_text_and_binary_is_base64() {
        let decimals = Decimal128Array::from(vec![1_250, -5]).with_precision_and_scale(10, 2).unwrap();
        assert_eq!(of(decimals), [json!("12.50"), json!("-0.05")]);
        assert_eq!(of(BinaryArray::from_vec(vec![&[0xFF, 0x00]])), [json!("/wA=")]);
    }

    #[test]
    fn floating_point_is_a_number_where_json_has_one() {
        assert_eq!(
            of(Float64Array::from(vec![0.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY])),
            [json!(0.1), json!("NaN"), json!("Infinity"), json!("-Infinity")]
        );
        assert_eq!(of(Float32Array::from(vec![0.1]))[0].to_string(), "0.1");
    }

    #[test]
    fn lists_nest_and_text_of_any_layout_is_text() {
        let lists = ListArray::from_iter_primitive::<I32, _, _>(vec![Some(vec![Some(1), None]), None]);
        assert_eq!(of(lists), [json!([1, null]), Value::Null]);
        assert_eq!(of(StringViewArray::from(vec!["a \"quoted\" ☃"])), [json!("a \"quoted\" ☃")]);
    }

    #[test]
    fn rows_have_the_order_of_the_columns() {
        let columns: [(&str, ArrayRef); 2] = [("z", Arc::new(StringArray::from(vec!["rust"]))), ("a", Arc::new(Int64Array::from(vec![3])))];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        assert_eq!(serde_json::to_string(&rows(&batch)).unwrap(), r#"[{"z":"rust","a":3}]"#);
    }
}
