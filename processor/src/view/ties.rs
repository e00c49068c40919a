//! `first_value` and `last_value` among equals: SQL leaves open which of them is taken, here it is always the same.

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan};

/// Adds the value itself to the end of the ORDER BY of every `first_value` and `last_value`: of several values at the same
/// place the least is the first and the greatest the last, whatever the order of arrival.
pub(super) fn settle(plan: LogicalPlan) -> Result<LogicalPlan> {
    let settled = plan.transform_up(|node| match node {
        LogicalPlan::Aggregate(aggregate) => {
            let exprs = aggregate.aggr_expr.into_iter().map(settle_one).collect();
            Ok(Transformed::yes(LogicalPlan::Aggregate(Aggregate::try_new(aggregate.input, aggregate.group_expr, exprs)?)))
        }
        other => Ok(Transformed::no(other)),
    });
    settled.map(|done| done.data)
}

fn settle_one(expr: Expr) -> Expr {
    let name = expr.schema_name().to_string();
    let Expr::AggregateFunction(AggregateFunction { func, mut params }) = expr else { return expr };
    if matches!(func.name(), "first_value" | "last_value")
        && !params.order_by.is_empty()
        && let Some(value) = params.args.first().cloned()
        && !params.order_by.iter().any(|sort| sort.expr == value)
    {
        params.order_by.push(value.sort(true, false));
        return Expr::AggregateFunction(AggregateFunction { func, params }).alias(name);
    }
    Expr::AggregateFunction(AggregateFunction { func, params })
}
