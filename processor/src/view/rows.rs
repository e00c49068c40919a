//! From groups and their states to rows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array, UInt64Array, new_null_array,
};
use datafusion::arrow::compute::{
    SortColumn, SortOptions, cast, concat, filter, filter_record_batch, lexsort_to_indices, partition, prep_null_mask_filter, take,
    take_record_batch,
};
use datafusion::arrow::datatypes::{SchemaRef, UInt32Type};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::EmitTo;
use datafusion::physical_expr::PhysicalExpr;

use super::absent::Absent;
use super::error::clean;
use super::guard::guarded;
use super::merger::Merger;
use super::plan::Compiled;
use super::storable;

/// The rows of some groups.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The columns of the view's table, a row for each group in the order of groups.
    pub rows: RecordBatch,
    /// `false` where HAVING excludes the group, or its row cannot be made: then only its key columns are filled.
    pub kept: BooleanArray,
}

/// What turns groups and results into rows.
pub(super) struct RowPlan {
    /// The groups in the order of GROUP BY, then the results.
    pub input: SchemaRef,
    /// Which place in GROUP BY each group column has.
    pub group_order: Vec<usize>,
    /// The names of the groups for people, in the order of GROUP BY.
    pub group_names: Vec<String>,
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
    /// Which output is the rank.
    pub output: usize,
    /// The input of the row plan and the rank.
    pub input: SchemaRef,
}

/// Expressions over some rows, and over which of them none fails: of the others the values are null.
struct Settled {
    columns: Vec<ArrayRef>,
    sound: BooleanArray,
}

/// Groups and the values of their aggregates, and for which groups they could be computed.
struct Results {
    batch: RecordBatch,
    sound: BooleanArray,
}

/// Results that can be rows, and their places among all.
struct Candidates {
    results: RecordBatch,
    places: UInt32Array,
}

/// The groups of one window or more in the order of their ranks: places among the results, and ranks.
struct Ranked {
    places: UInt32Array,
    ranks: UInt64Array,
}

/// Results that can be ranked, what they are sorted by, and their places among all.
struct Rankable {
    results: RecordBatch,
    sorting: Vec<ArrayRef>,
    places: UInt32Array,
}

impl Compiled {
    /// Rows of groups, for views that do not rank. A group that something fails for, for instance a division by zero, is excluded and noted.
    pub fn rows(&self, groups: &[ArrayRef], states: &[ArrayRef], absent: &mut Absent) -> Result<Rows> {
        let all = self.results(groups, states, absent)?;
        let count = all.batch.num_rows();
        // Only kept groups are evaluated: HAVING may be what keeps an expression from failing on the others.
        let candidates = self.candidates(&all, absent)?;
        let outputs = self.settle(&self.rows.outputs, &candidates.results, absent)?;
        if candidates.places.len() == count && outputs.sound.true_count() == count {
            return Ok(Rows { rows: self.batch_of(outputs.columns, count)?, kept: BooleanArray::from(vec![true; count]) });
        }
        let mut kept = vec![false; count];
        let mut evaluated: Vec<Option<u32>> = vec![None; count];
        for ((place, index), sound) in candidates.places.values().iter().zip(0_u32..).zip(outputs.sound.values().iter()) {
            if let (Some(kept), Some(evaluated)) = (kept.get_mut(*place as usize), evaluated.get_mut(*place as usize)) {
                (*kept, *evaluated) = (sound, Some(index));
            }
        }
        let evaluated = UInt32Array::from(evaluated);
        let mut columns = Vec::with_capacity(outputs.columns.len());
        for ((column, output), key) in outputs.columns.iter().zip(&self.rows.outputs).zip(&self.rows.keys) {
            columns.push(match (*key, column.len()) {
                (true, _) => self.key(output, &all.batch)?,
                (false, 0) => new_null_array(column.data_type(), count),
                (false, _) => take(column, &evaluated, None)?,
            });
        }
        Ok(Rows { rows: self.batch_of(columns, count)?, kept: BooleanArray::from(kept) })
    }

