//! The worker that runs versions in this process.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, Result};
use refold_processor::engine::faults::Faults;
use refold_processor::engine::run::RunSettings;
use refold_processor::engine::watermark::Quiet;
use refold_processor::engine::worker::{Pool, Ports, Worker, WorkerSettings};

use crate::failure::Failure;
use crate::parts::{Parts, make_data_folder};
use crate::settings::Settings;

/// Keeps the name under which the worker of a data folder owns versions.
const OWNER_FILE: &str = "owner";
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
    let worker = Worker::new(ports(parts), worker_settings(settings, pool, owner(&settings.data)?)?);
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

/// The name of the owner: it stays with the state, so that a restart can take at once what a crash left behind.
fn owner(data: &Path) -> Result<String> {
    let path = data.join(OWNER_FILE);
    if let Some(name) = std::fs::read_to_string(&path).ok().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()) {
        return Ok(name);
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = Some(host.trim()).filter(|host| !host.is_empty()).unwrap_or("refold");
    // Two folders on one machine are two owners.
    let name = format!("{host}-{:08x}", RandomState::new().hash_one(std::process::id()) as u32);
    // Whole or not at all: two owners must not share half a name.
    let whole = data.join(format!("{OWNER_FILE}.new"));
    std::fs::write(&whole, &name)
        .and_then(|()| std::fs::rename(&whole, &path))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(name)
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

fn worker_settings(settings: &Settings, pool: Pool, owner: String) -> Result<WorkerSettings, Failure> {
    let fault = settings.fault.as_deref().map(Faults::from_str).transpose();
    let faults = fault.map_err(|error| Failure::Usage(format!("fault: {error}")))?.unwrap_or_default();
    Ok(WorkerSettings {
        owner,
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
        faults: Arc::new(faults),
    })
}
