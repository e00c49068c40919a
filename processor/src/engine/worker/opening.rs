//! Opening a version: it is planned, taken, and its threads are started.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::thread::JoinHandle;

use parking_lot::Mutex;

use super::ending::{DRAIN_AT_STOP, note_failure};
use super::{Key, Ports, Running, Worker, spawn};
use crate::decode::arrow_schema;
use crate::engine::error::EngineError;
use crate::engine::feed::{Consumer, NEAR_EVENTS};
use crate::engine::fold::{Fold, FoldSettings, Told};
use crate::engine::lease::{Held, Taking};
use crate::engine::map::Rules;
use crate::engine::meta::Meta;
use crate::engine::outbox::Outbox;
use crate::engine::pace::{Pace, limit};
use crate::engine::publisher::{Publications, Publisher};
use crate::engine::quarantined::Lent;
use crate::engine::run::{self, Runner, Shared, progress};
use crate::engine::status::RunStatus;
use crate::engine::wake::Wake;
use crate::engine::writer::Writer;
use crate::log::LogError;
use crate::position::Partition;
use crate::recovery::Recovery;
use crate::source::Source;
use crate::state::rocks::RocksState;
use crate::stop::Stop;
use crate::store::Progress;
use crate::store::catalogue::VersionRecord;
use crate::table::Table;
use crate::view::View;

/// A version, planned, with what it reads from.
struct Planned {
    view: Arc<View>,
    source: Source,
    partitions: Vec<Partition>,
}

/// A version that is opened but not yet connected to a feed.
pub(super) struct Opened {
    pub(super) running: Running,
    source: Source,
    partitions: Vec<Partition>,
    consumer: Consumer,
}

impl Opened {
    pub(super) fn key(&self) -> Key {
        (self.running.record.view.clone(), self.running.record.version)
    }
}

/// Versions that are being opened, each in a thread of its own: a log or a store that answers late for one of them, or for each, holds up
/// nothing else.
#[derive(Default)]
pub(super) struct Openings {
    threads: Mutex<BTreeMap<Key, JoinHandle<()>>>,
    opened: Mutex<Vec<Opened>>,
    /// How many polls those that are opened have waited to be connected.
    polls: Mutex<u32>,
}

/// Enough to hide the round trips of a store.
const OPENED_AT_ONCE: usize = 16;

/// Versions that are opened at about the same time share a feed from the start; so many polls one waits for the others.
const POLLS_TO_CONNECT: u32 = 2;

impl Openings {
    /// Whether a version is being opened, or is about to be connected.
    pub(super) fn has(&self, key: &Key) -> bool {
        self.threads.lock().contains_key(key) || self.opened.lock().iter().any(|opened| opened.key() == *key)
    }

    /// Waits for what is being opened.
    pub(super) fn join(&self) {
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads.into_values() {
            let _ = thread.join();
        }
    }

    /// Those that are opened.
    pub(super) fn take(&self) -> Vec<Opened> {
        std::mem::take(&mut *self.opened.lock())
    }

    /// Those that are opened, once no others are on their way, or have been for long.
    fn take_together(&self) -> Vec<Opened> {
        let is_last = {
            let mut threads = self.threads.lock();
            threads.retain(|_, thread| !thread.is_finished());
            threads.is_empty()
        };
        let mut polls = self.polls.lock();
        if self.opened.lock().is_empty() {
            *polls = 0;
            return Vec::new();
        }
        *polls += 1;
        if !is_last && *polls <= POLLS_TO_CONNECT {
            return Vec::new();
        }
        *polls = 0;
        self.take()
    }
}

