//! DataFusion set up for views: functions, settings, and running it without a runtime.

use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};

use datafusion::catalog::TableProvider;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{FunctionRegistry, TaskContext};
use datafusion::logical_expr::ScalarUDF;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::exact;
use super::functions::MaskFields;
use datafusion::common::TableReference;

/// How many rows a plan hands on at a time. Events come in batches of about this many; larger ones are cut.
const BATCH_ROWS: usize = 32 << 10;

/// What plans run with. It is the same for all, so they share it: a session has tables of all functions, which take as much memory as everything else of a view.
pub(super) fn task() -> Arc<TaskContext> {
    static TASK: LazyLock<Arc<TaskContext>> = LazyLock::new(|| Arc::new(TaskContext::default().with_session_config(config())));
    Arc::clone(&TASK)
}

fn config() -> SessionConfig {
    // One partition: parallelism comes from many mappers, and a repartitioning plan cannot run twice.
    let mut config = SessionConfig::new().with_target_partitions(1).with_batch_size(BATCH_ROWS).with_collect_statistics(false);
    let options = config.options_mut();
    options.sql_parser.collect_spans = true;
    // Above 1 it never happens: a partial aggregate that gives up would answer with a group for each row.
    options.execution.skip_partial_aggregation_probe_ratio_threshold = 2.0;
    config
}

/// A session in which `table` is known by its name, with the given functions beside DataFusion's own.
pub(super) fn session(name: &str, table: Arc<dyn TableProvider>, functions: Vec<ScalarUDF>) -> Result<SessionContext> {
    let mut context = SessionContext::new_with_config(config());
    context.register_function_rewrite(Arc::new(MaskFields::default()))?;
    for function in functions {
        context.register_udf(function);
    }
    for function in exact::functions() {
        context.register_udaf(function);
    }
    context.register_table(TableReference::bare(name), table)?;
    Ok(context)
}

/// Runs a future that waits for nothing outside of itself, as plans over batches in memory do.
pub(super) fn finish<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    const PATIENCE: usize = 10_000_000;
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..PATIENCE {
        // A pending answer is a yield between two pieces of work, which asks to be polled again.
        if let Poll::Ready(answer) = future.as_mut().poll(&mut context) {
            return answer;
        }
    }
    Err(DataFusionError::Execution("the plan waits for something outside of it".into()))
}
