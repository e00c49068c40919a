//! Versions of views, between the engine that runs them and whoever asks for them: how they come to be, when readers may be sent to one and back, when
//! one may be dropped, paused or throttled, how far one is, how two differ, whether rows are as they are declared and as the log has them, and which events
//! are behind a row.
//!
//! Decisions are functions from facts to a verdict; whoever calls them gathers the facts and carries the verdict out.

pub mod audit;
pub mod canary;
pub mod controls;
pub mod diff;
pub mod dropping;
pub mod gate;
pub mod planner;
pub mod progress;
pub mod retention;
pub mod rollback;
mod rows;
pub mod switching;
#[cfg(test)]
mod testing;
pub mod verify;
pub mod why;
