//! Making and removing topics; and how a cluster is asked for such a change.

use std::time::{Duration, Instant};

use futures::executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};
use refold_processor::log::{LogError, check_topic};

use crate::connection::Connection;
use crate::errors::{Call, failed, is_unknown, not_made};
use crate::heard::Listener;

/// Creates a topic with these settings of its own; one that is there is left as it is.
pub fn create(connection: &Connection, topic: &str, partitions: u32, config: &[(&str, &str)]) -> Result<(), LogError> {
    let settings = &connection.settings;
    let partitions = i32::try_from(partitions).map_err(|_| LogError::Refused(format!("{partitions} partitions are too many")))?;
    // Without a number of copies the cluster's default is asked for.
    let replication = TopicReplication::Fixed(settings.replication_factor.map_or(-1, i32::from));
    let new = config.iter().fold(NewTopic::new(topic, partitions, replication), |new, (name, value)| new.set(name, value));
    match change(connection, &Call::creating(topic), |admin, options| block_on(admin.create_topics([&new], options)))? {
        None | Some((RDKafkaErrorCode::TopicAlreadyExists, _)) => wait_until_led(connection, topic),
        Some((_, error)) => Err(error),
    }
}

/// Creates the topic of a feed, of one partition: compacted, and where what it has is kept for a time, old records are deleted.
pub fn create_feed(connection: &Connection, topic: &str, keep_us: Option<i64>) -> Result<(), LogError> {
    check_topic(topic, 1)?;
    match connection.partitions(topic) {
        Ok(_) => return Ok(()),
        Err(LogError::UnknownTopic(_)) => {}
        Err(error) => return Err(error),
    }
    let most_bytes = (connection.settings.max_value_bytes() + ENVELOPE_BYTES).to_string();
    let keep_ms = keep_us.map(|keep_us| (keep_us / 1_000).to_string());
    let mut config = vec![("message.timestamp.type", "LogAppendTime"), ("max.message.bytes", most_bytes.as_str())];
    match &keep_ms {
        // A row that is past keep is deleted without a word.
        Some(keep_ms) => config.extend([("cleanup.policy", "compact,delete"), ("retention.ms", keep_ms.as_str())]),
        None => config.push(("cleanup.policy", "compact")),
    }
    create(connection, topic, 1, &config)
}

/// What a record may have besides its value.
const ENVELOPE_BYTES: usize = 64 << 10;

/// Removes a topic; one that is not there is no error.
pub fn remove(connection: &Connection, topic: &str) -> Result<(), LogError> {
    connection.forget(topic);
    match change(connection, &Call::removing(topic), |admin, options| block_on(admin.delete_topics(&[topic], options)))? {
        None => Ok(()),
        Some((code, _)) if is_unknown(code) => Ok(()),
        Some((_, error)) => Err(error),
    }
}

/// How long a topic keeps its records, milliseconds; `None`: for good, or the cluster does not say.
pub fn retention_ms(connection: &Connection, topic: &str) -> Result<Option<u64>, LogError> {
    let call = Call::describing(format!("asking for the settings of topic {topic}"), topic);
    let listener = Listener::default();
    let admin: AdminClient<Listener> =
        connection.settings.asking().create_with_context(listener.clone()).map_err(|error| not_made(&error))?;
    let options = AdminOptions::new().request_timeout(Some(connection.settings.request_timeout()));
    let refused = |code| failed(code, &call, &connection.settings, &listener.heard);
    let answered = block_on(admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options));
    let described = answered.map_err(|error| refused(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)))?;
    let mut retention_ms = None;
    for resource in described {
        let resource = resource.map_err(refused)?;
        let value = |name: &str| resource.entry_map().get(name).and_then(|entry| entry.value.clone());
        // One that is only compacted keeps the newest record of each key for good.
        let deletes = value("cleanup.policy").is_none_or(|policy| policy.contains("delete"));
        // -1: for good.
        retention_ms = value("retention.ms").filter(|_| deletes).and_then(|text| text.parse().ok());
    }
    Ok(retention_ms)
}

pub(crate) type Results = KafkaResult<Vec<Result<String, (String, RDKafkaErrorCode)>>>;

/// Asks the cluster for a change of one thing. Answers `None` when it was made, else why not.
pub(crate) fn change(
    connection: &Connection,
    call: &Call<'_>,
    carry_out: impl FnOnce(&AdminClient<Listener>, &AdminOptions) -> Results,
) -> Result<Option<(RDKafkaErrorCode, LogError)>, LogError> {
    let listener = Listener::default();
    let admin = connection.settings.asking().create_with_context(listener.clone()).map_err(|error| not_made(&error))?;
    let timeout = Some(connection.settings.request_timeout());
    let code = match carry_out(&admin, &AdminOptions::new().request_timeout(timeout).operation_timeout(timeout)) {
        Ok(results) => results.into_iter().find_map(|result| result.err().map(|(_, code)| code)),
        Err(error) => Some(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)),
    };
    Ok(code.map(|code| (code, failed(code, call, &connection.settings, &listener.heard))))
}

/// Other brokers learn of a new topic a little later than the one that made it.
fn wait_until_led(connection: &Connection, topic: &str) -> Result<(), LogError> {
    let until = Instant::now() + connection.settings.request_timeout();
    while !connection.is_led(topic)? {
        if Instant::now() >= until {
            return Err(LogError::Unavailable(format!("topic {topic} was created, but has partitions without a leader")));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
