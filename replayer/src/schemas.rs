//! Writer schemas that no registry keeps: those of the catalogue and those of the schemas folder.
//!
//! A record's id is of one of two name spaces that have no number in common. Derived ids follow from the schema, and are Refold's own: they are looked
//! up in the catalogue, where schemas stay for as long as the log, and in the folder. All others are numbers of other writers, which `ids.toml` in the
//! folder declares. Earlier releases counted the schemas of their embedded logs from 1, which is in the second space: such a number is looked up in the
//! catalogue too, for embedded logs alone, and refused at the start where `ids.toml` says another schema of it.

use std::collections::HashMap;

use anyhow::{Result, anyhow};
use parking_lot::RwLock;
use refold_processor::decode::{Fingerprints, SchemaError, SchemaFolder, SchemaLookup, derived_id, is_derived};
use refold_processor::store::catalogue::Catalogue;

/// Looks schemas up in the catalogue, and in the folder of declared ones.
pub struct KnownSchemas {
    catalogue: Catalogue,
    folder: SchemaFolder,
    has_own_numbers: bool,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    /// By derived ids.
    derived: HashMap<u32, String>,
    /// By numbers that earlier releases gave.
    numbered: HashMap<u32, String>,
    by_fingerprint: Fingerprints,
}

impl KnownSchemas {
    /// Schemas of this catalogue and folder. `has_own_numbers`: an earlier release may have written records of this log with the catalogue's numbers.
    ///
    /// # Errors
    /// A number is the catalogue's own for one schema, and declared for another; or the catalogue cannot be read.
    pub fn new(catalogue: Catalogue, folder: SchemaFolder, has_own_numbers: bool) -> Result<KnownSchemas> {
        let schemas = KnownSchemas { catalogue, folder, has_own_numbers, known: RwLock::default() };
        schemas.refresh()?;
        for (number, own) in schemas.known.read().numbered.iter().filter(|_| has_own_numbers) {
            if let Some(declared) = schemas.folder.by_id(*number)?
                && derived_id(&declared)? != derived_id(own)?
            {
                return Err(anyhow!(
                    "events/ids.toml declares the id {number}, under which an earlier release has written events of another schema into this log: {own}; \
                     take {number} out of ids.toml if no other writer uses it, or begin a new log in another data folder (--data) and write both anew"
                ));
            }
        }
        Ok(schemas)
    }

    /// Reads the catalogue again: a schema may have been registered since.
    fn refresh(&self) -> Result<(), SchemaError> {
        let schemas = self.catalogue.schemas().map_err(|error| SchemaError::Unavailable(error.to_string()))?;
        let mut known = self.known.write();
        for (number, json) in schemas {
            // What is in the catalogue was a schema when it was registered.
            let _ = known.by_fingerprint.add(&json);
            if let Ok(derived) = derived_id(&json) {
                known.derived.entry(derived).or_insert_with(|| json.clone());
            }
            if !is_derived(number) {
                known.numbered.insert(number, json);
            }
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
        let catalogued = || self.find(|known| if is_derived(id) { &known.derived } else { &known.numbered }.get(&id).cloned());
        if is_derived(id) {
            return Ok(catalogued()?.or(self.folder.by_id(id)?));
        }
        match self.folder.by_id(id)? {
            None if self.has_own_numbers => catalogued(),
            declared => Ok(declared),
        }
    }

    fn by_fingerprint(&self, fingerprint: u64) -> Result<Option<String>, SchemaError> {
        match self.find(|known| known.by_fingerprint.get(fingerprint))? {
            Some(found) => Ok(Some(found)),
            None => self.folder.by_fingerprint(fingerprint),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::sync::Arc;

    use refold_processor::clock::SystemClock;
    use refold_processor::store::memory::MemoryStore;

    use super::*;

    const ORDER: &str = r#"{"type":"record","name":"trade","fields":[{"name":"price","type":"long"},{"name":"qty","type":"long"}]}"#;
    const TURNED: &str = r#"{"type":"record","name":"trade","fields":[{"name":"qty","type":"long"},{"name":"price","type":"long"}]}"#;

    /// The catalogue has ORDER under `own`; the folder declares the id 1 to be `declared`.
    fn known(own: u32, declared: &str, has_own_numbers: bool) -> Result<KnownSchemas> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("declared.avsc"), declared).unwrap();
        std::fs::write(folder.path().join("ids.toml"), "1 = \"declared\"\n").unwrap();
        let catalogue = Catalogue::new(Arc::new(MemoryStore::new()), Arc::new(SystemClock));
        catalogue.register_schema(own, ORDER, "test").unwrap();
        KnownSchemas::new(catalogue, SchemaFolder::open(folder.path()).unwrap(), has_own_numbers)
    }

    fn by_id(schemas: &KnownSchemas, id: u32) -> Option<String> {
        schemas.by_id(id).unwrap()
    }

    /// The case that was seen: the id 1 of another writer was taken for the catalogue's own, and two fields were read each as the other.
    #[test]
    fn a_number_of_another_writer_is_what_is_declared_and_never_one_of_the_catalogue() {
        let derived = derived_id(ORDER).unwrap();
        for has_own_numbers in [true, false] {
            let schemas = known(derived, TURNED, has_own_numbers).unwrap();
            assert_eq!(by_id(&schemas, 1).as_deref(), Some(TURNED));
            assert_eq!(by_id(&schemas, derived).as_deref(), Some(ORDER));
            assert_eq!(by_id(&schemas, derived_id(TURNED).unwrap()).as_deref(), Some(TURNED));
            assert_eq!(by_id(&schemas, 2), None);
        }
        // In Kafka all numbers are other writers', whatever an earlier release has counted.
        let schemas = known(1, TURNED, false).unwrap();
        assert_eq!(by_id(&schemas, 1).as_deref(), Some(TURNED));
        let schemas = known(2, TURNED, false).unwrap();
        assert_eq!(by_id(&schemas, 2), None);
    }

    #[test]
    fn numbers_of_an_earlier_release_are_found_and_one_that_is_declared_otherwise_is_refused() {
        let schemas = known(2, TURNED, true).unwrap();
        assert_eq!(by_id(&schemas, 2).as_deref(), Some(ORDER));
        assert_eq!(by_id(&schemas, derived_id(ORDER).unwrap()).as_deref(), Some(ORDER), "collectors through a server wrote derived ones");
        let same = ORDER.replace("record\"", "record\",\"doc\":\"the same\"");
        assert!(known(1, &same, true).is_ok(), "which of the two is of no matter");
        let refused = known(1, TURNED, true).err().unwrap().to_string();
        assert!(refused.contains("ids.toml declares the id 1") && refused.contains("take 1 out"), "{refused}");
    }
}
