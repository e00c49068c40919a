//! The columns that records are decoded into: plain vectors, cut back when a record turns out to be bad.
//!
//! Text and bytes are borrowed from the records until the batch is complete, so that they are validated once and copied once.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryBuilder, BooleanArray, Decimal128Array, FixedSizeBinaryArray, ListArray, MapArray, NullArray,
    PrimitiveArray, StringBuilder, StructArray,
};
use datafusion::arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Field, Float32Type, Float64Type, Int32Type, Int64Type, Time32MillisecondType, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
};
use datafusion::arrow::error::ArrowError;

use super::cursor::{Fault, Faulty};

/// The most bytes and items that Arrow's 32-bit offsets can name.
const MAX_OFFSET: usize = i32::MAX as usize;

/// What takes the values of one type as they are decoded.
pub(super) trait Sink<'a> {
    fn null(&mut self);
    fn boolean(&mut self, value: bool);
    fn int(&mut self, value: i32);
    fn long(&mut self, value: i64);
    fn float(&mut self, value: f32);
    fn double(&mut self, value: f64);
    fn decimal(&mut self, value: i128);
    fn text(&mut self, value: &'a str) -> Faulty<()>;
    /// Bytes of any length, or of the fixed one.
    fn bytes(&mut self, value: &'a [u8]) -> Faulty<()>;
    /// A record: its fields go to [`Sink::part`] before or after.
    fn record(&mut self);
    /// Ends a list or a map, whose items went to [`Sink::part`].
    fn end(&mut self) -> Faulty<()>;
    /// The field of a record, the items of a list (0), the keys (0) and values (1) of a map.
    fn part(&mut self, index: usize) -> Option<&mut Self>;
}

/// Takes values of fields that no view uses: they are checked like all others, and forgotten.
pub(super) struct Nothing;

impl<'a> Sink<'a> for Nothing {
    fn null(&mut self) {}
    fn boolean(&mut self, _: bool) {}
    fn int(&mut self, _: i32) {}
    fn long(&mut self, _: i64) {}
    fn float(&mut self, _: f32) {}
    fn double(&mut self, _: f64) {}
    fn decimal(&mut self, _: i128) {}
    fn text(&mut self, _: &'a str) -> Faulty<()> {
        Ok(())
    }
    fn bytes(&mut self, _: &'a [u8]) -> Faulty<()> {
        Ok(())
    }
    fn record(&mut self) {}
    fn end(&mut self) -> Faulty<()> {
        Ok(())
    }
    fn part(&mut self, _: usize) -> Option<&mut Self> {
        Some(self)
    }
}

/// A column in the making.
pub(super) struct Column<'a> {
    /// Which rows are not null, if the column may hold nulls.
    valid: Option<Vec<bool>>,
    data: Data<'a>,
}

enum Data<'a> {
    Null(usize),
    Boolean(Vec<bool>),
    Int(Vec<i32>),
    Long(Vec<i64>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    Decimal(Vec<i128>),
    Text {
        values: Vec<&'a str>,
        bytes: usize,
    },
    Bytes {
        values: Vec<&'a [u8]>,
        bytes: usize,
    },
    Fixed {
        width: usize,
        values: Vec<u8>,
        rows: usize,
    },
    Struct {
        fields: Vec<Column<'a>>,
        rows: usize,
    },
    /// Lists have one part, maps two. `ends` starts with a zero.
    List {
        parts: Vec<Column<'a>>,
        ends: Vec<i32>,
    },
}

