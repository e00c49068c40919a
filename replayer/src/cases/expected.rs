//! The rows that a case expects, in the columns of its view, and how they differ from those that there are.

use std::collections::{BTreeMap, BTreeSet};

use refold_processor::table::TableShape;
use serde_json::{Map, Value};

use super::declared::{Case, Mode};
use super::difference::{Difference, DifferentRow, order};
use super::mistake::Mistake;
use super::values::canonical;

/// A row: the values of its columns, in their order.
pub type Row = Vec<Value>;

/// The values that name a row or a partition.
pub type Key = Vec<Value>;

/// The rows that there are to be.
pub struct Expected {
    mode: Mode,
    shape: TableShape,
    /// By their keys. `None`: a column that is not spoken of.
    rows: BTreeMap<String, Vec<Option<Value>>>,
    /// The partition keys that are spoken of, as text.
    partitions: BTreeSet<String>,
}

impl Expected {
    /// What a case expects of a view whose table has this shape.
    ///
    /// # Errors
    /// When a row has a column that the view does not have, lacks one of its key, or is there twice.
    pub fn new(case: &Case, shape: &TableShape) -> Result<Expected, Mistake> {
        let mut expected = Expected { mode: case.mode, shape: shape.clone(), rows: BTreeMap::new(), partitions: BTreeSet::new() };
        let mut lines: BTreeMap<String, usize> = BTreeMap::new();
        for (number, (line, row)) in (1..).zip(&case.rows) {
            let mistake = |message: String| case.mistake(*line, format!("row {number}: {message}"));
            let row = expected.row(row, case.mode).map_err(mistake)?;
            let key = expected.key(&row, shape.key_columns()).map_err(mistake)?;
            if let Some(first) = lines.insert(text(&key), *line) {
                return Err(mistake(format!("line {first} has a row of the same key, {}", text(&key))));
            }
            expected.partitions.insert(text(&expected.key(&row, shape.partition_key.iter().copied()).map_err(mistake)?));
            expected.rows.insert(text(&key), row);
        }
        for (number, (line, key)) in (1..).zip(&case.keys) {
            let mistake = |message: String| case.mistake(*line, format!("key {number}: {message}"));
            let row = expected.row(key, Mode::Subset).map_err(mistake)?;
            expected.partitions.insert(text(&expected.key(&row, shape.partition_key.iter().copied()).map_err(mistake)?));
        }
        Ok(expected)
    }

    /// All rows of a table, to be there again.
    pub fn all(shape: &TableShape, rows: &[Row]) -> Expected {
        let mut expected = Expected { mode: Mode::Exact, shape: shape.clone(), rows: BTreeMap::new(), partitions: BTreeSet::new() };
        for row in rows {
            expected.rows.insert(text(&of(row, shape.key_columns())), row.iter().cloned().map(Some).collect());
        }
        expected
    }

    /// The values of a row in the order of the columns. One that is not written is null, or, of a subset, not spoken of.
    fn row(&self, row: &Map<String, Value>, mode: Mode) -> Result<Vec<Option<Value>>, String> {
        let fields = self.shape.columns.fields();
        if let Some(unknown) = row.keys().find(|name| fields.find(name).is_none()) {
            let known = fields.iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ");
            return Err(format!("the view has no column {unknown}; it has {known}"));
        }
        let value = |field: &datafusion::arrow::datatypes::FieldRef| match row.get(field.name()) {
            Some(value) => Some(canonical(value.clone(), field.data_type())),
            None if mode == Mode::Subset => None,
            None => Some(Value::Null),
        };
        Ok(fields.iter().map(value).collect())
    }

    /// The values of these columns, which must all be written.
    fn key(&self, row: &[Option<Value>], columns: impl Iterator<Item = usize>) -> Result<Key, String> {
        let name = |column: usize| self.shape.columns.fields().get(column).map(|field| field.name().as_str()).unwrap_or_default();
        let value = |column: usize| {
            let value = row.get(column).cloned().flatten().filter(|value| !value.is_null());
            value.ok_or_else(|| format!("{} is part of what names a row; write it", name(column)))
        };
        columns.map(value).collect()
    }

    /// How the rows that there are differ, in the order of their keys.
    pub fn compare(&self, found: &[Row]) -> Difference {
        let mut rows = Vec::new();
        let mut missing: BTreeMap<&String, &Vec<Option<Value>>> = self.rows.iter().collect();
        for row in found {
            let key = of(row, self.shape.key_columns());
            match missing.remove(&text(&key)) {
                Some(expected) if is_same(expected, row) => {}
                Some(expected) => rows.push(DifferentRow { expected: Some(expected.clone()), found: Some(row.clone()), key }),
                None if self.speaks_of(row) => rows.push(DifferentRow { expected: None, found: Some(row.clone()), key }),
                None => {}
            }
        }
        for expected in missing.into_values() {
            let key = self.shape.key_columns().map(|column| expected.get(column).cloned().flatten().unwrap_or_default()).collect();
            rows.push(DifferentRow { expected: Some(expected.clone()), found: None, key });
        }
        rows.sort_by(|a, b| order(&a.key, &b.key));
        Difference { columns: self.shape.columns.fields().iter().map(|field| field.name().clone()).collect(), rows }
    }

    /// Whether a row that is not expected is one too many.
    fn speaks_of(&self, row: &Row) -> bool {
        match self.mode {
            Mode::Exact => true,
            Mode::ByKey => self.partitions.contains(&text(&of(row, self.shape.partition_key.iter().copied()))),
            Mode::Subset => false,
        }
    }
}

/// The values of these columns of a row.
pub fn of(row: &Row, columns: impl Iterator<Item = usize>) -> Key {
    columns.map(|column| row.get(column).cloned().unwrap_or_default()).collect()
}

fn is_same(expected: &[Option<Value>], found: &Row) -> bool {
    expected.iter().zip(found).all(|(expected, found)| expected.as_ref().is_none_or(|expected| expected == found))
}

fn text(key: &Key) -> String {
    key.iter().map(Value::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[path = "expected/tests.rs"]
mod tests;
