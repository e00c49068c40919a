//! Refuses requests before a route sees them.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use percent_encoding::percent_decode_str;

use crate::access::{Access, Role};
use crate::problem::Problem;

/// Changes that a browser makes by its cookie need this header, which a page of another origin cannot send.
pub const REQUEST_HEADER: &str = "x-refold-request";

/// Host names of this server on a listener for this machine; `None`: any, for a listener that other machines reach.
#[derive(Clone, Debug)]
pub struct OwnNames(pub Option<Arc<[String]>>);

/// What a group of routes demands.
#[derive(Clone)]
pub struct Demand {
    /// Who is let in.
    pub access: Arc<Access>,
    /// The role that is needed.
    pub role: Role,
    /// The names of this server.
    pub names: OwnNames,
}

/// Refuses those who may not.
pub async fn require(State(demand): State<Demand>, mut request: Request, next: Next) -> Result<Response, Problem> {
    let caller = demand.access.caller(request.headers())?;
    demand.access.require(&caller, demand.role)?;
    if demand.role > Role::Read && demand.access.is_open() {
        check_host(request.headers(), demand.names.0.as_deref().unwrap_or_default())?;
    }
    if caller.is_by_cookie && !is_read(request.method()) && !request.headers().contains_key(REQUEST_HEADER) {
        let detail = format!("a change by cookie needs the header {REQUEST_HEADER}: 1; other clients send authorization: Bearer <token>");
        return Err(Problem::new(StatusCode::FORBIDDEN, "origin", "Refused", detail));
    }
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

/// Checks the `Host` header on a listener that is for this machine only. Without this, a web page whose domain resolves to 127.0.0.1 (DNS rebinding) could read and post
/// through a browser, which treats this server as the page's own origin.
pub async fn own_name(State(names): State<OwnNames>, request: Request, next: Next) -> Result<Response, Problem> {
    if let Some(names) = &names.0 {
        check_host(request.headers(), names)?;
    }
    Ok(next.run(request).await)
}

/// Refuses cross-origin writes and WebSockets, which browsers do not keep to one origin: a browser can reach a server that only this machine can. A page whose domain
/// resolves to this server passes this check and is refused by [`own_name`].
pub async fn same_origin(State(access): State<Arc<Access>>, request: Request, next: Next) -> Result<Response, Problem> {
    let headers = request.headers();
    if is_read(request.method()) && !is_upgrade(headers) {
        return Ok(next.run(request).await);
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or("null");
        let sent_to = text(headers, header::HOST).unwrap_or_default();
        let sent_by = origin.split_once("://").map_or(origin, |(_, authority)| authority);
        if sent_by != sent_to && !access.origins().iter().any(|own| own == origin) {
            let detail =
                format!("a page of {origin} may not change or follow anything at {sent_to}; the setting origins names those that may");
            return Err(Problem::new(StatusCode::FORBIDDEN, "origin", "Refused", detail));
        }
    }
    Ok(next.run(request).await)
}

/// Refuses a query with bytes that are no text: replaced by something else they would ask for another thing.
pub async fn text_query(request: Request, next: Next) -> Result<Response, Problem> {
    let query = request.uri().query().unwrap_or_default();
    if percent_decode_str(query).decode_utf8().is_err() {
        return Err(Problem::parameter(format!("the query {query:?} is not UTF-8 where it is escaped (%..)")));
    }
    Ok(next.run(request).await)
}

fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Whether a WebSocket is asked for.
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    text(headers, header::UPGRADE).is_some_and(|upgrade| upgrade.eq_ignore_ascii_case("websocket"))
}

/// Accepts `localhost`, addresses and the configured names.
fn check_host(headers: &HeaderMap, names: &[String]) -> Result<(), Problem> {
    let host = text(headers, header::HOST).unwrap_or("localhost");
    let name = host.rsplit_once(':').map_or(host, |(name, port)| if port.ends_with(']') { host } else { name });
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let is_own = |own: &String| name.eq_ignore_ascii_case(own);
    if name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok() || names.iter().any(is_own) {
        return Ok(());
    }
    let detail = format!(
        "this server is for this machine only: it accepts localhost, addresses and the names in the setting own_names as its host, not {host}; add the name there if it is yours"
    );
    Err(Problem::new(StatusCode::FORBIDDEN, "host", "Refused", detail))
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_foreign_name_that_was_made_to_point_here_is_not_answered() {
        let names = ["Refold.internal".to_owned()];
        let headers = |host: &str| HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]);
        let is_answered = |host: &str| check_host(&headers(host), &names).is_ok();
        for own in ["localhost:7070", "127.0.0.1:7070", "127.0.0.1", "[::1]:7070", "[::1]", "refold.internal:7070", "LOCALHOST"] {
            assert!(is_answered(own), "{own}");
        }
        for foreign in ["evil.example:7070", "evil.example", "127.0.0.1.evil.example", "refold.internal.evil.example"] {
            assert!(!is_answered(foreign), "{foreign}");
        }
    }
}
