//! `GET /v1/admin/views/{view}/cost`: what versions of a view take, so that it can be said what another one will.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use refold_processor::json;
use refold_processor::store::catalogue::{AuditEntry, VersionRecord, VersionState};
use refold_processor::store::{StoreError, TableSize};
use refold_processor::table::Version;
use serde_json::{Value, json};

use crate::problem::Problem;
use crate::views::Views;
use crate::work::blocking;

/// How many entries of the audit trail are looked through for the last replay.
const HISTORY: usize = 1_000;

/// `GET /v1/admin/views/{view}/cost`
pub async fn show(State(views): State<Arc<Views>>, Path(view): Path<String>) -> Result<Json<Value>, Problem> {
    blocking(move || {
        let versions = views.versions_of(&view)?;
        let states = views.watch.running.state_sizes();
        let living = versions.iter().filter(|record| record.state != VersionState::Dropped);
        let documents = living.map(|record| document(&views, record, &states)).collect::<Result<Vec<_>, _>>()?;
        let history = views.catalogue.history(Some(&view), HISTORY)?;
        Ok(Json(json!({ "view": view, "versions": documents, "last_replay": last_replay(&history) })))
    })
    .await
}

fn document(views: &Views, record: &VersionRecord, states: &BTreeMap<(String, Version), u64>) -> Result<Value, Problem> {
    let size = match views.table(record).map(|table| views.rows.size(&table)) {
        Ok(Ok(size)) => size,
        // Not created yet, or of a definition that does not fit the declared schemas any more.
        Ok(Err(StoreError::UnknownTable(_) | StoreError::OtherShape { .. })) | Err(_) => None,
        Ok(Err(error)) => return Err(error.into()),
    };
    Ok(json!({
        "version": record.version.0,
        "state": record.state.name(),
        "commit": record.commit,
        "table_rows": size.map(|TableSize { rows, .. }| rows),
        "table_bytes": size.map(|TableSize { bytes, .. }| bytes),
        "state_bytes": states.get(&(record.view.clone(), record.version)),
    }))
}

/// The version that caught up last, and how long that took.
fn last_replay(history: &[AuditEntry]) -> Option<Value> {
    let ended = history.iter().rfind(|entry| entry.verb == "state" && entry.to.as_deref() == Some(VersionState::CaughtUp.name()))?;
    let begun = history.iter().rfind(|entry| entry.verb == "create" && entry.version == ended.version)?;
    let took_ms = ended.at_ms.saturating_sub(begun.at_ms).max(0);
    Some(
        json!({ "version": ended.version.map(|version| version.0), "took_s": took_ms as f64 / 1_000.0, "ended": json::millis(ended.at_ms) }),
    )
}
