//! Refold's view store on Apache Cassandra and ScyllaDB.
//!
//! | what | where, in the keyspace of the settings |
//! |---|---|
//! | rows of a version | table `<view>__v<n>`, with the view's own columns and key; its shape is kept in the table's comment |
//! | how far a version is, and who owns it | `progress`: a partition for each table, a row for each epoch |
//! | the catalogue | `registers` and, for who runs what, `owners`, moved by lightweight transactions; and `journal`, which only grows |
//!
//! Rows are written with the timestamps that the engine gives them, so Cassandra's own rule (the greater timestamp stays, a deletion wins a
//! tie) is the port's. No lightweight transaction, counter or server clock is on the way of a row.
//!
//! The port is synchronous: a [`CassandraStore`] has a small runtime of its own and waits for it. It must not be called from
//! a thread that runs asynchronous tasks; use `spawn_blocking` there.

mod batches;
mod client;
mod connect;
mod error;
mod flight;
mod journal;
mod keys;
mod progress;
mod reading;
mod reclaim;
mod registers;
mod retry;
mod rows;
mod settings;
mod statements;
mod tables;
mod types;
mod writing;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use refold_processor::store::StoreError;

use crate::client::Client;
use crate::flight::Window;
use crate::progress::Tellers;
use crate::registers::RegisterStatements;
pub use crate::settings::{CassandraSettings, ReadConsistency, SerialConsistency, TlsSettings};
use crate::tables::OpenTable;

/// A view store in a keyspace of a Cassandra or ScyllaDB cluster.
pub struct CassandraStore {
    client: Client,
    settings: CassandraSettings,
    /// Tables in use.
    tables: RwLock<HashMap<String, Arc<OpenTable>>>,
    /// What this process told of the tables that it owns.
    tellers: Tellers,
    /// How many batches of rows may be on their way.
    window: Window,
    registers: RegisterStatements,
    /// The time of the newest journal entry of this process, microseconds since the Unix epoch.
    last_entry_us: Mutex<i64>,
    /// Partitions that were listed lately.
    seen_keys: Mutex<Vec<keys::Seen>>,
    /// Options of new tables that depend on the server.
    table_options: &'static str,
}

impl CassandraStore {
    /// Connects to a cluster, and makes the keyspace and the store's own tables where they are missing.
    pub fn connect(settings: &CassandraSettings) -> Result<Self, StoreError> {
        connect::connect(settings)
    }
}
