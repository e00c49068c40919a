//! Numbers and times as text: what JSON events and those who write them have in common.

pub mod decimal;
pub mod time;
pub mod uuid;
