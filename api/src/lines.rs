//! Answers that grow for as long as the work takes: JSON objects, one a line.
//!
//! What can be refused is refused before the first line, with a status of its own. An error after that is the last line, `{"problem": …}`.

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::sync::mpsc::{Sender, channel};

use crate::limits;
use crate::problem::Problem;

/// Lines that wait for who reads them.
const WAITING: usize = 64;

/// Where lines go.
pub struct Lines(Sender<Bytes>);

/// Nobody reads the answer any more.
#[derive(Debug)]
pub struct Gone;

impl Lines {
    /// Sends a line, as soon as there is room.
    ///
    /// # Errors
    /// When nobody reads the answer any more.
    pub fn send(&self, line: &Value) -> Result<(), Gone> {
        let mut text = line.to_string();
        text.push('\n');
        self.0.blocking_send(text.into()).map_err(|_| Gone)
    }

    /// Whether nobody reads the answer any more.
    pub fn is_gone(&self) -> bool {
        self.0.is_closed()
    }
}

/// Answers with the lines that `work` sends, which may wait for a disk or a database.
pub fn answer(work: impl FnOnce(&Lines) -> Result<(), Problem> + Send + 'static) -> Response {
    let (sender, receiver) = channel(WAITING);
    // Held for as long as the work takes.
    let place = limits::held();
    drop(tokio::task::spawn_blocking(move || {
        let lines = Lines(sender);
        if let Err(problem) = work(&lines) {
            let _ = lines.send(&json!({ "problem": problem.document() }));
        }
        drop(place);
    }));
    let lines = stream::unfold(receiver, |mut receiver| async {
        let line = receiver.recv().await?;
        Some((Ok::<Bytes, std::convert::Infallible>(line), receiver))
    });
    // Compression asks again after the end.
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines.fuse())).into_response()
}
