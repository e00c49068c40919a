//! The catalogue: which versions a view has, which one readers are sent to, who feeds each, and who did what when.
//!
//! It stands on [`Registers`], so it works on any store. Every change is a compare-and-set, every verb can be run again
//! after an interruption and goes on from where it was, and who comes second is told who was first, and when.

mod building;
mod controls;
mod dropping;
mod error;
mod group;
mod history;
mod ownership;
mod pointer;
mod records;
mod schemas;
mod snapshot;
#[cfg(test)]
mod tests;
mod workers;

use std::collections::VecDeque;
use std::sync::Arc;

pub use controls::{Asking, Controls, Throttle};
pub use error::CatalogueError;
pub use group::Move;
pub use ownership::{Ownership, Take};
use parking_lot::Mutex;
pub use records::{ActivePointer, AuditEntry, VersionRecord, VersionState};
use records::{DroppedRegister, VIEW_PREFIX, ViewRegister, decode, dropped_key, dropped_prefix, encode, view_key};
use serde::de::DeserializeOwned;
pub use snapshot::{Snapshot, ViewSnapshot};
pub use workers::{Incarnation, Owner, Renewed};

use super::{Outcome, Registers, StoreError};
use crate::clock::Clock;
use crate::table::Version;

/// How often a compare-and-set is tried before the store is said to be too busy.
const ATTEMPTS: usize = 100;

/// The record of versions and the active pointer of all views. Cheap to clone.
#[derive(Clone)]
pub struct Catalogue {
    registers: Arc<dyn Registers>,
    clock: Arc<dyn Clock>,
    /// Entries that the journal did not take.
    unjournaled: Arc<Mutex<VecDeque<AuditEntry>>>,
}

/// What a version is made from.
#[derive(Clone, Copy, Debug)]
pub struct Definition<'a> {
    /// The view.
    pub view: &'a str,
    /// The whole statement.
    pub sql: &'a str,
    /// Its digest.
    pub digest: &'a str,
    /// The fingerprint of the output's shape.
    pub fingerprint: &'a str,
    /// The commit of the folder that it came from, where that is known.
    pub commit: Option<&'a str>,
    /// The record time at which the version ends, milliseconds since the Unix epoch; `None`: it follows the log.
    pub until_ms: Option<i64>,
}

/// What a change of a view's register answers, and the entry that says so; without an entry nothing is changed.
struct Change<T> {
    answer: T,
    entry: Option<AuditEntry>,
}

impl Catalogue {
    /// The catalogue in `registers`. The clock dates entries and leases.
    pub fn new(registers: Arc<dyn Registers>, clock: Arc<dyn Clock>) -> Self {
        Catalogue { registers, clock, unjournaled: Arc::default() }
    }

    /// The time of the catalogue's clock, milliseconds since the Unix epoch.
    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// The names of all views that ever had a version, in order.
    pub fn views(&self) -> Result<Vec<String>, CatalogueError> {
        let registers = self.registers.list(VIEW_PREFIX)?;
        Ok(registers.into_iter().filter_map(|(key, _)| key.strip_prefix(VIEW_PREFIX).map(str::to_owned)).collect())
    }

    /// All versions of a view by number, the dropped ones too; none for a view that is not known.
    pub fn versions(&self, view: &str) -> Result<Vec<VersionRecord>, CatalogueError> {
        // In this order: a drop writes its copy before it takes the version out of the register, so none is missed.
        let (register, _) = self.view_register(view)?;
        let mut versions = register.versions;
        for (key, stored) in self.registers.list(&dropped_prefix(view))? {
            let dropped: DroppedRegister = decode(&key, &stored.value)?;
            // A copy made by a drop that was refused in the end, or is not finished: the version itself counts.
            if !versions.iter().any(|living| living.version == dropped.version.version) {
                versions.push(dropped.version);
            }
        }
        versions.sort_by_key(|record| record.version);
        Ok(versions)
    }

    /// One version of a view.
    pub fn version(&self, view: &str, version: Version) -> Result<Option<VersionRecord>, CatalogueError> {
        let (register, _) = self.view_register(view)?;
        if let Some(living) = register.versions.into_iter().find(|record| record.version == version) {
            return Ok(Some(living));
        }
        let dropped: Option<(DroppedRegister, u64)> = self.load(&dropped_key(view, version))?;
        Ok(dropped.map(|(register, _)| register.version))
    }

