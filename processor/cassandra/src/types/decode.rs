//! Bytes to columns.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanBuilder, GenericByteBuilder, GenericByteViewBuilder, GenericListArray, OffsetSizeTrait, PrimitiveBuilder, StructArray,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::datatypes::*;

use super::numbers::take_varint;
use super::{DATE_OFFSET, Role, nanoseconds};
use crate::rows::take;

/// Makes a column of cells.
pub(crate) trait Decoder {
    /// Adds a cell; `None` is NULL.
    fn push(&mut self, cell: Option<&[u8]>) -> Result<(), String>;

    /// The column.
    fn finish(&mut self) -> Result<ArrayRef, String>;
}

/// The decoder of a column.
pub(crate) fn decoder(data_type: &DataType, role: Role) -> Result<Box<dyn Decoder>, String> {
    let sole = role == Role::WholePartitionKey;
    Ok(match data_type {
        DataType::Boolean => Box::new(Booleans(BooleanBuilder::new())),
        DataType::Int8 => numbers::<Int8Type>(data_type, |cell| Some(i8::from_be_bytes(whole(cell)?))),
        DataType::Int16 => numbers::<Int16Type>(data_type, |cell| Some(i16::from_be_bytes(whole(cell)?))),
        DataType::Int32 => numbers::<Int32Type>(data_type, int),
        DataType::Int64 => numbers::<Int64Type>(data_type, bigint),
        DataType::UInt8 => numbers::<UInt8Type>(data_type, |cell| i16::from_be_bytes(whole(cell)?).try_into().ok()),
        DataType::UInt16 => numbers::<UInt16Type>(data_type, |cell| int(cell)?.try_into().ok()),
        DataType::UInt32 => numbers::<UInt32Type>(data_type, |cell| bigint(cell)?.try_into().ok()),
        DataType::UInt64 => numbers::<UInt64Type>(data_type, |cell| i128::from_be_bytes(take_varint(cell)?).try_into().ok()),
        DataType::Float32 => numbers::<Float32Type>(data_type, |cell| Some(f32::from_be_bytes(whole(cell)?))),
        DataType::Float64 => numbers::<Float64Type>(data_type, |cell| Some(f64::from_be_bytes(whole(cell)?))),
        DataType::Utf8 => Box::new(Texts::<Utf8Type> { builder: GenericByteBuilder::new(), sole }),
        DataType::LargeUtf8 => Box::new(Texts::<LargeUtf8Type> { builder: GenericByteBuilder::new(), sole }),
        DataType::Utf8View => Box::new(TextViews { builder: GenericByteViewBuilder::new(), sole }),
        DataType::Binary => Box::new(Blobs::<BinaryType> { builder: GenericByteBuilder::new(), sole }),
        DataType::LargeBinary => Box::new(Blobs::<LargeBinaryType> { builder: GenericByteBuilder::new(), sole }),
        DataType::BinaryView => Box::new(BlobViews { builder: GenericByteViewBuilder::new(), sole }),
        DataType::Timestamp(TimeUnit::Second, _) => numbers::<TimestampSecondType>(data_type, |cell| exactly(bigint(cell)?, 1_000)),
        DataType::Timestamp(TimeUnit::Millisecond, _) => numbers::<TimestampMillisecondType>(data_type, bigint),
        DataType::Timestamp(TimeUnit::Microsecond, _) => numbers::<TimestampMicrosecondType>(data_type, bigint),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => numbers::<TimestampNanosecondType>(data_type, bigint),
        DataType::Date32 => numbers::<Date32Type>(data_type, |cell| Some((u32::from_be_bytes(whole(cell)?) ^ DATE_OFFSET).cast_signed())),
        DataType::Date64 => numbers::<Date64Type>(data_type, bigint),
        DataType::Time32(TimeUnit::Second) => {
            numbers::<Time32SecondType>(data_type, |cell| exactly(bigint(cell)?, nanoseconds(TimeUnit::Second))?.try_into().ok())
        }
        DataType::Time32(_) => {
            numbers::<Time32MillisecondType>(data_type, |cell| exactly(bigint(cell)?, nanoseconds(TimeUnit::Millisecond))?.try_into().ok())
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            numbers::<Time64MicrosecondType>(data_type, |cell| exactly(bigint(cell)?, nanoseconds(TimeUnit::Microsecond)))
        }
        DataType::Time64(_) => numbers::<Time64NanosecondType>(data_type, bigint),
        DataType::Duration(TimeUnit::Second) => numbers::<DurationSecondType>(data_type, bigint),
        DataType::Duration(TimeUnit::Millisecond) => numbers::<DurationMillisecondType>(data_type, bigint),
        DataType::Duration(TimeUnit::Microsecond) => numbers::<DurationMicrosecondType>(data_type, bigint),
        DataType::Duration(TimeUnit::Nanosecond) => numbers::<DurationNanosecondType>(data_type, bigint),
        DataType::Interval(IntervalUnit::YearMonth) => numbers::<IntervalYearMonthType>(data_type, int),
        DataType::Interval(IntervalUnit::DayTime) => numbers::<IntervalDayTimeType>(data_type, |cell| {
            let (days, milliseconds) = cell.split_at_checked(4)?;
            Some(IntervalDayTime::new(int(days)? ^ i32::MIN, int(milliseconds)? ^ i32::MIN))
        }),
        DataType::Interval(IntervalUnit::MonthDayNano) => numbers::<IntervalMonthDayNanoType>(data_type, |cell| {
            let (months, rest) = cell.split_at_checked(4)?;
            let (days, nanoseconds) = rest.split_at_checked(4)?;
            Some(IntervalMonthDayNano::new(int(months)? ^ i32::MIN, int(days)? ^ i32::MIN, bigint(nanoseconds)? ^ i64::MIN))
        }),
        DataType::Decimal128(_, scale) => {
            let scale = i32::from(*scale);
            numbers::<Decimal128Type>(data_type, move |cell| Some(i128::from_be_bytes(take_varint(unscaled(cell, scale)?)?)))
        }
        DataType::Decimal256(_, scale) => {
            let scale = i32::from(*scale);
            numbers::<Decimal256Type>(data_type, move |cell| Some(i256::from_be_bytes(take_varint(unscaled(cell, scale)?)?)))
        }
        DataType::List(item) => Box::new(Lists::<i32>::new(item)?),
        DataType::LargeList(item) => Box::new(Lists::<i64>::new(item)?),
        DataType::Struct(fields) => {
            let columns: Result<Vec<Box<dyn Decoder>>, String> =
                fields.iter().map(|field| decoder(field.data_type(), Role::Value)).collect();
            Box::new(Structs { fields: fields.clone(), columns: columns?, valid: Vec::new() })
        }
        other => return Err(format!("{other} cannot be kept in Cassandra")),
    })
}

