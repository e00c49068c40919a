//! Listing partitions.
//!
//! A cluster keeps partitions in the order of their hashes, so that only a scan finds those that begin alike. It reads keys alone (`SELECT DISTINCT`), and is bounded in
//! time and number: what it had not seen by then is told as such. The alternative, a table of keys beside each table of rows, would cost a second write
//! for each new key and a second deletion for each that expires, for the sake of a search.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use datafusion::arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use datafusion::arrow::compute::{SortColumn, lexsort_to_indices, take_record_batch};
use datafusion::arrow::datatypes::DataType;
use datafusion::scalar::ScalarValue;
use futures::{StreamExt, TryStreamExt};
use refold_processor::store::{Keys, KeysRead, PartitionRead, RowReader, StoreError, key_batch};
use refold_processor::table::Table;
use scylla::response::PagingState;

use crate::CassandraStore;
use crate::error::Failure;
use crate::reading::{SCANS_AT_ONCE, piece_condition, piece_values};
use crate::rows::each_row;
use crate::tables::OpenTable;
use crate::types::{Decoder, Role, decoder};

/// How many partitions are looked at, and for how long.
const LOOKED_AT: usize = 50_000;
const LOOK_FOR: Duration = Duration::from_secs(2);
/// How long what was seen of a large table is answered again: whoever types asks with every letter.
const FRESH_FOR: Duration = Duration::from_secs(10);
/// A table with fewer partitions is not large.
const FEW: usize = 5_000;
/// Of how many tables what was seen is kept.
const TABLES_KEPT: usize = 8;

/// The partitions of a table that were seen, in their order.
#[derive(Clone)]
pub(crate) struct Seen {
    at: Instant,
    table: String,
    keys: RecordBatch,
    is_all: bool,
}

impl CassandraStore {
    pub(crate) fn list_keys(&self, table: &Table, read: &KeysRead) -> Result<Keys, StoreError> {
        let seen = self.seen(table)?;
        let broken = |error: datafusion::arrow::error::ArrowError| StoreError::Broken(format!("table {}: {error}", table.name()));
        let Some(first) = seen.keys.columns().first() else { return Ok(Keys { keys: seen.keys, complete: true }) };
        let wanted: Vec<u32> = (0..seen.keys.num_rows()).filter(|row| read.has(first.as_ref(), *row)).map(|row| row as u32).collect();
        let complete = seen.is_all && wanted.len() <= read.limit;
        let shown: Vec<u32> = wanted.into_iter().take(read.limit).collect();
        let keys = take_record_batch(&seen.keys, &UInt32Array::from(shown)).map_err(broken)?;
        if seen.is_all || keys.num_rows() == read.limit {
            return Ok(Keys { keys, complete });
        }
        // Whoever has typed the whole of a key finds it, wherever it hashes to.
        match self.exact(table, &read.prefix)? {
            Some(exact) if keys.columns().first().is_none_or(|first| !has(first, &exact)) => {
                let column = exact.to_array().map_err(|error| StoreError::Broken(error.to_string()))?;
                let one = key_batch(table, vec![column], 1)?;
                let keys = datafusion::arrow::compute::concat_batches(&keys.schema(), [&one, &keys]).map_err(broken)?;
                Ok(Keys { keys, complete })
            }
            _ => Ok(Keys { keys, complete }),
        }
    }

    /// The partition whose key is this text, if it has rows.
    fn exact(&self, table: &Table, text: &str) -> Result<Option<ScalarValue>, StoreError> {
        let [column] = table.shape.partition_key.as_slice() else { return Ok(None) };
        if *table.shape.columns.field(*column).data_type() != DataType::Utf8 || text.is_empty() {
            return Ok(None);
        }
        let key = ScalarValue::Utf8(Some(text.to_owned()));
        let page = self.read(table, &PartitionRead { partition: vec![key.clone()], from: None, to: None, limit: 1, cursor: None })?;
        Ok((page.rows.num_rows() > 0).then_some(key))
    }

