//! The engine of Refold: materialized views as folds over a log.
//!
//! Data flows one way: [`log`] → [`decode`] → [`view`] → [`state`] → [`store`]. Stages do not import each other, only
//! [`engine`] sees them all, and publishes to [`changes`] what it wrote. [`position`],
//! [`table`], [`json`], [`quarantine`], [`recovery`], [`clock`] and [`source`] are the words they share.

pub mod backoff;
pub mod changes;
pub mod clock;
pub mod decode;
pub mod engine;
pub mod json;
pub mod log;
pub mod position;
pub mod quarantine;
pub mod recovery;
pub mod scalar;
pub mod source;
pub mod state;
pub mod stop;
pub mod store;
pub mod table;
pub mod text;
pub mod view;
