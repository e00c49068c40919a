//! Sums and averages of integers, decimals and durations.
//!
//! They are kept in more digits than any number of events can fill, and fitted to the type of the result once, when a row is made: a sum that
//! leaves the type on its way and comes back is right, and one that does not fit is an error of its group, never a number that wrapped around.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, ArrowNativeTypeOp, AsArray, BooleanArray, Decimal256Array, Float64Array, Int64Array, PrimitiveArray, UInt64Array,
};
use datafusion::arrow::compute::{CastOptions, cast, cast_with_options};
use datafusion::arrow::datatypes::{
    DataType, Decimal128Type, Decimal256Type, DecimalType, DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType,
    DurationSecondType, Int64Type, TimeUnit, UInt64Type, i256,
};
use datafusion::common::exec_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

/// The most digits of a total of decimals; a decimal of 38 digits can be added up 10^38 times.
const WIDE_DIGITS: u8 = 76;

/// The type that values of this type are added up in, if they are whole numbers of some unit.
pub(super) fn total_type(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Int64 | DataType::UInt64 | DataType::Duration(_) => Some(DataType::Decimal128(38, 0)),
        DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) | DataType::Decimal128(_, scale) => {
            Some(DataType::Decimal256(WIDE_DIGITS, *scale))
        }
        _ => None,
    }
}

/// The accumulator of sums, or of averages, of values of a type. `None`: they are not whole numbers.
pub(super) fn accumulator(argument: &DataType, result: &DataType, is_average: bool) -> Option<Box<dyn GroupsAccumulator>> {
    let total_type = total_type(argument)?;
    Some(match total_type {
        DataType::Decimal128(..) => Box::new(Totals::<Decimal128Type>::new(total_type, result, is_average)),
        _ => Box::new(Totals::<Decimal256Type>::new(total_type, result, is_average)),
    })
}

/// A type that values are added up in.
trait Total: DecimalType + Sized {
    /// A total in the widest of them.
    fn wide(total: Self::Native) -> i256;

    /// Values as such totals.
    fn of(values: &ArrayRef) -> Result<PrimitiveArray<Self>>;
}

impl Total for Decimal128Type {
    fn wide(total: i128) -> i256 {
        i256::from_i128(total)
    }

    fn of(values: &ArrayRef) -> Result<PrimitiveArray<Self>> {
        Ok(match values.data_type() {
            DataType::Int64 => values.as_primitive::<Int64Type>().unary(i128::from),
            DataType::UInt64 => values.as_primitive::<UInt64Type>().unary(i128::from),
            DataType::Duration(TimeUnit::Second) => values.as_primitive::<DurationSecondType>().unary(i128::from),
            DataType::Duration(TimeUnit::Millisecond) => values.as_primitive::<DurationMillisecondType>().unary(i128::from),
            DataType::Duration(TimeUnit::Microsecond) => values.as_primitive::<DurationMicrosecondType>().unary(i128::from),
            DataType::Duration(TimeUnit::Nanosecond) => values.as_primitive::<DurationNanosecondType>().unary(i128::from),
            other => return exec_err!("{other} is not added up in 64 bits"),
        })
    }
}

impl Total for Decimal256Type {
    fn wide(total: i256) -> i256 {
        total
    }

    fn of(values: &ArrayRef) -> Result<PrimitiveArray<Self>> {
        match values.data_type() {
            DataType::Decimal128(..) => Ok(values.as_primitive::<Decimal128Type>().unary(i256::from_i128)),
            DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) => {
                Ok(cast(values, &DataType::Decimal256(WIDE_DIGITS, *scale))?.as_primitive::<Decimal256Type>().clone())
            }
            other => exec_err!("{other} is not added up as a decimal"),
        }
    }
}

/// The total of each group, and of how many values it is.
struct Totals<T: Total> {
    total_type: DataType,
    result: DataType,
    is_average: bool,
    totals: Vec<T::Native>,
    /// Of a sum it only tells whether there is a value.
    counts: Vec<u64>,
}

impl<T: Total> Totals<T> {
    fn new(total_type: DataType, result: &DataType, is_average: bool) -> Self {
        Totals { total_type, result: result.clone(), is_average, totals: Vec::new(), counts: Vec::new() }
    }

    /// Adds values, each with the number of values that it stands for.
    fn add(
        &mut self,
        values: &PrimitiveArray<T>,
        groups: &[usize],
        total_groups: usize,
        counted: impl Fn(usize) -> Option<u64>,
    ) -> Result<()> {
        if self.totals.len() < total_groups {
            self.totals.resize(total_groups, T::Native::ZERO);
            self.counts.resize(total_groups, 0);
        }
        if values.len() != groups.len() {
            return exec_err!("{} values came with {} groups", values.len(), groups.len());
        }
        for (row, group) in groups.iter().enumerate() {
            let (false, Some(count)) = (values.is_null(row), counted(row)) else { continue };
            let (Some(total), Some(so_far)) = (self.totals.get_mut(*group), self.counts.get_mut(*group)) else {
                return exec_err!("group {group} is not one of {total_groups}");
            };
            *total = total.add_checked(values.value(row))?;
            *so_far += count;
        }
        Ok(())
    }

