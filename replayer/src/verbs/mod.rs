//! One file per verb.

mod bad_lines;
pub mod check;
pub mod collect;
pub mod completions;
pub mod history;
pub mod quarantine;
pub mod replay;
pub mod resume;
pub mod settings;
pub mod status;
pub mod switch;
pub mod test;
pub mod up;
mod waiting;
