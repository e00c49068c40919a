//! Rows in the form they travel in, put together into batches that hold whole partitions of one replica set.
//!
//! A batch costs the cluster least when its rows belong to one partition, and little when its partitions are on the same nodes: then no node has
//! to pass parts of it on to others.

use std::collections::HashMap;

use refold_processor::json;
use refold_processor::store::{RowBatch, StoreError};
use scylla::cluster::ClusterState;
use scylla::cluster::metadata::Strategy;
use scylla::frame::response::result::TableSpec;
use scylla::routing::partitioner::{Murmur3Partitioner, Partitioner, PartitionerHasher};

use crate::rows::{WireRow, cells, put};
use crate::settings::CassandraSettings;
use crate::tables::OpenTable;
use crate::types::{Encoder, Role, encoder};

/// How many bytes a key may have.
const MOST_KEY_BYTES: usize = u16::MAX as usize;
/// A cell begins with its length.
const LENGTH_BYTES: usize = 4;
/// How much of a value an error shows.
const SHOWN_CHARACTERS: usize = 60;
/// What a row takes in a batch beyond its values.
const ROW_OVERHEAD: usize = 24;

/// Encoded rows and the batches that they go in.
pub(crate) struct Packed<'a> {
    wire: Vec<u8>,
    /// Where each row ends.
    ends: Vec<usize>,
    deleted: &'a [bool],
    first: usize,
    /// The rows of each batch.
    pub batches: Vec<Vec<u32>>,
}

impl Packed<'_> {
    /// The values of a row, in the order of its statement.
    pub fn row(&self, row: u32) -> WireRow<'_> {
        let row = row as usize;
        let start = row.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        WireRow(self.ends.get(row).and_then(|end| self.wire.get(start..*end)).unwrap_or_default())
    }

    /// Whether a row is to be deleted.
    pub fn is_deleted(&self, row: u32) -> bool {
        self.deleted.get(self.first + row as usize).copied().unwrap_or(false)
    }
}

/// Packs rows of a batch that was checked.
pub(crate) struct Packer<'a> {
    open: &'a OpenTable,
    rows: &'a RowBatch,
    columns: Vec<Encoder<'a>>,
    settings: &'a CassandraSettings,
    placement: Placement<'a>,
}

impl<'a> Packer<'a> {
    pub fn new(
        open: &'a OpenTable,
        rows: &'a RowBatch,
        settings: &'a CassandraSettings,
        cluster: &'a ClusterState,
    ) -> Result<Self, StoreError> {
        let columns: Result<Vec<Encoder<'a>>, String> =
            rows.rows.columns().iter().zip(&open.roles).map(|(column, role)| encoder(column, *role)).collect();
        let columns = columns.map_err(|text| StoreError::Refused(format!("table {}: {text}", open.name)))?;
        Ok(Packer { open, rows, columns, settings, placement: Placement::new(cluster, &settings.keyspace, &open.name) })
    }

