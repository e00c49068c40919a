//! Times: units, their conversion, and RFC 3339.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use serde::Deserialize;

use super::decimal::{self, Decimal};

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

    /// How many decimal places a second has in this unit.
    fn places(self) -> i64 {
        match self {
            Unit::S => 0,
            Unit::Ms => 3,
            Unit::Us => 6,
            Unit::Ns => 9,
        }
    }

    /// How many of `to` one of this unit is.
    pub fn ratio(self, to: Unit) -> f64 {
        to.per_second() as f64 / self.per_second() as f64
    }

    /// The same time in another unit, rounded towards the past; `None` when that unit cannot hold it.
    pub fn convert(self, time: i64, to: Unit) -> Option<i64> {
        let (from, to) = (self.per_second(), to.per_second());
        if to >= from { time.checked_mul(to / from) } else { Some(time.div_euclid(from / to)) }
    }

    /// The same of a decimal number's text, exactly: `1651591054.5349035`, `1.651591055e9`. `None` when the text is no number, `Some(None)` when the unit
    /// cannot hold it.
    pub fn convert_text(self, text: &str, to: Unit) -> Option<Option<i64>> {
        let Decimal { digits, power } = decimal::split(text).ok()?;
        let power = power + to.places() - self.places();
        // A power that 128 bits do not hold is larger than all digits are.
        let ten = u32::try_from(power.unsigned_abs()).ok().and_then(|power| 10_i128.checked_pow(power));
        let time = match (power >= 0, ten) {
            (_, _) if digits == 0 => Some(0),
            (true, Some(ten)) => digits.checked_mul(ten),
            (true, None) => None,
            (false, Some(ten)) => Some(digits.div_euclid(ten)),
            (false, None) => Some(if digits < 0 { -1 } else { 0 }),
        };
        Some(time.and_then(|time| i64::try_from(time).ok()))
    }
}

/// The time that an RFC 3339 text names, in `unit` since the Unix epoch, rounded towards the past.
pub fn parse_timestamp(text: &str, unit: Unit) -> Option<i64> {
    let time = DateTime::parse_from_rfc3339(text).ok()?;
    // `timestamp` is already rounded towards the past, and the nanoseconds count forward from there.
    let whole = time.timestamp().checked_mul(unit.per_second())?;
    let rest = i64::from(time.timestamp_subsec_nanos().min(999_999_999)) / (1_000_000_000 / unit.per_second());
    whole.checked_add(rest)
}

/// The time that an ISO 8601 text without an offset names, in `unit` since 1970 began by the same clock, rounded towards the past.
pub fn parse_local_timestamp(text: &str, unit: Unit) -> Option<i64> {
    let time: NaiveDateTime = text.replacen(' ', "T", 1).parse().ok()?;
    let time = time.and_utc();
    let whole = time.timestamp().checked_mul(unit.per_second())?;
    let rest = i64::from(time.timestamp_subsec_nanos().min(999_999_999)) / (1_000_000_000 / unit.per_second());
    whole.checked_add(rest)
}

/// The day that `2026-11-23` names, as days since the Unix epoch.
pub fn parse_date(text: &str) -> Option<i64> {
    let date: NaiveDate = text.parse().ok()?;
    Some(date.signed_duration_since(NaiveDate::default()).num_days())
}

/// The time of day that `13:30:00.5` names, in `unit` since midnight.
pub fn parse_time_of_day(text: &str, unit: Unit) -> Option<i64> {
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
    fn a_number_with_a_fraction_or_an_exponent_converts_as_its_digits_say() {
        for (text, from, to, time) in [
            ("1651591055.0", Unit::S, Unit::Us, 1_651_591_055_000_000),
            ("1.651591055e9", Unit::S, Unit::Us, 1_651_591_055_000_000),
            ("1651591054.5349035", Unit::S, Unit::Us, 1_651_591_054_534_903),
            ("1651591054.534903512", Unit::S, Unit::Ns, 1_651_591_054_534_903_512),
            ("1651591054999.999", Unit::Ms, Unit::S, 1_651_591_054),
            ("-0.001", Unit::S, Unit::S, -1),
            ("-1e-300", Unit::S, Unit::Ns, -1),
            ("1e-300", Unit::S, Unit::Ns, 0),
            ("0e300", Unit::S, Unit::Ns, 0),
            ("+7", Unit::S, Unit::Ms, 7_000),
        ] {
            assert_eq!(from.convert_text(text, to), Some(Some(time)), "{text}");
        }
        for text in ["1e300", "9223372036854775808", "9223372036.9e9", "-1e2000000000"] {
            assert_eq!(Unit::Ms.convert_text(text, Unit::Ms), Some(None), "{text}");
        }
        for text in ["", "soon", "2026-11-23", "1651591055s", "NaN", "0x10"] {
            assert_eq!(Unit::S.convert_text(text, Unit::Ms), None, "{text}");
        }
    }

    #[test]
    fn a_local_time_has_no_offset() {
        assert_eq!(parse_local_timestamp("1970-01-01T00:00:01.5", Unit::Ms), Some(1_500));
        assert_eq!(parse_local_timestamp("1969-12-31 23:59:59.9999", Unit::Ms), Some(-1));
        for text in ["1970-01-01T00:00:01Z", "1970-01-01T02:00:00+02:00", "1970-01-01", "soon"] {
            assert_eq!(parse_local_timestamp(text, Unit::Ms), None, "{text}");
        }
    }

    #[test]
    fn dates_and_times_of_day() {
        assert_eq!(parse_date("1970-01-02"), Some(1));
        assert_eq!(parse_date("1969-12-31"), Some(-1));
        assert_eq!(parse_time_of_day("00:01:00.25", Unit::Ms), Some(60_250));
    }
}
