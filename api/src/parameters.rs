//! What a reader asks for in a query: the columns of a partition key by their names, and what else there is.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::scalar::ScalarValue;
use refold_processor::scalar::{describe, parse};
use refold_processor::store::PartitionRead;
use refold_processor::table::{TableShape, Version};

use crate::problem::Problem;

/// Parameters that are not columns.
const RESERVED: [&str; 5] = ["from", "to", "limit", "cursor", "version"];
/// A column whose name is reserved is named with this before it.
const COLUMN_PREFIX: &str = "key.";
/// What stands for the newest window.
pub const LATEST: &str = "latest";
/// How many partitions one request may name.
const PARTITIONS_MAX: usize = 20;

/// The name of the parameter for a column of the partition key.
pub fn parameter(column: &str) -> String {
    if RESERVED.contains(&column) { format!("{COLUMN_PREFIX}{column}") } else { column.to_owned() }
}

/// `7` or `v7`.
pub fn parse_version(text: &str) -> Option<Version> {
    text.strip_prefix('v').unwrap_or(text).parse().ok().map(Version)
}

/// What the reader asked for, before it is known of which columns.
#[derive(Debug, Default, PartialEq)]
pub struct Asked<'a> {
    /// The least value of the first clustering column.
    pub from: Option<&'a str>,
    /// The value to stop before.
    pub to: Option<&'a str>,
    /// How many rows.
    pub limit: Option<usize>,
    /// Of which version.
    pub version: Option<Version>,
    /// Where a page before ended.
    pub cursor: Option<Cursor>,
    /// Values of columns of the partition key, in the order in which they were named.
    pub columns: Vec<(&'a str, &'a str)>,
}

/// Where a page ended: it is of one version, which the following pages are of too, even after a switch.
#[derive(Clone, Debug, PartialEq)]
pub struct Cursor {
    /// The version.
    pub version: Version,
    /// The store's own cursor.
    pub at: Bytes,
}

impl Cursor {
    /// Reads what [`Cursor::text`] has written.
    pub fn parse(text: &str) -> Option<Cursor> {
        let (version, at) = text.split_once('.')?;
        Some(Cursor { version: parse_version(version)?, at: URL_SAFE_NO_PAD.decode(at).ok()?.into() })
    }

    /// As readers get it.
    pub fn text(&self) -> String {
        format!("{}.{}", self.version, URL_SAFE_NO_PAD.encode(&self.at))
    }
}

/// Takes the parameters of a query apart.
pub fn asked(parameters: &[(String, String)]) -> Result<Asked<'_>, Problem> {
    let mut asked = Asked::default();
    let mut seen = Vec::new();
    for (name, value) in parameters {
        if RESERVED.contains(&name.as_str()) && seen.contains(&name) {
            return Err(Problem::parameter(format!("parameter {name} is there twice")));
        }
        seen.push(name);
        let wrong = |expected: &str| Problem::parameter(format!("parameter {name}: {value:?} is not {expected}"));
        match name.as_str() {
            "from" => asked.from = Some(value),
            "to" => asked.to = Some(value),
            "limit" => asked.limit = Some(value.parse().ok().filter(|limit| *limit > 0).ok_or_else(|| wrong("a number of rows, from 1"))?),
            "version" => asked.version = Some(parse_version(value).ok_or_else(|| wrong("the number of a version, such as 2"))?),
            "cursor" => asked.cursor = Some(Cursor::parse(value).ok_or_else(|| wrong("a next_cursor that an answer has had"))?),
            column => asked.columns.push((column.strip_prefix(COLUMN_PREFIX).unwrap_or(column), value)),
        }
    }
    match (&asked.cursor, asked.version) {
        (Some(cursor), Some(version)) if cursor.version != version => {
            Err(Problem::parameter(format!("the cursor is of version {}, not of {version}: leave one of the two out", cursor.version)))
        }
        _ => Ok(asked),
    }
}

/// One value of a partition key.
#[derive(Clone, Debug, PartialEq)]
pub enum KeyValue {
    /// This one.
    Is(ScalarValue),
    /// The start of the newest window.
    Latest,
}

/// The values of a partition key.
pub type Key = Vec<KeyValue>;

/// The columns of the partition key.
pub fn key_fields(shape: &TableShape) -> Vec<&Field> {
    shape.partition_key.iter().filter_map(|column| shape.columns.fields().get(*column)).map(AsRef::as_ref).collect()
}

