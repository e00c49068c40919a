//! How far each table is, and who owns it: a partition for each table, a row for each epoch. No lightweight transaction is needed.
//!
//! Owner and successor each *announce, then look*, as in Dekker's algorithm. A telling of epoch `e` writes the row of `e`, then reads
//! whether a greater epoch has one. A fence of epoch `f` writes the row of `f`, then reads what lesser epochs told. Each write has reached, and each
//! read asks, so many replicas that they overlap. So of the two writes one is acknowledged first, and the other side's read, which begins after its
//! own write, sees it: either the teller sees the fence and is refused, or the fencer sees what was told. (Both may see both: a telling that
//! is refused, yet inherited. It was true, and no row of its cut is written, since its owner was told so first.)
//!
//! A refused telling leaves its row behind, under its own epoch: readers go by the greatest epoch that has told something, and a fence
//! tells what it inherits before it answers, so nothing that a former owner still writes is ever looked at again.
//!
//! The rows of an epoch are written by its one owner, so their timestamps are a count of its tellings: no clock can put a later one before an
//! earlier one. A table that is dropped and made again has another identity, hence another partition.
//!
//! Rows of epochs long gone are deleted, [`EPOCHS_KEPT`] of them later. Not at once: a read that is under way may see some replicas before an heir's
//! telling and others after the deletion of what it inherited, and must still find the one or the other.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use refold_processor::store::{Progress, StoreError};
use refold_processor::table::{Epoch, Table};
use scylla::response::PagingState;

use crate::CassandraStore;
use crate::error::Failure;
use crate::rows::{Values, cell, each_row, number};
use crate::statements::quoted;
use crate::tables::{OpenTable, TableId};

/// The name of the table, and its definition.
pub(crate) const TABLE: (&str, &str) = (
    "progress",
    "(table_id uuid, epoch bigint, name text, fenced boolean, told text, PRIMARY KEY ((table_id), epoch)) \
     WITH CLUSTERING ORDER BY (epoch DESC) AND comment = 'how far the tables of Refold are, by epoch of their owners'",
);

/// How many epochs' rows stay.
const EPOCHS_KEPT: u32 = 64;
/// Epochs looked at in one go when searching for the last that told something.
const EPOCHS_A_PAGE: i32 = 8;
/// The timestamp of a fence, below those of tellings.
const FENCED_AT: i64 = 1;
/// The timestamp of what a fence inherits, below those of its owner's own tellings.
const INHERITED_AT: i64 = 2;
/// Above those of all tellings.
const FORGOTTEN_AT: i64 = i64::MAX - 1;

/// What this process told, by table.
pub(crate) type Tellers = Mutex<HashMap<TableId, Arc<Mutex<Option<Teller>>>>>;

/// The last telling of the owner of an epoch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Teller {
    epoch: Epoch,
    /// What it ranks by.
    rank: Option<(u64, u64)>,
    /// Its timestamp; one that may have been used without success counts.
    told_at: i64,
}

/// What an epoch told.
struct Told {
    epoch: i64,
    progress: Progress,
    told_at: i64,
}

fn rank(progress: &Progress) -> (u64, u64) {
    (progress.writing.sum(), progress.visible.sum())
}

