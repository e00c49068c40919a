//! How one line of JSON becomes events of a source: the same for files, streams of lines and live sources.

use std::sync::Arc;

use refold_processor::log::NewRecord;
use serde_json::Value;

use crate::encode::{Encoder, parse};
use crate::event_source::Refused;
use crate::mapping::{LineFacts, Mapped, Mapping};

/// The usual longest line, in bytes.
pub const MAX_LINE_BYTES: usize = 1 << 20;

/// How lines become events.
#[derive(Clone)]
pub struct LineFormat {
    /// The encoder of the source.
    pub encoder: Encoder,
    /// The mapping, when lines are not objects of the record's own fields.
    pub mapping: Option<Mapping>,
    /// The longest line, in bytes; a longer one is a bad line, and is skipped without being held.
    pub max_line_bytes: usize,
    /// Who is shown what becomes of each line.
    pub watcher: Option<Arc<dyn Watcher>>,
}

/// Is shown what becomes of each line, for a dry run.
pub trait Watcher: Send + Sync {
    /// A line became this event.
    fn event(&self, event: &Value);

    /// A line was left out by the mapping, and why.
    fn left_out(&self, why: &str);
}

/// What became of a line, or of an item of the list in it.
pub(crate) enum Outcome {
    /// An event: its record, and the object of its fields.
    Event(NewRecord, Value),
    /// It is none of this source.
    LeftOut,
    /// It should have been an event.
    Bad(Refused),
}

impl LineFormat {
    /// Lines of objects of the record's own fields.
    pub fn new(encoder: Encoder) -> LineFormat {
        LineFormat { encoder, mapping: None, max_line_bytes: MAX_LINE_BYTES, watcher: None }
    }

    /// What becomes of a line.
    pub(crate) fn outcomes(&self, line: LineFacts<'_>) -> Vec<Outcome> {
        let mapped = parse(line.text).and_then(|json| match &self.mapping {
            None => Ok(Mapped::Events(vec![Ok(json)])),
            Some(mapping) => mapping.map(&json, line),
        });
        match mapped {
            Ok(Mapped::Events(events)) => events.into_iter().map(|event| self.encoded(event)).collect(),
            Ok(Mapped::LeftOut(why)) => {
                if let Some(watcher) = &self.watcher {
                    watcher.left_out(&why);
                }
                vec![Outcome::LeftOut]
            }
            Err(refused) => vec![Outcome::Bad(refused)],
        }
    }

    fn encoded(&self, event: Result<Value, Refused>) -> Outcome {
        match event.and_then(|object| self.encoder.encode(&object).map(|record| (record, object))) {
            Ok((record, object)) => {
                if let Some(watcher) = &self.watcher {
                    watcher.event(&object);
                }
                Outcome::Event(record, object)
            }
            Err(refused) => Outcome::Bad(refused),
        }
    }
}
