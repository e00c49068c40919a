//! One file per verb.

pub mod apply;
pub mod audit;
mod bad_lines;
pub mod check;
pub mod collect;
pub mod completions;
pub mod diff;
pub mod drop;
mod gates;
pub mod history;
pub mod new;
pub mod plan;
pub mod quarantine;
mod record;
pub mod replay;
mod reports;
pub mod resume;
pub mod rollback;
pub mod settings;
pub mod source;
pub mod status;
pub mod switch;
pub mod test;
pub mod up;
pub mod verify;
mod waiting;
pub mod why;
