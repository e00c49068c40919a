//! The write side: tables, rows and progress.

use std::sync::Arc;

use parking_lot::Mutex;
use rocksdb::{DBPinnableSlice, ReadOptions, WriteBatch, WriteOptions};

use super::layout::{
    LAST_TABLE_KEY, StoredTable, Told, decode_json, decode_number, encode_json, encode_number, progress_key, rows_prefix, table_key,
};
use super::{EmbeddedStore, OpenTable, TableState};
use crate::store::memory::expired;
use crate::store::range::{KeyRange, after_prefix, before};
use crate::store::rows::{RowCodec, StoredRows, is_live, wins};
use crate::store::shape::ShapeDescription;
use crate::store::{Progress, RowBatch, RowWriter, StoreError};
use crate::table::{Epoch, Table};

/// How many rows are written in one step; a reader sees all or none of a step.
const ROWS_A_STEP: usize = 16 << 10;

impl RowWriter for EmbeddedStore {
    fn create_table(&self, table: &Table) -> Result<(), StoreError> {
        let name = table.name();
        let mut tables = self.tables.write();
        if let Some(stored) = self.stored_table(&name)? {
            return stored.shape.require(table);
        }
        let last = self.db.get_pinned_cf(self.meta()?, LAST_TABLE_KEY).map_err(|error| self.error(&error))?;
        let id = last.map_or(Ok(0), |bytes| decode_number("last table", &bytes))? + 1;
        let codec = RowCodec::with_prefix(table, rows_prefix(id))?;
        let stored = StoredTable { id, shape: ShapeDescription::of(&table.shape) };
        let mut batch = WriteBatch::default();
        batch.put_cf(self.meta()?, LAST_TABLE_KEY, encode_number(id));
        batch.put_cf(self.meta()?, table_key(&name), encode_json(&name, &stored)?);
        self.apply(batch, true)?;
        tables.insert(name, Arc::new(OpenTable { codec, writing: Mutex::new(TableState::Present) }));
        Ok(())
    }

    fn drop_table(&self, table: &Table) -> Result<(), StoreError> {
        let name = table.name();
        let mut tables = self.tables.write();
        let Some(stored) = self.stored_table(&name)? else { return Ok(()) };
        let open = tables.get(&name).map(Arc::clone);
        let mut state = open.as_ref().map(|open| open.writing.lock());
        let prefix = rows_prefix(stored.id);
        let mut batch = WriteBatch::default();
        batch.delete_cf(self.meta()?, table_key(&name));
        batch.delete_cf(self.meta()?, progress_key(&name));
        if let Some(end) = after_prefix(&prefix) {
            batch.delete_range_cf(self.rows()?, prefix.as_slice(), end.as_slice());
        }
        self.apply(batch, true)?;
        if let Some(state) = state.as_deref_mut() {
            *state = TableState::Dropped;
        }
        tables.remove(&name);
        self.give_back(&KeyRange::of_prefix(&prefix))
    }

    fn write(&self, table: &Table, rows: &RowBatch) -> Result<(), StoreError> {
        let open = self.table(table)?;
        let encoded = open.codec.encode(rows, self.clock.now_ms())?;
        let state = open.writing.lock();
        require_present(table, *state)?;
        let mut step: Vec<(&[u8], &[u8])> = Vec::with_capacity(rows.rows.num_rows().min(ROWS_A_STEP));
        for row in encoded.iter() {
            step.push(row);
            if step.len() == ROWS_A_STEP {
                self.write_step(&step)?;
                step.clear();
            }
        }
        self.write_step(&step)
    }

    fn fence(&self, table: &Table, epoch: Epoch) -> Result<Progress, StoreError> {
        let open = self.table(table)?;
        let state = open.writing.lock();
        require_present(table, *state)?;
        let told = self.told(table)?.unwrap_or(Told { epoch, progress: Progress::default() });
        if told.epoch > epoch {
            return Err(StoreError::Superseded { table: table.name(), epoch: told.epoch });
        }
        self.put_told(table, &Told { epoch, progress: told.progress.clone() }, true)?;
        Ok(told.progress)
    }

    fn tell(&self, table: &Table, epoch: Epoch, progress: &Progress) -> Result<(), StoreError> {
        let open = self.table(table)?;
        let state = open.writing.lock();
        require_present(table, *state)?;
        let telling = Told { epoch, progress: progress.clone() };
        if let Some(told) = self.told(table)? {
            if told.epoch > epoch {
                return Err(StoreError::Superseded { table: table.name(), epoch: told.epoch });
            }
            if telling.rank() < told.rank() {
                return Ok(());
            }
        }
        self.put_told(table, &telling, false)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.syncs.sync(|| self.db.flush_wal(true)).map_err(|error| self.error(&error))
    }