    /// Creates the next version of a view, which follows the log without an end; as [`Catalogue::create`] does.
    pub fn create_version(
        &self,
        view: &str,
        sql: &str,
        digest: &str,
        fingerprint: &str,
        by: &str,
    ) -> Result<VersionRecord, CatalogueError> {
        self.create_from(&Definition { view, sql, digest, fingerprint, commit: None, until_ms: None }, by)
    }

    /// The same, of a definition of which more is known, and of its end.
    pub fn create_from(&self, definition: &Definition<'_>, by: &str) -> Result<VersionRecord, CatalogueError> {
        let Definition { view, sql, digest, fingerprint, commit, until_ms } = *definition;
        self.change(view, |register, now_ms| {
            let unfinished = |record: &&VersionRecord| matches!(record.state, VersionState::Building | VersionState::CaughtUp);
            let same = |record: &&VersionRecord| {
                record.digest == digest && record.schema_fingerprint == fingerprint && record.controls.until_ms == until_ms
            };
            if let Some(record) = register.versions.last().filter(unfinished).filter(same) {
                return Ok(Change { answer: record.clone(), entry: None });
            }
            register.last_version += 1;
            let record = VersionRecord {
                view: view.into(),
                version: Version(register.last_version),
                sql: sql.into(),
                digest: digest.into(),
                schema_fingerprint: fingerprint.into(),
                state: VersionState::Building,
                created_ms: now_ms,
                created_by: by.into(),
                commit: commit.map(str::to_owned),
                changed_ms: now_ms,
                changed_by: by.into(),
                controls: Controls { until_ms, ..Controls::default() },
            };
            register.versions.push(record.clone());
            let entry = AuditEntry {
                version: Some(record.version),
                to: Some(record.state.to_string()),
                reason: commit.map(|commit| format!("commit {commit}")),
                ..AuditEntry::new("create", view, by, now_ms)
            };
            Ok(Change { answer: record, entry: Some(entry) })
        })
    }

    /// Moves a version from one of the states `from` to `to`; a version that is there already is left as it is.
    /// [`VersionState::successors`] decides what may follow what; `active` and `retired` come by [`Catalogue::switch`] alone;
    /// `dropped` is [`Catalogue::drop_version`].
    pub fn set_state(
        &self,
        view: &str,
        version: Version,
        from: &[VersionState],
        to: VersionState,
        by: &str,
    ) -> Result<VersionRecord, CatalogueError> {
        if matches!(to, VersionState::Active | VersionState::Retired) {
            return Err(CatalogueError::SwitchOnly { view: view.into(), version, wanted: to.name() });
        }
        if to == VersionState::Dropped {
            return self.drop_version(view, version, from, by, None);
        }
        self.change(view, |register, now_ms| {
            let record = find(register, view, version)?;
            if record.state.name() == to.name() {
                return Ok(Change { answer: record.clone(), entry: None });
            }
            let asked_for = from.iter().any(|state| state.name() == record.state.name());
            if !asked_for || !record.state.may_become(&to) {
                return Err(refused(record, &to, now_ms));
            }
            let before = record.state.name();
            enter(record, to.clone(), by, now_ms);
            let record = record.clone();
            let reason = match &to {
                VersionState::Failed { error } => Some(error.clone()),
                _ => None,
            };
            let entry = AuditEntry {
                version: Some(version),
                from: Some(before.into()),
                to: Some(to.to_string()),
                reason,
                ..AuditEntry::new("state", view, by, now_ms)
            };
            Ok(Change { answer: record, entry: Some(entry) })
        })
    }

    /// Resumes a version that has failed or is paused where it stopped. One that has failed becomes `active` again if the active pointer is at it, else
    /// `building`: it reads on and becomes caught up by itself. Idempotent: any other version is returned unchanged.
    pub fn resume(&self, view: &str, version: Version, by: &str) -> Result<VersionRecord, CatalogueError> {
        if let Some(dropped) = self.version(view, version)?.filter(|record| record.state == VersionState::Dropped) {
            return Err(refused(&dropped, &VersionState::Building, self.clock.now_ms()));
        }
        self.change(view, |register, now_ms| {
            let in_service = register.active.as_ref().is_some_and(|active| active.version == version);
            let record = find(register, view, version)?;
            let was_paused = std::mem::take(&mut record.controls.pause);
            let (from, reason) = match record.state.clone() {
                VersionState::Failed { error } => {
                    let from = record.state.to_string();
                    enter(record, if in_service { VersionState::Active } else { VersionState::Building }, by, now_ms);
                    (from, Some(format!("it had failed: {error}")))
                }
                _ if was_paused => ("paused".to_owned(), None),
                _ => return Ok(Change { answer: record.clone(), entry: None }),
            };
            let to = Some(record.state.to_string());
            let entry = AuditEntry { version: Some(version), from: Some(from), to, reason, ..AuditEntry::new("resume", view, by, now_ms) };
            Ok(Change { answer: record.clone(), entry: Some(entry) })
        })
    }

