//! Whether the rows of a version meet the audits that its view declares.

use std::collections::BTreeMap;

use datafusion::error::DataFusionError;
use refold_processor::json;
use refold_processor::store::{RowReader, StoreError};
use refold_processor::table::Table;
use refold_processor::view::{Audit, WindowSpec};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::rows::{each_kept, key_text, members};

/// What is audited.
#[derive(Clone, Debug)]
pub struct Audited {
    /// The version's table.
    pub table: Table,
    /// Its window.
    pub window: Option<WindowSpec>,
    /// The audits.
    pub audits: Vec<Audit>,
}

/// What came of the audits of a version.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The version's number.
    pub version: u32,
    /// The positions that its rows had reached when the audit began.
    pub positions: Value,
    /// How many rows were checked.
    pub rows: u64,
    /// Each audit, by name.
    pub audits: Vec<Verdict>,
}

/// What came of one audit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// Its name.
    pub audit: String,
    /// Its condition.
    pub condition: String,
    /// How many rows fail it.
    pub failed: u64,
    /// The first of them in the order of keys.
    pub examples: Vec<Map<String, Value>>,
}

impl Report {
    /// Whether every row meets every audit.
    pub fn is_passed(&self) -> bool {
        self.audits.iter().all(|verdict| verdict.failed == 0)
    }
}

/// Why an audit was not finished.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The table cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A condition cannot be evaluated.
    #[error("audit {audit} cannot be evaluated: {error}")]
    Evaluation {
        /// The audit.
        audit: String,
        /// Why.
        error: DataFusionError,
    },
    /// Whoever asked is not there any more.
    #[error("the audit was given up")]
    Stopped,
}

/// Checks all rows of a version that readers see, batch by batch. `watcher` is told how many rows were read; `false` ends it.
///
/// # Errors
/// When the table cannot be read, a condition cannot be evaluated, or `watcher` ends it.
pub fn check(rows: &dyn RowReader, audited: &Audited, examples: usize, watcher: &mut dyn FnMut(u64) -> bool) -> Result<Report, AuditError> {
    let progress = rows.progress(&audited.table)?.unwrap_or_default();
    let mut kept: Vec<(u64, BTreeMap<String, Map<String, Value>>)> = vec![Default::default(); audited.audits.len()];
    let (mut read, mut ended) = (0, None);
    let scanned = each_kept(rows, &audited.table, audited.window.as_ref(), progress.horizon_us, &mut |batch| {
        read += batch.num_rows() as u64;
        for (audit, (failed, examples_of)) in audited.audits.iter().zip(&mut kept) {
            let failing = match audit.failing(&batch) {
                Ok(failing) => failing,
                Err(error) => {
                    ended = Some(AuditError::Evaluation { audit: audit.name.clone(), error });
                    return false;
                }
            };
            for row in failing.iter().enumerate().filter(|(_, fails)| *fails == Some(true)).map(|(row, _)| row) {
                *failed += 1;
                examples_of.insert(key_text(&audited.table, &batch, row), members(&batch, row));
                if examples_of.len() > examples {
                    examples_of.pop_last();
                }
            }
        }
        let is_wanted = watcher(read);
        if !is_wanted {
            ended = Some(AuditError::Stopped);
        }
        is_wanted
    });
    if let Some(error) = ended {
        return Err(error);
    }
    scanned?;
    let verdict = |(audit, (failed, examples)): (&Audit, (u64, BTreeMap<String, Map<String, Value>>))| Verdict {
        audit: audit.name.clone(),
        condition: audit.condition.clone(),
        failed,
        examples: examples.into_values().collect(),
    };
    Ok(Report {
        version: audited.table.version.0,
        positions: json::cut(&progress.visible),
        rows: read,
        audits: audited.audits.iter().zip(kept).map(verdict).collect(),
    })
}
