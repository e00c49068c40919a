//! The loop: source → sink, with the resume point kept so that nothing is lost and nothing doubled.
//!
//! Before a batch is appended it is announced in what is kept: the ends of the topic's partitions and the number of events. A run that begins with an
//! announcement reads the same events from the source again, looks for their bytes in the log past those ends, and appends those that are not there. So a
//! crash at any step neither loses nor doubles an event, provided that the source yields the same events again and that no other collector of the same source is
//! running. The same search is made before an append is tried again.

use std::time::Duration;

use refold_processor::log::NewRecord;
use refold_processor::position::Cut;

use crate::CollectError;
use crate::bad_lines::BadLines;
use crate::event_source::{BadLine, EventSource, Pull};
use crate::report::{Report, Totals};
use crate::resume::{Progress, ResumeStore};
use crate::sink::{LogEnds, Sink};
use crate::stop::Stop;

/// How long the loop waits for a first event before it looks at the signal to stop.
const WAIT: Duration = Duration::from_millis(200);
/// The longest pause before a log that is unavailable is asked again.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What collecting needs beside the source.
pub struct Collection<'a> {
    /// Where events go.
    pub sink: &'a dyn Sink,
    /// Where the resume point is kept.
    pub resume: &'a dyn ResumeStore,
    /// Where bad lines are kept.
    pub bad_lines: &'a mut dyn BadLines,
    /// Running totals.
    pub report: &'a Report,
    /// The most events in one append.
    pub batch_events: usize,
    /// The pause before a log that is unavailable is asked again; it doubles up to five seconds.
    pub retry_pause: Duration,
    /// Ends collecting after the batch at hand.
    pub stop: &'a Stop,
}

/// The usual [`Collection::batch_events`].
pub const BATCH_EVENTS: usize = 8192;
/// The usual [`Collection::retry_pause`].
pub const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Brings the events of `source` into the log until the source ends or the signal to stop is given.
///
/// # Errors
/// When the source cannot be read, the sink refuses for good, or progress cannot be kept. Called again, it goes on where it was.
pub fn collect(source: &mut dyn EventSource, mut collection: Collection<'_>) -> Result<Totals, CollectError> {
    let name = source.name();
    let resumable = source.is_resumable();
    let mut progress = if resumable { collection.resume.load(&name)? } else { Progress::default() };
    if let Some(point) = &progress.point {
        tracing::info!(source = %name, point, "going on where it was; --restart begins again");
        source.resume(point, progress.announced)?;
    }
    if progress.ends.is_some() && collection.ends(&name, &progress)?.is_none() {
        return Ok(collection.report.totals());
    }
    if progress.announced > 0 {
        tracing::info!(source = %name, events = progress.announced, "looking in the log for the batch of an interrupted run");
        if !collection.finish_interrupted(source, &name, &mut progress)? {
            return Ok(collection.report.totals());
        }
    }
    let mut kept = Kept { progress, is_behind: false };
    let collected = collection.collect_batches(source, &name, resumable, &mut kept);
    // Also when the source failed: what is acknowledged need not be looked for. But then nobody waits for it.
    match &collected {
        Ok(()) => {
            if collection.keep_acknowledged(&name, &mut kept)? {
                acknowledge(source, &kept.progress)?;
            }
        }
        Err(_) if kept.is_behind => {
            let _ = collection.resume.save(&name, collection.acknowledged(&mut kept));
        }
        Err(_) => {}
    }
    collected.map(|()| collection.report.totals())
}

/// How far collecting is, and whether what is kept of it is behind.
struct Kept {
    progress: Progress,
    is_behind: bool,
}

