//! From groups and their states to rows.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array, UInt64Array, new_null_array,
};
use datafusion::arrow::compute::{
    SortColumn, SortOptions, filter, filter_record_batch, lexsort_to_indices, partition, prep_null_mask_filter, take, take_record_batch,
};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::EmitTo;
use datafusion::physical_expr::PhysicalExpr;

use super::merger::Merger;
use super::plan::Compiled;

/// The rows of some groups.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The columns of the view's table, a row for each group in the order of groups.
    pub rows: RecordBatch,
    /// `false` where HAVING excludes the group: then only its key columns are filled.
    pub kept: BooleanArray,
}

/// What turns groups and results into rows.
pub(super) struct RowPlan {
    /// The groups in the order of GROUP BY, then the results.
    pub input: SchemaRef,
    /// Which place in GROUP BY each group column has.
    pub group_order: Vec<usize>,
    pub predicate: Option<Arc<dyn PhysicalExpr>>,
    pub outputs: Vec<Arc<dyn PhysicalExpr>>,
    /// Which outputs are group columns.
    pub keys: Vec<bool>,
    pub columns: SchemaRef,
    pub ranker: Option<Ranker>,
}

/// What ranks groups.
pub(super) struct Ranker {
    pub within: Vec<Arc<dyn PhysicalExpr>>,
    pub order: Vec<(Arc<dyn PhysicalExpr>, SortOptions)>,
    pub k: usize,
    /// The input of the row plan and the rank.
    pub input: SchemaRef,
}

/// Which groups take part in a ranking.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Entrants {
    /// Those that HAVING keeps.
    Kept,
    /// All.
    All,
}

impl Compiled {
    /// Rows of groups, for views that do not rank. A group whose expressions fail, for instance by a division by zero, is excluded.
    pub fn rows(&self, groups: &[ArrayRef], states: &[ArrayRef]) -> Result<Rows> {
        let error = match self.all_rows(groups, states) {
            Ok(rows) => return Ok(rows),
            Err(error) => error,
        };
        let sound = self.sound(groups, states, error)?;
        let (kept_groups, kept_states) = (only(groups, &sound)?, only(states, &sound)?);
        let evaluated = self.all_rows(&kept_groups, &kept_states)?;
        let (mut next, mut kept) = (0, Vec::with_capacity(sound.len()));
        let places: UInt32Array = sound
            .values()
            .iter()
            .map(|is_sound| {
                kept.push(is_sound && evaluated.kept.value(next as usize));
                is_sound.then(|| {
                    next += 1;
                    next - 1
                })
            })
            .collect();
        // The key columns are those of the groups, which no expression that fails is part of.
        let results = self.results(groups, states)?;
        let mut columns = Vec::new();
        for ((column, output), key) in evaluated.rows.columns().iter().zip(&self.rows.outputs).zip(&self.rows.keys) {
            columns.push(match (*key, evaluated.rows.num_rows()) {
                (true, _) => output.evaluate(&results)?.into_array(results.num_rows())?,
                (false, 0) => new_null_array(column.data_type(), results.num_rows()),
                (false, _) => take(column, &places, None)?,
            });
        }
        Ok(Rows { rows: self.batch_of(columns, results.num_rows())?, kept: BooleanArray::from(kept) })
    }

    /// Which groups have no expression that fails. `error` is what all of them together failed with.
    fn sound(&self, groups: &[ArrayRef], states: &[ArrayRef], error: DataFusionError) -> Result<BooleanArray> {
        let count = groups.first().map_or(0, |group| group.len());
        if !self.failure_was_said.swap(true, Ordering::Relaxed) {
            tracing::warn!(view = self.file, %error, "an expression of the view fails for some groups: they have no row");
        }
        let mut sound = vec![true; count];
        let mut doubtful = vec![(0, count)];
        while let Some((start, end)) = doubtful.pop() {
            let part = |columns: &[ArrayRef]| columns.iter().map(|column| column.slice(start, end - start)).collect::<Vec<_>>();
            if start == end || self.try_rows(&part(groups), &part(states)).is_ok() {
                continue;
            }
            if end - start == 1 {
                sound.get_mut(start).into_iter().for_each(|group| *group = false);
                continue;
            }
            let middle = usize::midpoint(start, end);
            doubtful.extend([(start, middle), (middle, end)]);
        }
        Ok(BooleanArray::from(sound))
    }

