//! `GET /v1/views/{view}/keys`: partition keys that begin with a text, for search as one types.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use refold_processor::json;
use refold_processor::store::KeysRead;
use serde_json::{Value, json};

use crate::parameters::parse_version;
use crate::problem::Problem;
use crate::reading::{Reading, not_there};
use crate::work::blocking;

const PARAMETERS: [&str; 3] = ["prefix", "limit", "version"];
const LIMIT_DEFAULT: usize = 20;
/// The greatest limit that a reader may name.
const LIMIT_MAX: usize = 1_000;

/// `GET /v1/views/{view}/keys`
pub async fn list(
    State(reading): State<Arc<Reading>>,
    Path(view): Path<String>,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Result<Json<Value>, Problem> {
    let mut wanted = KeysRead { prefix: String::new(), limit: LIMIT_DEFAULT };
    let mut version = None;
    for (name, value) in parameters {
        let wrong = |expected: &str| Problem::parameter(format!("parameter {name}: {value:?} is not {expected}"));
        match name.as_str() {
            "prefix" => wanted.prefix = value,
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                wanted.limit = limit.ok_or_else(|| wrong(&format!("a number from 1 to {LIMIT_MAX}")))?;
            }
            "version" => version = Some(parse_version(&value).ok_or_else(|| wrong("the number of a version, such as 2"))?),
            _ => {
                let detail = format!("there is no parameter {name}; there are: {}", PARAMETERS.join(", "));
                return Err(Problem::parameter(detail).with("parameters", PARAMETERS.to_vec()));
            }
        }
    }
    blocking(move || {
        let (record, _) = reading.version(&view, version)?;
        let table = reading.views.table(&record)?;
        let found = reading.views.rows.keys(&table, &wanted).map_err(|error| not_there(error, &record))?;
        Ok(Json(json!({
            "view": view,
            "version": record.version.0,
            "keys": json::rows(&found.keys),
            "complete": found.complete,
        })))
    })
    .await
}
