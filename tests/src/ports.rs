//! Ports that fail, refuse or wait when a test says so, around those in memory.

use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use parking_lot::{Condvar, Mutex, RwLock};
use refold_processor::log::{Bounds, Log, LogError, LogReader, NewRecord, Records};
use refold_processor::position::{Cut, Offset, Partition};
use refold_processor::store::memory::MemoryStore;
use refold_processor::store::{
    Keys, KeysRead, Outcome, Page, PartitionRead, Progress, Register, Registers, RowBatch, RowReader, RowWriter, StoreError,
};
use refold_processor::table::{Epoch, Table};

/// A gate that calls pass until it is closed.
#[derive(Default)]
pub struct Gate {
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Gate {
    /// Calls wait from now on.
    pub fn close(&self) {
        self.state.lock().0 = true;
    }

    /// Calls go on.
    pub fn open(&self) {
        self.state.lock().0 = false;
        self.changed.notify_all();
    }

    /// Waits until a call waits.
    ///
    /// # Panics
    /// When none does for a minute.
    pub fn wait_for_call(&self) {
        let mut state = self.state.lock();
        let waited = self.changed.wait_while_for(&mut state, |state| state.1 == 0, Duration::from_secs(60));
        assert!(!waited.timed_out(), "no call came to the gate");
    }

    fn pass(&self) {
        let mut state = self.state.lock();
        if !state.0 {
            return;
        }
        state.1 += 1;
        self.changed.notify_all();
        self.changed.wait_while(&mut state, |state| state.0);
        state.1 -= 1;
    }
}

/// What a hook makes of a call: `Err` fails it.
pub type Hook<E> = Arc<dyn Fn(&str) -> Result<(), E> + Send + Sync>;

/// A hook that calls the function.
pub fn hook<E>(function: impl Fn(&str) -> Result<(), E> + Send + Sync + 'static) -> Hook<E> {
    Arc::new(function)
}

/// A log whose readers ask a hook before they read, by their name: the topic, `@`, and the sum of the positions that they began at.
pub struct HookedLog {
    /// The log.
    pub inner: Arc<dyn Log>,
    /// Asked before each read.
    pub before_read: Arc<RwLock<Hook<LogError>>>,
}

impl HookedLog {
    /// A log that does as `inner` does.
    pub fn new(inner: Arc<dyn Log>) -> HookedLog {
        HookedLog { inner, before_read: Arc::new(RwLock::new(hook(|_| Ok(())))) }
    }

    /// Asks `before` from now on.
    pub fn before_read(&self, before: impl Fn(&str) -> Result<(), LogError> + Send + Sync + 'static) {
        *self.before_read.write() = hook(before);
    }
}

impl Log for HookedLog {
    fn id(&self) -> Result<String, LogError> {
        self.inner.id()
    }

    fn create_topic(&self, topic: &str, partitions: u32) -> Result<(), LogError> {
        self.inner.create_topic(topic, partitions)
    }

    fn topics(&self) -> Result<Vec<String>, LogError> {
        self.inner.topics()
    }

    fn partitions(&self, topic: &str) -> Result<Vec<Partition>, LogError> {
        self.inner.partitions(topic)
    }

    fn bounds(&self, topic: &str, partition: Partition) -> Result<Bounds, LogError> {
        self.inner.bounds(topic, partition)
    }

    fn append(&self, topic: &str, records: Vec<NewRecord>) -> Result<Vec<(Partition, Offset)>, LogError> {
        self.inner.append(topic, records)
    }

    fn reader(&self, topic: &str, from: &Cut) -> Result<Box<dyn LogReader>, LogError> {
        let reader = self.inner.reader(topic, from)?;
        Ok(Box::new(HookedReader { reader, name: format!("{topic}@{}", from.sum()), before_read: self.before_read.clone() }))
    }
}

struct HookedReader {
    reader: Box<dyn LogReader>,
    name: String,
    before_read: Arc<RwLock<Hook<LogError>>>,
}

impl LogReader for HookedReader {
    fn read(&mut self, max_bytes: usize, wait: Duration) -> Result<Option<Records>, LogError> {
        let before = self.before_read.read().clone();
        before(&self.name)?;
        self.reader.read(max_bytes, wait)
    }
}

/// A store in memory that asks a hook before it answers with a register (by key), writes rows or drops a table (by the table's name).
pub struct HookedStore {
    inner: MemoryStore,
    before_get: RwLock<Hook<StoreError>>,
    before_write: RwLock<Hook<StoreError>>,
    before_drop: RwLock<Hook<StoreError>>,
}

impl Default for HookedStore {
    fn default() -> Self {
        let asked = || RwLock::new(hook(|_| Ok(())));
        HookedStore { inner: MemoryStore::new(), before_get: asked(), before_write: asked(), before_drop: asked() }
    }
}

impl HookedStore {
    /// Asks `before` from now on, before a register is read or listed.
    pub fn before_get(&self, before: impl Fn(&str) -> Result<(), StoreError> + Send + Sync + 'static) {
        *self.before_get.write() = hook(before);
    }

