//! The collector inside `refold up`.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use refold_api::Collected;
use refold_collector::collect::{BATCH_EVENTS, RETRY_PAUSE};
use refold_collector::resume::ResumeFolder;
use refold_collector::sink::TopicSink;
use refold_collector::{CollectError, Collection, EventSource, Pull, Spec, Stop, SystemTimer, Timer, Totals, collect};

use super::Happened;
use crate::failure::Failure;
use crate::output::complain;
use crate::parts::{Intake, choose, collected_into, collector_folder};
use crate::settings::Settings;
use crate::verbs::bad_lines::ToldBadLines;
use crate::verbs::collect::{ONCE_ONLY, opening};

/// A collector that runs, or stands ready to.
pub struct Collecting {
    /// What it has done.
    pub collected: Arc<Collected>,
    stop: Stop,
    thread: JoinHandle<()>,
}

/// A source that is opened.
pub struct Opened {
    /// What is collected of it.
    pub collected: Arc<Collected>,
    source: Box<dyn EventSource>,
    sink: TopicSink,
    stop: Stop,
}

/// Opens the source that the settings name; `None` when there is none. A default that does not fit what is declared is none.
pub fn open(intake: &Intake, settings: &Settings, restart: bool) -> Result<Option<Opened>, Failure> {
    let named = source_of(intake, settings);
    if named == "none" {
        return Ok(None);
    }
    match open_spec(intake, settings, &named) {
        Ok(mut opened) => {
            if !opened.source.is_resumable() {
                complain(ONCE_ONLY);
            }
            if restart {
                ResumeFolder::new(&collector_folder(&settings.data)).forget(&opened.source.name())?;
                opened.source.restart()?;
            }
            Ok(Some(opened))
        }
        Err(failure) if settings.source_was_said => Err(failure),
        Err(failure) => {
            tracing::info!(reason = %failure, "no source: the generated posts do not fit what is declared; post events, or name a source with --source");
            Ok(None)
        }
    }
}

/// What was named, or else what the only source declares that is to be collected into it, or else the default.
fn source_of(intake: &Intake, settings: &Settings) -> String {
    let declared = match (settings.source_was_said, settings.kafka.is_some()) {
        (false, false) => choose(&intake.sources, settings.into.as_deref(), "--into").ok(),
        _ => None,
    };
    let declared = declared.and_then(|source| collected_into(&settings.schemas, &source.name));
    declared.unwrap_or_else(|| settings.source.clone())
}

fn open_spec(intake: &Intake, settings: &Settings, named: &str) -> Result<Opened, Failure> {
    let spec = Spec::parse(named).map_err(|error| Failure::Usage(format!("{error}, or none")))?;
    let declared = choose(&intake.sources, settings.into.as_deref(), "--into")?;
    let stop = Stop::new();
    let folder = collector_folder(&settings.data);
    let timer = Arc::new(SystemTimer::new(stop.clone()));
    let source = spec.open(intake.encoder(declared)?, &opening(settings, &folder, timer))?;
    let sink = TopicSink::new(intake.log.clone(), &declared.topic);
    let collected = Arc::new(Collected::new(named, &declared.name).over(source.live()));
    Ok(Opened { collected, source, sink, stop })
}

impl Opened {
    /// Whether the source goes on where it was after a restart.
    pub fn is_resumable(&self) -> bool {
        self.source.is_resumable()
    }

    /// Collects in a thread of its own. `happened` hears when the history of the source is written, and when it ends.
    pub fn start(self, settings: &Settings, happened: Sender<Happened>) -> Result<Collecting> {
        let folder = collector_folder(&settings.data);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let (stop, collected) = (self.stop.clone(), self.collected.clone());
        let body = move || {
            let resumes = ResumeFolder::new(&folder);
            let mut bad_lines = ToldBadLines::new(&folder);
            let mut source = Watched {
                source: self.source,
                collected: self.collected.clone(),
                timer: Arc::new(SystemTimer::new(self.stop.clone())),
                stop: self.stop.clone(),
                happened: Some(happened.clone()),
            };
            let collection = Collection {
                sink: &self.sink,
                resume: &resumes,
                bad_lines: &mut bad_lines,
                report: &self.collected.report,
                batch_events: BATCH_EVENTS,
                retry_pause: RETRY_PAUSE,
                stop: &self.stop,
            };
            let ended = std::panic::catch_unwind(AssertUnwindSafe(|| collect(&mut source, collection)))
                .unwrap_or_else(|_| Err(CollectError::Invalid(format!("collecting {} panicked", self.collected.spec))))
                .inspect_err(|error| self.collected.fail(error));
            let _ = happened.send(Happened::SourceEnded(ended.map_err(|error| anyhow!(error))));
        };
        let thread = std::thread::Builder::new().name("collector".into()).spawn(body).context("the collector cannot be started")?;
        Ok(Collecting { collected, stop, thread })
    }
}

