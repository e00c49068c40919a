//! Record bytes → Arrow batches, by the writer's schema.
//!
//! A bad record never harms its batch-mates: it is rejected with its reason, the others are decoded.

use datafusion::arrow::array::RecordBatch;

use crate::position::Offset;
use crate::quarantine::Rejected;

/// Where a decoded event comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Its place in its partition.
    pub offset: Offset,
    /// When the log took it, milliseconds since the Unix epoch.
    pub record_time_ms: i64,
}

/// What a run of records decoded to.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The events, in log order.
    pub events: RecordBatch,
    /// Their origins: as many as `events` has rows.
    pub origins: Vec<Origin>,
    /// The records that did not decode, in log order.
    pub rejected: Vec<Rejected>,
}
