//! The writer schemas of the log: text by number, as a schema registry has them.
//!
//! Numbers were once counted from 1, and records of an embedded log may carry such ones still.

use super::records::{AuditEntry, SCHEMA_PREFIX, SchemaRegister, decode, encode, schema_key};
use super::{Catalogue, CatalogueError, Outcome};

impl Catalogue {
    /// Keeps a writer schema under its number, which follows from the schema: of texts with one number, which say the same of records, the first is kept.
    ///
    /// # Errors
    /// The text is not JSON, or the catalogue cannot be read or written.
    pub fn register_schema(&self, number: u32, json: &str, by: &str) -> Result<(), CatalogueError> {
        serde_json::from_str::<serde::de::IgnoredAny>(json).map_err(|error| CatalogueError::InvalidSchema(error.to_string()))?;
        if self.schema(number)?.is_some() {
            return Ok(());
        }
        let key = schema_key(number);
        let text = encode(&key, &SchemaRegister { schema: json.into() })?;
        // Whoever was first has kept the same.
        if let Outcome::Set(_) = self.registers.compare_and_set(&key, None, Some(&text))? {
            let entry = AuditEntry { to: Some(number.to_string()), ..AuditEntry::new("register_schema", "", by, self.clock.now_ms()) };
            self.journal_or_keep(entry);
        }
        Ok(())
    }

    /// The writer schema of this number.
    pub fn schema(&self, id: u32) -> Result<Option<String>, CatalogueError> {
        let loaded: Option<(SchemaRegister, u64)> = self.load(&schema_key(id))?;
        Ok(loaded.map(|(register, _)| register.schema))
    }

    /// All writer schemas by number.
    pub fn schemas(&self) -> Result<Vec<(u32, String)>, CatalogueError> {
        let mut schemas = Vec::new();
        for (key, stored) in self.registers.list(SCHEMA_PREFIX)? {
            let id = key.strip_prefix(SCHEMA_PREFIX).and_then(|number| number.parse().ok());
            let id =
                id.ok_or_else(|| CatalogueError::Unreadable { key: key.clone(), error: "its name does not end in a number".into() })?;
            let register: SchemaRegister = decode(&key, &stored.value)?;
            schemas.push((id, register.schema));
        }
        Ok(schemas)
    }
}
