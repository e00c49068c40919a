//! `GET /v1/views/{view}/rows`: rows of one partition of one version.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use datafusion::arrow::array::types::Int64Type;
use datafusion::arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use datafusion::arrow::compute::{cast, filter_record_batch};
use datafusion::arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::scalar::ScalarValue;
use refold_processor::engine::worker::first_to_serve;
use refold_processor::json;
use refold_processor::store::catalogue::{VersionRecord, VersionState};
use refold_processor::store::{PartitionRead, RowReader, StoreError};
use refold_processor::table::{Table, TableShape, Version};
use refold_processor::view::View;
use serde_json::{Value, json};

use crate::key::{describe, parse};
use crate::problem::Problem;
use crate::state::{ApiState, blocking};
use crate::views::{building_document, versions_of};

/// Parameters that are not columns.
const RESERVED: [&str; 5] = ["from", "to", "limit", "cursor", "version"];
/// A column whose name is reserved is named with this before it.
const COLUMN_PREFIX: &str = "key.";
/// When a reader that came too early should come again, seconds.
const RETRY_AFTER_S: u64 = 5;

/// `GET /v1/views/{view}/rows`
pub async fn read(
    State(state): State<ApiState>,
    Path(view): Path<String>,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Result<impl IntoResponse, Problem> {
    let text = blocking(move || answer(&state, &view, &parameters)).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text))
}

/// The name of the parameter for a column of the partition key.
pub(crate) fn parameter(column: &str) -> String {
    if RESERVED.contains(&column) { format!("{COLUMN_PREFIX}{column}") } else { column.to_owned() }
}

/// What the reader asked for, before it is known of which columns.
#[derive(Debug, Default, PartialEq)]
struct Asked<'a> {
    from: Option<&'a str>,
    to: Option<&'a str>,
    limit: Option<usize>,
    version: Option<Version>,
    cursor: Option<Cursor>,
    columns: Vec<(&'a str, &'a str)>,
}

/// Where a page ended: it is of one version, which the following pages are of too, even after a switch.
#[derive(Clone, Debug, PartialEq)]
struct Cursor {
    version: Version,
    at: Bytes,
}

impl Cursor {
    fn parse(text: &str) -> Option<Cursor> {
        let (version, at) = text.split_once('.')?;
        Some(Cursor { version: parse_version(version)?, at: URL_SAFE_NO_PAD.decode(at).ok()?.into() })
    }

    fn text(&self) -> String {
        format!("{}.{}", self.version, URL_SAFE_NO_PAD.encode(&self.at))
    }
}

/// `7` or `v7`.
pub(crate) fn parse_version(text: &str) -> Option<Version> {
    text.strip_prefix('v').unwrap_or(text).parse().ok().map(Version)
}

fn asked(parameters: &[(String, String)]) -> Result<Asked<'_>, Problem> {
    let mut asked = Asked::default();
    let mut seen = Vec::new();
    for (name, value) in parameters {
        if seen.contains(&name) {
            return Err(Problem::parameter(format!("parameter {name} is there twice")));
        }
        seen.push(name);
        let wrong = |expected: &str| Problem::parameter(format!("parameter {name}: {value:?} is not {expected}"));
        match name.as_str() {
            "from" => asked.from = Some(value),
            "to" => asked.to = Some(value),
            "limit" => asked.limit = Some(value.parse().ok().filter(|limit| *limit > 0).ok_or_else(|| wrong("a number of rows, from 1"))?),
            "version" => asked.version = Some(parse_version(value).ok_or_else(|| wrong("the number of a version, such as 2"))?),
            "cursor" => asked.cursor = Some(Cursor::parse(value).ok_or_else(|| wrong("a next_cursor that an answer has had"))?),
            column => asked.columns.push((column.strip_prefix(COLUMN_PREFIX).unwrap_or(column), value)),
        }
    }
    match (&asked.cursor, asked.version) {
        (Some(cursor), Some(version)) if cursor.version != version => {
            Err(Problem::parameter(format!("the cursor is of version {}, not of {version}: leave one of the two out", cursor.version)))
        }
        _ => Ok(asked),
    }
}

fn answer(state: &ApiState, view: &str, parameters: &[(String, String)]) -> Result<String, Problem> {
    page(state, &target(state, view, parameters)?)
}

/// What is read, of which version.
pub(crate) struct Target {
    /// The version.
    pub record: VersionRecord,
    /// Its view.
    pub planned: Arc<View>,
    /// Its table.
    pub table: Table,
    /// The part of the table.
    pub read: PartitionRead,
}

