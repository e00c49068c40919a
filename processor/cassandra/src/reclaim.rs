//! Giving back the space of rows that are past their time.
//!
//! Rows have no time to live: that would count from when they are written, while a view's `keep` counts in the time of its events. So expired rows are
//! looked for and deleted, with as few tombstones as the key allows:
//!
//! | the column is | looked at | deleted |
//! |---|---|---|
//! | part of the partition key | the keys of partitions | whole partitions |
//! | the first clustering column | one expired row of each partition that has any | the range before the limit |
//! | another clustering column | that column of all rows | each row |
//! | not part of the key | that column of all rows | each row, at its own timestamp |
//!
//! A row whose key has the time in it has expired for good, so it is deleted at the greatest timestamp that this process has written rows with: those of
//! former owners are lesser. In the last case a row may be written again with a later time at any moment; deleted at the very timestamp
//! that was read, it gives way to any later write.

use datafusion::arrow::array::ArrayRef;
use datafusion::scalar::ScalarValue;
use futures::future::ready;
use futures::{StreamExt, TryStreamExt};
use refold_processor::store::{StoreError, before};
use refold_processor::table::Table;
use scylla::response::PagingState;
use scylla::response::query_result::QueryRowsResult;

use crate::CassandraStore;
use crate::error::Failure;
use crate::reading::{encode_scalar, piece_condition, piece_values};
use crate::rows::{Values, cell, each_row, number};
use crate::tables::OpenTable;
use crate::types::{Role, decoder};

/// How many deletions are on their way at once.
const DELETIONS_AT_ONCE: usize = 16;
/// Where nothing was written by this process, so that nothing is known of timestamps.
const AFTER_EVERYTHING: i64 = i64::MAX - 1;

/// What to look for, and how to delete what is found.
struct Search {
    query: String,
    /// Values of the query after those of a piece of the ring.
    query_values: Values,
    delete: String,
    /// How many of the query's first columns go into the deletion, after the timestamp.
    keys: usize,
    /// The column that is compared, if the query has not done so.
    compared: Option<usize>,
    /// The column with the timestamp to delete at.
    written_at: Option<usize>,
    /// Values of the deletion after the key.
    delete_values: Values,
}

impl CassandraStore {
    pub(crate) fn give_back(&self, table: &Table, column: usize, before_us: i64) -> Result<(), StoreError> {
        let open = self.table(table)?;
        let limit = before(table, column, before_us)?;
        let search = search(&open, column, &limit)?;
        let reclaim = async {
            for piece in self.ring() {
                self.reclaim_piece(&open, &search, column, &limit, piece).await?;
            }
            Ok(())
        };
        self.client
            .wait(reclaim)
            .map_err(|failure| failure.of_table("reclaiming the space of table", &open.name))
            .inspect_err(|error| self.note(error))
    }

    /// Looks for expired rows in a piece of the ring and deletes them, a page at a time: no more than a page of them is in memory.
    async fn reclaim_piece(
        &self,
        open: &OpenTable,
        search: &Search,
        column: usize,
        limit: &ScalarValue,
        piece: (i64, i64),
    ) -> Result<(), Failure> {
        let values = piece_values(piece).with_cells(search.query_values.row().0);
        let mut prepared = self.client.prepare(&search.query).await?;
        prepared.set_page_size(i32::try_from(self.settings.page_rows).unwrap_or(i32::MAX));
        let mut from = PagingState::start();
        loop {
            let (answer, next) = self.client.page(&prepared, values.clone(), from).await?;
            let found = expired(open, search, column, limit, &answer)?;
            let deletions = futures::stream::iter(found).map(|values| self.client.execute(&search.delete, values));
            deletions.buffer_unordered(DELETIONS_AT_ONCE).try_for_each(|()| ready(Ok(()))).await?;
            match next {
                Some(next) => from = next,
                None => return Ok(()),
            }
        }
    }
}

/// The values of the deletions to carry out for a page of rows.
fn expired(open: &OpenTable, search: &Search, column: usize, limit: &ScalarValue, page: &QueryRowsResult) -> Result<Vec<Values>, Failure> {
    let mut found = Vec::new();
    let written_at = open.last_write().unwrap_or(AFTER_EVERYTHING);
    each_row(page, |row| {
        if let Some(place) = search.compared
            && !is_expired(open, column, limit, cell(row, place))?
        {
            return Ok(());
        }
        let at = search.written_at.and_then(|place| number(row, place)).unwrap_or(written_at);
        let keys = row.iter().take(search.keys).fold(Values::new().with_number(at), |values, key| values.with(key.unwrap_or_default()));
        found.push(keys.with_cells(search.delete_values.row().0));
        Ok(())
    })?;
    Ok(found)
}

fn search(open: &OpenTable, column: usize, limit: &ScalarValue) -> Result<Search, StoreError> {
    let cql = &open.cql;
    let shape = open.codec.shape();
    let (partition, name, table, piece) = (&cql.partition_key, cql.column(column), &cql.qualified, piece_condition(open));
    let partition_columns = shape.partition_key.len();
    if let Some(place) = shape.partition_key.iter().position(|key| *key == column) {
        return Ok(Search {
            query: format!("SELECT DISTINCT {partition} FROM {table} WHERE {piece}"),
            query_values: Values::new(),
            delete: cql.delete_where(&cql.in_partition),
            keys: partition_columns,
            compared: Some(place),
            written_at: None,
            delete_values: Values::new(),
        });
    }
    if shape.clustering.first().is_some_and(|(first, _)| *first == column) {
        let limit = Values::new().with_cells(&encode_scalar(open, column, limit)?);
        return Ok(Search {
            query: format!("SELECT {partition} FROM {table} WHERE {piece} AND {name} < ? PER PARTITION LIMIT 1 ALLOW FILTERING"),
            query_values: limit.clone(),
            delete: cql.delete_where(&format!("{} AND {name} < ?", cql.in_partition)),
            keys: partition_columns,
            compared: None,
            written_at: None,
            delete_values: limit,
        });
    }
    let is_key = open.roles.get(column) != Some(&Role::Value);
    let clustering: String = cql.clustering.iter().map(|(name, _)| format!(", {name}")).collect();
    let writetime = if is_key { String::new() } else { format!(", writetime({name})") };
    let keys = partition_columns + shape.clustering.len();
    Ok(Search {
        query: format!("SELECT {partition}{clustering}, {name}{writetime} FROM {table} WHERE {piece}"),
        query_values: Values::new(),
        delete: cql.delete(),
        keys,
        compared: Some(keys),
        written_at: (!is_key).then_some(keys + 1),
        delete_values: Values::new(),
    })
}

fn is_expired(open: &OpenTable, column: usize, limit: &ScalarValue, cell: Option<&[u8]>) -> Result<bool, Failure> {
    let field = open.codec.shape().columns.field(column);
    let broken = |text: String| Failure::broken(format!("column {}: {text}", field.name()));
    let mut values = decoder(field.data_type(), Role::Key).map_err(broken)?;
    values.push(cell).map_err(broken)?;
    let values: ArrayRef = values.finish().map_err(broken)?;
    let value = ScalarValue::try_from_array(&values, 0).map_err(|error| broken(error.to_string()))?;
    Ok(!value.is_null() && value.partial_cmp(limit).is_some_and(std::cmp::Ordering::is_lt))
}
