//! `POST /v1/admin/views/{view}/canary`: what a new definition would change, over a sample of the log.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use refold_processor::source::Source;
use refold_processor::view::View;
use refold_versions::canary::{CanaryError, CanarySettings, Side, compare};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::problem::Problem;
use crate::reading::record_of;
use crate::routes::why::History;
use crate::views::Views;
use crate::work::watched;

/// The body of a canary.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CanaryBody {
    /// The new definition.
    sql: String,
    /// How errors name it.
    file: Option<String>,
    /// The share of partition keys whose rows are compared.
    share: Option<f64>,
}

/// `POST /v1/admin/views/{view}/canary`
pub async fn run(
    State(views): State<Arc<Views>>,
    State(history): State<Arc<History>>,
    Path(view): Path<String>,
    body: Result<Json<CanaryBody>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Json(body) = body.map_err(|error| Problem::body(error.body_text()))?;
    let defaults = CanarySettings::default();
    let share = body.share.unwrap_or(defaults.share);
    if !(share > 0.0 && share <= 1.0) {
        return Err(Problem::body(format!(
            "share: {share} is not a part above 0 and up to 1, such as 0.1 for a tenth of the partition keys"
        )));
    }
    watched(move |is_gone| {
        let planned = Arc::new(views.plan(&body.sql, body.file.as_deref().unwrap_or("sql"))?);
        let versions = views.versions_of(&view)?;
        let active = views.catalogue.active(&view)?.ok_or_else(|| {
            let detail = format!("no version of view {view} is in service: there is nothing to compare with");
            Problem::new(StatusCode::CONFLICT, "gate", "There are no two definitions to compare", detail)
        })?;
        let record = record_of(&view, &versions, active.version)?;
        let running = views.planned(record)?;
        let sides =
            [Side { view: &running, source: source(&views, &running)? }, Side { view: &planned, source: source(&views, &planned)? }];
        let settings = CanarySettings { share, ..defaults };
        let report = compare(history.log.as_ref(), &history.schemas, sides, &settings, &|| !is_gone()).map_err(problem)?;
        let mut document = serde_json::to_value(&report).map_err(|error| Problem::internal(format!("the report has no JSON: {error}")))?;
        if let Value::Object(members) = &mut document {
            members.insert("view".into(), view.into());
            members.insert("version".into(), json!(record.version.0));
        }
        Ok(Json(document))
    })
    .await
}

fn source<'a>(views: &'a Views, view: &View) -> Result<&'a Source, Problem> {
    views.sources.get(&view.source).ok_or_else(|| Problem::not_found(format!("source {} is not declared where refold runs", view.source)))
}

fn problem(error: CanaryError) -> Problem {
    match error {
        CanaryError::Log(error) => error.into(),
        CanaryError::Decode(error) => error.into(),
        CanaryError::View(error) => error.into(),
        error @ (CanaryError::OtherKey { .. } | CanaryError::OtherSource { .. }) => {
            Problem::new(StatusCode::CONFLICT, "diff", "The definitions cannot be compared", error.to_string())
        }
        error => Problem::internal(error.to_string()),
    }
}
