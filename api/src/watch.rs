//! What is known of everything that runs: how far versions are, where logs end, and for how long something has been wrong.

mod behind;
mod ends;

use std::sync::Arc;

use refold_processor::clock::Clock;
use refold_processor::engine::stalled::Stalls;
use refold_processor::engine::status::RunStatus;
use refold_processor::log::Log;
use refold_processor::source::Sources;

pub use self::behind::Behind;
pub use self::ends::{End, Ends};
use crate::collected::Collected;
use crate::ports::{Ports, Running};
use crate::rates::Rates;

/// The watch over versions and logs.
pub struct Watch {
    /// What runs here, or elsewhere.
    pub running: Arc<dyn Running>,
    /// What is collected here.
    pub collected: Option<Arc<Collected>>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where logs end.
    pub ends: Ends,
    /// What is behind for long.
    pub behind: Behind,
    /// More events behind than this are trouble.
    pub caught_up_lag_events: u64,
    rates: Rates,
    /// Which versions do not move although there are events to fold.
    stalls: Stalls,
}

impl Watch {
    /// A watch over what these ports lead to.
    pub fn new(ports: &Ports, caught_up_lag_events: u64) -> Watch {
        let log: Arc<dyn Log> = ports.log.clone();
        let sources: Sources = ports.sources.clone();
        Watch {
            running: ports.running.clone(),
            collected: ports.collected.clone(),
            clock: ports.clock.clone(),
            ends: Ends::new(log, sources, ports.clock.clone()),
            behind: Behind::default(),
            caught_up_lag_events,
            rates: Rates::default(),
            stalls: Stalls::default(),
        }
    }

    /// How far each running version is, with its rate of the last seconds.
    pub fn running(&self) -> Vec<RunStatus> {
        let mut statuses = self.running.status();
        let is_here = self.running.is_here();
        for status in &mut statuses {
            // Who folds knows best whether it can be read.
            if !is_here {
                status.source_error = self.ends.trouble_of(&status.topic).map(|(why, _)| why);
            }
            status.arrival_per_s = self.ends.arrival_per_s(&status.topic);
            // What is being folded was read some time ago: by now the log may reach further.
            let seen = self.ends.of(&status.topic);
            if !seen.is_empty() {
                let mut ends = status.ends.clone();
                for (partition, seen) in seen {
                    let end = ends.entry(partition).or_default();
                    *end = seen.max(*end);
                }
                status.set_ends(ends);
            }
        }
        let now_ms = self.clock.now_ms();
        self.rates.apply(now_ms, &mut statuses);
        self.behind.note(now_ms, &statuses, self.caught_up_lag_events);
        self.stalls.apply(now_ms, &mut statuses);
        statuses
    }

    /// That what is collected here still writes its history into the log of a source, for people.
    pub fn history_of(&self, source: &str) -> Option<String> {
        let now_ms = self.clock.now_ms();
        let collected = self.collected.as_deref();
        let writing = collected.filter(|collected| collected.source == source && collected.is_writing_history(now_ms));
        writing.map(|Collected { spec, report, .. }| {
            let written = report.totals().written;
            format!("{spec} is still writing its history into the log of {source} ({written} events so far)")
        })
    }
}
