//! Settings of the API.

use crate::access::AccessSettings;
use crate::limits::Limits;

/// Settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiSettings {
    /// Who is let in.
    pub access: AccessSettings,
    /// The largest body of events, bytes.
    pub max_body_bytes: usize,
    /// How many bodies of events are processed concurrently; memory for as many bodies of the maximum size is available. Further ones wait on their connection.
    pub ingest_requests: usize,
    /// How many streams of changes may be open at once.
    pub live_streams: usize,
    /// Rows of a page when the reader names no limit.
    pub rows_default: usize,
    /// The greatest limit a reader may name.
    pub rows_max: usize,
    /// Maximum lag of a version that may be switched to, in events behind the active version; an active version with a lasting greater lag is not ready.
    pub caught_up_lag_events: u64,
    /// By how many percentage points the share of quarantined events of a version that is switched to may be greater than that of the version in service; so too of late ones.
    pub quarantine_percent: u32,
    /// How long a version is kept after it was in service unless that is overridden, milliseconds.
    pub drop_grace_ms: i64,
    /// How long after it was retired a version is dropped by the workers, milliseconds; `None`: never.
    pub retire_after_ms: Option<i64>,
    /// Accepted names in the `Host` header besides addresses and `localhost`; `None`: all, for a listener that other machines reach.
    pub own_names: Option<Vec<String>>,
    /// Concurrency limits and timeouts.
    pub limits: Limits,
}

impl Default for ApiSettings {
    fn default() -> Self {
        ApiSettings {
            access: AccessSettings::default(),
            max_body_bytes: 16 << 20,
            ingest_requests: 8,
            live_streams: 1_000,
            rows_default: 100,
            rows_max: 10_000,
            caught_up_lag_events: 1_000,
            quarantine_percent: 1,
            drop_grace_ms: 600_000,
            retire_after_ms: None,
            own_names: None,
            limits: Limits::default(),
        }
    }
}
