//! `GET /v1/views/{view}/quarantine`: the events that a version did not apply, and why.
//!
//! They are read from the version's state, by the worker that runs it, so the process that runs the version answers. They hold what was posted, which no view may show:
//! who may not administrate may not read them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use refold_processor::decode::{Decoder, arrow_schema};
use refold_processor::engine::quarantined::{Page, Quarantined, Wanted};
use refold_processor::json;
use refold_processor::log::{RecordSpan, Records};
use refold_processor::position::{Offset, Partition};
use refold_processor::quarantine::Reason;
use refold_processor::store::catalogue::{VersionRecord, VersionState};
use refold_processor::table::Version;
use serde_json::{Value, json};

use crate::intake::{Intake, Intakes};
use crate::parameters::parse_version;
use crate::problem::Problem;
use crate::reading::record_of;
use crate::views::Views;
use crate::work::blocking;

const PARAMETERS: [&str; 4] = ["version", "reason", "limit", "cursor"];
const LIMIT_DEFAULT: usize = 100;
/// The greatest limit that a reader may name.
const LIMIT_MAX: usize = 1_000;
/// The longest record that a page shows whole, bytes. One that is asked for alone is shown as far as it is kept.
const SHOWN_BYTES: usize = 4 << 10;

/// `GET /v1/views/{view}/quarantine`
pub async fn list(
    State(views): State<Arc<Views>>,
    State(intakes): State<Arc<Intakes>>,
    Path(view): Path<String>,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Result<Json<Value>, Problem> {
    blocking(move || {
        let asked = Asked::parse(&parameters, &PARAMETERS)?;
        let versions = views.versions_of(&view)?;
        let record = resolve(&views, &view, &versions, asked.cursor.map(|cursor| cursor.version).or(asked.version))?;
        let from = asked.cursor.map_or((Partition(0), Offset(0)), |cursor| cursor.at);
        let page = read(&views, record, &Wanted { from, reason: asked.reason, limit: asked.limit.unwrap_or(LIMIT_DEFAULT) })?;
        let next = page.next.map(|at| Cursor { version: record.version, at }.text());
        Ok(Json(json!({
            "view": view,
            "version": record.version.0,
            "quarantined": counts(&views, record),
            "records": documents(&views, &intakes, record, &page.events, SHOWN_BYTES)?,
            "next_cursor": next,
        })))
    })
    .await
}

/// `GET /v1/views/{view}/quarantine/{partition}/{offset}`
pub async fn one(
    State(views): State<Arc<Views>>,
    State(intakes): State<Arc<Intakes>>,
    Path((view, partition, offset)): Path<(String, String, String)>,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Result<Json<Value>, Problem> {
    blocking(move || {
        let asked = Asked::parse(&parameters, &["version"])?;
        let number = |name: &str, text: &str| {
            text.parse::<u64>().map_err(|_| Problem::parameter(format!("{name} {text:?} is not a number, such as 0")))
        };
        let (partition_number, offset) = (number("partition", &partition)?, Offset(number("offset", &offset)?));
        let versions = views.versions_of(&view)?;
        let record = resolve(&views, &view, &versions, asked.version)?;
        let page = match u32::try_from(partition_number) {
            Ok(partition) => read(&views, record, &Wanted { from: (Partition(partition), offset), reason: None, limit: 1 })?,
            Err(_) => Page::default(),
        };
        let is_asked_for = |event: &Quarantined| u64::from(event.partition.0) == partition_number && event.rejected.offset == offset;
        let events: Vec<Quarantined> = page.events.into_iter().filter(is_asked_for).collect();
        let mut documents = documents(&views, &intakes, record, &events, usize::MAX)?;
        documents.pop().map(Json).ok_or_else(|| {
            let detail = format!("version {} of view {view} has no quarantined event at {partition}/{offset}", record.version);
            Problem::not_found(detail)
        })
    })
    .await
}

#[derive(Debug, Default)]
struct Asked {
    version: Option<Version>,
    reason: Option<Reason>,
    limit: Option<usize>,
    cursor: Option<Cursor>,
}

impl Asked {
    fn parse(parameters: &[(String, String)], known: &[&str]) -> Result<Asked, Problem> {
        let mut asked = Asked::default();
        for (name, value) in parameters {
            let wrong = |expected: &str| Problem::parameter(format!("parameter {name}: {value:?} is not {expected}"));
            match name.as_str() {
                unknown if !known.contains(&unknown) => {
                    let detail = format!("there is no parameter {unknown}; there are: {}", known.join(", "));
                    return Err(Problem::parameter(detail).with("parameters", known.to_vec()));
                }
                "version" => asked.version = Some(parse_version(value).ok_or_else(|| wrong("the number of a version, such as 2"))?),
                "reason" => asked.reason = Some(Reason::parse(value).ok_or_else(|| unknown_reason(value))?),
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                    asked.limit = Some(limit.ok_or_else(|| wrong(&format!("a number from 1 to {LIMIT_MAX}; read on with next_cursor")))?);
                }
                _ => asked.cursor = Some(Cursor::parse(value).ok_or_else(|| wrong("a next_cursor that an answer has had"))?),
            }
        }
        match (asked.cursor, asked.version) {
            (Some(cursor), Some(version)) if cursor.version != version => {
                Err(Problem::parameter(format!("the cursor is of version {}, not of {version}: leave one of the two out", cursor.version)))
            }
            _ => Ok(asked),
        }
    }
}

fn unknown_reason(text: &str) -> Problem {
    let known = Reason::ALL.map(Reason::as_str);
    Problem::parameter(format!("parameter reason: there is no reason {text}; there are: {}", known.join(", ")))
        .with("reasons", known.to_vec())
}

/// Where a page ended: `v<version>.<partition>.<offset>`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cursor {
    version: Version,
    at: (Partition, Offset),
}

