//! Figures of versions: of those that run in this process, and of what the catalogue has.

use std::collections::BTreeMap;

use prometheus::proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Gauge, GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry};
use refold_processor::engine::status::RunStatus;
use refold_processor::engine::timing::Durations;
use refold_processor::store::catalogue::Catalogue;
use refold_processor::table::Version;
use refold_versions::progress::{Bottleneck, Eta, forecast};

use crate::problem::Problem;
use crate::views::is_living;

/// What the catalogue has of a view.
#[derive(Clone)]
pub struct Catalogued {
    view: String,
    active: Option<Version>,
    /// How many versions are in each state.
    states: BTreeMap<&'static str, i64>,
}

/// Reads the catalogue.
pub fn catalogued(catalogue: &Catalogue) -> Result<Vec<Catalogued>, Problem> {
    let mut views = Vec::new();
    for view in catalogue.views()? {
        let versions = catalogue.versions(&view)?;
        if !is_living(&versions) {
            continue;
        }
        let active = catalogue.active(&view)?.map(|active| active.version);
        let mut states = BTreeMap::new();
        for record in versions {
            *states.entry(record.state.name()).or_default() += 1;
        }
        views.push(Catalogued { view, active, states });
    }
    Ok(views)
}

/// A counter or gauge by view and version: name, help, value.
type Figure<N> = (&'static str, &'static str, fn(&RunStatus) -> N);

const COUNTERS: [Figure<u64>; 9] = [
    ("refold_events_read_total", "Events read: applied and quarantined.", |run| run.read),
    ("refold_events_applied_total", "Events folded into state.", |run| run.applied),
    ("refold_commits_total", "Commits since the version was started in this process.", |run| run.commits),
    (
        "refold_absent_rows_total",
        "Evaluations of groups that made no row because something failed for the group, since the version was started in this process.",
        |run| run.absent_rows,
    ),
    ("refold_rows_written_total", "Rows written to the view store since the version was started in this process.", |run| run.rows_written),
    ("refold_quarantine_let_go_total", "Quarantined events that are counted, but not kept any more.", |run| run.quarantine_let_go),
    ("refold_feed_gaps_total", "Times that changes were left out of the change feed, and followers told to begin anew.", |run| {
        run.feed_gaps
    }),
    ("refold_view_feed_rows_total", "Rows published to the feed of the view since this process began.", |run| {
        run.view_feed.as_ref().map_or(0, |feed| feed.rows)
    }),
    ("refold_view_feed_differences_total", "Differences published to the feed of the view since this process began.", |run| {
        run.view_feed.as_ref().map_or(0, |feed| feed.differences)
    }),
];

const GAUGES: [Figure<i64>; 10] = [
    ("refold_lag_events", "Events between the committed positions and the ends of the log.", |run| run.lag as i64),
    ("refold_unwritten_events", "Events folded in whose rows are not all known to be in the view store.", |run| {
        run.unwritten_events as i64
    }),
    ("refold_state_bytes", "The size of the state, on disk and in write buffers.", |run| run.state_bytes as i64),
    ("refold_queued_rows", "Rows in memory that wait to be written.", |run| run.queued_rows as i64),
    ("refold_version_live", "1 when rows are written at every commit, 0 while the version is being built.", |run| i64::from(run.live)),
    ("refold_stalled", "1 while the version folds nothing although events wait.", |run| i64::from(run.stalled_s.is_some())),
    ("refold_source_unavailable", "1 while events wait because the log or the schemas are unavailable.", |run| {
        i64::from(run.source_error.is_some())
    }),
    ("refold_store_refusing", "1 while rows wait because the view store refuses them.", |run| i64::from(run.store_error.is_some())),
    ("refold_feed_refusing", "1 while changes of rows are not published.", |run| i64::from(run.feed_error.is_some())),
    ("refold_view_feed_refusing", "1 while the feed of the view is not published.", |run| {
        i64::from(run.view_feed.as_ref().is_some_and(|feed| feed.error.is_some()))
    }),
];

const TIMES: [Figure<Option<i64>>; 2] = [
    ("refold_watermark_seconds", "Event time of the watermark, seconds since the Unix epoch.", |run| run.watermark_us),
    ("refold_event_time_seconds", "The largest event time folded in, seconds since the Unix epoch.", |run| run.event_time_us),
];

const STEP_DURATION: &str = "refold_step_duration_seconds";

