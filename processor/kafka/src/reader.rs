//! Reading: batches from the queue, their values copied into one buffer for each partition, handed out in turn.
//!
//! A partition's end is known in three ways: as asked for when the reader was opened, from the high watermark of the last fetch, and from
//! the event that librdkafka sends when it has nothing more. Only the last tells of an end that is behind a transaction's marker or behind
//! aborted records, where no record ever comes to move the position: then a run without records does.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::RDKafkaErrorCode;
use refold_processor::log::run::Run;
use refold_processor::log::{Bounds, LogError, LogReader, RecordSpan, Records};
use refold_processor::position::{Cut, Offset, Partition};

use crate::bootstrap::partitions_or_begin_again;
use crate::connection::Connection;
use crate::errors::{Call, failed, is_damage, is_lasting, is_unknown, not_made};
use crate::heard::{Heard, Listener};
use crate::queue::{BatchQueue, Event};

/// Reads some partitions of a topic in turn.
pub struct KafkaReader {
    connection: Arc<Connection>,
    heard: Arc<Heard>,
    queue: BatchQueue,
    intake: Intake,
    turn: usize,
    topic_checked_at: Instant,
    /// Whether there was no such topic then.
    was_unknown: bool,
}

/// Where what comes out of the queue goes.
struct Intake {
    topic: String,
    follows: Vec<Follow>,
    /// Where a partition is in `follows`, by its number.
    places: Vec<Option<usize>>,
    trouble: Option<Trouble>,
    has_warned_of_time: bool,
}

/// A partition that is read.
struct Follow {
    partition: Partition,
    number: i32,
    position: Offset,
    gathered: Gathered,
    /// Records that were gathered, to be handed out; the first of the first is at the position or behind it.
    runs: VecDeque<Run>,
    /// The position of the end, as last told.
    end: Option<Offset>,
    /// Bounds that the position lies outside of.
    outside: Option<Bounds>,
    /// What is wrong with the records behind those that were gathered. librdkafka goes on behind a damaged batch; this reader does not.
    damage: Option<String>,
}

/// Records that are being copied.
#[derive(Default)]
struct Gathered {
    spans: Vec<RecordSpan>,
    values: Vec<u8>,
    /// Bytes and records that the last run held, as a guess at the next.
    last_run: (usize, usize),
}

struct Trouble {
    partition: Option<usize>,
    code: RDKafkaErrorCode,
    reason: String,
}

/// Starts of values are 32 bits wide; a run stays far below that.
const MAX_RUN_BYTES: usize = 1 << 30;
/// How long the queue is waited for before the client is listened to.
const SLICE: Duration = Duration::from_millis(200);
/// A partition that sends nothing for so many request timeouts, while brokers answer, is begun again.
const STUCK: u32 = 6;

impl KafkaReader {
    /// A reader that starts at the positions of `from`.
    pub fn open(connection: Arc<Connection>, topic: &str, from: &Cut) -> Result<KafkaReader, LogError> {
        connection.partitions(topic)?;
        let mut follows = Vec::new();
        let mut places = Vec::new();
        let mut starts = Vec::new();
        for (partition, position) in from.iter() {
            let bounds = connection.bounds(topic, partition)?;
            let number = i32::try_from(partition.0).map_err(|_| LogError::Refused(format!("{partition} is no number of a partition")))?;
            let is_inside = (bounds.start..=bounds.end).contains(&position);
            if let Some(start) = i64::try_from(position.0).ok().filter(|_| is_inside) {
                starts.push((number, start));
            }
            places.resize(places.len().max(partition.0 as usize + 1), None);
            if let Some(place) = places.get_mut(partition.0 as usize) {
                *place = Some(follows.len());
            }
            follows.push(Follow {
                partition,
                number,
                position,
                gathered: Gathered::default(),
                runs: VecDeque::new(),
                end: (bounds.end == position).then_some(position),
                outside: (!is_inside).then_some(bounds),
                damage: None,
            });
        }
        let listener = Listener::default();
        let heard = listener.heard.clone();
        let consumer: BaseConsumer<Listener> =
            connection.settings.reading().create_with_context(listener).map_err(|error| not_made(&error))?;
        let queue = BatchQueue::start(consumer, topic, &starts)
            .map_err(|code| failed(code, &Call::reading(topic, ""), &connection.settings, &heard))?;
        let intake = Intake { topic: topic.to_owned(), follows, places, trouble: None, has_warned_of_time: false };
        Ok(KafkaReader { connection, heard, queue, intake, turn: 0, topic_checked_at: Instant::now(), was_unknown: false })
    }

    /// The next run of the partition whose turn it is, or of the first behind it that has one.
    fn next(&mut self, max_bytes: usize) -> Option<Records> {
        let follows = &mut self.intake.follows;
        for _ in 0..follows.len() {
            let turn = self.turn % follows.len();
            self.turn = turn + 1;
            if let Some(follow) = follows.get_mut(turn)
                && let Some(records) = follow.next(&self.queue, max_bytes)
            {
                return Some(records);
            }
        }
        None
    }

