//! Runs the part of a view below its aggregate over batches of events.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::common::collect;
use datafusion::physical_plan::execution_plan::reset_plan_states;

use super::events::{EventsExec, Slot};
use super::guard::guarded;
use super::plan::Compiled;
use super::session::{finish, task};
use super::{View, ViewError};

/// Groups and their partial states, of one batch of events.
#[derive(Clone, Debug)]
pub struct Partial {
    /// The columns of `View::groups`: the pane's start first if the view has a window. A group may be there twice.
    pub groups: Vec<ArrayRef>,
    /// The columns of `View::states`.
    pub states: Vec<ArrayRef>,
}

/// A plan of its own over batches of events. One for each thread.
pub struct Mapper {
    file: String,
    plan: Arc<dyn ExecutionPlan>,
    slot: Slot,
    task: Arc<TaskContext>,
    /// The columns of the source that it needs.
    needed: SchemaRef,
    groups: usize,
    /// Of its answers, with names of the plan.
    schema: SchemaRef,
}

impl Mapper {
    pub(super) fn of(view: &View, compiled: &Compiled) -> Result<Self> {
        let mut slot = Slot::default();
        let plan = Arc::clone(&compiled.below).transform_up(|node| match node.downcast_ref::<EventsExec>() {
            Some(leaf) => {
                let leaf = leaf.detached();
                slot = leaf.slot();
                Ok(Transformed::yes(Arc::new(leaf) as Arc<dyn ExecutionPlan>))
            }
            None => Ok(Transformed::no(node)),
        })?;
        let needed = Arc::new(compiled.source_schema.project(&view.source_columns)?);
        let schema = plan.data.schema();
        Ok(Mapper { file: compiled.file.clone(), plan: plan.data, slot, task: task(), needed, groups: view.groups.fields().len(), schema })
    }

    /// The partial aggregates of a batch of events, whose columns are found by name. `None` if no event counts.
    ///
    /// # Errors
    /// An event on which an expression of the view fails (a division by zero, a cast) or panics. The mapper can be used again: each run begins with
    /// a plan that was reset.
    pub fn map(&mut self, events: &RecordBatch) -> Result<Option<Partial>, ViewError> {
        let mapped = guarded(|| self.run(events));
        mapped.map_err(|error| ViewError::evaluating(&self.file, &error))
    }

    fn run(&mut self, events: &RecordBatch) -> Result<Option<Partial>> {
        if events.num_rows() == 0 {
            return Ok(None);
        }
        *self.slot.lock() = Some(self.needed_of(events)?);
        // Without it every run leaves its metrics behind.
        self.plan = reset_plan_states(Arc::clone(&self.plan))?;
        let mut batches = finish(collect(self.plan.execute(0, Arc::clone(&self.task))?))?;
        batches.retain(|batch| batch.num_rows() > 0);
        let batch = match batches.as_slice() {
            [] => return Ok(None),
            [one] => one.clone(),
            several => concat_batches(&self.schema, several)?,
        };
        let (groups, states) = batch.columns().split_at_checked(self.groups).unwrap_or_default();
        Ok(Some(Partial { groups: groups.to_vec(), states: states.to_vec() }))
    }

    fn needed_of(&self, events: &RecordBatch) -> Result<RecordBatch> {
        let columns = self.needed.fields().iter().map(|field| {
            let column = events.column_by_name(field.name());
            column.cloned().ok_or_else(|| DataFusionError::Execution(format!("the events have no column {}", field.name())))
        });
        let options = RecordBatchOptions::new().with_row_count(Some(events.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.needed), columns.collect::<Result<Vec<_>>>()?, &options)?)
    }
}
