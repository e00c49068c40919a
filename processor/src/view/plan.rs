//! From the text of a view to its plan: parse, check, plan with DataFusion, take apart around the aggregate.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{Query, Statement as SqlStatement};
use datafusion::sql::sqlparser::tokenizer::Location;
use parking_lot::Mutex;

use super::above::{self, Above, RANK, group_name, result_name};
use super::absent::Absent;
use super::aggregates::{self, Inputs, Planned};
use super::error::{Problem, ViewError};
use super::events::{EventsExec, EventsTable};
use super::key::{self, Group};
use super::lineage::{self, Window};
use super::mapper::Mapper;
use super::merger::Merger;
use super::options::{self, Placed};
use super::rows::{Ranker, RowPlan};
use super::session::{finish, session};
use super::statement::{self, Words};
use super::{View, WindowSpec, functions};
use super::{checked, checks, constants, dashboard, errors, syntax, ties};

/// The stack that planning may use: it recurses over the text, whose nesting is bounded by its length.
const PLANNING_STACK: usize = 256 << 20;

/// What a view needs to run.
pub(super) struct Compiled {
    pub file: String,
    /// The partial aggregate over an [`EventsExec`].
    pub below: Arc<dyn ExecutionPlan>,
    pub functions: Vec<Arc<AggregateFunctionExpr>>,
    pub rows: RowPlan,
    pub query: Box<Query>,
    pub source_schema: SchemaRef,
    /// For people: what stands above the aggregate.
    pub described: Vec<String>,
    /// The state of all aggregates.
    pub states: SchemaRef,
    /// The rows that could not be made.
    pub absent: Mutex<Absent>,
    /// Whether a warning was logged that there are such rows.
    pub failure_was_said: AtomicBool,
}

/// Plans a view on a stack of its own, so that no text can exhaust the caller's.
pub(super) fn plan(sql: &str, file: &str, sources: &BTreeMap<String, SchemaRef>) -> Result<View, ViewError> {
    let start = Location { line: 1, column: 1 };
    std::thread::scope(|scope| {
        let planner = std::thread::Builder::new().name("view planner".into()).stack_size(PLANNING_STACK);
        let planning = planner.spawn_scoped(scope, || plan_here(sql, file, sources).map_err(|problem| problem.in_file(file)));
        match planning.map(|thread| thread.join()) {
            Ok(Ok(planned)) => planned,
            Ok(Err(_)) => {
                Err(Problem::new(start, "the planner failed on this view").help("write the query in a simpler form").in_file(file))
            }
            Err(error) => Err(Problem::new(start, format!("no thread to plan on: {error}")).in_file(file)),
        }
    })
}

