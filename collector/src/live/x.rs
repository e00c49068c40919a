//! What cannot be declared of X: its rules, and notices between posts.

use bytes::Bytes;
use serde_json::{Value, json};

use super::closer::Closer;
use super::connection::Incoming;
use super::declared::{Limits, Rule, Stream};
use super::error::{LiveError, of_status};
use super::general::{Headers, Special};
use super::http::{Request, agent, ask, unreachable};

/// Tags of rules that are ours begin with this; no other is touched.
const TAG: &str = "refold:";

/// The sample of all posts, which has no rules.
pub(crate) struct SampleX;

impl Special for SampleX {
    fn read(&self, _name: Option<&str>, _id: Option<&str>, data: &Bytes) -> Result<Option<Incoming>, LiveError> {
        notice(data)
    }
}

/// Posts that match rules.
pub(crate) struct X {
    url: String,
    rules: Vec<Rule>,
    limits: Limits,
}

/// What is to be done to the rules.
#[derive(Debug, PartialEq, Eq)]
struct Changes {
    add: Vec<Rule>,
    delete: Vec<String>,
}

impl X {
    pub fn new(stream: &Stream) -> X {
        let url = stream.urls.first().map_or("", String::as_str).split('?').next().unwrap_or_default();
        X { url: format!("{url}/rules"), rules: stream.rules.clone(), limits: stream.limits.clone() }
    }

    fn post(&self, body: &Value, headers: &Headers, closer: &Closer) -> Result<Value, LiveError> {
        let agent = agent(&self.limits);
        closer.note_http(&agent);
        let mut request = agent.post(&self.url).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let mut response = request.send(body.to_string()).map_err(|error| unreachable(&error))?;
        let text = response.body_mut().read_to_string().map_err(|error| unreachable(&error))?;
        match response.status().as_u16() {
            200 | 201 => Ok(serde_json::from_str(&text).unwrap_or_default()),
            status => Err(of_status(status, None, &text)),
        }
    }
}

impl Special for X {
    fn prepare(&self, headers: &Headers, closer: &Closer) -> Result<Option<String>, LiveError> {
        let request = Request { url: self.url.clone(), headers: headers.to_vec() };
        let mut response = ask(&request, "application/json", &self.limits, closer)?;
        let text = response.body_mut().read_to_string().map_err(|error| unreachable(&error))?;
        let there: Value = serde_json::from_str(&text).unwrap_or_default();
        let Changes { add, delete } = changes(&self.rules, &there);
        // Added first: at no moment do fewer posts match than before and after.
        if !add.is_empty() {
            let rules: Vec<Value> = add.iter().map(|rule| json!({ "value": rule.value, "tag": rule.tag })).collect();
            let answer = self.post(&json!({ "add": rules }), headers, closer)?;
            let invalid = answer.pointer("/meta/summary/invalid").and_then(Value::as_u64).unwrap_or(0);
            if invalid > 0 {
                let why = answer.get("errors").map(Value::to_string).unwrap_or_default();
                return Err(LiveError::operator(format!("X refuses {invalid} of the rules of streams.x: {why}")));
            }
        }
        if !delete.is_empty() {
            self.post(&json!({ "delete": { "ids": delete } }), headers, closer)?;
        }
        Ok(None)
    }

    fn read(&self, _name: Option<&str>, _id: Option<&str>, data: &Bytes) -> Result<Option<Incoming>, LiveError> {
        notice(data)
    }
}

/// From the rules that are there to those that are wanted. The same value cannot be there twice, whatever its tag.
fn changes(wanted: &[Rule], there: &Value) -> Changes {
    let text = |rule: &Value, key: &str| rule.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let there: Vec<(String, String, String)> = there
        .get("data")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|rule| (text(rule, "id"), text(rule, "value"), text(rule, "tag")))
        .collect();
    let tagged = |rule: &Rule| Rule { value: rule.value.clone(), tag: format!("{TAG}{}", rule.tag) };
    let add = wanted.iter().filter(|rule| !there.iter().any(|(_, value, _)| *value == rule.value)).map(tagged).collect();
    let is_wanted = |value: &str| wanted.iter().any(|rule| rule.value == value);
    let delete = there.iter().filter(|(_, value, tag)| tag.starts_with(TAG) && !is_wanted(value)).map(|(id, _, _)| id.clone()).collect();
    Changes { add, delete }
}

/// A line without a post says why the stream is about to end.
fn notice(data: &Bytes) -> Result<Option<Incoming>, LiveError> {
    if memchr::memmem::find(data, b"\"errors\"").is_none() {
        return Ok(None);
    }
    let Ok(json) = serde_json::from_slice::<Value>(data) else { return Ok(None) };
    if json.get("data").is_some() {
        return Ok(None);
    }
    let error = json.pointer("/errors/0");
    let said = |key: &str| error.and_then(|error| error.get(key)).and_then(Value::as_str).unwrap_or_default();
    Err(LiveError::transient(format!("X ends the stream: {} {}", said("title"), said("detail")).trim_end().to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rule(value: &str) -> Rule {
        Rule { value: value.into(), tag: "t".into() }
    }

    #[test]
    fn rules_are_added_and_only_ours_deleted() {
        let there = json!({"data": [
            {"id": "1", "value": "kept", "tag": "refold:t"},
            {"id": "2", "value": "old", "tag": "refold:t"},
            {"id": "3", "value": "of others", "tag": "theirs"},
            {"id": "4", "value": "untagged"},
        ]});
        let found = changes(&[rule("kept"), rule("new")], &there);
        assert_eq!(found, Changes { add: vec![Rule { value: "new".into(), tag: "refold:t".into() }], delete: vec!["2".into()] });
        assert_eq!(changes(&[], &json!({"meta": {}})), Changes { add: vec![], delete: vec![] });
    }

    #[test]
    fn a_notice_ends_the_stream_and_a_post_with_errors_is_a_post() {
        let read = |text: &'static str| notice(&Bytes::from_static(text.as_bytes()));
        assert_eq!(read("{\"data\":{\"id\":\"1\"},\"errors\":[]}").unwrap(), None);
        let error = read("{\"errors\":[{\"title\":\"operational-disconnect\",\"detail\":\"full\"}]}").unwrap_err();
        assert_eq!(error.message, "X ends the stream: operational-disconnect full");
    }
}