impl<'a> Column<'a> {
    /// An empty column for a field that [`super::arrow::arrow_schema`] made, with room for so many rows.
    pub(super) fn new(field: &Field, rows: usize) -> Result<Column<'a>, ArrowError> {
        let parts = |fields: &[&Field]| fields.iter().map(|field| Column::new(field, 0)).collect::<Result<Vec<_>, _>>();
        let ends = || {
            let mut ends = Vec::with_capacity(rows + 1);
            ends.push(0);
            ends
        };
        let data = match field.data_type() {
            DataType::Null => Data::Null(0),
            DataType::Boolean => Data::Boolean(Vec::with_capacity(rows)),
            DataType::Int32 | DataType::Date32 | DataType::Time32(_) => Data::Int(Vec::with_capacity(rows)),
            DataType::Int64 | DataType::Time64(_) | DataType::Timestamp(_, _) => Data::Long(Vec::with_capacity(rows)),
            DataType::Float32 => Data::Float(Vec::with_capacity(rows)),
            DataType::Float64 => Data::Double(Vec::with_capacity(rows)),
            DataType::Decimal128(_, _) => Data::Decimal(Vec::with_capacity(rows)),
            DataType::Utf8 => Data::Text { values: Vec::with_capacity(rows), bytes: 0 },
            DataType::Binary => Data::Bytes { values: Vec::with_capacity(rows), bytes: 0 },
            DataType::FixedSizeBinary(width) => {
                Data::Fixed { width: usize::try_from(*width).unwrap_or_default(), values: Vec::new(), rows: 0 }
            }
            DataType::Struct(fields) => {
                Data::Struct { fields: fields.iter().map(|field| Column::new(field, rows)).collect::<Result<_, _>>()?, rows: 0 }
            }
            DataType::List(item) => Data::List { parts: parts(&[item.as_ref()])?, ends: ends() },
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(fields) => {
                    Data::List { parts: parts(&fields.iter().map(AsRef::as_ref).collect::<Vec<_>>())?, ends: ends() }
                }
                other => return Err(unexpected(other)),
            },
            other => return Err(unexpected(other)),
        };
        let valid = (field.is_nullable() && !matches!(data, Data::Null(_))).then(|| Vec::with_capacity(rows));
        Ok(Column { valid, data })
    }

    /// A column of records with these fields: what a whole record is decoded into.
    pub(super) fn root(fields: &[Arc<Field>], rows: usize) -> Result<Column<'a>, ArrowError> {
        let fields = fields.iter().map(|field| Column::new(field, rows)).collect::<Result<_, _>>()?;
        Ok(Column { valid: None, data: Data::Struct { fields, rows: 0 } })
    }

    /// The columns of the fields of a column of records.
    pub(super) fn into_fields(self) -> Vec<Column<'a>> {
        match self.data {
            Data::Struct { fields, .. } => fields,
            _ => Vec::new(),
        }
    }

    /// Forgets everything past the first `rows` rows, also where only some of the columns of a record have more.
    pub(super) fn truncate(&mut self, rows: usize) {
        if let Some(valid) = &mut self.valid {
            valid.truncate(rows);
        }
        match &mut self.data {
            Data::Null(length) => *length = rows.min(*length),
            Data::Boolean(values) => values.truncate(rows),
            Data::Int(values) => values.truncate(rows),
            Data::Long(values) => values.truncate(rows),
            Data::Float(values) => values.truncate(rows),
            Data::Double(values) => values.truncate(rows),
            Data::Decimal(values) => values.truncate(rows),
            Data::Text { values, bytes } => {
                *bytes -= values.iter().skip(rows).map(|value| value.len()).sum::<usize>();
                values.truncate(rows);
            }
            Data::Bytes { values, bytes } => {
                *bytes -= values.iter().skip(rows).map(|value| value.len()).sum::<usize>();
                values.truncate(rows);
            }
            Data::Fixed { width, values, rows: length } => {
                *length = rows.min(*length);
                values.truncate(*length * *width);
            }
            Data::Struct { fields, rows: length } => {
                *length = rows.min(*length);
                fields.iter_mut().for_each(|field| field.truncate(rows));
            }
            Data::List { parts, ends } => {
                ends.truncate(rows + 1);
                let items = ends.last().and_then(|end| usize::try_from(*end).ok()).unwrap_or_default();
                parts.iter_mut().for_each(|part| part.truncate(items));
            }
        }
    }

    fn rows(&self) -> usize {
        match &self.data {
            Data::Null(rows) | Data::Fixed { rows, .. } | Data::Struct { rows, .. } => *rows,
            Data::Boolean(values) => values.len(),
            Data::Int(values) => values.len(),
            Data::Long(values) => values.len(),
            Data::Float(values) => values.len(),
            Data::Double(values) => values.len(),
            Data::Decimal(values) => values.len(),
            Data::Text { values, .. } => values.len(),
            Data::Bytes { values, .. } => values.len(),
            Data::List { ends, .. } => ends.len() - 1,
        }
    }

    fn present(&mut self) {
        if let Some(valid) = &mut self.valid {
            valid.push(true);
        }
    }

    /// Appends a value that is never seen, below a null.
    fn filler(&mut self) {
        if let Some(valid) = &mut self.valid {
            valid.push(false);
        }
        match &mut self.data {
            Data::Null(rows) => *rows += 1,
            Data::Boolean(values) => values.push(false),
            Data::Int(values) => values.push(0),
            Data::Long(values) => values.push(0),
            Data::Float(values) => values.push(0.0),
            Data::Double(values) => values.push(0.0),
            Data::Decimal(values) => values.push(0),
            Data::Text { values, .. } => values.push(""),
            Data::Bytes { values, .. } => values.push(&[]),
            Data::Fixed { width, values, rows } => {
                values.resize(values.len() + *width, 0);
                *rows += 1;
            }
            Data::Struct { fields, rows } => {
                fields.iter_mut().for_each(Column::filler);
                *rows += 1;
            }
            Data::List { ends, .. } => ends.push(ends.last().copied().unwrap_or_default()),
        }
    }

    /// The finished column.
    pub(super) fn finish(self, of: &DataType) -> Result<ArrayRef, ArrowError> {
        let nulls = self.valid.map(NullBuffer::from);
        Ok(match self.data {
            Data::Null(rows) => Arc::new(NullArray::new(rows)),
            Data::Boolean(values) => Arc::new(BooleanArray::new(BooleanBuffer::from(values), nulls)),
            Data::Int(values) => match of {
                DataType::Date32 => primitive::<Date32Type>(values, nulls, of)?,
                DataType::Time32(_) => primitive::<Time32MillisecondType>(values, nulls, of)?,
                _ => primitive::<Int32Type>(values, nulls, of)?,
            },
            Data::Long(values) => match of {
                DataType::Time64(_) => primitive::<Time64MicrosecondType>(values, nulls, of)?,
                DataType::Timestamp(TimeUnit::Millisecond, _) => primitive::<TimestampMillisecondType>(values, nulls, of)?,
                DataType::Timestamp(TimeUnit::Microsecond, _) => primitive::<TimestampMicrosecondType>(values, nulls, of)?,
                DataType::Timestamp(_, _) => primitive::<TimestampNanosecondType>(values, nulls, of)?,
                _ => primitive::<Int64Type>(values, nulls, of)?,
            },
            Data::Float(values) => primitive::<Float32Type>(values, nulls, of)?,
            Data::Double(values) => primitive::<Float64Type>(values, nulls, of)?,
            Data::Decimal(values) => Arc::new(Decimal128Array::try_new(values.into(), nulls)?.with_data_type(of.clone())),
            Data::Text { values, bytes } => Arc::new(text(&values, bytes, nulls.as_ref())),
            Data::Bytes { values, bytes } => Arc::new(binary(&values, bytes, nulls.as_ref())),
            Data::Fixed { width, values, rows } => {
                let width = i32::try_from(width).map_err(|error| ArrowError::InvalidArgumentError(error.to_string()))?;
                Arc::new(FixedSizeBinaryArray::try_new_with_len(width, Buffer::from_vec(values), nulls, rows)?)
            }
            Data::Struct { fields, rows } => match of {
                DataType::Struct(of) => {
                    let arrays = fields.into_iter().zip(of).map(|(field, of)| field.finish(of.data_type())).collect::<Result<_, _>>()?;
                    Arc::new(StructArray::try_new_with_length(of.clone(), arrays, nulls, rows)?)
                }
                other => return Err(unexpected(other)),
            },
            Data::List { parts, ends } => {
                let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
                let mut parts = parts.into_iter();
                match of {
                    DataType::List(item) => {
                        let items = parts.next().ok_or_else(|| unexpected(of))?.finish(item.data_type())?;
                        Arc::new(ListArray::try_new(item.clone(), offsets, items, nulls)?)
                    }
                    DataType::Map(entries, ordered) => match entries.data_type() {
                        DataType::Struct(fields) => {
                            let arrays = parts.zip(fields).map(|(part, of)| part.finish(of.data_type())).collect::<Result<_, _>>()?;
                            let rows = StructArray::try_new(fields.clone(), arrays, None)?;
                            Arc::new(MapArray::try_new(entries.clone(), offsets, rows, nulls, *ordered)?)
                        }
                        other => return Err(unexpected(other)),
                    },
                    other => return Err(unexpected(other)),
                }
            }
        })
    }
}

