//! Merges aggregate states by group.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

use super::ViewError;
use super::aggregates::{accumulator, state_schema};
use super::plan::Compiled;

/// Accumulators of all aggregates of a view, for many groups.
pub struct Merger {
    file: String,
    pub(super) accumulators: Vec<Box<dyn GroupsAccumulator>>,
    /// How many state columns each accumulator has.
    widths: Vec<usize>,
    schema: SchemaRef,
}

impl Merger {
    pub(super) fn of(compiled: &Compiled) -> Result<Self> {
        let mut accumulators = Vec::with_capacity(compiled.functions.len());
        let mut widths = Vec::with_capacity(compiled.functions.len());
        for function in &compiled.functions {
            accumulators.push(accumulator(function)?);
            widths.push(function.state_fields()?.len());
        }
        Ok(Merger { file: compiled.file.clone(), accumulators, widths, schema: state_schema(&compiled.functions)? })
    }

    /// Merges the states of some groups into the accumulators.
    ///
    /// `states` are columns as `View::states`; row `i` belongs to the group `group_indices[i]`, which may repeat.
    /// `total_groups` is one more than the largest index used so far; it never shrinks until [`Merger::take`].
    pub fn merge(&mut self, states: &[ArrayRef], group_indices: &[usize], total_groups: usize) -> Result<(), ViewError> {
        let merged = self.merge_states(states, group_indices, total_groups);
        merged.map_err(|error| ViewError::evaluating(&self.file, &error))
    }

    pub(super) fn merge_states(&mut self, states: &[ArrayRef], group_indices: &[usize], total_groups: usize) -> Result<()> {
        let wrong = || DataFusionError::Execution("the states do not fit the view".into());
        if group_indices.iter().any(|group| *group >= total_groups) || states.iter().any(|column| column.len() != group_indices.len()) {
            return Err(wrong());
        }
        let mut rest = states;
        for (accumulator, width) in self.accumulators.iter_mut().zip(&self.widths) {
            let (own, others) = rest.split_at_checked(*width).ok_or_else(wrong)?;
            accumulator.merge_batch(own, group_indices, total_groups)?;
            rest = others;
        }
        if rest.is_empty() { Ok(()) } else { Err(wrong()) }
    }

    /// The states of all groups, in the order of their indices. The merger is empty afterwards.
    pub fn take(&mut self) -> Result<Vec<ArrayRef>, ViewError> {
        let taken = self.take_states();
        taken.map_err(|error| ViewError::evaluating(&self.file, &error))
    }

    fn take_states(&mut self) -> Result<Vec<ArrayRef>> {
        let mut states = Vec::with_capacity(self.schema.fields().len());
        for accumulator in &mut self.accumulators {
            states.extend(accumulator.state(EmitTo::All)?);
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), states)?.columns().to_vec())
    }

    /// How much memory the accumulators hold, in bytes.
    pub fn size(&self) -> usize {
        self.accumulators.iter().map(|accumulator| accumulator.size()).sum()
    }
}
