//! What a comparison found.

use std::collections::BTreeMap;

use refold_processor::json;
use refold_processor::store::Progress;
use serde::Serialize;
use serde_json::{Map, Value};

use super::columns::Columns;
use super::{Compared, DiffSettings};

/// How two versions differ.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Rows that are equal, those within the tolerance included.
    pub equal: u64,
    /// Rows with other values.
    pub changed: u64,
    /// Rows that the right version does not have.
    pub missing: u64,
    /// Rows that the left version does not have.
    pub extra: u64,
    /// Equal rows of which some numbers differ within the tolerance.
    pub within_tolerance: u64,
    /// Numbers that differ by at most this part count as equal.
    pub tolerance: f64,
    /// Rows that kept changing, so that nothing is said of them.
    pub moving: u64,
    /// Differences that were counted as they were read, because too many rows differed to read them again: some of them may only have been on their way.
    pub unsettled: u64,
    /// The version that is compared with: the one in service.
    pub left: Side,
    /// The version that is compared.
    pub right: Side,
    /// How columns differ.
    pub columns: ColumnsReport,
    /// Windows with differences, those with the most first.
    pub windows: Vec<WindowCounts>,
    /// The rows that differ the most.
    pub examples: Vec<Difference>,
    #[serde(skip)]
    key_names: Vec<String>,
    #[serde(skip)]
    window_name: Option<usize>,
    #[serde(skip)]
    most_examples: usize,
    #[serde(skip)]
    by_window: BTreeMap<String, WindowCounts>,
}

/// One of the versions, as it was when the comparison began.
#[derive(Clone, Debug, Serialize)]
pub struct Side {
    /// The version's number.
    pub version: u32,
    /// The positions that its rows had reached.
    pub positions: Value,
    /// Its watermark.
    pub watermark: Value,
}

/// Columns that are not in both versions.
#[derive(Clone, Debug, Serialize)]
pub struct ColumnsReport {
    /// Compared: what both have beside the key.
    pub compared: Vec<String>,
    /// Of the left version alone.
    pub left_only: Vec<String>,
    /// Of the right version alone.
    pub right_only: Vec<String>,
    /// Of both, and not compared because that is declared.
    pub ignored: Vec<String>,
}

/// Differences of one window.
#[derive(Clone, Debug, Default, Serialize)]
pub struct WindowCounts {
    /// When it begins.
    pub window: String,
    /// Rows with other values.
    pub changed: u64,
    /// Rows that the right version does not have.
    pub missing: u64,
    /// Rows that the left version does not have.
    pub extra: u64,
}

impl WindowCounts {
    /// All differences.
    pub fn all(&self) -> u64 {
        self.changed + self.missing + self.extra
    }
}

/// How a row differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It has other values.
    Changed,
    /// The right version does not have it.
    Missing,
    /// The left version does not have it.
    Extra,
}

/// A row that differs.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// How.
    pub kind: Kind,
    /// Its key.
    pub key: Map<String, Value>,
    /// Its values in the left version.
    pub left: Option<Map<String, Value>>,
    /// Its values in the right version.
    pub right: Option<Map<String, Value>>,
    /// By how much it differs: the greatest part of a number that changed, 1 for what is no number.
    pub by: f64,
}

/// How many windows are told.
const WINDOWS: usize = 20;
/// How many windows are counted; beyond, those that come last in time are.
const WINDOWS_COUNTED: usize = 10_000;

impl Report {
    pub(super) fn new(sides: [&Compared; 2], progress: &[Progress; 2], columns: &[Columns; 2], settings: &DiffSettings) -> Report {
        let side = |side: &Compared, progress: &Progress| Side {
            version: side.table.version.0,
            positions: json::cut(&progress.visible),
            watermark: json::micros(progress.watermark_us),
        };
        let window = sides[0].window.and_then(|window| sides[0].table.shape.columns.fields().get(window.column));
        let window_name = window.and_then(|field| columns[0].key_names.iter().position(|name| name == field.name()));
        Report {
            equal: 0,
            changed: 0,
            missing: 0,
            extra: 0,
            within_tolerance: 0,
            tolerance: settings.tolerance,
            moving: 0,
            unsettled: 0,
            left: side(sides[0], &progress[0]),
            right: side(sides[1], &progress[1]),
            columns: ColumnsReport {
                compared: columns[0].value_names.clone(),
                left_only: columns[0].own.clone(),
                right_only: columns[1].own.clone(),
                ignored: columns[0].ignored.clone(),
            },
            windows: Vec::new(),
            examples: Vec::new(),
            key_names: columns[0].key_names.clone(),
            window_name,
            most_examples: settings.examples,
            by_window: BTreeMap::new(),
        }
    }

