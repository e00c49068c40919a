//! What a version keeps of the events that it did not apply: the layout of the quarantine, its bounds, and reading it while the version runs.
//!
//! | | |
//! |---|---|
//! | key | partition, 4 bytes, and offset, 8 bytes, big endian: in log order |
//! | value | the length of the verdict, 4 bytes, big endian; the verdict as JSON; the first bytes of the record |

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use super::error::EngineError;
use crate::position::{Offset, Partition};
use crate::quarantine::{Reason, Rejected};
use crate::state::{Batch, Space, StateReader};

/// How many events one read looks at, whatever it is asked for: so that a filter which nothing passes ends too.
const MAX_VISITED: usize = 20_000;
/// A read ends with the event that makes what it has looked at this many bytes.
const MAX_READ_BYTES: usize = 16 << 20;

/// A quarantined event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// The partition.
    pub partition: Partition,
    /// Where in it, and why it is here.
    pub rejected: Rejected,
    /// When the log took it, milliseconds since the Unix epoch; `None` where it was not kept.
    pub record_time_ms: Option<i64>,
    /// The length of the record's value in bytes; `None`: it has no value.
    pub value_bytes: Option<u64>,
    /// The first bytes of the value.
    pub value: Vec<u8>,
}

impl Quarantined {
    /// Whether all of the record's value is kept.
    pub fn is_whole(&self) -> bool {
        self.value_bytes == Some(self.value.len() as u64)
    }

    /// The key and the value that it is stored as. At most `max_bytes` of the record are kept.
    pub fn encode(
        partition: Partition,
        rejected: &Rejected,
        record_time_ms: Option<i64>,
        record: Option<&[u8]>,
        max_bytes: usize,
    ) -> Result<([u8; 12], Vec<u8>), EngineError> {
        let verdict = Verdict { rejected: rejected.clone(), record_time_ms, value_bytes: record.map(|record| record.len() as u64) };
        let verdict = serde_json::to_vec(&verdict).map_err(|error| EngineError::Internal(error.to_string()))?;
        let record = record.unwrap_or_default();
        let mut value = (verdict.len() as u32).to_be_bytes().to_vec();
        value.extend_from_slice(&verdict);
        value.extend_from_slice(record.get(..max_bytes).unwrap_or(record));
        Ok((key(partition, rejected.offset), value))
    }

    /// What is stored under a key.
    pub fn decode(key: &[u8], value: &[u8]) -> Result<Quarantined, EngineError> {
        let invalid = || EngineError::Internal(format!("what is stored of quarantined event {key:?} is not valid"));
        let (partition, _) = key.split_first_chunk::<4>().ok_or_else(invalid)?;
        let (length, rest) = value.split_first_chunk::<4>().ok_or_else(invalid)?;
        let (verdict, record) = rest.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or_else(invalid)?;
        let Verdict { rejected, record_time_ms, value_bytes } = serde_json::from_slice(verdict).map_err(|_| invalid())?;
        let partition = Partition(u32::from_be_bytes(*partition));
        Ok(Quarantined { partition, rejected, record_time_ms, value_bytes, value: record.to_vec() })
    }
}

#[derive(Serialize, Deserialize)]
struct Verdict {
    #[serde(flatten)]
    rejected: Rejected,
    #[serde(default)]
    record_time_ms: Option<i64>,
    #[serde(default)]
    value_bytes: Option<u64>,
}

fn key(partition: Partition, offset: Offset) -> [u8; 12] {
    let mut key = [0; 12];
    let (first, second) = key.split_at_mut(4);
    first.copy_from_slice(&partition.0.to_be_bytes());
    second.copy_from_slice(&offset.0.to_be_bytes());
    key
}

/// How much a version keeps of quarantined events. Whoever may post can fill the quarantine, so it has a bound: the counts by reason stay exact.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Events.
    pub events: u64,
    /// Bytes of what is kept of them.
    pub bytes: u64,
}

impl Default for Limits {
    /// Enough to see what is wrong with a source, and to post again what was refused by mistake.
    fn default() -> Self {
        Limits { events: 100_000, bytes: 64 << 20 }
    }
}

