//! What happens in one partition, for all who follow it over sockets: its rows, and the last messages about it.
//!
//! Messages are made once, whatever the number of followers. Each follower has a place in them and takes them at its own pace, so that nothing is queued
//! for a follower: who falls too far behind gets the rows anew.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use refold_processor::json;
use refold_processor::position::Cut;
use refold_processor::table::{Epoch, Version};
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

use super::partition::{Difference, Rows, join};
use super::subscription::After;
use crate::problem::Problem;

/// How many messages are kept for followers that return, and at most how many bytes.
const KEPT_MESSAGES: usize = 256;
/// The least and the greatest number of bytes that are kept.
const KEPT_BYTES: (usize, usize) = (16 << 10, 256 << 10);
/// A follower that is further behind is skipped forward.
const BEHIND_MAX: u64 = 8;

/// How far followers are after a message: a version, its owner, and positions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Point {
    /// The version.
    pub version: Option<Version>,
    /// The owner that the rows are of.
    pub epoch: Epoch,
    /// Everything up to these positions is told.
    pub cut: Cut,
}

/// A message, but for the name of the subscription.
struct Message {
    kind: &'static str,
    tail: Arc<str>,
    /// Where followers are after it.
    point: Point,
}

/// The rows as followers have them after the last message.
struct Current {
    view: String,
    key: Map<String, Value>,
    point: Point,
    watermark_us: Option<i64>,
    rows: Rows,
    /// What a snapshot says, once one was asked for.
    snapshot: Option<Arc<str>>,
}

/// What was read of a partition.
pub struct Loaded {
    /// The view.
    pub view: String,
    /// The partition.
    pub key: Map<String, Value>,
    /// Version, owner and positions.
    pub point: Point,
    /// The watermark.
    pub watermark_us: Option<i64>,
    /// The rows.
    pub rows: Rows,
}

#[derive(Default)]
struct Inner {
    current: Option<Current>,
    messages: VecDeque<Message>,
    kept_bytes: usize,
    /// The number of the first message that is kept.
    first: u64,
    /// Where followers were before it.
    base: Point,
    /// Why the rows cannot be read for now.
    unavailable: Option<String>,
    /// Why they cannot be followed at all.
    refused: Option<Problem>,
    followers: HashMap<u64, Arc<Notify>>,
    next_follower: u64,
    /// Since when nobody follows.
    left: Option<Instant>,
}

/// One followed partition.
pub struct Topic {
    /// Its name among those that are followed.
    pub name: String,
    /// The view.
    pub view: String,
    /// What names the partition and the number of rows, as in a query.
    pub parameters: Vec<(String, String)>,
    inner: Mutex<Inner>,
}

/// Where a follower is.
pub enum At {
    /// It has nothing yet; whether it was told that there is nothing to be had.
    Fresh(bool),
    /// It was there before.
    Returned(After),
    /// It is to get this message next.
    Next(u64),
}

