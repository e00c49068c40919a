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

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::time::{Duration, Instant};

use axum::extract::{Path, Query, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::Stream;
use futures::stream::poll_fn;
use parking_lot::Mutex;
use refold_processor::changes::{ChangedRow, Changes, Subscription};
use refold_processor::engine::dirty::epoch_of;
use refold_processor::json;
use refold_processor::log::LogError;
use refold_processor::position::Cut;
use refold_processor::store::catalogue::CatalogueError;
use refold_processor::table::{Epoch, Table, Version};
use serde_json::{Map, Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use crate::problem::Problem;
use crate::rows::{Target, page, target};
use crate::state::{ApiState, blocking};

/// Parameters of `/rows` that have no meaning here.
const NOT_HERE: [&str; 3] = ["from", "to", "cursor"];
/// Events that may wait for a slow reader.
const WAITING_EVENTS: usize = 16;
/// How often it is looked whether another version is in service.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long before a stream that met with trouble begins again.
const PAUSE: Duration = Duration::from_secs(1);
/// How often a quiet stream shows that it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// `GET /v1/views/{view}/live`
pub async fn follow(
    State(state): State<ApiState>,
    Path(view): Path<String>,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    if let Some((name, _)) = parameters.iter().find(|(name, _)| NOT_HERE.contains(&name.as_str())) {
        return Err(Problem::parameter(format!("parameter {name} has no meaning here: all changes of the partition are followed")));
    }
    let most = state.0.settings.live_streams;
    let permit = state.0.streams.clone().try_acquire_owned().map_err(|_| {
        Problem::away(format!(
            "{most} streams of changes are open, as many as the setting live_streams allows; read /rows, or try again later"
        ))
    })?;
    let wanted = Wanted { is_pinned: parameters.iter().any(|(name, _)| name == "version"), state, view, parameters };
    // The first one here, so that what cannot be followed is answered as a problem.
    let following = wanted.clone().begin().await?;
    let (sender, mut events) = mpsc::channel(WAITING_EVENTS);
    tokio::spawn(async move {
        let _counted = Counted::new(&wanted.state, permit);
        let closing = wanted.state.0.closing.subscribe();
        // It only ends before its time when nobody reads any more.
        let _ = Streaming { wanted, sender, closing }.run(following).await;
    });
    let stream = poll_fn(move |context| events.poll_recv(context).map(|event| event.map(Ok)));
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
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
    partition: Vec<Value>,
    subscription: Subscription,
    snapshot: Value,
    /// What the snapshot may show already.
    shown: Cut,
    /// Changes that may be older than the snapshot, by key: the newest of each.
    held: BTreeMap<String, ChangedRow>,
    /// The latest owner that is known: rows of those before it are not newer.
    newest: Epoch,
}

impl Wanted {
    async fn begin(self) -> Result<Following, Problem> {
        blocking(move || self.begin_now()).await
    }

    fn begin_now(&self) -> Result<Following, Problem> {
        let ports = &self.state.0.ports;
        let target = target(&self.state, &self.view, &self.parameters)?;
        // In this order: what is written after the rows are read is published after the subscription.
        let subscription = ports.changes.subscribe(&target.table).map_err(|error| no_feed(error, &target.table))?;
        let (snapshot, newest) = self.snapshot(&target)?;
        let shown = ports.rows.progress(&target.table)?.unwrap_or_default().writing;
        let Target { table, read, .. } = target;
        let partition = read.partition.iter().map(|value| {
            let array = value.to_array().map_err(|error| Problem::internal(format!("the partition key has no array: {error}")))?;
            Ok(json::value(array.as_ref(), 0))
        });
        let partition = partition.collect::<Result<_, Problem>>()?;
        Ok(Following { table, partition, subscription, snapshot, shown, held: BTreeMap::new(), newest })
    }

    /// Rows, and the owner that they are of: what one before it still publishes must not replace them.
    fn snapshot(&self, target: &Target) -> Result<(Value, Epoch), Problem> {
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
        LogError::UnknownTopic(topic) => Problem::away(format!(
            "changes of version {} of view {} cannot be followed: there is no topic {topic}; its worker makes it, unless change_feed is off there",
            table.version, table.view
        )),
        error => error.into(),
    }
}

impl Following {
    /// The event of what was published; `None` when nothing of it is for this reader now.
    fn change(&mut self, changes: &Changes) -> Option<Value> {
        for row in &changes.rows {
            let epoch = epoch_of(row.written_at);
            self.newest = self.newest.max(epoch);
            if epoch == self.newest && row.key.starts_with(&self.partition) {
                self.held.insert(Value::from(row.key.clone()).to_string(), row.clone());
            }
        }
        if !changes.visible.reaches(&self.shown) || self.held.is_empty() {
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
            "positions": json::cut(&changes.visible),
            "watermark": json::micros(changes.watermark_us),
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
    sender: mpsc::Sender<Event>,
    closing: watch::Receiver<bool>,
}

/// Nobody reads any more, or nobody is to be served.
struct Ended;

impl Streaming {
    async fn run(mut self, mut following: Following) -> Result<(), Ended> {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        self.send("snapshot", &following.snapshot).await?;
        loop {
            let received = tokio::select! {
                received = following.subscription.recv() => Some(received),
                _ = looks.tick() => None,
                _ = self.sender.closed() => return Err(Ended),
                _ = self.closing.wait_for(|is_closing| *is_closing) => return Err(Ended),
            };
            match received {
                // Changes are missing before this: the view store has them.
                Some(Ok(changes)) if changes.anew => following = self.begin_again(following.table.version).await?,
                Some(Ok(changes)) => {
                    if let Some(change) = following.change(&changes) {
                        self.send("change", &change).await?;
                    }
                }
                Some(Err(RecvError::Lagged(_))) => following = self.begin_again(following.table.version).await?,
                Some(Err(RecvError::Closed)) => {
                    self.pause().await?;
                    following = self.begin_again(following.table.version).await?;
                }
                None if self.has_switched(following.table.version).await => following = self.begin_again(following.table.version).await?,
                None => {}
            }
        }
    }

    /// A new snapshot, as soon as it can be had.
    async fn begin_again(&mut self, before: Version) -> Result<Following, Ended> {
        loop {
            match self.wanted.clone().begin().await {
                Ok(following) => {
                    let version = following.table.version;
                    if version != before {
                        let switch = json!({"view": self.wanted.view, "from": before.0, "to": version.0});
                        self.send("switch", &switch).await?;
                    }
                    self.send("snapshot", &following.snapshot).await?;
                    return Ok(following);
                }
                // Away, or not built yet.
                Err(problem) if problem.is_servers() => self.pause().await?,
                Err(problem) => {
                    self.send("error", &problem.document()).await?;
                    return Err(Ended);
                }
            }
        }
    }

    async fn has_switched(&self, version: Version) -> bool {
        if self.wanted.is_pinned {
            return false;
        }
        let (state, view) = (self.wanted.state.clone(), self.wanted.view.clone());
        // A catalogue that is away has switched nothing.
        let active = blocking(move || Ok(state.0.pointers.active(&state, &view)?)).await.ok().flatten();
        active.is_some_and(|active| active != version)
    }

    async fn pause(&mut self) -> Result<(), Ended> {
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => Ok(()),
            () = self.sender.closed() => Err(Ended),
            _ = self.closing.wait_for(|is_closing| *is_closing) => Err(Ended),
        }
    }

    async fn send(&mut self, name: &str, data: &Value) -> Result<(), Ended> {
        let event = Event::default().event(name).data(data.to_string());
        tokio::select! {
            sent = self.sender.send(event) => sent.map_err(|_| Ended),
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
