//! What the API reads from and writes to, as whoever runs it hands it over.

use std::collections::BTreeMap;
use std::sync::Arc;

use refold_collector::CollectError;
use refold_processor::changes::ChangeFeed;
use refold_processor::clock::Clock;
use refold_processor::decode::SchemaLookup;
use refold_processor::engine::error::EngineError;
use refold_processor::engine::quarantined::{Page, Wanted};
use refold_processor::engine::status::RunStatus;
use refold_processor::engine::worker::Worker;
use refold_processor::log::Log;
use refold_processor::source::Sources;
use refold_processor::store::RowReader;
use refold_processor::store::catalogue::Catalogue;
use refold_processor::table::Version;
use refold_versions::planner::PlannerError;

use crate::access::TokensError;
use crate::collected::Collected;

/// The versions that run in this process, or in others.
pub trait Running: Send + Sync {
    /// How far each of them is.
    fn status(&self) -> Vec<RunStatus>;

    /// Whether they run in this process; otherwise this is what others tell of theirs.
    fn is_here(&self) -> bool {
        true
    }

    /// The catalogue has changed: look at it now.
    fn look(&self);

    /// The sizes of their states, bytes, of those that run in this process.
    fn state_sizes(&self) -> BTreeMap<(String, Version), u64> {
        BTreeMap::new()
    }

    /// Quarantined events of one of them; `None` when it is not one of them.
    ///
    /// # Errors
    /// When its state cannot be read.
    fn quarantined(&self, view: &str, version: Version, wanted: &Wanted) -> Result<Option<Page>, EngineError>;
}

impl Running for Worker {
    fn status(&self) -> Vec<RunStatus> {
        Worker::status(self)
    }

    fn look(&self) {
        Worker::look(self);
    }

    fn state_sizes(&self) -> BTreeMap<(String, Version), u64> {
        Worker::state_sizes(self)
    }

    fn quarantined(&self, view: &str, version: Version, wanted: &Wanted) -> Result<Option<Page>, EngineError> {
        Worker::quarantined(self, view, version, wanted)
    }
}

/// Where the declared definitions of views are.
pub trait Definitions: Send + Sync {
    /// The file that declares a view now, and its text; `None` when there is none.
    ///
    /// # Errors
    /// What could not be read, for people.
    fn of(&self, view: &str) -> Result<Option<(String, String)>, String>;
}

/// What the API reads from and writes to. It has no way to write rows.
#[derive(Clone)]
pub struct Ports {
    /// Versions and the active pointers.
    pub catalogue: Catalogue,
    /// Rows.
    pub rows: Arc<dyn RowReader>,
    /// What changes in rows.
    pub changes: Arc<dyn ChangeFeed>,
    /// Where events go.
    pub log: Arc<dyn Log>,
    /// Writer schemas.
    pub schemas: Arc<dyn SchemaLookup>,
    /// The declared sources.
    pub sources: Sources,
    /// The number under which the schema of each source is found by readers of the log, by the source's name.
    pub schema_ids: BTreeMap<String, u32>,
    /// What runs in this process.
    pub running: Arc<dyn Running>,
    /// What is collected in this process.
    pub collected: Option<Arc<Collected>>,
    /// The declared definitions of views.
    pub definitions: Arc<dyn Definitions>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

/// Why the API cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// Events of a source cannot be encoded.
    #[error(transparent)]
    Encoder(#[from] CollectError),
    /// The file of tokens is not one.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// No view can be planned over a source.
    #[error(transparent)]
    Source(#[from] PlannerError),
}
