//! The committed facts of a version besides its groups: positions, clocks, counts.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::error::EngineError;
use super::quarantined::Kept;
use super::watermark::PartitionTime;
use crate::position::{Cut, Partition};
use crate::quarantine::Reason;
use crate::state::{Batch, Lookup, Space};
use crate::view::View;

const KEY: &[u8] = b"version";

/// Rises with every change of what is on disk.
const FORMAT: u32 = 1;

/// What a commit keeps besides groups and rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// Format, definition and aggregate state layout: state of another layout cannot be continued.
    pub layout: String,
    /// The positions that everything else here, and every group, is at.
    pub cut: Cut,
    /// Event-time progress by partition.
    pub times: BTreeMap<Partition, PartitionTime>,
    /// Events read: applied and quarantined.
    pub read: u64,
    /// Events folded in.
    pub applied: u64,
    /// Quarantined events by reason.
    pub quarantined: BTreeMap<Reason, u64>,
    /// What is kept of them.
    #[serde(default)]
    pub quarantine: Kept,
    /// Whether rows are written at every commit; until then, only those of closed windows are.
    pub live: bool,
    /// Whether readers have all rows: the version is live, and what was not written before has been swept.
    pub complete: bool,
    /// A sweep of the windows that end at or before this time was begun: from then on their late changes are dirty rows.
    pub sweeping_to_us: Option<i64>,
    /// A former owner may have swept already, and written rows that a sweep has to delete.
    pub doubtful: bool,
    /// Largest watermark so far, microseconds.
    pub watermark_us: Option<i64>,
    /// While not live: the rows of windows that end at or before this time have been written.
    pub swept_to_us: Option<i64>,
    /// Panes whose state ended at or before this time are dropped.
    pub dropped_to_us: Option<i64>,
    /// Windows whose rows have changed and are not yet among the dirty rows (rankings and hopping windows).
    pub pending: BTreeSet<i64>,
    /// What a former owner may have written that this state does not know of (rankings and hopping windows).
    #[serde(default)]
    pub doubt: Option<Doubt>,
    /// The window that ends next and whose rows are written although it is open (hopping windows).
    pub next_window_us: Option<i64>,
    /// The partitions that are folded up to where the version ends: nothing more is read of them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ended: BTreeSet<Partition>,
}

/// A former owner was ahead of this state: of each window that it can have written, all rows are written and deleted again once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Doubt {
    /// Rows of cuts up to here may be in the view store.
    pub until: Cut,
    /// Windows that begin after this time are none of its; `None`: `until` is not reached yet.
    pub end_us: Option<i64>,
    /// The windows that have been written since `until` was reached.
    pub settled: BTreeSet<i64>,
}

impl Doubt {
    /// Whether rows of the window that begins at `start_us` may be in the store that this state does not know of.
    pub fn covers(&self, start_us: i64) -> bool {
        self.end_us.is_none_or(|end_us| start_us <= end_us) && !self.settled.contains(&start_us)
    }
}

impl Meta {
    /// The facts of a version that has not read anything.
    pub fn new(view: &View) -> Meta {
        Meta { layout: layout(view), ..Meta::default() }
    }

    /// What was committed last, or a new version's.
    pub fn load(view: &View, state: &dyn Lookup) -> Result<Meta, EngineError> {
        let Some(bytes) = state.get(Space::Meta, KEY)? else { return Ok(Meta::new(view)) };
        let meta: Meta =
            serde_json::from_slice(&bytes).map_err(|error| EngineError::Internal(format!("committed facts do not parse: {error}")))?;
        let expected = layout(view);
        if meta.layout != expected {
            return Err(EngineError::OtherLayout { found: meta.layout, expected });
        }
        Ok(meta)
    }

    /// Puts the facts into a batch.
    pub fn put(&self, batch: &mut Batch) -> Result<(), EngineError> {
        let bytes = serde_json::to_vec(self).map_err(|error| EngineError::Internal(error.to_string()))?;
        batch.put(Space::Meta, KEY, &bytes);
        Ok(())
    }
}

/// What the bytes of the state depend on. DataFusion's aggregate states are its own affair, so its version is a part.
fn layout(view: &View) -> String {
    let states: Vec<String> = view.states.fields().iter().map(|field| field.data_type().to_string()).collect();
    format!("{FORMAT}/{}/datafusion-{}/{}", view.digest, datafusion::DATAFUSION_VERSION, states.join(","))
}
