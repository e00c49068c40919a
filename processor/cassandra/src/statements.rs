//! The CQL of a table of rows. Names are always quoted, so that reserved words, capitals and spaces are names like others.

use refold_processor::store::{RowCodec, ShapeDescription, StoreError};
use refold_processor::table::{Order, Table};

use crate::settings::is_name;
use crate::types::{Role, cql_type};

/// A name in CQL.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Text in CQL.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The texts of the statements about a table.
pub(crate) struct TableCql {
    /// Keyspace and table.
    pub qualified: String,
    /// All columns, separated by commas.
    pub columns: String,
    /// The columns of the partition key.
    pub partition_key: String,
    /// Names of the clustering columns, quoted.
    pub clustering: Vec<(String, Order)>,
    /// `a = ? AND b = ?` for the partition key.
    pub in_partition: String,
    /// The same for the whole key.
    pub is_row: String,
    names: Vec<String>,
}

/// Keyspace and table in CQL.
pub(crate) fn qualified(keyspace: &str, table: &Table) -> Result<String, StoreError> {
    let name = table.name();
    if !is_name(&name) {
        return Err(StoreError::Broken(format!(
            "{name} cannot be the name of a table in Cassandra, which takes up to 48 letters, digits and underscores; rename view {}",
            table.view
        )));
    }
    Ok(format!("{}.{}", quoted(keyspace), quoted(&name)))
}

impl TableCql {
    /// Of a table with a valid shape.
    pub fn of(keyspace: &str, table: &Table) -> Result<TableCql, StoreError> {
        let (name, qualified) = (table.name(), qualified(keyspace, table)?);
        let names: Vec<String> = table.shape.columns.fields().iter().map(|field| quoted(field.name())).collect();
        let named = |index: usize| names.get(index).cloned().unwrap_or_default();
        let partition: Vec<String> = table.shape.partition_key.iter().map(|index| named(*index)).collect();
        let clustering: Vec<(String, Order)> = table.shape.clustering.iter().map(|(index, order)| (named(*index), *order)).collect();
        if partition.is_empty() {
            return Err(StoreError::Broken(format!(
                "table {name} has no partition key, which Cassandra needs; give its view a partition_key"
            )));
        }
        let equal =
            |columns: &mut dyn Iterator<Item = &String>| columns.map(|name| format!("{name} = ?")).collect::<Vec<_>>().join(" AND ");
        Ok(TableCql {
            qualified,
            columns: names.join(", "),
            partition_key: partition.join(", "),
            in_partition: equal(&mut partition.iter()),
            is_row: equal(&mut partition.iter().chain(clustering.iter().map(|(name, _)| name))),
            clustering,
            names,
        })
    }

    /// The quoted name of a column.
    pub fn column(&self, index: usize) -> &str {
        self.names.get(index).map_or("", String::as_str)
    }

    /// Makes the table; its comment says what it was made from.
    pub fn create(&self, table: &Table, options: &str) -> Result<String, StoreError> {
        let shape = serde_json::to_string(&ShapeDescription::of(&table.shape))
            .map_err(|error| StoreError::Broken(format!("the shape of table {}: {error}", table.name())))?;
        let fields = table.shape.columns.fields();
        let columns: Vec<String> =
            self.names.iter().zip(fields).map(|(name, field)| format!("{name} {}", cql_type(field.data_type()))).collect();
        let clustering: String = self.clustering.iter().map(|(name, _)| format!(", {name}")).collect();
        let order = |order: &Order| if *order == Order::Asc { "ASC" } else { "DESC" };
        let orders: Vec<String> = self.clustering.iter().map(|(name, by)| format!("{name} {}", order(by))).collect();
        let ordered = if orders.is_empty() { String::new() } else { format!("CLUSTERING ORDER BY ({}) AND ", orders.join(", ")) };
        Ok(format!(
            "CREATE TABLE IF NOT EXISTS {} ({}, PRIMARY KEY (({}){clustering})) WITH {ordered}comment = {}{options}",
            self.qualified,
            columns.join(", "),
            self.partition_key,
            literal(&shape)
        ))
    }

    /// Writes a row: all columns, then the timestamp.
    pub fn upsert(&self) -> String {
        let places = vec!["?"; self.names.len()].join(", ");
        format!("INSERT INTO {} ({}) VALUES ({places}) USING TIMESTAMP ?", self.qualified, self.columns)
    }

    /// Deletes a row: the timestamp, then the key.
    pub fn delete(&self) -> String {
        self.delete_where(&self.is_row)
    }

    /// Deletes what meets a condition: the timestamp, then the condition's values.
    pub fn delete_where(&self, condition: &str) -> String {
        format!("DELETE FROM {} USING TIMESTAMP ? WHERE {condition}", self.qualified)
    }
}

/// What each column is in the table.
pub(crate) fn roles(codec: &RowCodec) -> Vec<Role> {
    let shape = codec.shape();
    let role = |index: usize| {
        if shape.partition_key == [index] {
            Role::WholePartitionKey
        } else if shape.partition_key.contains(&index) || shape.clustering.iter().any(|(clustering, _)| *clustering == index) {
            Role::Key
        } else {
            Role::Value
        }
    };
    (0..shape.columns.fields().len()).map(role).collect()
}
