//! Why collecting stopped.

use std::io::ErrorKind;

use refold_processor::log::LogError;

/// Why a source could not be opened, or collecting stopped before its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CollectError {
    /// What the user asked for is not valid: a source, an option, a mapping, a schema.
    #[error("{0}")]
    Invalid(String),
    /// A source could not be read.
    #[error("cannot read {name}: {error}")]
    Read {
        /// The source.
        name: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// What the source has now is not what was read before.
    #[error("{name} cannot be resumed: {reason}; to read it from its start, and append everything again, collect with --restart")]
    Replaced {
        /// The source.
        name: String,
        /// What is different.
        reason: String,
    },
    /// The resume point, or a refused line, could not be kept.
    #[error("cannot keep {what}: {error}")]
    Keep {
        /// What was to be kept, and where.
        what: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// Another collector of the same source is running with the same resume point.
    #[error("another collector of {name} is running with the resume points in {}; wait until it has ended, or stop it", folder.display())]
    Taken {
        /// The source.
        name: String,
        /// Where resume points are.
        folder: std::path::PathBuf,
    },
    /// A kept resume point cannot be understood.
    #[error("the resume point of {name} is not valid: {reason}; to read the source from its start, collect with --restart")]
    Resume {
        /// The source.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The log is not the one that the source was collected into before.
    #[error(
        "{name} was collected into another log before, or this one has lost what it had: {difference}; to read the source from its start, into the log as \
         it is, collect with --restart"
    )]
    AnotherLog {
        /// The source.
        name: String,
        /// What is different.
        difference: String,
    },
    /// A server before the log does not answer, or cannot reach it.
    #[error("{0}")]
    Unavailable(String),
    /// The log refused.
    #[error("topic {topic}: {error}")]
    Log {
        /// The topic.
        topic: String,
        /// What the log says.
        error: LogError,
    },
}

impl CollectError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            CollectError::Log { error, .. } => error.is_retryable(),
            CollectError::Unavailable(_) => true,
            // Somebody will give the disk room.
            CollectError::Keep { error, .. } => matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded),
            _ => false,
        }
    }
}
