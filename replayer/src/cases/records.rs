//! The events of a case as records of the log, encoded as a collector encodes them.

use bytes::Bytes;
use refold_collector::mapping::LineFacts;
use refold_collector::{Encoder, Mapping, Refused};
use refold_processor::log::NewRecord;
use refold_processor::position::Partition;
use refold_processor::source::Source;
use serde_json::Value;

use super::declared::Case;
use super::events::{Content, DeclaredEvent};
use super::mistake::Mistake;

/// A record, where it is declared, and where and when the log takes it.
#[derive(Clone, Debug)]
pub struct Record {
    /// The line that declares it.
    pub line: usize,
    /// The record.
    pub record: NewRecord,
    /// The partition; `None`: where its key sends it.
    pub partition: Option<Partition>,
    /// When the log takes it, milliseconds since the Unix epoch.
    pub record_time_ms: i64,
}

/// Encodes the events of a case.
///
/// # Errors
/// When an event does not fit the source's schema, or a partition is not there.
pub fn encode(case: &Case, source: &Source, encoder: &Encoder, mapping: Option<&Mapping>) -> Result<Vec<Record>, Mistake> {
    let mut records: Vec<Record> = Vec::with_capacity(case.events.len());
    let mut clock_ms = case.now_ms.unwrap_or(0);
    for (number, event) in (1..).zip(&case.events) {
        let mistake = |message: String| case.mistake(event.line, format!("event {number}: {message}"));
        let (mut record, own_time_ms) = match &event.content {
            Content::Raw(bytes) => (NewRecord { key: None, value: Bytes::copy_from_slice(bytes) }, None),
            Content::Event(fields) => encoded(fields, number, encoder, mapping).map_err(|refused| {
                mistake(format!("{refused}; a collector would not take it: mend it, or write the bytes of a bad record with raw or base64"))
            })?,
        };
        // Without a clock of its own the case is at the time of its latest event.
        let arrived_ms = own_time_ms.filter(|_| case.now_ms.is_none()).map_or(clock_ms, |own_ms| own_ms.max(clock_ms));
        let record_time_ms = event.record_time_ms.unwrap_or(arrived_ms);
        clock_ms = clock_ms.max(record_time_ms);
        cut(&mut record, event);
        if let Some(key) = &event.key {
            record.key = Some(Bytes::copy_from_slice(key.as_bytes()));
        }
        if let Some(partition) = event.partition.filter(|partition| *partition >= source.partitions) {
            let last = source.partitions.saturating_sub(1);
            return Err(mistake(format!("partition {partition} is not there; source {} has 0 to {last}", source.name)));
        }
        records.push(Record { line: event.line, record, partition: event.partition.map(Partition), record_time_ms });
    }
    Ok(records)
}

/// A record of these fields, and its event time in milliseconds, rounded up.
fn encoded(fields: &Value, number: u64, encoder: &Encoder, mapping: Option<&Mapping>) -> Result<(NewRecord, Option<i64>), Refused> {
    let mapped;
    let fields = match mapping {
        Some(mapping) => {
            let text = fields.to_string();
            mapped = mapping.apply(fields, LineFacts { text: text.as_bytes(), number, received_ms: None })?;
            &mapped
        }
        None => fields,
    };
    let own_time_ms = encoder.event_time_us(fields).map(|time_us| time_us.div_euclid(1_000) + i64::from(time_us.rem_euclid(1_000) > 0));
    Ok((encoder.encode(fields)?, own_time_ms))
}

fn cut(record: &mut NewRecord, event: &DeclaredEvent) {
    record.value.truncate(record.value.len().saturating_sub(event.cut_bytes));
}
