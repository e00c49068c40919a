//! Accumulators of exact sums.

use std::mem::size_of_val;

use datafusion::arrow::array::{ArrayRef, AsArray};
use datafusion::arrow::datatypes::{Float64Type, UInt64Type};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::Accumulator;
use datafusion::scalar::ScalarValue;

use super::Kind;
use super::number::{Exact, variance};

/// The count, the sum and, where needed, the sum of squares of floating-point numbers.
#[derive(Debug)]
pub(super) struct Moments {
    kind: Kind,
    count: u64,
    sum: Exact,
    squares: Exact,
}

impl Moments {
    pub fn new(kind: Kind) -> Self {
        Moments { kind, count: 0, sum: Exact::default(), squares: Exact::default() }
    }
}

impl Accumulator for Moments {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [values] = values else { return exec_err!("one argument expected") };
        for value in values.as_primitive::<Float64Type>().iter().flatten() {
            self.count += 1;
            self.sum.add(value);
            if self.kind.squares() {
                self.squares.add_product(value, value);
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let (sums, squares, counts) = match states {
            [sums, squares, counts] => (sums, Some(squares), counts),
            [sums, counts] => (sums, None, counts),
            _ => return exec_err!("the state of {:?} does not fit", self.kind),
        };
        for sum in sums.as_binary::<i32>().iter().flatten() {
            self.sum.merge(sum)?;
        }
        for squares in squares.into_iter().flat_map(|squares| squares.as_binary::<i32>().iter().flatten()) {
            self.squares.merge(squares)?;
        }
        self.count += counts.as_primitive::<UInt64Type>().iter().flatten().sum::<u64>();
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut state = vec![ScalarValue::Binary(Some(self.sum.to_bytes()))];
        if self.kind.squares() {
            state.push(ScalarValue::Binary(Some(self.squares.to_bytes())));
        }
        state.push(ScalarValue::UInt64(Some(self.count)));
        Ok(state)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let value = match self.kind {
            _ if self.count == 0 => None,
            Kind::Sum | Kind::Extreme => Some(self.sum.rounded()),
            Kind::Average => Some(self.sum.average(self.count)),
            Kind::Variance { sample } => variance(self.count, &self.sum, &self.squares, sample),
            Kind::Deviation { sample } => variance(self.count, &self.sum, &self.squares, sample).map(f64::sqrt),
        };
        Ok(ScalarValue::Float64(value))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.sum.allocated() + self.squares.allocated()
    }
}
