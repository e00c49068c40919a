//! The log port and the change feed port on Kafka, and writers' schemas from its schema registry.
//!
//! Positions are Refold's own: readers belong to no consumer group. What is committed to Kafka as positions is for tools that watch lag, and nothing
//! reads it back. Readers see what is committed only
//! (`read_committed`), so the end of a partition is its last stable offset.

mod append;
mod bootstrap;
mod changes;
mod connection;
mod errors;
mod groups;
mod heard;
mod log;
mod queue;
mod reader;
pub mod registry;
pub mod settings;
mod topics;
mod view_feed;

pub use self::changes::KafkaFeed;
pub use self::log::KafkaLog;
pub use self::registry::{Registry, RegistryError, RegistrySettings};
pub use self::settings::{Compression, KafkaSettings};
