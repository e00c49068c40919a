//! How a verb ends when it does not do what was asked.

use std::fmt;
use std::io;
use std::process::ExitCode;

/// Why a verb did not do what was asked; decides the exit status.
#[derive(Debug)]
pub enum Failure {
    /// It failed: 1.
    Failed(anyhow::Error),
    /// It was asked wrongly: 2.
    Usage(String),
    /// A condition for it is not met, nothing was changed: 3.
    Gate(String),
    /// The same, of a condition that waiting does not change: rows are not as they should be. 3 too.
    Judged(String),
    /// There is something to do, and it was asked that the exit status says so: 4.
    Changes(String),
}

impl Failure {
    /// The exit status.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Failed(_) => ExitCode::from(1),
            Failure::Usage(_) => ExitCode::from(2),
            Failure::Gate(_) | Failure::Judged(_) => ExitCode::from(3),
            Failure::Changes(_) => ExitCode::from(4),
        }
    }

    /// Whether stdout was closed by who reads it, as `head` does.
    pub fn is_closed_pipe(&self) -> bool {
        let Failure::Failed(error) = self else { return false };
        error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // With what is below it, on one line.
            Failure::Failed(error) => write!(f, "{error:#}"),
            Failure::Usage(message) | Failure::Gate(message) | Failure::Judged(message) | Failure::Changes(message) => f.write_str(message),
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Failed(error.into())
    }
}
