//! The active pointer: which version readers are sent to, and how it is moved.

use super::records::{ActivePointer, AuditEntry, VersionState};
use super::{Catalogue, CatalogueError, Change, ago, enter, find, refused};
use crate::table::Version;

/// What is told of a move, beside where from and where to.
#[derive(Clone, Copy)]
struct Told<'a> {
    is_rollback: bool,
    by: &'a str,
    reason: Option<&'a str>,
}

impl Catalogue {
    /// The version readers are sent to.
    pub fn active(&self, view: &str) -> Result<Option<ActivePointer>, CatalogueError> {
        Ok(self.view_register(view)?.0.active)
    }

    /// Sends readers to `to` if they are sent to `expected` now (`None`: to none). The version switched to becomes `active` and the old one
    /// `retired` in the same compare-and-set. Where readers are sent to `to` already, nothing is changed.
    pub fn switch(
        &self,
        view: &str,
        expected: Option<Version>,
        to: Version,
        by: &str,
        reason: Option<&str>,
    ) -> Result<ActivePointer, CatalogueError> {
        self.send_readers(view, expected, to, &Told { is_rollback: false, by, reason })
    }

    /// Sends readers from `from` back to `to`: a switch, of which pointer and audit trail say that it is a rollback.
    pub fn rollback(
        &self,
        view: &str,
        from: Version,
        to: Version,
        by: &str,
        reason: Option<&str>,
    ) -> Result<ActivePointer, CatalogueError> {
        self.send_readers(view, Some(from), to, &Told { is_rollback: true, by, reason })
    }

    fn send_readers(&self, view: &str, expected: Option<Version>, to: Version, told: &Told<'_>) -> Result<ActivePointer, CatalogueError> {
        let Told { is_rollback, by, reason } = *told;
        let verb = if is_rollback { "rollback" } else { "switch" };
        self.change(view, |register, now_ms| {
            let before = register.active.clone();
            let current = before.as_ref().map(|active| active.version);
            if let Some(active) = before.clone().filter(|active| active.version == to) {
                let record = find(register, view, to)?;
                if matches!(record.state, VersionState::Failed { .. }) {
                    return Err(refused(record, &VersionState::Active, now_ms));
                }
                if !record.state.may_become(&VersionState::Active) {
                    return Ok(Change { answer: active, entry: None });
                }
                // Resumed as `building` by an earlier release, it has caught up.
                let was = record.state.name();
                enter(record, VersionState::Active, by, now_ms);
                let entry = AuditEntry {
                    version: Some(to),
                    from: Some(was.into()),
                    to: Some("active".into()),
                    reason: reason.map(str::to_owned),
                    ..AuditEntry::new("state", view, by, now_ms)
                };
                return Ok(Change { answer: active, entry: Some(entry) });
            }
            match (&before, expected) {
                (Some(active), _) if Some(active.version) != expected => {
                    let ago = ago(now_ms - active.switched_ms);
                    return Err(CatalogueError::Switched {
                        view: view.into(),
                        expected: expected.map_or_else(|| "none".to_owned(), |expected| expected.to_string()),
                        active: active.version,
                        ago,
                        by: active.switched_by.clone(),
                    });
                }
                (None, Some(expected)) => return Err(CatalogueError::NothingActive { view: view.into(), expected }),
                _ => {}
            }
            let target = find(register, view, to)?;
            if !target.state.may_become(&VersionState::Active) {
                return Err(refused(target, &VersionState::Active, now_ms));
            }
            enter(target, VersionState::Active, by, now_ms);
            // What readers are on does not stand still.
            target.controls.pause = false;
            let old = register.versions.iter_mut().find(|record| Some(record.version) == current);
            // One that failed in service stays failed.
            if let Some(old) = old.filter(|old| old.state == VersionState::Active) {
                enter(old, VersionState::Retired, by, now_ms);
            }
            let active = ActivePointer {
                version: to,
                previous: current,
                switched_ms: now_ms,
                switched_by: by.into(),
                reason: reason.map(str::to_owned),
                is_rollback,
            };
            register.active = Some(active.clone());
            let entry = AuditEntry {
                version: Some(to),
                from: current.map(|version| version.to_string()),
                to: Some(to.to_string()),
                reason: reason.map(str::to_owned),
                ..AuditEntry::new(verb, view, by, now_ms)
            };
            Ok(Change { answer: active, entry: Some(entry) })
        })
    }
}
