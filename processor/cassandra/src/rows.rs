//! Values as they travel: cells of bytes, each preceded by its length, `-1` for NULL. The types were checked when the table was opened.

use scylla::deserialize::row::ColumnIterator;
use scylla::errors::SerializationError;
use scylla::response::query_result::QueryRowsResult;
use scylla::serialize::row::{RowSerializationContext, SerializeRow};
use scylla::serialize::writers::RowWriter;

use crate::error::Failure;

/// The length of a NULL.
const NULL: i32 = -1;
const LENGTH_BYTES: usize = 4;

/// The values of a statement, in its order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values {
    wire: Vec<u8>,
}

impl Values {
    pub fn new() -> Values {
        Values::default()
    }

    pub fn with(mut self, value: &[u8]) -> Values {
        put(&mut self.wire, value);
        self
    }

    pub fn with_number(self, value: i64) -> Values {
        self.with(&value.to_be_bytes())
    }

    pub fn with_text(self, value: &str) -> Values {
        self.with(value.as_bytes())
    }

    pub fn with_null(mut self) -> Values {
        put_null(&mut self.wire);
        self
    }

    /// Adds cells that are encoded already.
    pub fn with_cells(mut self, cells: &[u8]) -> Values {
        self.wire.extend_from_slice(cells);
        self
    }

    pub fn row(&self) -> WireRow<'_> {
        WireRow(&self.wire)
    }
}

impl SerializeRow for Values {
    fn serialize(&self, context: &RowSerializationContext<'_>, writer: &mut RowWriter) -> Result<(), SerializationError> {
        self.row().serialize(context, writer)
    }

    fn is_empty(&self) -> bool {
        self.wire.is_empty()
    }
}

/// Encoded cells, one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WireRow<'a>(pub &'a [u8]);

impl SerializeRow for WireRow<'_> {
    fn serialize(&self, _: &RowSerializationContext<'_>, writer: &mut RowWriter) -> Result<(), SerializationError> {
        for cell in cells(self.0) {
            match cell {
                Some(value) => writer.make_cell_writer().set_value(value).map_err(SerializationError::new)?,
                None => writer.make_cell_writer().set_null(),
            };
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Adds a cell.
pub(crate) fn put(wire: &mut Vec<u8>, value: &[u8]) {
    put_with(wire, |wire| wire.extend_from_slice(value));
}

/// Adds a NULL.
pub(crate) fn put_null(wire: &mut Vec<u8>) {
    wire.extend_from_slice(&NULL.to_be_bytes());
}

/// Adds a cell whose value is written by `value`.
pub(crate) fn put_with<T>(wire: &mut Vec<u8>, value: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let start = wire.len();
    wire.extend_from_slice(&[0; LENGTH_BYTES]);
    let answer = value(wire);
    // Values of two gigabytes do not come up: the log's own limits are far below.
    let length = i32::try_from(wire.len() - start - LENGTH_BYTES).unwrap_or(i32::MAX);
    if let Some(place) = wire.get_mut(start..start + LENGTH_BYTES) {
        place.copy_from_slice(&length.to_be_bytes());
    }
    answer
}

/// Takes the first cell off; `None` if there is no whole one.
pub(crate) fn take<'a>(wire: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let (length, rest) = wire.split_first_chunk::<LENGTH_BYTES>()?;
    let length = i32::from_be_bytes(*length);
    if length < 0 {
        *wire = rest;
        return Some(None);
    }
    let (value, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *wire = rest;
    Some(Some(value))
}

/// The cells of encoded values.
pub(crate) fn cells(mut wire: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    std::iter::from_fn(move || take(&mut wire))
}

/// Hands each row of an answer on, as its cells.
pub(crate) fn each_row<'a>(
    answer: &'a QueryRowsResult,
    mut row: impl FnMut(&[Option<&'a [u8]>]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let rows = answer.rows::<ColumnIterator<'a, 'a>>().map_err(|error| Failure::broken(error.to_string()))?;
    let mut cells: Vec<Option<&'a [u8]>> = Vec::new();
    for columns in rows {
        let columns = columns.map_err(|error| Failure::broken(error.to_string()))?;
        cells.clear();
        for column in columns {
            let column = column.map_err(|error| Failure::broken(error.to_string()))?;
            cells.push(column.slice.map(|slice| slice.as_slice()));
        }
        row(&cells)?;
    }
    Ok(())
}

/// A cell of a row, NULL if it is not there.
pub(crate) fn cell<'a>(row: &[Option<&'a [u8]>], index: usize) -> Option<&'a [u8]> {
    row.get(index).copied().flatten()
}

/// A cell that holds a bigint.
pub(crate) fn number(row: &[Option<&[u8]>], index: usize) -> Option<i64> {
    cell(row, index).and_then(|bytes| bytes.try_into().ok()).map(i64::from_be_bytes)
}

/// A cell that holds text.
pub(crate) fn text(row: &[Option<&[u8]>], index: usize) -> Option<String> {
    cell(row, index).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}
