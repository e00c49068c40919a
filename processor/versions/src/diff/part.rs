//! The rows of one version whose keys are in a slice of all keys.

use std::collections::HashMap;

use refold_processor::store::RowReader;
use xxhash_rust::xxh3::xxh3_64;

use super::columns::Columns;
use super::{Compared, Counted, DiffError, Row, rows_of};

/// Keys by the highest bits of their hash: the slice `index` of `1 << bits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    index: u64,
    bits: u32,
}

impl Slice {
    /// All keys.
    pub const WHOLE: Option<Slice> = Some(Slice { index: 0, bits: 0 });

    /// Whether a key is in it.
    pub fn has(&self, key: &str) -> bool {
        self.bits == 0 || xxh3_64(key.as_bytes()) >> (u64::BITS - self.bits) == self.index
    }

    /// Its first half. `None`: a slice is never so small.
    pub fn halved(&self) -> Option<Slice> {
        (self.bits < u64::BITS - 1).then(|| Slice { index: self.index * 2, bits: self.bits + 1 })
    }

    /// The slice that follows. `None`: it was the last.
    pub fn next(&self) -> Option<Slice> {
        let is_last = self.index + 1 >= 1 << self.bits;
        (!is_last).then(|| Slice { index: self.index + 1, ..*self })
    }
}

/// The rows of a slice, by key.
pub struct Part(HashMap<Box<str>, Row>);

/// What a row takes beside its texts, about, bytes.
const ROW_BYTES: usize = 80;

impl Part {
    /// Reads the rows of a slice; `None`: they take more than `most_bytes`.
    pub fn read(
        rows: &dyn RowReader,
        side: &Compared,
        columns: &Columns,
        slice: &Slice,
        most_bytes: usize,
        counted: &mut Counted<'_, '_>,
    ) -> Result<Option<Part>, DiffError> {
        let (mut kept, mut bytes) = (HashMap::new(), 0);
        rows_of(rows, side, columns, counted, &mut |key, row| {
            if bytes <= most_bytes && slice.has(key) {
                bytes += key.len() + row.text.len() + ROW_BYTES;
                kept.insert(key.into(), row);
            }
        })?;
        Ok((bytes <= most_bytes).then_some(Part(kept)))
    }

    /// Takes a row out.
    pub fn take(&mut self, key: &str) -> Option<Row> {
        self.0.remove(key)
    }

    /// The rows that were not taken.
    pub fn rest(self) -> impl Iterator<Item = (Box<str>, Row)> {
        self.0.into_iter()
    }
}
