//! The steps of publishing the feed of one view: the difference to a version, and then the changes of its rows.

use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{Array, RecordBatch};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::broadcast::error::TryRecvError;

use super::copy::{Copy, Now, Rows};
use super::marks::{self, Reached, Why};
use super::{Served, ViewFeedStatus};
use crate::changes::view_feed::{ViewFeed, ViewFeedError, ViewRecord};
use crate::changes::{self, ChangeFeed, Changes, Subscription};
use crate::clock::Clock;
use crate::engine::codec::as_micros;
use crate::engine::dirty::{epoch_of, sum_of};
use crate::json;
use crate::position::Cut;
use crate::stop::Stop;
use crate::store::{Progress, RowReader, StoreError};
use crate::table::Epoch;

/// Records that are published together.
const RECORDS_AT_ONCE: usize = 5_000;
/// How often it is published how far rows are that do not change.
const PROGRESS_EVERY_MS: i64 = 1_000;

/// Publishes the feed of one view.
pub struct Feeder {
    /// The feed.
    pub feed: Box<dyn ViewFeed>,
    /// What is in it.
    pub copy: Copy,
    /// The rows of versions.
    pub rows: Arc<dyn RowReader>,
    /// What changes in them.
    pub changes: Arc<dyn ChangeFeed>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Given when this is to end.
    pub stop: Stop,
    /// How often changes are looked for.
    pub poll: Duration,
    /// What was done.
    pub status: Arc<Mutex<ViewFeedStatus>>,
}

/// Why a version is not followed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Another version is in service, or everything is being stopped.
    Asked,
    /// Changes were missed.
    Gap,
}

/// A version that is followed.
struct Followed {
    served: Served,
    subscription: Subscription,
    /// The latest owner that is known: rows of those before it are not newer.
    newest: Epoch,
    /// Changes up to this sum of positions were in the table when it was read.
    read_to: u64,
    reached: Reached,
    /// What was published of that, and when.
    published: Cut,
    published_at_ms: i64,
}

/// What was taken from the changes of a version.
enum Taken {
    /// These rows, perhaps none.
    Rows(Rows),
    /// Some were missed.
    Gap,
}

impl Feeder {
    /// Makes followers have the rows of a version, and then its changes as long as `is_served` says so.
    ///
    /// # Errors
    /// When something does not answer, or refuses. What is out is remembered, so this can begin again.
    pub fn serve(&mut self, served: &Served, why: Why, is_served: &dyn Fn(&Served) -> bool) -> Result<Ended, ViewFeedError> {
        // Before the rows are read: what is written afterwards is published afterwards.
        let subscription = self.changes.subscribe(&served.table)?;
        let mut followed = Followed {
            served: served.clone(),
            subscription,
            newest: served.epoch,
            read_to: 0,
            reached: Reached::default(),
            published: Cut::default(),
            published_at_ms: 0,
        };
        if let Some(ended) = self.publish_difference(&mut followed, why, is_served)? {
            return Ok(ended);
        }
        while is_served(served) && !self.stop.is_stopped() {
            let Taken::Rows(rows) = followed.take() else { return Ok(Ended::Gap) };
            if !self.publish_changes(&mut followed, &rows)? {
                self.stop.wait(self.poll);
            }
        }
        Ok(Ended::Asked)
    }

    /// Publishes what makes the rows that followers have those of this version. Changes meanwhile are held until all that was read may show is out.
    fn publish_difference(
        &mut self,
        followed: &mut Followed,
        why: Why,
        is_served: &dyn Fn(&Served) -> bool,
    ) -> Result<Option<Ended>, ViewFeedError> {
        let version = followed.served.table.version;
        self.copy.begin_difference()?;
        self.publish(&Rows::new(), &[], &[marks::begin(self.copy.version(), version, why)], followed)?;
        let before = self.progress(&followed.served)?;
        followed.read_to = before.visible.sum();
        let horizon_us = before.horizon_us;
        let (mut written, mut removed) = (0, 0);
        let mut ended: Option<Result<Ended, ViewFeedError>> = None;
        let (rows, table) = (self.rows.clone(), followed.served.table.clone());
        let scanned = rows.scan_each(&table, &mut |batch| {
            let stepped = self.publish_batch(followed, &batch, horizon_us).and_then(|count| {
                written += count;
                self.hold(followed)
            });
            ended = match stepped {
                Ok(true) if is_served(&followed.served) && !self.stop.is_stopped() => return Ok(()),
                Ok(true) => Some(Ok(Ended::Asked)),
                Ok(false) => Some(Ok(Ended::Gap)),
                Err(error) => Some(Err(error)),
            };
            Err(StoreError::Broken("the difference was given up".to_owned()))
        });
        if let Some(ended) = ended {
            return ended.map(Some);
        }
        scanned?;
        let mut after: Option<String> = None;
        loop {
            let unseen = self.copy.unseen(after.as_deref())?;
            let Some(last) = unseen.last().cloned() else { break };
            removed += unseen.len() as u64;
            let gone: Rows = unseen.into_iter().map(|key| (key, Now { row: None, written_at: None })).collect();
            let keys: Vec<String> = gone.keys().cloned().collect();
            self.publish(&gone, &keys, &[], followed)?;
            after = Some(last);
        }
        let shown = self.progress(&followed.served)?;
        if shown.writing != before.visible {
            // Some of what was read may be newer. All that changed meanwhile comes by the changes.
            loop {
                if !self.hold(followed)? {
                    return Ok(Some(Ended::Gap));
                }
                if followed.reached.visible.reaches(&shown.writing) {
                    break;
                }
                if !is_served(&followed.served) || self.stop.wait(self.poll) {
                    return Ok(Some(Ended::Asked));
                }
            }
        } else {
            followed.reached = Reached { visible: shown.visible.clone(), watermark_us: shown.watermark_us };
        }
        while self.copy.has_held()? {
            let held = self.copy.take_held()?;
            let keys = self.copy.changed(&held)?;
            removed += keys.iter().filter(|key| held.get(*key).is_some_and(|now| now.row.is_none())).count() as u64;
            written += keys.iter().filter(|key| held.get(*key).is_some_and(|now| now.row.is_some())).count() as u64;
            self.publish(&held, &keys, &[], followed)?;
        }
        let mark = marks::end(version, written, removed, &followed.reached);
        let position = self.feed.publish(&[mark])?;
        self.copy.end_difference(version, position, self.clock.now_ms())?;
        let mut status = self.status.lock();
        status.differences += 1;
        (status.version, status.error) = (Some(version), None);
        drop(status);
        tracing::info!(view = table.view, %version, ?why, written, removed, "followers of the view have the rows of this version");
        Ok(None)
    }

