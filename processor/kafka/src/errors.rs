//! Kafka's error codes in the words of the log port.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use refold_processor::log::LogError;

use crate::heard::Heard;

/// Whether asking again cannot help.
pub fn is_final(code: Code) -> bool {
    is_unknown(code) || is_forbidden(code) || is_invalid(code)
}

/// Whether there is no such topic or partition.
pub fn is_unknown(code: Code) -> bool {
    matches!(code, Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition | Code::InvalidTopic)
}

fn is_forbidden(code: Code) -> bool {
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::DelegationTokenAuthorizationFailed
            | Code::SecurityDisabled
    )
}

fn is_invalid(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::MessageSizeTooLarge
            | Code::MessageBatchTooLarge
            | Code::InvalidMessage
            | Code::InvalidMessageSize
            | Code::InvalidTimestamp
            | Code::InvalidPartitions
            | Code::InvalidReplicationFactor
            | Code::InvalidReplicaAssignment
            | Code::InvalidConfig
            | Code::InvalidRequest
            | Code::InvalidRequiredAcks
            | Code::PolicyViolation
            | Code::UnsupportedVersion
            | Code::UnsupportedFeature
            | Code::UnsupportedForMessageFormat
            | Code::UnsupportedCompressionType
            | Code::BadMessage
            | Code::BadCompression
            | Code::NotImplemented
    )
}

/// What it means that `doing` something, with a topic, failed with a code.
pub fn failed(code: Code, doing: &str, topic: Option<&str>, heard: &Heard) -> LogError {
    match topic {
        Some(topic) if is_unknown(code) => LogError::UnknownTopic(topic.to_owned()),
        _ if is_forbidden(code) => {
            LogError::Broken(format!("{doing} is not allowed to this client ({code}): grant it in the cluster's ACLs"))
        }
        _ if matches!(code, Code::MessageSizeTooLarge | Code::MessageBatchTooLarge) => LogError::Broken(format!(
            "{doing}: a record is larger than brokers take; raise max.message.bytes of the topic, or send smaller ones"
        )),
        _ if is_final(code) => LogError::Broken(format!("{doing} failed: {code}")),
        _ => LogError::Away(format!("{doing} failed, {code}{}", heard.because())),
    }
}

/// What it means that a client could not be made. Values of properties may be secrets: they are not told.
pub fn not_made(error: &KafkaError) -> LogError {
    LogError::Broken(match error {
        KafkaError::ClientConfig(_, _, name, _) => {
            format!("kafka property {name} is not one that librdkafka knows, or has a value that it does not take")
        }
        KafkaError::ClientCreation(why) => format!("a kafka client with these properties cannot be made: {why}"),
        KafkaError::Nul(_) => "a kafka property has a zero byte in it".to_owned(),
        other => match other.rdkafka_error_code() {
            Some(code) => format!("a kafka client cannot be made: {code}"),
            None => "a kafka client cannot be made".to_owned(),
        },
    })
}
