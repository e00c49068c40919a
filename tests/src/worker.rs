//! A worker in the process of a test.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use refold_processor::engine::run::RunSettings;
use refold_processor::engine::watermark::Quiet;
use refold_processor::engine::worker::{Pool, Ports, Worker, WorkerSettings};
use refold_processor::store::catalogue::Incarnation;

/// A worker that runs until this value is dropped.
pub struct RunningWorker {
    worker: Arc<Worker>,
    thread: Option<JoinHandle<()>>,
}

impl RunningWorker {
    /// Starts one that keeps its state in `folder` and looks around often.
    pub fn start(ports: Ports, folder: &Path) -> RunningWorker {
        RunningWorker::start_as(ports, folder, Incarnation::default())
    }

    /// The same, as another run of the worker.
    pub fn start_as(ports: Ports, folder: &Path, incarnation: Incarnation) -> RunningWorker {
        RunningWorker::start_with(ports, folder, incarnation, |_| {})
    }

    /// The same, with other settings.
    pub fn start_with(ports: Ports, folder: &Path, incarnation: Incarnation, change: impl FnOnce(&mut WorkerSettings)) -> RunningWorker {
        let mut settings = WorkerSettings {
            pool: Pool::All,
            owner: "test".into(),
            incarnation,
            state_dir: folder.join("state"),
            memory_bytes: 64 << 20,
            feed_threads: 1,
            shards: 1,
            chunk_bytes: 10_000,
            run: RunSettings { commit_interval_ms: 20, building_commit_interval_ms: 100, sweep_windows: 12, caught_up_lag: 10 },
            quiet: Quiet { idle_after_ms: 5_000, idle_drop_after_ms: 86_400_000 },
            lease_ms: 10_000,
            reconcile_interval_ms: 50,
            queued_rows: 1_000,
            rows_per_write: 1_000,
            retire_after_ms: None,
            faults: Arc::default(),
        };
        change(&mut settings);
        let worker = Worker::new(ports, settings);
        let running = worker.clone();
        let thread = Some(std::thread::spawn(move || running.run()));
        RunningWorker { worker, thread }
    }

    /// Asks it to end; dropping this value waits for that.
    pub fn stop(&self) {
        self.worker.stop();
    }

    /// Waits until `found` finds something.
    #[track_caller]
    pub fn wait_for<T>(&self, what: &str, found: impl Fn(&Worker) -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(found) = found(&self.worker) {
                return found;
            }
            assert!(Instant::now() < deadline, "it does not come to it that {what}: {:?}", self.worker.status());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for RunningWorker {
    fn drop(&mut self) {
        self.worker.stop();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
