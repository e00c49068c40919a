//! What workers tell of the versions that they build, so that processes without a worker can say how far these are.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::records::{building_key, decode, encode};
use super::{ATTEMPTS, Catalogue, CatalogueError, Outcome, too_busy};

/// The register of what a worker tells.
#[derive(Serialize, Deserialize)]
struct BuildingRegister<T> {
    at_ms: i64,
    building: Vec<T>,
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
        let register: BuildingRegister<T> = decode(&key, &stored.value)?;
        let is_fresh = self.now_ms().saturating_sub(register.at_ms) < TOLD_FOR_MS;
        Ok(if is_fresh { register.building } else { Vec::new() })
    }
}
