//! The loop around one version's fold, and the thread that writes its rows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, select};
use parking_lot::Mutex;

use super::error::EngineError;
use super::faults::{Faults, Step};
use super::feed::Message;
use super::fold::Fold;
use super::meta::Meta;
use super::outbox::Outbox;
use super::shares::{CommitCost, Shares};
use super::status::{RunStatus, timed};
use super::timing::TimedStep;
use super::wake::Wake;
use super::writer::{Stepped, Writer};
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::position::{Offset, Partition};
use crate::recovery::Recovery;
use crate::stop::Stop;
use crate::store::Progress;

/// When a running version commits and sweeps.
#[derive(Clone, Debug)]
pub struct RunSettings {
    /// A live version commits this long after the first event of a commit, milliseconds; later while its store does not keep up, or where commits of many
    /// versions would leave no time for anything else.
    pub commit_interval_ms: u64,
    /// A version that is being built commits this often, milliseconds, or when the groups it has touched take up their share of memory.
    pub building_commit_interval_ms: u64,
    /// How many windows must have closed before a version that is being built writes their rows.
    pub sweep_windows: usize,
    /// A version is caught up when it is at most this many events behind the ends of the log.
    pub caught_up_lag: u64,
}

impl RunSettings {
    /// How long after its first event a commit is made. A store that does not keep up gets fewer and larger ones, which cost it less.
    fn commit_interval(&self, is_live: bool, is_behind: bool) -> Duration {
        let interval_ms = match is_live && !is_behind {
            true => self.commit_interval_ms,
            false if is_live => self.commit_interval_ms.max(self.building_commit_interval_ms),
            false => self.building_commit_interval_ms,
        };
        Duration::from_millis(interval_ms)
    }
}

/// What the loop and its writer share with the rest.
pub struct Shared {
    /// What is to be written.
    pub outbox: Arc<Mutex<Outbox>>,
    /// Wakes the fold.
    pub wake_fold: Wake,
    /// Wakes the writer.
    pub wake_writer: Wake,
    /// Given when this part of the version is to stop.
    pub stop: Stop,
    /// Panes are dropped up to here.
    pub dropped_to_us: Arc<AtomicI64>,
    /// What `status` answers.
    pub status: Arc<Mutex<RunStatus>>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The memory that this version may take.
    pub shares: Arc<Shares>,
    /// Set when another has taken the version.
    pub lost: Arc<AtomicBool>,
    /// Where to end the process, for tests.
    pub faults: Arc<Faults>,
}

/// What readers are told of committed facts.
pub fn progress(meta: &Meta, keep_us: Option<i64>) -> Progress {
    let horizon_us = match (meta.watermark_us, keep_us) {
        (Some(watermark_us), Some(keep_us)) => Some(watermark_us.saturating_sub(keep_us)),
        _ => None,
    };
    Progress {
        visible: meta.cut.clone(),
        writing: meta.cut.clone(),
        watermark_us: meta.watermark_us,
        event_time_us: meta.times.values().filter_map(|time| time.latest_us()).max(),
        live: meta.complete,
        writing_watermark_us: meta.watermark_us,
        horizon_us,
        read: meta.read,
        applied: meta.applied,
        quarantined: meta.quarantined.iter().map(|(reason, count)| (reason.as_str().to_owned(), *count)).collect(),
    }
}

/// Folds what comes from the feed until told to stop or the feed ends.
pub struct Runner {
    /// The fold.
    pub fold: Fold,
    /// When to commit.
    pub settings: RunSettings,
    /// What comes from the feed.
    pub messages: Receiver<Message>,
    /// What is shared.
    pub shared: Shared,
    /// Where the logs end, as far as known.
    ends: BTreeMap<Partition, Offset>,
    /// Whether the feed retries to read the log.
    is_waiting: bool,
    cost: CommitCost,
}

impl Runner {
    /// A loop around `fold` that has not begun.
    pub fn new(fold: Fold, settings: RunSettings, messages: Receiver<Message>, shared: Shared) -> Runner {
        // Nobody reads partitions that have ended: where they end is known.
        let ends = fold.meta().ended.iter().map(|partition| (*partition, fold.before(*partition).position)).collect();
        Runner { fold, settings, messages, shared, ends, is_waiting: false, cost: CommitCost::default() }
    }

