//! What cannot be declared of Wikimedia's streams: canaries, and the id that is said after a reconnect.

use bytes::Bytes;
use serde_json::Value;

use super::connection::Incoming;
use super::error::LiveError;
use super::general::Special;

/// The server starts behind the time that an id names, so what has the same millisecond would be missing: that much is asked for again.
const REWIND_MS: i64 = 2_000;

pub(crate) struct Wikimedia;

impl Special for Wikimedia {
    fn cursor_to_send(&self, cursor: &str) -> Option<String> {
        rewound(cursor)
    }

    fn read(&self, name: Option<&str>, id: Option<&str>, data: &Bytes) -> Result<Option<Incoming>, LiveError> {
        let moved = || id.map_or(Incoming::Sign, |id| Incoming::Moved(id.to_owned()));
        if name == Some("error") {
            return Err(LiveError::transient(format!("the server reports an error: {}", String::from_utf8_lossy(data))));
        }
        // Several an hour, with a content that looks real. They are few: only what has the word is looked at.
        let may_be_canary = memchr::memmem::find(data, b"canary").is_some();
        if may_be_canary
            && serde_json::from_slice::<Value>(data).is_ok_and(|json| json.pointer("/meta/domain") == Some(&Value::from("canary")))
        {
            return Ok(Some(moved()));
        }
        Ok(None)
    }
}

/// An id that asks for a little more: earlier times, and times instead of "the end" for the data centre that is idle now.
fn rewound(id: &str) -> Option<String> {
    let Ok(Value::Array(mut entries)) = serde_json::from_str::<Value>(id) else { return None };
    let time = |entry: &Value| entry.get("timestamp").and_then(Value::as_i64);
    let earliest = entries.iter().filter_map(time).min()?;
    for entry in &mut entries {
        let at = time(entry).unwrap_or(earliest) - REWIND_MS;
        let members = entry.as_object_mut()?;
        if members.contains_key("timestamp") || members.get("offset") == Some(&Value::from(-1)) {
            members.remove("offset");
            members.insert("timestamp".into(), at.into());
        }
    }
    serde_json::to_string(&entries).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_id_asks_for_two_seconds_more_of_both_data_centres() {
        let id = r#"[{"topic":"eqiad.x","partition":0,"timestamp":1700000005001},{"topic":"codfw.x","partition":0,"offset":-1}]"#;
        let sent =
            r#"[{"topic":"eqiad.x","partition":0,"timestamp":1700000003001},{"topic":"codfw.x","partition":0,"timestamp":1700000003001}]"#;
        assert_eq!(rewound(id).unwrap(), sent);
        assert_eq!(rewound("not an array"), None);
        assert_eq!(rewound("[]"), None);
    }

    #[test]
    fn a_canary_moves_the_cursor_and_is_no_message() {
        let read = |text: &'static str| Wikimedia.read(Some("message"), Some("7"), &Bytes::from_static(text.as_bytes())).unwrap();
        assert_eq!(read(r#"{"meta":{"domain":"canary"},"wiki":"enwiki"}"#), Some(Incoming::Moved("7".into())));
        assert_eq!(read(r#"{"meta":{"domain":"en.wikipedia.org"},"title":"canary"}"#), None);
    }
}
