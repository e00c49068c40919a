//! What workers tell of the versions that they build, so that processes without a worker can say how far these are.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::records::{building_key, decode, encode};
use super::{ATTEMPTS, Catalogue, CatalogueError, Outcome, too_busy};

/// The register of what a worker tells.
#[derive(Serialize, Deserialize)]
struct BuildingRegister {
    at_ms: i64,
    building: Vec<Value>,
}

/// What was told by a worker longer ago than this is not how things are, milliseconds.
const TOLD_FOR_MS: i64 = 15_000;

impl Catalogue {
    /// Tells how far the versions are that a worker builds.
    ///
    /// # Errors
    /// When the store does not take it.
    pub fn tell_building<T: Serialize>(&self, owner: &str, building: Vec<T>) -> Result<(), CatalogueError> {
        let key = building_key(owner);
        let building = building.iter().map(serde_json::to_value).collect::<Result<_, _>>();
        let building = building.map_err(|error| CatalogueError::Unreadable { key: key.clone(), error: error.to_string() })?;
        let text = encode(&key, &BuildingRegister { at_ms: self.now_ms(), building })?;
        for _ in 0..ATTEMPTS {
            let revision = self.registers.get(&key)?.map(|stored| stored.revision);
            if let Outcome::Set(_) = self.registers.compare_and_set(&key, revision, Some(&text))? {
                return Ok(());
            }
        }
        Err(too_busy(&key))
    }

    /// What a worker told lately of the versions that it builds.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn told_building<T: DeserializeOwned>(&self, owner: &str) -> Result<Vec<T>, CatalogueError> {
        let key = building_key(owner);
        let Some(stored) = self.registers.get(&key)? else { return Ok(Vec::new()) };
        let register: BuildingRegister = decode(&key, &stored.value)?;
        if self.now_ms().saturating_sub(register.at_ms) >= TOLD_FOR_MS {
            return Ok(Vec::new());
        }
        let building = register.building.into_iter().map(serde_json::from_value).collect::<Result<_, _>>();
        building.map_err(|error| CatalogueError::Unreadable { key, error: error.to_string() })
    }
}
