//! The batch queue of librdkafka, through its C interface: many records for one call, without an event object for each.
//!
//! Partitions are consumed by offset into a queue of its own, without a consumer group (`rd_kafka_consume_start_queue`): no coordinator
//! is asked, and no right on a group is needed. The unsafe code of reading is here.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_int};
use std::ptr::NonNull;
use std::time::Duration;

use rdkafka::bindings::{
    rd_kafka_consume_batch_queue, rd_kafka_consume_start_queue, rd_kafka_consume_stop, rd_kafka_get_watermark_offsets, rd_kafka_last_error,
    rd_kafka_message_destroy, rd_kafka_message_errstr, rd_kafka_message_t, rd_kafka_message_timestamp, rd_kafka_queue_destroy,
    rd_kafka_queue_new, rd_kafka_queue_t, rd_kafka_resp_err_t, rd_kafka_timestamp_type_t, rd_kafka_topic_destroy, rd_kafka_topic_new,
    rd_kafka_topic_t,
};
use rdkafka::client::Client;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;

use crate::heard::Listener;

/// What comes out of the queue; it borrows from librdkafka.
pub enum Event<'a> {
    /// A record.
    Record {
        /// Its partition.
        partition: i32,
        /// Its offset.
        offset: i64,
        /// Its timestamp, milliseconds since the Unix epoch; negative: it has none.
        time_ms: i64,
        /// Whether that is the time at which the broker took it.
        is_append_time: bool,
        /// Its value, unless it is a tombstone.
        value: Option<&'a [u8]>,
    },
    /// A partition is read to its end.
    End {
        /// The partition.
        partition: i32,
        /// The position there.
        position: i64,
    },
    /// Something is wrong with a partition, or with the client.
    Failed {
        /// The partition; negative when it is not about one.
        partition: i32,
        /// What is wrong.
        code: RDKafkaErrorCode,
        /// The same in words.
        reason: String,
    },
}

/// Some partitions of a topic, consumed from given positions on.
pub struct BatchQueue {
    queue: NonNull<rd_kafka_queue_t>,
    topic: NonNull<rd_kafka_topic_t>,
    name: CString,
    started: Vec<i32>,
    /// Room for what one call brings; between calls nothing in it is owned.
    batch: Vec<*mut rd_kafka_message_t>,
    /// Last, so that it outlives what was made of it.
    consumer: BaseConsumer<Listener>,
}

/// Records that one call brings at the most.
const BATCH: usize = 1024;

// SAFETY: handles of librdkafka may be used from any thread; the queue and the batch are used through `&mut self`, by one at a time.
unsafe impl Send for BatchQueue {}

impl BatchQueue {
    /// Starts consuming partitions at their positions. Negative offsets would be logical ones: they must not be given.
    pub fn start(consumer: BaseConsumer<Listener>, topic: &str, from: &[(i32, i64)]) -> Result<BatchQueue, RDKafkaErrorCode> {
        let name = CString::new(topic).map_err(|_| RDKafkaErrorCode::InvalidTopic)?;
        let client = consumer.client().native_ptr();
        // SAFETY: the client lives as long as `consumer`, the name is a C string that the call copies, and no configuration is given up.
        let handle = unsafe { rd_kafka_topic_new(client, name.as_ptr(), std::ptr::null_mut()) };
        let handle = NonNull::new(handle).ok_or_else(last_error)?;
        // SAFETY: the client is alive.
        let queue = unsafe { rd_kafka_queue_new(client) };
        let Some(queue) = NonNull::new(queue) else {
            // SAFETY: the handle was made above and is not used any more.
            unsafe { rd_kafka_topic_destroy(handle.as_ptr()) };
            return Err(RDKafkaErrorCode::Fail);
        };
        let batch = vec![std::ptr::null_mut(); BATCH];
        let mut made = BatchQueue { queue, topic: handle, name, started: Vec::new(), batch, consumer };
        for (partition, position) in from {
            // SAFETY: topic and queue are alive: they are destroyed when `made` is dropped.
            let refused = unsafe { rd_kafka_consume_start_queue(made.topic.as_ptr(), *partition, *position, made.queue.as_ptr()) };
            if refused != 0 {
                return Err(last_error());
            }
            made.started.push(*partition);
        }
        Ok(made)
    }

    /// The client, for questions.
    pub fn client(&self) -> &Client<Listener> {
        self.consumer.client()
    }

