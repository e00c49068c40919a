//! Requests of any status, over a real connection.

use std::time::{Duration, Instant};

use serde_json::Value;
use ureq::http::{HeaderMap, Request};

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body as it came.
    pub text: String,
    /// Its body as JSON; null where it is none.
    pub json: Value,
}

impl Answer {
    /// Fails unless it is a problem document of this status and kind.
    #[track_caller]
    pub fn is_problem(self, status: u16, kind: &str) -> Answer {
        let content_type = self.headers.get("content-type").map(|value| value.to_str().unwrap());
        assert_eq!((self.status, content_type), (status, Some("application/problem+json")), "{self:#?}");
        assert_eq!(self.json["type"], format!("urn:refold:problem:{kind}"), "{self:#?}");
        assert_eq!(self.json["status"], status, "{self:#?}");
        assert!(self.json["title"].is_string() && self.json["detail"].is_string(), "{self:#?}");
        self
    }

    /// Fails unless its detail has this.
    #[track_caller]
    pub fn with_detail(self, detail: &str) -> Answer {
        assert!(self.json["detail"].as_str().unwrap_or("").contains(detail), "{detail:?} is not in {:#?}", self.json);
        self
    }

    /// Fails unless its status is this.
    #[track_caller]
    pub fn is(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{self:#?}");
        self
    }
}

/// Sends a request with headers and a body, and reads the answer.
pub fn send(method: &str, url: &str, headers: &[(&str, &str)], body: impl ureq::AsSendBody) -> Answer {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .allow_non_standard_methods(true)
        .timeout_global(Some(Duration::from_secs(60)))
        .build()
        .into();
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut response = agent.run(request.body(body).unwrap()).unwrap_or_else(|error| panic!("{method} {url}: {error}"));
    let text = response.body_mut().read_to_string().unwrap();
    let json = serde_json::from_str(&text).unwrap_or_default();
    Answer { status: response.status().as_u16(), headers: response.headers().clone(), text, json }
}

/// `GET`
pub fn get(url: &str) -> Answer {
    send("GET", url, &[], ())
}

/// `GET` with a bearer token.
pub fn get_as(url: &str, token: &str) -> Answer {
    send("GET", url, &[("authorization", &format!("Bearer {token}"))], ())
}

/// Posts lines of events to a source.
pub fn post_lines(url: &str, source: &str, lines: &str) -> Answer {
    send("POST", &format!("{url}/v1/sources/{source}/events"), &[("content-type", "application/x-ndjson")], lines)
}

/// Waits until a condition holds; fails with what was to be.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
