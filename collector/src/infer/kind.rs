//! What the values of a column have in common.

use std::collections::HashSet;

use chrono::DateTime;
use serde_json::Value;

use crate::mapping::reads_as;

/// Text formats that can be read in one way only.
const FORMATS: [&str; 8] = [
    "yyyy-MM-dd HH:mm:ss",
    "yyyy-MM-dd'T'HH:mm:ss",
    "yyyy-MM-dd HH:mm:ss.SSS",
    "yyyy-MM-dd'T'HH:mm:ss.SSS",
    "EEE MMM dd HH:mm:ss Z yyyy",
    "EEE, dd MMM yyyy HH:mm:ss Z",
    "dd/MMM/yyyy:HH:mm:ss Z",
    "yyyy-MM-dd'T'HH:mm:ssZ",
];
/// From 2000 to 2100, in seconds.
const SECONDS: std::ops::Range<i64> = 946_684_800..4_102_444_800;

/// The type that is proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Boolean,
    Long,
    Double,
    Text,
    Time(Time),
    /// A list of these.
    List(Box<Kind>),
}

/// How a time is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Time {
    Rfc3339,
    Epoch(&'static str),
    Format(&'static str),
}

impl Kind {
    pub fn time(&self) -> Option<&Time> {
        if let Kind::Time(time) = self { Some(time) } else { None }
    }

    pub fn schema(&self) -> String {
        match self {
            Kind::Boolean => "\"boolean\"".into(),
            Kind::Long => "\"long\"".into(),
            Kind::Double => "\"double\"".into(),
            Kind::Text => "\"string\"".into(),
            Kind::Time(Time::Epoch("us" | "ns")) => "{\"type\": \"long\", \"logicalType\": \"timestamp-micros\"}".into(),
            Kind::Time(_) => "{\"type\": \"long\", \"logicalType\": \"timestamp-millis\"}".into(),
            Kind::List(items) => format!("{{\"type\": \"array\", \"items\": {}}}", items.schema()),
        }
    }
}

/// The values at a path.
pub(super) struct Column {
    pub path: Vec<String>,
    /// How many are not null.
    pub count: usize,
    values: Vec<Value>,
    distinct: HashSet<String>,
    most_distinct: usize,
}

impl Column {
    pub fn new(path: Vec<String>, most_distinct: usize) -> Column {
        Column { path, count: 0, values: Vec::new(), distinct: HashSet::new(), most_distinct }
    }

    pub fn note(&mut self, value: &Value) {
        if value.is_null() {
            return;
        }
        self.count += 1;
        if self.distinct.len() < self.most_distinct {
            self.distinct.insert(value.to_string());
        }
        self.values.push(value.clone());
    }

    pub fn distinct(&self) -> usize {
        self.distinct.len()
    }

    /// The type of all values; `Err` says why there is none.
    pub fn kind(&self) -> Result<Kind, String> {
        let name = self.path.last().map_or("", String::as_str);
        kind(&self.values.iter().collect::<Vec<_>>(), name)
    }

    /// Whether it is text of a time that has no single reading.
    pub fn may_be_time(&self) -> bool {
        let has_shape = |text: &str| {
            let parts: Vec<&str> = text.split([' ', 'T']).next().unwrap_or_default().split(['/', '.']).collect();
            parts.len() == 3 && parts.iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
        };
        !self.values.is_empty() && self.values.iter().all(|value| value.as_str().is_some_and(has_shape))
    }
}

fn kind(values: &[&Value], name: &str) -> Result<Kind, String> {
    if values.is_empty() {
        return Err("it is null everywhere".into());
    }
    let all = |is: fn(&Value) -> bool| values.iter().all(|value| is(value));
    if all(Value::is_boolean) {
        return Ok(Kind::Boolean);
    }
    if all(Value::is_string) {
        let texts: Vec<&str> = values.iter().filter_map(|value| value.as_str()).collect();
        return Ok(text_kind(&texts));
    }
    if all(Value::is_i64) {
        let numbers: Vec<i64> = values.iter().filter_map(|value| value.as_i64()).collect();
        return Ok(epoch(&numbers, name).map_or(Kind::Long, |unit| Kind::Time(Time::Epoch(unit))));
    }
    if all(Value::is_number) {
        let is_time = values.iter().all(|value| value.as_f64().is_some_and(|seconds| SECONDS.contains(&(seconds as i64))));
        return Ok(if is_time && sounds_like_time(name) { Kind::Time(Time::Epoch("s")) } else { Kind::Double });
    }
    if all(Value::is_array) {
        let items: Vec<&Value> = values.iter().filter_map(|value| value.as_array()).flatten().collect();
        return match kind(&items, "") {
            _ if items.is_empty() => Err("its lists are empty everywhere".into()),
            Ok(Kind::Time(_)) => Ok(Kind::List(Box::new(Kind::Text))),
            Ok(Kind::List(_)) => Err("it is a list of lists".into()),
            Ok(kind) => Ok(Kind::List(Box::new(kind))),
            Err(_) => {
                Err("its lists have objects in them, or values of several types; take what is wanted by a path such as \"a.*.b\"".into())
            }
        };
    }
    Err("its values are of several types".into())
}

fn text_kind(texts: &[&str]) -> Kind {
    if texts.iter().all(|text| DateTime::parse_from_rfc3339(text).is_ok()) {
        return Kind::Time(Time::Rfc3339);
    }
    let format = FORMATS.into_iter().find(|format| texts.iter().all(|text| reads_as(format, text)));
    format.map_or(Kind::Text, |format| Kind::Time(Time::Format(format)))
}

/// The unit in which all numbers are times of this century, if their name says that they are times.
fn epoch(numbers: &[i64], name: &str) -> Option<&'static str> {
    let units = [("s", 1), ("ms", 1_000), ("us", 1_000_000), ("ns", 1_000_000_000)];
    let unit = units.into_iter().find(|(_, per_second)| numbers.iter().all(|number| SECONDS.contains(&(number / per_second))));
    unit.filter(|_| sounds_like_time(name)).map(|(unit, _)| unit)
}

fn sounds_like_time(name: &str) -> bool {
    let name = name.to_lowercase();
    let words = ["time", "date", "created", "updated", "when", "epoch"];
    words.iter().any(|word| name.contains(word))
        || ["ts", "at", "t"].contains(&name.as_str())
        || name.ends_with("_at")
        || name.ends_with("_ts")
}
