//! What can stop a version.

use datafusion::arrow::error::ArrowError;

use crate::decode::DecodeError;
use crate::log::LogError;
use crate::position::{Offset, Partition};
use crate::recovery::Recovery;
use crate::state::StateError;
use crate::store::StoreError;
use crate::store::catalogue::CatalogueError;
use crate::view::ViewError;

/// Why a version cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The state failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// The view store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The catalogue refused, or is unavailable.
    #[error(transparent)]
    Catalogue(Box<CatalogueError>),
    /// The view does not plan, or a row of it cannot be computed.
    #[error(transparent)]
    View(Box<ViewError>),
    /// Decoding cannot go on.
    #[error(transparent)]
    Decode(Box<DecodeError>),
    /// The view's window is over a column that is not the source's event time.
    #[error("view {view} has windows over {column}, but the event time of its source is {event_time}: use that, or declare another source")]
    OtherTime {
        /// The view.
        view: String,
        /// The column of the window.
        column: String,
        /// The source's event time.
        event_time: String,
    },
    /// The state was written by another definition or release.
    #[error("the state is of another layout ({found}, this release has {expected}): replay the view into a new version")]
    OtherLayout {
        /// What the state says.
        found: String,
        /// What this release would write.
        expected: String,
    },
    /// The log starts behind the position of the state that is here, but another's state was further.
    #[error(
        "the state here is at {position} of {topic}/{partition} and the log starts at {log_start}; the process that ran the version before \
         has gone past it: start that one again, with its data folder, or replay the view into a new version"
    )]
    Behind {
        /// The topic.
        topic: String,
        /// The partition.
        partition: Partition,
        /// Where this state is.
        position: Offset,
        /// The offset of the oldest record.
        log_start: Offset,
    },
    /// What was to be written is another's by now.
    #[error("the version was taken over")]
    Lost,
    /// Write timestamps have no room for another owner.
    #[error("version has had {0} owners, the most there can be: replay the view into a new version")]
    EpochsExhausted(u32),
    /// Columns did not have the shape that the plan gives them.
    #[error("columns do not fit the plan: {0}")]
    Arrow(#[from] ArrowError),
    /// The log cannot be read on, by none of the versions that share the reading of it.
    #[error("{text}")]
    Unreadable {
        /// Why.
        text: String,
        /// What it takes.
        recovery: Recovery,
    },
    /// A promise between two parts of the engine was broken.
    #[error("internal error: {0}")]
    Internal(String),
}

// Boxed: an error is rare, but its size is paid with every result.
impl From<CatalogueError> for EngineError {
    fn from(error: CatalogueError) -> Self {
        EngineError::Catalogue(Box::new(error))
    }
}

impl From<ViewError> for EngineError {
    fn from(error: ViewError) -> Self {
        EngineError::View(Box::new(error))
    }
}

impl From<DecodeError> for EngineError {
    fn from(error: DecodeError) -> Self {
        EngineError::Decode(Box::new(error))
    }
}

impl EngineError {
    /// What it takes for the same step to succeed.
    pub fn recovery(&self) -> Recovery {
        match self {
            EngineError::Log(error) => error.recovery(),
            EngineError::Store(error) => error.recovery(),
            EngineError::Catalogue(error) => error.recovery(),
            EngineError::Decode(error) => error.recovery(),
            EngineError::Unreadable { recovery, .. } => *recovery,
            EngineError::EpochsExhausted(_) => Recovery::Final,
            // A disk, a release or a schema folder that does not fit is this process's; a defect may be mended by the next release. The
            // version itself has nothing to be given up for.
            EngineError::State(_)
            | EngineError::View(_)
            | EngineError::OtherTime { .. }
            | EngineError::OtherLayout { .. }
            | EngineError::Behind { .. }
            | EngineError::Lost
            | EngineError::Arrow(_)
            | EngineError::Internal(_) => Recovery::Operator,
        }
    }

    /// Whether the same step may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.recovery().is_retried()
    }
}
