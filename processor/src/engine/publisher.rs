//! Publishing changes of rows, behind the writer: a bounded queue, and a thread of its own where the feed may block.
//!
//! Rows count as written when the store has them. The change feed lags behind and holds nobody up: a feed that refuses, or that lags by more
//! than the queue takes, loses what waits. Once it works again its followers are told to begin anew, before anything else: they read the rows
//! from the store, which has them, and go on with what is published from then on. An owner begins so too, since nobody knows what the one
//! before had not published yet.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::shares::Shares;
use super::status::{RunStatus, timed};
use super::timing::TimedStep;
use crate::backoff::Backoff;
use crate::changes::ChangeFeed;
use crate::log::LogError;
use crate::recovery::Recovery;
use crate::store::{Progress, RowBatch};
use crate::table::Table;

/// Publications that wait are a few rows each, mostly; of those without rows only the last is kept.
const MOST_WAITING: usize = 1_000;
/// Publications that wait are put together to about so many rows.
const ROWS_AT_ONCE: usize = 5_000;
/// What waits may take this part of what rows that wait to be written may.
const PART_OF_QUEUE: usize = 4;
/// How long a stop waits for what is still to be published.
const CLOSE_WAIT: Duration = Duration::from_secs(2);
/// Pauses after an error that an operator has to act on. Each ends with a new snapshot for every follower, if the feed works again.
const LASTING_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The changes of one table that are to be published.
pub struct Publications {
    changes: Arc<dyn ChangeFeed>,
    table: Table,
    keep_us: Option<i64>,
    shares: Arc<Shares>,
    status: Arc<Mutex<RunStatus>>,
    queue: Mutex<Queue>,
    changed: Condvar,
}

struct Queue {
    waiting: VecDeque<Publication>,
    bytes: usize,
    /// Whether followers may have missed changes, and have to be told so before anything else.
    has_gap: bool,
    /// How far the table is.
    latest: Option<Progress>,
    is_created: bool,
    is_closing: bool,
    is_published: bool,
}

impl Queue {
    /// Whether there is nothing to publish.
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && !(self.has_gap && self.latest.is_some())
    }
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// There was nothing to publish.
    Nothing,
    /// Followers were told to begin anew.
    Anew,
    /// Changes were published.
    Changes,
}

#[derive(Default)]
struct Publication {
    rows: Vec<RowBatch>,
    progress: Progress,
    bytes: usize,
}

impl Publications {
    /// Nothing yet. Changes of the table need not be kept for longer than `keep_us`.
    pub fn new(
        changes: Arc<dyn ChangeFeed>,
        table: Table,
        keep_us: Option<i64>,
        shares: Arc<Shares>,
        status: Arc<Mutex<RunStatus>>,
    ) -> Publications {
        let queue = Queue {
            waiting: VecDeque::new(),
            bytes: 0,
            has_gap: true,
            latest: None,
            is_created: false,
            is_closing: false,
            is_published: true,
        };
        Publications { changes, table, keep_us, shares, status, queue: Mutex::new(queue), changed: Condvar::new() }
    }

    /// Takes rows that are in the store, to be published behind those that were offered before.
    fn offer(&self, rows: Vec<RowBatch>, progress: Progress) {
        let mut queue = self.queue.lock();
        queue.latest = Some(progress.clone());
        queue.is_published = false;
        let bytes: usize = rows.iter().map(size).sum();
        if queue.has_gap {
            // They are in the store, and followers will read it.
        } else if rows.is_empty()
            && let Some(last) = queue.waiting.back_mut()
        {
            last.progress = progress;
        } else if !queue.waiting.is_empty() && (queue.bytes + bytes > self.most_bytes() || queue.waiting.len() >= MOST_WAITING) {
            self.lose(&mut queue, true);
            let most = self.most_bytes();
            let text =
                format!("the change feed lags behind by more than {most} bytes of rows: its followers will read them from the view store");
            tracing::warn!(table = self.table.name(), "{text}");
            self.status.lock().feed_error.get_or_insert(text);
        } else {
            queue.bytes += bytes;
            queue.waiting.push_back(Publication { rows, progress, bytes });
        }
        drop(queue);
        self.changed.notify_all();
    }

