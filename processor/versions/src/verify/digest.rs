//! Rows by window: how many there are, and a digest that no order changes.

use std::collections::BTreeMap;

use datafusion::arrow::array::{Array, RecordBatch};
use refold_processor::json;
use serde_json::{Map, Value};
use xxhash_rust::xxh3::xxh3_128;

use super::{Going, Scope, Verified, VerifyError, Watcher};
use crate::rows::{each_kept, key_text, members, starts};

/// The rows of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Digest {
    /// How many there are.
    pub rows: u64,
    /// The sum of the digests of all of them.
    pub sum: u128,
}

impl Digest {
    /// The digest in hexadecimal.
    pub fn text(&self) -> String {
        format!("{:032x}", self.sum)
    }
}

/// Rows by their keys.
pub(super) type Rows = BTreeMap<String, Map<String, Value>>;

/// The rows of windows, by when these begin.
#[derive(Clone, Debug, Default)]
pub(super) struct Digests {
    windows: BTreeMap<i64, Digest>,
    /// The rows themselves, where they were computed.
    rows: BTreeMap<i64, Rows>,
}

impl Digests {
    /// The windows of the table.
    pub fn of_table(verified: &Verified<'_>, scope: &Scope, watcher: &mut Watcher<'_>) -> Result<Digests, VerifyError> {
        let (mut digests, mut read, mut ended) = (Digests::default(), 0, None);
        each_kept(verified.rows, verified.table, Some(&scope.window), None, &mut |batch| {
            read += batch.num_rows() as u64;
            let starts = starts(&batch, Some(&scope.window)).unwrap_or_default();
            for (row, start_us) in starts.into_iter().enumerate() {
                let Some(start_us) = start_us.filter(|start_us| scope.has(*start_us)) else { continue };
                digests.windows.entry(start_us).or_default().note(&batch, row);
            }
            if !watcher(Going::Table(read)) {
                ended = Some(VerifyError::Stopped);
            }
            ended.is_none()
        })?;
        match ended {
            Some(error) => Err(error),
            None => Ok(digests),
        }
    }

    /// Adds rows that were computed, of the windows that are wanted. A row whose key has a NULL is in no table.
    pub fn add(&mut self, verified: &Verified<'_>, batch: &RecordBatch, is_wanted: &dyn Fn(i64) -> bool) -> Result<(), VerifyError> {
        let starts = starts(batch, verified.view.window.as_ref()).unwrap_or_default();
        let keys: Vec<_> = verified.table.shape.key_columns().filter_map(|column| batch.columns().get(column)).collect();
        for (row, start_us) in starts.into_iter().enumerate() {
            let Some(start_us) = start_us.filter(|start_us| is_wanted(*start_us)) else { continue };
            if keys.iter().any(|column| column.is_null(row)) {
                continue;
            }
            self.windows.entry(start_us).or_default().note(batch, row);
            self.rows.entry(start_us).or_default().insert(key_text(verified.table, batch, row), members(batch, row));
        }
        Ok(())
    }

    pub fn windows(&self) -> impl Iterator<Item = (i64, Digest)> + '_ {
        self.windows.iter().map(|(start_us, digest)| (*start_us, *digest))
    }

    pub fn window(&self, start_us: i64) -> Option<Digest> {
        self.windows.get(&start_us).copied()
    }

    /// The rows of a window.
    pub fn rows(&self, start_us: i64) -> Option<&Rows> {
        self.rows.get(&start_us)
    }

    /// One window of them, with its rows or without.
    pub fn only(&self, start_us: i64, with_rows: bool) -> Digests {
        let windows = self.windows.get(&start_us).map(|digest| (start_us, *digest)).into_iter().collect();
        let rows = self.rows.get(&start_us).filter(|_| with_rows).map(|rows| (start_us, rows.clone()));
        Digests { windows, rows: rows.into_iter().collect() }
    }

    /// How many rows are kept.
    pub fn kept(&self) -> usize {
        self.rows.values().map(Rows::len).sum()
    }

    /// Takes a window out.
    pub fn take(&mut self, start_us: i64) {
        self.windows.remove(&start_us);
        self.rows.remove(&start_us);
    }
}

impl Digest {
    fn note(&mut self, batch: &RecordBatch, row: usize) {
        let mut text = String::new();
        for column in batch.columns() {
            text.push_str(&json::value(column.as_ref(), row).to_string());
            text.push('\n');
        }
        self.rows += 1;
        self.sum = self.sum.wrapping_add(xxh3_128(text.as_bytes()));
    }
}
