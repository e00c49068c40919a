//! What cannot be declared of Mastodon: what its events are, the time of a post, and posts of a gap, which only the REST interface has.

use bytes::Bytes;
use parking_lot::Mutex;
use refold_processor::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_128;

use super::closer::Closer;
use super::connection::{Incoming, Received};
use super::declared::{Limits, Stream};
use super::error::LiveError;
use super::general::{Headers, Special};
use super::http::{Request, ask};

/// How many posts a page has at most.
const PAGE: usize = 40;
/// Of a longer gap the newest posts are not asked for one page after another: the server allows 300 requests in five minutes.
const MOST_PAGES: usize = 100;
/// A post's own number is a time: this many bits of it count within a millisecond.
const COUNTER_BITS: u32 = 16;
/// A post that an instance learns of later than this is not shown in its streams.
const OLDEST_MS: i64 = 7 * 3_600_000;
const AHEAD_MS: i64 = 60_000;

pub(crate) struct Mastodon {
    /// Scheme and host.
    base: String,
    /// Of the instance, for accounts that are its own.
    host: String,
    /// Where posts of a gap are asked for; `None`: this stream has no such place.
    timeline: Option<String>,
    limits: Limits,
    /// Where streams are, once the instance was asked.
    streaming: Mutex<Option<String>>,
}

impl Mastodon {
    pub fn new(stream: &Stream) -> Mastodon {
        let url = stream.urls.first().map_or("", String::as_str);
        let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let timeline = match path.strip_prefix("api/v1/streaming/").unwrap_or_default() {
            "public" => Some("public?".to_owned()),
            "public/local" => Some("public?local=true&".to_owned()),
            "public/remote" => Some("public?remote=true&".to_owned()),
            tag => tag.strip_prefix("hashtag?tag=").map(|tag| format!("tag/{tag}?")),
        };
        Mastodon {
            base: format!("{scheme}://{host}"),
            host: host.to_owned(),
            timeline,
            limits: stream.limits.clone(),
            streaming: Mutex::default(),
        }
    }

    fn get(&self, path: &str, headers: &Headers, closer: &Closer) -> Result<Value, LiveError> {
        let request = Request { url: format!("{}{path}", self.base), headers: headers.to_vec() };
        let mut response = ask(&request, "application/json", &self.limits, closer)?;
        let text = response.body_mut().with_config().limit(16 << 20).read_to_string().map_err(|error| super::http::unreachable(&error))?;
        serde_json::from_str(&text)
            .map_err(|error| LiveError::transient(format!("the instance answers {path} with what is no JSON: {error}")))
    }

    /// A message of a status; `None`: it is not public.
    fn status(&self, event: &str, status: Value, now_ms: i64) -> Option<Received> {
        let text = |pointer: &str| status.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        if text("/visibility") != "public" {
            return None;
        }
        let id = text("/id").to_owned();
        let known_by = format!("{event}\n{}\n{}", text("/uri"), text("/edited_at"));
        let account = match text("/account/acct") {
            account if account.contains('@') => account.to_owned(),
            account => format!("{account}@{}", self.host),
        };
        let time_ms = time_of(&id, now_ms);
        let body = json!({ "event": event, "id": id, "account": account, "time_ms": time_ms, "received_ms": now_ms, "status": status });
        // Only a new post moves on what is asked for after a gap.
        let cursor = (event == UPDATE && !id.is_empty()).then_some(id);
        Some(Received { body: body.to_string().into(), id: Some(xxh3_128(known_by.as_bytes())), cursor })
    }
}

const UPDATE: &str = "update";
const EDIT: &str = "status.update";
const DELETE: &str = "delete";

/// When the instance learnt of a post, by its number; where that is no such number, when it was received.
fn time_of(id: &str, received_ms: i64) -> i64 {
    let made = id.parse::<i64>().map(|number| number >> COUNTER_BITS);
    made.ok().filter(|made| (received_ms - OLDEST_MS..=received_ms + AHEAD_MS).contains(made)).unwrap_or(received_ms)
}

impl Special for Mastodon {
    fn can_resume(&self) -> bool {
        self.timeline.is_some()
    }

    fn prepare(&self, headers: &Headers, closer: &Closer) -> Result<Option<String>, LiveError> {
        let mut streaming = self.streaming.lock();
        if streaming.is_none() {
            // Forks, and instances before version 4, do not say it: then it is the same host.
            let instance = match self.get("/api/v2/instance", headers, closer) {
                Ok(instance) => instance,
                Err(error) if error.message.contains("(404)") => Value::Null,
                Err(error) => return Err(error),
            };
            let said = instance.pointer("/configuration/urls/streaming").and_then(Value::as_str).unwrap_or_default();
            let base = said.replacen("wss://", "https://", 1).replacen("ws://", "http://", 1);
            *streaming = Some(if base.is_empty() { self.base.clone() } else { base.trim_end_matches('/').to_owned() });
        }
        Ok(streaming.clone())
    }

