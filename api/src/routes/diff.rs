//! `POST /v1/admin/views/{view}/diff`: how the rows of two versions differ.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use refold_processor::position::Cut;
use refold_processor::store::catalogue::{VersionRecord, VersionState};
use refold_processor::table::Version;
use refold_versions::diff::{Compared, DiffError, DiffSettings, compare};
use refold_versions::gate::{Gate, newest_ready};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::gate::refused;
use crate::gates::compared;
use crate::lines::{self, Lines};
use crate::problem::Problem;
use crate::reading::record_of;
use crate::views::Views;
use crate::work::blocking;

/// The body of a comparison.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiffBody {
    /// The version to compare with; without it, the one in service.
    left: Option<u32>,
    /// The version to compare; without it, the newest one that waits for a switch, else the one in service with the one before.
    right: Option<u32>,
    /// Numbers that differ by at most this part count as equal; without it, as the view declares.
    tolerance: Option<f64>,
    /// How many examples of each kind of difference.
    examples: Option<usize>,
    /// For how long rows that change meanwhile are read again, seconds.
    settle_s: Option<f64>,
}

/// The most examples of a kind.
const EXAMPLES_MAX: usize = 1_000;
/// The longest time for rows to settle, seconds.
const SETTLE_MAX_S: f64 = 600.0;
/// How often it is said how far a comparison is.
const EVERY: Duration = Duration::from_millis(500);

/// `POST /v1/admin/views/{view}/diff`: lines `{"going": …}`, and the last one `{"report": …}`.
pub async fn diff(
    State(views): State<Arc<Views>>,
    Path(view): Path<String>,
    body: Result<Json<DiffBody>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(body) = body.map_err(|error| Problem::body(error.body_text()))?;
    let mut settings = settings(&body)?;
    let (chosen, asked_tolerance) = (views.clone(), body.tolerance);
    let (sides, checks) = blocking(move || {
        let versions = chosen.versions_of(&view)?;
        let (left, right) = sides(&chosen, &view, &versions, &body)?;
        let (left, right) = (record_of(&view, &versions, left)?, record_of(&view, &versions, right)?);
        refuse_far_apart(&chosen, left, right)?;
        Ok(([compared(&chosen, left)?, compared(&chosen, right)?], chosen.checks_of(right)?))
    })
    .await?;
    // What the view declares, unless whoever asks says otherwise.
    settings.tolerance = asked_tolerance.or(checks.diff_tolerance).unwrap_or(settings.tolerance);
    settings.ignore = checks.diff_ignore;
    let tolerance_from = match (asked_tolerance, checks.diff_tolerance) {
        (Some(_), _) => Some("asked"),
        (None, Some(_)) => Some("declared"),
        (None, None) => None,
    };
    Ok(lines::answer(move |lines| run(&views, &sides, (&settings, tolerance_from), lines)))
}

