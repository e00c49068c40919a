//! `/healthz` and `/readyz`.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use refold_processor::engine::status::RunStatus;
use serde_json::{Value, json};

use crate::gate::health;
use crate::problem::Problem;
use crate::state::{ApiState, blocking};

/// `GET /healthz`: the process answers.
pub async fn alive() -> Json<Value> {
    Json(json!({ "alive": true }))
}

/// Timeout for the catalogue.
const READY_FOR: Duration = Duration::from_secs(5);

/// `GET /readyz`: whether every view can be read, and if not, why.
pub async fn ready(State(state): State<ApiState>) -> (StatusCode, Json<Value>) {
    let reasons = tokio::time::timeout(READY_FOR, blocking(move || reasons(&state))).await;
    let reasons = match reasons {
        Ok(reasons) => reasons.unwrap_or_else(|problem| vec![problem.detail().to_owned()]),
        Err(_) => vec![format!("the catalogue has not answered for {} s", READY_FOR.as_secs())],
    };
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": reasons.is_empty(), "reasons": reasons })))
}

fn reasons(state: &ApiState) -> Result<Vec<String>, Problem> {
    let running = state.running();
    let catalogue = &state.0.ports.catalogue;
    let mut reasons = Vec::new();
    for view in catalogue.views()? {
        let Some(active) = catalogue.active(&view)? else {
            let runs: Vec<&RunStatus> = running.iter().filter(|run| run.view == view).collect();
            // As long as nothing is read there is no telling.
            let why = match runs.iter().map(|run| run.lag).sum::<u64>() {
                0 if runs.is_empty() => catalogue.versions(&view)?.iter().find_map(|record| state.waits_for(record, None)),
                0 => None,
                lag => Some(format!("the first is being built ({lag} events to go)")),
            };
            let why = why.unwrap_or_else(|| "the first is being built".to_owned());
            reasons.push(format!("view {view}: no version is in service yet, {why}"));
            let unable = runs.iter().filter_map(|run| Some((run.version?, run.unable.as_ref()?)));
            reasons.extend(unable.map(|(version, error)| format!("view {view}: version {version} cannot be run here: {error}")));
            continue;
        };
        let versions = catalogue.versions(&view)?;
        let run = running.iter().find(|run| run.view == view && run.version == Some(active.version));
        if let Some(record) = versions.iter().find(|record| record.version == active.version) {
            reasons.extend(health(state, record, &versions, run)?);
        }
        if let Some(RunStatus { store_error: Some(error), .. }) = run {
            reasons.push(format!("view {view}: rows of version {} wait: {error}", active.version));
        }
        if let Some(RunStatus { stalled_s: Some(seconds), source_error: None, lag, .. }) = run {
            reasons.push(format!("view {view}: version {} has folded nothing for {seconds} s although {lag} events wait", active.version));
        }
        // Where nothing is folded, rows are as good to read as ever.
        if let Some(RunStatus { source_error: Some(error), .. }) = run
            && state.0.ports.running.is_here()
        {
            reasons.push(format!("view {view}: version {} waits for events: {error}", active.version));
        }
    }
    Ok(reasons)
}
