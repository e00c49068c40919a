//! Settings, and what the driver makes of them.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use openssl::ssl::{SslConnector, SslFiletype, SslMethod};
use refold_processor::store::StoreError;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::TlsContext;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::{Consistency, SerialConsistency as DriverSerialConsistency};
use serde::{Deserialize, Serialize};

use crate::retry::PrepareAgain;

/// A connection is asked for a sign of life this often, and given up if there is none for as long.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// How many replicas answer for rows and progress. Reads and writes use the same, and any of these overlaps with itself: what was
/// written is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadConsistency {
    /// Most replicas of the local data centre. All owners and readers must then be in that data centre.
    LocalQuorum,
    /// Most replicas of all data centres.
    Quorum,
    /// All replicas.
    All,
}

/// Among which replicas the catalogue's compare-and-set is agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SerialConsistency {
    /// Those of the local data centre. All processes that share the catalogue must then be in that data centre.
    LocalSerial,
    /// Those of all data centres.
    Serial,
}

/// Encryption of the connections. A node's certificate must have been issued by one of the authorities, for the IP address that it is reached at
/// (`subjectAltName`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSettings {
    /// The certificates of the authorities to trust, PEM. Without it, those of the machine.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate and those that lead from it to its authority, PEM.
    pub certificate_file: Option<PathBuf>,
    /// The key of the client's certificate, PEM.
    pub key_file: Option<PathBuf>,
}

/// Settings of a [`CassandraStore`](crate::CassandraStore).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CassandraSettings {
    /// Some nodes of the cluster, `host:port`; the others are found through them.
    pub contact_points: Vec<String>,
    /// The data centre whose nodes are asked; those of others only where a consistency needs them. Without it, any.
    pub datacenter: Option<String>,
    /// The keyspace of everything that Refold keeps. Letters, digits and `_`, at most 48 of them.
    pub keyspace: String,
    /// The replication of the keyspace, if it has to be made: a CQL map.
    pub replication: String,
    /// Names the catalogue: several can be in one keyspace.
    pub catalogue: String,
    /// How many replicas answer for rows and progress.
    pub consistency: ReadConsistency,
    /// Among which replicas the catalogue's compare-and-set is agreed.
    pub serial_consistency: SerialConsistency,
    /// The user, if the cluster asks for one.
    pub user: Option<String>,
    /// The password of the user.
    pub password: Option<String>,
    /// Encryption, if the cluster wants it.
    pub tls: Option<TlsSettings>,
    /// How long to wait for the first connection, in milliseconds.
    pub connect_timeout_ms: u64,
    /// How long to wait for the answer to a request before the store counts as unavailable, in milliseconds.
    pub request_timeout_ms: u64,
    /// How long to wait for tables to be made and dropped on all nodes, in milliseconds.
    pub schema_timeout_ms: u64,
    /// The most batches of rows that one write has on their way. Fewer are, while the cluster is overloaded.
    pub batches_in_flight: usize,
    /// The most rows in a batch.
    pub batch_rows: usize,
    /// The most partitions in a batch. Cassandra warns above 10 (`unlogged_batch_across_partitions_warn_threshold`).
    pub batch_partitions: usize,
    /// The most bytes in a batch, unless a single row has more. Cassandra warns above 5 KiB and refuses above 50 KiB
    /// (`batch_size_warn_threshold`, `batch_size_fail_threshold`).
    pub batch_bytes: usize,
    /// Rows fetched at a time by long reads.
    pub page_rows: usize,
    /// Threads that exchange bytes with the cluster.
    pub io_threads: usize,
}

impl Default for CassandraSettings {
    fn default() -> Self {
        CassandraSettings {
            contact_points: vec!["127.0.0.1:9042".into()],
            datacenter: None,
            keyspace: "refold".into(),
            replication: "{'class': 'SimpleStrategy', 'replication_factor': 1}".into(),
            catalogue: "refold".into(),
            consistency: ReadConsistency::LocalQuorum,
            serial_consistency: SerialConsistency::LocalSerial,
            user: None,
            password: None,
            tls: None,
            connect_timeout_ms: 10_000,
            request_timeout_ms: 10_000,
            schema_timeout_ms: 60_000,
            batches_in_flight: 64,
            batch_rows: 50,
            batch_partitions: 10,
            batch_bytes: 5_000,
            page_rows: 5_000,
            io_threads: 1,
        }
    }
}

impl fmt::Debug for CassandraSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CassandraSettings")
            .field("contact_points", &self.contact_points)
            .field("datacenter", &self.datacenter)
            .field("keyspace", &self.keyspace)
            .field("catalogue", &self.catalogue)
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "hidden"))
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

