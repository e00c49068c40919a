//! Reading the log for some versions of views at once: read, decode, and map each chunk for every one of them.
//!
//! One thread serves some of the partitions of a source. Per partition everything is in log order; between partitions there is none.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::error::EngineError;
use super::map::{Before, Chunk, ChunkMapper, Mapped, Rules};
use super::watermark::{LastRecord, PartitionTime};
use crate::decode::{Decoder, SchemaLookup, arrow_schema};
use crate::log::{Bounds, Log, LogError, LogReader, Records};
use crate::position::{Cut, Offset, Partition};
use crate::source::Source;
use crate::view::View;

/// What a fold hears from the threads that read for it.
pub enum Message {
    /// A chunk was mapped.
    Mapped(Box<Mapped>),
    /// Where the logs of some partitions end now.
    Ends(Vec<(Partition, Offset)>),
    /// Reading waits for something that is away, and why; `None`: no more.
    Waiting(Option<String>),
    /// Reading failed for good.
    Failed(EngineError),
}

/// One version that a feed serves.
pub struct Consumer {
    /// The view.
    pub view: Arc<View>,
    /// When an event is not acceptable.
    pub rules: Rules,
    /// Shards that groups are split among.
    pub shards: usize,
    /// Where it is: position and event-time progress of each partition.
    pub cut: Cut,
    /// Event-time progress of the partitions at that cut.
    pub times: BTreeMap<Partition, PartitionTime>,
    /// Panes are dropped up to here, as the fold goes on; `i64::MIN`: none.
    pub dropped_to_us: Arc<AtomicI64>,
    /// Where mapped chunks go. Bounded: a fold that is slower than its feed holds it back.
    pub sender: Sender<Message>,
}

impl Consumer {
    /// The same consumer for another thread of the feed.
    pub fn share(&self) -> Consumer {
        Consumer {
            view: self.view.clone(),
            rules: self.rules.clone(),
            shards: self.shards,
            cut: self.cut.clone(),
            times: self.times.clone(),
            dropped_to_us: self.dropped_to_us.clone(),
            sender: self.sender.clone(),
        }
    }
}

/// What a feed reads from, and how.
#[derive(Clone)]
pub struct FeedSettings {
    /// The log.
    pub log: Arc<dyn Log>,
    /// The source.
    pub source: Source,
    /// Writer schemas.
    pub schemas: Arc<dyn SchemaLookup>,
    /// The partitions that this thread serves.
    pub partitions: Vec<Partition>,
    /// About how many bytes of records a chunk has.
    pub chunk_bytes: usize,
    /// Set when the feed is to end.
    pub stop: Arc<AtomicBool>,
}

/// How long a read waits for new records before it looks around.
const READ_WAIT: Duration = Duration::from_millis(100);

struct Served {
    consumer: Consumer,
    mapper: ChunkMapper,
    before: BTreeMap<Partition, Before>,
}

/// Serves `consumers` until told to stop, until none is left, or until the log fails for good.
pub fn run(settings: &FeedSettings, consumers: Vec<Consumer>) {
    let senders: Vec<Sender<Message>> = consumers.iter().map(|consumer| consumer.sender.clone()).collect();
    let served = std::panic::catch_unwind(AssertUnwindSafe(|| serve(settings, consumers)));
    let text = match served {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the thread that reads the log panicked".to_owned(),
    };
    tracing::error!(source = settings.source.name, error = text, "reading the log failed");
    for sender in senders {
        // A consumer that is gone needs no news.
        let _ = sender.send(Message::Failed(EngineError::Unreadable(text.clone())));
    }
}