    /// Packs some of the rows.
    pub fn pack(&self, rows: std::ops::Range<usize>) -> Result<Packed<'a>, StoreError> {
        let mut packed = Packed {
            wire: Vec::new(),
            ends: Vec::with_capacity(rows.len()),
            deleted: &self.rows.deleted,
            first: rows.start,
            batches: Vec::new(),
        };
        let mut batches = Batches { settings: self.settings, open: HashMap::new(), full: Vec::new() };
        let mut partition: Vec<u8> = Vec::new();
        let mut next_partition: Vec<u8> = Vec::new();
        let mut run = Run::default();
        for (number, row) in rows.enumerate() {
            next_partition.clear();
            for column in &self.open.codec.shape().partition_key {
                self.cell(*column, row, &mut next_partition)?;
            }
            if next_partition != partition {
                self.check_partition(row, &next_partition)?;
                batches.add(&run, || self.placement.of(&partition));
                run = Run::default();
                std::mem::swap(&mut partition, &mut next_partition);
            }
            let start = packed.wire.len();
            self.row(row, &mut packed.wire)?;
            packed.ends.push(packed.wire.len());
            run.rows.push((u32::try_from(number).unwrap_or(u32::MAX), packed.wire.len() - start + ROW_OVERHEAD));
        }
        batches.add(&run, || self.placement.of(&partition));
        packed.batches = batches.finish();
        Ok(packed)
    }

    fn row(&self, row: usize, wire: &mut Vec<u8>) -> Result<(), StoreError> {
        let written_at = self.rows.written_at.get(row).copied().unwrap_or_default();
        let shape = self.open.codec.shape();
        if self.rows.deleted.get(row).copied().unwrap_or(false) {
            put(wire, &written_at.to_be_bytes());
            let clustering = shape.clustering.iter().map(|(column, _)| column);
            shape.partition_key.iter().chain(clustering).try_for_each(|column| self.cell(*column, row, wire))
        } else {
            (0..self.columns.len()).try_for_each(|column| self.cell(column, row, wire))?;
            put(wire, &written_at.to_be_bytes());
            Ok(())
        }
    }

    fn cell(&self, column: usize, row: usize, wire: &mut Vec<u8>) -> Result<(), StoreError> {
        let Some(encoder) = self.columns.get(column) else { return Ok(()) };
        let start = wire.len();
        encoder.cell(row, wire).map_err(|text| self.refused(row, Some(column), &text))?;
        let bytes = wire.len() - start - LENGTH_BYTES;
        if bytes > MOST_KEY_BYTES && self.open.roles.get(column) != Some(&Role::Value) {
            return Err(self.refused(row, Some(column), &too_long(bytes)));
        }
        Ok(())
    }

    /// A partition key of several columns is kept as one value, with three bytes beside each.
    fn check_partition(&self, row: usize, partition: &[u8]) -> Result<(), StoreError> {
        let columns = self.open.codec.shape().partition_key.len();
        let bytes = partition.len() - columns * (LENGTH_BYTES - 3);
        if columns > 1 && bytes > MOST_KEY_BYTES {
            return Err(self.refused(row, None, &too_long(bytes)));
        }
        Ok(())
    }

    /// Cassandra cannot hold this row: which one, and what of it.
    fn refused(&self, row: usize, column: Option<usize>, why: &str) -> StoreError {
        let shape = self.open.codec.shape();
        let key: Vec<String> = shape
            .key_columns()
            .filter_map(|column| Some((shape.columns.field(column).name(), self.rows.rows.columns().get(column)?)))
            .map(|(name, values)| format!("{name} = {}", shortened(&json::value(values.as_ref(), row).to_string())))
            .collect();
        let what = match column {
            Some(column) => format!("column {}", shape.columns.field(column).name()),
            None => "the partition key".to_owned(),
        };
        StoreError::Refused(format!(
            "row ({}) of table {} cannot be written: {what}: {why}; replay the view with an expression that gives no such value",
            key.join(", "),
            self.open.name
        ))
    }
}

fn too_long(bytes: usize) -> String {
    format!("{bytes} bytes in a key, where Cassandra takes at most {MOST_KEY_BYTES}")
}

/// The beginning of a value, for people.
fn shortened(value: &str) -> String {
    match value.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}…", value.get(..end).unwrap_or_default()),
        None => value.to_owned(),
    }
}

/// Rows of one partition that follow each other, and how many bytes each takes.
#[derive(Default)]
struct Run {
    rows: Vec<(u32, usize)>,
}

/// The batches that are being filled, one for each replica set.
struct Batches<'a> {
    settings: &'a CassandraSettings,
    open: HashMap<u64, OpenBatch>,
    full: Vec<Vec<u32>>,
}

#[derive(Default)]
struct OpenBatch {
    rows: Vec<u32>,
    bytes: usize,
    partitions: usize,
}

impl Batches<'_> {
    fn add(&mut self, run: &Run, replicas: impl FnOnce() -> u64) {
        if run.rows.is_empty() {
            return;
        }
        let settings = self.settings;
        let batch = self.open.entry(replicas()).or_default();
        let bytes: usize = run.rows.iter().map(|(_, bytes)| bytes).sum();
        let fits = batch.rows.len() + run.rows.len() <= settings.batch_rows
            && batch.bytes + bytes <= settings.batch_bytes
            && batch.partitions < settings.batch_partitions;
        if !fits && !batch.rows.is_empty() {
            self.full.push(std::mem::take(batch).rows);
        }
        batch.partitions += 1;
        for (row, bytes) in &run.rows {
            // A partition that does not fit in one batch goes in several of its own.
            if !batch.rows.is_empty() && (batch.rows.len() == settings.batch_rows || batch.bytes + bytes > settings.batch_bytes) {
                self.full.push(std::mem::replace(batch, OpenBatch { partitions: 1, ..OpenBatch::default() }).rows);
            }
            batch.rows.push(*row);
            batch.bytes += bytes;
        }
    }

    fn finish(mut self) -> Vec<Vec<u32>> {
        self.full.extend(self.open.into_values().map(|batch| batch.rows).filter(|rows| !rows.is_empty()));
        self.full
    }
}

