//! The feeds of one worker: which threads read, and which of them others may join.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, unbounded};
use parking_lot::Mutex;

use super::served::Served;
use super::{Consumer, run};
use crate::decode::SchemaLookup;
use crate::engine::error::EngineError;
use crate::log::Log;
use crate::position::Partition;
use crate::source::Source;
use crate::stop::Stop;

/// What all feeds of a worker read from, and how.
pub struct FeedsSettings {
    /// The log.
    pub log: Arc<dyn Log>,
    /// Writer schemas.
    pub schemas: Arc<dyn SchemaLookup>,
    /// About how many bytes of records a chunk has.
    pub chunk_bytes: usize,
    /// Threads that read, decode and pre-aggregate, for each feed.
    pub threads: usize,
    /// Stops all feeds.
    pub stop: Stop,
}

/// The source and the partitions that a feed reads.
type Place = (String, Vec<Partition>);

/// The feeds of one worker.
pub struct Feeds {
    pub(super) settings: FeedsSettings,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Where versions join the shared feeds. A feed leaves with the lock held, so that no version is sent to one that has ended.
    shared: Mutex<BTreeMap<Place, Sender<Served>>>,
}

impl Feeds {
    /// No feed yet.
    pub fn new(settings: FeedsSettings) -> Arc<Feeds> {
        Arc::new(Feeds { settings, threads: Mutex::default(), shared: Mutex::default() })
    }

    /// Starts a feed of `partitions` for versions that are at about the same place.
    ///
    /// # Errors
    /// When a view cannot be mapped.
    pub fn start(self: &Arc<Self>, source: &Source, partitions: &[Partition], consumers: &[Consumer]) -> Result<(), EngineError> {
        let threads = self.settings.threads.clamp(1, partitions.len().max(1));
        for thread in 0..threads {
            let partitions: Vec<Partition> = partitions.iter().copied().skip(thread).step_by(threads).collect();
            let served = consumers.iter().map(|consumer| Served::new(consumer.share(), &partitions)).collect::<Result<Vec<_>, _>>()?;
            self.start_private(source, &partitions, served);
        }
        Ok(())
    }

    /// Waits for the threads to end, after a stop.
    pub fn join(&self) {
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            let _ = thread.join();
        }
    }

    /// How many threads read.
    pub fn count(&self) -> usize {
        self.threads.lock().iter().filter(|thread| !thread.is_finished()).count()
    }

    /// A feed for these versions alone, until it has read to the end of the log.
    pub(super) fn start_private(self: &Arc<Self>, source: &Source, partitions: &[Partition], served: Vec<Served>) {
        let (feeds, source, partitions) = (self.clone(), source.clone(), partitions.to_vec());
        let name = format!("feed-{}", source.name);
        let mut threads = self.threads.lock();
        threads.retain(|thread| !thread.is_finished());
        match std::thread::Builder::new().name(name).spawn(move || run(feeds, source, partitions, served)) {
            Ok(thread) => threads.push(thread),
            // Dropped with the thread's work, the versions are opened again.
            Err(error) => tracing::error!(%error, "a thread to read the log cannot be started"),
        }
    }

    /// Hands versions over to the shared feed of their partitions; where there is none, the caller's feed becomes it, and others join it by
    /// what this answers.
    pub(super) fn share(&self, source: &Source, partitions: &[Partition], served: &mut Vec<Served>) -> Option<Receiver<Served>> {
        let mut shared = self.shared.lock();
        let place = (source.name.clone(), partitions.to_vec());
        if let Some(sender) = shared.get(&place) {
            for one in std::mem::take(served) {
                if let Err(refused) = sender.send(one) {
                    served.push(refused.into_inner());
                }
            }
            if served.is_empty() {
                return None;
            }
        }
        // None yet, or its thread panicked.
        let (sender, joining) = unbounded();
        shared.insert(place, sender);
        Some(joining)
    }

    /// Ends a shared feed whatever it serves: nobody can join it any more. Answers with the versions that have joined by now.
    pub(super) fn leave(&self, source: &Source, partitions: &[Partition], joining: &Receiver<Served>) -> Vec<Served> {
        let mut shared = self.shared.lock();
        shared.remove(&(source.name.clone(), partitions.to_vec()));
        joining.try_iter().collect()
    }

    /// Answers with the versions that have joined a feed by now. Where there are none, nobody can join it any more.
    pub(super) fn end_shared(&self, source: &Source, partitions: &[Partition], joining: &Receiver<Served>) -> Vec<Served> {
        let mut shared = self.shared.lock();
        let late: Vec<Served> = joining.try_iter().collect();
        if late.is_empty() {
            shared.remove(&(source.name.clone(), partitions.to_vec()));
        }
        late
    }
}
