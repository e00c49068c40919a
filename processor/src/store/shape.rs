//! The shape of a table as adapters keep it beside the rows, so that a table is never read as something that it is not.

use datafusion::arrow::datatypes::DataType;
use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::table::{Order, Table, TableShape};

/// A column: its name and its type in Arrow's own words, `Timestamp(ms, "+00:00")`. Whether it may be null is not part of a shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnDescription {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub data_type: String,
}

/// A shape in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShapeDescription {
    /// The columns, in order.
    pub columns: Vec<ColumnDescription>,
    /// The names of the columns of the partition key.
    pub partition_key: Vec<String>,
    /// The names of the clustering columns, each with its order.
    pub clustering: Vec<(String, Order)>,
}

impl ShapeDescription {
    /// Describes a valid shape.
    pub fn of(shape: &TableShape) -> Self {
        let fields = shape.columns.fields();
        let name = |index: usize| fields.get(index).map(|field| field.name().clone()).unwrap_or_default();
        let describe = |field: &datafusion::arrow::datatypes::FieldRef| ColumnDescription {
            name: field.name().clone(),
            data_type: field.data_type().to_string(),
        };
        ShapeDescription {
            columns: fields.iter().map(describe).collect(),
            partition_key: shape.partition_key.iter().map(|index| name(*index)).collect(),
            clustering: shape.clustering.iter().map(|(index, order)| (name(*index), *order)).collect(),
        }
    }

    /// What differs between the table that is there (`self`) and the one asked for.
    pub fn difference(&self, asked: &ShapeDescription) -> Option<String> {
        for (there, wanted) in self.columns.iter().zip(&asked.columns) {
            if there != wanted {
                return Some(format!(
                    "there is column {} {} where {} {} is asked for",
                    there.name, there.data_type, wanted.name, wanted.data_type
                ));
            }
        }
        if self.columns.len() != asked.columns.len() {
            return Some(format!("it has {} columns, {} are asked for", self.columns.len(), asked.columns.len()));
        }
        if self.partition_key != asked.partition_key {
            return Some(format!(
                "its partition key is ({}), ({}) is asked for",
                self.partition_key.join(", "),
                asked.partition_key.join(", ")
            ));
        }
        if self.clustering != asked.clustering {
            return Some(format!("its rows are in order of ({}), ({}) is asked for", order(&self.clustering), order(&asked.clustering)));
        }
        None
    }

    /// The error for a table that is there with another shape.
    pub fn require(&self, table: &Table) -> Result<(), StoreError> {
        match self.difference(&ShapeDescription::of(&table.shape)) {
            Some(difference) => Err(StoreError::OtherShape { table: table.name(), difference }),
            None => Ok(()),
        }
    }
}

fn order(clustering: &[(String, Order)]) -> String {
    let word = |order: &Order| match order {
        Order::Asc => "ASC",
        Order::Desc => "DESC",
    };
    let columns: Vec<String> = clustering.iter().map(|(name, order)| format!("{name} {}", word(order))).collect();
    columns.join(", ")
}

/// Refuses a shape whose keys are not distinct columns of it, or whose columns are of a type that stores do not keep.
pub(super) fn validate(table: &Table) -> Result<(), StoreError> {
    let fields = table.shape.columns.fields();
    let mut keys: Vec<usize> = table.shape.partition_key.clone();
    keys.extend(table.shape.clustering.iter().map(|(index, _)| *index));
    if keys.is_empty() {
        return Err(StoreError::Broken(format!("table {} has no key; give its view a partition_key", table.name())));
    }
    for (place, key) in keys.iter().enumerate() {
        if *key >= fields.len() {
            return Err(StoreError::Broken(format!("table {}: key column {key} is not one of its {} columns", table.name(), fields.len())));
        }
        if keys.iter().skip(place + 1).any(|other| other == key) {
            return Err(StoreError::Broken(format!("table {}: column {key} is in its key twice", table.name())));
        }
    }
    for field in fields {
        if !is_kept(field.data_type()) {
            return Err(StoreError::Broken(format!(
                "table {}: column {} is {}, which a view store does not keep; cast it in the view",
                table.name(),
                field.name(),
                field.data_type()
            )));
        }
    }
    Ok(())
}

fn is_kept(data_type: &DataType) -> bool {
    match data_type {
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Float32
        | DataType::Float64
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::Timestamp(_, _)
        | DataType::Date32
        | DataType::Date64
        | DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Duration(_)
        | DataType::Interval(_)
        | DataType::Decimal128(_, _)
        | DataType::Decimal256(_, _) => true,
        DataType::List(item) | DataType::LargeList(item) => is_kept(item.data_type()),
        DataType::Struct(fields) => fields.iter().all(|field| is_kept(field.data_type())),
        _ => false,
    }
}
