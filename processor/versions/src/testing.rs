//! What the tests of decisions share.

use refold_processor::store::catalogue::{Controls, VersionRecord, VersionState};
use refold_processor::table::Version;

/// A version of view `v`.
pub fn record(number: u32, state: VersionState) -> VersionRecord {
    VersionRecord {
        view: "v".into(),
        version: Version(number),
        sql: "SELECT 1".into(),
        digest: "d".into(),
        schema_fingerprint: "f".into(),
        state,
        created_ms: 0,
        created_by: "ann".into(),
        commit: None,
        changed_ms: 0,
        changed_by: "ann".into(),
        controls: Controls::default(),
    }
}
