//! `GET /v1/sources`: the declared sources, and how far their logs reach.

use axum::Json;
use axum::extract::{Path, State};
use refold_processor::log::{Bounds, LogError};
use refold_processor::source::Source;
use serde_json::{Map, Value, json};

use crate::events::intake;
use crate::problem::Problem;
use crate::state::{ApiState, blocking};

/// `GET /v1/sources`
pub async fn list(State(state): State<ApiState>) -> Result<Json<Value>, Problem> {
    blocking(move || {
        let sources = state.0.ports.sources.values().map(|source| document(&state, source)).collect::<Result<Vec<_>, _>>()?;
        Ok(Json(json!({ "sources": sources })))
    })
    .await
}

/// `GET /v1/sources/{source}`
pub async fn one(State(state): State<ApiState>, Path(source): Path<String>) -> Result<Json<Value>, Problem> {
    let intake = intake(&state, &source)?;
    blocking(move || Ok(Json(document(&state, &intake.source)?))).await
}

/// A source, its log, and where the partitions of its topic start and end.
pub fn document(state: &ApiState, source: &Source) -> Result<Value, LogError> {
    let log = &state.0.ports.log;
    let reach = |bounds: Bounds| json!({ "start": bounds.start.0, "end": bounds.end.0 });
    let partitions: Map<String, Value> =
        log.topic_bounds(&source.topic)?.into_iter().map(|(partition, bounds)| (partition.to_string(), reach(bounds))).collect();
    Ok(json!({ "source": source.name, "topic": source.topic, "log": log.id()?, "partitions": partitions }))
}