    /// The columns of rows that say which group a row is of; `None` in the place of all others.
    pub fn group_columns(&self, groups: &[ArrayRef], states: &[ArrayRef]) -> Result<Vec<Option<ArrayRef>>> {
        let results = self.results(groups, states, &mut Absent::default())?.batch;
        let outputs = self.rows.outputs.iter().zip(&self.rows.keys);
        outputs.map(|(output, key)| key.then(|| self.key(output, &results)).transpose()).collect()
    }

    /// A key column of rows, whatever else fails for them. NULL where the table cannot hold the value: there is no such row then.
    fn key(&self, output: &Arc<dyn PhysicalExpr>, results: &RecordBatch) -> Result<ArrayRef> {
        let mut columns = self.settle(std::slice::from_ref(output), results, &mut Absent::default())?.columns;
        columns.pop().ok_or_else(|| DataFusionError::Execution("an expression has no column".into()))
    }

    /// The first k of the groups of one window. A group that something fails for is not ranked, and noted.
    pub fn rank(&self, groups: &[ArrayRef], states: &[ArrayRef], absent: &mut Absent) -> Result<RecordBatch> {
        let ranker = self.ranker()?;
        let Rankable { results, sorting, .. } = self.rankable(ranker, &self.results(groups, states, absent)?, absent)?;
        let ranked = ranker.ranked(&sorting, results.num_rows())?;
        let first = take_record_batch(&results, &ranked.places)?;
        let outputs = self.settle(&self.rows.outputs, &ranker.with_ranks(&first, &ranked.ranks)?, &mut Absent::default())?;
        if outputs.sound.false_count() == 0 {
            return self.batch_of(outputs.columns, first.num_rows());
        }
        // The ranks of those that fail are for others, which may fail too.
        let outputs = self.at_any_rank(ranker, &results, absent)?;
        let sorting = only(&sorting, &outputs.sound)?;
        let columns = only(&outputs.columns, &outputs.sound)?;
        let ranked = ranker.ranked(&sorting, outputs.sound.true_count())?;
        let mut columns = columns.iter().map(|column| take(column, &ranked.places, None)).collect::<Result<Vec<_>, _>>()?;
        if let (Some(column), Some(field)) = (columns.get_mut(ranker.output), self.rows.columns.fields().get(ranker.output)) {
            *column = cast(&ranked.ranks, field.data_type())?;
        }
        self.batch_of(columns, ranked.ranks.len())
    }

    /// Of some groups of a window those that ranking, and with `possible` [`Compiled::possible_ranks`], needs of them, whatever the others are.
    /// The groups that cannot be ranked are noted here: with `possible` some of them are noted again with the ranking.
    pub fn first_groups(&self, groups: &[ArrayRef], states: &[ArrayRef], possible: bool, absent: &mut Absent) -> Result<UInt32Array> {
        let ranker = self.ranker()?;
        let all = self.results(groups, states, absent)?;
        let Rankable { results, sorting, places } = self.rankable(ranker, &all, absent)?;
        let ranked = ranker.ranked(&sorting, results.num_rows())?;
        let mut first: BTreeSet<u32> = ranked.places.values().iter().map(|place| places.value(*place as usize)).collect();
        let is_sound = |results: &RecordBatch| Ok::<_, DataFusionError>(self.at_any_rank(ranker, results, &mut Absent::default())?.sound);
        if is_sound(&take_record_batch(&results, &ranked.places)?)?.false_count() > 0 {
            let sound = is_sound(&results)?;
            let places = filter(&places, &sound)?;
            let ranked = ranker.ranked(&only(&sorting, &sound)?, sound.true_count())?;
            first.extend(ranked.places.values().iter().map(|place| places.as_primitive::<UInt32Type>().value(*place as usize)));
        }
        if possible {
            first.extend(ranker.any_first(&all.batch)?.places.values());
        }
        Ok(first.into_iter().collect::<Vec<u32>>().into())
    }

