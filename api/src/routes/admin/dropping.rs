//! `POST …/drop`: the end of a version, or of all versions of a view. What is left of them is removed by workers.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use refold_processor::table::Version;
use refold_versions::dropping::{Facts, Verdict, droppable, explain_in_service, judge};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{or_forced, require_reason, version_of_path, who};
use crate::access::Caller;
use crate::problem::Problem;
use crate::reading::known_record;
use crate::views::Views;
use crate::work::blocking;

/// The body of a drop.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DropBody {
    /// Why.
    reason: Option<String>,
    /// Drops it even if it was in service lately; requires a reason.
    #[serde(default)]
    force: bool,
    /// Who asks.
    by: Option<String>,
}

/// The body of a drop of a view.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DropViewBody {
    /// The name of the view once more.
    confirm: Option<String>,
    /// Why.
    reason: Option<String>,
    /// Who asks.
    by: Option<String>,
}

/// `POST /v1/admin/views/{view}/versions/{version}/drop`: a version that readers are not sent to is dropped. Asked again it changes nothing.
pub async fn drop_version(
    State(views): State<Arc<Views>>,
    Extension(caller): Extension<Caller>,
    Path((view, version)): Path<(String, String)>,
    body: Result<Json<DropBody>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Json(body) = body.map_err(|error| Problem::body(error.body_text()))?;
    let version = version_of_path(&version)?;
    require_reason(body.force, body.reason.as_deref(), "for dropping this version")?;
    blocking(move || {
        let versions = views.known_versions(&view)?;
        let record = known_record(&view, &versions, version)?;
        let pointer = views.catalogue.active(&view)?;
        let facts = Facts { record, pointer: pointer.as_ref(), now_ms: views.clock.now_ms(), grace_ms: views.drop_grace_ms };
        let (is_dropped, overridden) = match judge(&facts) {
            Verdict::Drop => (true, None),
            Verdict::Done => (false, None),
            Verdict::InGrace(grace) if body.force => (true, Some(grace.describe(version))),
            Verdict::InGrace(grace) => return Err(refused(grace.explain(&view, version)).with("grace_left_ms", grace.left_ms)),
            Verdict::InService => return Err(refused(explain_in_service(record, pointer.as_ref(), &versions))),
        };
        if is_dropped {
            let reason = or_forced(overridden, body.reason);
            let by = who(&caller, body.by.as_deref());
            views.catalogue.drop_version(&view, version, &droppable(), &by, reason.as_deref())?;
        }
        views.watch.running.look();
        let is_removed = is_removed(&views, &view, &[version])?;
        Ok(Json(json!({ "view": view, "version": version.0, "state": "dropped", "dropped": is_dropped, "removed": is_removed })))
    })
    .await
}

/// `POST /v1/admin/views/{view}/drop`: all versions of a view are dropped, also the one in service. Asked again it changes nothing.
pub async fn drop_view(
    State(views): State<Arc<Views>>,
    Extension(caller): Extension<Caller>,
    Path(view): Path<String>,
    body: Result<Json<DropViewBody>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Json(body) = body.map_err(|error| Problem::body(error.body_text()))?;
    if body.confirm.as_deref() != Some(&view) {
        return Err(Problem::body(format!(
            "this drops all versions of view {view}, also the one in service: confirm it with its name, \"confirm\": {view:?}"
        )));
    }
    blocking(move || {
        let versions: Vec<Version> = views.known_versions(&view)?.iter().map(|record| record.version).collect();
        let dropped = views.catalogue.drop_view(&view, &who(&caller, body.by.as_deref()), body.reason.as_deref())?;
        views.watch.running.look();
        // One that cannot be read declares it all the same; that is somebody else's question.
        let declared = views.declared(&view).ok().flatten().map(|(file, _)| file);
        let numbers: Vec<u32> = dropped.iter().map(|record| record.version.0).collect();
        Ok(Json(json!({
            "view": view,
            "versions": numbers,
            "dropped": !dropped.is_empty(),
            "removed": is_removed(&views, &view, &versions)?,
            "declared": declared,
        })))
    })
    .await
}

/// Whether nothing is left of dropped versions.
fn is_removed(views: &Views, view: &str, versions: &[Version]) -> Result<bool, Problem> {
    Ok(!views.catalogue.removing(view)?.iter().any(|record| versions.contains(&record.version)))
}

fn refused(detail: String) -> Problem {
    Problem::new(StatusCode::CONFLICT, "gate", "The version is still needed", detail)
}
