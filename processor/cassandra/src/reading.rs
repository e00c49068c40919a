//! The read side.
//!
//! A read follows the clustering order. A page that goes on after a row asks for what comes after it in pieces, from the inside out: the rows that
//! share all but its last clustering value, then those that share all but the last two, and so on. CQL can compare whole tuples of clustering
//! columns, but only where all of them have the same direction.

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::scalar::ScalarValue;
use futures::channel::mpsc::{Sender, channel};
use futures::{SinkExt, StreamExt, TryStreamExt};
use refold_processor::store::{Keys, KeysRead, Page, PartitionRead, Progress, RowReader, StoreError};
use refold_processor::table::{Order, Table};
use scylla::response::PagingState;

use crate::CassandraStore;
use crate::error::Failure;
use crate::rows::{Values, cells, each_row, put};
use crate::tables::OpenTable;
use crate::types::{Decoder, Role, decoder, encoder};

/// How many pieces of the ring are scanned at once.
pub(crate) const SCANS_AT_ONCE: usize = 4;
/// Pieces of the ring for each node.
const PIECES_A_NODE: usize = 16;

impl RowReader for CassandraStore {
    fn read(&self, table: &Table, read: &PartitionRead) -> Result<Page, StoreError> {
        let open = self.table(table)?;
        let range = open.codec.range(&PartitionRead { cursor: None, ..read.clone() })?;
        let last = open.codec.resume(&range, read)?;
        let mut rows = Rows::new(&open)?;
        if range.is_empty() {
            return Ok(Page { rows: rows.finish(table)?, next: None });
        }
        let pieces = pieces(&open, read, last)?;
        // One row more, to know whether there is a next page.
        let wanted = read.limit.saturating_add(1);
        let mut seen = 0;
        let mut last_key: Vec<u8> = Vec::new();
        let fetch = async {
            for piece in &pieces {
                if seen < wanted {
                    self.fetch(&open, piece, wanted - seen, &mut |row| {
                        seen += 1;
                        if seen > read.limit {
                            return Ok(());
                        }
                        if seen == read.limit {
                            last_key = clustering_of(&open, row);
                        }
                        rows.push(row)
                    })
                    .await?;
                }
            }
            Ok(())
        };
        self.client.wait(fetch).map_err(|failure| failure.of_table("reading table", &open.name)).inspect_err(|error| self.note(error))?;
        let next = (seen > read.limit).then(|| open.codec.cursor_at(&range, &last_key));
        Ok(Page { rows: rows.finish(table)?, next })
    }

    fn scan_each(&self, table: &Table, each: &mut dyn FnMut(RecordBatch) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let open = self.table(table)?;
        let cql = format!("SELECT {} FROM {} WHERE {}", open.cql.columns, open.cql.qualified, piece_condition(&open));
        let (sender, mut batches) = channel(SCANS_AT_ONCE);
        let mut ended: Option<StoreError> = None;
        let (open, cql) = (&open, cql.as_str());
        let scan = async {
            // The sender goes with the pieces, so that the batches end when all are read.
            let pieces = futures::stream::iter(self.ring()).map(move |piece| self.scan_piece(open, table, cql, piece, sender.clone()));
            let read = pieces.buffer_unordered(SCANS_AT_ONCE).try_for_each(|()| std::future::ready(Ok(())));
            let hand_on = async {
                while let Some(batch) = batches.next().await {
                    if let Err(error) = each(batch) {
                        let why = error.to_string();
                        ended = Some(error);
                        return Err(Failure::broken(why));
                    }
                }
                Ok(())
            };
            futures::try_join!(read, hand_on).map(|((), ())| ())
        };
        let scanned = self.client.wait(scan);
        if let Some(error) = ended {
            return Err(error);
        }
        scanned.map_err(|failure| failure.of_table("scanning table", &open.name)).inspect_err(|error| self.note(error))
    }

    fn keys(&self, table: &Table, read: &KeysRead) -> Result<Keys, StoreError> {
        self.list_keys(table, read)
    }

    fn progress(&self, table: &Table) -> Result<Option<Progress>, StoreError> {
        self.told(table)
    }
}

