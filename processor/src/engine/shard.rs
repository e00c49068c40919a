//! The groups of one shard that were touched since the last commit, with their full states.

use datafusion::arrow::array::ArrayRef;
use hashbrown::HashTable;

use super::codec::{Codec, group_hash};
use super::error::EngineError;
use super::map::ShardPartial;
use crate::state::{Space, StateReader};
use crate::view::{Merger, View};

/// Touched groups in memory. What was committed before is read when a group is first touched.
pub struct Shard {
    merger: Merger,
    table: HashTable<u32>,
    keys: KeyArena,
}

/// What the touched groups have become.
pub struct Touched {
    /// Encoded group keys.
    pub keys: KeyArena,
    /// Their full states.
    pub states: Vec<ArrayRef>,
}

/// Many short keys in one buffer.
#[derive(Debug)]
pub struct KeyArena {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Default for KeyArena {
    fn default() -> Self {
        KeyArena { bytes: Vec::new(), ends: vec![0] }
    }
}

impl KeyArena {
    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.ends.len() - 1
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A key; empty if there is none.
    pub fn get(&self, index: usize) -> &[u8] {
        match (self.ends.get(index), self.ends.get(index + 1)) {
            (Some(start), Some(end)) => self.bytes.get(*start..*end).unwrap_or_default(),
            _ => &[],
        }
    }

    /// All keys.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// Adds a key and answers its index.
    pub fn push(&mut self, key: &[u8]) -> usize {
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
        self.len() - 1
    }

    /// The memory that the keys take, in bytes.
    pub fn size(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<usize>()
    }
}

impl Shard {
    /// A shard with no group touched.
    pub fn new(view: &View) -> Result<Shard, EngineError> {
        Ok(Shard { merger: view.merger()?, table: HashTable::new(), keys: KeyArena::default() })
    }

    /// Merges partial aggregates. `is_kept` tells for a group key whether the state may hold it: if not, it is not looked up.
    pub fn merge(
        &mut self,
        partial: &ShardPartial,
        state: &dyn StateReader,
        states: &Codec,
        is_kept: &dyn Fn(&[u8]) -> bool,
    ) -> Result<(), EngineError> {
        let first_new = self.keys.len();
        let mut indices = Vec::with_capacity(partial.hashes.len());
        for (key, hash) in partial.keys.iter().zip(&partial.hashes) {
            let key = key.data();
            let keys = &self.keys;
            let entry = self.table.entry(*hash, |index| keys.get(*index as usize) == key, |index| group_hash(keys.get(*index as usize)));
            let index = match entry {
                hashbrown::hash_table::Entry::Occupied(entry) => *entry.get(),
                hashbrown::hash_table::Entry::Vacant(entry) => *entry.insert(first_free(keys)?).get(),
            };
            if index as usize == self.keys.len() {
                self.keys.push(key);
            }
            indices.push(index as usize);
        }
        self.restore(first_new, state, states, is_kept)?;
        self.merger.merge(&partial.states, &indices, self.keys.len())?;
        Ok(())
    }

    /// Merges the committed states of the groups from `first_new` on.
    fn restore(
        &mut self,
        first_new: usize,
        state: &dyn StateReader,
        states: &Codec,
        is_kept: &dyn Fn(&[u8]) -> bool,
    ) -> Result<(), EngineError> {
        let mut wanted: Vec<usize> = (first_new..self.keys.len()).filter(|index| is_kept(self.keys.get(*index))).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        wanted.sort_unstable_by(|a, b| self.keys.get(*a).cmp(self.keys.get(*b)));
        let keys: Vec<&[u8]> = wanted.iter().map(|index| self.keys.get(*index)).collect();
        let found = state.get_sorted(Space::Groups, &keys)?;
        let (indices, rows): (Vec<usize>, Vec<&[u8]>) =
            wanted.iter().zip(&found).filter_map(|(index, value)| Some((*index, value.as_deref()?))).unzip();
        if !rows.is_empty() {
            let columns = states.decode(rows)?;
            self.merger.merge(&columns, &indices, self.keys.len())?;
        }
        Ok(())
    }

    /// Takes all touched groups; the shard is empty after.
    pub fn take(&mut self) -> Result<Touched, EngineError> {
        self.table.clear();
        // A share that has become smaller would otherwise be taken up by what is empty.
        self.table.shrink_to(self.keys.len(), |_| 0);
        Ok(Touched { keys: std::mem::take(&mut self.keys), states: self.merger.take()? })
    }

    /// The memory in use, in bytes.
    pub fn size(&self) -> usize {
        self.keys.size() + self.merger.size() + self.table.capacity() * size_of::<u32>()
    }
}

fn first_free(keys: &KeyArena) -> Result<u32, EngineError> {
    u32::try_from(keys.len()).map_err(|_| EngineError::Internal("more than 4 billion groups touched in one commit".into()))
}
