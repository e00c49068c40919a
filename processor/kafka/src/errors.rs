//! Kafka's error codes in the words of the log port: which pass by themselves, which need a person, and which say that records are damaged.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use refold_processor::log::LogError;

use crate::heard::Heard;
use crate::settings::KafkaSettings;

/// Something that a cluster is asked to do, and the right that it takes: named in errors.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    doing: String,
    right: &'static str,
    /// What has to be granted, where that is more than the right.
    grant: &'static str,
    resource: String,
    topic: Option<&'a str>,
}

impl<'a> Call<'a> {
    fn of_topic(doing: String, right: &'static str, grant: &'static str, topic: &'a str) -> Call<'a> {
        Call { doing, right, grant, resource: format!("topic {topic}"), topic: Some(topic) }
    }

    fn of_cluster(doing: &str) -> Call<'static> {
        Call { doing: doing.to_owned(), right: "DESCRIBE", grant: "DESCRIBE", resource: "the cluster".to_owned(), topic: None }
    }

    /// Asking for something about a topic.
    pub fn describing(doing: String, topic: &'a str) -> Call<'a> {
        Call::of_topic(doing, "DESCRIBE", "DESCRIBE", topic)
    }

    /// Reading a topic; `at` says where.
    pub fn reading(topic: &'a str, at: &str) -> Call<'a> {
        Call::of_topic(format!("reading topic {topic}{at}"), "READ", "READ and DESCRIBE", topic)
    }

    /// Appending to a topic.
    pub fn appending(topic: &'a str) -> Call<'a> {
        Call::of_topic(format!("appending to topic {topic}"), "WRITE to", "WRITE and DESCRIBE", topic)
    }

    /// Publishing to a topic in transactions in the name of an id that is the topic's name.
    pub fn transaction(topic: &str) -> Call<'static> {
        let resource = format!("transactional id {topic}");
        Call { doing: format!("publishing to topic {topic}"), right: "WRITE to", grant: "WRITE and DESCRIBE", resource, topic: None }
    }

    /// Creating a topic. That it is not there is no error of this call.
    pub fn creating(topic: &str) -> Call<'static> {
        let resource = format!("topic {topic}");
        Call { doing: format!("creating {resource}"), right: "CREATE", grant: "CREATE and DESCRIBE", resource, topic: None }
    }

    /// Removing a topic. That it is not there is no error of this call.
    pub fn removing(topic: &str) -> Call<'static> {
        let resource = format!("topic {topic}");
        Call { doing: format!("removing {resource}"), right: "DELETE", grant: "DELETE", resource, topic: None }
    }

    /// Asking for the cluster's id.
    pub fn identifying() -> Call<'static> {
        Call::of_cluster("asking for the cluster's id")
    }

    /// Listing topics.
    pub fn listing() -> Call<'static> {
        Call::of_cluster("listing topics")
    }

    /// Committing the positions of a group.
    pub fn committing(group: &str) -> Call<'static> {
        let resource = format!("group {group}");
        Call { doing: format!("publishing the positions of {resource}"), right: "READ", grant: "READ", resource, topic: None }
    }

    /// Removing a group. That it is not there is no error of this call.
    pub fn removing_group(group: &str) -> Call<'static> {
        let resource = format!("group {group}");
        Call { doing: format!("removing {resource}"), right: "DELETE", grant: "DELETE", resource, topic: None }
    }

    /// What is being done.
    pub fn doing(&self) -> &str {
        &self.doing
    }

    fn forbidden(&self, code: Code, settings: &KafkaSettings) -> String {
        let user = settings.user();
        match code {
            // Brokers before 3.0 ask for it beside the right to write to the topic.
            Code::ClusterAuthorizationFailed if self.right.starts_with("WRITE") => {
                format!("{user} may not IDEMPOTENT_WRITE to the cluster, while {}: grant IDEMPOTENT_WRITE on the cluster", self.doing)
            }
            Code::SecurityDisabled | Code::DelegationTokenAuthorizationFailed => {
                format!("{user} is refused while {} ({code}): check the cluster's authorizer and the user's token", self.doing)
            }
            _ => format!("{user} may not {} {}: grant {} on {}", self.right, self.resource, self.grant, self.resource),
        }
    }
}

/// Whether asking again at once cannot help.
pub fn is_lasting(code: Code) -> bool {
    is_unknown(code) || is_forbidden(code) || is_refused(code) || is_damage(code)
}

/// Whether there is no such topic or partition.
pub fn is_unknown(code: Code) -> bool {
    matches!(code, Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition | Code::InvalidTopic)
}

/// Whether another client appends in the name of the same transactional id by now.
pub fn is_fenced(code: Code) -> bool {
    matches!(code, Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch)
}

/// Whether no broker answered.
pub fn is_unanswered(code: Code) -> bool {
    matches!(code, Code::BrokerTransportFailure | Code::OperationTimedOut | Code::AllBrokersDown)
}

/// Whether records that were read are not what was appended: their checksum, or what is under it, is wrong.
pub fn is_damage(code: Code) -> bool {
    matches!(code, Code::BadMessage | Code::BadCompression | Code::InvalidMessage)
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

/// Whether the cluster, as it is set up, does not take this.
fn is_refused(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::MessageSizeTooLarge
            | Code::MessageBatchTooLarge
            | Code::InvalidRecord
            | Code::InvalidMessageSize
            | Code::InvalidTimestamp
            | Code::InvalidPartitions
            | Code::InvalidReplicationFactor
            | Code::InvalidReplicaAssignment
            | Code::InvalidConfig
            | Code::InvalidRequest
            | Code::InvalidRequiredAcks
            | Code::PolicyViolation
            | Code::TopicDeletionDisabled
            | Code::ThrottlingQuotaExceeded
            | Code::UnsupportedVersion
            | Code::UnsupportedFeature
            | Code::UnsupportedForMessageFormat
            | Code::UnsupportedCompressionType
            | Code::UnsupportedSASLMechanism
            | Code::NotImplemented
    )
}

