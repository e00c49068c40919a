//! A worker in this process, with the settings that the program has by default, until its version is live.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use refold_cassandra::{CassandraSettings, CassandraStore};
use refold_processor::clock::SystemClock;
use refold_processor::decode::StaticSchemas;
use refold_processor::engine::run::RunSettings;
use refold_processor::engine::watermark::Quiet;
use refold_processor::engine::worker::{Pool, Ports, Worker, WorkerSettings};
use refold_processor::log::Log;
use refold_processor::store::catalogue::Catalogue;
use refold_processor::store::memory::MemoryStore;
use refold_processor::store::{
    Keys, KeysRead, Outcome, Page, PartitionRead, Progress, Register, Registers, RowBatch, RowReader, RowWriter, Store, StoreError,
};
use refold_processor::table::{Epoch, Table};
use tempfile::TempDir;

use crate::figures::Figures;
use crate::{Site, setting};

/// A worker that runs.
pub struct Running {
    worker: Arc<Worker>,
    thread: Option<std::thread::JoinHandle<()>>,
    /// Its log.
    pub log: Arc<dyn Log>,
    _state: TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.worker.stop();
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

fn memory() -> usize {
    (setting("MEMORY_MB", 512) as usize) << 20
}

/// What the program gives each reader of this memory.
pub fn reader_memory() -> usize {
    (memory() / 16).clamp(8 << 20, 64 << 20)
}

fn settings(state: &TempDir) -> WorkerSettings {
    let processors = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    WorkerSettings {
        owner: "bench".into(),
        incarnation: Default::default(),
        pool: Pool::All,
        state_dir: state.path().to_path_buf(),
        memory_bytes: memory(),
        feed_threads: setting("THREADS", processors) as usize,
        shards: setting("SHARDS", processors) as usize,
        chunk_bytes: (1 << 20).min(memory() / 128),
        run: RunSettings {
            commit_interval_ms: setting("COMMIT_INTERVAL_MS", 20),
            building_commit_interval_ms: setting("BUILDING_COMMIT_INTERVAL_MS", 1_000),
            sweep_windows: setting("SWEEP_WINDOWS", 64) as usize,
            caught_up_lag: 1_000,
        },
        quiet: Quiet { idle_after_ms: 5_000, idle_drop_after_ms: 86_400_000 },
        lease_ms: 10_000,
        reconcile_interval_ms: 500,
        queued_rows: 100_000,
        rows_per_write: setting("ROWS_PER_WRITE", 5_000) as usize,
        retire_after_ms: None,
        faults: Arc::default(),
    }
}

impl Running {
    /// The steps of its commits so far: name, how many, seconds in all.
    pub fn steps(&self) -> Vec<(&'static str, u64, f64)> {
        let statuses = self.worker.status();
        let timings = statuses.iter().flat_map(|status| status.timings.iter());
        timings.map(|(step, durations)| (step.name(), durations.count, durations.sum_s)).collect()
    }
}

/// Settings of the adapter: the program's, of the node of this site.
pub fn cassandra_settings(site: &Site, keyspace: &str) -> CassandraSettings {
    let defaults = CassandraSettings::default();
    CassandraSettings {
        contact_points: vec![format!("127.0.0.1:{}", site.cassandra_port)],
        keyspace: keyspace.into(),
        batch_rows: setting("BATCH_ROWS", defaults.batch_rows as u64) as usize,
        batch_partitions: setting("BATCH_PARTITIONS", defaults.batch_partitions as u64) as usize,
        batch_bytes: setting("BATCH_BYTES", defaults.batch_bytes as u64) as usize,
        batches_in_flight: setting("IN_FLIGHT", defaults.batches_in_flight as u64) as usize,
        io_threads: setting("IO_THREADS", defaults.io_threads as u64) as usize,
        ..defaults
    }
}

/// Replays the topic into a store, until the version is live.
fn replay(site: &Site, store: Arc<dyn Store>, what: &str) -> Running {
    let log: Arc<dyn Log> = Arc::new(site.log());
    let events = site.events(log.as_ref());
    let (source, view) = (site.source(), &site.application.views[0]);
    let clock = Arc::new(SystemClock);
    let catalogue = Catalogue::new(store.clone(), clock.clone());
    catalogue.create_version(&view.name, &view.sql, &view.digest, "", "bench").unwrap();
    let mut schemas = StaticSchemas::default();
    schemas.add_with_id(1, &source.schema_json).unwrap();
    let sources = BTreeMap::from([(source.name.clone(), source.clone())]);
    let changes = Arc::new(site.log().feed());
    let ports = Ports { log: log.clone(), store, changes, catalogue, schemas: Arc::new(schemas), sources, clock };
    let state = tempfile::tempdir().unwrap();
    let figures = Figures::start(site);
    let worker = Worker::new(ports, settings(&state));
    let running = worker.clone();
    let thread = Some(std::thread::Builder::new().name("worker".into()).spawn(move || running.run()).unwrap());
    let mut folded: Option<Duration> = None;
    let rows = loop {
        std::thread::sleep(Duration::from_millis(5));
        let Some(status) = worker.status().into_iter().next() else { continue };
        assert!(status.failed.is_none(), "{status:?}");
        if folded.is_none() && status.read >= events {
            folded = Some(figures.elapsed());
        }
        if status.live && status.read >= events {
            break status.rows_written;
        }
    };
    figures.print(what, events, rows);
    println!("    folded after {:.2} s", folded.unwrap_or_default().as_secs_f64());
    Running { worker, thread, log, _state: state }
}

pub fn into_nothing(site: &Site) {
    let store = Arc::new(Nothing::default());
    let running = replay(site, store.clone(), "replay, rows to nothing");
    println!("    the store was given {} rows in {} writes", store.rows.load(Ordering::Relaxed), store.writes.load(Ordering::Relaxed));
    drop(running);
}

pub fn into_cassandra(site: &Site, keyspace: &str) -> Running {
    let store = Arc::new(CassandraStore::connect(&cassandra_settings(site, keyspace)).unwrap());
    replay(site, store, &format!("replay into Cassandra, {keyspace} time"))
}

/// A store that keeps a catalogue and no rows.
#[derive(Default)]
struct Nothing {
    inner: MemoryStore,
    rows: AtomicU64,
    writes: AtomicU64,
}

impl RowWriter for Nothing {
    fn create_table(&self, table: &Table) -> Result<(), StoreError> {
        self.inner.create_table(table)
    }

    fn drop_table(&self, table: &Table) -> Result<(), StoreError> {
        self.inner.drop_table(table)
    }

    fn write(&self, _: &Table, rows: &RowBatch) -> Result<(), StoreError> {
        self.rows.fetch_add(rows.rows.num_rows() as u64, Ordering::Relaxed);
        self.writes.fetch_add(1, Ordering::Relaxed);
        Ok(())
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

impl RowReader for Nothing {
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

impl Registers for Nothing {
    fn get(&self, key: &str) -> Result<Option<Register>, StoreError> {
        self.inner.get(key)
    }

    fn compare_and_set(&self, key: &str, expected: Option<u64>, value: Option<&str>) -> Result<Outcome, StoreError> {
        self.inner.compare_and_set(key, expected, value)
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, Register)>, StoreError> {
        self.inner.list(prefix)
    }

    fn append_journal(&self, entry: &str) -> Result<(), StoreError> {
        self.inner.append_journal(entry)
    }

    fn journal(&self, limit: usize) -> Result<Vec<String>, StoreError> {
        self.inner.journal(limit)
    }
}
