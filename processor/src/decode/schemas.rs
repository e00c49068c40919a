//! The port for writers' schemas, and adapters that need no service.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::canonical::{rabin_fingerprint, typed_fingerprint};

/// Set in ids that are derived from a schema; a registry counts its ids from 1 and does not get there.
const DERIVED: u32 = 1 << 31;

/// Whether an id is derived from its schema. All others are numbers that somebody gave: a registry, or `ids.toml` in its place.
pub fn is_derived(id: u32) -> bool {
    id & DERIVED != 0
}

/// Why a schema could not be looked up.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// The schemas cannot be asked now; the same call may succeed later. Nothing is quarantined for it.
    #[error("the schemas are unavailable: {0}")]
    Unavailable(String),
    /// The schemas cannot be had until a person acts: a right is missing, an address is wrong. Nothing is quarantined for it.
    #[error("{0}")]
    Refused(String),
    /// A schema file, or the declaration of ids, is not valid.
    #[error("{path}: {message}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
}

/// Where writers' schemas are found.
pub trait SchemaLookup: Send + Sync {
    /// The schema with this id (Confluent wire format), as JSON text. `Ok(None)`: there is none, so its records are quarantined.
    ///
    /// # Errors
    /// [`SchemaError::Unavailable`] and [`SchemaError::Refused`]: nobody can tell now, so its records wait.
    fn by_id(&self, id: u32) -> Result<Option<String>, SchemaError>;

    /// The schema with this CRC-64-AVRO fingerprint (single-object encoding), as JSON text; otherwise as [`SchemaLookup::by_id`].
    ///
    /// # Errors
    /// As [`SchemaLookup::by_id`].
    fn by_fingerprint(&self, fingerprint: u64) -> Result<Option<String>, SchemaError>;
}

/// The id of a schema that no registry has numbered: the low 31 bits of the fingerprint of its canonical form with logical types, and the
/// highest bit set.
///
/// # Errors
/// The text is not an Avro schema.
pub fn derived_id(schema_json: &str) -> Result<u32, super::DecodeError> {
    let low = typed_fingerprint(schema_json)? & u64::from(u32::MAX);
    Ok(u32::try_from(low).unwrap_or_default() | DERIVED)
}

/// Schemas by their fingerprints, which say nothing of logical types: of two that differ only there, records cannot be told apart, and neither is
/// taken for the other.
#[derive(Clone, Debug, Default)]
pub struct Fingerprints(HashMap<u64, Option<String>>);

impl Fingerprints {
    /// Adds a schema.
    ///
    /// # Errors
    /// The text is not an Avro schema.
    pub fn add(&mut self, schema_json: &str) -> Result<(), super::DecodeError> {
        let added = Some(schema_json.to_owned());
        let known = self.0.entry(rabin_fingerprint(schema_json)?).or_insert_with(|| added.clone());
        if let Some(other) = known
            && typed_fingerprint(other)? != typed_fingerprint(schema_json)?
        {
            tracing::warn!("two schemas differ only in logical types: records in single-object encoding of either are quarantined");
            *known = None;
        }
        Ok(())
    }

    /// The one schema with this fingerprint.
    pub fn get(&self, fingerprint: u64) -> Option<String> {
        self.0.get(&fingerprint).cloned().flatten()
    }
}

/// Schemas that are known beforehand.
#[derive(Clone, Debug, Default)]
pub struct StaticSchemas {
    by_id: HashMap<u32, String>,
    by_fingerprint: Fingerprints,
}

impl StaticSchemas {
    /// Adds a schema under its fingerprint and its [`derived_id`].
    ///
    /// # Errors
    /// The text is not an Avro schema.
    pub fn add(&mut self, schema_json: &str) -> Result<(), super::DecodeError> {
        self.by_fingerprint.add(schema_json)?;
        self.by_id.insert(derived_id(schema_json)?, schema_json.to_string());
        Ok(())
    }

    /// Adds a schema under its fingerprint and both its ids, the derived and this one, which is a writer's own.
    ///
    /// # Errors
    /// The text is not an Avro schema.
    pub fn add_with_id(&mut self, id: u32, schema_json: &str) -> Result<(), super::DecodeError> {
        self.add(schema_json)?;
        self.by_id.insert(id, schema_json.to_string());
        Ok(())
    }
}

impl SchemaLookup for StaticSchemas {
    fn by_id(&self, id: u32) -> Result<Option<String>, SchemaError> {
        Ok(self.by_id.get(&id).cloned())
    }

    fn by_fingerprint(&self, fingerprint: u64) -> Result<Option<String>, SchemaError> {
        Ok(self.by_fingerprint.get(fingerprint))
    }
}

/// The schemas of a folder: its `*.avsc` files, by fingerprint and [`derived_id`], and by the ids that `ids.toml` in it declares, if it is there:
///
/// ```toml
/// 1 = "tweet"       # records with the id 1 are written with tweet.avsc
/// 7 = "tweet-v2"
/// ```
///
/// Those are the ids of other writers. The derived ones are Refold's own, and cannot be declared.
#[derive(Clone, Debug)]
pub struct SchemaFolder {
    schemas: StaticSchemas,
}

impl SchemaFolder {
    /// Reads a folder once: schemas that are added later are not seen.
    ///
    /// # Errors
    /// A file cannot be read, is not an Avro schema, or `ids.toml` names one that is not there.
    pub fn open(folder: &Path) -> Result<SchemaFolder, SchemaError> {
        let mut schemas = StaticSchemas::default();
        let mut by_name = HashMap::new();
        let entries = std::fs::read_dir(folder).map_err(|error| invalid(folder, error))?;
        for entry in entries {
            let path = entry.map_err(|error| invalid(folder, error))?.path();
            if path.extension().is_none_or(|extension| extension != "avsc") {
                continue;
            }
            let json = std::fs::read_to_string(&path).map_err(|error| invalid(&path, error))?;
            schemas.add(&json).map_err(|error| invalid(&path, error))?;
            if let Some(name) = path.file_stem().and_then(|name| name.to_str()) {
                by_name.insert(name.to_string(), json);
            }
        }
        let path = folder.join("ids.toml");
        if path.exists() {
            let text = std::fs::read_to_string(&path).map_err(|error| invalid(&path, error))?;
            let ids: HashMap<String, String> = toml::from_str(&text).map_err(|error| invalid(&path, error))?;
            for (id, name) in ids {
                let parsed = id.parse().ok().filter(|id| !is_derived(*id));
                let id =
                    parsed.ok_or_else(|| invalid(&path, format!("{id:?} is not an id that a writer can have, 0 to {}", DERIVED - 1)))?;
                let json =
                    by_name.get(&name).ok_or_else(|| invalid(&path, format!("id {id} names {name}.avsc, which is not in the folder")))?;
                schemas.add_with_id(id, json).map_err(|error| invalid(&path, error))?;
            }
        }
        Ok(SchemaFolder { schemas })
    }
}

impl SchemaLookup for SchemaFolder {
    fn by_id(&self, id: u32) -> Result<Option<String>, SchemaError> {
        self.schemas.by_id(id)
    }

    fn by_fingerprint(&self, fingerprint: u64) -> Result<Option<String>, SchemaError> {
        self.schemas.by_fingerprint(fingerprint)
    }
}

fn invalid(path: &Path, message: impl ToString) -> SchemaError {
    SchemaError::Invalid { path: path.to_path_buf(), message: message.to_string() }
}