fn whole<const N: usize>(cell: &[u8]) -> Option<[u8; N]> {
    cell.try_into().ok()
}

fn int(cell: &[u8]) -> Option<i32> {
    whole(cell).map(i32::from_be_bytes)
}

fn bigint(cell: &[u8]) -> Option<i64> {
    whole(cell).map(i64::from_be_bytes)
}

/// How many units a number is, if it is a whole number of them.
fn exactly(value: i64, unit: i64) -> Option<i64> {
    (value % unit == 0).then_some(value / unit)
}

/// The digits of a decimal of the column's scale.
fn unscaled(cell: &[u8], scale: i32) -> Option<&[u8]> {
    let (written, digits) = cell.split_at_checked(4)?;
    (int(written)? == scale).then_some(digits)
}

/// Undoes the escape of whole partition keys.
fn unescape(cell: &[u8], sole: bool) -> &[u8] {
    match cell {
        [0, rest @ ..] if sole => rest,
        _ => cell,
    }
}

fn unreadable(cell: &[u8], what: &dyn std::fmt::Display) -> String {
    format!("{} bytes are not a {what}", cell.len())
}

fn text(cell: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(cell).map_err(|error| error.to_string())
}

struct Numbers<T: ArrowPrimitiveType, F> {
    builder: PrimitiveBuilder<T>,
    data_type: DataType,
    read: F,
}

fn numbers<T: ArrowPrimitiveType>(data_type: &DataType, read: impl Fn(&[u8]) -> Option<T::Native> + 'static) -> Box<dyn Decoder> {
    let builder = PrimitiveBuilder::<T>::new().with_data_type(data_type.clone());
    Box::new(Numbers { builder, data_type: data_type.clone(), read })
}