    fn most_bytes(&self) -> usize {
        self.shares.queue() / PART_OF_QUEUE
    }

    /// Publishes what is next.
    ///
    /// # Errors
    /// Those of the feed. What could not be published comes again with the next step after a transient one; after another it is lost, and
    /// followers will be told so.
    pub fn step(&self) -> Result<Published, LogError> {
        let Some((is_anew, publication)) = self.take() else { return Ok(Published::Nothing) };
        // What one feed cannot do is no reason to leave the others, nor this one, without a thread.
        let published = std::panic::catch_unwind(AssertUnwindSafe(|| self.publish(is_anew, &publication)));
        let published = published.unwrap_or_else(|_| Err(LogError::Broken("publishing changes of rows panicked".into())));
        self.settle(is_anew, publication, &published);
        published.map(|()| if is_anew { Published::Anew } else { Published::Changes })
    }

    /// The next publication, and whether it tells followers to begin anew.
    fn take(&self) -> Option<(bool, Publication)> {
        let mut queue = self.queue.lock();
        if queue.has_gap {
            let progress = queue.latest.clone()?;
            // What is offered from now on comes behind this one.
            queue.has_gap = false;
            return Some((true, Publication { progress, ..Publication::default() }));
        }
        let mut next = queue.waiting.pop_front()?;
        let count = |publication: &Publication| publication.rows.iter().map(|batch| batch.rows.num_rows()).sum::<usize>();
        let mut rows = count(&next);
        while let Some(more) = queue.waiting.pop_front_if(|more| rows + count(more) <= ROWS_AT_ONCE) {
            rows += count(&more);
            next.rows.extend(more.rows);
            (next.progress, next.bytes) = (more.progress, next.bytes + more.bytes);
        }
        Some((false, next))
    }

    fn publish(&self, is_anew: bool, publication: &Publication) -> Result<(), LogError> {
        self.create()?;
        timed(&self.status, TimedStep::Publish, || match is_anew {
            true => self.changes.begin_anew(&self.table, &publication.progress),
            false => self.changes.publish(&self.table, &publication.rows, &publication.progress),
        })
    }

    fn create(&self) -> Result<(), LogError> {
        if !self.queue.lock().is_created {
            self.changes.create(&self.table, self.keep_us)?;
            self.queue.lock().is_created = true;
        }
        Ok(())
    }

    fn settle(&self, is_anew: bool, publication: Publication, published: &Result<(), LogError>) {
        let mut queue = self.queue.lock();
        match published {
            Ok(()) => {
                queue.bytes = queue.bytes.saturating_sub(publication.bytes);
                queue.is_published = queue.waiting.is_empty() && !queue.has_gap;
            }
            Err(error) if !is_anew && !queue.has_gap && error.recovery() == Recovery::Transient => queue.waiting.push_front(publication),
            Err(_) => self.lose(&mut queue, !is_anew),
        }
        let mut status = self.status.lock();
        match published {
            Err(error) => status.feed_error = Some(error.to_string()),
            Ok(()) if !queue.has_gap => status.feed_error = None,
            Ok(()) => {}
        }
    }

    fn lose(&self, queue: &mut Queue, is_new_gap: bool) {
        queue.waiting.clear();
        queue.bytes = 0;
        queue.has_gap = true;
        self.status.lock().feed_gaps += u64::from(is_new_gap);
    }

    /// Whether followers have everything that was offered.
    pub fn is_published(&self) -> bool {
        self.queue.lock().is_published
    }

    /// Publishes what is offered until it is closed; then what is left, unless that fails.
    fn run(&self) {
        let (mut passing, mut lasting) = (Backoff::default(), Backoff::new(LASTING_PAUSES.0, LASTING_PAUSES.1));
        loop {
            match self.step() {
                Ok(Published::Changes) => {
                    passing.reset();
                    lasting.reset();
                }
                // What comes next may fail as what came before did.
                Ok(Published::Anew) => passing.reset(),
                Ok(Published::Nothing) if self.wait() => return,
                Ok(Published::Nothing) => {}
                Err(error) => {
                    let is_transient = error.recovery() == Recovery::Transient;
                    tracing::warn!(table = self.table.name(), %error, "changes are not published");
                    let pause = if is_transient { passing.pause() } else { lasting.pause() };
                    if self.pause(pause) {
                        return;
                    }
                }
            }
        }
    }

