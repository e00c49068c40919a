//! `GET /metrics`: what Prometheus scrapes.
//!
//! Figures of versions are gathered anew at each scrape from what the worker says, so that a version that is gone leaves no figure behind.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::{Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};
use refold_processor::engine::status::RunStatus;
use refold_processor::log::Bounds;
use refold_processor::position::Partition;
use refold_processor::table::Version;

use crate::problem::Problem;
use crate::state::{ApiState, blocking};

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
        HttpMetrics { registry, requests, taken, refused }
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
    let method = request.method().clone();
    let begun = Instant::now();
    let response = next.run(request).await;
    state.0.http.request(method.as_str(), &route, response.status().as_str(), begun.elapsed().as_secs_f64());
    response
}

/// `GET /metrics`. It answers whatever is away: then with what was seen last, and says so.
pub async fn scrape(State(state): State<ApiState>) -> Result<Response, Problem> {
    let (runs, actives, ends) = tokio::join!(
        look(&state.0.seen.runs, &state, |state| Ok(state.running())),
        look(&state.0.seen.actives, &state, actives),
        look(&state.0.seen.ends, &state, ends),
    );
    let families = || -> prometheus::Result<String> {
        let mut families = state.0.http.registry.gather();
        families.extend(gathered(&runs.last, &actives.last)?.gather());
        families.extend(log_ends(&ends.last)?.gather());
        families.extend(away(actives.is_away, ends.is_away)?.gather());
        families.sort_by(|left, right| left.name().cmp(right.name()));
        TextEncoder::new().encode_to_string(&families)
    };
    let text = families().map_err(unreadable)?;
    Ok(([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response())
}

/// How long a scrape waits for what may be away: well below the time that Prometheus gives it.
const LOOK_FOR: Duration = Duration::from_secs(2);

/// What was last seen of something that may be away.
#[derive(Clone, Default)]
pub struct Look<T> {
    last: T,
    is_away: bool,
}

/// What was seen at the last scrape that saw it.
#[derive(Default)]
pub struct Seen {
    runs: Arc<Mutex<Look<Vec<RunStatus>>>>,
    actives: Arc<Mutex<Look<Vec<(String, Version)>>>>,
    ends: Arc<Mutex<Look<Vec<End>>>>,
}

async fn look<T: Clone + Send + 'static>(
    seen: &Arc<Mutex<Look<T>>>,
    state: &ApiState,
    find: impl Fn(&ApiState) -> Result<T, Problem> + Send + 'static,
) -> Look<T> {
    let (state, noted) = (state.clone(), seen.clone());
    // It goes on when it takes too long, and notes what it finds for the next scrape.
    let looking = blocking(move || {
        let found = find(&state);
        let mut noted = noted.lock();
        noted.is_away = found.is_err();
        if let Ok(found) = found {
            noted.last = found;
        }
        Ok(noted.clone())
    });
    match tokio::time::timeout(LOOK_FOR, looking).await {
        Ok(Ok(look)) => look,
        _ => Look { is_away: true, ..seen.lock().clone() },
    }
}

fn away(catalogue: bool, log: bool) -> prometheus::Result<Registry> {
    let registry = Registry::new();
    let figures = [
        ("refold_catalogue_away", "1 while the catalogue cannot be read; what comes from it is as it was seen last.", catalogue),
        ("refold_log_away", "1 while the log cannot be asked; its ends are as they were seen last.", log),
    ];
    for (name, help, is_away) in figures {
        let gauge = Gauge::with_opts(Opts::new(name, help))?;
        gauge.set(if is_away { 1.0 } else { 0.0 });
        registry.register(Box::new(gauge))?;
    }
    Ok(registry)
}

fn unreadable(error: prometheus::Error) -> Problem {
    Problem::internal(format!("metrics cannot be gathered: {error}"))
}

fn actives(state: &ApiState) -> Result<Vec<(String, Version)>, Problem> {
    let catalogue = &state.0.ports.catalogue;
    let mut actives = Vec::new();
    for view in catalogue.views()? {
        if let Some(active) = catalogue.active(&view)? {
            actives.push((view, active.version));
        }
    }
    Ok(actives)
}

/// A counter or gauge by view and version: name, help, value.
type Figure<N> = (&'static str, &'static str, fn(&RunStatus) -> N);

const COUNTERS: [Figure<u64>; 4] = [
    ("refold_events_read_total", "Events read: applied and quarantined.", |run| run.read),
    ("refold_events_applied_total", "Events folded into state.", |run| run.applied),
    ("refold_commits_total", "Commits since the version was started in this process.", |run| run.commits),
    ("refold_rows_written_total", "Rows written to the view store since the version was started in this process.", |run| run.rows_written),
];

const GAUGES: [Figure<i64>; 6] = [
    ("refold_lag_events", "Events between the committed positions and the ends of the log.", |run| run.lag as i64),
    ("refold_queued_rows", "Rows in memory that wait to be written.", |run| run.queued_rows as i64),
    ("refold_version_live", "1 when rows are written at every commit, 0 while the version is being built.", |run| i64::from(run.live)),
    ("refold_version_failed", "1 when the version stopped for good.", |run| i64::from(run.failed.is_some())),
    ("refold_source_away", "1 while events wait because the log or the schemas are away.", |run| i64::from(run.source_error.is_some())),
    ("refold_store_refusing", "1 while rows wait because the view store refuses them.", |run| i64::from(run.store_error.is_some())),
];

const TIMES: [Figure<Option<i64>>; 2] = [
    ("refold_watermark_seconds", "Event time of the watermark, seconds since the Unix epoch.", |run| run.watermark_us),
    ("refold_event_time_seconds", "The largest event time folded in, seconds since the Unix epoch.", |run| run.event_time_us),
];

fn gathered(runs: &[RunStatus], actives: &[(String, Version)]) -> prometheus::Result<Registry> {
    let registry = Registry::new();
    let labels = ["view", "version"];
    let versioned: Vec<(&RunStatus, String)> =
        runs.iter().filter_map(|run| run.version.map(|version| (run, version.0.to_string()))).collect();
    for (name, help, value) in COUNTERS {
        let counter = IntCounterVec::new(Opts::new(name, help), &labels)?;
        registry.register(Box::new(counter.clone()))?;
        versioned.iter().for_each(|(run, version)| counter.with_label_values(&[run.view.as_str(), version]).inc_by(value(run)));
    }
    for (name, help, value) in GAUGES {
        let gauge = IntGaugeVec::new(Opts::new(name, help), &labels)?;
        registry.register(Box::new(gauge.clone()))?;
        versioned.iter().for_each(|(run, version)| gauge.with_label_values(&[run.view.as_str(), version]).set(value(run)));
    }
    for (name, help, value) in TIMES {
        let gauge = GaugeVec::new(Opts::new(name, help), &labels)?;
        registry.register(Box::new(gauge.clone()))?;
        for (run, version) in &versioned {
            if let Some(time_us) = value(run) {
                gauge.with_label_values(&[run.view.as_str(), version]).set(time_us as f64 / 1e6);
            }
        }
    }
    let quarantined =
        IntCounterVec::new(Opts::new("refold_events_quarantined_total", "Events quarantined, by reason."), &["view", "version", "reason"])?;
    let position =
        IntGaugeVec::new(Opts::new("refold_position", "The committed position of each partition."), &["view", "version", "partition"])?;
    let active = IntGaugeVec::new(Opts::new("refold_active_version", "The version that readers are sent to."), &["view"])?;
    registry.register(Box::new(quarantined.clone()))?;
    registry.register(Box::new(position.clone()))?;
    registry.register(Box::new(active.clone()))?;
    for (run, version) in &versioned {
        for (reason, count) in &run.quarantined {
            quarantined.with_label_values(&[run.view.as_str(), version, reason]).inc_by(*count);
        }
        for (partition, offset) in run.positions.iter() {
            position.with_label_values(&[run.view.as_str(), version, &partition.to_string()]).set(offset.0 as i64);
        }
    }
    actives.iter().for_each(|(view, version)| active.with_label_values(&[view.as_str()]).set(i64::from(version.0)));
    let up = Gauge::with_opts(Opts::new("refold_versions_running", "Versions that run in this process."))?;
    up.set(versioned.len() as f64);
    registry.register(Box::new(up))?;
    Ok(registry)
}

/// Start and end of one partition of a source's log.
#[derive(Clone)]
struct End {
    source: String,
    topic: String,
    partition: Partition,
    bounds: Bounds,
}

fn ends(state: &ApiState) -> Result<Vec<End>, Problem> {
    let log = &state.0.ports.log;
    let mut ends = Vec::new();
    for source in state.0.ports.sources.values() {
        for partition in log.partitions(&source.topic)? {
            let bounds = log.bounds(&source.topic, partition)?;
            ends.push(End { source: source.name.clone(), topic: source.topic.clone(), partition, bounds });
        }
    }
    Ok(ends)
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
