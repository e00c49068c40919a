//! `GET /v1/views` and `/v1/views/{view}`: what views there are, what they declare, and how fresh each version is.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use crate::problem::Problem;
use crate::views::Views;
use crate::work::blocking;

/// `GET /v1/views`
pub async fn list(State(views): State<Arc<Views>>) -> Result<Json<Value>, Problem> {
    blocking(move || Ok(Json(json!({ "views": views.documents()? })))).await
}

/// `GET /v1/views/{view}`
pub async fn one(State(views): State<Arc<Views>>, Path(view): Path<String>) -> Result<Json<Value>, Problem> {
    blocking(move || Ok(Json(views.document_of(&view)?))).await
}
