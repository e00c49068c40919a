//! What is done for all databases of a process by one thread: commits are made durable some time after they were made, and where write buffers
//! take more than they may together, the largest are flushed.
//!
//! The rate of syncs is that of the process, whatever the number of databases: the log is the durable truth, and a power cut costs reading again what
//! was committed since. The thread sleeps while nothing is committed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::database::Database;
use super::memory::LEAST_BUFFERED_BYTES;

/// How often is synced.
#[derive(Clone, Copy, Debug)]
pub struct UpkeepSettings {
    /// A database with commits is synced about this often, if there are few.
    pub sync_every: Duration,
    /// There is at least this much between two syncs, if there are many.
    pub least_pause: Duration,
}

impl Default for UpkeepSettings {
    fn default() -> Self {
        UpkeepSettings { sync_every: Duration::from_secs(1), least_pause: Duration::from_millis(50) }
    }
}

impl UpkeepSettings {
    /// Between two syncs, while so many databases wait for one.
    fn pause(&self, waiting: usize) -> Duration {
        (self.sync_every / u32::try_from(waiting.max(1)).unwrap_or(u32::MAX)).max(self.least_pause)
    }
}

/// The longest that somebody who writes waits for flushes, each time.
const LONGEST_WAIT: Duration = Duration::from_millis(50);

/// Between two looks at what can be flushed.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

pub struct Upkeep(Arc<Inner>);

struct Inner {
    settings: UpkeepSettings,
    /// Held while a database is worked on: whoever closes one waits for that.
    databases: Mutex<Vec<Arc<Database>>>,
    due: Mutex<Due>,
    changed: Condvar,
    /// Whether a flush was asked for that is not begun.
    flush_wanted: AtomicBool,
    flush_looked: Condvar,
    syncs: AtomicUsize,
}

#[derive(Default)]
struct Due {
    /// Databases with commits to sync, the longest waiting first, by address.
    sync: VecDeque<usize>,
    /// What all write buffers may take, when they take more.
    flush_to: Option<usize>,
    is_running: bool,
    is_ended: bool,
}

/// The address of a database: unique while it is registered.
fn id(database: &Arc<Database>) -> usize {
    Arc::as_ptr(database) as usize
}

impl Upkeep {
    pub fn new(settings: UpkeepSettings) -> Upkeep {
        Upkeep(Arc::new(Inner {
            settings,
            databases: Mutex::default(),
            due: Mutex::default(),
            changed: Condvar::new(),
            flush_wanted: AtomicBool::new(false),
            flush_looked: Condvar::new(),
            syncs: AtomicUsize::new(0),
        }))
    }

    pub fn add(&self, database: &Arc<Database>) {
        self.0.databases.lock().push(database.clone());
        let mut due = self.0.due.lock();
        if !due.is_running {
            let inner = self.0.clone();
            let thread = std::thread::Builder::new().name("state-upkeep".into()).stack_size(STACK_BYTES);
            match thread.spawn(move || inner.run()) {
                Ok(_) => due.is_running = true,
                Err(error) => tracing::warn!(%error, "no thread to sync and flush states; it is tried again with the next that is opened"),
            }
        }
    }

    pub fn remove(&self, database: &Arc<Database>) {
        self.0.databases.lock().retain(|known| !Arc::ptr_eq(known, database));
        self.0.due.lock().sync.retain(|known| *known != id(database));
    }

    /// Syncs a database some time later.
    pub fn sync_later(&self, database: &Arc<Database>) {
        let mut due = self.0.due.lock();
        due.sync.push_back(id(database));
        if due.sync.len() == 1 {
            self.0.changed.notify_one();
        }
    }

    /// Flushes the largest databases until what is left in write buffers is well within `bound`.
    pub fn flush(&self, bound: usize) {
        if self.0.flush_wanted.swap(true, Ordering::Relaxed) {
            return;
        }
        self.0.due.lock().flush_to = Some(bound);
        self.0.changed.notify_one();
    }

    /// Waits until somebody has looked at what can be flushed, or not long.
    pub fn wait_for_flush(&self) {
        let mut due = self.0.due.lock();
        self.0.flush_looked.wait_for(&mut due, LONGEST_WAIT);
    }

    pub fn end(&self) {
        self.0.due.lock().is_ended = true;
        self.0.changed.notify_one();
    }

    #[cfg(test)]
    pub fn syncs(&self) -> usize {
        self.0.syncs.load(Ordering::Relaxed)
    }
}

/// It calls nothing that is deep.
const STACK_BYTES: usize = 256 << 10;

impl Inner {
    #[allow(clippy::disallowed_methods, reason = "paces syncs and flushes, and reaches no row")]
    fn run(&self) {
        let mut synced: Option<std::time::Instant> = None;
        let mut looked: Option<std::time::Instant> = None;
        let left = |since: Option<std::time::Instant>, pause: Duration| {
            since.map_or(Duration::ZERO, |since| pause.saturating_sub(since.elapsed()))
        };
        loop {
            let mut due = self.due.lock();
            if due.is_ended {
                return;
            }
            let flush_in = due.flush_to.map(|bound| (left(looked, LOOK_PAUSE), bound));
            let sync_in = (!due.sync.is_empty()).then(|| left(synced, self.settings.pause(due.sync.len())));
            if let Some((flush_in, bound)) = flush_in
                && flush_in.is_zero()
            {
                due.flush_to = None;
                drop(due);
                self.flush_wanted.store(false, Ordering::Relaxed);
                self.flush_largest(bound);
                looked = Some(std::time::Instant::now());
                self.flush_looked.notify_all();
                continue;
            }
            if sync_in.is_some_and(|sync_in| sync_in.is_zero()) {
                let next = due.sync.pop_front();
                drop(due);
                self.sync(next);
                synced = Some(std::time::Instant::now());
                continue;
            }
            match flush_in.map(|(flush_in, _)| flush_in).into_iter().chain(sync_in).min() {
                None => self.changed.wait(&mut due),
                Some(most) => {
                    self.changed.wait_for(&mut due, most);
                }
            }
        }
    }

    fn sync(&self, wanted: Option<usize>) {
        let databases = self.databases.lock();
        let Some(database) = databases.iter().find(|database| Some(id(database)) == wanted) else { return };
        self.syncs.fetch_add(1, Ordering::Relaxed);
        // RocksDB refuses commits from then on, so that the owner learns of it.
        if let Err(error) = database.sync() {
            tracing::error!(state = %database.path.display(), %error, "what is committed could not be made durable; it is tried again");
            self.due.lock().sync.push_back(id(database));
        }
    }

    fn flush_largest(&self, bound: usize) {
        let databases = self.databases.lock();
        let mut buffered: Vec<_> = databases.iter().map(|database| (database.buffered(), database)).collect();
        buffered.sort_by_key(|(buffered, _)| std::cmp::Reverse(buffered.active));
        let target = bound as u64 / 4 * 3;
        // What is being flushed will be given back.
        let mut left: u64 = buffered.iter().map(|(buffered, _)| buffered.active).sum();
        for (buffered, database) in buffered {
            if left <= target || buffered.active < LEAST_BUFFERED_BYTES as u64 {
                break;
            }
            // RocksDB would wait with this flush, and so would everything here.
            if buffered.all > buffered.active || database.is_compacting_behind() {
                continue;
            }
            match database.flush() {
                Ok(()) => left -= buffered.active,
                Err(error) => tracing::warn!(state = %database.path.display(), %error, "write buffers could not be flushed"),
            }
        }
    }
}
