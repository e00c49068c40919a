//! The declared sources, ready to take events.

use std::collections::BTreeMap;
use std::sync::Arc;

use refold_collector::Encoder;
use refold_processor::clock::Clock;
use refold_processor::decode::SchemaLookup;
use refold_processor::json::millis;
use refold_processor::log::{Log, LogError};
use refold_processor::source::Source;
use refold_versions::retention::Beginning;
use serde_json::{Map, Value, json};

use crate::counts::HttpMetrics;
use crate::limits::{AllPlaces, Limits};
use crate::ports::{ApiError, Ports};
use crate::problem::Problem;
use crate::settings::ApiSettings;
use crate::views::or_none;
use crate::watch::{Ends, Watch};

/// One source, ready to take events.
pub struct Intake {
    /// The source.
    pub source: Source,
    /// Makes records of events.
    pub encoder: Encoder,
    /// Held while events are appended that may be in the log already.
    pub retries: Arc<tokio::sync::Mutex<()>>,
}

/// The way of events into the log.
pub struct Intakes {
    sources: BTreeMap<String, Arc<Intake>>,
    /// The log.
    pub log: Arc<dyn Log>,
    /// Writer schemas.
    pub schemas: Arc<dyn SchemaLookup>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// What is known of the log.
    pub watch: Arc<Watch>,
    /// Places for posts, and memory for their bodies.
    pub places: Arc<AllPlaces>,
    /// Counts of events.
    pub counts: Arc<HttpMetrics>,
    /// Time-outs and rates.
    pub limits: Limits,
    /// The largest body, bytes.
    pub max_body_bytes: usize,
}

impl Intakes {
    /// The way into the log of these ports.
    ///
    /// # Errors
    /// When a source's schema cannot be written.
    pub fn new(
        ports: &Ports,
        settings: &ApiSettings,
        watch: &Arc<Watch>,
        places: &Arc<AllPlaces>,
        counts: &Arc<HttpMetrics>,
    ) -> Result<Intakes, ApiError> {
        let mut sources = BTreeMap::new();
        for (name, source) in &ports.sources {
            let encoder = Encoder::new(source, ports.schema_ids.get(name).copied())?;
            sources.insert(name.clone(), Arc::new(Intake { source: source.clone(), encoder, retries: Arc::default() }));
        }
        Ok(Intakes {
            sources,
            log: ports.log.clone(),
            schemas: ports.schemas.clone(),
            clock: ports.clock.clone(),
            watch: watch.clone(),
            places: places.clone(),
            counts: counts.clone(),
            limits: settings.limits.clone(),
            max_body_bytes: settings.max_body_bytes,
        })
    }

    /// The sources.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Intake>> {
        self.sources.values()
    }

    /// The source of this name, if it is declared.
    pub fn get(&self, source: &str) -> Option<&Arc<Intake>> {
        self.sources.get(source)
    }

    /// The declared source of this name.
    ///
    /// # Errors
    /// 404 with those that there are.
    pub fn find(&self, source: &str) -> Result<Arc<Intake>, Problem> {
        self.sources.get(source).cloned().ok_or_else(|| {
            let known: Vec<String> = self.sources.keys().cloned().collect();
            Problem::not_found(format!("there is no source {source}; there are: {}", or_none(&known))).with("sources", known)
        })
    }

    /// A source, its log, and where the partitions of its topic start and end.
    pub fn document(&self, source: &Source) -> Result<Value, LogError> {
        let partitions: Map<String, Value> = self
            .log
            .topic_bounds(&source.topic)?
            .into_iter()
            .map(|(partition, bounds)| (partition.to_string(), json!({ "start": bounds.start.0, "end": bounds.end.0 })))
            .collect();
        Ok(json!({
            "source": source.name,
            "topic": source.topic,
            "log": self.log.id()?,
            "partitions": partitions,
            "retention": retention_document(&self.watch.ends, &source.topic),
        }))
    }
}

/// How long a topic keeps its records, and so how long a replay is whole; `null` before that is known.
fn retention_document(ends: &Ends, topic: &str) -> Value {
    let Some(beginning) = ends.beginning(topic) else { return Value::Null };
    let retained = ends.retained(topic).unwrap_or_default();
    let (is, kept_for_s) = match beginning {
        Beginning::Kept => ("kept", None),
        Beginning::KeptFor(seconds) => ("kept_for", Some(seconds)),
        Beginning::Gone => ("gone", None),
    };
    json!({
        "retention_ms": retained.retention_ms,
        "oldest_record": retained.oldest_ms.map(millis),
        "beginning": is,
        "kept_for_s": kept_for_s,
    })
}
