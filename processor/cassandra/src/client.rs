//! The driver's session with a runtime of its own, for callers that wait.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use scylla::client::session::Session;
use scylla::response::query_result::QueryRowsResult;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::serialize::row::SerializeRow;
use scylla::statement::Statement;
use scylla::statement::prepared::PreparedStatement;
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

use crate::error::Failure;

/// A session, and where it runs.
pub(crate) struct Client {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    pub session: Session,
    /// By text. Each is prepared by one caller while others wait: see [`crate::retry`] for what else comes of it.
    prepared: RwLock<HashMap<String, Arc<OnceCell<PreparedStatement>>>>,
    request_timeout: Duration,
    schema_timeout: Duration,
}

impl Client {
    pub fn new(runtime: Runtime, session: Session, request_timeout: Duration, schema_timeout: Duration) -> Client {
        Client { runtime: Some(runtime), session, prepared: RwLock::default(), request_timeout, schema_timeout }
    }

    /// Waits for a future, on the calling thread.
    pub fn wait<T>(&self, future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        match &self.runtime {
            Some(runtime) => runtime.block_on(future),
            None => Err(Failure::unavailable("the connection is closed")),
        }
    }

    /// A prepared statement that may be sent twice. Prepared once for each text.
    pub async fn prepare(&self, cql: &str) -> Result<PreparedStatement, Failure> {
        let cell = self.cell(cql);
        let prepare = cell.get_or_try_init(|| {
            let mut statement = Statement::new(cql);
            statement.set_is_idempotent(true);
            self.session.prepare(statement)
        });
        match tokio::time::timeout(self.request_timeout, prepare).await {
            Ok(prepared) => Ok(prepared?.clone()),
            Err(_) => Err(Failure::unavailable("no answer to the preparation of a statement")),
        }
    }

    fn cell(&self, cql: &str) -> Arc<OnceCell<PreparedStatement>> {
        if let Some(cell) = self.prepared.read().get(cql) {
            return cell.clone();
        }
        self.prepared.write().entry(cql.to_owned()).or_default().clone()
    }

    /// Forgets the statements about a table, which is named in them as `qualified`.
    pub fn forget(&self, qualified: &str) {
        self.prepared.write().retain(|cql, _| !cql.contains(qualified));
    }

    /// Carries a statement out that answers nothing.
    pub async fn execute(&self, cql: &str, values: impl SerializeRow) -> Result<(), Failure> {
        let prepared = self.prepare(cql).await?;
        self.session.execute_unpaged(&prepared, values).await?;
        Ok(())
    }

    /// All rows that a statement answers.
    pub async fn query(&self, prepared: &PreparedStatement, values: impl SerializeRow) -> Result<QueryRowsResult, Failure> {
        let result = self.session.execute_unpaged(prepared, values).await?;
        result.into_rows_result().map_err(|error| Failure::refused(error.to_string()))
    }

    /// A page of rows, and where the next begins.
    pub async fn page(
        &self,
        prepared: &PreparedStatement,
        values: impl SerializeRow,
        from: PagingState,
    ) -> Result<(QueryRowsResult, Option<PagingState>), Failure> {
        let (result, next) = self.session.execute_single_page(prepared, values, from).await?;
        let rows = result.into_rows_result().map_err(|error| Failure::refused(error.to_string()))?;
        let next = match next {
            PagingStateResponse::HasMorePages { state } => Some(state),
            PagingStateResponse::NoMorePages => None,
        };
        Ok((rows, next))
    }

    /// Changes the schema, and waits until all nodes know.
    pub async fn define(&self, cql: &str) -> Result<(), Failure> {
        let mut statement = Statement::new(cql);
        statement.set_request_timeout(Some(self.schema_timeout));
        self.session.query_unpaged(statement, ()).await?;
        Ok(())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Dropping it in the ordinary way would wait, which a thread that runs asynchronous tasks may not.
            runtime.shutdown_background();
        }
    }
}