/// The value that `text` is for a column of the partition key; `window` is the column with the start of the window.
pub fn key_value(shape: &TableShape, window: Option<usize>, column: usize, text: &str) -> Result<KeyValue, Problem> {
    let Some(field) = shape.columns.fields().get(column) else {
        return Err(Problem::internal(format!("there is no column {column}")));
    };
    if text == LATEST && window == Some(column) {
        return Ok(KeyValue::Latest);
    }
    Ok(KeyValue::Is(parsed(&parameter(field.name()), text, field.data_type())?))
}

/// The partitions that are asked for: one, or several where a column is named again and again.
pub fn keys(shape: &TableShape, window: Option<usize>, asked: &Asked<'_>) -> Result<Vec<Key>, Problem> {
    let fields = key_fields(shape);
    let known = || -> Vec<String> { fields.iter().map(|field| parameter(field.name())).chain(RESERVED.map(str::to_owned)).collect() };
    if let Some((unknown, _)) = asked.columns.iter().find(|(name, _)| !fields.iter().any(|field| field.name() == name)) {
        let known = known();
        let detail = format!("there is no parameter {unknown}; there are: {}", known.join(", "));
        return Err(Problem::parameter(detail).with("parameters", known));
    }
    let mut columns: Vec<Vec<KeyValue>> = Vec::with_capacity(fields.len());
    for (field, column) in fields.iter().zip(&shape.partition_key) {
        let named = asked.columns.iter().filter(|(name, _)| field.name() == name);
        let values: Vec<KeyValue> = named.map(|(_, text)| key_value(shape, window, *column, text)).collect::<Result<_, _>>()?;
        if values.is_empty() {
            let (name, known) = (parameter(field.name()), known());
            let detail = format!("parameter {name} is missing: the partition to read, {}", describe(field.data_type()));
            return Err(Problem::parameter(detail).with("parameters", known));
        }
        columns.push(values);
    }
    let count = columns.iter().map(Vec::len).max().unwrap_or_default();
    if count > PARTITIONS_MAX {
        return Err(Problem::parameter(format!("{count} partitions are named; one request reads at most {PARTITIONS_MAX}")));
    }
    if let Some((field, _)) = fields.iter().zip(&columns).find(|(_, values)| values.len() != 1 && values.len() != count) {
        let name = parameter(field.name());
        return Err(Problem::parameter(format!(
            "parameter {name} is not named as often as the others: name each column of the key once, or once for each of the {count} partitions"
        )));
    }
    if count > 1 && asked.cursor.is_some() {
        return Err(Problem::parameter("parameter cursor is of one partition: read on in each of them by itself"));
    }
    let key = |index: usize| columns.iter().filter_map(|values| values.get(index).or(values.first()).cloned()).collect();
    Ok((0..count).map(key).collect())
}

/// What is read of a partition that is not named yet.
pub fn partition_read(shape: &TableShape, asked: &Asked<'_>, limit: usize) -> Result<PartitionRead, Problem> {
    let first = shape.clustering.first().and_then(|(column, _)| shape.columns.fields().get(*column));
    let bound = |name: &str, text: Option<&str>| match (text, first) {
        (None, _) => Ok(None),
        (Some(text), Some(field)) => parsed(name, text, field.data_type()).map(Some),
        (Some(_), None) => Err(Problem::parameter(format!("parameter {name}: rows of this view have no order, a partition is one row"))),
    };
    let (from, to) = (bound("from", asked.from)?, bound("to", asked.to)?);
    Ok(PartitionRead { partition: Vec::new(), from, to, limit, cursor: asked.cursor.as_ref().map(|cursor| cursor.at.clone()) })
}

