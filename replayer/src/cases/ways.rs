//! Ways in which the records of a case come through the engine: straight, and cut at random places. The rows must be the same.
//!
//! Each is run by the engine's own steps, on a log, a state and a view store in memory. Straight is how a replay goes: everything is read, then readers get
//! the rows. Cut, some records come while the version is already in service, chunks and commits end anywhere, and it is started again from what was
//! committed. In the end the log is quiet for long enough that no partition holds the watermark back, so that where that was on the way changes no row.

use std::sync::Arc;

use datafusion::arrow::array::{BooleanArray, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use refold_processor::changes::LocalFeed;
use refold_processor::clock::ManualClock;
use refold_processor::decode::SchemaLookup;
use refold_processor::engine::codec::as_micros;
use refold_processor::engine::error::EngineError;
use refold_processor::engine::fold::FoldSettings;
use refold_processor::engine::map::Rules;
use refold_processor::engine::publisher::{Publications, Publisher};
use refold_processor::engine::shares::Shares;
use refold_processor::engine::steps::{Parts, Steps, Writes};
use refold_processor::engine::sweep::Sweep;
use refold_processor::engine::watermark::Quiet;
use refold_processor::json;
use refold_processor::log::Log;
use refold_processor::log::memory::MemoryLog;
use refold_processor::position::{Offset, Partition};
use refold_processor::source::Source;
use refold_processor::state::memory::MemoryState;
use refold_processor::store::memory::MemoryStore;
use refold_processor::store::{RowReader, RowWriter};
use refold_processor::table::{Epoch, Table, Version};
use refold_processor::view::View;
use serde_json::Value;

use super::expected::Row;
use super::records::Record;
use super::values::canonical;

/// What is run.
#[derive(Clone)]
pub struct Trial<'a> {
    /// The view.
    pub view: &'a Arc<View>,
    /// Its source.
    pub source: &'a Source,
    /// Writer schemas.
    pub schemas: &'a Arc<dyn SchemaLookup>,
    /// The records, in the order in which the log takes them.
    pub records: &'a [Record],
}

/// What came of a run.
pub struct Ran {
    /// The rows that readers see.
    pub rows: Vec<Row>,
    /// The log.
    pub log: MemoryLog,
    /// Where in it each record is.
    pub places: Vec<(Partition, Offset)>,
    /// The state.
    pub state: MemoryState,
    /// How often it was started again.
    pub restarts: u32,
}

/// Everything is read, then readers get the rows.
///
/// # Errors
/// Those of the engine.
pub fn straight(trial: &Trial) -> Result<Ran, EngineError> {
    let mut run = Run::new(trial, FoldSettings { shards: 1, ..settings(trial) })?;
    run.append(trial.records)?;
    run.come_to_rest(CHUNK_BYTES)?;
    run.end()
}

/// Chunks, commits, restarts and the moment at which readers get rows are where `seed` puts them.
///
/// # Errors
/// Those of the engine.
pub fn cut(trial: &Trial, seed: u64) -> Result<Ran, EngineError> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let shares = Shares::new(usize::MAX, 1 << rng.random_range(12..=20), usize::MAX);
    let mut run = Run::new(trial, FoldSettings { shards: rng.random_range(1..=4), shares: Arc::new(shares), ..settings(trial) })?;
    let mut left = trial.records;
    while !left.is_empty() {
        let (now, later) = left.split_at(rng.random_range(1..=left.len()));
        run.append(now)?;
        left = later;
        for _ in 0..rng.random_range(0..=MOST_STEPS_BEFORE + MOST_STEPS_EACH * now.len()) {
            run.step(&mut rng)?;
        }
        if rng.random_bool(0.3) {
            run.come_to_rest(rng.random_range(1..=MOST_CHUNK_BYTES))?;
        }
    }
    run.restart()?;
    run.come_to_rest(rng.random_range(1..=MOST_CHUNK_BYTES))?;
    run.end()
}

