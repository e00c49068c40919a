//! `WITH (…)`: the options of a view.

use datafusion::sql::sqlparser::ast::{Expr, Ident, SqlOption, Value};
use datafusion::sql::sqlparser::tokenizer::Location;

use super::ViewOptions;
use super::checks;
use super::dashboard::{self, Written};
use super::error::{Problem, nearest};
use super::statement::Words;
use crate::source::parse_duration_us;
use crate::table::Order;

const NAMES: [&str; 6] = ["partition_key", "clustering", "lateness", "accept_late", "keep", "unbounded"];

/// The options, and where the ones that later checks speak of are written.
pub(super) struct Placed {
    pub options: ViewOptions,
    pub partition_key_at: Location,
    pub clustering_at: Location,
    pub keep_at: Location,
    /// How the view is to be drawn.
    pub dashboard: Vec<Written>,
    /// What its rows are held to.
    pub checks: Vec<Written>,
}

/// Reads the options of a view.
pub(super) fn read(options: &[SqlOption], words: &Words) -> Result<Placed, Problem> {
    let mut read = ViewOptions {
        partition_key: Vec::new(),
        clustering: Vec::new(),
        lateness_us: None,
        accept_late_us: None,
        keep_us: None,
        unbounded: false,
    };
    let mut places: Vec<(String, Location)> = Vec::new();
    let (mut drawn, mut checked) = (Vec::new(), Vec::new());
    for option in options {
        let SqlOption::KeyValue { key, value } = option else {
            return Err(Problem::new(words.query, format!("{option} is not an option")).help("write options as name = 'value'"));
        };
        let name = key.value.to_lowercase();
        if places.iter().any(|(seen, _)| *seen == name) {
            return Err(Problem::new(key.span.start, format!("the option {name} is given twice")));
        }
        match name.as_str() {
            "partition_key" => read.partition_key = partition_key(key, &text(key, value)?)?,
            "clustering" => read.clustering = clustering(key, &text(key, value)?)?,
            "lateness" => read.lateness_us = Some(duration(key, &text(key, value)?)?),
            "accept_late" => read.accept_late_us = Some(duration(key, &text(key, value)?)?),
            "keep" => read.keep_us = Some(duration(key, &text(key, value)?)?),
            "unbounded" => read.unbounded = boolean(key, value)?,
            known if dashboard::NAMES.contains(&known) => {
                drawn.push(written(&name, key, value)?);
            }
            check if checks::is_one(check) => checked.push(written(&name, key, value)?),
            _ => {
                let problem = Problem::new(key.span.start, format!("unknown option {name}"));
                return Err(match nearest(&name, NAMES.into_iter().chain(dashboard::NAMES).chain(checks::NAMES)) {
                    Some(known) => problem.help(format!("did you mean {known}?")),
                    None => problem.help(format!(
                        "the options are {}, {}, audit_<name>, and {}",
                        NAMES.join(", "),
                        checks::NAMES.join(", "),
                        dashboard::NAMES.join(", ")
                    )),
                });
            }
        }
        places.push((name, key.span.start));
    }
    let place = |name: &str| places.iter().find(|(seen, _)| seen == name).map_or(words.query, |(_, at)| *at);
    if read.partition_key.is_empty() {
        return Err(Problem::new(words.query, "the option partition_key is missing")
            .help("write WITH (partition_key = 'a, b', …): the columns that a read names"));
    }
    Ok(Placed {
        options: read,
        partition_key_at: place("partition_key"),
        clustering_at: place("clustering"),
        keep_at: place("keep"),
        dashboard: drawn,
        checks: checked,
    })
}

fn written(name: &str, key: &Ident, value: &Expr) -> Result<Written, Problem> {
    let text_at = match value {
        Expr::Value(value) => value.span.start,
        _ => key.span.start,
    };
    Ok(Written { name: name.to_owned(), at: key.span.start, text: text(key, value)?, text_at })
}

fn text(key: &Ident, value: &Expr) -> Result<String, Problem> {
    match value {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Ok(text.clone()),
            other => Err(quoted(key, &other.to_string())),
        },
        other => Err(quoted(key, &other.to_string())),
    }
}

fn quoted(key: &Ident, found: &str) -> Problem {
    Problem::new(key.span.start, format!("{} takes a text in single quotes, not {found}", key.value))
        .help(format!("write {} = '…'", key.value))
}

fn boolean(key: &Ident, value: &Expr) -> Result<bool, Problem> {
    match value.to_string().trim_matches('\'').to_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err(Problem::new(key.span.start, format!("{} is true or false, not {other}", key.value))),
    }
}

fn duration(key: &Ident, text: &str) -> Result<i64, Problem> {
    parse_duration_us(text).ok_or_else(|| {
        Problem::new(key.span.start, format!("{}: {text:?} is not a duration", key.value))
            .help("write a number and a unit, for instance '10 seconds' or '1 day'")
    })
}

fn partition_key(key: &Ident, text: &str) -> Result<Vec<String>, Problem> {
    let columns: Vec<String> = text.split(',').map(|column| column.trim().to_owned()).collect();
    check_columns(key, text, &columns)?;
    Ok(columns)
}

fn clustering(key: &Ident, text: &str) -> Result<Vec<(String, Order)>, Problem> {
    let mut columns = Vec::new();
    for entry in text.split(',') {
        let mut words = entry.split_whitespace();
        let column = words.next().unwrap_or_default().to_owned();
        let order = match words.next().map(str::to_lowercase).as_deref() {
            None | Some("asc") => Order::Asc,
            Some("desc") => Order::Desc,
            Some(other) => {
                return Err(Problem::new(key.span.start, format!("clustering: {other:?} is not an order")).help("write ASC or DESC"));
            }
        };
        if let Some(extra) = words.next() {
            return Err(Problem::new(key.span.start, format!("clustering: unexpected {extra:?}"))
                .help("write columns with ASC or DESC, separated by commas"));
        }
        columns.push((column, order));
    }
    check_columns(key, text, &columns.iter().map(|(column, _)| column.clone()).collect::<Vec<_>>())?;
    Ok(columns)
}

fn check_columns(key: &Ident, text: &str, columns: &[String]) -> Result<(), Problem> {
    if columns.iter().any(String::is_empty) {
        return Err(Problem::new(key.span.start, format!("{}: {text:?} is not a list of columns", key.value))
            .help("separate columns by single commas"));
    }
    for (place, column) in columns.iter().enumerate() {
        if columns.iter().take(place).any(|earlier| earlier == column) {
            return Err(Problem::new(key.span.start, format!("{}: the column {column} is named twice", key.value)));
        }
    }
    Ok(())
}
