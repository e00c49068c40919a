//! Changes of partitions, for those who follow them: what streams (server-sent events) and sockets (WebSocket) share.

mod following;
mod hub;
pub mod outgoing;
mod partition;
mod subscription;
mod topic;
mod topics;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use refold_processor::changes::ChangeFeed;
use refold_processor::store::catalogue::CatalogueError;
use refold_processor::table::Version;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

pub use self::following::Following;
use self::hub::Hubs;
pub use self::hub::Over;
pub use self::subscription::{After, Due, Subscription};
use self::topics::Topics;
use crate::counts::HttpMetrics;
use crate::limits::{AllPlaces, Limits};
use crate::ports::Ports;
use crate::problem::Problem;
use crate::reading::Reading;
use crate::settings::ApiSettings;

/// How often followers check for a switch.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long before what met with trouble begins again.
pub const PAUSE: Duration = Duration::from_secs(1);
/// How often a quiet connection shows that it is there.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Maximum number of changes held back until the snapshot is passed; beyond it the snapshot is read again.
pub const HELD_ROWS: usize = 10_000;

/// What followers of changes share.
pub struct Live {
    /// Reads of rows.
    pub reading: Arc<Reading>,
    /// Places for snapshots, and memory for what was not taken yet.
    pub places: Arc<AllPlaces>,
    /// Time-outs.
    pub limits: Limits,
    changes: Arc<dyn ChangeFeed>,
    hubs: Hubs,
    pointers: Pointers,
    topics: Topics,
    /// One for each stream or socket that may be open.
    streams: Arc<Semaphore>,
    most_streams: usize,
    counts: Arc<HttpMetrics>,
    closing: watch::Sender<bool>,
}

impl Live {
    /// Nobody follows anything yet.
    pub fn new(ports: &Ports, settings: &ApiSettings, reading: &Arc<Reading>, places: &Arc<AllPlaces>, counts: &Arc<HttpMetrics>) -> Live {
        Live {
            reading: reading.clone(),
            places: places.clone(),
            limits: settings.limits.clone(),
            changes: ports.changes.clone(),
            hubs: Hubs::default(),
            pointers: Pointers::default(),
            topics: Topics::default(),
            streams: Arc::new(Semaphore::new(settings.live_streams)),
            most_streams: settings.live_streams,
            counts: counts.clone(),
            closing: watch::Sender::new(false),
        }
    }

    /// A place for one more stream or socket, for as long as it is held.
    ///
    /// # Errors
    /// 503 when there is none.
    pub fn admit(&self) -> Result<Open, Problem> {
        let permit = self.streams.clone().try_acquire_owned().map_err(|_| {
            Problem::unavailable(format!(
                "{} streams of changes are open, as many as the setting live_streams allows; read /rows, or try again later",
                self.most_streams
            ))
        })?;
        self.counts.streams(1);
        Ok(Open { counts: self.counts.clone(), _permit: permit })
    }

    /// Ends streams and sockets: nobody is to be served any more.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Whether they are to end.
    pub fn closing(&self) -> Closing {
        Closing(self.closing.subscribe())
    }

    /// The version in service, as it was known lately; `None`: nobody knows now.
    pub fn active(&self, view: &str) -> Result<Option<Version>, CatalogueError> {
        self.pointers.active(&self.reading, view)
    }
}

/// Waits until nobody is to be served any more.
pub struct Closing(watch::Receiver<bool>);

impl Closing {
    /// Completes then.
    pub async fn closed(&mut self) {
        let _ = self.0.wait_for(|is_closing| *is_closing).await;
    }
}

/// An open stream or socket, as metrics have it.
pub struct Open {
    counts: Arc<HttpMetrics>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.counts.streams(-1);
    }
}

/// Which version is in service, for all followers: asked of the catalogue now and then, however many there are.
#[derive(Default)]
struct Pointers(Mutex<HashMap<String, (Instant, Option<Version>)>>);

impl Pointers {
    fn active(&self, reading: &Reading, view: &str) -> Result<Option<Version>, CatalogueError> {
        // Who comes while another asks is answered at its next look: followers are many, and must not wait in a line for a catalogue that is slow.
        let Some(mut asked) = self.0.try_lock() else { return Ok(None) };
        if let Some((_, version)) = asked.get(view).filter(|(at, _)| at.elapsed() < LOOK_EVERY) {
            return Ok(*version);
        }
        let version = reading.views.catalogue.active(view)?.map(|active| active.version);
        asked.insert(view.to_owned(), (Instant::now(), version));
        Ok(version)
    }
}
