//! Generated posts: a sample source that is as uneven as real ones are, and the same for the same seed.
//!
//! Hashtags follow Zipf's law over 60,000 words in six scripts, about 0.6 a post of about 127 characters; some rise for ten to thirty minutes and make
//! trends. Event times are up to three seconds behind the making of the post, one in 200 posts is 10 to 130 seconds late, one in 500 is an earlier one again.
//! It makes records of the sample schema only (`userid`, `username`, `timestamp`, `tweetid`, `tweet`).

mod bursts;
mod pace;
mod posts;
mod random;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use refold_processor::log::NewRecord;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::CollectError;
use crate::encode::{Encoder, write_bytes, write_long};
use crate::event_source::{EventSource, Pull};
use crate::stop::Timer;
pub use pace::Pace;
pub use posts::{Generator, Post};

/// The layout of the records that it makes.
const LAYOUT: &str = r#"{"type": "record", "name": "tweet", "fields": [
    {"name": "userid", "type": "long"},
    {"name": "username", "type": "string"},
    {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "tweetid", "type": "long"},
    {"name": "tweet", "type": "string"}]}"#;

/// Posts that are due at the same moment are made together; the least time between two pulls.
const TICK: Duration = Duration::from_millis(10);
/// Further behind real time than this, after a stop or because the log took no more, it does not catch up at the rate of real time: the gap is
/// left out, or filled as a backlog is.
const GAP_US: i64 = 60_000_000;
/// Less behind real time than this is the present.
const PRESENT_US: i64 = 10_000_000;

/// What is generated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenerateSettings {
    /// Posts a second, in real time.
    pub rate: u64,
    /// Decides everything about the posts but when they are made.
    pub seed: u64,
    /// Ends after so many posts; `None`: never.
    pub count: Option<u64>,
    /// A history that is written first, as fast as the log takes it.
    pub backlog: Option<Backlog>,
}

/// A history up to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// How long it is, in microseconds of event time.
    pub span_us: i64,
    /// Posts a second of event time.
    pub rate: u64,
}

/// A source of generated posts.
pub struct Generate {
    settings: GenerateSettings,
    encoder: Encoder,
    timer: Arc<dyn Timer>,
    generator: Generator,
    state: Option<State>,
    /// Posts before this index are made as they were before a restart.
    again_until: u64,
    post: Post,
}

/// Where it is: with the seed, this decides all further posts up to the end of the stretch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    /// The index of the next post.
    next: u64,
    pace: Pace,
    /// The end of the backlog that is being written; `None` in real time.
    backlog_until_us: Option<i64>,
}

impl Generate {
    /// Generates events of the source that `encoder` encodes.
    ///
    /// # Errors
    /// When that source's schema is not the sample's.
    pub fn new(settings: GenerateSettings, encoder: Encoder, timer: Arc<dyn Timer>) -> Result<Generate, CollectError> {
        if !encoder.has_layout_of(LAYOUT) {
            let has = encoder.field_names().collect::<Vec<_>>().join(", ");
            let message = format!(
                "generate makes posts: userid (long), username (string), timestamp (timestamp-millis), tweetid (long), tweet (string); \
                 source {} has {has}: read events of it with jsonl:FILE",
                encoder.source()
            );
            return Err(CollectError::Invalid(message));
        }
        let generator = Generator::new(settings.seed);
        Ok(Generate { settings, encoder, timer, generator, state: None, again_until: 0, post: Post::default() })
    }

    fn now_us(&self) -> i64 {
        self.timer.now_ms().saturating_mul(1000)
    }

    /// The stretch that begins with post `next`, when the one before it reached `reached_us`.
    fn stretch(&self, next: u64, reached_us: Option<i64>) -> State {
        let now = self.now_us();
        let history = self.settings.backlog.and_then(|backlog| {
            let begin = now.saturating_sub(backlog.span_us);
            let begin = reached_us.map_or(begin, |reached| reached.max(begin));
            (now - begin > GAP_US || (reached_us.is_none() && now > begin)).then_some((begin, backlog.rate))
        });
        match history {
            Some((origin_us, rate)) => State { next, pace: Pace { first: next, origin_us, rate }, backlog_until_us: Some(now) },
            None => {
                // A short gap is caught up with, a long one is left out.
                let origin_us = reached_us.filter(|reached| now - reached <= GAP_US).unwrap_or(now);
                State { next, pace: Pace { first: next, origin_us, rate: self.settings.rate }, backlog_until_us: None }
            }
        }
    }

    /// Whether the stretch is over: its backlog is written, the rate was changed, or real time has gone on without it.
    fn is_over(&self, state: &State) -> bool {
        let next_us = state.pace.time_us(state.next);
        match state.backlog_until_us {
            Some(until) => next_us > until,
            None => state.pace.rate != self.settings.rate || self.now_us() - next_us > GAP_US,
        }
    }

