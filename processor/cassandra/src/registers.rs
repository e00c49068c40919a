//! Registers: a row each, moved by lightweight transactions. Those that are listed are in one partition. A lightweight transaction holds its whole
//! partition up, so [isolated](is_isolated) registers have a partition of their own each, in another table; see [`isolated`].
//!
//! The outcome of a lightweight transaction that timed out is unknown: it may be carried out, not carried out, or still be carried out by
//! whoever comes next. A serial read settles that, and then it can be told by the *writer*, a random number that each
//! change leaves with its revision. The writers of the last changes are kept, so that it can be told even when others have gone on from there.
//! A register that is removed keeps its row with them, and has no revision.
//!
//! Registers are set again and again, and read together. So nothing that is deleted may be left behind by that: Cassandra keeps it for days, and refuses reads that meet too much of it. A writer is written over the one [`WRITERS`] revisions before.

mod isolated;

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use refold_processor::store::{Outcome, Register, Registers, StoreError, is_isolated};
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::statement::prepared::PreparedStatement;
use tokio::time::Instant;

use crate::CassandraStore;
use crate::client::Client;
use crate::error::Failure;
use crate::rows::{Values, cell, each_row, number, text};
use crate::settings::CassandraSettings;
use crate::statements::quoted;

/// The name of the table, and its definition.
pub(crate) const TABLE: (&str, &str) = (
    "registers",
    "(catalogue text, name text, revision bigint, value text, writers map<int, blob>, PRIMARY KEY ((catalogue), name)) \
     WITH comment = 'the catalogue of Refold: registers that are moved by compare-and-set'",
);

/// The same of the table of isolated registers.
pub(crate) const ISOLATED_TABLE: (&str, &str) = (
    "owners",
    "(catalogue text, name text, revision bigint, value text, writers map<int, blob>, PRIMARY KEY ((catalogue, name))) \
     WITH comment = 'the catalogue of Refold: who runs what, each register in a partition of its own'",
);

/// How many revisions' writers are kept, each under the remainder of its revision, behind the revision itself.
const WRITERS: i64 = 64;
const REVISION_BYTES: usize = 8;
const WRITER_BYTES: usize = 16;

/// Registers that are read at once.
const READS_AT_ONCE: usize = 64;
/// An isolated register has nobody to wait for: what is not answered in this part of the time that a request has is tried once more, so that one
/// lost request does not cost a lease.
const ATTEMPTS_PER_TIMEOUT: u32 = 4;

/// The statements about registers.
pub(crate) struct RegisterStatements {
    listed: TableStatements,
    isolated: TableStatements,
    list: PreparedStatement,
}

/// The statements about the registers of a table.
struct TableStatements {
    set: PreparedStatement,
    get: PreparedStatement,
    /// Sees what a compare-and-set in progress comes to.
    settle: PreparedStatement,
}

impl RegisterStatements {
    pub async fn prepare(client: &Client, settings: &CassandraSettings) -> Result<RegisterStatements, Failure> {
        let table = |name: &str| format!("{}.{name}", quoted(&settings.keyspace));
        let listed = table(TABLE.0);
        let mut isolated = TableStatements::prepare(client, settings, &table(ISOLATED_TABLE.0)).await?;
        for statement in [&mut isolated.set, &mut isolated.settle] {
            statement.set_request_timeout(Some(settings.request_timeout() / ATTEMPTS_PER_TIMEOUT));
        }
        Ok(RegisterStatements {
            listed: TableStatements::prepare(client, settings, &listed).await?,
            isolated,
            list: client
                .prepare(&format!("SELECT name, revision, value FROM {listed} WHERE catalogue = ? AND name >= ? AND name < ?"))
                .await?,
        })
    }

    fn of(&self, key: &str) -> &TableStatements {
        if is_isolated(key) { &self.isolated } else { &self.listed }
    }
}

impl TableStatements {
    async fn prepare(client: &Client, settings: &CassandraSettings, table: &str) -> Result<TableStatements, Failure> {
        let one = "WHERE catalogue = ? AND name = ?";
        let mut set = client.prepare(&format!("UPDATE {table} SET revision = ?, value = ?, writers[?] = ? {one} IF revision = ?")).await?;
        // Sent again by the driver, it would find its own doing in its way.
        set.set_is_idempotent(false);
        set.set_retry_policy(Some(std::sync::Arc::new(FallthroughRetryPolicy)));
        let mut settle = client.prepare(&format!("SELECT revision, value, writers FROM {table} {one}")).await?;
        settle.set_consistency(settings.serial_read());
        Ok(TableStatements { set, get: client.prepare(&format!("SELECT revision, value FROM {table} {one}")).await?, settle })
    }
}

/// A register and who wrote its last revisions.
#[derive(Default)]
struct Settled {
    register: Option<Register>,
    writers: Vec<(i64, Vec<u8>)>,
}

/// A change to a register.
struct Change<'a> {
    key: &'a str,
    expected: Option<u64>,
    value: Option<&'a str>,
    /// The revision that it makes.
    revision: i64,
    writer: [u8; WRITER_BYTES],
}

