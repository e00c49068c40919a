//! DataFusion's errors in a view author's words.

use datafusion::common::{Column, SchemaError};
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::tokenizer::Location;

use super::error::{Problem, clean, nearest};
use super::statement::Words;

/// A problem from an error of planning, at the best place that is known.
pub(super) fn planning(error: &DataFusionError, words: &Words) -> Problem {
    let span = error.diagnostic().and_then(|diagnostic| diagnostic.span);
    let at = span.map(|span| Location { line: span.start.line, column: span.start.column });
    if let Some(problem) = unknown_column(error, at, words) {
        return problem;
    }
    let message = clean(error);
    if message.contains("must appear in the GROUP BY clause") {
        let column = message.split('"').nth(1).unwrap_or("a column");
        return Problem::new(at.unwrap_or(words.query), format!("{column} is neither in GROUP BY nor in an aggregate"))
            .help("add it to GROUP BY, or write min(…) or first_value(… ORDER BY …)");
    }
    if message.contains("require unique expression names") {
        return Problem::new(at.unwrap_or(words.query), "two columns have the same name").help("give one of them another name with AS");
    }
    if message.contains("duplicate unqualified field name") {
        let name = message.split('"').nth(1).unwrap_or("a column");
        return Problem::new(at.unwrap_or(words.query), format!("two columns have the name {name}: casts are not part of it"))
            .help("do one of the casts in a subquery in FROM");
    }
    let at = at.unwrap_or_else(|| guess(&message, words));
    match wrong_arguments(without_candidates(&message)) {
        Some(said) => Problem::new(at, said).help("CAST(… AS DOUBLE), or whatever type is wanted, changes the type of one"),
        None => Problem::new(at, without_candidates(&message)),
    }
}

/// What a function takes and what it was given, where DataFusion tells of its attempts to make one of the other.
fn wrong_arguments(message: &str) -> Option<String> {
    let function = message.split('\'').nth(1)?;
    if let Some((given, taken)) = message.split_once("coercion from ").and_then(|(_, tried)| tried.split_once(" to the signature ")) {
        // Of several signatures it is not known which was meant.
        let only = taken.strip_prefix("Exact(").and_then(|taken| taken.strip_suffix(") failed"));
        return Some(match only {
            Some(taken) => format!("{function}() takes ({taken}), not ({given})"),
            None => format!("{function}() does not take ({given})"),
        });
    }
    let given = message.split_once("failed to match any signature").and_then(|(_, tried)| tried.split_once("(DataType: "))?.1;
    let given = given.split_once(").,").map(|(given, _)| given).or_else(|| given.strip_suffix(')'))?;
    Some(format!("{function}() does not take {given}"))
}

fn unknown_column(error: &DataFusionError, at: Option<Location>, words: &Words) -> Option<Problem> {
    let DataFusionError::SchemaError(schema_error, _) = error.find_root() else { return None };
    let SchemaError::FieldNotFound { field, valid_fields } = schema_error.as_ref() else { return None };
    let mut names: Vec<&str> = valid_fields.iter().map(Column::name).filter(|name| !name.contains('(')).collect();
    names.sort_unstable();
    names.dedup();
    let problem = Problem::new(at.unwrap_or_else(|| words.find(&field.name)), format!("unknown column {}", field.name));
    Some(match nearest(&field.name, names.iter().copied()) {
        // Names without quotes are read in small letters.
        Some(near) if near.eq_ignore_ascii_case(&field.name) => problem.help(format!("write it in quotes: \"{near}\"")),
        Some(near) if near.chars().any(char::is_uppercase) => problem.help(format!("did you mean \"{near}\", with the quotes?")),
        Some(near) => problem.help(format!("did you mean {near}?")),
        None => problem.help(format!("here the columns are {}", names.join(", "))),
    })
}

/// What a function says of its arguments, without the list of its signatures.
fn without_candidates(message: &str) -> &str {
    let own = message.split_once("coercion failed with: ").map_or(message, |(_, own)| own);
    let own = ["Error during planning: ", "Execution error: "].iter().find_map(|stage| own.strip_prefix(stage)).unwrap_or(own);
    match own.split_once("No function matches") {
        Some((said, _)) if !said.is_empty() => said,
        _ => own.split_once(" You might need to add explicit type casts").map_or(own, |(said, _)| said),
    }
    .trim_end_matches(['.', ' '])
}

/// Errors of functions have no place: where the function is that they name or speak of.
fn guess(message: &str, words: &Words) -> Location {
    let named = message.split(|letter: char| !letter.is_alphanumeric() && letter != '_').map(|word| words.find(word));
    let spoken_of = ["tumble", "hop"].into_iter().filter(|_| message.contains("window")).map(|word| words.find(word));
    spoken_of.chain(named).find(|at| *at != words.query).unwrap_or(words.query)
}
