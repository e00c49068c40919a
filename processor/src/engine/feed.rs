//! Reading the log for some versions of views at once: read, decode, and map each chunk for every one of them.
//!
//! One thread serves some of the partitions of a source. Per partition everything is in log order; between partitions there is none.
//!
//! Versions at about the same place share one feed, so that each record is read and decoded once. A version that is behind has a feed of its
//! own until that has read the log to its end; then it joins the shared one. A version whose fold does not keep up leaves the shared feed, so
//! that it holds up nobody else. [`Feeds`] knows all feeds of a worker.

mod reading;
mod registry;
mod served;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use self::reading::{Read, Reading};
pub use self::registry::{Feeds, FeedsSettings};
use self::served::{Handed, Served};
use super::error::EngineError;
use super::map::{Chunk, Mapped, Rules};
use super::pace::{Limit, On, Pace};
use super::watermark::PartitionTime;
use crate::backoff::Backoff;
use crate::decode::{Decoder, arrow_schema};
use crate::log::LogError;
use crate::position::{Cut, Offset, Partition};
use crate::recovery::Recovery;
use crate::source::Source;
use crate::stop::Stop;
use crate::view::View;

/// What a fold receives from the threads that read for it.
pub enum Message {
    /// A chunk was mapped.
    Mapped(Box<Mapped>),
    /// Where the logs of some partitions end now.
    Ends(Vec<(Partition, Offset)>),
    /// Reading is retried, and why it failed; until the next message of another kind.
    Waiting(String),
    /// Reading cannot go on.
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
    /// The partitions of which nothing more is for the version.
    pub ended: BTreeSet<Partition>,
    /// How fast it may be read for.
    pub pace: Arc<Pace>,
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
            ended: self.ended.clone(),
            pace: self.pace.clone(),
            dropped_to_us: self.dropped_to_us.clone(),
            sender: self.sender.clone(),
        }
    }
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

/// How long a read waits for new records before the feed looks at whatever else there is to do.
const READ_WAIT: Duration = Duration::from_millis(100);

/// Versions that are at most this many events apart in the log are read for together; those that are further get nothing until the feed has
/// reached them, which takes far less than a second.
pub(super) const NEAR_EVENTS: u64 = 20_000;

/// A feed that others may join lets go of a version that takes nothing for this long.
const PATIENCE_WHEN_SHARED: Duration = Duration::from_secs(1);
/// While a log is read from far back every fold is the bottleneck now and then, and reading apart would decode everything again.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a feed that may not read looks whether it may, or is not needed any more.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// One thread that reads some partitions of a source.
struct Feed {
    feeds: Arc<Feeds>,
    source: Source,
    partitions: Vec<Partition>,
    stop: Stop,
    served: Vec<Served>,
    reading: Reading,
    decoder: Decoder,
    columns: Vec<usize>,
    /// Versions that join; a feed without it is not shared.
    joining: Option<Receiver<Served>>,
}

/// Serves `served` until it is stopped, until none is left, or until the log cannot be read on.
fn run(feeds: Arc<Feeds>, source: Source, partitions: Vec<Partition>, served: Vec<Served>) {
    let mut senders: Vec<Sender<Message>> = served.iter().map(|served| served.consumer.sender.clone()).collect();
    let name = source.name.clone();
    let ended = match Feed::new(feeds, source, partitions, served) {
        Ok(mut feed) => {
            let ended = std::panic::catch_unwind(AssertUnwindSafe(|| feed.run()));
            senders = feed.leave();
            ended
        }
        Err(error) => Ok(Err(error)),
    };
    let (text, recovery) = match ended {
        Ok(Ok(())) => return,
        Ok(Err(error)) => (error.to_string(), error.recovery()),
        Err(_) => ("the thread that reads the log panicked; see the log of this process".to_owned(), Recovery::Operator),
    };
    tracing::error!(source = name, error = text, "reading the log failed");
    for sender in senders {
        // A consumer that is gone needs no news.
        let _ = sender.send(Message::Failed(EngineError::Unreadable { text: text.clone(), recovery }));
    }
}

impl Feed {
    fn new(feeds: Arc<Feeds>, source: Source, partitions: Vec<Partition>, served: Vec<Served>) -> Result<Feed, EngineError> {
        let columns = columns(&source, served.iter().map(|served| served.consumer.view.as_ref()))?;
        let decoder = Decoder::new(&source, &columns, feeds.settings.schemas.clone())?;
        let reading = Reading::new(&served, &partitions);
        let stop = feeds.settings.stop.clone();
        Ok(Feed { feeds, source, partitions, stop, served, reading, decoder, columns, joining: None })
    }

