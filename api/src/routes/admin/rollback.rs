//! `POST …/rollback`: readers back to the version that was in service before.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use refold_processor::table::Version;
use refold_versions::rollback::{Facts, Refusal, Verdict, judge};
use serde::Deserialize;
use serde_json::{Value, json};

use super::switching::{Asked, pass_current};
use super::{or_forced, require_reason, who};
use crate::access::Caller;
use crate::problem::Problem;
use crate::views::Views;
use crate::work::blocking;

/// The body of a rollback.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackBody {
    /// The version that readers are to be sent back from; without it, the one in service.
    expected: Option<u32>,
    /// Why.
    reason: Option<String>,
    /// Overrides the gate for a version that no worker runs or that is behind; requires a reason.
    #[serde(default)]
    force: bool,
    /// Who asks.
    by: Option<String>,
}

/// `POST /v1/admin/views/{view}/rollback`: sends readers back to the version that was in service before, in one step. Asked again it changes nothing.
pub async fn rollback(
    State(views): State<Arc<Views>>,
    Extension(caller): Extension<Caller>,
    Path(view): Path<String>,
    body: Result<Json<RollbackBody>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Json(body) = body.map_err(|error| Problem::body(error.body_text()))?;
    require_reason(body.force, body.reason.as_deref(), "for sending readers back to this version")?;
    blocking(move || {
        let versions = views.versions_of(&view)?;
        let catalogue = &views.catalogue;
        let pointer = catalogue.active(&view)?;
        let expected = body.expected.map(Version);
        let answer = |from: Version, to: Version, is_moved: bool| {
            Ok(Json(json!({ "view": view, "from": from.0, "to": to.0, "rolled_back": is_moved })))
        };
        let (from, to) = match judge(&Facts { view: &view, pointer: pointer.as_ref(), versions: &versions, expected }) {
            Verdict::Back { from, to } => (from, to),
            Verdict::Done { from, to } => return answer(from, to, false),
            Verdict::Refused(refusal) => return Err(refused(&view, refusal)),
        };
        let gate = pass_current(&views, &versions, &Asked { to, expected: Some(from), active: Some(from), force: body.force })?;
        let reason = or_forced(gate, body.reason);
        catalogue.rollback(&view, from, to, &who(&caller, body.by.as_deref()), reason.as_deref())?;
        views.watch.running.look();
        answer(from, to, true)
    })
    .await
}

fn refused(view: &str, refusal: Refusal) -> Problem {
    match refusal {
        Refusal::NoWay(detail) => Problem::new(StatusCode::CONFLICT, "gate", "There is no way back", detail),
        Refusal::Other { expected, active } => {
            let detail = format!("view {view}: version {active} is in service, where {expected} was expected; look at it and run again");
            Problem::new(StatusCode::CONFLICT, "conflict", "Someone else was first", detail).with("active", active.0)
        }
    }
}
