//! What it takes for a failed request to succeed: what the driver says, as the port's callers need it. Only what is stored can be damaged for good;
//! whatever else a cluster refuses, it may accept once an operator has acted.

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
    Unavailable,
    /// There is no such table.
    UnknownTable,
    /// It refuses, until an operator acts.
    Refused,
    /// What is stored cannot be read.
    Broken,
}

/// A request that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub trouble: Trouble,
    pub text: String,
}

impl Failure {
    pub fn unavailable(text: impl Into<String>) -> Failure {
        Failure { trouble: Trouble::Unavailable, text: text.into() }
    }

    pub fn refused(text: impl Into<String>) -> Failure {
        Failure { trouble: Trouble::Refused, text: text.into() }
    }

    pub fn broken(text: impl Into<String>) -> Failure {
        Failure { trouble: Trouble::Broken, text: text.into() }
    }

    /// Whether the same request may succeed within seconds.
    pub fn is_retryable(&self) -> bool {
        matches!(self.trouble, Trouble::Overload | Trouble::Unavailable)
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
        match self.trouble {
            Trouble::Overload | Trouble::Unavailable => StoreError::Unavailable(text),
            Trouble::Refused | Trouble::UnknownTable => StoreError::Refused(text),
            Trouble::Broken => StoreError::Broken(text),
        }
    }
}

impl From<ExecutionError> for Failure {
    fn from(error: ExecutionError) -> Failure {
        let trouble = match &error {
            // A cluster that answers too late is asked for too much, or gone: both call for less at a time.
            ExecutionError::RequestTimeout(_) => Trouble::Overload,
            ExecutionError::ConnectionPoolError(error) => of_pool(error),
            ExecutionError::EmptyPlan => Trouble::Unavailable,
            ExecutionError::PrepareError(error) => of_prepare(error),
            ExecutionError::LastAttemptError(error) => of_attempt(error),
            ExecutionError::SchemaAgreementError(_) | ExecutionError::MetadataError(_) => Trouble::Unavailable,
            _ => Trouble::Refused,
        };
        Failure { trouble, text: with_way_out(error.to_string()) }
    }
}

impl From<PrepareError> for Failure {
    fn from(error: PrepareError) -> Failure {
        Failure { trouble: of_prepare(&error), text: with_way_out(error.to_string()) }
    }
}

impl From<NewSessionError> for Failure {
    fn from(error: NewSessionError) -> Failure {
        let trouble = match &error {
            NewSessionError::MetadataError(MetadataError::ConnectionPoolError(error)) => of_pool(error),
            NewSessionError::MetadataError(_) | NewSessionError::FailedToResolveAnyHostname(_) => Trouble::Unavailable,
            _ => Trouble::Refused,
        };
        Failure { trouble, text: error.to_string() }
    }
}

fn of_prepare(error: &PrepareError) -> Trouble {
    match error {
        PrepareError::ConnectionPoolError(error) => of_pool(error),
        PrepareError::AllAttemptsFailed { first_attempt } => of_attempt(first_attempt),
        _ => Trouble::Refused,
    }
}

/// A password that is refused is refused by every node, until somebody changes it.
fn of_pool(error: &ConnectionPoolError) -> Trouble {
    let ConnectionPoolError::Broken { last_connection_error: ConnectionError::ConnectionSetupRequestError(setup) } = error else {
        return Trouble::Unavailable;
    };
    match setup.get_error() {
        // It could not look the password up: whose nodes are unavailable, or overloaded.
        ConnectionSetupRequestErrorKind::DbError(DbError::AuthenticationError, text) if text.contains("Unable to perform") => {
            Trouble::Unavailable
        }
        ConnectionSetupRequestErrorKind::MissingAuthentication
        | ConnectionSetupRequestErrorKind::DbError(DbError::AuthenticationError | DbError::ProtocolError, _) => Trouble::Refused,
        _ => Trouble::Unavailable,
    }
}