    /// Takes from the queue what is there, until there are `max_bytes`; waits for the first of it. Answers how much came.
    fn gather(&mut self, max_bytes: usize, wait: Duration) -> usize {
        let intake = &mut self.intake;
        let mut count = self.queue.take(wait, |event| intake.take(event));
        let mut more = count;
        while more > 0 && intake.bytes() < max_bytes {
            more = self.queue.take(Duration::ZERO, |event| intake.take(event));
            count += more;
        }
        intake.follows.iter_mut().for_each(Follow::seal);
        count
    }

    fn is_at_end(&mut self) -> bool {
        self.intake.follows.iter_mut().all(|follow| follow.is_at_end(&self.queue))
    }

    /// What has to be told before anything else is read.
    fn check(&mut self) -> Result<(), LogError> {
        let Intake { topic, follows, trouble, .. } = &mut self.intake;
        for follow in follows.iter() {
            if let Some(bounds) = follow.outside {
                return Err(outside(topic, follow, bounds));
            }
            if let Some(damage) = &follow.damage {
                return Err(damaged(topic, follow, damage));
            }
        }
        let Some(trouble) = trouble.take().filter(|trouble| is_trouble(trouble.code)) else { return Ok(()) };
        let Trouble { partition, code, reason } = trouble;
        let follow = partition.and_then(|place| follows.get_mut(place));
        match (code, follow) {
            (RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::LogTruncation, Some(follow)) => {
                let bounds = self.connection.bounds(topic, follow.partition)?;
                let (partition, position) = (follow.partition, follow.position);
                if !(bounds.start..=bounds.end).contains(&position) {
                    follow.outside = Some(bounds);
                    return Err(outside(topic, follow, bounds));
                }
                if code == RDKafkaErrorCode::LogTruncation {
                    return Err(LogError::Broken(format!(
                        "the log of {topic}/{partition} was truncated and written again below position {position} ({reason}): \
                         records that were acknowledged are lost; replay the view from the log's start"
                    )));
                }
                Err(LogError::Unavailable(format!("{topic}/{partition} cannot be read at position {position} yet: {reason}")))
            }
            (code, _) if is_unknown(code) => {
                self.connection.partitions(topic)?;
                Err(LogError::Unavailable(format!("topic {topic} is being changed: {reason}")))
            }
            (code, follow) => {
                let at = follow.map(|follow| format!("/{} at {} ({reason})", follow.partition, follow.position)).unwrap_or_default();
                Err(failed(code, &Call::reading(topic, &at), &self.connection.settings, &self.heard))
            }
        }
    }

    /// Whether the topic is still there: librdkafka keeps that to itself for a long time. Said twice, it is believed: brokers that start may
    /// not know all topics yet.
    fn check_topic(&mut self) -> Result<(), LogError> {
        if self.topic_checked_at.elapsed() < self.connection.settings.request_timeout() {
            return Ok(());
        }
        self.topic_checked_at = Instant::now();
        self.keep_brokers();
        match self.connection.partitions(&self.intake.topic) {
            Ok(_) => self.was_unknown = false,
            Err(LogError::UnknownTopic(_)) if !self.was_unknown => self.was_unknown = true,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The client that reads is not the one that asks, and only it can tell whether it has brokers. What it answers is left to the other.
    fn keep_brokers(&self) {
        let _ = partitions_or_begin_again(self.queue.client(), &self.intake.topic, &self.connection.settings);
    }

    /// Whether the brokers of all partitions answer: an idle connection that was lost looks like a log without news.
    fn check_brokers(&self) -> Result<(), LogError> {
        self.keep_brokers();
        for follow in &self.intake.follows {
            if let Err(error) = self.connection.bounds(&self.intake.topic, follow.partition) {
                self.heard.doubt();
                return Err(error);
            }
        }
        self.heard.is_well();
        Ok(())
    }
}

impl LogReader for KafkaReader {
    fn read(&mut self, max_bytes: usize, wait: Duration) -> Result<Option<Records>, LogError> {
        let max_bytes = max_bytes.min(MAX_RUN_BYTES);
        let request_timeout = self.connection.settings.request_timeout();
        let started = Instant::now();
        let (mut heard_at, mut checks) = (started, 0);
        loop {
            if let Some(records) = self.next(max_bytes) {
                return Ok(Some(records));
            }
            self.check()?;
            if self.gather(max_bytes, Duration::ZERO) > 0 {
                heard_at = Instant::now();
                continue;
            }
            self.queue.listen();
            let waited = started.elapsed();
            let left = if self.is_at_end() {
                if self.heard.take_doubt() {
                    self.check_brokers()?;
                }
                self.check_topic()?;
                if waited >= wait {
                    return Ok(None);
                }
                wait - waited
            } else {
                // That there is nothing more is only said when it is known.
                if heard_at.elapsed() > request_timeout {
                    self.check_brokers()?;
                    (heard_at, checks) = (Instant::now(), checks + 1);
                    if checks == STUCK {
                        return Err(LogError::Unavailable(format!("brokers answer, but send nothing of topic {}", self.intake.topic)));
                    }
                }
                SLICE
            };
            if self.gather(max_bytes, left.min(SLICE)) > 0 {
                heard_at = Instant::now();
            }
        }
    }
}

impl Intake {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Record { partition, offset, time_ms, is_append_time, value } => {
                let follow = self.follow(partition).filter(|follow| follow.damage.is_none());
                if let (Some(follow), Ok(offset)) = (follow, u64::try_from(offset)) {
                    follow.gather(Offset(offset), time_ms, value);
                }
                if !is_append_time && !self.has_warned_of_time {
                    self.has_warned_of_time = true;
                    tracing::warn!(
                        topic = self.topic,
                        "record times of this topic are its producers' and may go back; set its message.timestamp.type to LogAppendTime"
                    );
                }
            }
            Event::End { partition, position } => {
                if let Some(follow) = self.follow(partition).filter(|follow| follow.damage.is_none()) {
                    follow.end = u64::try_from(position).ok().map(Offset);
                }
            }
            Event::Failed { partition, code, reason } => {
                tracing::debug!(topic = self.topic, partition, %code, reason, "reading met with trouble");
                if is_damage(code)
                    && let Some(follow) = self.follow(partition)
                {
                    follow.damage.get_or_insert(reason);
                    return;
                }
                // The first that librdkafka does not get over by itself is what is told.
                if self.trouble.as_ref().is_none_or(|before| !is_trouble(before.code)) {
                    self.trouble = Some(Trouble { partition: self.place(partition), code, reason });
                }
            }
        }
    }

