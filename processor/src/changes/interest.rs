//! The partitions of a table that have followers.

use std::collections::HashMap;

use parking_lot::RwLock;
use serde_json::Value;

/// Followed partitions with their number of followers, shared by the followers and the change feed.
#[derive(Debug, Default)]
pub struct Interest(RwLock<HashMap<String, usize>>);

impl Interest {
    /// The name of the partition with these key values.
    pub fn name(partition: &[Value]) -> String {
        partition.iter().map(|value| value.to_string() + "\u{1f}").collect()
    }

    /// Adds a follower.
    pub fn add(&self, name: &str) {
        *self.0.write().entry(name.to_owned()).or_default() += 1;
    }

    /// Removes a follower.
    pub fn remove(&self, name: &str) {
        let mut followed = self.0.write();
        if let Some(count) = followed.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                followed.remove(name);
            }
        }
    }

    /// Whether there are no followers.
    pub fn is_empty(&self) -> bool {
        self.0.read().is_empty()
    }

    /// Whether a partition is followed.
    pub fn has(&self, partition: &[Value]) -> bool {
        self.0.read().contains_key(&Interest::name(partition))
    }
}
