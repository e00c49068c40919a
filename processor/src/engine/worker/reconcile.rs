//! Making what runs here equal to what the catalogue wants.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::removing::reader_name;
use super::{Key, Running, Worker};
use crate::engine::error::EngineError;
use crate::engine::view_feed::Served;
use crate::recovery::Recovery;
use crate::store::catalogue::{Ownership, Snapshot, VersionRecord, VersionState, ViewSnapshot};
use crate::table::{Table, Version};

impl Worker {
    /// A fault of one view, or of one version, does not keep the others from being looked after. All of them are read at once, so a poll takes no
    /// longer for more of them.
    pub(super) fn reconcile(self: &Arc<Self>) {
        self.ending.lock().retain(|_, thread| !thread.is_finished());
        let snapshot = match self.ports.catalogue.snapshot() {
            Ok(snapshot) => snapshot,
            Err(error) => {
                tracing::warn!(%error, "the catalogue cannot be read; it is tried again");
                // What was opened before is owned here, and has events to fold.
                return self.connect();
            }
        };
        for (view, read) in &snapshot.views {
            // A version whose threads end because everything ends has not failed.
            if self.stop.is_stopped() {
                return;
            }
            match read {
                Ok(read) => self.reconcile_view(view, read),
                Err(error) => tracing::warn!(view, %error, "the catalogue cannot be followed for this view; it is tried again"),
            }
        }
        self.view_feeders.serve(self.served(&snapshot));
        self.apply_limits();
        self.sweep_states(&snapshot);
        self.connect();
    }

    /// The versions in service that are run here.
    fn served(&self, snapshot: &Snapshot) -> Vec<Served> {
        let running = self.running.lock();
        let active = snapshot.views.iter().filter_map(|(view, read)| Some((view.clone(), read.as_ref().ok()?.active.as_ref()?.version)));
        let served = |key: Key| {
            let Running { view, lease, .. } = running.get(&key)?;
            let table = Table { view: key.0, version: key.1, shape: view.shape.clone() };
            let window_column = view.window.map(|window| window.column);
            Some(Served { table, epoch: lease.epoch, window_column, keep_us: view.options.keep_us })
        };
        active.filter_map(served).collect()
    }

    fn reconcile_view(self: &Arc<Self>, view: &str, read: &ViewSnapshot) {
        let active = read.active.as_ref().map(|active| active.version);
        // One that ends somewhere is not what a view's readers want.
        let able = read.versions.iter().filter(|record| record.controls.until_ms.is_none() && self.is_able(record, read));
        let first = first_to_serve(active, able.map(|record| (record.version, &record.state)));
        for record in &read.versions {
            if let Err(error) = self.reconcile_version(record, read, first) {
                tracing::warn!(view, version = %record.version, %error, "the catalogue cannot be followed for this version; it is tried again");
            }
        }
        let is_living = |version: Version| read.versions.iter().any(|record| record.version == version);
        self.unable.lock().retain(|(of, version), _| of != view || is_living(*version));
        let keys: Vec<Key> = self.running.lock().keys().filter(|(of, version)| of == view && !is_living(*version)).cloned().collect();
        for key in keys {
            if let Err(error) = self.end_dropped(&key) {
                tracing::warn!(view, version = %key.1, %error, "whether this version was dropped is not known; it is tried again");
            }
        }
        self.drop_expired(view, read);
        self.remove_left(view, read);
    }

    /// Ends a version that is not among those that live, if that is so. Its state is only removed for a record that says so.
    fn end_dropped(&self, key: &Key) -> Result<(), EngineError> {
        match self.ports.catalogue.version(&key.0, key.1)? {
            Some(record) if record.state != VersionState::Dropped => {}
            found => self.end(key, found.is_some()),
        }
        Ok(())
    }

