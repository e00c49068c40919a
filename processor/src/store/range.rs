//! From a read of a partition to a range of keys, and cursors from one page to the next.

use bytes::Bytes;
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::scalar::ScalarValue;
use xxhash_rust::xxh3::Xxh3;

use super::rows::RowCodec;
use super::{PartitionRead, StoreError};
use crate::table::{Order, Table};

/// The format of cursors.
const CURSOR_FORMAT: u8 = 1;
const CHECK_BYTES: usize = 8;

/// Keys from `start` (included) to `end` (excluded; `None`: no end).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyRange {
    pub start: Vec<u8>,
    pub end: Option<Vec<u8>>,
}

impl KeyRange {
    /// All keys that start with `prefix`.
    pub fn of_prefix(prefix: &[u8]) -> Self {
        KeyRange { start: prefix.to_vec(), end: after_prefix(prefix) }
    }

    /// Whether no key can be in it.
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }
}

/// A read translated to keys.
#[derive(Debug)]
pub struct PartitionRange {
    pub(super) keys: KeyRange,
    /// The prefix of the table and the partition: what a cursor leaves out.
    partition: Vec<u8>,
}

/// The least byte string that is greater than all that start with `prefix`.
pub(super) fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

impl PartitionRange {
    /// Whether no row can be in it.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl RowCodec {
    /// The keys that a read is about. Refuses reads that make no sense, with a message that names what is wrong.
    pub fn range(&self, read: &PartitionRead) -> Result<PartitionRange, StoreError> {
        let name = self.table.name();
        let key = &self.table.shape.partition_key;
        if read.limit == 0 {
            return Err(StoreError::Broken(format!("a read of table {name} has a limit of 0 rows; ask for at least one")));
        }
        if read.partition.len() != key.len() {
            let (has, given) = (key.len(), read.partition.len());
            return Err(StoreError::Broken(format!("the partition key of table {name} has {has} columns, a read names {given}")));
        }
        let mut partition = self.prefix.clone();
        if !key.is_empty() {
            let values: Result<Vec<ArrayRef>, StoreError> =
                key.iter().zip(&read.partition).map(|(column, value)| self.key_value(*column, value)).collect();
            partition.extend(encode_one(&self.partition, &values?, &self.table)?);
        }
        let mut keys = KeyRange::of_prefix(&partition);
        // In a descending column the greatest value comes first, so the bounds change places.
        if let Some(from) = &read.from {
            let (bound, order) = self.bound(&partition, from)?;
            match order {
                Order::Asc => keys.start = bound,
                Order::Desc => keys.end = after_prefix(&bound),
            }
        }
        if let Some(to) = &read.to {
            let (bound, order) = self.bound(&partition, to)?;
            match order {
                Order::Asc => keys.end = Some(bound),
                Order::Desc => keys.start = after_prefix(&bound).unwrap_or(bound),
            }
        }
        if let Some(cursor) = &read.cursor {
            let last = self.open_cursor(&partition, cursor)?;
            // No key continues another, so this is where the next one can be.
            let next = [partition.as_slice(), last, &[0]].concat();
            keys.start = keys.start.max(next);
        }
        Ok(PartitionRange { keys, partition })
    }

    /// What the keys start with whose first clustering column is `value`.
    fn bound(&self, partition: &[u8], value: &ScalarValue) -> Result<(Vec<u8>, Order), StoreError> {
        let Some((column, order)) = self.table.shape.clustering.first().copied() else {
            return Err(StoreError::Broken(format!("table {} has no clustering columns; read it without from and to", self.table.name())));
        };
        let encoded = self.encode_value(column, order, value)?;
        Ok(([partition, &encoded].concat(), order))
    }

    pub(super) fn encode_value(&self, column: usize, order: Order, value: &ScalarValue) -> Result<Vec<u8>, StoreError> {
        let array = self.key_value(column, value)?;
        let options = SortOptions { descending: order == Order::Desc, nulls_first: true };
        let field = SortField::new_with_options(array.data_type().clone(), options);
        let converter = RowConverter::new(vec![field]).map_err(|error| StoreError::Broken(error.to_string()))?;
        encode_one(&converter, &[array], &self.table)
    }

