//! The table of a view: its columns, its key, and how a ranking is laid out.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::common::Column;
use datafusion::logical_expr::Expr;

use super::Ranking;
use super::above::{Above, RANK, RankBy, is_column};
use super::error::{Problem, nearest};
use super::options::Placed;
use super::statement::Words;
use super::storable::is_storable;
use crate::table::TableShape;

/// A GROUP BY column.
pub(super) struct Group {
    /// Its name in folded expressions.
    pub folded: String,
    /// Its name for people.
    pub name: String,
    pub data_type: DataType,
    /// Whether it is the window's start.
    pub window: bool,
}

/// The table's shape and its ranking. `types` are those of the outputs.
pub(super) fn shape(
    above: &Above<'_>,
    types: &[DataType],
    groups: &[Group],
    placed: &Placed,
    words: &Words,
) -> Result<(TableShape, Option<Ranking>), Problem> {
    let names: Vec<&str> = above.outputs.iter().map(|(name, _)| name.as_str()).collect();
    check_outputs(&names, types, words)?;
    if let Some(group) = groups.iter().find(|group| group.data_type.is_floating()) {
        return Err(Problem::new(
            words.find(&group.name),
            format!("the GROUP BY column {} is a floating-point number, which makes no reliable key", group.name),
        )
        .help("group by floor(…) cast to BIGINT, or by a DECIMAL"));
    }
    // As they are: a table's type that holds less would make one row of several groups.
    if let Some(group) = groups.iter().find(|group| !is_storable(&plain_type(&group.data_type))) {
        return Err(Problem::new(
            words.find(&group.name),
            format!("the GROUP BY column {} has the type {}, which makes no key", group.name, group.data_type),
        )
        .help("cast it to a number, text, boolean, date or timestamp"));
    }

    let column = |name: &String, at| {
        names.iter().position(|known| known == name).ok_or_else(|| {
            let problem = Problem::new(at, format!("{name} is not a column of the view"));
            match nearest(name, names.iter().copied()) {
                Some(known) => problem.help(format!("did you mean {known}?")),
                None => problem.help(format!("its columns are {}", names.join(", "))),
            }
        })
    };
    let partition_key =
        placed.options.partition_key.iter().map(|name| column(name, placed.partition_key_at)).collect::<Result<Vec<usize>, _>>()?;
    let clustering = placed
        .options
        .clustering
        .iter()
        .map(|(name, order)| Ok((column(name, placed.clustering_at)?, *order)))
        .collect::<Result<Vec<_>, Problem>>()?;
    let key: Vec<usize> = partition_key.iter().copied().chain(clustering.iter().map(|(column, _)| *column)).collect();
    if let Some(twice) = clustering.iter().find(|(column, _)| partition_key.contains(column)).and_then(|(column, _)| names.get(*column)) {
        return Err(Problem::new(placed.clustering_at, format!("{twice} is both in partition_key and in clustering")).help("name it once"));
    }

    let ranking = match &above.rank {
        Some(rank) => Some(ranking(above, rank, groups, words)?),
        None => None,
    };
    let expected = match &ranking {
        Some(ranking) => ranking.within.iter().copied().chain([ranking.column]).map(|column| vec![column]).collect(),
        None => groups.iter().map(|group| holders(above, group, words)).collect::<Result<Vec<_>, _>>()?,
    };
    check_key(&key, &expected, &names, placed, ranking.is_some())?;

    let fields: Vec<Field> = names.iter().zip(types).map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect();
    Ok((TableShape { columns: Arc::new(Schema::new(fields)), partition_key, clustering }, ranking))
}

fn check_outputs(names: &[&str], types: &[DataType], words: &Words) -> Result<(), Problem> {
    for (place, (name, data_type)) in names.iter().zip(types).enumerate() {
        let mut letters = name.chars();
        let begins_well = letters.next().is_some_and(|letter| letter.is_ascii_alphabetic() || letter == '_');
        if !begins_well || !letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_') {
            return Err(Problem::new(words.query, format!("the column {name:?} has no proper name"))
                .help(format!("name it: {name} AS something, in letters, digits and _")));
        }
        if names.iter().take(place).any(|earlier| earlier.eq_ignore_ascii_case(name)) {
            return Err(
                Problem::new(words.nth(name, 1), format!("two columns are named {name}")).help("give one of them another name with AS")
            );
        }
        if !is_storable(data_type) {
            return Err(Problem::new(words.find(name), format!("the column {name} has the type {data_type}, which a table cannot hold"))
                .help("cast it to a number, text, boolean, date or timestamp"));
        }
    }
    Ok(())
}