impl Collection<'_> {
    fn collect_batches(&mut self, source: &mut dyn EventSource, name: &str, resumable: bool, kept: &mut Kept) -> Result<(), CollectError> {
        while !self.stop.is_stopped() {
            match source.next(self.batch_events, WAIT)? {
                Pull::Events { records, bad, left_out, resume } => {
                    self.take(name, records.len(), &bad)?;
                    self.report.add_left_out(left_out);
                    if !records.is_empty() {
                        let Some(ends) = self.ends(name, &kept.progress)? else { return Ok(()) };
                        let since = ends.positions.clone();
                        kept.progress.ends = Some(ends);
                        if resumable {
                            kept.progress.announced = records.len() as u64;
                            if !self.save(name, &kept.progress)? {
                                return Ok(());
                            }
                            acknowledge(source, &kept.progress)?;
                            kept.is_behind = false;
                        }
                        if !self.append(records, &since)? {
                            return Ok(());
                        }
                    }
                    // The acknowledgement is kept with the next announcement, or as soon as there is nothing to do.
                    kept.progress.point = Some(resume);
                    kept.progress.announced = 0;
                    kept.is_behind = resumable;
                }
                Pull::Idle => {
                    if self.keep_acknowledged(name, kept)? {
                        acknowledge(source, &kept.progress)?;
                    }
                }
                Pull::End => return Ok(()),
            }
        }
        Ok(())
    }

    /// Reads the events of an announced batch again, and appends those that the log does not have. `false`: told to stop before; what is kept
    /// still announces the batch.
    fn finish_interrupted(&mut self, source: &mut dyn EventSource, name: &str, progress: &mut Progress) -> Result<bool, CollectError> {
        let since = progress.ends.as_ref().map(|ends| ends.positions.clone()).unwrap_or_default();
        let wanted = usize::try_from(progress.announced).unwrap_or(usize::MAX);
        let mut records = Vec::new();
        let mut point = progress.point.clone();
        while records.len() < wanted {
            if self.stop.is_stopped() {
                return Ok(false);
            }
            match source.next(wanted - records.len(), WAIT)? {
                Pull::Events { records: more, bad, left_out, resume } => {
                    self.take(name, more.len(), &bad)?;
                    self.report.add_left_out(left_out);
                    records.extend(more);
                    point = Some(resume);
                }
                Pull::Idle => {}
                Pull::End => break,
            }
        }
        let read = records.len();
        let Some(there) = self.patiently(|| self.sink.append_missing(records.clone(), &since))? else { return Ok(false) };
        self.report.add_already_there(there);
        self.report.add_written(read - there);
        progress.point = point;
        progress.announced = 0;
        self.save(name, progress)
    }

    /// Keeps what the log has acknowledged, and how far it reaches by now. `true`: something was kept that was not before.
    fn keep_acknowledged(&self, name: &str, kept: &mut Kept) -> Result<bool, CollectError> {
        if !kept.is_behind {
            return Ok(false);
        }
        kept.is_behind = !self.save(name, self.acknowledged(kept))?;
        Ok(!kept.is_behind)
    }

    /// What is acknowledged, with where the log ends by now.
    fn acknowledged<'a>(&self, kept: &'a mut Kept) -> &'a Progress {
        // Only to know the log again: one that does not answer now is no reason to keep nothing. One that is another now is told with the next batch.
        let is_same = |ends: &LogEnds| kept.progress.ends.as_ref().is_none_or(|left| ends.differs(left).is_none());
        if let Some(ends) = self.sink.ends().ok().filter(is_same) {
            kept.progress.ends = Some(ends);
        }
        &kept.progress
    }

    /// Keeps progress, when the disk has room for it; `false`: told to stop before.
    fn save(&self, name: &str, progress: &Progress) -> Result<bool, CollectError> {
        Ok(self.patiently(|| self.resume.save(name, progress))?.is_some())
    }

    /// The ends of the log, which must be the one that was left; `None`: told to stop before it answered.
    fn ends(&self, name: &str, left: &Progress) -> Result<Option<LogEnds>, CollectError> {
        let ends = self.patiently(|| self.sink.ends())?;
        match ends.as_ref().zip(left.ends.as_ref()).and_then(|(ends, left)| ends.differs(left)) {
            Some(difference) => Err(CollectError::AnotherLog { name: name.to_owned(), difference }),
            None => Ok(ends),
        }
    }

    /// Appends until it is acknowledged; `false`: told to stop before.
    fn append(&self, records: Vec<NewRecord>, since: &Cut) -> Result<bool, CollectError> {
        let events = records.len();
        let mut tried = false;
        // Cheap to clone: keys and values are shared.
        let appended = self.patiently(|| match std::mem::replace(&mut tried, true) {
            false => self.sink.append(records.clone(), since),
            // What an attempt of this very batch had appended was written by it.
            true => self.sink.append_missing(records.clone(), since).map(|_| 0),
        })?;
        if let Some(there) = appended {
            self.report.add_already_there(there);
            self.report.add_written(events - there);
        }
        Ok(appended.is_some())
    }

    /// Asks the log, or the disk, until it answers or refuses for good; `None`: told to stop before.
    fn patiently<T>(&self, mut ask: impl FnMut() -> Result<T, CollectError>) -> Result<Option<T>, CollectError> {
        let mut pause = self.retry_pause;
        loop {
            match ask() {
                Err(error) if error.is_retryable() => {
                    tracing::warn!(%error, retry_in_ms = pause.as_millis() as u64, "collecting waits; trying again");
                    if self.stop.wait(pause) {
                        return Ok(None);
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                answer => return answer.map(Some),
            }
        }
    }

    /// Counts what the source yielded, and keeps the bad lines.
    fn take(&mut self, name: &str, events: usize, bad: &[BadLine]) -> Result<(), CollectError> {
        self.report.add_read(events + bad.len());
        self.report.add_bad(bad);
        if bad.is_empty() { Ok(()) } else { self.bad_lines.keep(name, bad) }
    }
}

/// Tells the source what it need not yield again: all before the point that is kept.
fn acknowledge(source: &mut dyn EventSource, progress: &Progress) -> Result<(), CollectError> {
    progress.point.as_deref().map_or(Ok(()), |point| source.acknowledged(point))
}

#[cfg(test)]
mod tests;
