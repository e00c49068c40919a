//! What is wrong with a file of cases.

use std::fmt;
use std::path::{Path, PathBuf};

/// Something that a file of cases may not say: where, in which case, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    file: PathBuf,
    line: Option<usize>,
    case: Option<String>,
    message: String,
}

impl Mistake {
    /// A mistake in a line of a file.
    pub fn new(file: &Path, line: Option<usize>, message: impl Into<String>) -> Mistake {
        Mistake { file: file.to_path_buf(), line, case: None, message: message.into() }
    }

    /// The same, of this case.
    pub fn of_case(mut self, name: &str) -> Mistake {
        self.case = Some(name.to_owned());
        self
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        if let Some(case) = &self.case {
            write!(f, " case {case:?}:")?;
        }
        write!(f, " {}", self.message)
    }
}
