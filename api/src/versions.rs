//! Registering versions: the one place where a planned view becomes a record of the catalogue.

use refold_processor::store::catalogue::{Catalogue, CatalogueError, VersionRecord};
use refold_processor::view::View;

/// Creates the next version of a view, or answers with the unfinished one of the same definition.
///
/// # Errors
/// When the catalogue does not answer.
pub fn register(catalogue: &Catalogue, view: &View, by: &str) -> Result<VersionRecord, CatalogueError> {
    catalogue.create_version(&view.name, &view.sql, &view.digest, &view.shape.fingerprint(), by)
}
