//! Constants are evaluated when a view is checked: what fails for them fails for every event, and is the author's to mend.

use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator, lit};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr as Written, Query, Spanned, UnaryOperator, Value, Visit, Visitor};
use datafusion::sql::sqlparser::tokenizer::Location;

use super::checked;
use super::error::{Problem, clean};
use super::errors;
use super::guard::guarded;
use super::statement::Words;

/// Refuses constants that have no value, divisions by a constant zero, and patterns that the engine of regular expressions does not take.
pub(super) fn check(plan: &LogicalPlan, query: &Query, state: &SessionState, words: &Words) -> std::result::Result<(), Problem> {
    let constants = Constants { query, state, words };
    let mut refused = None;
    let visited = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|part| match constants.refusal(part) {
                Some(problem) => {
                    refused.get_or_insert(problem);
                    Ok(TreeNodeRecursion::Stop)
                }
                None if is_constant(part) => Ok(TreeNodeRecursion::Jump),
                None => Ok(TreeNodeRecursion::Continue),
            })
        })
    });
    visited.map_err(|error| errors::planning(&error, words))?;
    refused.map_or(Ok(()), Err)
}

struct Constants<'a> {
    query: &'a Query,
    state: &'a SessionState,
    words: &'a Words,
}

impl Constants<'_> {
    fn refusal(&self, expr: &Expr) -> Option<Problem> {
        if let Some((name, pattern)) = pattern_of(expr) {
            return self.pattern(name, pattern);
        }
        if let Expr::BinaryExpr(BinaryExpr { op: Operator::Divide | Operator::Modulo, right, .. }) = expr
            && is_constant(right)
            && self.value(right).is_ok_and(|value| is_zero(&value))
        {
            let at = place(self.query, is_division_by_zero).unwrap_or(self.words.query);
            return Some(Problem::new(at, "division by zero").help("NULLIF(x, 0) as the divisor makes the quotient NULL where x is 0"));
        }
        if matches!(expr, Expr::Literal(..)) || !is_constant(expr) {
            return None;
        }
        let error = self.value(expr).err()?;
        let at = match expr {
            Expr::ScalarFunction(call) => self.words.find(call.func.name()),
            Expr::Cast(cast) => self.text_place(&cast.expr),
            _ => self.words.query,
        };
        Some(Problem::new(at, format!("a constant has no value: {}", clean(&error))))
    }

    fn pattern(&self, name: &str, pattern: &Expr) -> Option<Problem> {
        let value = is_constant(pattern).then(|| self.value(pattern).ok())??;
        let pattern = ScalarValue::Utf8(Some(value.try_as_str()??.to_owned()));
        let matches = self.state.scalar_functions().get("regexp_like")?.call(vec![lit(""), lit(pattern.clone())]);
        let message = clean(&self.value(&matches).err()?);
        let why = message.rsplit("error: ").next().unwrap_or_default().trim();
        let at = match self.text_place(&lit(pattern.clone())) {
            at if at == self.words.query => self.words.find(name),
            at => at,
        };
        let problem = Problem::new(at, format!("the pattern {pattern} is no regular expression: {why}"));
        Some(problem.help("the syntax is that of Rust's regex, which has neither back-references nor look-around"))
    }

    /// Where a constant text is written.
    fn text_place(&self, expr: &Expr) -> Location {
        let Expr::Literal(value, _) = expr else { return self.words.query };
        let Some(Some(text)) = value.try_as_str() else { return self.words.query };
        let is_it = |written: &Written| matches!(written, Written::Value(value) if matches!(&value.value, Value::SingleQuotedString(found) if found == text));
        place(self.query, is_it).unwrap_or(self.words.query)
    }

    fn value(&self, expr: &Expr) -> Result<ScalarValue> {
        let schema = DFSchema::empty();
        let physical = checked::expression(self.state.create_physical_expr(expr.clone(), &schema)?, schema.inner())?;
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let row = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)?;
        let column = guarded(|| physical.evaluate(&row)?.into_array(1))?;
        ScalarValue::try_from_array(&column, 0)
    }
}

/// The name of an operation with a regular expression, and that expression.
fn pattern_of(expr: &Expr) -> Option<(&str, &Expr)> {
    match expr {
        Expr::ScalarFunction(call) if call.func.name().starts_with("regexp_") => Some((call.func.name(), call.args.get(1)?)),
        Expr::BinaryExpr(BinaryExpr {
            op: Operator::RegexMatch | Operator::RegexIMatch | Operator::RegexNotMatch | Operator::RegexNotIMatch,
            right,
            ..
        }) => Some(("where", right)),
        _ => None,
    }
}

/// Whether an expression has the same value for every event. What is not known to have is none.
fn is_constant(expr: &Expr) -> bool {
    let varies = expr.exists(|part| {
        Ok(!matches!(
            part,
            Expr::Literal(..)
                | Expr::Alias(_)
                | Expr::Cast(_)
                | Expr::TryCast(_)
                | Expr::BinaryExpr(_)
                | Expr::Negative(_)
                | Expr::Not(_)
                | Expr::ScalarFunction(_)
                | Expr::Case(_)
                | Expr::Between(_)
                | Expr::InList(_)
                | Expr::Like(_)
                | Expr::IsNull(_)
                | Expr::IsNotNull(_)
        ))
    });
    !varies.unwrap_or(true)
}

fn is_zero(value: &ScalarValue) -> bool {
    let data_type = value.data_type();
    let is_exact = data_type.is_integer() || matches!(data_type, DataType::Decimal128(..) | DataType::Decimal256(..));
    is_exact && ScalarValue::new_zero(&data_type).is_ok_and(|zero| zero == *value)
}

fn is_division_by_zero(written: &Written) -> bool {
    fn is_zero(written: &Written) -> bool {
        match written {
            Written::Value(value) => {
                matches!(&value.value, Value::Number(number, _) if number.parse::<f64>().is_ok_and(|number| number == 0.0))
            }
            Written::Nested(inner) | Written::Cast { expr: inner, .. } => is_zero(inner),
            Written::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr } => is_zero(expr),
            _ => false,
        }
    }
    matches!(written, Written::BinaryOp { op: BinaryOperator::Divide | BinaryOperator::Modulo, right, .. } if is_zero(right))
}

/// Where the first expression of its kind stands.
fn place(query: &Query, is_it: impl Fn(&Written) -> bool) -> Option<Location> {
    struct Search<F>(F);
    impl<F: Fn(&Written) -> bool> Visitor for Search<F> {
        type Break = Location;

        fn pre_visit_expr(&mut self, written: &Written) -> ControlFlow<Location> {
            let start = written.span().start;
            if (self.0)(written) && start.line > 0 { ControlFlow::Break(start) } else { ControlFlow::Continue(()) }
        }
    }
    match query.visit(&mut Search(is_it)) {
        ControlFlow::Break(at) => Some(at),
        ControlFlow::Continue(()) => None,
    }
}