/// What the reader wants, of the version that this moment's pointer or the reader names.
pub(crate) fn target(state: &ApiState, view: &str, parameters: &[(String, String)]) -> Result<Target, Problem> {
    let asked = asked(parameters)?;
    let versions = versions_of(state, view)?;
    let record = resolve(state, view, &versions, asked.cursor.as_ref().map(|cursor| cursor.version).or(asked.version))?;
    let planned = state.planned(record)?;
    let table = Table { view: view.to_owned(), version: record.version, shape: planned.shape.clone() };
    let settings = &state.0.settings;
    let limit = asked.limit.unwrap_or(settings.rows_default);
    if limit > settings.rows_max {
        return Err(Problem::parameter(format!("parameter limit: {limit} is more than {}; read on with next_cursor", settings.rows_max)));
    }
    let read = partition_read(&planned.shape, &asked, limit)?;
    Ok(Target { record: record.clone(), planned, table, read })
}

/// A page of rows with its positions, as JSON text. Rows are serialized one by one, because JSON values take several times the memory of their text.
pub(crate) fn page(state: &ApiState, target: &Target) -> Result<String, Problem> {
    let Target { record, planned, table, .. } = target;
    let mut read = target.read.clone();
    let rows = state.0.ports.rows.as_ref();
    // Before the rows, so that they are at least as new as the positions say.
    let progress = rows.progress(table).map_err(|error| not_there(error, record))?.unwrap_or_default();
    if let Some(horizon_us) = progress.horizon_us {
        raise_from(&mut read, planned, horizon_us);
    }
    let page = read_page(rows, table, &read, record)?;
    let batch = match (progress.horizon_us, planned.window) {
        (Some(horizon_us), Some(window)) => kept(&page.rows, window.column, horizon_us)?,
        _ => page.rows,
    };
    let next = page.next.map(|at| Cursor { version: record.version, at }.text());
    let head = json!({
        "view": record.view,
        "version": record.version.0,
        "positions": json::cut(&progress.visible),
        "watermark": json::micros(progress.watermark_us),
    })
    .to_string();
    let mut text = head.strip_suffix('}').unwrap_or_default().to_owned();
    text.push_str(",\"rows\":[");
    for row in 0..batch.num_rows() {
        if row > 0 {
            text.push(',');
        }
        text.push_str(&json::object(&batch, row).to_string());
    }
    text.push_str("],\"next_cursor\":");
    text.push_str(&json!(next).to_string());
    text.push('}');
    Ok(text)
}

/// The version that is read: the one asked for, or the active one as the pointer is at this moment.
fn resolve<'a>(state: &ApiState, view: &str, versions: &'a [VersionRecord], wanted: Option<Version>) -> Result<&'a VersionRecord, Problem> {
    let version = match wanted {
        Some(version) => version,
        None => match state.0.ports.catalogue.active(view)? {
            Some(active) => active.version,
            None => return Err(nothing_active(state, view, versions)),
        },
    };
    record_of(view, versions, version)
}

/// The record of a version that is there.
pub(crate) fn record_of<'a>(view: &str, versions: &'a [VersionRecord], version: Version) -> Result<&'a VersionRecord, Problem> {
    let Some(record) = versions.iter().find(|record| record.version == version) else {
        let known: Vec<u32> = versions.iter().map(|record| record.version.0).collect();
        let names: Vec<String> = versions.iter().map(|record| record.version.to_string()).collect();
        let detail = format!("view {view} has no version {version}; it has {}", names.join(", "));
        return Err(Problem::not_found(detail).with("versions", known));
    };
    if record.state == VersionState::Dropped {
        let detail = format!("version {version} of view {view} is dropped; read without version and cursor");
        return Err(Problem::new(StatusCode::GONE, "dropped", "The version is gone", detail));
    }
    Ok(record)
}

fn nothing_active(state: &ApiState, view: &str, versions: &[VersionRecord]) -> Problem {
    let running = state.running();
    let first = first_to_serve(None, versions.iter().map(|record| (record.version, &record.state)));
    let first = first.and_then(|first| versions.iter().find(|record| record.version == first));
    let first = first.or_else(|| versions.iter().rfind(|record| record.state != VersionState::Dropped)).map(|record| {
        let run = running.iter().find(|run| run.view == view && run.version == Some(record.version));
        (record, run)
    });
    let waits_for = first.and_then(|(record, run)| state.waits_for(record, run));
    let why = waits_for.unwrap_or_else(|| "its first one is being built from the log".to_owned());
    let detail = format!("no version of view {view} is in service yet: {why}; ask again in a moment");
    let progress = first.map(|(record, run)| building_document(run, record.version, &record.state));
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "building", "The view is being built", detail)
        .with("progress", progress)
        .retry_after_s(RETRY_AFTER_S)
}

