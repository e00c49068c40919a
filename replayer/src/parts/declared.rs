//! What the schemas folder declares, and where a collector keeps its own.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use refold_processor::source::{Source, Sources, load_sources};

use crate::failure::Failure;

/// The declared sources.
pub fn declared(schemas: &Path) -> Result<Sources> {
    load_sources(schemas).map_err(|error| match schemas.join("sources.toml").exists() {
        // It names the file itself.
        true => anyhow!(error),
        false => anyhow!("there are no declarations in {}: {error}; name the folder of sources.toml with --schemas", schemas.display()),
    })
}

/// The declared source of this name, or the only one.
pub fn choose<'a>(sources: &'a Sources, name: Option<&str>, flag: &str) -> Result<&'a Source, Failure> {
    let names = || sources.keys().cloned().collect::<Vec<_>>().join(", ");
    match (name, sources.len()) {
        (Some(name), _) => sources.get(name).ok_or_else(|| Failure::Usage(format!("there is no source {name}; declared are: {}", names()))),
        (None, 1) => sources.values().next().ok_or_else(|| anyhow!("no source is declared").into()),
        (None, 0) => Err(anyhow!("no source is declared; declare one in sources.toml").into()),
        (None, _) => Err(Failure::Usage(format!("several sources are declared: {}; name one with {flag}", names()))),
    }
}

/// Where a collector keeps its resume points.
pub fn collector_folder(data: &Path) -> PathBuf {
    data.join("collector")
}