/// The type of a column in a table: one for every kind of text and of bytes. A cast to it fails for what the type does not hold.
pub(super) fn table_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, value) => table_type(value),
        DataType::Date64 => DataType::Date32,
        // CQL's timestamps are milliseconds, and hold fewer seconds than 64 bits do.
        DataType::Timestamp(TimeUnit::Second, zone) => DataType::Timestamp(TimeUnit::Millisecond, zone.clone()),
        other => plain_type(other),
    }
}

/// The same, of types that hold the same values and no others.
fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => DataType::Decimal128(*precision, *scale),
        other => other.clone(),
    }
}

/// The outputs that hold a GROUP BY column as itself.
fn holders(above: &Above<'_>, group: &Group, words: &Words) -> Result<Vec<usize>, Problem> {
    let holders: Vec<usize> =
        above.outputs.iter().enumerate().filter(|(_, (_, expr))| is_column(expr, &group.folded)).map(|(place, _)| place).collect();
    if holders.is_empty() {
        return Err(Problem::new(
            words.last(group.name.split('(').next().unwrap_or_default()),
            format!("the GROUP BY column {} is not a column of the view, so different groups would be the same row", group.name),
        )
        .help(format!("add {} to SELECT and to partition_key or clustering, or group without it", group.name)));
    }
    Ok(holders)
}

/// Checks that every entry of `expected` is in the key by exactly one of its columns, and nothing else is.
fn check_key(key: &[usize], expected: &[Vec<usize>], names: &[&str], placed: &Placed, ranked: bool) -> Result<(), Problem> {
    let name = |column: usize| names.get(column).copied().unwrap_or_default();
    let whole: Vec<&str> = expected.iter().filter_map(|columns| columns.first()).map(|column| name(*column)).collect();
    let rule = if ranked { "the key of a ranking is the columns it ranks within and the rank" } else { "the key is the GROUP BY columns" };
    let help = format!("{rule}: {}", whole.join(", "));
    if let Some(extra) = key.iter().find(|column| !expected.iter().any(|columns| columns.contains(column))) {
        let at = if placed.options.partition_key.iter().any(|column| column == name(*extra)) {
            placed.partition_key_at
        } else {
            placed.clustering_at
        };
        return Err(Problem::new(at, format!("{} cannot be part of the key", name(*extra))).help(help));
    }
    for columns in expected {
        match columns.iter().filter(|column| key.contains(column)).count() {
            0 => {
                let missing = columns.first().map_or("", |column| name(*column));
                return Err(
                    Problem::new(placed.partition_key_at, format!("{missing} is missing from partition_key and clustering")).help(help)
                );
            }
            1 => {}
            _ => return Err(Problem::new(placed.partition_key_at, "two key columns hold the same GROUP BY column").help(help)),
        }
    }
    Ok(())
}

fn ranking(above: &Above<'_>, rank: &RankBy, groups: &[Group], words: &Words) -> Result<Ranking, Problem> {
    let at = words.find("over");
    let output = |wanted: &Expr| above.outputs.iter().position(|(_, expr)| expr == wanted);
    let rank_column = Expr::Column(Column::new_unqualified(RANK));
    let column = output(&rank_column).ok_or_else(|| {
        Problem::new(words.find("row_number"), "the rank is not a column of the view")
            .help("add row_number() OVER (…) AS rank to SELECT; rankings are stored by rank")
    })?;
    if above.outputs.iter().any(|(_, expr)| *expr != rank_column && expr.column_refs().iter().any(|column| column.name == RANK)) {
        return Err(Problem::new(at, "the rank can only be selected as it is").help("compute with it when reading"));
    }
    let mut within = Vec::new();
    for expr in &rank.within {
        let group = groups.iter().find(|group| is_column(expr, &group.folded));
        let group = group.ok_or_else(|| {
            Problem::new(at, "PARTITION BY takes GROUP BY columns").help("name columns of GROUP BY, the window's among them")
        })?;
        let place = output(expr).ok_or_else(|| {
            Problem::new(at, format!("{} is ranked within, but is not a column of the view", group.name))
                .help(format!("add {} to SELECT", group.name))
        })?;
        if !within.contains(&place) {
            within.push(place);
        }
    }
    if let Some(window) = groups.iter().find(|group| group.window && !rank.within.iter().any(|expr| is_column(expr, &group.folded))) {
        return Err(Problem::new(at, "the ranking is not within the window, so that it would never be final")
            .help(format!("add {} to PARTITION BY", window.name)));
    }
    let ordered = |group: &&Group| {
        !rank.within.iter().any(|expr| is_column(expr, &group.folded))
            && !rank.order.iter().any(|sort| is_column(&sort.expr, &group.folded))
    };
    if let Some(group) = groups.iter().find(ordered) {
        return Err(Problem::new(at, format!("the order of the ranking is not total: groups that differ in {} may tie", group.name))
            .help(format!("add {} to the ORDER BY of row_number()", group.name)));
    }
    Ok(Ranking { within, column, k: rank.k })
}
