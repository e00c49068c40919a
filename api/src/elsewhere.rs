//! How far versions are that run in other processes: as their owners tell it in the view store.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use refold_processor::clock::Clock;
use refold_processor::engine::error::EngineError;
use refold_processor::engine::quarantined::{Page, Wanted};
use refold_processor::engine::status::RunStatus;
use refold_processor::source::Sources;
use refold_processor::store::RowReader;
use refold_processor::store::catalogue::{Catalogue, CatalogueError, VersionRecord, VersionState};
use refold_processor::table::{Table, Version};
use refold_processor::view::View;
use refold_versions::planner::Planner;

use crate::ports::{ApiError, Running};

/// Versions that run in other processes.
pub struct Elsewhere {
    catalogue: Catalogue,
    rows: Arc<dyn RowReader>,
    clock: Arc<dyn Clock>,
    sources: Sources,
    planner: Planner,
    planned: Mutex<HashMap<String, Arc<View>>>,
    /// What was found last, and when.
    last: Mutex<(Option<Instant>, Vec<RunStatus>)>,
}

/// Statuses younger than this are answered again: each is a question to the catalogue and the store.
const FRESH_FOR: Duration = Duration::from_millis(500);

impl Elsewhere {
    /// Versions of this catalogue, over these sources.
    ///
    /// # Errors
    /// When a source's schema is not valid.
    pub fn new(catalogue: Catalogue, rows: Arc<dyn RowReader>, sources: Sources, clock: Arc<dyn Clock>) -> Result<Elsewhere, ApiError> {
        let planner = Planner::new(&sources)?;
        Ok(Elsewhere { catalogue, rows, clock, sources, planner, planned: Mutex::default(), last: Mutex::default() })
    }

    fn statuses(&self) -> Result<Vec<RunStatus>, CatalogueError> {
        let mut statuses = Vec::new();
        // What each worker tells of the versions that it builds.
        let mut told: HashMap<String, Vec<RunStatus>> = HashMap::new();
        for (name, view) in self.catalogue.snapshot()?.views {
            let view = match view {
                Ok(view) => view,
                Err(error) => {
                    tracing::warn!(view = name, %error, "how far versions are cannot be read now");
                    continue;
                }
            };
            for record in &view.versions {
                let is_run = !matches!(record.state, VersionState::Failed { .. });
                let owner = view.owners.get(&record.version).filter(|_| is_run);
                let is_owned = owner.is_some_and(|owner| owner.is_held(self.clock.now_ms()));
                let Some(owner) = owner.filter(|_| is_owned) else { continue };
                if record.state == VersionState::Building {
                    let told = told.entry(owner.owner.clone()).or_insert_with(|| self.told_by(&owner.owner));
                    let is_this = |run: &&RunStatus| run.view == record.view && run.version == Some(record.version);
                    if let Some(run) = told.iter().find(is_this) {
                        statuses.push(run.clone());
                        continue;
                    }
                }
                statuses.extend(self.status_of(record));
            }
        }
        Ok(statuses)
    }

    fn told_by(&self, owner: &str) -> Vec<RunStatus> {
        let told = self.catalogue.told_building(owner);
        told.inspect_err(|error| tracing::debug!(owner, %error, "what it builds cannot be read now")).unwrap_or_default()
    }

    /// `None`: nothing was told of it yet, or it cannot be asked now.
    fn status_of(&self, record: &VersionRecord) -> Option<RunStatus> {
        let view = self.view(record)?;
        let table = Table { view: record.view.clone(), version: record.version, shape: view.shape.clone() };
        let progress = self.rows.progress(&table).ok()??;
        // Where the log ends is put beside it by whoever looks at that all the time: a log that is unavailable takes its time to say so.
        let topic = self.sources.get(&view.source)?.topic.clone();
        Some(RunStatus {
            view: record.view.clone(),
            version: Some(record.version),
            topic,
            watermark_us: progress.watermark_us,
            event_time_us: progress.event_time_us,
            live: progress.live,
            read: progress.read,
            applied: progress.applied,
            quarantined: progress.quarantined,
            positions: progress.visible,
            ..RunStatus::default()
        })
    }

    fn view(&self, record: &VersionRecord) -> Option<Arc<View>> {
        if let Some(view) = self.planned.lock().get(&record.digest) {
            return Some(view.clone());
        }
        let view = Arc::new(self.planner.plan(&record.sql, &record.view).ok()?);
        self.planned.lock().insert(record.digest.clone(), view.clone());
        Some(view)
    }
}

impl Running for Elsewhere {
    fn status(&self) -> Vec<RunStatus> {
        // Whoever else asks meanwhile waits for the same answer.
        let mut last = self.last.lock();
        if last.0.is_none_or(|found| found.elapsed() >= FRESH_FOR) {
            match self.statuses() {
                Ok(statuses) => last.1 = statuses,
                Err(error) => tracing::warn!(%error, "how far versions are cannot be told now"),
            }
            last.0 = Some(Instant::now());
        }
        last.1.clone()
    }

    fn is_here(&self) -> bool {
        false
    }

    fn look(&self) {
        // Workers look at the catalogue again and again.
    }

    fn quarantined(&self, _: &str, _: Version, _: &Wanted) -> Result<Option<Page>, EngineError> {
        Ok(None)
    }
}