    fn place(&self, partition: i32) -> Option<usize> {
        self.places.get(usize::try_from(partition).ok()?).copied().flatten()
    }

    fn follow(&mut self, partition: i32) -> Option<&mut Follow> {
        let place = self.place(partition)?;
        self.follows.get_mut(place)
    }

    /// Bytes gathered that cannot be handed out yet.
    fn bytes(&self) -> usize {
        self.follows.iter().map(|follow| follow.gathered.values.len()).sum()
    }
}

impl Follow {
    fn gather(&mut self, offset: Offset, time_ms: i64, value: Option<&[u8]>) {
        let length = value.map_or(0, <[u8]>::len);
        if self.gathered.values.len() + length > MAX_RUN_BYTES {
            self.seal();
        }
        let Gathered { spans, values, last_run } = &mut self.gathered;
        if spans.is_empty() {
            values.reserve(last_run.0);
            spans.reserve(last_run.1);
        }
        // Both fit: a run is far below 4 GiB, and so is a record.
        let start = values.len() as u32;
        values.extend_from_slice(value.unwrap_or_default());
        spans.push(RecordSpan { offset, record_time_ms: time_ms, start, len: value.map(|value| value.len() as u32) });
    }

    /// What was gathered can be handed out.
    fn seal(&mut self) {
        let Gathered { spans, values, last_run } = &mut self.gathered;
        if !spans.is_empty() {
            *last_run = (values.len(), spans.len());
            self.runs.push_back(Run::new(std::mem::take(spans), Bytes::from(std::mem::take(values)), 0));
        }
    }

    fn next(&mut self, queue: &BatchQueue, max_bytes: usize) -> Option<Records> {
        let (spans, payload) = match self.runs.front_mut() {
            Some(run) => run.take(max_bytes),
            None => Default::default(),
        };
        self.runs.pop_front_if(|run| run.is_empty());
        let mut next = spans.last().map_or(self.position, |last| last.offset.next());
        if self.runs.is_empty() {
            // Nothing is readable between the last record and the end.
            next = self.end.map_or(next, |end| end.max(next));
        }
        if next == self.position {
            return None;
        }
        self.position = next;
        let end = queue.high_watermark(self.number).map_or(next, |end| next.max(Offset(end)));
        Some(Records { partition: self.partition, spans, payload, next, end })
    }

    fn is_at_end(&mut self, queue: &BatchQueue) -> bool {
        if self.outside.is_none()
            && self.damage.is_none()
            && self.end != Some(self.position)
            && queue.high_watermark(self.number) == Some(self.position.0)
        {
            self.end = Some(self.position);
        }
        self.end == Some(self.position)
    }
}

/// Whether it is more than something that librdkafka gets over by itself.
fn is_trouble(code: RDKafkaErrorCode) -> bool {
    is_lasting(code)
        || matches!(code, RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::LogTruncation)
}

fn damaged(topic: &str, follow: &Follow, damage: &str) -> LogError {
    let Follow { partition, position, .. } = follow;
    LogError::Broken(format!(
        "what brokers have of {topic}/{partition} at position {position} is damaged ({damage}): let an intact replica lead the partition, or \
         restore it from a copy"
    ))
}

fn outside(topic: &str, follow: &Follow, Bounds { start, end }: Bounds) -> LogError {
    let (topic, partition, position) = (topic.to_owned(), follow.partition, follow.position);
    match position < start {
        true => LogError::Hole { topic, partition, position, log_start: start },
        false => LogError::PastEnd { topic, partition, position, end },
    }
}
