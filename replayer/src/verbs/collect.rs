//! `refold collect`: a source → the log, through a running `refold up` or straight.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use bytes::Bytes;
use refold_api::records;
use refold_collector::bad_lines::BadLinesFile;
use refold_collector::collect::{BATCH_EVENTS, RETRY_PAUSE};
use refold_collector::resume::ResumeFolder;
use refold_collector::sink::TopicSink;
use refold_collector::{BadLine, BadLines, CollectError, Collection, Encoder, Report, Sink, Spec, Stop, SystemTimer, Totals, collect};
use refold_processor::decode::derived_id;
use refold_processor::log::{LogError, NewRecord};
use refold_processor::position::Cut;
use refold_processor::source::Source;
use serde_json::{Value, json};
use ureq::Agent;

use crate::cli::Collect;
use crate::client::agent;
use crate::failure::Failure;
use crate::output::{Output, complain};
use crate::parts::{Intake, choose, collector_folder, declared};
use crate::settings::{self, Settings};

/// The largest body that is posted, bytes: well below what a server takes unless told otherwise.
const BODY_BYTES: usize = 8 << 20;
/// The most that is kept of lines that are no events, bytes.
pub const BAD_LINES_BYTES: u64 = 16 << 20;
/// The most bad lines that are told one by one; all are counted and kept.
const BAD_LINES_TOLD: usize = 10;
/// How often progress is shown, on a terminal.
const SHOW_EVERY: Duration = Duration::from_secs(1);

/// Collects until the source ends or a signal comes.
pub fn run(arguments: &Collect, output: &mut Output) -> Result<(), Failure> {
    let settings = settings::load(&arguments.settings)?;
    let spec = Spec::parse(&with_options(arguments)).map_err(|error| Failure::Usage(error.to_string()))?;
    let stop = Stop::new();
    stop_on_signals(&stop)?;
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
    let sink = ServerSink::new(&server, source);
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
    let mut source = spec.open(&settings.schemas, encoder, Arc::new(SystemTimer::new(stop.clone())))?;
    if arguments.restart {
        resumes.forget(&source.name())?;
    }
    let bad_lines_path = folder.join("bad_lines.jsonl");
    let mut bad_lines = ToldBadLines { kept: BadLinesFile::new(&bad_lines_path, BAD_LINES_BYTES), told: 0 };
    let report = Arc::new(Report::new());
    let finished = Stop::new();
    let shown = show_progress(&report, &finished);
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
    if report.totals().skipped() > 0 {
        complain(&format!("lines that are no events are kept in {}", bad_lines_path.display()));
    }
    let totals = totals.inspect_err(|_| {
        let so_far = report.totals();
        complain(&format!("before it failed: {} read, {} written, {} skipped", so_far.read, so_far.written, so_far.skipped()));
    })?;
    if totals.read == 0 && source.is_resumable() && !stop.is_stopped() {
        complain("nothing new: the source was read to its end before; --restart reads it again");
    }
    Ok(totals)
}

/// Keeps bad lines, and tells the first ones with file and line.
struct ToldBadLines {
    kept: BadLinesFile,
    told: usize,
}

impl BadLines for ToldBadLines {
    fn keep(&mut self, source: &str, bad: &[BadLine]) -> Result<(), CollectError> {
        // A file's name of its own, so that a terminal or an editor finds the place.
        let place = source.strip_prefix("jsonl:").and_then(|named| named.rsplit_once(" into ")).map_or(source, |(file, _)| file);
        for line in bad.iter().take(BAD_LINES_TOLD - self.told) {
            complain(&format!("{place}:{}: {}: {}", line.line, line.reason.as_str(), line.detail));
            self.told += 1;
        }
        self.kept.keep(source, bad)
    }
}

/// Shows running totals on stderr, if that is a terminal.
fn show_progress(report: &Arc<Report>, finished: &Stop) -> Option<std::thread::JoinHandle<()>> {
    let progress = indicatif::ProgressBar::no_length();
    if progress.is_hidden() {
        return None;
    }
    let (report, finished) = (report.clone(), finished.clone());
    Some(std::thread::spawn(move || {
        while !finished.wait(SHOW_EVERY) {
            let totals = report.totals();
            progress.set_message(format!("{} read, {} written, {} skipped", totals.read, totals.written, totals.skipped()));
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
    output.line(&format!("{} read, {} written{there}, {} skipped", totals.read, totals.written, totals.skipped()))?;
    totals.bad.iter().try_for_each(|(reason, count)| output.line(&format!("  {count} {reason}")))
}

/// Stops collecting at the first signal, after the batch at hand; the second one ends the process at once.
fn stop_on_signals(stop: &Stop) -> Result<(), Failure> {
    let stop = stop.clone();
    super::up::signals::watch(move || stop.stop())?;
    Ok(())
}

/// Events for a running `refold up`.
struct ServerSink {
    agent: Agent,
    url: String,
    server: String,
    topic: String,
}

impl ServerSink {
    fn new(server: &str, source: &Source) -> ServerSink {
        let url = format!("{server}/v1/sources/{}/events", source.name);
        ServerSink { agent: agent(), url, server: server.to_owned(), topic: source.topic.clone() }
    }

    /// Fails when nobody answers at the beginning: most likely there is nobody. Who goes away later is waited for.
    fn is_there(&self) -> Result<(), Failure> {
        let server = &self.server;
        let asked = self.agent.get(format!("{server}/healthz")).call();
        asked.map(drop).map_err(|error| {
            anyhow!("{server} does not answer: {error}; start refold up, name another with --to, or write into a data folder with --data")
                .into()
        })
    }

    fn post(&self, records: &[NewRecord]) -> Result<(), CollectError> {
        let away = |message: String| CollectError::Log { topic: self.topic.clone(), error: LogError::Away(message) };
        let sent = self.agent.post(&self.url).header("content-type", records::RECORDS).send(&records::encode(records)[..]);
        let mut response = sent.map_err(|error| away(format!("{} does not answer: {error}", self.server)))?;
        let status = response.status();
        let text = response.body_mut().read_to_string().map_err(|error| away(format!("{}: {error}", self.server)))?;
        let document: Value = serde_json::from_str(&text).unwrap_or_default();
        let detail = document.get("detail").and_then(Value::as_str).unwrap_or(&text);
        if status.as_u16() == 503 {
            return Err(away(detail.to_owned()));
        }
        let refused = document.get("refused_count").and_then(Value::as_u64).unwrap_or(0);
        match (status.is_success(), refused) {
            (true, 0) => Ok(()),
            (false, 0) => Err(CollectError::Invalid(format!("{} refuses events: {detail}", self.server))),
            _ => {
                let first = document.pointer("/refused/0/detail").and_then(Value::as_str).unwrap_or("");
                let message =
                    format!("{} refuses {refused} events, the first one because: {first}; does it declare the same schema?", self.server);
                Err(CollectError::Invalid(message))
            }
        }
    }
}

impl Sink for ServerSink {
    fn ends(&self) -> Result<Option<Cut>, CollectError> {
        Ok(None)
    }

    fn append(&self, records: Vec<NewRecord>) -> Result<(), CollectError> {
        let mut rest = records.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |record: &&NewRecord| {
                bytes += record.value.len() + record.key.as_ref().map_or(0, Bytes::len);
                bytes <= BODY_BYTES
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (body, after) = rest.split_at(count);
            self.post(body)?;
            rest = after;
        }
        Ok(())
    }

    fn since(&self, _ends: &Cut, _see: &mut dyn FnMut(&[u8])) -> Result<(), CollectError> {
        Ok(())
    }
}
