//! What a verification found.

use std::collections::BTreeMap;

use refold_processor::json;
use refold_processor::store::Progress;
use refold_processor::table::Table;
use serde::Serialize;
use serde_json::{Map, Value};

use super::digest::{Digests, Rows};
use super::{Going, Scope, Verified, VerifyError, VerifySettings, Watcher};
use crate::diff::Kind;
use crate::rows::{each_kept, key_text, members, starts};

/// How the rows of a version differ from those that the log makes.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The version's number.
    pub version: u32,
    /// Rows that the log makes in the windows that were compared.
    pub rows: u64,
    /// Windows that are equal.
    pub equal: u64,
    /// Windows that differ.
    pub differing: u64,
    /// Where the windows that were compared end: they change no more.
    pub closed_to: Value,
    /// The log has lost its beginning: windows that begin before this time are not compared.
    pub whole_from: Value,
    /// The positions that the rows had reached when it began.
    pub positions: Value,
    /// The windows that differ, by time.
    pub windows: Vec<Window>,
    /// Rows that differ, window by window.
    pub examples: Vec<Different>,
    /// Windows that could not be computed.
    pub unknown: Vec<Unknown>,
}

/// A window that differs.
#[derive(Clone, Debug, Serialize)]
pub struct Window {
    /// When it begins.
    pub window: Value,
    /// How many rows the table has.
    pub stored_rows: u64,
    /// How many rows the log makes.
    pub computed_rows: u64,
    /// The digest of the rows of the table.
    pub stored_digest: String,
    /// The digest of the rows that the log makes.
    pub computed_digest: String,
}

/// A row that differs.
#[derive(Clone, Debug, Serialize)]
pub struct Different {
    /// When its window begins.
    pub window: Value,
    /// How: other values, missing in the table, or in the table alone.
    pub kind: Kind,
    /// Its key.
    pub key: Map<String, Value>,
    /// The row in the table.
    pub stored: Option<Map<String, Value>>,
    /// The row that the log makes.
    pub computed: Option<Map<String, Value>>,
}

/// A window that could not be computed.
#[derive(Clone, Debug, Serialize)]
pub struct Unknown {
    /// When it begins.
    pub window: Value,
    /// Why.
    pub reason: String,
}

/// How many windows that could not be computed are named.
const MOST_UNKNOWN: usize = 100;

impl Report {
    pub(super) fn new(table: &Table, progress: &Progress, scope: &Scope, whole_from_us: Option<i64>) -> Report {
        Report {
            version: table.version.0,
            rows: 0,
            equal: 0,
            differing: 0,
            closed_to: json::micros(Some(scope.closed_to_us)),
            whole_from: json::micros(whole_from_us.filter(|from_us| *from_us < i64::MAX)),
            positions: json::cut(&progress.visible),
            windows: Vec::new(),
            examples: Vec::new(),
            unknown: Vec::new(),
        }
    }

    /// Whether all windows were computed, and are equal.
    pub fn is_equal(&self) -> bool {
        self.differing == 0 && self.unknown.is_empty()
    }

    pub(super) fn unknown(&mut self, start_us: i64, reason: &str) {
        if self.unknown.len() < MOST_UNKNOWN {
            self.unknown.push(Unknown { window: json::micros(Some(start_us)), reason: reason.to_owned() });
        }
    }

    /// Notes the windows that differ, and reads their rows to name those that do.
    pub(super) fn differ(
        &mut self,
        verified: &Verified<'_>,
        scope: &Scope,
        stored: &Digests,
        computed: &BTreeMap<i64, Digests>,
        settings: &VerifySettings,
        watcher: &mut Watcher<'_>,
    ) -> Result<(), VerifyError> {
        let mut starts_us: Vec<i64> = stored.windows().map(|(start_us, _)| start_us).chain(computed.keys().copied()).collect();
        starts_us.sort_unstable();
        starts_us.dedup();
        self.differing = starts_us.len() as u64;
        if starts_us.is_empty() {
            return Ok(());
        }
        // Of windows whose rows were not kept it is said that they differ.
        let is_kept = |start_us: &i64| computed.get(start_us).is_none_or(|digests| digests.rows(*start_us).is_some());
        starts_us.truncate(settings.most_rows);
        let named: Vec<i64> = starts_us.iter().copied().filter(is_kept).collect();
        let mut in_table = rows_of(verified, scope, &named, watcher)?;
        for start_us in starts_us {
            let of_log = computed.get(&start_us);
            let stored_digest = stored.window(start_us).unwrap_or_default();
            let computed_digest = of_log.and_then(|digests| digests.window(start_us)).unwrap_or_default();
            self.windows.push(Window {
                window: json::micros(Some(start_us)),
                stored_rows: stored_digest.rows,
                computed_rows: computed_digest.rows,
                stored_digest: stored_digest.text(),
                computed_digest: computed_digest.text(),
            });
            if named.binary_search(&start_us).is_ok() {
                let of_log = of_log.and_then(|digests| digests.rows(start_us)).cloned().unwrap_or_default();
                self.name(verified, start_us, in_table.remove(&start_us).unwrap_or_default(), of_log, settings.most_rows);
            }
        }
        Ok(())
    }

    fn name(&mut self, verified: &Verified<'_>, start_us: i64, mut stored: Rows, computed: Rows, most: usize) {
        let fields = verified.table.shape.columns.fields();
        let key_of = |row: &Map<String, Value>| -> Map<String, Value> {
            let names = verified.table.shape.key_columns().filter_map(|column| fields.get(column)).map(|field| field.name());
            names.filter_map(|name| Some((name.clone(), row.get(name)?.clone()))).collect()
        };
        let window = json::micros(Some(start_us));
        let different = |kind: Kind, stored: Option<Map<String, Value>>, computed: Option<Map<String, Value>>| {
            let key = computed.as_ref().or(stored.as_ref()).map(key_of).unwrap_or_default();
            Different { window: window.clone(), kind, key, stored, computed }
        };
        let mut found = Vec::new();
        for (key, row) in computed {
            match stored.remove(&key) {
                Some(same) if same == row => {}
                Some(other) => found.push(different(Kind::Changed, Some(other), Some(row))),
                None => found.push(different(Kind::Missing, None, Some(row))),
            }
        }
        found.extend(stored.into_values().map(|row| different(Kind::Extra, Some(row), None)));
        found.truncate(most.saturating_sub(self.examples.len()));
        self.examples.extend(found);
    }
}

/// The rows of some windows as the table has them.
fn rows_of(
    verified: &Verified<'_>,
    scope: &Scope,
    starts_us: &[i64],
    watcher: &mut Watcher<'_>,
) -> Result<BTreeMap<i64, Rows>, VerifyError> {
    let (mut rows, mut read, mut is_ended) = (BTreeMap::<i64, Rows>::new(), 0, false);
    each_kept(verified.rows, verified.table, Some(&scope.window), None, &mut |batch| {
        read += batch.num_rows() as u64;
        for (row, start_us) in starts(&batch, Some(&scope.window)).unwrap_or_default().into_iter().enumerate() {
            let Some(start_us) = start_us.filter(|start_us| starts_us.binary_search(start_us).is_ok()) else { continue };
            rows.entry(start_us).or_default().insert(key_text(verified.table, &batch, row), members(&batch, row));
        }
        is_ended = !watcher(Going::Table(read));
        !is_ended
    })?;
    if is_ended { Err(VerifyError::Stopped) } else { Ok(rows) }
}
