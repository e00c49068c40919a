//! What the feed of a view holds, remembered on disk: a digest of each row by its key, so that only what differs is published.
//!
//! It is a copy of the feed up to a position, and brought up to date from there when the feed is opened again. A row is looked at in each difference, whose
//! number it then has: rows with an older number were not in the table any more.
//!
//! | space | key | value |
//! |---|---|---|
//! | `Meta` | `feed` | [`Meta`] as JSON |
//! | `Emitted` | the key of a row, a JSON array | digest of the row (xxh3, 8 bytes) · number of the last difference that saw it (4 bytes) |
//! | `Dirty` | likewise | a change that waits for the end of a difference: write timestamp (8 bytes) · the row, a JSON object, empty if it was deleted |

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::marks;
use crate::changes::view_feed::{ViewFeed, ViewFeedError};
use crate::state::{Batch, Space, State, StateError};
use crate::table::Version;

const META: &[u8] = b"feed";
/// The format on disk; a copy in another one is built anew.
const FORMAT: u32 = 1;
/// Records of rows that are no more are kept by Kafka for a day at least. Who was away for longer may have missed one, and reads all.
const TRUSTED_FOR_MS: i64 = 12 * 60 * 60 * 1_000;
/// Rows that are noted at a time.
const ROWS_AT_ONCE: usize = 5_000;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Meta {
    format: u32,
    /// Everything below this position of the feed is in the copy.
    position: u64,
    /// When that was last so, milliseconds since the Unix epoch.
    at_ms: i64,
    /// The version whose rows followers had at the end of the last difference.
    version: Option<Version>,
    /// The number of the last difference.
    difference: u32,
}

/// A row as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Now {
    /// The row, a JSON object; `None`: it is no more.
    pub row: Option<String>,
    /// The write timestamp, where it is known.
    pub written_at: Option<i64>,
}

/// Rows by their keys.
pub type Rows = BTreeMap<String, Now>;

/// What the feed of one view holds.
pub struct Copy {
    state: Arc<dyn State>,
    meta: Meta,
}

impl Copy {
    /// The copy in `state`, brought up to date with `feed`.
    ///
    /// # Errors
    /// When the feed or the state cannot be read.
    pub fn open(state: Arc<dyn State>, feed: &mut dyn ViewFeed, now_ms: i64) -> Result<Copy, ViewFeedError> {
        let stored = state.get(Space::Meta, META)?.and_then(|text| serde_json::from_slice::<Meta>(&text).ok());
        let trusted = stored.filter(|meta| meta.format == FORMAT && now_ms.saturating_sub(meta.at_ms) < TRUSTED_FOR_MS);
        let mut copy = Copy { state, meta: trusted.clone().unwrap_or_default() };
        copy.drop_held()?;
        if trusted.is_none() || !copy.read_on(feed, now_ms)? {
            copy.clear()?;
            copy.meta = Meta { format: FORMAT, position: feed.start()?, ..Meta::default() };
            if !copy.read_on(feed, now_ms)? {
                return Err(crate::log::LogError::Unavailable("the feed of the view is being made anew".to_owned()).into());
            }
        }
        Ok(copy)
    }

    /// The version whose rows followers had at the end of the last difference.
    pub fn version(&self) -> Option<Version> {
        self.meta.version
    }

    /// Begins to look at all rows.
    pub fn begin_difference(&mut self) -> Result<(), StateError> {
        self.drop_held()?;
        self.meta.difference += 1;
        Ok(())
    }

    /// Which of these rows followers do not have as they are.
    pub fn changed(&self, rows: &Rows) -> Result<Vec<String>, StateError> {
        let keys: Vec<&[u8]> = rows.keys().map(String::as_bytes).collect();
        let known = self.state.get_sorted(Space::Emitted, &keys)?;
        let is_changed = |now: &Now, known: Option<Vec<u8>>| now.row.as_deref().map(digest) != known.as_deref().and_then(digest_of);
        let changed = rows.iter().zip(known).filter(|((_, now), known)| is_changed(now, known.clone()));
        Ok(changed.map(|((key, _), _)| key.clone()).collect())
    }

    /// Notes that followers have these rows as they are, and that `position` is behind what was published for it, if anything was.
    pub fn note(&mut self, rows: &Rows, position: Option<u64>, now_ms: i64) -> Result<(), StateError> {
        let mut batch = Batch::default();
        for (key, now) in rows {
            match &now.row {
                Some(row) => batch.put(Space::Emitted, key.as_bytes(), &self.entry(digest(row))),
                None => batch.delete(Space::Emitted, key.as_bytes()),
            }
        }
        (self.meta.position, self.meta.at_ms) = (position.unwrap_or(self.meta.position), now_ms);
        self.commit(batch)
    }

    /// Notes that followers have the rows of a version.
    pub fn end_difference(&mut self, version: Version, position: u64, now_ms: i64) -> Result<(), StateError> {
        self.meta.version = Some(version);
        self.note(&Rows::new(), Some(position), now_ms)
    }

