//! What protocols bring, before a source makes messages of it.

use bytes::Bytes;

use super::error::LiveError;

/// One piece of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A message, with its name and id where the protocol has those.
    Message { name: Option<String>, id: Option<String>, data: Bytes },
    /// The connection is alive.
    Sign,
    /// A message was larger than allowed.
    TooLarge,
}

/// A connection of some protocol.
pub(crate) trait Frames: Send {
    /// Waits for the next one, no longer than the bound on silence.
    ///
    /// # Errors
    /// When the connection has ended.
    fn next(&mut self) -> Result<Frame, LiveError>;
}