/// Random steps before a part of the records is read to its end, and how many more for each of them.
const MOST_STEPS_BEFORE: usize = 10;
const MOST_STEPS_EACH: usize = 4;
/// A chunk of a cut run holds a record or a few.
const MOST_CHUNK_BYTES: usize = 400;
const CHUNK_BYTES: usize = 1 << 20;
/// Rounds in which a version comes to rest, at the very most.
const MOST_ROUNDS: usize = 100_000;
/// When quiet partitions stop counting. State is not dropped for that: how long a partition was quiet is no fact of a case.
const QUIET: Quiet = Quiet { idle_after_ms: 5_000, idle_drop_after_ms: i64::MAX };
const WRITES: Writes = Writes { queued_rows: 10_000, rows_per_write: 1_000, read_ahead_bytes: 1 << 20 };

fn settings(trial: &Trial) -> FoldSettings {
    FoldSettings {
        shards: 1,
        rules: Rules::new(trial.view, trial.source),
        lateness_us: trial.view.options.lateness_over(trial.source),
        quiet: QUIET,
        shares: Arc::new(Shares::new(usize::MAX, 1 << 24, usize::MAX)),
        max_quarantined_bytes: 1 << 16,
        most_rows: WRITES.queued_rows,
        emitted_batch_bytes: 4 << 20,
    }
}

/// A version on ports in memory.
struct Run<'a> {
    trial: &'a Trial<'a>,
    parts: Parts,
    log: MemoryLog,
    state: MemoryState,
    store: Arc<MemoryStore>,
    partitions: Vec<Partition>,
    places: Vec<(Partition, Offset)>,
    steps: Steps,
    now_ms: i64,
    epoch: u32,
}

