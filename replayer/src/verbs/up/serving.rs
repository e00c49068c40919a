//! The API, on a runtime of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use anyhow::{Context, Result};
use refold_api::{AccessSettings, ApiSettings, ApiState, Collected, Limits, Running, Tls, TlsSettings};
use refold_versions::planner::Planner;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::Happened;
use crate::parts::Parts;
use crate::settings::Settings;
use crate::views::ViewFolder;

/// How long open requests may take after a stop was asked for.
const API_GRACE: Duration = Duration::from_secs(5);

/// Connections in addition to those of streams.
const FURTHER_CONNECTIONS: usize = 1_024;

/// The API, while it is served.
pub struct Api {
    runtime: Runtime,
    shutdown: oneshot::Sender<()>,
    served: oneshot::Receiver<()>,
}

impl Api {
    /// Serves on `listener`; `running` tells how far versions are, `collected` how far the source.
    pub fn start(
        parts: &Parts,
        settings: &Settings,
        running: Arc<dyn Running>,
        collected: Option<Arc<Collected>>,
        listener: std::net::TcpListener,
        happened: Sender<Happened>,
    ) -> Result<Api> {
        let planner = Planner::new(&parts.intake.sources)?;
        let ports = refold_api::Ports {
            catalogue: parts.catalogue.clone(),
            rows: parts.store.clone(),
            changes: parts.intake.changes.clone(),
            log: parts.intake.log.clone(),
            schemas: parts.schemas.clone(),
            sources: parts.intake.sources.clone(),
            schema_ids: parts.intake.schema_ids.clone(),
            running,
            collected,
            definitions: Arc::new(ViewFolder::new(&settings.schemas, planner)),
            clock: parts.clock.clone(),
        };
        let state = ApiState::new(ports, api_settings(settings, &listener.local_addr()?))?;
        let tls = settings.tls.clone().map(|(certificate, key)| Tls::new(&TlsSettings { certificate, key }));
        let tls = tls.transpose()?.map(Arc::new);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("api").build().context("the API cannot be started")?;
        listener.set_nonblocking(true)?;
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let (shutdown, asked) = oneshot::channel::<()>();
        let (done, served) = oneshot::channel();
        runtime.spawn(async move {
            let until = async move {
                let _ = asked.await;
            };
            let ended = refold_api::serve(state, listener, tls, until).await;
            let _ = done.send(());
            let _ = happened.send(Happened::ApiEnded(ended));
        });
        Ok(Api { runtime, shutdown, served })
    }

    /// Ends when open requests are answered, or have taken too long.
    pub fn finish(self) {
        let _ = self.shutdown.send(());
        let served = self.served;
        let is_served = self.runtime.block_on(async move { tokio::time::timeout(API_GRACE, served).await });
        if is_served.is_err() {
            tracing::warn!("requests that took too long were cut off");
        }
        self.runtime.shutdown_timeout(API_GRACE);
    }
}

fn api_settings(settings: &Settings, address: &SocketAddr) -> ApiSettings {
    let is_local = address.ip().is_loopback();
    let access = AccessSettings {
        token: settings.token.clone(),
        tokens_file: settings.tokens_file.clone(),
        public_reads: settings.public_reads,
        is_local,
        origins: settings.origins.clone(),
        is_tls: settings.tls.is_some(),
    };
    ApiSettings {
        access,
        max_body_bytes: settings.max_body_bytes,
        ingest_requests: settings.ingest_requests,
        live_streams: settings.live_streams,
        rows_default: settings.rows_default,
        rows_max: settings.rows_max,
        caught_up_lag_events: settings.caught_up_lag_events,
        quarantine_percent: settings.quarantine_percent,
        drop_grace_ms: settings.drop_grace_ms,
        retire_after_ms: settings.retire_after_ms,
        own_names: is_local.then(|| settings.own_names.clone()),
        limits: Limits { connections: settings.live_streams.saturating_add(FURTHER_CONNECTIONS), ..Limits::default() },
    }
}
