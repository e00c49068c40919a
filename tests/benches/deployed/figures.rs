//! What a part took: time, processor time by thread, memory.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use refold_tests::services::processor_time;

use crate::Site;

/// The beginning of a measurement.
pub struct Figures {
    broker: String,
    node: String,
    started: Instant,
    own: Duration,
    broker_time: Duration,
    node_time: Duration,
    threads: BTreeMap<String, Duration>,
}

impl Figures {
    pub fn start(site: &Site) -> Figures {
        // The peak so far is of what came before.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        Figures {
            broker: site.broker.clone(),
            node: site.node.clone(),
            started: Instant::now(),
            own: processor_time("self"),
            broker_time: processor_time(&site.broker),
            node_time: processor_time(&site.node),
            threads: threads(),
        }
    }

    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Says what was used since the beginning, for so many events (or rows, where there are none).
    pub fn print(&self, what: &str, events: u64, rows: u64) {
        let took = self.elapsed().as_secs_f64();
        let own = (processor_time("self") - self.own).as_secs_f64();
        let broker = (processor_time(&self.broker) - self.broker_time).as_secs_f64();
        let node = (processor_time(&self.node) - self.node_time).as_secs_f64();
        let million = events.max(1) as f64 / 1e6;
        print!("  {what}: {took:.2} s");
        if events > 0 {
            print!(
                ", {:.2} M events/s; own processor time {own:.2} s, {:.2} s per million events",
                events as f64 / took / 1e6,
                own / million
            );
        } else {
            print!("; own processor time {own:.2} s");
        }
        if rows > 0 {
            print!("; {rows} rows, {:.0}/s", rows as f64 / took);
        }
        println!("; peak memory {:.0} MB; broker {broker:.2} s, Cassandra {node:.2} s", peak_megabytes());
        let mut named = 0.0;
        let now = threads();
        let mut spent: Vec<(&String, f64)> = now
            .iter()
            .map(|(name, time)| (name, time.saturating_sub(self.threads.get(name).copied().unwrap_or_default()).as_secs_f64()))
            .collect();
        spent.sort_by(|a, b| b.1.total_cmp(&a.1));
        print!("    by thread, s:");
        for (name, seconds) in spent.iter().filter(|(_, seconds)| *seconds >= 0.01) {
            named += seconds;
            print!(" {name} {seconds:.2},");
        }
        println!(" ended {:.2}; load average {}", (own - named).max(0.0), load());
    }
}

/// Processor time of this process's threads that are alive, by what they do.
fn threads() -> BTreeMap<String, Duration> {
    let mut threads = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let Ok(name) = std::fs::read_to_string(task.path().join("comm")) else { continue };
        let kind = match name.trim() {
            name if name.starts_with("rdk:") => "librdkafka".to_owned(),
            name if name.starts_with("rocksdb") => "rocksdb".to_owned(),
            name if name.starts_with("refold-cassandr") => "driver".to_owned(),
            name => name.split('-').next().unwrap_or_default().to_owned(),
        };
        // It may have ended meanwhile.
        if let Ok(schedstat) = std::fs::read_to_string(task.path().join("schedstat")) {
            let nanoseconds = schedstat.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0);
            *threads.entry(kind).or_default() += Duration::from_nanos(nanoseconds);
        }
    }
    threads
}

fn peak_megabytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

/// The load average of the last minute.
pub fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}
