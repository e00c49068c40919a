//! Ending versions: the fold commits, the writer writes what is left, the version is released.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::{Key, Running, Worker, spawn};
use crate::engine::error::EngineError;
use crate::engine::lease::Held;
use crate::engine::status::RunStatus;
use crate::recovery::Recovery;

/// How long a writer goes on after a stop was asked for.
pub(super) const DRAIN_AT_STOP: Duration = Duration::from_secs(10);

impl Worker {
    /// Ends a version in a thread of its own: what is left to be written may take long.
    pub(super) fn end(&self, key: &Key, dropped: bool) {
        let Some(running) = self.running.lock().remove(key) else { return };
        self.share_memory();
        running.stop.stop();
        running.wake_fold.wake();
        let (removals, of) = (self.removals.clone(), key.clone());
        let finish = move |running: Running| {
            let held = finish(running);
            // Still held: no other worker removes it meanwhile.
            if dropped {
                removals.remove(&of);
            }
            held.release();
        };
        // Where there is no thread to be had it is ended here: a version whose lease is renewed while nothing runs would run nowhere.
        let (running, finish) = (Arc::new(Mutex::new(Some(running))), Arc::new(finish));
        let (taken, body) = (running.clone(), finish.clone());
        let in_thread = move || {
            let running = taken.lock().take();
            running.into_iter().for_each(|running| body(running));
        };
        match spawn(&format!("end-{}-{}", key.0, key.1), in_thread) {
            Ok(thread) => drop(self.ending.lock().insert(key.clone(), thread)),
            Err(error) => {
                tracing::error!(view = key.0, version = %key.1, %error, "version is ended in the thread that follows the catalogue");
                let running = running.lock().take();
                running.into_iter().for_each(|running| finish(running));
            }
        }
    }

    /// Ends all versions, and waits for that.
    pub(super) fn end_all(&self) {
        self.openings.join();
        for opened in self.openings.take() {
            self.running.lock().insert(opened.key(), opened.running);
        }
        let keys: Vec<Key> = self.running.lock().keys().cloned().collect();
        keys.iter().for_each(|key| self.end(key, false));
        let ending = std::mem::take(&mut *self.ending.lock());
        for thread in ending.into_values() {
            let _ = thread.join();
        }
        self.feeds.join();
    }
}

/// Stops a version's threads: first the fold, which commits, then the writer, which writes what is left. The version is still held.
fn finish(running: Running) -> Held {
    running.stop.stop();
    running.wake_fold.wake();
    let mut threads = running.threads.into_iter();
    if let Some(fold) = threads.next() {
        let _ = fold.join();
    }
    running.stop_writing.stop();
    running.wake_writer.wake();
    for thread in threads {
        let _ = thread.join();
    }
    running.lent.close();
    running.lease
}

/// Runs a thread's work, and notes why it ended before it was asked to.
pub(super) fn note_failure(status: &Mutex<RunStatus>, work: impl FnOnce() -> Result<(), EngineError>) {
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    let mut status = status.lock();
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) if error.recovery() == Recovery::Final => drop(status.failed.get_or_insert(error.to_string())),
        Ok(Err(error)) => drop(status.unable.get_or_insert(error.to_string())),
        Err(_) => drop(status.unable.get_or_insert("a thread of it panicked; see the log of this process".to_owned())),
    }
}
