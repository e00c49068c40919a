//! `GET /v1/views/{view}/live`: rows of one partition, and then what changes in it, as server-sent events.
//!
//! | event | data |
//! |---|---|
//! | `snapshot` | what `/rows` answers; from here on it holds, whatever was sent before |
//! | `change` | `view`, `version`, `positions`, `watermark`; `rows` that were written, `deleted` keys |
//! | `switch` | `view`, `from`, `to`: another version is in service; its snapshot follows |
//! | `error` | a problem document; the stream ends |
//!
//! A row never goes back: what is published from before the snapshot is held until everything that the snapshot may show is published too,
//! and rows of an owner that was replaced are left out. Who reads too slowly gets a new snapshot instead of what was missed.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::IntoResponse;
use bytes::Bytes;
use refold_processor::json;
use refold_processor::table::Version;
use serde_json::{Value, json};

use crate::limits::{Place, kib};
use crate::live::outgoing::{self, Ended, Outgoing, event};
use crate::live::{Closing, Following, KEEP_ALIVE, LOOK_EVERY, Live, Over, PAUSE};
use crate::problem::Problem;
use crate::reading::is_latest;
use crate::work::blocking;

/// Parameters of `/rows` that have no meaning here.
const NOT_HERE: [&str; 3] = ["from", "to", "cursor"];

