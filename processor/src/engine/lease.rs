//! Keeping what this process owns: leases are renewed on a thread of their own, so that nothing else that takes long lets them end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::store::catalogue::{Catalogue, CatalogueError};
use crate::table::{Epoch, Version};

/// The ownership of one version.
#[derive(Debug)]
pub struct Lease {
    /// The view.
    pub view: String,
    /// The version.
    pub version: Version,
    /// The epoch that it was taken in.
    pub epoch: Epoch,
    /// Whether another has taken it: from then on nothing is written any more.
    pub lost: Arc<AtomicBool>,
}

/// All that this process owns.
pub struct Leases {
    catalogue: Catalogue,
    owner: String,
    lease_ms: i64,
    held: Mutex<Vec<Arc<Lease>>>,
    ended: (Mutex<bool>, Condvar),
}

impl Leases {
    /// Leases of `lease_ms` each, none yet.
    pub fn new(catalogue: Catalogue, owner: &str, lease_ms: i64) -> Leases {
        Leases { catalogue, owner: owner.to_owned(), lease_ms, held: Mutex::default(), ended: Default::default() }
    }

    /// Renews this one too from now on.
    pub fn hold(&self, lease: Arc<Lease>) {
        self.held.lock().push(lease);
    }

    /// Gives one up: whoever comes next need not wait.
    pub fn release(&self, lease: &Arc<Lease>) {
        self.held.lock().retain(|held| !Arc::ptr_eq(held, lease));
        if lease.lost.load(Ordering::Relaxed) {
            return;
        }
        // Whoever comes next waits for the lease instead.
        if let Err(error) = self.catalogue.release(&lease.view, lease.version, &self.owner, lease.epoch) {
            tracing::debug!(view = lease.view, version = %lease.version, %error, "version could not be released");
        }
    }

    /// Renews again and again, until [`Leases::end`].
    pub fn keep(&self) {
        let (flag, condition) = &self.ended;
        let pause = Duration::from_millis((self.lease_ms / RENEWALS_PER_LEASE).max(1) as u64);
        loop {
            {
                let mut ended = flag.lock();
                if !*ended {
                    condition.wait_for(&mut ended, pause);
                }
                if *ended {
                    return;
                }
            }
            let held = self.held.lock().clone();
            held.iter().for_each(|lease| self.renew(lease));
        }
    }

    /// Ends [`Leases::keep`].
    pub fn end(&self) {
        *self.ended.0.lock() = true;
        self.ended.1.notify_all();
    }

    fn renew(&self, lease: &Lease) {
        match self.catalogue.renew(&lease.view, lease.version, &self.owner, lease.epoch, self.lease_ms) {
            Ok(()) => {}
            Err(error @ CatalogueError::LostTo { .. }) => {
                if !lease.lost.swap(true, Ordering::Relaxed) {
                    tracing::warn!(view = lease.view, version = %lease.version, %error, "version was taken over");
                }
            }
            // The lease may end meanwhile; what is written then is harmless, because whoever takes it has a greater epoch.
            Err(error) => tracing::warn!(view = lease.view, version = %lease.version, %error, "lease is not renewed; trying again"),
        }
    }
}

/// So that a renewal or two may fail.
const RENEWALS_PER_LEASE: i64 = 4;
