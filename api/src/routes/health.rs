//! `/healthz`, `/readyz` and `/v1/health`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::gate;
use crate::health::Health;
use crate::problem::Problem;
use crate::views::Views;
use crate::work::blocking;

/// `GET /healthz`: the process answers.
pub async fn alive() -> Json<Value> {
    Json(json!({ "alive": true }))
}

/// Timeout for the catalogue.
const READY_FOR: Duration = Duration::from_secs(5);

/// `GET /readyz`: whether every view can be read, and if not, why.
pub async fn ready(State(views): State<Arc<Views>>) -> (StatusCode, Json<Value>) {
    let reasons = tokio::time::timeout(READY_FOR, blocking(move || reasons(&views))).await;
    let reasons = match reasons {
        Ok(reasons) => reasons.unwrap_or_else(|problem| vec![problem.detail().to_owned()]),
        Err(_) => vec![format!("the catalogue has not answered for {} s", READY_FOR.as_secs())],
    };
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": reasons.is_empty(), "reasons": reasons })))
}

fn reasons(views: &Views) -> Result<Vec<String>, Problem> {
    let running = views.watch.running();
    let mut reasons = Vec::new();
    for view in views.catalogue.views()? {
        reasons.extend(gate::reasons(views, &view, &running)?);
    }
    Ok(reasons)
}

/// `GET /v1/health`: one line for each thing that matters.
pub async fn told(State(health): State<Arc<Health>>) -> Json<Value> {
    let asked = health.clone();
    let told = tokio::time::timeout(READY_FOR, blocking(move || Ok(asked.document()))).await;
    let silent = || health.silent(&format!("the catalogue has not answered for {} s", READY_FOR.as_secs()));
    Json(match told {
        Ok(told) => told.unwrap_or_else(|problem| health.silent(problem.detail())),
        Err(_) => silent(),
    })
}
