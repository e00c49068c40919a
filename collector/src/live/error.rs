//! Why a live source brings nothing, and what it takes until it does again.

use std::time::Duration;

use refold_processor::recovery::Recovery;

/// Why a connection could not be made, or ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct LiveError {
    /// What it takes: time, or a person. Nothing is final here: a network source is asked for ever.
    pub recovery: Recovery,
    /// In words, without any secret.
    pub message: String,
    /// The least time to wait, if the server said one.
    pub retry_after: Option<Duration>,
}

impl LiveError {
    /// Passes by itself.
    pub fn transient(message: impl Into<String>) -> LiveError {
        LiveError { recovery: Recovery::Transient, message: message.into(), retry_after: None }
    }

    /// Waits for a person: a token, a setting, a right.
    pub fn operator(message: impl Into<String>) -> LiveError {
        LiveError { recovery: Recovery::Operator, message: message.into(), retry_after: None }
    }

    /// The same, not to be tried again before `after`.
    pub fn after(self, after: Duration) -> LiveError {
        LiveError { retry_after: Some(after), ..self }
    }
}

/// The least pause after a server has said that it was asked too often.
const TOO_MANY: Duration = Duration::from_secs(60);
/// No server makes a client wait longer.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(900);
/// The most of a refusal's text that is shown.
const SHOWN_CHARS: usize = 200;

/// What the server's refusal means: its status, the time that it asks for, and how its text begins.
pub(crate) fn of_status(status: u16, retry_after: Option<Duration>, text: &str) -> LiveError {
    let shown: String = text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SHOWN_CHARS).collect();
    let said = if shown.is_empty() { String::new() } else { format!(": {shown}") };
    match status {
        420 | 429 => {
            let least = retry_after.unwrap_or(TOO_MANY).min(LONGEST_RETRY_AFTER);
            LiveError::transient(format!("the server was asked too often ({status}){said}")).after(least)
        }
        204 => LiveError::operator("the server answers 204: it has nothing to stream here"),
        401 => LiveError::operator(format!("the server refuses the token or password (401){said}")),
        403 => LiveError::operator(format!("the server refuses access (403){said}")),
        404 | 410 => LiveError::operator(format!("there is no such stream on the server ({status}){said}")),
        408 | 425 | 500.. => {
            let error = LiveError::transient(format!("the server is not able to stream now ({status}){said}"));
            match retry_after {
                Some(after) => error.after(after.min(LONGEST_RETRY_AFTER)),
                None => error,
            }
        }
        _ => LiveError::operator(format!("the server refuses the request ({status}){said}")),
    }
}

/// The pause that response headers ask for: `Retry-After` in seconds or as a date, or `x-rate-limit-reset` in seconds since the Unix epoch.
pub(crate) fn retry_after<'h>(header: impl Fn(&str) -> Option<&'h str>, now_ms: i64) -> Option<Duration> {
    let until = |at_ms: i64| u64::try_from(at_ms - now_ms).ok().map(Duration::from_millis);
    if let Some(text) = header("retry-after") {
        let text = text.trim();
        return match text.parse::<u64>() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => chrono::DateTime::parse_from_rfc2822(text).ok().and_then(|at| until(at.timestamp_millis())),
        };
    }
    let reset = header("x-rate-limit-reset").or_else(|| header("x-ratelimit-reset"))?.trim();
    match reset.parse::<i64>() {
        Ok(at) => until(at.saturating_mul(1000)),
        Err(_) => chrono::DateTime::parse_from_rfc3339(reset).ok().and_then(|at| until(at.timestamp_millis())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_it_takes() {
        for (status, recovery, least_s) in [
            (401, Recovery::Operator, None),
            (403, Recovery::Operator, None),
            (404, Recovery::Operator, None),
            (400, Recovery::Operator, None),
            (420, Recovery::Transient, Some(60)),
            (429, Recovery::Transient, Some(60)),
            (500, Recovery::Transient, None),
            (503, Recovery::Transient, None),
        ] {
            let error = of_status(status, None, " no \n ");
            assert_eq!((error.recovery, error.retry_after.map(|after| after.as_secs())), (recovery, least_s), "{status}");
        }
        assert_eq!(of_status(429, Some(Duration::from_secs(3)), "").retry_after, Some(Duration::from_secs(3)));
        assert!(of_status(400, None, "no\nsuch   thing").message.ends_with("(400): no such thing"));
    }

    #[test]
    fn the_pause_that_a_server_asks_for_is_understood_in_all_its_forms() {
        let asked = |name: &'static str, value: &'static str| retry_after(|header| (header == name).then_some(value), 1_000_000);
        assert_eq!(asked("retry-after", "7"), Some(Duration::from_secs(7)));
        assert_eq!(asked("retry-after", "Thu, 01 Jan 1970 00:17:00 GMT"), Some(Duration::from_secs(20)));
        assert_eq!(asked("x-rate-limit-reset", "1030"), Some(Duration::from_secs(30)));
        assert_eq!(asked("x-ratelimit-reset", "1970-01-01T00:17:00.5Z"), Some(Duration::from_millis(20_500)));
        assert_eq!(asked("x-rate-limit-reset", "7"), None, "it is past");
        assert_eq!(asked("retry-after", "soon"), None);
    }
}