impl Collecting {
    /// Ends after the batch at hand.
    pub fn finish(self) -> Totals {
        self.stop.stop();
        let _ = self.thread.join();
        self.collected.report.totals()
    }
}

/// Tells whether the history of a source is in the log, and when it is so for the first time.
struct Watched {
    source: Box<dyn EventSource>,
    collected: Arc<Collected>,
    timer: Arc<dyn Timer>,
    stop: Stop,
    happened: Option<Sender<Happened>>,
}

impl Watched {
    fn tell(&mut self) {
        if let Some(happened) = self.happened.take() {
            let _ = happened.send(Happened::HistoryWritten);
        }
    }
}

/// However collecting ended, nobody waits for more, unless it was stopped: then it goes on with the next start.
impl Drop for Watched {
    fn drop(&mut self) {
        if !self.stop.is_stopped() {
            self.collected.note_end();
            self.tell();
        }
    }
}

impl EventSource for Watched {
    fn name(&self) -> String {
        self.source.name()
    }

    fn is_resumable(&self) -> bool {
        self.source.is_resumable()
    }

    fn resume(&mut self, point: &str, again: u64) -> Result<(), CollectError> {
        self.source.resume(point, again)
    }

    fn next(&mut self, max: usize, wait: Duration) -> Result<Pull, CollectError> {
        // What was yielded before is in the log by now.
        let is_at_present = self.source.is_at_present();
        self.collected.note_at_present(is_at_present, self.timer.now_ms());
        if is_at_present {
            if self.happened.is_some() && !self.source.is_resumable() {
                tracing::info!(
                    source = self.collected.spec,
                    read = self.collected.report.totals().read,
                    "it pauses, or brings events of now: events may be posted, and old ones that it brings later may be too late"
                );
            }
            self.tell();
        }
        self.source.next(max, wait)
    }

    fn is_at_present(&self) -> bool {
        self.source.is_at_present()
    }

    fn acknowledged(&mut self, point: &str) -> Result<(), CollectError> {
        self.source.acknowledged(point)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    /// A source that is at the present as it is told to be, pull by pull.
    struct Told(Vec<bool>);

    impl EventSource for Told {
        fn name(&self) -> String {
            "told".into()
        }

        fn resume(&mut self, _point: &str, _again: u64) -> Result<(), CollectError> {
            Ok(())
        }

        fn next(&mut self, _max: usize, _wait: Duration) -> Result<Pull, CollectError> {
            self.0.remove(0);
            Ok(Pull::Idle)
        }

        fn is_at_present(&self) -> bool {
            self.0[0]
        }
    }

    fn watched(told: &[bool]) -> (Watched, Arc<Collected>, Stop, Receiver<Happened>) {
        let (collected, stop, (happened, events)) = (Arc::new(Collected::new("told", "tweets")), Stop::new(), channel());
        let timer = Arc::new(SystemTimer::new(stop.clone()));
        let source = Box::new(Told(told.to_vec()));
        let watched = Watched { source, collected: collected.clone(), timer, stop: stop.clone(), happened: Some(happened) };
        (watched, collected, stop, events)
    }

    fn now_ms() -> i64 {
        SystemTimer::new(Stop::new()).now_ms()
    }

    #[test]
    fn history_is_written_when_the_source_says_so_and_again_when_it_fell_behind() {
        let (mut watched, collected, _stop, events) = watched(&[false, true, false, true]);
        for is_at_present in [false, true, false, true] {
            watched.next(1, Duration::ZERO).unwrap();
            assert_eq!(collected.is_writing_history(now_ms()), !is_at_present);
        }
        assert!(collected.is_writing_history(now_ms() + 60_000), "nothing was heard of it since");
        drop(watched);
        assert!(!collected.is_writing_history(now_ms() + 60_000), "it has ended");
        assert_eq!(events.iter().filter(|event| matches!(event, Happened::HistoryWritten)).count(), 1);
    }

    #[test]
    fn a_source_that_ends_early_keeps_nobody_waiting_and_one_that_is_stopped_goes_on_later() {
        let (ended, collected, _stop, events) = watched(&[false]);
        drop(ended);
        assert!(!collected.is_writing_history(now_ms()) && matches!(events.recv(), Ok(Happened::HistoryWritten)));
        let (stopped, collected, stop, events) = watched(&[false]);
        stop.stop();
        drop(stopped);
        assert!(collected.is_writing_history(now_ms()) && events.recv().is_err());
    }
}
