//! Speaking to a running `refold up`.

use std::io::{BufRead, BufReader};
use std::time::Duration;

use anyhow::anyhow;
use serde_json::Value;
use ureq::http::Response;
use ureq::{Agent, RequestBuilder};

use crate::failure::Failure;
use crate::settings::Settings;

/// What the kind of a problem begins with.
const TYPE_PREFIX: &str = "urn:refold:problem:";
/// The gates that look at what a version has made, which waiting does not change.
const LASTING: [&str; 4] = ["audits", "quarantine", "lateness", "diff"];
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// An agent that hands answers of every status to who asked.
pub fn agent() -> Agent {
    Agent::config_builder().http_status_as_error(false).timeout_connect(Some(CONNECT_TIMEOUT)).timeout_global(Some(TIMEOUT)).build().into()
}

/// A server that is asked with JSON.
pub struct Client {
    agent: Agent,
    server: String,
    token: Option<String>,
}

impl Client {
    /// A client of the server that the settings name.
    pub fn new(settings: &Settings) -> Client {
        Client { agent: agent(), server: settings.server.clone(), token: settings.token.clone() }
    }

    /// What is at `path`.
    pub fn get(&self, path: &str) -> Result<Value, Failure> {
        self.answer(self.authorized(self.agent.get(self.url(path))).call())
    }

    /// What is answered to `body`.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.answer(self.authorized(self.agent.post(self.url(path))).send_json(body))
    }

    /// The same, for as long as it takes: something that reads tables whole before it answers.
    pub fn post_for_long(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let request = self.authorized(self.agent.post(self.url(path)));
        self.answer(request.config().timeout_global(None).build().send_json(body))
    }

    /// Hands on each line of what is at `path`, for as long as it takes; each line is a JSON object.
    pub fn get_lines(&self, path: &str, each: &mut dyn FnMut(Value) -> Result<(), Failure>) -> Result<(), Failure> {
        let request = self.authorized(self.agent.get(self.url(path)));
        self.lines(request.config().timeout_global(None).build().call(), each)
    }

    /// Hands on each line of what is answered to `body`, for as long as it takes; each line is a JSON object.
    pub fn post_lines(&self, path: &str, body: &Value, each: &mut dyn FnMut(Value) -> Result<(), Failure>) -> Result<(), Failure> {
        let request = self.authorized(self.agent.post(self.url(path)));
        self.lines(request.config().timeout_global(None).build().send_json(body), each)
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server)
    }

    fn authorized<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    fn lines(
        &self,
        response: Result<Response<ureq::Body>, ureq::Error>,
        each: &mut dyn FnMut(Value) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut response = match response {
            Ok(response) if response.status().is_success() => response,
            other => return self.answer(other).map(|_| ()),
        };
        let broken = |error: std::io::Error| anyhow!("{}: the answer broke off: {error}", self.server);
        for line in BufReader::new(response.body_mut().as_reader()).lines() {
            let line: Value = serde_json::from_str(&line.map_err(broken)?)
                .map_err(|error| anyhow!("{}: the answer has a line that is no JSON: {error}", self.server))?;
            match line.get("problem") {
                Some(problem) => return Err(refused(problem)),
                None => each(line)?,
            }
        }
        Ok(())
    }

    fn answer(&self, response: Result<Response<ureq::Body>, ureq::Error>) -> Result<Value, Failure> {
        let mut response = response.map_err(|error| unreachable_server(&self.server, &error))?;
        let status = response.status();
        let text = response.body_mut().read_to_string().map_err(|error| anyhow!("{}: {error}", self.server))?;
        let document: Value = serde_json::from_str(&text).map_err(|_| {
            anyhow!(
                "{} answered with status {status} and no JSON: is it a refold? name another with --server or REFOLD_SERVER",
                self.server
            )
        })?;
        if status.is_success() { Ok(document) } else { Err(refused(&document)) }
    }
}

/// A name as a part of a path or of a query: what is not plain is escaped.
pub fn escaped(name: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    name.bytes().map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Nobody answers.
pub fn unreachable_server(server: &str, error: &ureq::Error) -> Failure {
    anyhow!("{server} does not answer: {error}; start refold up, or name another with --server or REFOLD_SERVER").into()
}

/// A problem document as a failure.
fn refused(document: &Value) -> Failure {
    let member = |name: &str| document.get(name).and_then(Value::as_str).unwrap_or("");
    let detail = match member("detail") {
        "" => document.to_string(),
        detail => detail.to_owned(),
    };
    match member("type").strip_prefix(TYPE_PREFIX) {
        // What a version has read and made does not pass by itself.
        Some("gate") if LASTING.contains(&member("gate")) => Failure::Judged(detail),
        Some("gate" | "conflict") => Failure::Gate(detail),
        _ => Failure::Failed(anyhow!(detail)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_escaped_in_paths() {
        assert_eq!(escaped("hashtag_counts"), "hashtag_counts");
        assert_eq!(escaped("a/b c?é"), "a%2Fb%20c%3F%C3%A9");
    }

    #[test]
    fn a_gate_that_is_not_passed_and_someone_who_was_first_are_told_apart_from_a_failure() {
        let gate = refused(&json!({ "type": "urn:refold:problem:gate", "detail": "version v2 is building" }));
        assert!(matches!(&gate, Failure::Gate(detail) if detail == "version v2 is building"));
        let conflict = refused(&json!({ "type": "urn:refold:problem:conflict", "detail": "v3 became active" }));
        assert_eq!((conflict.exit_code(), conflict.to_string()), (std::process::ExitCode::from(3), "v3 became active".to_owned()));
        let unavailable = refused(&json!({ "type": "urn:refold:problem:unavailable", "detail": "the store is unavailable" }));
        assert_eq!(
            (unavailable.exit_code(), unavailable.to_string()),
            (std::process::ExitCode::from(1), "the store is unavailable".to_owned())
        );
    }
}
