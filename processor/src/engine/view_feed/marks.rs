//! Marks in the feed of a view: between which records a difference is, and how far the rows are.

use serde::{Deserialize, Serialize};

use crate::changes::view_feed::ViewRecord;
use crate::position::Cut;
use crate::table::Version;

/// The key of the record before a difference.
const BEGIN: &str = "\"begin\"";
/// The key of the record behind it.
const END: &str = "\"end\"";
/// The key of the records that say how far the rows are.
const PROGRESS: &str = "\"progress\"";

/// Why the rows of a version are compared with what followers have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Nothing was published before.
    First,
    /// Readers were sent to another version.
    Switch,
    /// The process that publishes has begun.
    Start,
    /// Changes were missed.
    Gap,
}

#[derive(Serialize)]
struct Begin {
    from: Option<Version>,
    version: Version,
    why: Why,
}

#[derive(Serialize, Deserialize)]
struct End {
    version: Version,
    written: u64,
    removed: u64,
    visible: Cut,
    watermark_us: Option<i64>,
}

#[derive(Serialize)]
struct Progress<'a> {
    version: Version,
    visible: &'a Cut,
    watermark_us: Option<i64>,
}

/// How far rows are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reached {
    /// All changes by events up to this cut are out.
    pub visible: Cut,
    /// The version's watermark there, microseconds since the Unix epoch.
    pub watermark_us: Option<i64>,
}

/// That what follows makes the rows of one version those of another.
pub fn begin(from: Option<Version>, version: Version, why: Why) -> ViewRecord {
    mark(BEGIN, &Begin { from, version, why })
}

/// That followers have the rows of a version: after so many that were written and so many that were removed.
pub fn end(version: Version, written: u64, removed: u64, reached: &Reached) -> ViewRecord {
    mark(END, &End { version, written, removed, visible: reached.visible.clone(), watermark_us: reached.watermark_us })
}

/// How far the rows are by now.
pub fn progress(version: Version, reached: &Reached) -> ViewRecord {
    mark(PROGRESS, &Progress { version, visible: &reached.visible, watermark_us: reached.watermark_us })
}

/// The version whose rows followers have with this record, if it is one that says so.
pub fn ended(key: &[u8], value: Option<&[u8]>) -> Option<Version> {
    let end: End = serde_json::from_slice(value.filter(|_| key == END.as_bytes())?).ok()?;
    Some(end.version)
}

fn mark(key: &str, value: &impl Serialize) -> ViewRecord {
    ViewRecord { key: key.to_owned(), value: serde_json::to_string(value).ok(), ..ViewRecord::default() }
}
