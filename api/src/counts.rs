//! Counts of what this API does.

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry};

use crate::limits::Class;

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

    /// The figures, for Prometheus.
    pub fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }

    /// Counts a request.
    pub fn request(&self, method: &str, route: &str, status: &str, seconds: f64) {
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
