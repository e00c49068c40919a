//! The feed of each view: the rows of the version in service under a name that stays. A switch, or a rollback, is published as what differs, between two
//! marks, so that whoever keeps a copy of the view has the rows of the other version without reading them anew.
//!
//! The process that runs the version in service publishes. It remembers what the feed holds ([`copy`]), compares all rows of the version with that
//! ([`feeder`]), and then publishes what changes. Whatever it missed, and whoever published before, the rows that followers have are those of the version
//! in service once the difference is out.

mod copy;
mod feeder;
mod marks;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use self::copy::Copy;
use self::feeder::{Ended, Feeder};
use self::marks::Why;
use super::worker::Ports;
use crate::backoff::Backoff;
use crate::changes::view_feed::{ViewFeedError, ViewFeeds};
use crate::recovery::Recovery;
use crate::state::rocks::{RocksMemory, RocksState};
use crate::stop::Stop;
use crate::table::{Epoch, Table, Version};

/// A version in service that is run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Its table.
    pub table: Table,
    /// The ownership in which it is run.
    pub epoch: Epoch,
    /// The column with the starts of its windows, if it has windows.
    pub window_column: Option<usize>,
    /// For how long its rows are kept, microseconds.
    pub keep_us: Option<i64>,
}

/// How far the feed of a view is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewFeedStatus {
    /// The version whose rows followers have had completely; `None`: none since this process began.
    pub version: Option<Version>,
    /// Rows published since this process began.
    pub rows: u64,
    /// Differences published since this process began.
    pub differences: u64,
    /// Why nothing is published at the moment.
    pub error: Option<String>,
}

/// Publishes the feeds of views whose version in service is run here.
pub struct ViewFeeders {
    feeds: Option<Arc<dyn ViewFeeds>>,
    ports: Ports,
    state_dir: PathBuf,
    memory: RocksMemory,
    stop: Stop,
    running: Mutex<BTreeMap<String, Running>>,
}

struct Running {
    feeding: Arc<Feeding>,
    thread: JoinHandle<()>,
}

/// What a thread and those who watch it share.
struct Feeding {
    wanted: Mutex<Option<Served>>,
    status: Arc<Mutex<ViewFeedStatus>>,
}

/// How often changes are looked for.
const POLL: Duration = Duration::from_millis(20);
/// A version of which changes were missed is not read again sooner.
const GAP_PAUSE: Duration = Duration::from_millis(100);
/// Pauses after an error that passes by itself, and after one that an operator has to act on.
const PASSING_PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
const LASTING_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Where what is remembered of a view's feed lies in the folder of states.
pub fn copy_dir(state_dir: &Path, view: &str) -> PathBuf {
    state_dir.join(view).join("feed")
}

impl ViewFeeders {
    /// Nothing is published yet.
    pub fn new(ports: &Ports, state_dir: &Path, memory: &RocksMemory, stop: Stop) -> ViewFeeders {
        let feeds = ports.changes.view_feeds();
        ViewFeeders {
            feeds,
            ports: ports.clone(),
            state_dir: state_dir.to_owned(),
            memory: memory.clone(),
            stop,
            running: Mutex::default(),
        }
    }

    /// Publishes the feeds of these versions and of no others.
    pub fn serve(&self, served: Vec<Served>) {
        let Some(feeds) = &self.feeds else { return };
        let mut running = self.running.lock();
        let wanted: BTreeSet<String> = served.iter().map(|served| served.table.view.clone()).collect();
        for (view, running) in running.iter() {
            if !wanted.contains(view) {
                *running.feeding.wanted.lock() = None;
            }
        }
        running.retain(|_, running| !running.thread.is_finished());
        for served in served {
            let view = served.table.view.clone();
            if let Some(running) = running.get(&view) {
                *running.feeding.wanted.lock() = Some(served);
                continue;
            }
            let feeding = Arc::new(Feeding { wanted: Mutex::new(Some(served)), status: Arc::default() });
            let parts = Parts {
                feeds: feeds.clone(),
                ports: self.ports.clone(),
                path: copy_dir(&self.state_dir, &view),
                memory: self.memory.clone(),
                stop: self.stop.child(),
                feeding: feeding.clone(),
            };
            match std::thread::Builder::new().name(format!("view-feed-{view}")).spawn(move || parts.run()) {
                Ok(thread) => drop(running.insert(view, Running { feeding, thread })),
                Err(error) => tracing::warn!(view, %error, "no thread to publish the feed of a view; it is tried again"),
            }
        }
    }

