//! Appending: records go out in order, and an append ends when each of them is acknowledged by all replicas, or refused.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ThreadedProducer};
use refold_processor::log::{LogError, NewRecord};
use refold_processor::position::{Offset, Partition};

use crate::bootstrap::partitions_or_begin_again;
use crate::connection::Connection;
use crate::errors::{Call, failed, is_unknown, not_made};
use crate::heard::{Heard, Listener};
use crate::settings::KafkaSettings;

/// A client that appends in transactions.
pub type Transactional = ThreadedProducer<Listener>;

/// Appends to any topic of a cluster.
#[derive(Default)]
pub struct Appender {
    /// Made when it is first needed: whoever only reads may not be allowed to append.
    producer: Mutex<Option<Arc<ThreadedProducer<Listener>>>>,
    listener: Listener,
}

/// A record that goes out.
#[derive(Default)]
pub struct Outgoing<'a> {
    /// Decides the partition.
    pub key: Option<&'a [u8]>,
    /// The value; `None`: a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers.
    pub headers: Option<OwnedHeaders>,
}

impl<'a> From<&'a NewRecord> for Outgoing<'a> {
    fn from(record: &'a NewRecord) -> Self {
        Outgoing { key: record.key.as_deref(), value: Some(record.value.as_ref()), headers: None }
    }
}

/// The records of one append.
struct Pending {
    state: Mutex<State>,
    settled: Condvar,
}

struct State {
    places: Vec<Option<(Partition, Offset)>>,
    left: usize,
    failed: Option<RDKafkaErrorCode>,
}

/// Goes with a record to the broker and back.
pub struct Ticket {
    pending: Arc<Pending>,
    index: usize,
}

/// How long a full buffer is given to empty, between two looks.
const BUFFER_WAIT: Duration = Duration::from_millis(5);
/// librdkafka tells the fate of each record within the delivery timeout; this is for its threads to be late.
const LATE: Duration = Duration::from_secs(30);

impl Ticket {
    /// The record's fate.
    pub fn settle(self, result: &DeliveryResult<'_>) {
        let settled = match result {
            Ok(message) => match (u32::try_from(message.partition()), u64::try_from(message.offset())) {
                (Ok(partition), Ok(offset)) => Ok((Partition(partition), Offset(offset))),
                // A retry of a record that was taken long ago: it is in the log, but nobody can say where.
                _ => Err(RDKafkaErrorCode::NoOffset),
            },
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)),
        };
        let mut state = self.pending.state.lock();
        match settled {
            Ok(place) => {
                if let Some(slot) = state.places.get_mut(self.index) {
                    *slot = Some(place);
                }
            }
            Err(code) => state.failed = state.failed.or(Some(code)),
        }
        state.left -= 1;
        if state.left == 0 {
            self.pending.settled.notify_all();
        }
    }
}

impl Appender {
    /// One that appends in transactions in the name of `id`, and the client that begins and commits them. After an error that its client does not get over,
    /// another is to be made.
    pub fn transactional(connection: &Connection, id: &str) -> Result<(Appender, Arc<Transactional>), LogError> {
        let listener = Listener::default();
        let config = connection.settings.transactional(id);
        let made: Transactional = config.create_with_context(listener.clone()).map_err(|error| not_made(&error))?;
        let producer = Arc::new(made);
        Ok((Appender { producer: Mutex::new(Some(producer.clone())), listener }, producer))
    }

    /// What brokers complained about.
    pub fn heard(&self) -> &Heard {
        &self.listener.heard
    }

    /// Appends records to a topic that is there.
    pub fn append<'a>(
        &self,
        connection: &Connection,
        topic: &str,
        records: impl ExactSizeIterator<Item = Outgoing<'a>>,
    ) -> Result<Vec<(Partition, Offset)>, LogError> {
        let producer = self.producer(connection)?;
        let count = records.len();
        let state = State { places: vec![None; count], left: count, failed: None };
        let pending = Arc::new(Pending { state: Mutex::new(state), settled: Condvar::new() });
        let until = Instant::now() + connection.settings.delivery_timeout();
        for (index, record) in records.enumerate() {
            if let Err(code) = send(&producer, &connection.settings, topic, record, &pending, index, until) {
                let mut state = pending.state.lock();
                state.failed = state.failed.or(Some(code));
                // Those before it are on their way: they are waited for, so that what comes next comes behind them.
                state.left -= count - index;
                break;
            }
        }
        let mut state = pending.state.lock();
        while state.left > 0 {
            if !pending.settled.wait_for(&mut state, connection.settings.request_timeout()).timed_out() {
                continue;
            }
            if Instant::now() >= until + LATE {
                state.failed = state.failed.or(Some(RDKafkaErrorCode::MessageTimedOut));
                break;
            }
            // Records go on waiting meanwhile: whether there is an answer is not what decides.
            let asked = MutexGuard::unlocked(&mut state, || partitions_or_begin_again(producer.client(), topic, &connection.settings));
            tracing::debug!(topic, is_answered = asked.is_ok(), "records wait for their acknowledgement");
        }
        match state.failed {
            None => {
                self.listener.heard.is_well();
                Ok(state.places.iter().flatten().copied().collect())
            }
            Some(code) => Err(self.failed(connection, &producer, topic, code)),
        }
    }

    fn producer(&self, connection: &Connection) -> Result<Arc<ThreadedProducer<Listener>>, LogError> {
        let mut producer = self.producer.lock();
        if let Some(producer) = producer.as_ref() {
            return Ok(producer.clone());
        }
        let config = connection.settings.appending();
        let made = config.create_with_context::<_, ThreadedProducer<Listener>>(self.listener.clone()).map_err(|error| not_made(&error))?;
        Ok(producer.insert(Arc::new(made)).clone())
    }

    fn failed(&self, connection: &Connection, producer: &Arc<ThreadedProducer<Listener>>, topic: &str, code: RDKafkaErrorCode) -> LogError {
        if is_unknown(code) {
            connection.forget(topic);
        }
        let call = Call::appending(topic);
        let Some((fatal, why)) = producer.client().fatal_error() else {
            return failed(code, &call, &connection.settings, &self.listener.heard);
        };
        // This one takes nothing any more; the next append gets another.
        let mut current = self.producer.lock();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, producer)) {
            *current = None;
        }
        tracing::warn!(topic, code = %fatal, why, "the appending client gave up; another takes its place");
        match failed(fatal, &call, &connection.settings, &self.listener.heard) {
            LogError::Unavailable(_) => LogError::Unavailable(format!("{} failed: {why}", call.doing())),
            other => other,
        }
    }
}

/// Hands a record to librdkafka, as soon as its buffer has room for it.
fn send(
    producer: &ThreadedProducer<Listener>,
    settings: &KafkaSettings,
    topic: &str,
    record: Outgoing<'_>,
    pending: &Arc<Pending>,
    index: usize,
    until: Instant,
) -> Result<(), RDKafkaErrorCode> {
    let ticket = Box::new(Ticket { pending: pending.clone(), index });
    let mut full_since = Instant::now();
    let mut next = BaseRecord::with_opaque_to(topic, ticket);
    (next.key, next.payload, next.headers) = (record.key, record.value, record.headers);
    loop {
        match producer.send::<[u8], [u8]>(next) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) if Instant::now() < until => {
                next = refused;
                std::thread::sleep(BUFFER_WAIT);
                if full_since.elapsed() >= settings.request_timeout() {
                    let _ = partitions_or_begin_again(producer.client(), topic, settings);
                    full_since = Instant::now();
                }
            }
            Err((error, _)) => return Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)),
        }
    }
}
