//! `GET /metrics`: what Prometheus scrapes.
//!
//! Figures of versions are gathered anew at each scrape from what the worker says, so that a version that is gone leaves no figure behind.

mod versions;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::{Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};
use refold_processor::engine::status::RunStatus;
use refold_processor::log::Bounds;
use refold_processor::position::{Offset, Partition};
use refold_processor::source::Source;

use crate::limits::Class;
use crate::problem::Problem;
use crate::state::{ApiState, Collected, blocking};
use versions::Catalogued;

/// The media type of Prometheus' text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Bounds of the histogram of answer times, seconds.
const SECONDS: [f64; 11] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

/// Counts of what this API does.
pub struct HttpMetrics {
    registry: Registry,
    requests: Option<HistogramVec>,
    taken: Option<IntCounterVec>,
    refused: Option<IntCounterVec>,
    streams: Option<IntGauge>,
    shed: Option<IntCounterVec>,
}

impl HttpMetrics {
    /// Nothing counted yet.
    pub fn new() -> HttpMetrics {
        let registry = Registry::new();
        let requests =
            HistogramOpts::new("refold_http_request_duration_seconds", "Time from a request to its answer.").buckets(SECONDS.to_vec());
        let requests = added(&registry, HistogramVec::new(requests, &["method", "route", "status"]));
        let counter = |name: &str, help: &str| added(&registry, IntCounterVec::new(Opts::new(name, help), &["source"]));
        let taken = counter("refold_http_events_taken_total", "Events posted and appended to the log.");
        let refused = counter("refold_http_events_refused_total", "Posted lines that were no events.");
        let streams = added(&registry, IntGauge::new("refold_http_live_streams", "Streams of changes that are open."));
        let shed = Opts::new("refold_http_shed_total", "Requests shed with 503 because the concurrency limit of their class was reached.");
        let shed = added(&registry, IntCounterVec::new(shed, &["class"]));
        // Initialized to 0, so that the first shed request shows as an increase.
        if let Some(shed) = &shed {
            Class::ALL.iter().for_each(|class| shed.with_label_values(&[class.name()]).reset());
        }
        HttpMetrics { registry, requests, taken, refused, streams, shed }
    }

    /// Counts a shed request.
    pub fn shed(&self, class: Class) {
        if let Some(shed) = &self.shed {
            shed.with_label_values(&[class.name()]).inc();
        }
    }

    /// Counts one more stream, or one fewer.
    pub fn streams(&self, more: i64) {
        if let Some(streams) = &self.streams {
            streams.add(more);
        }
    }

    /// Counts a body of events.
    pub fn events(&self, source: &str, taken: usize, refused: usize) {
        for (counter, count) in [(&self.taken, taken), (&self.refused, refused)] {
            if let Some(counter) = counter {
                counter.with_label_values(&[source]).inc_by(count as u64);
            }
        }
    }

    fn request(&self, method: &str, route: &str, status: &str, seconds: f64) {
        if let Some(requests) = &self.requests {
            requests.with_label_values(&[method, route, status]).observe(seconds);
        }
    }
}

impl Default for HttpMetrics {
    fn default() -> Self {
        HttpMetrics::new()
    }
}

/// Registers a metric; one whose name is not valid is left out, which the test of the scrape would see.
fn added<C: Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<C>) -> Option<C> {
    let metric = metric.ok()?;
    registry.register(Box::new(metric.clone())).ok()?;
    Some(metric)
}

/// Measures every request, by the route it matched.
pub async fn measure(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    // Anyone can send any word as the method: each would be a series of its own.
    let method = match *request.method() {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    };
    let begun = Instant::now();
    let response = next.run(request).await;
    state.0.http.request(method, &route, response.status().as_str(), begun.elapsed().as_secs_f64());
    response
}

