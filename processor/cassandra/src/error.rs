//! Whether waiting helps: what the driver says, as the port's callers need it.

use refold_processor::store::StoreError;
use scylla::errors::{
    ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind, DbError, ExecutionError, MetadataError, NewSessionError,
    PrepareError, RequestAttemptError,
};

/// Error code of a compare-and-set whose outcome the coordinator does not know.
const CAS_WRITE_UNKNOWN: i32 = 0x1700;
/// Error code of a write that was refused because change data capture is behind.
const CDC_WRITE_FAILURE: i32 = 0x1600;

/// What went wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The cluster asks for less, or does not keep up.
    Overload,
    /// It does not answer, or not all of the replicas that it takes do.
    Away,
    /// There is no such table.
    UnknownTable,
    /// It will not do better next time.
    Broken,
}

/// A request that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub trouble: Trouble,
    pub text: String,
}

impl Failure {
    pub fn away(text: impl Into<String>) -> Failure {
        Failure { trouble: Trouble::Away, text: text.into() }
    }

    pub fn broken(text: impl Into<String>) -> Failure {
        Failure { trouble: Trouble::Broken, text: text.into() }
    }

    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self.trouble, Trouble::Overload | Trouble::Away)
    }

    /// The error of the port, of a request that was `doing` something with `table`.
    pub fn of_table(self, doing: &str, table: &str) -> StoreError {
        match self.trouble {
            Trouble::UnknownTable => StoreError::UnknownTable(table.to_owned()),
            _ => self.while_doing(&format!("{doing} {table}")),
        }
    }

    /// The error of the port, of a request that was not about a table of rows.
    pub fn while_doing(self, doing: &str) -> StoreError {
        let text = format!("{doing}: {}", self.text);
        match self.is_retryable() {
            true => StoreError::Away(text),
            false => StoreError::Broken(text),
        }
    }
}

impl From<ExecutionError> for Failure {
    fn from(error: ExecutionError) -> Failure {
        let trouble = match &error {
            // A cluster that answers too late is asked for too much, or gone: both call for less at a time.
            ExecutionError::RequestTimeout(_) => Trouble::Overload,
            ExecutionError::ConnectionPoolError(error) => of_pool(error),
            ExecutionError::EmptyPlan => Trouble::Away,
            ExecutionError::PrepareError(error) => of_prepare(error),
            ExecutionError::LastAttemptError(error) => of_attempt(error),
            ExecutionError::SchemaAgreementError(_) | ExecutionError::MetadataError(_) => Trouble::Away,
            _ => Trouble::Broken,
        };
        Failure { trouble, text: error.to_string() }
    }
}

impl From<PrepareError> for Failure {
    fn from(error: PrepareError) -> Failure {
        Failure { trouble: of_prepare(&error), text: error.to_string() }
    }
}

impl From<NewSessionError> for Failure {
    fn from(error: NewSessionError) -> Failure {
        let trouble = match &error {
            NewSessionError::MetadataError(MetadataError::ConnectionPoolError(error)) => of_pool(error),
            NewSessionError::MetadataError(_) | NewSessionError::FailedToResolveAnyHostname(_) => Trouble::Away,
            _ => Trouble::Broken,
        };
        Failure { trouble, text: error.to_string() }
    }
}

fn of_prepare(error: &PrepareError) -> Trouble {
    match error {
        PrepareError::ConnectionPoolError(error) => of_pool(error),
        PrepareError::AllAttemptsFailed { first_attempt } => of_attempt(first_attempt),
        _ => Trouble::Broken,
    }
}

/// A password that is refused is refused by every node, for ever.
fn of_pool(error: &ConnectionPoolError) -> Trouble {
    let ConnectionPoolError::Broken { last_connection_error: ConnectionError::ConnectionSetupRequestError(setup) } = error else {
        return Trouble::Away;
    };
    match setup.get_error() {
        // It could not look the password up: whose nodes are away, or overloaded.
        ConnectionSetupRequestErrorKind::DbError(DbError::AuthenticationError, text) if text.contains("Unable to perform") => Trouble::Away,
        ConnectionSetupRequestErrorKind::MissingAuthentication
        | ConnectionSetupRequestErrorKind::DbError(DbError::AuthenticationError | DbError::ProtocolError, _) => Trouble::Broken,
        _ => Trouble::Away,
    }
}

fn of_attempt(error: &RequestAttemptError) -> Trouble {
    match error {
        RequestAttemptError::BrokenConnectionError(_) => Trouble::Away,
        RequestAttemptError::UnableToAllocStreamId => Trouble::Overload,
        RequestAttemptError::DbError(error, text) => match error {
            DbError::Overloaded | DbError::WriteTimeout { .. } | DbError::RateLimitReached { .. } => Trouble::Overload,
            // It could not look permissions up, or lacks one that can be granted any time: nothing that rows should be given up for.
            DbError::Unauthorized
            | DbError::Unavailable { .. }
            | DbError::IsBootstrapping
            | DbError::Unprepared { .. }
            | DbError::ReadTimeout { .. }
            | DbError::ReadFailure { .. }
            | DbError::WriteFailure { .. }
            | DbError::TruncateError
            | DbError::ServerError
            | DbError::Other(CAS_WRITE_UNKNOWN | CDC_WRITE_FAILURE) => Trouble::Away,
            DbError::Invalid if is_about_a_missing_table(text) => Trouble::UnknownTable,
            _ => Trouble::Broken,
        },
        _ => Trouble::Broken,
    }
}

/// Cassandra and ScyllaDB have no code of their own for it.
fn is_about_a_missing_table(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.contains("unconfigured table") || (text.contains("table") && (text.contains("does not exist") || text.contains("doesn't exist")))
}
