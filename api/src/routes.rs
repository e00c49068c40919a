//! The routes. Each is handed what it needs; what they share lies below them.

pub mod admin;
pub mod assets;
pub mod audit;
pub mod caching;
pub mod canary;
pub mod cost;
pub mod diff;
pub mod events;
pub mod guard;
pub mod health;
pub mod keys;
pub mod live;
pub mod metrics;
pub mod page;
pub mod quarantine;
pub mod rows;
pub mod session;
pub mod socket;
pub mod sources;
pub mod verify;
pub mod views;
pub mod why;
