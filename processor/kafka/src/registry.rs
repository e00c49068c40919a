//! A schema registry that speaks Confluent's protocol: writers' schemas by their ids, and ids for schemas.
//!
//! Only an answer that says so makes a schema unknown. Records wait for a registry that is unavailable, and for one that refuses or answers with
//! something else, until an operator has put that right.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use parking_lot::RwLock;
use refold_processor::decode::{SchemaError, SchemaLookup};
use refold_processor::recovery::Recovery;
use serde::Deserialize;
use serde_json::{Value, json};
use ureq::http::Response;
use ureq::{Agent, Body};

/// How to reach a schema registry.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegistrySettings {
    /// Its address, with the path that its API is under.
    pub url: String,
    /// The user name, if it asks for one.
    pub username: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// How long it is given to answer, milliseconds.
    pub timeout_ms: u64,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        RegistrySettings { url: "http://127.0.0.1:8081".to_owned(), username: None, password: None, timeout_ms: 10_000 }
    }
}

impl fmt::Debug for RegistrySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_password = self.password.is_some();
        f.debug_struct("RegistrySettings")
            .field("url", &self.url)
            .field("username", &self.username)
            .field("has_password", &has_password)
            .field("timeout_ms", &self.timeout_ms)
            .finish()
    }
}

/// Why the registry did not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// It does not answer now; the same call may succeed later.
    #[error("the schema registry at {url} is unavailable: {message}")]
    Unavailable {
        /// Its address.
        url: String,
        /// What was met with.
        message: String,
    },
    /// It refuses this client, or is none: until an operator has put that right.
    #[error("the schema registry at {url} cannot be used: {message}")]
    Denied {
        /// Its address.
        url: String,
        /// What was met with.
        message: String,
    },
    /// It refuses a schema.
    #[error("the schema registry at {url} refuses the schema for subject {subject}: {message}")]
    Refused {
        /// Its address.
        url: String,
        /// The subject.
        subject: String,
        /// What it says.
        message: String,
    },
    /// The settings cannot be used.
    #[error("{0}")]
    Settings(String),
}

impl RegistryError {
    /// What it takes for the call to succeed.
    pub fn recovery(&self) -> Recovery {
        match self {
            RegistryError::Unavailable { .. } => Recovery::Transient,
            RegistryError::Denied { .. } | RegistryError::Refused { .. } | RegistryError::Settings(_) => Recovery::Operator,
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.recovery().is_retried()
    }
}

/// A client of one registry.
pub struct Registry {
    url: String,
    authorization: Option<String>,
    agent: Agent,
    /// Schemas by id. One never changes under its id, so it is asked for once.
    known: RwLock<HashMap<u32, String>>,
    /// Asked for fingerprints and for ids that no registry gives.
    declared: Option<Arc<dyn SchemaLookup>>,
}

const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";
/// The protocol's code for a schema that is not there. A bare 404 can as well come from a wrong address.
const SCHEMA_NOT_FOUND: u64 = 40403;
/// Ids of a registry are positive 32-bit integers.
const MOST_ID: u32 = i32::MAX as u32;
/// How much of an answer that is not understood is told.
const SHOWN: usize = 200;

impl Registry {
    /// A client; nothing is asked yet.
    ///
    /// # Errors
    ///
    /// The address is not one, or has a password in it.
    pub fn new(settings: &RegistrySettings) -> Result<Registry, RegistryError> {
        let url = settings.url.trim_end_matches('/').to_owned();
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        let authority = rest.and_then(|rest| rest.split('/').next()).filter(|authority| !authority.is_empty());
        match authority {
            None => {
                return Err(RegistryError::Settings(format!(
                    "the schema registry's address has to start with http:// or https://, not {url:?}"
                )));
            }
            // The address is told in errors.
            Some(authority) if authority.contains('@') => {
                return Err(RegistryError::Settings(
                    "the schema registry's address has credentials in it: use the setting registry_auth".to_owned(),
                ));
            }
            Some(_) => {}
        }
        let authorization = settings.username.as_ref().map(|username| {
            let credentials = format!("{username}:{}", settings.password.as_deref().unwrap_or_default());
            format!("Basic {}", BASE64_STANDARD.encode(credentials))
        });
        let timeout = Some(Duration::from_millis(settings.timeout_ms));
        let agent = Agent::config_builder().timeout_global(timeout).http_status_as_error(false).build().into();
        Ok(Registry { url, authorization, agent, known: RwLock::default(), declared: None })
    }

