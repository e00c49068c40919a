//! The port of a live source: what every protocol and every source by name implements.

use bytes::Bytes;

use super::error::LiveError;

/// What a connection brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A message.
    Message(Received),
    /// A message which is not the one that the server was asked to begin with: those between the two are missing.
    AfterGap {
        /// The cursor that was asked for.
        asked: String,
        /// The message.
        received: Received,
    },
    /// Something that is no message, but moves the cursor: a canary, a message that nobody wants.
    Moved(String),
    /// The connection is alive.
    Sign,
    /// A message was larger than allowed, and was not held.
    TooLarge,
}

/// A message, as it goes into the spool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Its text.
    pub body: Bytes,
    /// What identifies it, if anything does.
    pub id: Option<u128>,
    /// The cursor behind it, if it has one.
    pub cursor: Option<String>,
}

/// A way to messages that somebody sends as they are made.
pub trait LiveSource: Send {
    /// Connects, to read on behind `cursor`, which an earlier message had; without one from now on.
    ///
    /// # Errors
    /// When it cannot: what it takes until it can.
    fn connect(&mut self, cursor: Option<&str>) -> Result<Box<dyn Connection>, LiveError>;

    /// The host of the last attempt, for people.
    fn host(&self) -> String;

    /// The next attempt failed as the last ones did: another host may be asked.
    fn failed(&mut self) {}

    /// Whether what passes between two connections can be asked for afterwards.
    fn can_resume(&self) -> bool;
}

/// A connection.
pub trait Connection: Send {
    /// Waits for what comes next; for no longer than the source's bound on silence.
    ///
    /// # Errors
    /// When it has ended, whoever ended it. What it had brought in part is dropped.
    fn next(&mut self) -> Result<Incoming, LiveError>;
}