fn of_attempt(error: &RequestAttemptError) -> Trouble {
    match error {
        RequestAttemptError::BrokenConnectionError(_) => Trouble::Unavailable,
        RequestAttemptError::UnableToAllocStreamId => Trouble::Overload,
        RequestAttemptError::DbError(error, text) => match error {
            DbError::Overloaded | DbError::WriteTimeout { .. } | DbError::RateLimitReached { .. } => Trouble::Overload,
            // It could not look permissions up.
            DbError::Unauthorized if text.contains("Unable to perform") => Trouble::Unavailable,
            DbError::Unavailable { .. }
            | DbError::IsBootstrapping
            | DbError::Unprepared { .. }
            | DbError::ReadTimeout { .. }
            | DbError::ReadFailure { .. }
            | DbError::WriteFailure { .. }
            | DbError::TruncateError
            | DbError::ServerError
            | DbError::Other(CAS_WRITE_UNKNOWN | CDC_WRITE_FAILURE) => Trouble::Unavailable,
            DbError::Invalid if is_about_a_missing_table(text) => Trouble::UnknownTable,
            _ => Trouble::Refused,
        },
        _ => Trouble::Refused,
    }
}

/// What Cassandra says, and what to do about it where that is known.
fn with_way_out(text: String) -> String {
    let way_out = if let Some((role, permission, resource)) = missing_permission(&text) {
        format!("grant it: GRANT {permission} ON {resource} TO {role}")
    } else if text.contains("Batch too large") {
        "lower batch_bytes in the file of the setting cassandra_config, or raise batch_size_fail_threshold in Cassandra".to_owned()
    } else if text.to_ascii_lowercase().contains("guardrail") {
        "raise the guardrail in Cassandra, or change the view".to_owned()
    } else if text.to_ascii_lowercase().contains("keyspace") && text.contains("does not exist") {
        "create or restore the keyspace, or correct the setting cassandra_keyspace".to_owned()
    } else {
        return text;
    };
    format!("{text}; {way_out}")
}

/// Who lacks which permission on what, in CQL: Cassandra says "User refold has no MODIFY permission on <table refold.rows> or any of its parents".
fn missing_permission(text: &str) -> Option<(&str, &str, String)> {
    let (role, rest) = text.split_once("User ")?.1.split_once(" has no ")?;
    let (permission, rest) = rest.split_once(" permission on <")?;
    let (kind, name) = rest.split_once('>')?.0.split_once(' ')?;
    Some((role, permission, format!("{} {name}", kind.to_ascii_uppercase())))
}

/// Cassandra and ScyllaDB have no code of their own for it. A missing keyspace is another matter: it takes all of its tables with it.
fn is_about_a_missing_table(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.contains("unconfigured table") || (text.contains("table") && (text.contains("does not exist") || text.contains("doesn't exist")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

    use refold_processor::recovery::Recovery;

    use super::*;

    fn said(error: DbError, text: &str) -> (Recovery, String) {
        let failure = Failure::from(ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, text.to_owned())));
        let error = failure.of_table("writing rows of table", "counts__v1");
        (error.recovery(), error.to_string())
    }

    #[test]
    fn a_missing_permission_waits_for_an_operator_and_says_what_to_grant() {
        let (recovery, text) =
            said(DbError::Unauthorized, "User refold has no MODIFY permission on <table refold.counts__v1> or any of its parents");
        assert_eq!(recovery, Recovery::Operator);
        assert!(text.ends_with("; grant it: GRANT MODIFY ON TABLE refold.counts__v1 TO refold"), "{text}");
        let (_, text) = said(DbError::Unauthorized, "User refold has no CREATE permission on <keyspace refold> or any of its parents");
        assert!(text.ends_with("; grant it: GRANT CREATE ON KEYSPACE refold TO refold"), "{text}");
        assert_eq!(said(DbError::Unauthorized, "Unable to perform authorization of permissions: timeout").0, Recovery::Transient);
    }

    #[test]
    fn nothing_that_a_cluster_refuses_is_final() {
        for (error, text) in [
            (DbError::Invalid, "Batch too large"),
            (DbError::Invalid, "Guardrail columns_per_table violated: too many"),
            (DbError::Invalid, "Keyspace 'refold' does not exist"),
            (DbError::Invalid, "unconfigured table counts__v1"),
            (DbError::Invalid, "Key length of 70000 is longer than maximum of 65535"),
            (DbError::SyntaxError, "line 1:2 no viable alternative"),
            (DbError::ConfigError, "replication factor"),
        ] {
            assert_eq!(said(error, text).0, Recovery::Operator, "{text}");
        }
        assert!(matches!(
            Failure::from(ExecutionError::LastAttemptError(RequestAttemptError::DbError(DbError::Invalid, "unconfigured table a".into())))
                .of_table("reading table", "a"),
            StoreError::UnknownTable(name) if name == "a"
        ));
    }
}
