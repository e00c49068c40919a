//! The ports as a simulation sees them: in memory, and failing when told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};

use parking_lot::Mutex;
use refold_processor::engine::dirty::{epoch_of, write_timestamp};
use refold_processor::recovery::Recovery;
use refold_processor::state::memory::MemoryState;
use refold_processor::state::{Batch, Change, Lookup, Space, State, StateError, StateReader};
use refold_processor::store::memory::{MemoryStore, Snapshot};
use refold_processor::store::{Progress, RowBatch, RowReader, RowWriter, StoreError};
use refold_processor::table::{Epoch, Table};

use super::situations::Situation;

/// What is wrong with the protocol on purpose, to show that the simulation notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Rows leave the dirty set before the store has them.
    ClearBeforeAcknowledged,
    /// Write timestamps have no epoch, and owners do not wait for what was announced before them. The second alone would hide the first: rows of a
    /// replaced owner are never of later cuts than what its successor waits for.
    TimestampWithoutEpoch,
    /// Positions are committed apart from the state that they are of.
    PositionsOutsideTheBatch,
    /// Lateness is judged by the largest event time of all partitions.
    LatenessAcrossPartitions,
    /// Rows count as acknowledged before they are durable.
    AcknowledgeBeforeSync,
    /// A sweep has the write timestamp of one moment, and the rows of others.
    SweepsOfLiveState,
    /// Rows are written before their cut was announced.
    Unannounced,
    /// Followers are not told that changes are missing.
    GapUntold,
    /// Whoever has an older state does not ask what rows there may be already.
    AnnouncedUnheard,
}

/// What goes on in the processor beside a call; after an error the call fails.
pub type Beside = Box<dyn FnOnce() -> Result<(), StoreError> + Send>;

/// A disk that can fail: the process ends right before or right after a batch is kept.
#[derive(Clone)]
pub struct Disk {
    /// What is kept.
    pub kept: MemoryState,
    /// What of it outlives a power cut: everything up to the last sync.
    durable: Arc<Mutex<MemoryState>>,
    /// Commits until the process ends; negative: it does not.
    pub commits_to_live: Arc<AtomicI64>,
    /// Whether the last batch is kept when it ends.
    pub keep_last: Arc<AtomicBool>,
    /// What happens before the next snapshot.
    pub beside: Arc<Mutex<Option<Beside>>>,
    mutant: Option<Mutant>,
}

impl Disk {
    /// A disk that holds `kept`.
    pub fn new(kept: MemoryState, mutant: Option<Mutant>) -> Disk {
        let durable = Arc::new(Mutex::new(kept.checkpoint()));
        Disk { kept, durable, commits_to_live: Arc::new(AtomicI64::new(-1)), keep_last: Arc::default(), beside: Arc::default(), mutant }
    }

    /// The disk after the power was cut.
    pub fn after_power_cut(&self) -> Disk {
        Disk::new(self.durable.lock().checkpoint(), self.mutant)
    }
}

impl Lookup for Disk {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.kept.get(space, key)
    }

    fn scan(&self, space: Space, from: &[u8], to: Option<&[u8]>, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), StateError> {
        self.kept.scan(space, from, to, visit)
    }
}

impl StateReader for Disk {
    fn get_sorted(&self, space: Space, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, StateError> {
        assert!(keys.is_sorted(), "keys must be in ascending order");
        self.kept.get_sorted(space, keys)
    }

    fn last_key(&self, space: Space) -> Result<Option<Vec<u8>>, StateError> {
        self.kept.last_key(space)
    }

    fn snapshot(&self) -> Box<dyn Lookup + '_> {
        let beside = self.beside.lock().take();
        if self.mutant == Some(Mutant::SweepsOfLiveState) {
            return Box::new(LiveState { facts: self.kept.checkpoint(), state: &self.kept, between: Mutex::new((SCANS_BEFORE, beside)) });
        }
        // Who put it there knows of its error.
        let _ = beside.map_or(Ok(()), |beside| beside());
        self.kept.snapshot()
    }

    fn size(&self) -> u64 {
        self.kept.size()
    }
}

