//! When the driver sends a request again by itself.

use scylla::errors::{DbError, RequestAttemptError};
use scylla::policies::retry::{DefaultRetryPolicy, RequestInfo, RetryDecision, RetryPolicy, RetrySession};

/// How many times in one request a statement may be unknown where it was just prepared.
const FORGOTTEN: u32 = 16;

/// The driver's own policy, and one more reason: the node forgot the statement.
///
/// A node forgets statements when the table is altered, and when there are more than it has room for. And Cassandra keeps one under two names,
/// drops both when a session prepares it while one is missing, and then stores them anew: where several sessions prepare it at once, each
/// makes the others' unknown for moments. The driver prepares a forgotten statement and sends it once more, and gives up when it is forgotten
/// in between. It was not carried out, so sending it again does no harm.
#[derive(Debug, Default)]
pub(crate) struct PrepareAgain(DefaultRetryPolicy);

impl RetryPolicy for PrepareAgain {
    fn new_session(&self) -> Box<dyn RetrySession> {
        Box::new(PrepareAgainSession { others: self.0.new_session(), forgotten: 0 })
    }
}

struct PrepareAgainSession {
    others: Box<dyn RetrySession>,
    forgotten: u32,
}

impl RetrySession for PrepareAgainSession {
    fn decide_should_retry(&mut self, request: RequestInfo<'_>) -> RetryDecision {
        match request.error {
            RequestAttemptError::DbError(DbError::Unprepared { .. }, _) if self.forgotten < FORGOTTEN => {
                self.forgotten += 1;
                RetryDecision::RetrySameTarget(None)
            }
            _ => self.others.decide_should_retry(request),
        }
    }

    fn reset(&mut self) {
        self.others.reset();
        self.forgotten = 0;
    }
}