fn serve(settings: &FeedSettings, consumers: Vec<Consumer>) -> Result<(), EngineError> {
    let columns = columns(&settings.source, consumers.iter().map(|consumer| consumer.view.as_ref()))?;
    let mut decoder = Decoder::new(&settings.source, &columns, settings.schemas.clone())?;
    let mut served = consumers.into_iter().map(|consumer| Served::new(consumer, &settings.partitions)).collect::<Result<Vec<_>, _>>()?;
    let mut reading = Reading::from(earliest_of(&served, &settings.partitions));
    let mut backoff = Backoff::default();
    let mut is_waiting = false;
    while !settings.stop.load(Ordering::Relaxed) && !served.is_empty() {
        match pass(settings, &mut decoder, &mut reading, &mut served) {
            Ok(()) => {
                backoff = Backoff::default();
                if std::mem::take(&mut is_waiting) {
                    tracing::info!(source = settings.source.name, "reading goes on");
                    served.retain(|served| served.consumer.sender.send(Message::Waiting(None)).is_ok());
                }
            }
            Err(error) if error.is_retryable() => {
                tracing::warn!(source = settings.source.name, %error, "reading waits; trying again");
                is_waiting = true;
                let why = error.to_string();
                served.retain(|served| served.consumer.sender.send(Message::Waiting(Some(why.clone()))).is_ok());
                backoff.wait(&settings.stop);
            }
            Err(EngineError::Log(LogError::Hole { topic, partition, position, log_start })) => {
                // Those that are further can go on from where they are.
                let hole = |position| EngineError::Log(LogError::Hole { topic: topic.clone(), partition, position, log_start });
                served.retain(|served| {
                    let at = served.before.get(&partition).map_or(position, |before| before.position);
                    if at < log_start {
                        let _ = served.consumer.sender.send(Message::Failed(hole(at)));
                    }
                    at >= log_start
                });
                reading = Reading::from(earliest_of(&served, &settings.partitions));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// How far a feed is.
struct Reading {
    reader: Option<Box<dyn LogReader>>,
    /// Read, but not decoded yet: their schema could not be looked up.
    undecoded: Option<Records>,
    positions: Cut,
    /// When consumers were last told where all partitions end.
    ends_told: Instant,
}

/// How often the log is asked for the ends of partitions while some of them bring records without a pause: that the others are quiet is not known
/// otherwise.
const ASK_FOR_ENDS_EVERY: Duration = Duration::from_secs(300);

impl Reading {
    fn from(positions: Cut) -> Reading {
        Reading { reader: None, undecoded: None, positions, ends_told: now() }
    }
}

#[allow(clippy::disallowed_methods, reason = "paces questions to the log, and reaches no row")]
fn now() -> Instant {
    Instant::now()
}

/// The columns of a source that some views need: theirs, and the event time.
pub fn columns<'a>(source: &Source, views: impl Iterator<Item = &'a View>) -> Result<Vec<usize>, EngineError> {
    let event_time = arrow_schema(&source.schema_json)?.index_of(&source.event_time)?;
    let mut columns: Vec<usize> = views.flat_map(|view| view.source_columns.iter().copied()).collect();
    columns.push(event_time);
    columns.sort_unstable();
    columns.dedup();
    Ok(columns)
}

fn pass(settings: &FeedSettings, decoder: &mut Decoder, reading: &mut Reading, served: &mut Vec<Served>) -> Result<(), EngineError> {
    let Some(records) = next_records(settings, reading, served)? else { return Ok(()) };
    let partition = records.partition;
    let from = reading.positions.position(partition);
    let decoded = match decoder.decode(&records) {
        Ok(decoded) => decoded,
        Err(error) => {
            // They were taken from the reader: they wait here for the next pass.
            reading.undecoded = Some(records);
            return Err(error.into());
        }
    };
    reading.positions.set(partition, records.next);
    let chunk = Arc::new(Chunk { from, records, decoded });
    let mut index = 0;
    while let Some(consumer) = served.get_mut(index) {
        match consumer.take(&chunk) {
            Ok(true) => index += 1,
            Ok(false) => drop(served.swap_remove(index)),
            // What one view cannot do is no reason for the others to stop.
            Err(error) => {
                let failed = served.swap_remove(index);
                tracing::error!(view = failed.consumer.view.name, %error, "a view cannot be mapped");
                let _ = failed.consumer.sender.send(Message::Failed(error));
            }
        }
    }
    Ok(())
}

/// The records to decode next. `None`: there are none at the moment, and the consumers were told so.
fn next_records(settings: &FeedSettings, reading: &mut Reading, served: &mut Vec<Served>) -> Result<Option<Records>, EngineError> {
    if let Some(records) = reading.undecoded.take() {
        return Ok(Some(records));
    }
    if reading.ends_told.elapsed() > ASK_FOR_ENDS_EVERY {
        reading.ends_told = now();
        // Up to the first that cannot be asked for: each may wait for long.
        let end = |partition: &Partition| Some((*partition, settings.log.bounds(&settings.source.topic, *partition).ok()?.end));
        tell_ends(served, settings.partitions.iter().map_while(end).collect());
    }
    let Some(reader) = &mut reading.reader else {
        let bounds = settings.partitions.iter().map(|partition| Ok((*partition, settings.log.bounds(&settings.source.topic, *partition)?)));
        let bounds = bounds.collect::<Result<Vec<_>, EngineError>>()?;
        tell_ends(served, bounds.iter().map(|(partition, bounds)| (*partition, bounds.end)).collect());
        check_same_log(settings, served, &reading.positions, &bounds)?;
        reading.reader = Some(settings.log.reader(&settings.source.topic, &reading.positions)?);
        return Ok(None);
    };
    match reader.read(settings.chunk_bytes, READ_WAIT) {
        Ok(Some(records)) => Ok(Some(records)),
        Ok(None) => {
            reading.ends_told = now();
            // Every partition is read to its end, so the positions are the ends: nobody has to be asked for them.
            tell_ends(served, settings.partitions.iter().map(|partition| (*partition, reading.positions.position(*partition))).collect());
            Ok(None)
        }
        Err(error) => {
            reading.reader = None;
            Err(error.into())
        }
    }
}

/// Whether the log is the one that was read before: the last record of each partition that was taken is still where it was, unless it is gone.
/// A topic that was made anew, or a log that lost what it had acknowledged, would else be gone on with as if nothing had happened.
fn check_same_log(settings: &FeedSettings, served: &[Served], positions: &Cut, bounds: &[(Partition, Bounds)]) -> Result<(), EngineError> {
    let topic = &settings.source.topic;
    let mut expected = BTreeMap::new();
    for (partition, bounds) in bounds {
        let position = positions.position(*partition);
        let there = served.iter().filter_map(|served| served.before.get(partition)).find(|before| before.position == position);
        let Some(last) = there.and_then(|before| before.time.last) else { continue };
        if (bounds.start..bounds.end).contains(&last.offset) {
            expected.insert(*partition, last);
        }
    }
    let from: Cut = expected.iter().map(|(partition, last)| (*partition, last.offset)).collect();
    let mut reader = if expected.is_empty() { return Ok(()) } else { settings.log.reader(topic, &from)? };
    while !expected.is_empty() {
        let Some(records) = reader.read(1, READ_WAIT)? else { return Ok(()) };
        let Some(last) = expected.remove(&records.partition) else { continue };
        let found = records.spans.first().map(|span| LastRecord::of(&records, span)).filter(|found| found.offset == last.offset);
        if found.is_some_and(|found| found != last) {
            return Err(LogError::Replaced { topic: topic.clone(), partition: records.partition, offset: last.offset }.into());
        }
    }
    Ok(())
}

fn tell_ends(served: &mut Vec<Served>, ends: Vec<(Partition, Offset)>) {
    served.retain(|served| served.consumer.sender.send(Message::Ends(ends.clone())).is_ok());
}

/// The positions of whoever is furthest behind, partition by partition.
fn earliest_of(served: &[Served], partitions: &[Partition]) -> Cut {
    let position = |served: &Served, partition| served.before.get(&partition).map_or(Offset(0), |before| before.position);
    let earliest = |partition| served.iter().map(|served| position(served, partition)).min().unwrap_or_default();
    partitions.iter().map(|partition| (*partition, earliest(*partition))).collect()
}

impl Served {
    fn new(consumer: Consumer, partitions: &[Partition]) -> Result<Served, EngineError> {
        let mapper = ChunkMapper::new(&consumer.view, consumer.rules.clone(), consumer.shards)?;
        let before = partitions
            .iter()
            .map(|partition| {
                let time = consumer.times.get(partition).copied().unwrap_or_default();
                (*partition, Before { position: consumer.cut.position(*partition), time, dropped_to_us: None })
            })
            .collect();
        Ok(Served { consumer, mapper, before })
    }

    /// Maps a chunk and hands it over. `false`: the consumer is gone.
    fn take(&mut self, chunk: &Arc<Chunk>) -> Result<bool, EngineError> {
        let partition = chunk.partition();
        let before = self.before.entry(partition).or_default();
        if chunk.records.next <= before.position {
            return Ok(true);
        }
        let dropped_to_us = self.consumer.dropped_to_us.load(Ordering::Relaxed);
        before.dropped_to_us = (dropped_to_us != i64::MIN).then_some(dropped_to_us);
        let mapped = self.mapper.map(chunk, *before)?;
        before.time = mapped.time;
        before.position = chunk.records.next;
        Ok(self.consumer.sender.send(Message::Mapped(Box::new(mapped))).is_ok())
    }
}

/// Waits that grow from 50 ms to 5 s.
#[derive(Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Waits; not for long when `stop` is set.
    pub fn wait(&mut self, stop: &AtomicBool) {
        let steps = 1u32 << self.failures.min(7);
        self.failures += 1;
        for _ in 0..steps.min(100) {
            std::thread::sleep(Duration::from_millis(50));
            if stop.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}
