//! `/v1/admin/…`: what operators do.

mod controls;
mod dropping;
mod rollback;
mod switching;

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, Path, Query, State};
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use refold_processor::engine::worker::first_to_serve;
use refold_processor::json::millis;
use refold_processor::source::Source;
use refold_processor::table::Version;
use refold_versions::planner::register_until;
use serde::Deserialize;
use serde_json::{Value, json};

pub use self::controls::{pause, resume, throttle};
pub use self::dropping::{drop_version, drop_view};
pub use self::rollback::rollback;
pub use self::switching::{switch, switch_group};
use crate::access::Caller;
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
    /// The commit of the folder that the definition came from.
    commit: Option<String>,
    /// The record time at which the version ends, RFC 3339; without it, it follows the log.
    until: Option<DateTime<Utc>>,
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
        let record = register_until(&views.catalogue, &planned, body.commit.as_deref(), until_ms, &who(&caller, body.by.as_deref()))?;
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

/// The version that a path names.
pub fn version_of_path(text: &str) -> Result<Version, Problem> {
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