    /// How far the feed of a view is, if this version of it is published here.
    pub fn status(&self, view: &str, version: Option<Version>) -> Option<ViewFeedStatus> {
        let running = self.running.lock();
        let feeding = &running.get(view)?.feeding;
        let is_wanted = feeding.wanted.lock().as_ref().is_some_and(|served| Some(served.table.version) == version);
        is_wanted.then(|| feeding.status.lock().clone())
    }

    /// Ends all.
    pub fn end(&self) {
        self.stop.stop();
        for running in std::mem::take(&mut *self.running.lock()).into_values() {
            let _ = running.thread.join();
        }
    }
}

/// What the thread of one feed works with.
struct Parts {
    feeds: Arc<dyn ViewFeeds>,
    ports: Ports,
    path: PathBuf,
    memory: RocksMemory,
    stop: Stop,
    feeding: Arc<Feeding>,
}

impl Parts {
    fn run(&self) {
        let (mut passing, mut lasting) =
            (Backoff::new(PASSING_PAUSES.0, PASSING_PAUSES.1), Backoff::new(LASTING_PAUSES.0, LASTING_PAUSES.1));
        while let Some(served) = self.wanted() {
            let differences = self.feeding.status.lock().differences;
            let published = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.publish(&served)));
            let (error, recovery) = match published {
                Ok(Ok(())) => return,
                Ok(Err(error)) => (error.to_string(), error.recovery()),
                Err(_) => ("publishing the feed of the view panicked; see the log of this process".to_owned(), Recovery::Operator),
            };
            if self.feeding.status.lock().differences > differences {
                passing.reset();
                lasting.reset();
            }
            tracing::warn!(view = served.table.view, error, %recovery, "the feed of a view is not published; it is tried again");
            self.feeding.status.lock().error = Some(error);
            let pause = if recovery == Recovery::Transient { passing.pause() } else { lasting.pause() };
            self.stop.wait(pause);
        }
    }

    fn wanted(&self) -> Option<Served> {
        self.feeding.wanted.lock().clone().filter(|_| !self.stop.is_stopped())
    }

    /// Publishes what is wanted until nothing is.
    fn publish(&self, served: &Served) -> Result<(), ViewFeedError> {
        let mut feed = self.feeds.open(&served.table.view, served.keep_us)?;
        let state = RocksState::open(&self.path, &self.memory)?;
        let copy = Copy::open(state, feed.as_mut(), self.ports.clock.now_ms())?;
        let mut feeder = Feeder {
            feed,
            copy,
            rows: self.ports.store.clone(),
            changes: self.ports.changes.clone(),
            clock: self.ports.clock.clone(),
            stop: self.stop.clone(),
            poll: POLL,
            status: self.feeding.status.clone(),
        };
        let is_served = |served: &Served| self.feeding.wanted.lock().as_ref() == Some(served);
        let mut because = Why::Start;
        while let Some(served) = self.wanted() {
            let why = match feeder.copy.version() {
                None => Why::First,
                Some(version) if version != served.table.version => Why::Switch,
                Some(_) => because,
            };
            because = match feeder.serve(&served, why, &is_served)? {
                // Nothing is missing, but another owner may have written rows since.
                Ended::Asked => Why::Start,
                Ended::Gap => {
                    self.stop.wait(GAP_PAUSE);
                    Why::Gap
                }
            };
        }
        Ok(())
    }
}
