//! Columns ↔ bytes that sort as the columns do.
//!
//! Group keys, aggregate states and row keys are kept in arrow's row format, which keeps order and gives every value back bit for bit.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, NullArray, TimestampMicrosecondArray};
use datafusion::arrow::compute::{SortOptions, cast};
use datafusion::arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::row::{RowConverter, RowParser, Rows, SortField};

/// Encodes rows of some column types.
pub struct Codec {
    converter: RowConverter,
    parser: RowParser,
    columns: usize,
}

impl Codec {
    /// A codec for columns of these types, each sorted by its options.
    pub fn new(columns: impl IntoIterator<Item = (DataType, SortOptions)>) -> Result<Codec, ArrowError> {
        let mut fields: Vec<SortField> =
            columns.into_iter().map(|(data_type, options)| SortField::new_with_options(data_type, options)).collect();
        let columns = fields.len();
        if fields.is_empty() {
            // Rows without columns still have a number: a null column carries it.
            fields.push(SortField::new(DataType::Null));
        }
        let converter = RowConverter::new(fields)?;
        Ok(Codec { parser: converter.parser(), converter, columns })
    }

    /// The rows of `columns`, of which there are `len`.
    pub fn encode(&self, columns: &[ArrayRef], len: usize) -> Result<Rows, ArrowError> {
        if self.columns == 0 {
            return self.converter.convert_columns(&[Arc::new(NullArray::new(len))]);
        }
        self.converter.convert_columns(columns)
    }

    /// The columns of encoded rows.
    pub fn decode<'a>(&'a self, rows: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>, ArrowError> {
        let mut columns = self.converter.convert_rows(rows.into_iter().map(|row| self.parser.parse(row)))?;
        columns.truncate(self.columns);
        Ok(columns)
    }
}

/// Event times or window starts as microseconds since the Unix epoch; a value that does not fit is null.
pub fn as_micros(times: &ArrayRef) -> Result<TimestampMicrosecondArray, ArrowError> {
    let micros = cast(times, &DataType::Timestamp(TimeUnit::Microsecond, timezone(times.data_type())))?;
    Ok(micros.as_primitive::<TimestampMicrosecondType>().clone())
}

/// Microseconds as a column of a timestamp type.
pub fn from_micros(micros: Vec<i64>, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    let zone = timezone(data_type);
    let micros: ArrayRef = Arc::new(TimestampMicrosecondArray::from(micros).with_timezone_opt(zone));
    cast(&micros, data_type)
}

fn timezone(data_type: &DataType) -> Option<Arc<str>> {
    match data_type {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    }
}

/// The least key greater than this one.
pub fn following(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

/// A hash of an encoded group key. Equal in every process and release: shards are chosen by it.
pub fn group_hash(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key)
}

/// The memory that arrays take, in bytes.
pub fn arrays_size(arrays: &[ArrayRef]) -> usize {
    arrays.iter().map(|array| array.get_array_memory_size()).sum()
}
