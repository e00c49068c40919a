//! How what there is for all versions is shared among those that run: memory, syncs, and the processor time of commits.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// What each version that runs may take: equal shares of what there is for all.
#[derive(Debug)]
pub struct Shares {
    groups_bytes: usize,
    panes_bytes: usize,
    queue_bytes: usize,
    versions: AtomicUsize,
    /// What one commit of each live version takes, all together, microseconds.
    commits_us: AtomicU64,
    cores: u32,
}

/// Of the time that commits of all live versions take together, so many times pass between two of each, divided by the cores: they take at most a quarter
/// of the machine.
const COMMIT_PAUSE: u32 = 4;

/// Live versions commit at least this often, however many they are.
const LONGEST_COMMIT_PAUSE: Duration = Duration::from_secs(5);

/// Less than that is taken up by a handful of groups.
const LEAST_GROUPS_BYTES: usize = 32 << 10;

/// Syncs of the view store that all versions ask for together are this far apart.
const SYNC_PAUSE: Duration = Duration::from_millis(50);

impl Shares {
    /// Memory for groups touched since the last commit, for panes of windows, and for rows that wait to be written, bytes.
    pub fn new(groups_bytes: usize, panes_bytes: usize, queue_bytes: usize) -> Shares {
        let cores = std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX));
        Shares { groups_bytes, panes_bytes, queue_bytes, versions: AtomicUsize::new(1), commits_us: AtomicU64::new(0), cores }
    }

    /// So many versions run from now on.
    pub fn divide(&self, versions: usize) {
        self.versions.store(versions.max(1), Ordering::Relaxed);
    }

    fn versions(&self) -> usize {
        self.versions.load(Ordering::Relaxed)
    }

    /// For groups touched since the last commit, bytes.
    pub fn groups(&self) -> usize {
        (self.groups_bytes / self.versions()).max(LEAST_GROUPS_BYTES)
    }

    /// For panes that are kept from one window to the next, bytes.
    pub fn panes(&self) -> usize {
        self.panes_bytes / self.versions()
    }

    /// For the groups that windows are worked out with at a time, as they are in the state: with their rows they take several times that.
    pub fn part(&self) -> usize {
        self.panes() / 4
    }

    /// For rows that wait to be written, bytes.
    pub fn queue(&self) -> usize {
        self.queue_bytes / self.versions()
    }

    /// How long a version waits between two syncs of the view store, `least` if there are few versions.
    pub fn sync_every(&self, least: Duration) -> Duration {
        least.max(SYNC_PAUSE * u32::try_from(self.versions()).unwrap_or(u32::MAX))
    }

    /// How long a live version waits between two commits at least, so that commits leave time for all else.
    pub fn commit_pause(&self) -> Duration {
        let all = Duration::from_micros(self.commits_us.load(Ordering::Relaxed));
        (all * COMMIT_PAUSE / self.cores).min(LONGEST_COMMIT_PAUSE)
    }
}

/// What a commit of one live version takes, as it was lately.
#[derive(Debug, Default)]
pub struct CommitCost {
    us: u64,
}

impl CommitCost {
    /// Notes what a commit took.
    pub fn note(&mut self, shares: &Shares, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.set(shares, if self.us == 0 { took_us } else { (self.us * 7 + took_us) / 8 });
    }

    /// It makes none any more.
    pub fn end(&mut self, shares: &Shares) {
        self.set(shares, 0);
    }

    fn set(&mut self, shares: &Shares, us: u64) {
        shares.commits_us.fetch_add(us, Ordering::Relaxed);
        shares.commits_us.fetch_sub(self.us, Ordering::Relaxed);
        self.us = us;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn commits_are_rarer_the_more_versions_there_are_and_leave_three_quarters_of_the_machine() {
        let shares = Shares { cores: 2, ..Shares::new(0, 0, 0) };
        let mut costs: Vec<CommitCost> = (0..500).map(|_| CommitCost::default()).collect();
        costs[..3].iter_mut().for_each(|cost| cost.note(&shares, Duration::from_millis(1)));
        assert_eq!(shares.commit_pause(), Duration::from_millis(6), "no longer than a commit interval");
        costs[3..].iter_mut().for_each(|cost| cost.note(&shares, Duration::from_millis(1)));
        let pause = shares.commit_pause();
        assert_eq!(pause, Duration::from_millis(1_000));
        assert!(Duration::from_millis(500) * 4 <= pause * 2, "500 ms of work in each pause, on two cores");
        costs.iter_mut().for_each(|cost| cost.note(&shares, Duration::from_secs(1)));
        assert_eq!(shares.commit_pause(), LONGEST_COMMIT_PAUSE);
        costs.iter_mut().for_each(|cost| cost.end(&shares));
        assert_eq!(shares.commit_pause(), Duration::ZERO);
    }

    #[test]
    fn all_versions_together_sync_at_a_bounded_rate() {
        let shares = Shares::new(0, 0, 0);
        assert_eq!(shares.sync_every(Duration::from_secs(1)), Duration::from_secs(1));
        shares.divide(500);
        assert_eq!(shares.sync_every(Duration::from_secs(1)), Duration::from_secs(25));
    }
}