fn plan_here(sql: &str, file: &str, sources: &BTreeMap<String, SchemaRef>) -> Result<View, Problem> {
    let statement = statement::parse(sql)?;
    let words = &statement.words;
    let placed = options::read(&statement.options, words)?;
    let source = syntax::check(&statement.query, sources, words)?;
    let source_schema = sources.get(&source).cloned().ok_or_else(|| Problem::new(words.query, format!("unknown source {source}")))?;
    let planned = |error: &DataFusionError| errors::planning(error, words);

    let table = Arc::new(EventsTable { schema: Arc::clone(&source_schema) });
    let state = session(&source, table, functions::for_panes()).map_err(|error| planned(&error))?.state();
    syntax::check_functions(&statement.query, &state)?;
    let analyzed = analyze(&state, &statement.query).map_err(|error| planned(&error))?;
    check_volatility(&analyzed, words)?;
    constants::check(&analyzed, &statement.query, &state, words)?;

    let above = above::fold(&analyzed, words)?;
    let input = above.aggregate.input.as_ref();
    if above::contains_aggregate(input) {
        return Err(Problem::new(words.nth("group", 1), "more than one GROUP BY")
            .help("a view aggregates once; make a view of the inner query, or group by all columns at once"));
    }
    let (group_exprs, calls) = check_aggregate(&above, words)?;
    check_below(input, words)?;
    check_unnest(input, words)?;
    let window = window(&above, &group_exprs, words)?;
    check_ends(window.as_ref().map(|(_, window)| window), above.rank.is_some(), &placed, words)?;

    let below = Below::plan(&state, input, &group_exprs, &calls, window.map(|(place, _)| place)).map_err(|error| planned(&error))?;
    let results = below.results_schema(&above, &group_exprs).map_err(|error| planned(&error))?;
    let ranked = ranked_schema(&above, &results).map_err(|error| planned(&error))?;
    let types = above
        .outputs
        .iter()
        .map(|(_, expr)| expr.get_type(&ranked).map(|data_type| key::table_type(&data_type)))
        .collect::<DfResult<Vec<DataType>>>()
        .map_err(|error| planned(&error))?;
    let groups = describe_groups(&above, &results, window.map(|(place, _)| place));
    let (shape, ranking) = key::shape(&above, &types, &groups, &placed, words)?;

    let window_name = window.map(|(place, _)| group_name(place));
    let window_column = window_name.and_then(|name| above.outputs.iter().position(|(_, expr)| above::is_column(expr, &name)));
    let window_spec = match (window, window_column) {
        (Some((_, window)), Some(column)) => Some(WindowSpec {
            column,
            size_us: window.size_us,
            slide_us: window.slide_us,
            pane_us: lineage::greatest_common_divisor(window.slide_us, window.size_us),
        }),
        _ => None,
    };
    let dashboard = dashboard::of(&placed.dashboard, &shape, window_spec.as_ref(), ranking.as_ref())?;
    let checks = checks::of(&placed.checks, &shape)?;
    let row_plan = row_plan(&state, &above, &below, (&results, &ranked), &shape.columns).map_err(|error| planned(&error))?;
    let order = &below.group_order;
    let group_fields: Vec<Field> =
        order.iter().filter_map(|place| groups.get(*place)).map(|group| Field::new(&group.name, group.data_type.clone(), true)).collect();
    let functions: Vec<Arc<AggregateFunctionExpr>> = below.aggregates.iter().map(|planned| Arc::clone(&planned.function)).collect();
    let states = aggregates::state_schema(&functions).map_err(|error| planned(&error))?;
    let view = View {
        name: statement.name,
        sql: sql.to_owned(),
        source,
        source_columns: below.source_columns,
        options: placed.options,
        digest: statement.digest,
        shape,
        window: window_spec,
        window_source_column: window.map(|(_, window)| window.source_column),
        ranking,
        dashboard,
        checks,
        groups: Arc::new(Schema::new(group_fields)),
        states: Arc::clone(&states),
        compiled: Arc::new(Compiled {
            states,
            absent: Mutex::default(),
            failure_was_said: AtomicBool::new(false),
            file: file.to_owned(),
            below: below.plan,
            functions,
            rows: row_plan,
            described: describe_above(&above),
            query: statement.query,
            source_schema,
        }),
    };
    for function in &view.compiled.functions {
        aggregates::try_out(function, &view.compiled.below, words)?;
    }
    Merger::of(&view.compiled).map_err(|error| planned(&error))?;
    Mapper::of(&view, &view.compiled).map_err(|error| planned(&error))?;
    Ok(view)
}

/// Plans a query and coerces its types.
pub(super) fn analyze(state: &SessionState, query: &Query) -> DfResult<LogicalPlan> {
    let statement = DfStatement::Statement(Box::new(SqlStatement::Query(Box::new(query.clone()))));
    let plan = finish(state.statement_to_plan(statement))?;
    let analyzed = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {})?;
    ties::settle(analyzed)
}

