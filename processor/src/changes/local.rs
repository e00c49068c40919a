//! The change feed inside one process.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::broadcast::{self, Sender};

use super::{ChangeFeed, Changes, Subscription, WAITING};
use crate::log::LogError;
use crate::store::{Progress, RowBatch};
use crate::table::Table;

/// Followers in the process that publishes.
#[derive(Default)]
pub struct LocalFeed {
    tables: Mutex<HashMap<String, Sender<Arc<Changes>>>>,
}

impl LocalFeed {
    /// Without followers, rows need not be made into anything.
    fn send(&self, table: &Table, changes: impl FnOnce() -> Changes) {
        let sender = self.tables.lock().get(&table.name()).cloned();
        if let Some(sender) = sender.filter(|sender| sender.receiver_count() > 0) {
            let _ = sender.send(Arc::new(changes()));
        }
    }
}

impl ChangeFeed for LocalFeed {
    fn create(&self, table: &Table, _: Option<i64>) -> Result<(), LogError> {
        self.tables.lock().entry(table.name()).or_insert_with(|| broadcast::channel(WAITING).0);
        Ok(())
    }

    fn publish(&self, table: &Table, rows: &[RowBatch], progress: &Progress) -> Result<(), LogError> {
        self.send(table, || Changes::of(table, rows, progress));
        Ok(())
    }

    fn begin_anew(&self, table: &Table, progress: &Progress) -> Result<(), LogError> {
        self.send(table, || Changes::begin_anew(progress));
        Ok(())
    }

    fn may_block(&self) -> bool {
        false
    }

    fn subscribe(&self, table: &Table) -> Result<Subscription, LogError> {
        let tables = self.tables.lock();
        tables
            .get(&table.name())
            .map(Sender::subscribe)
            .ok_or_else(|| LogError::Away(format!("changes of {} cannot be followed here: it runs in another process", table.name())))
    }

    fn remove(&self, table: &Table) -> Result<(), LogError> {
        self.tables.lock().remove(&table.name());
        Ok(())
    }
}
