//! Concurrency limits by request class, so that slow requests of one class never delay those of another. A request that gets no place in time is shed with 503 and
//! `Retry-After`.
//!
//! A place is held until the work is done, even after the client has hung up, because the thread that waits for a database is still occupied. Dropping the place
//! releases it, however the work ends.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::counts::HttpMetrics;
use crate::problem::Problem;

/// Concurrency limits and timeouts of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Concurrent requests of `/readyz`.
    pub health: usize,
    /// Concurrent requests of `/metrics`.
    pub metrics: usize,
    /// Concurrent reads of rows and views.
    pub reads: usize,
    /// Concurrent reads of the log ends of sources.
    pub sources: usize,
    /// Concurrent requests of administration and quarantine.
    pub admin: usize,
    /// Streams that read their snapshots concurrently.
    pub snapshots: usize,
    /// How long a request of these classes waits for a place.
    pub wait: Duration,
    /// How long a post waits for a place and for memory for its body.
    pub ingest_wait: Duration,
    /// Open connections; further ones get 503.
    pub connections: usize,
    /// Timeout for the head of a request, and for idle connections.
    pub head_for: Duration,
    /// How long a client may accept no bytes of a response.
    pub write_for: Duration,
    /// Time at the start of a body that is not subject to the minimum rate.
    pub body_grace: Duration,
    /// Minimum rate of a body, bytes a second.
    pub body_bytes_per_s: u64,
    /// Maximum amount of the log that one search for existing events reads, bytes of record values.
    pub search_bytes: u64,
    /// Timeout of that search.
    pub search_for: Duration,
    /// Memory for stream events that readers have not taken yet, bytes for all streams together.
    pub stream_bytes: usize,
    /// How long a stream's reader may take no data while some is waiting.
    pub stream_for: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            health: 8,
            metrics: 4,
            reads: 64,
            sources: 8,
            admin: 16,
            snapshots: 16,
            wait: Duration::from_secs(2),
            ingest_wait: Duration::from_secs(10),
            connections: 2_048,
            // HTTP clients commonly pool idle connections for 15 s; closing earlier would race with their next request.
            head_for: Duration::from_secs(30),
            write_for: Duration::from_secs(60),
            body_grace: Duration::from_secs(5),
            body_bytes_per_s: 16 << 10,
            search_bytes: 256 << 20,
            search_for: Duration::from_secs(5),
            stream_bytes: 64 << 20,
            stream_for: Duration::from_secs(60),
        }
    }
}

/// Request classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Readiness.
    Health,
    /// Metrics.
    Metrics,
    /// Reads of rows and views.
    Reads,
    /// Reads of the log ends of sources, which are slow when the log is unavailable.
    Sources,
    /// Administration and quarantine.
    Admin,
    /// Events in.
    Ingest,
    /// Streams of changes.
    Streams,
}

impl Class {
    /// All classes.
    pub const ALL: [Class; 7] = [Class::Health, Class::Metrics, Class::Reads, Class::Sources, Class::Admin, Class::Ingest, Class::Streams];

    /// Its name in metrics and problems.
    pub fn name(self) -> &'static str {
        match self {
            Class::Health => "health",
            Class::Metrics => "metrics",
            Class::Reads => "reads",
            Class::Sources => "sources",
            Class::Admin => "admin",
            Class::Ingest => "ingest",
            Class::Streams => "streams",
        }
    }
}

/// A place, released when it is dropped.
pub type Place = OwnedSemaphorePermit;

/// The places of one class.
#[derive(Clone)]
pub struct Places {
    class: Class,
    free: Arc<Semaphore>,
    count: usize,
    wait: Duration,
    counts: Arc<HttpMetrics>,
}

impl Places {
    /// A number of places, and how long a request waits for one.
    pub fn new(class: Class, count: usize, wait: Duration, counts: &Arc<HttpMetrics>) -> Places {
        let count = count.max(1);
        Places { class, free: Arc::new(Semaphore::new(count)), count, wait, counts: counts.clone() }
    }

    /// Takes one place.
    ///
    /// # Errors
    /// 503 when no place is released in time.
    pub async fn take(&self) -> Result<Place, Problem> {
        self.take_many(1).await
    }

