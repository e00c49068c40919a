#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::disallowed_methods)]

use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::memory::MemoryState;
use super::rocks::{RocksMemory, RocksState, UpkeepSettings};
use super::{Batch, Lookup, Pairs, Space, State, StateReader};

#[derive(Clone, Debug)]
enum Op {
    Put(u8, u8),
    Delete(u8),
    DeleteRange(u8, u8),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (any::<u8>(), any::<u8>()).prop_map(|(key, value)| Op::Put(key % 16, value)),
        any::<u8>().prop_map(|key| Op::Delete(key % 16)),
        (any::<u8>(), any::<u8>()).prop_map(|(from, to)| Op::DeleteRange(from % 16, to % 16)),
    ]
}

fn batch(ops: &[Op]) -> Batch {
    let mut batch = Batch::default();
    for op in ops {
        match op {
            Op::Put(key, value) => batch.put(Space::Dirty, &[*key], &[*value]),
            Op::Delete(key) => batch.delete(Space::Dirty, &[*key]),
            Op::DeleteRange(from, to) if from < to => batch.delete_range(Space::Dirty, &[*from], &[*to]),
            Op::DeleteRange(..) => {}
        }
    }
    batch
}

fn all(state: &dyn Lookup, space: Space) -> Pairs {
    let mut pairs = Pairs::new();
    state
        .scan(space, &[], None, &mut |key, value| {
            pairs.push((key.to_vec(), value.to_vec()));
            true
        })
        .unwrap();
    pairs
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn both_adapters_hold_the_same_after_any_batches_and_a_reopen(batches in prop::collection::vec(prop::collection::vec(op(), 0..12), 0..6)) {
        let folder = tempfile::tempdir().unwrap();
        let memory = MemoryState::default();
        let rocks_memory = RocksMemory::new(8 << 20);
        let rocks = RocksState::open(folder.path(), &rocks_memory).unwrap();
        for ops in &batches {
            memory.commit(&batch(ops)).unwrap();
            rocks.commit(&batch(ops)).unwrap();
            prop_assert_eq!(all(&memory, Space::Dirty), all(rocks.as_ref(), Space::Dirty));
        }
        drop(rocks);
        let rocks = RocksState::open(folder.path(), &rocks_memory).unwrap();
        prop_assert_eq!(all(&memory, Space::Dirty), all(rocks.as_ref(), Space::Dirty));
        let keys: Vec<[u8; 1]> = (0..16).map(|key| [key]).collect();
        let keys: Vec<&[u8]> = keys.iter().map(|key| key.as_slice()).collect();
        prop_assert_eq!(memory.get_sorted(Space::Dirty, &keys).unwrap(), rocks.get_sorted(Space::Dirty, &keys).unwrap());
    }
}

fn adapters() -> Vec<(tempfile::TempDir, Arc<dyn State>)> {
    let folder = tempfile::tempdir().unwrap();
    let rocks = RocksState::open(folder.path(), &RocksMemory::new(8 << 20)).unwrap();
    vec![(tempfile::tempdir().unwrap(), Arc::new(MemoryState::default())), (folder, rocks)]
}

#[test]
fn spaces_are_apart_and_a_scan_stays_within_its_bounds() {
    for (_folder, state) in adapters() {
        let mut batch = Batch::default();
        for space in Space::ALL {
            for key in 0..5u8 {
                batch.put(space, &[key], &[space as u8, key]);
            }
        }
        state.commit(&batch).unwrap();
        for space in Space::ALL {
            let mut keys = Vec::new();
            state
                .scan(space, &[1], Some(&[4]), &mut |key, value| {
                    assert_eq!(value, [space as u8, key[0]]);
                    keys.push(key[0]);
                    keys.len() < 2
                })
                .unwrap();
            assert_eq!(keys, [1, 2]);
            assert_eq!(all(state.as_ref(), space).len(), 5);
        }
    }
}

#[test]
fn a_snapshot_sees_nothing_of_what_is_committed_after_it() {
    for (_folder, state) in adapters() {
        let put = |pairs: &[(&[u8], &[u8])]| {
            let mut batch = Batch::default();
            pairs.iter().for_each(|(key, value)| batch.put(Space::Groups, key, value));
            state.commit(&batch).unwrap();
        };
        put(&[(b"a", b"1"), (b"b", b"1")]);
        let snapshot = state.snapshot();
        let before = all(snapshot.as_ref(), Space::Groups);
        put(&[(b"b", b"2"), (b"c", b"2")]);
        let mut gone = Batch::default();
        gone.delete_range(Space::Groups, b"a", b"b");
        state.commit(&gone).unwrap();
        assert_eq!(all(snapshot.as_ref(), Space::Groups), before);
        assert_eq!(snapshot.get(Space::Groups, b"b").unwrap(), Some(b"1".to_vec()));
        assert_eq!(snapshot.get(Space::Groups, b"c").unwrap(), None);
        assert_eq!(all(state.as_ref(), Space::Groups), [(b"b".to_vec(), b"2".to_vec()), (b"c".to_vec(), b"2".to_vec())]);
    }
}

