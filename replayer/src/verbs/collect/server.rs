//! Events for a running `refold up` or `refold serve`.

use anyhow::anyhow;
use refold_api::records;
use refold_collector::sink::LogEnds;
use refold_collector::{CollectError, Sink};
use refold_processor::log::NewRecord;
use refold_processor::position::{Cut, Offset, Partition};
use serde_json::Value;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body, RequestBuilder};

use crate::client::{agent, escaped};
use crate::failure::Failure;

/// The way into a source's topic through a server.
pub struct ServerSink {
    agent: Agent,
    server: String,
    /// Where the source is.
    url: String,
    /// What the server lets posts in by.
    token: Option<String>,
}

impl ServerSink {
    /// The way into the topic of `source` through `server`.
    pub fn new(server: &str, source: &str, token: Option<&str>) -> ServerSink {
        let url = format!("{server}/v1/sources/{}", escaped(source));
        ServerSink { agent: agent(), server: server.to_owned(), url, token: token.map(str::to_owned) }
    }

    fn bearer<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    /// Fails when nobody answers at the beginning: most likely there is nobody. Who goes away later is waited for.
    pub fn is_there(&self) -> Result<(), Failure> {
        let server = &self.server;
        let asked = self.agent.get(format!("{server}/healthz")).call();
        asked.map(drop).map_err(|error| {
            anyhow!("{server} does not answer: {error}; start refold up, name another with --to, or write into a data folder with --data")
                .into()
        })
    }

    fn unavailable(&self, why: &impl std::fmt::Display) -> CollectError {
        CollectError::Unavailable(format!("{}: {why}; what was not taken yet is sent when it is back", self.server))
    }

    /// The document that was answered; a problem says whether asking again may help.
    fn answered(&self, response: Result<Response<Body>, ureq::Error>) -> Result<Value, CollectError> {
        let mut response = response.map_err(|error| self.unavailable(&format!("it does not answer ({error})")))?;
        let status = response.status();
        let text = response.body_mut().read_to_string().map_err(|error| self.unavailable(&error))?;
        let document: Value = serde_json::from_str(&text).unwrap_or_default();
        let detail = document.get("detail").and_then(Value::as_str).unwrap_or(text.trim());
        match status {
            status if status.is_success() => Ok(document),
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::REQUEST_TIMEOUT => Err(self.unavailable(&detail)),
            // Of what stands between, such as a load balancer.
            StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Err(self.unavailable(&status)),
            _ => Err(CollectError::Invalid(format!("{} refuses: {detail}{}", self.server, first_refused(&document)))),
        }
    }
}

impl Sink for ServerSink {
    fn ends(&self) -> Result<LogEnds, CollectError> {
        let document = self.answered(self.bearer(self.agent.get(&self.url)).call())?;
        let end = |(partition, bounds): (&String, &Value)| Some((Partition(partition.parse().ok()?), Offset(bounds.get("end")?.as_u64()?)));
        let log = document.get("log").and_then(Value::as_str);
        let partitions = document.get("partitions").and_then(Value::as_object);
        let positions = partitions.and_then(|partitions| partitions.iter().map(end).collect::<Option<Cut>>());
        match (log, positions) {
            (Some(log), Some(positions)) => Ok(LogEnds { log: log.to_owned(), positions }),
            _ => Err(CollectError::Invalid(format!("{} does not tell where its log ends: is it a refold?", self.url))),
        }
    }

    fn append(&self, records: Vec<NewRecord>, since: &Cut) -> Result<usize, CollectError> {
        // Also the first time: the server may still be busy with what a collector sent that was killed since.
        self.append_missing(records, since)
    }

    fn append_missing(&self, records: Vec<NewRecord>, since: &Cut) -> Result<usize, CollectError> {
        let since: Vec<String> = since.iter().map(|(partition, position)| format!("{partition}:{position}")).collect();
        let url = format!("{}/events?since={}", self.url, since.join(","));
        let sent = self.bearer(self.agent.post(url)).header("content-type", records::RECORDS).send(&records::encode(&records)[..]);
        let document = self.answered(sent)?;
        let count = |name: &str| document.get(name).and_then(Value::as_u64).unwrap_or(0);
        match count("refused_count") {
            0 => Ok(usize::try_from(count("already_there")).unwrap_or(usize::MAX)),
            refused => Err(CollectError::Invalid(format!("{} refuses {refused} events{}", self.server, first_refused(&document)))),
        }
    }
}

/// Why the first event of those that were refused was.
fn first_refused(document: &Value) -> String {
    let first = document.pointer("/refused/0/detail").and_then(Value::as_str);
    first.map_or_else(String::new, |first| format!(", the first one because: {first}; does it declare the same schema?"))
}
