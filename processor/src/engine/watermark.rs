//! Event-time progress of partitions, and what follows from it for a version.
//!
//! Pure: what counts as idle is told by the injected clock, and it decides only *when* a row is written and a window dropped.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::log::{RecordSpan, Records};
use crate::position::{Offset, Partition};

/// How far a partition is in event time, and by which record. Part of the committed state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionTime {
    /// The largest event time accepted so far, each taken for no later than its record time, microseconds since the Unix epoch: what decides which
    /// events are too late, and the watermark. One producer with a fast clock must not make those of others too late.
    pub max_us: Option<i64>,
    /// The largest event time accepted so far as it was, if it was ahead of its record time.
    #[serde(default)]
    pub ahead_us: Option<i64>,
    /// The last record that was read.
    #[serde(default)]
    pub last: Option<LastRecord>,
}

impl PartitionTime {
    /// Notes an accepted event. `record_time_us`: when the log took it.
    pub fn accept(&mut self, event_us: i64, record_time_us: i64) {
        self.max_us = self.max_us.max(Some(event_us.min(record_time_us)));
        if event_us > record_time_us {
            self.ahead_us = self.ahead_us.max(Some(event_us));
        }
    }

    /// The largest event time accepted so far, whenever it was taken.
    pub fn latest_us(&self) -> Option<i64> {
        self.max_us.max(self.ahead_us)
    }
}

/// A record that was read, to be known again: a log that has another one in its place is another log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRecord {
    /// Where it is.
    pub offset: Offset,
    /// The XXH3 of its value and its record time.
    pub digest: u64,
}

impl LastRecord {
    /// The record of this span.
    pub fn of(records: &Records, span: &RecordSpan) -> LastRecord {
        let digest = xxh3_64_with_seed(records.value(span).unwrap_or_default(), span.record_time_ms as u64);
        LastRecord { offset: span.offset, digest }
    }
}

/// When a partition was last seen to move.
#[derive(Clone, Copy, Debug)]
struct Activity {
    moved_ms: i64,
    at_end: bool,
    /// Since when it has been found at its end again and again.
    quiet_since_ms: i64,
    /// When it was last found there.
    confirmed_ms: i64,
}

impl Activity {
    fn moved(now_ms: i64, at_end: bool) -> Activity {
        Activity { moved_ms: now_ms, at_end, quiet_since_ms: now_ms, confirmed_ms: now_ms }
    }

    /// It was found read to its end. Whoever did not look for long does not know whether it was quiet meanwhile.
    fn confirm(&mut self, now_ms: i64) {
        if !self.at_end || now_ms.saturating_sub(self.confirmed_ms) > MOST_UNSEEN_MS {
            self.quiet_since_ms = now_ms;
        }
        self.at_end = true;
        self.confirmed_ms = now_ms;
    }

    /// For how long it is known to have been read to its end without anything new.
    fn known_quiet_ms(&self) -> i64 {
        if self.at_end { self.confirmed_ms.saturating_sub(self.quiet_since_ms) } else { 0 }
    }
}

/// A partition that was not looked at for longer, because its reader or the whole process stood still or its leader was unavailable, has to be quiet
/// for the whole time again before its state is dropped.
const MOST_UNSEEN_MS: i64 = 10 * 60_000;

/// The event-time progress of all partitions of a version.
#[derive(Clone, Debug, Default)]
pub struct Times {
    times: BTreeMap<Partition, PartitionTime>,
    activity: BTreeMap<Partition, Activity>,
}

/// How long a partition that is read to its end may be quiet before it stops counting, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Quiet {
    /// For the watermark: it only delays rows.
    pub idle_after_ms: i64,
    /// For dropping state: an event that comes later still is quarantined, so this is long.
    pub idle_drop_after_ms: i64,
}

impl Times {
    /// Progress as it was committed; every partition counts as active from now on.
    pub fn restore(partitions: &[Partition], committed: BTreeMap<Partition, PartitionTime>, now_ms: i64) -> Times {
        let mut times = Times { times: committed, activity: BTreeMap::new() };
        for partition in partitions {
            times.times.entry(*partition).or_default();
        }
        times.activity = times.times.keys().map(|partition| (*partition, Activity::moved(now_ms, false))).collect();
        times
    }