    fn take(&mut self, emit_to: EmitTo) -> Vec<(T::Native, u64)> {
        let (totals, counts) = (emit_to.take_needed(&mut self.totals), emit_to.take_needed(&mut self.counts));
        totals.into_iter().zip(counts).collect()
    }

    /// Totals as a column; NULL without values.
    fn column(&self, totals: impl Iterator<Item = Option<T::Native>>) -> ArrayRef {
        Arc::new(totals.collect::<PrimitiveArray<T>>().with_data_type(self.total_type.clone()))
    }

    fn scale(&self) -> i8 {
        match self.total_type {
            DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => scale,
            _ => 0,
        }
    }

    /// What a total becomes in the units of the result. An average is cut off after the last digit of its type.
    fn in_units(&self, total: i256, count: u64) -> Result<i256> {
        if !self.is_average {
            return Ok(total);
        }
        let digits = match self.result {
            DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) | DataType::Decimal128(_, scale) => scale - self.scale(),
            _ => 0,
        };
        let unit = i256::from_i128(10).pow_checked(u32::try_from(digits).unwrap_or(0))?;
        Ok(total.mul_checked(unit)?.div_checked(i256::from_i128(i128::from(count)))?)
    }

    fn fitted<N>(&self, totals: &[(T::Native, u64)], fit: impl Fn(i256) -> Option<N>) -> Result<Vec<Option<N>>> {
        let one = |(total, count): &(T::Native, u64)| -> Result<Option<N>> {
            if *count == 0 {
                return Ok(None);
            }
            let value = self.in_units(T::wide(*total), *count)?;
            fit(value).map(Some).ok_or_else(|| self.too_large(T::wide(*total)))
        };
        totals.iter().map(one).collect()
    }

    fn too_large(&self, total: i256) -> DataFusionError {
        let name = if self.is_average { "the average of what adds up to" } else { "the sum" };
        let total = Decimal256Type::format_decimal(total, WIDE_DIGITS, self.scale());
        DataFusionError::Execution(format!("{name} {total} does not fit {}", self.result))
    }
}

impl<T: Total> GroupsAccumulator for Totals<T> {
    fn update_batch(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>, total_groups: usize) -> Result<()> {
        let [values] = values else { return exec_err!("one argument expected") };
        let is_counted = |row: usize| filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        self.add(&T::of(values)?, groups, total_groups, |row| is_counted(row).then_some(1))
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total_groups: usize) -> Result<()> {
        match states {
            [totals, counts] if self.is_average => {
                let counts = counts.as_primitive::<UInt64Type>();
                self.add(totals.as_primitive::<T>(), groups, total_groups, |row| Some(counts.value(row)))
            }
            [totals] if !self.is_average => self.add(totals.as_primitive::<T>(), groups, total_groups, |_| Some(1)),
            _ => exec_err!("the state of a total does not fit"),
        }
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let totals = self.take(emit_to);
        let column = self.column(totals.iter().map(|(total, count)| (*count > 0).then_some(*total)));
        if !self.is_average {
            return Ok(vec![column]);
        }
        Ok(vec![column, Arc::new(UInt64Array::from_iter_values(totals.iter().map(|(_, count)| *count)))])
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let mut alone = Totals::<T>::new(self.total_type.clone(), &self.result, self.is_average);
        let count = values.first().map_or(0, |values| values.len());
        alone.update_batch(values, &(0..count).collect::<Vec<_>>(), filter, count)?;
        alone.state(EmitTo::All)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let totals = self.take(emit_to);
        let whole = |value: i256| value.to_i128().and_then(|value| i64::try_from(value).ok());
        Ok(match &self.result {
            DataType::Float64 => {
                let average = |(total, count): (T::Native, u64)| (count > 0).then(|| to_f64(T::wide(total)) / count as f64);
                Arc::new(totals.into_iter().map(average).collect::<Float64Array>())
            }
            DataType::Int64 => Arc::new(Int64Array::from(self.fitted(&totals, whole)?)),
            DataType::UInt64 => {
                let whole = |value: i256| value.to_i128().and_then(|value| u64::try_from(value).ok());
                Arc::new(UInt64Array::from(self.fitted(&totals, whole)?))
            }
            DataType::Duration(_) => cast(&Int64Array::from(self.fitted(&totals, whole)?), &self.result)?,
            DataType::Decimal128(precision, _) => {
                let digits = |value: i256| value.to_i128().filter(|value| Decimal128Type::is_valid_decimal_precision(*value, *precision));
                let values: PrimitiveArray<Decimal128Type> = self.fitted(&totals, digits)?.into_iter().collect();
                Arc::new(values.with_data_type(self.result.clone()))
            }
            DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) => {
                let values: Decimal256Array = self.fitted(&totals, Some)?.into_iter().collect();
                // The cast refuses what has too many digits.
                let options = CastOptions { safe: false, ..CastOptions::default() };
                let values = values.with_precision_and_scale(WIDE_DIGITS, *scale)?;
                cast_with_options(&values, &self.result, &options)?
            }
            other => return exec_err!("a total does not become {other}"),
        })
    }

    fn size(&self) -> usize {
        self.totals.capacity() * size_of::<T::Native>() + self.counts.capacity() * size_of::<u64>()
    }
}

/// The nearest number; totals of 64-bit integers have at most 128 bits.
fn to_f64(total: i256) -> f64 {
    total.to_i128().map_or(f64::NAN, |total| total as f64)
}
