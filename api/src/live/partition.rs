//! The rows of a followed partition, as every follower of it has them: the first so many in the declared order.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use datafusion::scalar::ScalarValue;
use refold_processor::changes::ChangedRow;
use refold_processor::json;
use refold_processor::scalar::of_json;
use refold_processor::table::{Order, TableShape};
use serde_json::{Map, Value};

use crate::problem::Problem;
use crate::reading::Found;

/// Where a row stands: the values of its clustering columns, which name it within its partition.
#[derive(Clone, Debug)]
struct Place {
    values: Vec<ScalarValue>,
    orders: Arc<[Order]>,
}

impl Ord for Place {
    fn cmp(&self, other: &Place) -> Ordering {
        let pairs = self.values.iter().zip(&other.values).zip(self.orders.iter());
        let each = pairs.map(|((left, right), order)| {
            // Of one type, and never NULL.
            let ordering = left.partial_cmp(right).unwrap_or(Ordering::Equal);
            if *order == Order::Asc { ordering } else { ordering.reverse() }
        });
        each.fold(Ordering::Equal, Ordering::then)
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Place) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Place) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Place {}

/// How rows differ from what they were: rows that are new or other, and the keys of those that are no more, as JSON texts.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Rows.
    pub changed: Vec<Arc<str>>,
    /// Keys.
    pub deleted: Vec<String>,
}

impl Difference {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.deleted.is_empty()
    }
}

/// The rows are to be read again: some that belong here are in the store alone.
#[derive(Debug, PartialEq, Eq)]
pub struct Reread;

/// The first rows of a partition.
pub struct Rows {
    rows: BTreeMap<Place, Arc<str>>,
    shape: TableShape,
    orders: Arc<[Order]>,
    limit: usize,
    /// Whether the partition has rows behind them.
    has_more: bool,
}

impl Rows {
    /// The rows of a snapshot of at most `limit` rows.
    ///
    /// # Errors
    /// When they have no order, which is a defect.
    pub fn of(found: &Found, shape: &TableShape, limit: usize) -> Result<Rows, Problem> {
        let orders: Arc<[Order]> = shape.clustering.iter().map(|(_, order)| *order).collect();
        let mut rows = BTreeMap::new();
        for row in 0..found.rows.num_rows() {
            let columns = shape.clustering.iter().filter_map(|(column, _)| found.rows.columns().get(*column));
            let values: Result<Vec<ScalarValue>, _> = columns.map(|column| ScalarValue::try_from_array(column, row)).collect();
            let values = values.map_err(|error| Problem::internal(format!("a row has no place: {error}")))?;
            let text = json::object(&found.rows, row).to_string();
            rows.insert(Place { values, orders: orders.clone() }, text.into());
        }
        Ok(Rows { rows, shape: shape.clone(), orders, limit, has_more: found.next.is_some() })
    }

    /// The rows in order, with commas between them.
    pub fn text(&self) -> String {
        join(self.rows.values())
    }

    /// Their size, bytes.
    pub fn bytes(&self) -> usize {
        self.rows.values().map(|text| text.len()).sum()
    }

    /// Takes changes of the partition.
    ///
    /// # Errors
    /// When rows that belong here are not known.
    pub fn apply(&mut self, changes: Vec<ChangedRow>) -> Result<Difference, Reread> {
        let placed: Option<Vec<(Place, ChangedRow)>> = changes.into_iter().map(|change| Some((self.place(&change)?, change))).collect();
        let had_more = self.has_more;
        let mut before: BTreeMap<Place, Option<Arc<str>>> = BTreeMap::new();
        for (place, change) in placed.ok_or(Reread)? {
            let text: Option<Arc<str>> = change.row.map(|row| row.to_string().into());
            let is_behind = self.has_more && self.rows.last_key_value().is_none_or(|(last, _)| place > *last);
            if is_behind && !self.rows.contains_key(&place) {
                continue;
            }
            let was = match text {
                Some(text) => self.rows.insert(place.clone(), text),
                None => self.rows.remove(&place),
            };
            before.entry(place).or_insert(was);
        }
        while self.rows.len() > self.limit {
            let Some((place, text)) = self.rows.pop_last() else { break };
            self.has_more = true;
            before.entry(place).or_insert(Some(text));
        }
        if self.has_more && self.rows.len() < self.limit {
            // Followers have the rows as they were: what is read is compared with those.
            for (place, was) in before {
                match was {
                    Some(was) => drop(self.rows.insert(place, was)),
                    None => drop(self.rows.remove(&place)),
                }
            }
            self.has_more = had_more;
            return Err(Reread);
        }
        let mut difference = Difference::default();
        for (place, was) in before {
            match (self.rows.get(&place), was) {
                (Some(now), was) if was.as_ref() != Some(now) => difference.changed.push(now.clone()),
                (None, Some(was)) => difference.deleted.push(key_of(&was, &self.shape)),
                _ => {}
            }
        }
        Ok(difference)
    }

    /// How these rows differ from others, by the names and values of their keys: those may be of another version.
    pub fn since(&self, before: &Rows) -> Difference {
        let mut others: HashMap<String, &Arc<str>> = before.rows.values().map(|text| (key_of(text, &before.shape), text)).collect();
        let changed = self.rows.values().filter(|text| others.remove(&key_of(text, &self.shape)) != Some(*text)).cloned().collect();
        let mut deleted: Vec<String> = others.into_keys().collect();
        deleted.sort_unstable();
        Difference { changed, deleted }
    }