impl CassandraStore {
    pub(crate) fn announce(&self, table: &Table, epoch: Epoch) -> Result<Progress, StoreError> {
        // Whoever takes a table over may have known an earlier one of that name.
        let open = self.find_table(table)?;
        let teller = self.teller(open.id);
        let mut teller = teller.lock();
        let fence = async {
            self.put(open.id, epoch, &open.name, None, FENCED_AT).await?;
            if let Some(later) = self.greatest_above(open.id, epoch).await? {
                return Ok(Err(later));
            }
            let told = self.last_told(open.id).await?;
            // Someone later may have come in between, and told already.
            if let Some(told) = told.as_ref().filter(|told| told.epoch > i64::from(epoch.0)) {
                return Ok(Err(epoch_of(told.epoch)));
            }
            let is_own = told.as_ref().is_some_and(|told| told.epoch == i64::from(epoch.0));
            let (progress, told_at) = told.map_or((Progress::default(), INHERITED_AT), |told| (told.progress, told.told_at));
            if !is_own {
                self.put(open.id, epoch, &open.name, Some(&progress), INHERITED_AT).await?;
                self.forget_epochs(open.id, epoch).await?;
            }
            let told_at = if is_own { told_at } else { INHERITED_AT };
            Ok(Ok((progress, told_at)))
        };
        let fenced = self.client.wait(fence).map_err(|failure| failure.of_table("fencing table", &open.name))?;
        match fenced {
            Ok((progress, told_at)) => {
                let known = teller.filter(|known| known.epoch == epoch).map_or(told_at, |known| known.told_at.max(told_at));
                *teller = Some(Teller { epoch, rank: Some(rank(&progress)), told_at: known });
                Ok(progress)
            }
            Err(epoch) => Err(StoreError::Superseded { table: open.name.clone(), epoch }),
        }
    }

    pub(crate) fn say(&self, table: &Table, epoch: Epoch, progress: &Progress) -> Result<(), StoreError> {
        let open = self.table(table)?;
        let teller = self.teller(open.id);
        let mut teller = teller.lock();
        let failed = |failure: Failure| failure.of_table("telling the progress of table", &open.name);
        let last = match *teller {
            Some(last) if last.epoch == epoch => last,
            _ => self.client.wait(self.find_teller(open.id, epoch)).map_err(failed)?,
        };
        let told = rank(progress);
        let is_greater = last.rank.is_none_or(|last| told >= last);
        if is_greater {
            let told_at = last.told_at + 1;
            // Even if it fails, it may have been written: the next one must be later.
            *teller = Some(Teller { told_at, ..last });
            self.client.wait(self.put(open.id, epoch, &open.name, Some(progress), told_at)).map_err(failed)?;
            *teller = Some(Teller { epoch, rank: Some(told), told_at });
        }
        match self.client.wait(self.greatest_above(open.id, epoch)).map_err(failed)? {
            Some(later) => Err(StoreError::Superseded { table: open.name.clone(), epoch: later }),
            None => Ok(()),
        }
    }

    pub(crate) fn told(&self, table: &Table) -> Result<Option<Progress>, StoreError> {
        let read = |open: &OpenTable| {
            let told = self.client.wait(self.last_told(open.id));
            told.map_err(|failure| failure.of_table("reading the progress of table", &open.name))
        };
        let open = self.table(table)?;
        if let Some(told) = read(&open)? {
            return Ok(Some(told.progress));
        }
        // Nothing told: perhaps of a table that another process has dropped since.
        let found = self.find_table(table)?;
        if found.id == open.id {
            return Ok(None);
        }
        Ok(read(&found)?.map(|told| told.progress))
    }

    pub(crate) fn forget_progress(&self, name: &str, id: TableId) -> Result<(), StoreError> {
        self.tellers.lock().remove(&id);
        let cql = format!("DELETE FROM {} USING TIMESTAMP ? WHERE table_id = ?", self.progress_table());
        let delete = self.client.execute(&cql, Values::new().with_number(FORGOTTEN_AT).with(&id));
        self.client.wait(delete).map_err(|failure| failure.while_doing(&format!("forgetting the progress of table {name}")))
    }

    fn teller(&self, id: TableId) -> Arc<Mutex<Option<Teller>>> {
        Arc::clone(self.tellers.lock().entry(id).or_default())
    }

    fn progress_table(&self) -> String {
        format!("{}.progress", quoted(&self.settings.keyspace))
    }

