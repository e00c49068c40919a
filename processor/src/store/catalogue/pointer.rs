//! The active pointer: which version readers are sent to, and how it is moved.

use super::group::refuse_prepared;
use super::records::{ActivePointer, AuditEntry, VersionState, ViewRegister};
use super::{Catalogue, CatalogueError, Change, ago, enter, find, refused};
use crate::table::Version;

/// What is told of a move, beside where from and where to.
#[derive(Clone, Copy)]
pub(super) struct Told<'a> {
    pub is_rollback: bool,
    pub by: &'a str,
    pub reason: Option<&'a str>,
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

    /// Whether [`Catalogue::switch`] would send readers to `to` now, or has nothing to do.
    ///
    /// # Errors
    /// Why it would not.
    pub fn check_switch(&self, view: &str, expected: Option<Version>, to: Version) -> Result<(), CatalogueError> {
        let (register, _) = self.view_register(view)?;
        refuse_prepared(&register, view, self.now_ms())?;
        check_move(&register, view, expected, to, self.now_ms()).map(drop)
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
        let Told { by, reason, .. } = *told;
        self.change(view, |register, now_ms| {
            let before = register.active.clone();
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
            refuse_prepared(register, view, now_ms)?;
            check_move(register, view, expected, to, now_ms)?;
            let (active, entry) = make_move(register, view, to, told, now_ms);
            Ok(Change { answer: active, entry: Some(entry) })
        })
    }
}

/// Whether readers are still to be moved; refuses a move from another version than the one in service, and to one that readers cannot be sent to.
pub(super) fn check_move(
    register: &ViewRegister,
    view: &str,
    expected: Option<Version>,
    to: Version,
    now_ms: i64,
) -> Result<bool, CatalogueError> {
    match (&register.active, expected) {
        (Some(active), _) if active.version == to => return Ok(false),
        (Some(active), _) if Some(active.version) != expected => {
            return Err(CatalogueError::Switched {
                view: view.into(),
                expected: expected.map_or_else(|| "none".to_owned(), |expected| expected.to_string()),
                active: active.version,
                ago: ago(now_ms - active.switched_ms),
                by: active.switched_by.clone(),
            });
        }
        (None, Some(expected)) => return Err(CatalogueError::NothingActive { view: view.into(), expected }),
        _ => {}
    }
    let mut versions = register.clone();
    let target = find(&mut versions, view, to)?;
    if target.state.may_become(&VersionState::Active) { Ok(true) } else { Err(refused(target, &VersionState::Active, now_ms)) }
}

/// Moves readers, which [`check_move`] has allowed.
pub(super) fn make_move(register: &mut ViewRegister, view: &str, to: Version, told: &Told<'_>, now_ms: i64) -> (ActivePointer, AuditEntry) {
    let Told { is_rollback, by, reason } = *told;
    let current = register.active.as_ref().map(|active| active.version);
    // One that has failed since it was allowed stays failed.
    let target = register.versions.iter_mut().find(|record| record.version == to);
    if let Some(target) = target.filter(|target| target.state.may_become(&VersionState::Active)) {
        enter(target, VersionState::Active, by, now_ms);
        // What readers are on does not stand still.
        target.controls.pause = false;
    }
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
        ..AuditEntry::new(if is_rollback { "rollback" } else { "switch" }, view, by, now_ms)
    };
    (active, entry)
}
