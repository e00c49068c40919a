//! What it takes for a failed call to succeed: the three kinds of errors that everything here is divided into.

use std::fmt;

/// What it takes for a failed call to succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Recovery {
    /// Time: the call is retried with back-off.
    Transient,
    /// A person: a right is missing, a setting is wrong, a disk is full. It is reported and retried slowly, and goes on by itself once that
    /// is put right.
    Operator,
    /// Nothing: what is stored is damaged, or is not what it was. The version stops, and `refold resume` goes on with it after the cause is gone.
    Final,
}

impl Recovery {
    /// Whether the same call may succeed later, so that it is retried.
    pub fn is_retried(self) -> bool {
        self != Recovery::Final
    }
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Recovery::Transient => "transient",
            Recovery::Operator => "needs an operator",
            Recovery::Final => "final",
        })
    }
}