impl CassandraStore {
    /// Hands on the rows of a piece of a partition, in order.
    async fn fetch(
        &self,
        open: &OpenTable,
        piece: &Piece,
        limit: usize,
        row: &mut dyn FnMut(&[Option<&[u8]>]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let cql =
            format!("SELECT {} FROM {} WHERE {}{} LIMIT ?", open.cql.columns, open.cql.qualified, open.cql.in_partition, piece.condition);
        let mut prepared = self.client.prepare(&cql).await?;
        let page_rows = limit.min(self.settings.page_rows);
        prepared.set_page_size(i32::try_from(page_rows).unwrap_or(i32::MAX));
        let limit = i32::try_from(limit).unwrap_or(i32::MAX);
        let mut from = PagingState::start();
        loop {
            let (answer, next) = self.client.page(&prepared, piece.values.clone().with(&limit.to_be_bytes()), from).await?;
            each_row(&answer, |cells| row(cells))?;
            match next {
                Some(next) => from = next,
                None => return Ok(()),
            }
        }
    }

    async fn scan_piece(
        &self,
        open: &OpenTable,
        table: &Table,
        cql: &str,
        piece: (i64, i64),
        mut batches: Sender<RecordBatch>,
    ) -> Result<(), Failure> {
        let broken = |error: StoreError| Failure::broken(error.to_string());
        let mut prepared = self.client.prepare(cql).await?;
        prepared.set_page_size(i32::try_from(self.settings.page_rows).unwrap_or(i32::MAX));
        let mut from = PagingState::start();
        loop {
            let (answer, next) = self.client.page(&prepared, piece_values(piece), from).await?;
            let mut rows = Rows::new(open).map_err(broken)?;
            each_row(&answer, |row| rows.push(row))?;
            // Whoever takes them has ended the scan if it takes none.
            if rows.count > 0 && batches.send(rows.finish(table).map_err(broken)?).await.is_err() {
                return Ok(());
            }
            match next {
                Some(next) => from = next,
                None => return Ok(()),
            }
        }
    }

    /// The ring of tokens in pieces, each after its first token and up to its second.
    pub(crate) fn ring(&self) -> Vec<(i64, i64)> {
        let pieces = self.client.session.get_cluster_state().get_nodes_info().len().max(1) * PIECES_A_NODE;
        let width = u64::MAX / pieces as u64;
        let start = |piece: usize| if piece == pieces { i64::MAX } else { i64::MIN.wrapping_add_unsigned(width * piece as u64) };
        (0..pieces).map(|piece| (start(piece), start(piece + 1))).collect()
    }
}

/// The condition for a piece of the ring, and its values.
pub(crate) fn piece_condition(open: &OpenTable) -> String {
    format!("token({0}) > ? AND token({0}) <= ?", open.cql.partition_key)
}

pub(crate) fn piece_values(piece: (i64, i64)) -> Values {
    Values::new().with_number(piece.0).with_number(piece.1)
}

/// Part of a partition.
struct Piece {
    /// What is asked beyond the partition.
    condition: String,
    values: Values,
}

fn scalar(open: &OpenTable, column: usize, role: Role, value: &ScalarValue) -> Result<Vec<u8>, StoreError> {
    let broken = |text: String| StoreError::Broken(format!("table {}: {text}", open.name));
    let array = value.to_array().map_err(|error| broken(error.to_string()))?;
    let mut wire = Vec::new();
    let name = || open.codec.shape().columns.field(column).name().clone();
    encoder(&array, role).and_then(|encoder| encoder.cell(0, &mut wire)).map_err(|text| broken(format!("column {}: {text}", name())))?;
    Ok(wire)
}

/// A value of a column, encoded.
pub(crate) fn encode_scalar(open: &OpenTable, column: usize, value: &ScalarValue) -> Result<Vec<u8>, StoreError> {
    scalar(open, column, open.roles.get(column).copied().unwrap_or(Role::Value), value)
}

/// What to ask for, one after the other.
fn pieces(open: &OpenTable, read: &PartitionRead, last: Option<&[u8]>) -> Result<Vec<Piece>, StoreError> {
    let mut partition = Values::new();
    for (column, value) in open.codec.shape().partition_key.iter().zip(&read.partition) {
        partition = partition.with_cells(&encode_scalar(open, *column, value)?);
    }
    let from = read.from.as_ref().map(|from| (">=", from));
    let to = read.to.as_ref().map(|to| ("<", to));
    let Some(((first, order), last)) = open.cql.clustering.first().zip(last) else {
        return Ok(vec![bounded(open, partition, [from, to])?]);
    };
    let last = cursor_cells(open, last)?;
    let stands_at = first_value(open, last.first().copied().unwrap_or_default())?;
    // A cursor may be used with other bounds than it was made with.
    let is_before = |bound: &ScalarValue| stands_at.partial_cmp(bound).is_some_and(std::cmp::Ordering::is_lt);
    let below_from = read.from.as_ref().is_some_and(is_before);
    let above_to = read.to.as_ref().is_some_and(|to| !is_before(to));
    match (order, below_from, above_to) {
        (Order::Asc, true, _) | (Order::Desc, _, true) => return Ok(vec![bounded(open, partition, [from, to])?]),
        (Order::Asc, _, true) | (Order::Desc, true, _) => return Ok(Vec::new()),
        _ => {}
    }
    let mut pieces = Vec::new();
    for depth in (1..open.cql.clustering.len()).rev() {
        pieces.push(after(open, partition.clone(), &last, depth));
    }
    let outermost = last.first().copied().unwrap_or_default();
    let (comparison, other) = match order {
        Order::Asc => (">", to),
        Order::Desc => ("<", from),
    };
    let mut piece = bounded(open, partition, [other, None])?;
    piece.condition.push_str(&format!(" AND {first} {comparison} ?"));
    piece.values = piece.values.with(outermost);
    pieces.push(piece);
    Ok(pieces)
}

/// The rows of a partition within bounds of the first clustering column.
fn bounded(open: &OpenTable, partition: Values, bounds: [Option<(&str, &ScalarValue)>; 2]) -> Result<Piece, StoreError> {
    let mut piece = Piece { condition: String::new(), values: partition };
    if let (Some((name, _)), Some((column, _))) = (open.cql.clustering.first(), open.codec.shape().clustering.first()) {
        for (comparison, value) in bounds.into_iter().flatten() {
            piece.condition.push_str(&format!(" AND {name} {comparison} ?"));
            piece.values = piece.values.with_cells(&encode_scalar(open, *column, value)?);
        }
    }
    Ok(piece)
}

/// The rows that share the first `depth` clustering values with a row, and come after it.
fn after(open: &OpenTable, partition: Values, last: &[&[u8]], depth: usize) -> Piece {
    let mut piece = Piece { condition: String::new(), values: partition };
    for (index, ((name, order), value)) in open.cql.clustering.iter().zip(last).enumerate().take(depth + 1) {
        let comparison = match order {
            _ if index < depth => "=",
            Order::Asc => ">",
            Order::Desc => "<",
        };
        piece.condition.push_str(&format!(" AND {name} {comparison} ?"));
        piece.values = std::mem::take(&mut piece.values).with(value);
    }
    piece
}

/// The clustering values of a row, as a cursor has them.
fn clustering_of(open: &OpenTable, row: &[Option<&[u8]>]) -> Vec<u8> {
    let mut wire = Vec::new();
    for (column, _) in &open.codec.shape().clustering {
        put(&mut wire, crate::rows::cell(row, *column).unwrap_or_default());
    }
    wire
}

fn cursor_cells<'a>(open: &OpenTable, last: &'a [u8]) -> Result<Vec<&'a [u8]>, StoreError> {
    let values: Vec<&[u8]> = cells(last).flatten().collect();
    let bytes: usize = values.iter().map(|value| value.len() + 4).sum();
    if values.len() != open.cql.clustering.len() || bytes != last.len() {
        return Err(StoreError::Broken(format!(
            "the cursor was made by another kind of view store than that of table {}; start again without it",
            open.name
        )));
    }
    Ok(values)
}