impl Cursor {
    fn parse(text: &str) -> Option<Cursor> {
        let (version, at) = text.strip_prefix('v')?.split_once('.')?;
        let (partition, offset) = at.split_once('.')?;
        Some(Cursor { version: Version(version.parse().ok()?), at: (Partition(partition.parse().ok()?), Offset(offset.parse().ok()?)) })
    }

    fn text(&self) -> String {
        format!("{}.{}.{}", self.version, self.at.0, self.at.1)
    }
}

/// The version asked for, or the one in service, or before there is one the newest.
fn resolve<'a>(views: &Views, view: &str, versions: &'a [VersionRecord], wanted: Option<Version>) -> Result<&'a VersionRecord, Problem> {
    let active = views.catalogue.active(view)?.map(|active| active.version);
    let newest = || versions.iter().rfind(|record| record.state != VersionState::Dropped).map(|record| record.version);
    let version = wanted.or(active).or_else(newest);
    let version = version.ok_or_else(|| Problem::not_found(format!("all versions of view {view} are dropped")))?;
    record_of(view, versions, version)
}

fn read(views: &Views, record: &VersionRecord, wanted: &Wanted) -> Result<Page, Problem> {
    let page = views.watch.running.quarantined(&record.view, record.version, wanted).map_err(|error| {
        if error.is_retryable() { Problem::unavailable(error.to_string()) } else { Problem::internal(error.to_string()) }
    })?;
    page.ok_or_else(|| {
        let (view, version) = (&record.view, record.version);
        match &record.state {
            VersionState::Failed { error } => {
                let detail = format!("version {version} of view {view} has failed, so that nobody reads its quarantine: {error}");
                Problem::new(StatusCode::CONFLICT, "not-running", "The version does not run", detail)
            }
            _ => Problem::unavailable(format!(
                "version {version} of view {view} does not run in this process now; ask the one that runs it, or again in a moment"
            )),
        }
    })
}

/// How many events of each reason the version has quarantined.
fn counts(views: &Views, record: &VersionRecord) -> Value {
    let run = views.watch.running().into_iter().find(|run| run.view == record.view && run.version == Some(record.version));
    run.map_or(Value::Null, |run| json!(run.quarantined))
}