    /// The cursor after the row of `key`. It holds for every version of the view with the same key columns, so that a reader who
    /// is in the middle of a partition when readers are switched goes on in the new version.
    pub(super) fn cursor(&self, range: &PartitionRange, key: &[u8]) -> Bytes {
        self.cursor_at(range, key.get(range.partition.len()..).unwrap_or_default())
    }

    /// A cursor over an adapter's own description of the last row read, which [`RowCodec::resume`] gives back.
    pub fn cursor_at(&self, range: &PartitionRange, last: &[u8]) -> Bytes {
        let mut cursor = vec![CURSOR_FORMAT];
        cursor.extend(self.check_of(&range.partition, last));
        cursor.extend(last);
        cursor.into()
    }

    /// What the cursor of a read was made of; refuses one that was made for another partition or key.
    pub fn resume<'a>(&self, range: &PartitionRange, read: &'a PartitionRead) -> Result<Option<&'a [u8]>, StoreError> {
        read.cursor.as_ref().map(|cursor| self.open_cursor(&range.partition, cursor)).transpose()
    }

    fn open_cursor<'a>(&self, partition: &[u8], cursor: &'a [u8]) -> Result<&'a [u8], StoreError> {
        let parts = cursor.split_first().and_then(|(format, rest)| Some((*format, rest.split_at_checked(CHECK_BYTES)?)));
        match parts {
            Some((CURSOR_FORMAT, (check, last))) if check == self.check_of(partition, last) => Ok(last),
            _ => Err(StoreError::Broken(format!(
                "the cursor is not one of this partition of view {}; start again without it",
                self.table.view
            ))),
        }
    }

    fn check_of(&self, partition: &[u8], last: &[u8]) -> [u8; CHECK_BYTES] {
        let mut hash = Xxh3::new();
        let mut add = |part: &[u8]| {
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part);
        };
        add(self.table.view.as_bytes());
        for column in &self.key_columns {
            let field = self.table.shape.columns.field(*column);
            add(field.name().as_bytes());
            add(field.data_type().to_string().as_bytes());
        }
        for (_, order) in &self.table.shape.clustering {
            add(&[u8::from(*order == Order::Desc)]);
        }
        add(partition.get(self.prefix.len()..).unwrap_or_default());
        add(last);
        hash.digest().to_be_bytes()
    }

    /// The keys of all rows whose `column` is below `before_us`, where that column leads the key; `None` where rows must be looked at.
    pub(super) fn range_before(&self, column: usize, before_us: i64) -> Result<Option<KeyRange>, StoreError> {
        if self.table.shape.partition_key.first() != Some(&column) {
            return Ok(None);
        }
        let value = before(&self.table, column, before_us)?;
        let end = [self.prefix.as_slice(), &self.encode_value(column, Order::Asc, &value)?].concat();
        Ok(Some(KeyRange { start: self.prefix.clone(), end: Some(end) }))
    }
}

/// The least value of a timestamp column that is not before `before_us`.
pub fn before(table: &Table, column: usize, before_us: i64) -> Result<ScalarValue, StoreError> {
    let fields = table.shape.columns.fields();
    let data_type = fields.get(column).map(|field| field.data_type());
    let Some(DataType::Timestamp(unit, zone)) = data_type else {
        let name = fields.get(column).map_or("?", |field| field.name());
        return Err(StoreError::Broken(format!("column {name} of table {} is not a timestamp; rows cannot expire by it", table.name())));
    };
    let up = |divisor: i64| Some(before_us.div_euclid(divisor) + i64::from(before_us.rem_euclid(divisor) > 0));
    let zone = zone.clone();
    Ok(match unit {
        TimeUnit::Second => ScalarValue::TimestampSecond(up(1_000_000), zone),
        TimeUnit::Millisecond => ScalarValue::TimestampMillisecond(up(1_000), zone),
        TimeUnit::Microsecond => ScalarValue::TimestampMicrosecond(Some(before_us), zone),
        TimeUnit::Nanosecond => ScalarValue::TimestampNanosecond(Some(before_us.saturating_mul(1_000)), zone),
    })
}

fn encode_one(converter: &RowConverter, columns: &[ArrayRef], table: &Table) -> Result<Vec<u8>, StoreError> {
    let rows = converter.convert_columns(columns).map_err(|error| StoreError::Broken(format!("table {}: {error}", table.name())))?;
    Ok(rows.row(0).data().to_vec())
}
