//! All rows of a version that readers see.

use datafusion::arrow::array::{BooleanArray, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use refold_processor::engine::codec::as_micros;
use refold_processor::json;
use refold_processor::store::{RowReader, StoreError};
use refold_processor::table::Table;
use refold_processor::view::WindowSpec;
use serde_json::{Map, Value};

/// Hands on the rows that are not past the view's `keep`, batch by batch in no particular order, until `each` answers `false`.
pub(crate) fn each_kept(
    rows: &dyn RowReader,
    table: &Table,
    window: Option<&WindowSpec>,
    horizon_us: Option<i64>,
    each: &mut dyn FnMut(RecordBatch) -> bool,
) -> Result<(), StoreError> {
    let mut is_ended = false;
    let scanned = rows.scan_each(table, &mut |batch| {
        let kept = match (horizon_us, starts(&batch, window)) {
            (Some(horizon_us), Some(starts)) => {
                let kept: BooleanArray = starts.iter().map(|start| start.is_none_or(|start| start >= horizon_us)).map(Some).collect();
                filter_record_batch(&batch, &kept).map_err(|error| StoreError::Broken(format!("table {}: {error}", table.name())))?
            }
            _ => batch,
        };
        is_ended = !each(kept);
        if is_ended { Err(StoreError::Broken("the scan was ended".to_owned())) } else { Ok(()) }
    });
    if is_ended { Ok(()) } else { scanned }
}

/// When the window of each row begins, microseconds since the Unix epoch.
pub(crate) fn starts(batch: &RecordBatch, window: Option<&WindowSpec>) -> Option<Vec<Option<i64>>> {
    let starts = as_micros(batch.columns().get(window?.column)?).ok()?;
    Some(starts.iter().collect())
}

/// A row by the names of its columns.
pub(crate) fn members(batch: &RecordBatch, row: usize) -> Map<String, Value> {
    match json::object(batch, row) {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// The key of a row as a text, in the order of the partition key and the clustering columns.
pub(crate) fn key_text(table: &Table, batch: &RecordBatch, row: usize) -> String {
    let values = table.shape.key_columns().filter_map(|column| batch.columns().get(column));
    values.map(|column| json::value(column.as_ref(), row).to_string()).collect::<Vec<_>>().join(",")
}
