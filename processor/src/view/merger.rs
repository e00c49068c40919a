//! Merges aggregate states by group.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use datafusion::arrow::compute::take_arrays;
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
    dense: Dense,
}

/// Numbers groups in the order in which they come. Accumulators take a group below the highest for one that they have seen: a
/// group that comes later than a higher one would have a sum of 0 where it has none.
#[derive(Default)]
struct Dense {
    /// The dense number of each group.
    numbers: Vec<Option<usize>>,
    count: usize,
    /// Whether every group has come in order, so that its number is its index.
    in_order: bool,
    /// The numbers of the rows at hand.
    rows: Vec<usize>,
}

impl Dense {
    fn number(&mut self, group_indices: &[usize], total_groups: usize) -> Option<()> {
        if self.numbers.len() < total_groups {
            self.numbers.resize(total_groups, None);
        }
        self.in_order |= self.count == 0;
        self.rows.clear();
        for group in group_indices {
            let number = self.numbers.get_mut(*group)?;
            let number = *number.get_or_insert_with(|| {
                self.in_order &= self.count == *group;
                self.count += 1;
                self.count - 1
            });
            self.rows.push(number);
        }
        Some(())
    }

    /// Where each group is, in the order of groups. `None` if a group has never come.
    fn places(&self) -> Option<UInt64Array> {
        let places: Option<Vec<u64>> = self.numbers.iter().map(|number| number.and_then(|number| u64::try_from(number).ok())).collect();
        places.map(UInt64Array::from)
    }
}

impl Merger {
    pub(super) fn of(compiled: &Compiled) -> Result<Self> {
        let mut accumulators = Vec::with_capacity(compiled.functions.len());
        let mut widths = Vec::with_capacity(compiled.functions.len());
        for function in &compiled.functions {
            accumulators.push(accumulator(function)?);
            widths.push(function.state_fields()?.len());
        }
        Ok(Merger { file: compiled.file.clone(), accumulators, widths, schema: state_schema(&compiled.functions)?, dense: Dense::default() })
    }

    /// Merges the states of some groups into the accumulators.
    ///
    /// `states` are columns as `View::states`; row `i` belongs to the group `group_indices[i]`, which may repeat.
    /// All indices are below `total_groups`, which never shrinks until [`Merger::take`].
    ///
    /// # Errors
    /// States that do not fit the view.
    pub fn merge(&mut self, states: &[ArrayRef], group_indices: &[usize], total_groups: usize) -> Result<(), ViewError> {
        let merged = self.merge_states(states, group_indices, total_groups);
        merged.map_err(|error| ViewError::evaluating(&self.file, &error))
    }

    pub(super) fn merge_states(&mut self, states: &[ArrayRef], group_indices: &[usize], total_groups: usize) -> Result<()> {
        let wrong = || DataFusionError::Execution("the states do not fit the view".into());
        if states.iter().any(|column| column.len() != group_indices.len()) {
            return Err(wrong());
        }
        self.dense.number(group_indices, total_groups).ok_or_else(wrong)?;
        let mut rest = states;
        for (accumulator, width) in self.accumulators.iter_mut().zip(&self.widths) {
            let (own, others) = rest.split_at_checked(*width).ok_or_else(wrong)?;
            accumulator.merge_batch(own, &self.dense.rows, self.dense.count)?;
            rest = others;
        }
        if rest.is_empty() { Ok(()) } else { Err(wrong()) }
    }

    /// The states of all groups, in the order of their indices. The merger is empty afterwards.
    ///
    /// # Errors
    /// A group below `total_groups` into which nothing was merged.
    pub fn take(&mut self) -> Result<Vec<ArrayRef>, ViewError> {
        let taken = self.take_states();
        taken.map_err(|error| ViewError::evaluating(&self.file, &error))
    }

    fn take_states(&mut self) -> Result<Vec<ArrayRef>> {
        let dense = std::mem::take(&mut self.dense);
        if dense.count == 0 {
            return Ok(RecordBatch::new_empty(Arc::clone(&self.schema)).columns().to_vec());
        }
        let mut states = Vec::with_capacity(self.schema.fields().len());
        for accumulator in &mut self.accumulators {
            states.extend(accumulator.state(EmitTo::All)?);
        }
        let places = dense.places().ok_or_else(|| DataFusionError::Execution("nothing was merged into a group".into()))?;
        let states = if dense.in_order { states } else { take_arrays(&states, &places, None)? };
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), states)?.columns().to_vec())
    }

    /// How much memory the accumulators hold, in bytes.
    pub fn size(&self) -> usize {
        self.accumulators.iter().map(|accumulator| accumulator.size()).sum::<usize>() + self.dense.numbers.capacity() * size_of::<Option<usize>>()
    }
}