    /// Whether no row differs, and none may.
    pub fn is_equal(&self) -> bool {
        self.changed + self.missing + self.extra + self.moving == 0
    }

    /// Whether two rows agree, as far as the tolerance goes; counts them if they do.
    pub(super) fn agree(&mut self, left: &str, right: &str) -> bool {
        if left == right {
            self.equal += 1;
            return true;
        }
        let is_within = self.tolerance > 0.0 && distance(&values(left), &values(right)) <= self.tolerance;
        if is_within {
            self.equal += 1;
            self.within_tolerance += 1;
        }
        is_within
    }

    /// Counts a row that differs.
    pub(super) fn differ(&mut self, key: &str, left: Option<&str>, right: Option<&str>) {
        let (kind, by) = match (left, right) {
            (Some(left), Some(right)) => (Kind::Changed, distance(&values(left), &values(right))),
            (Some(_), None) => (Kind::Missing, 1.0),
            _ => (Kind::Extra, 1.0),
        };
        let key = values(key);
        self.count(kind, &key);
        // Those that differ the most, kind by kind.
        let of_kind = |difference: &&Difference| difference.kind == kind;
        let kept = self.examples.iter().filter(of_kind).count();
        let least = self.examples.iter().enumerate().filter(|(_, difference)| difference.kind == kind);
        let least = least.min_by(|(_, one), (_, other)| one.by.total_cmp(&other.by)).map(|(index, difference)| (index, difference.by));
        match least {
            _ if kept < self.most_examples => {}
            Some((index, least)) if by > least => drop(self.examples.swap_remove(index)),
            _ => return,
        }
        let named = |text: &str| self.columns.compared.iter().cloned().zip(values(text)).collect();
        let difference =
            Difference { kind, key: self.key_names.iter().cloned().zip(key).collect(), left: left.map(named), right: right.map(named), by };
        self.examples.push(difference);
    }

    fn count(&mut self, kind: Kind, key: &[Value]) {
        let window = self.window_name.and_then(|index| key.get(index)).and_then(Value::as_str);
        let mut counts = window.map(|window| {
            if self.by_window.len() >= WINDOWS_COUNTED && !self.by_window.contains_key(window) {
                self.by_window.pop_first();
            }
            let counts = self.by_window.entry(window.to_owned()).or_default();
            counts.window = window.to_owned();
            counts
        });
        let (all, of_window) = match kind {
            Kind::Changed => (&mut self.changed, counts.as_mut().map(|counts| &mut counts.changed)),
            Kind::Missing => (&mut self.missing, counts.as_mut().map(|counts| &mut counts.missing)),
            Kind::Extra => (&mut self.extra, counts.as_mut().map(|counts| &mut counts.extra)),
        };
        *all += 1;
        if let Some(of_window) = of_window {
            *of_window += 1;
        }
    }

    /// Puts what was found in the order in which it is told.
    pub(super) fn finish(&mut self) {
        let mut windows: Vec<WindowCounts> = std::mem::take(&mut self.by_window).into_values().collect();
        windows.sort_by_key(|counts| std::cmp::Reverse(counts.all()));
        windows.truncate(WINDOWS);
        self.windows = windows;
        self.examples.sort_by(|one, other| other.by.total_cmp(&one.by).then_with(|| text(&one.key).cmp(&text(&other.key))));
    }
}

fn text(key: &Map<String, Value>) -> String {
    key.values().map(Value::to_string).collect::<Vec<_>>().join(",")
}

/// The members of a JSON array that this module wrote.
pub(super) fn values(text: &str) -> Vec<Value> {
    serde_json::from_str(text).unwrap_or_default()
}

/// By how much rows differ: the greatest part of a number that changed, 1 for what is no number.
fn distance(left: &[Value], right: &[Value]) -> f64 {
    let each = left.iter().zip(right).map(|(left, right)| {
        if left == right {
            return 0.0;
        }
        match (number(left), number(right)) {
            (Some(left), Some(right)) => (left - right).abs() / left.abs().max(right.abs()),
            _ => 1.0,
        }
    });
    each.fold(0.0, f64::max)
}

/// A number, or a decimal number, which JSON has as a text.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok()).filter(|number: &f64| number.is_finite())
}
