//! What a view's query may not contain, checked where it is written.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Distinct, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectName, ObjectNamePart, Query, Select, SetExpr,
    Spanned, TableFactor, TableWithJoins, Visit, Visitor,
};
use datafusion::sql::sqlparser::tokenizer::Location;

use super::error::{Problem, nearest};
use super::statement::{Words, normalized};

/// The deepest expression. Deeper ones exhaust the stack of those who evaluate them.
const MAX_DEPTH: usize = 200;

/// Checks the form of a query, and answers with the source that it reads.
pub(super) fn check(query: &Query, sources: &BTreeMap<String, SchemaRef>, words: &Words) -> Result<String, Problem> {
    let mut expressions = Expressions { depth: 0, words };
    if let ControlFlow::Break(problem) = query.visit(&mut expressions) {
        return Err(problem);
    }
    let mut forms = Forms { sources, words, named: Vec::new(), found: Vec::new() };
    forms.query(query)?;
    match forms.found.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Problem::new(words.query, "the view reads no source").help(known_sources(sources))),
        [_, _, ..] => {
            Err(Problem::new(words.query, "a view reads one source, once")
                .help("join when reading, or write the joined events into a source"))
        }
    }
}

fn known_sources(sources: &BTreeMap<String, SchemaRef>) -> String {
    format!("the sources are {}", sources.keys().map(String::as_str).collect::<Vec<_>>().join(", "))
}

struct Expressions<'a> {
    depth: usize,
    words: &'a Words,
}

impl Visitor for Expressions<'_> {
    type Break = Problem;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Problem> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return ControlFlow::Break(
                Problem::new(self.words.query, format!("an expression is nested more than {MAX_DEPTH} levels deep"))
                    .help("a long chain of OR can be written as x IN (…)"),
            );
        }
        match expr {
            Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => ControlFlow::Break(
                Problem::new(place(expr.span().start, self.words), "a subquery in an expression would be a second aggregate or a join")
                    .help("subqueries may stand in FROM"),
            ),
            Expr::BinaryOp { left, op: op @ (BinaryOperator::Arrow | BinaryOperator::LongArrow), right } => {
                ControlFlow::Break(arrow(&op.to_string(), &left.to_string(), &right.to_string(), place(expr.span().start, self.words)))
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn post_visit_expr(&mut self, _: &Expr) -> ControlFlow<Problem> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}

/// A field or an item in the words of other databases.
fn arrow(operator: &str, of: &str, part: &str, at: Location) -> Problem {
    let part = part.trim_matches('\'');
    Problem::new(at, format!("{operator} is no operator here"))
        .help(format!("a field of a record and a value of a map are written {of}['{part}']"))
}

fn place(at: Location, words: &Words) -> Location {
    if at.line == 0 { words.query } else { at }
}

struct Forms<'a> {
    sources: &'a BTreeMap<String, SchemaRef>,
    words: &'a Words,
    /// The names given by WITH.
    named: Vec<String>,
    found: Vec<String>,
}

