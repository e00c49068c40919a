//! Which aggregates a view may have: those whose state is bounded and merges in any order to the same value.

use std::sync::Arc;

use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::expr::{AggregateFunction, NullTreatment};
use datafusion::logical_expr::{EmitTo, Expr, GroupsAccumulator};
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::scalar::ScalarValue;
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::GroupsAccumulatorAdapter;

use super::above::{result_name, unaliased};
use super::error::{Problem, clean};
use super::exact;
use super::guard::guarded;
use super::statement::Words;

/// An aggregate of a view, over the columns of [`Inputs`].
pub(super) struct Planned {
    pub function: Arc<AggregateFunctionExpr>,
    pub filter: Option<Arc<dyn PhysicalExpr>>,
}

/// The columns that aggregates take: every expression once.
#[derive(Default)]
pub(super) struct Inputs {
    pub exprs: Vec<Expr>,
}

impl Inputs {
    pub fn place(&mut self, expr: &Expr) -> usize {
        let expr = unaliased(expr.clone());
        match self.exprs.iter().position(|known| *known == expr) {
            Some(place) => place,
            None => {
                self.exprs.push(expr);
                self.exprs.len() - 1
            }
        }
    }

    pub fn name(place: usize) -> String {
        format!("a{place}")
    }
}

/// Checks an aggregate, and answers with its call.
pub(super) fn check(expr: &Expr, words: &Words) -> Result<AggregateFunction, Problem> {
    let Expr::AggregateFunction(call) = unaliased(expr.clone()) else {
        return Err(Problem::new(words.query, format!("{expr} is not an aggregate that a view can keep")));
    };
    let name = call.func.name().to_owned();
    let at = words.find(&name);
    if call.params.distinct {
        let problem = Problem::new(at, format!("{name}(DISTINCT …) would have to keep every value it has seen"));
        return Err(if name == "count" {
            problem.help("write approx_distinct(…), which is bounded and off by about 1 %; of a floating-point number approx_distinct(CAST(x AS VARCHAR))")
        } else {
            problem.help("leave DISTINCT out")
        });
    }
    let refused = |message: &str, help: &str| Err(Problem::new(at, format!("{name}(): {message}")).help(help));
    match name.as_str() {
        "count" | "sum" | "avg" | "min" | "max" | "bool_and" | "bool_or" | "bit_and" | "bit_or" | "bit_xor" | "approx_distinct" => {}
        // Over floating-point numbers these are exact, see the module `exact`.
        "var" | "var_pop" | "stddev" | "stddev_pop" => {}
        of_pairs if exact::is_of_pairs(of_pairs) => {}
        "first_value" | "last_value" => {
            if call.params.order_by.is_empty() {
                return refused("which value is the first depends on the order of arrival", "say which: first_value(x ORDER BY time, id)");
            }
        }
        "array_agg" | "string_agg" | "nth_value" => {
            return refused(
                "its state grows with the events of a group",
                "keep count(*), min(…), max(…) or last_value(… ORDER BY …) instead",
            );
        }
        "median" | "percentile_cont" | "quantile_cont" => {
            return refused(
                "it would have to keep every value",
                "count values in classes instead: sum(CASE WHEN x <= 10 THEN 1 ELSE 0 END)",
            );
        }
        "approx_percentile_cont" | "approx_percentile_cont_with_weight" | "approx_median" => {
            return refused(
                "its result depends on the order of arrival",
                "count values in classes instead: sum(CASE WHEN x <= 10 THEN 1 ELSE 0 END)",
            );
        }
        "any_value" => return refused("which value it takes depends on the order of arrival", "write min(…) or first_value(… ORDER BY …)"),
        "grouping" => return refused("there are no grouping sets here", "leave it out"),
        _ => {
            return refused(
                "it is not known whether its result depends on the order of arrival",
                "these do not: count, sum, avg, min, max, stddev, var, corr, covar_samp, covar_pop, regr_slope and the like, bool_and, bool_or, bit_and, bit_or, bit_xor, approx_distinct, first_value, last_value",
            );
        }
    }
    Ok(call)
}

