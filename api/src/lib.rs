//! The HTTP API of Refold: rows and freshness of views and their changes as they happen, events in, what operators do, and the dashboard.
//!
//! It sees the read side of the view store, the catalogue and the log. Nothing in it knows a view or a column: all comes from what views declare.
//!
//! Routes ([`routes`]) take what they need of the parts below them; the parts are put together in `state.rs`, and the routes in `router.rs`. No part knows those two.

mod access;
mod collected;
mod counts;
mod elsewhere;
mod gate;
mod gates;
mod health;
mod intake;
mod limits;
mod lines;
mod live;
mod parameters;
mod ports;
mod problem;
mod rates;
mod reading;
pub mod records;
mod router;
mod routes;
mod serving;
mod settings;
mod state;
#[cfg(test)]
mod tests;
mod tls;
mod views;
mod watch;
mod work;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::MissedTickBehavior;

pub use access::{AccessSettings, Role, TokensError};
pub use collected::Collected;
pub use elsewhere::Elsewhere;
pub use limits::Limits;
pub use ports::{ApiError, Definitions, Ports, Running};
pub use problem::{PROBLEM_JSON, Problem};
pub use router::router;
pub use settings::ApiSettings;
pub use state::ApiState;
pub use tls::{Tls, TlsError, TlsSettings};

/// How often rates are sampled, and files looked at that may have changed.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// Serves the API until `shutdown` is there; requests that are being answered then are finished.
///
/// # Errors
/// None at present: errors of the listener are retried.
pub async fn serve(
    state: ApiState,
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    // A status may wait for a lock that a starting version holds, and the log may be unavailable: neither waits for the other.
    let (watch, ends, access, files) = (state.watch.clone(), state.watch.clone(), state.access.clone(), tls.clone());
    let samples = [
        tokio::spawn(again_and_again(move || drop(watch.running()))),
        tokio::spawn(again_and_again(move || drop(ends.ends.look()))),
        tokio::spawn(again_and_again(move || {
            access.reread();
            files.iter().for_each(|tls| tls.reread());
        })),
    ];
    let live = state.live.clone();
    let shutdown = async move {
        shutdown.await;
        // Streams have no end of their own that could be waited for.
        live.close();
    };
    let limits = state.limits.clone();
    serving::serve(listener, router(state), &limits, tls.as_ref(), shutdown).await;
    samples.iter().for_each(|sample| sample.abort());
    Ok(())
}

/// Does something that may take long every second.
async fn again_and_again(sample: impl Fn() + Clone + Send + 'static) {
    let mut ticks = tokio::time::interval(SAMPLE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let sample = sample.clone();
        let _ = tokio::task::spawn_blocking(sample).await;
    }
}