impl Change<'_> {
    fn new<'a>(key: &'a str, expected: Option<u64>, value: Option<&'a str>, revision: u64) -> Result<Change<'a>, Failure> {
        let mut writer = [0; WRITER_BYTES];
        openssl::rand::rand_bytes(&mut writer).map_err(|error| Failure::broken(format!("no random numbers: {error}")))?;
        let revision = i64::try_from(revision).map_err(|_| Failure::broken(format!("no register has revision {revision}")))?;
        Ok(Change { key, expected, value, revision, writer })
    }
}

impl Registers for CassandraStore {
    fn get(&self, key: &str) -> Result<Option<Register>, StoreError> {
        self.client.wait(self.read(key)).map_err(|failure| failure.while_doing(&format!("reading register {key}")))
    }

    fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Register>>, StoreError> {
        let reads = futures::stream::iter(keys).map(|key| self.read(key)).buffered(READS_AT_ONCE).try_collect();
        self.client.wait(reads).map_err(|failure| failure.while_doing("reading registers"))
    }

    fn compare_and_set(&self, key: &str, expected: Option<u64>, value: Option<&str>) -> Result<Outcome, StoreError> {
        let set = async {
            let change = Change::new(key, expected, value, expected.unwrap_or(0) + 1)?;
            match is_isolated(key) {
                true => self.change_isolated(&change).await,
                false => self.change(&self.registers.listed, &change).await,
            }
        };
        self.client.wait(set).map_err(|failure| failure.while_doing(&format!("setting register {key}")))
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, Register)>, StoreError> {
        let read = async {
            let mut found = Vec::new();
            // Behind every name with this prefix.
            let end = format!("{prefix}{}", char::MAX);
            let mut from = scylla::response::PagingState::start();
            loop {
                let values = Values::new().with_text(&self.settings.catalogue).with_text(prefix).with_text(&end);
                let (answer, next) = self.client.page(&self.registers.list, values, from).await?;
                each_row(&answer, |row| {
                    let register = register(number(row, 1), text(row, 2));
                    found.extend(text(row, 0).filter(|name| !is_isolated(name)).zip(register));
                    Ok(())
                })?;
                match next {
                    Some(next) => from = next,
                    None => return Ok(found),
                }
            }
        };
        self.client.wait(read).map_err(|failure| failure.while_doing(&format!("listing the registers {prefix}")))
    }

    fn append_journal(&self, entry: &str) -> Result<(), StoreError> {
        self.add_entry(entry)
    }

    fn journal(&self, limit: usize) -> Result<Vec<String>, StoreError> {
        self.newest_entries(limit)
    }
}

impl CassandraStore {
    fn register_key(&self, key: &str) -> Values {
        Values::new().with_text(&self.settings.catalogue).with_text(key)
    }

    async fn read(&self, key: &str) -> Result<Option<Register>, Failure> {
        match self.row(self.registers.of(key), key).await? {
            Some(register) => Ok(register),
            None if is_isolated(key) => self.read_moved(key).await,
            None => Ok(None),
        }
    }

    /// A register's row, and what is in it: a row without a register is of one that was removed.
    async fn row(&self, of: &TableStatements, key: &str) -> Result<Option<Option<Register>>, Failure> {
        let answer = self.client.query(&of.get, self.register_key(key)).await?;
        let mut found = None;
        each_row(&answer, |row| {
            found = Some(register(number(row, 0), text(row, 1)));
            Ok(())
        })?;
        Ok(found)
    }

