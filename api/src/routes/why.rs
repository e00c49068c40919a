//! `GET /v1/views/{view}/why`: the events behind a row.
//!
//! They hold what was posted, which no view may show: who may not administrate may not read them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use datafusion::scalar::ScalarValue;
use refold_processor::decode::SchemaLookup;
use refold_processor::json;
use refold_processor::log::Log;
use refold_processor::scalar;
use refold_processor::source::Source;
use refold_processor::store::PartitionRead;
use refold_processor::table::Table;
use refold_processor::view::View;
use refold_versions::why::{Event, News, Place, Wanted, WhyError};
use serde_json::{Value, json};

use crate::lines::{self, Lines};
use crate::parameters::parse_version;
use crate::problem::Problem;
use crate::reading::Reading;
use crate::work::blocking;

/// Where events are read again.
pub struct History {
    /// The log.
    pub log: Arc<dyn Log>,
    /// Writer schemas.
    pub schemas: Arc<dyn SchemaLookup>,
}

/// How many events are shown when nothing else is asked for.
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000_000;
/// How often it is said how far the search is.
const EVERY: Duration = Duration::from_millis(500);
/// Rows of a page while the row is looked for.
const PAGE: usize = 1_000;

/// What is asked for.
struct Asked {
    version: Option<refold_processor::table::Version>,
    limit: usize,
    /// Values by the names of columns.
    values: Vec<(String, String)>,
}

/// `GET /v1/views/{view}/why`: lines `{"event": …}` and `{"going": …}`, and the last one `{"done": …}`.
pub async fn find(
    State(reading): State<Arc<Reading>>,
    State(history): State<Arc<History>>,
    Path(view): Path<String>,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let asked = asked(parameters)?;
    let (planned, source, wanted, limit, version) = blocking(move || {
        let (record, planned) = reading.version(&view, asked.version)?;
        let table = reading.views.table(&record)?;
        let given = given(&planned, &asked.values)?;
        let row = row(&reading, &table, &planned, &given)?;
        let mut value = |column: usize| given.get(&column).or_else(|| row.get(&column)).cloned();
        let wanted = Wanted::new(&planned, &mut value).map_err(problem)?.until(record.controls.until_ms);
        let source = reading.views.sources.get(&planned.source).cloned();
        let source = source.ok_or_else(|| Problem::not_found(format!("source {} is not declared any more", planned.source)))?;
        Ok((planned, source, wanted, asked.limit, record.version))
    })
    .await?;
    Ok(lines::answer(move |lines| run(&history, &planned, &source, &wanted, limit, version.0, lines)))
}

#[allow(clippy::disallowed_methods, reason = "paces what is said, and reaches no row")]
fn run(
    history: &History,
    view: &Arc<View>,
    source: &Source,
    wanted: &Wanted,
    limit: usize,
    version: u32,
    lines: &Lines,
) -> Result<(), Problem> {
    let place = Place { log: history.log.as_ref(), schemas: history.schemas.clone(), source, view };
    let (mut found, mut applied, mut told) = (0_usize, 0_usize, Instant::now());
    let searched = refold_versions::why::find(&place, wanted, &mut |news| match news {
        News::Event(event) => {
            found += 1;
            applied += usize::from(event.rejected.is_none());
            // Those beyond are counted.
            found > limit || lines.send(&json!({ "event": document(&event, &source.topic) })).is_ok()
        }
        News::Going { read, of } if told.elapsed() >= EVERY => {
            told = Instant::now();
            lines.send(&json!({ "going": { "read": read, "of": of, "found": found } })).is_ok()
        }
        News::Going { .. } => !lines.is_gone(),
    });
    let from = match searched {
        Ok(from) => from,
        Err(WhyError::Stopped) => return Ok(()),
        Err(error) => return Err(problem(error)),
    };
    let done = json!({ "version": version, "found": found, "applied": applied, "shown": found.min(limit), "log_start": json::cut(&from) });
    // Whoever has hung up needs no end.
    let _ = lines.send(&json!({ "done": done }));
    Ok(())
}

