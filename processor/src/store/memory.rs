//! A view store in memory: for tests and simulations. Cheap to create, deterministic, forgotten with its last handle.

use std::collections::BTreeMap;
use std::ops::Bound;

use datafusion::arrow::array::{Array, BooleanArray, RecordBatch, Scalar};
use datafusion::arrow::compute::kernels::cmp::lt;
use datafusion::scalar::ScalarValue;
use parking_lot::RwLock;

use super::keys::scalars;
use super::range::before;
use super::rows::{RowCodec, StoredRows, is_live, wins};
use super::shape::ShapeDescription;
use super::{
    Keys, KeysRead, Outcome, Page, PartitionRead, Progress, Register, Registers, RowBatch, RowReader, RowWriter, StoreError, is_isolated,
};
use crate::table::{Epoch, Table};

/// A view store in memory. Deletions are remembered as long as their table.
#[derive(Debug, Default)]
pub struct MemoryStore {
    tables: RwLock<BTreeMap<String, MemoryTable>>,
    catalogue: RwLock<MemoryRegisters>,
}

#[derive(Debug)]
struct MemoryTable {
    codec: RowCodec,
    rows: MemoryRows,
    told: Option<(Epoch, Progress)>,
}

#[derive(Debug, Default)]
struct MemoryRegisters {
    registers: BTreeMap<String, Register>,
    journal: Vec<String>,
}

/// The rows of all tables, and what was told of them, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot(BTreeMap<String, (MemoryRows, Option<(Epoch, Progress)>)>);

type MemoryRows = BTreeMap<Box<[u8]>, Box<[u8]>>;

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        MemoryStore::default()
    }

    /// What is in the tables.
    pub fn snapshot(&self) -> Snapshot {
        let tables = self.tables.read();
        Snapshot(tables.iter().map(|(name, table)| (name.clone(), (table.rows.clone(), table.told.clone()))).collect())
    }

    /// Takes the tables back to what they were; those that were not there yet are empty.
    pub fn restore(&self, snapshot: &Snapshot) {
        for (name, table) in self.tables.write().iter_mut() {
            (table.rows, table.told) = snapshot.0.get(name).cloned().unwrap_or_default();
        }
    }
}

impl MemoryTable {
    fn require(&self, table: &Table) -> Result<(), StoreError> {
        if self.codec.table.shape == table.shape {
            return Ok(());
        }
        ShapeDescription::of(&self.codec.table.shape).require(table)
    }
}

fn find<'a>(tables: &'a BTreeMap<String, MemoryTable>, table: &Table) -> Result<&'a MemoryTable, StoreError> {
    let found = tables.get(&table.name()).ok_or_else(|| StoreError::UnknownTable(table.name()))?;
    found.require(table)?;
    Ok(found)
}

fn find_mut<'a>(tables: &'a mut BTreeMap<String, MemoryTable>, table: &Table) -> Result<&'a mut MemoryTable, StoreError> {
    let found = tables.get_mut(&table.name()).ok_or_else(|| StoreError::UnknownTable(table.name()))?;
    found.require(table)?;
    Ok(found)
}

impl RowWriter for MemoryStore {
    fn create_table(&self, table: &Table) -> Result<(), StoreError> {
        let mut tables = self.tables.write();
        if let Some(existing) = tables.get(&table.name()) {
            return existing.require(table);
        }
        let codec = RowCodec::new(table)?;
        tables.insert(table.name(), MemoryTable { codec, rows: BTreeMap::new(), told: None });
        Ok(())
    }

    fn drop_table(&self, table: &Table) -> Result<(), StoreError> {
        self.tables.write().remove(&table.name());
        Ok(())
    }

    fn write(&self, table: &Table, rows: &RowBatch) -> Result<(), StoreError> {
        let mut tables = self.tables.write();
        let found = find_mut(&mut tables, table)?;
        let encoded = found.codec.encode(rows, 0)?;
        for (key, value) in encoded.iter() {
            match found.rows.get_mut(key) {
                Some(stored) if wins(value, stored) => *stored = value.into(),
                Some(_) => {}
                None => {
                    found.rows.insert(key.into(), value.into());
                }
            }
        }
        Ok(())
    }

    fn fence(&self, table: &Table, epoch: Epoch) -> Result<Progress, StoreError> {
        let mut tables = self.tables.write();
        let found = find_mut(&mut tables, table)?;
        let (told_in, told) = found.told.take().unwrap_or_default();
        found.told = Some((told_in.max(epoch), told.clone()));
        match told_in > epoch {
            true => Err(StoreError::Superseded { table: table.name(), epoch: told_in }),
            false => Ok(told),
        }
    }