/// What a snapshot must not be: the facts of one moment, and all else as it is when it is read.
struct LiveState<'a> {
    facts: MemoryState,
    state: &'a MemoryState,
    /// What happens while it is read, and after how many more scans.
    between: Mutex<(usize, Option<Beside>)>,
}

/// Scans of a state that is not a snapshot before it changes.
const SCANS_BEFORE: usize = 1;

impl LiveState<'_> {
    fn change(&self) {
        let mut between = self.between.lock();
        let beside = match between.0 {
            0 => between.1.take(),
            _ => None,
        };
        between.0 = between.0.saturating_sub(1);
        drop(between);
        let _ = beside.map_or(Ok(()), |beside| beside());
    }
}

impl Lookup for LiveState<'_> {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.facts.get(space, key)
    }

    fn scan(&self, space: Space, from: &[u8], to: Option<&[u8]>, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), StateError> {
        self.change();
        self.state.scan(space, from, to, visit)
    }
}

impl State for Disk {
    fn commit(&self, batch: &Batch) -> Result<(), StateError> {
        let ended = || StateError::Failed { path: "simulated".into(), message: "the process ended".into() };
        let left = self.commits_to_live.load(Ordering::Relaxed);
        if left > 0 {
            self.commits_to_live.store(left - 1, Ordering::Relaxed);
        }
        if left == 0 {
            return Err(ended());
        }
        if left == 1 {
            self.commits_to_live.store(0, Ordering::Relaxed);
            if self.mutant == Some(Mutant::PositionsOutsideTheBatch) {
                self.kept.commit(&only_meta(batch))?;
            } else if self.keep_last.load(Ordering::Relaxed) {
                self.kept.commit(batch)?;
            }
            return Err(ended());
        }
        self.kept.commit(batch)
    }

    fn sync(&self) -> Result<(), StateError> {
        *self.durable.lock() = self.kept.checkpoint();
        Ok(())
    }
}

fn only_meta(batch: &Batch) -> Batch {
    let mut meta = Batch::default();
    for change in batch.changes() {
        if let Change::Put(Space::Meta, key, value) = change {
            meta.put(Space::Meta, key, value);
        }
    }
    meta
}

/// How a write is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing of it is kept.
    Whole,
    /// Half of its rows are kept.
    Partly,
    /// All of it is kept, later.
    Delayed,
}

/// A view store that refuses when told to, before or after it has done what was asked.
pub struct FaultyStore {
    /// What is kept.
    pub kept: MemoryStore,
    /// Every call is refused while this is set.
    pub unavailable: AtomicBool,
    /// What becomes of the next write, and what its caller is told.
    pub refuse_next: Mutex<Option<(Refusal, Recovery)>>,
    /// Set when a caller was told that what is stored is damaged: its version fails, until it is resumed.
    pub refused_for_good: AtomicBool,
    /// What happens before one of the next writes arrives, and how many arrive before that one.
    pub beside: Mutex<Option<(usize, Beside)>>,
    /// The newest owner.
    pub owner: AtomicU32,
    /// Writes whose callers were told that they failed, and that arrive all the same.
    in_flight: Mutex<Vec<RowBatch>>,
    /// What outlives a power cut.
    durable: Mutex<Snapshot>,
    /// Rows written.
    pub rows_written: AtomicI64,
    mutant: Option<Mutant>,
}

impl FaultyStore {
    /// An empty store.
    pub fn new(mutant: Option<Mutant>) -> FaultyStore {
        FaultyStore {
            kept: MemoryStore::new(),
            unavailable: AtomicBool::new(false),
            refuse_next: Mutex::default(),
            refused_for_good: AtomicBool::new(false),
            beside: Mutex::default(),
            owner: AtomicU32::new(0),
            in_flight: Mutex::default(),
            durable: Mutex::default(),
            rows_written: AtomicI64::new(0),
            mutant,
        }
    }

    fn run_beside(&self) -> Result<(), StoreError> {
        let mut beside = self.beside.lock();
        match beside.take() {
            Some((0, now)) => {
                drop(beside);
                now()
            }
            later => {
                *beside = later.map(|(writes, later)| (writes - 1, later));
                Ok(())
            }
        }
    }

