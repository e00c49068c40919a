//! End to end tests and proofs: what they share.

pub mod shop;
