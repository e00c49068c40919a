//! The part of a plan above its aggregate, folded into expressions over group columns and aggregate results.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::{Sort, WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::{Aggregate, BinaryExpr, Expr, LogicalPlan, Operator};
use datafusion::scalar::ScalarValue;

use super::error::{Problem, clean};
use super::statement::Words;

/// The name of the column of ranks in the folded expressions.
pub(super) const RANK: &str = "rank";

/// A plan taken apart around its aggregate.
pub(super) struct Above<'a> {
    pub aggregate: &'a Aggregate,
    /// The columns of the view: names, and expressions over the columns that [`group_name`] and [`result_name`] name.
    pub outputs: Vec<(String, Expr)>,
    /// What a group must fulfil to be a row.
    pub predicate: Option<Expr>,
    pub rank: Option<RankBy>,
}

/// `row_number() OVER (PARTITION BY within ORDER BY order) <= k`.
pub(super) struct RankBy {
    pub within: Vec<Expr>,
    pub order: Vec<Sort>,
    pub k: u64,
}

/// The name of a group column in folded expressions, by its place in GROUP BY.
pub(super) fn group_name(index: usize) -> String {
    format!("g{index}")
}

/// The name of an aggregate's result in folded expressions.
pub(super) fn result_name(index: usize) -> String {
    format!("r{index}")
}

/// Folds what is above the aggregate of an analyzed plan.
pub(super) fn fold<'a>(plan: &'a LogicalPlan, words: &Words) -> Result<Above<'a>, Problem> {
    let (aggregate, above) = descend(plan, words)?;
    let groups = (0..aggregate.group_expr.len()).map(group_name);
    let results = (0..aggregate.aggr_expr.len()).map(result_name);
    let mut fold = Fold {
        columns: groups.chain(results).map(|name| Expr::Column(Column::new_unqualified(name))).collect(),
        predicate: None,
        over: None,
        k: None,
        words,
    };
    for node in above.into_iter().rev() {
        fold.node(node)?;
    }
    let rank = match (fold.over, fold.k) {
        (Some((within, order)), Some(k)) => Some(RankBy { within, order, k }),
        (Some(_), None) => {
            return Err(Problem::new(words.find("row_number"), "row_number() without a limit would keep the rank of every group")
                .help("add QUALIFY row_number() OVER (…) <= k"));
        }
        (None, _) => None,
    };
    let outputs = plan.schema().fields().iter().map(|field| field.name().clone()).zip(fold.columns).collect();
    Ok(Above { aggregate, outputs, predicate: fold.predicate, rank })
}

/// The topmost aggregate, and the nodes above it from the top.
fn descend<'a>(plan: &'a LogicalPlan, words: &Words) -> Result<(&'a Aggregate, Vec<&'a LogicalPlan>), Problem> {
    let mut above = Vec::new();
    let mut node = plan;
    loop {
        let below = match node {
            LogicalPlan::Aggregate(aggregate) => return Ok((aggregate, above)),
            LogicalPlan::Projection(projection) => &projection.input,
            LogicalPlan::Filter(filter) => &filter.input,
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            LogicalPlan::Window(window) => &window.input,
            LogicalPlan::Unnest(_) if contains_aggregate(node) => {
                return Err(Problem::new(words.find("unnest"), "unnest() above GROUP BY").help("unnest in a subquery below the GROUP BY"));
            }
            _ => {
                return Err(Problem::new(words.query, "a view must aggregate").help("write SELECT key, count(*) … GROUP BY key"));
            }
        };
        above.push(node);
        node = below;
    }
}

/// Whether there is an aggregate in a plan.
pub(super) fn contains_aggregate(plan: &LogicalPlan) -> bool {
    plan.exists(|node| Ok(matches!(node, LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_)))).unwrap_or(true)
}

struct Fold<'a> {
    /// The columns of the node below, as expressions over groups and results.
    columns: Vec<Expr>,
    predicate: Option<Expr>,
    over: Option<(Vec<Expr>, Vec<Sort>)>,
    k: Option<u64>,
    words: &'a Words,
}

