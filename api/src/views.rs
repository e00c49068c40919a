//! `GET /v1/views` and `/v1/views/{view}`: what views there are, what they declare, and how fresh each version is.

use axum::Json;
use axum::extract::{Path, State};
use datafusion::arrow::datatypes::Field;
use refold_processor::engine::status::RunStatus;
use refold_processor::json::{cut, micros, millis};
use refold_processor::store::catalogue::{ActivePointer, VersionRecord, VersionState};
use refold_processor::store::{Progress, StoreError};
use refold_processor::table::{Order, Table, Version};
use refold_processor::view::{View, WindowSpec};
use serde_json::{Map, Value, json};

use crate::gate::ways_on;
use crate::problem::Problem;
use crate::state::{ApiState, blocking};

/// `GET /v1/views`
pub async fn list(State(state): State<ApiState>) -> Result<Json<Value>, Problem> {
    blocking(move || Ok(Json(json!({ "views": documents(&state)? })))).await
}

/// `GET /v1/views/{view}`
pub async fn one(State(state): State<ApiState>, Path(view): Path<String>) -> Result<Json<Value>, Problem> {
    blocking(move || {
        let running = state.running();
        Ok(Json(document(&state, &view, &running)?))
    })
    .await
}

/// All views.
pub(crate) fn documents(state: &ApiState) -> Result<Vec<Value>, Problem> {
    let running = state.running();
    let views = state.0.ports.catalogue.views()?;
    views.iter().map(|view| document(state, view, &running)).collect()
}

/// The versions of a view that exists.
pub(crate) fn versions_of(state: &ApiState, view: &str) -> Result<Vec<VersionRecord>, Problem> {
    let catalogue = &state.0.ports.catalogue;
    let versions = catalogue.versions(view)?;
    if versions.is_empty() {
        let known = catalogue.views()?;
        let problem = Problem::not_found(format!("there is no view {view}; there are: {}", or_none(&known)));
        return Err(problem.with("views", known));
    }
    Ok(versions)
}

/// Names for a sentence.
pub(crate) fn or_none(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

fn document(state: &ApiState, view: &str, running: &[RunStatus]) -> Result<Value, Problem> {
    let versions = versions_of(state, view)?;
    let active = state.0.ports.catalogue.active(view)?;
    let shown = shown_definition(&versions, active.as_ref());
    let mut document = Map::new();
    document.insert("view".into(), view.into());
    let active_json = active.as_ref().map(|active| {
        json!({
            "version": active.version.0,
            "previous": active.previous.map(|version| version.0),
            "since": millis(active.switched_ms),
            "by": active.switched_by,
            "reason": active.reason,
        })
    });
    document.insert("active".into(), active_json.into());
    let mut active_watermark_us = None;
    let mut version_documents = Vec::new();
    for record in &versions {
        let run = running.iter().find(|run| run.view == *view && run.version == Some(record.version));
        let progress = progress_of(state, record)?;
        if active.as_ref().is_some_and(|active| active.version == record.version) {
            active_watermark_us = progress.as_ref().and_then(|progress| progress.watermark_us);
        }
        let mut version_document = version_document(record, run, progress.as_ref(), state.waits_for(record, run));
        if let (VersionState::Failed { .. }, Some(members)) = (&record.state, version_document.as_object_mut()) {
            let is_active = active.as_ref().is_some_and(|active| active.version == record.version);
            let others = if is_active { versions.as_slice() } else { Default::default() };
            members.insert("way_on".into(), ways_on(record, others).into());
        }
        version_documents.push(version_document);
    }
    if let Some(record) = shown {
        match state.planned(record) {
            Ok(planned) => describe(&mut document, &planned, active_watermark_us),
            // One that no longer plans must not hide how far its versions are.
            Err(problem) => {
                document.insert("sql".into(), record.sql.clone().into());
                document.insert("problem".into(), problem.document());
            }
        }
    }
    document.insert("versions".into(), version_documents.into());
    Ok(document.into())
}

/// What is described is what readers get; before there is an active version, the newest one.
fn shown_definition<'a>(versions: &'a [VersionRecord], active: Option<&ActivePointer>) -> Option<&'a VersionRecord> {
    let served = active.and_then(|active| versions.iter().find(|record| record.version == active.version));
    served.or_else(|| versions.iter().rev().find(|record| record.state != VersionState::Dropped)).or(versions.last())
}

