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

mod hub;
mod outgoing;

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::IntoResponse;
use bytes::Bytes;
use parking_lot::Mutex;
use refold_processor::changes::ChangedRow;
use refold_processor::engine::dirty::epoch_of;
use refold_processor::json;
use refold_processor::log::LogError;
use refold_processor::position::Cut;
use refold_processor::store::catalogue::CatalogueError;
use refold_processor::table::{Epoch, Table, Version};
use serde_json::{Map, Value, json};
use tokio::sync::{OwnedSemaphorePermit, watch};

pub use self::hub::Hubs;
use self::hub::{Changed, Following as Feed, Over};
use self::outgoing::{Ended, Outgoing, event};
use crate::limits::{Place, kib};
use crate::problem::Problem;
use crate::rows::{Target, page, target};
use crate::state::{ApiState, blocking};

/// Parameters of `/rows` that have no meaning here.
const NOT_HERE: [&str; 3] = ["from", "to", "cursor"];
/// How often a stream checks for a switch and for a stalled reader.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long before a stream that met with trouble begins again.
const PAUSE: Duration = Duration::from_secs(1);
/// How often a quiet stream shows that it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Maximum number of changes held back until the snapshot is passed; beyond it the snapshot is read again.
const HELD_ROWS: usize = 10_000;

/// `GET /v1/views/{view}/live`
pub async fn follow(
    State(state): State<ApiState>,
    Path(view): Path<String>,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Result<impl IntoResponse, Problem> {
    if let Some((name, _)) = parameters.iter().find(|(name, _)| NOT_HERE.contains(&name.as_str())) {
        return Err(Problem::parameter(format!("parameter {name} has no meaning here: all changes of the partition are followed")));
    }
    let most = state.0.settings.live_streams;
    let permit = state.0.streams.clone().try_acquire_owned().map_err(|_| {
        Problem::unavailable(format!(
            "{most} streams of changes are open, as many as the setting live_streams allows; read /rows, or try again later"
        ))
    })?;
    let wanted = Wanted { is_pinned: parameters.iter().any(|(name, _)| name == "version"), state, view, parameters };
    // The first one here, so that what cannot be followed is answered as a problem.
    let begun = wanted.clone().begin().await?;
    let (outgoing, body) = outgoing::channel();
    tokio::spawn(async move {
        let _counted = Counted::new(&wanted.state, permit);
        let closing = wanted.state.0.closing.subscribe();
        // It only ends before its time when nobody reads any more.
        let _ = Streaming { wanted, outgoing, closing }.run(begun).await;
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, Body::from_stream(body)))
}

/// An open stream, as metrics have it.
struct Counted {
    state: ApiState,
    _permit: OwnedSemaphorePermit,
}

impl Counted {
    fn new(state: &ApiState, permit: OwnedSemaphorePermit) -> Counted {
        state.0.http.streams(1);
        Counted { state: state.clone(), _permit: permit }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.state.0.http.streams(-1);
    }
}

/// What is to be followed.
#[derive(Clone)]
struct Wanted {
    state: ApiState,
    view: String,
    parameters: Vec<(String, String)>,
    /// Whether the reader named the version: then no switch is followed.
    is_pinned: bool,
}

/// One version that is followed, from its snapshot on.
struct Following {
    table: Table,
    feed: Feed,
    /// What the snapshot may show already.
    shown: Cut,
    /// Changes that may be older than the snapshot, by key: the newest of each.
    held: BTreeMap<String, ChangedRow>,
    /// The latest owner that is known: rows of those before it are not newer.
    newest: Epoch,
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
        let places = &self.state.0.places;
        let place = places.snapshots.take(&self.state.0.http).await?;
        let wanted = self.clone();
        let (following, snapshot, place) =
            blocking(move || wanted.begin_now().map(|(following, snapshot)| (following, snapshot, place))).await?;
        let room = places.stream_room.take_many(kib(snapshot.len()), &self.state.0.http).await?;
        drop(place);
        Ok(Begun { following, snapshot, room })
    }

    fn begin_now(&self) -> Result<(Following, Bytes), Problem> {
        let ports = &self.state.0.ports;
        let target = target(&self.state, &self.view, &self.parameters)?;
        let partition = target.read.partition.iter().map(|value| {
            let array = value.to_array().map_err(|error| Problem::internal(format!("the partition key has no array: {error}")))?;
            Ok(json::value(array.as_ref(), 0))
        });
        let partition: Vec<Value> = partition.collect::<Result<_, Problem>>()?;
        // The subscription comes first: rows that are written after the read are published after it.
        let feed = self.state.0.hubs.follow(ports.changes.as_ref(), &target.table, &partition);
        let feed = feed.map_err(|error| no_feed(error, &target.table))?;
        let (snapshot, newest) = self.snapshot(&target)?;
        let shown = ports.rows.progress(&target.table)?.unwrap_or_default().writing;
        Ok((Following { table: target.table, feed, shown, held: BTreeMap::new(), newest }, event("snapshot", &snapshot)))
    }

    /// Rows, and the owner that they are of: what one before it still publishes must not replace them.
    fn snapshot(&self, target: &Target) -> Result<(String, Epoch), Problem> {
        let owner = || -> Result<Epoch, CatalogueError> {
            let held = self.state.0.ports.catalogue.ownership(&target.table.view, target.table.version)?;
            Ok(held.map_or(Epoch::default(), |held| held.epoch))
        };
        let mut epoch = owner()?;
        loop {
            let rows = page(&self.state, target)?;
            let after = owner()?;
            // Taken over meanwhile, the rows may be of either.
            if after == epoch {
                return Ok((rows, epoch));
            }
            epoch = after;
        }
    }
}

