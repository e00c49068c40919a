//! `refold collect`: a source → the log, through a running `refold up` or straight.

mod printing;
mod server;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use refold_collector::collect::{BATCH_EVENTS, RETRY_PAUSE};
use refold_collector::resume::ResumeFolder;
use refold_collector::sink::TopicSink;
use refold_collector::{Collection, Encoder, LiveStatus, Opening, Report, Sink, Spec, Stop, SystemTimer, Timer, Totals, collect};
use refold_processor::decode::derived_id;
use serde_json::json;

use self::server::ServerSink;
use crate::cli::Collect;
use crate::failure::Failure;
use crate::output::{Output, complain};
use crate::parts::{Intake, choose, collector_folder, declared};
use crate::settings::{self, Settings};
use crate::verbs::bad_lines::ToldBadLines;

/// How often progress is shown, on a terminal.
const SHOW_EVERY: Duration = Duration::from_secs(1);

/// Said of a source that has no resume point.
pub const ONCE_ONLY: &str = "a pipe cannot be read again from where it was: what is piped in again is written again";

/// Collects until the source ends or a signal comes.
pub fn run(arguments: &Collect, output: &mut Output) -> Result<(), Failure> {
    let settings = settings::load(&arguments.settings)?;
    let spec = Spec::parse(&with_options(arguments)).map_err(|error| Failure::Usage(error.to_string()))?;
    let stop = Stop::new();
    stop_on_signals(&stop)?;
    if let Some(events) = arguments.print {
        return printing::run(arguments, &settings, spec, events, output);
    }
    if settings.kafka.is_some() && arguments.to.is_some() {
        return Err(Failure::Usage("events go either to a refold, --to, or to kafka, --kafka; name one of them".into()));
    }
    let totals = match arguments.settings.has("data") || settings.kafka.is_some() {
        true => into_log(arguments, &settings, spec, &stop)?,
        false => into_server(arguments, &settings, spec, &stop)?,
    };
    show(&totals, arguments.json, output)?;
    Ok(())
}

/// The specification with the options that were said as flags.
fn with_options(arguments: &Collect) -> String {
    let flags = [
        ("mapping", arguments.mapping.clone()),
        ("count", arguments.count.map(|count| count.to_string())),
        ("seed", arguments.seed.map(|seed| seed.to_string())),
        ("backlog", arguments.backlog.clone()),
    ];
    let mut spec = arguments.spec.clone();
    for (name, value) in flags {
        if let Some(value) = value {
            spec.push(if spec.contains('?') { '&' } else { '?' });
            spec.push_str(&format!("{name}={value}"));
        }
    }
    spec
}

fn into_log(arguments: &Collect, settings: &Settings, spec: Spec, stop: &Stop) -> Result<Totals, Failure> {
    let intake = Intake::open(settings)?;
    let source = choose(&intake.sources, arguments.source.as_deref(), "--source")?;
    let sink = TopicSink::new(intake.log.clone(), &source.topic);
    let encoder = intake.encoder(source)?;
    gather(arguments, settings, spec, encoder, &sink, &collector_folder(&settings.data), stop)
}