/// Which nodes a partition is on.
struct Placement<'a> {
    /// `None`: all partitions are on the same nodes.
    cluster: Option<(&'a ClusterState, &'a Strategy)>,
    table: TableSpec<'a>,
}

impl<'a> Placement<'a> {
    fn new(cluster: &'a ClusterState, keyspace: &'a str, table: &'a str) -> Self {
        let strategy = cluster.get_keyspace(keyspace).map(|keyspace| &keyspace.strategy);
        let is_spread = cluster.get_nodes_info().len() > 1;
        Placement {
            cluster: strategy.filter(|_| is_spread).map(|strategy| (cluster, strategy)),
            table: TableSpec::borrowed(keyspace, table),
        }
    }

    /// A number for the set of replicas of a partition, given as encoded cells.
    fn of(&self, partition: &[u8]) -> u64 {
        let Some((cluster, strategy)) = self.cluster else { return 0 };
        let mut hasher = Murmur3Partitioner.build_hasher();
        let mut parts = cells(partition).map(Option::unwrap_or_default);
        let count = cells(partition).count();
        if count == 1 {
            hasher.write(parts.next().unwrap_or_default());
        } else {
            for part in parts {
                let length = u16::try_from(part.len()).unwrap_or(u16::MAX);
                hasher.write(&length.to_be_bytes());
                hasher.write(part);
                hasher.write(&[0]);
            }
        }
        let replicas = cluster.replica_locator().replicas_for_token(hasher.finish(), strategy, None, &self.table);
        // The sum does not depend on the order; identities are random, so sums of different sets differ.
        replicas.into_iter().fold(0, |sum: u64, (node, _)| {
            let (high, low) = node.host_id.as_u64_pair();
            sum.wrapping_add(high.rotate_left(17) ^ low)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

    use super::*;

    fn packed(settings: &CassandraSettings, partitions: &[(u64, usize, usize)]) -> Vec<Vec<u32>> {
        let mut batches = Batches { settings, open: HashMap::new(), full: Vec::new() };
        let mut next = 0;
        for (replicas, rows, bytes) in partitions {
            let run = Run { rows: (next..next + *rows as u32).map(|row| (row, *bytes)).collect() };
            next += *rows as u32;
            batches.add(&run, || *replicas);
        }
        let mut batches = batches.finish();
        batches.sort();
        batches
    }

    fn settings() -> CassandraSettings {
        CassandraSettings { batch_rows: 4, batch_partitions: 3, batch_bytes: 100, ..CassandraSettings::default() }
    }

    #[test]
    fn batches_hold_whole_partitions_of_one_replica_set() {
        assert_eq!(packed(&settings(), &[(1, 3, 1), (1, 2, 1), (1, 1, 1)]), [vec![0, 1, 2], vec![3, 4, 5]]);
        assert_eq!(packed(&settings(), &[(1, 1, 1), (2, 1, 1), (1, 1, 1), (2, 1, 1)]), [vec![0, 2], vec![1, 3]]);
        assert_eq!(packed(&settings(), &[(1, 1, 1), (1, 1, 1), (1, 1, 1), (1, 1, 1)]), [vec![0, 1, 2], vec![3]]);
    }

    #[test]
    fn a_partition_that_is_too_large_goes_in_batches_of_its_own() {
        assert_eq!(packed(&settings(), &[(1, 1, 1), (1, 9, 1), (1, 2, 1)]), [vec![0], vec![1, 2, 3, 4], vec![5, 6, 7, 8], vec![9, 10, 11]]);
        assert_eq!(packed(&settings(), &[(1, 2, 60), (1, 1, 500), (1, 1, 1)]), [vec![0], vec![1], vec![2], vec![3]]);
    }
}
