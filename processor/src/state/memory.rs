//! State in memory: for simulations and tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;

use super::{Batch, Change, Lookup, Space, State, StateError, StateReader};

type Map = BTreeMap<(Space, Vec<u8>), Vec<u8>>;

/// State in memory. Clones share it, so that one can outlive the owner, as a disk does.
#[derive(Clone, Default)]
pub struct MemoryState(Arc<RwLock<Map>>);

impl MemoryState {
    /// A copy that goes its own way: a checkpoint.
    pub fn checkpoint(&self) -> MemoryState {
        MemoryState(Arc::new(RwLock::new(self.0.read().clone())))
    }
}

fn bounds(space: Space, from: &[u8], to: Option<&[u8]>) -> Option<std::ops::Range<(Space, Vec<u8>)>> {
    let end = match to {
        Some(to) => (space, to.to_vec()),
        None => (Space::ALL.into_iter().find(|next| *next > space).unwrap_or(space), Vec::new()),
    };
    let start = (space, from.to_vec());
    (start < end).then_some(start..end)
}

impl Lookup for MemoryState {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.0.read().get(&(space, key.to_vec())).cloned())
    }

    fn scan(&self, space: Space, from: &[u8], to: Option<&[u8]>, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), StateError> {
        let map = self.0.read();
        let visited: Box<dyn Iterator<Item = _>> = match bounds(space, from, to) {
            Some(range) => Box::new(map.range(range)),
            // The last space has no space after it that could end the range.
            None if to.is_none() => Box::new(map.range((space, from.to_vec())..)),
            None => return Ok(()),
        };
        for ((_, key), value) in visited {
            if !visit(key, value) {
                break;
            }
        }
        Ok(())
    }
}

impl StateReader for MemoryState {
    fn get_sorted(&self, space: Space, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, StateError> {
        let map = self.0.read();
        Ok(keys.iter().map(|key| map.get(&(space, key.to_vec())).cloned()).collect())
    }

    fn last_key(&self, space: Space) -> Result<Option<Vec<u8>>, StateError> {
        let map = self.0.read();
        let last = match bounds(space, &[], None) {
            Some(range) => map.range(range).next_back(),
            None => map.range((space, Vec::new())..).next_back(),
        };
        Ok(last.map(|((_, key), _)| key.clone()))
    }

    fn snapshot(&self) -> Box<dyn Lookup + '_> {
        Box::new(self.checkpoint())
    }

    fn size(&self) -> u64 {
        self.0.read().iter().map(|((_, key), value)| (key.len() + value.len()) as u64).sum()
    }
}

impl State for MemoryState {
    fn commit(&self, batch: &Batch) -> Result<(), StateError> {
        let mut map = self.0.write();
        for change in batch.changes() {
            match change {
                Change::Put(space, key, value) => {
                    map.insert((space, key.to_vec()), value.to_vec());
                }
                Change::Delete(space, key) => {
                    map.remove(&(space, key.to_vec()));
                }
                Change::DeleteRange(space, from, to) => {
                    let Some(range) = bounds(space, from, Some(to)) else { continue };
                    let keys: Vec<_> = map.range(range).map(|(key, _)| key.clone()).collect();
                    for key in keys {
                        map.remove(&key);
                    }
                }
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StateError> {
        Ok(())
    }
}