/// The first clustering column's value of a cursor.
fn first_value(open: &OpenTable, cell: &[u8]) -> Result<ScalarValue, StoreError> {
    let broken =
        |text: String| StoreError::Broken(format!("the cursor cannot be read for table {}: {text}; start again without it", open.name));
    let shape = open.codec.shape();
    let Some((column, _)) = shape.clustering.first() else { return Ok(ScalarValue::Null) };
    let mut column = decoder(shape.columns.field(*column).data_type(), Role::Key).map_err(broken)?;
    column.push(Some(cell)).map_err(broken)?;
    let value: ArrayRef = column.finish().map_err(broken)?;
    ScalarValue::try_from_array(&value, 0).map_err(|error| broken(error.to_string()))
}

/// Rows on their way to being columns.
pub(crate) struct Rows {
    columns: Vec<Box<dyn Decoder>>,
    names: Vec<String>,
    count: usize,
}

impl Rows {
    fn new(open: &OpenTable) -> Result<Rows, StoreError> {
        let fields = open.codec.shape().columns.fields();
        let columns: Result<Vec<Box<dyn Decoder>>, String> =
            fields.iter().zip(&open.roles).map(|(field, role)| decoder(field.data_type(), *role)).collect();
        let columns = columns.map_err(|text| StoreError::Broken(format!("table {}: {text}", open.name)))?;
        Ok(Rows { columns, names: fields.iter().map(|field| field.name().clone()).collect(), count: 0 })
    }

    fn push(&mut self, row: &[Option<&[u8]>]) -> Result<(), Failure> {
        for ((column, cell), name) in self.columns.iter_mut().zip(row).zip(&self.names) {
            column.push(*cell).map_err(|text| Failure::broken(format!("column {name}: {text}")))?;
        }
        self.count += 1;
        Ok(())
    }

    /// The rows so far, with the columns of `table`.
    fn finish(&mut self, table: &Table) -> Result<RecordBatch, StoreError> {
        let broken = |text: String| StoreError::Broken(format!("table {}: {text}", table.name()));
        let columns: Result<Vec<ArrayRef>, String> = self.columns.iter_mut().map(|column| column.finish()).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(std::mem::take(&mut self.count)));
        let schema = std::sync::Arc::clone(&table.shape.columns);
        RecordBatch::try_new_with_options(schema, columns.map_err(broken)?, &options).map_err(|error| broken(error.to_string()))
    }
}
