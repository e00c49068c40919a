//! Aggregates over numbers whose result does not depend on the order of arrival.
//!
//! Adding floating-point numbers rounds at every step, so that another order gives another sum. Here sums are kept without
//! rounding ([`number::Exact`]) and rounded once, when a row is made. Integers, decimals and durations are added up in more digits than their types
//! have ([`whole`]): DataFusion's sums wrap around. `min` and `max` of floating-point numbers use the total order of IEEE 754.
//! Everything else is DataFusion's own: these functions stand in front of it under the same names.

mod accumulators;
mod number;
mod pairs;
#[cfg(test)]
mod tests;
mod whole;

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{exec_err, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::functions_aggregate::{average, min_max, stddev, sum, variance};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, Signature, Volatility};

use self::accumulators::Moments;

/// The functions, to be registered over DataFusion's.
pub(super) fn functions() -> Vec<AggregateUDF> {
    let of = |inner: Arc<AggregateUDF>, kind| AggregateUDF::from(Exactly::new(inner, kind));
    let mut functions = vec![
        of(sum::sum_udaf(), Kind::Sum),
        of(average::avg_udaf(), Kind::Average),
        of(variance::var_samp_udaf(), Kind::Variance { sample: true }),
        of(variance::var_pop_udaf(), Kind::Variance { sample: false }),
        of(stddev::stddev_udaf(), Kind::Deviation { sample: true }),
        of(stddev::stddev_pop_udaf(), Kind::Deviation { sample: false }),
        of(min_max::min_udaf(), Kind::Extreme),
        of(min_max::max_udaf(), Kind::Extreme),
    ];
    functions.extend(pairs::functions());
    functions
}

/// Whether this is the name of a function of pairs of numbers.
pub(super) fn is_of_pairs(name: &str) -> bool {
    pairs::functions().iter().any(|function| function.name() == name)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Sum,
    Average,
    Variance {
        sample: bool,
    },
    Deviation {
        sample: bool,
    },
    /// The least or the greatest.
    Extreme,
}

impl Kind {
    fn squares(self) -> bool {
        matches!(self, Kind::Variance { .. } | Kind::Deviation { .. })
    }
}

/// How the values of an argument's type are taken.
enum Way {
    Exact,
    /// In more digits than the type has.
    Whole(DataType),
    /// One value at a time, by the total order.
    Ordered,
    DataFusion,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Exactly {
    inner: Arc<AggregateUDF>,
    kind: Kind,
    signature: Signature,
}

impl Exactly {
    fn new(inner: Arc<AggregateUDF>, kind: Kind) -> Self {
        let signature = match kind {
            Kind::Average => Signature::user_defined(Volatility::Immutable),
            _ => inner.signature().clone(),
        };
        Exactly { inner, kind, signature }
    }

    fn way(&self, argument: Option<&FieldRef>, distinct: bool) -> Way {
        let Some(data_type) = argument.map(|field| field.data_type()) else { return Way::DataFusion };
        match (self.kind, data_type) {
            _ if distinct => Way::DataFusion,
            (Kind::Extreme, _) if data_type.is_floating() => Way::Ordered,
            (Kind::Extreme, _) => Way::DataFusion,
            (_, DataType::Float64) => Way::Exact,
            (Kind::Sum | Kind::Average, _) => whole::total_type(data_type).map_or(Way::DataFusion, Way::Whole),
            _ => Way::DataFusion,
        }
    }
}

impl AggregateUDFImpl for Exactly {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        if self.kind != Kind::Average {
            return self.inner.coerce_types(arguments);
        }
        let [argument] = arguments else { return plan_err!("avg() takes one argument") };
        let coerced = match argument {
            decimal if decimal.is_decimal() => decimal.clone(),
            DataType::Duration(unit) => DataType::Duration(*unit),
            signed if signed.is_signed_integer() => DataType::Int64,
            unsigned if unsigned.is_unsigned_integer() => DataType::UInt64,
            float if float.is_floating() || float.is_null() => DataType::Float64,
            other => return plan_err!("avg() takes numbers, not {other}"),
        };
        Ok(vec![coerced])
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match (self.kind, arguments) {
            (Kind::Average, [DataType::Int64 | DataType::UInt64]) => Ok(DataType::Float64),
            // Their totals would wrap around, and no column of a table holds them.
            (Kind::Sum, [DataType::Interval(_)]) => plan_err!("sum() does not take intervals: subtract times, which gives a duration"),
            (Kind::Sum, [DataType::Decimal256(..)]) => plan_err!("sum() takes decimals of up to 38 digits"),
            (Kind::Average, [DataType::Decimal256(..)]) => plan_err!("avg() takes decimals of up to 38 digits"),
            _ => self.inner.return_type(arguments),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field = |part: &str, data_type| Arc::new(Field::new(format_state_name(args.name, part), data_type, true));
        match self.way(args.input_fields.first(), args.is_distinct) {
            Way::Exact if self.kind.squares() => {
                Ok(vec![field("sum", DataType::Binary), field("squares", DataType::Binary), field("count", DataType::UInt64)])
            }
            Way::Exact => Ok(vec![field("sum", DataType::Binary), field("count", DataType::UInt64)]),
            Way::Whole(total) if self.kind == Kind::Average => Ok(vec![field("sum", total), field("count", DataType::UInt64)]),
            Way::Whole(total) => Ok(vec![field("sum", total)]),
            Way::Ordered | Way::DataFusion => self.inner.state_fields(args),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match self.way(args.expr_fields.first(), args.is_distinct) {
            Way::Exact => Ok(Box::new(Moments::new(self.kind))),
            Way::Whole(_) => exec_err!("{}() is computed by groups", self.name()),
            Way::Ordered | Way::DataFusion => self.inner.accumulator(args),
        }
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        match self.way(args.expr_fields.first(), args.is_distinct) {
            Way::Whole(_) => true,
            Way::DataFusion => self.inner.groups_accumulator_supported(args),
            Way::Exact | Way::Ordered => false,
        }
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        let argument = args.expr_fields.first().map(|field| field.data_type().clone());
        match (self.way(args.expr_fields.first(), args.is_distinct), argument) {
            (Way::Whole(_), Some(argument)) => {
                let accumulator = whole::accumulator(&argument, args.return_field.data_type(), self.kind == Kind::Average);
                accumulator.ok_or_else(|| DataFusionError::Execution(format!("{}() does not take {argument}", self.name())))
            }
            _ => self.inner.create_groups_accumulator(args),
        }
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}