impl Forms<'_> {
    fn query(&mut self, query: &Query) -> Result<(), Problem> {
        if let Some(with) = &query.with {
            if with.recursive {
                return Err(Problem::new(self.words.find("recursive"), "recursive queries have no end over a log"));
            }
            for table in &with.cte_tables {
                self.query(&table.query)?;
                self.named.push(normalized(&table.alias.name));
            }
        }
        if query.limit_clause.is_some() || query.fetch.is_some() {
            let at = if query.fetch.is_some() { self.words.last("fetch") } else { self.words.last("limit") };
            return Err(Problem::new(at, "LIMIT has no meaning for a view")
                .help("for the first k of each window write QUALIFY row_number() OVER (PARTITION BY slot ORDER BY …) <= k"));
        }
        if query.order_by.is_some() {
            // It belongs to DISTINCT ON, which is refused with what to write instead.
            if let SetExpr::Select(select) = query.body.as_ref() {
                self.distinct(select)?;
            }
            return Err(Problem::new(self.words.last("order"), "ORDER BY has no meaning for a table")
                .help("the order of rows is the option clustering = 'column DESC'"));
        }
        if query.for_clause.is_some()
            || query.settings.is_some()
            || query.format_clause.is_some()
            || !query.locks.is_empty()
            || !query.pipe_operators.is_empty()
        {
            return Err(Problem::new(self.words.query, "this form of query is not supported")
                .help("write SELECT … FROM … WHERE … GROUP BY … HAVING …"));
        }
        self.body(&query.body)
    }

    fn body(&mut self, body: &SetExpr) -> Result<(), Problem> {
        match body {
            SetExpr::Select(select) => self.select(select),
            SetExpr::Query(query) => self.query(query),
            SetExpr::SetOperation { op, .. } => {
                let word = op.to_string();
                Err(Problem::new(self.words.find(&word), format!("{word} is not supported"))
                    .help("make a view of each part, or choose rows with WHERE"))
            }
            _ => Err(Problem::new(self.words.query, "a view is a SELECT").help("write SELECT … FROM source GROUP BY …")),
        }
    }

    fn select(&mut self, select: &Select) -> Result<(), Problem> {
        let at = select.select_token.0.span.start;
        self.distinct(select)?;
        let foreign = select.top.is_some()
            || select.into.is_some()
            || select.exclude.is_some()
            || select.prewhere.is_some()
            || select.value_table_mode.is_some()
            || !select.lateral_views.is_empty()
            || !select.connect_by.is_empty()
            || !select.cluster_by.is_empty()
            || !select.distribute_by.is_empty()
            || !select.sort_by.is_empty();
        if foreign {
            return Err(Problem::new(at, "this form of SELECT is not supported").help("write SELECT … FROM … WHERE … GROUP BY … HAVING …"));
        }
        match select.from.as_slice() {
            [] => Err(Problem::new(at, "SELECT without FROM").help(known_sources(self.sources))),
            [one] => self.table(one),
            [_, second, ..] => Err(self.second(&second.relation, second.span().start)),
        }
    }

    fn distinct(&self, select: &Select) -> Result<(), Problem> {
        let at = self.words.find("distinct");
        match &select.distinct {
            None | Some(Distinct::All) => Ok(()),
            Some(Distinct::On(_)) => Err(Problem::new(at, "SELECT DISTINCT ON is a second aggregate")
                .help("GROUP BY the columns and take first_value(x ORDER BY time, id) or last_value(x ORDER BY time, id) of the others")),
            Some(_) => Err(Problem::new(at, "SELECT DISTINCT is a second aggregate")
                .help("GROUP BY the columns and add an aggregate such as count(*)")),
        }
    }

    /// A second table in FROM.
    fn second(&self, table: &TableFactor, at: Location) -> Problem {
        match table {
            TableFactor::UNNEST { .. } | TableFactor::Derived { lateral: true, .. } | TableFactor::Function { .. } => {
                Problem::new(place(at, self.words), "a list is unnested in SELECT, not in FROM")
                    .help("write FROM (SELECT unnest(list) AS item, … FROM source)")
            }
            _ => self.joined(at),
        }
    }

    fn joined(&self, at: Location) -> Problem {
        Problem::new(place(at, self.words), "joins are not supported: their state would be all events of both sides")
            .help("make a view of each source and join when reading, or write the joined events into a source")
    }

    fn table(&mut self, table: &TableWithJoins) -> Result<(), Problem> {
        if let Some(join) = table.joins.first() {
            let at = self.words.find("join");
            return Err(self.second(&join.relation, if at == self.words.query { join.span().start } else { at }));
        }
        match &table.relation {
            TableFactor::Derived { lateral: false, subquery, sample: None, .. } => self.query(subquery),
            TableFactor::Table { name, args: None, sample: None, with_ordinality: false, version: None, json_path: None, .. } => {
                self.source(name)
            }
            other => {
                Err(Problem::new(place(other.span().start, self.words), "FROM takes a source or a subquery")
                    .help(known_sources(self.sources)))
            }
        }
    }

    fn source(&mut self, name: &ObjectName) -> Result<(), Problem> {
        let at = place(name.span().start, self.words);
        let [ObjectNamePart::Identifier(ident)] = name.0.as_slice() else {
            return Err(Problem::new(at, format!("unknown source {name}")).help(known_sources(self.sources)));
        };
        let name = normalized(ident);
        if self.named.contains(&name) {
            return Ok(());
        }
        if !self.sources.contains_key(&name) {
            let problem = Problem::new(at, format!("unknown source {name}"));
            return Err(match nearest(&name, self.sources.keys().map(String::as_str)) {
                Some(known) => problem.help(format!("did you mean {known}? {}", known_sources(self.sources))),
                None => problem.help(known_sources(self.sources)),
            });
        }
        self.found.push(name);
        Ok(())
    }
}

