//! The dashboard's files.

use super::*;
use crate::routes::assets::Dashboard;

const FILES: &[(&str, &[u8])] = &[
    ("index.html", b"<!doctype html><title>Refold</title>"),
    ("assets/main-4f2a.js", b"console.log('a script that is long enough to be compressed'.repeat(9))"),
    ("favicon.svg", b"<svg/>"),
];

fn built(settings: ApiSettings) -> World {
    let mut world = world(settings);
    world.state.dashboard = Dashboard::of(FILES);
    world.router = router(world.state.clone());
    world
}

async fn file(world: &World, path: &str) -> (StatusCode, HeaderMap, Value) {
    world.answer(Request::get(path).body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn every_path_that_is_no_route_is_the_one_page() {
    let world = built(ApiSettings { access: AccessSettings::default(), ..open() });
    for path in ["/", "/series", "/series?view=counts&key=ann", "/views/counts", "/health-page", "/index.html"] {
        let (status, headers, body) = file(&world, path).await;
        assert_eq!((status, body.as_str().unwrap().contains("<title>Refold")), (StatusCode::OK, true), "{path}");
        assert_eq!(headers[header::CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(headers[header::CACHE_CONTROL], "no-cache");
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("http") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    }
    for path in ["/v1/nothing", "/v2/views", "/metrics/x", "/assets/other.js", "/robots.txt", "/assets/"] {
        let (status, headers, _) = file(&world, path).await;
        assert_eq!((status, &headers[header::CONTENT_TYPE]), (StatusCode::NOT_FOUND, &PROBLEM_JSON.parse().unwrap()), "{path}");
    }
    assert_eq!(world.post("/series", "text/plain", "x").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn files_with_a_digest_in_their_names_are_kept_for_ever_and_others_asked_for_again() {
    let world = built(open());
    let (status, headers, _) = file(&world, "/assets/main-4f2a.js").await;
    assert_eq!((status, &headers[header::CONTENT_TYPE]), (StatusCode::OK, &"text/javascript; charset=utf-8".parse().unwrap()));
    assert!(headers[header::CACHE_CONTROL].to_str().unwrap().contains("immutable"));
    let (_, headers, _) = file(&world, "/favicon.svg").await;
    assert_eq!(
        (&headers[header::CONTENT_TYPE], &headers[header::CACHE_CONTROL]),
        (&"image/svg+xml".parse().unwrap(), &"no-cache".parse().unwrap())
    );
    let again = Request::get("/favicon.svg").header(header::IF_NONE_MATCH, &headers[header::ETAG]).body(Body::empty()).unwrap();
    assert_eq!(world.answer(again).await.0, StatusCode::NOT_MODIFIED);
    let small = Request::get("/assets/main-4f2a.js").header(header::ACCEPT_ENCODING, "gzip").body(Body::empty()).unwrap();
    assert_eq!(world.answer(small).await.1[header::CONTENT_ENCODING], "gzip");
}

#[tokio::test]
async fn a_path_that_leaves_the_files_is_refused() {
    let world = built(open());
    for path in [
        "/../Cargo.toml",
        "/assets/../../Cargo.toml",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/assets/%2e%2e/index.html",
        "/..%5c..%5cwindows",
        "/series/..",
        "/a%00b",
        "//etc/passwd/..",
    ] {
        let (status, _, refused) = file(&world, path).await;
        assert_eq!((status, &refused["type"]), (StatusCode::NOT_FOUND, &json!("urn:refold:problem:route")), "{path}: {refused}");
    }
}

#[tokio::test]
async fn without_the_dashboard_there_is_a_plain_page() {
    let mut world = world(open());
    world.state.dashboard = Dashboard::of(&[]);
    world.router = router(world.state.clone());
    assert!(file(&world, "/").await.2.as_str().unwrap().contains("There are no views yet"));
    assert_eq!(file(&world, "/series").await.0, StatusCode::NOT_FOUND);
}
