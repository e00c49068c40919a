//! What the end to end tests and proofs of Refold share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

pub mod command;
pub mod deployment;
pub mod events;
pub mod http;
pub mod live_server;
pub mod ports;
pub mod program;
pub mod scale;
pub mod services;
pub mod shop;
pub mod simulation;
pub mod worker;