/// Puts the expressions that an aggregate takes among the inputs.
pub(super) fn collect(call: &AggregateFunction, inputs: &mut Inputs) {
    for argument in call.params.args.iter().filter(|argument| !matches!(argument, Expr::Literal(..))) {
        inputs.place(argument);
    }
    for sort in &call.params.order_by {
        inputs.place(&sort.expr);
    }
    if let Some(filter) = &call.params.filter {
        inputs.place(filter);
    }
}

/// Plans an aggregate over a plan with the columns of `inputs`, which begin at `offset` of its schema.
pub(super) fn plan(
    call: &AggregateFunction,
    index: usize,
    inputs: &mut Inputs,
    (schema, offset): (&SchemaRef, usize),
) -> DfResult<Planned> {
    let mut column = |expr: &Expr| -> Arc<dyn PhysicalExpr> {
        if let Expr::Literal(value, _) = expr {
            return Arc::new(Literal::new(value.clone()));
        }
        let place = inputs.place(expr);
        Arc::new(Column::new(&Inputs::name(place), offset + place))
    };
    let arguments = call.params.args.iter().map(&mut column).collect();
    let order_by = call
        .params
        .order_by
        .iter()
        .map(|sort| PhysicalSortExpr {
            expr: column(&sort.expr),
            options: SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first },
        })
        .collect();
    let filter = call.params.filter.as_deref().map(&mut column);
    let function = AggregateExprBuilder::new(Arc::clone(&call.func), arguments)
        .order_by(order_by)
        .schema(Arc::clone(schema))
        .alias(result_name(index))
        .with_ignore_nulls(call.params.null_treatment == Some(NullTreatment::IgnoreNulls))
        .build()?;
    Ok(Planned { function: Arc::new(function), filter })
}

/// Aggregates a value of the types that a function is planned for: some are planned for types that they cannot work on. `below` ends in the
/// partial aggregate.
pub(super) fn try_out(function: &Arc<AggregateFunctionExpr>, below: &Arc<dyn ExecutionPlan>, words: &Words) -> Result<(), Problem> {
    let name = function.fun().name();
    let schema = below.children().first().map(|input| input.schema()).unwrap_or_else(|| below.schema());
    let arguments = function.expressions().into_iter().chain(function.order_bys().iter().map(|sort| Arc::clone(&sort.expr)));
    let types = arguments.map(|argument| argument.data_type(&schema)).collect::<DfResult<Vec<_>>>();
    let tried = types.and_then(|types| {
        let values = types.iter().map(|data_type| ScalarValue::new_default(data_type)?.to_array()).collect::<DfResult<Vec<_>>>();
        // What cannot be made cannot be tried out.
        let Ok(values) = values else { return Ok(()) };
        guarded(|| {
            let (mut first, mut merged) = (accumulator(function)?, accumulator(function)?);
            first.update_batch(&values, &[0], None, 1)?;
            merged.merge_batch(&first.state(EmitTo::All)?, &[0], 1)?;
            merged.evaluate(EmitTo::All).map(|_| ())
        })
    });
    tried.map_err(|error| {
        Problem::new(words.find(name), format!("{name}() does not work on what it is given: {}", clean(&error)))
            .help("aggregate a number, text, boolean, date or timestamp that is taken from it")
    })
}

/// The state columns of aggregates.
pub(super) fn state_schema(functions: &[Arc<AggregateFunctionExpr>]) -> DfResult<SchemaRef> {
    let mut fields = Vec::new();
    for function in functions {
        fields.extend(function.state_fields()?.into_iter().map(|field| field.as_ref().clone().with_nullable(true)));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// A fresh accumulator for all groups.
pub(super) fn accumulator(function: &Arc<AggregateFunctionExpr>) -> DfResult<Box<dyn GroupsAccumulator>> {
    if function.groups_accumulator_supported() {
        function.create_groups_accumulator()
    } else {
        let function = Arc::clone(function);
        Ok(Box::new(GroupsAccumulatorAdapter::new(move || function.create_accumulator())))
    }
}
