//! Owners of versions, and the leases of workers that they hang on.

use super::*;
use crate::recovery::Recovery;

const LEASE_MS: i64 = 1_000;

fn owner(name: &str) -> Owner {
    run_of(name, "first")
}

fn run_of(name: &str, id: &str) -> Owner {
    Owner { name: name.into(), incarnation: Incarnation { id: id.into(), replaces: None } }
}

/// Renews, without knowing of a renewal before.
fn renew(catalogue: &Catalogue, owner: &Owner) {
    catalogue.renew(owner, LEASE_MS, None).unwrap();
}

fn take(catalogue: &Catalogue, owner: &Owner) -> Take {
    catalogue.take(VIEW, V1, owner, None).unwrap()
}

#[test]
fn a_version_has_one_owner_until_the_lease_of_its_worker_ends() {
    let World { catalogue, clock, .. } = world();
    let (one, two) = (owner("one"), owner("two"));
    caught_up(&catalogue, "a");
    assert_eq!(catalogue.ownership(VIEW, V1).unwrap(), None);
    let first = catalogue.renew(&one, LEASE_MS, None).unwrap();
    assert_eq!((first.until_ms, first.had_lapsed), (1_001_000, true));
    renew(&catalogue, &two);
    assert_eq!(take(&catalogue, &one), Take::Taken(Epoch(1)));
    assert_eq!(take(&catalogue, &two), Take::HeldBy { owner: "one".into(), until_ms: 1_001_000 });
    clock.advance_ms(900);
    let second = catalogue.renew(&one, LEASE_MS, Some(&first)).unwrap();
    assert!(!second.had_lapsed);
    clock.advance_ms(900);
    assert_eq!(take(&catalogue, &two), Take::HeldBy { owner: "one".into(), until_ms: 1_001_900 });
    assert!(catalogue.ownership(VIEW, V1).unwrap().unwrap().is_held(clock.now_ms()));
    clock.advance_ms(100);
    assert!(!catalogue.ownership(VIEW, V1).unwrap().unwrap().is_held(clock.now_ms()));
    renew(&catalogue, &two);
    assert_eq!(take(&catalogue, &two), Take::Taken(Epoch(2)), "the lease has ended");

    let thawed = catalogue.renew(&one, LEASE_MS, Some(&second)).unwrap();
    assert!(thawed.had_lapsed, "it is told that others may have come");
    assert_eq!(catalogue.lost(&one, &[((VIEW.into(), V1), Epoch(1))]).unwrap(), [true]);
    assert_eq!(catalogue.lost(&two, &[((VIEW.into(), V1), Epoch(2))]).unwrap(), [false]);
    let error = catalogue.release(VIEW, V1, &one, Epoch(1)).unwrap_err();
    assert!(matches!(&error, CatalogueError::LostTo { owner, epoch: Epoch(2), .. } if owner == "two"), "{error}");
    assert_eq!(take(&catalogue, &one), Take::HeldBy { owner: "two".into(), until_ms: 1_002_900 });
}

#[test]
fn a_restarted_owner_takes_its_versions_at_once_in_a_greater_epoch() {
    let World { catalogue, .. } = world();
    caught_up(&catalogue, "a");
    let first = owner("one");
    renew(&catalogue, &first);
    assert_eq!(take(&catalogue, &first), Take::Taken(Epoch(1)));
    let restarted = Owner { name: "one".into(), incarnation: Incarnation { id: "second".into(), replaces: Some("first".into()) } };
    renew(&catalogue, &restarted);
    assert!(!catalogue.ownership(VIEW, V1).unwrap().unwrap().is_held(1_000_000), "anybody may take what the crash left behind");
    assert_eq!(take(&catalogue, &restarted), Take::Taken(Epoch(2)), "restarted, it is another writer");
    assert_eq!(catalogue.lost(&first, &[((VIEW.into(), V1), Epoch(1))]).unwrap(), [true]);
}

#[test]
fn of_two_processes_with_one_name_the_second_is_refused_and_neither_takes_from_the_other() {
    let World { catalogue, clock, .. } = world();
    caught_up(&catalogue, "a");
    let (first, copy) = (owner("one"), run_of("one", "copy"));
    let mut renewed = catalogue.renew(&first, LEASE_MS, None).unwrap();
    assert_eq!(take(&catalogue, &first), Take::Taken(Epoch(1)));
    for _ in 0..10 {
        clock.advance_ms(500);
        renewed = catalogue.renew(&first, LEASE_MS, Some(&renewed)).unwrap();
        let error = catalogue.renew(&copy, LEASE_MS, None).unwrap_err();
        assert_eq!(error.recovery(), Recovery::Operator);
        assert!(error.to_string().starts_with("another process runs as owner one, with a lease for 2 s more. "), "{error}");
        assert!(matches!(take(&catalogue, &copy), Take::HeldBy { .. }), "nor without a lease");
    }
    assert_eq!(catalogue.ownership(VIEW, V1).unwrap().unwrap().epoch, Epoch(1));
    // The first one has ended, without a word: the other waits for its lease, and goes on.
    clock.advance_ms(LEASE_MS);
    let mut went_on = catalogue.renew(&copy, LEASE_MS, None).unwrap();
    assert_eq!(take(&catalogue, &copy), Take::Taken(Epoch(2)));
    // It had not ended: now it is the one that is refused.
    for _ in 0..10 {
        clock.advance_ms(500);
        went_on = catalogue.renew(&copy, LEASE_MS, Some(&went_on)).unwrap();
        assert!(matches!(catalogue.renew(&first, LEASE_MS, Some(&renewed)), Err(CatalogueError::OwnerInUse { .. })));
    }
    assert_eq!(catalogue.ownership(VIEW, V1).unwrap().unwrap().epoch, Epoch(2));
}

