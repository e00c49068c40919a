//! Waking a thread that waits: so nobody has to wake up now and then to see whether there is something to do.

use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

/// Wakes one thread. Clones wake the same one.
#[derive(Clone, Debug)]
pub struct Wake {
    sender: Sender<()>,
    receiver: Receiver<()>,
}

impl Default for Wake {
    fn default() -> Self {
        let (sender, receiver) = bounded(1);
        Wake { sender, receiver }
    }
}

impl Wake {
    /// Ends the wait that is under way, or the next one. Once is enough however often it is called before that.
    pub fn wake(&self) {
        // Full: a wake is due already.
        let _ = self.sender.try_send(());
    }

    /// Waits to be woken, at most so long.
    pub fn wait(&self, most: Duration) {
        let _ = self.receiver.recv_timeout(most);
    }

    /// Receives when the thread is woken, to be waited for beside other channels.
    pub fn woken(&self) -> &Receiver<()> {
        &self.receiver
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn a_wake_before_the_wait_is_not_lost_and_counts_once() {
        let wake = Wake::default();
        wake.clone().wake();
        wake.wake();
        let begun = Instant::now();
        wake.wait(Duration::from_secs(600));
        assert!(begun.elapsed() < Duration::from_secs(60));
        wake.wait(Duration::from_millis(1));
        assert!(wake.woken().is_empty());
    }
}