    fn try_rows(&self, groups: &[ArrayRef], states: &[ArrayRef]) -> Result<()> {
        match &self.rows.ranker {
            Some(ranker) => self.ranked(ranker, Entrants::Kept, groups, states).map(drop),
            None => self.all_rows(groups, states).map(drop),
        }
    }

    fn all_rows(&self, groups: &[ArrayRef], states: &[ArrayRef]) -> Result<Rows> {
        let results = self.results(groups, states)?;
        let count = results.num_rows();
        let Some(kept) = self.kept(&results)? else {
            return Ok(Rows { rows: self.project(&results)?, kept: BooleanArray::from(vec![true; count]) });
        };
        // Only kept groups are evaluated: HAVING may be what keeps an expression from failing on the others.
        let filtered = self.project(&filter_record_batch(&results, &kept)?)?;
        let mut next = 0;
        let places: UInt32Array = kept
            .values()
            .iter()
            .map(|kept| {
                kept.then(|| {
                    next += 1;
                    next - 1
                })
            })
            .collect();
        let mut columns = Vec::with_capacity(filtered.num_columns());
        for ((column, output), key) in filtered.columns().iter().zip(&self.rows.outputs).zip(&self.rows.keys) {
            columns.push(if *key {
                output.evaluate(&results)?.into_array(count)?
            } else if filtered.num_rows() == 0 {
                new_null_array(column.data_type(), count)
            } else {
                take(column, &places, None)?
            });
        }
        Ok(Rows { rows: self.batch_of(columns, count)?, kept })
    }

    /// The first k of the groups of one window. A group whose expressions fail is not ranked.
    pub fn rank(&self, groups: &[ArrayRef], states: &[ArrayRef]) -> Result<RecordBatch> {
        let Some(ranker) = &self.rows.ranker else {
            return Err(DataFusionError::Execution("the view has no ranking".into()));
        };
        self.ranked_if_sound(ranker, Entrants::Kept, groups, states)
    }

    /// As many ranks as the groups of one window can ever have had, when HAVING excluded fewer of them; only the keys of the rows mean anything.
    pub fn possible_ranks(&self, groups: &[ArrayRef], states: &[ArrayRef]) -> Result<RecordBatch> {
        let Some(ranker) = &self.rows.ranker else {
            return Err(DataFusionError::Execution("the view has no ranking".into()));
        };
        self.ranked_if_sound(ranker, Entrants::All, groups, states)
    }

    fn ranked_if_sound(&self, ranker: &Ranker, entrants: Entrants, groups: &[ArrayRef], states: &[ArrayRef]) -> Result<RecordBatch> {
        match self.ranked(ranker, entrants, groups, states) {
            Ok(ranked) => Ok(ranked),
            Err(error) => {
                let sound = self.sound(groups, states, error)?;
                self.ranked(ranker, entrants, &only(groups, &sound)?, &only(states, &sound)?)
            }
        }
    }

