//! One owner of a version as steps that somebody else takes: the parts of a worker without its threads, so that whoever drives them decides what happens
//! next. Cases of views and simulations of the protocol run so.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::error::EngineError;
use super::feed::columns;
use super::fold::{Fold, FoldSettings, Told};
use super::map::{Before, Chunk, ChunkMapper, Mapped};
use super::outbox::Outbox;
use super::publisher::Publisher;
use super::run::progress;
use super::sweep::Sweep;
use super::writer::Writer;
use crate::decode::{Decoder, SchemaLookup};
use crate::log::{Log, LogReader};
use crate::position::{Cut, Partition};
use crate::source::Source;
use crate::state::State;
use crate::store::{Progress, RowWriter};
use crate::table::{Epoch, Table};
use crate::view::View;

/// What an owner works with.
#[derive(Clone)]
pub struct Parts {
    /// The source.
    pub source: Source,
    /// Writer schemas.
    pub schemas: Arc<dyn SchemaLookup>,
    /// The view.
    pub view: Arc<View>,
    /// The log.
    pub log: Arc<dyn Log>,
    /// The state.
    pub state: Arc<dyn State>,
    /// The view store.
    pub store: Arc<dyn RowWriter>,
    /// The version's table.
    pub table: Table,
    /// How the version is folded.
    pub settings: FoldSettings,
    /// How much is written at a time.
    pub writes: Writes,
}

/// How much is written at a time, and may wait for it.
#[derive(Clone, Copy, Debug)]
pub struct Writes {
    /// Rows that may wait in memory.
    pub queued_rows: usize,
    /// Rows that are drained or swept at a time.
    pub rows_per_write: usize,
    /// How much of the state a sweep reads ahead, bytes.
    pub read_ahead_bytes: usize,
}

/// Mapped chunks that are not merged yet, in the order of each partition.
pub type Waiting = Arc<Mutex<BTreeMap<Partition, VecDeque<Mapped>>>>;

/// One owner of a version. The fold and what waits for it are behind locks because a writer may be at work meanwhile.
pub struct Steps {
    /// The fold.
    pub fold: Arc<Mutex<Fold>>,
    /// The writer.
    pub writer: Writer,
    /// What is mapped.
    pub mapped: Waiting,
    source: Source,
    log: Arc<dyn Log>,
    mapper: ChunkMapper,
    decoder: Decoder,
    readers: BTreeMap<Partition, (Box<dyn LogReader>, Before)>,
}

impl Steps {
    /// Takes the version, at the last commit of its state. `told` is what readers were told last.
    ///
    /// # Errors
    /// When the log, the state or the view's plan cannot be opened.
    pub fn open(parts: &Parts, publisher: Publisher, told: Progress, epoch: Epoch, now_ms: i64) -> Result<Steps, EngineError> {
        let Parts { source, view, log, state, settings, writes, .. } = parts;
        let partitions = log.partitions(&source.topic)?;
        let before = Told { writing: told.writing.clone(), writing_watermark_us: told.writing_watermark_us, now_ms };
        let fold = Fold::open(view.clone(), state.clone(), settings.clone(), &partitions, &before)?;
        let outbox = Outbox::new(writes.queued_rows, settings.shares.clone(), told, progress(fold.meta(), None));
        let writer = Writer {
            view: view.clone(),
            layout: fold.layout().clone(),
            state: state.clone(),
            store: parts.store.clone(),
            publisher,
            table: parts.table.clone(),
            epoch,
            outbox: Arc::new(Mutex::new(outbox)),
            rows_per_write: writes.rows_per_write,
            read_ahead_bytes: writes.read_ahead_bytes,
            underway: Default::default(),
            may_sync: true,
            lost: Arc::default(),
            status: Arc::default(),
            faults: Arc::default(),
        };
        let mut readers = BTreeMap::new();
        for partition in partitions {
            let before = fold.before(partition);
            let from: Cut = [(partition, before.position)].into_iter().collect();
            readers.insert(partition, (log.reader(&source.topic, &from)?, before));
        }
        Ok(Steps {
            mapper: ChunkMapper::new(view, settings.rules.clone(), settings.shards)?,
            decoder: Decoder::new(source, &columns(source, std::iter::once(view.as_ref()))?, parts.schemas.clone())?,
            source: source.clone(),
            log: log.clone(),
            fold: Arc::new(Mutex::new(fold)),
            writer,
            mapped: Waiting::default(),
            readers,
        })
    }

    /// Reads and decodes the next chunk of a partition, with what is known before it. `None`: it is read to its end.
    ///
    /// # Errors
    /// Those of the log and the decoder.
    pub fn read(&mut self, partition: Partition, max_bytes: usize, now_ms: i64) -> Result<Option<(Arc<Chunk>, Before)>, EngineError> {
        let Some((reader, before)) = self.readers.get_mut(&partition) else { return Ok(None) };
        let Some(records) = reader.read(max_bytes, Duration::ZERO)? else {
            let mut fold = self.fold.lock();
            if fold.before(partition).position >= self.log.bounds(&self.source.topic, partition)?.end {
                fold.at_end(partition, now_ms);
            }
            return Ok(None);
        };
        before.dropped_to_us = self.fold.lock().meta().dropped_to_us;
        let decoded = self.decoder.decode(&records)?;
        Ok(Some((Arc::new(Chunk::new(before.position, records, decoded)), *before)))
    }

