//! Who feeds a version. The lease only says when another may try; what makes an old owner harmless is the epoch in its
//! write timestamps.

use super::records::{AuditEntry, OwnerRegister, Ownership, VersionState, encode, owner_key};
use super::{ATTEMPTS, Catalogue, CatalogueError, Outcome, too_busy};
use crate::table::{Epoch, Version};

/// What became of an attempt to take a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Take {
    /// It is the caller's, in this epoch.
    Taken(Epoch),
    /// Another has it.
    HeldBy {
        /// The owner.
        owner: String,
        /// When its lease ends unless it is renewed, milliseconds since the Unix epoch.
        until_ms: i64,
    },
}

impl Catalogue {
    /// Who feeds a version, or fed it last.
    pub fn ownership(&self, view: &str, version: Version) -> Result<Option<Ownership>, CatalogueError> {
        Ok(self.owner_register(view, version)?.map(|(ownership, _)| ownership))
    }

    /// Takes a version for `lease_ms`, if nobody has it, its lease has ended or it was released. The epoch grows each time, even after
    /// a release: the next owner may have another, older state, whose rows must not tie with those of the one before. An owner's name
    /// must be unique among running ones: who takes what it holds itself gets a new epoch too, as after a restart.
    pub fn take(&self, view: &str, version: Version, owner: &str, lease_ms: i64) -> Result<Take, CatalogueError> {
        let record = self.version(view, version)?;
        match record {
            Some(record) if record.state == VersionState::Dropped => {
                return Err(super::refused(&record, &VersionState::Building, self.clock.now_ms()));
            }
            Some(_) => {}
            None => {
                let (mut register, _) = self.view_register(view)?;
                super::find(&mut register, view, version)?;
            }
        }
        for _ in 0..ATTEMPTS {
            let now_ms = self.clock.now_ms();
            let before = self.owner_register(view, version)?;
            let (epoch, revision) = match &before {
                None => (Epoch(1), None),
                Some((held, _)) if !held.released && held.owner != owner && held.lease_until_ms > now_ms => {
                    return Ok(Take::HeldBy { owner: held.owner.clone(), until_ms: held.lease_until_ms });
                }
                Some((held, revision)) => (Epoch(held.epoch.0 + 1), Some(*revision)),
            };
            let taken = Ownership { epoch, owner: owner.into(), lease_until_ms: now_ms + lease_ms, released: false };
            if self.set_owner(view, version, revision, taken)? {
                let entry = AuditEntry {
                    version: Some(version),
                    from: before.map(|(held, _)| label(&held)),
                    to: Some(format!("{owner} in epoch {}", epoch.0)),
                    ..AuditEntry::new("take", view, owner, now_ms)
                };
                self.journal(&entry)?;
                return Ok(Take::Taken(epoch));
            }
        }
        Err(too_busy(&owner_key(view, version)))
    }

    /// Prolongs the lease to `lease_ms` from now. [`CatalogueError::LostTo`]: another has taken it since.
    pub fn renew(&self, view: &str, version: Version, owner: &str, epoch: Epoch, lease_ms: i64) -> Result<(), CatalogueError> {
        self.update(view, version, owner, epoch, |held, now_ms| {
            (!held.released).then(|| Ownership { lease_until_ms: now_ms + lease_ms, ..held.clone() })
        })?;
        Ok(())
    }

    /// Gives a version up after the last write to it, so that another can take it at once.
    pub fn release(&self, view: &str, version: Version, owner: &str, epoch: Epoch) -> Result<(), CatalogueError> {
        let changed = self.update(view, version, owner, epoch, |held, _| Some(Ownership { released: true, ..held.clone() }))?;
        if changed {
            let entry = AuditEntry {
                version: Some(version),
                from: Some(format!("{owner} in epoch {}", epoch.0)),
                ..AuditEntry::new("release", view, owner, self.clock.now_ms())
            };
            self.journal(&entry)?;
        }
        Ok(())
    }

    /// Changes what `owner` holds to what `next` says (`None`: it no longer holds it); whether anything changed.
    fn update(
        &self,
        view: &str,
        version: Version,
        owner: &str,
        epoch: Epoch,
        next: impl Fn(&Ownership, i64) -> Option<Ownership>,
    ) -> Result<bool, CatalogueError> {
        for _ in 0..ATTEMPTS {
            let (held, revision) = self.owner_register(view, version)?.ok_or_else(|| CatalogueError::LostTo {
                view: view.into(),
                version,
                owner: "nobody".into(),
                epoch: Epoch(0),
            })?;
            let next =
                Some(&held).filter(|held| held.owner == owner && held.epoch == epoch).and_then(|held| next(held, self.clock.now_ms()));
            let Some(next) = next else {
                return Err(CatalogueError::LostTo { view: view.into(), version, owner: held.owner, epoch: held.epoch });
            };
            if next == held {
                return Ok(false);
            }
            if self.set_owner(view, version, Some(revision), next)? {
                return Ok(true);
            }
        }
        Err(too_busy(&owner_key(view, version)))
    }

    fn owner_register(&self, view: &str, version: Version) -> Result<Option<(Ownership, u64)>, CatalogueError> {
        let loaded: Option<(OwnerRegister, u64)> = self.load(&owner_key(view, version))?;
        Ok(loaded.map(|(register, revision)| (register.ownership, revision)))
    }

    fn set_owner(&self, view: &str, version: Version, revision: Option<u64>, ownership: Ownership) -> Result<bool, CatalogueError> {
        let key = owner_key(view, version);
        let text = encode(&key, &OwnerRegister { ownership })?;
        Ok(matches!(self.registers.compare_and_set(&key, revision, Some(&text))?, Outcome::Set(_)))
    }
}

fn label(held: &Ownership) -> String {
    let how = if held.released { " (released)" } else { "" };
    format!("{} in epoch {}{how}", held.owner, held.epoch.0)
}
