//! `refold collect --print`: a dry run. What lines become is printed, and nothing is written.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use refold_collector::{Encoder, Pull, Spec, Stop, SystemTimer, Timer, Watcher};
use refold_processor::decode::derived_id;
use serde_json::{Value, json};

use super::opening;
use crate::cli::Collect;
use crate::failure::Failure;
use crate::output::{Output, complain};
use crate::parts::{choose, declared};
use crate::settings::Settings;

/// How long a pull waits for a first line.
const WAIT: Duration = Duration::from_millis(200);
/// How often it is said what is waited for.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// What became of lines.
#[derive(Default)]
struct Seen(Mutex<(Vec<Value>, BTreeMap<String, u64>)>);

impl Watcher for Seen {
    fn event(&self, event: &Value) {
        self.0.lock().0.push(event.clone());
    }

    fn left_out(&self, why: &str) {
        *self.0.lock().1.entry(why.to_owned()).or_default() += 1;
    }
}

/// A folder for the spool of this run, which is removed with it.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Prints `most` events as they would be written, and what else there was, with why.
pub fn run(arguments: &Collect, settings: &Settings, spec: Spec, most: u64, output: &mut Output) -> Result<(), Failure> {
    if !spec.has_lines() {
        return Err(Failure::Usage(
            "--print shows what becomes of lines, and a generator has none; see refold collect generate:RATE --count".into(),
        ));
    }
    let sources = declared(&settings.schemas)?;
    let declared = choose(&sources, arguments.source.as_deref(), "--source")?;
    let encoder = Encoder::new(declared, Some(derived_id(&declared.schema_json)?))?;
    let scratch = Scratch(std::env::temp_dir().join(format!("refold-print-{}", std::process::id())));
    let stop = Stop::new();
    super::stop_on_signals(&stop)?;
    let seen = Arc::new(Seen::default());
    let timer = Arc::new(SystemTimer::new(stop.clone()));
    let mut opening = opening(settings, &scratch.0, timer.clone());
    opening.watcher = Some(seen.clone());
    let mut source = spec.open(encoder, &opening)?;
    let (mut printed, mut bad_lines, mut said) = (0, 0, Instant::now());
    while printed < most && !stop.is_stopped() {
        let left = usize::try_from(most - printed).unwrap_or(usize::MAX);
        match source.next(left, WAIT)? {
            Pull::Events { bad, .. } => {
                for line in &bad {
                    complain(&format!("line {}: {}: {}", line.line, line.reason.as_str(), line.detail));
                }
                bad_lines += bad.len();
                let events = std::mem::take(&mut seen.0.lock().0);
                for event in events.iter().take(left) {
                    output.json(event)?;
                    printed += 1;
                }
            }
            Pull::Idle => {
                if let Some(live) = source.live().filter(|_| said.elapsed() > SAY_EVERY) {
                    complain(&live.words(timer.now_ms()));
                    said = Instant::now();
                }
            }
            Pull::End => break,
        }
    }
    let left_out = &seen.0.lock().1;
    if arguments.json {
        return Ok(output.json(&json!({ "printed": printed, "bad": bad_lines, "left_out": left_out }))?);
    }
    let total: u64 = left_out.values().sum();
    complain(&format!("{printed} printed, {bad_lines} bad, {total} left out by the mapping; nothing was written"));
    left_out.iter().for_each(|(why, count)| complain(&format!("  {count} left out: {why}")));
    Ok(())
}
