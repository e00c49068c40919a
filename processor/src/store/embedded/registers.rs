//! Registers and the journal, each change on disk before it is answered. Others may see it a moment before that: what follows from it in this store is
//! behind it in the same write-ahead log. So many changes at once wait for one sync.

use rocksdb::{ReadOptions, WriteBatch};

use super::EmbeddedStore;
use super::layout::{JOURNAL_PREFIX, REGISTER_PREFIX, decode_register, encode_register, journal_key, register_key, text_of};
use crate::store::range::after_prefix;
use crate::store::{Outcome, Register, Registers, RowWriter, StoreError, is_isolated};

impl Registers for EmbeddedStore {
    fn get(&self, key: &str) -> Result<Option<Register>, StoreError> {
        let stored = self.db.get_pinned_cf(self.meta()?, register_key(key)).map_err(|error| self.error(&error))?;
        stored.map(|bytes| decode_register(key, &bytes)).transpose()
    }

    fn compare_and_set(&self, key: &str, expected: Option<u64>, value: Option<&str>) -> Result<Outcome, StoreError> {
        let held = self.registers.lock();
        let stored = self.get(key)?;
        if stored.as_ref().map(|register| register.revision) != expected {
            return Ok(Outcome::Conflict(stored));
        }
        let revision = expected.unwrap_or(0) + 1;
        let mut batch = WriteBatch::default();
        match value {
            Some(value) => {
                let register = Register { value: value.into(), revision };
                batch.put_cf(self.meta()?, register_key(key), encode_register(&register));
            }
            None => batch.delete_cf(self.meta()?, register_key(key)),
        }
        self.apply(batch, false)?;
        drop(held);
        self.sync()?;
        Ok(Outcome::Set(revision))
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, Register)>, StoreError> {
        let start = register_key(prefix);
        let mut options = ReadOptions::default();
        if let Some(end) = after_prefix(&start) {
            options.set_iterate_upper_bound(end);
        }
        let mut stored = self.db.raw_iterator_cf_opt(self.meta()?, options);
        stored.seek(&start);
        let mut listed = Vec::new();
        while let Some((key, bytes)) = stored.item() {
            let key = text_of(prefix, key.strip_prefix(REGISTER_PREFIX).unwrap_or_default())?;
            if !is_isolated(&key) {
                let register = decode_register(&key, bytes)?;
                listed.push((key, register));
            }
            stored.next();
        }
        stored.status().map_err(|error| self.error(&error))?;
        Ok(listed)
    }

    fn append_journal(&self, entry: &str) -> Result<(), StoreError> {
        let mut next = self.next_entry.lock();
        let mut batch = WriteBatch::default();
        batch.put_cf(self.meta()?, journal_key(*next), entry);
        self.apply(batch, false)?;
        *next += 1;
        drop(next);
        self.sync()
    }

    fn journal(&self, limit: usize) -> Result<Vec<String>, StoreError> {
        let mut stored = self.db.raw_iterator_cf(self.meta()?);
        stored.seek_for_prev(journal_key(u64::MAX));
        let mut entries = Vec::new();
        while let Some((_, entry)) = stored.item().filter(|(key, _)| entries.len() < limit && key.starts_with(JOURNAL_PREFIX)) {
            entries.push(text_of("journal", entry)?);
            stored.prev();
        }
        stored.status().map_err(|error| self.error(&error))?;
        entries.reverse();
        Ok(entries)
    }
}
