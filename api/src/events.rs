//! `POST /v1/sources/{source}/events`: events in.
//!
//! A bad line is refused by its number and the good ones are kept. The answer comes once they are durable, and carries positions: a
//! version whose `positions` reach them has counted these events.
//!
//! With `since`, what is in the log already past those positions is not appended again. Who asks for the ends of the source's log first, and names them with
//! every attempt to send the same events, sends them once, whatever becomes of an answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::BytesMut;
use futures::StreamExt;
use refold_collector::encode_ndjson;
use refold_collector::sink::find;
use refold_processor::decode::Decoder;
use refold_processor::json;
use refold_processor::log::{NewRecord, RecordSpan, Records};
use refold_processor::position::{Cut, Offset, Partition};
use refold_processor::source::Source;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::problem::Problem;
use crate::records;
use crate::state::{ApiState, Intake, blocking};
use crate::views::or_none;

/// The most refused lines that an answer names; all are counted.
const REFUSED_SHOWN: usize = 100;

/// The most that is read of a body beyond what it may have, and for how long, before the answer.
const DROPPED_BYTES: usize = 256 << 20;
const DROP_FOR: Duration = Duration::from_secs(10);

/// How long a body may take, and how long may pass without any more of it: who sends slower would keep others out.
const BODY_FOR: Duration = Duration::from_secs(120);
const NEXT_CHUNK_FOR: Duration = Duration::from_secs(15);

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
    State(state): State<ApiState>,
    Path(source): Path<String>,
    Query(query): Query<EventsQuery>,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let intake = intake(&state, &source)?;
    if let Err(problem) = check_open(&state, &intake.source) {
        // Who is still sending would not get to read the answer.
        let _ = read_body(request.into_body(), 0).await;
        return Err(problem);
    }
    let since = query.since.as_deref().map(positions).transpose()?;
    // Taken before the body is read: while too many bodies are in memory, further ones wait in their senders.
    let permit = state.0.ingest.clone().acquire_owned().await.map_err(|_| Problem::away("the log takes no more events"))?;
    let (parts, body) = request.into_parts();
    let is_records = is_records(&parts.headers)?;
    let body = read_body(body, state.0.settings.max_body_bytes).await?;
    blocking(move || {
        let taken = if is_records { take_records(&state, &intake, body) } else { Ok(take_lines(&intake, &body)) };
        let answer = taken.and_then(|(records, refused)| append(&state, &intake, records, refused, since.as_ref()));
        drop(permit);
        answer.map(Json)
    })
    .await
}

/// While the history of a source is written, an event of now would make the rest of it too late. An append to a log that is away takes its time,
/// and may be carried out after all when the client has long gone.
fn check_open(state: &ApiState, source: &Source) -> Result<(), Problem> {
    match state.history_of(&source.name) {
        Some(history) => Err(Problem::away(format!("{history}; try again in some seconds"))),
        None => state.0.seen.away(&source.topic).map_or(Ok(()), Err),
    }
}