fn partition_read(shape: &TableShape, asked: &Asked<'_>, limit: usize) -> Result<PartitionRead, Problem> {
    let key: Vec<&Field> = shape.partition_key.iter().filter_map(|column| shape.columns.fields().get(*column)).map(AsRef::as_ref).collect();
    let known = || -> Vec<String> { key.iter().map(|field| parameter(field.name())).chain(RESERVED.map(str::to_owned)).collect() };
    if let Some((unknown, _)) = asked.columns.iter().find(|(name, _)| !key.iter().any(|field| field.name() == name)) {
        let known = known();
        let detail = format!("there is no parameter {unknown}; there are: {}", known.join(", "));
        return Err(Problem::parameter(detail).with("parameters", known));
    }
    let mut partition = Vec::with_capacity(key.len());
    for field in &key {
        let Some((_, text)) = asked.columns.iter().find(|(name, _)| field.name() == name) else {
            let (name, known) = (parameter(field.name()), known());
            let detail = format!("parameter {name} is missing: the partition to read, {}", describe(field.data_type()));
            return Err(Problem::parameter(detail).with("parameters", known));
        };
        partition.push(parsed(&parameter(field.name()), text, field.data_type())?);
    }
    let first = shape.clustering.first().and_then(|(column, _)| shape.columns.fields().get(*column));
    let bound = |name: &str, text: Option<&str>| match (text, first) {
        (None, _) => Ok(None),
        (Some(text), Some(field)) => parsed(name, text, field.data_type()).map(Some),
        (Some(_), None) => Err(Problem::parameter(format!("parameter {name}: rows of this view have no order, a partition is one row"))),
    };
    let (from, to) = (bound("from", asked.from)?, bound("to", asked.to)?);
    Ok(PartitionRead { partition, from, to, limit, cursor: asked.cursor.as_ref().map(|cursor| cursor.at.clone()) })
}

fn parsed(name: &str, text: &str, data_type: &DataType) -> Result<ScalarValue, Problem> {
    parse(text, data_type).map_err(|error| Problem::parameter(format!("parameter {name}: {text:?} {error}")))
}

/// Where rows are ordered by their window, those past the view's `keep` need not be read at all.
fn raise_from(read: &mut PartitionRead, view: &View, horizon_us: i64) {
    let (Some(window), Some((first, _))) = (view.window, view.shape.clustering.first()) else { return };
    if window.column != *first {
        return;
    }
    let Some(field) = view.shape.columns.fields().get(*first) else { return };
    let Some(horizon) = instant(horizon_us, field.data_type()) else { return };
    if read.from.as_ref().is_none_or(|from| *from < horizon) {
        read.from = Some(horizon);
    }
}

/// The first instant of a timestamp column that is not before `time_us`.
fn instant(time_us: i64, data_type: &DataType) -> Option<ScalarValue> {
    let DataType::Timestamp(unit, zone) = data_type else { return None };
    let ceiling = |each: i64| time_us.checked_add(each - 1).map(|time| time.div_euclid(each));
    Some(match unit {
        TimeUnit::Second => ScalarValue::TimestampSecond(Some(ceiling(1_000_000)?), zone.clone()),
        TimeUnit::Millisecond => ScalarValue::TimestampMillisecond(Some(ceiling(1_000)?), zone.clone()),
        TimeUnit::Microsecond => ScalarValue::TimestampMicrosecond(Some(time_us), zone.clone()),
        TimeUnit::Nanosecond => ScalarValue::TimestampNanosecond(Some(time_us.checked_mul(1_000)?), zone.clone()),
    })
}

fn read_page(
    rows: &dyn RowReader,
    table: &Table,
    read: &PartitionRead,
    record: &VersionRecord,
) -> Result<refold_processor::store::Page, Problem> {
    rows.read(table, read).map_err(|error| match error {
        // The one part of a read that the reader made up itself and that nothing before could judge.
        StoreError::Broken(message) if read.cursor.is_some() => Problem::parameter(format!("parameter cursor: {message}")),
        error => not_there(error, record),
    })
}