    /// Writes the row of an epoch: that it is there, and what it tells.
    async fn put(&self, id: TableId, epoch: Epoch, name: &str, progress: Option<&Progress>, at: i64) -> Result<(), Failure> {
        let key = Values::new().with(&id).with_number(epoch.0.into()).with_text(name);
        let (column, values) = match progress {
            None => ("fenced", key.with(&[1])),
            Some(progress) => {
                let told = serde_json::to_string(progress).map_err(|error| Failure::broken(error.to_string()))?;
                ("told", key.with_text(&told))
            }
        };
        let cql = format!("INSERT INTO {} (table_id, epoch, name, {column}) VALUES (?, ?, ?, ?) USING TIMESTAMP ?", self.progress_table());
        self.client.execute(&cql, values.with_number(at)).await
    }

    /// The greatest epoch that was announced, if it is above this one.
    async fn greatest_above(&self, id: TableId, epoch: Epoch) -> Result<Option<Epoch>, Failure> {
        let cql = format!("SELECT epoch FROM {} WHERE table_id = ? AND epoch > ? LIMIT 1", self.progress_table());
        let prepared = self.client.prepare(&cql).await?;
        let answer = self.client.query(&prepared, Values::new().with(&id).with_number(epoch.0.into())).await?;
        let mut greatest = None;
        each_row(&answer, |row| {
            greatest = number(row, 0).map(epoch_of);
            Ok(())
        })?;
        Ok(greatest)
    }

    /// What the greatest epoch told that told something.
    async fn last_told(&self, id: TableId) -> Result<Option<Told>, Failure> {
        let cql = format!("SELECT epoch, told, writetime(told) FROM {} WHERE table_id = ?", self.progress_table());
        let mut prepared = self.client.prepare(&cql).await?;
        prepared.set_page_size(EPOCHS_A_PAGE);
        let mut from = PagingState::start();
        loop {
            let (answer, next) = self.client.page(&prepared, Values::new().with(&id), from).await?;
            let mut found = None;
            each_row(&answer, |row| {
                if found.is_none() {
                    found = told_of(row)?;
                }
                Ok(())
            })?;
            match next {
                Some(next) if found.is_none() => from = next,
                _ => return Ok(found),
            }
        }
    }

    /// Where an epoch's tellings stand that this process has not told itself.
    async fn find_teller(&self, id: TableId, epoch: Epoch) -> Result<Teller, Failure> {
        let cql = format!("SELECT epoch, told, writetime(told) FROM {} WHERE table_id = ? AND epoch = ?", self.progress_table());
        let prepared = self.client.prepare(&cql).await?;
        let answer = self.client.query(&prepared, Values::new().with(&id).with_number(epoch.0.into())).await?;
        let mut teller = Teller { epoch, rank: None, told_at: INHERITED_AT };
        each_row(&answer, |row| {
            if let Some(told) = told_of(row)? {
                teller = Teller { epoch, rank: Some(rank(&told.progress)), told_at: told.told_at };
            }
            Ok(())
        })?;
        Ok(teller)
    }

    async fn forget_epochs(&self, id: TableId, epoch: Epoch) -> Result<(), Failure> {
        // Seldom, since each time leaves a tombstone for readers to step over.
        if epoch.0 <= EPOCHS_KEPT || !epoch.0.is_multiple_of(EPOCHS_KEPT) {
            return Ok(());
        }
        let cql = format!("DELETE FROM {} USING TIMESTAMP ? WHERE table_id = ? AND epoch < ?", self.progress_table());
        let values = Values::new().with_number(FORGOTTEN_AT).with(&id).with_number((epoch.0 - EPOCHS_KEPT).into());
        self.client.execute(&cql, values).await
    }
}

fn told_of(row: &[Option<&[u8]>]) -> Result<Option<Told>, Failure> {
    let (Some(epoch), Some(told)) = (number(row, 0), cell(row, 1)) else { return Ok(None) };
    let progress =
        serde_json::from_slice(told).map_err(|error| Failure::broken(format!("what epoch {epoch} told is unreadable: {error}")))?;
    Ok(Some(Told { epoch, progress, told_at: number(row, 2).unwrap_or(INHERITED_AT) }))
}

fn epoch_of(epoch: i64) -> Epoch {
    Epoch(u32::try_from(epoch).unwrap_or(u32::MAX))
}