    /// The results that can be rows: all aggregates have a value, and HAVING keeps them.
    fn candidates(&self, all: &Results, absent: &mut Absent) -> Result<Candidates> {
        let places = UInt32Array::from_iter_values(0..all.batch.num_rows() as u32);
        let (results, places) = match all.sound.false_count() {
            0 => (all.batch.clone(), places),
            _ => (filter_record_batch(&all.batch, &all.sound)?, filter(&places, &all.sound)?.as_primitive::<UInt32Type>().clone()),
        };
        let Some(kept) = self.kept(&results, absent)? else { return Ok(Candidates { results, places }) };
        let places = filter(&places, &kept)?.as_primitive::<UInt32Type>().clone();
        Ok(Candidates { results: filter_record_batch(&results, &kept)?, places })
    }

    /// The results that can be ranked: what they are sorted by does not fail either.
    fn rankable(&self, ranker: &Ranker, all: &Results, absent: &mut Absent) -> Result<Rankable> {
        let Candidates { results, places } = self.candidates(all, absent)?;
        let sorting: Vec<_> = ranker.within.iter().chain(ranker.order.iter().map(|(expr, _)| expr)).cloned().collect();
        let Settled { columns, sound } = self.settle(&sorting, &results, absent)?;
        let places = filter(&places, &sound)?.as_primitive::<UInt32Type>().clone();
        Ok(Rankable { results: filter_record_batch(&results, &sound)?, sorting: only(&columns, &sound)?, places })
    }

    fn at_any_rank(&self, ranker: &Ranker, results: &RecordBatch, absent: &mut Absent) -> Result<Settled> {
        let any_rank = UInt64Array::from(vec![1; results.num_rows()]);
        self.settle(&self.rows.outputs, &ranker.with_ranks(results, &any_rank)?, absent)
    }

    /// As many ranks as the groups of one window can ever have had, when HAVING excluded fewer of them; only the keys of the rows are filled.
    pub fn possible_ranks(&self, groups: &[ArrayRef], states: &[ArrayRef]) -> Result<RecordBatch> {
        let ranker = self.ranker()?;
        let results = self.results(groups, states, &mut Absent::default())?.batch;
        let ranked = ranker.any_first(&results)?;
        let first = ranker.with_ranks(&take_record_batch(&results, &ranked.places)?, &ranked.ranks)?;
        let mut columns = Vec::with_capacity(self.rows.outputs.len());
        for (place, ((output, field), key)) in self.rows.outputs.iter().zip(self.rows.columns.fields()).zip(&self.rows.keys).enumerate() {
            columns.push(match *key || place == ranker.output {
                true => self.key(output, &first)?,
                false => new_null_array(field.data_type(), first.num_rows()),
            });
        }
        self.batch_of(columns, first.num_rows())
    }

    fn ranker(&self) -> Result<&Ranker> {
        self.rows.ranker.as_ref().ok_or_else(|| DataFusionError::Execution("the view has no ranking".into()))
    }

    /// Evaluates expressions; where that fails, for halves of the rows, until those that an expression fails on stand alone. What becomes of a
    /// row is then what becomes of it alone: which rows are evaluated with it decides nothing, although AND, OR and CASE evaluate more or less
    /// of their parts by them.
    fn settle(&self, exprs: &[Arc<dyn PhysicalExpr>], input: &RecordBatch, absent: &mut Absent) -> Result<Settled> {
        let count = input.num_rows();
        let error = match guarded(|| evaluated(exprs, input)) {
            Ok(columns) => return Ok(Settled { columns, sound: BooleanArray::from(vec![true; count]) }),
            Err(error) => error,
        };
        if count <= 1 {
            self.note(input.columns(), &error, absent);
            let schema = input.schema();
            let columns = exprs.iter().map(|expr| Ok(new_null_array(&expr.data_type(&schema)?, count))).collect::<Result<Vec<_>>>()?;
            return Ok(Settled { columns, sound: BooleanArray::from(vec![false; count]) });
        }
        let middle = count / 2;
        let first = self.settle(exprs, &input.slice(0, middle), absent)?;
        first.and(self.settle(exprs, &input.slice(middle, count - middle), absent)?)
    }

