//! The oracle: a view's SELECT as one batch, with nothing of this module in between.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::datasource::MemTable;
use datafusion::error::Result;
use datafusion::physical_plan::collect;

use super::plan::{Compiled, analyze};
use super::session::{finish, session};
use super::{checked, functions};

impl Compiled {
    /// Runs the query over the events, in any order of rows; only types are brought to those of the table.
    pub fn batch(&self, source: &str, columns: &SchemaRef, events: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        let table = MemTable::try_new(Arc::clone(&self.source_schema), vec![events])?;
        let context = session(source, Arc::new(table), functions::all())?;
        let state = context.state();
        let plan = analyze(&state, &self.query)?;
        let plan = checked::plan(finish(state.create_physical_plan(&plan))?)?;
        let batches = finish(collect(plan, context.task_ctx()))?;
        let to_table = |batch: RecordBatch| -> Result<RecordBatch> {
            let pairs = batch.columns().iter().zip(columns.fields());
            let converted = pairs.map(|(column, field)| cast(column, field.data_type())).collect::<Result<Vec<_>, _>>()?;
            Ok(RecordBatch::try_new(Arc::clone(columns), converted)?)
        };
        batches.into_iter().map(to_table).collect()
    }
}
