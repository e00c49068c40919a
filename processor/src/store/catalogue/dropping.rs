//! The end of versions. A version is dropped in one compare-and-set: it leaves those that live, so that nobody reads, takes or switches to it any more, and
//! is listed among those that something is left of. Whoever polls the catalogue finds it there and removes that; then it is noted.

use super::group::refuse_prepared;
use super::records::{AuditEntry, DroppedRegister, VersionRecord, VersionState, dropped_key, encode, view_key};
use super::{ATTEMPTS, Catalogue, CatalogueError, Change, Outcome, enter, find, refused, too_busy};
use crate::table::Version;

impl VersionRecord {
    /// When a retired version is dropped by itself, if that is so long after it was retired; milliseconds since the Unix epoch.
    pub fn expires_ms(&self, retire_after_ms: Option<i64>) -> Option<i64> {
        let after_ms = retire_after_ms.filter(|_| self.state == VersionState::Retired)?;
        Some(self.changed_ms.saturating_add(after_ms))
    }
}

impl Catalogue {
    /// Drops a version that is in one of the states `from`, unless readers are sent to it; one that is dropped already is left as it is. Its table,
    /// change feed and positions are then to be removed, until [`Catalogue::note_removed`].
    pub fn drop_version(
        &self,
        view: &str,
        version: Version,
        from: &[VersionState],
        by: &str,
        reason: Option<&str>,
    ) -> Result<VersionRecord, CatalogueError> {
        if let Some(dropped) = self.dropped(view, version)? {
            self.journal_pending(view)?;
            return Ok(dropped);
        }
        self.archive(view, version, by)?;
        let outcome = self.change(view, |register, now_ms| {
            refuse_prepared(register, view, now_ms)?;
            let in_service = register.active.as_ref().is_some_and(|active| active.version == version);
            let record = find(register, view, version)?;
            let asked_for = from.iter().any(|state| state.name() == record.state.name());
            if !asked_for || !record.state.may_become(&VersionState::Dropped) {
                return Err(refused(record, &VersionState::Dropped, now_ms));
            }
            if in_service {
                return Err(CatalogueError::InService { view: view.into(), version });
            }
            let before = record.state.name();
            enter(record, VersionState::Dropped, by, now_ms);
            let record = record.clone();
            register.versions.retain(|living| living.version != version);
            register.removing.push(record.clone());
            let entry = AuditEntry {
                version: Some(version),
                from: Some(before.into()),
                to: Some(record.state.to_string()),
                reason: reason.map(str::to_owned),
                ..AuditEntry::new("drop", view, by, now_ms)
            };
            Ok(Change { answer: record, entry: Some(entry) })
        });
        match outcome {
            // Somebody else has dropped it meanwhile.
            Err(error @ CatalogueError::UnknownVersion { .. }) => self.dropped(view, version)?.ok_or(error),
            outcome => outcome,
        }
    }

    /// Drops all versions of a view, also the one that readers are sent to, in one step. Answers those that lived; none where all were dropped already.
    pub fn drop_view(&self, view: &str, by: &str, reason: Option<&str>) -> Result<Vec<VersionRecord>, CatalogueError> {
        for _ in 0..ATTEMPTS {
            let (register, _) = self.view_register(view)?;
            let known: Vec<Version> = register.versions.iter().map(|record| record.version).collect();
            if !self.archive_all(view, &known, by)? {
                continue;
            }
            let dropped = self.change(view, |register, now_ms| {
                let living: Vec<Version> = register.versions.iter().map(|record| record.version).collect();
                if living.is_empty() || living != known {
                    return Ok(Change { answer: living.is_empty().then(Vec::new), entry: None });
                }
                refuse_prepared(register, view, now_ms)?;
                let mut dropped = std::mem::take(&mut register.versions);
                dropped.iter_mut().for_each(|record| enter(record, VersionState::Dropped, by, now_ms));
                register.removing.extend(dropped.iter().cloned());
                register.active = None;
                let names: Vec<String> = living.iter().map(Version::to_string).collect();
                let entry = AuditEntry {
                    from: Some(names.join(", ")),
                    to: Some(VersionState::Dropped.to_string()),
                    reason: reason.map(str::to_owned),
                    ..AuditEntry::new("drop", view, by, now_ms)
                };
                Ok(Change { answer: Some(dropped), entry: Some(entry) })
            })?;
            if let Some(dropped) = dropped {
                return Ok(dropped);
            }
        }
        Err(too_busy(&view_key(view)))
    }

    /// The dropped versions of a view that something is left of.
    pub fn removing(&self, view: &str) -> Result<Vec<VersionRecord>, CatalogueError> {
        Ok(self.view_register(view)?.0.removing)
    }

    /// Notes that nothing is left of a dropped version but its record.
    pub fn note_removed(&self, view: &str, version: Version, by: &str) -> Result<(), CatalogueError> {
        self.change(view, |register, now_ms| {
            let before = register.removing.len();
            register.removing.retain(|record| record.version != version);
            let is_noted = register.removing.len() < before;
            let entry = is_noted.then(|| AuditEntry { version: Some(version), ..AuditEntry::new("remove", view, by, now_ms) });
            Ok(Change { answer: (), entry })
        })
    }

    /// Whether all of them are still there; somebody else may have dropped one meanwhile.
    fn archive_all(&self, view: &str, versions: &[Version], by: &str) -> Result<bool, CatalogueError> {
        for version in versions {
            match self.archive(view, *version, by) {
                Err(CatalogueError::UnknownVersion { .. }) => return Ok(false),
                archived => archived?,
            }
        }
        Ok(true)
    }

    fn dropped(&self, view: &str, version: Version) -> Result<Option<VersionRecord>, CatalogueError> {
        Ok(self.version(view, version)?.filter(|record| record.state == VersionState::Dropped))
    }

    /// Copies a version that is about to be dropped to where dropped versions are kept, so that the view's register, which every
    /// reader reads, holds living versions only. Until the version leaves that register, the copy does not count.
    fn archive(&self, view: &str, version: Version, by: &str) -> Result<(), CatalogueError> {
        let (mut register, _) = self.view_register(view)?;
        let record = find(&mut register, view, version)?;
        enter(record, VersionState::Dropped, by, self.clock.now_ms());
        let key = dropped_key(view, version);
        let copy = encode(&key, &DroppedRegister { version: record.clone() })?;
        for _ in 0..ATTEMPTS {
            let revision = self.registers.get(&key)?.map(|stored| stored.revision);
            if let Outcome::Set(_) = self.registers.compare_and_set(&key, revision, Some(&copy))? {
                return Ok(());
            }
        }
        Err(too_busy(&key))
    }
}
