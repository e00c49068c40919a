//! `GET /v1/sources`: the declared sources, and how far their logs reach.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use crate::intake::Intakes;
use crate::problem::Problem;
use crate::work::blocking;

/// `GET /v1/sources`
pub async fn list(State(intakes): State<Arc<Intakes>>) -> Result<Json<Value>, Problem> {
    blocking(move || {
        let sources = intakes.all().map(|intake| intakes.document(&intake.source)).collect::<Result<Vec<_>, _>>()?;
        Ok(Json(json!({ "sources": sources })))
    })
    .await
}

/// `GET /v1/sources/{source}`
pub async fn one(State(intakes): State<Arc<Intakes>>, Path(source): Path<String>) -> Result<Json<Value>, Problem> {
    let intake = intakes.find(&source)?;
    blocking(move || Ok(Json(intakes.document(&intake.source)?))).await
}