fn not_there(error: StoreError, record: &VersionRecord) -> Problem {
    match error {
        StoreError::UnknownTable(_) => {
            let detail = format!("version {} of view {} has no rows yet: it is about to be built", record.version, record.view);
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "building", "The version is being built", detail).retry_after_s(RETRY_AFTER_S)
        }
        error => error.into(),
    }
}

/// The rows that are not past the view's `keep`.
fn kept(rows: &RecordBatch, column: usize, horizon_us: i64) -> Result<RecordBatch, Problem> {
    let broken = |error: datafusion::arrow::error::ArrowError| Problem::internal(format!("rows cannot be filtered by time: {error}"));
    let Some(starts) = rows.columns().get(column) else { return Ok(rows.clone()) };
    let DataType::Timestamp(_, zone) = starts.data_type() else { return Ok(rows.clone()) };
    let micros = cast(starts, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone())).map_err(broken)?;
    let micros = cast(&micros, &DataType::Int64).map_err(broken)?;
    let micros = micros.as_primitive::<Int64Type>();
    let is_kept: BooleanArray = (0..micros.len()).map(|row| Some(micros.is_null(row) || micros.value(row) >= horizon_us)).collect();
    filter_record_batch(rows, &is_kept).map_err(broken)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

    use datafusion::arrow::array::TimestampMillisecondArray;
    use datafusion::arrow::datatypes::Schema;
    use refold_processor::table::Order;

    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn shape() -> TableShape {
        let slot = DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into()));
        let columns = Schema::new(vec![Field::new("limit", DataType::Utf8, false), Field::new("slot", slot, false)]);
        TableShape { columns: Arc::new(columns), partition_key: vec![0], clustering: vec![(1, Order::Desc)] }
    }

    fn detail(problem: Problem) -> String {
        problem.document()["detail"].as_str().unwrap().to_owned()
    }

    #[test]
    fn a_column_whose_name_is_reserved_is_named_with_a_prefix() {
        let parameters = pairs(&[("key.limit", "rust"), ("limit", "7"), ("from", "1970-01-02")]);
        let read = partition_read(&shape(), &asked(&parameters).unwrap(), 7).unwrap();
        assert_eq!(read.partition, [ScalarValue::Utf8(Some("rust".into()))]);
        assert_eq!(read.from, Some(ScalarValue::TimestampMillisecond(Some(86_400_000), Some("+00:00".into()))));
        assert_eq!(parameter("limit"), "key.limit");
        assert_eq!(parameter("hashtag"), "hashtag");
    }

    #[test]
    fn wrong_parameters_are_told_with_the_right_ones() {
        let parameters = pairs(&[("hashtag", "rust")]);
        let told = partition_read(&shape(), &asked(&parameters).unwrap(), 1).unwrap_err().document();
        assert_eq!(told["parameters"], json!(["key.limit", "from", "to", "limit", "cursor", "version"]));
        let missing = partition_read(&shape(), &asked(&[]).unwrap(), 1).unwrap_err();
        assert!(detail(missing).contains("parameter key.limit is missing"));
        for (name, value) in [("limit", "0"), ("limit", "many"), ("version", "new"), ("cursor", "v1"), ("cursor", "v1.?")] {
            assert!(detail(asked(&pairs(&[(name, value)])).unwrap_err()).contains(name), "{name}={value}");
        }
        assert!(detail(asked(&pairs(&[("from", "a"), ("from", "b")])).unwrap_err()).contains("twice"));
    }

    #[test]
    fn a_cursor_keeps_its_version() {
        let cursor = Cursor { version: Version(3), at: Bytes::from_static(&[0, 255]) };
        assert_eq!(Cursor::parse(&cursor.text()), Some(cursor.clone()));
        let with_other_version = pairs(&[("cursor", &cursor.text()), ("version", "4")]);
        assert!(detail(asked(&with_other_version).unwrap_err()).contains("version v3"));
    }

    #[test]
    fn rows_past_keep_are_not_answered() {
        let starts = TimestampMillisecondArray::from(vec![1, 2, 3]).with_timezone("+00:00");
        let batch = RecordBatch::try_from_iter([("slot", Arc::new(starts) as _)]).unwrap();
        let left = kept(&batch, 0, 1_001).unwrap();
        assert_eq!(left.num_rows(), 2, "a row that begins at or after the horizon is kept");
        let milliseconds = DataType::Timestamp(TimeUnit::Millisecond, None);
        assert_eq!(instant(1_001, &milliseconds), Some(ScalarValue::TimestampMillisecond(Some(2), None)));
        assert_eq!(instant(-1_001, &milliseconds), Some(ScalarValue::TimestampMillisecond(Some(-1), None)));
    }
}
