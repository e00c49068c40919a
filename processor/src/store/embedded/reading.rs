//! The read side. An iterator sees the store as it was when it was made, so a page is of one moment.

use datafusion::arrow::array::RecordBatch;
use datafusion::scalar::ScalarValue;
use rocksdb::{DB, DBRawIteratorWithThreadMode, Range, ReadOptions};

use super::EmbeddedStore;
use super::layout::{Told, decode_json, progress_key};
use crate::store::keys::scalars;
use crate::store::range::KeyRange;
use crate::store::rows::{StoredRows, is_live};
use crate::store::{Keys, KeysRead, Page, PartitionRead, Progress, RowReader, StoreError, TableSize};
use crate::table::Table;

/// From so many rows the number of all is estimated.
const ROWS_SAMPLED: u64 = 20_000;

/// How many rows a batch of a scan has.
const ROWS_A_BATCH: usize = 8 << 10;

impl RowReader for EmbeddedStore {
    fn read(&self, table: &Table, read: &PartitionRead) -> Result<Page, StoreError> {
        let open = self.table(table)?;
        let codec = &open.codec;
        let range = codec.range(read)?;
        let mut found = StoredRows::default();
        let mut last: Vec<u8> = Vec::new();
        if range.keys.is_empty() {
            return Ok(Page { rows: codec.decode(table, &found)?, next: None });
        }
        let mut rows = self.iterate(&range.keys)?;
        while let Some((key, value)) = rows.item() {
            if is_live(value) {
                if found.len() == read.limit {
                    let next = Some(codec.cursor(&range, &last));
                    return Ok(Page { rows: codec.decode(table, &found)?, next });
                }
                codec.collect(&mut found, key, value);
                if found.len() == read.limit {
                    last.extend_from_slice(key);
                }
            }
            rows.next();
        }
        rows.status().map_err(|error| self.error(&error))?;
        Ok(Page { rows: codec.decode(table, &found)?, next: None })
    }

    fn scan_each(&self, table: &Table, each: &mut dyn FnMut(RecordBatch) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let open = self.table(table)?;
        let mut found = StoredRows::default();
        let mut rows = self.iterate(&KeyRange::of_prefix(&open.codec.prefix))?;
        while let Some((key, value)) = rows.item() {
            if is_live(value) {
                open.codec.collect(&mut found, key, value);
            }
            if found.len() == ROWS_A_BATCH {
                each(open.codec.decode(table, &found)?)?;
                found = StoredRows::default();
            }
            rows.next();
        }
        rows.status().map_err(|error| self.error(&error))?;
        if found.len() > 0 {
            each(open.codec.decode(table, &found)?)?;
        }
        Ok(())
    }

    fn keys(&self, table: &Table, read: &KeysRead) -> Result<Keys, StoreError> {
        let open = self.table(table)?;
        let end = KeyRange::of_prefix(&open.codec.prefix).end;
        let mut rows = self.iterate(&KeyRange { start: open.codec.prefix.clone(), end })?;
        open.codec.list(table, read, |from| {
            rows.seek(from);
            while let Some((key, value)) = rows.item() {
                if is_live(value) {
                    return Ok(Some((key.to_vec(), value.to_vec())));
                }
                rows.next();
            }
            rows.status().map_err(|error| self.error(&error))?;
            Ok(None)
        })
    }

    fn last_partition(&self, table: &Table) -> Result<Option<Vec<ScalarValue>>, StoreError> {
        let open = self.table(table)?;
        let range = KeyRange::of_prefix(&open.codec.prefix);
        let mut rows = self.iterate(&range)?;
        match &range.end {
            // Nothing stands at the end itself: no key is shorter than a prefix and a row.
            Some(end) => rows.seek_for_prev(end),
            None => rows.seek_to_last(),
        }
        while let Some((key, value)) = rows.item().filter(|(key, _)| key.starts_with(&open.codec.prefix)) {
            if is_live(value) {
                return scalars(table, &open.codec.partition_of(table, key, value)?).map(Some);
            }
            rows.prev();
        }
        rows.status().map_err(|error| self.error(&error))?;
        Ok(None)
    }

    fn size(&self, table: &Table) -> Result<Option<TableSize>, StoreError> {
        let open = self.table(table)?;
        let range = KeyRange::of_prefix(&open.codec.prefix);
        let mut rows = self.iterate(&range)?;
        let (mut sampled, mut last) = (TableSize::default(), Vec::new());
        while let Some((key, value)) = rows.item() {
            sampled.rows += u64::from(is_live(value));
            sampled.bytes += (key.len() + value.len()) as u64;
            if sampled.rows == ROWS_SAMPLED {
                last.extend_from_slice(key);
                break;
            }
            rows.next();
        }
        rows.status().map_err(|error| self.error(&error))?;
        let (false, Some(end)) = (last.is_empty(), &range.end) else { return Ok(Some(sampled)) };
        // As many times the sample as the whole is larger on disk; what is not on disk yet is not counted.
        let ranges = [Range::new(&range.start, &last), Range::new(&range.start, end)];
        let sizes = self.db.get_approximate_sizes_cf(self.rows()?, &ranges);
        let (of_sample, of_all) = (sizes.first().copied().unwrap_or(0), sizes.last().copied().unwrap_or(0));
        Ok(match of_sample {
            0 => None,
            _ => Some(TableSize { rows: (sampled.rows as f64 * (of_all as f64 / of_sample as f64)) as u64, bytes: of_all }),
        })
    }

    fn progress(&self, table: &Table) -> Result<Option<Progress>, StoreError> {
        self.table(table)?;
        let name = table.name();
        let told = self.db.get_pinned_cf(self.meta()?, progress_key(&name)).map_err(|error| self.error(&error))?;
        let told: Option<Told> = told.map(|told| decode_json(&name, &told)).transpose()?;
        Ok(told.map(|told| told.progress))
    }
}

impl EmbeddedStore {
    /// An iterator at the first row of a range, that ends with it.
    pub(super) fn iterate(&self, range: &KeyRange) -> Result<DBRawIteratorWithThreadMode<'_, DB>, StoreError> {
        let mut options = ReadOptions::default();
        if let Some(end) = &range.end {
            options.set_iterate_upper_bound(end.as_slice());
        }
        let mut rows = self.db.raw_iterator_cf_opt(self.rows()?, options);
        rows.seek(&range.start);
        Ok(rows)
    }
}
