//! What the rows of a version are held to: `WITH (audit_<name> = 'condition', diff_tolerance = '0.01', diff_ignore = 'column')`.
//!
//! These options make no row, so they are no part of a definition's digest: an audit that is added counts for the versions that are there.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, exec_err};
use datafusion::datasource::MemTable;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::{Expr, Volatility};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::Location;

use super::dashboard::Written;
use super::error::{Problem, nearest};
use super::guard::guarded;
use super::session::session;
use super::statement::Words;
use super::{checked, errors, functions};
use crate::table::TableShape;

/// What the names of these options begin with.
pub(super) const PREFIXES: [&str; 2] = [AUDIT, DIFF];
/// The options that have one name.
pub(super) const NAMES: [&str; 2] = ["diff_tolerance", "diff_ignore"];

const AUDIT: &str = "audit_";
const DIFF: &str = "diff_";

/// What rows are held to.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    /// Conditions that each row must meet.
    pub audits: Vec<Audit>,
    /// Two versions may differ by at most this part of a number; `None`: nothing is declared.
    pub diff_tolerance: Option<f64>,
    /// Columns that are not compared, by name.
    pub diff_ignore: Vec<String>,
}

/// A condition over one row of the view's table.
#[derive(Clone, Debug)]
pub struct Audit {
    /// Its name: what follows `audit_`.
    pub name: String,
    /// The condition, as it is written.
    pub condition: String,
    expr: Arc<dyn PhysicalExpr>,
}

impl Audit {
    /// Which rows fail it: those of which the condition is false, null, or cannot be computed.
    ///
    /// # Errors
    /// When the rows do not have the columns of the view.
    pub fn failing(&self, rows: &RecordBatch) -> DfResult<BooleanArray> {
        let mut failing = Vec::with_capacity(rows.num_rows());
        self.judge(rows, &mut failing)?;
        Ok(failing.into())
    }

    fn judge(&self, rows: &RecordBatch, failing: &mut Vec<bool>) -> DfResult<()> {
        let count = rows.num_rows();
        match guarded(|| self.expr.evaluate(rows)?.into_array(count)) {
            Ok(met) => match met.as_boolean_opt() {
                Some(met) => failing.extend(met.iter().map(|met| met != Some(true))),
                None => return exec_err!("audit {} is of type {} and not true or false", self.name, met.data_type()),
            },
            Err(_) if count <= 1 => failing.extend(std::iter::repeat_n(true, count)),
            // It cannot be computed for one of them: the others are judged among the halves.
            Err(_) => {
                let middle = count / 2;
                self.judge(&rows.slice(0, middle), failing)?;
                self.judge(&rows.slice(middle, count - middle), failing)?;
            }
        }
        Ok(())
    }
}

