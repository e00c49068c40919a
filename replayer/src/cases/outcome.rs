//! What came of a case: its rows and counts against those expected, and the ways in which it was run against each other.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use refold_processor::engine::error::EngineError;
use refold_processor::quarantine::Reason;

use super::Prepared;
use super::difference::Difference;
use super::expected::{Expected, of};
use super::verdicts::{Noted, Verdict, noted, quarantined};
use super::ways::{self, Ran, Trial};

/// How often a case is cut at random places.
const CUTS: u64 = 3;

/// What came of a case.
pub struct Outcome {
    /// The file that declares it.
    pub file: PathBuf,
    /// The line of its name.
    pub line: usize,
    /// Its name.
    pub name: String,
    /// Its view.
    pub view: String,
    /// What decided where it was cut.
    pub seed: u64,
    /// How long all its runs took.
    pub took: Duration,
    /// What was found.
    pub found: Found,
}

/// What was found.
#[derive(Default)]
pub struct Found {
    /// Why it could not be run to its end.
    pub error: Option<String>,
    /// How its rows differ from those expected.
    pub rows: Difference,
    /// What else is not as expected, in words.
    pub counts: Vec<String>,
    /// How the rows of a run that was cut differ from those of the straight one.
    pub cut: Option<Difference>,
    /// Events that were late or quarantined, as far as they can be behind the differences.
    pub events: Vec<Noted>,
    /// How many were quarantined, by reason.
    pub quarantined: BTreeMap<Reason, u64>,
    /// How many of those applied were late.
    pub late: u64,
}

impl Outcome {
    /// Whether everything is as expected.
    pub fn is_passed(&self) -> bool {
        let Found { error, rows, counts, cut, .. } = &self.found;
        error.is_none() && rows.is_empty() && counts.is_empty() && cut.is_none()
    }
}

/// Runs a case in all ways.
pub fn run(prepared: &Prepared, seed: u64) -> Outcome {
    let begun = Instant::now();
    let found = find(prepared, seed).unwrap_or_else(|error| Found { error: Some(error.to_string()), ..Found::default() });
    let case = &prepared.case;
    Outcome {
        file: case.file.clone(),
        line: case.line,
        name: case.name.clone(),
        view: case.view.clone(),
        seed,
        took: begun.elapsed(),
        found,
    }
}

fn find(prepared: &Prepared, seed: u64) -> Result<Found, EngineError> {
    let Prepared { case, view, source, schemas, records, expected } = prepared;
    let trial = Trial { view, source, schemas, records };
    let straight = ways::straight(&trial)?;
    let events = noted(&trial, &straight)?;
    let mut found = Found { rows: expected.compare(&straight.rows), ..Found::default() };
    for event in &events {
        match &event.verdict {
            Verdict::Late { .. } => found.late += 1,
            Verdict::Quarantined { reason, .. } => *found.quarantined.entry(*reason).or_default() += 1,
        }
    }
    if found.quarantined != case.quarantined {
        let (expected, counted) = (in_words(&case.quarantined), in_words(&found.quarantined));
        found.counts.push(format!("quarantined: expected {expected}, found {counted}"));
    }
    if let Some(expected) = case.late.filter(|late| *late != found.late) {
        found.counts.push(format!("late: expected {expected}, found {}", found.late));
    }
    found.events = behind(&trial, events, &found)?;
    let all = Expected::all(&view.shape, &straight.rows);
    for cut in 0..CUTS {
        // A case is cut at the same places whatever others there are.
        let seed = case.name.bytes().fold(seed.wrapping_add(cut << 32), |mixed, byte| mixed.wrapping_mul(31).wrapping_add(byte.into()));
        let ran = ways::cut(&trial, seed)?;
        let difference = all.compare(&ran.rows);
        if !difference.is_empty() {
            found.cut = Some(difference);
            break;
        }
        if let Some(why) = counted_otherwise(&straight, &ran)? {
            found.counts.push(why);
            break;
        }
    }
    Ok(found)
}

fn counted_otherwise(straight: &Ran, cut: &Ran) -> Result<Option<String>, EngineError> {
    let of = |ran: &Ran| -> Result<Vec<_>, EngineError> {
        Ok(quarantined(ran)?.into_iter().map(|event| (event.partition, event.rejected.offset, event.rejected.reason)).collect())
    };
    let (straight, restarted) = (of(straight)?, of(cut)?);
    Ok((straight != restarted).then(|| {
        let restarts = cut.restarts;
        format!(
            "cut at random places, with {restarts} restarts, it quarantined {} events, and straight {}",
            restarted.len(),
            straight.len()
        )
    }))
}

/// The events that can be behind what differs. Where rows alone do: those of the same partitions, and those of which nothing is known.
fn behind(trial: &Trial, events: Vec<Noted>, found: &Found) -> Result<Vec<Noted>, EngineError> {
    if found.rows.is_empty() {
        return Ok(events);
    }
    let shape = &trial.view.shape;
    // The partition key comes first in the key of a row.
    let differing: Vec<_> = found.rows.rows.iter().map(|row| row.key.get(..shape.partition_key.len()).unwrap_or_default()).collect();
    let mut behind = Vec::new();
    for mut event in events {
        let rows = event.rows_alone(trial)?;
        let keys = rows.iter().flatten().map(|row| of(row, shape.partition_key.iter().copied()));
        event.partition_keys = keys.filter(|key| differing.contains(&key.as_slice())).collect();
        event.partition_keys.dedup();
        if rows.is_none() || !event.partition_keys.is_empty() || !found.counts.is_empty() {
            behind.push(event);
        }
    }
    Ok(behind)
}

/// `too_late 2, truncated 1`
pub fn in_words(counts: &BTreeMap<Reason, u64>) -> String {
    match counts.is_empty() {
        true => "none".to_owned(),
        false => counts.iter().map(|(reason, count)| format!("{} {count}", reason.as_str())).collect::<Vec<_>>().join(", "),
    }
}
