//! Where a GROUP BY column comes from: finds the window of a view by following columns down to the source.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::tokenizer::Location;

use super::error::{Problem, clean};
use super::statement::Words;

/// A window by its definition; lengths in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// The column of the source whose time it cuts.
    pub source_column: usize,
    pub slide_us: i64,
    pub size_us: i64,
}

/// More panes a window, or windows an event, than this cost more than they can be worth.
const MAX_PANES: i64 = 10_000;

/// What a column is made of.
enum Origin {
    /// A column of the source, as it is.
    Source(usize),
    Tumble(Vec<Expr>, Option<usize>),
    /// The list of windows.
    HopList(Vec<Expr>, Option<usize>),
    /// One of them a row.
    Hop(Vec<Expr>, Option<usize>),
    Other,
}

/// The window that a GROUP BY expression over `input` is, if it is one.
pub(super) fn window(group: &Expr, input: &LogicalPlan, words: &Words) -> Result<Option<Window>, Problem> {
    let (name, arguments, source) = match origin(group, input) {
        Origin::Tumble(arguments, source) => ("tumble", arguments, source),
        Origin::Hop(arguments, source) => ("hop", arguments, source),
        Origin::Source(_) | Origin::HopList(..) | Origin::Other => return Ok(None),
    };
    let at = words.find(name);
    let Some(source_column) = source else {
        return Err(Problem::new(at, format!("{name}() must take the event-time column itself, not an expression of it"))
            .help("windows are assigned by event time: name the column of the source"));
    };
    let lengths = arguments.iter().skip(1).map(|argument| interval_us(argument, at)).collect::<Result<Vec<i64>, Problem>>()?;
    let (slide_us, size_us) = match lengths.as_slice() {
        [size] => (*size, *size),
        [slide, size] => (*slide, *size),
        _ => return Err(Problem::new(at, format!("{name}() takes a time and constant intervals"))),
    };
    check_lengths(slide_us, size_us, at)?;
    Ok(Some(Window { source_column, slide_us, size_us }))
}

fn check_lengths(slide_us: i64, size_us: i64, at: Location) -> Result<(), Problem> {
    if slide_us <= 0 || size_us <= 0 {
        return Err(Problem::new(at, "a window must be longer than nothing"));
    }
    if slide_us % 1_000 != 0 || size_us % 1_000 != 0 {
        return Err(Problem::new(at, "a window must be a whole number of milliseconds"));
    }
    if slide_us > size_us {
        return Err(Problem::new(at, "the slide of hop() is longer than its size, so that events between windows would be in none")
            .help("write hop(time, slide, size) with the shorter interval first"));
    }
    let pane_us = greatest_common_divisor(slide_us, size_us);
    if size_us / pane_us > MAX_PANES {
        return Err(Problem::new(at, format!("a window is made of {} panes, {MAX_PANES} are the most", size_us / pane_us))
            .help("choose a longer slide, or a size that is a multiple of it"));
    }
    Ok(())
}

/// Euclid's.
pub(super) fn greatest_common_divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

fn interval_us(expr: &Expr, at: Location) -> Result<i64, Problem> {
    let value = match constant(expr) {
        Some(value) => value,
        None => return Err(Problem::new(at, "the length of a window must be a constant").help("write for instance INTERVAL '5 minutes'")),
    };
    let (months, days, nanos) = match value {
        ScalarValue::IntervalMonthDayNano(Some(value)) => (value.months, value.days, value.nanoseconds),
        ScalarValue::IntervalDayTime(Some(value)) => (0, value.days, i64::from(value.milliseconds).saturating_mul(1_000_000)),
        ScalarValue::IntervalYearMonth(Some(months)) => (months, 0, 0),
        other => return Err(Problem::new(at, format!("the length of a window must be an interval, not {other}")).help("write for instance INTERVAL '5 minutes'")),
    };
    if months != 0 {
        return Err(Problem::new(at, "months and years differ in length").help("write the window in days, hours, minutes or seconds"));
    }
    if nanos % 1_000 != 0 {
        return Err(Problem::new(at, "a window must be a whole number of milliseconds"));
    }
    let too_long = || Problem::new(at, "this window is too long");
    i64::from(days).checked_mul(86_400_000_000).and_then(|us| us.checked_add(nanos / 1_000)).ok_or_else(too_long)
}

/// The value of a constant, through casts and signs.
fn constant(expr: &Expr) -> Option<ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value.clone()),
        Expr::Alias(alias) => constant(&alias.expr),
        Expr::Cast(cast) => constant(&cast.expr)?.cast_to(cast.field.data_type()).ok(),
        Expr::Negative(inner) => constant(inner)?.arithmetic_negate().ok(),
        _ => None,
    }
}