/// How far the table of a version is, as readers see it.
pub(crate) fn progress_of(state: &ApiState, record: &VersionRecord) -> Result<Option<Progress>, Problem> {
    if record.state == VersionState::Dropped {
        return Ok(None);
    }
    let Ok(planned) = state.planned(record) else { return Ok(None) };
    let table = Table { view: record.view.clone(), version: record.version, shape: planned.shape.clone() };
    match state.0.ports.rows.progress(&table) {
        Ok(progress) => Ok(progress),
        // Not created yet by the worker that takes the version, or created for a schema that has changed since, which reads of its rows report.
        Err(StoreError::UnknownTable(_) | StoreError::OtherShape { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn describe(document: &mut Map<String, Value>, view: &View, watermark_us: Option<i64>) {
    let columns = view.shape.columns.fields();
    let name = |column: usize| columns.get(column).map_or("", |field| field.name().as_str());
    let column_json =
        |field: &Field| json!({ "name": field.name(), "type": field.data_type().to_string(), "nullable": field.is_nullable() });
    let clustering = |(column, order): &(usize, Order)| json!({ "column": name(*column), "order": order });
    let partition_key: Vec<&str> = view.shape.partition_key.iter().map(|column| name(*column)).collect();
    let template: Vec<String> = partition_key.iter().map(|column| format!("{}={{{column}}}", crate::rows::parameter(column))).collect();
    let members = json!({
        "source": view.source,
        "sql": view.sql,
        "digest": view.digest,
        "columns": columns.iter().map(|field| column_json(field)).collect::<Vec<_>>(),
        "partition_key": partition_key,
        "clustering": view.shape.clustering.iter().map(clustering).collect::<Vec<_>>(),
        "window": view.window.map(|window| window_document(&window, name(window.column), watermark_us)),
        "ranking": view.ranking.as_ref().map(|ranking| json!({ "column": name(ranking.column), "k": ranking.k })),
        "keep_ms": view.options.keep_us.map(|us| us / 1000),
        "accept_late_ms": view.options.accept_late_us.map(|us| us / 1000),
        "rows": format!("/v1/views/{}/rows?{}", view.name, template.join("&")),
    });
    if let Value::Object(members) = members {
        document.extend(members);
    }
}

fn window_document(window: &WindowSpec, column: &str, watermark_us: Option<i64>) -> Value {
    json!({
        "column": column,
        "size_ms": window.size_us / 1000,
        "slide_ms": window.slide_us / 1000,
        "newest_closed": micros(watermark_us.and_then(|watermark_us| newest_closed_us(window, watermark_us))),
    })
}

/// The start of the newest window that ends at or before the watermark.
fn newest_closed_us(window: &WindowSpec, watermark_us: i64) -> Option<i64> {
    let last_start = watermark_us.checked_sub(window.size_us)?;
    last_start.checked_sub(last_start.checked_rem_euclid(window.slide_us)?)
}

fn version_document(record: &VersionRecord, run: Option<&RunStatus>, progress: Option<&Progress>, waits_for: Option<String>) -> Value {
    let unable = run.and_then(|run| run.unable.as_deref());
    let run = run.filter(|run| run.unable.is_none());
    let error = match &record.state {
        VersionState::Failed { error } => Some(error.as_str()),
        _ => None,
    };
    let mut document = Map::new();
    let mut put = |name: &str, value: Value| document.insert(name.to_owned(), value);
    put("version", record.version.0.into());
    put("state", record.state.name().into());
    put("digest", record.digest.clone().into());
    put("created", millis(record.created_ms));
    put("created_by", record.created_by.clone().into());
    put("changed", millis(record.changed_ms));
    put("changed_by", record.changed_by.clone().into());
    put("error", error.into());
    put("running", run.is_some().into());
    put("unable", unable.into());
    put("waits_for", waits_for.into());
    put("positions", progress.map_or(Value::Null, |progress| cut(&progress.visible)));
    put("watermark", micros(progress.and_then(|progress| progress.watermark_us)));
    match (run, progress) {
        (Some(run), _) => {
            put("read", run.read.into());
            put("applied", run.applied.into());
            put("quarantined", json!(run.quarantined));
            put("quarantine_let_go", run.quarantine_let_go.into());
            put("committed", cut(&run.positions));
            put("ends", run.ends.iter().map(|(partition, end)| (partition.to_string(), end.0.into())).collect::<Map<_, _>>().into());
            put("lag", lag(run).into());
            put("event_time", micros(run.event_time_us));
            put("live", run.live.into());
            put("events_per_s", rounded(run.events_per_s));
            put("eta_s", eta_s(run).into());
            put("queued_rows", run.queued_rows.into());
            put("rows_written", run.rows_written.into());
            put("stalled_s", run.stalled_s.into());
            put("absent_rows", run.absent_rows.into());
            put("absent_examples", json!(run.absent_examples));
            put("source_error", run.source_error.clone().into());
            put("store_error", run.store_error.clone().into());
            put("feed_error", run.feed_error.clone().into());
        }
        (None, Some(progress)) => {
            put("read", progress.read.into());
            put("applied", progress.applied.into());
            put("quarantined", json!(progress.quarantined));
        }
        (None, None) => {}
    }
    document.into()
}

/// What a reader is told who comes before there is anything to read.
pub(crate) fn building_document(run: Option<&RunStatus>, version: Version, state: &VersionState) -> Value {
    json!({
        "version": version.0,
        "state": state.name(),
        "read": run.map(|run| run.read),
        "lag": run.and_then(lag),
        "events_per_s": run.map(|run| rounded(run.events_per_s)),
        "eta_s": run.and_then(eta_s),
    })
}

/// Events until the end of the log; `None` where nobody has seen it, because it cannot be asked.
fn lag(run: &RunStatus) -> Option<u64> {
    (!run.ends.is_empty() || run.source_error.is_none()).then_some(run.lag)
}

/// Seconds until the end of the log at the rate of now; `None` where it cannot be told.
fn eta_s(run: &RunStatus) -> Option<u64> {
    (!run.live && run.lag > 0 && run.events_per_s >= 1.0).then(|| (run.lag as f64 / run.events_per_s).ceil() as u64)
}

fn rounded(rate: f64) -> Value {
    ((rate * 10.0).round() / 10.0).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_closed_window_ends_at_or_before_the_watermark() {
        let hop = WindowSpec { column: 0, size_us: 600, slide_us: 10, pane_us: 10 };
        assert_eq!(newest_closed_us(&hop, 1_000), Some(400));
        assert_eq!(newest_closed_us(&hop, 1_009), Some(400));
        assert_eq!(newest_closed_us(&hop, 1_010), Some(410));
        assert_eq!(newest_closed_us(&hop, 5), Some(-600), "windows before the epoch are aligned to it too");
    }
}
