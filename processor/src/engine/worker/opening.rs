//! Opening a version: it is planned, taken, and its threads are started.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};

use parking_lot::Mutex;

use super::{CHUNKS_IN_FLIGHT, DRAIN_AT_STOP, Key, LOOKS_UNTIL_ANOTHER_TRY, LOOKS_UNTIL_RETRY, MAX_QUARANTINED_BYTES, MOST_WAITS};
use super::{Opened, Ports, Running, Unable, Worker, note_failure, spawn};
use crate::decode::arrow_schema;
use crate::engine::error::EngineError;
use crate::engine::feed::Consumer;
use crate::engine::fold::{Fold, FoldSettings, Told};
use crate::engine::lease::Lease;
use crate::engine::map::Rules;
use crate::engine::outbox::Outbox;
use crate::engine::quarantined::Lent;
use crate::engine::run::{self, Runner, Shared, progress};
use crate::engine::status::RunStatus;
use crate::engine::wake::Wake;
use crate::engine::writer::Writer;
use crate::position::{Cut, Partition};
use crate::source::Source;
use crate::state::rocks::RocksState;
use crate::store::Progress;
use crate::store::catalogue::{Take, VersionRecord};
use crate::table::Table;
use crate::view::View;

/// A version, planned, with what it reads from.
struct Planned {
    view: Arc<View>,
    source: Source,
    partitions: Vec<Partition>,
}

impl Worker {
    /// Takes a version and starts its threads; `None` when it cannot be run here now.
    pub(super) fn open(&self, key: &Key, record: &VersionRecord) -> Result<Option<Opened>, EngineError> {
        let catalogue = &self.ports.catalogue;
        let before = catalogue.ownership(&record.view, record.version)?;
        if before.as_ref().is_some_and(|held| self.is_run_elsewhere(held)) {
            self.unable.lock().remove(key);
            return Ok(None);
        }
        // All that can go wrong without it comes before the version is taken from whoever else could run it.
        let planned = match self.plan(record) {
            Ok(planned) => Some(planned),
            // One that nobody ever ran cannot be run anywhere, as far as anybody knows.
            Err(error) if before.is_some() || error.is_retryable() => {
                self.note_unable(key, &error.to_string(), !error.is_retryable());
                return Ok(None);
            }
            Err(error) => {
                self.fail(record, &error.to_string())?;
                None
            }
        };
        let Some(planned) = planned else { return Ok(None) };
        let epoch = match catalogue.take(&record.view, record.version, &self.settings.owner, self.settings.lease_ms)? {
            Take::Taken(epoch) => epoch,
            Take::HeldBy { owner, .. } => {
                tracing::debug!(view = record.view, version = %record.version, owner, "version is run elsewhere");
                return Ok(None);
            }
        };
        let lease = Arc::new(Lease { view: record.view.clone(), version: record.version, epoch, lost: Arc::default() });
        self.leases.hold(lease.clone());
        match self.start(record, planned, lease.clone()) {
            Ok(opened) => {
                let (owner, before) = (&self.settings.owner, before.map(|held| held.owner));
                let from = before.as_ref().filter(|before| *before != owner);
                tracing::info!(view = record.view, version = %record.version, owner, from, "version is run here");
                Ok(Some(opened))
            }
            Err(error) => {
                self.leases.release(&lease);
                self.note_unable(key, &error.to_string(), !error.is_retryable());
                Ok(None)
            }
        }
    }

    /// Notes why a version cannot be run here, and that it is tried again after some looks: more if it does not fit what this process has, and ever more.
    pub(super) fn note_unable(&self, key: &Key, error: &str, is_lasting: bool) {
        tracing::warn!(view = key.0, version = %key.1, error, "version cannot be run here; trying again");
        let first = if is_lasting { LOOKS_UNTIL_ANOTHER_TRY } else { LOOKS_UNTIL_RETRY };
        let mut unable = self.unable.lock();
        let looks = unable.get(key).map_or(first, |before| (before.waits * 2).clamp(first, first * MOST_WAITS));
        unable.insert(key.clone(), Unable { error: error.to_owned(), is_lasting, looks, waits: looks });
    }

    fn plan(&self, record: &VersionRecord) -> Result<Planned, EngineError> {
        let Ports { log, sources, .. } = &self.ports;
        let schemas = sources
            .iter()
            .map(|(name, source)| Ok((name.clone(), arrow_schema(&source.schema_json)?)))
            .collect::<Result<BTreeMap<_, _>, EngineError>>()?;
        let view = Arc::new(View::plan(&record.sql, &record.view, &schemas)?);
        let Some(source) = sources.get(&view.source).cloned() else {
            return Err(EngineError::Internal(format!("source {} of view {} is not declared any more", view.source, view.name)));
        };
        check_window(&view, &source)?;
        log.create_topic(&source.topic, source.partitions)?;
        let partitions = log.partitions(&source.topic)?;
        Ok(Planned { view, source, partitions })
    }

    /// Whether the log still has what this state needs next. If it does not, but another's state was further, that one can go on.
    fn check_readable(&self, source: &Source, cut: &Cut, told: &Progress, partitions: &[Partition]) -> Result<(), EngineError> {
        for partition in partitions {
            let (position, start) = (cut.position(*partition), self.ports.log.bounds(&source.topic, *partition)?.start);
            if position < start && told.visible.position(*partition) >= start {
                return Err(EngineError::Behind { topic: source.topic.clone(), partition: *partition, position, log_start: start });
            }
        }
        Ok(())
    }

