//! `POST /v1/admin/views/{view}/versions/{version}/audit`: whether the rows of a version meet the audits that its view declares.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use refold_versions::audit::{AuditError, Audited, check};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::gates::audited;
use crate::lines::{self, Lines};
use crate::problem::Problem;
use crate::reading::record_of;
use crate::routes::admin::version_of_path;
use crate::views::Views;
use crate::work::blocking;

/// The body of an audit.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditBody {
    /// How many rows that fail are shown of each audit.
    examples: Option<usize>,
}

const EXAMPLES: usize = 5;
/// The most examples of an audit.
const EXAMPLES_MAX: usize = 1_000;
/// How often it is said how far it is.
const EVERY: Duration = Duration::from_millis(500);

/// `POST /v1/admin/views/{view}/versions/{version}/audit`: lines `{"going": …}`, and the last one `{"report": …}`.
pub async fn audit(
    State(views): State<Arc<Views>>,
    Path((view, version)): Path<(String, String)>,
    body: Result<Json<AuditBody>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(body) = body.map_err(|error| Problem::body(error.body_text()))?;
    let version = version_of_path(&version)?;
    let examples = body.examples.unwrap_or(EXAMPLES);
    if examples > EXAMPLES_MAX {
        return Err(Problem::body(format!("examples: {examples} is more than {EXAMPLES_MAX}")));
    }
    let chosen = views.clone();
    let audited = blocking(move || {
        let versions = chosen.versions_of(&view)?;
        let record = record_of(&view, &versions, version)?;
        let checks = chosen.checks_of(record)?;
        if checks.audits.is_empty() {
            let detail =
                format!("view {view} declares no audits: add WITH (audit_<name> = 'condition') to it, no version is built for that");
            return Err(Problem::new(StatusCode::CONFLICT, "audit", "There is nothing to audit", detail));
        }
        audited(&chosen, record, &checks)
    })
    .await?;
    Ok(lines::answer(move |lines| run(&views, &audited, examples, lines)))
}

#[allow(clippy::disallowed_methods, reason = "paces what is said, and reaches no row")]
fn run(views: &Views, audited: &Audited, examples: usize, lines: &Lines) -> Result<(), Problem> {
    let mut told = Instant::now();
    let report = check(views.rows.as_ref(), audited, examples, &mut |rows| {
        if told.elapsed() < EVERY {
            return !lines.is_gone();
        }
        told = Instant::now();
        lines.send(&json!({ "going": { "rows_read": rows } })).is_ok()
    });
    let report = match report {
        Ok(report) => report,
        Err(AuditError::Stopped) => return Ok(()),
        Err(AuditError::Store(error)) => return Err(error.into()),
        Err(error) => return Err(Problem::internal(error.to_string())),
    };
    let mut document = serde_json::to_value(&report).map_err(|error| Problem::internal(format!("the report has no JSON: {error}")))?;
    if let Value::Object(members) = &mut document {
        members.insert("view".into(), audited.table.view.clone().into());
        members.insert("is_passed".into(), report.is_passed().into());
    }
    // Whoever has hung up needs no report.
    let _ = lines.send(&json!({ "report": document }));
    Ok(())
}