/// What a follower gets: the type of the message, and what follows its id.
pub type Told = (&'static str, Arc<str>);

impl Topic {
    /// A partition of which nothing is known yet.
    pub fn new(name: String, view: &str, parameters: &[(String, String)]) -> Topic {
        Topic { name, view: view.to_owned(), parameters: parameters.to_vec(), inner: Mutex::default() }
    }

    /// Adds a follower, who is woken when there is something for it; answers its number.
    pub fn add(&self, wake: &Arc<Notify>) -> u64 {
        let mut inner = self.inner.lock();
        let number = inner.next_follower;
        inner.next_follower += 1;
        inner.left = None;
        inner.followers.insert(number, wake.clone());
        number
    }

    /// Removes a follower.
    pub fn remove(&self, number: u64) {
        let mut inner = self.inner.lock();
        inner.followers.remove(&number);
        if inner.followers.is_empty() {
            inner.left = Some(Instant::now());
        }
    }

    /// Whether nobody has followed for so long.
    pub fn is_left_for(&self, time: Duration) -> bool {
        self.inner.lock().left.is_some_and(|left| left.elapsed() >= time)
    }

    /// Whether nobody follows.
    pub fn is_left(&self) -> bool {
        self.inner.lock().followers.is_empty()
    }

    /// What is next for a follower; `Ok(None)`: nothing now.
    ///
    /// # Errors
    /// When the partition cannot be followed.
    pub fn next(&self, at: &mut At) -> Result<Option<Told>, Problem> {
        let mut inner = self.inner.lock();
        if let Some(problem) = &inner.refused {
            return Err(problem.clone());
        }
        if let At::Returned(after) = at {
            if inner.current.is_none() || inner.unavailable.is_some() {
                return Ok(None);
            }
            if let Some(next) = inner.resume(after) {
                let tail = json!({ "version": after.version.0, "positions": json::cut(&after.positions) });
                *at = At::Next(next);
                return Ok(Some(("resumed", tail_of(&tail))));
            }
            *at = At::Fresh(false);
        }
        match at {
            At::Fresh(is_told) => match (&inner.unavailable, inner.current.is_some()) {
                (Some(detail), _) if !*is_told => {
                    *is_told = true;
                    Ok(Some(("unavailable", tail_of(&json!({ "detail": detail })))))
                }
                (None, true) => {
                    *at = At::Next(inner.end());
                    Ok(inner.snapshot().map(|tail| ("snapshot", tail)))
                }
                _ => Ok(None),
            },
            At::Next(next) if *next >= inner.end() => Ok(None),
            At::Next(next) if *next < inner.first || inner.end() - *next > BEHIND_MAX => {
                if inner.unavailable.is_some() {
                    return Ok(None);
                }
                *next = inner.end();
                Ok(inner.snapshot().map(|tail| ("skipped", tail)))
            }
            At::Next(next) => {
                let index = usize::try_from(*next - inner.first).unwrap_or(usize::MAX);
                *next += 1;
                Ok(inner.messages.get(index).map(|message| (message.kind, message.tail.clone())))
            }
            At::Returned(_) => Ok(None),
        }
    }

    /// Takes what was read: the first rows, or rows that were read again, of another version or window perhaps.
    pub fn load(&self, loaded: Loaded) {
        let mut inner = self.inner.lock();
        let was_unavailable = inner.unavailable.take().is_some();
        let Loaded { view, key, point, watermark_us, rows } = loaded;
        let before = inner.current.replace(Current { view, key, point: point.clone(), watermark_us, rows, snapshot: None });
        let (Some(before), Some(now)) = (before, &inner.current) else {
            inner.base = point;
            inner.wake();
            return;
        };
        let message = if before.point.version != now.point.version {
            let from = before.point.version.unwrap_or(Version(0));
            Some(("switched", now.switched(from, &now.rows.since(&before.rows))))
        } else if before.key != now.key {
            Some(("moved", now.whole()))
        } else {
            let difference = now.rows.since(&before.rows);
            (was_unavailable || !difference.is_empty()).then(|| ("changes", now.changes(&difference)))
        };
        if let Some((kind, tail)) = message {
            inner.push(kind, tail, point);
        }
    }

    /// The size of the rows and of what is kept beside them, bytes.
    pub fn bytes_for(rows: &Rows) -> usize {
        rows.bytes() + kept_bytes(rows.bytes())
    }

    /// Takes changes of the partition, which everything up to `point` is in.
    ///
    /// # Errors
    /// When the rows are to be read again.
    pub fn change(
        &self,
        point: Point,
        watermark_us: Option<i64>,
        changes: Vec<refold_processor::changes::ChangedRow>,
    ) -> Result<(), super::partition::Reread> {
        let mut inner = self.inner.lock();
        let Some(current) = &mut inner.current else { return Ok(()) };
        let difference = current.rows.apply(changes)?;
        current.point = point.clone();
        current.watermark_us = watermark_us;
        current.snapshot = None;
        if !difference.is_empty() {
            let tail = current.changes(&difference);
            inner.push("changes", tail, point);
        }
        Ok(())
    }

    /// Says that the rows cannot be read for now.
    pub fn set_unavailable(&self, detail: &str) {
        let mut inner = self.inner.lock();
        if inner.unavailable.replace(detail.to_owned()).is_some() {
            return;
        }
        match inner.current.as_ref().map(|current| current.point.clone()) {
            Some(point) => inner.push("unavailable", tail_of(&json!({ "detail": detail })), point),
            None => inner.wake(),
        }
    }

    /// Says that the partition cannot be followed.
    pub fn refuse(&self, problem: Problem) {
        let mut inner = self.inner.lock();
        inner.refused = Some(problem);
        inner.wake();
    }
}

fn kept_bytes(rows: usize) -> usize {
    rows.saturating_mul(2).clamp(KEPT_BYTES.0, KEPT_BYTES.1)
}

impl Inner {
    /// The number of the message that comes next.
    fn end(&self) -> u64 {
        self.first + self.messages.len() as u64
    }

    fn push(&mut self, kind: &'static str, tail: Arc<str>, point: Point) {
        let most = kept_bytes(self.current.as_ref().map_or(0, |current| current.rows.bytes()));
        self.kept_bytes += tail.len();
        self.messages.push_back(Message { kind, tail, point });
        // The last one is kept, however large.
        while self.messages.len() > KEPT_MESSAGES || (self.kept_bytes > most && self.messages.len() > 1) {
            let Some(dropped) = self.messages.pop_front() else { break };
            self.kept_bytes -= dropped.tail.len();
            self.base = dropped.point;
            self.first += 1;
        }
        self.wake();
    }

    fn wake(&self) {
        self.followers.values().for_each(|follower| follower.notify_one());
    }

    fn snapshot(&mut self) -> Option<Arc<str>> {
        let current = self.current.as_mut()?;
        if let Some(snapshot) = &current.snapshot {
            return Some(snapshot.clone());
        }
        let snapshot = current.whole();
        current.snapshot = Some(snapshot.clone());
        Some(snapshot)
    }

    /// The message after what a follower has already; `None` where that is not known.
    fn resume(&self, after: &After) -> Option<u64> {
        let is_before = |point: &Point| {
            point.version == Some(after.version)
                && after.epoch.is_none_or(|epoch| epoch == point.epoch)
                && after.positions.reaches(&point.cut)
        };
        let points = || std::iter::once(&self.base).chain(self.messages.iter().map(|message| &message.point));
        let index = points().enumerate().filter(|(_, point)| is_before(point)).map(|(index, _)| index).last()?;
        let at = points().nth(index)?;
        // What comes next must not take a row back.
        let end = self.current.as_ref().map(|current| &current.point)?;
        let next = points().nth(index + 1).unwrap_or(end);
        let is_newer = next.version != at.version || next.cut.reaches(&after.positions);
        (at.cut == after.positions || is_newer).then_some(self.first + index as u64)
    }
}

impl Current {
    fn members(&self) -> Value {
        json!({
            "version": self.point.version.map(|version| version.0),
            "epoch": self.point.epoch.0,
            "positions": json::cut(&self.point.cut),
            "watermark": json::micros(self.watermark_us),
        })
    }

    fn whole(&self) -> Arc<str> {
        let mut members = json!({ "view": self.view, "key": self.key });
        extend(&mut members, self.members());
        format!("{},\"rows\":[{}]}}", opened(&members), self.rows.text()).into()
    }

    fn changes(&self, difference: &Difference) -> Arc<str> {
        with_difference(&self.members(), difference)
    }

    fn switched(&self, from: Version, difference: &Difference) -> Arc<str> {
        let mut members = json!({ "from": from.0, "to": self.point.version.map(|version| version.0), "key": self.key });
        extend(&mut members, self.members());
        with_difference(&members, difference)
    }
}

fn extend(members: &mut Value, more: Value) {
    if let (Some(members), Value::Object(more)) = (members.as_object_mut(), more) {
        members.extend(more);
    }
}

fn with_difference(members: &Value, difference: &Difference) -> Arc<str> {
    let (changed, deleted) = (join(&difference.changed), join(&difference.deleted));
    format!("{},\"changed\":[{changed}],\"deleted\":[{deleted}]}}", opened(members)).into()
}

/// An object's text without its braces.
fn opened(members: &Value) -> String {
    let text = members.to_string();
    text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or_default().to_owned()
}

fn tail_of(members: &Value) -> Arc<str> {
    (opened(members) + "}").into()
}