fn parsed(name: &str, text: &str, data_type: &DataType) -> Result<ScalarValue, Problem> {
    parse(text, data_type).map_err(|error| Problem::parameter(format!("parameter {name}: {text:?} {error}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

    use std::sync::Arc;

    use datafusion::arrow::datatypes::{Schema, TimeUnit};
    use refold_processor::table::Order;
    use serde_json::json;

    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn shape() -> TableShape {
        let slot = DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into()));
        let columns = Schema::new(vec![Field::new("limit", DataType::Utf8, false), Field::new("slot", slot, false)]);
        TableShape { columns: Arc::new(columns), partition_key: vec![0], clustering: vec![(1, Order::Desc)] }
    }

    fn detail(problem: Problem) -> String {
        problem.document()["detail"].as_str().unwrap().to_owned()
    }

    #[test]
    fn a_column_whose_name_is_reserved_is_named_with_a_prefix() {
        let parameters = pairs(&[("key.limit", "rust"), ("limit", "7"), ("from", "1970-01-02")]);
        let asked = asked(&parameters).unwrap();
        assert_eq!(keys(&shape(), None, &asked).unwrap(), [[KeyValue::Is(ScalarValue::Utf8(Some("rust".into())))]]);
        let read = partition_read(&shape(), &asked, 7).unwrap();
        assert_eq!(read.from, Some(ScalarValue::TimestampMillisecond(Some(86_400_000), Some("+00:00".into()))));
        assert_eq!(parameter("limit"), "key.limit");
        assert_eq!(parameter("hashtag"), "hashtag");
    }

    #[test]
    fn wrong_parameters_are_told_with_the_right_ones() {
        let parameters = pairs(&[("hashtag", "rust")]);
        let told = keys(&shape(), None, &asked(&parameters).unwrap()).unwrap_err().document();
        assert_eq!(told["parameters"], json!(["key.limit", "from", "to", "limit", "cursor", "version"]));
        let missing = keys(&shape(), None, &asked(&[]).unwrap()).unwrap_err();
        assert!(detail(missing).contains("parameter key.limit is missing"));
        for (name, value) in [("limit", "0"), ("limit", "many"), ("version", "new"), ("cursor", "v1"), ("cursor", "v1.?")] {
            assert!(detail(asked(&pairs(&[(name, value)])).unwrap_err()).contains(name), "{name}={value}");
        }
        assert!(detail(asked(&pairs(&[("from", "a"), ("from", "b")])).unwrap_err()).contains("twice"));
    }

    #[test]
    fn a_cursor_keeps_its_version() {
        let cursor = Cursor { version: Version(3), at: Bytes::from_static(&[0, 255]) };
        assert_eq!(Cursor::parse(&cursor.text()), Some(cursor.clone()));
        let with_other_version = pairs(&[("cursor", &cursor.text()), ("version", "4")]);
        assert!(detail(asked(&with_other_version).unwrap_err()).contains("version v3"));
    }

    #[test]
    fn a_column_that_is_named_again_and_again_names_as_many_partitions() {
        let several = pairs(&[("key.limit", "rust"), ("key.limit", "zig")]);
        let is = |text: &str| KeyValue::Is(ScalarValue::Utf8(Some(text.into())));
        assert_eq!(keys(&shape(), None, &asked(&several).unwrap()).unwrap(), [[is("rust")], [is("zig")]]);
        let many: Vec<(&str, &str)> = vec![("key.limit", "rust"); 21];
        assert!(detail(keys(&shape(), None, &asked(&pairs(&many)).unwrap()).unwrap_err()).contains("at most 20"));
        let cursor = Cursor { version: Version(3), at: Bytes::new() }.text();
        let read_on = pairs(&[("key.limit", "rust"), ("key.limit", "zig"), ("cursor", &cursor)]);
        assert!(detail(keys(&shape(), None, &asked(&read_on).unwrap()).unwrap_err()).contains("of one partition"));
        let both = TableShape { partition_key: vec![0, 1], clustering: vec![], ..shape() };
        let day = ("slot", "1970-01-02");
        let once = pairs(&[("key.limit", "rust"), ("key.limit", "zig"), day]);
        assert_eq!(keys(&both, None, &asked(&once).unwrap()).unwrap().len(), 2, "a column that is named once is of all of them");
        let three = pairs(&[("key.limit", "rust"), ("key.limit", "zig"), ("key.limit", "c"), day, day]);
        assert!(detail(keys(&both, None, &asked(&three).unwrap()).unwrap_err()).contains("parameter slot is not named as often"));
    }

    #[test]
    fn latest_is_the_newest_window_and_of_other_columns_a_text_like_any() {
        let both = TableShape { partition_key: vec![0, 1], clustering: vec![], ..shape() };
        let parameters = pairs(&[("key.limit", "latest"), ("slot", "latest")]);
        let text = KeyValue::Is(ScalarValue::Utf8(Some("latest".into())));
        assert_eq!(keys(&both, Some(1), &asked(&parameters).unwrap()).unwrap(), [[text, KeyValue::Latest]]);
        assert!(keys(&both, None, &asked(&parameters).unwrap()).is_err(), "not the start of a window, but a time");
    }
}
