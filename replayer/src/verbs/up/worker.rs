//! The worker that runs versions in this process.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, Result};
use refold_processor::engine::faults::Faults;
use refold_processor::engine::run::RunSettings;
use refold_processor::engine::watermark::Quiet;
use refold_processor::engine::worker::{Pool, Ports, Worker, WorkerSettings};
use refold_processor::store::catalogue::Owner;

use crate::failure::Failure;
use crate::parts::{Parts, make_data_folder};
use crate::settings::Settings;

const LOCK_FILE: &str = "lock";

/// A worker, and the lock on the data folder that its state is in.
pub struct Locked {
    /// The worker.
    pub worker: Arc<Worker>,
    _lock: std::fs::File,
}

/// The worker of the settings' data folder, which does not run anything yet.
pub fn open(parts: &Parts, settings: &Settings, pool: Pool) -> Result<Locked, Failure> {
    make_data_folder(settings)?;
    let lock = lock(&settings.data)?;
    let worker = Worker::new(ports(parts), worker_settings(settings, pool, super::owner::owner(&settings.data)?)?);
    Ok(Locked { worker, _lock: lock })
}

/// Lets in one process at a time.
fn lock(data: &Path) -> Result<std::fs::File> {
    let path = data.join(LOCK_FILE);
    let file = std::fs::File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    file.try_lock().with_context(|| {
        format!("the data folder {} is in use by another process; stop that one or name another folder with --data", data.display())
    })?;
    Ok(file)
}

fn ports(parts: &Parts) -> Ports {
    Ports {
        log: parts.intake.log.clone(),
        store: parts.store.clone(),
        changes: parts.intake.changes.clone(),
        catalogue: parts.catalogue.clone(),
        schemas: parts.schemas.clone(),
        sources: parts.intake.sources.clone(),
        clock: parts.clock.clone(),
    }
}

fn worker_settings(settings: &Settings, pool: Pool, owner: Owner) -> Result<WorkerSettings, Failure> {
    let fault = settings.fault.as_deref().map(Faults::from_str).transpose();
    let faults = fault.map_err(|error| Failure::Usage(format!("fault: {error}")))?.unwrap_or_default();
    Ok(WorkerSettings {
        owner: owner.name,
        incarnation: owner.incarnation,
        pool,
        state_dir: settings.data.join("state"),
        memory_bytes: settings.memory_bytes,
        feed_threads: settings.threads,
        shards: settings.shards,
        chunk_bytes: settings.chunk_bytes.min(settings.memory_bytes / 128),
        run: RunSettings {
            commit_interval_ms: settings.commit_interval_ms,
            building_commit_interval_ms: settings.building_commit_interval_ms,
            sweep_windows: settings.sweep_windows,
            caught_up_lag: settings.caught_up_lag_events,
        },
        quiet: Quiet { idle_after_ms: settings.idle_after_ms, idle_drop_after_ms: settings.idle_drop_after_ms },
        lease_ms: settings.lease_ms,
        reconcile_interval_ms: settings.reconcile_interval_ms,
        queued_rows: settings.queued_rows,
        rows_per_write: settings.rows_per_write,
        retire_after_ms: settings.retire_after_ms,
        faults: Arc::new(faults),
    })
}
