//! Values of columns to bytes.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, GenericListArray, OffsetSizeTrait, PrimitiveArray};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::*;

use super::numbers::put_varint;
use super::{DATE_OFFSET, NANOSECONDS_A_DAY, Role, nanoseconds};
use crate::rows::{put_null, put_with};

type Put<'a> = Box<dyn Fn(usize, &mut Vec<u8>) -> Result<(), String> + Send + Sync + 'a>;

/// Writes the values of a column.
pub(crate) struct Encoder<'a> {
    nulls: Option<&'a NullBuffer>,
    put: Put<'a>,
}

impl Encoder<'_> {
    /// Adds the cell of a row. The error says what CQL cannot hold.
    pub fn cell(&self, row: usize, wire: &mut Vec<u8>) -> Result<(), String> {
        if self.nulls.is_some_and(|nulls| nulls.is_null(row)) {
            put_null(wire);
            return Ok(());
        }
        put_with(wire, |wire| (self.put)(row, wire))
    }
}

/// The encoder of a column.
pub(crate) fn encoder(array: &ArrayRef, role: Role) -> Result<Encoder<'_>, String> {
    Ok(Encoder { nulls: array.nulls(), put: put(array, role)? })
}

/// Numbers that travel as they are, or as a wider type.
macro_rules! number {
    ($array:expr, $column:ty, $wire:ty) => {{
        let values: &PrimitiveArray<$column> = $array.as_primitive();
        Box::new(move |row, wire: &mut Vec<u8>| {
            wire.extend_from_slice(&<$wire>::from(values.value(row)).to_be_bytes());
            Ok(())
        })
    }};
}

/// Numbers that are turned into others first.
macro_rules! turned {
    ($array:expr, $column:ty, $turn:expr) => {{
        let values: &PrimitiveArray<$column> = $array.as_primitive();
        let turn = $turn;
        Box::new(move |row, wire: &mut Vec<u8>| {
            wire.extend_from_slice(&turn(values.value(row))?);
            Ok(())
        })
    }};
}

