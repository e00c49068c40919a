//! What the engine made of single events: which were quarantined, and which counted although they were late.

use std::collections::BTreeMap;
use std::time::Duration;

use datafusion::arrow::array::{Array, RecordBatch};
use refold_processor::decode::{Decoder, arrow_schema};
use refold_processor::engine::codec::as_micros;
use refold_processor::engine::error::EngineError;
use refold_processor::engine::quarantined::{self, Quarantined, Wanted};
use refold_processor::engine::watermark::PartitionTime;
use refold_processor::log::Log;
use refold_processor::position::{Cut, Offset, Partition};
use refold_processor::quarantine::Reason;

use super::expected::{Key, Row};
use super::ways::{Ran, Trial, row_values};

/// An event that is worth a line.
pub struct Noted {
    /// Its number in the case, from 1.
    pub number: usize,
    /// The line that declares it.
    pub line: usize,
    /// Where it is in the log.
    pub place: (Partition, Offset),
    /// What became of it.
    pub verdict: Verdict,
    /// Keys of partitions that it is of, among those that differ.
    pub partition_keys: Vec<Key>,
    /// Itself, if it was decoded.
    event: Option<RecordBatch>,
}

/// What became of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It counts, although it came after the watermark of its own partition had passed it.
    Late {
        /// How far it is behind the largest event time before it in its partition, microseconds.
        behind_us: i64,
    },
    /// It does not count.
    Quarantined {
        /// Why.
        reason: Reason,
        /// What exactly.
        detail: String,
    },
}

impl Noted {
    /// The rows of a view of this event alone; `None`: there is nothing to make them of.
    pub fn rows_alone(&self, trial: &Trial) -> Result<Option<Vec<Row>>, EngineError> {
        let Some(event) = &self.event else { return Ok(None) };
        // What fails on it alone is why it was quarantined.
        let rows = trial.view.batch(vec![event.clone()]).ok();
        Ok(rows.map(|rows| rows.iter().flat_map(row_values).collect()))
    }
}

/// All events that a run quarantined.
pub fn quarantined(ran: &Ran) -> Result<Vec<Quarantined>, EngineError> {
    let (mut all, mut from) = (Vec::new(), Some((Partition(0), Offset(0))));
    while let Some(next) = from {
        let page = quarantined::read(&ran.state, &Wanted { from: next, reason: None, limit: usize::MAX })?;
        all.extend(page.events);
        from = page.next;
    }
    Ok(all)
}

/// The events of a run that were late or quarantined, in the order of the case.
pub fn noted(trial: &Trial, ran: &Ran) -> Result<Vec<Noted>, EngineError> {
    let mut verdicts: BTreeMap<(Partition, Offset), Verdict> = BTreeMap::new();
    for event in quarantined(ran)? {
        let verdict = Verdict::Quarantined { reason: event.rejected.reason, detail: event.rejected.detail };
        verdicts.insert((event.partition, event.rejected.offset), verdict);
    }
    let mut decoded: BTreeMap<(Partition, Offset), RecordBatch> = BTreeMap::new();
    let (source, lateness_us) = (trial.source, trial.view.options.lateness_over(trial.source));
    let columns: Vec<usize> = (0..arrow_schema(&source.schema_json)?.fields().len()).collect();
    let mut decoder = Decoder::new(source, &columns, trial.schemas.clone())?;
    for partition in ran.log.partitions(&source.topic)? {
        let from: Cut = [(partition, Offset(0))].into_iter().collect();
        let mut reader = ran.log.reader(&source.topic, &from)?;
        let mut time = PartitionTime::default();
        while let Some(records) = reader.read(usize::MAX, Duration::ZERO)? {
            let chunk = decoder.decode(&records)?;
            let Some(times) = chunk.events.column_by_name(&source.event_time) else { continue };
            let times = as_micros(times)?;
            for (row, origin) in chunk.origins.iter().enumerate() {
                let place = (partition, origin.offset);
                decoded.insert(place, chunk.events.slice(row, 1));
                if times.is_null(row) || verdicts.contains_key(&place) {
                    continue;
                }
                let (at_us, before) = (times.value(row), time);
                time.accept(at_us, origin.record_time_ms.saturating_mul(1_000));
                if let Some(behind_us) = before.max_us.map(|max_us| max_us.saturating_sub(at_us)).filter(|behind| *behind > lateness_us) {
                    verdicts.insert(place, Verdict::Late { behind_us });
                }
            }
        }
    }
    let note = |(index, place): (usize, &(Partition, Offset))| {
        let (verdict, line) = (verdicts.remove(place)?, trial.records.get(index)?.line);
        Some(Noted { number: index + 1, line, place: *place, verdict, partition_keys: Vec::new(), event: decoded.remove(place) })
    };
    Ok(ran.places.iter().enumerate().filter_map(note).collect())
}
