//! Keeping what this process owns. Its one lease is renewed on a thread of its own, by one call to the catalogue each time, so that neither the
//! number of versions nor anything else that takes long lets it end.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::stop::Stop;
use crate::store::catalogue::{Catalogue, CatalogueError, Owner, Renewed, Take};
use crate::table::{Epoch, Version};

type Key = (String, Version);

/// The ownership of one version.
#[derive(Debug)]
pub struct Lease {
    /// The view.
    pub view: String,
    /// The version.
    pub version: Version,
    /// The epoch that it was taken in. What writes in it begins with [`Held::begin_writing`].
    pub epoch: Epoch,
    /// Whether it is another's, or was given up: from then on nothing is written any more.
    pub lost: Arc<AtomicBool>,
}

/// A version that is held: kept in this process' name until this value is released or dropped, so never for longer than something has it.
pub struct Held {
    lease: Arc<Lease>,
    leases: Arc<Leases>,
    is_released: bool,
}

impl Deref for Held {
    type Target = Lease;

    fn deref(&self) -> &Lease {
        &self.lease
    }
}

impl Held {
    /// The ownership, without the duty to give it up.
    pub fn lease(&self) -> Arc<Lease> {
        self.lease.clone()
    }

    /// The epoch to write in; it is not used for another ownership from now on.
    pub fn begin_writing(&self) -> Epoch {
        let key = (self.view.clone(), self.version);
        self.leases.used.lock().insert(key, self.epoch);
        self.epoch
    }

    /// Gives the version up after the last write to it, and waits until the catalogue knows: another can take it at once.
    pub fn release(mut self) {
        self.is_released = true;
        self.leases.forget(&self.lease);
        self.leases.give_up(&self.lease);
    }
}

impl Drop for Held {
    /// What was not ended in order: nothing is written from now on, and the catalogue is informed by the thread that does so.
    fn drop(&mut self) {
        if self.is_released {
            return;
        }
        self.leases.forget(&self.lease);
        if !self.lease.lost.swap(true, Ordering::Relaxed) {
            self.leases.upkeep.lock().to_release.push(self.lease.clone());
            self.leases.hurry();
        }
    }
}

/// What became of an attempt to hold a version.
pub enum Taking {
    /// It is held here.
    Held(Held),
    /// Another has it.
    HeldBy {
        /// The owner.
        owner: String,
    },
}

/// All that this process owns.
pub struct Leases {
    catalogue: Catalogue,
    owner: Owner,
    lease_ms: i64,
    /// The lease, as it was renewed last. Locked while it is renewed, and for nothing else that waits.
    renewed: Mutex<Option<Renewed>>,
    held: Mutex<Vec<Arc<Lease>>>,
    /// Epochs that were, or may have been, written in, by version.
    used: Mutex<BTreeMap<Key, Epoch>>,
    upkeep: Mutex<Upkeep>,
    /// Wakes the upkeep.
    due: Condvar,
    stop: Stop,
}

/// What is done beside the renewals.
#[derive(Default)]
struct Upkeep {
    /// Given up, which the catalogue does not know yet.
    to_release: Vec<Arc<Lease>>,
    is_urgent: bool,
    is_ended: bool,
}

impl Leases {
    /// What `owner` owns, with a lease of `lease_ms`: nothing yet.
    pub fn new(catalogue: Catalogue, owner: Owner, lease_ms: i64) -> Arc<Leases> {
        Arc::new(Leases {
            catalogue,
            owner,
            lease_ms,
            renewed: Mutex::default(),
            held: Mutex::default(),
            used: Mutex::default(),
            upkeep: Mutex::default(),
            due: Condvar::new(),
            stop: Stop::new(),
        })
    }

    /// Takes a version, if nobody else has it.
    pub fn take(self: &Arc<Self>, view: &str, version: Version) -> Result<Taking, CatalogueError> {
        if !self.is_live() {
            self.renew()?;
        }
        let used = self.used.lock().get(&(view.to_owned(), version)).copied();
        match self.catalogue.take(view, version, &self.owner, used)? {
            Take::HeldBy { owner, .. } => Ok(Taking::HeldBy { owner }),
            Take::Taken(epoch) => {
                let lease = Arc::new(Lease { view: view.to_owned(), version, epoch, lost: Arc::default() });
                self.held.lock().push(lease.clone());
                Ok(Taking::Held(Held { lease, leases: self.clone(), is_released: false }))
            }
        }
    }

    /// Whether this process still owns what it holds, by the catalogue. If not, the lease is lost from now on.
    pub fn is_still_held(&self, lease: &Lease) -> Result<bool, CatalogueError> {
        let lost = self.catalogue.lost(&self.owner, &[((lease.view.clone(), lease.version), lease.epoch)])?;
        let is_lost = lost.first().copied().unwrap_or_default();
        if is_lost {
            self.lose(lease);
        }
        Ok(!is_lost && !lease.lost.load(Ordering::Relaxed))
    }

    /// Renews again and again, until [`Leases::end`].
    pub fn keep(&self) {
        std::thread::scope(|scope| {
            scope.spawn(|| self.keep_up());
            self.keep_renewing();
        });
    }

    /// Gives up all that is still owned, and ends [`Leases::keep`].
    pub fn end(&self) {
        self.stop.stop();
        self.upkeep.lock().is_ended = true;
        self.due.notify_all();
    }

