//! Work that waits for a disk or a database.

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