    fn note_stale(&self, rows: &RowBatch) {
        let owner = Epoch(self.owner.load(Ordering::Relaxed));
        if rows.written_at.iter().any(|at| epoch_of(*at) < owner) {
            Situation::StaleWrite.note();
        }
    }

    fn check(&self) -> Result<(), StoreError> {
        match self.unavailable.load(Ordering::Relaxed) {
            true => Err(StoreError::Unavailable("simulated".into())),
            false => Ok(()),
        }
    }
}

impl RowWriter for FaultyStore {
    fn create_table(&self, table: &Table) -> Result<(), StoreError> {
        self.kept.create_table(table)
    }

    fn drop_table(&self, table: &Table) -> Result<(), StoreError> {
        self.kept.drop_table(table)
    }

    fn write(&self, table: &Table, rows: &RowBatch) -> Result<(), StoreError> {
        self.check()?;
        self.run_beside()?;
        self.note_stale(rows);
        // Whoever takes over must know how new rows may be.
        let announced = self.told(table).writing.sum();
        if rows.written_at.iter().any(|at| *at > write_timestamp(epoch_of(*at), announced).unwrap()) {
            return Err(StoreError::Broken(format!("rows of cuts after {announced} are written, and it is the last that was announced")));
        }
        let mut rows = rows.clone();
        if self.mutant == Some(Mutant::TimestampWithoutEpoch) {
            rows.written_at.iter_mut().for_each(|at| *at &= (1 << 47) - 1);
        }
        let refused = self.refuse_next.lock().take();
        if let Some((refusal, recovery)) = refused {
            if refusal == Refusal::Delayed {
                self.in_flight.lock().push(rows);
            } else if refusal == Refusal::Partly {
                let half = rows.written_at.len() / 2;
                let first = RowBatch {
                    rows: rows.rows.slice(0, half),
                    written_at: rows.written_at[..half].to_vec(),
                    deleted: rows.deleted[..half].to_vec(),
                };
                self.kept.write(table, &first)?;
            }
            return Err(match recovery {
                Recovery::Transient => StoreError::Unavailable("simulated".into()),
                Recovery::Operator => StoreError::Refused("simulated".into()),
                Recovery::Final => {
                    Situation::RefusedForGood.note();
                    self.refused_for_good.store(true, Ordering::Relaxed);
                    StoreError::Broken("simulated".into())
                }
            });
        }
        self.rows_written.fetch_add(rows.written_at.len() as i64, Ordering::Relaxed);
        self.kept.write(table, &rows)
    }

    fn fence(&self, table: &Table, epoch: Epoch) -> Result<Progress, StoreError> {
        self.check()?;
        self.kept.fence(table, epoch)
    }

    fn tell(&self, table: &Table, epoch: Epoch, progress: &Progress) -> Result<(), StoreError> {
        self.check()?;
        if self.mutant == Some(Mutant::Unannounced) && progress.writing != progress.visible {
            return Ok(());
        }
        self.kept.tell(table, epoch, progress)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.check()?;
        if self.mutant != Some(Mutant::AcknowledgeBeforeSync) {
            *self.durable.lock() = self.kept.snapshot();
        }
        Ok(())
    }

    fn reclaim(&self, table: &Table, column: usize, before_us: i64) -> Result<(), StoreError> {
        self.kept.reclaim(table, column, before_us)
    }
}

impl FaultyStore {
    /// The power is cut: what was not made durable is gone.
    pub fn cut_power(&self) {
        self.in_flight.lock().clear();
        self.kept.restore(&self.durable.lock());
    }

    /// Writes that were on their way arrive.
    pub fn arrive(&self, table: &Table) {
        for rows in self.in_flight.lock().drain(..) {
            self.note_stale(&rows);
            self.kept.write(table, &rows).unwrap();
        }
    }

    /// What was last told, even while the store is unavailable.
    pub fn told(&self, table: &Table) -> Progress {
        self.kept.progress(table).unwrap().unwrap_or_default()
    }
}