    fn reclaim(&self, table: &Table, column: usize, before_us: i64) -> Result<(), StoreError> {
        let open = self.table(table)?;
        let bound = before(table, column, before_us)?;
        if let Some(range) = open.codec.range_before(column, before_us)? {
            let state = open.writing.lock();
            require_present(table, *state)?;
            let mut batch = WriteBatch::default();
            if let Some(end) = &range.end {
                batch.delete_range_cf(self.rows()?, range.start.as_slice(), end.as_slice());
            }
            self.apply(batch, false)?;
            return self.give_back(&range);
        }
        let mut start = open.codec.prefix.clone();
        loop {
            // Held a step at a time, so that writers are not kept waiting; and not let go of between looking and deleting.
            let state = open.writing.lock();
            require_present(table, *state)?;
            let KeyRange { end, .. } = KeyRange::of_prefix(&open.codec.prefix);
            let found = self.live_rows(&open.codec, &KeyRange { start, end }, ROWS_A_STEP)?;
            let mut batch = WriteBatch::default();
            for (key, expired) in found.keys.iter().zip(expired(&open.codec.decode(table, &found.rows)?, column, &bound)?) {
                if expired {
                    batch.delete_cf(self.rows()?, key);
                }
            }
            self.apply(batch, false)?;
            let Some(next) = found.next else { return Ok(()) };
            start = next;
        }
    }
}

/// Rows that are there, in the order of keys.
#[derive(Default)]
struct LiveRows {
    keys: Vec<Box<[u8]>>,
    rows: StoredRows,
    /// Where to go on; `None` at the end.
    next: Option<Vec<u8>>,
}

impl EmbeddedStore {
    /// Writes rows, in the order of keys, unless what is there wins.
    fn write_step(&self, step: &[(&[u8], &[u8])]) -> Result<(), StoreError> {
        let (Some((first, _)), Some((last, _))) = (step.first(), step.last()) else { return Ok(()) };
        let rows = self.rows()?;
        let bytes = step.iter().map(|(key, value)| key.len() + value.len() + 16).sum();
        let mut batch = WriteBatch::with_capacity_bytes(bytes);
        if self.is_empty_between(first, last)? {
            for (key, value) in step {
                batch.put_cf(rows, key, value);
            }
        } else {
            let stored = self.db.batched_multi_get_cf(rows, step.iter().map(|(key, _)| *key), true);
            for ((key, value), stored) in step.iter().zip(stored) {
                let stored: Option<DBPinnableSlice<'_>> = stored.map_err(|error| self.error(&error))?;
                if stored.is_none_or(|stored| wins(value, &stored)) {
                    batch.put_cf(rows, key, value);
                }
            }
        }
        self.apply(batch, false)
    }

    /// Whether there is no row from `first` to `last`, both included: so it is for a replay's first rows, and for those of
    /// windows that lead the key.
    fn is_empty_between(&self, first: &[u8], last: &[u8]) -> Result<bool, StoreError> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound([last, &[0]].concat());
        let mut rows = self.db.raw_iterator_cf_opt(self.rows()?, options);
        rows.seek(first);
        rows.status().map_err(|error| self.error(&error))?;
        Ok(!rows.valid())
    }

    /// Up to `limit` live rows of a range.
    fn live_rows(&self, codec: &RowCodec, range: &KeyRange, limit: usize) -> Result<LiveRows, StoreError> {
        let mut found = LiveRows::default();
        let mut rows = self.iterate(range)?;
        while let Some((key, value)) = rows.item() {
            if found.keys.len() == limit {
                found.next = Some(key.to_vec());
                return Ok(found);
            }
            if is_live(value) {
                found.keys.push(key.into());
                codec.collect(&mut found.rows, key, value);
            }
            rows.next();
        }
        rows.status().map_err(|error| self.error(&error))?;
        Ok(found)
    }

    /// Removes the files that hold nothing but a range of deleted rows.
    fn give_back(&self, range: &KeyRange) -> Result<(), StoreError> {
        let Some(end) = &range.end else { return Ok(()) };
        self.db.delete_file_in_range_cf(self.rows()?, range.start.as_slice(), end.as_slice()).map_err(|error| self.error(&error))
    }

    pub(super) fn apply(&self, batch: WriteBatch, synced: bool) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut options = WriteOptions::default();
        options.set_sync(synced);
        self.db.write_opt(batch, &options).map_err(|error| self.error(&error))
    }
}

fn require_present(table: &Table, state: TableState) -> Result<(), StoreError> {
    match state {
        TableState::Present => Ok(()),
        TableState::Dropped => Err(StoreError::UnknownTable(table.name())),
    }
}

impl EmbeddedStore {
    fn told(&self, table: &Table) -> Result<Option<Told>, StoreError> {
        let name = table.name();
        let told = self.db.get_pinned_cf(self.meta()?, progress_key(&name)).map_err(|error| self.error(&error))?;
        told.map(|told| decode_json(&name, &told)).transpose()
    }

    fn put_told(&self, table: &Table, told: &Told, durable: bool) -> Result<(), StoreError> {
        let name = table.name();
        let mut batch = WriteBatch::default();
        batch.put_cf(self.meta()?, progress_key(&name), encode_json(&name, told)?);
        self.apply(batch, durable)
    }
}