    fn read(&self, name: Option<&str>, _id: Option<&str>, data: &Bytes) -> Result<Option<Incoming>, LiveError> {
        let now_ms = SystemClock.now_ms();
        let Some(name) = name else { return Ok(Some(Incoming::Sign)) };
        Ok(Some(match name {
            UPDATE | EDIT => match serde_json::from_slice::<Value>(data) {
                Ok(status) => self.status(name, status, now_ms).map_or(Incoming::Sign, Incoming::Message),
                // To be counted as what it is.
                Err(_) => Incoming::Message(Received { body: data.clone(), id: None, cursor: None }),
            },
            DELETE => {
                // A bare number, which is no JSON text of an id.
                let id = String::from_utf8_lossy(data).trim().trim_matches('"').to_owned();
                let known_by = xxh3_128(format!("{DELETE}\n{id}").as_bytes());
                let body = json!({ "event": DELETE, "id": id, "time_ms": now_ms, "received_ms": now_ms });
                Incoming::Message(Received { body: body.to_string().into(), id: Some(known_by), cursor: None })
            }
            _ => Incoming::Sign,
        }))
    }

    fn missed(&self, cursor: &str, headers: &Headers, closer: &Closer) -> Result<Vec<Incoming>, LiveError> {
        let Some(timeline) = &self.timeline else { return Ok(Vec::new()) };
        let (mut missed, mut from) = (Vec::new(), cursor.to_owned());
        for _ in 0..MOST_PAGES {
            let page = self.get(&format!("/api/v1/timelines/{timeline}min_id={from}&limit={PAGE}"), headers, closer)?;
            let Value::Array(mut statuses) = page else { break };
            // The newest comes first.
            statuses.reverse();
            let is_last = statuses.len() < PAGE;
            let Some(newest) = statuses.last().and_then(|status| status.get("id")).and_then(Value::as_str).map(str::to_owned) else {
                break;
            };
            let now_ms = SystemClock.now_ms();
            missed.extend(statuses.into_iter().filter_map(|status| self.status(UPDATE, status, now_ms)).map(Incoming::Message));
            if is_last || newest == from {
                break;
            }
            from = newest;
        }
        Ok(missed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn mastodon() -> Mastodon {
        Mastodon::new(&Stream::of_toml("m", "url = \"https://h.example/api/v1/streaming/public\"\nprotocol = \"sse\"").unwrap())
    }

    fn read(name: &str, data: &str) -> Incoming {
        mastodon().read(Some(name), None, &Bytes::copy_from_slice(data.as_bytes())).unwrap().unwrap()
    }

    #[test]
    fn a_post_is_known_by_its_uri_and_its_time_is_that_of_its_number() {
        let id = (SystemClock.now_ms() - 1000) << COUNTER_BITS;
        let status =
            json!({"id": id.to_string(), "uri": "https://o/1", "visibility": "public", "account": {"acct": "ann"}, "content": "<p>a</p>"});
        let Incoming::Message(received) = read("update", &status.to_string()) else { panic!("no message") };
        let body: Value = serde_json::from_slice(&received.body).unwrap();
        assert_eq!((body["account"].as_str(), body["time_ms"].as_i64()), (Some("ann@h.example"), Some(id >> COUNTER_BITS)));
        assert_eq!(received.cursor, Some(id.to_string()));
        let Incoming::Message(edited) = read("status.update", &status.to_string()) else { panic!("no message") };
        assert_ne!(edited.id, received.id, "an edit is another message");
    }

    #[test]
    fn a_deletion_is_a_bare_number_and_what_is_not_public_or_not_known_is_no_message() {
        let Incoming::Message(deleted) = read("delete", "106692867363994015") else { panic!("no message") };
        assert_eq!(serde_json::from_slice::<Value>(&deleted.body).unwrap()["id"], "106692867363994015");
        assert_eq!(read("update", "{\"visibility\":\"unlisted\"}"), Incoming::Sign);
        assert_eq!(read("filters_changed", "undefined"), Incoming::Sign);
    }

    #[test]
    fn a_number_that_is_no_time_is_not_taken_for_one() {
        assert_eq!(time_of("7", 1_700_000_000_000), 1_700_000_000_000);
        assert_eq!(time_of("9ab", 5), 5);
    }
}