fn into_server(arguments: &Collect, settings: &Settings, spec: Spec, stop: &Stop) -> Result<Totals, Failure> {
    let server = arguments.to.as_deref().unwrap_or(&settings.server).trim_end_matches('/').to_owned();
    let sources = declared(&settings.schemas)?;
    let source = choose(&sources, arguments.source.as_deref(), "--source")?;
    // The server knows the schemas that it declares under this number too.
    let encoder = Encoder::new(source, Some(derived_id(&source.schema_json)?))?;
    let sink = ServerSink::new(&server, &source.name, settings.token.as_deref());
    sink.is_there()?;
    // What one server has is no reason to skip it for another.
    let folder = collector_folder(&settings.data).join(server.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
    gather(arguments, settings, spec, encoder, &sink, &folder, stop)
}

fn gather(
    arguments: &Collect,
    settings: &Settings,
    spec: Spec,
    encoder: Encoder,
    sink: &dyn Sink,
    folder: &Path,
    stop: &Stop,
) -> Result<Totals, Failure> {
    std::fs::create_dir_all(folder).map_err(|error| anyhow!("cannot make {}: {error}", folder.display()))?;
    let resumes = ResumeFolder::new(folder);
    let timer = Arc::new(SystemTimer::new(stop.clone()));
    let mut source = spec.open(encoder, &opening(settings, folder, timer))?;
    if !source.is_resumable() {
        complain(ONCE_ONLY);
    }
    if arguments.restart {
        resumes.forget(&source.name())?;
        source.restart()?;
    }
    let was_read = resumes.knows(&source.name());
    let mut bad_lines = ToldBadLines::new(folder);
    let report = Arc::new(Report::new());
    let finished = Stop::new();
    let shown = show_progress(&report, source.live(), &finished);
    let collection = Collection {
        sink,
        resume: &resumes,
        bad_lines: &mut bad_lines,
        report: &report,
        batch_events: BATCH_EVENTS,
        retry_pause: RETRY_PAUSE,
        stop,
    };
    let totals = collect(source.as_mut(), collection);
    finished.stop();
    if let Some(shown) = shown {
        let _ = shown.join();
    }
    let totals = totals.inspect_err(|_| {
        let so_far = report.totals();
        complain(&format!("before it failed: {} read, {} written, {} skipped", so_far.read, so_far.written, so_far.skipped()));
    })?;
    if let Some(live) = source.live() {
        complain(&format!("{}: {}", source.name(), live.words(SystemTimer::new(stop.clone()).now_ms())));
    }
    if totals.read == 0 && !stop.is_stopped() {
        complain(match was_read {
            true => "nothing new: the source was read to its end before; --restart reads it again",
            false => "the source has no events",
        });
    }
    Ok(totals)
}

/// With what a source is opened that keeps what it has in `folder`.
pub fn opening<'o>(settings: &'o Settings, folder: &'o Path, timer: Arc<dyn Timer>) -> Opening<'o> {
    let contact = settings.contact.as_deref();
    Opening { contact, spool_bytes: settings.spool_bytes, ..Opening::new(&settings.schemas, folder, timer) }
}

/// Shows running totals on stderr, if that is a terminal.
fn show_progress(report: &Arc<Report>, live: Option<Arc<LiveStatus>>, finished: &Stop) -> Option<std::thread::JoinHandle<()>> {
    let progress = indicatif::ProgressBar::no_length();
    if progress.is_hidden() {
        return None;
    }
    let (report, finished) = (report.clone(), finished.clone());
    Some(std::thread::spawn(move || {
        while !finished.wait(SHOW_EVERY) {
            let totals = report.totals();
            let connection = live.as_ref().map_or(String::new(), |live| format!("; {}", live.words(SystemTimer::default().now_ms())));
            progress.set_message(format!("{} read, {} written, {} skipped{connection}", totals.read, totals.written, totals.skipped()));
            progress.set_style(
                indicatif::ProgressStyle::with_template("{elapsed} {msg}").unwrap_or_else(|_| indicatif::ProgressStyle::default_bar()),
            );
            progress.tick();
        }
        progress.finish_and_clear();
    }))
}

fn show(totals: &Totals, as_json: bool, output: &mut Output) -> std::io::Result<()> {
    if as_json {
        let mut document = json!(totals);
        if let Some(members) = document.as_object_mut() {
            members.insert("skipped".into(), totals.skipped().into());
        }
        return output.json(&document);
    }
    let there = if totals.already_there > 0 { format!(", {} already there", totals.already_there) } else { String::new() };
    let left_out = if totals.left_out > 0 { format!(", {} left out by the mapping", totals.left_out) } else { String::new() };
    output.line(&format!("{} read, {} written{there}, {} skipped{left_out}", totals.read, totals.written, totals.skipped()))?;
    totals.bad.iter().try_for_each(|(reason, count)| output.line(&format!("  {count} {reason}")))
}

/// Stops collecting at the first signal, after the batch at hand; the second one ends the process at once.
fn stop_on_signals(stop: &Stop) -> Result<(), Failure> {
    let stop = stop.clone();
    super::up::signals::watch(move || stop.stop())?;
    Ok(())
}
