//! Reads bodies of events, with a minimum rate and a bound on the memory of all bodies together.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use bytes::BytesMut;
use futures::StreamExt;
use tokio::time::{Instant, timeout_at};

use crate::intake::Intakes;
use crate::limits::{Limits, Place, kib};
use crate::problem::Problem;

/// Limits for draining the rest of a body that is too large, before the response.
const DROPPED_BYTES: usize = 256 << 20;
const DROP_FOR: Duration = Duration::from_secs(10);
/// Timeout for a whole body.
const BODY_FOR: Duration = Duration::from_secs(120);
/// Bytes of a body that are read without reserving memory. Small bodies never wait for large ones; the number of connections bounds them.
const FIRST_BYTES: usize = 16 << 10;
/// Memory is reserved in steps of this many bytes as the body grows, so that a slow sender reserves little.
const ROOM_BYTES: usize = 256 << 10;

/// The received part of a body and the memory reserved for it.
#[derive(Debug, Default)]
pub struct Received {
    bytes: BytesMut,
    room: Option<Place>,
}

/// Reads the whole body. The rest of a body that is too large is drained, so that the client can read the response: a client whose connection is closed
/// while it is still sending sees an error instead.
///
/// # Errors
/// 408 when the body is below the minimum rate, 413 when it is too large, 503 when memory cannot be reserved in time.
pub async fn read(intakes: &Intakes, body: Body) -> Result<WithRoom, Problem> {
    let (max_bytes, limits) = (intakes.max_body_bytes, &intakes.limits);
    let mut chunks = body.into_data_stream();
    let mut received = Received::default();
    let mut begun = Instant::now();
    loop {
        let read = received.bytes.len();
        let chunk = match timeout_at(deadline(begun, read, limits), chunks.next()).await {
            Ok(Some(chunk)) => chunk.map_err(|error| Problem::body(format!("the body was not received whole: {error}")))?,
            Ok(None) => return Ok(WithRoom { bytes: received.bytes.freeze(), room: received.room }),
            Err(_) => return Err(too_slow(read, limits)),
        };
        if read + chunk.len() > max_bytes {
            let dropped = read + chunk.len();
            drop((received, chunk));
            drop_rest(chunks, dropped).await;
            return Err(too_large(max_bytes));
        }
        // The body is not read while it waits for memory, so that time does not count against the sender.
        let asked = Instant::now();
        received.make_room(intakes, chunk.len()).await?;
        begun += asked.elapsed();
        received.bytes.extend_from_slice(&chunk);
    }
}

/// A complete body.
#[derive(Debug)]
pub struct WithRoom {
    /// The body.
    pub bytes: Bytes,
    /// The memory reserved for it; hold it as long as the body or slices of it.
    pub room: Option<Place>,
}

impl Received {
    async fn make_room(&mut self, intakes: &Intakes, more: usize) -> Result<(), Problem> {
        let wanted = self.bytes.len() + more;
        if wanted <= FIRST_BYTES {
            return Ok(());
        }
        let has = self.room.as_ref().map_or(0, Place::num_permits) << 10;
        if wanted <= has {
            return Ok(());
        }
        let step = (wanted - has).next_multiple_of(ROOM_BYTES).min(intakes.max_body_bytes.saturating_sub(has).max(1));
        let room = intakes.places.bodies.take_many(kib(step)).await?;
        match &mut self.room {
            Some(had) => had.merge(room),
            None => self.room = Some(room),
        }
        Ok(())
    }
}

/// Deadline for the next chunk of a body of which `read` bytes have been received.
fn deadline(begun: Instant, read: usize, limits: &Limits) -> Instant {
    let at_least_rate = Duration::from_secs_f64(read as f64 / limits.body_bytes_per_s.max(1) as f64);
    begun + (limits.body_grace + at_least_rate).min(BODY_FOR)
}

/// Drains a body.
pub async fn drain(body: Body) {
    drop_rest(body.into_data_stream(), 0).await;
}

async fn drop_rest(mut chunks: axum::body::BodyDataStream, mut read: usize) {
    let until = Instant::now() + DROP_FOR;
    while read <= DROPPED_BYTES {
        match timeout_at(until, chunks.next()).await {
            Ok(Some(Ok(chunk))) => read += chunk.len(),
            _ => return,
        }
    }
}

fn too_large(max_bytes: usize) -> Problem {
    let detail = format!("the body has more than {max_bytes} bytes; send it in parts");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large", detail).with("max_body_bytes", max_bytes)
}

fn too_slow(read: usize, limits: &Limits) -> Problem {
    let detail = format!(
        "the body is too slow: {read} bytes so far; the minimum rate is {} bytes a second after the first {} s, and the whole body must arrive within {} s; send it in parts",
        limits.body_bytes_per_s,
        limits.body_grace.as_secs(),
        BODY_FOR.as_secs()
    );
    Problem::new(StatusCode::REQUEST_TIMEOUT, "too-slow", "The body is too slow", detail)
}
