//! The embedded parts in a data folder, opened.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use refold_collector::Encoder;
use refold_processor::clock::{Clock, SystemClock};
use refold_processor::decode::SchemaFolder;
use refold_processor::log::Log;
use refold_processor::log::embedded::{EmbeddedLog, EmbeddedLogSettings};
use refold_processor::source::{Source, Sources, load_sources};
use refold_processor::store::catalogue::Catalogue;
use refold_processor::store::embedded::{EmbeddedStore, EmbeddedStoreSettings};

use crate::failure::Failure;
use crate::schemas::EmbeddedSchemas;
use crate::settings::Settings;

/// Who registers schemas and first versions, in the audit trail.
pub const SELF: &str = "refold up";

/// A larger write buffer makes nothing faster.
const MOST_BUFFERED_BYTES: usize = 64 << 20;

/// The embedded log, view store and catalogue of a data folder. One process at a time has them open.
pub struct Embedded {
    /// The log.
    pub log: Arc<EmbeddedLog>,
    /// The view store.
    pub store: Arc<EmbeddedStore>,
    /// The catalogue, which is in the view store.
    pub catalogue: Catalogue,
    /// Writer schemas.
    pub schemas: Arc<EmbeddedSchemas>,
    /// The declared sources. Their topics exist.
    pub sources: Sources,
    /// The number of each source's schema, by the source's name.
    pub schema_ids: BTreeMap<String, u32>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

impl Embedded {
    /// Opens, or creates, the parts in the data folder, and registers what the schemas folder declares.
    pub fn open(settings: &Settings) -> Result<Embedded> {
        let sources = declared(&settings.schemas)?;
        let folder = SchemaFolder::open(&settings.schemas.join("events"))?;
        let data = &settings.data;
        std::fs::create_dir_all(data)
            .with_context(|| format!("cannot make the data folder {}; name another with --data", data.display()))?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let log_settings = EmbeddedLogSettings {
            block_bytes: settings.log_block_bytes,
            retention_ms: settings.log_retention_ms,
            retention_bytes: settings.log_retention_bytes,
            sync: settings.log_sync,
            write_buffer_bytes: (settings.memory_bytes / 32).min(MOST_BUFFERED_BYTES),
        };
        let log = EmbeddedLog::open(&data.join("log"), log_settings, clock.clone())
            .with_context(|| format!("the log in {} cannot be opened", data.display()))?;
        let store_settings = EmbeddedStoreSettings {
            cache_bytes: settings.memory_bytes / 16,
            write_buffer_bytes: settings.memory_bytes / 16,
            ..EmbeddedStoreSettings::default()
        };
        let store = EmbeddedStore::open(&data.join("store"), &store_settings)
            .with_context(|| format!("the view store in {} cannot be opened", data.display()))?;
        let store = Arc::new(store);
        let catalogue = Catalogue::new(store.clone(), clock.clone());
        let mut schema_ids = BTreeMap::new();
        for source in sources.values() {
            log.create_topic(&source.topic, source.partitions)?;
            log.set_retention(&source.topic, source.retention);
            let existing = log.partitions(&source.topic)?.len();
            if existing != source.partitions as usize {
                tracing::warn!(
                    topic = source.topic,
                    existing,
                    declared = source.partitions,
                    "a topic keeps the partitions it was created with"
                );
            }
            schema_ids.insert(source.name.clone(), catalogue.register_schema(&source.schema_json, SELF)?);
        }
        let schemas = Arc::new(EmbeddedSchemas::new(catalogue.clone(), folder));
        Ok(Embedded { log: Arc::new(log), store, catalogue, schemas, sources, schema_ids, clock })
    }

    /// The encoder of a source.
    pub fn encoder(&self, source: &Source) -> Result<Encoder> {
        Ok(Encoder::new(source, self.schema_ids.get(&source.name).copied())?)
    }
}

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