    /// Takes `count` places, at most all of them.
    ///
    /// # Errors
    /// As [`take`](Places::take).
    pub async fn take_many(&self, count: usize) -> Result<Place, Problem> {
        let count = u32::try_from(count.min(self.count)).unwrap_or(u32::MAX);
        match tokio::time::timeout(self.wait, self.free.clone().acquire_many_owned(count)).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(self.refused()),
        }
    }

    /// Counts a request as shed and returns the problem.
    pub fn refused(&self) -> Problem {
        self.counts.shed(self.class);
        let class = self.class.name();
        let detail = format!("the limit of concurrent requests of class {class} is reached; try again in a second");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "Too many concurrent requests", detail).with("class", class).retry_after_s(1)
    }

    /// The number of free places.
    #[cfg(test)]
    pub fn free(&self) -> usize {
        self.free.available_permits()
    }

    /// Takes `count` places, at most all of them, without a timeout; `None` when the semaphore is closed.
    pub async fn wait_for(&self, count: usize) -> Option<Place> {
        let count = u32::try_from(count.min(self.count)).unwrap_or(u32::MAX);
        self.free.clone().acquire_many_owned(count).await.ok()
    }
}

/// The places of all classes.
pub struct AllPlaces {
    health: Places,
    metrics: Places,
    reads: Places,
    sources: Places,
    admin: Places,
    /// Posts whose events are being decoded or appended.
    pub ingest: Places,
    /// Memory for bodies of events, KiB.
    pub bodies: Places,
    /// Streams that read their snapshots.
    pub snapshots: Places,
    /// Memory for stream events that readers have not taken yet, KiB.
    pub stream_room: Places,
}

impl AllPlaces {
    /// The places for these limits.
    pub fn new(limits: &Limits, ingest_requests: usize, max_body_bytes: usize, counts: &Arc<HttpMetrics>) -> AllPlaces {
        let of = |class: Class, count: usize| Places::new(class, count, limits.wait, counts);
        let body_bytes = ingest_requests.max(1).saturating_mul(max_body_bytes);
        AllPlaces {
            health: of(Class::Health, limits.health),
            metrics: of(Class::Metrics, limits.metrics),
            reads: of(Class::Reads, limits.reads),
            sources: of(Class::Sources, limits.sources),
            admin: of(Class::Admin, limits.admin),
            ingest: Places::new(Class::Ingest, ingest_requests, limits.ingest_wait, counts),
            bodies: Places::new(Class::Ingest, kib(body_bytes), limits.ingest_wait, counts),
            snapshots: of(Class::Streams, limits.snapshots),
            stream_room: of(Class::Streams, kib(limits.stream_bytes)),
        }
    }

    /// The number of free places of a class.
    #[cfg(test)]
    pub fn free_of(&self, class: Class) -> usize {
        self.of(class).free()
    }

    fn of(&self, class: Class) -> &Places {
        match class {
            Class::Health => &self.health,
            Class::Metrics => &self.metrics,
            Class::Reads => &self.reads,
            Class::Sources => &self.sources,
            Class::Admin => &self.admin,
            Class::Ingest => &self.ingest,
            Class::Streams => &self.snapshots,
        }
    }
}

/// Bytes in KiB, rounded up, at most the largest count of a semaphore.
pub fn kib(bytes: usize) -> usize {
    bytes.div_ceil(1 << 10).clamp(1, (u32::MAX >> 1) as usize)
}

tokio::task_local! {
    /// The place of the request handled by this task.
    static PLACE: Arc<Place>;
}

/// Admits a request of this class once it has a place.
///
/// # Errors
/// 503 when no place is released in time.
pub async fn admit(State((places, class)): State<(Arc<AllPlaces>, Class)>, request: Request, next: Next) -> Result<Response, Problem> {
    let place = places.of(class).take().await?;
    Ok(PLACE.scope(Arc::new(place), next.run(request)).await)
}

/// The place of the request handled by this task, for work on other threads to hold.
pub fn held() -> Option<Arc<Place>> {
    PLACE.try_with(Arc::clone).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

    use super::*;

    #[tokio::test]
    async fn who_finds_no_place_in_time_is_told_when_to_come_again() {
        let places = Places::new(Class::Reads, 2, Duration::from_millis(20), &Arc::default());
        let first = places.take().await.unwrap();
        let rest = places.take_many(7).await;
        assert_eq!(rest.unwrap_err().document()["class"], "reads", "seven are more than all: all are wanted, and one is taken");
        drop(first);
        assert!(places.take_many(7).await.is_ok());
    }

    #[tokio::test]
    async fn a_panic_gives_the_place_back() {
        let places = Places::new(Class::Reads, 1, Duration::from_secs(60), &Arc::default());
        let place = places.take().await.unwrap();
        let broken = PLACE.scope(Arc::new(place), crate::work::blocking(|| -> Result<(), Problem> { std::panic::panic_any("broken") }));
        assert!(broken.await.unwrap_err().is_servers());
        drop(places.take().await.unwrap());
    }
}
