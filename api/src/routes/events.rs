//! `POST /v1/sources/{source}/events`: events in.
//!
//! A bad line is refused by its number and the good ones are kept. The answer comes once they are durable, and carries positions: a
//! version whose `positions` reach them has counted these events.
//!
//! With `since`, what is in the log already past those positions is not appended again. Who asks for the ends of the source's log first, and names them with
//! every attempt to send the same events, sends them once, whatever becomes of an answer.

mod body;
mod search;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use refold_collector::encode_ndjson;
use refold_processor::decode::Decoder;
use refold_processor::json;
use refold_processor::log::{NewRecord, RecordSpan, Records};
use refold_processor::position::{Cut, Offset, Partition};
use refold_processor::source::Source;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::intake::{Intake, Intakes};
use crate::problem::Problem;
use crate::records;
use crate::work::blocking;

/// The most refused lines that an answer names; all are counted.
const REFUSED_SHOWN: usize = 100;

/// One line or record that was not taken.
struct Refused {
    number: u64,
    reason: &'static str,
    detail: String,
}

/// What is said beside the events.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    /// Positions, `0:12,1:40`: what is in the log past them is not appended again.
    since: Option<String>,
}

/// `POST /v1/sources/{source}/events`
pub async fn post(
    State(intakes): State<Arc<Intakes>>,
    Path(source): Path<String>,
    Query(query): Query<EventsQuery>,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let intake = intakes.find(&source)?;
    if let Err(problem) = check_open(&intakes, &intake.source) {
        // Who is still sending would not get to read the answer.
        body::drain(request.into_body()).await;
        return Err(problem);
    }
    let since = query.since.as_deref().map(positions).transpose()?;
    let (parts, body) = request.into_parts();
    let is_records = is_records(&parts.headers)?;
    let body::WithRoom { bytes, room } = body::read(&intakes, body).await?;
    // Acquired once the body is complete, so that slow senders never hold a place.
    let place = intakes.places.ingest.take().await?;
    let take = {
        let (intakes, intake) = (intakes.clone(), intake.clone());
        move || if is_records { take_records(&intakes, &intake, bytes) } else { Ok(take_lines(&intake, &bytes)) }
    };
    let Some(since) = since else {
        return blocking(move || {
            let (records, refused) = take()?;
            let answer = append(&intakes, &intake, Taken { sent: records.len(), records, refused, ..Taken::default() });
            drop((place, room));
            answer.map(Json)
        })
        .await;
    };
    let (records, refused) = blocking(move || {
        let taken = take();
        drop(place);
        taken
    })
    .await?;
    let sent = records.len();
    // An earlier attempt to send the same events may still be running after its client hung up; this one must see its result.
    let alone = search::alone(&intakes, &intake).await?;
    let (found, alone) = search::missing(&intakes, &intake, records, since, alone).await?;
    let place = intakes.places.ingest.take().await?;
    blocking(move || {
        let taken = Taken { sent, records: found.missing, refused, positions: found.positions, is_again: true };
        let answer = append(&intakes, &intake, taken);
        drop((place, room, alone));
        answer.map(Json)
    })
    .await
}

/// While the history of a source is written, an event of now would make the rest of it too late. An append to a log that is unavailable takes its time,
/// and may be carried out after all when the client has long gone.
fn check_open(intakes: &Intakes, source: &Source) -> Result<(), Problem> {
    match intakes.watch.history_of(&source.name) {
        Some(history) => Err(Problem::unavailable(format!("{history}; try again in some seconds"))),
        None => intakes.watch.ends.unavailable(&source.topic).map_or(Ok(()), Err),
    }
}

/// `0:12,1:40`
fn positions(text: &str) -> Result<Cut, Problem> {
    let position = |part: &str| {
        let (partition, position) = part.split_once(':')?;
        Some((Partition(partition.trim().parse().ok()?), Offset(position.trim().parse().ok()?)))
    };
    let parts: Vec<&str> = text.split(',').collect();
    let positions = parts.iter().map(|part| position(part)).collect::<Option<Cut>>();
    positions.filter(|positions| positions.iter().count() == parts.len()).ok_or_else(|| {
        Problem::parameter(format!(
            "parameter since: {text:?} is not positions; write partition:position for each partition once, for instance since=0:12,1:40"
        ))
    })
}

