//! The journal: one partition, newest entry first. Entries are verbs of operators and changes of owners: a few hundred bytes each, a few
//! dozen a day.
//!
//! Entries are in order of a time that never runs backwards: an entry comes after the newest one that its writer can see, whatever the clocks
//! say. Of two that are added at once, neither is before the other, and either may come first.

use refold_processor::clock::{Clock, SystemClock};
use refold_processor::store::StoreError;
use scylla::response::PagingState;

use crate::CassandraStore;
use crate::error::Failure;
use crate::rows::{Values, each_row, number, text};
use crate::statements::quoted;

/// The name of the table, and its definition.
pub(crate) const TABLE: (&str, &str) = (
    "journal",
    "(catalogue text, at_us bigint, writer blob, entry text, PRIMARY KEY ((catalogue), at_us, writer)) \
     WITH CLUSTERING ORDER BY (at_us DESC, writer ASC) AND comment = 'the audit journal of Refold'",
);

const WRITER_BYTES: usize = 8;

impl CassandraStore {
    pub(crate) fn add_entry(&self, entry: &str) -> Result<(), StoreError> {
        let doing = "adding to the journal";
        // Two entries of the same microsecond by two processes must not be one row.
        let mut writer = [0; WRITER_BYTES];
        openssl::rand::rand_bytes(&mut writer).map_err(|error| StoreError::Broken(format!("{doing}: no random numbers: {error}")))?;
        let mut last_us = self.last_entry_us.lock();
        let add = async {
            let newest_us = self.newest_entry_us().await?.unwrap_or(0);
            let at_us = (SystemClock.now_ms() * 1_000).max(newest_us + 1).max(*last_us + 1);
            let table = format!("{}.journal", quoted(&self.settings.keyspace));
            let values = Values::new().with_text(&self.settings.catalogue).with_number(at_us).with(&writer).with_text(entry);
            let cql = format!("INSERT INTO {table} (catalogue, at_us, writer, entry) VALUES (?, ?, ?, ?)");
            self.client.execute(&cql, values).await?;
            Ok(at_us)
        };
        *last_us = self.client.wait(add).map_err(|failure: Failure| failure.while_doing(doing))?;
        Ok(())
    }

    async fn newest_entry_us(&self) -> Result<Option<i64>, Failure> {
        let table = format!("{}.journal", quoted(&self.settings.keyspace));
        let prepared = self.client.prepare(&format!("SELECT at_us FROM {table} WHERE catalogue = ? LIMIT 1")).await?;
        let answer = self.client.query(&prepared, Values::new().with_text(&self.settings.catalogue)).await?;
        let mut newest = None;
        each_row(&answer, |row| {
            newest = number(row, 0);
            Ok(())
        })?;
        Ok(newest)
    }

    pub(crate) fn newest_entries(&self, limit: usize) -> Result<Vec<String>, StoreError> {
        let mut entries = Vec::new();
        if limit == 0 {
            return Ok(entries);
        }
        let read = async {
            let table = format!("{}.journal", quoted(&self.settings.keyspace));
            let prepared = self.client.prepare(&format!("SELECT entry FROM {table} WHERE catalogue = ? LIMIT ?")).await?;
            let rows = i32::try_from(limit).unwrap_or(i32::MAX);
            let mut from = PagingState::start();
            loop {
                let values = Values::new().with_text(&self.settings.catalogue).with(&rows.to_be_bytes());
                let (answer, next) = self.client.page(&prepared, values, from).await?;
                each_row(&answer, |row| {
                    entries.extend(text(row, 0));
                    Ok(())
                })?;
                match next {
                    Some(next) => from = next,
                    None => return Ok(()),
                }
            }
        };
        self.client.wait(read).map_err(|failure| failure.while_doing("reading the journal"))?;
        entries.reverse();
        Ok(entries)
    }
}
