//! The routes put together.

use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Router, middleware};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::{CompressionLayer, CompressionLevel};
use tower_http::cors::CorsLayer;

use crate::access::{Access, Role};
use crate::limits::{self, Class};
use crate::problem::{Problem, of_every_refusal};
use crate::routes::guard::{self, Demand, REQUEST_HEADER};
use crate::routes::{
    admin, assets, audit, caching, canary, cost, diff, events, health, keys, metrics, quarantine, rows, session, socket, sources, verify,
    views, why,
};
use crate::state::ApiState;

const OPENAPI: &str = include_str!("../openapi.json");

/// All routes.
pub fn router(state: ApiState) -> Router {
    let operating = Router::new()
        .route("/v1/admin/status", get(admin::status))
        .route("/v1/admin/history", get(admin::history))
        .route("/v1/admin/views/{view}/replay", post(admin::replay))
        .route("/v1/admin/views/{view}/switch", post(admin::switch))
        .route("/v1/admin/views/{view}/cost", get(cost::show))
        .route("/v1/admin/views/{view}/canary", post(canary::run))
        .route("/v1/admin/switch", post(admin::switch_group))
        .route("/v1/admin/views/{view}/diff", post(diff::diff))
        .route("/v1/admin/views/{view}/rollback", post(admin::rollback))
        .route("/v1/admin/views/{view}/drop", post(admin::drop_view))
        .route("/v1/admin/views/{view}/versions/{version}/pause", post(admin::pause))
        .route("/v1/admin/views/{view}/versions/{version}/resume", post(admin::resume))
        .route("/v1/admin/views/{view}/versions/{version}/throttle", post(admin::throttle))
        .route("/v1/admin/views/{view}/versions/{version}/drop", post(admin::drop_version))
        .route("/v1/admin/views/{view}/versions/{version}/audit", post(audit::audit))
        .route("/v1/admin/views/{view}/versions/{version}/verify", post(verify::run))
        .route("/v1/views/{view}/why", get(why::find))
        .route("/v1/views/{view}/quarantine", get(quarantine::list))
        .route("/v1/views/{view}/quarantine/{partition}/{offset}", get(quarantine::one));
    let reads = Router::new()
        .route("/v1/views", get(views::list))
        .route("/v1/views/{view}", get(views::one))
        .route("/v1/views/{view}/rows", get(rows::read))
        .route("/v1/views/{view}/keys", get(keys::list))
        .route_layer(middleware::from_fn_with_state(state.access.clone(), caching::etag));
    let sources = Router::new().route("/v1/sources", get(sources::list)).route("/v1/sources/{source}", get(sources::one));
    let told = Router::new().route("/v1/health", get(health::told));
    // These acquire places in their handlers: streams when they read rows, posts when the body is complete.
    let streams = Router::new().route("/v1/views/{view}/live", get(socket::of_view)).route("/v1/live", get(socket::of_all));
    let posts = Router::new().route("/v1/sources/{source}/events", post(events::post));
    // Unauthorized requests are refused before they take a place.
    let of_role = |routes: Router<ApiState>, role: Role| {
        let demand = Demand { access: state.access.clone(), role, names: state.names.clone() };
        routes.route_layer(middleware::from_fn_with_state(demand, guard::require))
    };
    let session = Router::new().route("/v1/session", get(session::show).post(session::log_in).delete(session::log_out));
    let guarded = Router::new()
        .route("/healthz", get(health::alive))
        .route("/openapi.json", get(openapi))
        .merge(session)
        .merge(of_class(Router::new().route("/readyz", get(health::ready)), &state, Class::Health))
        .merge(of_class(Router::new().route("/metrics", get(metrics::scrape)), &state, Class::Metrics))
        .merge(of_role(of_class(reads, &state, Class::Reads), Role::Read))
        .merge(of_role(of_class(sources, &state, Class::Sources), Role::Read))
        .merge(of_role(of_class(told, &state, Class::Reads), Role::Read))
        .merge(of_role(of_class(operating, &state, Class::Admin), Role::Operate))
        .merge(of_role(streams, Role::Read))
        .merge(of_role(posts, state.access.posting()))
        .method_not_allowed_fallback(no_such_method)
        .route_layer(middleware::from_fn_with_state(state.counts.clone(), metrics::measure))
        .fallback(assets::serve)
        .layer(middleware::map_response(of_every_refusal))
        // Streams of events are left as they are.
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest))
        .layer(middleware::from_fn(guard::text_query))
        .layer(middleware::from_fn_with_state(state.access.clone(), guard::same_origin))
        .layer(middleware::from_fn_with_state(state.names.clone(), guard::own_name));
    with_origins(guarded, &state.access)
        .layer(CatchPanicLayer::custom(|_| {
            Problem::internal("the request was not finished: a defect; the server's log has more").into_response()
        }))
        .with_state(state)
}

/// Routes that share the limit of a class.
fn of_class(routes: Router<ApiState>, state: &ApiState, class: Class) -> Router<ApiState> {
    routes.route_layer(middleware::from_fn_with_state((state.places.clone(), class), limits::admit))
}

/// Pages of other origins may use the API with a token of theirs; the cookie is never sent for them.
fn with_origins(routes: Router<ApiState>, access: &Access) -> Router<ApiState> {
    let origins: Vec<HeaderValue> = access.origins().iter().filter_map(|origin| origin.parse().ok()).collect();
    if origins.is_empty() {
        return routes;
    }
    let headers = [header::AUTHORIZATION, header::CONTENT_TYPE, header::IF_NONE_MATCH, HeaderName::from_static(REQUEST_HEADER)];
    routes.layer(
        CorsLayer::new()
            .allow_origin(origins)
            .allow_methods([Method::GET, Method::HEAD, Method::POST])
            .allow_headers(headers)
            .expose_headers([header::ETAG, header::RETRY_AFTER]),
    )
}

async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
}

async fn no_such_method(method: Method, uri: Uri) -> Problem {
    let detail = format!("{method} is not possible at {}; /openapi.json has all routes", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "The route has no such method", detail)
}