    fn run(&mut self) -> Result<(), EngineError> {
        let mut backoff = Backoff::default();
        while !self.stop.is_stopped() && self.goes_on()? {
            self.part();
            if self.has_to_wait() {
                continue;
            }
            match self.pass() {
                Ok(()) => {
                    if backoff.failures() > 0 {
                        tracing::info!(source = self.source.name, "reading goes on");
                    }
                    backoff.reset();
                }
                Err(EngineError::Log(LogError::Hole { topic, partition, log_start, .. })) => {
                    // Those that are further can go on from where they are.
                    let hole = |position| LogError::Hole { topic: topic.clone(), partition, position, log_start };
                    self.served.retain(|served| {
                        let Some(at) = served.position(partition) else { return true };
                        if at < log_start {
                            served.refuse(hole(at));
                        }
                        at >= log_start
                    });
                    self.reading = Reading::new(&self.served, &self.partitions);
                    self.reading.skip_to(partition, log_start);
                }
                Err(error) => {
                    let recovery = error.recovery();
                    let pause = match recovery {
                        Recovery::Transient => backoff.pause(),
                        Recovery::Operator => backoff.long_pause(),
                        Recovery::Final => return Err(error),
                    };
                    tracing::warn!(source = self.source.name, %error, %recovery, "reading is retried");
                    let why = error.to_string();
                    self.served.retain(|served| served.offer(Message::Waiting(why.clone())));
                    self.stop.wait(pause);
                }
            }
        }
        Ok(())
    }

    /// Takes in versions that join. `false`: nobody is served any more, nor joins.
    fn goes_on(&mut self) -> Result<bool, EngineError> {
        self.served.retain(|served| !served.is_over());
        let Some(joining) = &self.joining else { return Ok(!self.served.is_empty()) };
        let mut joined: Vec<Served> = joining.try_iter().collect();
        if self.served.is_empty() && joined.is_empty() {
            joined = self.feeds.end_shared(&self.source, &self.partitions, joining);
        }
        if self.served.is_empty() && joined.is_empty() {
            return Ok(false);
        }
        if joined.is_empty() {
            return Ok(true);
        }
        let (near, far): (Vec<Served>, Vec<Served>) =
            joined.into_iter().partition(|served| self.served.is_empty() || self.reading.ahead_of(served) <= NEAR_EVENTS);
        if !far.is_empty() {
            self.feeds.start_private(&self.source, &self.partitions, far);
        }
        // A version that is a little behind would miss records that this feed has passed: they are read once more, and the others skip them.
        let is_rewound = self.served.is_empty() || near.iter().any(|served| self.reading.ahead_of(served) > 0);
        self.served.extend(near);
        if is_rewound {
            self.reading = Reading::new(&self.served, &self.partitions);
        }
        let columns = columns(&self.source, self.served.iter().map(|served| served.consumer.view.as_ref()))?;
        if columns != self.columns {
            self.decoder = Decoder::new(&self.source, &columns, self.feeds.settings.schemas.clone())?;
            self.columns = columns;
        }
        Ok(true)
    }

    /// Versions that are held back go on in feeds of their own: they must hold up nobody else.
    fn part(&mut self) {
        let (is_shared, is_alone) = (self.joining.is_some(), self.served.len() < 2);
        let has_unlimited = self.served.iter().any(|served| served.consumer.pace.limit() == Limit::None);
        let leaves = |served: &Served| match served.consumer.pace.limit() {
            Limit::Paused => is_shared || !is_alone,
            Limit::Rate(_) => !is_shared && !is_alone,
            // All that yield do so at the same rate.
            Limit::Yielding(_) => !is_shared && has_unlimited,
            Limit::None => false,
        };
        while let Some(index) = self.served.iter().position(leaves) {
            let parted = self.served.swap_remove(index);
            self.feeds.start_private(&self.source, &self.partitions, vec![parted]);
            if !is_shared && self.served.len() < 2 {
                return;
            }
        }
    }

    /// Waits for as long as the versions of this feed may not be read for, at most for a moment. `false`: they may. A feed that others may join reads what comes
    /// as it comes.
    #[allow(clippy::disallowed_methods, reason = "paces reads, and reaches no row")]
    fn has_to_wait(&mut self) -> bool {
        if self.joining.is_some() {
            return false;
        }
        let begun = Instant::now();
        let is_paused = self.served.iter().any(|served| served.consumer.pace.limit() == Limit::Paused);
        let wait = match is_paused {
            true => LOOK_EVERY,
            false => self.served.iter().map(|served| served.consumer.pace.wait(begun)).max().unwrap_or_default().min(LOOK_EVERY),
        };
        if wait.is_zero() {
            return false;
        }
        if is_paused {
            // What the log is asked for ahead takes memory, and a connection.
            self.reading = Reading::new(&self.served, &self.partitions);
        }
        self.stop.wait(wait);
        // One that has ended meanwhile is noticed by this.
        self.served.retain(|served| served.offer(Message::Ends(Vec::new())));
        self.spend(On::Throttled, begun.elapsed());
        true
    }

    fn spend(&self, on: On, time: Duration) {
        self.served.iter().for_each(|served| served.consumer.pace.spend(on, time));
    }

