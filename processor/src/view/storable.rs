//! What every view store can keep: the types of columns, and the values of those types.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, GenericByteArray};
use datafusion::arrow::datatypes::{ByteArrayType, DataType, Decimal128Type, DecimalType};
use datafusion::common::exec_err;
use datafusion::error::Result;

/// The most bytes of a row's text and binary columns. Cassandra refuses a write of more than 16 MiB, the half of a segment of its commit log.
const MAX_ROW_BYTES: usize = 8 << 20;

/// Whether a table can have a column of this type.
pub(super) fn is_storable(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Boolean | DataType::Utf8 | DataType::Binary | DataType::Date32 | DataType::Timestamp(..) | DataType::Decimal128(..)
    ) || data_type.is_integer()
        || matches!(data_type, DataType::Float32 | DataType::Float64)
}

/// Checks values of columns that a table can have; columns of other types are none of a table.
pub(super) fn check(columns: &[ArrayRef], count: usize) -> Result<()> {
    for column in columns {
        if let DataType::Decimal128(precision, scale) = column.data_type() {
            for value in column.as_primitive::<Decimal128Type>().iter().flatten() {
                Decimal128Type::validate_decimal_precision(value, *precision, *scale)?;
            }
        }
    }
    let bytes: usize = columns.iter().map(all_bytes).sum();
    if bytes <= MAX_ROW_BYTES {
        return Ok(());
    }
    for row in 0..count {
        let bytes: usize = columns.iter().map(|column| bytes_of(column, row)).sum();
        if bytes > MAX_ROW_BYTES {
            return exec_err!("its text and binary columns have {bytes} bytes, more than {MAX_ROW_BYTES}");
        }
    }
    Ok(())
}

fn all_bytes(column: &ArrayRef) -> usize {
    fn of<T: ByteArrayType<Offset = i32>>(values: &GenericByteArray<T>) -> usize {
        let offsets = values.value_offsets();
        let (first, last) = (offsets.first().copied().unwrap_or(0), offsets.last().copied().unwrap_or(0));
        usize::try_from(last - first).unwrap_or(usize::MAX)
    }
    match column.data_type() {
        DataType::Utf8 => of(column.as_string::<i32>()),
        DataType::Binary => of(column.as_binary::<i32>()),
        _ => 0,
    }
}

fn bytes_of(column: &ArrayRef, row: usize) -> usize {
    match column.data_type() {
        _ if column.is_null(row) => 0,
        DataType::Utf8 => column.as_string::<i32>().value(row).len(),
        DataType::Binary => column.as_binary::<i32>().value(row).len(),
        _ => 0,
    }
}
