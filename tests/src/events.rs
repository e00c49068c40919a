//! A stream of server-sent events.

use std::io::{BufRead, BufReader};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

/// An open stream.
pub struct Events {
    received: Receiver<(String, Value)>,
}

impl Events {
    /// Opens a stream; a thread reads it until it ends.
    ///
    /// # Panics
    /// When it is not answered with one.
    pub fn open(url: &str) -> Events {
        let response = ureq::get(url).call().unwrap_or_else(|error| panic!("{url}: {error}"));
        assert_eq!(response.headers()["content-type"], "text/event-stream", "{url}");
        let (sender, received) = channel();
        std::thread::spawn(move || {
            let mut name = String::new();
            for line in BufReader::new(response.into_body().into_reader()).lines() {
                let Ok(line) = line else { return };
                if let Some(event) = line.strip_prefix("event: ") {
                    name = event.to_owned();
                } else if let Some(data) = line.strip_prefix("data: ")
                    && sender.send((name.clone(), serde_json::from_str(data).unwrap())).is_err()
                {
                    return;
                }
            }
        });
        Events { received }
    }

    /// The next event; `None` when the stream has ended.
    ///
    /// # Panics
    /// When none comes for a minute.
    pub fn next(&self) -> Option<(String, Value)> {
        use std::sync::mpsc::RecvTimeoutError;
        match self.received.recv_timeout(Duration::from_secs(60)) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no event for a minute"),
        }
    }

    /// The next event, which must be of this name.
    ///
    /// # Panics
    /// When it is not.
    pub fn expect(&self, wanted: &str) -> Value {
        let (name, data) = self.next().unwrap_or_else(|| panic!("the stream has ended without {wanted}"));
        assert_eq!(name, wanted, "{data}");
        data
    }
}