impl CassandraSettings {
    /// How long to wait for an answer.
    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    /// Refuses settings that cannot work.
    pub(crate) fn validate(&self) -> Result<(), StoreError> {
        let refuse = |text: &str| Err(StoreError::Broken(format!("the settings of the view store on Cassandra: {text}")));
        if self.contact_points.is_empty() {
            return refuse("contact_points is empty; name at least one node, host:port");
        }
        if !is_name(&self.keyspace) {
            return refuse("keyspace must be 1 to 48 letters, digits and underscores");
        }
        for (setting, value) in [
            ("batches_in_flight", self.batches_in_flight),
            ("batch_rows", self.batch_rows),
            ("batch_partitions", self.batch_partitions),
            ("batch_bytes", self.batch_bytes),
            ("page_rows", self.page_rows),
            ("io_threads", self.io_threads),
        ] {
            if value == 0 {
                return refuse(&format!("{setting} is 0; it must be at least 1"));
            }
        }
        if self.batch_rows > usize::from(u16::MAX) {
            return refuse("batch_rows is above 65535, the most that a batch can have");
        }
        if self.user.is_some() != self.password.is_some() {
            return refuse("user and password go together");
        }
        Ok(())
    }

    pub(crate) fn consistency(&self) -> Consistency {
        match self.consistency {
            ReadConsistency::LocalQuorum => Consistency::LocalQuorum,
            ReadConsistency::Quorum => Consistency::Quorum,
            ReadConsistency::All => Consistency::All,
        }
    }

    /// The consistency of reads that must see what a compare-and-set did.
    pub(crate) fn serial_read(&self) -> Consistency {
        match self.serial_consistency {
            SerialConsistency::LocalSerial => Consistency::LocalSerial,
            SerialConsistency::Serial => Consistency::Serial,
        }
    }

    /// What the driver needs to connect.
    pub(crate) fn session(&self) -> Result<SessionBuilder, StoreError> {
        let serial = match self.serial_consistency {
            SerialConsistency::LocalSerial => DriverSerialConsistency::LocalSerial,
            SerialConsistency::Serial => DriverSerialConsistency::Serial,
        };
        let profile = ExecutionProfile::builder()
            .consistency(self.consistency())
            .serial_consistency(Some(serial))
            .request_timeout(Some(self.request_timeout()))
            .retry_policy(Arc::new(PrepareAgain::default()))
            .build();
        let connect_timeout = Duration::from_millis(self.connect_timeout_ms);
        let mut builder = SessionBuilder::new()
            .known_nodes(&self.contact_points)
            .connection_timeout(connect_timeout)
            .hostname_resolution_timeout(Some(connect_timeout))
            .keepalive_interval(KEEPALIVE)
            .keepalive_timeout(KEEPALIVE)
            .schema_agreement_timeout(Duration::from_millis(self.schema_timeout_ms))
            // Names and types are the store's own affair; of the schema the driver only needs to know how the keyspace is replicated.
            .fetch_full_schema_metadata(false)
            .keyspaces_to_fetch([self.keyspace.clone()])
            .refresh_metadata_on_auto_schema_agreement(false)
            .default_execution_profile_handle(profile.into_handle());
        if let (Some(user), Some(password)) = (&self.user, &self.password) {
            builder = builder.user(user, password);
        }
        if let Some(datacenter) = &self.datacenter {
            builder = builder.prefer_datacenter(datacenter.clone());
        }
        if let Some(tls) = &self.tls {
            builder = builder.tls_context(Some(tls.context()?));
        }
        Ok(builder)
    }
}

impl TlsSettings {
    fn context(&self) -> Result<TlsContext, StoreError> {
        let broken = |what: String| move |error| StoreError::Broken(format!("{what}: {error}"));
        let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(broken("TLS cannot be used".into()))?;
        if let Some(file) = &self.ca_file {
            builder.set_ca_file(file).map_err(broken(format!("{} holds no certificates to trust", file.display())))?;
        }
        if let Some(file) = &self.certificate_file {
            builder.set_certificate_chain_file(file).map_err(broken(format!("{} holds no certificate", file.display())))?;
        }
        if let Some(file) = &self.key_file {
            builder.set_private_key_file(file, SslFiletype::PEM).map_err(broken(format!("{} holds no key", file.display())))?;
        }
        Ok(builder.into())
    }
}

/// Whether Cassandra takes it as the name of a keyspace or a table.
pub(crate) fn is_name(name: &str) -> bool {
    (1..=48).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