    /// Rows that followers have and this difference has not seen: some of them, behind `after`.
    pub fn unseen(&self, after: Option<&str>) -> Result<Vec<String>, StateError> {
        let mut unseen = Vec::new();
        let from = after.map(|after| [after.as_bytes(), &[0]].concat()).unwrap_or_default();
        self.state.scan(Space::Emitted, &from, None, &mut |key, value| {
            if difference_of(value) != Some(self.meta.difference) {
                unseen.extend(std::str::from_utf8(key).map(str::to_owned));
            }
            unseen.len() < ROWS_AT_ONCE
        })?;
        Ok(unseen)
    }

    /// Keeps changes for the end of a difference; of a row the newest.
    pub fn hold(&self, rows: &Rows) -> Result<(), StateError> {
        let mut batch = Batch::default();
        for (key, now) in rows {
            let written_at = now.written_at.unwrap_or_default().to_le_bytes();
            let row = now.row.as_deref().unwrap_or_default();
            batch.put(Space::Dirty, key.as_bytes(), &[&written_at, row.as_bytes()].concat());
        }
        self.state.commit(&batch)
    }

    /// Takes changes that were held: some of them.
    pub fn take_held(&self) -> Result<Rows, StateError> {
        let mut rows = Rows::new();
        self.state.scan(Space::Dirty, &[], None, &mut |key, value| {
            if let (Ok(key), Some((written_at, row))) = (std::str::from_utf8(key), value.split_first_chunk::<8>()) {
                let row = std::str::from_utf8(row).ok().filter(|row| !row.is_empty()).map(str::to_owned);
                rows.insert(key.to_owned(), Now { row, written_at: Some(i64::from_le_bytes(*written_at)) });
            }
            rows.len() < ROWS_AT_ONCE
        })?;
        let mut batch = Batch::default();
        rows.keys().for_each(|key| batch.delete(Space::Dirty, key.as_bytes()));
        self.state.commit(&batch)?;
        Ok(rows)
    }

    /// Whether changes are held.
    pub fn has_held(&self) -> Result<bool, StateError> {
        Ok(self.state.last_key(Space::Dirty)?.is_some())
    }

    /// Takes over what was published behind the copy's position. `false`: the feed is not the one that was copied.
    fn read_on(&mut self, feed: &mut dyn ViewFeed, now_ms: i64) -> Result<bool, ViewFeedError> {
        let mut batch = Batch::default();
        let (state, entry) = (self.state.clone(), self.entry(0));
        let mut version = self.meta.version;
        let position = feed.read_back(self.meta.position, &mut |key, value| {
            if let Some(ended) = marks::ended(key, value) {
                version = Some(ended);
            } else if key.starts_with(b"[") {
                match value {
                    Some(row) => {
                        let mut entry = entry;
                        entry[..8].copy_from_slice(&xxh3_64(row).to_le_bytes());
                        batch.put(Space::Emitted, key, &entry);
                    }
                    None => batch.delete(Space::Emitted, key),
                }
            }
            if batch.len() >= ROWS_AT_ONCE {
                state.commit(&std::mem::take(&mut batch))?;
            }
            Ok(())
        })?;
        let Some(position) = position else { return Ok(false) };
        (self.meta.position, self.meta.at_ms, self.meta.version) = (position, now_ms, version);
        self.commit(batch)?;
        Ok(true)
    }

    fn entry(&self, digest: u64) -> [u8; 12] {
        let mut entry = [0; 12];
        entry[..8].copy_from_slice(&digest.to_le_bytes());
        entry[8..].copy_from_slice(&self.meta.difference.to_le_bytes());
        entry
    }

    fn commit(&self, mut batch: Batch) -> Result<(), StateError> {
        batch.put(Space::Meta, META, &serde_json::to_vec(&self.meta).unwrap_or_default());
        self.state.commit(&batch)
    }

    fn drop_held(&self) -> Result<(), StateError> {
        self.remove_all(Space::Dirty)
    }

    fn clear(&self) -> Result<(), StateError> {
        self.remove_all(Space::Meta)?;
        self.remove_all(Space::Emitted)
    }

    fn remove_all(&self, space: Space) -> Result<(), StateError> {
        let Some(last) = self.state.last_key(space)? else { return Ok(()) };
        let mut batch = Batch::default();
        batch.delete_range(space, &[], &[last.as_slice(), &[0]].concat());
        self.state.commit(&batch)
    }
}

fn digest(row: &str) -> u64 {
    xxh3_64(row.as_bytes())
}

fn digest_of(entry: &[u8]) -> Option<u64> {
    entry.first_chunk::<8>().copied().map(u64::from_le_bytes)
}

fn difference_of(entry: &[u8]) -> Option<u32> {
    entry.last_chunk::<4>().copied().map(u32::from_le_bytes)
}
