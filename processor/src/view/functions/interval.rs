//! The intervals that windows are made of.

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{Result, ScalarValue, plan_err};

const NS_PER_US: i128 = 1_000;
const NS_PER_MS: i128 = 1_000_000;
const NS_PER_DAY: i128 = 86_400 * 1_000_000_000;

/// The length of an interval in microseconds, for a window or the slide of one.
///
/// A day is 24 hours, in every time zone: windows are aligned to the Unix epoch.
///
/// # Errors
///
/// A plan error that says what to write instead, if the interval is null, has months or years (whose length varies), is not positive,
/// is not whole microseconds, or is longer than 292 thousand years.
pub fn interval_us(interval: &ScalarValue) -> Result<i64> {
    let (months, ns) = match interval {
        ScalarValue::IntervalMonthDayNano(Some(v)) => (v.months, i128::from(v.days) * NS_PER_DAY + i128::from(v.nanoseconds)),
        ScalarValue::IntervalDayTime(Some(v)) => (0, i128::from(v.days) * NS_PER_DAY + i128::from(v.milliseconds) * NS_PER_MS),
        ScalarValue::IntervalYearMonth(Some(months)) => (*months, 0),
        other => return plan_err!("a window is measured by an interval, such as INTERVAL '5 minutes', and not by {other}"),
    };
    if months != 0 {
        return plan_err!("a window cannot be measured in months or years, whose lengths vary: use days, as in INTERVAL '30 days'");
    }
    if ns <= 0 {
        return plan_err!("the interval of a window must be longer than nothing, as in INTERVAL '5 minutes'");
    }
    if ns % NS_PER_US != 0 {
        return plan_err!("the interval of a window must be whole microseconds, this one is {ns} nanoseconds");
    }
    match i64::try_from(ns / NS_PER_US) {
        Ok(us) => Ok(us),
        Err(_) => plan_err!("the interval of a window is longer than time itself can be: {} days", ns / NS_PER_DAY),
    }
}

/// The constant interval in microseconds behind an argument. `None`: the argument is not a constant.
pub(super) fn constant_us(function: &str, what: &str, argument: Option<&ScalarValue>) -> Result<i64> {
    match argument {
        Some(value) => interval_us(value),
        None => {
            plan_err!("the {what} of {function} must be a constant interval, such as INTERVAL '5 minutes': it decides how state is kept")
        }
    }
}

/// An interval in the unit of the timestamps that it divides.
pub(super) fn in_unit(us: i64, unit: TimeUnit) -> Result<i64> {
    let (per_unit_us, name) = match unit {
        TimeUnit::Second => (1_000_000, "seconds"),
        TimeUnit::Millisecond => (1_000, "milliseconds"),
        TimeUnit::Microsecond => return Ok(us),
        TimeUnit::Nanosecond => {
            return match us.checked_mul(1_000) {
                Some(ns) => Ok(ns),
                None => plan_err!("an interval of {us} microseconds is longer than timestamps in nanoseconds reach"),
            };
        }
    };
    if us % per_unit_us != 0 {
        return plan_err!("the time column counts whole {name}, a window of {us} microseconds would cut them: use whole {name}");
    }
    Ok(us / per_unit_us)
}

/// What the arguments of a window function are coerced to: a timestamp stays as it is, and so do intervals.
pub(super) fn coerce(function: &str, usage: &str, intervals: usize, arguments: &[DataType]) -> Result<Vec<DataType>> {
    let Some((time, rest)) = arguments.split_first() else {
        return plan_err!("{function} needs arguments: {usage}");
    };
    if rest.len() != intervals {
        return plan_err!("{function} takes {} arguments, not {}: {usage}", intervals + 1, arguments.len());
    }
    let mut coerced = Vec::with_capacity(arguments.len());
    match time {
        DataType::Timestamp(_, _) => coerced.push(time.clone()),
        DataType::Null => coerced.push(DataType::Timestamp(TimeUnit::Microsecond, None)),
        other => return plan_err!("the first argument of {function} is a timestamp, not {other}: {usage}"),
    }
    for interval in rest {
        match interval {
            DataType::Interval(_) => coerced.push(interval.clone()),
            other => return plan_err!("a window of {function} is measured by an interval, not by {other}: {usage}"),
        }
    }
    Ok(coerced)
}

/// The unit of a timestamp.
pub(super) fn unit_of(function: &str, time: &DataType) -> Result<TimeUnit> {
    match time {
        DataType::Timestamp(unit, _) => Ok(*unit),
        other => plan_err!("the first argument of {function} is a timestamp, not {other}"),
    }
}
