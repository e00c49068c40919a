//! Times as text, in a format of the usual letters (`yyyy-MM-dd HH:mm:ss`), with or without a zone.

use chrono::format::{Item, Parsed, StrftimeItems, parse};
use chrono::{DateTime, MappedLocalTime, TimeZone, Utc};
use chrono_tz::Tz;

use crate::encode::Unit;

/// A format, and the zone of times that name none.
#[derive(Clone, Debug)]
pub(super) struct TimeFormat {
    letters: String,
    items: Vec<Item<'static>>,
    /// Whether the text says its offset itself.
    has_offset: bool,
    has_time: bool,
    zone: Tz,
}

impl TimeFormat {
    /// Reads a format; `Err` says what in it is not known.
    pub fn new(letters: &str, zone: Tz) -> Result<TimeFormat, String> {
        let strftime = strftime(letters)?;
        let items: Vec<Item<'static>> = StrftimeItems::new(&strftime).map(Item::to_owned).collect();
        let has = |wanted: &[char]| outside_quotes(letters).any(|letter| wanted.contains(&letter));
        let (has_date, has_time, has_offset) = (has(&['y', 'u']), has(&['H', 'h']), has(&['Z', 'X', 'x']));
        if !has_date {
            return Err(format!("the format {letters:?} has no year (yyyy); a time needs one"));
        }
        Ok(TimeFormat { letters: letters.to_owned(), items, has_offset, has_time, zone })
    }

    /// As it is written.
    pub fn letters(&self) -> &str {
        &self.letters
    }

    /// The time that a text names, in `unit` since the Unix epoch, rounded towards the past; `None`: it is not of this format, or there is no such time.
    pub fn read(&self, text: &str, unit: Unit) -> Option<i64> {
        let mut parsed = Parsed::new();
        parse(&mut parsed, text.trim(), self.items.iter()).ok()?;
        if !self.has_time {
            parsed.set_hour(0).and_then(|()| parsed.set_minute(0)).ok()?;
        }
        let time: DateTime<Utc> = if self.has_offset {
            parsed.to_datetime().ok()?.to_utc()
        } else {
            let local = parsed.to_naive_date().ok()?.and_time(parsed.to_naive_time().ok()?);
            match self.zone.from_local_datetime(&local) {
                MappedLocalTime::Single(time) => time.to_utc(),
                // When clocks are set back an hour is there twice: the first one is meant, and said in the documentation.
                MappedLocalTime::Ambiguous(first, _) => first.to_utc(),
                MappedLocalTime::None => return None,
            }
        };
        let nanos = time.timestamp().checked_mul(1_000_000_000)?.checked_add(i64::from(time.timestamp_subsec_nanos().min(999_999_999)))?;
        Unit::Ns.convert(nanos, unit)
    }
}

/// The letters of a format that stand for something.
fn outside_quotes(letters: &str) -> impl Iterator<Item = char> + '_ {
    letters.split('\'').step_by(2).flat_map(str::chars)
}

