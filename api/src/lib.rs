//! The HTTP API of Refold: rows and freshness of views, events in, and what operators do.
//!
//! It sees the read side of the view store, the catalogue and the log. Nothing in it knows a view or a column: all comes from what views declare.

mod admin;
mod elsewhere;
mod events;
mod gate;
mod guard;
mod health;
mod key;
mod limits;
mod live;
mod metrics;
mod page;
mod problem;
mod quarantine;
mod rates;
pub mod records;
mod rows;
mod serving;
mod sources;
mod state;
#[cfg(test)]
mod tests;
pub mod versions;
mod views;

use std::future::Future;
use std::io;
use std::time::Duration;

use axum::http::{Method, StatusCode, Uri, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Router, middleware};
use tokio::net::TcpListener;
use tokio::time::MissedTickBehavior;
use tower_http::catch_panic::CatchPanicLayer;

use limits::Class;

pub use elsewhere::Elsewhere;
pub use limits::Limits;
pub use problem::{PROBLEM_JSON, Problem};
pub use state::{Admin, ApiError, ApiSettings, ApiState, Collected, Definitions, Ports, Running};

const OPENAPI: &str = include_str!("../openapi.json");

/// How often rates are sampled.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// All routes.
pub fn router(state: ApiState) -> Router {
    let admin = Router::new()
        .route("/v1/admin/status", get(admin::status))
        .route("/v1/admin/history", get(admin::history))
        .route("/v1/admin/views/{view}/replay", post(admin::replay))
        .route("/v1/admin/views/{view}/switch", post(admin::switch))
        .route("/v1/admin/views/{view}/versions/{version}/resume", post(admin::resume))
        .route("/v1/views/{view}/quarantine", get(quarantine::list))
        .route("/v1/views/{view}/quarantine/{partition}/{offset}", get(quarantine::one));
    // Unauthorized requests are refused before they take a place.
    let admin = of_class(admin, &state, Class::Admin).route_layer(middleware::from_fn_with_state(state.clone(), guard::admin));
    let reads = Router::new()
        .route("/", get(page::show))
        .route("/v1/views", get(views::list))
        .route("/v1/views/{view}", get(views::one))
        .route("/v1/views/{view}/rows", get(rows::read));
    let sources = Router::new().route("/v1/sources", get(sources::list)).route("/v1/sources/{source}", get(sources::one));
    Router::new()
        .route("/healthz", get(health::alive))
        .route("/openapi.json", get(openapi))
        // These acquire places in their handlers: streams when they read rows, posts when the body is complete.
        .route("/v1/views/{view}/live", get(live::follow))
        .route("/v1/sources/{source}/events", post(events::post))
        .merge(of_class(Router::new().route("/readyz", get(health::ready)), &state, Class::Health))
        .merge(of_class(Router::new().route("/metrics", get(metrics::scrape)), &state, Class::Metrics))
        .merge(of_class(reads, &state, Class::Reads))
        .merge(of_class(sources, &state, Class::Sources))
        .merge(admin)
        .method_not_allowed_fallback(no_such_method)
        .route_layer(middleware::from_fn_with_state(state.clone(), metrics::measure))
        .fallback(no_such_route)
        .layer(middleware::map_response(problem::of_every_refusal))
        .layer(middleware::from_fn(guard::text_query))
        .layer(middleware::from_fn(guard::same_origin))
        .layer(middleware::from_fn_with_state(state.clone(), guard::own_name))
        .layer(CatchPanicLayer::custom(|_| {
            Problem::internal("the request was not finished: a defect; the server's log has more").into_response()
        }))
        .with_state(state)
}

/// Routes that share the limit of a class.
fn of_class(routes: Router<ApiState>, state: &ApiState, class: Class) -> Router<ApiState> {
    routes.route_layer(middleware::from_fn_with_state((state.clone(), class), limits::admit))
}

/// Serves the API until `shutdown` is there; requests that are being answered then are finished.
///
/// # Errors
/// None at present: errors of the listener are retried.
pub async fn serve(state: ApiState, listener: TcpListener, shutdown: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    // A status may wait for a lock that a starting version holds, and the log may be unavailable: neither waits for the other.
    let rates = tokio::spawn(again_and_again(state.clone(), |state| drop(state.running())));
    let ends = tokio::spawn(again_and_again(state.clone(), |state| state.0.seen.look_at_ends(state)));
    let closing = state.clone();
    let shutdown = async move {
        shutdown.await;
        // Streams have no end of their own that could be waited for.
        closing.close_streams();
    };
    let limits = state.0.settings.limits.clone();
    serving::serve(listener, router(state), &limits, shutdown).await;
    rates.abort();
    ends.abort();
    Ok(())
}

/// Does something that may take long every second.
async fn again_and_again(state: ApiState, sample: fn(&ApiState)) {
    let mut ticks = tokio::time::interval(SAMPLE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let state = state.clone();
        let _ = tokio::task::spawn_blocking(move || sample(&state)).await;
    }
}

async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
}

async fn no_such_route(uri: Uri) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "route",
        "There is no such route",
        format!("there is nothing at {}; /openapi.json has all routes", uri.path()),
    )
}

async fn no_such_method(method: Method, uri: Uri) -> Problem {
    let detail = format!("{method} is not possible at {}; /openapi.json has all routes", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "The route has no such method", detail)
}
