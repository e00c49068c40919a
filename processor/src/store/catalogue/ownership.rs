//! Who feeds a version. An ownership is live while the lease of its worker is (see [`super::workers`]). The lease only says when another may try;
//! what makes an old owner harmless is the epoch in its write timestamps.

use std::collections::{BTreeMap, BTreeSet};

use super::records::{
    AuditEntry, OwnerRecord, OwnerRegister, VersionState, WorkerLease, WorkerRegister, decode, encode, owner_key, worker_key,
};
use super::{ATTEMPTS, Catalogue, CatalogueError, Outcome, Owner, too_busy};
use crate::table::{Epoch, Version};

/// Who feeds a version, or fed it last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// The number of this ownership; part of every write timestamp.
    pub epoch: Epoch,
    /// The owner's name.
    pub owner: String,
    /// Until when it is kept for its owner, milliseconds since the Unix epoch. `None`: it was released, or its worker has given up its lease.
    pub until_ms: Option<i64>,
}

impl Ownership {
    /// Whether nobody else may take it.
    pub fn is_held(&self, now_ms: i64) -> bool {
        self.until_ms.is_some_and(|until_ms| until_ms > now_ms)
    }
}

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

/// A version of a view.
type Key = (String, Version);

impl OwnerRecord {
    fn is_of(&self, owner: &Owner) -> bool {
        self.owner == owner.name && self.incarnation.as_ref() == Some(&owner.incarnation.id)
    }

    /// Until when nobody else may take it, by the lease of its worker.
    fn held_until(&self, worker: Option<&WorkerLease>) -> Option<i64> {
        let until_ms = match &self.incarnation {
            None => Some(self.lease_until_ms),
            Some(incarnation) => worker.filter(|lease| lease.incarnation == *incarnation && !lease.released).map(|lease| lease.until_ms),
        };
        until_ms.filter(|_| !self.released)
    }

    fn label(&self) -> String {
        let how = if self.released { " (released)" } else { "" };
        format!("{} in epoch {}{how}", self.owner, self.epoch.0)
    }
}

impl Catalogue {
    /// Who feeds a version, or fed it last.
    pub fn ownership(&self, view: &str, version: Version) -> Result<Option<Ownership>, CatalogueError> {
        self.ownerships(&[(view.to_owned(), version)])?.into_iter().next().unwrap_or(Ok(None))
    }

    /// The same of many versions, in their order, in two calls to the store.
    ///
    /// # Errors
    /// When the store cannot be asked. What is stored of a version and cannot be read is that version's own error.
    pub fn ownerships(&self, versions: &[Key]) -> Result<Vec<Result<Option<Ownership>, CatalogueError>>, CatalogueError> {
        let records = self.owner_records(versions)?;
        let held = records.iter().flatten().flatten().filter(|record| !record.released);
        let names: BTreeSet<String> = held.map(|record| record.owner.clone()).collect();
        let keys: Vec<String> = names.iter().map(|name| worker_key(name)).collect();
        let mut workers = BTreeMap::new();
        for ((name, key), stored) in names.into_iter().zip(&keys).zip(self.registers.get_many(&keys)?) {
            workers.insert(name, stored.map(|stored| decode::<WorkerRegister>(key, &stored.value)).transpose());
        }
        let ownership = |record: OwnerRecord| {
            let worker = match workers.get(&record.owner) {
                Some(Ok(worker)) => worker.as_ref().map(|register| &register.lease),
                // Whether it is live is not known: a take finds out, and says what is wrong.
                Some(Err(_)) | None => None,
            };
            Ownership { epoch: record.epoch, until_ms: record.held_until(worker), owner: record.owner }
        };
        Ok(records.into_iter().map(|record| record.map(|record| record.map(ownership))).collect())
    }

    /// Which of these versions `owner` owns no more in the epoch given with each.
    pub fn lost(&self, owner: &Owner, held: &[(Key, Epoch)]) -> Result<Vec<bool>, CatalogueError> {
        let keys: Vec<Key> = held.iter().map(|(key, _)| key.clone()).collect();
        let is_lost = |record: Option<OwnerRecord>, epoch: Epoch| {
            !record.is_some_and(|record| record.is_of(owner) && record.epoch == epoch && !record.released)
        };
        let records = self.owner_records(&keys)?.into_iter().zip(held);
        records.map(|(record, (_, epoch))| Ok(is_lost(record?, *epoch))).collect()
    }

