//! Ends a connection from another thread, so that a stop need not wait for a silent server.

use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use parking_lot::Mutex;

/// Whatever is connected now. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Closer(Arc<Mutex<Closing>>);

#[derive(Default)]
struct Closing {
    is_closed: bool,
    open: Option<Open>,
}

enum Open {
    Http(ureq::Agent),
    Socket(TcpStream),
}

impl Open {
    fn close(self) {
        match self {
            Open::Http(agent) => agent.shutdown(),
            // It may have been closed by the other side already.
            Open::Socket(stream) => drop(stream.shutdown(Shutdown::Both)),
        }
    }
}

impl Closer {
    /// Ends what is open, and whatever is opened from now on.
    pub fn close(&self) {
        let mut closing = self.0.lock();
        closing.is_closed = true;
        if let Some(open) = closing.open.take() {
            open.close();
        }
    }

    /// Notes the agent of a request that is about to be sent.
    pub fn note_http(&self, agent: &ureq::Agent) {
        self.note(Open::Http(agent.clone()));
    }

    /// Notes a socket.
    pub fn note_socket(&self, stream: &TcpStream) {
        if let Ok(stream) = stream.try_clone() {
            self.note(Open::Socket(stream));
        }
    }

    /// Lets go of what has ended: a socket is closed for the other side only when nobody holds it.
    pub fn release(&self) {
        self.0.lock().open = None;
    }

    fn note(&self, open: Open) {
        let mut closing = self.0.lock();
        if closing.is_closed {
            return open.close();
        }
        closing.open = Some(open);
    }
}