/// What is kept of quarantined events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Events that are not kept any more, or never were.
    pub let_go: u64,
    /// What is kept, by partition; `None`: a release wrote this that did not count it.
    partitions: Option<BTreeMap<Partition, Share>>,
}

/// What is kept of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Share {
    events: u64,
    bytes: u64,
    /// Nothing before this offset is kept.
    from: Offset,
}

impl Share {
    fn add(&mut self, bytes: usize) {
        self.events += 1;
        self.bytes += bytes as u64;
    }
}

/// Keeps quarantined events within bounds: those let go are the oldest, of the partition that has most.
pub struct Keeper {
    limits: Limits,
    pending: VecDeque<([u8; 12], Vec<u8>)>,
    pending_bytes: u64,
}

/// When there are too many, this part of the bound is made room for, so that not every commit has to look for the oldest.
const ROOM: u64 = 16;

impl Keeper {
    /// A keeper without events.
    pub fn new(limits: Limits) -> Keeper {
        Keeper { limits, pending: VecDeque::new(), pending_bytes: 0 }
    }

    /// Takes an event, to be kept with the next commit.
    pub fn add(&mut self, (key, value): ([u8; 12], Vec<u8>), kept: &mut Kept) {
        self.pending_bytes += value.len() as u64;
        self.pending.push_back((key, value));
        while self.pending.len() as u64 > self.limits.events || self.pending_bytes > self.limits.bytes {
            let Some((_, value)) = self.pending.pop_front() else { return };
            self.pending_bytes -= value.len() as u64;
            kept.let_go += 1;
        }
    }

    /// Puts what was taken into a batch, and takes the oldest out of it that are too many then.
    pub fn put(&mut self, batch: &mut Batch, state: &dyn StateReader, kept: &mut Kept) -> Result<(), EngineError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut shares = match kept.partitions.take() {
            Some(shares) => shares,
            None => counted(state)?,
        };
        self.make_room(batch, state, &mut shares, &mut kept.let_go)?;
        for (key, value) in self.pending.drain(..) {
            shares.entry(partition_of(&key)).or_default().add(value.len());
            batch.put(Space::Quarantine, &key, &value);
        }
        self.pending_bytes = 0;
        kept.partitions = Some(shares);
        Ok(())
    }

    fn make_room(
        &self,
        batch: &mut Batch,
        state: &dyn StateReader,
        shares: &mut BTreeMap<Partition, Share>,
        let_go: &mut u64,
    ) -> Result<(), EngineError> {
        let events = self.pending.len() as u64 + shares.values().map(|share| share.events).sum::<u64>();
        let bytes = self.pending_bytes + shares.values().map(|share| share.bytes).sum::<u64>();
        let Limits { events: most_events, bytes: most_bytes } = self.limits;
        if events <= most_events && bytes <= most_bytes {
            return Ok(());
        }
        let over = |had: u64, most: u64| if had > most { had - most + most / ROOM } else { 0 };
        let (mut events, mut bytes) = (over(events, most_events), over(bytes, most_bytes));
        while events > 0 || bytes > 0 {
            // Each look takes the largest partition down to the size of the next, or as far as it takes.
            let mut sizes: Vec<(u64, Partition)> = shares.iter().map(|(partition, share)| (share.bytes, *partition)).collect();
            sizes.sort_unstable();
            let Some((size, partition)) = sizes.pop().filter(|(size, _)| *size > 0) else { return Ok(()) };
            let down_to = sizes.last().map_or(0, |(size, _)| *size).min(size - 1 - size / 8);
            let Some(share) = shares.get_mut(&partition) else { return Ok(()) };
            let before = *share;
            state.scan(Space::Quarantine, &key(partition, before.from), None, &mut |found, value| {
                let is_enough = (events == 0 && bytes == 0) || share.bytes <= down_to;
                if is_enough || partition_of(found) != partition {
                    return false;
                }
                batch.delete(Space::Quarantine, found);
                share.events = share.events.saturating_sub(1);
                share.bytes = share.bytes.saturating_sub(value.len() as u64);
                share.from = offset_of(found).next();
                (events, bytes) = (events.saturating_sub(1), bytes.saturating_sub(value.len() as u64));
                *let_go += 1;
                true
            })?;
            if *share == before {
                // Less is there than was counted.
                shares.remove(&partition);
            }
        }
        Ok(())
    }
}

