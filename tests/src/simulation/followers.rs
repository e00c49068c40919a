//! One who follows the table's change feed: rows as they are read once, when the table has readers, and again when the feed says to begin anew;
//! between that, changes alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use refold_processor::changes::{ChangeFeed, Changes, Subscription};
use refold_processor::engine::dirty::epoch_of;
use refold_processor::json;
use refold_processor::log::LogError;
use refold_processor::recovery::Recovery;
use refold_processor::store::memory::MemoryStore;
use refold_processor::store::{Progress, RowBatch, RowReader};
use refold_processor::table::{Epoch, Table};
use serde_json::Value;

use super::world::{FaultyStore, Mutant};

/// A change feed with one follower.
pub struct Followers {
    /// Half of the next publication is lost, and its publisher told that it was refused: until a while has passed, or an operator acts.
    pub refuse_next: Mutex<Option<Recovery>>,
    /// The owner that the catalogue names.
    pub owner: AtomicU32,
    store: Arc<FaultyStore>,
    mutant: Option<Mutant>,
    followed: Mutex<Followed>,
}

#[derive(Default)]
struct Followed {
    rows: Option<BTreeMap<String, Value>>,
    newest: Epoch,
}

impl Followers {
    /// Nobody yet.
    pub fn new(store: Arc<FaultyStore>, mutant: Option<Mutant>) -> Followers {
        Followers { refuse_next: Mutex::default(), owner: AtomicU32::new(0), store, mutant, followed: Mutex::default() }
    }

    fn refusal(&self) -> Option<LogError> {
        self.refuse_next.lock().take().map(|recovery| match recovery {
            Recovery::Transient => LogError::Unavailable("simulated".into()),
            Recovery::Operator => LogError::Refused("simulated".into()),
            Recovery::Final => LogError::Broken("simulated".into()),
        })
    }

    /// Reads the rows, the first time, as they are under this owner.
    pub fn begin(&self, store: &MemoryStore, table: &Table, epoch: Epoch) -> Result<(), String> {
        let mut followed = self.followed.lock();
        if followed.rows.is_none() {
            followed.rows = Some(read(store, table)?);
            followed.newest = followed.newest.max(epoch);
        }
        Ok(())
    }

    /// Nobody follows any more; who follows next begins with what the table then has.
    pub fn leave(&self) {
        self.followed.lock().rows = None;
    }

    /// Whether what was followed is what the table has in the end.
    pub fn compare(&self, store: &MemoryStore, table: &Table) -> Result<(), String> {
        let (followed, found) = (self.followed.lock(), read(store, table)?);
        let Some(rows) = &followed.rows else { return Err("the table never had readers".into()) };
        if *rows == found {
            return Ok(());
        }
        let differs = |key: &&String| rows.get(*key) != found.get(*key);
        let some: Vec<_> =
            rows.keys().chain(found.keys()).filter(differs).take(5).map(|key| (key, rows.get(key), found.get(key))).collect();
        Err(format!("view {}: who follows changes ends with other rows than the table (key, followed, found): {some:?}", table.view))
    }
}

fn read(store: &MemoryStore, table: &Table) -> Result<BTreeMap<String, Value>, String> {
    let mut rows = BTreeMap::new();
    for batch in store.scan(table).map_err(|error| error.to_string())? {
        for row in 0..batch.num_rows() {
            let key: Vec<Value> = table.shape.key_columns().map(|column| json::value(batch.column(column).as_ref(), row)).collect();
            rows.insert(Value::from(key).to_string(), json::object(&batch, row));
        }
    }
    Ok(rows)
}

impl ChangeFeed for Followers {
    fn create(&self, _: &Table, _: Option<i64>) -> Result<(), LogError> {
        Ok(())
    }

    fn publish(&self, table: &Table, rows: &[RowBatch], progress: &Progress) -> Result<(), LogError> {
        let mut changed = Changes::of(table, rows, progress).rows;
        let refusal = self.refusal();
        if refusal.is_some() {
            changed.truncate(changed.len() / 2);
        }
        let mut followed = self.followed.lock();
        for change in changed {
            let epoch = epoch_of(change.written_at);
            followed.newest = followed.newest.max(epoch);
            if epoch < followed.newest {
                continue;
            }
            let key = Value::from(change.key).to_string();
            match (&mut followed.rows, change.row) {
                (Some(rows), Some(row)) => drop(rows.insert(key, row)),
                (Some(rows), None) => drop(rows.remove(&key)),
                (None, _) => {}
            }
        }
        refusal.map_or(Ok(()), Err)
    }

    fn begin_anew(&self, table: &Table, _: &Progress) -> Result<(), LogError> {
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        let mut followed = self.followed.lock();
        if followed.rows.is_some() && self.mutant != Some(Mutant::GapUntold) {
            followed.rows = Some(read(&self.store.kept, table).map_err(LogError::Broken)?);
            followed.newest = followed.newest.max(Epoch(self.owner.load(Ordering::Relaxed)));
        }
        Ok(())
    }

    fn subscribe(&self, _: &Table) -> Result<Subscription, LogError> {
        Err(LogError::Unavailable("the simulation follows by itself".into()))
    }

    fn remove(&self, _: &Table) -> Result<(), LogError> {
        Ok(())
    }
}
