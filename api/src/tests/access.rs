//! Roles, log-in, and pages of other origins.

use openssl::sha::sha256;

use super::*;

const ROWS: &str = "/v1/views/counts/rows?username=ann";
const EVENT: &str = "{\"username\":\"ann\",\"timestamp\":0}";

fn entry(name: &str, role: &str) -> String {
    let digest: String = sha256(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("[[token]]\nname = {name:?}\nrole = {role:?}\nsha256 = {digest:?}\n")
}

/// A listener that others reach, with tokens that are their names.
fn guarded(folder: &tempfile::TempDir, tokens: &str) -> World {
    let file = folder.path().join("tokens.toml");
    std::fs::write(&file, tokens).unwrap();
    let world = world(ApiSettings { access: AccessSettings { tokens_file: Some(file), ..AccessSettings::default() }, ..open() });
    let version = world.version(COUNTS, "ann", &[10], &at([5, 7]));
    world.serve(version);
    world
}

async fn as_caller(world: &World, method: Method, path: &str, headers: &[(&str, &str)]) -> (StatusCode, HeaderMap, Value) {
    let mut request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = if path.contains("events") { Body::from(EVENT) } else { Body::from("{}") };
    world.answer(request.body(body).unwrap()).await
}

#[tokio::test]
async fn a_role_may_do_what_it_says_and_what_lesser_ones_may() {
    let folder = tempfile::tempdir().unwrap();
    let world = guarded(&folder, &(entry("reader", "read") + &entry("operator", "operate") + &entry("chief", "admin")));
    let status = async |method: Method, path: &str, token: Option<&str>| {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<(&str, &str)> = bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
        as_caller(&world, method, path, &headers).await.0.as_u16()
    };
    for path in [ROWS, "/v1/views", "/v1/views/counts", "/v1/views/counts/keys", "/v1/sources", "/v1/health"] {
        let statuses = [None, Some("guess"), Some("reader"), Some("operator"), Some("chief")];
        let mut answered = Vec::new();
        for token in statuses {
            answered.push(status(Method::GET, path, token).await);
        }
        assert_eq!(answered, [401, 401, 200, 200, 200], "{path}");
    }
    for (method, path) in [
        (Method::GET, "/v1/admin/status"),
        (Method::GET, "/v1/admin/history"),
        (Method::POST, "/v1/admin/views/counts/replay"),
        (Method::POST, "/v1/admin/views/counts/switch"),
        (Method::POST, "/v1/sources/tweets/events"),
    ] {
        assert_eq!(status(method.clone(), path, None).await, 401, "{path}");
        assert_eq!(status(method.clone(), path, Some("reader")).await, 403, "{path}");
        let answered = status(method, path, Some("operator")).await;
        assert!(![401, 403].contains(&answered) && answered < 500, "{path}: {answered}");
    }
    for path in ["/healthz", "/readyz", "/metrics", "/openapi.json"] {
        assert_eq!(status(Method::GET, path, None).await, 200, "{path} is for whoever looks after the process");
    }
    assert_eq!(status(Method::GET, "/v1/views/counts/live?username=ann", None).await, 401);
    assert_eq!(status(Method::GET, "/", None).await, 401, "the plain page lists views");
    let (_, _, history) = as_caller(&world, Method::GET, "/v1/admin/history", &[("authorization", "Bearer operator")]).await;
    let replay = history["history"].as_array().unwrap().last().unwrap();
    assert_eq!(replay["by"], "operator", "the audit trail has the name of the token: {history}");
    let (_, _, refused) = as_caller(&world, Method::GET, "/v1/admin/status", &[("authorization", "Bearer reader")]).await;
    assert_eq!(refused["detail"], "the token reader has the role read, and this needs operate");
    let (_, headers, _) = as_caller(&world, Method::GET, ROWS, &[("authorization", "Bearer reader")]).await;
    assert_eq!(headers[header::CACHE_CONTROL], "private, no-cache");
}

#[tokio::test]
async fn tokens_come_and_go_with_the_file_and_a_broken_file_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let world = guarded(&folder, &entry("ann", "read"));
    let is_let_in = async |name: &str| {
        world.state.access.reread();
        as_caller(&world, Method::GET, ROWS, &[("authorization", &format!("Bearer {name}"))]).await.0 == StatusCode::OK
    };
    assert_eq!([is_let_in("ann").await, is_let_in("bob").await], [true, false]);
    let file = folder.path().join("tokens.toml");
    std::fs::write(&file, entry("ann", "read") + &entry("bob", "read")).unwrap();
    assert_eq!([is_let_in("ann").await, is_let_in("bob").await], [true, true]);
    std::fs::write(&file, "[[token").unwrap();
    assert_eq!([is_let_in("ann").await, is_let_in("bob").await], [true, true]);
    std::fs::write(&file, entry("bob", "read")).unwrap();
    assert_eq!([is_let_in("ann").await, is_let_in("bob").await], [false, true]);
    let missing = AccessSettings { tokens_file: Some(folder.path().join("nothing.toml")), ..AccessSettings::default() };
    assert!(crate::access::Access::new(missing).is_err(), "at the start it must be there");
}

