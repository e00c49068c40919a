//! Batches on their way: how many at once, and what becomes of those that fail.
//!
//! The number follows the cluster: it is halved when the cluster says that it is overloaded or answers too late, and grows by one for each
//! full round of successes, as a TCP window does.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use refold_processor::backoff::Backoff;
use refold_processor::store::StoreError;
use scylla::statement::batch::{Batch, BatchStatement, BatchType};
use tokio::time::Instant;

use crate::CassandraStore;
use crate::batches::Packed;
use crate::error::{Failure, Trouble};
use crate::rows::WireRow;
use crate::tables::OpenTable;

/// How many times a batch is sent at the most, in the time of one request.
const ATTEMPTS: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(40);
const LONGEST_PAUSE: Duration = Duration::from_millis(1_280);

/// How many batches may be on their way.
pub(crate) struct Window(Mutex<WindowState>);

struct WindowState {
    most: usize,
    now: usize,
    successes: usize,
    /// Failures of batches that were sent before say nothing new.
    shrunk: Option<Instant>,
}

impl Window {
    pub fn new(most: usize) -> Window {
        Window(Mutex::new(WindowState { most, now: most, successes: 0, shrunk: None }))
    }

    pub fn now(&self) -> usize {
        self.0.lock().now
    }

    fn succeeded(&self) {
        let mut state = self.0.lock();
        if state.now == state.most {
            return;
        }
        state.successes += 1;
        if state.successes >= state.now {
            state.successes = 0;
            state.now += 1;
        }
    }

    fn overloaded(&self, sent: Instant) {
        let mut state = self.0.lock();
        if state.shrunk.is_some_and(|shrunk| sent < shrunk) {
            return;
        }
        state.now = (state.now / 2).max(1);
        state.successes = 0;
        state.shrunk = Some(Instant::now());
        tracing::debug!(batches = state.now, "Cassandra is overloaded; fewer batches at once");
    }
}

impl CassandraStore {
    /// Sends batches, until all are acknowledged or one has failed for good.
    pub(crate) fn send(&self, open: &OpenTable, packed: &Packed<'_>) -> Result<(), StoreError> {
        let send_all = async {
            let mut batches = packed.batches.iter();
            let mut flying = FuturesUnordered::new();
            loop {
                while flying.len() < self.window.now()
                    && let Some(rows) = batches.next()
                {
                    flying.push(self.send_batch(open, packed, rows));
                }
                match flying.next().await {
                    Some(sent) => sent?,
                    None => return Ok(()),
                }
            }
        };
        self.client.wait(send_all).map_err(|failure| failure.of_table("writing rows of table", &open.name))
    }

    /// Sends a batch, again if need be: its rows have their timestamps, so twice does no harm.
    async fn send_batch(&self, open: &OpenTable, packed: &Packed<'_>, rows: &[u32]) -> Result<(), Failure> {
        let deadline = Instant::now() + self.settings.request_timeout();
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut attempts = 1;
        loop {
            let sent = Instant::now();
            let Err(failure) = self.send_once(open, packed, rows).await else {
                self.window.succeeded();
                return Ok(());
            };
            if failure.trouble == Trouble::Overload {
                self.window.overloaded(sent);
            }
            let pause = backoff.pause();
            if !failure.is_retryable() || attempts == ATTEMPTS || Instant::now() + pause >= deadline {
                return Err(failure);
            }
            tokio::time::sleep(pause).await;
            attempts += 1;
        }
    }

    async fn send_once(&self, open: &OpenTable, packed: &Packed<'_>, rows: &[u32]) -> Result<(), Failure> {
        let statement = |row: u32| if packed.is_deleted(row) { &open.delete } else { &open.upsert };
        if let [row] = rows {
            self.client.session.execute_unpaged(statement(*row), packed.row(*row)).await?;
            return Ok(());
        }
        let statements = rows.iter().map(|row| BatchStatement::PreparedStatement(statement(*row).clone())).collect();
        let mut batch = Batch::new_with_statements(BatchType::Unlogged, statements);
        batch.set_is_idempotent(true);
        let values: Vec<WireRow<'_>> = rows.iter().map(|row| packed.row(*row)).collect();
        self.client.session.batch(&batch, values).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_window_halves_once_for_what_was_sent_before_and_grows_a_round_at_a_time() {
        let window = Window::new(8);
        let sent = Instant::now();
        window.overloaded(sent);
        window.overloaded(sent);
        assert_eq!(window.now(), 4);
        for _ in 0..3 {
            window.succeeded();
        }
        assert_eq!(window.now(), 4);
        window.succeeded();
        assert_eq!(window.now(), 5);
        for _ in 0..100 {
            window.succeeded();
        }
        assert_eq!(window.now(), 8);
        for _ in 0..100 {
            window.overloaded(Instant::now());
        }
        assert_eq!(window.now(), 1);
    }
}