fn primitive<T: ArrowPrimitiveType>(values: Vec<T::Native>, nulls: Option<NullBuffer>, of: &DataType) -> Result<ArrayRef, ArrowError> {
    let array = PrimitiveArray::<T>::try_new(values.into(), nulls)?;
    Ok(Arc::new(array.with_data_type(of.clone())))
}

fn text(values: &[&str], bytes: usize, nulls: Option<&NullBuffer>) -> datafusion::arrow::array::StringArray {
    let mut builder = StringBuilder::with_capacity(values.len(), bytes);
    match nulls {
        None => values.iter().for_each(|value| builder.append_value(value)),
        Some(nulls) => values.iter().zip(nulls).for_each(|(value, valid)| builder.append_option(valid.then_some(value))),
    }
    builder.finish()
}

fn binary(values: &[&[u8]], bytes: usize, nulls: Option<&NullBuffer>) -> datafusion::arrow::array::BinaryArray {
    let mut builder = BinaryBuilder::with_capacity(values.len(), bytes);
    match nulls {
        None => values.iter().for_each(|value| builder.append_value(value)),
        Some(nulls) => values.iter().zip(nulls).for_each(|(value, valid)| builder.append_option(valid.then_some(value))),
    }
    builder.finish()
}

fn unexpected(of: &DataType) -> ArrowError {
    ArrowError::SchemaError(format!("no Avro type decodes to {of}"))
}

