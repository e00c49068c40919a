//! Rows as bytes whose order is the order of the rows: what the adapters that sort by key store.
//!
//! | part | bytes |
//! |---|---|
//! | key | the adapter's prefix · the partition key · the clustering columns, in Arrow's row format, descending columns inverted |
//! | value, live | write timestamp, 8 bytes big endian with the sign bit flipped · `0` · the other columns, in Arrow's row format |
//! | value, deleted | write timestamp, likewise · `1` · when it was written, milliseconds since the Unix epoch, 8 bytes big endian |
//!
//! The encoding of a key column is never the beginning of another's, so a partition is a prefix. Of two values of a row the
//! one with the greater first nine bytes wins: the greater timestamp, then the delete.

use std::cmp::Ordering;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::scalar::ScalarValue;

use super::shape::validate;
use super::{RowBatch, StoreError};
use crate::table::{Order, Table, TableShape};

/// Timestamp and flag.
const HEADER: usize = 9;
const LIVE: u8 = 0;
const DELETED: u8 = 1;

/// Translates between rows and bytes for one table.
#[derive(Debug)]
pub struct RowCodec {
    pub(super) table: Table,
    /// What all keys of the table start with.
    pub(super) prefix: Vec<u8>,
    /// Partition key, then clustering.
    pub(super) key_columns: Vec<usize>,
    value_columns: Vec<usize>,
    pub(super) partition: RowConverter,
    key: RowConverter,
    values: RowConverter,
}

/// Byte strings, one after the other in one allocation.
#[derive(Debug, Default)]
pub(super) struct Runs {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Runs {
    pub fn with_capacity(runs: usize, bytes: usize) -> Self {
        Runs { bytes: Vec::with_capacity(bytes), ends: Vec::with_capacity(runs) }
    }

    /// Adds the concatenation of `parts`.
    pub fn push(&mut self, parts: &[&[u8]]) {
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.ends.push(self.bytes.len());
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn get(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.ends.get(index).and_then(|end| self.bytes.get(start..*end)).unwrap_or_default()
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.get(index))
    }
}

/// Encoded rows by key, each key once.
#[derive(Debug)]
pub(super) struct EncodedRows {
    keys: Runs,
    values: Runs,
    order: Vec<usize>,
}

impl EncodedRows {
    /// Keys and values in the order of keys.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.order.iter().map(|index| (self.keys.get(*index), self.values.get(*index)))
    }
}

/// Keys and values that were read, on their way to being rows.
#[derive(Debug, Default)]
pub(super) struct StoredRows {
    /// Without the table's prefix.
    keys: Runs,
    /// Without the header.
    values: Runs,
}

impl StoredRows {
    pub fn len(&self) -> usize {
        self.keys.len()
    }
}

/// Whether `new` replaces `stored`, of the same row.
pub(super) fn wins(new: &[u8], stored: &[u8]) -> bool {
    match new.get(..HEADER).cmp(&stored.get(..HEADER)) {
        Ordering::Greater => true,
        Ordering::Less => false,
        // Equal timestamps carry equal content. Should they not, every order of writing still ends with the same.
        Ordering::Equal => is_live(new) && new > stored,
    }
}

/// Whether a value is that of a row that is there.
pub(super) fn is_live(value: &[u8]) -> bool {
    value.get(HEADER - 1) == Some(&LIVE)
}

/// When a deletion was written, milliseconds since the Unix epoch; `None` for a row that is there.
pub(super) fn deleted_at_ms(value: &[u8]) -> Option<i64> {
    if is_live(value) {
        return None;
    }
    value.get(HEADER..).and_then(|bytes| bytes.try_into().ok()).map(i64::from_be_bytes)
}

impl RowCodec {
    /// The codec of a table for an adapter that keeps each in a place of its own. Refuses shapes that cannot be stored.
    pub fn new(table: &Table) -> Result<Self, StoreError> {
        RowCodec::with_prefix(table, Vec::new())
    }

    /// The shape of the table.
    pub fn shape(&self) -> &TableShape {
        &self.table.shape
    }

