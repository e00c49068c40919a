//! Searches the log for events that it may have already. One bounded search runs at a time for each source.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use axum::http::StatusCode;
use refold_collector::sink::{Found, find_while};
use refold_processor::log::NewRecord;
use refold_processor::position::Cut;
use tokio::sync::OwnedMutexGuard;

use crate::intake::{Intake, Intakes};
use crate::problem::Problem;
use crate::work::blocking;

/// Exclusive right to search a source and to append the missing events.
pub type Alone = OwnedMutexGuard<()>;

/// Waits briefly for a search that is running.
///
/// # Errors
/// 503 when that search takes longer.
pub async fn alone(intakes: &Intakes, intake: &Intake) -> Result<Alone, Problem> {
    let turn = tokio::time::timeout(intakes.limits.wait, intake.retries.clone().lock_owned()).await;
    turn.map_err(|_| intakes.places.ingest.refused())
}

/// Finds the events that are not in the log past `since`. The search stops when the client hangs up.
///
/// # Errors
/// 409 when `since` is past the end of the log, or when the log has too much data past `since`.
pub async fn missing(
    intakes: &Arc<Intakes>,
    intake: &Arc<Intake>,
    records: Vec<NewRecord>,
    since: Cut,
    alone: Alone,
) -> Result<(Found, Alone), Problem> {
    let gone = Gone::default();
    let is_gone = gone.0.clone();
    let (intakes, intake) = (intakes.clone(), intake.clone());
    blocking(move || {
        let (log, topic, limits) = (&intakes.log, &intake.source.topic, &intakes.limits);
        let partitions = log.partitions(topic)?;
        if let Some((unknown, _)) = since.iter().find(|(partition, _)| !partitions.contains(partition)) {
            return Err(Problem::parameter(format!("parameter since: topic {topic} has no partition {unknown}")));
        }
        let begun = Instant::now();
        let mut is_late = false;
        let found = find_while(log.as_ref(), topic, records, &since, &mut |read_bytes| {
            is_late = begun.elapsed() > limits.search_for;
            read_bytes <= limits.search_bytes && !is_late && !is_gone.load(Ordering::Relaxed)
        })?;
        match found {
            Some(found) => Ok((found, alone)),
            None if is_late => {
                Err(Problem::unavailable(format!("topic {topic} could not be searched in {} s; try again", limits.search_for.as_secs())))
            }
            None => Err(too_far(topic, limits.search_bytes)),
        }
    })
    .await
}

fn too_far(topic: &str, bytes: u64) -> Problem {
    let detail = format!(
        "topic {topic} has more than {} MiB past since, too much to be searched for these events: whether they were taken before is not known any more; ask for \
         the ends of the source again, and send what is to be taken with those (refold collect begins anew with --restart)",
        bytes >> 20
    );
    Problem::new(StatusCode::CONFLICT, "since", "The log reaches too far past since", detail).with("search_bytes", bytes)
}

/// Sets the flag when it is dropped: the client does not wait for the response any more.
#[derive(Default)]
struct Gone(Arc<AtomicBool>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
