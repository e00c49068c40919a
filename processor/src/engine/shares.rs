//! How the memory that there is for all versions is shared among those that run.

use std::sync::atomic::{AtomicUsize, Ordering};

/// What each version that runs may take: equal shares of what there is for all, bytes.
#[derive(Debug)]
pub struct Shares {
    groups_bytes: usize,
    panes_bytes: usize,
    queue_bytes: usize,
    versions: AtomicUsize,
}

impl Shares {
    /// Memory for groups touched since the last commit, for panes of windows, and for rows that wait to be written.
    pub fn new(groups_bytes: usize, panes_bytes: usize, queue_bytes: usize) -> Shares {
        Shares { groups_bytes, panes_bytes, queue_bytes, versions: AtomicUsize::new(1) }
    }

    /// So many versions run from now on.
    pub fn divide(&self, versions: usize) {
        self.versions.store(versions.max(1), Ordering::Relaxed);
    }

    /// For groups touched since the last commit.
    pub fn groups(&self) -> usize {
        self.groups_bytes / self.versions.load(Ordering::Relaxed)
    }

    /// For panes that are kept from one window to the next.
    pub fn panes(&self) -> usize {
        self.panes_bytes / self.versions.load(Ordering::Relaxed)
    }

    /// For the groups that windows are worked out with at a time, as they are in the state: with their rows they take several times that.
    pub fn part(&self) -> usize {
        self.panes() / 4
    }

    /// For rows that wait to be written.
    pub fn queue(&self) -> usize {
        self.queue_bytes / self.versions.load(Ordering::Relaxed)
    }
}