    fn reconcile_version(self: &Arc<Self>, record: &VersionRecord, read: &ViewSnapshot, first: Option<Version>) -> Result<(), EngineError> {
        let key = (record.view.clone(), record.version);
        if self.openings.has(&key) {
            return Ok(());
        }
        let is_running = self.running.lock().contains_key(&key);
        let is_wanted =
            matches!(record.state, VersionState::Building | VersionState::CaughtUp | VersionState::Active | VersionState::Retired);
        match (is_running, is_wanted) {
            (true, true) => self.keep(&key, record, first)?,
            (true, false) => self.end(&key, record.state == VersionState::Dropped),
            (false, false) => drop(self.unable.lock().remove(&key)),
            (false, true) if read.owners.get(&record.version).is_some_and(|held| self.is_run_elsewhere(held)) => {
                drop(self.unable.lock().remove(&key));
            }
            (false, true) if self.is_due(&key) && self.is_ours(record, read) => self.begin_opening(key, record.clone()),
            (false, true) => {}
        }
        Ok(())
    }

    /// Whether a version can be run, as far as is known here. A service that was unavailable for a moment says nothing about that, and another
    /// process may have what this one lacks.
    fn is_able(&self, record: &VersionRecord, read: &ViewSnapshot) -> bool {
        let key = (record.view.clone(), record.version);
        self.running.lock().contains_key(&key)
            || self.unable.lock().get(&key).is_none_or(|unable| unable.recovery == Recovery::Transient)
            || read.owners.get(&record.version).is_some_and(|held| self.is_run_elsewhere(held))
    }

    pub(super) fn is_run_elsewhere(&self, held: &Ownership) -> bool {
        held.owner != self.settings.owner && held.is_held(self.ports.clock.now_ms())
    }

    /// Whether a version that does not run here may be tried now.
    fn is_due(&self, key: &Key) -> bool {
        let is_paused = self.unable.lock().get(key).is_some_and(|unable| unable.retry_at_ms > self.ports.clock.now_ms());
        !is_paused && !self.ending.lock().contains_key(key)
    }

    /// Whether a version is for this worker's pool, or was run by this worker before: then its state is here.
    fn is_ours(&self, record: &VersionRecord, read: &ViewSnapshot) -> bool {
        let another_is_active = read.active.as_ref().is_some_and(|active| active.version != record.version);
        self.settings.pool.takes(&record.state, another_is_active)
            || read.owners.get(&record.version).is_some_and(|held| held.owner == self.settings.owner)
    }

    /// Moves the version on in its life, or ends it here. Readers are sent to `first` once it has caught up.
    fn keep(&self, key: &Key, record: &VersionRecord, first: Option<Version>) -> Result<(), EngineError> {
        let catalogue = &self.ports.catalogue;
        self.publish_positions(key);
        if let Some(running) = self.running.lock().get_mut(key) {
            running.record = record.clone();
        }
        let found = self.running.lock().get(key).map(|running| {
            let is_lost = running.lease.lost.load(Ordering::Relaxed);
            let status = running.status.lock();
            let (is_live, failed, unable, commits) = (status.live, status.failed.clone(), status.unable.clone(), status.commits);
            drop(status);
            // Not only is everything folded: what was folded is written, too.
            let is_caught_up = is_live && running.outbox.lock().progress().live;
            (is_lost, is_live, is_caught_up, failed, unable, commits, running.topic.clone(), running.partitions, running.lease.lease())
        });
        let Some((is_lost, is_live, is_caught_up, failed, unable, commits, topic, partitions, lease)) = found else { return Ok(()) };
        if is_lost {
            self.end(key, false);
            return Ok(());
        }
        if let Some(error) = failed {
            // An owner that was replaced fails too, and that is no fault of the version.
            if self.leases.is_still_held(&lease)? {
                self.fail(record, &error)?;
            }
            self.end(key, false);
            return Ok(());
        }
        if let Some(error) = unable {
            self.note_unable(key, &error, Recovery::Operator);
            self.end(key, false);
            return Ok(());
        }
        // The first commit counted is that of the state it was opened with.
        if commits > 1 {
            self.forgive(key);
        }
        if self.partitions.lock().get(&topic).is_some_and(|now| *now > partitions) {
            tracing::info!(view = key.0, version = %key.1, topic, "the topic has more partitions; the version is opened again with them");
            self.end(key, false);
            return Ok(());
        }
        if !is_live && record.state == VersionState::CaughtUp {
            catalogue.set_state(&key.0, key.1, &[VersionState::CaughtUp], VersionState::Building, &self.settings.owner)?;
            tracing::info!(view = key.0, version = %key.1, "the state of the version is not here; it is built again from the log");
            return Ok(());
        }
        if is_caught_up && record.state == VersionState::Building {
            catalogue.set_state(&key.0, key.1, &[VersionState::Building], VersionState::CaughtUp, &self.settings.owner)?;
            tracing::info!(view = key.0, version = %key.1, "version is caught up");
        }
        if is_caught_up && first == Some(record.version) {
            catalogue.switch(&key.0, None, key.1, &self.settings.owner, Some("first version"))?;
        }
        Ok(())
    }