    /// Hears what the client has to say besides records.
    pub fn listen(&self) {
        // Without a group this is the main queue, which has no records.
        while self.consumer.poll(Duration::ZERO).is_some() {}
    }

    /// Takes what is there, up to a batch, and tells it; waits for the first of it, at the most for `wait`. Answers how many there were.
    pub fn take(&mut self, wait: Duration, mut tell: impl FnMut(Event<'_>)) -> usize {
        // The call returns when the time is up or all of the room is used, not when the queue is empty: so room for one while waiting.
        let (room, wait_ms) = match c_int::try_from(wait.as_millis()) {
            Ok(0) => (self.batch.len(), 0),
            Ok(wait_ms) => (1, wait_ms),
            Err(_) => (1, c_int::MAX),
        };
        // SAFETY: the queue is alive, and `batch` has room for as many pointers as are asked for.
        let count = unsafe { rd_kafka_consume_batch_queue(self.queue.as_ptr(), wait_ms, self.batch.as_mut_ptr(), room) };
        let count = usize::try_from(count).unwrap_or(0);
        for slot in self.batch.iter_mut().take(count) {
            let Some(message) = NonNull::new(std::mem::replace(slot, std::ptr::null_mut())) else { continue };
            // SAFETY: the call above gave this message to us; it is alive until it is destroyed below.
            tell(unsafe { event(message) });
            // SAFETY: what was told of it borrowed from it only until now, and nobody else has it.
            unsafe { rd_kafka_message_destroy(message.as_ptr()) };
        }
        count
    }

    /// The end of a partition as the last fetch told it, transactions that are open included; `None`: there was none yet.
    pub fn high_watermark(&self, partition: i32) -> Option<u64> {
        let (mut low, mut high) = (-1, -1);
        // SAFETY: the client is alive, the name is a C string, and both results are ours.
        let answer = unsafe {
            rd_kafka_get_watermark_offsets(self.consumer.client().native_ptr(), self.name.as_ptr(), partition, &raw mut low, &raw mut high)
        };
        (answer == rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| u64::try_from(high).ok()).flatten()
    }
}

impl Drop for BatchQueue {
    fn drop(&mut self) {
        for partition in &self.started {
            // SAFETY: the topic is alive; the partition was started. This needs no broker.
            unsafe { rd_kafka_consume_stop(self.topic.as_ptr(), *partition) };
        }
        // SAFETY: nothing is consumed into the queue any more, and both are used for the last time. The client is dropped after this.
        unsafe {
            rd_kafka_queue_destroy(self.queue.as_ptr());
            rd_kafka_topic_destroy(self.topic.as_ptr());
        }
    }
}

/// What a message is.
///
/// # Safety
///
/// The message must be alive for as long as the event is used.
unsafe fn event<'a>(message: NonNull<rd_kafka_message_t>) -> Event<'a> {
    // SAFETY: the caller keeps it alive, and nobody changes it.
    let fields = unsafe { message.as_ref() };
    match fields.err {
        rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => {
            let mut kind = rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
            // SAFETY: the message is alive, and the result is ours.
            let time_ms = unsafe { rd_kafka_message_timestamp(message.as_ptr(), &raw mut kind) };
            let is_append_time = kind == rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME;
            let value = NonNull::new(fields.payload.cast::<u8>())
                // SAFETY: a message's payload is `len` bytes that live as long as it does.
                .map(|value| unsafe { std::slice::from_raw_parts(value.as_ptr(), fields.len) });
            Event::Record { partition: fields.partition, offset: fields.offset, time_ms, is_append_time, value }
        }
        rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__PARTITION_EOF => Event::End { partition: fields.partition, position: fields.offset },
        code => {
            // SAFETY: the message is alive.
            let words = unsafe { rd_kafka_message_errstr(message.as_ptr()) };
            let reason = match words.is_null() {
                true => String::new(),
                // SAFETY: it is a C string that lives as long as the message, and it is copied here.
                false => unsafe { CStr::from_ptr(words) }.to_string_lossy().into_owned(),
            };
            let partition = if fields.rkt.is_null() { -1 } else { fields.partition };
            Event::Failed { partition, code: code.into(), reason }
        }
    }
}

fn last_error() -> RDKafkaErrorCode {
    // SAFETY: it reads a variable of this thread.
    unsafe { rd_kafka_last_error() }.into()
}
