//! How far a version is that is being built, how long it still takes, and what it waits for: from what was measured in the last seconds.

use refold_processor::engine::pace::Spent;
use refold_processor::engine::status::{RunStatus, Spread};

/// What a version that is being built waits for most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bottleneck {
    /// It is paused.
    Paused,
    /// It may not be faster.
    Throttle,
    /// Records come slowly from the log, or it is unavailable.
    Log,
    /// Decoding, aggregating and committing.
    Processor,
    /// Everything is folded, and rows wait to be written.
    Store,
}

impl Bottleneck {
    /// All of them.
    pub const ALL: [Bottleneck; 5] = [Bottleneck::Paused, Bottleneck::Throttle, Bottleneck::Log, Bottleneck::Processor, Bottleneck::Store];

    /// Its name in documents and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Bottleneck::Paused => "paused",
            Bottleneck::Throttle => "throttle",
            Bottleneck::Log => "log",
            Bottleneck::Processor => "processor",
            Bottleneck::Store => "store",
        }
    }
}

/// When a version has read the log to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eta {
    /// Never at the rates of the last seconds: events come as fast as they are read, or faster.
    Never,
    /// In about so many seconds.
    In {
        /// At the average rate.
        expected_s: u64,
        /// At the highest.
        soonest_s: u64,
        /// At the lowest; `None`: at that one never.
        latest_s: Option<u64>,
    },
}

/// How long it takes to read `left` events at these rates, while events come in at `arrival_per_s`; `None`: nothing is left.
pub fn eta(left: u64, drain: Spread, arrival_per_s: f64) -> Option<Eta> {
    if left == 0 {
        return None;
    }
    let seconds = |rate: f64| {
        let gain = rate - arrival_per_s;
        let seconds = left as f64 / gain;
        (gain > 0.0 && seconds < LONGEST_S).then(|| seconds.ceil() as u64)
    };
    let Some(expected_s) = seconds(drain.mean) else { return Some(Eta::Never) };
    let soonest_s = seconds(drain.high).unwrap_or(expected_s).min(expected_s);
    let latest_s = seconds(drain.low).map(|latest_s| latest_s.max(expected_s));
    Some(Eta::In { expected_s, soonest_s, latest_s })
}

/// Longer than that is never, seconds: 10 years.
const LONGEST_S: f64 = 10.0 * 365.0 * 86_400.0;

/// What is known of a version that is being built.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// Events until the end of the log, as it is now.
    pub left: u64,
    /// How fast positions move.
    pub drain: Option<Spread>,
    /// How fast the log grows, events per second.
    pub arrival_per_s: Option<f64>,
    /// When it has read all; `None`: it has, or that cannot be told yet.
    pub eta: Option<Eta>,
    /// What it waits for most; `None`: that cannot be told yet.
    pub bottleneck: Option<Bottleneck>,
}

/// The forecast for a version; `None`: it is not being built. `ends`: it ends at some record time, so what comes in is none of its business.
pub fn forecast(run: &RunStatus, ends: bool) -> Option<Forecast> {
    if run.live || run.unable.is_some() || run.failed.is_some() {
        return None;
    }
    let arrival_per_s = run.arrival_per_s.filter(|_| !ends);
    let bottleneck = bottleneck(run);
    let eta = match (bottleneck, run.drain) {
        // Unknown where nobody has seen the end of the log, and a matter of whoever resumes it where it is paused.
        (Some(Bottleneck::Paused), _) | (_, None) => None,
        (_, Some(drain)) => eta(run.lag, drain, arrival_per_s.unwrap_or(0.0)),
    };
    Some(Forecast { left: run.lag, drain: run.drain, arrival_per_s: run.arrival_per_s, eta, bottleneck })
}

/// A version that has to wait for so much of the time because of its limit would be faster without it.
const THROTTLED_SHARE: f64 = 0.2;

