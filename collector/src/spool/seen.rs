//! The ids of the newest messages: what a source sends again after a reconnect is known by them.

use std::collections::{HashSet, VecDeque};

/// The last so many ids.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    most: usize,
    order: VecDeque<u128>,
    ids: HashSet<u128>,
}

impl Seen {
    pub fn new(most: usize) -> Seen {
        Seen { most: most.max(1), order: VecDeque::new(), ids: HashSet::new() }
    }

    pub fn contains(&self, id: u128) -> bool {
        self.ids.contains(&id)
    }

    /// Notes an id, and forgets the oldest one past the bound.
    pub fn insert(&mut self, id: u128) {
        if !self.ids.insert(id) {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }

    /// From the oldest.
    pub fn ids(&self) -> Vec<u128> {
        self.order.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_known_and_the_oldest_forgotten() {
        let mut seen = Seen::new(3);
        for id in [1, 2, 3, 2, 4] {
            seen.insert(id);
        }
        assert_eq!(seen.ids(), [2, 3, 4]);
        assert!(seen.contains(2) && !seen.contains(1));
    }
}
