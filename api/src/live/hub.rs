//! Indexes the followers of a table by partition, so that each changed row is looked up once, regardless of the number of streams.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use refold_processor::changes::{ChangeFeed, ChangedRow, Changes, Interest, Subscription};
use refold_processor::engine::dirty::epoch_of;
use refold_processor::log::LogError;
use refold_processor::position::Cut;
use refold_processor::table::{Epoch, Table};
use serde_json::Value;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, mpsc};

/// Publications queued for a follower before it counts as lagging.
const WAITING: usize = 32;

/// The part of a publication that concerns the followers of one partition.
#[derive(Debug, Default)]
pub struct Changed {
    /// Rows of the partition.
    pub rows: Vec<ChangedRow>,
    /// All changes by events up to this cut are published.
    pub visible: Cut,
    /// The watermark at `visible`, microseconds since the Unix epoch.
    pub watermark_us: Option<i64>,
    /// The newest epoch seen: rows of earlier epochs are not newer.
    pub newest: Epoch,
}

/// The tables followed in this process.
#[derive(Default)]
pub struct Hubs(Arc<Mutex<HashMap<String, Arc<Hub>>>>);

/// One table, while it has followers.
struct Hub {
    name: String,
    partition_columns: usize,
    interest: Arc<Interest>,
    followers: Mutex<Followers>,
    next: AtomicU64,
    /// Notified when the last follower has left.
    is_left: Notify,
}

#[derive(Default)]
struct Followers {
    by_partition: HashMap<String, Vec<Follower>>,
    /// Followers (by number, with their partition) that also need publications without rows of their partition, for the positions.
    waiting: HashMap<u64, String>,
}

struct Follower {
    number: u64,
    sender: mpsc::Sender<Arc<Changed>>,
    has_missed: Arc<AtomicBool>,
}

/// The receiving end of one follower; dropping it unsubscribes.
pub struct Following {
    hubs: Arc<Mutex<HashMap<String, Arc<Hub>>>>,
    hub: Arc<Hub>,
    partition: String,
    number: u64,
    receiver: mpsc::Receiver<Arc<Changed>>,
    has_missed: Arc<AtomicBool>,
    is_waiting: bool,
}

/// Why a subscription ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// The follower lagged and missed publications.
    Missed,
    /// The feed has ended.
    Ended,
}

impl Hubs {
    /// Subscribes to a partition of a table. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// When the feed is unavailable, or the table has none.
    pub fn follow(&self, feed: &dyn ChangeFeed, table: &Table, partition: &[Value]) -> Result<Following, LogError> {
        let (name, partition) = (table.name(), Interest::name(partition));
        loop {
            let known = self.0.lock().get(&name).cloned();
            let hub = match known {
                Some(hub) => hub,
                // The lock is not held here, because an unavailable feed is slow to respond. If two callers race, one hub is kept.
                None => {
                    let hub = Arc::new(Hub::of(table));
                    let subscription = feed.subscribe_to(table, &hub.interest)?;
                    let mut hubs = self.0.lock();
                    let kept = hubs.entry(name.clone()).or_insert_with(|| hub.clone()).clone();
                    if Arc::ptr_eq(&kept, &hub) {
                        tokio::spawn(route(hub.clone(), self.0.clone(), subscription));
                    }
                    kept
                }
            };
            let hubs = self.0.lock();
            // The hub may have ended in the meantime.
            if hubs.get(&name).is_some_and(|kept| Arc::ptr_eq(kept, &hub)) {
                return Ok(hub.add(&self.0, partition));
            }
        }
    }
}

impl Hub {
    fn of(table: &Table) -> Hub {
        Hub {
            name: table.name(),
            partition_columns: table.shape.partition_key.len(),
            interest: Arc::default(),
            followers: Mutex::default(),
            next: AtomicU64::new(0),
            is_left: Notify::new(),
        }
    }

    fn add(self: &Arc<Hub>, hubs: &Arc<Mutex<HashMap<String, Arc<Hub>>>>, partition: String) -> Following {
        let (sender, receiver) = mpsc::channel(WAITING);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let has_missed: Arc<AtomicBool> = Arc::default();
        let follower = Follower { number, sender, has_missed: has_missed.clone() };
        self.interest.add(&partition);
        let mut followers = self.followers.lock();
        followers.by_partition.entry(partition.clone()).or_default().push(follower);
        // Until everything that its snapshot shows is published.
        followers.waiting.insert(number, partition.clone());
        Following { hubs: hubs.clone(), hub: self.clone(), partition, number, receiver, has_missed, is_waiting: true }
    }

