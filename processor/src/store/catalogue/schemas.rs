//! The writer schemas of the embedded log: text by number, as a schema registry has them.

use super::records::{AuditEntry, SCHEMA_PREFIX, SchemaRegister, decode, encode, schema_key};
use super::{ATTEMPTS, Catalogue, CatalogueError, Outcome, too_busy};

impl Catalogue {
    /// The number of a writer schema, given on first sight, from 1. Schemas that are equal as JSON have the same number; numbers
    /// are never given to another.
    pub fn register_schema(&self, json: &str, by: &str) -> Result<u32, CatalogueError> {
        let content = |text: &str| serde_json::from_str::<serde_json::Value>(text);
        let wanted = content(json).map_err(|error| CatalogueError::InvalidSchema(error.to_string()))?;
        for _ in 0..ATTEMPTS {
            let known = self.schemas()?;
            if let Some((id, _)) = known.iter().find(|(_, text)| content(text).is_ok_and(|known| known == wanted)) {
                return Ok(*id);
            }
            let id = known.last().map_or(1, |(last, _)| last + 1);
            let key = schema_key(id);
            let text = encode(&key, &SchemaRegister { schema: json.into() })?;
            if let Outcome::Set(_) = self.registers.compare_and_set(&key, None, Some(&text))? {
                let entry = AuditEntry { to: Some(id.to_string()), ..AuditEntry::new("register_schema", "", by, self.clock.now_ms()) };
                self.journal_or_keep(entry);
                return Ok(id);
            }
        }
        Err(too_busy(SCHEMA_PREFIX))
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
