//! The addresses that a client began with, given to it once more.
//!
//! librdkafka forgets brokers that the cluster's last description of itself does not name. A cluster that was not reachable for a while can
//! describe itself without any broker, until its controllers have heard of them again. A client that reads this has nobody left to ask, and may
//! stay so for ever: what ends this answer also cancels the return to the first addresses that it started (confluentinc/librdkafka issue 5301).
#![allow(unsafe_code)]

use std::ffi::CString;
use std::time::Duration;

use rdkafka::bindings::rd_kafka_brokers_add;
use rdkafka::client::Client;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};

use crate::errors::is_unanswered;
use crate::heard::Listener;
use crate::settings::KafkaSettings;

/// How long librdkafka is left alone with a question: it does not stop by itself when it is refused.
pub const SLICE: Duration = Duration::from_secs(2);

/// A client keeps all that it was ever given, so it must not be given too much while brokers are unavailable for days.
const EVERY: Duration = Duration::from_secs(10);

/// Gives a client its first addresses again, beside the brokers that it knows. Answers whether it is not too early for that.
pub fn begin_again(client: &Client<Listener>, settings: &KafkaSettings) -> bool {
    let Ok(brokers) = CString::new(settings.brokers.as_str()) else { return false };
    if !client.context().heard.begins_again(EVERY) {
        return false;
    }
    tracing::debug!(brokers = settings.brokers, "a client has no answer; it begins again with its first addresses");
    // SAFETY: the client is alive, and the call copies the string. How many were added does not matter: those it has stay.
    unsafe { rd_kafka_brokers_add(client.native_ptr(), brokers.as_ptr()) };
    true
}

/// How many partitions a topic has, asked by this very client.
pub fn partitions(client: &Client<Listener>, topic: &str, timeout: Duration) -> KafkaResult<u32> {
    let metadata = client.fetch_metadata(Some(topic), timeout)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let Some(found) = found else { return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopic)) };
    match found.error() {
        Some(error) => Err(KafkaError::MetadataFetch(error.into())),
        None => Ok(found.partitions().len() as u32),
    }
}

/// The same, of a client that may have lost its brokers: without an answer it begins again.
pub fn partitions_or_begin_again(client: &Client<Listener>, topic: &str, settings: &KafkaSettings) -> KafkaResult<u32> {
    partitions(client, topic, SLICE).inspect_err(|error| {
        if error.rdkafka_error_code().is_some_and(is_unanswered) {
            begin_again(client, settings);
        }
    })
}