    /// Runs until told to stop, or until something fails for good. What was merged is committed at the end, and made durable.
    pub fn run(&mut self) -> Result<(), EngineError> {
        let ended = self.run_on();
        self.cost.end(&self.shared.shares);
        ended
    }

    #[allow(clippy::disallowed_methods, reason = "paces commits, and reaches no row")]
    fn run_on(&mut self) -> Result<(), EngineError> {
        let mut pending_since: Option<std::time::Instant> = None;
        let mut committed = std::time::Instant::now();
        while !self.shared.stop.is_stopped() {
            let wait = match pending_since {
                Some(since) => self.commit_interval().saturating_sub(since.elapsed()),
                None => self.idle_wait(committed.elapsed()),
            };
            match self.next(wait) {
                Ok(message) => self.take(message)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.fold.is_ahead() && pending_since.is_none() {
                pending_since = Some(std::time::Instant::now());
            }
            let is_due = pending_since.is_some_and(|since| since.elapsed() >= self.commit_interval()) || self.has_read_all();
            if is_due
                || self.shared.outbox.lock().is_ahead_of_clearing()
                || self.fold.size() > self.shared.shares.groups()
                || (pending_since.is_none() && self.has_news(committed.elapsed()))
            {
                let begun = std::time::Instant::now();
                self.commit()?;
                committed = std::time::Instant::now();
                if self.fold.is_live() {
                    self.cost.note(&self.shared.shares, committed - begun);
                }
                pending_since = None;
            }
            self.advance()?;
        }
        self.commit()?;
        self.fold.sync()?;
        match self.shared.stop.is_stopped() {
            true => Ok(()),
            false => Err(EngineError::Internal("the feed that reads the log for this version has ended".into())),
        }
    }

    fn commit_interval(&self) -> Duration {
        let is_live = self.fold.is_live();
        let interval = self.settings.commit_interval(is_live, is_live && self.shared.outbox.lock().is_behind());
        if is_live { interval.max(self.shared.shares.commit_pause()) } else { interval }
    }

    /// The next message, unless there is something else to do first, or there is none for so long.
    fn next(&self, wait: Duration) -> Result<Message, RecvTimeoutError> {
        let none = crossbeam_channel::never();
        // Whoever read for it has left.
        let messages = if self.fold.has_ended_everywhere() { &none } else { &self.messages };
        select! {
            recv(messages) -> message => message.map_err(|_| RecvTimeoutError::Disconnected),
            recv(self.shared.wake_fold.woken()) -> _ => Err(RecvTimeoutError::Timeout),
            default(wait) => Err(RecvTimeoutError::Timeout),
        }
    }

    /// How long nothing is due while nothing comes.
    fn idle_wait(&self, since_commit: Duration) -> Duration {
        if self.has_news(since_commit) {
            return NEWS_WAIT;
        }
        let due_in_ms = self.fold.due_in_ms(self.shared.clock.now_ms()).and_then(|due_in_ms| u64::try_from(due_in_ms).ok());
        let clear_in = self.shared.outbox.lock().has_acknowledged().then(|| CLEAR_AFTER.saturating_sub(since_commit));
        IDLE_WAIT.min(due_in_ms.map_or(IDLE_WAIT, Duration::from_millis)).min(clear_in.unwrap_or(IDLE_WAIT))
    }

    fn take(&mut self, message: Message) -> Result<(), EngineError> {
        let now_ms = self.shared.clock.now_ms();
        if !matches!(message, Message::Waiting(_)) && std::mem::take(&mut self.is_waiting) {
            self.shared.status.lock().source_error = None;
        }
        match message {
            Message::Mapped(mapped) => {
                let records = &mapped.chunk.records;
                self.ends.insert(records.partition, records.end);
                self.fold.merge(*mapped, now_ms)
            }
            Message::Ends(ends) => {
                for (partition, end) in ends {
                    if self.fold.has_ended(partition) {
                        continue;
                    }
                    self.ends.insert(partition, end);
                    if self.fold.before(partition).position >= end {
                        self.fold.at_end(partition, now_ms);
                    }
                }
                Ok(())
            }
            Message::Waiting(why) => {
                let mut status = self.shared.status.lock();
                status.read_retries += 1;
                status.source_error = Some(why);
                self.is_waiting = true;
                Ok(())
            }
            Message::Failed(error) => Err(error),
        }
    }

    /// Whether a commit is due although nothing was merged, this long after the last one.
    fn has_news(&self, since_commit: Duration) -> bool {
        if self.fold.has_news(self.shared.clock.now_ms()) {
            return true;
        }
        let outbox = self.shared.outbox.lock();
        // What a live version's rows are acknowledged for is cleared with the next events, or when none come.
        outbox.has_swept() || (outbox.has_acknowledged() && (!self.fold.is_live() || since_commit >= CLEAR_AFTER))
    }

    fn commit(&mut self) -> Result<(), EngineError> {
        let (acknowledged, swept) = {
            let mut outbox = self.shared.outbox.lock();
            (outbox.take_acknowledged(), outbox.take_swept())
        };
        for sweep in &swept {
            self.fold.swept(sweep);
        }
        if !acknowledged.is_empty() {
            self.shared.faults.reach(Step::Clear);
        }
        self.shared.faults.reach(Step::Commit);
        let now_ms = self.shared.clock.now_ms();
        let committed = timed(&self.shared.status, TimedStep::Commit, || self.fold.commit(&acknowledged, now_ms))?;
        self.shared.faults.reach(Step::Offer);
        let meta = self.fold.meta();
        let progress = progress(meta, self.fold.view().options.keep_us);
        self.shared.dropped_to_us.store(meta.dropped_to_us.unwrap_or(i64::MIN), Ordering::Relaxed);
        self.shared.outbox.lock().offer(committed.rows, progress);
        let absent = self.fold.view().absent();
        let mut status = self.shared.status.lock();
        status.committed(meta, &self.ends);
        status.set_absent(absent);
        drop(status);
        self.wake_writer();
        Ok(())
    }

    /// Decides what follows from how far the version is: sweep, or write at every commit from now on.
    fn advance(&mut self) -> Result<(), EngineError> {
        if self.fold.is_live() || self.shared.outbox.lock().is_sweeping() || self.shared.outbox.lock().has_acknowledged() {
            return Ok(());
        }
        let sweep = match self.is_caught_up() {
            true => self.fold.go_live(),
            false => self.fold.closed_sweep(self.settings.sweep_windows),
        };
        if let Some(sweep) = sweep {
            // Rows of a sweep that does not finish are in the store too: late changes must reach them after a restart.
            self.commit()?;
            self.shared.outbox.lock().offer_sweep(sweep);
            self.wake_writer();
        }
        Ok(())
    }

    /// A version that is being built has folded all there is: no need to wait for more before it commits, and goes live. Once it does, nothing
    /// is urgent before its last sweep is written.
    fn has_read_all(&self) -> bool {
        let is_read = |(partition, end): (&Partition, &Offset)| self.fold.before(*partition).position >= *end;
        !self.fold.is_going_live() && self.fold.is_ahead() && self.messages.is_empty() && self.ends.iter().all(is_read)
    }

    fn is_caught_up(&self) -> bool {
        let cut = &self.fold.meta().cut;
        let lag = cut.behind(self.ends.iter().map(|(partition, end)| (*partition, *end)));
        // Also those of which nothing is committed yet: each thread that reads tells of its own.
        let all_known = self.fold.partitions().all(|partition| self.ends.contains_key(&partition));
        !self.ends.is_empty() && all_known && lag <= self.settings.caught_up_lag
    }

    fn wake_writer(&self) {
        self.shared.wake_writer.wake();
    }
}

/// How often a version looks around although nobody woke it.
const IDLE_WAIT: Duration = Duration::from_secs(1);

/// How long something that no event brought waits for events that may come.
const NEWS_WAIT: Duration = Duration::from_millis(50);

/// How long after a commit another is made only to take acknowledged rows out of the dirty ones.
const CLEAR_AFTER: Duration = Duration::from_secs(1);

/// How often written rows are made durable, if there are few versions. Until then they are written again after a restart.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// Writes rows until told to stop; then what is left is written too, for at most `drain_for`.
#[allow(clippy::disallowed_methods, reason = "bounds how long a stop takes, and reaches no row")]
pub fn write(writer: &mut Writer, shared: &Shared, drain_for: Duration) -> Result<(), EngineError> {
    let mut backoff = Backoff::default();
    let mut stopping: Option<std::time::Instant> = None;
    let mut synced: Option<std::time::Instant> = None;
    loop {
        if shared.lost.load(Ordering::Relaxed) {
            return Ok(());
        }
        if shared.stop.is_stopped() {
            let since = *stopping.get_or_insert_with(std::time::Instant::now);
            if since.elapsed() > drain_for || (shared.outbox.lock().is_empty() && shared.outbox.lock().unsynced_rows() == 0) {
                return Ok(());
            }
        }
        // The fold takes what is acknowledged out of the dirty rows; once it has ended nobody does.
        if shared.outbox.lock().is_ahead_of_clearing() {
            if stopping.is_none() {
                shared.wake_fold.wake();
                shared.wake_writer.wait(IDLE_WAIT);
                continue;
            }
            // What is not cleared is written once more after a restart.
            drop(shared.outbox.lock().take_acknowledged());
        }
        let next_sync = synced.map_or(Duration::ZERO, |synced| shared.shares.sync_every(SYNC_EVERY).saturating_sub(synced.elapsed()));
        writer.may_sync = stopping.is_some() || next_sync.is_zero();
        let was_behind = shared.outbox.lock().is_behind();
        let stepped = writer.step();
        let is_heard = {
            let outbox = shared.outbox.lock();
            outbox.has_swept() || outbox.has_acknowledged() || (was_behind && !outbox.is_behind())
        };
        match stepped {
            // The fold has ended: no more will come.
            Ok(Stepped::Nothing) if stopping.is_some() => return Ok(()),
            Ok(Stepped::Nothing) if shared.outbox.lock().unsynced_rows() > 0 => shared.wake_writer.wait(IDLE_WAIT.min(next_sync)),
            Ok(Stepped::Nothing) => shared.wake_writer.wait(IDLE_WAIT),
            Ok(stepped) => {
                backoff = Backoff::default();
                let mut status = shared.status.lock();
                status.store_error = None;
                match stepped {
                    Stepped::Wrote(rows) => status.rows_written += rows as u64,
                    _ => synced = Some(std::time::Instant::now()),
                }
                drop(status);
                if is_heard {
                    shared.wake_fold.wake();
                }
            }
            Err(EngineError::Lost) => return Ok(()),
            Err(error) => {
                let recovery = match &error {
                    // Only the store can be asked again without opening the version anew.
                    EngineError::Store(_) | EngineError::Log(_) => error.recovery(),
                    _ => return Err(error),
                };
                let pause = match recovery {
                    Recovery::Transient => backoff.pause(),
                    Recovery::Operator => backoff.long_pause(),
                    Recovery::Final => return Err(error),
                };
                tracing::warn!(table = writer.table.name(), %error, %recovery, "rows wait; writing them is retried");
                let mut status = shared.status.lock();
                status.store_error = Some(error.to_string());
                status.write_retries += 1;
                drop(status);
                match stopping {
                    None => drop(shared.stop.wait(pause)),
                    Some(_) => std::thread::sleep(pause.min(RETRY_WHILE_STOPPING)),
                }
            }
        }
    }
}

/// A stop does not wait long for a store that is unavailable.
const RETRY_WHILE_STOPPING: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_version_commits_more_rarely_while_its_rows_wait() {
        let settings =
            |commit_interval_ms| RunSettings { commit_interval_ms, building_commit_interval_ms: 1_000, sweep_windows: 1, caught_up_lag: 1 };
        let interval = |settings: RunSettings, is_live, is_behind| settings.commit_interval(is_live, is_behind).as_millis();
        assert_eq!(interval(settings(20), true, false), 20);
        assert_eq!(interval(settings(20), true, true), 1_000);
        assert_eq!(interval(settings(20), false, false), 1_000);
        assert_eq!(interval(settings(5_000), true, true), 5_000, "never more often");
    }
}
