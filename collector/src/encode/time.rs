//! Times: units, their conversion, and RFC 3339.

use chrono::{DateTime, NaiveDate, NaiveTime, Timelike};
use serde::Deserialize;

/// What an integer time is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Seconds.
    S,
    /// Milliseconds.
    Ms,
    /// Microseconds.
    Us,
    /// Nanoseconds.
    Ns,
}

impl Unit {
    fn per_second(self) -> i64 {
        match self {
            Unit::S => 1,
            Unit::Ms => 1_000,
            Unit::Us => 1_000_000,
            Unit::Ns => 1_000_000_000,
        }
    }

    /// The same time in another unit, rounded towards the past; `None` when that unit cannot hold it.
    pub fn convert(self, time: i64, to: Unit) -> Option<i64> {
        let (from, to) = (self.per_second(), to.per_second());
        if to >= from { time.checked_mul(to / from) } else { Some(time.div_euclid(from / to)) }
    }
}

/// The time that an RFC 3339 text names, in `unit` since the Unix epoch, rounded towards the past.
pub(crate) fn parse_timestamp(text: &str, unit: Unit) -> Option<i64> {
    let time = DateTime::parse_from_rfc3339(text).ok()?;
    // `timestamp` is already rounded towards the past, and the nanoseconds count forward from there.
    let whole = time.timestamp().checked_mul(unit.per_second())?;
    let rest = i64::from(time.timestamp_subsec_nanos().min(999_999_999)) / (1_000_000_000 / unit.per_second());
    whole.checked_add(rest)
}

/// The day that `2026-11-23` names, as days since the Unix epoch.
pub(crate) fn parse_date(text: &str) -> Option<i64> {
    let date: NaiveDate = text.parse().ok()?;
    Some(date.signed_duration_since(NaiveDate::default()).num_days())
}

/// The time of day that `13:30:00.5` names, in `unit` since midnight.
pub(crate) fn parse_time_of_day(text: &str, unit: Unit) -> Option<i64> {
    let time: NaiveTime = text.parse().ok()?;
    let rest = i64::from(time.nanosecond().min(999_999_999)) / (1_000_000_000 / unit.per_second());
    Some(i64::from(time.num_seconds_from_midnight()) * unit.per_second() + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_convert_towards_the_past() {
        assert_eq!(Unit::Us.convert(1_723_760_649_123_999, Unit::Ms), Some(1_723_760_649_123));
        assert_eq!(Unit::Us.convert(-1, Unit::Ms), Some(-1));
        assert_eq!(Unit::S.convert(2, Unit::Us), Some(2_000_000));
        assert_eq!(Unit::S.convert(i64::MAX, Unit::Us), None);
    }

    #[test]
    fn rfc_3339_in_every_zone_and_before_the_epoch() {
        assert_eq!(parse_timestamp("1970-01-01T00:00:01.5Z", Unit::Ms), Some(1_500));
        assert_eq!(parse_timestamp("1970-01-01T02:00:00+02:00", Unit::Us), Some(0));
        assert_eq!(parse_timestamp("1969-12-31T23:59:59.9999Z", Unit::Ms), Some(-1));
        assert_eq!(parse_timestamp("yesterday", Unit::Ms), None);
    }

    #[test]
    fn dates_and_times_of_day() {
        assert_eq!(parse_date("1970-01-02"), Some(1));
        assert_eq!(parse_date("1969-12-31"), Some(-1));
        assert_eq!(parse_time_of_day("00:01:00.25", Unit::Ms), Some(60_250));
    }
}
