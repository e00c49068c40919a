#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::Arc;

use proptest::prelude::*;

use super::memory::MemoryState;
use super::rocks::{RocksMemory, RocksState};
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
            memory.commit(&batch(ops), true).unwrap();
            rocks.commit(&batch(ops), false).unwrap();
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
        state.commit(&batch, true).unwrap();
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
            state.commit(&batch, false).unwrap();
        };
        put(&[(b"a", b"1"), (b"b", b"1")]);
        let snapshot = state.snapshot();
        let before = all(snapshot.as_ref(), Space::Groups);
        put(&[(b"b", b"2"), (b"c", b"2")]);
        let mut gone = Batch::default();
        gone.delete_range(Space::Groups, b"a", b"b");
        state.commit(&gone, false).unwrap();
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
