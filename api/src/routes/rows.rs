//! `GET /v1/views/{view}/rows`: rows of one partition of one version, or of several partitions of it.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::IntoResponse;

use crate::problem::Problem;
use crate::reading::Reading;
use crate::work::blocking;

/// `GET /v1/views/{view}/rows`
pub async fn read(
    State(reading): State<Arc<Reading>>,
    Path(view): Path<String>,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Result<impl IntoResponse, Problem> {
    let text = blocking(move || {
        let targets = reading.targets(&view, &parameters)?;
        match targets.as_slice() {
            [target] => reading.page_text(target),
            targets => reading.pages_text(targets),
        }
    });
    Ok(([(header::CONTENT_TYPE, "application/json")], text.await?))
}
