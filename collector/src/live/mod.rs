//! Live sources: messages that somebody sends over a network as they are made.
//!
//! A [`LiveSource`] connects and brings messages; a supervisor keeps it connected and writes what it brings into a [spool](crate::spool); [`Live`] reads the spool. Server-sent
//! events, WebSockets and lines over HTTP are declared in `sources.toml`; sources by name are such declarations, with what cannot be declared beside them.

mod closer;
mod connection;
pub(crate) mod declared;
mod error;
mod frame;
mod general;
mod http;
mod mastodon;
pub(crate) mod presets;
mod source;
mod sse;
mod status;
mod supervisor;
#[cfg(test)]
mod tests;
mod websocket;
mod wikimedia;
mod x;

pub(crate) use closer::Closer;
pub use connection::{Connection, Incoming, LiveSource, Received};
pub use error::LiveError;
pub use presets::{Preset, check_streams};
pub use source::Live;
pub(crate) use source::LiveParts;
pub use status::{LiveCounts, LiveState, LiveStatus};