#[test]
fn a_released_version_can_be_taken_at_once() {
    let World { catalogue, .. } = world();
    caught_up(&catalogue, "a");
    let (one, two) = (owner("one"), owner("two"));
    renew(&catalogue, &one);
    renew(&catalogue, &two);
    take(&catalogue, &one);
    catalogue.release(VIEW, V1, &one, Epoch(1)).unwrap();
    catalogue.release(VIEW, V1, &one, Epoch(1)).unwrap();
    assert_eq!(catalogue.lost(&one, &[((VIEW.into(), V1), Epoch(1))]).unwrap(), [true], "it has given it up");
    assert_eq!(take(&catalogue, &two), Take::Taken(Epoch(2)));
    let owner = catalogue.ownership(VIEW, V1).unwrap().unwrap();
    assert_eq!((owner.owner.as_str(), owner.until_ms), ("two", Some(1_001_000)));
    assert_eq!(
        verbs(&catalogue, 3),
        [
            "take v1 - → one in epoch 1 by one",
            "release v1 one in epoch 1 → - by one",
            "take v1 one in epoch 1 (released) → two in epoch 2 by two"
        ]
    );
}

#[test]
fn a_worker_that_leaves_gives_up_all_its_versions_in_one_call() {
    let World { catalogue, .. } = world();
    let (one, two) = (owner("one"), owner("two"));
    renew(&catalogue, &one);
    renew(&catalogue, &two);
    for digest in ["a", "b"] {
        let version = caught_up(&catalogue, digest);
        assert_eq!(catalogue.take(VIEW, version, &one, None).unwrap(), Take::Taken(Epoch(1)));
    }
    catalogue.leave(&one).unwrap();
    catalogue.leave(&one).unwrap();
    for version in [V1, V2] {
        assert_eq!(catalogue.take(VIEW, version, &two, None).unwrap(), Take::Taken(Epoch(2)));
    }
    catalogue.leave(&run_of("two", "another run")).unwrap();
    assert!(matches!(take(&catalogue, &one), Take::HeldBy { .. }), "a run gives up its own lease alone");
}

#[test]
fn of_many_takers_at_once_one_gets_it() {
    for _ in 0..50 {
        let World { catalogue, .. } = world();
        caught_up(&catalogue, "a");
        let start = Barrier::new(4);
        let takes: Vec<Take> = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..4)
                .map(|taker| {
                    let (catalogue, start) = (&catalogue, &start);
                    let taker = owner(&format!("taker {taker}"));
                    renew(catalogue, &taker);
                    scope.spawn(move || {
                        start.wait();
                        take(catalogue, &taker)
                    })
                })
                .collect();
            takers.into_iter().map(|taker| taker.join().unwrap()).collect()
        });
        assert_eq!(takes.iter().filter(|take| **take == Take::Taken(Epoch(1))).count(), 1);
    }
}

#[test]
fn what_is_not_there_or_dropped_is_not_taken() {
    let World { catalogue, .. } = world();
    let error = catalogue.take(VIEW, V1, &owner("one"), None).unwrap_err();
    assert_eq!(error.to_string(), "view hashtag_counts has no version v1; it has none");
    caught_up(&catalogue, "a");
    catalogue.set_state(VIEW, V1, &[VersionState::CaughtUp], VersionState::Dropped, "ann").unwrap();
    assert!(matches!(catalogue.take(VIEW, V1, &owner("one"), None), Err(CatalogueError::State { state: "dropped", .. })));
}

/// A journal that refuses whatever is added to it, beside registers that work.
struct WithoutJournal(Arc<MemoryStore>, Arc<AtomicUsize>);

