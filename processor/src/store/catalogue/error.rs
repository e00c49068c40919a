//! Why the catalogue refuses: each message says what is there, since when and by whom, and the way on.

use super::records;
use crate::recovery::Recovery;
use crate::store::StoreError;
use crate::table::{Epoch, Version};

/// Why the catalogue did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogueError {
    /// The store below did not.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A name that cannot be part of a key.
    #[error("{0:?} cannot be a view's name: it must not be empty or contain a slash")]
    InvalidName(String),
    /// There is no such version.
    #[error("view {view} has no version {version}; it has {known}")]
    UnknownVersion {
        /// The view.
        view: String,
        /// The version asked for.
        version: Version,
        /// Those that it has.
        known: String,
    },
    /// Another version is active than the one that was to be replaced.
    #[error("view {view}: version {active} is in service (for {ago}, by {by}), where {expected} was expected; look at it and run again")]
    Switched {
        /// The view.
        view: String,
        /// The version that was to be replaced, in words.
        expected: String,
        /// The active version.
        active: Version,
        /// How long ago.
        ago: String,
        /// Who did it.
        by: String,
    },
    /// No version is active where one was to be replaced.
    #[error("view {view}: no version is active, {expected} was to be replaced; look at its status and run again")]
    NothingActive {
        /// The view.
        view: String,
        /// The version that was to be replaced.
        expected: Version,
    },
    /// Several views are being switched as one, and this is one of them.
    #[error("view {view}: {by} is switching it together with others (since {ago}); run again in a moment")]
    Prepared {
        /// The view.
        view: String,
        /// Who.
        by: String,
        /// Since when.
        ago: String,
    },
    /// Several views were to be switched as one, and it took too long.
    #[error("the switch of view {view} and others took so long that it was taken back: no view was switched; run it again")]
    GroupTakenBack {
        /// The first of them.
        view: String,
    },
    /// The version's state does not allow it.
    #[error("view {view}: version {version} is {state} (for {ago}, by {by}) and cannot become {wanted}; it can become {allowed}{way_on}")]
    State {
        /// The view.
        view: String,
        /// The version.
        version: Version,
        /// Its state.
        state: &'static str,
        /// How long it has been in it.
        ago: String,
        /// Who put it there.
        by: String,
        /// The state asked for.
        wanted: &'static str,
        /// The states that could follow.
        allowed: String,
        /// What to do about it, where that is known; with what parts it from the rest.
        way_on: String,
    },
    /// Only a switch moves readers.
    #[error("view {view}: version {version} becomes {wanted} by a switch alone; switch to it, or to the one that follows it")]
    SwitchOnly {
        /// The view.
        view: String,
        /// The version.
        version: Version,
        /// The state asked for.
        wanted: &'static str,
    },
    /// Readers are sent to the version.
    #[error("view {view}: version {version} is the one readers are sent to and cannot be dropped; switch to another version first")]
    InService {
        /// The view.
        view: String,
        /// The version.
        version: Version,
    },
    /// Another owner has it.
    #[error("view {view}: version {version} is fed by {owner} in epoch {}; this owner has lost it and must stop", epoch.0)]
    LostTo {
        /// The view.
        view: String,
        /// The version.
        version: Version,
        /// The owner now.
        owner: String,
        /// Its epoch.
        epoch: Epoch,
    },
    /// Another process has the lease of this owner.
    #[error(
        "another process runs as owner {owner}, with a lease for {seconds} s more. If it has crashed, this one goes on when the lease has ended. \
         Otherwise two data folders hold the same name in their file owner, as after one was copied: stop one of the two processes, or delete that \
         file in the copy"
    )]
    OwnerInUse {
        /// The owner's name.
        owner: String,
        /// How long the other's lease lasts unless it is renewed, seconds.
        seconds: i64,
    },
    /// A writer schema that is not JSON.
    #[error("the schema is not JSON: {0}")]
    InvalidSchema(String),
    /// A register of a later release.
    #[error(
        "register {key} has format {format}, this release reads up to {}; use the release that wrote it or a later one",
        records::FORMAT
    )]
    NewerFormat {
        /// The register.
        key: String,
        /// Its format.
        format: u32,
    },
    /// A register that is not what it should be.
    #[error("register {key} cannot be read: {error}")]
    Unreadable {
        /// The register.
        key: String,
        /// Why.
        error: String,
    },
}

impl CatalogueError {
    /// What it takes for the call to succeed.
    pub fn recovery(&self) -> Recovery {
        match self {
            CatalogueError::Store(error) => error.recovery(),
            // The release that wrote it can read it.
            CatalogueError::NewerFormat { .. } => Recovery::Operator,
            // By itself after a crash; the operator's to mend if the name is used twice.
            CatalogueError::OwnerInUse { .. } => Recovery::Operator,
            _ => Recovery::Final,
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.recovery().is_retried()
    }
}
