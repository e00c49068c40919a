//! Positions as consumer groups have them, for tools that watch lag. Nobody reads them back.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use refold_processor::log::LogError;
use refold_processor::position::Cut;

use crate::bootstrap::begin_again;
use crate::connection::Connection;
use crate::errors::{Call, failed, not_made};
use crate::heard::Listener;
use crate::settings::KafkaSettings;
use crate::topics::change;

/// A group that was not published for so long has ended, or is another process's by now.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// The groups that this process publishes. A client of Kafka is of one group, so each has one of its own.
#[derive(Default)]
pub struct Groups(Mutex<HashMap<String, Group>>);

struct Group {
    client: BaseConsumer<Listener>,
    published: Cut,
    used_at: Instant,
}

impl Groups {
    /// Publishes positions, without waiting for the answer.
    pub fn publish(&self, settings: &KafkaSettings, group: &str, topic: &str, positions: &Cut) -> Result<(), LogError> {
        let mut groups = self.0.lock();
        let now = Instant::now();
        let is_old = |name: &String, kept: &mut Group| name != group && now.duration_since(kept.used_at) >= KEPT_FOR;
        let old: Vec<_> = groups.extract_if(is_old).collect();
        if !old.is_empty() {
            // A client of a group whose coordinator is unavailable takes its time to end.
            let _ = std::thread::Builder::new().name("end-groups".to_owned()).spawn(move || drop(old));
        }
        if !groups.contains_key(group) {
            let client = settings.committing(group).create_with_context(Listener::default()).map_err(|error| not_made(&error))?;
            groups.insert(group.to_owned(), Group { client, published: Cut::default(), used_at: now });
        }
        let Some(kept) = groups.get_mut(group) else { return Ok(()) };
        kept.used_at = now;
        // Answers of earlier ones are taken, so that they do not pile up.
        let _ = kept.client.poll(Duration::ZERO);
        // It may have no broker left. To ask would hold up whoever publishes.
        let heard = &kept.client.context().heard;
        if heard.take_doubt() && !begin_again(kept.client.client(), settings) {
            heard.doubt();
        }
        if kept.published == *positions {
            return Ok(());
        }
        let mut offsets = TopicPartitionList::new();
        for (partition, position) in positions.iter() {
            let (Ok(partition), Ok(position)) = (i32::try_from(partition.0), i64::try_from(position.0)) else { continue };
            let _ = offsets.add_partition_offset(topic, partition, Offset::Offset(position));
        }
        let committed = kept.client.commit(&offsets, CommitMode::Async);
        committed.map_err(|error| {
            let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
            failed(code, &Call::committing(group), settings, &kept.client.context().heard)
        })?;
        kept.published = positions.clone();
        Ok(())
    }

    /// Removes a group, which nobody publishes any more; one that is not there is no error.
    pub fn remove(&self, connection: &Connection, group: &str) -> Result<(), LogError> {
        // First, since what it has still to send would make the group anew.
        let kept = self.0.lock().remove(group);
        drop(kept);
        match change(connection, &Call::removing_group(group), |admin, options| block_on(admin.delete_groups(&[group], options)))? {
            None | Some((RDKafkaErrorCode::GroupIdNotFound, _)) => Ok(()),
            Some((_, error)) => Err(error),
        }
    }
}