#[tokio::test]
async fn a_browser_logs_in_by_token_and_changes_something_only_on_purpose() {
    let folder = tempfile::tempdir().unwrap();
    let world = guarded(&folder, &entry("operator", "operate"));
    let log_in = async |token: &str| {
        let request = Request::post("/v1/session").header(header::CONTENT_TYPE, "application/json");
        world.answer(request.body(Body::from(json!({ "token": token }).to_string())).unwrap()).await
    };
    let (_, _, nobody) = as_caller(&world, Method::GET, "/v1/session", &[]).await;
    assert_eq!(nobody, json!({ "name": null, "role": null, "needs_login": true }));
    let (status, headers, refused) = log_in("guess").await;
    assert_eq!((status, headers.contains_key(header::SET_COOKIE)), (StatusCode::UNAUTHORIZED, false), "{refused}");
    let (status, headers, _) = log_in("operator").await;
    let cookie = headers[header::SET_COOKIE].to_str().unwrap();
    assert_eq!((status, cookie.ends_with("HttpOnly; SameSite=Strict; Path=/")), (StatusCode::NO_CONTENT, true), "{cookie}");
    let cookie = ("cookie", cookie.split(';').next().unwrap());
    let (_, headers, known) = as_caller(&world, Method::GET, "/v1/session", &[cookie]).await;
    assert_eq!(known, json!({ "name": "operator", "role": "operate", "needs_login": false }));
    assert_eq!(headers[header::CACHE_CONTROL], "no-store");
    assert_eq!(as_caller(&world, Method::GET, ROWS, &[cookie]).await.0, StatusCode::OK);

    let switch = "/v1/admin/views/counts/switch";
    let (status, _, refused) = as_caller(&world, Method::POST, switch, &[cookie]).await;
    assert_eq!((status, refused["detail"].as_str().unwrap().contains("x-refold-request")), (StatusCode::FORBIDDEN, true));
    let on_purpose = [cookie, ("x-refold-request", "1"), ("host", "refold.example"), ("origin", "https://refold.example")];
    assert_eq!(as_caller(&world, Method::POST, switch, &on_purpose).await.0, StatusCode::OK);
    let elsewhere = [cookie, ("x-refold-request", "1"), ("host", "refold.example"), ("origin", "https://evil.example")];
    assert_eq!(as_caller(&world, Method::POST, switch, &elsewhere).await.0, StatusCode::FORBIDDEN);
    let (status, headers, _) = as_caller(&world, Method::DELETE, "/v1/session", &[cookie]).await;
    assert_eq!((status, headers[header::SET_COOKIE].to_str().unwrap().contains("Max-Age=0")), (StatusCode::NO_CONTENT, true));
    for body in ["{}", "{\"token\":1}", "token", "{\"token\":\"operator\",\"more\":1}"] {
        let request = Request::post("/v1/session").header(header::CONTENT_TYPE, "application/json").body(Body::from(body)).unwrap();
        assert_eq!(world.answer(request).await.0, StatusCode::BAD_REQUEST, "{body}");
    }
}

#[tokio::test]
async fn reads_are_open_where_they_are_said_to_be_and_closed_where_nothing_is_said() {
    let public = world(ApiSettings { access: AccessSettings { public_reads: true, ..AccessSettings::default() }, ..open() });
    let version = public.version(COUNTS, "ann", &[10], &at([5, 7]));
    public.serve(version);
    let (status, headers, _) = as_caller(&public, Method::GET, ROWS, &[]).await;
    assert_eq!((status, &headers[header::CACHE_CONTROL]), (StatusCode::OK, &"no-cache".parse().unwrap()));
    let closed = world(ApiSettings { access: AccessSettings::default(), ..open() });
    let (status, _, refused) = as_caller(&closed, Method::GET, "/v1/views", &[]).await;
    assert_eq!((status, &refused["type"]), (StatusCode::FORBIDDEN, &json!("urn:refold:problem:closed")));
    assert_eq!(as_caller(&closed, Method::POST, "/v1/sources/tweets/events", &[]).await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn pages_of_named_origins_may_ask_and_those_of_others_may_not_read_the_answer() {
    let origins = vec!["https://friend.example".to_owned()];
    let world = world(ApiSettings { access: AccessSettings { origins, ..local() }, ..open() });
    let asked = async |origin: &str| as_caller(&world, Method::GET, "/v1/views", &[("origin", origin)]).await.1;
    let allowed = header::ACCESS_CONTROL_ALLOW_ORIGIN;
    assert_eq!(asked("https://friend.example").await[&allowed], "https://friend.example");
    assert!(!asked("https://evil.example").await.contains_key(&allowed));
    let preflight = [("origin", "https://friend.example"), ("access-control-request-method", "GET")];
    let (status, headers, _) = as_caller(&world, Method::OPTIONS, "/v1/views", &preflight).await;
    assert_eq!((status, headers.contains_key(header::ACCESS_CONTROL_ALLOW_HEADERS)), (StatusCode::OK, true));
    let post = async |origin: &str| {
        let headers = [("origin", origin), ("host", "refold.example")];
        as_caller(&world, Method::POST, "/v1/sources/tweets/events", &headers).await.0
    };
    assert_eq!(post("https://friend.example").await, StatusCode::OK);
    assert_eq!(post("https://evil.example").await, StatusCode::FORBIDDEN);
}