/// `GET /metrics`. It answers whatever is unavailable: then with what was seen last, and says so.
pub async fn scrape(State(state): State<ApiState>) -> Result<Response, Problem> {
    let (runs, catalogued, ends) = tokio::join!(
        look(&state.0.seen.runs, &state, |state| Ok(running_here(state))),
        look(&state.0.seen.catalogued, &state, versions::catalogued),
        look(&state.0.seen.ends, &state, |state| Ok(ends(state))),
    );
    let families = || -> prometheus::Result<String> {
        let mut families = state.0.http.registry.gather();
        families.extend(versions::gathered(&runs.last, &catalogued.last, state.0.ports.clock.now_ms())?);
        families.extend(log_ends(&ends.last)?.gather());
        families.extend(unavailable(catalogued.is_unavailable, ends.is_unavailable || state.0.seen.has_trouble())?.gather());
        if let Some(collected) = &state.0.ports.collected {
            families.extend(of_collector(collected)?.gather());
        }
        families.sort_by(|left, right| left.name().cmp(right.name()));
        TextEncoder::new().encode_to_string(&families)
    };
    let text = families().map_err(unreadable)?;
    Ok(([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response())
}

/// How long a scrape waits for what may be unavailable: well below the time that Prometheus gives it.
const LOOK_FOR: Duration = Duration::from_secs(2);

/// What was last seen of something that may be unavailable.
#[derive(Clone, Default)]
pub struct Look<T> {
    last: T,
    is_unavailable: bool,
    /// Whether a request for it is running.
    is_asked: bool,
}

/// Partitions of one topic whose ends are requested per second; larger topics are polled less often than once a second.
const PARTITIONS_A_SECOND: usize = 64;

/// What was last seen.
#[derive(Default)]
pub struct Seen {
    runs: Arc<Mutex<Look<Vec<RunStatus>>>>,
    catalogued: Arc<Mutex<Look<Vec<Catalogued>>>>,
    ends: Arc<Mutex<Look<Vec<End>>>>,
    /// Whoever asks for them holds this.
    asking: Mutex<()>,
    /// When each topic was polled last.
    asked: Mutex<BTreeMap<String, Instant>>,
    /// Topics that had trouble when they were asked last.
    trouble: Mutex<BTreeMap<String, Trouble>>,
}

/// Why the ends of a topic, or of one of its partitions, could not be asked for.
struct Trouble {
    why: Problem,
    /// The topic as a whole cannot be reached for now.
    is_unavailable: bool,
}

impl Seen {
    /// Asks the log where it ends. May take long when it is unavailable.
    pub fn look_at_ends(&self, state: &ApiState) {
        note(&self.ends, Ok(ends(state)));
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

    /// Where a topic was last seen to end.
    pub fn ends_of(&self, topic: &str) -> BTreeMap<Partition, Offset> {
        let seen = self.ends.lock();
        seen.last.iter().filter(|end| end.topic == topic).map(|end| (end.partition, end.bounds.end)).collect()
    }

    /// What was wrong with a topic when it was asked last where it ends, for people.
    pub fn trouble_of(&self, topic: &str) -> Option<String> {
        self.trouble.lock().get(topic).map(|trouble| trouble.why.detail().to_owned())
    }

    /// Why a topic can take nothing for now, as far as that is known.
    pub fn unavailable(&self, topic: &str) -> Option<Problem> {
        self.trouble.lock().get(topic).filter(|trouble| trouble.is_unavailable).map(|trouble| trouble.why.clone())
    }

    fn has_trouble(&self) -> bool {
        !self.trouble.lock().is_empty()
    }
}

fn note<T: Clone>(seen: &Mutex<Look<T>>, found: Result<T, Problem>) -> Look<T> {
    let mut noted = seen.lock();
    noted.is_unavailable = found.is_err();
    if let Ok(found) = found {
        noted.last = found;
    }
    noted.clone()
}

async fn look<T: Clone + Send + 'static>(
    seen: &Arc<Mutex<Look<T>>>,
    state: &ApiState,
    find: impl Fn(&ApiState) -> Result<T, Problem> + Send + 'static,
) -> Look<T> {
    // One request at a time, regardless of the number of concurrent scrapes.
    if std::mem::replace(&mut seen.lock().is_asked, true) {
        return seen.lock().clone();
    }
    let (state, asking) = (state.clone(), Asking(seen.clone()));
    // It goes on when it takes too long, and notes what it finds for the next scrape.
    let looking = blocking(move || Ok(note(&asking.0, find(&state))));
    if let Ok(Ok(look)) = tokio::time::timeout(LOOK_FOR, looking).await {
        return look;
    }
    let mut noted = seen.lock();
    noted.is_unavailable = true;
    noted.clone()
}

/// Marks the request as running until it is dropped.
struct Asking<T>(Arc<Mutex<Look<T>>>);

impl<T> Drop for Asking<T> {
    fn drop(&mut self) {
        self.0.lock().is_asked = false;
    }
}

fn unavailable(catalogue: bool, log: bool) -> prometheus::Result<Registry> {
    let registry = Registry::new();
    let figures = [
        ("refold_catalogue_unavailable", "1 while the catalogue cannot be read; what comes from it is as it was seen last.", catalogue),
        ("refold_log_unavailable", "1 while the log cannot be asked; its ends are as they were seen last.", log),
    ];
    for (name, help, is_unavailable) in figures {
        let gauge = Gauge::with_opts(Opts::new(name, help))?;
        gauge.set(if is_unavailable { 1.0 } else { 0.0 });
        registry.register(Box::new(gauge))?;
    }
    Ok(registry)
}

/// Figures of the collector in this process.
fn of_collector(collected: &Collected) -> prometheus::Result<Registry> {
    let registry = Registry::new();
    let totals = collected.report.totals();
    let counts = [
        ("refold_collector_read_total", "Events and bad lines that the source has yielded.", totals.read),
        ("refold_collector_written_total", "Events of the source that were appended to the log.", totals.written),
        ("refold_collector_skipped_total", "Lines of the source that were no events.", totals.skipped()),
    ];
    for (name, help, count) in counts {
        let counter = IntCounter::with_opts(Opts::new(name, help))?;
        counter.inc_by(count);
        registry.register(Box::new(counter))?;
    }
    let failed = IntGauge::new("refold_collector_failed", "1 when the source failed: nothing of it is collected any more.")?;
    failed.set(i64::from(collected.failed().is_some()));
    registry.register(Box::new(failed))?;
    Ok(registry)
}

fn unreadable(error: prometheus::Error) -> Problem {
    Problem::internal(format!("metrics cannot be gathered: {error}"))
}

/// What runs in other processes is theirs to say: told twice, sums would be wrong.
fn running_here(state: &ApiState) -> Vec<RunStatus> {
    let running = &state.0.ports.running;
    if !running.is_here() {
        return Vec::new();
    }
    let sizes = running.state_sizes();
    let mut runs = state.running();
    for run in &mut runs {
        let size = run.version.and_then(|version| sizes.get(&(run.view.clone(), version)));
        run.state_bytes = size.copied().unwrap_or(run.state_bytes);
    }
    runs
}

/// Start and end of one partition of a source's log.
#[derive(Clone)]
struct End {
    source: String,
    topic: String,
    partition: Partition,
    bounds: Bounds,
}

/// Where the log ends, and notes what is wrong where that cannot be asked.
fn ends(state: &ApiState) -> Vec<End> {
    let seen = &state.0.seen;
    // A log that is unavailable takes its time: whoever else asks meanwhile gets what was seen last.
    let Some(_asking) = seen.asking.try_lock() else { return seen.ends.lock().last.clone() };
    let mut ends = Vec::new();
    for source in state.0.ports.sources.values() {
        let trouble = ask_for_ends(state, source, &mut ends).err();
        let mut noted = seen.trouble.lock();
        match trouble {
            Some(trouble) => drop(noted.insert(source.topic.clone(), trouble)),
            None => drop(noted.remove(&source.topic)),
        }
    }
    ends
}

/// Adds where a source's log ends; partitions that cannot be asked are where they were.
fn ask_for_ends(state: &ApiState, source: &Source, ends: &mut Vec<End>) -> Result<(), Trouble> {
    let (log, topic) = (&state.0.ports.log, &source.topic);
    let before: Vec<End> = state.0.seen.ends.lock().last.iter().filter(|end| end.source == source.name).cloned().collect();
    let is_well = !state.0.seen.trouble.lock().contains_key(topic);
    if is_well && !state.0.seen.is_due(topic, before.len()) {
        ends.extend(before);
        return Ok(());
    }
    let end = |partition, bounds| End { source: source.name.clone(), topic: topic.clone(), partition, bounds };
    // First, so that a topic which is unavailable as a whole is known to be so after one timeout.
    let partitions = match log.partitions(topic) {
        Ok(partitions) => partitions,
        Err(error) => {
            ends.extend(before);
            return Err(Trouble { is_unavailable: error.is_retryable(), why: error.into() });
        }
    };
    let error = match log.topic_bounds(topic) {
        Ok(bounds) => {
            ends.extend(bounds.into_iter().map(|(partition, bounds)| end(partition, bounds)));
            return Ok(());
        }
        Err(error) => error,
    };
    for partition in partitions {
        match log.bounds(topic, partition) {
            Ok(bounds) => ends.push(end(partition, bounds)),
            Err(_) => ends.extend(before.iter().filter(|end| end.partition == partition).cloned()),
        }
    }
    Err(Trouble { is_unavailable: false, why: error.into() })
}

fn log_ends(ends: &[End]) -> prometheus::Result<Registry> {
    let registry = Registry::new();
    let labels = ["source", "topic", "partition"];
    let start = IntGaugeVec::new(Opts::new("refold_log_start_offset", "The offset of the oldest record kept."), &labels)?;
    let end = IntGaugeVec::new(Opts::new("refold_log_end_offset", "The position of the next record to be appended."), &labels)?;
    registry.register(Box::new(start.clone()))?;
    registry.register(Box::new(end.clone()))?;
    for found in ends {
        let number = found.partition.to_string();
        let labels = [found.source.as_str(), found.topic.as_str(), number.as_str()];
        start.with_label_values(&labels).set(found.bounds.start.0 as i64);
        end.with_label_values(&labels).set(found.bounds.end.0 as i64);
    }
    Ok(registry)
}