    #[allow(clippy::disallowed_methods, reason = "measured for people, and reaches no row")]
    fn pass(&mut self) -> Result<(), EngineError> {
        let settings = &self.feeds.settings;
        let begun = Instant::now();
        let read = self.reading.next(settings, &self.source, &self.partitions, &mut self.served)?;
        let reading = begun.elapsed();
        self.served.iter().for_each(|served| served.consumer.pace.spend(On::Reading, reading));
        let records = match read {
            Read::Records(records) => records,
            Read::Opened => return Ok(()),
            Read::AtEnd => {
                self.share();
                return Ok(());
            }
        };
        let partition = records.partition;
        let from = self.reading.position(partition);
        if self.served.iter().all(|served| served.position(partition).is_none()) {
            self.reading.passed(partition, records.next);
            return Ok(());
        }
        let begun = Instant::now();
        let decoded = match self.decoder.decode(&records) {
            Ok(decoded) => decoded,
            Err(error) => {
                // They were taken from the reader: they wait here for the next pass.
                self.reading.put_back(records);
                return Err(error.into());
            }
        };
        self.spend(On::Working, begun.elapsed());
        self.reading.passed(partition, records.next);
        let is_small = records.next >= records.end && records.spans.len() < SMALL_CHUNK;
        let chunk = Arc::new(Chunk::new(from, records, decoded));
        let mut mapping = Duration::ZERO;
        let mut index = 0;
        while let Some(served) = self.served.get_mut(index) {
            match served.take(&self.source.topic, &chunk, &mut mapping) {
                Ok(Handed::Taken) => index += 1,
                Ok(Handed::Gone) => drop(self.served.swap_remove(index)),
                Ok(Handed::Full(mapped)) => index += usize::from(self.wait_for(index, mapped)),
                // What one version cannot do is no reason for the others to stop.
                Err(error) => {
                    let failed = self.served.swap_remove(index);
                    tracing::error!(view = failed.consumer.view.name, %error, "a version is read for no more");
                    failed.refuse(error);
                }
            }
        }
        if self.reading.is_at_end() {
            self.share();
        }
        if is_small {
            self.stop.wait(pause_after(mapping));
        }
        Ok(())
    }

    /// Hands a chunk to a fold that is busy. `false`: it is not served here any more, because it ended, or because it takes so long that it
    /// goes on in a feed of its own.
    #[allow(clippy::disallowed_methods, reason = "measured for people, and reaches no row")]
    fn wait_for(&mut self, index: usize, mapped: Box<Mapped>) -> bool {
        let is_shared = self.joining.is_some();
        let mut patience = if is_shared { PATIENCE_WHEN_SHARED } else { PATIENCE };
        let mut mapped = mapped;
        loop {
            let Some(served) = self.served.get_mut(index) else { return false };
            let begun = Instant::now();
            let handed = served.hand_over(mapped, READ_WAIT);
            served.consumer.pace.spend(On::Working, begun.elapsed());
            mapped = match handed {
                Handed::Taken => return true,
                Handed::Gone => {
                    drop(self.served.swap_remove(index));
                    return false;
                }
                Handed::Full(mapped) => mapped,
            };
            patience = patience.saturating_sub(READ_WAIT);
            if self.stop.is_stopped() {
                return true;
            }
            if patience.is_zero() && (is_shared || self.served.len() > 1) {
                let slow = self.served.swap_remove(index);
                tracing::debug!(view = slow.consumer.view.name, "a version that does not keep up is read for apart");
                self.feeds.start_private(&self.source, &self.partitions, vec![slow]);
                return false;
            }
        }
    }

    /// Everything is read to the end of the log: from now on one feed is enough for all who are there.
    fn share(&mut self) {
        if self.joining.is_none() {
            self.joining = self.feeds.share(&self.source, &self.partitions, &mut self.served);
        }
    }

    /// Where those are reached who are served, or were about to be.
    fn leave(&mut self) -> Vec<Sender<Message>> {
        let mut left = std::mem::take(&mut self.served);
        if let Some(joining) = self.joining.take() {
            left.extend(self.feeds.leave(&self.source, &self.partitions, &joining));
        }
        left.iter().map(|served| served.consumer.sender.clone()).collect()
    }
}

/// The pause of a feed that has read a small chunk to the end of the log. Mapping one costs each version about the same whether it has one
/// record or a hundred, so where many versions share a feed it waits until more has come: mapping then takes a quarter of a thread's time,
/// however many they are.
fn pause_after(mapping: Duration) -> Duration {
    (mapping * PAUSE_PER_MAPPING).min(LONGEST_PAUSE)
}

/// Records of a chunk that is small.
const SMALL_CHUNK: usize = 256;

/// In units of what mapping took.
const PAUSE_PER_MAPPING: u32 = 3;

/// Rows become visible this much later at the most.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_chunks_take_a_quarter_of_a_feed_and_hold_no_row_up_for_long() {
        let mapping = Duration::from_millis(30);
        assert_eq!(mapping + pause_after(mapping), 4 * mapping);
        assert_eq!(pause_after(Duration::from_secs(1)), LONGEST_PAUSE);
    }
}