/// The declared source of this name.
pub(crate) fn intake(state: &ApiState, source: &str) -> Result<Arc<Intake>, Problem> {
    state.0.intakes.get(source).cloned().ok_or_else(|| {
        let known: Vec<String> = state.0.intakes.keys().cloned().collect();
        Problem::not_found(format!("there is no source {source}; there are: {}", or_none(&known))).with("sources", known)
    })
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

/// The whole body. Of one that is too large the rest is read and dropped, so that who sends it gets to read the answer: a connection that is closed
/// while they are still writing is an error to them, whatever was answered.
async fn read_body(body: Body, max_bytes: usize) -> Result<Bytes, Problem> {
    let mut chunks = body.into_data_stream();
    let (mut kept, mut read) = (BytesMut::new(), 0);
    let begun = tokio::time::Instant::now();
    while read <= max_bytes.saturating_add(DROPPED_BYTES) {
        let is_kept = read <= max_bytes;
        let until = if is_kept { (begun + BODY_FOR).min(tokio::time::Instant::now() + NEXT_CHUNK_FOR) } else { begun + DROP_FOR };
        let chunk = match tokio::time::timeout_at(until, chunks.next()).await {
            Ok(Some(chunk)) => chunk.map_err(|error| Problem::body(format!("the body was not received whole: {error}")))?,
            Err(_) if is_kept => return Err(too_slow(read)),
            Ok(None) | Err(_) => break,
        };
        read += chunk.len();
        match read <= max_bytes {
            true => kept.extend_from_slice(&chunk),
            false => kept = BytesMut::new(),
        }
    }
    if read <= max_bytes {
        return Ok(kept.freeze());
    }
    let detail = format!("the body has more than {max_bytes} bytes; send it in parts");
    Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large", detail).with("max_body_bytes", max_bytes))
}

fn too_slow(read: usize) -> Problem {
    let detail = format!(
        "the body came too slowly: after {read} bytes nothing for {} s, or not all of it in {} s; send it in parts",
        NEXT_CHUNK_FOR.as_secs(),
        BODY_FOR.as_secs()
    );
    Problem::new(StatusCode::REQUEST_TIMEOUT, "too-slow", "The body came too slowly", detail)
}

fn take_lines(intake: &Intake, body: &[u8]) -> (Vec<NewRecord>, Vec<Refused>) {
    let (records, bad) = encode_ndjson(&intake.encoder, body);
    let refused = bad.into_iter().map(|bad| Refused { number: bad.line, reason: bad.reason.as_str(), detail: bad.detail }).collect();
    (records, refused)
}

/// Every record is decoded before it is taken: what is in the log should not be quarantined for what could be seen here.
fn take_records(state: &ApiState, intake: &Intake, body: Bytes) -> Result<(Vec<NewRecord>, Vec<Refused>), Problem> {
    let records = records::decode(body).map_err(Problem::body)?;
    let (mut spans, mut payload) = (Vec::with_capacity(records.len()), Vec::new());
    let record_time_ms = state.0.ports.clock.now_ms();
    for (record, offset) in records.iter().zip(1..) {
        let too_large = || Problem::body("the records do not fit in 4 GiB");
        let start = u32::try_from(payload.len()).map_err(|_| too_large())?;
        let len = u32::try_from(record.value.len()).map_err(|_| too_large())?;
        spans.push(RecordSpan { offset: Offset(offset), record_time_ms, start, len: Some(len) });
        payload.extend_from_slice(&record.value);
    }
    let end = Offset(records.len() as u64 + 1);
    let run = Records { partition: Partition(0), spans, payload: payload.into(), next: end, end };
    let undecodable = |error: refold_processor::decode::DecodeError| {
        if error.is_retryable() { Problem::away(error.to_string()) } else { Problem::internal(error.to_string()) }
    };
    let mut decoder = Decoder::new(&intake.source, &[], state.0.ports.schemas.clone()).map_err(undecodable)?;
    let decoded = decoder.decode(&run).map_err(undecodable)?;
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

fn append(
    state: &ApiState,
    intake: &Intake,
    mut records: Vec<NewRecord>,
    refused: Vec<Refused>,
    since: Option<&Cut>,
) -> Result<Value, Problem> {
    let source = &intake.source;
    let log = &state.0.ports.log;
    let sent = records.len();
    let mut positions = Cut::default();
    // Of two attempts to send the same events, one that nobody waits for any more may still be under way: the later one must see what came of it.
    let alone = since.map(|_| intake.retries.lock());
    if let Some(since) = since {
        let partitions = log.partitions(&source.topic)?;
        if let Some((unknown, _)) = since.iter().find(|(partition, _)| !partitions.contains(partition)) {
            return Err(Problem::parameter(format!("parameter since: topic {} has no partition {unknown}", source.topic)));
        }
        let found = find(log.as_ref(), &source.topic, records, since)?;
        records = found.missing;
        positions = found.positions;
    }
    let written = records.len();
    if !records.is_empty() {
        for (partition, offset) in log.append(&source.topic, records)? {
            positions.set(partition, positions.position(partition).max(offset.next()));
        }
    }
    drop(alone);
    state.0.http.events(&source.name, written, refused.len());
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
    if let (Some(_), Some(members)) = (since, answer.as_object_mut()) {
        members.insert("already_there".into(), (sent - written).into());
    }
    Ok(answer)
}
