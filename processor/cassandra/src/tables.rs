//! Tables of rows: finding out what is there, making and dropping them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use refold_processor::store::{RowCodec, ShapeDescription, StoreError};
use refold_processor::table::Table;
use scylla::statement::Consistency;
use scylla::statement::prepared::PreparedStatement;

use crate::CassandraStore;
use crate::error::Failure;
use crate::rows::{Values, cell, each_row, text};
use crate::settings::is_name;
use crate::statements::{TableCql, qualified, roles};
use crate::types::Role;

/// Cassandra's own identity of a table: one that was dropped and made again has another.
pub(crate) type TableId = [u8; 16];

/// A table in use.
pub(crate) struct OpenTable {
    pub name: String,
    pub id: TableId,
    pub codec: RowCodec,
    pub cql: TableCql,
    pub roles: Vec<Role>,
    pub upsert: PreparedStatement,
    pub delete: PreparedStatement,
    /// The greatest timestamp that this process has written a row with.
    written_at: AtomicI64,
}

impl OpenTable {
    /// Notes that rows are written with timestamps up to this one.
    pub fn writes_at(&self, written_at: i64) {
        self.written_at.fetch_max(written_at, Ordering::Relaxed);
    }

    /// The greatest timestamp that this process has written a row with, if it has.
    pub fn last_write(&self) -> Option<i64> {
        Some(self.written_at.load(Ordering::Relaxed)).filter(|written_at| *written_at != i64::MIN)
    }
}

/// What the cluster knows of a table.
struct Found {
    id: TableId,
    /// `None`: it was not made by Refold.
    shape: Option<ShapeDescription>,
}

impl CassandraStore {
    /// The table in use, if it has the shape asked for.
    pub(crate) fn table(&self, table: &Table) -> Result<Arc<OpenTable>, StoreError> {
        let known = self.tables.read().get(&table.name()).map(Arc::clone);
        match known {
            Some(open) if *open.codec.shape() == table.shape => Ok(open),
            Some(open) => {
                ShapeDescription::of(open.codec.shape()).require(table)?;
                Ok(open)
            }
            None => self.find_table(table),
        }
    }

    /// The same, of what the cluster says now: another process may have dropped the table and made it again.
    pub(crate) fn find_table(&self, table: &Table) -> Result<Arc<OpenTable>, StoreError> {
        let name = table.name();
        let failed = |failure: Failure| failure.of_table("opening table", &name);
        let Some(found) = self.client.wait(self.look_up(&name)).map_err(failed)? else {
            self.tables.write().remove(&name);
            return Err(StoreError::UnknownTable(name));
        };
        require(found.shape.as_ref(), table)?;
        if let Some(open) = self.tables.read().get(&name)
            && open.id == found.id
        {
            return Ok(Arc::clone(open));
        }
        let codec = RowCodec::new(table)?;
        let cql = TableCql::of(&self.settings.keyspace, table)?;
        let prepared =
            self.client.wait(async { Ok((self.client.prepare(&cql.upsert()).await?, self.client.prepare(&cql.delete()).await?)) });
        let (upsert, delete) = prepared.map_err(failed)?;
        let roles = roles(&codec);
        let written_at = AtomicI64::new(i64::MIN);
        let open = Arc::new(OpenTable { name: name.clone(), id: found.id, codec, cql, roles, upsert, delete, written_at });
        self.tables.write().insert(name, Arc::clone(&open));
        Ok(open)
    }

    async fn look_up(&self, name: &str) -> Result<Option<Found>, Failure> {
        let cql = "SELECT id, comment FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?";
        let mut prepared = self.client.prepare(cql).await?;
        // Each node has the whole schema.
        prepared.set_consistency(Consistency::One);
        let answer = self.client.query(&prepared, Values::new().with_text(&self.settings.keyspace).with_text(name)).await?;
        let mut found = None;
        each_row(&answer, |row| {
            let id = cell(row, 0).and_then(|id| id.try_into().ok()).ok_or_else(|| Failure::broken("a table without an identity"))?;
            let shape = text(row, 1).and_then(|comment| serde_json::from_str(&comment).ok());
            found = Some(Found { id, shape });
            Ok(())
        })?;
        Ok(found)
    }

    pub(crate) fn make_table(&self, table: &Table) -> Result<(), StoreError> {
        RowCodec::new(table)?;
        let name = table.name();
        let create = TableCql::of(&self.settings.keyspace, table)?.create(table, self.table_options)?;
        let failed = |failure: Failure| failure.of_table("making table", &name);
        if let Some(found) = self.client.wait(self.look_up(&name)).map_err(failed)? {
            return require(found.shape.as_ref(), table);
        }
        self.client.wait(self.client.define(&create)).map_err(failed)?;
        self.find_table(table).map(|_| ())
    }

    pub(crate) fn remove_table(&self, table: &Table) -> Result<(), StoreError> {
        let name = table.name();
        if !is_name(&name) {
            // No such table was ever made.
            return Ok(());
        }
        let qualified = qualified(&self.settings.keyspace, table)?;
        let failed = |failure: Failure| failure.of_table("dropping table", &name);
        let found = self.client.wait(self.look_up(&name)).map_err(failed)?;
        self.tables.write().remove(&name);
        self.client.forget(&qualified);
        let Some(found) = found else { return Ok(()) };
        if found.shape.is_none() {
            return Err(StoreError::Broken(format!("table {name} was not made by Refold, so it is not dropped; drop it by hand")));
        }
        self.client.wait(self.client.define(&format!("DROP TABLE IF EXISTS {qualified}"))).map_err(failed)?;
        // Should this be missed, a few rows are left that nobody reads: a table made again has another identity.
        self.forget_progress(&name, found.id)
    }
}

fn require(found: Option<&ShapeDescription>, table: &Table) -> Result<(), StoreError> {
    match found {
        Some(shape) => shape.require(table),
        None => Err(StoreError::OtherShape { table: table.name(), difference: "it was not made by Refold".into() }),
    }
}
