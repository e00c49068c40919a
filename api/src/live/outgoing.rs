//! The outgoing side of one stream: events are sent in pieces, and the memory reserved for an event is released with its last piece.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::limits::Place;

/// Events queued for a slow reader.
const WAITING_EVENTS: usize = 16;
/// Size of a piece, bytes. The connection buffers pieces that the socket has not accepted yet.
const PIECE_BYTES: usize = 16 << 10;
/// The comment that keeps an idle stream open.
const COMMENT: &[u8] = b":\n\n";

/// The text of an event. The data is JSON, which has no line breaks.
pub fn event(name: &str, data: &str) -> Bytes {
    format!("event: {name}\ndata: {data}\n\n").into()
}

/// An event and its reserved memory; `None` once it is sent or abandoned.
type Slot = Arc<Mutex<Option<(Bytes, Option<Place>)>>>;

/// The reader is gone, or the server is shutting down.
#[derive(Debug)]
pub struct Ended;

/// The sending half.
pub struct Outgoing {
    sender: mpsc::Sender<Slot>,
    /// Events that are not fully sent.
    under_way: VecDeque<Slot>,
    /// Total bytes of all events.
    queued: u64,
    /// Bytes taken by the reader, and when that number last grew.
    taken: (u64, Instant),
}

/// The receiving half, which is the body of the response.
pub struct Pieces {
    receiver: mpsc::Receiver<Slot>,
    current: Option<Slot>,
}

/// Creates both halves.
pub fn channel() -> (Outgoing, Pieces) {
    let (sender, receiver) = mpsc::channel(WAITING_EVENTS);
    let outgoing = Outgoing { sender, under_way: VecDeque::new(), queued: 0, taken: (0, Instant::now()) };
    (outgoing, Pieces { receiver, current: None })
}

impl Outgoing {
    /// Sends an event.
    ///
    /// # Errors
    /// When the reader is gone, or has taken nothing for too long.
    pub async fn send(&mut self, event: Bytes, room: Option<Place>, patience: Duration) -> Result<(), Ended> {
        let bytes = event.len() as u64;
        let slot: Slot = Arc::new(Mutex::new(Some((event, room))));
        let sent = tokio::time::timeout(patience, self.sender.send(slot.clone())).await;
        if !matches!(sent, Ok(Ok(()))) {
            self.give_up();
            return Err(Ended);
        }
        self.forget_sent();
        self.queued += bytes;
        self.under_way.push_back(slot);
        Ok(())
    }

    /// Sends a comment, unless the queue is full.
    pub fn keep_alive(&self) {
        let _ = self.sender.try_send(Arc::new(Mutex::new(Some((Bytes::from_static(COMMENT), None)))));
    }

    /// Abandons the stream and releases its memory when the reader has taken nothing for too long.
    ///
    /// # Errors
    /// When the stream was abandoned.
    pub fn check(&mut self, patience: Duration) -> Result<(), Ended> {
        self.forget_sent();
        let left: usize = self.under_way.iter().map(|slot| slot.lock().as_ref().map_or(0, |(event, _)| event.len())).sum();
        let taken = self.queued - left as u64;
        if left == 0 || taken != self.taken.0 {
            self.taken = (taken, Instant::now());
            return Ok(());
        }
        if self.taken.1.elapsed() > patience {
            self.give_up();
            return Err(Ended);
        }
        Ok(())
    }

    /// Completes when the reader is gone.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }

    fn forget_sent(&mut self) {
        while self.under_way.front().is_some_and(|slot| slot.lock().is_none()) {
            self.under_way.pop_front();
        }
    }

    fn give_up(&mut self) {
        self.under_way.drain(..).for_each(|slot| drop(slot.lock().take()));
    }
}

impl Stream for Pieces {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.current.is_none() {
            self.current = ready!(self.receiver.poll_recv(context));
        }
        let Some(slot) = self.current.clone() else { return Poll::Ready(None) };
        let mut held = slot.lock();
        let Some((event, _)) = held.as_mut() else {
            // The event was abandoned, possibly half sent.
            self.current = None;
            return Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::TimedOut, "the reader is too slow"))));
        };
        let piece = event.split_to(event.len().min(PIECE_BYTES));
        if event.is_empty() {
            *held = None;
            self.current = None;
        }
        Poll::Ready(Some(Ok(piece)))
    }
}
