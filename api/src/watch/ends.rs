//! Where the logs of the sources end, as they were seen last: asked for once a second, whoever wants to know.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use refold_processor::clock::Clock;
use refold_processor::log::{Bounds, Log, Retained};
use refold_processor::position::{Offset, Partition};
use refold_processor::source::{Source, Sources};
use refold_versions::retention::{Beginning, beginning};

use crate::problem::Problem;
use crate::rates::Growth;

/// Partitions of one topic whose ends are requested per second; larger topics are polled less often than once a second.
const PARTITIONS_A_SECOND: usize = 64;

/// Start and end of one partition of a source's log.
#[derive(Clone)]
pub struct End {
    /// The source.
    pub source: String,
    /// Its topic.
    pub topic: String,
    /// The partition.
    pub partition: Partition,
    /// Where it starts and ends.
    pub bounds: Bounds,
}

/// Why the ends of a topic, or of one of its partitions, could not be asked for.
struct Trouble {
    why: Problem,
    /// The topic as a whole cannot be reached for now.
    is_unavailable: bool,
    since_ms: i64,
}

/// Where logs were last seen to end.
pub struct Ends {
    log: Arc<dyn Log>,
    sources: Sources,
    clock: Arc<dyn Clock>,
    last: Mutex<Vec<End>>,
    /// Whoever asks for them holds this.
    asking: Mutex<()>,
    /// When each topic was polled last.
    asked: Mutex<BTreeMap<String, Instant>>,
    /// Topics that had trouble when they were asked last.
    trouble: Mutex<BTreeMap<String, Trouble>>,
    /// How fast the log of each source grows.
    growth: Mutex<BTreeMap<String, Growth>>,
    /// How long topics keep their records, and when that was asked.
    retained: Mutex<BTreeMap<String, (Instant, Option<Retained>)>>,
}

/// How often a log is asked how long it keeps records: it has to read some for that.
const RETAINED_EVERY: Duration = Duration::from_secs(60);

impl Ends {
    /// Nothing is known yet.
    pub fn new(log: Arc<dyn Log>, sources: Sources, clock: Arc<dyn Clock>) -> Ends {
        Ends {
            log,
            sources,
            clock,
            last: Mutex::default(),
            asking: Mutex::default(),
            asked: Mutex::default(),
            trouble: Mutex::default(),
            growth: Mutex::default(),
            retained: Mutex::default(),
        }
    }

    /// Asks the log where it ends, and notes what is wrong where that cannot be asked. May take long when it is unavailable: whoever else asks
    /// meanwhile gets what was seen last.
    pub fn look(&self) -> Vec<End> {
        let Some(_asking) = self.asking.try_lock() else { return self.seen() };
        let mut ends = Vec::new();
        for source in self.sources.values() {
            let trouble = self.ask(source, &mut ends).err();
            let now_ms = self.clock.now_ms();
            let mut noted = self.trouble.lock();
            match trouble {
                Some(trouble) => {
                    let since_ms = noted.get(&source.topic).map_or(now_ms, |before| before.since_ms);
                    noted.insert(source.topic.clone(), Trouble { since_ms, ..trouble });
                }
                None => {
                    noted.remove(&source.topic);
                    let end = ends.iter().filter(|end| end.source == source.name).map(|end| end.bounds.end.0).sum();
                    self.growth.lock().entry(source.name.clone()).or_default().note(now_ms, end);
                    drop(noted);
                    self.ask_retained(&source.topic);
                }
            }
        }
        (*self.last.lock()).clone_from(&ends);
        ends
    }

    /// What was seen last.
    pub fn seen(&self) -> Vec<End> {
        self.last.lock().clone()
    }

    /// Where a topic was last seen to end.
    pub fn of(&self, topic: &str) -> BTreeMap<Partition, Offset> {
        let seen = self.last.lock();
        seen.iter().filter(|end| end.topic == topic).map(|end| (end.partition, end.bounds.end)).collect()
    }

    /// Events a second that came into the log of a source lately; `None` before that is known.
    pub fn events_per_s(&self, source: &str) -> Option<f64> {
        self.growth.lock().get(source).and_then(|growth| growth.per_s(self.clock.now_ms()))
    }

