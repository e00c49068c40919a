//! Writer schemas that no registry keeps: those of the catalogue, then those of the folder.

use std::collections::HashMap;

use parking_lot::RwLock;
use refold_processor::decode::{Fingerprints, SchemaError, SchemaFolder, SchemaLookup, derived_id};
use refold_processor::store::catalogue::Catalogue;

/// Looks schemas up in the catalogue, where they stay for as long as the log, and then in the folder of declared ones.
pub struct KnownSchemas {
    catalogue: Catalogue,
    folder: SchemaFolder,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    by_id: HashMap<u32, String>,
    by_fingerprint: Fingerprints,
}

impl KnownSchemas {
    /// Schemas of this catalogue and folder.
    pub fn new(catalogue: Catalogue, folder: SchemaFolder) -> KnownSchemas {
        KnownSchemas { catalogue, folder, known: RwLock::default() }
    }

    /// Reads the catalogue again: a schema may have been registered since.
    fn refresh(&self) -> Result<(), SchemaError> {
        let schemas = self.catalogue.schemas().map_err(|error| SchemaError::Away(error.to_string()))?;
        let mut known = self.known.write();
        for (id, json) in schemas {
            // Records that were encoded without asking for a number carry the derived one.
            if let Ok(derived) = derived_id(&json) {
                known.by_id.entry(derived).or_insert_with(|| json.clone());
            }
            // What is in the catalogue was a schema when it was registered.
            let _ = known.by_fingerprint.add(&json);
            known.by_id.insert(id, json);
        }
        Ok(())
    }

    fn find(&self, find: impl Fn(&Known) -> Option<String>) -> Result<Option<String>, SchemaError> {
        if let Some(found) = find(&self.known.read()) {
            return Ok(Some(found));
        }
        self.refresh()?;
        Ok(find(&self.known.read()))
    }
}

impl SchemaLookup for KnownSchemas {
    fn by_id(&self, id: u32) -> Result<Option<String>, SchemaError> {
        match self.find(|known| known.by_id.get(&id).cloned())? {
            Some(found) => Ok(Some(found)),
            None => self.folder.by_id(id),
        }
    }

    fn by_fingerprint(&self, fingerprint: u64) -> Result<Option<String>, SchemaError> {
        match self.find(|known| known.by_fingerprint.get(fingerprint))? {
            Some(found) => Ok(Some(found)),
            None => self.folder.by_fingerprint(fingerprint),
        }
    }
}
