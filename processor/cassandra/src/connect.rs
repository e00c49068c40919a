//! Connecting: the session, the keyspace and the store's own tables.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use refold_processor::store::StoreError;
use scylla::statement::Consistency;

use crate::client::Client;
use crate::error::Failure;
use crate::flight::Window;
use crate::progress::Tellers;
use crate::registers::RegisterStatements;
use crate::rows::{Values, each_row, text};
use crate::settings::CassandraSettings;
use crate::statements::quoted;
use crate::{CassandraStore, journal, progress, registers};

/// The first release of Cassandra with the compaction that suits rows which are written over.
const UNIFIED_COMPACTION_SINCE: u32 = 5;
/// Given to new tables there. Never the one by time windows: rows of one window are written over long after.
const UNIFIED_COMPACTION: &str = " AND compaction = {'class': 'UnifiedCompactionStrategy'}";

pub(crate) fn connect(settings: &CassandraSettings) -> Result<CassandraStore, StoreError> {
    settings.validate()?;
    let doing = format!("connecting to Cassandra at {}", settings.contact_points.join(", "));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(settings.io_threads)
        .thread_name("refold-cassandra")
        .enable_all()
        .build()
        .map_err(|error| StoreError::Refused(format!("{doing}: {error}")))?;
    let builder = settings.session()?;
    let connect_timeout = Duration::from_millis(settings.connect_timeout_ms);
    let session = runtime.block_on(async {
        match tokio::time::timeout(connect_timeout, builder.build()).await {
            Ok(session) => session.map_err(Failure::from),
            Err(_) => Err(Failure::unavailable("no answer in time")),
        }
    });
    let session = match session {
        Ok(session) => session,
        Err(failure) => {
            runtime.shutdown_background();
            return Err(failure.while_doing(&doing));
        }
    };
    let schema_timeout = Duration::from_millis(settings.schema_timeout_ms);
    let client = Client::new(runtime, session, settings.request_timeout(), schema_timeout);
    let (registers, table_options) = client.wait(prepare_keyspace(&client, settings)).map_err(|failure| failure.while_doing(&doing))?;
    tracing::info!(
        keyspace = settings.keyspace,
        nodes = client.session.get_cluster_state().get_nodes_info().len(),
        "connected to Cassandra"
    );
    Ok(CassandraStore {
        client,
        settings: settings.clone(),
        tables: RwLock::new(HashMap::new()),
        tellers: Tellers::default(),
        window: Window::new(settings.batches_in_flight),
        registers,
        last_entry_us: Mutex::new(0),
        seen_keys: Mutex::default(),
        table_options,
    })
}

async fn prepare_keyspace(client: &Client, settings: &CassandraSettings) -> Result<(RegisterStatements, &'static str), Failure> {
    if let Some(datacenter) = &settings.datacenter
        && !client.session.get_cluster_state().replica_locator().datacenter_names().contains(datacenter)
    {
        return Err(Failure::refused(format!("there is no data centre {datacenter}; correct the setting datacenter")));
    }
    // Whoever is not allowed to make them can do without, where they are made already.
    let keyspace = &settings.keyspace;
    let there = names(client, "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?", keyspace).await?;
    if there.is_empty() {
        let replication = &settings.replication;
        client.define(&format!("CREATE KEYSPACE IF NOT EXISTS {} WITH replication = {replication}", quoted(keyspace))).await?;
        let refreshed = client.session.refresh_metadata().await;
        refreshed.map_err(|error| Failure::unavailable(error.to_string()))?;
    }
    let there = names(client, "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?", keyspace).await?;
    for (table, definition) in [registers::TABLE, registers::ISOLATED_TABLE, journal::TABLE, progress::TABLE] {
        if !there.iter().any(|name| name == table) {
            client.define(&format!("CREATE TABLE IF NOT EXISTS {}.{table} {definition}", quoted(keyspace))).await?;
        }
    }
    let release = names(client, "SELECT release_version FROM system.local WHERE key = ?", "local").await?;
    let major = release.first().and_then(|release| release.split('.').next()?.parse::<u32>().ok());
    let is_unified = major.is_some_and(|major| major >= UNIFIED_COMPACTION_SINCE);
    Ok((RegisterStatements::prepare(client, settings).await?, if is_unified { UNIFIED_COMPACTION } else { "" }))
}

/// The texts that a query about the schema answers.
async fn names(client: &Client, cql: &str, about: &str) -> Result<Vec<String>, Failure> {
    let mut prepared = client.prepare(cql).await?;
    prepared.set_consistency(Consistency::One);
    let answer = client.query(&prepared, Values::new().with_text(about)).await?;
    let mut names = Vec::new();
    each_row(&answer, |row| {
        names.extend(text(row, 0));
        Ok(())
    })?;
    Ok(names)
}