    /// The codec of a table whose keys start with `prefix`. Refuses shapes that cannot be stored.
    pub(super) fn with_prefix(table: &Table, prefix: Vec<u8>) -> Result<Self, StoreError> {
        validate(table)?;
        let shape = &table.shape;
        let field = |index: usize, order: Order| {
            let options = SortOptions { descending: order == Order::Desc, nulls_first: true };
            SortField::new_with_options(shape.columns.field(index).data_type().clone(), options)
        };
        let partition_fields: Vec<SortField> = shape.partition_key.iter().map(|index| field(*index, Order::Asc)).collect();
        let mut key_fields = partition_fields.clone();
        key_fields.extend(shape.clustering.iter().map(|(index, order)| field(*index, *order)));
        let key_columns: Vec<usize> = shape.key_columns().collect();
        let value_columns: Vec<usize> = (0..shape.columns.fields().len()).filter(|index| !key_columns.contains(index)).collect();
        let value_fields = value_columns.iter().map(|index| field(*index, Order::Asc)).collect();
        let converter = |fields| RowConverter::new(fields).map_err(|error| broken(table, &error));
        Ok(RowCodec {
            partition: converter(partition_fields)?,
            key: converter(key_fields)?,
            values: converter(value_fields)?,
            table: table.clone(),
            prefix,
            key_columns,
            value_columns,
        })
    }

    /// Encodes rows; of several of the same key, the winner. Deletions are dated `now_ms`.
    pub(super) fn encode(&self, batch: &RowBatch, now_ms: i64) -> Result<EncodedRows, StoreError> {
        let count = batch.rows.num_rows();
        self.check(batch)?;
        let columns = |indexes: &[usize]| -> Vec<ArrayRef> { indexes.iter().map(|index| Arc::clone(batch.rows.column(*index))).collect() };
        let error = |error: ArrowError| broken(&self.table, &error);
        let key_rows = self.key.convert_columns(&columns(&self.key_columns)).map_err(error)?;
        let value_rows = self.values.convert_columns(&columns(&self.value_columns)).map_err(error)?;
        let mut keys = Runs::with_capacity(count, count * self.prefix.len() + key_rows.size());
        let mut values = Runs::with_capacity(count, count * HEADER + value_rows.size());
        for (index, (written_at, deleted)) in batch.written_at.iter().zip(&batch.deleted).enumerate() {
            keys.push(&[&self.prefix, key_rows.row(index).data()]);
            let timestamp = (written_at ^ i64::MIN).to_be_bytes();
            if *deleted {
                values.push(&[&timestamp, &[DELETED], &now_ms.to_be_bytes()]);
            } else if self.value_columns.is_empty() {
                values.push(&[&timestamp, &[LIVE]]);
            } else {
                values.push(&[&timestamp, &[LIVE], value_rows.row(index).data()]);
            }
        }
        let order = order_of(&keys, &values);
        Ok(EncodedRows { keys, values, order })
    }

    /// Refuses rows of other columns than the table's, and NULL in a column of the key.
    pub fn check(&self, batch: &RowBatch) -> Result<(), StoreError> {
        let fields = self.table.shape.columns.fields();
        let rows = &batch.rows;
        let name = self.table.name();
        if rows.num_columns() != fields.len() {
            return Err(StoreError::Broken(format!(
                "table {name} has {} columns, rows of {} were to be written",
                fields.len(),
                rows.num_columns()
            )));
        }
        if batch.written_at.len() != rows.num_rows() || batch.deleted.len() != rows.num_rows() {
            return Err(StoreError::Broken(format!(
                "{} rows were to be written to table {name} with {} timestamps and {} deletion flags",
                rows.num_rows(),
                batch.written_at.len(),
                batch.deleted.len()
            )));
        }
        for (field, column) in fields.iter().zip(rows.columns()) {
            if field.data_type() != column.data_type() {
                let (wanted, given) = (field.data_type(), column.data_type());
                return Err(StoreError::Broken(format!("column {} of table {name} is {wanted}, {given} was to be written", field.name())));
            }
        }
        for index in &self.key_columns {
            if rows.column(*index).logical_null_count() > 0 {
                return Err(null_key(&self.table, *index));
            }
        }
        Ok(())
    }

