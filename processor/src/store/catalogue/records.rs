//! What the catalogue keeps in registers: the one file that knows their keys and their JSON.
//!
//! | key | holds |
//! |---|---|
//! | `catalogue/view/<view>` | [`ViewRegister`]: the active pointer, all versions that are not dropped, those whose table is still to be removed, audit entries on their way to the journal |
//! | `catalogue/group/<group>` | [`GroupRegister`](super::group::GroupRegister): views that are switched as one, while they are |
//! | `catalogue/dropped/<view>/<number>` | [`DroppedRegister`]: a dropped version, for the history and so that its number is known |
//! | `catalogue/owner/<view>/<number>` | [`OwnerRegister`]: who feeds a version; isolated |
//! | `catalogue/worker/<owner>` | [`WorkerRegister`]: the lease of a worker; isolated |
//! | `catalogue/building/<owner>` | what a worker tells of the versions that it builds; isolated |
//! | `catalogue/schema/<id>` | [`SchemaRegister`]: a writer schema of the embedded log |
//!
//! Pointer and versions share a register because a switch changes three things at once: with one compare-and-set it is
//! either done or not begun, and a version cannot be dropped in the moment in which it becomes active.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::group::Prepared;
use super::{CatalogueError, Controls};
use crate::store::{BUILDING_PREFIX, OWNER_PREFIX, WORKER_PREFIX};
use crate::table::{Epoch, Version};

/// The format of all registers and journal entries; a reader refuses a greater one.
pub(super) const FORMAT: u32 = 1;

/// Where a version is in its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum VersionState {
    /// It reads the log from the start; nobody reads its rows.
    Building,
    /// It has read the whole log once and is kept up to date. Whether it is current *now* is decided by its progress and its lease, which a switch checks.
    CaughtUp,
    /// Readers are sent to it.
    Active,
    /// It was active; still fed, so that going back to it is instant.
    Retired,
    /// Nobody reads or runs it, and its table and state are removed. Its number is never given again.
    Dropped,
    /// It stopped, and stands where it stopped until [`Catalogue::resume`](super::Catalogue::resume).
    Failed {
        /// Why, and what to do.
        error: String,
    },
}

impl VersionState {
    /// The state's name, as in the catalogue's JSON.
    pub fn name(&self) -> &'static str {
        match self {
            VersionState::Building => "building",
            VersionState::CaughtUp => "caught_up",
            VersionState::Active => "active",
            VersionState::Retired => "retired",
            VersionState::Dropped => "dropped",
            VersionState::Failed { .. } => "failed",
        }
    }

    /// The names of the states that may follow this one: the table of a version's life. In addition, [`Catalogue::resume`](super::Catalogue::resume) makes a failed version
    /// `active` again if the active pointer is at it.
    pub fn successors(&self) -> &'static [&'static str] {
        match self {
            VersionState::Building => &["caught_up", "failed", "dropped"],
            // Building again: its state was lost, or was left behind on another machine.
            VersionState::CaughtUp => &["active", "building", "failed", "dropped"],
            VersionState::Active => &["retired", "failed"],
            VersionState::Retired => &["active", "failed", "dropped"],
            VersionState::Failed { .. } => &["building", "dropped"],
            VersionState::Dropped => &[],
        }
    }

    /// Whether `next` may follow this state.
    pub fn may_become(&self, next: &VersionState) -> bool {
        self.successors().contains(&next.name())
    }
}

impl fmt::Display for VersionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One version of a view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRecord {
    /// The view.
    pub view: String,
    /// The number; given once.
    pub version: Version,
    /// The whole statement that it is built from.
    pub sql: String,
    /// The digest of the definition.
    pub digest: String,
    /// The fingerprint of the output's shape.
    pub schema_fingerprint: String,
    /// Where it is in its life.
    pub state: VersionState,
    /// When it was created, milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Who created it.
    pub created_by: String,
    /// The commit of the folder that its definition came from, where that is known; `-dirty` at its end where files differed from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// When its state last changed, milliseconds since the Unix epoch.
    pub changed_ms: i64,
    /// Who last changed its state.
    pub changed_by: String,
    /// What is wanted of it beside that.
    #[serde(default, skip_serializing_if = "Controls::is_default")]
    pub controls: Controls,
}

/// Which version readers are sent to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActivePointer {
    /// The version.
    pub version: Version,
    /// The one before it: where a rollback goes.
    pub previous: Option<Version>,
    /// When the pointer was moved, milliseconds since the Unix epoch.
    pub switched_ms: i64,
    /// Who moved it.
    pub switched_by: String,
    /// Why, in the operator's words.
    pub reason: Option<String>,
    /// Whether readers were sent back: then `previous` is the version that they were sent back from.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_rollback: bool,
}

