//! Changes as records, and back.

use refold_processor::changes::{ChangedRow, Changes};
use refold_processor::log::LogError;
use refold_processor::position::Cut;
use serde::{Deserialize, Serialize};

/// The header with a row's write timestamp.
pub const WRITTEN_AT: &str = "written_at";
/// The header with a cut that a row is not newer than.
pub const POSITIONS: &str = "positions";
/// The key of the records that tell how far the feed is.
const PROGRESS: &str = "\"progress\"";

/// The key of the records that tell followers to begin anew.
const ANEW: &str = "\"anew\"";

/// How far a feed is.
#[derive(Serialize, Deserialize)]
struct Progress {
    visible: Cut,
    writing: Cut,
    watermark_us: Option<i64>,
}

/// One record to be.
pub struct Record {
    /// Its key.
    pub key: String,
    /// Its value; `None`: a tombstone.
    pub value: Option<String>,
    /// The write timestamp, of a row.
    pub written_at: Option<i64>,
}

/// The records of a publication.
pub struct Encoded {
    /// The records, rows first.
    pub records: Vec<Record>,
    /// What the header of all rows says.
    pub positions: String,
}

impl Encoded {
    /// The records that these changes are.
    pub fn of(changes: &Changes) -> Result<Encoded, LogError> {
        let mut records = Vec::with_capacity(changes.rows.len() + 2);
        for row in &changes.rows {
            let value = row.row.as_ref().map(json).transpose()?;
            records.push(Record { key: json(&row.key)?, value, written_at: Some(row.written_at) });
        }
        let Changes { visible, writing, watermark_us, .. } = changes.clone();
        let positions = json(&writing)?;
        let progress = json(&Progress { visible, writing, watermark_us })?;
        if changes.anew {
            // Under a key of its own it outlives compaction: who reads the topic from its start finds that rows before it may be out of date.
            records.push(Record { key: ANEW.to_owned(), value: Some(progress.clone()), written_at: None });
        }
        records.push(Record { key: PROGRESS.to_owned(), value: Some(progress), written_at: None });
        Ok(Encoded { records, positions })
    }

    /// The key of a record whose value is longer than so many bytes.
    pub fn larger_than(&self, bytes: usize) -> Option<&str> {
        let mut records = self.records.iter();
        records.find(|record| record.value.as_ref().is_some_and(|value| value.len() > bytes)).map(|record| record.key.as_str())
    }
}

fn json(value: &impl Serialize) -> Result<String, LogError> {
    serde_json::to_string(value).map_err(|error| LogError::Broken(format!("a change cannot be written as JSON: {error}")))
}

/// Adds what a record says to `changes`. Answers whether it told how far the feed is; `None` when it is no record of a feed.
pub fn take(changes: &mut Changes, key: Option<&[u8]>, value: Option<&[u8]>, written_at: Option<&[u8]>) -> Option<bool> {
    let key = key?;
    if key == PROGRESS.as_bytes() {
        let Progress { visible, writing, watermark_us } = serde_json::from_slice(value?).ok()?;
        (changes.visible, changes.writing, changes.watermark_us) = (visible, writing, watermark_us);
        return Some(true);
    }
    if key == ANEW.as_bytes() {
        changes.rows.clear();
        changes.anew = true;
        return Some(false);
    }
    let written_at = std::str::from_utf8(written_at?).ok()?.parse().ok()?;
    let row = value.map(serde_json::from_slice).transpose().ok()?;
    changes.rows.push(ChangedRow { key: serde_json::from_slice(key).ok()?, row, written_at });
    Some(false)
}
