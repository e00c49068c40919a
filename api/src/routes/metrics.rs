//! `GET /metrics`: what Prometheus scrapes.
//!
//! Figures of versions are gathered anew at each scrape from what the worker says, so that a version that is gone leaves no figure behind.

mod versions;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use prometheus::{Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};
use refold_collector::LiveStatus;
use refold_processor::engine::status::RunStatus;

use crate::collected::Collected;
use crate::counts::HttpMetrics;
use crate::problem::Problem;
use crate::views::Views;
use crate::watch::{End, Watch};
use crate::work::blocking;
use versions::Catalogued;

/// The media type of Prometheus' text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Measures every request, by the route it matched.
pub async fn measure(State(counts): State<Arc<HttpMetrics>>, request: Request, next: Next) -> Response {
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
    counts.request(method, &route, response.status().as_str(), begun.elapsed().as_secs_f64());
    response
}

/// `GET /metrics`. It answers whatever is unavailable: then with what was seen last, and says so.
pub async fn scrape(State(scrapes): State<Arc<Scrapes>>) -> Result<Response, Problem> {
    let watch = &scrapes.views.watch;
    let (runs, catalogued, ends) = tokio::join!(
        look(&scrapes.runs, &scrapes, |scrapes| Ok(running_here(&scrapes.views.watch))),
        look(&scrapes.catalogued, &scrapes, |scrapes| versions::catalogued(&scrapes.views.catalogue)),
        look(&scrapes.ends, &scrapes, |scrapes| Ok(scrapes.views.watch.ends.look())),
    );
    let families = || -> prometheus::Result<String> {
        let mut families = scrapes.counts.gather();
        families.extend(versions::gathered(&runs.last, &catalogued.last, watch.clock.now_ms())?);
        families.extend(log_ends(&ends.last)?.gather());
        families.extend(log_retention(&ends.last, watch)?.gather());
        families.extend(unavailable(catalogued.is_unavailable, ends.is_unavailable || watch.ends.has_trouble())?.gather());
        if let Some(collected) = &watch.collected {
            families.extend(of_collector(collected, watch.clock.now_ms())?.gather());
        }
        families.sort_by(|left, right| left.name().cmp(right.name()));
        TextEncoder::new().encode_to_string(&families)
    };
    let text = families().map_err(unreadable)?;
    Ok(([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response())
}

/// What a scrape is made of, and what the one before saw.
pub struct Scrapes {
    views: Arc<Views>,
    counts: Arc<HttpMetrics>,
    runs: Arc<Mutex<Look<Vec<RunStatus>>>>,
    catalogued: Arc<Mutex<Look<Vec<Catalogued>>>>,
    ends: Arc<Mutex<Look<Vec<End>>>>,
}

impl Scrapes {
    /// Nothing was seen yet.
    pub fn new(views: &Arc<Views>, counts: &Arc<HttpMetrics>) -> Scrapes {
        Scrapes { views: views.clone(), counts: counts.clone(), runs: Arc::default(), catalogued: Arc::default(), ends: Arc::default() }
    }
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
    scrapes: &Arc<Scrapes>,
    find: impl Fn(&Scrapes) -> Result<T, Problem> + Send + 'static,
) -> Look<T> {
    // One request at a time, regardless of the number of concurrent scrapes.
    if std::mem::replace(&mut seen.lock().is_asked, true) {
        return seen.lock().clone();
    }
    let (scrapes, asking) = (scrapes.clone(), Asking(seen.clone()));
    // It goes on when it takes too long, and notes what it finds for the next scrape.
    let looking = blocking(move || Ok(note(&asking.0, find(&scrapes))));
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
fn of_collector(collected: &Collected, now_ms: i64) -> prometheus::Result<Registry> {
    let registry = Registry::new();
    let totals = collected.report.totals();
    let counts = [
        ("refold_collector_read_total", "Events and bad lines that the source has yielded.", totals.read),
        ("refold_collector_written_total", "Events of the source that were appended to the log.", totals.written),
        ("refold_collector_skipped_total", "Lines of the source that were no events.", totals.skipped()),
        ("refold_collector_left_out_total", "Lines that are none of the source, by its mapping.", totals.left_out),
    ];
    for (name, help, count) in counts {
        let counter = IntCounter::with_opts(Opts::new(name, help))?;
        counter.inc_by(count);
        registry.register(Box::new(counter))?;
    }
    let refused = IntCounterVec::new(Opts::new("refold_collector_refused_total", "The same lines, by the reason."), &["reason"])?;
    for (reason, count) in &totals.bad {
        refused.with_label_values(&[*reason]).inc_by(*count);
    }
    registry.register(Box::new(refused))?;
    if let Some(live) = &collected.live {
        of_connection(live, now_ms, &registry)?;
    }
    let failed = IntGauge::new("refold_collector_failed", "1 when the source failed: nothing of it is collected any more.")?;
    failed.set(i64::from(collected.failed().is_some()));
    registry.register(Box::new(failed))?;
    Ok(registry)
}

/// Figures of the connection of a live source.
fn of_connection(live: &LiveStatus, now_ms: i64, registry: &Registry) -> prometheus::Result<()> {
    let counts = live.counts();
    for (name, help, count) in [
        ("refold_collector_received_total", "Messages that came over the network.", counts.received),
        ("refold_collector_repeated_total", "Messages that had come before, and were dropped.", counts.repeated),
        ("refold_collector_reconnects_total", "Connections after the first one.", counts.reconnects),
        ("refold_collector_gaps_total", "Times when messages between two connections may be missing.", counts.gaps),
        ("refold_collector_too_large_total", "Messages that were larger than allowed, and were left out.", counts.too_large),
    ] {
        let counter = IntCounter::with_opts(Opts::new(name, help))?;
        counter.inc_by(count);
        registry.register(Box::new(counter))?;
    }
    let connected = IntGauge::new("refold_collector_connected", "1 while the source is connected.")?;
    connected.set(i64::from(live.is_connected()));
    registry.register(Box::new(connected))?;
    if let Some(behind) = live.behind_ms(now_ms) {
        let gauge = Gauge::with_opts(Opts::new("refold_collector_behind_seconds", "How old the newest event of the source is."))?;
        gauge.set(behind as f64 / 1000.0);
        registry.register(Box::new(gauge))?;
    }
    Ok(())
}

fn unreadable(error: prometheus::Error) -> Problem {
    Problem::internal(format!("metrics cannot be gathered: {error}"))
}

/// What runs in other processes is theirs to say: told twice, sums would be wrong.
fn running_here(watch: &Watch) -> Vec<RunStatus> {
    if !watch.running.is_here() {
        return Vec::new();
    }
    let sizes = watch.running.state_sizes();
    let mut runs = watch.running();
    for run in &mut runs {
        let size = run.version.and_then(|version| sizes.get(&(run.view.clone(), version)));
        run.state_bytes = size.copied().unwrap_or(run.state_bytes);
    }
    runs
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

/// How old the oldest records are, and how long they are kept: whether a replay is whole.
fn log_retention(ends: &[End], watch: &Watch) -> prometheus::Result<Registry> {
    let registry = Registry::new();
    let labels = ["source", "topic"];
    let oldest =
        GaugeVec::new(Opts::new("refold_log_oldest_record_seconds", "The age of the oldest record kept; 0: there is none."), &labels)?;
    let retention = GaugeVec::new(Opts::new("refold_log_retention_seconds", "How long records are kept; +Inf: for good."), &labels)?;
    registry.register(Box::new(oldest.clone()))?;
    registry.register(Box::new(retention.clone()))?;
    let now_ms = watch.clock.now_ms();
    for end in ends {
        let Some(retained) = watch.ends.retained(&end.topic) else { continue };
        let labels = [end.source.as_str(), end.topic.as_str()];
        let age_ms = retained.oldest_ms.map_or(0, |oldest_ms| now_ms.saturating_sub(oldest_ms));
        oldest.with_label_values(&labels).set(age_ms as f64 / 1_000.0);
        retention.with_label_values(&labels).set(retained.retention_ms.map_or(f64::INFINITY, |ms| ms as f64 / 1_000.0));
    }
    Ok(registry)
}