    /// The posts that are due, up to `max` of them, as the index after the last.
    fn due(&self, state: &State, max: usize) -> u64 {
        let most = state.next.saturating_add(max as u64);
        if state.next < self.again_until {
            return most.min(self.again_until);
        }
        let until = state.backlog_until_us.unwrap_or_else(|| self.now_us());
        state.pace.after(until).min(most).min(self.settings.count.unwrap_or(u64::MAX))
    }

    fn point(&self, state: &State) -> Result<String, CollectError> {
        serde_json::to_string(state).map_err(|error| CollectError::Resume { name: self.name(), reason: error.to_string() })
    }

    /// The records of posts `from..to`: their bytes lie together, and are not copied again.
    fn records(&mut self, from: u64, to: u64, pace: &Pace) -> Vec<NewRecord> {
        let mut arena = Vec::with_capacity((to - from) as usize * 256);
        let mut ends = Vec::with_capacity((to - from) as usize);
        for index in from..to {
            self.generator.write(index, pace, &mut self.post);
            let key = append(&self.encoder, &self.post, &mut arena);
            let value_end = arena.len();
            arena.extend_from_slice(key.as_deref().unwrap_or_default());
            ends.push((value_end, key.is_some(), arena.len()));
        }
        let arena = Bytes::from(arena);
        let mut start = 0;
        ends.into_iter()
            .map(|(value_end, has_key, end)| {
                let value = arena.slice(start..value_end);
                start = end;
                NewRecord { key: has_key.then(|| arena.slice(value_end..end)), value }
            })
            .collect()
    }
}

impl EventSource for Generate {
    fn name(&self) -> String {
        format!("generate:{} into {}", self.settings.seed, self.encoder.source())
    }

    fn resume(&mut self, point: &str, again: u64) -> Result<(), CollectError> {
        let state: State =
            serde_json::from_str(point).map_err(|error| CollectError::Resume { name: self.name(), reason: error.to_string() })?;
        self.again_until = state.next.saturating_add(again);
        self.state = Some(state);
        Ok(())
    }

    fn next(&mut self, max: usize, wait: Duration) -> Result<Pull, CollectError> {
        let mut state = match self.state.take() {
            Some(state) if state.next < self.again_until || !self.is_over(&state) => state,
            over => {
                // A stretch begins by the clock: it is in the resume point before the first of its posts is told to anyone.
                let state = match over {
                    Some(state) => {
                        let reached_us = state.backlog_until_us.unwrap_or_else(|| state.pace.time_us(state.next));
                        self.stretch(state.next, Some(reached_us))
                    }
                    None => self.stretch(0, None),
                };
                let resume = self.point(&state)?;
                self.state = Some(state);
                return Ok(Pull::Events { records: Vec::new(), bad: Vec::new(), left_out: 0, resume });
            }
        };
        if state.next >= self.again_until && self.settings.count.is_some_and(|count| state.next >= count) {
            self.state = Some(state);
            return Ok(Pull::End);
        }
        let mut end = self.due(&state, max);
        if end <= state.next {
            let until_due = (state.pace.time_us(state.next) - self.now_us()).max(0) as u64;
            self.timer.pause(Duration::from_micros(until_due).max(TICK).min(wait));
            end = self.due(&state, max);
        }
        if end <= state.next {
            self.state = Some(state);
            return Ok(Pull::Idle);
        }
        let records = self.records(state.next, end, &state.pace);
        state.next = end;
        let resume = self.point(&state)?;
        self.state = Some(state);
        Ok(Pull::Events { records, bad: Vec::new(), left_out: 0, resume })
    }

    fn is_at_present(&self) -> bool {
        let is_present = |state: &State| self.now_us() - state.pace.time_us(state.next) < PRESENT_US;
        self.state.as_ref().is_some_and(|state| {
            state.backlog_until_us.is_none() && state.next >= self.again_until && !self.is_over(state) && is_present(state)
        })
    }
}

/// Appends a post's record; returns its key.
fn append(encoder: &Encoder, post: &Post, out: &mut Vec<u8>) -> Option<Vec<u8>> {
    let start = out.len();
    out.extend_from_slice(encoder.header());
    let mut starts = [out.len(); 5];
    write_long(post.userid, out);
    starts[1] = out.len();
    write_bytes(post.username.as_bytes(), out);
    starts[2] = out.len();
    write_long(post.timestamp_ms, out);
    starts[3] = out.len();
    write_long(post.tweetid, out);
    starts[4] = out.len();
    write_bytes(post.tweet.as_bytes(), out);
    let key_start = encoder.key_field().and_then(|field| starts.get(field).copied());
    let key = key_start.and_then(|key_start| encoder.key_text(out.get(key_start..)?));
    if encoder.writes_json() {
        let Post { userid, username, timestamp_ms, tweetid, tweet } = post;
        let post = json!({"userid": userid, "username": username, "timestamp": timestamp_ms, "tweetid": tweetid, "tweet": tweet});
        out.truncate(start);
        out.extend_from_slice(post.to_string().as_bytes());
    }
    key
}
