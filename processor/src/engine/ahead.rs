//! Rows that were written ahead of commits which still wait.
//!
//! Drains read rows as the state has them now, which may be newer than commits that are queued: those have older values of the same
//! rows. The store resolves that by write timestamps, but who follows changes, and compaction of their topic, take the last one that comes.

use std::collections::HashMap;

use datafusion::arrow::array::BooleanArray;
use datafusion::arrow::compute::filter_record_batch;

use super::error::EngineError;
use super::layout::RowLayout;
use crate::store::RowBatch;

/// The write timestamps of such rows, by encoded key.
#[derive(Default)]
pub struct Ahead(HashMap<Box<[u8]>, i64>);

impl Ahead {
    /// Notes written rows with timestamps above `queued`, that of the oldest commit which waits.
    pub fn note(&mut self, layout: &RowLayout, rows: &RowBatch, queued: i64) -> Result<(), EngineError> {
        if rows.written_at.iter().all(|written_at| *written_at <= queued) {
            return Ok(());
        }
        let keys = layout.encode_keys(&rows.rows)?;
        let newer = keys.iter().zip(&rows.written_at).filter(|(_, written_at)| **written_at > queued);
        self.0.extend(newer.map(|(key, written_at)| (key.data().into(), *written_at)));
        Ok(())
    }

    /// The rows of a queued commit, less those that were written newer already.
    pub fn less(&self, layout: &RowLayout, rows: RowBatch) -> Result<RowBatch, EngineError> {
        if self.0.is_empty() {
            return Ok(rows);
        }
        let keys = layout.encode_keys(&rows.rows)?;
        let (mut kept, mut written_at, mut deleted) = (Vec::new(), Vec::new(), Vec::new());
        for (key, (at, is_deleted)) in keys.iter().zip(rows.written_at.iter().zip(&rows.deleted)) {
            let is_newest = self.0.get(key.data()).is_none_or(|ahead| ahead <= at);
            kept.push(is_newest);
            if is_newest {
                written_at.push(*at);
                deleted.push(*is_deleted);
            }
        }
        Ok(RowBatch { rows: filter_record_batch(&rows.rows, &BooleanArray::from(kept))?, written_at, deleted })
    }

    /// No commit waits.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