    fn ranked(&self, ranker: &Ranker, entrants: Entrants, groups: &[ArrayRef], states: &[ArrayRef]) -> Result<RecordBatch> {
        let mut results = self.results(groups, states)?;
        if entrants == Entrants::Kept
            && let Some(kept) = self.kept(&results)?
        {
            results = filter_record_batch(&results, &kept)?;
        }
        let count = results.num_rows();
        let mut sorting = Vec::new();
        for expr in &ranker.within {
            sorting.push(SortColumn { values: expr.evaluate(&results)?.into_array(count)?, options: None });
        }
        let within = sorting.len();
        for (expr, options) in &ranker.order {
            sorting.push(SortColumn { values: expr.evaluate(&results)?.into_array(count)?, options: Some(*options) });
        }
        // Within the window alone there is one ranking, whose first k are all that is needed.
        let limit = (within == 1).then_some(ranker.k);
        let order = if sorting.is_empty() {
            UInt32Array::from_iter_values(0..count.min(ranker.k) as u32)
        } else {
            lexsort_to_indices(&sorting, limit)?
        };
        let ordered = take_record_batch(&results, &order)?;
        let partitions = sorting.iter().take(within).map(|column| take(&column.values, &order, None)).collect::<Result<Vec<_>, _>>()?;
        let ranges =
            if partitions.is_empty() { std::iter::once(0..ordered.num_rows()).collect() } else { partition(&partitions)?.ranges() };
        let mut ranks = Vec::new();
        let mut chosen = Vec::new();
        for range in ranges {
            for (rank, place) in (1_u64..).zip(range).take(ranker.k) {
                ranks.push(rank);
                chosen.push(u32::try_from(place).map_err(|_| DataFusionError::Execution("more than 2^32 groups in a window".into()))?);
            }
        }
        let first = take_record_batch(&ordered, &UInt32Array::from(chosen))?;
        let mut columns = first.columns().to_vec();
        columns.push(Arc::new(UInt64Array::from(ranks)));
        self.project(&RecordBatch::try_new(Arc::clone(&ranker.input), columns)?)
    }

    /// The input of the row plan.
    fn results(&self, groups: &[ArrayRef], states: &[ArrayRef]) -> Result<RecordBatch> {
        let count = groups.first().map_or(0, |group| group.len());
        if count == 0 {
            return Ok(RecordBatch::new_empty(Arc::clone(&self.rows.input)));
        }
        let mut merger = Merger::of(self)?;
        let each: Vec<usize> = (0..count).collect();
        merger.merge_states(states, &each, count)?;
        let mut columns: Vec<Option<ArrayRef>> = vec![None; groups.len()];
        for (group, place) in groups.iter().zip(&self.rows.group_order) {
            if let Some(column) = columns.get_mut(*place) {
                *column = Some(Arc::clone(group));
            }
        }
        let mut columns: Vec<ArrayRef> = columns.into_iter().flatten().collect();
        for accumulator in &mut merger.accumulators {
            columns.push(accumulator.evaluate(EmitTo::All)?);
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.rows.input), columns)?)
    }

    fn kept(&self, results: &RecordBatch) -> Result<Option<BooleanArray>> {
        let Some(predicate) = &self.rows.predicate else { return Ok(None) };
        let verdicts = predicate.evaluate(results)?.into_array(results.num_rows())?;
        let verdicts = verdicts.as_boolean_opt().ok_or_else(|| DataFusionError::Execution("the condition is not a boolean".into()))?;
        // Neither true nor false excludes, as in SQL.
        Ok(Some(if verdicts.null_count() > 0 { prep_null_mask_filter(verdicts) } else { verdicts.clone() }))
    }

    fn project(&self, results: &RecordBatch) -> Result<RecordBatch> {
        let count = results.num_rows();
        let columns = self.rows.outputs.iter().map(|output| output.evaluate(results)?.into_array(count)).collect::<Result<Vec<_>>>()?;
        self.batch_of(columns, count)
    }

    fn batch_of(&self, columns: Vec<ArrayRef>, count: usize) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.rows.columns), columns, &options)?)
    }
}

fn only(columns: &[ArrayRef], sound: &BooleanArray) -> Result<Vec<ArrayRef>> {
    Ok(columns.iter().map(|column| filter(column, sound)).collect::<Result<_, _>>()?)
}