    /// The progress of a partition.
    pub fn get(&self, partition: Partition) -> PartitionTime {
        self.times.get(&partition).copied().unwrap_or_default()
    }

    /// The progress of all partitions, to be committed.
    pub fn all(&self) -> &BTreeMap<Partition, PartitionTime> {
        &self.times
    }

    /// A partition moved; `at_end` tells whether it is read to its end.
    pub fn moved(&mut self, partition: Partition, time: PartitionTime, at_end: bool, now_ms: i64) {
        self.times.insert(partition, time);
        self.activity.insert(partition, Activity::moved(now_ms, at_end));
    }

    /// A partition was found read to its end, with nothing new. To be called again and again while it is so: a partition counts as quiet as far
    /// as that is known.
    pub fn at_end(&mut self, partition: Partition, now_ms: i64) {
        self.times.entry(partition).or_default();
        self.activity.entry(partition).or_insert(Activity::moved(now_ms, false)).confirm(now_ms);
    }

    /// The version's watermark: the least of its partitions' largest event times less `lateness_us`. Quiet partitions, and those
    /// without any event, do not hold it back once they are read to their end.
    pub fn watermark_us(&self, lateness_us: i64, quiet: Quiet, now_ms: i64) -> Option<i64> {
        let counts = |time: &PartitionTime, activity: &Activity| {
            !activity.at_end || (time.max_us.is_some() && now_ms - activity.moved_ms < quiet.idle_after_ms)
        };
        match self.least(counts) {
            Least::NoneCounts => self.greatest().map(|time| time.saturating_sub(lateness_us)),
            Least::Unknown => None,
            Least::At(time) => Some(time.saturating_sub(lateness_us)),
        }
    }

    /// How long it is until the watermark can move although nothing is read: until the next partition is quiet for long enough, milliseconds. `None`: it cannot.
    pub fn quiet_in_ms(&self, quiet: Quiet, now_ms: i64) -> Option<i64> {
        let left_ms =
            self.activity.values().filter(|activity| activity.at_end).map(|activity| activity.moved_ms + quiet.idle_after_ms - now_ms);
        left_ms.filter(|left_ms| *left_ms > 0).min()
    }

    /// The event time that every partition is past by `accept_late_us`: windows that end at or before it take no more events.
    pub fn drop_horizon_us(&self, accept_late_us: i64, quiet: Quiet) -> Option<i64> {
        let counts = |_: &PartitionTime, activity: &Activity| activity.known_quiet_ms() < quiet.idle_drop_after_ms;
        match self.least(counts) {
            Least::NoneCounts | Least::Unknown => None,
            Least::At(time) => Some(time.saturating_sub(accept_late_us)),
        }
    }

    fn least(&self, counts: impl Fn(&PartitionTime, &Activity) -> bool) -> Least {
        let mut least = Least::NoneCounts;
        for (partition, time) in &self.times {
            let Some(activity) = self.activity.get(partition) else { return Least::Unknown };
            if !counts(time, activity) {
                continue;
            }
            let Some(max_us) = time.max_us else { return Least::Unknown };
            least = match least {
                Least::At(so_far) => Least::At(so_far.min(max_us)),
                _ => Least::At(max_us),
            };
        }
        least
    }

    fn greatest(&self) -> Option<i64> {
        self.times.values().filter_map(|time| time.max_us).max()
    }
}

enum Least {
    /// No partition counts.
    NoneCounts,
    /// A partition that counts has no event yet.
    Unknown,
    At(i64),
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Quiet = Quiet { idle_after_ms: 100, idle_drop_after_ms: 1_000 };

    fn at(max_us: i64) -> PartitionTime {
        PartitionTime { max_us: Some(max_us), ..PartitionTime::default() }
    }