    /// Asks `declared` where no registry can answer: for fingerprints (single-object encoding), and for ids that were derived from a schema.
    pub fn with_declared(self, declared: Arc<dyn SchemaLookup>) -> Registry {
        Registry { declared: Some(declared), ..self }
    }

    /// Registers a schema under a subject and answers its id; one that is there already keeps the id it has.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Refused`] when the schema is not valid or not compatible with those before it.
    pub fn register(&self, subject: &str, schema_json: &str) -> Result<u32, RegistryError> {
        let path = format!("/subjects/{}/versions", path_segment(subject));
        let mut request =
            self.agent.post(format!("{}{path}", self.url)).header("Accept", CONTENT_TYPE).header("Content-Type", CONTENT_TYPE);
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        let body = json!({ "schema": schema_json, "schemaType": "AVRO" }).to_string();
        let answer = self.answer(request.send(body))?;
        if matches!(answer.status, 400 | 409 | 422) {
            let message = answer.said();
            return Err(RegistryError::Refused { url: self.url.clone(), subject: subject.to_owned(), message });
        }
        let id = answer.field("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
        let id = id.filter(|_| answer.status == 200).ok_or_else(|| self.not_understood(&answer, &path))?;
        self.remember(id, schema_json);
        Ok(id)
    }

    /// The schema with an id, as JSON text. `None`: the registry has none.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Unavailable`] and [`RegistryError::Denied`]: nobody can tell now.
    pub fn schema(&self, id: u32) -> Result<Option<String>, RegistryError> {
        if let Some(schema) = self.known.read().get(&id) {
            return Ok(Some(schema.clone()));
        }
        let path = format!("/schemas/ids/{id}");
        let mut request = self.agent.get(format!("{}{path}", self.url)).header("Accept", CONTENT_TYPE);
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        let answer = self.answer(request.call())?;
        match (answer.status, answer.field("schema").and_then(Value::as_str)) {
            (200, Some(schema)) => {
                self.remember(id, schema);
                Ok(Some(schema.to_owned()))
            }
            (404, _) if answer.field("error_code").and_then(Value::as_u64) == Some(SCHEMA_NOT_FOUND) => Ok(None),
            _ => Err(self.not_understood(&answer, &path)),
        }
    }

    fn remember(&self, id: u32, schema: &str) {
        self.known.write().insert(id, schema.to_owned());
    }

    fn answer(&self, response: Result<Response<Body>, ureq::Error>) -> Result<Answer, RegistryError> {
        let mut response = response.map_err(|error| self.unavailable(error.to_string()))?;
        let text = response.body_mut().read_to_string().map_err(|error| self.unavailable(error.to_string()))?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok(Answer { status: response.status().as_u16(), body })
    }

    fn unavailable(&self, message: String) -> RegistryError {
        RegistryError::Unavailable { url: self.url.clone(), message }
    }

    fn not_understood(&self, answer: &Answer, path: &str) -> RegistryError {
        let hint = match answer.status {
            401 => "; check the setting registry_auth, USER:PASSWORD",
            403 => "; its user in the setting registry_auth needs the right to read schemas",
            404 | 405 => "; check that the setting registry has the path that its API is under",
            _ => "",
        };
        let message = format!("it answers {path} with status {}: {}{hint}", answer.status, answer.said());
        match is_passing(answer.status) {
            true => self.unavailable(message),
            false => RegistryError::Denied { url: self.url.clone(), message },
        }
    }
}

/// Whether an answer with this status says that the registry, or a proxy before it, has trouble of its own: timeouts, too many requests, errors.
fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 425 | 429) || status >= 500
}

