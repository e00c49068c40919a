//! The dashboard: files that are embedded in the program, and its one page for every path that is no route.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;

use super::page;
use crate::access::Access;
use crate::problem::Problem;
use crate::views::Views;

/// Names and contents.
type Files = &'static [(&'static str, &'static [u8])];

const EMBEDDED: Files = include!(concat!(env!("OUT_DIR"), "/dashboard.rs"));

/// The page.
const INDEX: &str = "index.html";
/// Files below this have a digest of their content in their names.
const HASHED: &str = "assets/";
/// Nothing is loaded from anywhere else, and nobody shows the page within another.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; \
                      manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The files of a dashboard.
#[derive(Clone, Copy, Debug)]
pub struct Dashboard(Files);

impl Default for Dashboard {
    fn default() -> Self {
        Dashboard(EMBEDDED)
    }
}

impl Dashboard {
    #[cfg(test)]
    pub fn of(files: Files) -> Dashboard {
        Dashboard(files)
    }

    fn file(&self, name: &str) -> Option<(&'static str, &'static [u8])> {
        self.0.iter().find(|(known, _)| *known == name).copied()
    }
}

/// Whatever is no other route: a file of the dashboard, or its page.
pub async fn serve(
    State(dashboard): State<Dashboard>,
    State(views): State<Arc<Views>>,
    State(access): State<Arc<Access>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let path = percent_decode_str(uri.path()).decode_utf8_lossy();
    let name = path.trim_start_matches('/');
    if is_of_api(name) || has_parents(name) || !matches!(method, Method::GET | Method::HEAD) {
        return Err(no_such_route(&uri));
    }
    if let Some(file) = dashboard.file(name) {
        return Ok(answer(file, &headers));
    }
    // A file that is not there is no page: a browser would take it for the script or picture that it asked for.
    if name.starts_with(HASHED) || name.rsplit('/').next().is_some_and(|last| last.contains('.')) {
        return Err(no_such_route(&uri));
    }
    match dashboard.file(INDEX) {
        Some(index) => Ok(answer(index, &headers)),
        None if name.is_empty() => {
            let caller = access.caller(&headers)?;
            access.require(&caller, crate::access::Role::Read)?;
            Ok(page::show(views).await?.into_response())
        }
        None => Err(no_such_route(&uri)),
    }
}

fn is_of_api(name: &str) -> bool {
    let first = name.split('/').next().unwrap_or_default();
    matches!(first, "v1" | "v2" | "healthz" | "readyz" | "metrics" | "openapi.json")
}

fn has_parents(name: &str) -> bool {
    name.split(['/', '\\']).any(|part| part == "..") || name.contains('\0')
}

fn answer((name, content): (&'static str, &'static [u8]), headers: &HeaderMap) -> Response {
    let etag = format!("\"{:016x}\"", xxhash_rust::xxh3::xxh3_64(content));
    let caching = if name.starts_with(HASHED) { "public, max-age=31536000, immutable" } else { "no-cache" };
    let is_known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).is_some_and(|known| known.contains(&etag));
    let mut response = match is_known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => ([(header::CONTENT_TYPE, content_type(name))], content).into_response(),
    };
    let more = [
        (header::CACHE_CONTROL, HeaderValue::from_static(caching)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    response.headers_mut().extend(more);
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

fn no_such_route(uri: &Uri) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "route",
        "There is no such route",
        format!("there is nothing at {}; /openapi.json has all routes", uri.path()),
    )
}