fn document(event: &Event, topic: &str) -> Value {
    let mut document = json!({
        "topic": topic,
        "partition": event.partition.0,
        "offset": event.offset.0,
        "record_time": json::millis(event.record_time_ms),
        "applied": event.rejected.is_none(),
        "value": event.value,
    });
    if let (Some(members), Some(rejected)) = (document.as_object_mut(), &event.rejected) {
        members.insert("reason".into(), rejected.reason.as_str().into());
        members.insert("detail".into(), rejected.detail.clone().into());
    }
    document
}

fn problem(error: WhyError) -> Problem {
    match error {
        WhyError::Log(error) => error.into(),
        WhyError::Decode(error) => error.into(),
        WhyError::View(error) => error.into(),
        WhyError::Key { .. } => Problem::parameter(error.to_string()),
        error => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The search was not finished", error.to_string()),
    }
}

fn asked(parameters: Vec<(String, String)>) -> Result<Asked, Problem> {
    let mut asked = Asked { version: None, limit: LIMIT_DEFAULT, values: Vec::new() };
    for (name, value) in parameters {
        let wrong = |expected: &str| Problem::parameter(format!("parameter {name}: {value:?} is not {expected}"));
        match name.as_str() {
            "version" => asked.version = Some(parse_version(&value).ok_or_else(|| wrong("the number of a version, such as 2"))?),
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                asked.limit = limit.ok_or_else(|| wrong(&format!("a number from 1 to {LIMIT_MAX}")))?;
            }
            _ => asked.values.push((name, value)),
        }
    }
    Ok(asked)
}

/// The values that the reader names, by column.
fn given(view: &View, values: &[(String, String)]) -> Result<HashMap<usize, ScalarValue>, Problem> {
    let columns = &view.shape.columns;
    let mut given = HashMap::new();
    for (name, text) in values {
        let Some((index, field)) = columns.column_with_name(name) else {
            let names: Vec<&str> = columns.fields().iter().map(|field| field.name().as_str()).collect();
            return Err(Problem::parameter(format!("view {} has no column {name}; there are: {}", view.name, names.join(", "))));
        };
        let value =
            scalar::parse(text, field.data_type()).map_err(|why| Problem::parameter(format!("parameter {name}: {text:?} {why}")))?;
        given.insert(index, value);
    }
    Ok(given)
}

/// The row that has the given key, by column. Nothing if the key is not whole, or there is no such row: an event that was never applied may be why.
fn row(reading: &Reading, table: &Table, view: &View, given: &HashMap<usize, ScalarValue>) -> Result<HashMap<usize, ScalarValue>, Problem> {
    let broken = |error: datafusion::error::DataFusionError| Problem::internal(format!("a row cannot be compared: {error}"));
    let partition: Option<Vec<ScalarValue>> = table.shape.partition_key.iter().map(|column| given.get(column).cloned()).collect();
    let Some(partition) = partition.filter(|_| view.shape.key_columns().all(|column| given.contains_key(&column))) else {
        return Ok(HashMap::new());
    };
    let mut read = PartitionRead { partition, from: None, to: None, limit: PAGE, cursor: None };
    loop {
        let page = reading.views.rows.read(table, &read)?;
        for row in 0..page.rows.num_rows() {
            let values: Vec<ScalarValue> = page
                .rows
                .columns()
                .iter()
                .map(|column| ScalarValue::try_from_array(column, row))
                .collect::<Result<_, _>>()
                .map_err(broken)?;
            if view.shape.key_columns().all(|column| values.get(column) == given.get(&column)) {
                return Ok(values.into_iter().enumerate().collect());
            }
        }
        match page.next {
            Some(next) => read.cursor = Some(next),
            None => return Ok(HashMap::new()),
        }
    }
}