impl<T: ArrowPrimitiveType, F: Fn(&[u8]) -> Option<T::Native>> Decoder for Numbers<T, F> {
    fn push(&mut self, cell: Option<&[u8]>) -> Result<(), String> {
        match cell {
            None => self.builder.append_null(),
            Some(cell) => self.builder.append_value((self.read)(cell).ok_or_else(|| unreadable(cell, &self.data_type))?),
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef, String> {
        Ok(Arc::new(self.builder.finish()))
    }
}

struct Booleans(BooleanBuilder);

impl Decoder for Booleans {
    fn push(&mut self, cell: Option<&[u8]>) -> Result<(), String> {
        match cell {
            None => self.0.append_null(),
            Some([byte]) => self.0.append_value(*byte != 0),
            Some(cell) => return Err(unreadable(cell, &"boolean")),
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef, String> {
        Ok(Arc::new(self.0.finish()))
    }
}

/// The decoders of text and binary differ only in their builder and in what it takes.
macro_rules! runs {
    ($name:ident, [$($generic:tt)*], [$($use:tt)*], $builder:ty, $value:expr) => {
        struct $name $($generic)* {
            builder: $builder,
            sole: bool,
        }

        impl $($generic)* Decoder for $name $($use)* {
            fn push(&mut self, cell: Option<&[u8]>) -> Result<(), String> {
                match cell {
                    None => self.builder.append_null(),
                    Some(cell) => self.builder.append_value($value(unescape(cell, self.sole))?),
                }
                Ok(())
            }

            fn finish(&mut self) -> Result<ArrayRef, String> {
                Ok(Arc::new(self.builder.finish()))
            }
        }
    };
}

runs!(Texts, [<T: ByteArrayType<Native = str>>], [<T>], GenericByteBuilder<T>, text);
runs!(Blobs, [<T: ByteArrayType<Native = [u8]>>], [<T>], GenericByteBuilder<T>, Ok::<&[u8], String>);
runs!(TextViews, [], [], GenericByteViewBuilder<StringViewType>, text);
runs!(BlobViews, [], [], GenericByteViewBuilder<BinaryViewType>, Ok::<&[u8], String>);

struct Lists<O> {
    field: FieldRef,
    items: Box<dyn Decoder>,
    lengths: Vec<usize>,
    valid: Vec<bool>,
    offsets: std::marker::PhantomData<O>,
}

impl<O> Lists<O> {
    fn new(field: &FieldRef) -> Result<Self, String> {
        let items = decoder(field.data_type(), Role::Value)?;
        Ok(Lists { field: Arc::clone(field), items, lengths: Vec::new(), valid: Vec::new(), offsets: std::marker::PhantomData })
    }
}

impl<O: OffsetSizeTrait> Decoder for Lists<O> {
    fn push(&mut self, cell: Option<&[u8]>) -> Result<(), String> {
        self.valid.push(cell.is_some());
        let Some(cell) = cell else {
            self.lengths.push(0);
            return Ok(());
        };
        let broken = || unreadable(cell, &"list");
        let (count, mut items) = cell.split_at_checked(4).ok_or_else(broken)?;
        let count = int(count).and_then(|count| usize::try_from(count).ok()).ok_or_else(broken)?;
        for _ in 0..count {
            let mut tuple = take(&mut items).flatten().ok_or_else(broken)?;
            self.items.push(take(&mut tuple).ok_or_else(broken)?)?;
        }
        self.lengths.push(count);
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef, String> {
        let offsets = OffsetBuffer::<O>::from_lengths(std::mem::take(&mut self.lengths));
        let nulls = nulls(&mut self.valid);
        let lists = GenericListArray::try_new(Arc::clone(&self.field), offsets, self.items.finish()?, nulls);
        Ok(Arc::new(lists.map_err(|error| error.to_string())?))
    }
}

struct Structs {
    fields: Fields,
    columns: Vec<Box<dyn Decoder>>,
    valid: Vec<bool>,
}

impl Decoder for Structs {
    fn push(&mut self, cell: Option<&[u8]>) -> Result<(), String> {
        self.valid.push(cell.is_some());
        let mut rest = cell.unwrap_or_default();
        for column in &mut self.columns {
            let field = match cell {
                Some(cell) => take(&mut rest).ok_or_else(|| unreadable(cell, &"tuple"))?,
                None => None,
            };
            column.push(field)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef, String> {
        let columns: Result<Vec<ArrayRef>, String> = self.columns.iter_mut().map(|column| column.finish()).collect();
        let (columns, count) = (columns?, self.valid.len());
        let structs = StructArray::try_new_with_length(self.fields.clone(), columns, nulls(&mut self.valid), count);
        Ok(Arc::new(structs.map_err(|error| error.to_string())?))
    }
}

fn nulls(valid: &mut Vec<bool>) -> Option<NullBuffer> {
    let valid = std::mem::take(valid);
    valid.contains(&false).then(|| NullBuffer::from(valid))
}
