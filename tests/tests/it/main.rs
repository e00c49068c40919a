//! All end to end tests, one module a promise.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout, missing_docs)]

mod cassandra;
mod kills;
mod real_posts;
mod simulation;