    fn place(&self, change: &ChangedRow) -> Option<Place> {
        let values = change.key.get(self.shape.partition_key.len()..)?;
        let columns = self.shape.clustering.iter().map(|(column, _)| self.shape.columns.fields().get(*column));
        let value = |(value, field): (&Value, Option<&Arc<datafusion::arrow::datatypes::Field>>)| of_json(value, field?.data_type()).ok();
        let values: Vec<ScalarValue> = values.iter().zip(columns).map(value).collect::<Option<_>>()?;
        (values.len() == self.orders.len()).then(|| Place { values, orders: self.orders.clone() })
    }
}

/// JSON texts with commas between them.
pub fn join<'a, T: AsRef<str> + 'a>(texts: impl IntoIterator<Item = &'a T>) -> String {
    let mut joined = String::new();
    for text in texts {
        if !joined.is_empty() {
            joined.push(',');
        }
        joined.push_str(text.as_ref());
    }
    joined
}

/// The key of a row, by the names of its columns.
fn key_of(text: &str, shape: &TableShape) -> String {
    let mut row: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
    let fields = shape.columns.fields();
    let names = shape.key_columns().filter_map(|column| fields.get(column).map(|field| field.name().clone()));
    let key: Map<String, Value> = names.filter_map(|name| row.remove_entry(&name)).collect();
    Value::Object(key).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use refold_processor::store::Progress;
    use refold_processor::table::Version;
    use serde_json::json;

    use super::*;
    use crate::parameters::Cursor;

    fn rows(posts: &[(i64, i64)], limit: usize, has_more: bool) -> Rows {
        let columns: [ArrayRef; 3] = [
            Arc::new(StringArray::from(vec!["ann"; posts.len()])),
            Arc::new(Int64Array::from_iter_values(posts.iter().map(|post| post.0))),
            Arc::new(Int64Array::from_iter_values(posts.iter().map(|post| post.1))),
        ];
        let fields =
            ["user", "slot", "posts"].iter().zip(&columns).map(|(name, column)| Field::new(*name, column.data_type().clone(), false));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let rows = RecordBatch::try_new(schema.clone(), columns.to_vec()).unwrap();
        let next = has_more.then(|| Cursor { version: Version(1), at: Default::default() });
        let found = Found { progress: Progress::default(), partition: Vec::new(), rows, next };
        let shape = TableShape { columns: schema, partition_key: vec![0], clustering: vec![(1, Order::Desc)] };
        assert_eq!(shape.columns.field(1).data_type(), &DataType::Int64);
        Rows::of(&found, &shape, limit).unwrap()
    }

    fn change(slot: i64, posts: Option<i64>) -> ChangedRow {
        let row = posts.map(|posts| json!({ "user": "ann", "slot": slot, "posts": posts }));
        ChangedRow { key: vec![json!("ann"), json!(slot)], row, written_at: 1 }
    }

    fn slots(rows: &Rows) -> Vec<(i64, i64)> {
        let rows: Vec<Value> = serde_json::from_str(&format!("[{}]", rows.text())).unwrap();
        rows.iter().map(|row| (row["slot"].as_i64().unwrap(), row["posts"].as_i64().unwrap())).collect()
    }

    fn told(difference: &Difference) -> (Vec<i64>, Vec<i64>) {
        let slot = |text: &str| serde_json::from_str::<Value>(text).unwrap()["slot"].as_i64().unwrap();
        (difference.changed.iter().map(|text| slot(text)).collect(), difference.deleted.iter().map(|text| slot(text)).collect())
    }

    #[test]
    fn rows_stay_in_their_order_and_only_those_that_differ_are_told() {
        let mut rows = rows(&[(3, 30), (2, 20), (10, 100)], 9, false);
        assert_eq!(slots(&rows), [(10, 100), (3, 30), (2, 20)], "numbers, not texts");
        let difference = rows.apply(vec![change(3, Some(30)), change(11, Some(1)), change(2, None), change(1, Some(5))]).unwrap();
        assert_eq!(told(&difference), (vec![11, 1], vec![2]));
        assert_eq!(difference.deleted, [r#"{"user":"ann","slot":2}"#]);
        assert_eq!(slots(&rows), [(11, 1), (10, 100), (3, 30), (1, 5)]);
        let back_and_forth = rows.apply(vec![change(3, Some(31)), change(3, Some(30)), change(7, Some(1)), change(7, None)]).unwrap();
        assert!(back_and_forth.is_empty(), "{back_and_forth:?}");
    }

    #[test]
    fn what_falls_out_of_the_first_rows_is_told_as_deleted_and_what_lies_behind_them_not_at_all() {
        let mut rows = rows(&[(3, 30), (2, 20)], 2, true);
        assert!(rows.apply(vec![change(1, Some(1)), change(0, None)]).unwrap().is_empty());
        assert_eq!(told(&rows.apply(vec![change(4, Some(40))]).unwrap()), (vec![4], vec![2]));
        assert_eq!(slots(&rows), [(4, 40), (3, 30)]);
        assert_eq!(rows.apply(vec![change(4, None), change(3, Some(1))]), Err(Reread), "the store knows which row comes in");
        assert_eq!(slots(&rows), [(4, 40), (3, 30)], "followers were told nothing");
    }

    #[test]
    fn rows_of_another_version_differ_by_their_keys() {
        let (before, after) = (rows(&[(3, 30), (2, 20)], 9, false), rows(&[(3, 31), (2, 20), (1, 10)], 9, false));
        assert_eq!(told(&after.since(&before)), (vec![3, 1], vec![]));
        assert_eq!(told(&before.since(&after)), (vec![3], vec![1]));
        assert!(after.since(&after).is_empty());
    }
}