    /// Events a second that came into a topic lately; `None` before that is known.
    pub fn arrival_per_s(&self, topic: &str) -> Option<f64> {
        let source = self.sources.values().find(|source| source.topic == topic)?;
        self.events_per_s(&source.name)
    }

    /// How long a topic keeps its records; `None` before that is known.
    pub fn retained(&self, topic: &str) -> Option<Retained> {
        self.retained.lock().get(topic).and_then(|(_, retained)| *retained)
    }

    /// Whether the first records of a topic are there; `None` before that is known.
    pub fn beginning(&self, topic: &str) -> Option<Beginning> {
        let seen = self.last.lock();
        let mut of_topic = seen.iter().filter(|end| end.topic == topic).peekable();
        of_topic.peek()?;
        let is_whole = of_topic.all(|end| end.bounds.start == Offset(0));
        Some(beginning(is_whole, &self.retained(topic).unwrap_or_default(), self.clock.now_ms()))
    }

    /// Without an answer, as where a right is missing, nothing is known.
    fn ask_retained(&self, topic: &str) {
        if self.retained.lock().get(topic).is_some_and(|(at, _)| at.elapsed() < RETAINED_EVERY) {
            return;
        }
        let retained =
            self.log.retained(topic).inspect_err(|error| tracing::debug!(topic, %error, "how long it keeps records is not known"));
        self.retained.lock().insert(topic.to_owned(), (Instant::now(), retained.ok()));
    }

    /// What was wrong with a topic when it was asked last where it ends, for people, and since when.
    pub fn trouble_of(&self, topic: &str) -> Option<(String, i64)> {
        self.trouble.lock().get(topic).map(|trouble| (trouble.why.detail().to_owned(), trouble.since_ms))
    }

    /// Why a topic can take nothing for now, as far as that is known.
    pub fn unavailable(&self, topic: &str) -> Option<Problem> {
        self.trouble.lock().get(topic).filter(|trouble| trouble.is_unavailable).map(|trouble| trouble.why.clone())
    }

    /// Whether any topic had trouble when it was asked last.
    pub fn has_trouble(&self) -> bool {
        !self.trouble.lock().is_empty()
    }

    /// Whether a topic with this number of partitions is due to be polled.
    fn is_due(&self, topic: &str, partitions: usize) -> bool {
        let mut asked = self.asked.lock();
        let pace = Duration::from_secs((partitions / PARTITIONS_A_SECOND) as u64);
        if asked.get(topic).is_some_and(|at| at.elapsed() < pace) {
            return false;
        }
        asked.insert(topic.to_owned(), Instant::now());
        true
    }

    /// Adds where a source's log ends; partitions that cannot be asked are where they were.
    fn ask(&self, source: &Source, ends: &mut Vec<End>) -> Result<(), Trouble> {
        let topic = &source.topic;
        let before: Vec<End> = self.last.lock().iter().filter(|end| end.source == source.name).cloned().collect();
        let is_well = !self.trouble.lock().contains_key(topic);
        if is_well && !self.is_due(topic, before.len()) {
            ends.extend(before);
            return Ok(());
        }
        let end = |partition, bounds| End { source: source.name.clone(), topic: topic.clone(), partition, bounds };
        // First, so that a topic which is unavailable as a whole is known to be so after one timeout.
        let partitions = match self.log.partitions(topic) {
            Ok(partitions) => partitions,
            Err(error) => {
                ends.extend(before);
                return Err(Trouble { is_unavailable: error.is_retryable(), why: error.into(), since_ms: 0 });
            }
        };
        let error = match self.log.topic_bounds(topic) {
            Ok(bounds) => {
                ends.extend(bounds.into_iter().map(|(partition, bounds)| end(partition, bounds)));
                return Ok(());
            }
            Err(error) => error,
        };
        for partition in partitions {
            match self.log.bounds(topic, partition) {
                Ok(bounds) => ends.push(end(partition, bounds)),
                Err(_) => ends.extend(before.iter().filter(|end| end.partition == partition).cloned()),
            }
        }
        Err(Trouble { is_unavailable: false, why: error.into(), since_ms: 0 })
    }
}
