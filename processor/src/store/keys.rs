//! Listing the partitions of a table.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::scalar::ScalarValue;

use super::range::after_prefix;
use super::rows::{RowCodec, StoredRows};
use super::{Keys, KeysRead, StoreError};
use crate::json;
use crate::table::{Order, Table};

/// How many partitions are looked at whose order is not that of their texts.
const LOOKED_AT: usize = 100_000;

impl KeysRead {
    /// Whether the value of the first column of a partition key begins as it should.
    pub fn has(&self, column: &dyn Array, row: usize) -> bool {
        if self.prefix.is_empty() {
            return true;
        }
        match json::value(column, row) {
            serde_json::Value::String(text) => text.starts_with(&self.prefix),
            other => other.to_string().starts_with(&self.prefix),
        }
    }
}

/// Rows of the columns of a partition key, as a batch of those columns.
pub fn key_batch(table: &Table, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, StoreError> {
    let fields: Vec<Field> = table.shape.partition_key.iter().map(|column| table.shape.columns.field(*column).clone()).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
        .map_err(|error| StoreError::Broken(format!("table {}: {error}", table.name())))
}

/// A key and a value that are stored.
pub(super) type Stored = (Vec<u8>, Vec<u8>);

impl RowCodec {
    /// Lists partitions where rows are kept in order: `seek` answers the first live row of the table from a key on.
    pub(super) fn list(
        &self,
        table: &Table,
        read: &KeysRead,
        mut seek: impl FnMut(&[u8]) -> Result<Option<Stored>, StoreError>,
    ) -> Result<Keys, StoreError> {
        let broken = |error: datafusion::error::DataFusionError| StoreError::Broken(format!("table {}: {error}", table.name()));
        let partition_key = &self.table.shape.partition_key;
        let Some(first) = partition_key.first() else {
            return Ok(Keys { keys: key_batch(table, Vec::new(), 0)?, complete: true });
        };
        let least = text(self.table.shape.columns.field(*first).data_type(), &read.prefix);
        let mut from = self.prefix.clone();
        if let Some(least) = least.as_ref().filter(|_| !read.prefix.is_empty()) {
            from.extend(self.encode_value(*first, Order::Asc, least)?);
        }
        let mut found: Vec<Vec<ScalarValue>> = Vec::new();
        let mut complete = false;
        for _ in 0..LOOKED_AT {
            let Some((key, value)) = seek(&from)? else {
                complete = true;
                break;
            };
            let partition = self.partition_of(table, &key, &value)?;
            let is_wanted = partition.first().is_some_and(|column| read.has(column.as_ref(), 0));
            // Texts that begin alike stand together.
            if !is_wanted && least.is_some() {
                complete = true;
                break;
            }
            if is_wanted {
                if found.len() == read.limit {
                    break;
                }
                found.push(scalars(table, &partition)?);
            }
            let Some(next) = after_prefix(&[self.prefix.as_slice(), &self.encode_partition(&partition)?].concat()) else {
                complete = true;
                break;
            };
            from = next;
        }
        let rows = found.len();
        let columns = (0..partition_key.len()).map(|place| {
            let values = found.iter().filter_map(|partition| partition.get(place).cloned());
            match rows {
                0 => Ok(datafusion::arrow::array::new_empty_array(
                    partition_key.get(place).map_or(&DataType::Null, |column| self.table.shape.columns.field(*column).data_type()),
                )),
                _ => ScalarValue::iter_to_array(values).map_err(broken),
            }
        });
        Ok(Keys { keys: key_batch(table, columns.collect::<Result<_, _>>()?, rows)?, complete })
    }

    /// The partition of a row, a column each.
    pub(super) fn partition_of(&self, table: &Table, key: &[u8], value: &[u8]) -> Result<Vec<ArrayRef>, StoreError> {
        let mut stored = StoredRows::default();
        self.collect(&mut stored, key, value);
        let row = self.decode(table, &stored)?;
        Ok(self.table.shape.partition_key.iter().filter_map(|column| row.columns().get(*column).cloned()).collect())
    }

    fn encode_partition(&self, partition: &[ArrayRef]) -> Result<Vec<u8>, StoreError> {
        let rows = self.partition.convert_columns(partition);
        let rows = rows.map_err(|error| StoreError::Broken(format!("table {}: {error}", self.table.name())))?;
        Ok(rows.iter().next().map(|row| row.data().to_vec()).unwrap_or_default())
    }
}

/// The first values of columns.
pub(super) fn scalars(table: &Table, columns: &[ArrayRef]) -> Result<Vec<ScalarValue>, StoreError> {
    let values = columns.iter().map(|column| ScalarValue::try_from_array(column, 0)).collect::<Result<_, _>>();
    values.map_err(|error: datafusion::error::DataFusionError| StoreError::Broken(format!("table {}: {error}", table.name())))
}

/// A text as a value of a column of texts.
fn text(data_type: &DataType, text: &str) -> Option<ScalarValue> {
    match data_type {
        DataType::Utf8 => Some(ScalarValue::Utf8(Some(text.to_owned()))),
        DataType::LargeUtf8 => Some(ScalarValue::LargeUtf8(Some(text.to_owned()))),
        DataType::Utf8View => Some(ScalarValue::Utf8View(Some(text.to_owned()))),
        _ => None,
    }
}