    /// Makes a change, until it is known what became of it.
    async fn change(&self, of: &TableStatements, change: &Change<'_>) -> Result<Outcome, Failure> {
        let deadline = Instant::now() + self.settings.request_timeout();
        let mut pause = Duration::from_millis(u64::from(change.writer.first().copied().unwrap_or(0)) / 16 + 1);
        let mut is_in_doubt = false;
        loop {
            let failure = match self.try_change(of, change).await {
                Ok(true) => return Ok(Outcome::Set(change.expected.unwrap_or(0) + 1)),
                Ok(false) => {
                    let settled = self.settle(of, change.key).await?;
                    // An attempt before this one may have been carried out after all, late: then its own change is what is in its way.
                    let there = settled.register.clone();
                    return match is_in_doubt {
                        true => Ok(judge(change, settled)?.unwrap_or(Outcome::Conflict(there))),
                        false => Ok(Outcome::Conflict(there)),
                    };
                }
                Err(failure) if failure.is_retryable() => failure,
                Err(failure) => return Err(failure),
            };
            let settled = self.settle(of, change.key).await?;
            if let Some(outcome) = judge(change, settled)? {
                return Ok(outcome);
            }
            is_in_doubt = true;
            // It was not carried out, and cannot be any more: the serial read has closed it.
            if Instant::now() + pause >= deadline {
                return Err(failure);
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    /// Whether a change was applied.
    async fn try_change(&self, of: &TableStatements, change: &Change<'_>) -> Result<bool, Failure> {
        let values = match change.value {
            Some(value) => Values::new().with_number(change.revision).with_text(value),
            None => Values::new().with_null().with_null(),
        };
        let place = i32::try_from(change.revision % WRITERS).unwrap_or_default();
        let values = values
            .with(&place.to_be_bytes())
            .with(&[&change.revision.to_be_bytes(), change.writer.as_slice()].concat())
            .with_text(&self.settings.catalogue)
            .with_text(change.key);
        let values = match change.expected {
            Some(_) => values.with_number(change.revision - 1),
            // Also of a register that was taken over from the other table, with the revision that it had there.
            None => values.with_null(),
        };
        let answer = self.client.query(&of.set, values).await?;
        let mut applied = false;
        each_row(&answer, |row| {
            applied = cell(row, 0) == Some(&[1]);
            Ok(())
        })?;
        Ok(applied)
    }

    async fn settle(&self, of: &TableStatements, key: &str) -> Result<Settled, Failure> {
        let answer = self.client.query(&of.settle, self.register_key(key)).await?;
        let mut settled = Settled::default();
        each_row(&answer, |row| {
            settled = Settled { register: register(number(row, 0), text(row, 1)), writers: writers(cell(row, 2).unwrap_or_default()) };
            Ok(())
        })?;
        Ok(settled)
    }
}

fn register(revision: Option<i64>, value: Option<String>) -> Option<Register> {
    Some(Register { value: value?, revision: revision?.try_into().ok()? })
}

/// The values of a CQL map of int to blob.
fn writers(map: &[u8]) -> Vec<(i64, Vec<u8>)> {
    let mut rest = map.get(4..).unwrap_or_default();
    let mut writers = Vec::new();
    while let (Some(_), Some(Some(written))) = (crate::rows::take(&mut rest), crate::rows::take(&mut rest)) {
        if let Some((revision, writer)) = written.split_first_chunk::<REVISION_BYTES>() {
            writers.push((i64::from_be_bytes(*revision), writer.to_vec()));
        }
    }
    writers
}

/// What became of a change whose outcome was unknown; `None`: nothing.
fn judge(change: &Change<'_>, settled: Settled) -> Result<Option<Outcome>, Failure> {
    let writer = settled.writers.iter().find(|(revision, _)| *revision == change.revision);
    if writer.is_some_and(|(_, writer)| *writer == change.writer) {
        return Ok(Some(Outcome::Set(change.expected.unwrap_or(0) + 1)));
    }
    let there = settled.register.as_ref().map(|register| register.revision);
    if there == change.expected {
        return Ok(None);
    }
    // Someone else's change stands where this one would, or before it.
    let is_behind = there.is_none_or(|revision| i64::try_from(revision).is_ok_and(|revision| revision < change.revision));
    if writer.is_some() || is_behind {
        return Ok(Some(Outcome::Conflict(settled.register)));
    }
    Err(Failure::unavailable("it is not known whether it was set: it was changed too often since; read it again"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

    use super::*;

    fn change(expected: Option<u64>) -> Change<'static> {
        let revision = i64::try_from(expected.unwrap_or(0)).unwrap() + 1;
        Change { key: "k", expected, value: Some("v"), revision, writer: [7; WRITER_BYTES] }
    }

    fn settled(revision: Option<u64>, writers: &[(i64, u8)]) -> Settled {
        let register = revision.map(|revision| Register { value: "there".into(), revision });
        Settled { register, writers: writers.iter().map(|(revision, byte)| (*revision, vec![*byte; WRITER_BYTES])).collect() }
    }

    /// A truth table: what is found after a time-out, and what it means.
    #[test]
    fn the_outcome_of_a_change_can_be_told_afterwards() {
        let conflict = |settled: &Settled| Some(Outcome::Conflict(settled.register.clone()));
        let cases = [
            (Some(4), settled(Some(5), &[(4, 1), (5, 7)]), "carried out"),
            (Some(4), settled(Some(9), &[(5, 7), (9, 1)]), "carried out, and others went on"),
            (Some(4), settled(None, &[(5, 7), (6, 1)]), "carried out, and removed since"),
            (None, settled(Some(1), &[(1, 7)]), "created"),
            (Some(4), settled(Some(5), &[(5, 1)]), "someone else was first"),
            (Some(4), settled(Some(9), &[(5, 1), (9, 1)]), "someone else was first, and others went on"),
            (Some(4), settled(None, &[(4, 1)]), "it is gone"),
            (Some(4), settled(Some(2), &[(2, 1)]), "gone and made again"),
            (Some(4), settled(Some(4), &[(4, 1)]), "nothing happened"),
            (None, settled(None, &[]), "nothing was there, nothing is"),
        ];
        for (expected, found, told) in cases {
            let change = change(expected);
            let set = Some(Outcome::Set(expected.unwrap_or(0) + 1));
            let outcome = match told {
                told if told.starts_with("carried") || told == "created" => set,
                told if told.starts_with("nothing") => None,
                _ => conflict(&found),
            };
            assert_eq!(judge(&change, found).unwrap(), outcome, "{told}");
        }
        assert!(judge(&change(Some(4)), settled(Some(900), &[(900, 1)])).is_err(), "too long ago to tell");
    }
}
