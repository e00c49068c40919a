//! All end to end tests, one module a promise.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout, missing_docs)]

mod admin;
mod bad_records;
mod cassandra;
mod checks;
mod cli;
mod compare;
mod deployed;
mod ending;
mod first_version;
mod http;
mod idle;
mod kafka;
mod kills;
mod live;
mod many_views;
mod memory;
mod readme;
mod real_posts;
mod registry;
mod rolling;
mod simulation;
mod worker;