fn put(array: &ArrayRef, role: Role) -> Result<Put<'_>, String> {
    let is_key = role != Role::Value;
    let sole = role == Role::WholePartitionKey;
    Ok(match array.data_type() {
        DataType::Boolean => {
            let values = array.as_boolean();
            Box::new(move |row, wire| {
                wire.push(u8::from(values.value(row)));
                Ok(())
            })
        }
        DataType::Int8 => number!(array, Int8Type, i8),
        DataType::Int16 => number!(array, Int16Type, i16),
        DataType::Int32 => number!(array, Int32Type, i32),
        DataType::Int64 => number!(array, Int64Type, i64),
        DataType::UInt8 => number!(array, UInt8Type, i16),
        DataType::UInt16 => number!(array, UInt16Type, i32),
        DataType::UInt32 => number!(array, UInt32Type, i64),
        DataType::UInt64 => {
            let values = array.as_primitive::<UInt64Type>();
            Box::new(move |row, wire| {
                put_varint(&i128::from(values.value(row)).to_be_bytes(), wire);
                Ok(())
            })
        }
        DataType::Float32 => turned!(array, Float32Type, move |value: f32| {
            Ok::<_, String>(if is_key && value.is_nan() { f32::NAN } else { value }.to_be_bytes())
        }),
        DataType::Float64 => turned!(array, Float64Type, move |value: f64| {
            Ok::<_, String>(if is_key && value.is_nan() { f64::NAN } else { value }.to_be_bytes())
        }),
        DataType::Utf8 => bytes(sole, array.as_string::<i32>(), |values, row| values.value(row).as_bytes()),
        DataType::LargeUtf8 => bytes(sole, array.as_string::<i64>(), |values, row| values.value(row).as_bytes()),
        DataType::Utf8View => bytes(sole, array.as_string_view(), |values, row| values.value(row).as_bytes()),
        DataType::Binary => bytes(sole, array.as_binary::<i32>(), |values, row| values.value(row)),
        DataType::LargeBinary => bytes(sole, array.as_binary::<i64>(), |values, row| values.value(row)),
        DataType::BinaryView => bytes(sole, array.as_binary_view(), |values, row| values.value(row)),
        DataType::Timestamp(TimeUnit::Second, _) => turned!(array, TimestampSecondType, |value: i64| {
            let milliseconds = value.checked_mul(1_000).ok_or_else(|| format!("{value} s is beyond what a CQL timestamp can hold"))?;
            Ok::<_, String>(milliseconds.to_be_bytes())
        }),
        DataType::Timestamp(TimeUnit::Millisecond, _) => number!(array, TimestampMillisecondType, i64),
        DataType::Timestamp(TimeUnit::Microsecond, _) => number!(array, TimestampMicrosecondType, i64),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => number!(array, TimestampNanosecondType, i64),
        DataType::Date32 => turned!(array, Date32Type, |value: i32| Ok::<_, String>((value.cast_unsigned() ^ DATE_OFFSET).to_be_bytes())),
        DataType::Date64 => number!(array, Date64Type, i64),
        DataType::Time32(TimeUnit::Second) => turned!(array, Time32SecondType, |value: i32| time(value.into(), TimeUnit::Second)),
        DataType::Time32(_) => turned!(array, Time32MillisecondType, |value: i32| time(value.into(), TimeUnit::Millisecond)),
        DataType::Time64(TimeUnit::Microsecond) => {
            turned!(array, Time64MicrosecondType, |value: i64| time(value, TimeUnit::Microsecond))
        }
        DataType::Time64(_) => turned!(array, Time64NanosecondType, |value: i64| time(value, TimeUnit::Nanosecond)),
        DataType::Duration(TimeUnit::Second) => number!(array, DurationSecondType, i64),
        DataType::Duration(TimeUnit::Millisecond) => number!(array, DurationMillisecondType, i64),
        DataType::Duration(TimeUnit::Microsecond) => number!(array, DurationMicrosecondType, i64),
        DataType::Duration(TimeUnit::Nanosecond) => number!(array, DurationNanosecondType, i64),
        DataType::Interval(IntervalUnit::YearMonth) => number!(array, IntervalYearMonthType, i32),
        DataType::Interval(IntervalUnit::DayTime) => {
            let values = array.as_primitive::<IntervalDayTimeType>();
            Box::new(move |row, wire| {
                let value = values.value(row);
                wire.extend_from_slice(&(value.days ^ i32::MIN).to_be_bytes());
                wire.extend_from_slice(&(value.milliseconds ^ i32::MIN).to_be_bytes());
                Ok(())
            })
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let values = array.as_primitive::<IntervalMonthDayNanoType>();
            Box::new(move |row, wire| {
                let value = values.value(row);
                wire.extend_from_slice(&(value.months ^ i32::MIN).to_be_bytes());
                wire.extend_from_slice(&(value.days ^ i32::MIN).to_be_bytes());
                wire.extend_from_slice(&(value.nanoseconds ^ i64::MIN).to_be_bytes());
                Ok(())
            })
        }
        DataType::Decimal128(_, scale) => {
            let values = array.as_primitive::<Decimal128Type>();
            let scale = i32::from(*scale).to_be_bytes();
            Box::new(move |row, wire| {
                wire.extend_from_slice(&scale);
                put_varint(&values.value(row).to_be_bytes(), wire);
                Ok(())
            })
        }
        DataType::Decimal256(_, scale) => {
            let values = array.as_primitive::<Decimal256Type>();
            let scale = i32::from(*scale).to_be_bytes();
            Box::new(move |row, wire| {
                wire.extend_from_slice(&scale);
                put_varint(&values.value(row).to_be_bytes(), wire);
                Ok(())
            })
        }
        DataType::List(_) => list(array.as_list::<i32>())?,
        DataType::LargeList(_) => list(array.as_list::<i64>())?,
        DataType::Struct(_) => {
            let fields: Result<Vec<Encoder<'_>>, String> =
                array.as_struct().columns().iter().map(|field| encoder(field, Role::Value)).collect();
            let fields = fields?;
            Box::new(move |row, wire| fields.iter().try_for_each(|field| field.cell(row, wire)))
        }
        other => return Err(format!("{other} cannot be kept in Cassandra")),
    })
}

/// Text and binary. As the whole partition key, with an escape for what Cassandra refuses.
fn bytes<'a, A: Sync>(sole: bool, values: &'a A, value: impl Fn(&'a A, usize) -> &'a [u8] + Send + Sync + 'a) -> Put<'a> {
    Box::new(move |row, wire| {
        let bytes = value(values, row);
        if sole && bytes.first().is_none_or(|first| *first == 0) {
            wire.push(0);
        }
        wire.extend_from_slice(bytes);
        Ok(())
    })
}

fn time(value: i64, unit: TimeUnit) -> Result<[u8; 8], String> {
    let since_midnight = value.checked_mul(nanoseconds(unit)).filter(|time| (0..NANOSECONDS_A_DAY).contains(time));
    since_midnight.map(i64::to_be_bytes).ok_or_else(|| format!("{value} is not a time of day"))
}

fn list<O: OffsetSizeTrait>(lists: &GenericListArray<O>) -> Result<Put<'_>, String> {
    let items = encoder(lists.values(), Role::Value)?;
    Ok(Box::new(move |row, wire| {
        let offsets = lists.value_offsets();
        let offset = |index: usize| offsets.get(index).map_or(0, |offset| offset.as_usize());
        let (from, to) = (offset(row), offset(row + 1));
        let count = i32::try_from(to - from).map_err(|_| "a list is too long".to_owned())?;
        wire.extend_from_slice(&count.to_be_bytes());
        // Each item is a tuple of one cell.
        (from..to).try_for_each(|item| put_with(wire, |wire| items.cell(item, wire)))
    }))
}
