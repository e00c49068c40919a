//! `tumble(t, size)`: the start of the window that contains t.

use std::sync::Arc;

use datafusion::arrow::array::types::{
    ArrowTimestampType, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::interval::{coerce, constant_us, in_unit, unit_of};
use super::windows::Slots;

const NAME: &str = "tumble";
const USAGE: &str = "write tumble(time, INTERVAL '5 minutes')";

/// `tumble(t, size)`: the start of the window of this size that contains `t`, in the type of `t`.
///
/// Windows are aligned to the Unix epoch, also before it. Null if `t` is null, or if its window would start before the earliest time
/// that the type can hold.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Tumble {
    signature: Signature,
}

impl Tumble {
    /// The function.
    #[must_use]
    pub fn new() -> Self {
        Tumble { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl Default for Tumble {
    fn default() -> Self {
        Tumble::new()
    }
}

impl ScalarUDFImpl for Tumble {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        coerce(NAME, USAGE, 1, arguments)
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        internal_err!("the type of tumble depends on its interval, see return_field_from_args")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let [time, _] = args.arg_fields else {
            return internal_err!("tumble was planned with {} arguments", args.arg_fields.len());
        };
        let size_us = constant_us(NAME, "size", args.scalar_arguments.get(1).copied().flatten())?;
        in_unit(size_us, unit_of(NAME, time.data_type())?)?;
        Ok(Arc::new(Field::new(NAME, time.data_type().clone(), true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [time, size] = args.args.as_slice() else {
            return internal_err!("tumble was called with {} arguments", args.args.len());
        };
        let size = constant_us(NAME, "size", constant(size))?;
        match time {
            ColumnarValue::Array(times) => Ok(ColumnarValue::Array(tumbled(times, size)?)),
            ColumnarValue::Scalar(time) => {
                let one = tumbled(&time.to_array()?, size)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&one, 0)?))
            }
        }
    }
}

/// The constant behind an argument.
pub(super) fn constant(argument: &ColumnarValue) -> Option<&ScalarValue> {
    match argument {
        ColumnarValue::Scalar(value) => Some(value),
        ColumnarValue::Array(_) => None,
    }
}

fn tumbled(times: &ArrayRef, size_us: i64) -> Result<ArrayRef> {
    let unit = unit_of(NAME, times.data_type())?;
    let size = in_unit(size_us, unit)?;
    Ok(match unit {
        TimeUnit::Second => tumbled_as::<TimestampSecondType>(times, size),
        TimeUnit::Millisecond => tumbled_as::<TimestampMillisecondType>(times, size),
        TimeUnit::Microsecond => tumbled_as::<TimestampMicrosecondType>(times, size),
        TimeUnit::Nanosecond => tumbled_as::<TimestampNanosecondType>(times, size),
    })
}

fn tumbled_as<T: ArrowTimestampType>(times: &ArrayRef, size: i64) -> ArrayRef {
    let mut slots = Slots::new(size);
    let starts: PrimitiveArray<T> = times.as_primitive::<T>().iter().map(|time| slots.start_of(time?)).collect();
    Arc::new(starts.with_data_type(times.data_type().clone()))
}
