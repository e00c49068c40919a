//! Aggregate state, positions and dirty keys of one version: a small ordered key-value store with atomic batches.
//!
//! What the keys and values mean is the engine's affair. This port promises one thing: a [`Batch`] is kept wholly or not at all,
//! and batches are kept in the order they were committed: after a power cut there are the first of them.

pub mod memory;
pub mod rocks;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

/// A separate key space. The numbers are part of the format on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Space {
    /// Positions, clocks and counts of the version.
    Meta = 0,
    /// Aggregate states by group.
    Groups = 1,
    /// Rows that have changed and are not yet known to be in the view store.
    Dirty = 2,
    /// Rows that readers may see and that may have to be deleted again: rankings and views with HAVING.
    Emitted = 3,
    /// Quarantined events.
    Quarantine = 4,
}

impl Space {
    /// All spaces.
    pub const ALL: [Space; 5] = [Space::Meta, Space::Groups, Space::Dirty, Space::Emitted, Space::Quarantine];

    fn name(self) -> &'static str {
        match self {
            Space::Meta => "meta",
            Space::Groups => "groups",
            Space::Dirty => "dirty",
            Space::Emitted => "emitted",
            Space::Quarantine => "quarantine",
        }
    }
}

/// One change of a [`Batch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// Sets a key.
    Put(Space, &'a [u8], &'a [u8]),
    /// Removes a key.
    Delete(Space, &'a [u8]),
    /// Removes the keys from the first, included, to the second, excluded.
    DeleteRange(Space, &'a [u8], &'a [u8]),
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Put,
    Delete,
    DeleteRange,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    kind: Kind,
    space: Space,
    start: usize,
    middle: usize,
    end: usize,
}

/// Changes that are kept together. Later changes of a key win over earlier ones.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

impl Batch {
    /// Sets a key.
    pub fn put(&mut self, space: Space, key: &[u8], value: &[u8]) {
        self.push(Kind::Put, space, key, value);
    }

    /// Removes a key.
    pub fn delete(&mut self, space: Space, key: &[u8]) {
        self.push(Kind::Delete, space, key, &[]);
    }

    /// Removes the keys from `from`, included, to `to`, excluded.
    pub fn delete_range(&mut self, space: Space, from: &[u8], to: &[u8]) {
        self.push(Kind::DeleteRange, space, from, to);
    }

    /// How many changes there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The memory that the changes take, bytes.
    pub fn size(&self) -> usize {
        self.bytes.len() + self.entries.len() * size_of::<Entry>()
    }

    /// Whether there is no change.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The changes, in order.
    pub fn changes(&self) -> impl Iterator<Item = Change<'_>> {
        self.entries.iter().filter_map(|entry| {
            let first = self.bytes.get(entry.start..entry.middle)?;
            let second = self.bytes.get(entry.middle..entry.end)?;
            Some(match entry.kind {
                Kind::Put => Change::Put(entry.space, first, second),
                Kind::Delete => Change::Delete(entry.space, first),
                Kind::DeleteRange => Change::DeleteRange(entry.space, first, second),
            })
        })
    }

    fn push(&mut self, kind: Kind, space: Space, first: &[u8], second: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(first);
        let middle = self.bytes.len();
        self.bytes.extend_from_slice(second);
        self.entries.push(Entry { kind, space, start, middle, end: self.bytes.len() });
    }
}

/// Why state could not be read or committed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The directory cannot be opened.
    #[error("cannot open the state in {}: {message}", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// What is wrong and the way out.
        message: String,
    },
    /// A read or a commit failed; nothing of the batch is kept.
    #[error(
        "the state in {} failed: {message}; give the disk room, or repair it; without the folder the state is built again from the log",
        path.display()
    )]
    Failed {
        /// The directory.
        path: PathBuf,
        /// What the storage says.
        message: String,
    },
}

/// Keys and values, in key order.
pub type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// Reads of keys and of ranges: of live state, where each call sees one moment, or of a snapshot, where all see the same.
pub trait Lookup: Send + Sync {
    /// The value of a key.
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StateError>;

    /// Visits keys from `from`, included, to `to`, excluded (`None`: to the end), in order, until `visit` answers `false`.
    fn scan(&self, space: Space, from: &[u8], to: Option<&[u8]>, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), StateError>;
}

/// The read side: may be used while the owner commits.
pub trait StateReader: Lookup {
    /// The values of keys, which must be in ascending order.
    fn get_sorted(&self, space: Space, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, StateError>;

    /// The last key of a space, in the order of bytes.
    ///
    /// # Errors
    /// When the state cannot be read.
    fn last_key(&self, space: Space) -> Result<Option<Vec<u8>>, StateError>;

    /// The state as it is now, whatever is committed later. While it is held, what it sees takes space.
    fn snapshot(&self) -> Box<dyn Lookup + '_>;

    /// About how many bytes the state takes.
    fn size(&self) -> u64;
}

/// The state of one version. One owner commits at a time.
pub trait State: StateReader {
    /// Commits a batch; on error nothing of it is kept. It survives the end of the process. A power cut may undo the last commits, the newest first: whoever
    /// opens the state then is as one who has an older state.
    fn commit(&self, batch: &Batch) -> Result<(), StateError>;

    /// Everything committed survives a power cut when this returns. State on disk is synced from time to time without it.
    fn sync(&self) -> Result<(), StateError>;
}
