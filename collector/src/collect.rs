//! The loop: source → sink, with the resume point kept so that nothing is lost and nothing doubled.
//!
//! Before a batch is appended its intent is kept: the ends of the topic's partitions and the number of events. A run that begins with an intent reads
//! the same events from the source again, looks for their bytes in the log past those ends, and appends those that are not there. So a
//! crash at any step neither loses nor doubles an event, provided that the source yields the same events again and that no other collector of the same source is
//! running. The same search is made before an append is tried again.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use refold_processor::log::NewRecord;

use crate::CollectError;
use crate::bad_lines::BadLines;
use crate::event_source::{BadLine, EventSource, Pull};
use crate::report::{Report, Totals};
use crate::resume::{Intent, Progress, ResumeStore};
use crate::sink::Sink;
use crate::stop::Stop;

/// How long the loop waits for a first event before it looks at the signal to stop.
const WAIT: Duration = Duration::from_millis(200);
/// The longest pause before a log that is away is asked again.
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
    /// The pause before a log that is away is asked again; it doubles up to five seconds.
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
        source.resume(point, progress.intent.as_ref().map_or(0, |intent| intent.events))?;
    }
    if let Some(intent) = progress.intent.take() {
        match intent.ends {
            Some(_) => tracing::info!(source = %name, events = intent.events, "looking in the log for the batch of an interrupted run"),
            None => tracing::warn!(
                source = %name,
                events = intent.events,
                "the batch of an interrupted run is sent again; a server cannot be looked into, so it may be there twice"
            ),
        }
        if !collection.finish_interrupted(source, &name, &intent, &mut progress)? {
            return Ok(collection.report.totals());
        }
    }
    let mut kept = Kept { progress, is_behind: false };
    let collected = collection.collect_batches(source, &name, resumable, &mut kept);
    // Also when the source failed: what is acknowledged must not be looked for, or be appended again where it cannot be.
    if kept.is_behind {
        collection.resume.save(&name, &kept.progress)?;
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
                Pull::Events { records, bad, resume } => {
                    self.take(name, records.len(), &bad)?;
                    if !records.is_empty() {
                        let Some(ends) = self.patiently(|| self.sink.ends())? else { return Ok(()) };
                        let intent = Intent { ends, events: records.len() as u64 };
                        if resumable {
                            kept.progress.intent = Some(intent.clone());
                            self.resume.save(name, &kept.progress)?;
                            kept.is_behind = false;
                        }
                        if !self.append(records, &intent)? {
                            return Ok(());
                        }
                    }
                    // The acknowledgement is kept with the next announcement, or as soon as there is nothing to do.
                    *kept = Kept { progress: Progress { point: Some(resume), intent: None }, is_behind: resumable };
                }
                Pull::Idle if kept.is_behind => {
                    self.resume.save(name, &kept.progress)?;
                    kept.is_behind = false;
                }
                Pull::Idle => {}
                Pull::End => return Ok(()),
            }
        }
        Ok(())
    }

    /// Reads the events of an announced batch again, and appends those that the log does not have. `false`: told to stop before; what is kept
    /// still announces the batch.
    fn finish_interrupted(
        &mut self,
        source: &mut dyn EventSource,
        name: &str,
        intent: &Intent,
        progress: &mut Progress,
    ) -> Result<bool, CollectError> {
        let wanted = usize::try_from(intent.events).unwrap_or(usize::MAX);
        let mut records = Vec::new();
        let mut point = progress.point.clone();
        while records.len() < wanted {
            if self.stop.is_stopped() {
                return Ok(false);
            }
            match source.next(wanted - records.len(), WAIT)? {
                Pull::Events { records: more, bad, resume } => {
                    self.take(name, more.len(), &bad)?;
                    records.extend(more);
                    point = Some(resume);
                }
                Pull::Idle => {}
                Pull::End => break,
            }
        }
        let read = records.len();
        let Some(missing) = self.patiently(|| self.missing(records.clone(), intent))? else { return Ok(false) };
        self.report.add_already_there(read - missing.len());
        if !missing.is_empty() && !self.append(missing, intent)? {
            return Ok(false);
        }
        *progress = Progress { point, intent: None };
        self.resume.save(name, progress)?;
        Ok(true)
    }

    /// Appends until it is acknowledged; `false`: told to stop before.
    fn append(&self, mut records: Vec<NewRecord>, intent: &Intent) -> Result<bool, CollectError> {
        let events = records.len();
        let mut tried = false;
        let appended = self.patiently(|| {
            if std::mem::replace(&mut tried, true) {
                records = self.missing(std::mem::take(&mut records), intent)?;
            }
            // Cheap to clone: keys and values are shared.
            if records.is_empty() { Ok(()) } else { self.sink.append(records.clone()) }
        })?;
        if appended.is_some() {
            self.report.add_written(events);
        }
        Ok(appended.is_some())
    }

    /// The records that are not in the log past the intent's ends; equal ones count as often as they are there.
    fn missing(&self, mut records: Vec<NewRecord>, intent: &Intent) -> Result<Vec<NewRecord>, CollectError> {
        let Some(ends) = &intent.ends else { return Ok(records) };
        let mut there: HashMap<Bytes, usize> = records.iter().map(|record| (record.value.clone(), 0)).collect();
        self.sink.since(ends, &mut |value| {
            if let Some(count) = there.get_mut(value) {
                *count += 1;
            }
        })?;
        records.retain(|record| match there.get_mut(&record.value) {
            Some(count) if *count > 0 => {
                *count -= 1;
                false
            }
            _ => true,
        });
        Ok(records)
    }

    /// Asks the log until it answers or refuses for good; `None`: told to stop before.
    fn patiently<T>(&self, mut ask: impl FnMut() -> Result<T, CollectError>) -> Result<Option<T>, CollectError> {
        let mut pause = self.retry_pause;
        loop {
            match ask() {
                Err(error) if error.is_retryable() => {
                    tracing::warn!(%error, retry_in_ms = pause.as_millis() as u64, "the log is away");
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

#[cfg(test)]
mod tests;