    /// Publishes those rows of a batch that followers do not have. Answers how many.
    fn publish_batch(&mut self, followed: &Followed, batch: &RecordBatch, horizon_us: Option<i64>) -> Result<u64, ViewFeedError> {
        let starts = followed.served.window_column.and_then(|column| as_micros(batch.columns().get(column)?).ok());
        let is_kept = |row: usize| match (horizon_us, &starts) {
            (Some(horizon_us), Some(starts)) => starts.is_null(row) || starts.value(row) >= horizon_us,
            _ => true,
        };
        let table = &followed.served.table;
        let mut published = 0;
        let mut rows = Rows::new();
        for row in (0..batch.num_rows()).filter(|row| is_kept(*row)) {
            let key: Vec<Value> = changes::key(table, batch, row).collect();
            rows.insert(Value::from(key).to_string(), Now { row: Some(json::object(batch, row).to_string()), written_at: None });
            if rows.len() >= RECORDS_AT_ONCE {
                published += self.publish_changed(&std::mem::take(&mut rows), followed)?;
            }
        }
        Ok(published + self.publish_changed(&rows, followed)?)
    }

    fn publish_changed(&mut self, rows: &Rows, followed: &Followed) -> Result<u64, ViewFeedError> {
        let keys = self.copy.changed(rows)?;
        self.publish(rows, &keys, &[], followed)?;
        Ok(keys.len() as u64)
    }

    /// Keeps what changed meanwhile. `false`: changes were missed.
    fn hold(&mut self, followed: &mut Followed) -> Result<bool, ViewFeedError> {
        loop {
            match followed.take() {
                Taken::Gap => return Ok(false),
                Taken::Rows(rows) if rows.is_empty() => return Ok(true),
                Taken::Rows(rows) => self.copy.hold(&rows)?,
            }
        }
    }

    /// Publishes changes, and how far the rows are. Answers whether there was anything.
    fn publish_changes(&mut self, followed: &mut Followed, rows: &Rows) -> Result<bool, ViewFeedError> {
        let keys = self.copy.changed(rows)?;
        let now_ms = self.clock.now_ms();
        let is_due = now_ms.saturating_sub(followed.published_at_ms) >= PROGRESS_EVERY_MS;
        if keys.is_empty() && !(is_due && followed.reached.visible != followed.published) {
            return Ok(!rows.is_empty());
        }
        let mark = marks::progress(followed.served.table.version, &followed.reached);
        self.publish(rows, &keys, &[mark], followed)?;
        followed.published_at_ms = now_ms;
        followed.published = followed.reached.visible.clone();
        Ok(true)
    }

    /// Publishes the rows `keys` of `rows`, and marks behind them; notes that followers have all of `rows`.
    fn publish(&mut self, rows: &Rows, keys: &[String], marks: &[ViewRecord], followed: &Followed) -> Result<(), ViewFeedError> {
        let version = Some(followed.served.table.version.0);
        let mut records: Vec<ViewRecord> = Vec::with_capacity(keys.len() + marks.len());
        for key in keys {
            let Some(now) = rows.get(key) else { continue };
            records.push(ViewRecord { key: key.clone(), value: now.row.clone(), version, written_at: now.written_at });
        }
        records.extend_from_slice(marks);
        let position = if records.is_empty() { None } else { Some(self.feed.publish(&records)?) };
        self.copy.note(rows, position, self.clock.now_ms())?;
        self.status.lock().rows += keys.len() as u64;
        Ok(())
    }

    fn progress(&self, served: &Served) -> Result<Progress, ViewFeedError> {
        Ok(self.rows.progress(&served.table)?.unwrap_or_default())
    }
}

impl Followed {
    /// Takes what was published lately; of a row the newest change.
    fn take(&mut self) -> Taken {
        let mut rows = Rows::new();
        while rows.len() < RECORDS_AT_ONCE {
            match self.subscription.try_recv() {
                Ok(changes) if changes.anew => return Taken::Gap,
                Ok(changes) => self.add(&changes, &mut rows),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Lagged(_) | TryRecvError::Closed) => return Taken::Gap,
            }
        }
        Taken::Rows(rows)
    }

    fn add(&mut self, changes: &Changes, rows: &mut Rows) {
        for changed in &changes.rows {
            let epoch = epoch_of(changed.written_at);
            self.newest = self.newest.max(epoch);
            // What is published late may be older than what was read: a row must not go back.
            if epoch == self.newest && sum_of(changed.written_at) > self.read_to {
                let row = changed.row.as_ref().map(Value::to_string);
                rows.insert(Value::from(changed.key.clone()).to_string(), Now { row, written_at: Some(changed.written_at) });
            }
        }
        self.reached = Reached { visible: changes.visible.clone(), watermark_us: changes.watermark_us };
    }
}