struct Answer {
    status: u16,
    body: Value,
}

impl Answer {
    fn field(&self, name: &str) -> Option<&Value> {
        self.body.get(name)
    }

    /// What the registry says to it, in short.
    fn said(&self) -> String {
        let said = match self.field("message").and_then(Value::as_str) {
            Some(message) => message.to_owned(),
            None => self.body.as_str().map_or_else(|| self.body.to_string(), str::to_owned),
        };
        said.trim().chars().take(SHOWN).collect()
    }
}

impl SchemaLookup for Registry {
    fn by_id(&self, id: u32) -> Result<Option<String>, SchemaError> {
        match (&self.declared, id > MOST_ID) {
            (Some(declared), true) => declared.by_id(id),
            (None, true) => Ok(None),
            (_, false) => self.schema(id).map_err(|error| match error.recovery() {
                Recovery::Transient => SchemaError::Unavailable(error.to_string()),
                Recovery::Operator | Recovery::Final => SchemaError::Refused(error.to_string()),
            }),
        }
    }

    fn by_fingerprint(&self, fingerprint: u64) -> Result<Option<String>, SchemaError> {
        // Never one that was fetched by its id: which of them are known here depends on what was read before.
        self.declared.as_ref().map_or(Ok(None), |declared| declared.by_fingerprint(fingerprint))
    }
}

/// A part of a path, with everything but unreserved characters encoded (RFC 3986).
fn path_segment(text: &str) -> String {
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => segment.push(char::from(byte)),
            _ => segment.push_str(&format!("%{byte:02X}")),
        }
    }
    segment
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn settings(url: &str) -> RegistrySettings {
        RegistrySettings { url: url.to_owned(), password: Some("hunter2".to_owned()), ..RegistrySettings::default() }
    }

    #[test]
    fn secrets_are_not_shown() {
        assert!(!format!("{:?}", settings("http://registry")).contains("hunter2"));
        let error = Registry::new(&settings("http://user:hunter2@registry/")).err().unwrap().to_string();
        assert!(error.contains("registry_auth") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn an_address_needs_a_scheme() {
        for url in ["registry:8081", "", "ftp://registry", "http://"] {
            assert!(matches!(Registry::new(&settings(url)), Err(RegistryError::Settings(_))), "{url:?}");
        }
    }

    /// A server that answers every request with one status and body.
    fn answering(status: u16, body: &'static str) -> String {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]);
                let head = format!("HTTP/1.1 {status} Said\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
            }
        });
        url
    }

    #[test]
    fn a_refusal_waits_for_an_operator_and_names_what_to_put_right() {
        for (status, body, hint) in [
            (401, "{}", "check the setting registry_auth"),
            (403, r#"{"error_code":40301,"message":"User is denied operation Read"}"#, "needs the right to read schemas"),
            (404, "no such page", "check that the setting registry"),
            (405, "", "check that the setting registry"),
            (200, "<html>", "status 200"),
        ] {
            let url = answering(status, body);
            let registry = Registry::new(&settings(&url)).unwrap();
            let error = registry.by_id(7).unwrap_err();
            let said = error.to_string();
            assert!(matches!(error, SchemaError::Refused(_)) && said.contains(&url) && said.contains(hint), "{status}: {said}");
        }
    }

    #[test]
    fn a_registry_in_trouble_is_unavailable_and_an_unknown_id_is_unknown() {
        for status in [408, 429, 500, 502, 503] {
            let error = Registry::new(&settings(&answering(status, "busy"))).unwrap().by_id(7).unwrap_err();
            assert!(matches!(error, SchemaError::Unavailable(_)), "{status}: {error}");
        }
        let unknown = answering(404, r#"{"error_code":40403,"message":"Schema 7 not found"}"#);
        assert_eq!(Registry::new(&settings(&unknown)).unwrap().by_id(7).unwrap(), None);
    }

    #[test]
    fn subjects_are_encoded() {
        assert_eq!(path_segment("a/b value-é"), "a%2Fb%20value-%C3%A9");
    }
}
