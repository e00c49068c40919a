//! `/v1/session`: a browser logs in with a token, and out.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::access::Access;
use crate::problem::Problem;

/// The body of a log-in.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogIn {
    token: String,
}

/// `POST /v1/session`
pub async fn log_in(State(access): State<Arc<Access>>, body: Result<Json<LogIn>, JsonRejection>) -> Result<impl IntoResponse, Problem> {
    let Json(body) = body.map_err(|error| Problem::body(error.body_text()))?;
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, access.log_in(&body.token)?)]))
}

/// `GET /v1/session`: who asks, and what they may do.
pub async fn show(State(access): State<Arc<Access>>, headers: HeaderMap) -> Result<impl IntoResponse, Problem> {
    let caller = access.caller(&headers)?;
    let document: Value = json!({
        "name": caller.name,
        "role": caller.role.map(|role| role.name()),
        "needs_login": caller.role.is_none(),
    });
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(document)))
}

/// `DELETE /v1/session`
pub async fn log_out(State(access): State<Arc<Access>>) -> impl IntoResponse {
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, access.log_out())])
}
