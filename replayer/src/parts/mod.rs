//! The log, the view store and what belongs to them, opened as the settings say: embedded in the data folder, or Kafka and Cassandra.

mod declared;
mod services;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use refold_collector::Encoder;
use refold_processor::changes::{ChangeFeed, LocalFeed};
use refold_processor::clock::{Clock, SystemClock};
use refold_processor::decode::{SchemaLookup, derived_id};
use refold_processor::log::Log;
use refold_processor::log::embedded::{EmbeddedLog, EmbeddedLogSettings};
use refold_processor::source::{Source, Sources};
use refold_processor::store::Store;
use refold_processor::store::catalogue::Catalogue;
use refold_processor::store::embedded::{EmbeddedStore, EmbeddedStoreSettings};

pub use self::declared::{Declared, choose, collected_into, collector_folder, declared, declared_all};
use crate::schemas::KnownSchemas;
use crate::settings::Settings;

/// Who registers schemas and first versions, in the audit trail.
pub const SELF: &str = "refold";

/// A larger write buffer makes nothing faster.
const MOST_BUFFERED_BYTES: usize = 64 << 20;

/// The way into the log for events of the declared sources.
pub struct Intake {
    /// The log.
    pub log: Arc<dyn Log>,
    /// What changes in rows, for whoever follows them.
    pub changes: Arc<dyn ChangeFeed>,
    /// The same log, when it is the embedded one, which this process has to maintain.
    pub embedded_log: Option<Arc<EmbeddedLog>>,
    /// The declared sources. Their topics exist.
    pub sources: Sources,
    /// The number of each source's schema, by the source's name.
    pub schema_ids: BTreeMap<String, u32>,
}

/// Everything that versions are run with. One process at a time has embedded parts open.
pub struct Parts {
    /// The log.
    pub intake: Intake,
    /// The view store.
    pub store: Arc<dyn Store>,
    /// The catalogue, which is in the view store.
    pub catalogue: Catalogue,
    /// Writer schemas.
    pub schemas: Arc<dyn SchemaLookup>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

impl Parts {
    /// Opens, or creates, the parts, and registers what the schemas folder declares.
    pub fn open(settings: &Settings) -> Result<Parts> {
        let Declared { sources, folder, .. } = declared_all(&settings.schemas)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (log, changes, embedded_log) = open_log(settings, &clock)?;
        let store = open_store(settings)?;
        let catalogue = Catalogue::new(store.clone(), clock.clone());
        create_topics(log.as_ref(), embedded_log.as_deref(), &sources)?;
        for source in sources.values() {
            catalogue.register_schema(derived_id(&source.schema_json)?, &source.schema_json, SELF)?;
        }
        let known: Arc<dyn SchemaLookup> = Arc::new(KnownSchemas::new(catalogue.clone(), folder, embedded_log.is_some())?);
        let (schemas, schema_ids) = asked_schemas(settings, &sources, known)?;
        Ok(Parts { intake: Intake { log, changes, embedded_log, sources, schema_ids }, store, catalogue, schemas, clock })
    }
}

impl Intake {
    /// Opens, or creates, the log alone, for a collector.
    pub fn open(settings: &Settings) -> Result<Intake> {
        if settings.kafka.is_none() {
            // The embedded log's schemas are in the embedded store's catalogue.
            return Ok(Parts::open(settings)?.intake);
        }
        let Declared { sources, folder, .. } = declared_all(&settings.schemas)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (log, changes, embedded_log) = open_log(settings, &clock)?;
        create_topics(log.as_ref(), embedded_log.as_deref(), &sources)?;
        let (_, schema_ids) = asked_schemas(settings, &sources, Arc::new(folder))?;
        Ok(Intake { log, changes, embedded_log, sources, schema_ids })
    }

