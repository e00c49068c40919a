//! Rows of a version as texts that can be compared with those of another one.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field};
use refold_processor::json;
use refold_processor::table::{Table, TableShape};

use super::DiffError;

/// Where a version has the columns that are compared.
pub struct Columns {
    key: Vec<usize>,
    values: Vec<usize>,
    /// The names of the key columns, the same in both versions.
    pub key_names: Vec<String>,
    /// The names of the compared columns, the same in both versions.
    pub value_names: Vec<String>,
    /// Columns that the other version does not have.
    pub own: Vec<String>,
    /// Columns that both have, and that are not compared.
    pub ignored: Vec<String>,
}

impl Columns {
    /// The columns of `table` that are compared with those of `other`; those of `ignore` are not.
    ///
    /// # Errors
    /// When the keys differ.
    pub fn of(table: &Table, other: &Table, ignore: &[String]) -> Result<Columns, DiffError> {
        let (key, other_key) = (keys(&table.shape), keys(&other.shape));
        let named = |keys: &[(String, usize, DataType)]| keys.iter().map(|(name, _, of)| format!("{name} {of}")).collect::<Vec<_>>();
        if named(&key) != named(&other_key) {
            let (left_key, right_key) = (named(&key).join(", "), named(&other_key).join(", "));
            return Err(DiffError::OtherKey { left: table.name(), left_key, right: other.name(), right_key });
        }
        let mut values: Vec<(String, usize)> = Vec::new();
        let (mut own, mut ignored) = (Vec::new(), Vec::new());
        for (index, field) in table.shape.columns.fields().iter().enumerate() {
            if key.iter().any(|(_, column, _)| *column == index) {
                continue;
            }
            match other.shape.columns.column_with_name(field.name()) {
                Some(_) if ignore.contains(field.name()) => ignored.push(field.name().clone()),
                Some(_) => values.push((field.name().clone(), index)),
                None => own.push(field.name().clone()),
            }
        }
        values.sort_unstable();
        let (value_names, values) = values.into_iter().unzip();
        let (key_names, key) = key.into_iter().map(|(name, column, _)| (name, column)).unzip();
        Ok(Columns { key, values, key_names, value_names, own, ignored })
    }

    /// The key of a row, a JSON array in the order of `key_names`.
    pub fn key(&self, batch: &RecordBatch, row: usize) -> String {
        array(batch, row, &self.key)
    }

    /// The compared values of a row, a JSON array in the order of `value_names`.
    pub fn values(&self, batch: &RecordBatch, row: usize) -> String {
        array(batch, row, &self.values)
    }
}

/// The key columns by name: versions may have them in different orders.
fn keys(shape: &TableShape) -> Vec<(String, usize, DataType)> {
    let field = |column: usize| Some((shape.columns.fields().get(column)?, column));
    let described = |(field, column): (&std::sync::Arc<Field>, usize)| (field.name().clone(), column, field.data_type().clone());
    let mut keys: Vec<_> = shape.key_columns().filter_map(field).map(described).collect();
    keys.sort_unstable_by(|left, right| left.0.cmp(&right.0));
    keys
}

fn array(batch: &RecordBatch, row: usize, columns: &[usize]) -> String {
    let mut text = String::from("[");
    for (index, column) in columns.iter().filter_map(|column| batch.columns().get(*column)).enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(&json::value(column.as_ref(), row).to_string());
    }
    text.push(']');
    text
}
