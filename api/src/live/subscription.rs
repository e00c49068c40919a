//! One subscription of a socket.

use std::sync::Arc;

use refold_processor::position::{Cut, Offset, Partition};
use refold_processor::table::{Epoch, Version};
use serde_json::Value;
use tokio::sync::Notify;

use super::Live;
use super::topic::{At, Topic};
use crate::problem::Problem;

/// What a follower has already that returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct After {
    /// The version.
    pub version: Version,
    /// The owner that the rows were of, if it says.
    pub epoch: Option<Epoch>,
    /// Everything up to these positions.
    pub positions: Cut,
}

impl After {
    /// Reads what the last message has said: `version`, `positions`, and `epoch` if it is there.
    pub fn of(value: &Value) -> Option<After> {
        let number = |name: &str| value.get(name).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok());
        let position = |(partition, offset): (&String, &Value)| Some((Partition(partition.parse().ok()?), Offset(offset.as_u64()?)));
        let positions = value.get("positions")?.as_object()?.iter().map(position).collect::<Option<Cut>>()?;
        Some(After { version: Version(number("version")?), epoch: number("epoch").map(Epoch), positions })
    }
}

/// What is to be sent now.
pub enum Due {
    /// This message.
    Message(String),
    /// That the subscription is over.
    Refused(Problem),
    /// Nothing.
    Nothing,
}

/// A subscription; it ends when it is dropped.
pub struct Subscription {
    /// The client's name for it.
    pub id: String,
    topic: Arc<Topic>,
    number: u64,
    at: At,
}

impl Subscription {
    /// Subscribes to a partition, which `parameters` name as in a query. `wake` is told when something is due.
    pub fn begin(
        live: &Arc<Live>,
        id: String,
        (view, parameters): (&str, &[(String, String)]),
        after: Option<After>,
        wake: &Arc<Notify>,
    ) -> Subscription {
        let (topic, number) = live.topics.join(live, view, parameters, wake);
        Subscription { id, topic, number, at: after.map_or(At::Fresh(false), At::Returned) }
    }

    /// What is due.
    pub fn due(&mut self) -> Due {
        match self.topic.next(&mut self.at) {
            Ok(Some((kind, tail))) => {
                let id = Value::from(self.id.as_str()).to_string();
                let mut message = String::with_capacity(tail.len() + id.len() + 32);
                for part in ["{\"type\":\"", kind, "\",\"id\":", &id, ",", &tail] {
                    message.push_str(part);
                }
                Due::Message(message)
            }
            Ok(None) => Due::Nothing,
            Err(problem) => Due::Refused(problem),
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.topic.remove(self.number);
    }
}