#[allow(clippy::disallowed_methods, reason = "paces what is said, and reaches no row")]
fn run(
    views: &Views,
    sides: &[Compared; 2],
    (settings, tolerance_from): (&DiffSettings, Option<&'static str>),
    lines: &Lines,
) -> Result<(), Problem> {
    let mut told = Instant::now();
    let report = compare(views.rows.as_ref(), [&sides[0], &sides[1]], settings, &mut |going| {
        if told.elapsed() < EVERY {
            return !lines.is_gone();
        }
        told = Instant::now();
        lines.send(&json!({ "going": { "rows_read": going.rows_read, "unsettled": going.unsettled } })).is_ok()
    });
    let report = match report {
        Ok(report) => report,
        Err(DiffError::Stopped) => return Ok(()),
        Err(DiffError::Store(error)) => return Err(error.into()),
        Err(error) => return Err(Problem::new(StatusCode::CONFLICT, "diff", "The versions cannot be compared", error.to_string())),
    };
    let mut document = serde_json::to_value(&report).map_err(|error| Problem::internal(format!("the report has no JSON: {error}")))?;
    if let Value::Object(members) = &mut document {
        members.insert("view".into(), sides[0].table.view.clone().into());
        members.insert("is_equal".into(), report.is_equal().into());
        members.insert("tolerance_from".into(), tolerance_from.into());
    }
    // Whoever has hung up needs no report.
    let _ = lines.send(&json!({ "report": document }));
    Ok(())
}

fn settings(body: &DiffBody) -> Result<DiffSettings, Problem> {
    let defaults = DiffSettings::default();
    let tolerance = body.tolerance.unwrap_or(defaults.tolerance);
    if !(0.0..1.0).contains(&tolerance) {
        return Err(Problem::body(format!("tolerance: {tolerance} is not a part from 0 to 1, such as 0.01 for a hundredth")));
    }
    let settle_s = body.settle_s.unwrap_or(defaults.settle_for.as_secs_f64());
    if !(0.0..=SETTLE_MAX_S).contains(&settle_s) {
        return Err(Problem::body(format!("settle_s: {settle_s} is not a time from 0 to {SETTLE_MAX_S} seconds")));
    }
    let examples = body.examples.unwrap_or(defaults.examples);
    if examples > EXAMPLES_MAX {
        return Err(Problem::body(format!("examples: {examples} is more than {EXAMPLES_MAX}")));
    }
    Ok(DiffSettings { tolerance, examples, settle_for: Duration::from_secs_f64(settle_s), ..defaults })
}

/// Which versions are compared.
fn sides(views: &Views, view: &str, versions: &[VersionRecord], body: &DiffBody) -> Result<(Version, Version), Problem> {
    let pointer = views.catalogue.active(view)?;
    let active = pointer.as_ref().map(|pointer| pointer.version);
    let (left, right) = (body.left.map(Version), body.right.map(Version));
    let none = |detail: String| Problem::new(StatusCode::CONFLICT, "gate", "There are no two versions to compare", detail);
    let none_active = || none(format!("no version of view {view} is in service: name two versions"));
    let (left, right) = match (left, right) {
        (Some(left), Some(right)) => (left, right),
        (Some(left), None) => (left, active.ok_or_else(none_active)?),
        (None, Some(right)) => (active.ok_or_else(none_active)?, right),
        (None, None) => {
            let active = active.ok_or_else(none_active)?;
            match newest_ready(view, versions, Some(active)) {
                Ok(newest) if newest != active => (active, newest),
                // Nothing waits: what the last switch has changed.
                _ => {
                    let previous = pointer.and_then(|pointer| pointer.previous);
                    let is_there = |version: &Version| {
                        versions.iter().any(|record| record.version == *version && record.state != VersionState::Dropped)
                    };
                    let previous = previous.filter(is_there);
                    let alone = || none(format!("view {view} has no other version than {active}: start one with refold replay {view}"));
                    (previous.ok_or_else(alone)?, active)
                }
            }
        }
    };
    if left == right {
        return Err(Problem::body(format!("{left} is compared with itself: name two versions")));
    }
    Ok((left, right))
}

/// Refuses versions of which one is so far behind that what differs is what it has not read.
fn refuse_far_apart(views: &Views, left: &VersionRecord, right: &VersionRecord) -> Result<(), Problem> {
    let visible =
        |record: &VersionRecord| Ok::<_, Problem>(views.progress_of(record)?.map(|progress| progress.visible).unwrap_or_default());
    let (left_at, right_at) = (visible(left)?, visible(right)?);
    let allowance = views.watch.caught_up_lag_events;
    // One that ends is as far as it gets.
    let follow = |(record, ..): &(&VersionRecord, &Cut, &Cut)| record.controls.until_ms.is_none();
    for (record, at, other) in [(left, &left_at, &right_at), (right, &right_at, &left_at)].into_iter().filter(follow) {
        let behind = at.behind(other.iter());
        if behind > allowance {
            return Err(refused(&Gate::Behind(behind), &record.view, record.version));
        }
    }
    Ok(())
}
