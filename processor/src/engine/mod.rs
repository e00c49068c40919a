//! Steps, commits and the loop around them: the only module that sees all the others.
//!
//! [`map`] judges and pre-aggregates chunks of one partition; [`fold`] merges them into state and commits; [`outbox`] and [`writer`]
//! bring changed rows to the view store. None of these waits or reads a clock. [`feed`], [`run`] and [`worker`] are the threads around them;
//! with [`steps`] whoever wants to drives them without any.

pub mod ahead;
pub mod assemble;
pub mod codec;
pub mod dirty;
pub mod emitted;
pub mod error;
pub mod faults;
pub mod feed;
pub mod fold;
pub mod layout;
mod lease;
pub mod map;
pub mod meta;
pub mod outbox;
pub mod pace;
pub mod publisher;
pub mod quarantined;
pub mod run;
pub mod shard;
pub mod shares;
pub mod stalled;
pub mod status;
pub mod steps;
pub mod sweep;
pub mod timing;
pub mod view_feed;
pub mod wake;
pub mod watermark;
pub mod worker;
pub mod writer;
pub mod yielding;
