//! One file per verb.

pub mod apply;
mod bad_lines;
pub mod check;
pub mod collect;
pub mod completions;
pub mod diff;
pub mod drop;
pub mod history;
pub mod pause;
pub mod plan;
mod progress;
pub mod quarantine;
pub mod replay;
pub mod resume;
pub mod rollback;
pub mod settings;
pub mod status;
pub mod switch;
pub mod test;
pub mod throttle;
pub mod up;
mod waiting;
pub mod why;