fn no_feed(error: LogError, table: &Table) -> Problem {
    match error {
        LogError::UnknownTopic(topic) => Problem::unavailable(format!(
            "changes of version {} of view {} cannot be followed: there is no topic {topic}; its worker makes it, unless change_feed is off there",
            table.version, table.view
        )),
        error => error.into(),
    }
}

impl Following {
    /// The event of what was published; `None` when nothing of it is for this reader now.
    fn change(&mut self, changed: &Changed) -> Option<Value> {
        self.newest = self.newest.max(changed.newest);
        for row in changed.rows.iter().filter(|row| epoch_of(row.written_at) == self.newest) {
            self.held.insert(Value::from(row.key.clone()).to_string(), row.clone());
        }
        let is_past_snapshot = changed.visible.reaches(&self.shown);
        self.feed.want_positions(!is_past_snapshot);
        if !is_past_snapshot || self.held.is_empty() {
            return None;
        }
        let (mut rows, mut deleted) = (Vec::new(), Vec::new());
        for row in std::mem::take(&mut self.held).into_values() {
            match row.row {
                Some(values) => rows.push(values),
                None => deleted.push(self.named(row.key)),
            }
        }
        Some(json!({
            "view": self.table.view,
            "version": self.table.version.0,
            "positions": json::cut(&changed.visible),
            "watermark": json::micros(changed.watermark_us),
            "rows": rows,
            "deleted": deleted,
        }))
    }

    fn named(&self, key: Vec<Value>) -> Map<String, Value> {
        let fields = self.table.shape.columns.fields();
        let names = self.table.shape.key_columns().filter_map(|column| fields.get(column).map(|field| field.name().clone()));
        names.zip(key).collect()
    }
}

/// A stream to one reader.
struct Streaming {
    wanted: Wanted,
    outgoing: Outgoing,
    closing: watch::Receiver<bool>,
}

impl Streaming {
    async fn run(mut self, begun: Begun) -> Result<(), Ended> {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        let mut alive = tokio::time::interval_at(tokio::time::Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
        let mut following = self.send_snapshot(begun).await?;
        loop {
            let received = tokio::select! {
                received = following.feed.next() => Some(received),
                _ = looks.tick() => None,
                _ = alive.tick() => {
                    self.outgoing.keep_alive();
                    continue;
                }
                () = self.outgoing.closed() => return Err(Ended),
                _ = self.closing.wait_for(|is_closing| *is_closing) => return Err(Ended),
            };
            let version = following.table.version;
            match received {
                Some(Ok(changed)) => {
                    if let Some(change) = following.change(&changed) {
                        self.send("change", &change).await?;
                    } else if following.held.len() > HELD_ROWS {
                        following = self.begin_again(following).await?;
                    }
                }
                Some(Err(Over::Missed)) => following = self.begin_again(following).await?,
                Some(Err(Over::Ended)) => {
                    self.pause().await?;
                    following = self.begin_again(following).await?;
                }
                None => {
                    self.outgoing.check(self.wanted.state.0.settings.limits.stream_for)?;
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
        let (state, view) = (self.wanted.state.clone(), self.wanted.view.clone());
        // A catalogue that is unavailable has switched nothing.
        let active = blocking(move || Ok(state.0.pointers.active(&state, &view)?)).await.ok().flatten();
        active.is_some_and(|active| active != version)
    }

    async fn pause(&mut self) -> Result<(), Ended> {
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => Ok(()),
            () = self.outgoing.closed() => Err(Ended),
            _ = self.closing.wait_for(|is_closing| *is_closing) => Err(Ended),
        }
    }

    async fn send(&mut self, name: &str, data: &Value) -> Result<(), Ended> {
        let event = event(name, &data.to_string());
        let patience = self.wanted.state.0.settings.limits.stream_for;
        let room = loop {
            let reserved = tokio::select! {
                room = self.wanted.state.0.places.stream_room.wait_for(kib(event.len())) => Some(room),
                () = tokio::time::sleep(LOOK_EVERY) => None,
                () = self.outgoing.closed() => return Err(Ended),
                _ = self.closing.wait_for(|is_closing| *is_closing) => return Err(Ended),
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
        let patience = self.wanted.state.0.settings.limits.stream_for;
        tokio::select! {
            sent = self.outgoing.send(event, room, patience) => sent,
            _ = self.closing.wait_for(|is_closing| *is_closing) => Err(Ended),
        }
    }
}

/// Which version is in service, for all streams: asked of the catalogue now and then, however many there are.
#[derive(Default)]
pub struct Pointers(Mutex<HashMap<String, (Instant, Option<Version>)>>);

impl Pointers {
    fn active(&self, state: &ApiState, view: &str) -> Result<Option<Version>, CatalogueError> {
        // Who comes while another asks is answered at its next look: streams are many, and must not wait in a line for a catalogue that is slow.
        let Some(mut asked) = self.0.try_lock() else { return Ok(None) };
        if let Some((_, version)) = asked.get(view).filter(|(at, _)| at.elapsed() < LOOK_EVERY) {
            return Ok(*version);
        }
        let version = state.0.ports.catalogue.active(view)?.map(|active| active.version);
        asked.insert(view.to_owned(), (Instant::now(), version));
        Ok(version)
    }
}
