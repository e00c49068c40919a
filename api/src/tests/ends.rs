//! How often logs are asked where they end.

use std::collections::BTreeMap;

use refold_processor::log::{Bounds, LogError, LogReader, Retained};

use super::*;

/// A log whose topic has so many partitions, and that counts questions.
struct Large {
    partitions: u32,
    by_topic: AtomicUsize,
    by_partition: AtomicUsize,
}

impl Large {
    fn of(partitions: u32) -> Arc<Large> {
        Arc::new(Large { partitions, by_topic: AtomicUsize::new(0), by_partition: AtomicUsize::new(0) })
    }
}

impl Log for Large {
    fn id(&self) -> Result<String, LogError> {
        Ok("large".into())
    }

    fn create_topic(&self, _: &str, _: u32) -> Result<(), LogError> {
        Ok(())
    }

    fn topics(&self) -> Result<Vec<String>, LogError> {
        Ok(vec!["tweet_feed".into()])
    }

    fn partitions(&self, _: &str) -> Result<Vec<Partition>, LogError> {
        Ok((0..self.partitions).map(Partition).collect())
    }

    fn bounds(&self, _: &str, _: Partition) -> Result<Bounds, LogError> {
        self.by_partition.fetch_add(1, Ordering::SeqCst);
        Ok(Bounds { start: Offset(0), end: Offset(7) })
    }

    fn topic_bounds(&self, _: &str) -> Result<BTreeMap<Partition, Bounds>, LogError> {
        self.by_topic.fetch_add(1, Ordering::SeqCst);
        Ok((0..self.partitions).map(|partition| (Partition(partition), Bounds { start: Offset(0), end: Offset(7) })).collect())
    }

    fn retained(&self, _: &str) -> Result<Retained, LogError> {
        Ok(Retained::default())
    }

    fn append(&self, _: &str, _: Vec<NewRecord>) -> Result<Vec<(Partition, Offset)>, LogError> {
        Err(LogError::Unavailable("it only counts".into()))
    }

    fn reader(&self, _: &str, _: &Cut) -> Result<Box<dyn LogReader>, LogError> {
        Err(LogError::Unavailable("it only counts".into()))
    }
}

#[tokio::test]
async fn the_ends_of_a_topic_are_one_question_and_those_of_a_large_one_are_asked_for_less_often() {
    for (partitions, questions) in [(2, 3), (300, 1)] {
        let log = Large::of(partitions);
        let world = world_with(open(), |ports| ports.log = log.clone());
        (0..3).for_each(|_| drop(world.state.watch.ends.look()));
        let asked = [&log.by_topic, &log.by_partition].map(|count| count.load(Ordering::SeqCst));
        assert_eq!(asked, [questions, 0], "{partitions} partitions");
        let ends = world.state.watch.ends.of("tweet_feed");
        assert_eq!((ends.len(), ends.get(&Partition(1))), (partitions as usize, Some(&Offset(7))));
    }
}
