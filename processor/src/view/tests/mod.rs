#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod failing;
mod harness;
mod nulls;
mod oracle;
mod planning;
mod refusals;