impl<'a> Run<'a> {
    fn new(trial: &'a Trial<'a>, settings: FoldSettings) -> Result<Run<'a>, EngineError> {
        let now_ms = trial.records.iter().map(|record| record.record_time_ms).max().unwrap_or(0);
        let log = MemoryLog::new(Arc::new(ManualClock::at(now_ms)));
        log.create_topic(&trial.source.topic, trial.source.partitions)?;
        let (state, store) = (MemoryState::default(), Arc::new(MemoryStore::new()));
        let table = Table { view: trial.view.name.clone(), version: Version(1), shape: trial.view.shape.clone() };
        store.create_table(&table)?;
        let parts = Parts {
            source: trial.source.clone(),
            schemas: trial.schemas.clone(),
            view: trial.view.clone(),
            log: Arc::new(log.clone()),
            state: Arc::new(state.clone()),
            store: store.clone(),
            table,
            settings,
            writes: WRITES,
        };
        let partitions = log.partitions(&trial.source.topic)?;
        let steps = open(&parts, Epoch(1), now_ms)?;
        Ok(Run { trial, parts, log, state, store, partitions, places: Vec::new(), steps, now_ms, epoch: 1 })
    }

    fn append(&mut self, records: &[Record]) -> Result<(), EngineError> {
        for Record { record, partition, record_time_ms, .. } in records {
            let placed = self.log.append_at(&self.trial.source.topic, *partition, record.clone(), *record_time_ms)?;
            self.places.push(placed);
        }
        Ok(())
    }

    /// Another owner goes on from what was committed.
    fn restart(&mut self) -> Result<(), EngineError> {
        self.epoch += 1;
        self.steps = open(&self.parts, Epoch(self.epoch), self.now_ms)?;
        Ok(())
    }

    fn read(&mut self, partition: Partition, max_bytes: usize) -> Result<bool, EngineError> {
        let Some((chunk, before)) = self.steps.read(partition, max_bytes, self.now_ms)? else { return Ok(false) };
        self.steps.map(&chunk, before)?;
        Ok(true)
    }

    fn begin(&mut self, sweep: Option<Sweep>) -> Result<(), EngineError> {
        if let Some(sweep) = sweep {
            self.steps.commit(self.now_ms)?;
            self.steps.begin(sweep);
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), EngineError> {
        if self.steps.is_commit_due(self.now_ms) { self.steps.commit(self.now_ms) } else { Ok(()) }
    }

    /// One step of any kind.
    fn step(&mut self, rng: &mut ChaCha8Rng) -> Result<(), EngineError> {
        let partition = self.partitions.choose(rng).copied().unwrap_or(Partition(0));
        match rng.random_range(0..100) {
            0..35 => self.read(partition, rng.random_range(1..=MOST_CHUNK_BYTES)).map(drop),
            35..65 => self.steps.merge(partition, self.now_ms).map(drop),
            65..77 => self.commit(),
            77..90 => self.steps.writer.step().map(drop),
            90..94 => {
                let sweep = self.steps.sweep();
                self.begin(sweep)
            }
            94..96 => {
                let sweep = self.steps.go_live();
                self.begin(sweep)
            }
            _ => self.restart(),
        }
    }

    /// Everything is read and written, and then the log is quiet.
    fn come_to_rest(&mut self, max_bytes: usize) -> Result<(), EngineError> {
        let mut is_quiet = false;
        for _ in 0..MOST_ROUNDS {
            let mut has_read = false;
            for partition in self.partitions.clone() {
                has_read |= self.read(partition, max_bytes)?;
                has_read |= self.steps.merge(partition, self.now_ms)?;
            }
            if has_read {
                continue;
            }
            let sweep = self.steps.go_live();
            self.begin(sweep)?;
            self.commit()?;
            self.steps.writer.step()?;
            match (self.steps.is_done(self.now_ms), is_quiet) {
                (true, true) => return Ok(()),
                (true, false) => {
                    self.now_ms += QUIET.idle_after_ms;
                    is_quiet = true;
                }
                _ => {}
            }
        }
        Err(EngineError::Internal(format!("the case does not come to rest: {}", self.steps.unfinished(self.now_ms))))
    }

    fn end(self) -> Result<Ran, EngineError> {
        let rows = self.store.scan(&self.parts.table)?;
        let watermark_us = self.steps.fold.lock().meta().watermark_us;
        let horizon_us = watermark_us.zip(self.trial.view.options.keep_us).map(|(watermark_us, keep_us)| watermark_us - keep_us);
        let kept = rows.iter().map(|rows| kept(self.trial.view, rows, horizon_us)).collect::<Result<Vec<_>, _>>()?;
        let rows = kept.iter().flat_map(row_values).collect();
        Ok(Ran { rows, log: self.log, places: self.places, state: self.state, restarts: self.epoch - 1 })
    }
}

fn open(parts: &Parts, epoch: Epoch, now_ms: i64) -> Result<Steps, EngineError> {
    let told = parts.store.fence(&parts.table, epoch)?;
    let publications =
        Publications::new(Arc::new(LocalFeed::default()), parts.table.clone(), None, parts.settings.shares.clone(), Arc::default());
    Steps::open(parts, Publisher::new(publications), told, epoch, now_ms)
}

/// The rows that are not past the view's `keep`.
fn kept(view: &View, rows: &RecordBatch, horizon_us: Option<i64>) -> Result<RecordBatch, EngineError> {
    let starts = view.window.and_then(|window| rows.columns().get(window.column));
    let (Some(starts), Some(horizon_us)) = (starts, horizon_us) else { return Ok(rows.clone()) };
    let is_kept: BooleanArray =
        as_micros(starts)?.iter().map(|start_us| Some(start_us.is_none_or(|start_us| start_us >= horizon_us))).collect();
    Ok(filter_record_batch(rows, &is_kept)?)
}

/// The rows of a batch, each value in the one form that its column has.
pub fn row_values(batch: &RecordBatch) -> Vec<Row> {
    let fields = batch.schema_ref().fields();
    let row = |row: Value| match row {
        Value::Object(members) => members.into_iter().zip(fields).map(|((_, value), field)| canonical(value, field.data_type())).collect(),
        _ => Row::new(),
    };
    json::rows(batch).into_iter().map(row).collect()
}
