//! Cases as a file declares them.
//!
//! ```toml
//! view = "hashtag_counts"                        # of the cases that do not name another
//! defaults = { userid = 1, username = "ann" }    # fields of the events that do not say them
//!
//! [[case]]
//! name = "a hashtag counts once for each post"
//! events = [
//!     { timestamp = 2026-11-30T12:01:00Z, tweet = "#rust" },
//!     { event = { timestamp = 2026-11-30T12:02:00Z, tweet = "#rust" }, partition = 1 },
//!     { raw = "not Avro" },
//! ]
//! rows = [{ hashtag = "rust", slot = 2026-11-30T12:00:00Z, occurrences = 2 }]
//! quarantined = { unknown_framing = 1 }
//! ```

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use refold_processor::quarantine::Reason;
use serde::Deserialize;
use serde_json::{Map, Value};
use toml::value::Datetime;
use toml::{Spanned, Table};

use super::events::{DeclaredEvent, event};
use super::mistake::Mistake;
use super::values::{object, time_ms};

/// Which rows a case speaks of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// All: the view has these rows and no others.
    #[default]
    Exact,
    /// Those of the partition keys that are named: each has these rows and no others.
    ByKey,
    /// These, and of them only the columns that are written.
    Subset,
}

/// Something in a file, and its line.
pub type Placed<T> = (usize, T);

/// A case.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// The file.
    pub file: PathBuf,
    /// The line of its name.
    pub line: usize,
    /// Its name.
    pub name: String,
    /// The view.
    pub view: String,
    /// Where the view is named.
    pub view_line: usize,
    /// The log's clock, milliseconds since the Unix epoch: the record time of records that have none of their own.
    pub now_ms: Option<i64>,
    /// The mapping that its events come through.
    pub mapping: Option<Placed<String>>,
    /// The events, in the order in which the log takes them.
    pub events: Vec<DeclaredEvent>,
    /// Which rows it speaks of.
    pub mode: Mode,
    /// The rows that there are to be.
    pub rows: Vec<Placed<Map<String, Value>>>,
    /// Further partition keys that are to have no rows but those.
    pub keys: Vec<Placed<Map<String, Value>>>,
    /// How many events are to be quarantined, by reason.
    pub quarantined: BTreeMap<Reason, u64>,
    /// How many of the applied events are to be late.
    pub late: Option<u64>,
}

impl Case {
    /// A mistake in a line of this case.
    pub fn mistake(&self, line: usize, message: impl Into<String>) -> Mistake {
        Mistake::new(&self.file, Some(line), message).of_case(&self.name)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileEntry {
    view: Option<Spanned<String>>,
    #[serde(default)]
    defaults: Table,
    #[serde(default)]
    case: Vec<CaseEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseEntry {
    name: Spanned<String>,
    view: Option<Spanned<String>>,
    now: Option<Spanned<Datetime>>,
    mapping: Option<Spanned<String>>,
    #[serde(default)]
    defaults: Table,
    events: Vec<Spanned<toml::Value>>,
    #[serde(default)]
    expect: Mode,
    rows: Vec<Spanned<toml::Value>>,
    #[serde(default)]
    keys: Vec<Spanned<toml::Value>>,
    quarantined: Option<Spanned<BTreeMap<String, u64>>>,
    late: Option<u64>,
}

/// Reads a file of cases.
///
/// # Errors
/// When it cannot be read, or says what no case may say.
pub fn read(path: &Path) -> Result<Vec<Case>, Mistake> {
    let text = std::fs::read_to_string(path).map_err(|error| Mistake::new(path, None, format!("cannot be read: {error}")))?;
    parse(path, &text)
}

/// The cases in the text of a file.
///
/// # Errors
/// When it says what no case may say.
pub fn parse(path: &Path, text: &str) -> Result<Vec<Case>, Mistake> {
    let line = |span: Range<usize>| 1 + text.bytes().take(span.start).filter(|byte| *byte == b'\n').count();
    let file: FileEntry =
        toml::from_str(text).map_err(|error| Mistake::new(path, error.span().map(line), error.message().trim_end().replace('\n', "; ")))?;
    let mut cases: Vec<Case> = Vec::with_capacity(file.case.len());
    for entry in file.case {
        let name = entry.name.get_ref().clone();
        let name_line = line(entry.name.span());
        let of_case = |line: usize, message: String| Mistake::new(path, Some(line), message).of_case(&name);
        if let Some(other) = cases.iter().find(|other| other.name == name) {
            return Err(of_case(name_line, format!("line {} has a case of this name too; give one of them another", other.line)));
        }
        let view = entry.view.as_ref().or(file.view.as_ref());
        let view = view.ok_or_else(|| of_case(name_line, "it names no view; add view = \"…\" to it, or to the head of the file".into()))?;
        let now_ms = match &entry.now {
            Some(now) => Some(time_ms(&now.get_ref().to_string()).map_err(|why| of_case(line(now.span()), format!("now: {why}")))?),
            None => None,
        };
        let defaults = object(&toml::Value::Table(merged(&file.defaults, entry.defaults)))
            .map_err(|why| of_case(name_line, format!("defaults: {why}")))?;
        let mut events = Vec::with_capacity(entry.events.len());
        for (number, declared) in (1..).zip(&entry.events) {
            let at = line(declared.span());
            events.push(event(declared.get_ref(), at, &defaults).map_err(|why| of_case(at, format!("event {number}: {why}")))?);
        }
        let objects = |what: &str, declared: &[Spanned<toml::Value>]| {
            let one = |(number, value): (usize, &Spanned<toml::Value>)| {
                let at = line(value.span());
                object(value.get_ref()).map(|row| (at, row)).map_err(|why| of_case(at, format!("{what} {number}: {why}")))
            };
            (1..).zip(declared).map(one).collect::<Result<Vec<_>, _>>()
        };
        let (rows, keys) = (objects("row", &entry.rows)?, objects("key", &entry.keys)?);
        if let Some((at, _)) = keys.first().filter(|_| entry.expect != Mode::ByKey) {
            return Err(of_case(*at, "keys go with expect = \"by_key\"".into()));
        }
        let quarantined = match &entry.quarantined {
            Some(counts) => reasons(counts.get_ref()).map_err(|why| of_case(line(counts.span()), why))?,
            None => BTreeMap::new(),
        };
        cases.push(Case {
            file: path.to_path_buf(),
            line: name_line,
            view: view.get_ref().clone(),
            view_line: line(view.span()),
            now_ms,
            mapping: entry.mapping.map(|mapping| (line(mapping.span()), mapping.into_inner())),
            events,
            mode: entry.expect,
            rows,
            keys,
            quarantined,
            late: entry.late,
            name,
        });
    }
    Ok(cases)
}

/// What the file says for all cases, and the case for itself.
fn merged(file: &Table, case: Table) -> Table {
    let mut all = file.clone();
    all.extend(case);
    all
}

fn reasons(counts: &BTreeMap<String, u64>) -> Result<BTreeMap<Reason, u64>, String> {
    let reason = |name: &String| {
        Reason::parse(name).ok_or_else(|| {
            let known = Reason::ALL.map(Reason::as_str).join(", ");
            format!("quarantined: {name} is no reason; there are {known}")
        })
    };
    counts.iter().filter(|(_, count)| **count > 0).map(|(name, count)| Ok((reason(name)?, *count))).collect()
}

#[cfg(test)]
#[path = "declared/tests.rs"]
mod tests;
