//! Removing what dropped versions leave behind: table, change feed and published positions, whoever ran them last, and the state in this worker's folder.
//!
//! The catalogue lists a dropped version until nothing is left of it, and each part can be removed twice. So a removal that was interrupted is begun
//! again, by this worker or another.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Key, LEAST_RETRY, MOST_RETRY_OF_OPERATOR, Ports, Unable, Worker, WorkerSettings, spawn};
use crate::backoff::Backoff;
use crate::engine::error::EngineError;
use crate::engine::faults::{Faults, Step};
use crate::engine::status::RunStatus;
use crate::engine::view_feed::copy_dir;
use crate::store::catalogue::{Snapshot, VersionState, ViewSnapshot};
use crate::table::{Table, Version};

/// The name under which the positions of a version are published.
pub(super) fn reader_name(view: &str, version: Version) -> String {
    format!("{view}.{version}")
}

/// Removes what is left of dropped versions. Cheap to clone.
#[derive(Clone)]
pub(super) struct Removals {
    ports: Ports,
    owner: String,
    state_dir: PathBuf,
    faults: Arc<Faults>,
    /// Those that failed, and when they are tried again.
    failed: Arc<Mutex<BTreeMap<Key, Unable>>>,
    /// The versions that lived when the states of all others were removed last.
    swept: Arc<Mutex<Option<BTreeSet<Key>>>>,
}

impl Removals {
    pub fn new(ports: &Ports, settings: &WorkerSettings) -> Removals {
        Removals {
            ports: ports.clone(),
            owner: settings.owner.clone(),
            state_dir: settings.state_dir.clone(),
            faults: settings.faults.clone(),
            failed: Arc::default(),
            swept: Arc::default(),
        }
    }

    /// Removes all that is left of a dropped version that nobody runs, or notes why that is not possible and when it is tried again.
    pub fn remove(&self, key: &Key) {
        let (view, version) = (&key.0, key.1);
        match self.try_to_remove(key) {
            Ok(()) => {
                self.failed.lock().remove(key);
                tracing::info!(view, %version, "nothing is left of the dropped version");
            }
            Err(error) => {
                tracing::warn!(view, %version, %error, "something is left of a dropped version; it is tried again");
                self.note_failure(key, &error);
            }
        }
    }

    fn try_to_remove(&self, (view, version): &Key) -> Result<(), EngineError> {
        let table = Table::named(view, *version);
        self.faults.reach(Step::DropTable);
        self.ports.store.drop_table(&table)?;
        self.faults.reach(Step::DropFeed);
        self.ports.changes.remove(&table)?;
        self.ports.log.forget_positions(&reader_name(view, *version))?;
        self.faults.reach(Step::DropState);
        self.remove_state(view, *version)?;
        self.remove_view_feed(view)?;
        self.faults.reach(Step::DropNote);
        Ok(self.ports.catalogue.note_removed(view, *version, &self.owner)?)
    }

    fn remove_state(&self, view: &str, version: Version) -> Result<(), EngineError> {
        let of_view = self.state_dir.join(view);
        let state = of_view.join(version.to_string());
        match std::fs::remove_dir_all(&state) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(EngineError::Internal(format!("the state in {} cannot be removed: {error}", state.display())))
            }
            _ => {
                // Unless other versions have theirs in it.
                let _ = std::fs::remove_dir(&of_view);
                Ok(())
            }
        }
    }

    /// The feed of a view goes with its last version.
    fn remove_view_feed(&self, view: &str) -> Result<(), EngineError> {
        let Some(feeds) = self.ports.changes.view_feeds() else { return Ok(()) };
        if self.ports.catalogue.versions(view)?.iter().all(|record| record.state == VersionState::Dropped) {
            feeds.remove(view)?;
            let _ = std::fs::remove_dir_all(copy_dir(&self.state_dir, view));
            let _ = std::fs::remove_dir(self.state_dir.join(view));
        }
        Ok(())
    }

    fn note_failure(&self, key: &Key, error: &EngineError) {
        let mut failed = self.failed.lock();
        let mut backoff = failed.remove(key).map_or_else(|| Backoff::new(LEAST_RETRY, MOST_RETRY_OF_OPERATOR), |before| before.backoff);
        let pause_ms = i64::try_from(backoff.pause().as_millis()).unwrap_or(i64::MAX);
        let retry_at_ms = self.ports.clock.now_ms().saturating_add(pause_ms);
        failed.insert(key.clone(), Unable { error: error.to_string(), recovery: error.recovery(), retry_at_ms, backoff });
    }

    /// What could not be removed, and why.
    pub fn statuses(&self) -> Vec<RunStatus> {
        let failed = self.failed.lock();
        let status = |((view, version), failure): (&Key, &Unable)| RunStatus {
            view: view.clone(),
            version: Some(*version),
            unable: Some(failure.error.clone()),
            ..RunStatus::default()
        };
        failed.iter().map(status).collect()
    }

    fn is_due(&self, key: &Key) -> bool {
        self.failed.lock().get(key).is_none_or(|failure| failure.retry_at_ms <= self.ports.clock.now_ms())
    }

    /// The versions that have a state in this worker's folder.
    fn states(&self) -> Vec<Key> {
        let mut states = Vec::new();
        for (view, of_view) in folders(&self.state_dir) {
            let versions = folders(&of_view).into_iter().filter_map(|(name, _)| name.strip_prefix('v')?.parse().ok());
            states.extend(versions.map(|number| (view.clone(), Version(number))));
        }
        states
    }
}