/// Refuses functions that do not always answer the same.
fn check_volatility(plan: &LogicalPlan, words: &Words) -> Result<(), Problem> {
    let mut unstable = None;
    let visited = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                if let Expr::ScalarFunction(call) = part
                    && call.func.signature().volatility != datafusion::logical_expr::Volatility::Immutable
                {
                    unstable = Some(call.func.name().to_owned());
                    return Ok(TreeNodeRecursion::Stop);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    visited.map_err(|error| errors::planning(&error, words))?;
    match unstable {
        None => Ok(()),
        Some(name) => {
            Err(Problem::new(words.find(&name), format!("{name}() does not always answer the same, so a replay would give other rows"))
                .help("use only columns of the event: its time column instead of the clock"))
        }
    }
}

fn check_aggregate(above: &Above<'_>, words: &Words) -> Result<(Vec<Expr>, Vec<AggregateFunction>), Problem> {
    let aggregate = above.aggregate;
    if aggregate.group_expr.is_empty() {
        return Err(
            Problem::new(words.query, "no GROUP BY: the view would be a single row without a key").help("group by at least one column")
        );
    }
    if aggregate.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_))) {
        return Err(
            Problem::new(words.find("group"), "grouping sets, ROLLUP and CUBE are more than one aggregate").help("make a view of each")
        );
    }
    if aggregate.aggr_expr.is_empty() {
        return Err(
            Problem::new(words.query, "a view must aggregate").help("add an aggregate to SELECT, for instance count(*) AS occurrences")
        );
    }
    let calls = aggregate.aggr_expr.iter().map(|expr| aggregates::check(expr, words)).collect::<Result<Vec<_>, Problem>>()?;
    let groups = aggregate.group_expr.iter().map(|expr| above::unaliased(expr.clone())).collect();
    Ok((groups, calls))
}