    fn start(&self, record: &VersionRecord, planned: Planned, lease: Arc<Lease>) -> Result<Opened, EngineError> {
        let Ports { store, changes, clock, .. } = &self.ports;
        let Planned { view, source, partitions } = planned;
        let epoch = lease.epoch;
        let table = Table { view: view.name.clone(), version: record.version, shape: view.shape.clone() };
        store.create_table(&table)?;
        changes.create(&table, view.options.keep_us)?;
        let state = RocksState::open(&self.state_dir(&record.view, record.version), &self.memory)?;
        let rules = Rules::new(&view, &source);
        let fold_settings = FoldSettings {
            shards: self.settings.shards,
            rules: rules.clone(),
            lateness_us: view.options.lateness_us.unwrap_or(source.lateness_us),
            quiet: self.settings.quiet,
            shares: self.shares.clone(),
            max_quarantined_bytes: MAX_QUARANTINED_BYTES,
            most_rows: self.settings.queued_rows,
            emitted_batch_bytes: EMITTED_BATCH_BYTES,
        };
        let before = store.fence(&table, epoch)?;
        let told = Told { writing: before.writing.clone(), writing_watermark_us: before.writing_watermark_us, now_ms: clock.now_ms() };
        let fold = Fold::open(view.clone(), state.clone(), fold_settings, &partitions, &told)?;
        self.check_readable(&source, &fold.meta().cut, &before, &partitions)?;
        let committed = progress(fold.meta(), view.options.keep_us);
        let status =
            RunStatus { view: view.name.clone(), version: Some(record.version), topic: source.topic.clone(), ..RunStatus::default() };
        let status = Arc::new(Mutex::new(status));
        status.lock().committed(fold.meta(), &BTreeMap::new());
        let outbox = Arc::new(Mutex::new(Outbox::new(self.settings.queued_rows, self.shares.clone(), before, committed)));
        let (stop, stop_writing) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let dropped_to_us = Arc::new(AtomicI64::new(fold.meta().dropped_to_us.unwrap_or(i64::MIN)));
        let (wake_fold, wake_writer) = (Wake::default(), Wake::default());
        let shared = |stop: &Arc<AtomicBool>| Shared {
            outbox: outbox.clone(),
            wake_fold: wake_fold.clone(),
            wake_writer: wake_writer.clone(),
            stop: stop.clone(),
            dropped_to_us: dropped_to_us.clone(),
            status: status.clone(),
            clock: clock.clone(),
            shares: self.shares.clone(),
            lost: lease.lost.clone(),
            faults: self.settings.faults.clone(),
        };
        let lent = Lent::new(state.clone());
        let mut writer = Writer {
            view: view.clone(),
            layout: fold.layout().clone(),
            state,
            store: store.clone(),
            changes: changes.clone(),
            table: table.clone(),
            epoch,
            outbox: outbox.clone(),
            rows_per_write: self.settings.rows_per_write,
            read_ahead_bytes: SWEEP_READ_AHEAD_BYTES,
            announced: None,
            ahead: Default::default(),
            drain_to: None,
            is_untold: false,
            sweeping: None,
            reclaimed_to_us: None,
            reclaiming: None,
            may_sync: true,
            lost: lease.lost.clone(),
            status: status.clone(),
            faults: self.settings.faults.clone(),
        };
        let live = fold.is_live();
        let (cut, times) = (fold.meta().cut.clone(), fold.meta().times.clone());
        let (sender, messages) = crossbeam_channel::bounded(CHUNKS_IN_FLIGHT);
        let mut runner = Runner::new(fold, self.settings.run.clone(), messages, shared(&stop));
        let write_shared = shared(&stop_writing);
        let name = format!("{}-{}", view.name, record.version);
        let failed = status.clone();
        let fold_thread = spawn(&format!("fold-{name}"), move || note_failure(&failed, || runner.run()))?;
        let failed = status.clone();
        let write_thread = spawn(&format!("write-{name}"), move || {
            note_failure(&failed, || run::write(&mut writer, &write_shared, DRAIN_AT_STOP));
            writer.finish();
        })?;
        let consumer = Consumer { view, rules, shards: self.settings.shards, cut, times, dropped_to_us, sender };
        let threads = vec![fold_thread, write_thread];
        let (record, topic, partitions) = (record.clone(), source.topic.clone(), partitions.len());
        let running =
            Running { record, table, lease, topic, partitions, stop, stop_writing, status, outbox, lent, wake_fold, wake_writer, threads };
        Ok(Opened { running, source, consumer, live })
    }
}

/// More at a time is hardly faster.
const EMITTED_BATCH_BYTES: usize = 4 << 20;

/// Of the panes that are swept side by side.
const SWEEP_READ_AHEAD_BYTES: usize = 8 << 20;

/// Lateness and watermarks are about the source's event time, so windows must be too.
fn check_window(view: &View, source: &Source) -> Result<(), EngineError> {
    let schema = arrow_schema(&source.schema_json)?;
    let column = view.window_source_column.map(|column| schema.field(column).name().as_str());
    match column {
        Some(column) if column != source.event_time => {
            Err(EngineError::OtherTime { view: view.name.clone(), column: column.to_owned(), event_time: source.event_time.clone() })
        }
        _ => Ok(()),
    }
}