    /// Maps a chunk that was read, judged by what is known before it.
    ///
    /// # Errors
    /// When the view cannot be evaluated at all; an event that it fails on is only quarantined.
    pub fn map(&mut self, chunk: &Arc<Chunk>, judged_by: Before) -> Result<(), EngineError> {
        let partition = chunk.partition();
        let mut mapped = self.mapper.map(chunk, judged_by)?;
        let Some((_, before)) = self.readers.get_mut(&partition) else { return Ok(()) };
        // The fold maps again what was judged by another progress than its own.
        mapped.before = *before;
        before.position = chunk.records.next;
        before.time = mapped.time;
        self.mapped.lock().entry(partition).or_default().push_back(mapped);
        Ok(())
    }

    /// The largest event time that was accepted in any partition.
    pub fn latest_us(&self) -> Option<i64> {
        self.readers.values().filter_map(|(_, before)| before.time.max_us).max()
    }

    /// Merges the oldest mapped chunk of a partition. `false`: there is none.
    ///
    /// # Errors
    /// Those of the fold.
    pub fn merge(&mut self, partition: Partition, now_ms: i64) -> Result<bool, EngineError> {
        let Some(mapped) = self.mapped.lock().get_mut(&partition).and_then(VecDeque::pop_front) else { return Ok(false) };
        self.fold.lock().merge(mapped, now_ms)?;
        Ok(true)
    }

    /// Commits what is merged, and offers the rows to the writer.
    ///
    /// # Errors
    /// Those of the fold.
    pub fn commit(&mut self, now_ms: i64) -> Result<(), EngineError> {
        commit(&mut self.fold.lock(), &mut self.writer.outbox.lock(), now_ms)
    }

    /// Whether a commit would change anything.
    pub fn is_commit_due(&self, now_ms: i64) -> bool {
        let fold = self.fold.lock();
        fold.is_ahead() || fold.has_news(now_ms) || self.writer.outbox.lock().has_acknowledged()
    }

    /// From now on rows are written at every commit: the sweep of what readers have not seen yet, that is to be committed and offered to the writer.
    pub fn go_live(&mut self) -> Option<Sweep> {
        if self.is_between_sweeps() { self.fold.lock().go_live() } else { None }
    }

    /// A sweep of what has closed, to be committed and offered to the writer.
    pub fn sweep(&mut self) -> Option<Sweep> {
        if self.is_between_sweeps() { self.fold.lock().closed_sweep(1) } else { None }
    }

    /// Offers a sweep whose beginning is committed to the writer.
    pub fn begin(&mut self, sweep: Sweep) {
        self.writer.outbox.lock().offer_sweep(sweep);
    }

    fn is_between_sweeps(&self) -> bool {
        let outbox = self.writer.outbox.lock();
        !outbox.is_sweeping() && !outbox.has_acknowledged()
    }

    /// Whether everything read is folded and everything folded is written.
    pub fn is_done(&self, now_ms: i64) -> bool {
        let (fold, outbox) = (self.fold.lock(), self.writer.outbox.lock());
        let nothing_mapped = self.mapped.lock().values().all(VecDeque::is_empty);
        nothing_mapped
            && fold.is_live()
            && !fold.is_ahead()
            && !fold.has_news(now_ms)
            && outbox.is_empty()
            && outbox.unsynced_rows() == 0
            && !outbox.has_acknowledged()
    }

    /// What it still has to do, for people.
    pub fn unfinished(&self, now_ms: i64) -> String {
        let (fold, outbox) = (self.fold.lock(), self.writer.outbox.lock());
        format!(
            "mapped {} live {} ahead {} news {} outbox empty {} unsynced {} acknowledged {}",
            self.mapped.lock().values().map(VecDeque::len).sum::<usize>(),
            fold.is_live(),
            fold.is_ahead(),
            fold.has_news(now_ms),
            outbox.is_empty(),
            outbox.unsynced_rows() > 0,
            outbox.has_acknowledged(),
        )
    }
}

/// Commits what is merged; what changed is to be written.
///
/// # Errors
/// Those of the fold.
pub fn commit(fold: &mut Fold, outbox: &mut Outbox, now_ms: i64) -> Result<(), EngineError> {
    let acknowledged = outbox.take_acknowledged();
    for sweep in &outbox.take_swept() {
        fold.swept(sweep);
    }
    let committed = fold.commit(&acknowledged, now_ms)?;
    outbox.offer(committed.rows, progress(fold.meta(), None));
    Ok(())
}