/// Below the aggregate, what becomes of an event must not depend on the others.
fn check_below(input: &LogicalPlan, words: &Words) -> Result<(), Problem> {
    let mut refused = None;
    let visited = input.apply_with_subqueries(|node| {
        let found = match node {
            LogicalPlan::Projection(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Unnest(_)
            | LogicalPlan::TableScan(_) => return Ok(TreeNodeRecursion::Continue),
            LogicalPlan::Window(_) => ("over", "a window function below GROUP BY looks at other events, of which there is never the last"),
            LogicalPlan::Sort(_) => ("order", "ORDER BY below GROUP BY has no meaning: events come in no order"),
            LogicalPlan::Limit(_) => ("limit", "LIMIT below GROUP BY would take some events, and others in a replay"),
            _ => ("from", "below GROUP BY, a view reads one source: events, projected, filtered and unnested"),
        };
        refused = Some(found);
        Ok(TreeNodeRecursion::Stop)
    });
    visited.map_err(|error| errors::planning(&error, words))?;
    match refused {
        None => Ok(()),
        Some((word, message)) => Err(Problem::new(words.find(word), message)
            .help("rank groups by QUALIFY row_number() OVER (…) <= k above GROUP BY; for the first or last event of a group write first_value(… ORDER BY …)")),
    }
}

fn check_unnest(input: &LogicalPlan, words: &Words) -> Result<(), Problem> {
    let zipped = |node: &LogicalPlan| Ok(matches!(node, LogicalPlan::Unnest(unnest) if unnest.list_type_columns.len() > 1));
    if input.exists(zipped).unwrap_or(true) {
        return Err(Problem::new(words.nth("unnest", 1), "two unnest() in one SELECT run side by side, not through all pairs")
            .help("put the second into a subquery: SELECT …, unnest(b) FROM (SELECT …, unnest(a) … FROM …)"));
    }
    Ok(())
}

/// The window among the GROUP BY columns, and its place there.
fn window(above: &Above<'_>, group_exprs: &[Expr], words: &Words) -> Result<Option<(usize, Window)>, Problem> {
    let input = above.aggregate.input.as_ref();
    let hops = lineage::check_hop(group_exprs, &above.aggregate.aggr_expr, input, words)?;
    let mut windows = Vec::new();
    for (place, group) in group_exprs.iter().enumerate() {
        if let Some(window) = lineage::window(group, input, words)? {
            windows.push((place, window));
        }
    }
    match windows.as_slice() {
        [] if hops => Err(Problem::new(words.find("hop"), "hop() is not grouped by as it is")
            .help("select unnest(hop(…)) AS slot in a subquery and GROUP BY slot")),
        [] => Ok(None),
        [one] => Ok(Some(*one)),
        [_, _, ..] => Err(Problem::new(words.nth("tumble", 1), "two windows in GROUP BY")
            .help("keep the shorter one and derive the other from it when reading")),
    }
}

fn check_ends(window: Option<&Window>, ranked: bool, placed: &Placed, words: &Words) -> Result<(), Problem> {
    let options = &placed.options;
    match window {
        None if ranked => Err(Problem::new(words.find("qualify"), "a ranking without a window would never be final")
            .help("group by tumble(time, INTERVAL '…') or unnest(hop(time, slide, size)) and rank within it")),
        // Rows are dropped by the end of their window: without one there is nothing to drop them by.
        None if options.keep_us.is_some() => {
            Err(Problem::new(placed.keep_at, "keep has no effect without a window: no row would ever be dropped")
                .help("group by tumble(time, INTERVAL '…'), or write unbounded = true in place of keep"))
        }
        None if !options.unbounded => Err(Problem::new(words.find("group"), "without a window the state has no end")
            .help("group by tumble(time, INTERVAL '…'), or add unbounded = true to the options")),
        Some(window) if options.keep_us.is_some_and(|keep| keep < window.size_us) => {
            Err(Problem::new(placed.keep_at, "keep is shorter than the window, so no row would ever be seen")
                .help("keep rows at least as long as their window"))
        }
        _ => Ok(()),
    }
}

fn describe_groups(above: &Above<'_>, schema: &DFSchema, window: Option<usize>) -> Vec<Group> {
    let describe = |place: usize| {
        let folded = group_name(place);
        let output = above.outputs.iter().find(|(_, expr)| above::is_column(expr, &folded)).map(|(name, _)| name.clone());
        let own = above.aggregate.schema.fields().get(place).map(|field| field.name().clone());
        let data_type = schema.fields().get(place).map_or(DataType::Null, |field| field.data_type().clone());
        let own = own.map(|name| name.split_once('(').map(|(function, _)| format!("{function}(…)")).unwrap_or(name));
        Group { name: output.or(own).unwrap_or_else(|| folded.clone()), folded, data_type, window: window == Some(place) }
    };
    (0..above.aggregate.group_expr.len()).map(describe).collect()
}

fn describe_above(above: &Above<'_>) -> Vec<String> {
    let mut lines: Vec<String> = above.outputs.iter().map(|(name, expr)| format!("{name} = {expr}")).collect();
    lines.extend(above.predicate.iter().map(|predicate| format!("where {predicate}")));
    lines.extend(above.aggregate.group_expr.iter().enumerate().map(|(place, expr)| format!("{} is {expr}", group_name(place))));
    lines.extend(above.aggregate.aggr_expr.iter().enumerate().map(|(place, expr)| format!("{} is {expr}", result_name(place))));
    lines
}

/// The part below the aggregate, planned.
struct Below {
    plan: Arc<dyn ExecutionPlan>,
    source_columns: Vec<usize>,
    aggregates: Vec<Planned>,
    /// The places in GROUP BY in the order of the state's key: the window first.
    group_order: Vec<usize>,
}

impl Below {
    fn plan(
        state: &SessionState,
        input: &LogicalPlan,
        groups: &[Expr],
        calls: &[AggregateFunction],
        window: Option<usize>,
    ) -> DfResult<Below> {
        let group_order: Vec<usize> = window.into_iter().chain((0..groups.len()).filter(|place| Some(*place) != window)).collect();
        let mut inputs = Inputs::default();
        for call in calls {
            aggregates::collect(call, &mut inputs);
        }
        let keys = group_order.iter().filter_map(|place| Some(groups.get(*place)?.clone().alias(group_name(*place))));
        let arguments = inputs.exprs.iter().enumerate().map(|(place, expr)| expr.clone().alias(Inputs::name(place)));
        let projected = LogicalPlanBuilder::from(input.clone()).project(keys.chain(arguments).collect::<Vec<Expr>>())?.build()?;
        let optimized = state.optimize(&projected)?;
        let input_plan = checked::plan(finish(state.query_planner().create_physical_plan(&optimized, state))?)?;
        let schema = input_plan.schema();

        let planned = calls
            .iter()
            .enumerate()
            .map(|(index, call)| aggregates::plan(call, index, &mut inputs, (&schema, groups.len())))
            .collect::<DfResult<Vec<Planned>>>()?;
        let keys = group_order.iter().enumerate().map(|(column, place)| {
            let name = group_name(*place);
            (Arc::new(PhysicalColumn::new(&name, column)) as Arc<dyn PhysicalExpr>, name)
        });
        let mut source_columns = Vec::new();
        input_plan.apply(|node| {
            if let Some(leaf) = node.downcast_ref::<EventsExec>() {
                source_columns = leaf.columns().to_vec();
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        let plan = AggregateExec::try_new(
            AggregateMode::Partial,
            PhysicalGroupBy::new_single(keys.collect()),
            planned.iter().map(|planned| Arc::clone(&planned.function)).collect(),
            planned.iter().map(|planned| planned.filter.clone()).collect(),
            Arc::clone(&input_plan),
            schema,
        )?;
        Ok(Below { plan: Arc::new(plan), source_columns, aggregates: planned, group_order })
    }

    /// The schema of folded expressions: groups in the order of GROUP BY, then results.
    fn results_schema(&self, above: &Above<'_>, groups: &[Expr]) -> DfResult<DFSchema> {
        let input = above.aggregate.input.schema();
        let mut fields = Vec::new();
        for (place, group) in groups.iter().enumerate() {
            fields.push(Field::new(group_name(place), group.get_type(input)?, true));
        }
        for (place, planned) in self.aggregates.iter().enumerate() {
            fields.push(Field::new(result_name(place), planned.function.field().data_type().clone(), true));
        }
        DFSchema::try_from(Schema::new(fields))
    }
}

/// The results and, in a ranking, the rank.
fn ranked_schema(above: &Above<'_>, results: &DFSchema) -> DfResult<DFSchema> {
    let mut ranked = results.clone();
    if above.rank.is_some() {
        ranked.merge(&DFSchema::try_from(Schema::new(vec![Field::new(RANK, DataType::UInt64, true)]))?);
    }
    Ok(ranked)
}

fn row_plan(
    state: &SessionState,
    above: &Above<'_>,
    below: &Below,
    (results, ranked): (&DFSchema, &DFSchema),
    columns: &SchemaRef,
) -> DfResult<RowPlan> {
    let schema = ranked.inner();
    let physical = |expr: &Expr| checked::expression(state.create_physical_expr(expr.clone(), ranked)?, schema);
    let mut outputs = Vec::new();
    let mut keys = Vec::new();
    for ((_, expr), field) in above.outputs.iter().zip(columns.fields()) {
        keys.push(below.group_order.iter().any(|place| above::is_column(expr, &group_name(*place))));
        outputs.push(physical(&expr.clone().cast_to(field.data_type(), ranked)?)?);
    }
    let ranker = match &above.rank {
        None => None,
        Some(rank) => Some(Ranker {
            within: rank.within.iter().map(physical).collect::<DfResult<_>>()?,
            order: rank
                .order
                .iter()
                .map(|sort| Ok((physical(&sort.expr)?, SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first })))
                .collect::<DfResult<_>>()?,
            k: usize::try_from(rank.k).unwrap_or(usize::MAX),
            output: above.outputs.iter().position(|(_, expr)| above::is_column(expr, RANK)).unwrap_or(usize::MAX),
            input: Arc::clone(ranked.inner()),
        }),
    };
    Ok(RowPlan {
        input: Arc::clone(results.inner()),
        group_order: below.group_order.clone(),
        group_names: describe_groups(above, results, None).into_iter().map(|group| group.name).collect(),
        predicate: above.predicate.as_ref().map(physical).transpose()?,
        outputs,
        keys,
        columns: Arc::clone(columns),
        ranker,
    })
}