    /// Asks `before` from now on, before rows are written.
    pub fn before_write(&self, before: impl Fn(&str) -> Result<(), StoreError> + Send + Sync + 'static) {
        *self.before_write.write() = hook(before);
    }

    /// Asks `before` from now on, before a table is dropped.
    pub fn before_drop(&self, before: impl Fn(&str) -> Result<(), StoreError> + Send + Sync + 'static) {
        *self.before_drop.write() = hook(before);
    }

    fn ask(hook: &RwLock<Hook<StoreError>>, what: &str) -> Result<(), StoreError> {
        let before = hook.read().clone();
        before(what)
    }
}

impl RowWriter for HookedStore {
    fn create_table(&self, table: &Table) -> Result<(), StoreError> {
        self.inner.create_table(table)
    }

    fn drop_table(&self, table: &Table) -> Result<(), StoreError> {
        Self::ask(&self.before_drop, &table.name())?;
        self.inner.drop_table(table)
    }

    fn write(&self, table: &Table, rows: &RowBatch) -> Result<(), StoreError> {
        Self::ask(&self.before_write, &table.name())?;
        self.inner.write(table, rows)
    }

    fn fence(&self, table: &Table, epoch: Epoch) -> Result<Progress, StoreError> {
        self.inner.fence(table, epoch)
    }

    fn tell(&self, table: &Table, epoch: Epoch, progress: &Progress) -> Result<(), StoreError> {
        self.inner.tell(table, epoch, progress)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.inner.sync()
    }

    fn reclaim(&self, table: &Table, column: usize, before_us: i64) -> Result<(), StoreError> {
        self.inner.reclaim(table, column, before_us)
    }
}

impl RowReader for HookedStore {
    fn read(&self, table: &Table, read: &PartitionRead) -> Result<Page, StoreError> {
        self.inner.read(table, read)
    }

    fn scan_each(&self, table: &Table, each: &mut dyn FnMut(RecordBatch) -> Result<(), StoreError>) -> Result<(), StoreError> {
        self.inner.scan_each(table, each)
    }

    fn keys(&self, table: &Table, read: &KeysRead) -> Result<Keys, StoreError> {
        self.inner.keys(table, read)
    }

    fn progress(&self, table: &Table) -> Result<Option<Progress>, StoreError> {
        self.inner.progress(table)
    }
}

impl Registers for HookedStore {
    fn get(&self, key: &str) -> Result<Option<Register>, StoreError> {
        Self::ask(&self.before_get, key)?;
        self.inner.get(key)
    }

    fn compare_and_set(&self, key: &str, expected: Option<u64>, value: Option<&str>) -> Result<Outcome, StoreError> {
        self.inner.compare_and_set(key, expected, value)
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, Register)>, StoreError> {
        let listed = self.inner.list(prefix)?;
        listed.iter().try_for_each(|(key, _)| Self::ask(&self.before_get, key))?;
        Ok(listed)
    }

    fn append_journal(&self, entry: &str) -> Result<(), StoreError> {
        self.inner.append_journal(entry)
    }

    fn journal(&self, limit: usize) -> Result<Vec<String>, StoreError> {
        self.inner.journal(limit)
    }
}

impl Gate {
    /// A hook that lets calls pass by this gate.
    pub fn guard<E>(
        self: &Arc<Self>,
        is_guarded: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> impl Fn(&str) -> Result<(), E> + Send + Sync + 'static {
        let gate = self.clone();
        move |what| {
            if is_guarded(what) {
                gate.pass();
            }
            Ok(())
        }
    }
}