    /// Takes what was read in, less the prefix and the header.
    pub(super) fn collect(&self, rows: &mut StoredRows, key: &[u8], value: &[u8]) {
        rows.keys.push(&[key.get(self.prefix.len()..).unwrap_or_default()]);
        rows.values.push(&[value.get(HEADER..).unwrap_or_default()]);
    }

    /// The rows that were collected, with the columns of `table`.
    pub(super) fn decode(&self, table: &Table, rows: &StoredRows) -> Result<RecordBatch, StoreError> {
        let columns = &table.shape.columns;
        let count = rows.keys.len();
        if count == 0 {
            return Ok(RecordBatch::new_empty(Arc::clone(columns)));
        }
        let error = |error: ArrowError| broken(&self.table, &error);
        let mut arrays: Vec<(usize, ArrayRef)> = Vec::with_capacity(columns.fields().len());
        for (indexes, converter, runs) in [(&self.key_columns, &self.key, &rows.keys), (&self.value_columns, &self.values, &rows.values)] {
            let parser = converter.parser();
            let decoded = converter.convert_rows(runs.iter().map(|bytes| parser.parse(bytes))).map_err(error)?;
            arrays.extend(indexes.iter().copied().zip(decoded));
        }
        arrays.sort_by_key(|(index, _)| *index);
        let arrays = arrays.into_iter().map(|(_, array)| array).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        RecordBatch::try_new_with_options(Arc::clone(columns), arrays, &options).map_err(error)
    }

    /// A scalar for one of the table's columns as an array of one; refuses NULL and other types than the column's.
    pub fn key_value(&self, column: usize, value: &ScalarValue) -> Result<ArrayRef, StoreError> {
        let field = self.table.shape.columns.field(column);
        if value.is_null() {
            return Err(null_key(&self.table, column));
        }
        if value.data_type() != *field.data_type() {
            let (wanted, given) = (field.data_type(), value.data_type());
            return Err(StoreError::Broken(format!(
                "column {} of table {} is {wanted}, it was asked for as {given}",
                field.name(),
                self.table.name()
            )));
        }
        value.to_array().map_err(|error| StoreError::Broken(format!("table {}: {error}", self.table.name())))
    }
}

/// The indexes of rows by key, of equal keys the winner's alone.
fn order_of(keys: &Runs, values: &Runs) -> Vec<usize> {
    let rising = (1..keys.len()).all(|index| keys.get(index - 1) < keys.get(index));
    let mut order: Vec<usize> = (0..keys.len()).collect();
    if rising {
        return order;
    }
    order.sort_by(|left, right| keys.get(*left).cmp(keys.get(*right)));
    order.dedup_by(|later, earlier| {
        let same = keys.get(*later) == keys.get(*earlier);
        if same && wins(values.get(*later), values.get(*earlier)) {
            *earlier = *later;
        }
        same
    });
    order
}

fn null_key(table: &Table, column: usize) -> StoreError {
    let name = table.shape.columns.field(column).name();
    StoreError::Broken(format!("column {name} is part of the key of table {} and cannot be NULL; leave such rows out", table.name()))
}

