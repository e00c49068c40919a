//! Kernels that panic: what they are asked to compute fails, and nothing else.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use datafusion::common::exec_err;
use datafusion::error::Result;

/// Runs a computation; a panic in it is an error as any other. What it has changed must not be used after one.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done,
        Err(panic) => exec_err!("the computation panicked: {}", text_of(panic.as_ref())),
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}
