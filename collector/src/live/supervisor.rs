//! Keeps a live source connected, for ever: what it brings goes into the spool, and what goes wrong into its status.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use refold_processor::backoff::Backoff;
use refold_processor::clock::{Clock, SystemClock};
use refold_processor::recovery::Recovery;
use refold_processor::stop::Stop;

use super::connection::{Connection, Incoming, LiveSource, Received};
use super::declared::Limits;
use super::error::LiveError;
use super::status::{LiveState, LiveStatus};
use crate::spool::{Message, Spool, SpoolSettings};

/// How long a full spool is waited for before it is looked at again.
const FULL_PAUSE: Duration = Duration::from_millis(200);
/// What was received is durable after this time also when nobody reads it.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// What the network's thread and the reader of the spool share.
pub(crate) struct Shared {
    pub folder: PathBuf,
    pub settings: SpoolSettings,
    /// `None`: not open, because it could not be written; it is opened again.
    pub spool: Mutex<Option<Spool>>,
    /// Something was appended.
    pub arrived: Condvar,
    pub status: Arc<LiveStatus>,
    /// Given when the source is dropped.
    pub stop: Stop,
}

/// The thread that keeps the source connected.
pub(crate) struct Supervisor {
    pub name: String,
    pub source: Box<dyn LiveSource>,
    pub limits: Limits,
    pub shared: Arc<Shared>,
}

impl Supervisor {
    /// Runs until the stop signal is given.
    pub fn run(mut self) {
        let mut backoff = Backoff::new(self.limits.least_pause, self.limits.longest_pause);
        let mut has_connected = false;
        while !self.shared.stop.is_stopped() {
            let ended = match self.room() {
                Ok(false) => continue,
                Ok(true) => self.connection(&mut backoff, &mut has_connected),
                Err(error) => error,
            };
            if self.shared.stop.is_stopped() {
                return;
            }
            self.pause(&ended, &mut backoff);
        }
    }

    /// Whether the spool has room; if not, waits for it a moment.
    fn room(&self) -> Result<bool, LiveError> {
        let mut open = self.shared.spool.lock();
        if self.shared.stop.is_stopped() {
            return Ok(false);
        }
        if open.is_none() {
            *open = Some(Spool::open(&self.shared.folder, self.shared.settings).map_err(|error| self.unwritable(&error))?);
        }
        let is_full = open.as_ref().is_some_and(Spool::is_full);
        drop(open);
        if is_full {
            self.shared.status.set(LiveState::Full);
            self.shared.stop.wait(FULL_PAUSE);
        }
        Ok(!is_full)
    }

    /// Connects, and takes what comes until that ends; answers with why.
    fn connection(&mut self, backoff: &mut Backoff, has_connected: &mut bool) -> LiveError {
        let cursor = self.shared.spool.lock().as_ref().and_then(|spool| spool.cursor().map(str::to_owned));
        let host = self.source.host();
        self.shared.status.set(LiveState::Connecting(host.clone()));
        let connected = self.source.connect(cursor.as_deref());
        let mut connection = match connected {
            Ok(connection) => connection,
            Err(error) => {
                self.source.failed();
                return error;
            }
        };
        if std::mem::replace(has_connected, true) {
            self.shared.status.add_reconnect();
            if !self.source.can_resume() {
                self.shared.status.add_gap();
            }
        }
        tracing::info!(source = %self.name, host, cursor, "connected");
        self.shared.status.set(LiveState::Connected(host));
        let mut taken = 0;
        let ended = self.take(connection.as_mut(), backoff, &mut taken);
        if taken == 0 {
            self.source.failed();
        }
        ended
    }