/// Whether an option of this name is one of these.
pub(super) fn is_one(name: &str) -> bool {
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Reads the options, for a view of this shape.
pub(super) fn of(written: &[Written], shape: &TableShape) -> Result<Checks, Problem> {
    let mut checks = Checks::default();
    for option in written {
        match (option.name.as_str(), option.name.strip_prefix(AUDIT)) {
            (_, Some(name)) => checks.audits.push(audit(name, option, shape)?),
            ("diff_tolerance", _) => checks.diff_tolerance = Some(tolerance(option)?),
            ("diff_ignore", _) => checks.diff_ignore = ignored(option, shape)?,
            _ => {
                let problem = Problem::new(option.at, format!("unknown option {}", option.name));
                return Err(match nearest(&option.name, NAMES) {
                    Some(known) => problem.help(format!("did you mean {known}?")),
                    None => problem.help(format!("there are {}", NAMES.join(" and "))),
                });
            }
        }
    }
    checks.audits.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(checks)
}

fn tolerance(option: &Written) -> Result<f64, Problem> {
    let part = option.text.trim().parse().ok().filter(|part| (0.0..1.0).contains(part));
    part.ok_or_else(|| {
        Problem::new(option.at, format!("diff_tolerance: {:?} is not a part from 0 to 1", option.text)).help("write '0.01' for a hundredth")
    })
}

fn ignored(option: &Written, shape: &TableShape) -> Result<Vec<String>, Problem> {
    let mut names = Vec::new();
    for name in option.text.split(',').map(str::trim) {
        let fields = shape.columns.fields();
        let is_key = shape.key_columns().any(|column| fields.get(column).is_some_and(|field| field.name() == name));
        if is_key {
            return Err(Problem::new(option.at, format!("diff_ignore: {name} is of the key of a row, by which rows are compared")));
        }
        if fields.find(name).is_none() {
            let known = || fields.iter().map(|field| field.name().as_str());
            let problem = Problem::new(option.at, format!("diff_ignore: {name} is not a column of the view"));
            return Err(match nearest(name, known()) {
                Some(near) => problem.help(format!("did you mean {near}?")),
                None => problem.help(format!("its columns are {}", known().collect::<Vec<_>>().join(", "))),
            });
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

fn audit(name: &str, option: &Written, shape: &TableShape) -> Result<Audit, Problem> {
    if name.is_empty() || !name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_') {
        return Err(Problem::new(option.at, format!("{} names no audit", option.name))
            .help("write audit_ and a name of letters, digits and underscores, such as audit_positive"));
    }
    let within = Within { option, name };
    let expr = planned(&option.text, shape, &within)?;
    Ok(Audit { name: name.to_owned(), condition: option.text.clone(), expr })
}

/// Where an audit is written, so that errors in its condition have a place.
struct Within<'a> {
    option: &'a Written,
    name: &'a str,
}

impl Within<'_> {
    fn problem(&self, at: Location, message: impl std::fmt::Display) -> Problem {
        Problem::new(self.place(at), format!("audit {}: {message}", self.name))
    }

    /// The place in the file of a place in the condition, which stands behind a quote.
    fn place(&self, at: Location) -> Location {
        let begin = self.option.text_at;
        match at.line {
            0 | 1 => Location { line: begin.line, column: begin.column + at.column.max(1) },
            line => Location { line: begin.line + line - 1, column: at.column },
        }
    }
}

fn planned(condition: &str, shape: &TableShape, within: &Within<'_>) -> Result<Arc<dyn PhysicalExpr>, Problem> {
    const START: Location = Location { line: 1, column: 1 };
    let words = Words::of(condition);
    let refused = |error: &DataFusionError| match placed(error) {
        Some((message, at)) => within.problem(at, format!("syntax error: {message}")),
        None => {
            let Problem { at, message, help } = errors::planning(error, &words);
            let problem = within.problem(at, message);
            match help {
                Some(help) => problem.help(help),
                None => problem,
            }
        }
    };
    let prepared = MemTable::try_new(Arc::clone(&shape.columns), vec![vec![]])
        .and_then(|table| session("rows", Arc::new(table), functions::all()))
        .and_then(|context| Ok((context.state(), DFSchema::try_from(shape.columns.as_ref().clone())?)));
    let (state, schema) = prepared.map_err(|error| refused(&error))?;
    let expr = state.create_logical_expr(condition, &schema).map_err(|error| refused(&error))?;
    if let Some((what, at)) = unfit(&expr, &words) {
        return Err(within.problem(at, what).help("an audit is a condition over the columns of one row, such as 'occurrences > 0'"));
    }
    let physical = state.create_physical_expr(expr, &schema).and_then(|expr| checked::expression(expr, &shape.columns));
    let physical = physical.map_err(|error| refused(&error))?;
    match physical.data_type(&shape.columns).map_err(|error| refused(&error))? {
        DataType::Boolean => Ok(physical),
        other => Err(within
            .problem(START, format!("it is of type {other} and not true or false"))
            .help("write a condition, such as 'occurrences > 0'")),
    }
}

/// What a condition over one row may not have, and where.
fn unfit(expr: &Expr, words: &Words) -> Option<(String, Location)> {
    let mut found = None;
    let visited = expr.apply(|part| {
        let what = match part {
            Expr::AggregateFunction(call) => Some((format!("{}() is over many rows", call.func.name()), words.find(call.func.name()))),
            Expr::WindowFunction(call) => {
                let name = call.fun.name().to_owned();
                Some((format!("{name}() is over many rows"), words.find(&name)))
            }
            Expr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable => {
                Some((format!("{}() does not always answer the same", call.func.name()), words.find(call.func.name())))
            }
            Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) => Some(("it has a subquery".to_owned(), words.find("select"))),
            Expr::Unnest(_) => Some(("unnest() makes many rows of one".to_owned(), words.find("unnest"))),
            _ => None,
        };
        found = what;
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    visited.ok().and(found)
}

/// What the parser says, and where: it writes the place into its message.
fn placed(error: &DataFusionError) -> Option<(String, Location)> {
    let DataFusionError::SQL(error, _) = error.find_root() else { return None };
    let text = match error.as_ref() {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.clone(),
        ParserError::RecursionLimitExceeded => "it is nested too deeply".to_owned(),
    };
    let place = text.rsplit_once(" at Line: ").and_then(|(message, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        Some((message, Location { line: line.trim().parse().ok()?, column: column.trim().parse().ok()? }))
    });
    let (message, at) = place.unwrap_or((&text, Location { line: 1, column: 1 }));
    let message =
        message.trim_start_matches("Expected: ").replace("found: EOF", "found the end of the condition").replace("found: ", "found ");
    Some((message, at))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray};
    use datafusion::arrow::datatypes::{Field, Schema};

    use super::*;

    fn shape() -> TableShape {
        let columns = Schema::new(vec![
            Field::new("tag", DataType::Utf8, true),
            Field::new("n", DataType::Int64, true),
            Field::new("of", DataType::Int64, true),
        ]);
        TableShape { columns: Arc::new(columns), partition_key: vec![0], clustering: vec![] }
    }

    fn written(name: &str, text: &str) -> Written {
        let at = Location { line: 3, column: 7 };
        Written { name: name.into(), at, text: text.into(), text_at: Location { line: 3, column: 20 } }
    }

    fn read(name: &str, text: &str) -> Result<Checks, Problem> {
        of(&[written(name, text)], &shape())
    }

    #[test]
    fn a_row_fails_where_the_condition_is_not_true() {
        let checks = read("audit_share", "n * 100 / of > 50").unwrap();
        let columns: [ArrayRef; 3] = [
            Arc::new(StringArray::from(vec!["a", "b", "c", "d", "e"])),
            Arc::new(Int64Array::from(vec![Some(9), Some(1), None, Some(1), Some(i64::MAX)])),
            Arc::new(Int64Array::from(vec![10, 10, 10, 0, 1])),
        ];
        let rows = RecordBatch::try_new(shape().columns, columns.to_vec()).unwrap();
        let failing: Vec<bool> = checks.audits[0].failing(&rows).unwrap().iter().flatten().collect();
        assert_eq!(failing, [false, true, true, true, true], "met, false, null, a division by zero, a number that does not fit");
    }

    #[test]
    fn what_is_no_condition_over_one_row_is_refused_with_its_place() {
        for (condition, message, line, column) in [
            ("nn > 0", "audit x: unknown column nn", 3, 21),
            ("n > 0 AND tag_ = 'a'", "unknown column tag_", 3, 31),
            ("n >", "syntax error", 3, 20),
            ("n + 1", "of type Int64 and not true or false", 3, 21),
            ("count(n) > 0", "count() is over many rows", 3, 21),
            ("n > 0\n AND random() > 1", "random() does not always answer the same", 4, 6),
            ("n IN (SELECT 1)", "subquery", 3, 27),
        ] {
            let problem = read("audit_x", condition).unwrap_err();
            assert!(problem.message.contains(message), "{condition}: {problem:?}");
            assert_eq!((problem.at.line, problem.at.column >= column), (line, true), "{condition}: {problem:?}");
        }
        assert!(read("audit_", "n > 0").unwrap_err().message.contains("names no audit"));
    }

    #[test]
    fn tolerance_and_ignored_columns_are_what_a_diff_can_use() {
        let checks = of(&[written("diff_tolerance", "0.01"), written("diff_ignore", "n, of")], &shape()).unwrap();
        assert_eq!((checks.diff_tolerance, checks.diff_ignore), (Some(0.01), vec!["n".to_owned(), "of".to_owned()]));
        assert!(read("diff_tolerance", "1%").unwrap_err().message.contains("not a part from 0 to 1"));
        assert!(read("diff_ignore", "tag").unwrap_err().message.contains("of the key"));
        assert_eq!(read("diff_ignore", "nn").unwrap_err().help.as_deref(), Some("did you mean n?"));
        assert_eq!(read("diff_tolerence", "0").unwrap_err().help.as_deref(), Some("did you mean diff_tolerance?"));
    }
}
