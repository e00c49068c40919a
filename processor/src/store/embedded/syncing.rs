//! One sync for all who ask for one while another is under way: many versions write into one database.

use parking_lot::{Condvar, Mutex};

#[derive(Default)]
struct Syncs {
    begun: u64,
    /// The last one that succeeded.
    done: u64,
    is_running: bool,
}

/// Shares syncs.
#[derive(Default)]
pub struct GroupSync {
    syncs: Mutex<Syncs>,
    ended: Condvar,
}

impl GroupSync {
    /// Returns once a `sync` that began after this call has succeeded, its own or another caller's; or with the error of its own.
    pub fn sync<E>(&self, sync: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let mut syncs = self.syncs.lock();
        // One that is under way may have begun before the caller's last write.
        let needed = syncs.begun + 1;
        while syncs.is_running {
            self.ended.wait(&mut syncs);
            if syncs.done >= needed {
                return Ok(());
            }
        }
        syncs.begun += 1;
        syncs.is_running = true;
        let number = syncs.begun;
        drop(syncs);
        let synced = sync();
        let mut syncs = self.syncs.lock();
        syncs.is_running = false;
        if synced.is_ok() {
            syncs.done = number;
        }
        self.ended.notify_all();
        synced
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn who_asks_while_a_sync_is_under_way_gets_the_next_one_with_all_others() {
        let (group, synced) = (Arc::new(GroupSync::default()), Arc::new(AtomicU64::new(0)));
        let (begun, is_begun) = std::sync::mpsc::channel();
        let (go_on, may_go_on) = std::sync::mpsc::channel();
        let first = {
            let group = group.clone();
            std::thread::spawn(move || {
                group.sync(|| {
                    begun.send(()).unwrap();
                    may_go_on.recv().map_err(|_| ())
                })
            })
        };
        is_begun.recv().unwrap();
        let others: Vec<_> = (0..20)
            .map(|_| {
                let (group, synced) = (group.clone(), synced.clone());
                std::thread::spawn(move || {
                    group.sync(|| {
                        synced.fetch_add(1, Ordering::Relaxed);
                        // Whoever has not asked yet does so meanwhile.
                        std::thread::sleep(std::time::Duration::from_millis(200));
                        Ok::<(), ()>(())
                    })
                })
            })
            .collect();
        while Arc::strong_count(&synced) < 21 {
            std::thread::yield_now();
        }
        assert_eq!(synced.load(Ordering::Relaxed), 0, "one at a time");
        go_on.send(()).unwrap();
        assert_eq!(first.join().unwrap(), Ok(()));
        assert!(others.into_iter().all(|other| other.join().unwrap() == Ok(())));
        let synced = synced.load(Ordering::Relaxed);
        assert!((1..20).contains(&synced), "{synced} syncs for 20 who asked at once");
    }

    #[test]
    fn a_sync_that_fails_counts_for_nobody() {
        let group = GroupSync::default();
        assert_eq!(group.sync(|| Err("no room")), Err("no room"));
        assert_eq!(group.sync(|| Ok::<(), &str>(())), Ok(()));
    }
}