/// A program is compiled for the very columns it fills, so a value always meets the column of its type. Were it otherwise the value would be
/// dropped here, and the batch refused for its uneven columns.
macro_rules! push {
    ($column:expr, $kind:ident, $value:expr) => {
        if let Data::$kind(values) = &mut $column.data {
            values.push($value);
            $column.present();
        }
    };
}

impl<'a> Sink<'a> for Column<'a> {
    fn null(&mut self) {
        self.filler();
    }

    fn boolean(&mut self, value: bool) {
        push!(self, Boolean, value);
    }

    #[inline]
    fn int(&mut self, value: i32) {
        push!(self, Int, value);
    }

    #[inline]
    fn long(&mut self, value: i64) {
        push!(self, Long, value);
    }

    fn float(&mut self, value: f32) {
        push!(self, Float, value);
    }

    fn double(&mut self, value: f64) {
        push!(self, Double, value);
    }

    fn decimal(&mut self, value: i128) {
        push!(self, Decimal, value);
    }

    #[inline]
    fn text(&mut self, value: &'a str) -> Faulty<()> {
        if let Data::Text { values, bytes } = &mut self.data {
            if value.len() > MAX_OFFSET - *bytes {
                return Err(Fault::columns_full());
            }
            *bytes += value.len();
            values.push(value);
            self.present();
        }
        Ok(())
    }

    fn bytes(&mut self, value: &'a [u8]) -> Faulty<()> {
        match &mut self.data {
            Data::Bytes { values, bytes } => {
                if value.len() > MAX_OFFSET - *bytes {
                    return Err(Fault::columns_full());
                }
                *bytes += value.len();
                values.push(value);
            }
            Data::Fixed { values, rows, .. } => {
                values.extend_from_slice(value);
                *rows += 1;
            }
            _ => return Ok(()),
        }
        self.present();
        Ok(())
    }

    fn record(&mut self) {
        if let Data::Struct { rows, .. } = &mut self.data {
            *rows += 1;
            self.present();
        }
    }

    fn end(&mut self) -> Faulty<()> {
        if let Data::List { parts, ends } = &mut self.data {
            let items = parts.first().map_or(0, Column::rows);
            ends.push(i32::try_from(items).map_err(|_| Fault::columns_full())?);
            self.present();
        }
        Ok(())
    }

    #[inline]
    fn part(&mut self, index: usize) -> Option<&mut Self> {
        match &mut self.data {
            Data::Struct { fields, .. } => fields.get_mut(index),
            Data::List { parts, .. } => parts.get_mut(index),
            _ => None,
        }
    }
}