/// The folders in a folder; none where it is not there or cannot be read.
fn folders(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let named = entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())));
    named.filter(|(_, path)| path.is_dir()).collect()
}

impl Worker {
    /// Drops versions that were retired long enough ago.
    pub(super) fn drop_expired(&self, view: &str, read: &ViewSnapshot) {
        let now_ms = self.ports.clock.now_ms();
        let is_expired = |expires_ms: Option<i64>| expires_ms.is_some_and(|expires_ms| expires_ms <= now_ms);
        for record in read.versions.iter().filter(|record| is_expired(record.expires_ms(self.settings.retire_after_ms))) {
            let (version, by) = (record.version, &self.settings.owner);
            let dropped = self.ports.catalogue.drop_version(view, version, &[VersionState::Retired], by, Some(EXPIRED));
            match dropped {
                Ok(_) => tracing::info!(view, %version, "version was retired long enough ago: it is dropped"),
                Err(error) => {
                    tracing::warn!(view, %version, %error, "a version that was retired long ago is not dropped; it is tried again")
                }
            }
        }
    }

    /// Begins to remove what is left of dropped versions, unless another worker still runs them.
    pub(super) fn remove_left(&self, view: &str, read: &ViewSnapshot) {
        let is_listed = |version: Version| read.removing.iter().any(|record| record.version == version);
        self.removals.failed.lock().retain(|(of, version), _| of != view || is_listed(*version));
        for record in &read.removing {
            let key = (view.to_owned(), record.version);
            let is_elsewhere = read.owners.get(&record.version).is_some_and(|held| self.is_run_elsewhere(held));
            if is_elsewhere || self.is_in_use(&key) || !self.removals.is_due(&key) {
                continue;
            }
            let (removals, of) = (self.removals.clone(), key.clone());
            match spawn(&format!("remove-{view}-{}", record.version), move || removals.remove(&of)) {
                Ok(thread) => drop(self.ending.lock().insert(key, thread)),
                Err(error) => {
                    tracing::warn!(view, version = %record.version, %error, "a dropped version is not removed; it is tried again")
                }
            }
        }
    }

    /// Removes the states of dropped versions from this worker's folder: another worker may have removed all else. Only what the catalogue says to be dropped
    /// is removed, and it is only asked when versions have come or gone.
    pub(super) fn sweep_states(&self, snapshot: &Snapshot) {
        let readable = snapshot.views.iter().filter_map(|(view, read)| Some((view, read.as_ref().ok()?)));
        let living: BTreeSet<Key> =
            readable.flat_map(|(view, read)| read.versions.iter().map(|record| (view.clone(), record.version))).collect();
        if self.removals.swept.lock().as_ref() == Some(&living) {
            return;
        }
        let mut is_swept = true;
        for key in self.removals.states().into_iter().filter(|key| !living.contains(key)) {
            is_swept &= !self.is_in_use(&key) && self.sweep_state(&key);
        }
        *self.removals.swept.lock() = is_swept.then_some(living);
    }

    /// Whether there is nothing left to do about a state.
    fn sweep_state(&self, (view, version): &Key) -> bool {
        let removed = match self.ports.catalogue.version(view, *version) {
            Ok(Some(record)) if record.state == VersionState::Dropped => self.removals.remove_state(view, *version),
            Ok(_) => return true,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = &removed {
            tracing::warn!(view, %version, %error, "the state of a dropped version is left behind; it is tried again");
        }
        removed.is_ok()
    }

    /// Whether a version runs here, or is about to, or is being ended.
    fn is_in_use(&self, key: &Key) -> bool {
        self.running.lock().contains_key(key) || self.openings.has(key) || self.ending.lock().contains_key(key)
    }
}

/// Why a version was dropped by itself, in the audit trail.
const EXPIRED: &str = "retire_after_ms has passed since it was retired";
