//! `POST …/pause`, `…/throttle` and `…/resume`: what is wanted of a version while it is built.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use refold_processor::store::catalogue::{Asking, Throttle, VersionRecord, VersionState};
use refold_processor::table::Version;
use refold_versions::controls::{Wanted, judge};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{version_of_path, who};
use crate::access::Caller;
use crate::problem::Problem;
use crate::reading::record_of;
use crate::views::{Views, throttle_document};
use crate::work::blocking;

/// The body of a pause.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PauseBody {
    /// Why.
    reason: Option<String>,
    /// Who asks.
    by: Option<String>,
}

/// The body of a throttle.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThrottleBody {
    /// How.
    throttle: ThrottleKind,
    /// With `rate`: the most events per second.
    events_per_s: Option<u64>,
    /// Why.
    reason: Option<String>,
    /// Who asks.
    by: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ThrottleKind {
    Auto,
    Off,
    Rate,
}

/// The body of a resume.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResumeBody {
    /// Who asks.
    by: Option<String>,
}

/// `POST /v1/admin/views/{view}/versions/{version}/pause`: a version that is being built stands still. Asked again it changes nothing.
pub async fn pause(
    State(views): State<Arc<Views>>,
    Extension(caller): Extension<Caller>,
    Path((view, version)): Path<(String, String)>,
    body: Result<Json<PauseBody>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Json(body) = body.map_err(|error| Problem::body(error.body_text()))?;
    let version = version_of_path(&version)?;
    blocking(move || {
        let by = who(&caller, body.by.as_deref());
        let asking = Asking { verb: "pause", by: &by, reason: body.reason.as_deref() };
        let (record, is_changed) = control(&views, (&view, version), &asking, Wanted::Pause)?;
        Ok(Json(json!({ "view": view, "version": version.0, "state": record.state.name(), "paused": is_changed })))
    })
    .await
}

/// `POST /v1/admin/views/{view}/versions/{version}/throttle`: how fast a version that is being built may be. Asked again it changes nothing.
pub async fn throttle(
    State(views): State<Arc<Views>>,
    Extension(caller): Extension<Caller>,
    Path((view, version)): Path<(String, String)>,
    body: Result<Json<ThrottleBody>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Json(body) = body.map_err(|error| Problem::body(error.body_text()))?;
    let version = version_of_path(&version)?;
    let throttle = match (body.throttle, body.events_per_s) {
        (ThrottleKind::Auto, None) => Throttle::Auto,
        (ThrottleKind::Off, None) => Throttle::Off,
        (ThrottleKind::Rate, Some(rate)) => Throttle::Rate(rate),
        (ThrottleKind::Rate, None) => return Err(Problem::body("throttle rate needs events_per_s, the most events per second")),
        (_, Some(_)) => return Err(Problem::body("events_per_s is for throttle rate alone")),
    };
    blocking(move || {
        let by = who(&caller, body.by.as_deref());
        let asking = Asking { verb: "throttle", by: &by, reason: body.reason.as_deref() };
        let (record, is_changed) = control(&views, (&view, version), &asking, Wanted::Throttle(throttle))?;
        Ok(Json(json!({
            "view": view,
            "version": version.0,
            "state": record.state.name(),
            "throttle": throttle_document(record.controls.throttle, None),
            "changed": is_changed,
        })))
    })
    .await
}

/// `POST /v1/admin/views/{view}/versions/{version}/resume`: a version that has failed or is paused goes on where it stopped.
pub async fn resume(
    State(views): State<Arc<Views>>,
    Extension(caller): Extension<Caller>,
    Path((view, version)): Path<(String, String)>,
    body: Result<Json<ResumeBody>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Json(body) = body.map_err(|error| Problem::body(error.body_text()))?;
    let version = version_of_path(&version)?;
    blocking(move || {
        let versions = views.versions_of(&view)?;
        let before = record_of(&view, &versions, version)?;
        let (was_failed, was_paused) = (matches!(before.state, VersionState::Failed { .. }), before.controls.pause);
        let record = views.catalogue.resume(&view, version, &who(&caller, body.by.as_deref()))?;
        views.watch.running.look();
        Ok(Json(json!({
            "view": view,
            "version": version.0,
            "state": record.state.name(),
            "resumed": was_failed || was_paused,
            "was": if was_failed { Some("failed") } else if was_paused { Some("paused") } else { None },
        })))
    })
    .await
}

/// Changes the controls of a version. Answers whether they are others than before.
fn control(views: &Views, (view, version): (&str, Version), asking: &Asking<'_>, wanted: Wanted) -> Result<(VersionRecord, bool), Problem> {
    let versions = views.versions_of(view)?;
    let before = record_of(view, &versions, version)?.controls.clone();
    let decided = views.catalogue.control(view, version, asking, |record, pointer| judge(record, pointer, wanted))?;
    let record =
        decided.map_err(|detail| Problem::new(StatusCode::CONFLICT, "gate", "The version is not in a state that allows this", detail))?;
    views.watch.running.look();
    let is_changed = record.controls != before;
    Ok((record, is_changed))
}
