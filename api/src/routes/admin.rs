//! `/v1/admin/…`: what operators do.

mod controls;
mod dropping;
mod rollback;

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, Path, Query, State};
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use refold_processor::engine::worker::first_to_serve;
use refold_processor::json::millis;
use refold_processor::source::Source;
use refold_processor::store::catalogue::{VersionRecord, VersionState};
use refold_processor::table::Version;
use refold_versions::gate::{judge, newest_ready, ways_on};
use refold_versions::planner::register_until;
use serde::Deserialize;
use serde_json::{Value, json};

pub use self::controls::{pause, resume, throttle};
pub use self::dropping::{drop_version, drop_view};
pub use self::rollback::rollback;
use crate::access::Caller;
use crate::gate::{facts, refused};
use crate::intake::Intakes;
use crate::parameters::parse_version;
use crate::problem::Problem;
use crate::views::Views;
use crate::work::blocking;

/// The longest audit trail that is answered.
const HISTORY_MAX: usize = 1_000;

/// The body of a replay.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayBody {
    /// The definition; without it, the declared one.
    sql: Option<String>,
    /// How errors name the definition.
    file: Option<String>,
    /// The record time at which the version ends, RFC 3339; without it, it follows the log.
    until: Option<DateTime<Utc>>,
    /// Who asks.
    by: Option<String>,
}

/// The body of a switch.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwitchBody {
    /// The version to switch to; without it, the newest one that is caught up.
    to: Option<u32>,
    /// The version that must be in service now; without it, whichever is.
    expected: Option<u32>,
    /// Why.
    reason: Option<String>,
    /// Overrides the gate for a version that no worker runs or that is behind; requires a reason.
    #[serde(default)]
    force: bool,
    /// Who asks.
    by: Option<String>,
}

/// What of the audit trail is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryQuery {
    view: Option<String>,
    limit: Option<usize>,
}

/// `POST /v1/admin/views/{view}/replay`: a new version, built from the start of the log. Asked again while that version is not in
/// service yet, it answers with the same one.
pub async fn replay(
    State(views): State<Arc<Views>>,
    Extension(caller): Extension<Caller>,
    Path(view): Path<String>,
    body: Result<Json<ReplayBody>, JsonRejection>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let Json(body) = body.map_err(|error| Problem::body(error.body_text()))?;
    blocking(move || {
        let (file, sql) = definition(&views, &view, &body)?;
        let planned = views.plan(&sql, &file)?;
        if planned.name != view {
            let detail = format!("{file} defines view {}, not {view}", planned.name);
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "view", "The view is refused", detail));
        }
        let before: Vec<Version> = views.catalogue.versions(&view)?.iter().map(|record| record.version).collect();
        let until_ms = body.until.map(|until| until.timestamp_millis());
        let record = register_until(&views.catalogue, &planned, until_ms, &who(&caller, body.by.as_deref()))?;
        let is_new = !before.contains(&record.version);
        let versions = views.versions_of(&view)?;
        let active = views.catalogue.active(&view)?.map(|active| active.version);
        let follow = versions.iter().filter(|record| record.controls.until_ms.is_none());
        let first = first_to_serve(active, follow.map(|record| (record.version, &record.state)));
        views.watch.running.look();
        let status = if is_new { StatusCode::ACCEPTED } else { StatusCode::OK };
        let answer = json!({
            "view": view,
            "version": record.version.0,
            "state": record.state.name(),
            "created": is_new,
            "waits_for_switch": active != Some(record.version) && first != Some(record.version),
            "until": record.controls.until_ms.map(millis),
            "digest": record.digest,
        });
        Ok((status, Json(answer)))
    })
    .await
}

/// The switch that was requested.
struct Asked {
    to: Version,
    expected: Option<Version>,
    active: Option<Version>,
    force: bool,
}

/// Refuses a target version that is not current. For a forced switch, returns the description of the gate that was overridden. The version's state and the active pointer
/// are checked by the catalogue.
fn pass_gate(views: &Views, versions: &[VersionRecord], asked: &Asked) -> Result<Option<String>, Problem> {
    let Some(target) = versions.iter().find(|record| record.version == asked.to) else { return Ok(None) };
    if asked.active == Some(asked.to) {
        return match &target.state {
            VersionState::Failed { error } => {
                let detail = format!(
                    "view {}: readers are on version {} already, and it has failed: {error}; {}",
                    target.view,
                    target.version,
                    ways_on(target, versions)
                );
                Err(Problem::new(StatusCode::CONFLICT, "gate", "The version has failed", detail).with("state", "failed"))
            }
            _ => Ok(None),
        };
    }
    if asked.expected != asked.active || !target.state.may_become(&VersionState::Active) {
        return Ok(None);
    }
    let active = versions.iter().find(|record| Some(record.version) == asked.active);
    match judge(&facts(views, target, active)?, views.watch.caught_up_lag_events) {
        Some(gate) if asked.force => Ok(Some(gate.describe(target.version))),
        Some(gate) => Err(refused(&gate, &target.view, target.version)),
        None => Ok(None),
    }
}

