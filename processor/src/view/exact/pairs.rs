//! Aggregates of pairs of numbers: covariance, correlation, and the line that fits them best by least squares.
//!
//! What they are computed from is kept exactly; only the last steps, from differences of products of sums on, are rounded. They are
//! NULL where SQL says so: without pairs, and where the numbers that are divided by do not differ. As in `regr_*`, the first argument
//! is y, the second x, and a pair with a NULL is none. An infinity, or what is no number, in one of the sums that a value is computed
//! from makes the value no number; an average becomes what the sum of its numbers does.

use std::mem::size_of_val;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type, UInt64Type};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::functions_aggregate::{correlation, covariance, regr};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature};
use datafusion::scalar::ScalarValue;

use super::number::{Exact, Scaled, comoment, covariance as covariance_of};

pub(super) fn functions() -> Vec<AggregateUDF> {
    let of = |inner, kind| AggregateUDF::from(OfPairs { inner, kind });
    vec![
        of(covariance::covar_samp_udaf(), Kind::Covariance { sample: true }),
        of(covariance::covar_pop_udaf(), Kind::Covariance { sample: false }),
        of(correlation::corr_udaf(), Kind::Correlation),
        of(regr::regr_slope_udaf(), Kind::Slope),
        of(regr::regr_intercept_udaf(), Kind::Intercept),
        of(regr::regr_r2_udaf(), Kind::Determination),
        of(regr::regr_count_udaf(), Kind::Count),
        of(regr::regr_avgx_udaf(), Kind::AverageX),
        of(regr::regr_avgy_udaf(), Kind::AverageY),
        of(regr::regr_sxx_udaf(), Kind::SumXX),
        of(regr::regr_syy_udaf(), Kind::SumYY),
        of(regr::regr_sxy_udaf(), Kind::SumXY),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Covariance {
        sample: bool,
    },
    Correlation,
    Slope,
    Intercept,
    /// R².
    Determination,
    Count,
    AverageX,
    AverageY,
    /// Σ(x - mean)², and so on.
    SumXX,
    SumYY,
    SumXY,
}

/// What is summed up.
#[derive(Clone, Copy, Debug)]
enum Part {
    X,
    Y,
    XX,
    YY,
    XY,
}

impl Kind {
    /// The sums that the value is computed from.
    fn parts(self) -> &'static [Part] {
        match self {
            Kind::Count => &[],
            Kind::AverageX => &[Part::X],
            Kind::AverageY => &[Part::Y],
            Kind::SumXX => &[Part::X, Part::XX],
            Kind::SumYY => &[Part::Y, Part::YY],
            Kind::Covariance { .. } | Kind::SumXY => &[Part::X, Part::Y, Part::XY],
            Kind::Slope | Kind::Intercept => &[Part::X, Part::Y, Part::XX, Part::XY],
            Kind::Correlation | Kind::Determination => &[Part::X, Part::Y, Part::XX, Part::YY, Part::XY],
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OfPairs {
    inner: Arc<AggregateUDF>,
    kind: Kind,
}

impl AggregateUDFImpl for OfPairs {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arguments)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field = |part: &str, data_type| Arc::new(Field::new(format_state_name(args.name, part), data_type, true));
        let sums = self.kind.parts().iter().map(|part| field(&format!("{part:?}").to_lowercase(), DataType::Binary));
        Ok(sums.chain([field("count", DataType::UInt64)]).collect())
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.inner.default_value(data_type)
    }

    fn accumulator(&self, _args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Pairs::new(self.kind)))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// The count of pairs, the sums of their numbers, and those of their products.
#[derive(Debug)]
pub(super) struct Pairs {
    kind: Kind,
    count: u64,
    x: Exact,
    y: Exact,
    xx: Exact,
    yy: Exact,
    xy: Exact,
}

impl Pairs {
    pub fn new(kind: Kind) -> Pairs {
        let [x, y, xx, yy, xy] = [(); 5].map(|()| Exact::default());
        Pairs { kind, count: 0, x, y, xx, yy, xy }
    }

    fn sum(&self, part: Part) -> &Exact {
        match part {
            Part::X => &self.x,
            Part::Y => &self.y,
            Part::XX => &self.xx,
            Part::YY => &self.yy,
            Part::XY => &self.xy,
        }
    }

    fn sum_mut(&mut self, part: Part) -> &mut Exact {
        match part {
            Part::X => &mut self.x,
            Part::Y => &mut self.y,
            Part::XX => &mut self.xx,
            Part::YY => &mut self.yy,
            Part::XY => &mut self.xy,
        }
    }

    fn of_xx(&self) -> Scaled {
        comoment(self.count, &self.xx, &self.x, &self.x)
    }

    fn of_yy(&self) -> Scaled {
        comoment(self.count, &self.yy, &self.y, &self.y)
    }

    fn of_xy(&self) -> Scaled {
        comoment(self.count, &self.xy, &self.x, &self.y)
    }

    fn average(&self, sum: &Exact) -> f64 {
        sum.average(self.count)
    }

    /// The slope of the line, unless all x are the same.
    fn slope(&self) -> Option<f64> {
        let xx = self.of_xx();
        (self.count > 1 && !xx.is_zero()).then(|| self.of_xy().over(xx).number())
    }

    /// What lies within -1 and 1, unless all x or all y are the same; rounding can lead out of them.
    fn correlated(&self, of: impl FnOnce(Scaled, Scaled) -> Scaled) -> Option<f64> {
        let (xx, yy) = (self.of_xx(), self.of_yy());
        let has_value = self.count > 1 && !xx.is_zero() && !yy.is_zero();
        has_value.then(|| of(self.of_xy(), xx.times(yy)).number().clamp(-1.0, 1.0))
    }

    fn value(&self) -> Option<f64> {
        match self.kind {
            _ if self.count == 0 => None,
            Kind::Count => Some(self.count as f64),
            Kind::Covariance { sample } => covariance_of(self.count, &self.xy, &self.x, &self.y, sample),
            Kind::Correlation => self.correlated(|xy, squares| xy.over(squares.root())),
            Kind::Slope => self.slope(),
            Kind::Intercept => self.slope().map(|slope| self.average(&self.y) - slope * self.average(&self.x)),
            Kind::Determination => self.correlated(|xy, squares| xy.times(xy).over(squares)),
            Kind::AverageX => Some(self.average(&self.x)),
            Kind::AverageY => Some(self.average(&self.y)),
            Kind::SumXX => Some(self.of_xx().over_counts(self.count, 1)),
            Kind::SumYY => Some(self.of_yy().over_counts(self.count, 1)),
            Kind::SumXY => Some(self.of_xy().over_counts(self.count, 1)),
        }
    }
}

impl Accumulator for Pairs {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [ys, xs] = values else { return exec_err!("two arguments expected") };
        for pair in ys.as_primitive::<Float64Type>().iter().zip(xs.as_primitive::<Float64Type>()) {
            let (Some(y), Some(x)) = pair else { continue };
            self.count += 1;
            for part in self.kind.parts() {
                match part {
                    Part::X => self.x.add(x),
                    Part::Y => self.y.add(y),
                    Part::XX => self.xx.add_product(x, x),
                    Part::YY => self.yy.add_product(y, y),
                    Part::XY => self.xy.add_product(x, y),
                }
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [sums @ .., counts] = states else { return exec_err!("the state of {:?} does not fit", self.kind) };
        for (part, sums) in self.kind.parts().iter().zip(sums) {
            for sum in sums.as_binary::<i32>().iter().flatten() {
                self.sum_mut(*part).merge(sum)?;
            }
        }
        self.count += counts.as_primitive::<UInt64Type>().iter().flatten().sum::<u64>();
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let sums = self.kind.parts().iter().map(|part| ScalarValue::Binary(Some(self.sum(*part).to_bytes())));
        Ok(sums.chain([ScalarValue::UInt64(Some(self.count))]).collect())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(match self.kind {
            Kind::Count => ScalarValue::UInt64(Some(self.count)),
            _ => ScalarValue::Float64(self.value()),
        })
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.kind.parts().iter().map(|part| self.sum(*part).allocated()).sum::<usize>()
    }
}