    /// Notes a group whose columns, in the order of GROUP BY, are the first ones of `columns`.
    fn note(&self, columns: &[ArrayRef], error: &DataFusionError, absent: &mut Absent) {
        let reason = clean(error);
        if !self.failure_was_said.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                view = self.file,
                error = reason,
                "the row of some groups cannot be made: they have none; `refold status` counts them"
            );
        }
        absent.note(&self.rows.group_names, columns, &reason);
    }

    /// The input of the row plan.
    fn results(&self, groups: &[ArrayRef], states: &[ArrayRef], absent: &mut Absent) -> Result<Results> {
        let count = groups.first().map_or(0, |group| group.len());
        let state_types = self.states.fields().iter().map(|field| field.data_type());
        let is_fitting = states.len() == self.states.fields().len()
            && states.iter().zip(state_types).all(|(state, data_type)| state.len() == count && state.data_type() == data_type);
        if !is_fitting || groups.len() != self.rows.group_order.len() {
            return Err(DataFusionError::Execution("the groups and states do not fit the view".into()));
        }
        if count == 0 {
            return Ok(Results {
                batch: RecordBatch::new_empty(Arc::clone(&self.rows.input)),
                sound: BooleanArray::from(Vec::<bool>::new()),
            });
        }
        let mut columns: Vec<Option<ArrayRef>> = vec![None; groups.len()];
        for (group, place) in groups.iter().zip(&self.rows.group_order) {
            if let Some(column) = columns.get_mut(*place) {
                *column = Some(Arc::clone(group));
            }
        }
        let mut columns: Vec<ArrayRef> = columns.into_iter().flatten().collect();
        let aggregated = self.aggregated(&columns, states, absent)?;
        columns.extend(aggregated.columns);
        Ok(Results { batch: RecordBatch::try_new(Arc::clone(&self.rows.input), columns)?, sound: aggregated.sound })
    }

    /// The values of the aggregates; where that fails, of halves of the groups, as [`Compiled::settle`] does. `groups` are in the order of GROUP BY.
    fn aggregated(&self, groups: &[ArrayRef], states: &[ArrayRef], absent: &mut Absent) -> Result<Settled> {
        let count = groups.first().map_or(0, |group| group.len());
        let error = match guarded(|| self.final_values(states, count)) {
            Ok(columns) => return Ok(Settled { columns, sound: BooleanArray::from(vec![true; count]) }),
            Err(error) => error,
        };
        if count <= 1 {
            self.note(groups, &error, absent);
            let results = self.rows.input.fields().iter().skip(groups.len());
            let columns = results.map(|field| new_null_array(field.data_type(), count)).collect();
            return Ok(Settled { columns, sound: BooleanArray::from(vec![false; count]) });
        }
        let middle = count / 2;
        let part = |columns: &[ArrayRef], from, len| columns.iter().map(|column| column.slice(from, len)).collect::<Vec<_>>();
        let first = self.aggregated(&part(groups, 0, middle), &part(states, 0, middle), absent)?;
        first.and(self.aggregated(&part(groups, middle, count - middle), &part(states, middle, count - middle), absent)?)
    }

    fn final_values(&self, states: &[ArrayRef], count: usize) -> Result<Vec<ArrayRef>> {
        let mut merger = Merger::of(self)?;
        let each: Vec<usize> = (0..count).collect();
        merger.merge_states(states, &each, count)?;
        merger.accumulators.iter_mut().map(|accumulator| accumulator.evaluate(EmitTo::All)).collect()
    }

    /// Which results HAVING keeps; `None`: all.
    fn kept(&self, results: &RecordBatch, absent: &mut Absent) -> Result<Option<BooleanArray>> {
        let Some(predicate) = &self.rows.predicate else { return Ok(None) };
        let verdicts = self.settle(std::slice::from_ref(predicate), results, absent)?.columns;
        if verdicts.first().is_some_and(|verdicts| verdicts.data_type().is_null()) {
            return Ok(Some(BooleanArray::from(vec![false; results.num_rows()])));
        }
        let verdicts = verdicts.first().and_then(|verdicts| verdicts.as_boolean_opt());
        let verdicts = verdicts.ok_or_else(|| DataFusionError::Execution("the condition is not a boolean".into()))?;
        // Neither true nor false excludes, as in SQL.
        Ok(Some(if verdicts.null_count() > 0 { prep_null_mask_filter(verdicts) } else { verdicts.clone() }))
    }

    fn batch_of(&self, columns: Vec<ArrayRef>, count: usize) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.rows.columns), columns, &options)?)
    }
}