    #[allow(clippy::disallowed_methods, reason = "tells how long a server brings no message, and reaches no record")]
    fn take(&self, connection: &mut dyn Connection, backoff: &mut Backoff, taken: &mut u64) -> LiveError {
        let (mut message_at, mut synced_at) = (Instant::now(), Instant::now());
        loop {
            let incoming = match connection.next() {
                Ok(incoming) => incoming,
                Err(error) => return error,
            };
            if self.shared.stop.is_stopped() {
                return LiveError::transient("it was stopped");
            }
            let is_message = matches!(incoming, Incoming::Message(_) | Incoming::AfterGap { .. });
            match self.keep(incoming) {
                Ok(Kept::New) => {
                    *taken += 1;
                    backoff.reset();
                }
                Ok(Kept::Nothing) => {}
                Ok(Kept::Full) => return LiveError::transient("the spool is full"),
                Err(error) => return error,
            }
            if is_message {
                message_at = Instant::now();
            } else if self.limits.quiet.is_some_and(|quiet| message_at.elapsed() > quiet) {
                let minutes = message_at.elapsed().as_secs() / 60;
                return LiveError::transient(format!("no message for {minutes} min, although the connection is alive"));
            }
            if synced_at.elapsed() > SYNC_EVERY {
                synced_at = Instant::now();
                if let Err(error) = self.sync() {
                    return error;
                }
            }
        }
    }

    fn keep(&self, incoming: Incoming) -> Result<Kept, LiveError> {
        let status = &self.shared.status;
        let received = match incoming {
            Incoming::Sign => return Ok(Kept::Nothing),
            Incoming::TooLarge => {
                status.add_received();
                status.add_too_large();
                tracing::warn!(source = %self.name, most = self.limits.max_message_bytes, "a message that is too large was left out (max_message_bytes)");
                return Ok(Kept::Nothing);
            }
            Incoming::Moved(cursor) => {
                if let Some(spool) = self.shared.spool.lock().as_mut() {
                    spool.move_cursor(cursor);
                }
                return Ok(Kept::Nothing);
            }
            Incoming::AfterGap { asked, received } => {
                status.add_gap();
                let found = received.cursor.as_deref().unwrap_or_default();
                tracing::warn!(source = %self.name, asked, found, "the server does not have what was asked for: messages between the two are missing");
                received
            }
            Incoming::Message(received) => received,
        };
        status.add_received();
        let Received { body, id, cursor } = received;
        let message = Message { received_ms: SystemClock.now_ms(), id, cursor, body };
        let mut open = self.shared.spool.lock();
        let Some(spool) = open.as_mut() else { return Err(LiveError::transient("the spool is being opened again")) };
        let appended = spool.append(message);
        let is_full = spool.is_full();
        if appended.is_err() {
            *open = None;
        }
        drop(open);
        match appended {
            Err(error) => Err(self.unwritable(&error)),
            Ok(false) => {
                status.add_repeated();
                Ok(Kept::Nothing)
            }
            Ok(true) => {
                self.shared.arrived.notify_one();
                Ok(if is_full { Kept::Full } else { Kept::New })
            }
        }
    }

    fn sync(&self) -> Result<(), LiveError> {
        let mut open = self.shared.spool.lock();
        let synced = open.as_mut().map_or(Ok(()), |spool| spool.sync().map(drop));
        if synced.is_err() {
            *open = None;
        }
        synced.map_err(|error| self.unwritable(&error))
    }

    fn unwritable(&self, error: &std::io::Error) -> LiveError {
        LiveError::operator(format!("the spool in {} cannot be written: {error}", self.shared.folder.display()))
    }

    fn pause(&self, ended: &LiveError, backoff: &mut Backoff) {
        let needs_operator = ended.recovery != Recovery::Transient;
        let pause = if needs_operator { backoff.long_pause() } else { backoff.pause() };
        let pause = pause.max(ended.retry_after.unwrap_or_default());
        let until_ms = SystemClock.now_ms().saturating_add(i64::try_from(pause.as_millis()).unwrap_or(i64::MAX));
        // The first one after data is how some servers end every connection.
        match (needs_operator, backoff.failures()) {
            (false, 1) => tracing::info!(source = %self.name, why = %ended, retry_in_ms = pause.as_millis() as u64, "not connected"),
            _ => tracing::warn!(source = %self.name, why = %ended, retry_in_ms = pause.as_millis() as u64, "not connected"),
        }
        self.shared.status.set(LiveState::Waiting { why: ended.message.clone(), until_ms, needs_operator });
        self.shared.stop.wait(pause);
    }
}

/// What became of something that came.
enum Kept {
    /// It is in the spool.
    New,
    /// It was there before, or is nothing to keep.
    Nothing,
    /// It is in the spool, which is full now.
    Full,
}
