//! What is answered when something is wrong: problem documents, RFC 9457.

use axum::body::to_bytes;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use refold_processor::decode::DecodeError;
use refold_processor::log::LogError;
use refold_processor::store::StoreError;
use refold_processor::store::catalogue::CatalogueError;
use refold_processor::view::ViewError;
use serde_json::{Map, Value, json};

/// The media type of a problem document.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// The most that is shown of a refusal in plain text, bytes.
const REFUSAL_BYTES: usize = 4 << 10;

/// What every problem's `type` begins with.
const TYPE_PREFIX: &str = "urn:refold:problem:";

/// One problem. Its `type` is `urn:refold:problem:<kind>`, for programs; `detail` is for people and says the way out.
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    kind: &'static str,
    title: &'static str,
    detail: String,
    members: Map<String, Value>,
    retry_after_s: Option<u64>,
}

impl Problem {
    /// A problem of this status and kind.
    pub fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: impl Into<String>) -> Problem {
        Problem { status, kind, title, detail: detail.into(), members: Map::new(), retry_after_s: None }
    }

    /// A parameter that is not there, not known, or has a wrong value.
    pub fn parameter(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "parameter", "A parameter is wrong", detail)
    }

    /// A body that is not what the route takes.
    pub fn body(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "body", "The body is wrong", detail)
    }

    /// A thing that does not exist.
    pub fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "not-found", "There is no such thing", detail)
    }

    /// A version that does not match the declared sources and schemas: one of the two has to be changed.
    pub fn definition(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::CONFLICT, "definition", "The version does not match the declarations", detail)
    }

    /// Something of Refold's own is wrong.
    pub fn internal(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something is wrong inside", detail)
    }

    /// Something cannot be answered now, but may be later.
    pub fn unavailable(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Not available now", detail).retry_after_s(1)
    }

    /// Adds a member to the document.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Problem {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// Tells the client when to ask again.
    pub fn retry_after_s(mut self, seconds: u64) -> Problem {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Whether it is no fault of the request: later the same one may be answered.
    pub fn is_servers(&self) -> bool {
        self.status.is_server_error()
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What happened, for people.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The document.
    pub fn document(&self) -> Value {
        let mut document = json!({
            "type": format!("{TYPE_PREFIX}{}", self.kind),
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let Some(members) = document.as_object_mut() {
            members.extend(self.members.clone());
        }
        document
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        if self.status.is_server_error() && self.status != StatusCode::SERVICE_UNAVAILABLE {
            tracing::error!(detail = self.detail, "request failed");
        }
        let mut response = (self.status, self.document().to_string()).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// What refuses a request before a route sees it (a path that is no text, a query that does not parse) does so in plain text: that becomes a problem document too.
pub async fn of_every_refusal(response: Response) -> Response {
    let status = response.status();
    let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    if !status.is_client_error() || content_type.contains("json") {
        return response;
    }
    let said = to_bytes(response.into_body(), REFUSAL_BYTES).await.unwrap_or_default();
    let detail = match String::from_utf8_lossy(&said).trim() {
        "" => status.canonical_reason().unwrap_or("the request is refused").to_lowercase(),
        said => said.to_owned(),
    };
    Problem::new(status, "request", "The request is wrong", detail).into_response()
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        match error {
            StoreError::OtherShape { .. } => Problem::definition(format!(
                "{error}: a declared schema has changed since the table was created; restore the schema, or build a new version with refold replay"
            )),
            error if error.is_retryable() => Problem::unavailable(error.to_string()),
            error => Problem::internal(error.to_string()),
        }
    }
}

impl From<LogError> for Problem {
    fn from(error: LogError) -> Problem {
        let detail = error.to_string();
        match error {
            // The topic was removed; it is available again once it is recreated.
            LogError::UnknownTopic(_) => Problem::unavailable(detail),
            LogError::PastEnd { .. } => Problem::new(StatusCode::CONFLICT, "past-end", "The log does not reach so far", detail),
            error if error.is_retryable() => Problem::unavailable(detail),
            _ => Problem::internal(detail),
        }
    }
}

impl From<DecodeError> for Problem {
    fn from(error: DecodeError) -> Problem {
        let detail = error.to_string();
        match error {
            error if error.is_retryable() => Problem::unavailable(detail),
            // A mistake in a declared schema or in the declaration of schema ids.
            DecodeError::Schema(_) | DecodeError::Source { .. } | DecodeError::Lookup(_) => Problem::definition(detail),
            _ => Problem::internal(detail),
        }
    }
}

impl From<CatalogueError> for Problem {
    fn from(error: CatalogueError) -> Problem {
        let detail = error.to_string();
        match error {
            CatalogueError::Store(error) => error.into(),
            CatalogueError::InvalidName(_) | CatalogueError::UnknownVersion { .. } => Problem::not_found(detail),
            CatalogueError::Switched { active, .. } => conflict(detail).with("active", active.0),
            CatalogueError::NothingActive { .. }
            | CatalogueError::LostTo { .. }
            | CatalogueError::Prepared { .. }
            | CatalogueError::GroupTakenBack { .. } => conflict(detail),
            CatalogueError::State { state, .. } => {
                Problem::new(StatusCode::CONFLICT, "gate", "The version is not in a state that allows this", detail).with("state", state)
            }
            CatalogueError::SwitchOnly { .. } | CatalogueError::InService { .. } => {
                Problem::new(StatusCode::CONFLICT, "gate", "The version is not in a state that allows this", detail)
            }
            _ => Problem::internal(detail),
        }
    }
}

fn conflict(detail: String) -> Problem {
    Problem::new(StatusCode::CONFLICT, "conflict", "Someone else was first", detail)
}

impl From<ViewError> for Problem {
    fn from(error: ViewError) -> Problem {
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "view", "The view is refused", error.to_string());
        let problem = problem.with("file", error.file).with("line", error.line).with("column", error.column).with("message", error.message);
        match error.help {
            Some(help) => problem.with("help", help),
            None => problem,
        }
    }
}