impl Settled {
    /// These rows and others after them.
    fn and(self, others: Settled) -> Result<Settled> {
        let both = |(first, second): (&ArrayRef, &ArrayRef)| concat(&[first.as_ref(), second.as_ref()]);
        let columns = self.columns.iter().zip(&others.columns).map(both).collect::<Result<Vec<_>, _>>()?;
        let sound = self.sound.values().iter().chain(others.sound.values().iter()).collect::<Vec<bool>>();
        Ok(Settled { columns, sound: BooleanArray::from(sound) })
    }
}

/// The columns of expressions, if every store can keep all their values.
fn evaluated(exprs: &[Arc<dyn PhysicalExpr>], input: &RecordBatch) -> Result<Vec<ArrayRef>> {
    let count = input.num_rows();
    let columns = exprs.iter().map(|expr| expr.evaluate(input)?.into_array(count)).collect::<Result<Vec<_>>>()?;
    storable::check(&columns, count)?;
    Ok(columns)
}

impl Ranker {
    /// Ranks by the values of `within` and `order`.
    fn ranked(&self, sorting: &[ArrayRef], count: usize) -> Result<Ranked> {
        let within = sorting.get(..self.within.len()).unwrap_or_default();
        let sorting = sorting.iter().enumerate().map(|(place, values)| SortColumn {
            values: values.clone(),
            options: place.checked_sub(self.within.len()).and_then(|place| self.order.get(place)).map(|(_, options)| *options),
        });
        let sorting: Vec<SortColumn> = sorting.collect();
        // Within the window alone there is one ranking, whose first k are all that is needed.
        let limit = (within.len() == 1).then_some(self.k);
        let order = if sorting.is_empty() { None } else { Some(lexsort_to_indices(&sorting, limit)?) };
        Ranker::first_of_each(within, order, count, self.k)
    }

    /// Any k of the results that are ranked together.
    fn any_first(&self, results: &RecordBatch) -> Result<Ranked> {
        let count = results.num_rows();
        let within = self.within.iter().map(|expr| expr.evaluate(results)?.into_array(count)).collect::<Result<Vec<_>>>()?;
        Ranker::first_of_each(&within, None, count, self.k)
    }

    /// The first k of rows that are equal in `within`, in this order; without one, in any.
    fn first_of_each(within: &[ArrayRef], order: Option<UInt32Array>, count: usize, k: usize) -> Result<Ranked> {
        let order = match order {
            Some(order) => order,
            None if within.is_empty() => UInt32Array::from_iter_values(0..count as u32),
            None => {
                let sorting: Vec<SortColumn> = within.iter().map(|values| SortColumn { values: values.clone(), options: None }).collect();
                lexsort_to_indices(&sorting, None)?
            }
        };
        let partitions = within.iter().map(|values| take(values, &order, None)).collect::<Result<Vec<_>, _>>()?;
        let ranges = if partitions.is_empty() { std::iter::once(0..order.len()).collect() } else { partition(&partitions)?.ranges() };
        let (mut places, mut ranks) = (Vec::new(), Vec::new());
        for range in ranges {
            for (rank, place) in (1_u64..).zip(range).take(k) {
                ranks.push(rank);
                places.push(order.value(place));
            }
        }
        Ok(Ranked { places: places.into(), ranks: ranks.into() })
    }

    /// Results, and the rank of each.
    fn with_ranks(&self, results: &RecordBatch, ranks: &UInt64Array) -> Result<RecordBatch> {
        let mut columns = results.columns().to_vec();
        columns.push(Arc::new(ranks.clone()));
        Ok(RecordBatch::try_new(Arc::clone(&self.input), columns)?)
    }
}

fn only(columns: &[ArrayRef], sound: &BooleanArray) -> Result<Vec<ArrayRef>> {
    Ok(columns.iter().map(|column| filter(column, sound)).collect::<Result<_, _>>()?)
}