    fn seen(&self, table: &Table) -> Result<Seen, StoreError> {
        let name = table.name();
        if let Some(seen) = self.seen_keys.lock().iter().find(|seen| seen.table == name && seen.at.elapsed() < FRESH_FOR) {
            return Ok(seen.clone());
        }
        let open = self.table(table)?;
        let cql = format!("SELECT DISTINCT {} FROM {} WHERE {}", open.cql.partition_key, open.cql.qualified, piece_condition(&open));
        let bounds = Bounds { until: Instant::now() + LOOK_FOR, left: AtomicUsize::new(LOOKED_AT), is_cut: AtomicBool::new(false) };
        let scan = async {
            let pieces = futures::stream::iter(self.ring()).map(|piece| self.keys_of_piece(&open, &cql, piece, &bounds));
            pieces.buffer_unordered(SCANS_AT_ONCE).try_collect::<Vec<Vec<ArrayRef>>>().await
        };
        let pieces = self.client.wait(scan).map_err(|failure| failure.of_table("listing the partitions of table", &open.name));
        let pieces = pieces.inspect_err(|error| self.note(error))?;
        let keys = sorted(table, pieces)?;
        let seen = Seen { at: Instant::now(), table: name.clone(), keys, is_all: !bounds.is_cut.load(Ordering::Relaxed) };
        if seen.is_all && seen.keys.num_rows() < FEW {
            return Ok(seen);
        }
        let mut kept = self.seen_keys.lock();
        kept.retain(|other| other.table != name && other.at.elapsed() < FRESH_FOR);
        kept.truncate(TABLES_KEPT - 1);
        kept.push(seen.clone());
        Ok(seen)
    }

    async fn keys_of_piece(&self, open: &OpenTable, cql: &str, piece: (i64, i64), bounds: &Bounds) -> Result<Vec<ArrayRef>, Failure> {
        let shape = open.codec.shape();
        let mut columns: Vec<Box<dyn Decoder>> = Vec::with_capacity(shape.partition_key.len());
        for column in &shape.partition_key {
            let role = open.roles.get(*column).copied().unwrap_or(Role::Key);
            columns.push(decoder(shape.columns.field(*column).data_type(), role).map_err(Failure::broken)?);
        }
        let mut prepared = self.client.prepare(cql).await?;
        prepared.set_page_size(i32::try_from(self.settings.page_rows).unwrap_or(i32::MAX));
        let mut from = PagingState::start();
        while !bounds.are_reached() {
            let (answer, next) = self.client.page(&prepared, piece_values(piece), from).await?;
            each_row(&answer, |row| {
                bounds.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(1))).ok();
                columns.iter_mut().zip(row).try_for_each(|(column, cell)| column.push(*cell)).map_err(Failure::broken)
            })?;
            match next {
                Some(next) => from = next,
                None => return finish(columns),
            }
        }
        bounds.is_cut.store(true, Ordering::Relaxed);
        finish(columns)
    }
}

/// How far a scan may go.
struct Bounds {
    until: Instant,
    left: AtomicUsize,
    is_cut: AtomicBool,
}

impl Bounds {
    fn are_reached(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0 || Instant::now() >= self.until
    }
}

fn finish(columns: Vec<Box<dyn Decoder>>) -> Result<Vec<ArrayRef>, Failure> {
    columns.into_iter().map(|mut column| column.finish().map_err(Failure::broken)).collect()
}

fn has(column: &ArrayRef, value: &ScalarValue) -> bool {
    (0..column.len()).any(|row| ScalarValue::try_from_array(column, row).is_ok_and(|found| found == *value))
}

/// All keys in their order.
fn sorted(table: &Table, pieces: Vec<Vec<ArrayRef>>) -> Result<RecordBatch, StoreError> {
    let broken = |error: datafusion::arrow::error::ArrowError| StoreError::Broken(format!("table {}: {error}", table.name()));
    let mut batches = Vec::with_capacity(pieces.len());
    for columns in pieces {
        let rows = columns.first().map_or(0, |column| column.len());
        batches.push(key_batch(table, columns, rows)?);
    }
    let Some(schema) = batches.first().map(|batch| Arc::clone(&batch.schema())) else {
        return Err(StoreError::Broken(format!("table {}: the ring of tokens has no pieces", table.name())));
    };
    let all = datafusion::arrow::compute::concat_batches(&schema, &batches).map_err(broken)?;
    let columns: Vec<SortColumn> = all.columns().iter().map(|column| SortColumn { values: Arc::clone(column), options: None }).collect();
    let order = lexsort_to_indices(&columns, None).map_err(broken)?;
    take_record_batch(&all, &order).map_err(broken)
}
