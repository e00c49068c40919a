//! Work that waits for a disk or a database.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::limits;
use crate::problem::Problem;

/// Runs something that waits for a disk or a database where it holds up no other request.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Problem> + Send + 'static) -> Result<T, Problem> {
    let place = limits::held();
    let work = move || {
        let done = work();
        // Held until here, because the thread is occupied even if the client has hung up.
        drop(place);
        done
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(error) => Err(Problem::internal(format!("the request was not finished: {error}"))),
    }
}

/// The same for work that takes long: it is told whether the client has hung up.
pub async fn watched<T: Send + 'static>(work: impl FnOnce(&dyn Fn() -> bool) -> Result<T, Problem> + Send + 'static) -> Result<T, Problem> {
    let is_gone = Arc::new(AtomicBool::new(false));
    // Dropped with this future, which ends early when the client hangs up.
    let _watch = Watch(is_gone.clone());
    blocking(move || work(&|| is_gone.load(Ordering::Relaxed))).await
}

struct Watch(Arc<AtomicBool>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
