//! `hop(t, slide, size)`: the windows that contain t, or the pane that does.

use std::sync::Arc;

use datafusion::arrow::array::types::{
    ArrowTimestampType, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListArray, PrimitiveArray};
use datafusion::arrow::buffer::{OffsetBuffer, ScalarBuffer};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::{Result, ScalarValue, exec_err, internal_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::interval::{coerce, constant_us, in_unit, unit_of};
use super::tumble::constant;
use super::windows::{Slots, pane_of, starts_of};

const NAME: &str = "hop";
const USAGE: &str = "write hop(time, INTERVAL '10 seconds', INTERVAL '10 minutes'), the slide before the size";

/// More windows than this around one time are refused: a batch would make as many rows of each event.
const MOST_WINDOWS: i64 = 100_000;

/// What `hop` answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HopAnswer {
    /// The starts of all windows that contain the time.
    Windows,
    /// The start of the pane that contains the time, alone in its list.
    Pane,
}

/// `hop(t, slide, size)`: a list of the starts, in the type of `t` and ascending, of all windows `[s, s + size)` that contain `t`,
/// where `s` is a multiple of `slide` since the Unix epoch.
///
/// Null if `t` is null. A window or pane that would start before the earliest time that the type can hold is left out.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Hop {
    signature: Signature,
    answer: HopAnswer,
}

impl Hop {
    /// The function, answering like this.
    #[must_use]
    pub fn new(answer: HopAnswer) -> Self {
        Hop { signature: Signature::user_defined(Volatility::Immutable), answer }
    }
}

impl ScalarUDFImpl for Hop {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        coerce(NAME, USAGE, 2, arguments)
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        internal_err!("the type of hop depends on its intervals, see return_field_from_args")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let [time, _, _] = args.arg_fields else {
            return internal_err!("hop was planned with {} arguments", args.arg_fields.len());
        };
        let slide = args.scalar_arguments.get(1).copied().flatten();
        let size = args.scalar_arguments.get(2).copied().flatten();
        Lengths::new(slide, size, unit_of(NAME, time.data_type())?)?;
        Ok(Arc::new(Field::new(NAME, DataType::List(Arc::new(item(time.data_type()))), true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [time, slide, size] = args.args.as_slice() else {
            return internal_err!("hop was called with {} arguments", args.args.len());
        };
        let lengths = Lengths::new(constant(slide), constant(size), unit_of(NAME, &time.data_type())?)?;
        match time {
            ColumnarValue::Array(times) => Ok(ColumnarValue::Array(self.hopped(times, lengths)?)),
            ColumnarValue::Scalar(time) => {
                let one = self.hopped(&time.to_array()?, lengths)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&one, 0)?))
            }
        }
    }
}

impl Hop {
    fn hopped(&self, times: &ArrayRef, lengths: Lengths) -> Result<ArrayRef> {
        match unit_of(NAME, times.data_type())? {
            TimeUnit::Second => self.hopped_as::<TimestampSecondType>(times, lengths),
            TimeUnit::Millisecond => self.hopped_as::<TimestampMillisecondType>(times, lengths),
            TimeUnit::Microsecond => self.hopped_as::<TimestampMicrosecondType>(times, lengths),
            TimeUnit::Nanosecond => self.hopped_as::<TimestampNanosecondType>(times, lengths),
        }
    }

    fn hopped_as<T: ArrowTimestampType>(&self, array: &ArrayRef, lengths: Lengths) -> Result<ArrayRef> {
        let times = array.as_primitive::<T>();
        let mut panes = Slots::new(pane_of(lengths.slide, lengths.size));
        let mut starts: Vec<i64> = Vec::with_capacity(times.len());
        let mut offsets: Vec<i32> = Vec::with_capacity(times.len() + 1);
        offsets.push(0);
        for time in times {
            match (time, self.answer) {
                (None, _) => {}
                (Some(time), HopAnswer::Pane) => starts.extend(panes.start_of(time)),
                (Some(time), HopAnswer::Windows) => starts.extend(starts_of(time, lengths.slide, lengths.size)),
            }
            let Ok(end) = i32::try_from(starts.len()) else {
                return exec_err!("hop makes too many windows of a batch of {} times: use smaller batches or a longer slide", times.len());
            };
            offsets.push(end);
        }
        let starts = PrimitiveArray::<T>::new(ScalarBuffer::from(starts), None).with_data_type(array.data_type().clone());
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        let list = ListArray::try_new(Arc::new(item(array.data_type())), offsets, Arc::new(starts), times.nulls().cloned())?;
        Ok(Arc::new(list))
    }
}

fn item(time: &DataType) -> Field {
    Field::new_list_field(time.clone(), true)
}

/// The slide and the size of windows, in the unit of the times.
#[derive(Clone, Copy)]
struct Lengths {
    slide: i64,
    size: i64,
}

impl Lengths {
    fn new(slide: Option<&ScalarValue>, size: Option<&ScalarValue>, unit: TimeUnit) -> Result<Self> {
        let slide = in_unit(constant_us(NAME, "slide", slide)?, unit)?;
        let size = in_unit(constant_us(NAME, "size", size)?, unit)?;
        if slide > size {
            return plan_err!("the slide of hop is longer than its size, so that events between windows would be lost: {USAGE}");
        }
        if size / slide > MOST_WINDOWS {
            return plan_err!("hop puts each event into {} windows, more than {MOST_WINDOWS}: use a longer slide", size / slide);
        }
        Ok(Lengths { slide, size })
    }
}
