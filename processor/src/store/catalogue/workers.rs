//! The leases of workers. A worker renews one lease, whatever number of versions it runs; each of its ownerships is live while that lease is.
//!
//! A lease belongs to one run of a worker's process, its *incarnation*. So two processes of the same name, as after a data folder was copied, are
//! told apart: the second is refused while the first renews its lease, instead of each taking the other's versions in turn.

use super::records::{WorkerLease, WorkerRegister, decode, encode, worker_key};
use super::{ATTEMPTS, Catalogue, CatalogueError, Outcome, too_busy};

/// A worker, as the owner of versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its name, which stays with its state: after a restart it is the same owner.
    pub name: String,
    /// Its run.
    pub incarnation: Incarnation,
}

/// One run of a worker's process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Incarnation {
    /// Unique among all runs of the owner.
    pub id: String,
    /// The run before, where that is certain to have ended: its lease is not waited for.
    pub replaces: Option<String>,
}

/// A lease that was renewed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// When it ends unless it is renewed again, milliseconds since the Unix epoch.
    pub until_ms: i64,
    /// Whether it was not this worker's, or had ended, before it was renewed: others may have taken its versions meanwhile.
    pub had_lapsed: bool,
    revision: u64,
}

impl Catalogue {
    /// Renews the lease of a worker, or takes it for a new run of it, for `lease_ms` from now. With what the renewal before this one answered it
    /// is one call. [`CatalogueError::OwnerInUse`]: another run has it.
    pub fn renew(&self, owner: &Owner, lease_ms: i64, before: Option<&Renewed>) -> Result<Renewed, CatalogueError> {
        let key = worker_key(&owner.name);
        let id = &owner.incarnation.id;
        let lease = |until_ms| WorkerLease { incarnation: id.clone(), until_ms, released: false };
        let mut there = match before {
            Some(before) => Some((lease(before.until_ms), before.revision)),
            None => self.load::<WorkerRegister>(&key)?.map(|(register, revision)| (register.lease, revision)),
        };
        for _ in 0..ATTEMPTS {
            let now_ms = self.clock.now_ms();
            let live = there.as_ref().map(|(held, _)| held).filter(|held| held.is_live(now_ms));
            if let Some(other) =
                live.filter(|held| held.incarnation != *id && Some(&held.incarnation) != owner.incarnation.replaces.as_ref())
            {
                let seconds = (other.until_ms - now_ms) / 1_000 + 1;
                return Err(CatalogueError::OwnerInUse { owner: owner.name.clone(), seconds });
            }
            let had_lapsed = live.is_none_or(|held| held.incarnation != *id);
            let until_ms = now_ms + lease_ms;
            let text = encode(&key, &WorkerRegister { lease: lease(until_ms) })?;
            let revision = there.as_ref().map(|(_, revision)| *revision);
            match self.registers.compare_and_set(&key, revision, Some(&text))? {
                Outcome::Set(revision) => return Ok(Renewed { until_ms, had_lapsed, revision }),
                Outcome::Conflict(None) => there = None,
                Outcome::Conflict(Some(stored)) => {
                    let register: WorkerRegister = decode(&key, &stored.value)?;
                    there = Some((register.lease, stored.revision));
                }
            }
        }
        Err(too_busy(&key))
    }

    /// Gives a worker's lease up, and with it all that it owns and has not released; nothing if another run has it.
    pub fn leave(&self, owner: &Owner) -> Result<(), CatalogueError> {
        let key = worker_key(&owner.name);
        for _ in 0..ATTEMPTS {
            let Some((WorkerRegister { lease }, revision)) = self.load(&key)? else { return Ok(()) };
            if lease.incarnation != owner.incarnation.id || lease.released {
                return Ok(());
            }
            let text = encode(&key, &WorkerRegister { lease: WorkerLease { released: true, ..lease } })?;
            if let Outcome::Set(_) = self.registers.compare_and_set(&key, Some(revision), Some(&text))? {
                return Ok(());
            }
        }
        Err(too_busy(&key))
    }
}
