//! Events that could not be applied, and why. They are kept, counted and never stop the stream.

use serde::{Deserialize, Serialize};

use crate::position::Offset;

/// Why an event is quarantined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A record without a value.
    Tombstone,
    /// The record ends before its schema says it should.
    Truncated,
    /// Bytes are left after the last field.
    TrailingBytes,
    /// A record of a JSON source is no JSON text, or none of an object.
    NotJson,
    /// The framing is not one of those declared.
    UnknownFraming,
    /// The schema id or fingerprint is not known.
    UnknownSchema,
    /// The writer's schema does not resolve to the source's.
    UnresolvableSchema,
    /// A value does not fit its type: an enum or union index out of range, a negative length, a number out of bounds.
    InvalidValue,
    /// Text that is not UTF-8.
    InvalidUtf8,
    /// The record is larger than the source allows.
    TooLarge,
    /// The event-time column is null.
    NoEventTime,
    /// The event time is later than the record time and the tolerance.
    FromTheFuture,
    /// The event time is earlier than the view's `accept_late` permits, judged in its partition's order.
    TooLate,
    /// Acceptable in its partition's order, but the state of its window is dropped. The one verdict that a replay would not repeat.
    LateAfterIdle,
    /// A group that the event belongs to has a longer key than stores take.
    KeyTooLong,
    /// An expression of the view failed on this event.
    Evaluation,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Reason; 16] = [
        Reason::Tombstone,
        Reason::Truncated,
        Reason::TrailingBytes,
        Reason::NotJson,
        Reason::UnknownFraming,
        Reason::UnknownSchema,
        Reason::UnresolvableSchema,
        Reason::InvalidValue,
        Reason::InvalidUtf8,
        Reason::TooLarge,
        Reason::NoEventTime,
        Reason::FromTheFuture,
        Reason::TooLate,
        Reason::LateAfterIdle,
        Reason::KeyTooLong,
        Reason::Evaluation,
    ];

    /// The reason of this name.
    pub fn parse(name: &str) -> Option<Reason> {
        Reason::ALL.into_iter().find(|reason| reason.as_str() == name)
    }

    /// The name in metrics, answers and the quarantine.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Tombstone => "tombstone",
            Reason::Truncated => "truncated",
            Reason::TrailingBytes => "trailing_bytes",
            Reason::NotJson => "not_json",
            Reason::UnknownFraming => "unknown_framing",
            Reason::UnknownSchema => "unknown_schema",
            Reason::UnresolvableSchema => "unresolvable_schema",
            Reason::InvalidValue => "invalid_value",
            Reason::InvalidUtf8 => "invalid_utf8",
            Reason::TooLarge => "too_large",
            Reason::NoEventTime => "no_event_time",
            Reason::FromTheFuture => "from_the_future",
            Reason::TooLate => "too_late",
            Reason::LateAfterIdle => "late_after_idle",
            Reason::KeyTooLong => "key_too_long",
            Reason::Evaluation => "evaluation",
        }
    }
}

/// One quarantined event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// Where it is in its partition.
    pub offset: Offset,
    /// Why.
    pub reason: Reason,
    /// What exactly, for people.
    pub detail: String,
}
