//! What the schemas folder declares, and where a collector keeps its own.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use refold_collector::Encoder;
use refold_processor::decode::{SchemaFolder, derived_id};
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

/// Everything about events that the schemas folder declares.
pub struct Declared {
    /// The sources: events of all of them can be read and written.
    pub sources: Sources,
    /// The schemas of `events/`, with the ids that other writers use.
    pub folder: SchemaFolder,
    /// An encoder of each source, as one without a registry has it.
    pub encoders: Vec<Encoder>,
}

/// Reads and checks what is declared, for whatever runs with it and for `refold check` alike: so what the one accepts the other does not refuse.
pub fn declared_all(schemas: &Path) -> Result<Declared> {
    let sources = declared(schemas)?;
    let folder = SchemaFolder::open(&schemas.join("events"))?;
    let mut encoders = Vec::with_capacity(sources.len());
    for source in sources.values() {
        encoders.push(Encoder::new(source, Some(derived_id(&source.schema_json)?))?);
    }
    Ok(Declared { sources, folder, encoders })
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

/// What `sources.toml` says is to be collected into a source, where nothing else is said.
pub fn collected_into(schemas: &Path, source: &str) -> Option<String> {
    let text = std::fs::read_to_string(schemas.join("sources.toml")).ok()?;
    let file: toml::Table = toml::from_str(&text).ok()?;
    file.get("sources")?.get(source)?.get("collect")?.as_str().map(str::to_owned)
}

/// Where a collector keeps its resume points.
pub fn collector_folder(data: &Path) -> PathBuf {
    data.join("collector")
}
