//! The write side.

use refold_processor::store::{Progress, RowBatch, RowWriter, StoreError};
use refold_processor::table::{Epoch, Table};

use crate::CassandraStore;
use crate::batches::Packer;

/// How many rows are encoded at a time.
const ROWS_A_STEP: usize = 16 << 10;

impl RowWriter for CassandraStore {
    fn create_table(&self, table: &Table) -> Result<(), StoreError> {
        self.make_table(table)
    }

    fn drop_table(&self, table: &Table) -> Result<(), StoreError> {
        self.remove_table(table)
    }

    fn write(&self, table: &Table, rows: &RowBatch) -> Result<(), StoreError> {
        let open = self.table(table)?;
        open.codec.check(rows)?;
        let (Some(first), Some(last)) = (rows.written_at.iter().min(), rows.written_at.iter().max()) else { return Ok(()) };
        // Cassandra 5 accepts the deletion of a partition before 0, and then cannot read the file that it has written it to.
        if *first < 0 {
            return Err(StoreError::Broken(format!("a row of table {} is written at {first}; timestamps begin at 0", open.name)));
        }
        open.writes_at(*last);
        let cluster = self.client.session.get_cluster_state();
        let packer = Packer::new(&open, rows, &self.settings, &cluster)?;
        let count = rows.rows.num_rows();
        for start in (0..count).step_by(ROWS_A_STEP) {
            let packed = packer.pack(start..(start + ROWS_A_STEP).min(count))?;
            self.send(&open, &packed).inspect_err(|error| self.note(error))?;
        }
        Ok(())
    }

    fn fence(&self, table: &Table, epoch: Epoch) -> Result<Progress, StoreError> {
        self.announce(table, epoch)
    }

    fn tell(&self, table: &Table, epoch: Epoch, progress: &Progress) -> Result<(), StoreError> {
        self.say(table, epoch, progress)
    }

    /// Nothing is left to do: a write returns when enough replicas have acknowledged it, and CQL has no word for more. How much that is worth is up to
    /// the cluster: with three replicas it outlives any one of them; with one replica and `commitlog_sync: periodic`, Cassandra's default, the last
    /// tenth of a second is lost with the node's process, and up to ten seconds with its machine. A single node should have
    /// `commitlog_sync: batch` or `group`.
    fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn reclaim(&self, table: &Table, column: usize, before_us: i64) -> Result<(), StoreError> {
        self.give_back(table, column, before_us)
    }
}

impl CassandraStore {
    /// Forgets a table that turned out not to be there any more.
    pub(crate) fn note(&self, error: &StoreError) {
        if let StoreError::UnknownTable(name) = error {
            self.tables.write().remove(name);
        }
    }
}