impl Registers for WithoutJournal {
    fn get(&self, key: &str) -> Result<Option<Register>, StoreError> {
        self.0.get(key)
    }
    fn compare_and_set(&self, key: &str, expected: Option<u64>, value: Option<&str>) -> Result<Outcome, StoreError> {
        self.0.compare_and_set(key, expected, value)
    }
    fn list(&self, prefix: &str) -> Result<Vec<(String, Register)>, StoreError> {
        self.0.list(prefix)
    }
    fn append_journal(&self, entry: &str) -> Result<(), StoreError> {
        let refuses = self.1.load(Ordering::SeqCst) > 0;
        if refuses { Err(StoreError::Refused("no right to modify the journal".into())) } else { self.0.append_journal(entry) }
    }
    fn journal(&self, limit: usize) -> Result<Vec<String>, StoreError> {
        self.0.journal(limit)
    }
}

#[test]
fn a_journal_that_refuses_keeps_nobody_from_taking_and_costs_no_epoch() {
    let World { catalogue, clock, store } = world();
    caught_up(&catalogue, "a");
    let refuses = Arc::new(AtomicUsize::new(1));
    let unjournaled = Catalogue::new(Arc::new(WithoutJournal(store, refuses.clone())), clock);
    let one = owner("one");
    renew(&unjournaled, &one);
    assert_eq!(take(&unjournaled, &one), Take::Taken(Epoch(1)));
    for _ in 0..100 {
        assert_eq!(take(&unjournaled, &one), Take::Taken(Epoch(1)), "tried again, it is the same ownership");
    }
    assert_eq!(verbs(&catalogue, 1), ["state v1 building → caught_up by worker"], "not journaled yet");
    assert_eq!(verbs(&unjournaled, 1), ["take v1 - → one in epoch 1 by one"], "but known where it was done");
    unjournaled.journal_kept().unwrap_err();
    refuses.store(0, Ordering::SeqCst);
    unjournaled.journal_kept().unwrap();
    assert_eq!(verbs(&catalogue, 2), ["state v1 building → caught_up by worker", "take v1 - → one in epoch 1 by one"]);
    assert_eq!(verbs(&unjournaled, 2), verbs(&catalogue, 2), "once");
}

#[test]
fn an_epoch_is_used_again_only_while_nothing_was_written_in_it() {
    let World { catalogue, .. } = world();
    caught_up(&catalogue, "a");
    let (one, two) = (owner("one"), owner("two"));
    renew(&catalogue, &one);
    renew(&catalogue, &two);
    let take_after = |owner: &Owner, used: Option<u32>| catalogue.take(VIEW, V1, owner, used.map(Epoch)).unwrap();
    assert_eq!(take_after(&one, None), Take::Taken(Epoch(1)));
    catalogue.release(VIEW, V1, &one, Epoch(1)).unwrap();
    assert_eq!(take_after(&one, None), Take::Taken(Epoch(1)), "nothing came of it");
    assert_eq!(take_after(&one, Some(1)), Take::Taken(Epoch(2)), "it was written in");
    catalogue.release(VIEW, V1, &one, Epoch(2)).unwrap();
    assert_eq!(take_after(&two, None), Take::Taken(Epoch(3)), "whether another has used an epoch is not known");
    catalogue.release(VIEW, V1, &two, Epoch(3)).unwrap();
    assert_eq!(take_after(&one, None), Take::Taken(Epoch(4)));
    catalogue.release(VIEW, V1, &one, Epoch(4)).unwrap();
    let restarted = run_of("one", "second");
    catalogue.leave(&one).unwrap();
    renew(&catalogue, &restarted);
    assert_eq!(take_after(&restarted, None), Take::Taken(Epoch(5)), "another run does not know either");
}

/// The owner as the release before kept it.
fn owned_by_an_earlier_release(store: &MemoryStore, owner: &str, lease_until_ms: i64) {
    let text = format!(r#"{{"format":1,"ownership":{{"epoch":7,"owner":"{owner}","lease_until_ms":{lease_until_ms},"released":false}}}}"#);
    store.compare_and_set("catalogue/owner/hashtag_counts/0000000001", None, Some(&text)).unwrap();
}

#[test]
fn a_version_that_an_earlier_release_owns_is_kept_for_it_until_its_own_lease_ends() {
    let World { catalogue, clock, store } = world();
    caught_up(&catalogue, "a");
    owned_by_an_earlier_release(&store, "old", 1_000_700);
    let two = owner("two");
    renew(&catalogue, &two);
    assert_eq!(take(&catalogue, &two), Take::HeldBy { owner: "old".into(), until_ms: 1_000_700 });
    clock.advance_ms(700);
    assert_eq!(take(&catalogue, &two), Take::Taken(Epoch(8)));
}

#[test]
fn a_worker_that_is_upgraded_takes_its_versions_at_once() {
    let World { catalogue, store, .. } = world();
    caught_up(&catalogue, "a");
    owned_by_an_earlier_release(&store, "one", i64::MAX);
    let one = owner("one");
    renew(&catalogue, &one);
    assert_eq!(take(&catalogue, &one), Take::Taken(Epoch(8)));
}