    /// The register of a view as a group of views has decided it, if it is moved with others.
    fn view_register(&self, view: &str) -> Result<(ViewRegister, Option<u64>), CatalogueError> {
        let (register, revision) = self.stored_register(view)?;
        if register.prepared.is_none() { Ok((register, revision)) } else { self.decided_register(view) }
    }

    fn stored_register(&self, view: &str) -> Result<(ViewRegister, Option<u64>), CatalogueError> {
        if view.is_empty() || view.contains('/') {
            return Err(CatalogueError::InvalidName(view.into()));
        }
        let loaded = self.load(&view_key(view))?;
        Ok(loaded.map_or((ViewRegister::default(), None), |(register, revision)| (register, Some(revision))))
    }

    fn load<T: DeserializeOwned>(&self, key: &str) -> Result<Option<(T, u64)>, CatalogueError> {
        let Some(stored) = self.registers.get(key)? else { return Ok(None) };
        Ok(Some((decode(key, &stored.value)?, stored.revision)))
    }

    /// Changes a view's register, decided by `decide` alone from what is in it. The audit entry travels in the same
    /// compare-and-set, and from there to the journal: a crash in between leaves it for the next change to journal.
    fn change<T>(
        &self,
        view: &str,
        decide: impl Fn(&mut ViewRegister, i64) -> Result<Change<T>, CatalogueError>,
    ) -> Result<T, CatalogueError> {
        let key = view_key(view);
        for _ in 0..ATTEMPTS {
            let (mut register, revision) = self.view_register(view)?;
            let settled = register.settled.take();
            let Change { answer, entry } = decide(&mut register, self.clock.now_ms())?;
            if settled.is_none() && entry.is_none() {
                self.journal_pending(view)?;
                return Ok(answer);
            }
            for mut entry in settled.and_then(|settled| settled.entry).into_iter().chain(entry) {
                register.changes += 1;
                entry.change = Some(register.changes);
                register.unjournaled.push(entry);
            }
            if let Outcome::Set(_) = self.registers.compare_and_set(&key, revision, Some(&encode(&key, &register)?))? {
                self.journal_pending(view)?;
                return Ok(answer);
            }
        }
        Err(too_busy(&key))
    }
}

fn find<'a>(register: &'a mut ViewRegister, view: &str, version: Version) -> Result<&'a mut VersionRecord, CatalogueError> {
    let mut known: Vec<String> = register.versions.iter().map(|record| record.version.to_string()).collect();
    if known.is_empty() {
        known.push("none".into());
    }
    let found = register.versions.iter_mut().find(|record| record.version == version);
    found.ok_or_else(|| CatalogueError::UnknownVersion { view: view.into(), version, known: known.join(", ") })
}

fn enter(record: &mut VersionRecord, state: VersionState, by: &str, now_ms: i64) {
    record.state = state;
    record.changed_ms = now_ms;
    record.changed_by = by.into();
}

fn refused(record: &VersionRecord, wanted: &VersionState, now_ms: i64) -> CatalogueError {
    let successors = record.state.successors();
    let way_on = match (&record.state, wanted) {
        (VersionState::Building, VersionState::Active) => "; wait until it is caught up".to_owned(),
        (VersionState::Failed { error }, VersionState::Active) => {
            format!("; it failed: {error}; once the cause is fixed, refold resume {} {} continues it", record.view, record.version.0)
        }
        (VersionState::Dropped, VersionState::Building) => format!("; build a new one: refold replay {}", record.view),
        _ => String::new(),
    };
    CatalogueError::State {
        view: record.view.clone(),
        version: record.version,
        state: record.state.name(),
        ago: ago(now_ms - record.changed_ms),
        by: record.changed_by.clone(),
        wanted: wanted.name(),
        allowed: if successors.is_empty() { "nothing else".into() } else { successors.join(", ") },
        way_on,
    }
}

fn too_busy(key: &str) -> CatalogueError {
    StoreError::Unavailable(format!("register {key} was changed by others {ATTEMPTS} times in a row")).into()
}

/// A length of time for people: `12 s`.
fn ago(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}