    /// Takes a version, if nobody has it, the lease of its owner has ended or it was released. The caller's own lease must be live ([`Catalogue::renew`]),
    /// or others may take it at once.
    ///
    /// The epoch grows with each owner, even after a release: the next one may have another, older state, whose rows must not tie with those of the
    /// one before. It also grows when a run takes again what it has taken before and may have written in; `used` is the greatest epoch of those. An
    /// epoch above it that is this run's already, because it was not known that taking it had succeeded or because nothing came of it, is not wasted.
    pub fn take(&self, view: &str, version: Version, owner: &Owner, used: Option<Epoch>) -> Result<Take, CatalogueError> {
        self.check_takeable(view, version)?;
        for _ in 0..ATTEMPTS {
            let now_ms = self.clock.now_ms();
            let before = self.owner_register(view, version)?;
            let (epoch, revision) = match &before {
                None => (Epoch(1), None),
                Some((held, revision)) if held.is_of(owner) && Some(held.epoch) > used => {
                    if !held.released {
                        return Ok(Take::Taken(held.epoch));
                    }
                    (held.epoch, Some(*revision))
                }
                Some((held, revision)) => {
                    if let Some(until_ms) = self.held_from(held, owner)?.filter(|until_ms| *until_ms > now_ms) {
                        return Ok(Take::HeldBy { owner: held.owner.clone(), until_ms });
                    }
                    (Epoch(held.epoch.0.saturating_add(1)), Some(*revision))
                }
            };
            let incarnation = Some(owner.incarnation.id.clone());
            let taken = OwnerRecord { epoch, owner: owner.name.clone(), incarnation, lease_until_ms: 0, released: false };
            if self.set_owner(view, version, revision, taken)? {
                // Dropped since it was looked at: who removes what is left of it may not have seen this owner.
                if let Err(error) = self.check_takeable(view, version) {
                    if let Err(error) = self.release(view, version, owner, epoch) {
                        tracing::debug!(view, %version, %error, "a version that was dropped is not released");
                    }
                    return Err(error);
                }
                self.journal_or_keep(AuditEntry {
                    version: Some(version),
                    from: before.map(|(held, _)| held.label()),
                    to: Some(format!("{} in epoch {}", owner.name, epoch.0)),
                    ..AuditEntry::new("take", view, &owner.name, now_ms)
                });
                return Ok(Take::Taken(epoch));
            }
        }
        Err(too_busy(&owner_key(view, version)))
    }

    /// Gives a version up after the last write to it, so that another can take it at once. [`CatalogueError::LostTo`]: another has taken it.
    pub fn release(&self, view: &str, version: Version, owner: &Owner, epoch: Epoch) -> Result<(), CatalogueError> {
        for _ in 0..ATTEMPTS {
            let lost_to = |owner: &str, epoch| CatalogueError::LostTo { view: view.into(), version, owner: owner.into(), epoch };
            let (held, revision) = self.owner_register(view, version)?.ok_or_else(|| lost_to("nobody", Epoch(0)))?;
            if !held.is_of(owner) || held.epoch != epoch {
                return Err(lost_to(&held.owner, held.epoch));
            }
            if held.released {
                return Ok(());
            }
            if self.set_owner(view, version, Some(revision), OwnerRecord { released: true, ..held })? {
                self.journal_or_keep(AuditEntry {
                    version: Some(version),
                    from: Some(format!("{} in epoch {}", owner.name, epoch.0)),
                    ..AuditEntry::new("release", view, &owner.name, self.clock.now_ms())
                });
                return Ok(());
            }
        }
        Err(too_busy(&owner_key(view, version)))
    }

    fn check_takeable(&self, view: &str, version: Version) -> Result<(), CatalogueError> {
        match self.version(view, version)? {
            Some(record) if record.state == VersionState::Dropped => {
                Err(super::refused(&record, &VersionState::Building, self.clock.now_ms()))
            }
            Some(_) => Ok(()),
            None => {
                let (mut register, _) = self.view_register(view)?;
                super::find(&mut register, view, version).map(drop)
            }
        }
    }

    /// Until when a version is kept from `owner`.
    fn held_from(&self, held: &OwnerRecord, owner: &Owner) -> Result<Option<i64>, CatalogueError> {
        // An earlier release did not know one run of an owner from another: its names were taken to be unique.
        if held.is_of(owner) || (held.owner == owner.name && held.incarnation.is_none()) {
            return Ok(None);
        }
        let worker: Option<(WorkerRegister, u64)> = self.load(&worker_key(&held.owner))?;
        Ok(held.held_until(worker.as_ref().map(|(register, _)| &register.lease)))
    }

    fn owner_records(&self, versions: &[Key]) -> Result<Vec<Result<Option<OwnerRecord>, CatalogueError>>, CatalogueError> {
        let keys: Vec<String> = versions.iter().map(|(view, version)| owner_key(view, *version)).collect();
        let stored = self.registers.get_many(&keys)?;
        let record = |key: &str, value: &str| Ok(decode::<OwnerRegister>(key, value)?.ownership);
        Ok(keys.iter().zip(stored).map(|(key, stored)| stored.map(|stored| record(key, &stored.value)).transpose()).collect())
    }

    fn owner_register(&self, view: &str, version: Version) -> Result<Option<(OwnerRecord, u64)>, CatalogueError> {
        let loaded: Option<(OwnerRegister, u64)> = self.load(&owner_key(view, version))?;
        Ok(loaded.map(|(register, revision)| (register.ownership, revision)))
    }

    fn set_owner(&self, view: &str, version: Version, revision: Option<u64>, ownership: OwnerRecord) -> Result<bool, CatalogueError> {
        let key = owner_key(view, version);
        let text = encode(&key, &OwnerRegister { ownership })?;
        Ok(matches!(self.registers.compare_and_set(&key, revision, Some(&text))?, Outcome::Set(_)))
    }
}