/// What it means that a call failed with a code.
pub fn failed(code: Code, call: &Call<'_>, settings: &KafkaSettings, heard: &Heard) -> LogError {
    let doing = &call.doing;
    match (code, call.topic) {
        (code, Some(topic)) if is_unknown(code) => LogError::UnknownTopic(topic.to_owned()),
        (code, _) if is_forbidden(code) => LogError::Refused(call.forbidden(code, settings)),
        (Code::MessageSizeTooLarge | Code::MessageBatchTooLarge, _) => LogError::Refused(format!(
            "{doing}: a record is larger than brokers take; raise max.message.bytes of the topic, or send smaller ones"
        )),
        (Code::PolicyViolation, _) => {
            LogError::Refused(format!("{doing} is against a policy of the cluster ({code}): change that, or create the topic by hand"))
        }
        (Code::ThrottlingQuotaExceeded, _) => {
            LogError::Refused(format!("{doing} is more than the quota of {} allows: raise it", settings.user()))
        }
        (code, _) if is_refused(code) || is_unknown(code) => LogError::Refused(format!("{doing} failed: {code}{}", heard.because())),
        // A record may have been damaged on its way to a broker, which then does not take it.
        (code, _) if is_damage(code) && !call.right.starts_with("WRITE") => LogError::Broken(format!("{doing} failed: {code}")),
        _ if heard.is_refused() => LogError::Refused(format!("{} is not let in while {doing}{}", settings.user(), heard.because())),
        _ => LogError::Unavailable(format!("{doing} failed, {code}{}", heard.because())),
    }
}

/// What it means that a client could not be made. Values of properties may be secrets: they are not told.
pub fn not_made(error: &KafkaError) -> LogError {
    LogError::Refused(match error {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use refold_processor::recovery::Recovery;

    use super::*;

    fn said(code: Code, call: &Call<'_>) -> (Recovery, String) {
        let properties = BTreeMap::from([("sasl.username".to_owned(), "refold".to_owned())]);
        let settings = KafkaSettings { properties, ..KafkaSettings::default() };
        let error = failed(code, call, &settings, &Heard::default());
        (error.recovery(), error.to_string())
    }

    #[test]
    fn a_missing_right_is_named_with_the_user_and_what_to_grant() {
        for (code, call, text) in [
            (
                Code::TopicAuthorizationFailed,
                Call::reading("tweets", "/3 at 7"),
                "the Kafka user refold may not READ topic tweets: grant READ and DESCRIBE on topic tweets",
            ),
            (
                Code::TopicAuthorizationFailed,
                Call::describing("asking for the partitions of topic tweets".to_owned(), "tweets"),
                "the Kafka user refold may not DESCRIBE topic tweets: grant DESCRIBE on topic tweets",
            ),
            (
                Code::TopicAuthorizationFailed,
                Call::appending("tweets"),
                "the Kafka user refold may not WRITE to topic tweets: grant WRITE and DESCRIBE on topic tweets",
            ),
            (
                Code::ClusterAuthorizationFailed,
                Call::appending("tweets"),
                "the Kafka user refold may not IDEMPOTENT_WRITE to the cluster, while appending to topic tweets: \
                 grant IDEMPOTENT_WRITE on the cluster",
            ),
            (
                Code::TopicAuthorizationFailed,
                Call::creating("tweets"),
                "the Kafka user refold may not CREATE topic tweets: grant CREATE and DESCRIBE on topic tweets",
            ),
            (
                Code::GroupAuthorizationFailed,
                Call::committing("refold.a.v1"),
                "the Kafka user refold may not READ group refold.a.v1: grant READ on group refold.a.v1",
            ),
        ] {
            assert_eq!(said(code, &call), (Recovery::Operator, text.to_owned()));
        }
    }

    /// Nothing but damage ends a version: whatever else brokers say, they may say something else once a person has acted.
    #[test]
    fn only_damaged_records_are_final() {
        let codes = [
            Code::UnknownTopicOrPartition,
            Code::PolicyViolation,
            Code::ThrottlingQuotaExceeded,
            Code::MessageSizeTooLarge,
            Code::InvalidConfig,
            Code::SecurityDisabled,
            Code::UnsupportedVersion,
            Code::SaslAuthenticationFailed,
            Code::KafkaStorageError,
            Code::NotLeaderForPartition,
            Code::BrokerTransportFailure,
            Code::Fail,
        ];
        for code in codes {
            for call in [Call::reading("tweets", ""), Call::appending("tweets"), Call::creating("tweets"), Call::listing()] {
                assert_ne!(said(code, &call).0, Recovery::Final, "{code} while {}", call.doing());
            }
        }
        for code in [Code::BadMessage, Code::BadCompression, Code::InvalidMessage] {
            assert_eq!(said(code, &Call::reading("tweets", "")).0, Recovery::Final, "{code}");
            assert_eq!(said(code, &Call::appending("tweets")).0, Recovery::Transient, "{code}");
        }
    }
}
