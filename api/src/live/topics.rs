//! The partitions that are followed over sockets, and the task that keeps each of them current.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use refold_processor::changes::ChangedRow;
use refold_processor::position::Cut;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use super::following::Following;
use super::partition::Rows;
use super::topic::{Loaded, Point, Topic};
use super::{Closing, LOOK_EVERY, Live, PAUSE};
use crate::limits::{Place, kib};
use crate::problem::Problem;
use crate::reading::{Target, is_latest, key_document};
use crate::work::blocking;

/// Messages about a partition are at least so far apart: changes in between are merged.
const EMIT_EVERY: Duration = Duration::from_millis(250);
/// How long a partition is kept current after its last follower has left, who may return.
const LINGER: Duration = Duration::from_secs(30);

/// The followed partitions, by name.
#[derive(Default)]
pub struct Topics(Mutex<HashMap<String, Arc<Topic>>>);

impl Topics {
    /// Adds a follower to a partition, which is followed from now on if it is not yet. Must be called within a Tokio runtime.
    pub fn join(&self, live: &Arc<Live>, view: &str, parameters: &[(String, String)], wake: &Arc<Notify>) -> (Arc<Topic>, u64) {
        let mut name = view.to_owned();
        for (column, value) in parameters {
            name.extend(["\u{1f}", column, "\u{1f}", value]);
        }
        let mut topics = self.0.lock();
        if let Some(topic) = topics.get(&name) {
            return (topic.clone(), topic.add(wake));
        }
        let topic = Arc::new(Topic::new(name.clone(), view, parameters));
        topics.insert(name, topic.clone());
        let number = topic.add(wake);
        tokio::spawn(keep(live.clone(), topic.clone()));
        (topic, number)
    }

    /// Forgets a partition that nobody follows, or that nobody can. Answers whether it is forgotten.
    fn forget(&self, topic: &Arc<Topic>, even_if_followed: bool) -> bool {
        let mut topics = self.0.lock();
        // Followers join under the same lock.
        if !even_if_followed && !topic.is_left() {
            return false;
        }
        if topics.get(&topic.name).is_some_and(|kept| Arc::ptr_eq(kept, topic)) {
            topics.remove(&topic.name);
        }
        true
    }
}

/// Why a partition is not followed any more.
enum Over {
    /// It is to be read again at once.
    Again,
    /// It is to be read again after a pause.
    Later,
    /// Nobody is to be served.
    Closing,
    /// Nobody follows.
    Left,
}

/// A partition that was read and is followed; its memory is reserved.
struct Kept {
    target: Target,
    following: Following,
    _room: Place,
}

/// Keeps a partition current as long as it has followers.
async fn keep(live: Arc<Live>, topic: Arc<Topic>) {
    let mut closing = live.closing();
    loop {
        let over = match load(&live, &topic).await {
            Ok(kept) => follow(&live, &topic, kept, &mut closing).await,
            Err(problem) if problem.is_servers() => {
                topic.set_unavailable(problem.detail());
                Over::Later
            }
            Err(problem) => {
                topic.refuse(problem);
                live.topics.forget(&topic, true);
                return;
            }
        };
        match over {
            Over::Again => {}
            Over::Later => {
                tokio::select! {
                    () = sleep(PAUSE) => {}
                    () = closing.closed() => return,
                }
                if topic.is_left_for(LINGER) && live.topics.forget(&topic, false) {
                    return;
                }
            }
            Over::Closing => return,
            Over::Left => {
                if live.topics.forget(&topic, false) {
                    return;
                }
            }
        }
    }
}

/// Reads the partition, and begins to follow it.
async fn load(live: &Arc<Live>, topic: &Arc<Topic>) -> Result<Kept, Problem> {
    // Concurrency is limited, because rows use memory before room for them is reserved.
    let place = live.places.snapshots.take().await?;
    let (reader, view, parameters) = (live.clone(), topic.view.clone(), topic.parameters.clone());
    let (target, following, loaded) = blocking(move || {
        let targets = reader.reading.targets(&view, &parameters)?;
        let [target] = targets.as_slice() else {
            return Err(Problem::parameter("a subscription follows one partition; subscribe to each"));
        };
        let target = target.clone();
        let Some((following, found)) = reader.begin(&target)? else {
            return Err(Problem::unavailable(format!("no window of view {view} has rows yet")));
        };
        let point = Point { version: Some(target.record.version), epoch: following.epoch(), cut: found.progress.visible.clone() };
        let key = key_document(&target, &found)?;
        let rows = Rows::of(&found, &target.planned.shape, target.read.limit)?;
        let loaded = Loaded { view, key, point, watermark_us: found.progress.watermark_us, rows };
        Ok((target, following, loaded))
    })
    .await?;
    let room = live.places.stream_room.take_many(kib(Topic::bytes_for(&loaded.rows))).await?;
    drop(place);
    topic.load(loaded);
    Ok(Kept { target, following, _room: room })
}

/// Changes that are to be told with the next message.
#[derive(Default)]
struct Pending {
    rows: Vec<ChangedRow>,
    cut: Cut,
    watermark_us: Option<i64>,
}

async fn follow(live: &Arc<Live>, topic: &Arc<Topic>, mut kept: Kept, closing: &mut Closing) -> Over {
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pending = Pending::default();
    let mut emit_at = Instant::now();
    loop {
        tokio::select! {
            received = kept.following.next() => {
                let changed = match received {
                    Ok(changed) => changed,
                    Err(super::Over::Missed) => return Over::Again,
                    Err(super::Over::Ended) => return Over::Later,
                };
                let Ok(rows) = kept.following.take(&changed) else { return Over::Again };
                if rows.is_empty() {
                    continue;
                }
                pending.rows.extend(rows);
                (pending.cut, pending.watermark_us) = (changed.visible.clone(), changed.watermark_us);
                if Instant::now() < emit_at {
                    continue;
                }
            }
            () = sleep_until(emit_at), if !pending.rows.is_empty() => {}
            _ = looks.tick() => {
                if topic.is_left_for(LINGER) {
                    return Over::Left;
                }
                if has_moved(live, topic, &kept).await {
                    return Over::Again;
                }
                continue;
            }
            () = closing.closed() => return Over::Closing,
        }
        let Pending { rows, cut, watermark_us } = std::mem::take(&mut pending);
        let point = Point { version: Some(kept.target.record.version), epoch: kept.following.epoch(), cut };
        if topic.change(point, watermark_us, rows).is_err() {
            return Over::Again;
        }
        emit_at = Instant::now() + EMIT_EVERY;
    }
}

/// Whether another version is in service, or another window is the newest one.
async fn has_moved(live: &Arc<Live>, topic: &Arc<Topic>, kept: &Kept) -> bool {
    let (live, view) = (live.clone(), topic.view.clone());
    let (target, partition) = (kept.target.clone(), kept.following.partition.clone());
    let looked = blocking(move || {
        if live.active(&view)?.is_some_and(|active| active != target.record.version) {
            return Ok(true);
        }
        if !is_latest(&target) {
            return Ok(false);
        }
        let progress = live.reading.progress(&target)?;
        Ok(live.reading.partition(&target, &progress)?.is_some_and(|newest| newest != partition))
    });
    // What cannot be asked has not moved.
    looked.await.unwrap_or(false)
}