    /// Delivers a publication to the followers that it concerns.
    fn hand_over(&self, changes: &Changes, newest: &mut Epoch) {
        let mut rows: HashMap<String, Vec<ChangedRow>> = HashMap::new();
        let mut followers = self.followers.lock();
        for row in &changes.rows {
            *newest = (*newest).max(epoch_of(row.written_at));
            let partition = Interest::name(row.key.get(..self.partition_columns).unwrap_or_default());
            if followers.by_partition.contains_key(&partition) {
                rows.entry(partition).or_default().push(row.clone());
            }
        }
        let changed =
            |rows| Arc::new(Changed { rows, visible: changes.visible.clone(), watermark_us: changes.watermark_us, newest: *newest });
        let Followers { by_partition, waiting } = &mut *followers;
        let without_rows = changed(Vec::new());
        for (number, partition) in waiting.iter().filter(|(_, partition)| !rows.contains_key(*partition)) {
            if let Some(of_partition) = by_partition.get_mut(partition) {
                of_partition.retain(|follower| follower.number != *number || follower.take(&without_rows));
            }
        }
        for (partition, rows) in rows {
            let changed = changed(rows);
            if let Some(of_partition) = by_partition.get_mut(&partition) {
                of_partition.retain(|follower| follower.take(&changed));
            }
        }
    }

    /// Ends all subscriptions.
    fn let_go(&self, have_missed: bool) {
        for follower in self.followers.lock().by_partition.drain().flat_map(|(_, followers)| followers) {
            follower.has_missed.store(have_missed, Ordering::Relaxed);
        }
    }
}

impl Follower {
    /// Queues a publication; `false` when the queue is full or closed: the follower is removed.
    fn take(&self, changed: &Arc<Changed>) -> bool {
        let is_taken = self.sender.try_send(changed.clone()).is_ok();
        if !is_taken {
            self.has_missed.store(true, Ordering::Relaxed);
        }
        is_taken
    }
}

/// Delivers publications until the feed ends or the last follower leaves.
async fn route(hub: Arc<Hub>, hubs: Arc<Mutex<HashMap<String, Arc<Hub>>>>, mut subscription: Subscription) {
    let mut newest = Epoch::default();
    loop {
        let received = tokio::select! {
            received = subscription.recv() => received,
            () = hub.is_left.notified() => return,
        };
        match received {
            // Changes before this are missing: the view store has them.
            Ok(changes) if changes.anew => hub.let_go(true),
            Ok(changes) => hub.hand_over(&changes, &mut newest),
            Err(RecvError::Lagged(_)) => hub.let_go(true),
            Err(RecvError::Closed) => break,
        }
    }
    let mut hubs = hubs.lock();
    if hubs.get(&hub.name).is_some_and(|kept| Arc::ptr_eq(kept, &hub)) {
        hubs.remove(&hub.name);
    }
    drop(hubs);
    hub.let_go(false);
}

impl Following {
    /// The next publication for this partition.
    ///
    /// # Errors
    /// When the subscription has ended.
    pub async fn next(&mut self) -> Result<Arc<Changed>, Over> {
        let over = || if self.has_missed.load(Ordering::Relaxed) { Over::Missed } else { Over::Ended };
        self.receiver.recv().await.ok_or_else(over)
    }

    /// Whether publications without rows of the partition are delivered too, for their positions.
    pub fn want_positions(&mut self, are_wanted: bool) {
        if are_wanted == self.is_waiting {
            return;
        }
        self.is_waiting = are_wanted;
        let mut followers = self.hub.followers.lock();
        match are_wanted {
            true => drop(followers.waiting.insert(self.number, self.partition.clone())),
            false => drop(followers.waiting.remove(&self.number)),
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut hubs = self.hubs.lock();
        self.hub.interest.remove(&self.partition);
        {
            let mut followers = self.hub.followers.lock();
            followers.waiting.remove(&self.number);
            if let Some(of_partition) = followers.by_partition.get_mut(&self.partition) {
                of_partition.retain(|follower| follower.number != self.number);
                if of_partition.is_empty() {
                    followers.by_partition.remove(&self.partition);
                }
            }
        }
        // New followers subscribe under the same lock, so none can arrive in between.
        if self.hub.interest.is_empty() && hubs.get(&self.hub.name).is_some_and(|kept| Arc::ptr_eq(kept, &self.hub)) {
            hubs.remove(&self.hub.name);
            self.hub.is_left.notify_one();
        }
    }
}
