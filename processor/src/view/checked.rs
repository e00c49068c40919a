//! Arithmetic that fails where it would wrap around.
//!
//! DataFusion plans `+`, `-` and `*` over integers and decimals so that a result beyond the type's bounds becomes another number without a word.
//! Here such an expression fails, for the one event or group whose numbers are too large.

use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Literal, NegativeExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::scalar::ScalarValue;

/// An expression over columns of a schema, with checked arithmetic.
pub(super) fn expression(expr: Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
    let checked = expr.transform_up(|node| {
        if let Some(binary) = node.downcast_ref::<BinaryExpr>()
            && matches!(binary.op(), Operator::Plus | Operator::Minus | Operator::Multiply)
        {
            return Ok(Transformed::yes(arithmetic(binary.left(), *binary.op(), binary.right())));
        }
        if let Some(negative) = node.downcast_ref::<NegativeExpr>() {
            let data_type = negative.arg().data_type(schema)?;
            if data_type.is_integer() {
                let zero: Arc<dyn PhysicalExpr> = Arc::new(Literal::new(ScalarValue::new_zero(&data_type)?));
                return Ok(Transformed::yes(arithmetic(&zero, Operator::Minus, negative.arg())));
            }
        }
        Ok(Transformed::no(node))
    });
    checked.map(|checked| checked.data)
}

fn arithmetic(left: &Arc<dyn PhysicalExpr>, operator: Operator, right: &Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
    Arc::new(BinaryExpr::new(Arc::clone(left), operator, Arc::clone(right)).with_fail_on_overflow(true))
}

/// A plan of projections and filters, with checked arithmetic.
pub(super) fn plan(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let checked = plan.transform_up(|node| {
        if let Some(projection) = node.downcast_ref::<ProjectionExec>() {
            let schema = projection.input().schema();
            let columns = projection
                .expr()
                .iter()
                .map(|column| Ok(ProjectionExpr { expr: expression(Arc::clone(&column.expr), &schema)?, alias: column.alias.clone() }));
            let columns = columns.collect::<Result<Vec<_>>>()?;
            return Ok(Transformed::yes(Arc::new(ProjectionExec::try_new(columns, Arc::clone(projection.input()))?) as _));
        }
        if let Some(filter) = node.downcast_ref::<FilterExec>() {
            let predicate = expression(Arc::clone(filter.predicate()), &filter.input().schema())?;
            return Ok(Transformed::yes(Arc::new(FilterExecBuilder::from(filter).with_predicate(predicate).build()?) as _));
        }
        Ok(Transformed::no(node))
    });
    checked.map(|checked| checked.data)
}