    fn tell(&self, table: &Table, epoch: Epoch, progress: &Progress) -> Result<(), StoreError> {
        let mut tables = self.tables.write();
        let found = find_mut(&mut tables, table)?;
        let rank = |progress: &Progress| (progress.writing.sum(), progress.visible.sum());
        match &found.told {
            Some((told_in, _)) if *told_in > epoch => {
                return Err(StoreError::Superseded { table: table.name(), epoch: *told_in });
            }
            Some((told_in, told)) if *told_in == epoch && rank(progress) < rank(told) => {}
            _ => found.told = Some((epoch, progress.clone())),
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn reclaim(&self, table: &Table, column: usize, before_us: i64) -> Result<(), StoreError> {
        let mut tables = self.tables.write();
        let found = find_mut(&mut tables, table)?;
        let bound = before(table, column, before_us)?;
        let mut rows = StoredRows::default();
        let live = || found.rows.iter().filter(|(_, value)| is_live(value));
        for (key, value) in live() {
            found.codec.collect(&mut rows, key, value);
        }
        let expired = expired(&found.codec.decode(table, &rows)?, column, &bound)?;
        let keys: Vec<Box<[u8]>> = live().zip(&expired).filter(|(_, expired)| **expired).map(|((key, _), _)| key.clone()).collect();
        for key in keys {
            found.rows.remove(&key);
        }
        Ok(())
    }
}

/// Which rows have a value in `column` that is below `bound`.
pub(super) fn expired(rows: &RecordBatch, column: usize, bound: &datafusion::scalar::ScalarValue) -> Result<Vec<bool>, StoreError> {
    let broken = |error: String| StoreError::Broken(error);
    let bound = bound.to_array().map_err(|error| broken(error.to_string()))?;
    let below: BooleanArray = lt(rows.column(column), &Scalar::new(bound)).map_err(|error| broken(error.to_string()))?;
    Ok((0..below.len()).map(|index| below.is_valid(index) && below.value(index)).collect())
}

impl RowReader for MemoryStore {
    fn read(&self, table: &Table, read: &PartitionRead) -> Result<Page, StoreError> {
        let tables = self.tables.read();
        let found = find(&tables, table)?;
        let range = found.codec.range(read)?;
        let mut rows = StoredRows::default();
        let mut last: &[u8] = &[];
        if range.keys.is_empty() {
            return Ok(Page { rows: found.codec.decode(table, &rows)?, next: None });
        }
        let start = Bound::Included(range.keys.start.as_slice());
        let end = range.keys.end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        for (key, value) in found.rows.range::<[u8], _>((start, end)).filter(|(_, value)| is_live(value)) {
            if rows.len() == read.limit {
                let next = Some(found.codec.cursor(&range, last));
                return Ok(Page { rows: found.codec.decode(table, &rows)?, next });
            }
            found.codec.collect(&mut rows, key, value);
            last = key;
        }
        Ok(Page { rows: found.codec.decode(table, &rows)?, next: None })
    }

    fn scan_each(&self, table: &Table, each: &mut dyn FnMut(RecordBatch) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let batch = {
            let tables = self.tables.read();
            let found = find(&tables, table)?;
            let mut rows = StoredRows::default();
            for (key, value) in found.rows.iter().filter(|(_, value)| is_live(value)) {
                found.codec.collect(&mut rows, key, value);
            }
            (rows.len() > 0).then(|| found.codec.decode(table, &rows)).transpose()?
        };
        // Without the lock: what is handed on may be compared with another table.
        batch.map_or(Ok(()), each)
    }

    fn keys(&self, table: &Table, read: &KeysRead) -> Result<Keys, StoreError> {
        let tables = self.tables.read();
        let found = find(&tables, table)?;
        found.codec.list(table, read, |from| {
            let rows = found.rows.range::<[u8], _>((Bound::Included(from), Bound::Unbounded));
            let first = rows.filter(|(_, value)| is_live(value)).map(|(key, value)| (key.to_vec(), value.to_vec())).next();
            Ok(first)
        })
    }

    fn last_partition(&self, table: &Table) -> Result<Option<Vec<ScalarValue>>, StoreError> {
        let tables = self.tables.read();
        let found = find(&tables, table)?;
        let last = found.rows.iter().rev().find(|(_, value)| is_live(value));
        let partition = last.map(|(key, value)| found.codec.partition_of(table, key, value)).transpose()?;
        partition.map(|partition| scalars(table, &partition)).transpose()
    }

    fn progress(&self, table: &Table) -> Result<Option<Progress>, StoreError> {
        let tables = self.tables.read();
        Ok(find(&tables, table)?.told.as_ref().map(|(_, progress)| progress.clone()))
    }
}

impl Registers for MemoryStore {
    fn get(&self, key: &str) -> Result<Option<Register>, StoreError> {
        Ok(self.catalogue.read().registers.get(key).cloned())
    }

    fn compare_and_set(&self, key: &str, expected: Option<u64>, value: Option<&str>) -> Result<Outcome, StoreError> {
        let mut catalogue = self.catalogue.write();
        let stored = catalogue.registers.get(key);
        if stored.map(|register| register.revision) != expected {
            return Ok(Outcome::Conflict(stored.cloned()));
        }
        let revision = expected.unwrap_or(0) + 1;
        match value {
            Some(value) => catalogue.registers.insert(key.into(), Register { value: value.into(), revision }),
            None => catalogue.registers.remove(key),
        };
        Ok(Outcome::Set(revision))
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, Register)>, StoreError> {
        let catalogue = self.catalogue.read();
        let from = catalogue.registers.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        let listed = from.take_while(|(key, _)| key.starts_with(prefix)).filter(|(key, _)| !is_isolated(key));
        Ok(listed.map(|(key, register)| (key.clone(), register.clone())).collect())
    }

    fn append_journal(&self, entry: &str) -> Result<(), StoreError> {
        self.catalogue.write().journal.push(entry.into());
        Ok(())
    }

    fn journal(&self, limit: usize) -> Result<Vec<String>, StoreError> {
        let catalogue = self.catalogue.read();
        let newest = catalogue.journal.iter().rev().take(limit).rev();
        Ok(newest.cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use crate::store::conformance::Harness;

    struct InMemory(MemoryStore);

    impl Harness for InMemory {
        fn store(&self) -> &dyn Store {
            &self.0
        }

        fn reopen(&mut self) -> bool {
            false
        }
    }

    crate::store_conformance!(InMemory(MemoryStore::new()));
}
