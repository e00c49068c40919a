//! Dirty rows: changed, committed, and not yet known to be in the view store.
//!
//! An entry carries its row and the sum of the positions of the cut that made it; with the owner's epoch that is the row's write
//! timestamp. Layout of an entry: the sum as eight bytes, big endian; one byte, 1 for a row and 0 for a delete; the row's other columns.

use datafusion::arrow::array::RecordBatch;

use super::codec::following;
use super::error::EngineError;
use super::layout::RowLayout;
use super::shard::KeyArena;
use crate::state::{Batch, Space, StateReader};
use crate::store::RowBatch;
use crate::table::Epoch;

/// Bits of a write timestamp that the sum of positions has; the epoch has those above.
const SUM_BITS: u32 = 47;

/// Rows to be written, of one cut.
pub struct DirtyRows {
    /// Their encoded keys.
    pub keys: KeyArena,
    /// The rows; of deleted ones only the key columns are filled.
    pub rows: RecordBatch,
    /// Whether the row is to be deleted.
    pub deleted: Vec<bool>,
    /// The sum of positions that each row was made at.
    pub sums: Vec<u64>,
}

/// The write timestamp of a row: greater for a later owner, then for a later cut.
pub fn write_timestamp(epoch: Epoch, sum: u64) -> Result<i64, EngineError> {
    if epoch.0 >= 1 << (63 - SUM_BITS) || sum >= 1 << SUM_BITS {
        return Err(EngineError::EpochsExhausted(epoch.0));
    }
    Ok((i64::from(epoch.0) << SUM_BITS) | sum as i64)
}

/// The owner that a row with this write timestamp is of.
pub fn epoch_of(written_at: i64) -> Epoch {
    Epoch((written_at >> SUM_BITS) as u32)
}

/// The sum of positions in a write timestamp.
pub fn sum_of(written_at: i64) -> u64 {
    (written_at & ((1 << SUM_BITS) - 1)) as u64
}

/// Puts rows among the dirty ones.
pub fn put(batch: &mut Batch, layout: &RowLayout, dirty: &DirtyRows) -> Result<(), EngineError> {
    let others = layout.encode_others(&dirty.rows)?;
    let mut value = Vec::new();
    for (row, (key, other)) in dirty.keys.iter().zip(others.iter()).enumerate() {
        let deleted = dirty.deleted.get(row).copied().unwrap_or_default();
        value.clear();
        value.extend_from_slice(&dirty.sums.get(row).copied().unwrap_or_default().to_be_bytes());
        value.push(u8::from(!deleted));
        if !deleted {
            value.extend_from_slice(other.data());
        }
        batch.put(Space::Dirty, key, &value);
    }
    Ok(())
}

/// Reads up to `limit` dirty rows whose keys come after `after`, up to `last`, in key order.
pub fn read(
    state: &dyn StateReader,
    layout: &RowLayout,
    after: Option<&[u8]>,
    last: &[u8],
    limit: usize,
) -> Result<DirtyRows, EngineError> {
    let mut keys = KeyArena::default();
    let mut values: Vec<Vec<u8>> = Vec::new();
    state.scan(Space::Dirty, &after.map(following).unwrap_or_default(), Some(following(last).as_slice()), &mut |key, value| {
        keys.push(key);
        values.push(value.to_vec());
        values.len() < limit
    })?;
    let mut deleted = Vec::with_capacity(values.len());
    let mut sums = Vec::with_capacity(values.len());
    let mut others = Vec::with_capacity(values.len());
    for value in &values {
        let (sum, other) = parse(value)?;
        sums.push(sum);
        deleted.push(other.is_none());
        others.push(other);
    }
    let encoded: Vec<&[u8]> = keys.iter().collect();
    let rows = layout.decode(&encoded, &others)?;
    Ok(DirtyRows { keys, rows, deleted, sums })
}

fn parse(value: &[u8]) -> Result<(u64, Option<&[u8]>), EngineError> {
    let invalid = || EngineError::Internal("a dirty row's entry is too short".into());
    let (sum, rest) = value.split_first_chunk::<8>().ok_or_else(invalid)?;
    let (kind, other) = rest.split_first().ok_or_else(invalid)?;
    Ok((u64::from_be_bytes(*sum), (*kind == 1).then_some(other)))
}

/// Takes acknowledged rows out of the dirty ones, unless they have been dirtied again since they were read. Must come into
/// the batch before rows are put.
pub fn clear(batch: &mut Batch, state: &dyn StateReader, acknowledged: &[Acknowledged]) -> Result<(), EngineError> {
    for acknowledged in acknowledged {
        let mut order: Vec<usize> = (0..acknowledged.keys.len()).collect();
        order.sort_unstable_by(|a, b| acknowledged.keys.get(*a).cmp(acknowledged.keys.get(*b)));
        let keys: Vec<&[u8]> = order.iter().map(|index| acknowledged.keys.get(*index)).collect();
        for (index, value) in order.iter().zip(state.get_sorted(Space::Dirty, &keys)?) {
            let Some(value) = value else { continue };
            if Some(parse(&value)?.0) == acknowledged.sums.get(*index).copied() {
                batch.delete(Space::Dirty, acknowledged.keys.get(*index));
            }
        }
    }
    Ok(())
}

/// Rows that the view store has.
pub struct Acknowledged {
    /// Their encoded keys.
    pub keys: KeyArena,
    /// The sums they were written with.
    pub sums: Vec<u64>,
}

impl Acknowledged {
    /// The memory that they take, bytes.
    pub fn size(&self) -> usize {
        self.keys.size() + self.sums.len() * size_of::<u64>()
    }
}

impl DirtyRows {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.sums.len()
    }

    /// The memory that they take, bytes.
    pub fn size(&self) -> usize {
        self.keys.size() + self.rows.get_array_memory_size() + self.sums.len() * (size_of::<u64>() + size_of::<bool>())
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }

    /// The rows as the store takes them.
    pub fn to_batch(&self, epoch: Epoch) -> Result<RowBatch, EngineError> {
        let written_at = self.sums.iter().map(|sum| write_timestamp(epoch, *sum)).collect::<Result<Vec<_>, _>>()?;
        Ok(RowBatch { rows: self.rows.clone(), written_at, deleted: self.deleted.clone() })
    }
}