/// One thing that was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When, milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// By whom.
    pub by: String,
    /// What: `create`, `state`, `pause`, `throttle`, `resume`, `switch`, `rollback`, `drop`, `remove`, `take`, `release` or `register_schema`.
    pub verb: String,
    /// The view; empty for what concerns none.
    pub view: String,
    /// The version; of a switch, the one switched to; none where all versions of a view were dropped.
    pub version: Option<Version>,
    /// What was before.
    pub from: Option<String>,
    /// What is now.
    pub to: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// The number of this change of the view, from 1; `None` for changes outside of the view's register. It tells an entry
    /// that was journaled twice, after a crash, from two entries.
    pub change: Option<u64>,
}

/// The register of a view.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct ViewRegister {
    /// The greatest version number ever given.
    pub last_version: u32,
    pub active: Option<ActivePointer>,
    /// Not dropped, by number.
    pub versions: Vec<VersionRecord>,
    /// Dropped, but their table, change feed or positions may still be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removing: Vec<VersionRecord>,
    /// A move that is prepared: the register of a group decides whether it counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepared: Option<Prepared>,
    /// What is read here is what the group has decided, and not written down yet.
    #[serde(skip)]
    pub settled: Option<Settled>,
    /// How often this register was changed.
    pub changes: u64,
    /// Entries that may not be in the journal yet.
    pub unjournaled: Vec<AuditEntry>,
}

/// What a group has decided of the move that was prepared: it was made, as the entry says, or never will be.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Settled {
    pub entry: Option<AuditEntry>,
}

/// The register of a dropped version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct DroppedRegister {
    pub version: VersionRecord,
}

/// The register of an ownership.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct OwnerRegister {
    pub ownership: OwnerRecord,
}

/// Who took a version last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OwnerRecord {
    /// The number of this ownership; part of every write timestamp.
    pub epoch: Epoch,
    /// The owner's name.
    pub owner: String,
    /// The run of the owner's process whose lease this ownership hangs on. `None`: it was taken by a release that kept a lease for each version.
    #[serde(default)]
    pub incarnation: Option<String>,
    /// The end of that lease of its own; 0 where the ownership hangs on the worker's.
    pub lease_until_ms: i64,
    /// Whether the owner gave it up after its last write.
    pub released: bool,
}

/// The register of a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct WorkerRegister {
    pub lease: WorkerLease,
}

/// The lease of a worker: all its ownerships hang on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WorkerLease {
    /// The run of the process that holds it.
    pub incarnation: String,
    /// When it ends unless it is renewed, milliseconds since the Unix epoch.
    pub until_ms: i64,
    /// Whether the process gave it up, and with it whatever it had not released.
    pub released: bool,
}

impl WorkerLease {
    pub fn is_live(&self, now_ms: i64) -> bool {
        !self.released && self.until_ms > now_ms
    }
}

/// The register of a writer schema.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SchemaRegister {
    pub schema: String,
}

pub(super) const VIEW_PREFIX: &str = "catalogue/view/";
pub(super) const SCHEMA_PREFIX: &str = "catalogue/schema/";

pub(super) fn view_key(view: &str) -> String {
    format!("{VIEW_PREFIX}{view}")
}

pub(super) fn group_key(group: &str) -> String {
    format!("catalogue/group/{group}")
}

pub(super) fn dropped_prefix(view: &str) -> String {
    format!("catalogue/dropped/{view}/")
}

/// Numbers are padded so that the order of keys is the order of numbers.
pub(super) fn dropped_key(view: &str, version: Version) -> String {
    format!("{}{:010}", dropped_prefix(view), version.0)
}

pub(super) fn owner_key(view: &str, version: Version) -> String {
    format!("{OWNER_PREFIX}{view}/{:010}", version.0)
}

pub(super) fn worker_key(owner: &str) -> String {
    format!("{WORKER_PREFIX}{owner}")
}

pub(super) fn building_key(owner: &str) -> String {
    format!("{BUILDING_PREFIX}{owner}")
}

pub(super) fn schema_key(id: u32) -> String {
    format!("{SCHEMA_PREFIX}{id:010}")
}

#[derive(Serialize, Deserialize)]
struct Enveloped<T> {
    format: u32,
    #[serde(flatten)]
    content: T,
}

#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

/// The JSON of a register or journal entry.
pub(super) fn encode<T: Serialize>(key: &str, content: &T) -> Result<String, CatalogueError> {
    serde_json::to_string(&Enveloped { format: FORMAT, content })
        .map_err(|error| CatalogueError::Unreadable { key: key.into(), error: error.to_string() })
}

/// Reads what [`encode`] wrote.
pub(super) fn decode<T: DeserializeOwned>(key: &str, text: &str) -> Result<T, CatalogueError> {
    let unreadable = |error: serde_json::Error| CatalogueError::Unreadable { key: key.into(), error: error.to_string() };
    let FormatOnly { format } = serde_json::from_str(text).map_err(unreadable)?;
    if format > FORMAT {
        return Err(CatalogueError::NewerFormat { key: key.into(), format });
    }
    let enveloped: Enveloped<T> = serde_json::from_str(text).map_err(unreadable)?;
    Ok(enveloped.content)
}