fn origin(expr: &Expr, input: &LogicalPlan) -> Origin {
    match expr {
        Expr::Alias(alias) => origin(&alias.expr, input),
        Expr::Column(column) => match input.schema().index_of_column(column) {
            Ok(index) => column_origin(index, input),
            Err(_) => Origin::Other,
        },
        Expr::ScalarFunction(call) => {
            let time = call.args.first().and_then(|time| match origin(time, input) {
                Origin::Source(column) => Some(column),
                _ => None,
            });
            match call.func.name() {
                "tumble" => Origin::Tumble(call.args.clone(), time),
                "hop" => Origin::HopList(call.args.clone(), time),
                _ => Origin::Other,
            }
        }
        _ => Origin::Other,
    }
}

fn column_origin(index: usize, plan: &LogicalPlan) -> Origin {
    match plan {
        LogicalPlan::Projection(node) => node.expr.get(index).map_or(Origin::Other, |expr| origin(expr, &node.input)),
        LogicalPlan::SubqueryAlias(node) => column_origin(index, &node.input),
        LogicalPlan::Filter(node) => column_origin(index, &node.input),
        LogicalPlan::TableScan(scan) => match &scan.projection {
            Some(columns) => columns.get(index).map_or(Origin::Other, |column| Origin::Source(*column)),
            None => Origin::Source(index),
        },
        LogicalPlan::Unnest(node) => {
            let Some(&below) = node.dependency_indices.get(index) else { return Origin::Other };
            let unnested = node.list_type_columns.iter().any(|(column, _)| *column == below) || node.struct_type_columns.contains(&below);
            match column_origin(below, &node.input) {
                Origin::HopList(arguments, source) if unnested => Origin::Hop(arguments, source),
                _ if unnested => Origin::Other,
                same => same,
            }
        }
        _ => Origin::Other,
    }
}

/// Checks that the windows of `hop()` are only passed through and grouped by, and are so at all. Elsewhere their number
/// would change the result, and the panes that they are evaluated on would show. Answers whether there is a `hop()`.
pub(super) fn check_hop(group_exprs: &[Expr], aggregate_exprs: &[Expr], input: &LogicalPlan, words: &Words) -> Result<bool, Problem> {
    let at = words.find("hop");
    let mut calls = 0;
    let tainted = taint(input, at, &mut calls)?;
    for group in group_exprs {
        if plain_column(group).is_none() && touches_hop(group, input, &tainted) {
            return Err(misused(at));
        }
    }
    if aggregate_exprs.iter().any(|expr| touches_hop(expr, input, &tainted)) {
        return Err(misused(at));
    }
    if calls == 0 {
        return Ok(false);
    }
    let grouped = group_exprs.iter().filter(|group| touches_hop(group, input, &tainted)).count();
    if calls > 1 || grouped != 1 {
        return Err(Problem::new(at, "a view has one hop(), and groups by its windows").help("write GROUP BY with the column of unnest(hop(…)), once"));
    }
    Ok(true)
}

fn misused(at: Location) -> Problem {
    Problem::new(at, "the windows of hop() can only be selected and grouped by")
        .help("select unnest(hop(…)) AS slot in a subquery of its own; use the time column itself in expressions")
}

fn plain_column(expr: &Expr) -> Option<&datafusion::common::Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => plain_column(&alias.expr),
        _ => None,
    }
}

fn is_hop(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => is_hop(&alias.expr),
        Expr::ScalarFunction(call) => call.func.name() == "hop",
        _ => false,
    }
}

/// Which columns of a plan hold windows of `hop()`.
fn taint(plan: &LogicalPlan, at: Location, calls: &mut usize) -> Result<Vec<bool>, Problem> {
    match plan {
        LogicalPlan::Projection(node) => {
            let below = taint(&node.input, at, calls)?;
            let mut tainted = Vec::with_capacity(node.expr.len());
            for expr in &node.expr {
                let touches = touches_hop(expr, &node.input, &below);
                if is_hop(expr) {
                    *calls += 1;
                } else if touches && plain_column(expr).is_none() {
                    return Err(misused(at));
                }
                tainted.push(touches);
            }
            Ok(tainted)
        }
        LogicalPlan::Filter(node) => {
            let below = taint(&node.input, at, calls)?;
            if touches_hop(&node.predicate, &node.input, &below) { Err(misused(at)) } else { Ok(below) }
        }
        LogicalPlan::Unnest(node) => {
            let below = taint(&node.input, at, calls)?;
            Ok(node.dependency_indices.iter().map(|column| below.get(*column).copied().unwrap_or(false)).collect())
        }
        LogicalPlan::SubqueryAlias(node) => taint(&node.input, at, calls),
        other => Ok(vec![false; other.schema().fields().len()]),
    }
}

fn touches_hop(expr: &Expr, input: &LogicalPlan, tainted: &[bool]) -> bool {
    let mut touches = false;
    let visited: Result<TreeNodeRecursion> = expr.apply(|node| {
        touches |= match node {
            Expr::ScalarFunction(call) => call.func.name() == "hop",
            Expr::Column(column) => input.schema().index_of_column(column).ok().and_then(|index| tainted.get(index).copied()).unwrap_or(false),
            _ => false,
        };
        Ok(TreeNodeRecursion::Continue)
    });
    touches || visited.map_err(|error| clean(&error)).is_err()
}