impl Fold<'_> {
    fn node(&mut self, node: &LogicalPlan) -> Result<(), Problem> {
        match node {
            LogicalPlan::Projection(projection) => {
                let input = projection.input.schema();
                self.columns = projection.expr.iter().map(|expr| self.substitute(expr, input)).collect::<Result<_, _>>()?;
            }
            LogicalPlan::Filter(filter) => self.filter(self.substitute(&filter.predicate, filter.input.schema())?)?,
            LogicalPlan::Window(window) => {
                let [expr] = window.window_expr.as_slice() else {
                    return Err(Problem::new(self.words.find("over"), "more than one window function").help("a view has one row_number()"));
                };
                self.window(expr, window.input.schema())?;
            }
            _ => {}
        }
        Ok(())
    }

    fn substitute(&self, expr: &Expr, schema: &DFSchema) -> Result<Expr, Problem> {
        let mut size = 0;
        let substituted = unaliased(expr.clone()).transform_up(|node| match &node {
            Expr::Column(column) => {
                let index = schema.index_of_column(column)?;
                let Some(expr) = self.columns.get(index) else { return Ok(Transformed::no(node)) };
                size += size_of(expr, MOST_PARTS);
                if size > MOST_PARTS {
                    return Err(DataFusionError::Plan(format!("put together, an expression has more than {MOST_PARTS} parts")));
                }
                Ok(Transformed::yes(expr.clone()))
            }
            _ => Ok(Transformed::no(node)),
        });
        substituted.map(|done| done.data).map_err(|error| Problem::new(self.words.query, clean(&error)))
    }

    fn filter(&mut self, predicate: Expr) -> Result<(), Problem> {
        if self.over.is_none() {
            self.predicate = Some(match self.predicate.take() {
                Some(other) => other.and(predicate),
                None => predicate,
            });
            return Ok(());
        }
        match (self.k, rank_limit(&predicate)) {
            (None, Some(k)) if k >= 1 => {
                self.k = Some(k);
                Ok(())
            }
            _ => Err(Problem::new(self.words.find("qualify"), "the rank can only be compared with a limit: row_number() OVER (…) <= k")
                .help("put other conditions into HAVING, which is applied before ranking")),
        }
    }

    fn window(&mut self, expr: &Expr, schema: &DFSchema) -> Result<(), Problem> {
        let at = self.words.find("over");
        let refused = || {
            Problem::new(at, "the only window function of a view is row_number() OVER (PARTITION BY … ORDER BY …), once")
                .help("with QUALIFY row_number() OVER (…) <= k it keeps the first k of each window")
        };
        let (Expr::WindowFunction(call), true) = (unaliased(expr.clone()), self.over.is_none()) else {
            return Err(refused());
        };
        let WindowFunction { fun, params } = *call;
        let WindowFunctionParams { args, partition_by, order_by, filter, distinct, .. } = params;
        if fun.name() != "row_number" || !args.is_empty() || filter.is_some() || distinct {
            return Err(refused());
        }
        let within = partition_by.iter().map(|expr| self.substitute(expr, schema)).collect::<Result<_, _>>()?;
        let order = order_by
            .into_iter()
            .map(|sort| Ok(Sort { expr: self.substitute(&sort.expr, schema)?, ..sort }))
            .collect::<Result<Vec<Sort>, Problem>>()?;
        self.over = Some((within, order));
        self.columns.push(Expr::Column(Column::new_unqualified(RANK)));
        Ok(())
    }
}

/// How many parts an expression may have once those of subqueries are put into it: each step can double them.
const MOST_PARTS: usize = 10_000;

/// The parts of an expression, as far as they are not more than `most`.
fn size_of(expr: &Expr, most: usize) -> usize {
    let mut parts = 0;
    let _ = expr.apply(|_| {
        parts += 1;
        Ok(if parts > most { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    parts
}

/// An expression without the names given to it.
pub(super) fn unaliased(expr: Expr) -> Expr {
    match expr {
        Expr::Alias(alias) => unaliased(*alias.expr),
        other => other,
    }
}

/// Whether an expression is the folded column of that name, and nothing else.
pub(super) fn is_column(expr: &Expr, name: &str) -> bool {
    matches!(expr, Expr::Column(column) if column.relation.is_none() && column.name == name)
}

/// The k of `rank <= k` and its equivalents.
fn rank_limit(predicate: &Expr) -> Option<u64> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = predicate else { return None };
    let (op, limit) = if is_column(uncast(left), RANK) {
        (*op, right)
    } else if is_column(uncast(right), RANK) {
        (op.swap()?, left)
    } else {
        return None;
    };
    let Expr::Literal(value, _) = uncast(limit) else { return None };
    let whole = value.cast_to(&DataType::UInt64).ok()?;
    if whole.cast_to(&value.data_type()).ok()? != *value {
        return None;
    }
    let ScalarValue::UInt64(Some(limit)) = whole else { return None };
    match op {
        Operator::LtEq => Some(limit),
        Operator::Lt => limit.checked_sub(1),
        Operator::Eq if limit == 1 => Some(1),
        _ => None,
    }
}

fn uncast(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(cast) => uncast(&cast.expr),
        Expr::Alias(alias) => uncast(&alias.expr),
        other => other,
    }
}
