//! Registers with compare-and-set, and the journal.

use super::*;
use crate::store::{Outcome, Register, is_isolated};

/// A key among those that are listed, and one that is isolated.
fn both(name: &str) -> [String; 2] {
    let keys = [format!("conformance/{name}"), format!("catalogue/owner/conformance/{name}")];
    assert_eq!(keys.each_ref().map(|key| is_isolated(key)), [false, true]);
    keys
}

/// A wrong expectation changes nothing and is told what is there.
pub fn a_register_is_set_by_its_revision_alone(harness: &mut dyn Harness) {
    for key in both("set") {
        is_set_by_its_revision_alone(harness.store(), &key);
    }
}

fn is_set_by_its_revision_alone(store: &dyn Store, key: &str) {
    assert_eq!(store.get(key).unwrap(), None);
    assert_eq!(store.compare_and_set(key, Some(1), Some("x")).unwrap(), Outcome::Conflict(None));
    assert_eq!(store.compare_and_set(key, None, Some("one")).unwrap(), Outcome::Set(1));
    let one = Register { value: "one".into(), revision: 1 };
    assert_eq!(store.get(key).unwrap(), Some(one.clone()));
    assert_eq!(store.compare_and_set(key, None, Some("x")).unwrap(), Outcome::Conflict(Some(one.clone())));
    assert_eq!(store.compare_and_set(key, Some(2), Some("x")).unwrap(), Outcome::Conflict(Some(one.clone())));
    assert_eq!(store.compare_and_set(key, Some(2), None).unwrap(), Outcome::Conflict(Some(one)));
    assert_eq!(store.compare_and_set(key, Some(1), Some("zwei \0 é")).unwrap(), Outcome::Set(2));
    assert_eq!(store.get(key).unwrap(), Some(Register { value: "zwei \0 é".into(), revision: 2 }));
}

/// By who expects it to be absent.
pub fn a_removed_register_can_be_created_again(harness: &mut dyn Harness) {
    let store = harness.store();
    for key in both("remove") {
        store.compare_and_set(&key, None, Some("one")).unwrap();
        assert!(matches!(store.compare_and_set(&key, Some(1), None).unwrap(), Outcome::Set(_)));
        assert_eq!(store.get(&key).unwrap(), None);
        assert_eq!(store.list(&key).unwrap(), []);
        assert_eq!(store.compare_and_set(&key, None, Some("again")).unwrap(), Outcome::Set(1));
    }
}

/// In the order of the keys, those that are not there too; more than an adapter reads at once.
pub fn isolated_registers_are_read_together_and_never_listed(harness: &mut dyn Harness) {
    let store = harness.store();
    let isolated: Vec<String> = (0..150).map(|number| format!("catalogue/owner/conformance/many/{number:03}")).collect();
    for key in isolated.iter().step_by(2) {
        assert_eq!(store.compare_and_set(key, None, Some(key)).unwrap(), Outcome::Set(1));
    }
    store.compare_and_set("catalogue/worker/conformance/many", None, Some("worker")).unwrap();
    store.compare_and_set("conformance/many", None, Some("listed")).unwrap();
    let keys: Vec<String> = ["catalogue/worker/conformance/many".to_owned(), "conformance/many".to_owned()]
        .into_iter()
        .chain(isolated.iter().rev().cloned())
        .collect();
    let values: Vec<Option<String>> =
        store.get_many(&keys).unwrap().into_iter().map(|found| found.map(|register| register.value)).collect();
    let expected = isolated.iter().enumerate().rev().map(|(number, key)| (number % 2 == 0).then(|| key.clone()));
    let expected: Vec<Option<String>> = [Some("worker".to_owned()), Some("listed".to_owned())].into_iter().chain(expected).collect();
    assert_eq!(values, expected);
    assert_eq!(store.get_many(&[]).unwrap(), []);
    let listed = store.list("").unwrap();
    assert!(listed.iter().any(|(key, _)| key == "conformance/many"));
    assert!(listed.iter().all(|(key, _)| !is_isolated(key)), "{listed:?}");
}

/// Threads that all try to move a register from the same revision.
pub fn of_many_at_once_exactly_one_wins_each_revision(harness: &mut dyn Harness) {
    for key in both("race") {
        exactly_one_wins_each_revision(harness.store(), &key);
    }
}

fn exactly_one_wins_each_revision(store: &dyn Store, key: &str) {
    let (threads, wins_each) = (4_u64, 8_u64);
    store.compare_and_set(key, None, Some("start")).unwrap();
    let won: Vec<Vec<u64>> = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..threads)
            .map(|racer| {
                scope.spawn(move || {
                    let mut won = Vec::new();
                    while (won.len() as u64) < wins_each {
                        let seen = store.get(key).unwrap().unwrap().revision;
                        match store.compare_and_set(key, Some(seen), Some(&format!("{racer}"))).unwrap() {
                            Outcome::Set(revision) => won.push(revision),
                            Outcome::Conflict(there) => assert!(there.unwrap().revision > seen),
                        }
                    }
                    won
                })
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    let mut revisions: Vec<u64> = won.into_iter().flatten().collect();
    revisions.sort_unstable();
    assert_eq!(revisions, (2..=threads * wins_each + 1).collect::<Vec<u64>>());
}

/// Keys that merely contain it, or begin with less of it, are not in it.
pub fn list_finds_a_prefix_in_order_of_keys(harness: &mut dyn Harness) {
    let store = harness.store();
    for key in
        ["conformance/list/b", "conformance/list/a", "conformance/list/a/1", "conformance/lis", "conformance/list0", "x/conformance/list/a"]
    {
        store.compare_and_set(key, None, Some(key)).unwrap();
    }
    let listed = store.list("conformance/list/").unwrap();
    let keys: Vec<&str> = listed.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["conformance/list/a", "conformance/list/a/1", "conformance/list/b"]);
    assert!(listed.iter().all(|(key, register)| *key == register.value && register.revision == 1));
    assert_eq!(store.list("conformance/none").unwrap(), []);
}

/// The newest are answered, oldest first.
pub fn the_journal_keeps_its_order(harness: &mut dyn Harness) {
    let store = harness.store();
    let before = store.journal(usize::MAX).unwrap().len();
    for number in 0..300 {
        store.append_journal(&format!("entry {number}")).unwrap();
    }
    assert_eq!(store.journal(3).unwrap(), ["entry 297", "entry 298", "entry 299"]);
    assert_eq!(store.journal(0).unwrap(), Vec::<String>::new());
    let all = store.journal(usize::MAX).unwrap();
    assert_eq!(all.len(), before + 300);
    assert_eq!(all[before], "entry 0");
}

/// Without a sync: each is on disk before it is answered.
pub fn registers_and_journal_are_there_after_reopening(harness: &mut dyn Harness) {
    let keys = both("reopen");
    let store = harness.store();
    for key in &keys {
        store.compare_and_set(key, None, Some("one")).unwrap();
        store.compare_and_set(key, Some(1), Some("two")).unwrap();
    }
    store.append_journal("first").unwrap();
    store.append_journal("second").unwrap();
    if !harness.reopen() {
        return;
    }
    let store = harness.store();
    for key in &keys {
        assert_eq!(store.get(key).unwrap(), Some(Register { value: "two".into(), revision: 2 }));
    }
    store.append_journal("third").unwrap();
    assert_eq!(store.journal(3).unwrap(), ["first", "second", "third"]);
}
