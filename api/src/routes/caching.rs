//! What browsers and proxies may keep of reads: nothing without asking whether it is still so, which costs no body.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::access::Access;
use crate::problem::Problem;

/// Adds an `ETag` of the content, and answers 304 to who has it.
pub async fn etag(State(access): State<Arc<Access>>, request: Request, next: Next) -> Result<Response, Problem> {
    let known = request.headers().get(header::IF_NONE_MATCH).cloned();
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let response = next.run(request).await;
    if !is_read || response.status() != StatusCode::OK {
        return Ok(response);
    }
    let caching = if access.is_private() { "private, no-cache" } else { "no-cache" };
    let (mut parts, body) = response.into_parts();
    // It is whole in memory already.
    let content = to_bytes(body, usize::MAX).await.map_err(|error| Problem::internal(format!("the answer was not finished: {error}")))?;
    // Weak, because compression changes the bytes but not what they say.
    let etag = format!("W/\"{:032x}\"", xxhash_rust::xxh3::xxh3_128(&content));
    parts.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        parts.headers.insert(header::ETAG, etag);
    }
    if known.is_some_and(|known| is_known(known.to_str().unwrap_or_default(), &etag)) {
        parts.headers.remove(header::CONTENT_TYPE);
        parts.headers.remove(header::CONTENT_LENGTH);
        return Ok((StatusCode::NOT_MODIFIED, parts.headers).into_response());
    }
    Ok(Response::from_parts(parts, Body::from(content)))
}

/// Whether a list of tags has this one; weak and strong ones compare as equal here.
fn is_known(list: &str, etag: &str) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    list.split(',').any(|tag| tag.trim() == "*" || opaque(tag) == opaque(etag))
}
