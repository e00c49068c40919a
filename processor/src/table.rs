//! Views as tables: versions, their numbers and their shape. The words that the view and the store side share.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use serde::{Deserialize, Serialize};

/// The number of a version of a view, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

/// The number of an ownership of a version: who takes it over has a greater one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u32);

/// The order of a clustering column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Smallest first.
    Asc,
    /// Greatest first.
    Desc,
}

/// The shape of a view's table: the same for every version that has the same output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableShape {
    /// All columns, in the order of the view's SELECT.
    pub columns: SchemaRef,
    /// The partition key: indexes into `columns`. A read names all of them.
    pub partition_key: Vec<usize>,
    /// The clustering columns: indexes into `columns`, and the order rows have within a partition.
    pub clustering: Vec<(usize, Order)>,
}

impl TableShape {
    /// The columns that name a row: the partition key, then the clustering columns.
    pub fn key_columns(&self) -> impl Iterator<Item = usize> + '_ {
        self.partition_key.iter().copied().chain(self.clustering.iter().map(|(column, _)| *column))
    }

    /// Equal for equal shapes, on every machine: the names and types of the columns, and the key. 16 hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        let columns = self.columns.fields().iter().map(|field| format!("{:?} {} {}", field.name(), field.data_type(), field.is_nullable()));
        let described = format!("{:?} {:?} {:?}", columns.collect::<Vec<_>>(), self.partition_key, self.clustering);
        format!("{:016x}", xxhash_rust::xxh3::xxh3_64(described.as_bytes()))
    }
}

/// One version's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The view.
    pub view: String,
    /// The version.
    pub version: Version,
    /// The shape.
    pub shape: TableShape,
}

impl Table {
    /// A table of which only the name is known, without columns: enough to remove it, whatever it was made from.
    pub fn named(view: &str, version: Version) -> Table {
        let shape = TableShape { columns: Arc::new(Schema::empty()), partition_key: Vec::new(), clustering: Vec::new() };
        Table { view: view.to_owned(), version, shape }
    }

    /// The name of the table: `<view>__v<n>`.
    pub fn name(&self) -> String {
        format!("{}__{}", self.view, self.version)
    }
}
