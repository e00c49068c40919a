//! The source port: what every module that brings events in implements.

use std::sync::Arc;
use std::time::Duration;

use refold_processor::log::NewRecord;
use serde::Serialize;

use crate::CollectError;
use crate::live::LiveStatus;

/// A source of events, already encoded.
///
/// What it yields is decided by its input and its point, so that [`collect`](crate::collect()) can tell after a crash what had reached the log.
pub trait EventSource: Send {
    /// The identity under which its resume point is kept: the same input has the same name after a restart.
    fn name(&self) -> String;

    /// Whether it can go on at a point after a restart. Standard input cannot.
    fn is_resumable(&self) -> bool {
        true
    }

    /// Goes to a point that an earlier [`Pull::Events`] carried. Called at most once, before the first [`next`](EventSource::next). The first `again`
    /// events after the point were yielded before, and are now yielded again, the same to the byte; where they came in one pull, the clock
    /// and the settings of today change nothing about them.
    ///
    /// # Errors
    /// When the input is not the one that was read before, or the point is not one of this source.
    fn resume(&mut self, point: &str, again: u64) -> Result<(), CollectError>;

    /// The next events, at most `max` of them. Waits for the first one no longer than `wait`.
    ///
    /// # Errors
    /// When the input cannot be read. Events before the error were returned by earlier calls.
    fn next(&mut self, max: usize, wait: Duration) -> Result<Pull, CollectError>;

    /// What is before `point` is in the log, and that is kept: it will never be asked for again.
    ///
    /// # Errors
    /// When what it keeps of it cannot be given up.
    fn acknowledged(&mut self, _point: &str) -> Result<(), CollectError> {
        Ok(())
    }

    /// Forgets where it was, to be read from its start. Called before all else.
    ///
    /// # Errors
    /// When what it keeps cannot be removed.
    fn restart(&mut self) -> Result<(), CollectError> {
        Ok(())
    }

    /// How its connection is; `None`: it needs none.
    fn live(&self) -> Option<Arc<LiveStatus>> {
        None
    }

    /// Whether what it has yielded so far is all that there was before now. Events of now that are appended earlier may make the rest too late.
    fn is_at_present(&self) -> bool;
}

/// What a source has now.
#[derive(Clone, Debug, PartialEq)]
pub enum Pull {
    /// Some events, some bad lines.
    Events {
        /// The encoded events, in the source's order. None, and no bad line: only the point has changed.
        records: Vec<NewRecord>,
        /// What could not be read between them.
        bad: Vec<BadLine>,
        /// How many lines between them are none of the source, by its mapping.
        left_out: usize,
        /// The point after all of these; only the source can read it.
        resume: String,
    },
    /// Nothing yet.
    Idle,
    /// Nothing ever again.
    End,
}

/// Why something that should have been an event is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BadReason {
    /// The line is longer than the setting allows.
    LineTooLong,
    /// Not JSON, or not UTF-8.
    NotJson,
    /// JSON, but not an object.
    NotAnObject,
    /// A field that the schema does not have.
    UnknownField,
    /// A field that the schema requires is not there.
    MissingField,
    /// A value of another type than the schema's.
    WrongType,
    /// A value that the schema's type cannot hold exactly: out of bounds, too many digits, an unknown symbol.
    OutOfRange,
    /// Encoded, it is larger than the source allows.
    RecordTooLarge,
}

impl BadReason {
    /// The name in reports, metrics and the file of bad lines.
    pub fn as_str(self) -> &'static str {
        match self {
            BadReason::LineTooLong => "line_too_long",
            BadReason::NotJson => "not_json",
            BadReason::NotAnObject => "not_an_object",
            BadReason::UnknownField => "unknown_field",
            BadReason::MissingField => "missing_field",
            BadReason::WrongType => "wrong_type",
            BadReason::OutOfRange => "out_of_range",
            BadReason::RecordTooLarge => "record_too_large",
        }
    }
}

/// Why a value was not encoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Refused {
    /// Why.
    pub reason: BadReason,
    /// What exactly, at which field, for people.
    pub detail: String,
}

impl Refused {
    pub(crate) fn new(reason: BadReason, detail: impl Into<String>) -> Self {
        Refused { reason, detail: detail.into() }
    }
}

/// The most of a bad line's text that is kept, in bytes.
pub const BAD_TEXT_BYTES: usize = 1024;

/// One line that is no event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BadLine {
    /// Its number in the input, from 1.
    pub line: u64,
    /// Why.
    pub reason: BadReason,
    /// What exactly, for people.
    pub detail: String,
    /// How the line begins: at most [`BAD_TEXT_BYTES`], what is not UTF-8 replaced.
    pub text: String,
}

impl BadLine {
    /// A bad line; of its content only the beginning is kept.
    pub fn new(line: u64, refused: Refused, content: &[u8]) -> Self {
        let beginning = content.get(..BAD_TEXT_BYTES).unwrap_or(content);
        BadLine { line, reason: refused.reason, detail: refused.detail, text: String::from_utf8_lossy(beginning).into_owned() }
    }
}
