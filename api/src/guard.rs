//! Who may do what.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use percent_encoding::percent_decode_str;
use subtle::ConstantTimeEq;

use crate::problem::Problem;
use crate::state::{Admin, ApiState};

/// Refuses administration to those who may not.
pub async fn admin(State(state): State<ApiState>, request: Request, next: Next) -> Result<Response, Problem> {
    match &state.0.settings.admin {
        Admin::Token(token) => check_token(request.headers(), token)?,
        Admin::Open => check_host(request.headers(), state.0.settings.own_names.as_deref().unwrap_or_default())?,
        Admin::Closed => {
            let detail = "administration is closed: this address can be reached from other machines and no token is set; \
                          set one (REFOLD_TOKEN, or token in refold.toml), or listen on 127.0.0.1";
            return Err(Problem::new(StatusCode::FORBIDDEN, "closed", "Administration is closed", detail));
        }
    }
    Ok(next.run(request).await)
}

/// Checks the `Host` header on a listener that is for this machine only. Without this, a web page whose domain resolves to 127.0.0.1 (DNS rebinding) could read and post
/// through a browser, which treats this server as the page's own origin.
pub async fn own_name(State(state): State<ApiState>, request: Request, next: Next) -> Result<Response, Problem> {
    if let Some(names) = &state.0.settings.own_names {
        check_host(request.headers(), names)?;
    }
    Ok(next.run(request).await)
}

/// Refuses cross-origin writes: a browser can reach a server that only this machine can. A page whose domain resolves to this server passes this check and is refused by
/// [`own_name`].
pub async fn same_origin(request: Request, next: Next) -> Result<Response, Problem> {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let headers = request.headers();
    if let (false, Some(origin)) = (reads, text(headers, header::ORIGIN)) {
        let sent_to = text(headers, header::HOST).unwrap_or_default();
        let sent_by = origin.split_once("://").map_or(origin, |(_, authority)| authority);
        if sent_by != sent_to {
            let detail = format!("a page of {origin} may not change anything at {sent_to}");
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

fn check_token(headers: &HeaderMap, token: &str) -> Result<(), Problem> {
    let given = text(headers, header::AUTHORIZATION).and_then(|value| value.split_once(' '));
    let is_right = given.is_some_and(|(scheme, given)| scheme.eq_ignore_ascii_case("bearer") && equal(given.trim(), token));
    if is_right {
        return Ok(());
    }
    let detail = match headers.contains_key(header::AUTHORIZATION) {
        true => "the token is not the one that this server was started with; refold takes it from --token or REFOLD_TOKEN",
        false => "administration needs the header authorization: Bearer <token>; refold takes it from --token or REFOLD_TOKEN",
    };
    Err(Problem::new(StatusCode::UNAUTHORIZED, "token", "The token is missing or wrong", detail))
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

/// Compares without telling by its time where the first difference is.
fn equal(left: &str, right: &str) -> bool {
    left.as_bytes().ct_eq(right.as_bytes()).into()
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn only_the_right_token_is_let_in() {
        let is_let_in = |value: &str| check_token(&headers(header::AUTHORIZATION, value), "secret").is_ok();
        assert!(is_let_in("Bearer secret"));
        assert!(is_let_in("bearer secret"));
        for wrong in ["secret", "Basic secret", "Bearer secre", "Bearer secrets", "Bearer", "Bearer SECRET"] {
            assert!(!is_let_in(wrong), "{wrong}");
        }
        assert!(check_token(&HeaderMap::new(), "").is_err());
    }

    #[test]
    fn a_foreign_name_that_was_made_to_point_here_is_not_answered() {
        let names = ["Refold.internal".to_owned()];
        let is_answered = |host: &str| check_host(&headers(header::HOST, host), &names).is_ok();
        for own in ["localhost:7070", "127.0.0.1:7070", "127.0.0.1", "[::1]:7070", "[::1]", "refold.internal:7070", "LOCALHOST"] {
            assert!(is_answered(own), "{own}");
        }
        for foreign in ["evil.example:7070", "evil.example", "127.0.0.1.evil.example", "refold.internal.evil.example"] {
            assert!(!is_answered(foreign), "{foreign}");
        }
    }
}
