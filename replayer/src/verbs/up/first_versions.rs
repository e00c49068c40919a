//! First versions of declared views.

use std::path::PathBuf;

use anyhow::Result;
use refold_processor::store::catalogue::{Catalogue, VersionRecord, VersionState};
use refold_processor::view::View;
use refold_versions::planner::register;

use crate::parts::SELF;

/// Creates version 1 of views that have none; `commit`: that of the folder that declares them. Answers with what the user should know of the others.
pub fn register_views(catalogue: &Catalogue, declared: &[(PathBuf, View)], commit: Option<&str>) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    for (path, view) in declared {
        let versions = catalogue.versions(&view.name)?;
        let kept: Vec<&VersionRecord> = versions.iter().filter(|record| record.state != VersionState::Dropped).collect();
        let Some(newest) = kept.last() else {
            register(catalogue, view, commit, SELF)?;
            continue;
        };
        // One that readers were sent away from says nothing about what they should have.
        let is_current = |record: &&&VersionRecord| record.state != VersionState::Retired;
        let shown = kept.iter().rfind(is_current).unwrap_or(newest);
        if !kept.iter().filter(is_current).any(|record| record.digest == view.digest) {
            notes.push(format!(
                "{} is not what {} of view {} was built from; to build a version of it, run: refold replay {}",
                path.display(),
                shown.version,
                view.name,
                view.name
            ));
        }
    }
    let names = catalogue.views()?;
    for name in names.iter().filter(|name| !declared.iter().any(|(_, view)| view.name == **name)) {
        if catalogue.versions(name)?.iter().all(|record| record.state == VersionState::Dropped) {
            continue;
        }
        notes.push(format!("view {name} has no file any more; its versions are still kept up to date"));
    }
    if names.is_empty() {
        notes.push("there are no views; declare one in the schemas folder (views/*.sql)".into());
    }
    Ok(notes)
}

/// Whether nothing is in service, so that nothing suffers when building waits for the source's history.
pub fn is_all_building(catalogue: &Catalogue) -> Result<bool> {
    for view in catalogue.views()? {
        let versions = catalogue.versions(&view)?;
        if versions.iter().any(|record| !matches!(record.state, VersionState::Building | VersionState::Dropped)) {
            return Ok(false);
        }
    }
    Ok(true)
}