    #[test]
    fn the_slowest_partition_holds_the_watermark_until_it_is_idle() {
        let mut times = Times::restore(&[Partition(0), Partition(1)], BTreeMap::new(), 0);
        assert_eq!(times.watermark_us(5, QUIET, 0), None, "a partition that is not read yet holds it back");
        times.moved(Partition(0), at(1_000), true, 10);
        assert_eq!(times.watermark_us(5, QUIET, 10), None);
        times.at_end(Partition(1), 10);
        assert_eq!(times.watermark_us(5, QUIET, 10), Some(995), "an empty partition does not");
        times.moved(Partition(1), at(400), true, 20);
        assert_eq!(times.watermark_us(5, QUIET, 119), Some(395));
        times.moved(Partition(0), at(2_000), true, 119);
        assert_eq!(times.quiet_in_ms(QUIET, 119), Some(1));
        assert_eq!(times.watermark_us(5, QUIET, 120), Some(1_995), "partition 1 is idle by now");
        assert_eq!(times.watermark_us(5, QUIET, 500), Some(1_995), "all idle: the farthest one decides");
        assert_eq!(times.quiet_in_ms(QUIET, 500), None);
    }

    #[test]
    fn an_idle_partition_that_is_not_at_its_end_still_counts() {
        let mut times = Times::restore(&[Partition(0), Partition(1)], BTreeMap::new(), 0);
        times.moved(Partition(0), at(1_000), true, 0);
        times.moved(Partition(1), at(10), false, 0);
        assert_eq!(times.watermark_us(0, QUIET, 10_000), Some(10));
    }

    #[test]
    fn state_is_dropped_only_behind_every_partition_that_was_not_quiet_for_long() {
        let mut times = Times::restore(&[Partition(0), Partition(1)], BTreeMap::new(), 0);
        times.moved(Partition(0), at(1_000), true, 0);
        times.at_end(Partition(1), 0);
        times.at_end(Partition(1), 500);
        assert_eq!(times.drop_horizon_us(100, QUIET), None, "partition 1 may still bring old events");
        times.moved(Partition(0), at(1_200), true, 999);
        times.at_end(Partition(1), 1_000);
        assert_eq!(times.drop_horizon_us(100, QUIET), Some(1_100));
    }

    #[test]
    fn a_partition_that_was_not_looked_at_is_not_quiet() {
        let quiet = Quiet { idle_after_ms: 100, idle_drop_after_ms: 24 * 3_600_000 };
        let day_ms = 24 * 3_600_000;
        let mut times = Times::restore(&[Partition(0), Partition(1)], BTreeMap::new(), 0);
        times.moved(Partition(0), at(1_000), true, 0);
        times.moved(Partition(1), at(900), true, 0);
        times.at_end(Partition(1), 1_000);
        // The process was suspended for a day; partition 0 is the first that is read, of partition 1 nothing is known.
        times.moved(Partition(0), at(9_000), true, day_ms + 1_000);
        assert_eq!(times.drop_horizon_us(0, quiet), Some(900));
        // It is found at its end: that says nothing of the day before.
        times.at_end(Partition(1), day_ms + 2_000);
        times.moved(Partition(0), at(9_100), true, day_ms + 3_000);
        assert_eq!(times.drop_horizon_us(0, quiet), Some(900));
        let mut now_ms = day_ms + 2_000;
        while now_ms < 2 * day_ms + 2_000 {
            now_ms += 60_000;
            times.at_end(Partition(1), now_ms);
        }
        times.moved(Partition(0), at(9_200), true, now_ms);
        assert_eq!(times.drop_horizon_us(0, quiet), Some(9_200), "now it was looked at for a day");
    }

    #[test]
    fn a_fast_clock_moves_a_partition_no_further_than_the_log_has_come() {
        let mut time = PartitionTime::default();
        time.accept(1_000, 5_000);
        time.accept(9_000, 6_000);
        assert_eq!((time.max_us, time.latest_us()), (Some(6_000), Some(9_000)));
        time.accept(7_000, 7_500);
        assert_eq!((time.max_us, time.latest_us()), (Some(7_000), Some(9_000)));
    }
}
