//! How a version's groups, states and rows are laid out as bytes.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, new_null_array};
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::arrow::row::Rows;

use super::codec::{Codec, as_micros, from_micros};
use super::error::EngineError;
use crate::table::{Order, TableShape};
use crate::view::View;

/// The codecs of one view.
pub struct Layout {
    /// Group keys: the pane's start first if there is a window.
    pub keys: Codec,
    /// Aggregate states.
    pub states: Codec,
    /// Rows.
    pub rows: RowLayout,
    /// Panes, if the view has a window.
    pub panes: Option<Arc<PanePrefix>>,
}

impl Layout {
    /// The layout of `view`.
    pub fn new(view: &View) -> Result<Layout, EngineError> {
        let plain = |schema: &SchemaRef| {
            Codec::new(schema.fields().iter().map(|field| (field.data_type().clone(), SortOptions::default())).collect::<Vec<_>>())
        };
        let panes = match (view.window, view.groups.fields().first()) {
            (Some(_), Some(field)) => Some(Arc::new(PanePrefix::new(field.data_type())?)),
            _ => None,
        };
        Ok(Layout { keys: plain(&view.groups)?, states: plain(&view.states)?, rows: RowLayout::new(&view.shape)?, panes })
    }
}

/// The encoded start of a pane: the first bytes of the keys of its groups.
pub struct PanePrefix {
    codec: Codec,
    data_type: DataType,
    len: usize,
}

impl PanePrefix {
    fn new(data_type: &DataType) -> Result<PanePrefix, EngineError> {
        let codec = Codec::new([(data_type.clone(), SortOptions::default())])?;
        let mut prefix = PanePrefix { codec, data_type: data_type.clone(), len: 0 };
        prefix.len = prefix.bytes(0)?.len();
        Ok(prefix)
    }

    /// The prefix of the pane that starts at `pane_us`.
    pub fn bytes(&self, pane_us: i64) -> Result<Vec<u8>, EngineError> {
        let column = from_micros(vec![pane_us], &self.data_type)?;
        Ok(self.codec.encode(&[column], 1)?.row(0).data().to_vec())
    }

    /// The start of the pane that a key is of.
    pub fn parse(&self, key: &[u8]) -> Result<Option<i64>, EngineError> {
        let columns = self.codec.decode([self.of(key)])?;
        let Some(column) = columns.first().filter(|column| column.len() == 1) else { return Ok(None) };
        let micros = as_micros(column)?;
        Ok((!micros.is_null(0)).then(|| micros.value(0)))
    }

    /// The part of a key that is the pane's start.
    pub fn of<'a>(&self, key: &'a [u8]) -> &'a [u8] {
        key.get(..self.len).unwrap_or(key)
    }

    /// The part of a key after the pane's start.
    pub fn rest<'a>(&self, key: &'a [u8]) -> &'a [u8] {
        key.get(self.len..).unwrap_or_default()
    }
}

/// How rows of a table are encoded: the key in the order of the table, then the other columns.
pub struct RowLayout {
    columns: SchemaRef,
    key_columns: Vec<usize>,
    other_columns: Vec<usize>,
    key: Codec,
    others: Codec,
}

impl RowLayout {
    fn new(shape: &TableShape) -> Result<RowLayout, EngineError> {
        let mut keys = Vec::new();
        for column in &shape.partition_key {
            keys.push((*column, SortOptions::default()));
        }
        for (column, order) in &shape.clustering {
            keys.push((*column, SortOptions { descending: *order == Order::Desc, nulls_first: true }));
        }
        let key_columns: Vec<usize> = keys.iter().map(|(column, _)| *column).collect();
        let other_columns: Vec<usize> = (0..shape.columns.fields().len()).filter(|column| !key_columns.contains(column)).collect();
        let typed = |column: usize| shape.columns.field(column).data_type().clone();
        Ok(RowLayout {
            key: Codec::new(keys.iter().map(|(column, options)| (typed(*column), *options)))?,
            others: Codec::new(other_columns.iter().map(|column| (typed(*column), SortOptions::default())))?,
            columns: shape.columns.clone(),
            key_columns,
            other_columns,
        })
    }

    /// The encoded keys of rows.
    pub fn encode_keys(&self, rows: &RecordBatch) -> Result<Rows, EngineError> {
        Ok(self.key.encode(&project(rows, &self.key_columns), rows.num_rows())?)
    }

    /// The encoded columns of rows that are not part of the key.
    pub fn encode_others(&self, rows: &RecordBatch) -> Result<Rows, EngineError> {
        Ok(self.others.encode(&project(rows, &self.other_columns), rows.num_rows())?)
    }

    /// Rows from their encoded keys and other columns; where the latter are `None`, they are null.
    pub fn decode<'a>(&'a self, keys: &[&'a [u8]], others: &[Option<&'a [u8]>]) -> Result<RecordBatch, EngineError> {
        let nulls: Vec<ArrayRef> =
            self.other_columns.iter().map(|column| new_null_array(self.columns.field(*column).data_type(), 1)).collect();
        let null_row = self.others.encode(&nulls, 1)?;
        let null_row = null_row.row(0).data().to_vec();
        let key_values = self.key.decode(keys.iter().copied())?;
        let other_rows: Vec<&[u8]> = others.iter().map(|row| row.unwrap_or(&null_row)).collect();
        let other_values = self.others.decode(other_rows.iter().copied())?;
        let mut columns: Vec<(usize, ArrayRef)> = self.key_columns.iter().copied().zip(key_values).collect();
        columns.extend(self.other_columns.iter().copied().zip(other_values));
        columns.sort_by_key(|(column, _)| *column);
        Ok(RecordBatch::try_new(self.columns.clone(), columns.into_iter().map(|(_, values)| values).collect())?)
    }

    /// Whether a row can be kept: no column of its key is null.
    pub fn has_key(&self, rows: &RecordBatch, row: usize) -> bool {
        self.key_columns.iter().all(|column| rows.columns().get(*column).is_some_and(|values| values.is_valid(row)))
    }
}

fn project(rows: &RecordBatch, columns: &[usize]) -> Vec<ArrayRef> {
    columns.iter().filter_map(|column| rows.columns().get(*column).cloned()).collect()
}