#[test]
fn a_directory_in_use_is_refused_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let memory = RocksMemory::new(8 << 20);
    let _held = RocksState::open(folder.path(), &memory).unwrap();
    let message = RocksState::open(folder.path(), &memory).err().unwrap().to_string();
    assert!(message.contains("another process is using it"), "{message}");
    assert!(message.contains(folder.path().to_str().unwrap()), "{message}");
}

/// Runs something that must not hang.
fn within_a_minute(work: impl FnOnce() + Send + 'static) {
    let (done, ended) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        work();
        done.send(()).unwrap();
    });
    assert!(ended.recv_timeout(Duration::from_secs(60)) != Err(RecvTimeoutError::Timeout), "it hangs");
    thread.join().unwrap();
}

fn one_of_each(number: u32) -> Batch {
    let mut batch = Batch::default();
    for space in Space::ALL {
        batch.put(space, &number.to_be_bytes(), &[7; 100]);
    }
    batch
}

#[test]
fn many_versions_whose_write_buffers_exceed_their_memory_all_go_on() {
    within_a_minute(|| {
        let folder = tempfile::tempdir().unwrap();
        let memory = RocksMemory::new(8 << 20);
        let states: Vec<_> = (0..60).map(|number| RocksState::open(&folder.path().join(number.to_string()), &memory).unwrap()).collect();
        for number in 0..50u32 {
            states.iter().for_each(|state| state.commit(&one_of_each(number)).unwrap());
        }
        for state in &states {
            Space::ALL.into_iter().for_each(|space| assert_eq!(all(state.as_ref(), space).len(), 50));
        }
    });
}

#[test]
fn what_many_versions_write_is_flushed_where_most_of_it_is() {
    within_a_minute(|| {
        let folder = tempfile::tempdir().unwrap();
        let memory = RocksMemory::new(8 << 20);
        let open = |name: String| RocksState::open(&folder.path().join(name), &memory).unwrap();
        let small: Vec<_> = (0..8).map(|number| open(format!("small{number}"))).collect();
        let large: Vec<_> = (0..40).map(|number| open(format!("large{number}"))).collect();
        small.iter().for_each(|state| state.commit(&one_of_each(0)).unwrap());
        // Half a MiB each: no write buffer is full.
        for number in 0..60u32 {
            for state in &large {
                let mut batch = Batch::default();
                (0..8u32).for_each(|part| batch.put(Space::Groups, &(number * 8 + part).to_be_bytes(), &[3; 1_000]));
                state.commit(&batch).unwrap();
            }
        }
        // Another thread flushes; how far behind the commits it is depends on the machine.
        while memory.buffered() > 15 << 20 || large.iter().all(|state| state.files() == 0) {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(small.iter().all(|state| state.files() == 0), "flushing these gives nothing back");
    });
}

#[test]
fn a_version_that_commits_little_takes_little() {
    let folder = tempfile::tempdir().unwrap();
    let memory = RocksMemory::new(512 << 20);
    let states: Vec<_> = (0..20).map(|number| RocksState::open(&folder.path().join(number.to_string()), &memory).unwrap()).collect();
    states.iter().for_each(|state| state.commit(&one_of_each(0)).unwrap());
    assert!(memory.buffered() / states.len() < 100 << 10, "{} bytes", memory.buffered() / states.len());
    let handles = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    let handles: Vec<_> = handles.filter(|path| path.starts_with(folder.path())).collect();
    assert!(handles.len() <= 10 * states.len(), "{} file handles: {handles:?}", handles.len());
}

#[test]
fn commits_are_made_durable_in_turn_at_a_rate_that_does_not_grow_with_the_versions() {
    within_a_minute(|| {
        let folder = tempfile::tempdir().unwrap();
        let pause = Duration::from_millis(20);
        let memory = RocksMemory::with(64 << 20, UpkeepSettings { sync_every: pause, least_pause: pause });
        let states: Vec<_> = (0..40).map(|number| RocksState::open(&folder.path().join(number.to_string()), &memory).unwrap()).collect();
        let begun = Instant::now();
        while states.iter().any(|state| state.was_never_synced()) {
            states.iter().for_each(|state| state.commit(&one_of_each(0)).unwrap());
            std::thread::sleep(Duration::from_millis(1));
        }
        let most = 1 + begun.elapsed().as_millis() / pause.as_millis();
        assert!(memory.syncs() as u128 <= most, "{} syncs, at most {most} are due", memory.syncs());
    });
}

#[test]
fn a_state_can_be_opened_again_as_soon_as_it_is_closed_whatever_is_done_for_it() {
    within_a_minute(|| {
        let folder = tempfile::tempdir().unwrap();
        let memory = RocksMemory::with(8 << 20, UpkeepSettings { sync_every: Duration::ZERO, least_pause: Duration::ZERO });
        for number in 0..30u32 {
            let state = RocksState::open(folder.path(), &memory).unwrap();
            assert_eq!(all(state.as_ref(), Space::Groups).len(), number as usize);
            state.commit(&one_of_each(number)).unwrap();
        }
    });
}