/// `POST /v1/admin/views/{view}/switch`: sends readers to another version, in one step.
pub async fn switch(
    State(views): State<Arc<Views>>,
    Extension(caller): Extension<Caller>,
    Path(view): Path<String>,
    body: Result<Json<SwitchBody>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Json(body) = body.map_err(|error| Problem::body(error.body_text()))?;
    require_reason(body.force, body.reason.as_deref(), "for switching to this version")?;
    blocking(move || {
        let versions = views.versions_of(&view)?;
        let catalogue = &views.catalogue;
        let pointer = catalogue.active(&view)?;
        let active = pointer.as_ref().map(|pointer| pointer.version);
        let expected = body.expected.map(Version).or(active);
        let to = match body.to {
            Some(to) => Version(to),
            None => match (newest_ready(&view, &versions, active).map_err(none_ready), expected) {
                (Ok(newest), _) if Some(newest) != active => newest,
                // Nothing waits. Either this very switch was made before, or the caller is mistaken about the version in service.
                (_, Some(replaced)) if expected != active => pointer
                    .filter(|pointer| pointer.previous == expected && pointer.version > replaced)
                    .map_or(replaced, |made| made.version),
                (newest, _) => newest?,
            },
        };
        let asked = Asked { to, expected, active, force: body.force };
        let reason = or_forced(pass_gate(&views, &versions, &asked)?, body.reason);
        let pointer = catalogue.switch(&view, expected, to, &who(&caller, body.by.as_deref()), reason.as_deref())?;
        views.watch.running.look();
        let (from, is_moved) = (active.map(|version| version.0), active != Some(to));
        Ok(Json(json!({ "view": view, "from": from, "to": pointer.version.0, "switched": is_moved })))
    })
    .await
}

/// `GET /v1/admin/status`: all views and versions.
pub async fn status(State(views): State<Arc<Views>>, State(intakes): State<Arc<Intakes>>) -> Result<Json<Value>, Problem> {
    blocking(move || {
        // The status is asked for most when something is unavailable.
        let unavailable = |source: &Source| json!({ "source": source.name, "topic": source.topic, "partitions": {} });
        let described = |source: &Source| {
            // What is known to be unavailable takes its time to say so again.
            let found = if views.watch.ends.unavailable(&source.topic).is_some() { None } else { intakes.document(source).ok() };
            found.unwrap_or_else(|| unavailable(source))
        };
        let sources: Vec<Value> = views.sources.values().map(described).collect();
        let collector = views.watch.collected.as_ref().map(|collected| {
            let totals = collected.report.totals();
            json!({
                "source": collected.spec,
                "read": totals.read,
                "written": totals.written,
                "skipped": totals.skipped(),
                "failed": collected.failed(),
            })
        });
        Ok(Json(json!({ "views": views.documents()?, "sources": sources, "collector": collector })))
    })
    .await
}

/// `GET /v1/admin/history`: the audit trail, the newest entry last.
pub async fn history(State(views): State<Arc<Views>>, Query(query): Query<HistoryQuery>) -> Result<Json<Value>, Problem> {
    blocking(move || {
        if let Some(view) = &query.view {
            views.known_versions(view)?;
        }
        let limit = query.limit.unwrap_or(100).min(HISTORY_MAX);
        let entries = views.catalogue.history(query.view.as_deref(), limit)?;
        Ok(Json(json!({ "history": entries })))
    })
    .await
}

/// No version can be switched to.
fn none_ready(detail: String) -> Problem {
    Problem::new(StatusCode::CONFLICT, "gate", "The version is not in a state that allows this", detail)
}

/// The version that a path names.
fn version_of_path(text: &str) -> Result<Version, Problem> {
    parse_version(text).ok_or_else(|| Problem::parameter(format!("{text:?} is not the number of a version, such as 2")))
}

/// Refuses to override something without a reason.
fn require_reason(force: bool, reason: Option<&str>, what: &str) -> Result<(), Problem> {
    match force && reason.is_none_or(|reason| reason.trim().is_empty()) {
        true => Err(Problem::body(format!("force needs a reason for the audit trail: name the reason {what}"))),
        false => Ok(()),
    }
}

/// The reason for the audit trail, with what was overridden.
fn or_forced(overridden: Option<String>, reason: Option<String>) -> Option<String> {
    match (overridden, reason) {
        (Some(forced), Some(reason)) => Some(format!("{reason} (forced: {forced})")),
        (_, reason) => reason,
    }
}

/// Who is written into the audit trail when nobody says who asks.
const SOMEONE: &str = "api";

/// Who is written into the audit trail: who says so, and whose token of the tokens file it was.
fn who(caller: &Caller, by: Option<&str>) -> String {
    match (by, caller.own_name()) {
        (Some(by), Some(name)) if by != name => format!("{by} ({name})"),
        (_, Some(name)) => name.to_owned(),
        (by, None) => by.unwrap_or(SOMEONE).to_owned(),
    }
}

/// The definition that was sent, else the declared one, else that of the newest version.
fn definition(views: &Views, view: &str, body: &ReplayBody) -> Result<(String, String), Problem> {
    if let Some(sql) = &body.sql {
        return Ok((body.file.clone().unwrap_or_else(|| "sql".into()), sql.clone()));
    }
    if let Some(declared) = views.declared(view)? {
        return Ok(declared);
    }
    let versions = views.known_versions(view)?;
    let newest = versions.last().ok_or_else(|| Problem::not_found(format!("there is no view {view}")))?;
    Ok((format!("{view} {}", newest.version), newest.sql.clone()))
}
