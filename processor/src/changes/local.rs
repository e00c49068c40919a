//! The change feed inside one process.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::broadcast::{self, Sender};

use super::{ChangeFeed, Changes, Interest, Subscription, WAITING};
use crate::log::LogError;
use crate::store::{Progress, RowBatch};
use crate::table::Table;

/// Followers in the process that publishes.
#[derive(Default)]
pub struct LocalFeed {
    tables: Mutex<HashMap<String, Followed>>,
}

/// The followers of a table.
struct Followed {
    sender: Sender<Arc<Changes>>,
    /// The partitions of followers that do not follow the whole table.
    interests: Vec<Weak<Interest>>,
}

impl Followed {
    /// The followed partitions; `None`: the whole table.
    fn interests(&mut self) -> Option<Vec<Arc<Interest>>> {
        self.interests.retain(|interest| interest.strong_count() > 0);
        let interests: Vec<Arc<Interest>> = self.interests.iter().filter_map(Weak::upgrade).collect();
        (self.sender.receiver_count() <= interests.len()).then_some(interests)
    }
}

impl LocalFeed {
    /// Whether a table has followers.
    pub fn is_followed(&self, table: &Table) -> bool {
        self.tables.lock().get(&table.name()).is_some_and(|followed| followed.sender.receiver_count() > 0)
    }
}

impl ChangeFeed for LocalFeed {
    fn create(&self, table: &Table, _: Option<i64>) -> Result<(), LogError> {
        let followed = || Followed { sender: broadcast::channel(WAITING).0, interests: Vec::new() };
        self.tables.lock().entry(table.name()).or_insert_with(followed);
        Ok(())
    }

    fn publish(&self, table: &Table, rows: &[RowBatch], progress: &Progress) -> Result<(), LogError> {
        let found = self.tables.lock().get_mut(&table.name()).map(|followed| (followed.sender.clone(), followed.interests()));
        // Rows without followers are not serialized.
        if let Some((sender, interests)) = found.filter(|(sender, _)| sender.receiver_count() > 0) {
            let is_wanted = |partition: &[_]| interests.as_ref().is_none_or(|all| all.iter().any(|interest| interest.has(partition)));
            let _ = sender.send(Arc::new(Changes::where_wanted(table, rows, progress, is_wanted)));
        }
        Ok(())
    }

    fn begin_anew(&self, table: &Table, progress: &Progress) -> Result<(), LogError> {
        let sender = self.tables.lock().get(&table.name()).map(|followed| followed.sender.clone());
        if let Some(sender) = sender.filter(|sender| sender.receiver_count() > 0) {
            let _ = sender.send(Arc::new(Changes::begin_anew(progress)));
        }
        Ok(())
    }

    fn may_block(&self) -> bool {
        false
    }

    fn subscribe(&self, table: &Table) -> Result<Subscription, LogError> {
        let tables = self.tables.lock();
        tables.get(&table.name()).map(|followed| followed.sender.subscribe()).ok_or_else(|| {
            LogError::Unavailable(format!("changes of {} cannot be followed here: it runs in another process", table.name()))
        })
    }

    fn subscribe_to(&self, table: &Table, interest: &Arc<Interest>) -> Result<Subscription, LogError> {
        // The subscription comes first: until the interest is registered, all rows are serialized.
        let subscription = self.subscribe(table)?;
        if let Some(followed) = self.tables.lock().get_mut(&table.name()) {
            followed.interests.push(Arc::downgrade(interest));
        }
        Ok(subscription)
    }

    fn remove(&self, table: &Table) -> Result<(), LogError> {
        self.tables.lock().remove(&table.name());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use datafusion::arrow::array::{Int64Array, RecordBatch, StringArray};
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use serde_json::json;

    use super::*;
    use crate::table::{TableShape, Version};

    #[test]
    fn rows_are_made_for_those_partitions_alone_that_somebody_follows() {
        let columns = Arc::new(Schema::new(vec![Field::new("user", DataType::Utf8, false), Field::new("posts", DataType::Int64, true)]));
        let shape = TableShape { columns: columns.clone(), partition_key: vec![0], clustering: vec![] };
        let table = Table { view: "v".into(), version: Version(1), shape };
        let users = Arc::new(StringArray::from(vec!["ann", "bob"]));
        let rows = RecordBatch::try_new(columns, vec![users, Arc::new(Int64Array::from(vec![1, 2]))]).unwrap();
        let batch = RowBatch { rows, written_at: vec![1, 2], deleted: vec![false, true] };

        let (feed, interest) = (LocalFeed::default(), Arc::new(Interest::default()));
        feed.create(&table, None).unwrap();
        let mut followed = feed.subscribe_to(&table, &interest).unwrap();
        let mut publish = |feed: &LocalFeed| {
            feed.publish(&table, std::slice::from_ref(&batch), &Progress::default()).unwrap();
            let rows = followed.try_recv().unwrap();
            rows.rows.iter().map(|row| row.key.clone()).collect::<Vec<_>>()
        };
        assert!(publish(&feed).is_empty(), "positions are told all the same");
        interest.add(&Interest::name(&[json!("bob")]));
        assert_eq!(publish(&feed), [vec![json!("bob")]]);
        interest.remove(&Interest::name(&[json!("bob")]));
        assert!(publish(&feed).is_empty());
        let _all = feed.subscribe(&table).unwrap();
        assert_eq!(publish(&feed).len(), 2, "somebody follows all of it");
    }
}
