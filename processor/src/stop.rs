//! Stopping from outside: a tree of stop signals. A child is stopped when it, or any ancestor of it, was asked to stop; so a part that ends
//! because the whole ends can always tell, and is never mistaken for a part that failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// A stop signal, shared by clones: given once, for good.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<Node>);

#[derive(Debug, Default)]
struct Node {
    parent: Option<Stop>,
    requested: AtomicBool,
    /// One for the whole tree: a stop wakes all of its waiters, who then look at their own ancestors.
    waiters: Arc<Waiters>,
}

#[derive(Debug, Default)]
struct Waiters {
    lock: Mutex<()>,
    stopped: Condvar,
}

impl Stop {
    /// A signal without a parent, not given yet.
    pub fn new() -> Self {
        Stop::default()
    }

    /// A signal that is given with this one, and can be given alone.
    pub fn child(&self) -> Stop {
        let waiters = self.0.waiters.clone();
        Stop(Arc::new(Node { parent: Some(self.clone()), requested: AtomicBool::new(false), waiters }))
    }

    /// Gives the signal, to this one and all below it, and wakes their waiters.
    pub fn stop(&self) {
        self.0.requested.store(true, Ordering::Release);
        // With the lock: a waiter that has just looked is waiting by the time it is notified.
        drop(self.0.waiters.lock.lock());
        self.0.waiters.stopped.notify_all();
    }

    /// Whether the signal was given to this one or to an ancestor.
    pub fn is_stopped(&self) -> bool {
        let mut node = Some(self);
        while let Some(stop) = node {
            if stop.0.requested.load(Ordering::Acquire) {
                return true;
            }
            node = stop.0.parent.as_ref();
        }
        false
    }

    /// Waits until the signal is given, at most `time`. Returns whether it was.
    pub fn wait(&self, time: Duration) -> bool {
        let mut guard = self.0.waiters.lock.lock();
        self.0.waiters.stopped.wait_while_for(&mut guard, |()| !self.is_stopped(), time);
        self.is_stopped()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn a_stop_wakes_waiters_and_stays_given() {
        let stop = Stop::new();
        assert!(!stop.is_stopped());
        assert!(!stop.wait(Duration::ZERO));
        let waiting = std::thread::spawn({
            let stop = stop.clone();
            move || stop.wait(LONG)
        });
        stop.stop();
        assert!(waiting.join().unwrap());
        assert!(stop.is_stopped());
        assert!(stop.wait(LONG), "given for good: no more waiting");
    }

    #[test]
    fn a_stop_reaches_descendants_and_nobody_else() {
        let whole = Stop::new();
        let (part, other) = (whole.child(), whole.child());
        let piece = part.child();
        let waiting = std::thread::spawn({
            let piece = piece.clone();
            move || piece.wait(LONG)
        });
        part.stop();
        assert!(waiting.join().unwrap());
        assert!(part.is_stopped() && piece.is_stopped());
        assert!(!whole.is_stopped() && !other.is_stopped());
        whole.stop();
        assert!(other.is_stopped() && other.wait(LONG));
    }
}
