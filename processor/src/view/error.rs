//! Why a view is refused, or could not be evaluated.

use std::cmp::Reverse;
use std::fmt;

use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::tokenizer::Location;

/// A view that cannot be planned, or events that cannot be evaluated.
///
/// Displayed as `file:line:column: message`, then, where there is a way out, a second line that begins with `  help: `.
/// Errors of evaluation have no place in the file: their line is 0 and not displayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewError {
    /// The file that the text comes from.
    pub file: String,
    /// The line, from 1; 0 if the error has no place in the text.
    pub line: u64,
    /// The column in characters, from 1.
    pub column: u64,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

impl ViewError {
    /// An error of evaluation, which has no place in the text.
    pub(super) fn evaluating(file: &str, error: &DataFusionError) -> Self {
        ViewError { file: file.to_owned(), line: 0, column: 0, message: clean(error), help: None }
    }
}

impl fmt::Display for ViewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        write!(f, " {}", self.message)?;
        if let Some(help) = &self.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ViewError {}

/// A [`ViewError`] before it knows its file.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub at: Location,
    pub message: String,
    pub help: Option<String>,
}

impl Problem {
    pub fn new(at: Location, message: impl Into<String>) -> Self {
        Problem { at, message: message.into(), help: None }
    }

    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub fn in_file(self, file: &str) -> ViewError {
        ViewError {
            file: file.to_owned(),
            line: self.at.line.max(1),
            column: self.at.column.max(1),
            message: self.message,
            help: self.help,
        }
    }
}

/// What DataFusion says, without the names of its stages, back traces and advice about its own settings.
pub(super) fn clean(error: &DataFusionError) -> String {
    let text = match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => return clean(inner),
        DataFusionError::Collection(errors) if !errors.is_empty() => return errors.first().map(clean).unwrap_or_default(),
        DataFusionError::Shared(inner) => return clean(inner),
        other => other.strip_backtrace(),
    };
    let mut rest = text.as_str();
    const STAGES: [&str; 9] = [
        "Error during planning: ",
        "This feature is not implemented: ",
        "Schema error: ",
        "Execution error: ",
        "SQL error: ",
        "Arrow error: ",
        "Compute error: ",
        "Optimizer rule 'simplify_expressions' failed",
        "Internal error: ",
    ];
    while let Some(shorter) = STAGES.iter().find_map(|stage| rest.strip_prefix(stage)) {
        rest = shorter.trim_start();
    }
    let first_lines =
        rest.lines().take_while(|line| !line.starts_with("This issue was likely caused by a bug")).collect::<Vec<_>>().join(" ");
    lower_first(first_lines.trim().trim_end_matches('.'))
}

/// Messages begin with a small letter, unless with a word of capitals.
fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => first.to_lowercase().chain(letters).collect(),
        _ => text.to_owned(),
    }
}

/// The known name that is most like `name`, if one is near.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    known
        .into_iter()
        .map(|candidate| {
            let distance = strsim::damerau_levenshtein(&name, &candidate.to_lowercase());
            let shared = name.chars().zip(candidate.chars()).take_while(|(a, b)| a == b).count();
            (distance, Reverse(shared), candidate)
        })
        .filter(|(distance, _, candidate)| *distance <= 1 + candidate.len().min(name.len()) / 4)
        .min()
        .map(|(_, _, candidate)| candidate)
}