fn bottleneck(run: &RunStatus) -> Option<Bottleneck> {
    if run.paused {
        return Some(Bottleneck::Paused);
    }
    if run.source_error.is_some() {
        return Some(Bottleneck::Log);
    }
    // Where the log ends is not known before it was looked at.
    if !run.ends.is_empty() && run.lag == 0 {
        return Some(Bottleneck::Store);
    }
    let Spent { reading_us, working_us, throttled_us } = run.spent_lately?;
    let all = reading_us + working_us + throttled_us;
    match () {
        () if all == 0 => None,
        () if throttled_us as f64 > all as f64 * THROTTLED_SHARE => Some(Bottleneck::Throttle),
        () if reading_us > working_us => Some(Bottleneck::Log),
        () => Some(Bottleneck::Processor),
    }
}

#[cfg(test)]
mod tests {
    use refold_processor::position::{Offset, Partition};

    use super::*;

    fn spread(low: f64, mean: f64, high: f64) -> Spread {
        Spread { mean, low, high }
    }

    #[test]
    fn what_is_left_takes_as_long_as_reading_gains_on_what_comes_in() {
        let even = spread(500.0, 500.0, 500.0);
        assert_eq!(eta(0, even, 0.0), None);
        assert_eq!(eta(10_000, even, 0.0), Some(Eta::In { expected_s: 20, soonest_s: 20, latest_s: Some(20) }));
        assert_eq!(eta(10_000, even, 400.0), Some(Eta::In { expected_s: 100, soonest_s: 100, latest_s: Some(100) }));
        assert_eq!(eta(10_000, even, 500.0), Some(Eta::Never));
        assert_eq!(eta(10_000, even, 800.0), Some(Eta::Never));
        assert_eq!(eta(10_000, spread(0.0, 0.0, 0.0), 0.0), Some(Eta::Never), "it stands still");
        assert_eq!(eta(10_000, spread(300.0, 500.0, 900.0), 400.0), Some(Eta::In { expected_s: 100, soonest_s: 20, latest_s: None }));
        assert_eq!(eta(u64::MAX, even, 0.0), Some(Eta::Never), "hardly");
    }

    fn run(reading_us: u64, working_us: u64, throttled_us: u64) -> RunStatus {
        RunStatus {
            lag: 100,
            ends: [(Partition(0), Offset(100))].into(),
            drain: Some(spread(10.0, 10.0, 10.0)),
            arrival_per_s: Some(10.0),
            spent_lately: Some(Spent { reading_us, working_us, throttled_us }),
            ..RunStatus::default()
        }
    }

    fn waits_for(run: &RunStatus) -> Option<&'static str> {
        forecast(run, false).and_then(|forecast| forecast.bottleneck).map(Bottleneck::name)
    }

    #[test]
    fn the_bottleneck_is_where_the_time_goes() {
        assert_eq!(waits_for(&run(900, 100, 0)), Some("log"));
        assert_eq!(waits_for(&run(100, 900, 0)), Some("processor"));
        assert_eq!(waits_for(&run(100, 700, 300)), Some("throttle"));
        assert_eq!(waits_for(&run(100, 700, 100)), Some("processor"), "the limit is hardly reached");
        assert_eq!(waits_for(&RunStatus { paused: true, ..run(0, 0, 900) }), Some("paused"));
        assert_eq!(waits_for(&RunStatus { source_error: Some("unavailable".into()), ..run(0, 900, 0) }), Some("log"));
        assert_eq!(waits_for(&RunStatus { lag: 0, ..run(900, 100, 0) }), Some("store"), "all is folded, and it is not live");
        assert_eq!(waits_for(&RunStatus { spent_lately: None, ..run(0, 0, 0) }), None);
        assert_eq!(forecast(&RunStatus { live: true, ..run(900, 100, 0) }, false), None);
    }

    #[test]
    fn one_that_ends_does_not_race_with_what_comes_in() {
        let eta = |ends| forecast(&run(900, 100, 0), ends).and_then(|forecast| forecast.eta);
        assert_eq!(eta(false), Some(Eta::Never));
        assert_eq!(eta(true), Some(Eta::In { expected_s: 10, soonest_s: 10, latest_s: Some(10) }));
        let paused = RunStatus { paused: true, ..run(900, 100, 0) };
        assert_eq!(forecast(&paused, false).and_then(|forecast| forecast.eta), None);
    }
}