fn is_records(headers: &HeaderMap) -> Result<bool, Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let content_type = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    if headers.contains_key(header::CONTENT_ENCODING) {
        let detail = "a compressed body is not taken here; send it as it is, without content-encoding";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", "The body is of another type", detail));
    }
    match content_type.as_str() {
        records::RECORDS => Ok(true),
        // What clients send that were told nothing about types.
        ""
        | "application/x-ndjson"
        | "application/jsonl"
        | "application/json"
        | "text/plain"
        | "application/octet-stream"
        | "application/x-www-form-urlencoded" => Ok(false),
        other => {
            let detail = format!("content-type {other} is not taken here; send application/x-ndjson, one event a line");
            let types = [json!("application/x-ndjson"), json!(records::RECORDS)];
            let problem = Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", "The body is of another type", detail);
            Err(problem.with("accepted", types.to_vec()))
        }
    }
}

fn take_lines(intake: &Intake, body: &[u8]) -> (Vec<NewRecord>, Vec<Refused>) {
    let (records, bad) = encode_ndjson(&intake.encoder, body);
    let refused = bad.into_iter().map(|bad| Refused { number: bad.line, reason: bad.reason.as_str(), detail: bad.detail }).collect();
    (records, refused)
}

/// Every record is decoded before it is taken: what is in the log should not be quarantined for what could be seen here.
fn take_records(intakes: &Intakes, intake: &Intake, body: Bytes) -> Result<(Vec<NewRecord>, Vec<Refused>), Problem> {
    let records = records::decode(body).map_err(Problem::body)?;
    let (mut spans, mut payload) = (Vec::with_capacity(records.len()), Vec::new());
    let record_time_ms = intakes.clock.now_ms();
    for (record, offset) in records.iter().zip(1..) {
        let too_large = || Problem::body("the records do not fit in 4 GiB");
        let start = u32::try_from(payload.len()).map_err(|_| too_large())?;
        let len = u32::try_from(record.value.len()).map_err(|_| too_large())?;
        spans.push(RecordSpan { offset: Offset(offset), record_time_ms, start, len: Some(len) });
        payload.extend_from_slice(&record.value);
    }
    let end = Offset(records.len() as u64 + 1);
    let run = Records { partition: Partition(0), spans, payload: payload.into(), next: end, end };
    let mut decoder = Decoder::new(&intake.source, &[], intakes.schemas.clone())?;
    let decoded = decoder.decode(&run)?;
    let refused: BTreeMap<u64, Refused> = decoded
        .rejected
        .into_iter()
        .map(|rejected| {
            (rejected.offset.0, Refused { number: rejected.offset.0, reason: rejected.reason.as_str(), detail: rejected.detail })
        })
        .collect();
    let good = records.into_iter().zip(1..).filter(|(_, number)| !refused.contains_key(number)).map(|(record, _)| record).collect();
    Ok((good, refused.into_values().collect()))
}

/// The decoded events of a body, ready to be appended.
#[derive(Default)]
struct Taken {
    /// Number of valid events in the body.
    sent: usize,
    /// Events that are not in the log yet.
    records: Vec<NewRecord>,
    refused: Vec<Refused>,
    /// Positions past the events that are in the log already.
    positions: Cut,
    /// Whether the log was searched for events that it has already.
    is_again: bool,
}

fn append(intakes: &Intakes, intake: &Intake, taken: Taken) -> Result<Value, Problem> {
    let source = &intake.source;
    let Taken { sent, records, refused, mut positions, is_again } = taken;
    let written = records.len();
    if !records.is_empty() {
        for (partition, offset) in intakes.log.append(&source.topic, records)? {
            positions.set(partition, positions.position(partition).max(offset.next()));
        }
    }
    intakes.counts.events(&source.name, written, refused.len());
    let line = |refused: &Refused| json!({ "line": refused.number, "reason": refused.reason, "detail": refused.detail });
    let shown: Vec<Value> = refused.iter().take(REFUSED_SHOWN).map(line).collect();
    if sent == 0 && !refused.is_empty() {
        let detail = format!("none of the {} lines is an event of source {}", refused.len(), source.name);
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "events", "No event was taken", detail);
        return Err(problem.with("refused_count", refused.len()).with("refused", shown));
    }
    let mut answer = json!({
        "source": source.name,
        "written": written,
        "positions": json::cut(&positions),
        "refused_count": refused.len(),
        "refused": shown,
    });
    if let (true, Some(members)) = (is_again, answer.as_object_mut()) {
        members.insert("already_there".into(), (sent - written).into());
    }
    Ok(answer)
}