/// `GET /v1/views/{view}/live`
pub async fn follow(
    State(live): State<Arc<Live>>,
    Path(view): Path<String>,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Result<impl IntoResponse, Problem> {
    refuse_bounds(&parameters)?;
    let open = live.admit()?;
    let wanted = Wanted { is_pinned: parameters.iter().any(|(name, _)| name == "version"), live, view, parameters };
    // The first one here, so that what cannot be followed is answered as a problem.
    let begun = wanted.clone().begin().await?;
    let (outgoing, body) = outgoing::channel();
    tokio::spawn(async move {
        let closing = wanted.live.closing();
        // It only ends before its time when nobody reads any more.
        let _ = Streaming { wanted, outgoing, closing }.run(begun).await;
        drop(open);
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, Body::from_stream(body)))
}

/// Refuses parameters of reads that followers do not have.
pub fn refuse_bounds(parameters: &[(String, String)]) -> Result<(), Problem> {
    match parameters.iter().find(|(name, _)| NOT_HERE.contains(&name.as_str())) {
        Some((name, _)) => {
            Err(Problem::parameter(format!("parameter {name} has no meaning here: all changes of the partition are followed")))
        }
        None => Ok(()),
    }
}

/// What is to be followed.
#[derive(Clone)]
struct Wanted {
    live: Arc<Live>,
    view: String,
    parameters: Vec<(String, String)>,
    /// Whether the reader named the version: then no switch is followed.
    is_pinned: bool,
}

/// A followed version with its snapshot, which is dropped once it is sent.
struct Begun {
    following: Following,
    snapshot: Bytes,
    room: Place,
}

impl Wanted {
    /// Reads the snapshot. Concurrency is limited, because a snapshot uses memory before room for it is reserved.
    async fn begin(self) -> Result<Begun, Problem> {
        let places = self.live.places.clone();
        let place = places.snapshots.take().await?;
        let wanted = self.clone();
        let (following, snapshot, place) =
            blocking(move || wanted.begin_now().map(|(following, snapshot)| (following, snapshot, place))).await?;
        let room = places.stream_room.take_many(kib(snapshot.len())).await?;
        drop(place);
        Ok(Begun { following, snapshot, room })
    }

    fn begin_now(&self) -> Result<(Following, Bytes), Problem> {
        let targets = self.live.reading.targets(&self.view, &self.parameters)?;
        let [target] = targets.as_slice() else {
            return Err(Problem::parameter("a stream follows one partition; a WebSocket at /v1/live follows many on one connection"));
        };
        if is_latest(target) {
            return Err(Problem::parameter("a stream follows one partition; a WebSocket at /v1/live follows the newest window"));
        }
        let begun = self.live.begin(target)?;
        let (following, found) = begun.ok_or_else(|| Problem::internal("a partition that was named is not known"))?;
        let snapshot = event("snapshot", &self.live.reading.text_of(target, &found));
        Ok((following, snapshot))
    }
}

/// A stream to one reader.
struct Streaming {
    wanted: Wanted,
    outgoing: Outgoing,
    closing: Closing,
}

impl Streaming {
    async fn run(mut self, begun: Begun) -> Result<(), Ended> {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        let mut alive = tokio::time::interval_at(tokio::time::Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
        let mut following = self.send_snapshot(begun).await?;
        loop {
            let received = tokio::select! {
                received = following.next() => Some(received),
                _ = looks.tick() => None,
                _ = alive.tick() => {
                    self.outgoing.keep_alive();
                    continue;
                }
                () = self.outgoing.closed() => return Err(Ended),
                () = self.closing.closed() => return Err(Ended),
            };
            let version = following.table.version;
            match received {
                Some(Ok(changed)) => match following.take(&changed) {
                    Ok(rows) if rows.is_empty() => {}
                    Ok(rows) => {
                        let (mut written, mut deleted) = (Vec::new(), Vec::new());
                        for row in rows {
                            match row.row {
                                Some(values) => written.push(values),
                                None => deleted.push(following.named(row.key)),
                            }
                        }
                        let change = json!({
                            "view": following.table.view,
                            "version": version.0,
                            "positions": json::cut(&changed.visible),
                            "watermark": json::micros(changed.watermark_us),
                            "rows": written,
                            "deleted": deleted,
                        });
                        self.send("change", &change).await?;
                    }
                    Err(_) => following = self.begin_again(following).await?,
                },
                Some(Err(Over::Missed)) => following = self.begin_again(following).await?,
                Some(Err(Over::Ended)) => {
                    self.pause().await?;
                    following = self.begin_again(following).await?;
                }
                None => {
                    self.outgoing.check(self.wanted.live.limits.stream_for)?;
                    if self.has_switched(version).await {
                        following = self.begin_again(following).await?;
                    }
                }
            }
        }
    }

    /// A new snapshot, as soon as it can be had.
    async fn begin_again(&mut self, over: Following) -> Result<Following, Ended> {
        let before = over.table.version;
        drop(over);
        loop {
            match self.wanted.clone().begin().await {
                Ok(begun) => {
                    let version = begun.following.table.version;
                    if version != before {
                        let switch = json!({"view": self.wanted.view, "from": before.0, "to": version.0});
                        // Reserves no memory: a stream that holds memory for its snapshot must not wait for more.
                        self.hand_over(event("switch", &switch.to_string()), None).await?;
                    }
                    return self.send_snapshot(begun).await;
                }
                // Unavailable, or not built yet.
                Err(problem) if problem.is_servers() => self.pause().await?,
                Err(problem) => {
                    self.hand_over(event("error", &problem.document().to_string()), None).await?;
                    return Err(Ended);
                }
            }
        }
    }

    async fn send_snapshot(&mut self, begun: Begun) -> Result<Following, Ended> {
        self.hand_over(begun.snapshot, Some(begun.room)).await?;
        Ok(begun.following)
    }

    async fn has_switched(&self, version: Version) -> bool {
        if self.wanted.is_pinned {
            return false;
        }
        let (live, view) = (self.wanted.live.clone(), self.wanted.view.clone());
        // A catalogue that is unavailable has switched nothing.
        let active = blocking(move || Ok(live.active(&view)?)).await.ok().flatten();
        active.is_some_and(|active| active != version)
    }

    async fn pause(&mut self) -> Result<(), Ended> {
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => Ok(()),
            () = self.outgoing.closed() => Err(Ended),
            () = self.closing.closed() => Err(Ended),
        }
    }

    async fn send(&mut self, name: &str, data: &Value) -> Result<(), Ended> {
        let event = event(name, &data.to_string());
        let patience = self.wanted.live.limits.stream_for;
        let room = loop {
            let reserved = tokio::select! {
                room = self.wanted.live.places.stream_room.wait_for(kib(event.len())) => Some(room),
                () = tokio::time::sleep(LOOK_EVERY) => None,
                () = self.outgoing.closed() => return Err(Ended),
                () = self.closing.closed() => return Err(Ended),
            };
            match reserved {
                Some(room) => break room.ok_or(Ended)?,
                // Its own reader may be stalled and hold memory that other streams wait for.
                None => self.outgoing.check(patience)?,
            }
        };
        self.hand_over(event, Some(room)).await
    }

    async fn hand_over(&mut self, event: Bytes, room: Option<Place>) -> Result<(), Ended> {
        let patience = self.wanted.live.limits.stream_for;
        tokio::select! {
            sent = self.outgoing.send(event, room, patience) => sent,
            () = self.closing.closed() => Err(Ended),
        }
    }
}