/// All figures of versions.
pub fn gathered(runs: &[RunStatus], catalogued: &[Catalogued], now_ms: i64) -> prometheus::Result<Vec<MetricFamily>> {
    let registry = Registry::new();
    let named = runs.iter().filter_map(|run| run.version.map(|version| (run, version.0.to_string())));
    let (versioned, unable): (Vec<(&RunStatus, String)>, Vec<_>) = named.partition(|(run, _)| run.unable.is_none());
    let unable_help = "1 while the version cannot be run here, which is tried again.";
    let is_unable = IntGaugeVec::new(Opts::new("refold_version_unable", unable_help), &["view", "version"])?;
    registry.register(Box::new(is_unable.clone()))?;
    for (run, version) in versioned.iter().chain(&unable) {
        is_unable.with_label_values(&[run.view.as_str(), version]).set(i64::from(run.unable.is_some()));
    }
    of_versions(&registry, &versioned, now_ms)?;
    of_replays(&registry, &versioned)?;
    of_parts(&registry, &versioned, now_ms)?;
    let active = IntGaugeVec::new(Opts::new("refold_active_version", "The version that readers are sent to."), &["view"])?;
    let states = IntGaugeVec::new(Opts::new("refold_versions", "Versions in the catalogue, by state."), &["view", "state"])?;
    registry.register(Box::new(active.clone()))?;
    registry.register(Box::new(states.clone()))?;
    for found in catalogued {
        let view = found.view.as_str();
        if let Some(version) = found.active {
            active.with_label_values(&[view]).set(i64::from(version.0));
        }
        found.states.iter().for_each(|(state, count)| states.with_label_values(&[view, state]).set(*count));
    }
    let up = Gauge::with_opts(Opts::new("refold_versions_running", "Versions that run in this process."))?;
    up.set(versioned.len() as f64);
    registry.register(Box::new(up))?;
    let mut families = registry.gather();
    families.extend(step_durations(&versioned));
    Ok(families)
}

/// One figure for each version.
fn of_versions(registry: &Registry, versioned: &[(&RunStatus, String)], now_ms: i64) -> prometheus::Result<()> {
    let labels = ["view", "version"];
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
        for (run, version) in versioned {
            if let Some(time_us) = value(run) {
                gauge.with_label_values(&[run.view.as_str(), version]).set(seconds(time_us));
            }
        }
    }
    let delay = GaugeVec::new(Opts::new("refold_watermark_delay_seconds", "How far the watermark is behind the clock."), &labels)?;
    registry.register(Box::new(delay.clone()))?;
    for (run, version) in versioned {
        if let Some(watermark_us) = run.watermark_us {
            delay.with_label_values(&[run.view.as_str(), version]).set(seconds(now_ms * 1_000 - watermark_us));
        }
    }
    Ok(())
}

/// Figures of versions that are being built; of others, that nothing is left.
fn of_replays(registry: &Registry, versioned: &[(&RunStatus, String)]) -> prometheus::Result<()> {
    let labels = ["view", "version"];
    let figures: [Figure<Option<f64>>; 5] = [
        ("refold_replay_left_events", "Events until the end of the log, of a version that is being built.", |run| {
            Some(forecast(run, false).map_or(0.0, |forecast| forecast.left as f64))
        }),
        ("refold_replay_events_per_second", "How fast the positions of a version that is being built moved in the last seconds.", |run| {
            forecast(run, false).map_or(Some(0.0), |forecast| forecast.drain.map(|drain| drain.mean))
        }),
        (
            "refold_replay_eta_seconds",
            "When a version that is being built has read the log at the rates of the last seconds; +Inf: never.",
            |run| {
                let Some(forecast) = forecast(run, !run.ended.is_empty()) else { return Some(0.0) };
                Some(match forecast.eta? {
                    Eta::Never => f64::INFINITY,
                    Eta::In { expected_s, .. } => expected_s as f64,
                })
            },
        ),
        ("refold_replay_paused", "1 while a version that is being built is paused.", |run| Some(f64::from(u8::from(run.paused)))),
        ("refold_replay_limit_events_per_second", "How fast a version may be built now; +Inf: as fast as it can.", |run| {
            Some(run.limit_per_s.unwrap_or(f64::INFINITY))
        }),
    ];
    for (name, help, value) in figures {
        let gauge = GaugeVec::new(Opts::new(name, help), &labels)?;
        registry.register(Box::new(gauge.clone()))?;
        for (run, version) in versioned {
            if let Some(value) = value(run) {
                gauge.with_label_values(&[run.view.as_str(), version]).set(value);
            }
        }
    }
    let waits = Opts::new("refold_replay_bottleneck", "1 for what a version that is being built waits for most.");
    let waits = IntGaugeVec::new(waits, &["view", "version", "part"])?;
    registry.register(Box::new(waits.clone()))?;
    for (run, version) in versioned {
        let bottleneck = forecast(run, false).and_then(|forecast| forecast.bottleneck);
        for part in Bottleneck::ALL {
            waits.with_label_values(&[run.view.as_str(), version, part.name()]).set(i64::from(Some(part) == bottleneck));
        }
    }
    Ok(())
}