/// What is kept, looked at one by one.
fn counted(state: &dyn StateReader) -> Result<BTreeMap<Partition, Share>, EngineError> {
    let mut shares: BTreeMap<Partition, Share> = BTreeMap::new();
    state.scan(Space::Quarantine, &[], None, &mut |key, value| {
        shares.entry(partition_of(key)).or_default().add(value.len());
        true
    })?;
    Ok(shares)
}

fn partition_of(key: &[u8]) -> Partition {
    Partition(key.first_chunk().copied().map(u32::from_be_bytes).unwrap_or_default())
}

fn offset_of(key: &[u8]) -> Offset {
    Offset(key.last_chunk().copied().map(u64::from_be_bytes).unwrap_or_default())
}

/// Which quarantined events are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// From this one on, in the order of partitions and offsets.
    pub from: (Partition, Offset),
    /// With this reason; `None`: with any.
    pub reason: Option<Reason>,
    /// At most so many.
    pub limit: usize,
}

/// Some quarantined events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The events, in the order of partitions and offsets.
    pub events: Vec<Quarantined>,
    /// Where to read on; `None`: there are no more.
    pub next: Option<(Partition, Offset)>,
}

/// Reads quarantined events. It may return fewer than are wanted although there are more.
///
/// # Errors
/// When the state cannot be read, or holds what is no quarantined event.
pub fn read(state: &dyn StateReader, wanted: &Wanted) -> Result<Page, EngineError> {
    let mut page = Page::default();
    let (mut visited, mut bytes, mut failed) = (0, 0, None);
    let from = key(wanted.from.0, wanted.from.1);
    state.scan(Space::Quarantine, &from, None, &mut |key, value| {
        let event = match Quarantined::decode(key, value) {
            Ok(event) => event,
            Err(error) => {
                failed = Some(error);
                return false;
            }
        };
        if visited >= MAX_VISITED || bytes >= MAX_READ_BYTES || page.events.len() >= wanted.limit {
            page.next = Some((event.partition, event.rejected.offset));
            return false;
        }
        visited += 1;
        bytes += value.len();
        if wanted.reason.is_none_or(|reason| reason == event.rejected.reason) {
            page.events.push(event);
        }
        true
    })?;
    failed.map_or(Ok(page), Err)
}

/// A version's state, lent to readers for as long as the version runs. Closing it waits for those that are reading, so that the state is
/// not open any more when the next owner opens it.
#[derive(Clone)]
pub struct Lent(Arc<RwLock<Option<Arc<dyn StateReader>>>>);

impl Lent {
    /// Lends a state.
    pub fn new(state: Arc<dyn StateReader>) -> Lent {
        Lent(Arc::new(RwLock::new(Some(state))))
    }

    /// Reads quarantined events; `None` when the state is closed.
    ///
    /// # Errors
    /// Those of [`read`].
    pub fn quarantined(&self, wanted: &Wanted) -> Result<Option<Page>, EngineError> {
        let held = self.0.read();
        held.as_ref().map(|state| read(state.as_ref(), wanted)).transpose()
    }

    /// The size of the state, bytes; 0 when it is closed.
    pub fn size(&self) -> u64 {
        self.0.read().as_ref().map_or(0, |state| state.size())
    }