impl Worker {
    /// Opens a version in a thread of its own, unless many are being opened: then it is tried at the next poll.
    pub(super) fn begin_opening(self: &Arc<Self>, key: Key, record: VersionRecord) {
        let mut threads = self.openings.threads.lock();
        if threads.len() >= OPENED_AT_ONCE {
            return;
        }
        let (worker, name, opened_key) = (self.clone(), format!("open-{}-{}", key.0, key.1), key.clone());
        let body = move || {
            let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| worker.open(&opened_key, &record)));
            match opened {
                Ok(Ok(Some(opened))) => worker.openings.opened.lock().push(opened),
                Ok(Ok(None)) => {}
                Ok(Err(error)) => worker.note_unable(&opened_key, &error.to_string(), error.recovery()),
                Err(_) => worker.note_unable(&opened_key, "opening it panicked; see the log of this process", Recovery::Operator),
            }
            worker.openings.threads.lock().remove(&opened_key);
            worker.look();
        };
        match spawn(&name, body) {
            Ok(thread) => drop(threads.insert(key, thread)),
            Err(error) => tracing::warn!(view = key.0, version = %key.1, %error, "version is not opened; it is tried again"),
        }
    }

    /// Takes a version and starts its threads; `None` when it is run elsewhere, or everything is being stopped.
    fn open(&self, key: &Key, record: &VersionRecord) -> Result<Option<Opened>, EngineError> {
        let before = self.ports.catalogue.ownership(&record.view, record.version)?;
        if before.as_ref().is_some_and(|held| self.is_run_elsewhere(held)) {
            self.unable.lock().remove(key);
            return Ok(None);
        }
        // All that can go wrong without it comes before the version is taken from whoever else could run it.
        let planned = self.plan(record)?;
        if self.stop.is_stopped() {
            return Ok(None);
        }
        let held = match self.leases.take(&record.view, record.version)? {
            Taking::Held(held) => held,
            Taking::HeldBy { owner } => {
                tracing::debug!(view = record.view, version = %record.version, owner, "version is run elsewhere");
                return Ok(None);
            }
        };
        // If it does not start, it is given up with the value.
        let opened = self.start(record, planned, held)?;
        let (owner, before) = (&self.settings.owner, before.map(|held| held.owner));
        let from = before.as_ref().filter(|before| *before != owner);
        tracing::info!(view = record.view, version = %record.version, owner, from, "version is run here");
        Ok(Some(opened))
    }

    /// Starts feeds for versions that were opened. Those at about the same place of a log share one; it must begin where the last of them is.
    pub(super) fn connect(self: &Arc<Self>) {
        let mut opened = self.openings.take_together();
        if opened.is_empty() {
            return;
        }
        opened.sort_by_key(|opened| (opened.source.name.clone(), opened.consumer.cut.sum()));
        let mut groups: Vec<Vec<Opened>> = Vec::new();
        for opened in opened {
            let is_near = |group: &Vec<Opened>| {
                group.first().is_some_and(|first| {
                    let apart = opened.consumer.cut.sum().saturating_sub(first.consumer.cut.sum());
                    first.source.name == opened.source.name && first.partitions == opened.partitions && apart <= NEAR_EVENTS
                })
            };
            match groups.last_mut().filter(|group| is_near(group)) {
                Some(group) => group.push(opened),
                None => groups.push(vec![opened]),
            }
        }
        for group in groups {
            let Some((source, partitions)) = group.first().map(|first| (first.source.clone(), first.partitions.clone())) else { continue };
            let mut consumers = Vec::with_capacity(group.len());
            let mut keys: Vec<Key> = Vec::with_capacity(group.len());
            for opened in group {
                let key = opened.key();
                self.running.lock().insert(key.clone(), opened.running);
                consumers.push(opened.consumer);
                keys.push(key);
            }
            if let Err(error) = self.feeds.start(&source, &partitions, &consumers) {
                for key in &keys {
                    self.note_unable(key, &error.to_string(), error.recovery());
                    self.end(key, false);
                }
            }
        }
        self.share_memory();
    }

    pub(super) fn state_dir(&self, view: &str, version: crate::table::Version) -> std::path::PathBuf {
        self.settings.state_dir.join(view).join(version.to_string())
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
    fn check_readable(&self, planned: (&Source, &[Partition]), meta: &Meta, told: &Progress) -> Result<(), EngineError> {
        let (source, partitions) = planned;
        let cut = &meta.cut;
        for partition in partitions.iter().filter(|partition| !meta.ended.contains(partition)) {
            let bounds = self.ports.log.bounds(&source.topic, *partition)?;
            let (position, start) = (cut.position(*partition), bounds.start);
            // The state may have lost what it had not synced, and be within a log that lost more: what readers were told is not.
            let told_to = told.writing.position(*partition);
            if told_to > bounds.end {
                return Err(
                    LogError::PastEnd { topic: source.topic.clone(), partition: *partition, position: told_to, end: bounds.end }.into()
                );
            }
            if position < start && told.visible.position(*partition) >= start {
                return Err(EngineError::Behind { topic: source.topic.clone(), partition: *partition, position, log_start: start });
            }
        }
        Ok(())
    }

    fn start(&self, record: &VersionRecord, planned: Planned, lease: Held) -> Result<Opened, EngineError> {
        let Ports { store, changes, clock, .. } = &self.ports;
        let Planned { view, source, partitions } = planned;
        let epoch = lease.epoch;
        let table = Table { view: view.name.clone(), version: record.version, shape: view.shape.clone() };
        store.create_table(&table)?;
        let state = RocksState::open(&self.state_dir(&record.view, record.version), &self.memory)?;
        let rules = Rules { until_ms: record.controls.until_ms, ..Rules::new(&view, &source) };
        let fold_settings = FoldSettings {
            shards: self.settings.shards,
            rules: rules.clone(),
            lateness_us: view.options.lateness_over(&source),
            quiet: self.settings.quiet,
            shares: self.shares.clone(),
            max_quarantined_bytes: MAX_QUARANTINED_BYTES,
            most_rows: self.settings.queued_rows,
            emitted_batch_bytes: EMITTED_BATCH_BYTES,
        };
        let before = store.fence(&table, epoch)?;
        let told = Told { writing: before.writing.clone(), writing_watermark_us: before.writing_watermark_us, now_ms: clock.now_ms() };
        let fold = Fold::open(view.clone(), state.clone(), fold_settings, &partitions, &told)?;
        self.check_readable((&source, &partitions), fold.meta(), &before)?;
        let committed = progress(fold.meta(), view.options.keep_us);
        let status =
            RunStatus { view: view.name.clone(), version: Some(record.version), topic: source.topic.clone(), ..RunStatus::default() };
        let status = Arc::new(Mutex::new(status));
        status.lock().committed(fold.meta(), &BTreeMap::new());
        let outbox = Arc::new(Mutex::new(Outbox::new(self.settings.queued_rows, self.shares.clone(), before, committed)));
        // The writer goes on after the fold has made its last commit, so it is stopped apart.
        let (stop, stop_writing) = (self.stop.child(), Stop::new());
        let dropped_to_us = Arc::new(AtomicI64::new(fold.meta().dropped_to_us.unwrap_or(i64::MIN)));
        let (wake_fold, wake_writer) = (Wake::default(), Wake::default());
        let shared = |stop: &Stop| Shared {
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
        let publications = Publications::new(changes.clone(), table.clone(), view.options.keep_us, self.shares.clone(), status.clone());
        let mut writer = Writer {
            view: view.clone(),
            layout: fold.layout().clone(),
            state,
            store: store.clone(),
            publisher: Publisher::new(publications),
            table,
            epoch: lease.begin_writing(),
            outbox: outbox.clone(),
            rows_per_write: self.settings.rows_per_write,
            read_ahead_bytes: SWEEP_READ_AHEAD_BYTES,
            underway: Default::default(),
            may_sync: true,
            lost: lease.lost.clone(),
            status: status.clone(),
            faults: self.settings.faults.clone(),
        };
        let (cut, times, ended) = (fold.meta().cut.clone(), fold.meta().times.clone(), fold.meta().ended.clone());
        let pace = Arc::new(Pace::new(limit(record, *self.yielding.lock())));
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
        let shards = self.settings.shards;
        let consumer = Consumer { view: view.clone(), rules, shards, cut, times, ended, pace: pace.clone(), dropped_to_us, sender };
        let threads = vec![fold_thread, write_thread];
        let (record, topic, count) = (record.clone(), source.topic.clone(), partitions.len());
        let running = Running {
            record,
            lease,
            view,
            pace,
            topic,
            partitions: count,
            stop,
            stop_writing,
            status,
            outbox,
            lent,
            wake_fold,
            wake_writer,
            threads,
        };
        Ok(Opened { running, source, partitions, consumer })
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

/// Mapped chunks that may wait for a fold.
const CHUNKS_IN_FLIGHT: usize = 8;

/// The most bytes of a quarantined record that are kept.
const MAX_QUARANTINED_BYTES: usize = 64 << 10;