fn documents(
    views: &Views,
    intakes: &Intakes,
    record: &VersionRecord,
    events: &[Quarantined],
    shown_bytes: usize,
) -> Result<Vec<Value>, Problem> {
    let planned = views.planned(record)?;
    let intake = intakes.get(&planned.source);
    let is_shown_whole = |event: &Quarantined| event.is_whole() && event.value.len() <= shown_bytes;
    let shown: Vec<&Quarantined> = events.iter().filter(|event| is_shown_whole(event)).collect();
    let mut values = match intake {
        Some(intake) => decoded(intakes, intake, &shown)?,
        None => vec![None; shown.len()],
    }
    .into_iter();
    let mut documents = Vec::with_capacity(events.len());
    for event in events {
        let value = if is_shown_whole(event) { values.next().flatten() } else { None };
        let kept = event.value.get(..shown_bytes).unwrap_or(&event.value);
        let base64 = (value.is_none() && !kept.is_empty()).then(|| STANDARD.encode(kept));
        documents.push(json!({
            "topic": intake.map(|intake| intake.source.topic.as_str()),
            "partition": event.partition.0,
            "offset": event.rejected.offset.0,
            "record_time": event.record_time_ms.map(json::millis),
            "reason": event.rejected.reason.as_str(),
            "detail": event.rejected.detail,
            "bytes": event.value_bytes,
            "value": value,
            "base64": base64,
            "truncated": event.value_bytes.is_some_and(|bytes| bytes > kept.len() as u64),
        }));
    }
    Ok(documents)
}

/// The events of those that decode, in their order; of none while their schemas cannot be asked for.
fn decoded(intakes: &Intakes, intake: &Intake, events: &[&Quarantined]) -> Result<Vec<Option<Value>>, Problem> {
    let schema = arrow_schema(&intake.source.schema_json)?;
    let columns: Vec<usize> = (0..schema.fields().len()).collect();
    let mut decoder = Decoder::new(&intake.source, &columns, intakes.schemas.clone())?;
    let (mut spans, mut payload) = (Vec::with_capacity(events.len()), Vec::new());
    for (index, event) in events.iter().enumerate() {
        // They are of many partitions: their places here stand for their offsets.
        let (offset, start) = (Offset(index as u64), payload.len() as u32);
        spans.push(RecordSpan { offset, record_time_ms: 0, start, len: Some(event.value.len() as u32) });
        payload.extend_from_slice(&event.value);
    }
    let end = Offset(events.len() as u64);
    let run = Records { partition: Partition(0), spans, payload: payload.into(), next: end, end };
    let mut values = vec![None; events.len()];
    let decoded = match decoder.decode(&run) {
        Ok(decoded) => decoded,
        // What is refused can be looked at while schemas are unavailable: as it came.
        Err(error) if error.is_retryable() => return Ok(values),
        Err(error) => return Err(error.into()),
    };
    for (origin, row) in decoded.origins.iter().zip(json::rows(&decoded.events)) {
        if let Some(value) = values.get_mut(origin.offset.0 as usize) {
            *value = Some(row);
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_is_written_and_nothing_else_is() {
        let cursor = Cursor { version: Version(3), at: (Partition(2), Offset(u64::MAX)) };
        assert_eq!(Cursor::parse(&cursor.text()), Some(cursor));
        for text in ["", "v", "v1", "v1.2", "v1.2.", "v1.2.x", "1.2.3", "v1.-2.3", "v1.2.3.4", "v99999999999.0.0"] {
            assert_eq!(Cursor::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_asked_wrongly_is_told_with_what_there_is() {
        let detail = |name: &str, value: &str| Asked::parse(&[(name.into(), value.into())], &PARAMETERS).unwrap_err().detail().to_owned();
        assert!(detail("reasn", "x").ends_with("there are: version, reason, limit, cursor"));
        assert!(detail("reason", "late").contains("too_late, late_after_idle"));
        assert!(detail("limit", "1001").contains("from 1 to 1000"));
        assert!(detail("limit", "0").contains("from 1 to 1000"));
        assert!(detail("version", "new").contains("such as 2"));
        assert!(detail("cursor", "v1.AAAA").contains("next_cursor"));
    }
}