    /// Ends the loan.
    pub fn close(&self) {
        *self.0.write() = None;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

    use super::*;
    use crate::state::memory::MemoryState;
    use crate::state::{Lookup, State};

    fn rejected(offset: u64, reason: Reason) -> Rejected {
        Rejected { offset: Offset(offset), reason, detail: format!("event {offset} – \"bad\"") }
    }

    fn state(events: &[(u32, u64, Reason)]) -> MemoryState {
        let state = MemoryState::default();
        let mut batch = Batch::default();
        for (partition, offset, reason) in events {
            let verdict = rejected(*offset, *reason);
            let (key, value) = Quarantined::encode(Partition(*partition), &verdict, Some(7), Some(b"record"), 100).unwrap();
            batch.put(Space::Quarantine, &key, &value);
        }
        state.commit(&batch).unwrap();
        state
    }

    fn places(page: &Page) -> Vec<(u32, u64)> {
        page.events.iter().map(|event| (event.partition.0, event.rejected.offset.0)).collect()
    }

    const FIRST: Wanted = Wanted { from: (Partition(0), Offset(0)), reason: None, limit: 100 };

    #[test]
    fn what_is_kept_is_read_back() {
        let verdict = rejected(u64::MAX, Reason::TooLate);
        for (record, max_bytes, kept, is_whole) in [
            (Some(&b"record"[..]), 6, &b"record"[..], true),
            (Some(b"record"), 3, b"rec", false),
            (Some(b""), 3, b"", true),
            (None, 3, b"", false),
        ] {
            let (key, value) = Quarantined::encode(Partition(9), &verdict, Some(-5), record, max_bytes).unwrap();
            let event = Quarantined::decode(&key, &value).unwrap();
            assert_eq!((event.partition, &event.rejected, event.record_time_ms), (Partition(9), &verdict, Some(-5)));
            assert_eq!((event.value_bytes, &event.value[..], event.is_whole()), (record.map(|record| record.len() as u64), kept, is_whole));
        }
    }

    #[test]
    fn what_was_kept_before_record_times_were_is_read_too() {
        let verdict = serde_json::to_vec(&rejected(3, Reason::Truncated)).unwrap();
        let value = [&(verdict.len() as u32).to_be_bytes()[..], &verdict, b"record"].concat();
        let event = Quarantined::decode(&key(Partition(1), Offset(3)), &value).unwrap();
        assert_eq!((event.rejected, event.record_time_ms, event.value_bytes), (rejected(3, Reason::Truncated), None, None));
        assert_eq!(event.value, b"record");
    }

    #[test]
    fn what_is_no_quarantined_event_is_an_error() {
        for value in [&b""[..], b"\0\0\0", b"\0\0\0\x09{}", b"\0\0\0\x02{}"] {
            assert!(Quarantined::decode(&key(Partition(0), Offset(0)), value).is_err(), "{value:?}");
        }
        assert!(Quarantined::decode(b"key", b"\0\0\0\x02{}").is_err());
    }

    #[test]
    fn pages_follow_each_other_in_log_order() {
        let state = state(&[(1, 2, Reason::TooLate), (0, 300, Reason::Truncated), (0, 5, Reason::TooLate), (2, 0, Reason::TooLate)]);
        let first = read(&state, &Wanted { limit: 3, ..FIRST }).unwrap();
        assert_eq!((places(&first), first.next), (vec![(0, 5), (0, 300), (1, 2)], Some((Partition(2), Offset(0)))));
        let second = read(&state, &Wanted { from: first.next.unwrap(), limit: 3, ..FIRST }).unwrap();
        assert_eq!((places(&second), second.next), (vec![(2, 0)], None));
        let late = read(&state, &Wanted { reason: Some(Reason::TooLate), ..FIRST }).unwrap();
        assert_eq!((places(&late), late.next), (vec![(0, 5), (1, 2), (2, 0)], None));
    }

    #[test]
    fn a_filter_that_nothing_passes_ends_after_a_while() {
        let events: Vec<(u32, u64, Reason)> = (0..MAX_VISITED as u64 + 5).map(|offset| (0, offset, Reason::TooLate)).collect();
        let state = state(&events);
        let wanted = Wanted { reason: Some(Reason::Tombstone), ..FIRST };
        let first = read(&state, &wanted).unwrap();
        assert_eq!((first.events.len(), first.next), (0, Some((Partition(0), Offset(MAX_VISITED as u64)))));
        assert_eq!(read(&state, &Wanted { from: first.next.unwrap(), ..wanted }).unwrap(), Page::default());
    }

    /// Commits so many events of `bytes` each, from `first` on, in one batch.
    fn keep(state: &MemoryState, keeper: &mut Keeper, kept: &mut Kept, partition: u32, offsets: std::ops::Range<u64>, bytes: usize) {
        let mut batch = Batch::default();
        for offset in offsets {
            keeper.add((key(Partition(partition), Offset(offset)), vec![7; bytes]), kept);
        }
        keeper.put(&mut batch, state, kept).unwrap();
        state.commit(&batch).unwrap();
    }

    /// Partition, offset and bytes of what is kept.
    fn stored(state: &MemoryState) -> Vec<(u32, u64, usize)> {
        let mut found = Vec::new();
        let visit = &mut |key: &[u8], value: &[u8]| {
            found.push((partition_of(key).0, offset_of(key).0, value.len()));
            true
        };
        state.scan(Space::Quarantine, &[], None, visit).unwrap();
        found
    }

    #[test]
    fn the_quarantine_stays_within_its_bounds_and_lets_the_oldest_go() {
        let (state, mut kept) = (MemoryState::default(), Kept::default());
        let mut keeper = Keeper::new(Limits { events: 32, bytes: 1_000_000 });
        for commit in 0..100 {
            keep(&state, &mut keeper, &mut kept, 0, 5 * commit..5 * commit + 5, 10);
            let stored = stored(&state);
            assert!(stored.len() <= 32, "{}", stored.len());
            assert_eq!(stored.last().unwrap().1, 5 * commit + 4, "the newest stay");
            assert_eq!(stored.len() as u64 + kept.let_go, 5 * commit + 5, "what was let go is counted");
        }
        assert!(stored(&state).len() >= 25, "no more go than need to");
    }

    #[test]
    fn the_quarantine_is_bound_by_bytes_and_one_partition_does_not_push_out_another() {
        let (state, mut kept) = (MemoryState::default(), Kept::default());
        let mut keeper = Keeper::new(Limits { events: 1_000, bytes: 1_000 });
        keep(&state, &mut keeper, &mut kept, 1, 0..3, 20);
        for commit in 0..50 {
            keep(&state, &mut keeper, &mut kept, 0, commit..commit + 1, 300);
            assert!(stored(&state).iter().map(|(_, _, bytes)| bytes).sum::<usize>() <= 1_000);
        }
        let of = |partition| stored(&state).into_iter().filter(|found| found.0 == partition).map(|found| found.1).collect::<Vec<_>>();
        assert_eq!(of(1), [0, 1, 2], "the quiet partition keeps its few");
        assert_eq!(of(0).last(), Some(&49));
        assert_eq!(kept.let_go, 50 - of(0).len() as u64);
    }

    #[test]
    fn a_commit_with_more_than_the_bound_keeps_the_newest_of_it() {
        let (state, mut kept) = (MemoryState::default(), Kept::default());
        let mut keeper = Keeper::new(Limits { events: 10, bytes: 1_000_000 });
        keep(&state, &mut keeper, &mut kept, 0, 0..5, 1);
        keep(&state, &mut keeper, &mut kept, 0, 5..1_000, 1);
        assert_eq!(stored(&state).iter().map(|found| found.1).collect::<Vec<_>>(), (990..1_000).collect::<Vec<_>>());
        assert_eq!(kept.let_go, 990);
    }

    #[test]
    fn what_a_former_release_kept_is_counted_in() {
        let (state, mut kept) = (MemoryState::default(), Kept::default());
        let (limits, mut ignored) = (Limits { events: 100, bytes: 1_000_000 }, Kept::default());
        keep(&state, &mut Keeper::new(limits), &mut ignored, 3, 0..90, 1);
        let mut keeper = Keeper::new(Limits { events: 20, bytes: 1_000_000 });
        keep(&state, &mut keeper, &mut kept, 3, 90..91, 1);
        assert!(stored(&state).len() <= 20);
        assert_eq!(stored(&state).len() as u64 + kept.let_go, 91);
    }

    #[test]
    fn a_loan_that_has_ended_answers_nothing() {
        let state = Arc::new(state(&[(0, 1, Reason::TooLate)]));
        let lent = Lent::new(state.clone());
        assert_eq!(lent.quarantined(&FIRST).unwrap().unwrap().events.len(), 1);
        lent.close();
        assert_eq!(lent.quarantined(&FIRST).unwrap(), None);
        assert_eq!(Arc::strong_count(&state), 1, "nobody holds it open");
    }
}
