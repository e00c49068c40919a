//! Sources of events → the log.
//!
//! An [`EventSource`] yields records that an [`Encoder`] has already written in the framing of a declared source;
//! [`collect`](collect::collect) appends them through a [`Sink`] and remembers where it was, so that a restart neither loses nor doubles an
//! event. What cannot be read is kept by a [`BadLines`], counted by reason, and never stops the stream.
//!
//! One small module a source: [`jsonl`] reads JSON lines, [`generate`] makes realistic posts, [`live`] reads what others send over a network.

pub mod bad_lines;
pub mod collect;
pub mod encode;
mod error;
pub mod event_source;
pub mod format;
pub mod generate;
pub mod infer;
mod input;
pub mod jsonl;
mod lines;
pub mod live;
mod live_spec;
pub mod mapping;
mod path;
pub mod report;
pub mod resume;
mod secret;
pub mod sink;
pub mod spec;
pub mod spool;
pub mod stop;
mod stream_pace;

pub use bad_lines::BadLines;
pub use collect::{Collection, collect};
pub use encode::{Encoder, encode_ndjson};
pub use error::CollectError;
pub use event_source::{BadLine, BadReason, EventSource, Pull, Refused};
pub use format::{LineFormat, Watcher};
pub use live::LiveStatus;
pub use live_spec::{LiveKind, LiveSpec};
pub use mapping::Mapping;
pub use report::{Report, Totals};
pub use resume::ResumeStore;
pub use sink::Sink;
pub use spec::{Opening, Spec};
pub use stop::{Stop, SystemTimer, Timer};