    /// A version that runs is not unable any more; but one that opens and fails again and again goes on with its growing pauses.
    fn forgive(&self, key: &Key) {
        let now_ms = self.ports.clock.now_ms();
        let mut unable = self.unable.lock();
        if unable.get(key).is_some_and(|unable| now_ms - unable.retry_at_ms > FORGIVEN_AFTER_MS) {
            unable.remove(key);
        }
    }

    fn publish_positions(&self, (view, version): &Key) {
        let key = (view.clone(), *version);
        let found = self.running.lock().get(&key).map(|running| (running.topic.clone(), running.status.lock().positions.clone()));
        let Some((topic, positions)) = found else { return };
        if let Err(error) = self.ports.log.publish_positions(&reader_name(view, *version), &topic, &positions) {
            tracing::debug!(view, %version, %error, "positions are not published");
        }
    }

    fn fail(&self, record: &VersionRecord, error: &str) -> Result<(), EngineError> {
        tracing::error!(view = record.view, version = %record.version, error, "version failed");
        let states = [VersionState::Building, VersionState::CaughtUp, VersionState::Active, VersionState::Retired];
        let failed = VersionState::Failed { error: error.to_owned() };
        self.ports.catalogue.set_state(&record.view, record.version, &states, failed, &self.settings.owner)?;
        Ok(())
    }
}

/// A version that has run for this long since it was last tried again is well.
const FORGIVEN_AFTER_MS: i64 = 60_000;

/// The version that goes into service by itself, of those that can be run: a view's first one has nothing to be compared with. Others wait for a switch, also
/// those that catch up before it does.
pub fn first_to_serve<'a>(active: Option<Version>, versions: impl Iterator<Item = (Version, &'a VersionState)>) -> Option<Version> {
    let is_candidate = |state: &VersionState| matches!(state, VersionState::Building | VersionState::CaughtUp);
    let candidates = versions.filter(|(_, state)| is_candidate(state)).map(|(version, _)| version);
    candidates.min().filter(|_| active.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_version_that_lives_goes_into_service_by_itself_and_no_later_one_before_it() {
        let failed = VersionState::Failed { error: String::new() };
        let first = |active: Option<u32>, states: &[(u32, &VersionState)]| {
            let versions = states.iter().map(|(version, state)| (Version(*version), *state));
            first_to_serve(active.map(Version), versions).map(|version| version.0)
        };
        assert_eq!(first(None, &[(2, &VersionState::CaughtUp), (1, &VersionState::Building)]), Some(1), "the second was faster");
        assert_eq!(first(None, &[(1, &failed), (2, &VersionState::Building)]), Some(2));
        assert_eq!(first(None, &[(1, &VersionState::Dropped)]), None);
        assert_eq!(first(Some(1), &[(1, &VersionState::Active), (2, &VersionState::CaughtUp)]), None);
    }
}