/// Refuses unknown functions, with the nearest known one.
pub(super) fn check_functions(query: &Query, state: &SessionState) -> Result<(), Problem> {
    match query.visit(&mut Functions { state }) {
        ControlFlow::Break(problem) => Err(problem),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Functions<'a> {
    state: &'a SessionState,
}

impl Visitor for Functions<'_> {
    type Break = Problem;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Problem> {
        let Expr::Function(call) = expr else { return ControlFlow::Continue(()) };
        let name = call.name.to_string().to_lowercase();
        let state = self.state;
        // Functions that the planner itself knows.
        const BUILT_IN: [&str; 4] = ["unnest", "struct", "row", "array"];
        let known = || {
            let registered =
                state.scalar_functions().keys().chain(state.aggregate_functions().keys()).chain(state.window_functions().keys());
            registered.chain(state.higher_order_functions().keys()).map(String::as_str).chain(BUILT_IN)
        };
        if known().any(|function| function == name) {
            return match lambda(&call.args).filter(|_| !state.higher_order_functions().contains_key(&name)) {
                Some((of, part, at)) => ControlFlow::Break(arrow("->", &of, &part, if at.line == 0 { call.name.span().start } else { at })),
                None => ControlFlow::Continue(()),
            };
        }
        let problem = Problem::new(call.name.span().start, format!("unknown function {name}()"));
        if let Some((_, instead)) = INSTEAD.iter().find(|(names, _)| names.contains(&name.as_str())) {
            return ControlFlow::Break(problem.help(*instead));
        }
        ControlFlow::Break(match nearest(&name, known()) {
            Some(near) => problem.help(format!("did you mean {near}()?")),
            None => problem.help(
                "functions are those of DataFusion over numbers, texts, dates, lists and regular expressions, and hashtags(), mentions(), tumble(), hop()",
            ),
        })
    }
}

/// `r->x` as an argument reads as a function of `r`.
fn lambda(arguments: &FunctionArguments) -> Option<(String, String, Location)> {
    let FunctionArguments::List(list) = arguments else { return None };
    list.args.iter().find_map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Lambda(lambda))) => {
            Some((lambda.params.to_string(), lambda.body.to_string(), lambda.body.span().start))
        }
        _ => None,
    })
}

/// Functions of other databases, and what there is in place of them.
const INSTEAD: [(&[&str], &str); 8] = [
    (
        &["topk", "topkdistinct", "top_k", "approx_top_k"],
        "rank the groups: QUALIFY row_number() OVER (PARTITION BY slot ORDER BY count(*) DESC, key) <= k",
    ),
    (&["max_by", "arg_max", "argmax"], "write last_value(x ORDER BY y): the x of the greatest y"),
    (&["min_by", "arg_min", "argmin"], "write first_value(x ORDER BY y): the x of the least y"),
    (&["latest_by_offset", "latest"], "write last_value(x ORDER BY time, id)"),
    (&["earliest_by_offset", "earliest"], "write first_value(x ORDER BY time, id)"),
    (
        &["mode"],
        "count the values and rank them: GROUP BY slot, x QUALIFY row_number() OVER (PARTITION BY slot ORDER BY count(*) DESC, x) <= 1",
    ),
    (&["count_if", "countif"], "write count(*) FILTER (WHERE …)"),
    (
        &["tumble_start", "tumble_end", "hop_start", "hop_end", "window_start", "window_end", "windowstart", "windowend"],
        "a window's start is tumble(time, INTERVAL '5 minutes') itself, and its end that plus the interval",
    ),
];