    fn keep_renewing(&self) {
        let mut is_refused = false;
        loop {
            let began_ms = self.catalogue.now_ms();
            let renewed = self.renew();
            match &renewed {
                Ok(()) => is_refused = false,
                Err(error @ CatalogueError::OwnerInUse { .. }) => {
                    if !std::mem::replace(&mut is_refused, true) {
                        tracing::error!(%error, "this process may run no version");
                    }
                }
                // The lease may end meanwhile; what is written then is harmless, because whoever takes a version has a greater epoch.
                Err(error) => tracing::warn!(%error, "the lease is not renewed; it is retried"),
            }
            let pause_ms = self.lease_ms / if renewed.is_ok() { RENEWALS_PER_LEASE } else { RETRIES_PER_LEASE };
            // From one beginning to the next: a slow answer does not put the next renewal off.
            let spent_ms = (self.catalogue.now_ms() - began_ms).clamp(0, pause_ms);
            if self.stop.wait(Duration::from_millis((pause_ms - spent_ms).max(1) as u64)) {
                return;
            }
        }
    }

    fn renew(&self) -> Result<(), CatalogueError> {
        let mut last = self.renewed.lock();
        match self.catalogue.renew(&self.owner, self.lease_ms, last.as_ref()) {
            Ok(renewed) => {
                let had_lapsed = renewed.had_lapsed && last.is_some();
                *last = Some(renewed);
                if had_lapsed {
                    tracing::warn!(
                        owner = self.owner.name,
                        "the lease had ended before it was renewed; others may have taken versions meanwhile"
                    );
                    self.hurry();
                }
                Ok(())
            }
            Err(error) => {
                if matches!(error, CatalogueError::OwnerInUse { .. }) {
                    *last = None;
                    self.held.lock().iter().for_each(|lease| self.lose(lease));
                }
                Err(error)
            }
        }
    }

    fn is_live(&self) -> bool {
        let now_ms = self.catalogue.now_ms();
        self.renewed.lock().as_ref().is_some_and(|renewed| renewed.until_ms > now_ms)
    }

    /// Finds out which versions were taken by others, and repeats what the catalogue did not take, until the end.
    fn keep_up(&self) {
        let pause = Duration::from_millis((self.lease_ms / RENEWALS_PER_LEASE).max(1) as u64);
        loop {
            {
                let mut upkeep = self.upkeep.lock();
                self.due.wait_while_for(&mut upkeep, |upkeep| !upkeep.is_urgent && !upkeep.is_ended, pause);
                upkeep.is_urgent = false;
                if upkeep.is_ended {
                    break;
                }
            }
            self.do_upkeep();
        }
        // One call for all that is still owned.
        if let Err(error) = self.catalogue.leave(&self.owner) {
            tracing::debug!(%error, "the lease could not be given up: others wait until it has ended");
        }
        if let Err(error) = self.catalogue.journal_kept() {
            tracing::warn!(%error, "entries of the audit trail are lost");
        }
    }

    fn do_upkeep(&self) {
        self.find_lost();
        let to_release = std::mem::take(&mut self.upkeep.lock().to_release);
        to_release.iter().for_each(|lease| self.give_up(lease));
        if let Err(error) = self.catalogue.journal_kept() {
            tracing::debug!(%error, "the journal is still unavailable");
        }
    }

    fn find_lost(&self) {
        let held = self.held.lock().clone();
        if held.is_empty() {
            return;
        }
        let keys: Vec<(Key, Epoch)> = held.iter().map(|lease| ((lease.view.clone(), lease.version), lease.epoch)).collect();
        match self.catalogue.lost(&self.owner, &keys) {
            Ok(lost) => held.iter().zip(lost).filter(|(_, is_lost)| *is_lost).for_each(|(lease, _)| self.lose(lease)),
            Err(error) => tracing::debug!(%error, "which versions are still owned cannot be read; it is retried"),
        }
    }

    fn lose(&self, lease: &Lease) {
        if !lease.lost.swap(true, Ordering::Relaxed) {
            tracing::warn!(view = lease.view, version = %lease.version, "version was taken over by another owner");
        }
    }

    fn hurry(&self) {
        self.upkeep.lock().is_urgent = true;
        self.due.notify_all();
    }

    fn forget(&self, lease: &Arc<Lease>) {
        self.held.lock().retain(|held| !Arc::ptr_eq(held, lease));
    }

    /// Informs the catalogue that a version was given up.
    fn give_up(&self, lease: &Arc<Lease>) {
        // Taken again meanwhile, in the same epoch: it is held.
        let is_same = |held: &Arc<Lease>| held.view == lease.view && held.version == lease.version && held.epoch == lease.epoch;
        if self.held.lock().iter().any(is_same) {
            return;
        }
        match self.catalogue.release(&lease.view, lease.version, &self.owner, lease.epoch) {
            Ok(()) => {}
            Err(error @ CatalogueError::LostTo { .. }) => tracing::debug!(%error, "version is another's by now"),
            // Its worker lease would keep it from all others for as long as this process lives.
            Err(error) => {
                tracing::debug!(view = lease.view, version = %lease.version, %error, "version is not released; it is retried");
                self.upkeep.lock().to_release.push(lease.clone());
            }
        }
    }
}

/// So that a renewal or two may fail.
const RENEWALS_PER_LEASE: i64 = 4;
/// What failed is repeated sooner: there is only this lease to lose.
const RETRIES_PER_LEASE: i64 = 20;