/// Figures of the partitions, reasons and steps of each version.
fn of_parts(registry: &Registry, versioned: &[(&RunStatus, String)], now_ms: i64) -> prometheus::Result<()> {
    let quarantined =
        IntCounterVec::new(Opts::new("refold_events_quarantined_total", "Events quarantined, by reason."), &["view", "version", "reason"])?;
    let retries = Opts::new("refold_retries_total", "Reads of the log and writes of rows that failed and were tried again.");
    let retries = IntCounterVec::new(retries, &["view", "version", "step"])?;
    let by_partition = ["view", "version", "partition"];
    let position = IntGaugeVec::new(Opts::new("refold_position", "The committed position of each partition."), &by_partition)?;
    let lag = Opts::new("refold_partition_lag_events", "Events between the committed position and the end of each partition.");
    let lag = IntGaugeVec::new(lag, &by_partition)?;
    let lag_time = Opts::new(
        "refold_partition_lag_seconds",
        "How far the largest event time folded in from each partition is behind the clock; 0 when it is read to its end.",
    );
    let lag_time = GaugeVec::new(lag_time, &by_partition)?;
    registry.register(Box::new(quarantined.clone()))?;
    registry.register(Box::new(retries.clone()))?;
    registry.register(Box::new(position.clone()))?;
    registry.register(Box::new(lag.clone()))?;
    registry.register(Box::new(lag_time.clone()))?;
    for (run, version) in versioned {
        let view = run.view.as_str();
        for (reason, count) in &run.quarantined {
            quarantined.with_label_values(&[view, version, reason]).inc_by(*count);
        }
        for (step, count) in [("read", run.read_retries), ("write", run.write_retries)] {
            retries.with_label_values(&[view, version, step]).inc_by(count);
        }
        for (partition, offset) in run.positions.iter() {
            position.with_label_values(&[view, version, &partition.to_string()]).set(offset.0 as i64);
        }
        for (partition, end) in &run.ends {
            let (number, behind) = (partition.to_string(), end.0.saturating_sub(run.positions.position(*partition).0));
            lag.with_label_values(&[view, version, &number]).set(behind as i64);
            let behind_us = match run.event_times_us.get(partition) {
                Some(time_us) if behind > 0 => Some(now_ms * 1_000 - time_us),
                _ if behind == 0 => Some(0),
                // Nothing of it is folded in yet: how far it reaches back nobody knows.
                _ => None,
            };
            if let Some(behind_us) = behind_us {
                lag_time.with_label_values(&[view, version, &number]).set(seconds(behind_us));
            }
        }
    }
    Ok(())
}

/// The durations are counted by the engine, so there is no histogram of the library to register.
fn step_durations(versioned: &[(&RunStatus, String)]) -> Option<MetricFamily> {
    let metrics: Vec<Metric> = versioned
        .iter()
        .flat_map(|(run, version)| {
            run.timings.iter().map(move |(step, durations)| {
                let mut metric = Metric::default();
                metric.set_label(
                    [("step", step.name()), ("version", version), ("view", &run.view)].map(|(name, value)| label(name, value)).into(),
                );
                metric.set_histogram(histogram(durations));
                metric
            })
        })
        .collect();
    // A family without a sample is none.
    if metrics.is_empty() {
        return None;
    }
    let mut family = MetricFamily::default();
    family.set_name(STEP_DURATION.into());
    family.set_help("Time of each step from merged events to readers who are told: commit, write, sync, tell.".into());
    family.set_field_type(MetricType::HISTOGRAM);
    family.set_metric(metrics);
    Some(family)
}

fn histogram(durations: &Durations) -> Histogram {
    let buckets = durations.cumulative().map(|(bound, count)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(count);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(durations.count);
    histogram.set_sample_sum(durations.sum_s);
    histogram
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut label = LabelPair::default();
    label.set_name(name.into());
    label.set_value(value.into());
    label
}

fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}