fn broken(table: &Table, error: &ArrowError) -> StoreError {
    StoreError::Broken(format!("table {}: {error}", table.name()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

    use datafusion::arrow::array::{BinaryArray, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
    use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
    use proptest::prelude::*;

    use super::*;
    use crate::table::Version;

    fn table() -> Table {
        let columns = Arc::new(Schema::new(vec![
            Field::new("hashtag", DataType::Utf8, false),
            Field::new("slot", DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())), false),
            Field::new("rank", DataType::Int64, false),
            Field::new("share", DataType::Float64, true),
            Field::new("trending", DataType::Boolean, true),
            Field::new("sketch", DataType::Binary, true),
        ]));
        let shape = TableShape { columns, partition_key: vec![0], clustering: vec![(1, Order::Desc), (2, Order::Asc)] };
        Table { view: "v".into(), version: Version(1), shape }
    }

    fn batch(hashtag: &str) -> RowBatch {
        let slot = TimestampMicrosecondArray::from(vec![1_700_000_000_000_000; 2]).with_timezone("+00:00");
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![hashtag; 2])),
            Arc::new(slot),
            Arc::new(Int64Array::from(vec![-2, 3])),
            Arc::new(Float64Array::from(vec![Some(0.5), None])),
            Arc::new(BooleanArray::from(vec![Some(true), None])),
            Arc::new(BinaryArray::from(vec![Some(&[7_u8, 0][..]), None])),
        ];
        let rows = RecordBatch::try_new(table().shape.columns, columns).unwrap();
        RowBatch { rows, written_at: vec![(3 << 47) + 9, -1], deleted: vec![false, true] }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Should this fail after an update of Arrow, its row format has changed: raise the format of the embedded store.
    #[test]
    fn format_1_has_these_bytes_for_ever() {
        let codec = RowCodec::with_prefix(&table(), vec![0, 0, 0, 5]).unwrap();
        let encoded = codec.encode(&batch("rust"), 1_000).unwrap();
        let bytes: Vec<(String, String)> = encoded.iter().map(|(key, value)| (hex(key), hex(value))).collect();
        assert_eq!(bytes, GOLDEN.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    const GOLDEN: [(&str, &str); 2] = [
        (
            "0000000502727573740000000004017ff9f5dbe7e1bfff017ffffffffffffffe",
            "80018000000000090001bfe0000000000000010102070000000000000002",
        ),
        ("0000000502727573740000000004017ff9f5dbe7e1bfff018000000000000003", "7fffffffffffffff0100000000000003e8"),
    ];

    /// A value of one row, however it came to be written.
    fn any_value() -> impl Strategy<Value = Vec<u8>> {
        (-3_i64..3, any::<bool>(), 0_u8..3).prop_map(|(written_at, deleted, content)| {
            let mut value = (written_at ^ i64::MIN).to_be_bytes().to_vec();
            value.push(if deleted { DELETED } else { LIVE });
            if deleted {
                value.extend(i64::from(content).to_be_bytes());
            } else {
                value.push(content);
            }
            value
        })
    }

    proptest! {
        /// Whatever the order in which writes of a row arrive, the same one is left; of deletions at the same time, the first to come.
        #[test]
        fn any_order_of_writes_leaves_the_same_value(mut writes in proptest::collection::vec(any_value(), 1..8), seed in any::<u64>()) {
            let leaves = |writes: &[Vec<u8>]| {
                let mut stored = writes[0].clone();
                for write in &writes[1..] {
                    if wins(write, &stored) {
                        stored = write.clone();
                    }
                }
                let seen = if is_live(&stored) { stored.len() } else { HEADER };
                stored[..seen].to_vec()
            };
            let before = leaves(&writes);
            let mut state = seed;
            for index in (1..writes.len()).rev() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                writes.swap(index, (state >> 33) as usize % (index + 1));
            }
            prop_assert_eq!(leaves(&writes), before);
        }

        /// The order of keys is the order of partition, then slot downwards, then rank upwards.
        #[test]
        fn the_order_of_keys_is_the_order_of_rows(
            left in ("[a\\x00#é]{0,40}", any::<i64>(), any::<i64>()),
            right in ("[a\\x00#é]{0,40}", any::<i64>(), any::<i64>()),
        ) {
            let codec = RowCodec::new(&table()).unwrap();
            let key = |row: &(String, i64, i64)| {
                let one = batch(&row.0);
                let mut columns = one.rows.slice(0, 1).columns().to_vec();
                columns[1] = Arc::new(TimestampMicrosecondArray::from(vec![row.1]).with_timezone("+00:00"));
                columns[2] = Arc::new(Int64Array::from(vec![row.2]));
                let rows = RecordBatch::try_new(one.rows.schema(), columns).unwrap();
                let encoded = codec.encode(&RowBatch { rows, written_at: vec![0], deleted: vec![false] }, 0).unwrap();
                encoded.iter().next().unwrap().0.to_vec()
            };
            let rows_order = left.0.as_bytes().cmp(right.0.as_bytes()).then(right.1.cmp(&left.1)).then(left.2.cmp(&right.2));
            prop_assert_eq!(key(&left).cmp(&key(&right)), rows_order);
        }
    }
}
