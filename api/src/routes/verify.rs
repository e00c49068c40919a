//! `POST /v1/admin/views/{view}/versions/{version}/verify`: whether the rows of a version are those that the log makes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use chrono::DateTime;
use refold_processor::engine::quarantined::Wanted;
use refold_processor::position::{Offset, Partition};
use refold_processor::quarantine::Reason;
use refold_processor::source::Source;
use refold_processor::store::catalogue::VersionRecord;
use refold_processor::table::Table;
use refold_processor::view::View;
use refold_versions::verify::{Going, Verified, VerifyError, VerifySettings, verify};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::lines::{self, Lines};
use crate::problem::Problem;
use crate::reading::record_of;
use crate::routes::admin::version_of_path;
use crate::routes::why::History;
use crate::views::Views;
use crate::work::blocking;

/// The body of a verification. Times are RFC 3339.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyBody {
    /// Only the window that begins at this time.
    window: Option<String>,
    /// Only windows that begin at this time or later.
    from: Option<String>,
    /// Only windows that begin before this time.
    to: Option<String>,
    /// How many rows that differ are named.
    rows: Option<usize>,
}

/// The most rows that are named.
const ROWS_MAX: usize = 100_000;
/// How often it is said how far it is.
const EVERY: Duration = Duration::from_millis(500);
/// Quarantined events of a page.
const PAGE: usize = 1_000;

/// What is verified.
struct Chosen {
    table: Table,
    view: Arc<View>,
    source: Source,
    late_after_idle: BTreeSet<(Partition, Offset)>,
}

/// `POST /v1/admin/views/{view}/versions/{version}/verify`: lines `{"going": …}`, and the last one `{"report": …}`.
pub async fn run(
    State(views): State<Arc<Views>>,
    State(history): State<Arc<History>>,
    Path((view, version)): Path<(String, String)>,
    body: Result<Json<VerifyBody>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(body) = body.map_err(|error| Problem::body(error.body_text()))?;
    let version = version_of_path(&version)?;
    let settings = settings(&body)?;
    let chosen_from = views.clone();
    let chosen = blocking(move || {
        let versions = chosen_from.versions_of(&view)?;
        choose(&chosen_from, record_of(&view, &versions, version)?)
    })
    .await?;
    Ok(lines::answer(move |lines| answer(&views, &history, &chosen, &settings, lines)))
}

fn choose(views: &Views, record: &VersionRecord) -> Result<Chosen, Problem> {
    let view = views.planned(record)?;
    let source = views.sources.get(&view.source).cloned();
    let source = source.ok_or_else(|| Problem::not_found(format!("source {} is not declared any more", view.source)))?;
    Ok(Chosen { table: views.table(record)?, view, source, late_after_idle: late_after_idle(views, record)? })
}

/// The events that the version has left out for a reason that depends on more than the log.
fn late_after_idle(views: &Views, record: &VersionRecord) -> Result<BTreeSet<(Partition, Offset)>, Problem> {
    let reason = Reason::LateAfterIdle;
    let progress = views.progress_of(record)?.unwrap_or_default();
    let counted = progress.quarantined.get(reason.as_str()).copied().unwrap_or(0);
    let mut events = BTreeSet::new();
    if counted == 0 {
        return Ok(events);
    }
    let (view, version) = (&record.view, record.version);
    let mut from = Some((Partition(0), Offset(0)));
    while let Some(at) = from {
        let page = views.watch.running.quarantined(view, version, &Wanted { from: at, reason: Some(reason), limit: PAGE });
        let page = page.map_err(|error| Problem::internal(error.to_string()))?.ok_or_else(|| {
            let detail = format!(
                "version {version} of view {view} has left out {counted} events as {}, which the process that runs it can tell: ask that one",
                reason.as_str()
            );
            Problem::new(StatusCode::CONFLICT, "verify", "The version runs elsewhere", detail)
        })?;
        events.extend(page.events.iter().map(|event| (event.partition, event.rejected.offset)));
        from = page.next;
    }
    Ok(events)
}

#[allow(clippy::disallowed_methods, reason = "paces what is said, and reaches no row")]
fn answer(views: &Views, history: &History, chosen: &Chosen, settings: &VerifySettings, lines: &Lines) -> Result<(), Problem> {
    let verified = Verified {
        rows: views.rows.as_ref(),
        table: &chosen.table,
        log: history.log.as_ref(),
        schemas: history.schemas.clone(),
        source: &chosen.source,
        view: &chosen.view,
        late_after_idle: &chosen.late_after_idle,
    };
    let mut told = Instant::now();
    let report = verify(&verified, settings, &mut |going| {
        if told.elapsed() < EVERY {
            return !lines.is_gone();
        }
        told = Instant::now();
        let going = match going {
            Going::Table(rows) => json!({ "rows_read": rows }),
            Going::Survey { read, of } => json!({ "records_read": read, "records": of }),
            Going::Windows { done, of } => json!({ "computed": done, "of": of }),
        };
        lines.send(&json!({ "going": going })).is_ok()
    });
    let report = match report {
        Ok(report) => report,
        Err(VerifyError::Stopped) => return Ok(()),
        Err(error) => return Err(problem(error)),
    };
    let mut document = serde_json::to_value(&report).map_err(|error| Problem::internal(format!("the report has no JSON: {error}")))?;
    if let Value::Object(members) = &mut document {
        members.insert("view".into(), chosen.table.view.clone().into());
        members.insert("is_equal".into(), report.is_equal().into());
        members.insert("left_out_late_after_idle".into(), chosen.late_after_idle.len().into());
    }
    // Whoever has hung up needs no report.
    let _ = lines.send(&json!({ "report": document }));
    Ok(())
}

fn problem(error: VerifyError) -> Problem {
    match error {
        VerifyError::Log(error) => error.into(),
        VerifyError::Decode(error) => error.into(),
        VerifyError::View(error) => error.into(),
        VerifyError::Store(error) => error.into(),
        VerifyError::NoWindows(_) | VerifyError::NothingClosed(_) => {
            Problem::new(StatusCode::CONFLICT, "verify", "There is nothing to verify", error.to_string())
        }
        error => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The verification was not finished", error.to_string()),
    }
}

fn settings(body: &VerifyBody) -> Result<VerifySettings, Problem> {
    let time = |name: &str, text: &Option<String>| {
        let parsed = text.as_ref().map(|text| DateTime::parse_from_rfc3339(text).map(|time| time.timestamp_micros()).map_err(|_| text));
        parsed.transpose().map_err(|text| Problem::body(format!("{name}: {text:?} is not a time, such as 2026-11-30T12:00:00Z")))
    };
    let (window_us, from_us, to_us) = (time("window", &body.window)?, time("from", &body.from)?, time("to", &body.to)?);
    if window_us.is_some() && (from_us.is_some() || to_us.is_some()) {
        return Err(Problem::body("window: it is one window by itself; leave out from and to"));
    }
    let defaults = VerifySettings::default();
    let most_rows = body.rows.unwrap_or(defaults.most_rows);
    if most_rows > ROWS_MAX {
        return Err(Problem::body(format!("rows: {most_rows} is more than {ROWS_MAX}")));
    }
    Ok(VerifySettings {
        from_us: window_us.or(from_us),
        to_us: window_us.map(|window_us| window_us.saturating_add(1)).or(to_us),
        most_rows,
        ..defaults
    })
}
