//! One partition of one version that is followed, from its snapshot on.
//!
//! A row never goes back: what is published from before the snapshot is held until everything that the snapshot may show is published too,
//! and rows of an owner that was replaced are left out.

use std::collections::BTreeMap;

use datafusion::scalar::ScalarValue;
use refold_processor::changes::ChangedRow;
use refold_processor::engine::dirty::epoch_of;
use refold_processor::log::LogError;
use refold_processor::position::Cut;
use refold_processor::store::catalogue::CatalogueError;
use refold_processor::table::{Epoch, Table};
use serde_json::{Map, Value};

use super::hub::{Changed, Following as Feed, Over};
use super::{HELD_ROWS, Live};
use crate::parameters::KeyValue;
use crate::problem::Problem;
use crate::reading::{Found, Target, scalar};

/// A followed partition.
pub struct Following {
    /// Its table.
    pub table: Table,
    /// The partition.
    pub partition: Vec<ScalarValue>,
    feed: Feed,
    /// What the snapshot may show already.
    shown: Cut,
    /// Changes that may be older than the snapshot, by key: the newest of each.
    held: BTreeMap<String, ChangedRow>,
    /// The latest owner that is known: rows of those before it are not newer.
    newest: Epoch,
}

impl Live {
    /// Begins to follow a partition, and reads its snapshot. Waits for the store. `None`: its newest window was asked for, and no window has rows.
    ///
    /// # Errors
    /// When the rows cannot be read, or their changes not followed.
    pub fn begin(&self, target: &Target) -> Result<Option<(Following, Found)>, Problem> {
        let progress = self.reading.progress(target)?;
        let Some(partition) = self.reading.partition(target, &progress)? else { return Ok(None) };
        let names: Vec<Value> = partition.iter().map(scalar).collect::<Result<_, _>>()?;
        // The subscription comes first: rows that are written after the read are published after it.
        let feed = self.hubs.follow(self.changes.as_ref(), &target.table, &names).map_err(|error| no_feed(error, &target.table))?;
        let fixed = Target { key: partition.iter().cloned().map(KeyValue::Is).collect(), ..target.clone() };
        let Some((found, newest)) = self.snapshot(&fixed)? else { return Ok(None) };
        let shown = self.reading.progress(target)?.writing;
        Ok(Some((Following { table: target.table.clone(), partition, feed, shown, held: BTreeMap::new(), newest }, found)))
    }

    /// Rows, and the owner that they are of: what one before it still publishes must not replace them.
    fn snapshot(&self, target: &Target) -> Result<Option<(Found, Epoch)>, Problem> {
        let owner = || -> Result<Epoch, CatalogueError> {
            let held = self.reading.views.catalogue.ownership(&target.table.view, target.table.version)?;
            Ok(held.map_or(Epoch::default(), |held| held.epoch))
        };
        let mut epoch = owner()?;
        loop {
            let Some(found) = self.reading.find(target)? else { return Ok(None) };
            let after = owner()?;
            // Taken over meanwhile, the rows may be of either.
            if after == epoch {
                return Ok(Some((found, epoch)));
            }
            epoch = after;
        }
    }
}

fn no_feed(error: LogError, table: &Table) -> Problem {
    match error {
        LogError::UnknownTopic(topic) => Problem::unavailable(format!(
            "changes of version {} of view {} cannot be followed: there is no topic {topic}; its worker makes it, unless change_feed is off there",
            table.version, table.view
        )),
        error => error.into(),
    }
}

impl Following {
    /// What was published next for this partition.
    ///
    /// # Errors
    /// When it has to begin again.
    pub async fn next(&mut self) -> Result<std::sync::Arc<Changed>, Over> {
        self.feed.next().await
    }

    /// Takes what was published; answers the rows that changed by it or before, once the snapshot is passed.
    ///
    /// # Errors
    /// When too much is held back: the snapshot is to be read again.
    pub fn take(&mut self, changed: &Changed) -> Result<Vec<ChangedRow>, Over> {
        self.newest = self.newest.max(changed.newest);
        for row in changed.rows.iter().filter(|row| epoch_of(row.written_at) == self.newest) {
            self.held.insert(Value::from(row.key.clone()).to_string(), row.clone());
        }
        let is_past_snapshot = changed.visible.reaches(&self.shown);
        self.feed.want_positions(!is_past_snapshot);
        match is_past_snapshot {
            true => Ok(std::mem::take(&mut self.held).into_values().collect()),
            false if self.held.len() > HELD_ROWS => Err(Over::Missed),
            false => Ok(Vec::new()),
        }
    }

    /// The latest owner that is known.
    pub fn epoch(&self) -> Epoch {
        self.newest
    }

    /// The values of a key by the names of their columns.
    pub fn named(&self, key: Vec<Value>) -> Map<String, Value> {
        let fields = self.table.shape.columns.fields();
        let names = self.table.shape.key_columns().filter_map(|column| fields.get(column).map(|field| field.name().clone()));
        names.zip(key).collect()
    }
}
