//! Where a reader of the log is: offsets, positions and cuts.
//!
//! An [`Offset`] names a record. A *position* is the offset of the next record to read. A [`Cut`] is a vector of
//! positions, one for each partition of a source.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// One partition of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Partition(pub u32);

/// The place of a record in its partition; as a position, the next record to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub u64);

impl Offset {
    /// The position after this record.
    pub fn next(self) -> Offset {
        Offset(self.0 + 1)
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A vector of positions, one for each partition. A partition that is not named is at the start of the log, position 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cut(BTreeMap<Partition, Offset>);

impl Cut {
    /// The position in `partition`.
    pub fn position(&self, partition: Partition) -> Offset {
        self.0.get(&partition).copied().unwrap_or_default()
    }

    /// Sets the position in `partition`.
    pub fn set(&mut self, partition: Partition, position: Offset) {
        self.0.insert(partition, position);
    }

    /// The positions by partition.
    pub fn iter(&self) -> impl Iterator<Item = (Partition, Offset)> + '_ {
        self.0.iter().map(|(partition, offset)| (*partition, *offset))
    }

    /// The sum of all positions: a number that grows with every record read, whatever the interleaving.
    pub fn sum(&self) -> u64 {
        self.0.values().map(|offset| offset.0).sum()
    }

    /// How many events this cut is behind these positions, all partitions together.
    pub fn behind(&self, positions: impl IntoIterator<Item = (Partition, Offset)>) -> u64 {
        let behind = |(partition, offset): (Partition, Offset)| offset.0.saturating_sub(self.position(partition).0);
        positions.into_iter().map(behind).sum()
    }

    /// Whether this cut has reached `other` in every partition.
    pub fn reaches(&self, other: &Cut) -> bool {
        other.iter().all(|(partition, offset)| self.position(partition) >= offset)
    }
}

impl FromIterator<(Partition, Offset)> for Cut {
    fn from_iter<T: IntoIterator<Item = (Partition, Offset)>>(positions: T) -> Self {
        Cut(positions.into_iter().collect())
    }
}