    /// The encoder of a source.
    pub fn encoder(&self, source: &Source) -> Result<Encoder> {
        Ok(Encoder::new(source, self.schema_ids.get(&source.name).copied())?)
    }
}

type Opened = (Arc<dyn Log>, Arc<dyn ChangeFeed>, Option<Arc<EmbeddedLog>>);

fn open_log(settings: &Settings, clock: &Arc<dyn Clock>) -> Result<Opened> {
    if let Some(brokers) = &settings.kafka {
        let log = services::kafka(brokers, settings)?;
        let changes: Arc<dyn ChangeFeed> = match (settings.change_feed, settings.view_feeds) {
            (true, true) => Arc::new(log.feed().with_view_feeds()),
            (true, false) => Arc::new(log.feed()),
            (false, true) => bail!("view_feeds = true needs change_feed = true: feeds of views are made from those of versions"),
            (false, false) => Arc::new(LocalFeed::default()),
        };
        return Ok((Arc::new(log), changes, None));
    }
    if settings.view_feeds {
        bail!("view_feeds = true needs Kafka (--kafka): the embedded log has no topics that others could read");
    }
    make_data_folder(settings)?;
    let data = &settings.data;
    let log_settings = EmbeddedLogSettings {
        block_bytes: settings.log_block_bytes,
        retention_ms: settings.log_retention_ms,
        retention_bytes: settings.log_retention_bytes,
        sync: settings.log_sync,
        write_buffer_bytes: (settings.memory_bytes / 32).min(MOST_BUFFERED_BYTES),
    };
    let log = EmbeddedLog::open(&data.join("log"), log_settings, clock.clone())
        .with_context(|| format!("the log in {} cannot be opened", data.display()))?;
    let log = Arc::new(log);
    Ok((log.clone(), Arc::new(LocalFeed::default()), Some(log)))
}

fn open_store(settings: &Settings) -> Result<Arc<dyn Store>> {
    if !settings.cassandra.is_empty() {
        return Ok(Arc::new(services::cassandra(settings)?));
    }
    make_data_folder(settings)?;
    let data = &settings.data;
    let store_settings = EmbeddedStoreSettings {
        cache_bytes: settings.memory_bytes / 16,
        write_buffer_bytes: settings.memory_bytes / 16,
        ..EmbeddedStoreSettings::default()
    };
    let store = EmbeddedStore::open(&data.join("store"), &store_settings)
        .with_context(|| format!("the view store in {} cannot be opened", data.display()))?;
    Ok(Arc::new(store))
}

/// Makes the data folder, where it is missing.
pub fn make_data_folder(settings: &Settings) -> Result<()> {
    let data = &settings.data;
    std::fs::create_dir_all(data).with_context(|| format!("cannot make the data folder {}; name another with --data", data.display()))
}

fn create_topics(log: &dyn Log, embedded: Option<&EmbeddedLog>, sources: &Sources) -> Result<()> {
    for source in sources.values() {
        log.create_topic(&source.topic, source.partitions)?;
        if let Some(embedded) = embedded {
            embedded.set_retention(&source.topic, source.retention);
        }
        let existing = log.partitions(&source.topic)?.len();
        if existing != source.partitions as usize {
            tracing::warn!(
                topic = source.topic,
                existing,
                declared = source.partitions,
                "a topic keeps the partitions it was created with"
            );
        }
    }
    Ok(())
}

/// Where writers' schemas are found, and the number of each source's schema: the registry's, or one that follows from the schema.
fn asked_schemas(
    settings: &Settings,
    sources: &Sources,
    known: Arc<dyn SchemaLookup>,
) -> Result<(Arc<dyn SchemaLookup>, BTreeMap<String, u32>)> {
    let mut ids = BTreeMap::new();
    let Some(url) = &settings.registry else {
        for source in sources.values() {
            ids.insert(source.name.clone(), derived_id(&source.schema_json)?);
        }
        return Ok((known, ids));
    };
    let registry = services::registry(url, settings, known)?;
    for source in sources.values() {
        // The subject that other clients look a topic's values up under.
        let subject = format!("{}-value", source.topic);
        ids.insert(source.name.clone(), registry.register(&subject, &source.schema_json)?);
    }
    Ok((Arc::new(registry), ids))
}