    /// Waits for something to publish. Answers whether there is nothing, and it is closed.
    fn wait(&self) -> bool {
        let mut queue = self.queue.lock();
        self.changed.wait_while(&mut queue, |queue| !queue.is_closing && queue.is_idle());
        queue.is_idle()
    }

    /// Waits for this long. Answers whether it is closed.
    fn pause(&self, time: Duration) -> bool {
        let mut queue = self.queue.lock();
        self.changed.wait_while_for(&mut queue, |queue| !queue.is_closing, time);
        queue.is_closing
    }

    /// Ends: with what waits, or without.
    fn close(&self, with_what_waits: bool) {
        let mut queue = self.queue.lock();
        queue.is_closing = true;
        if !with_what_waits {
            queue.waiting.clear();
            (queue.has_gap, queue.latest) = (true, None);
        }
        drop(queue);
        self.changed.notify_all();
    }
}

fn size(batch: &RowBatch) -> usize {
    batch.rows.get_array_memory_size() + batch.written_at.len() * (size_of::<i64>() + size_of::<bool>())
}

/// Who carries publications out.
enum Carrier {
    /// Whoever offers them: the feed never blocks.
    Offering,
    /// A thread, once there is something to publish.
    Thread(Option<JoinHandle<()>>),
    /// Whoever drives a simulation.
    Simulation,
}

/// Takes the changes of one table and sees that they are published.
pub struct Publisher {
    publications: Arc<Publications>,
    carrier: Carrier,
    has_begun: bool,
}

impl Publisher {
    /// A publisher that holds nobody up.
    pub fn new(publications: Publications) -> Publisher {
        let carrier = if publications.changes.may_block() { Carrier::Thread(None) } else { Carrier::Offering };
        // Otherwise it is made by the thread, with the first publication: until then nobody can follow.
        if matches!(carrier, Carrier::Offering)
            && let Err(error) = publications.create()
        {
            tracing::warn!(table = publications.table.name(), %error, "the change feed is not made; trying again with the first change");
        }
        Publisher { publications: Arc::new(publications), carrier, has_begun: false }
    }

    /// One whose steps a simulation takes.
    pub fn simulated(publications: Arc<Publications>) -> Publisher {
        Publisher { publications, carrier: Carrier::Simulation, has_begun: false }
    }

    /// Whether anything was offered.
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Publishes rows that are in the store, or only how far it is.
    pub fn publish(&mut self, rows: Vec<RowBatch>, progress: Progress) {
        self.has_begun = true;
        self.publications.offer(rows, progress);
        match &mut self.carrier {
            Carrier::Offering => while matches!(self.publications.step(), Ok(Published::Anew | Published::Changes)) {},
            Carrier::Thread(thread @ None) => {
                let publications = self.publications.clone();
                let name = format!("publish-{}", publications.table.name());
                match std::thread::Builder::new().name(name).spawn(move || publications.run()) {
                    Ok(started) => *thread = Some(started),
                    Err(error) => tracing::warn!(%error, "no thread to publish changes; trying again with the next ones"),
                }
            }
            Carrier::Thread(Some(_)) | Carrier::Simulation => {}
        }
    }

    /// Ends: with what waits, for a moment, or without it. A feed that does not answer is left to itself.
    #[allow(clippy::disallowed_methods, reason = "bounds how long a stop takes, and reaches no row")]
    pub fn finish(&mut self, with_what_waits: bool) {
        self.publications.close(with_what_waits);
        let Carrier::Thread(Some(thread)) = std::mem::replace(&mut self.carrier, Carrier::Simulation) else { return };
        let since = std::time::Instant::now();
        while !thread.is_finished() && since.elapsed() < CLOSE_WAIT {
            std::thread::sleep(CLOSE_LOOK);
        }
        if thread.is_finished() {
            let _ = thread.join();
        }
    }
}

/// How often it is seen whether the thread has ended.
const CLOSE_LOOK: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests;