/// The same format in the letters that chrono reads.
fn strftime(letters: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = letters;
    while let Some(first) = rest.chars().next() {
        if first == '\'' {
            let inner = rest.get(1..).unwrap_or_default();
            let end = inner.find('\'').ok_or_else(|| format!("the format {letters:?} has a quote that does not end"))?;
            let literal = inner.get(..end).unwrap_or_default();
            out.push_str(&if literal.is_empty() { "'".to_owned() } else { literal.replace('%', "%%") });
            rest = inner.get(end + 1..).unwrap_or_default();
            continue;
        }
        let count = rest.chars().take_while(|next| *next == first).count();
        let run: String = rest.chars().take(count).collect();
        rest = rest.get(run.len()..).unwrap_or_default();
        if !first.is_ascii_alphabetic() {
            out.push_str(&run.replace('%', "%%"));
            continue;
        }
        let item = match (first, count) {
            ('y' | 'u', 4) => "%Y",
            ('y' | 'u', 2) => "%y",
            ('M', 1 | 2) => "%m",
            ('M', 3) => "%b",
            ('M', 4) => "%B",
            ('d', 1 | 2) => "%d",
            ('D', 1..=3) => "%j",
            ('H', 1 | 2) => "%H",
            ('h', 1 | 2) => "%I",
            ('m', 1 | 2) => "%M",
            ('s', 1 | 2) => "%S",
            ('a', 1) => "%p",
            ('E', 1..=3) => "%a",
            ('E', 4) => "%A",
            // Behind a point it takes whatever digits there are.
            ('S', 1..=9) if out.ends_with('.') => {
                out.pop();
                "%.f"
            }
            ('S', 3) => "%3f",
            ('S', 6) => "%6f",
            ('S', 9) => "%9f",
            ('Z' | 'X' | 'x', 1..=3) => "%#z",
            _ => {
                return Err(format!(
                    "the format {letters:?} has {run:?}, which is not known; there is yyyy, yy, MM, MMM, dd, HH, hh, a, mm, ss, SSS, EEE, Z and XXX, and text in quotes ('T')"
                ));
            }
        };
        out.push_str(item);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(letters: &str, zone: &str, text: &str) -> Option<i64> {
        TimeFormat::new(letters, zone.parse().unwrap()).unwrap().read(text, Unit::Ms)
    }

    #[test]
    fn times_as_the_field_writes_them() {
        for (letters, zone, text, expected) in [
            ("EEE MMM dd HH:mm:ss Z yyyy", "UTC", "Sun Aug 31 00:29:15 +0000 2014", 1_409_444_955_000),
            ("yyyy-MM-dd HH:mm:ss", "UTC", "2014-08-31 00:29:15", 1_409_444_955_000),
            ("yyyy-MM-dd HH:mm:ss", "Europe/Berlin", "2014-08-31 02:29:15", 1_409_444_955_000),
            ("dd/MMM/yyyy:HH:mm:ss Z", "UTC", "31/Aug/2014:02:29:15 +0200", 1_409_444_955_000),
            ("EEE, dd MMM yyyy HH:mm:ss Z", "UTC", "Sun, 31 Aug 2014 00:29:15 +0000", 1_409_444_955_000),
            ("yyyyMMdd'T'HHmmss'Z'", "UTC", "20140831T002915Z", 1_409_444_955_000),
            ("yyyy-MM-dd'T'HH:mm:ss.SSSXXX", "UTC", "2014-08-31T00:29:15.25Z", 1_409_444_955_250),
            ("yyyy-MM-dd'T'HH:mm:ss.SSSSSSZ", "UTC", "2014-08-31T02:29:15.123456+0200", 1_409_444_955_123),
            ("yyyy-MM-dd", "UTC", "2014-08-31", 1_409_443_200_000),
            ("MM/dd/yyyy hh:mm:ss a", "UTC", "08/31/2014 12:29:15 AM", 1_409_444_955_000),
        ] {
            assert_eq!(read(letters, zone, text), Some(expected), "{letters} {text}");
        }
    }

    #[test]
    fn no_time_is_made_up() {
        for (letters, text) in [
            ("yyyy-MM-dd HH:mm:ss", "2014-08-31"),
            ("yyyy-MM-dd", "2014-02-30"),
            ("yyyy-MM-dd", "2014-08-31 00:00:00"),
            ("yyyy-MM-dd HH:mm", "soon"),
        ] {
            assert_eq!(read(letters, "UTC", text), None, "{letters} {text}");
        }
        // An hour that clocks skipped, and one that was there twice.
        assert_eq!(read("yyyy-MM-dd HH:mm", "Europe/Berlin", "2026-03-29 02:30"), None);
        assert_eq!(read("yyyy-MM-dd HH:mm", "Europe/Berlin", "2026-10-25 02:30"), read("yyyy-MM-dd HH:mm", "UTC", "2026-10-25 00:30"));
    }

    #[test]
    fn a_format_that_is_none_is_refused() {
        for (letters, complaint) in [("qqqq", "\"qqqq\", which is not known"), ("HH:mm", "no year"), ("yyyy 'T", "does not end")] {
            let error = TimeFormat::new(letters, Tz::UTC).unwrap_err();
            assert!(error.contains(complaint), "{error}");
        }
    }
}
