//! How rows differ from those expected, aligned by key, and as a table for people.

use std::cmp::Ordering;

use serde_json::{Map, Value, json};

use super::expected::{Key, Row};

/// A row that is not as it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct DifferentRow {
    /// What names it.
    pub key: Key,
    /// What is expected, column by column; `None`: no row. A column that is `None` is not spoken of.
    pub expected: Option<Vec<Option<Value>>>,
    /// What there is; `None`: no row.
    pub found: Option<Row>,
}

/// All rows that are not as they should be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Difference {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The rows, in the order of their keys.
    pub rows: Vec<DifferentRow>,
}

/// The most rows that are shown; all are counted.
const MOST_SHOWN: usize = 50;
/// What is between two columns.
const GAP: usize = 2;

impl DifferentRow {
    fn mark(&self) -> &'static str {
        match (&self.expected, &self.found) {
            (Some(_), Some(_)) => "changed",
            (Some(_), None) => "missing",
            _ => "unexpected",
        }
    }

    fn cell(&self, column: usize) -> String {
        let expected = self.expected.as_ref().map(|row| row.get(column).cloned().flatten());
        let found = self.found.as_ref().and_then(|row| row.get(column));
        match (expected, found) {
            (Some(Some(expected)), Some(found)) if expected != *found => format!("expected {}, found {}", shown(&expected), shown(found)),
            (_, Some(found)) => shown(found),
            (Some(Some(expected)), None) => shown(&expected),
            (_, None) => "any".to_owned(),
        }
    }
}

impl Difference {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// As lines for people: a table with a mark before each row.
    pub fn lines(&self) -> Vec<String> {
        if self.rows.is_empty() {
            return Vec::new();
        }
        let header = std::iter::once(String::new()).chain(self.columns.iter().cloned()).collect();
        let cells = |row: &DifferentRow| {
            std::iter::once(row.mark().to_owned()).chain((0..self.columns.len()).map(|column| row.cell(column))).collect()
        };
        let table: Vec<Vec<String>> = std::iter::once(header).chain(self.rows.iter().take(MOST_SHOWN).map(cells)).collect();
        let width = |column: usize| table.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..=self.columns.len()).map(width).collect();
        let line = |row: &Vec<String>| {
            let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}", width = width + GAP));
            padded.collect::<String>().trim_end().to_owned()
        };
        let mut lines: Vec<String> = table.iter().map(line).collect();
        if self.rows.len() > MOST_SHOWN {
            lines.push(format!("… and {} more rows", self.rows.len() - MOST_SHOWN));
        }
        lines
    }

    /// As JSON: lists of missing and unexpected rows, and of changed ones with what is expected and found.
    pub fn json(&self) -> Value {
        let expected = |row: &DifferentRow| self.object(row.expected.iter().flatten().cloned());
        let found = |row: &DifferentRow| self.object(row.found.iter().flatten().cloned().map(Some));
        let of = |mark: &str, object: &dyn Fn(&DifferentRow) -> Value| {
            self.rows.iter().filter(|row| row.mark() == mark).map(object).collect::<Vec<_>>()
        };
        json!({
            "missing": of("missing", &expected),
            "unexpected": of("unexpected", &found),
            "changed": of("changed", &|row| json!({ "expected": expected(row), "found": found(row) })),
        })
    }

    fn object(&self, values: impl Iterator<Item = Option<Value>>) -> Value {
        let members = self.columns.iter().zip(values).filter_map(|(name, value)| Some((name.clone(), value?)));
        Value::Object(members.collect::<Map<_, _>>())
    }
}

/// A value for people: text without quotes.
pub fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() && !text.contains(['\n', '\r', '\t']) => text.clone(),
        value => value.to_string(),
    }
}

/// Numbers by their size, all else by its text.
pub fn order(a: &[Value], b: &[Value]) -> Ordering {
    let one = |(a, b): (&Value, &Value)| match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        _ => shown(a).cmp(&shown(b)),
    };
    a.iter().zip(b).map(one).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}
