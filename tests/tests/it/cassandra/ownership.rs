//! Owners and their successors, and the catalogue's compare-and-set: several processes on one keyspace, each with a session of its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use refold_cassandra::CassandraSettings;
use refold_processor::store::{Outcome, Progress, Register, Registers, RowReader, RowWriter, StoreError};
use refold_processor::table::Epoch;

use super::{counts, node, progress, read, rows};

/// An owner that was frozen and replaced changes nothing when it goes on.
#[test]
fn a_zombie_is_told_so_and_its_rows_lose() {
    let (zombie, heir) = (node().store("ownership"), node().store("ownership"));
    let table = counts("zombie");
    zombie.create_table(&table).unwrap();
    zombie.fence(&table, Epoch(1)).unwrap();
    zombie.tell(&table, Epoch(1), &progress(10)).unwrap();
    zombie.write(&table, &rows(&table, &[("rust", 1, Some(10), 110), ("rust", 2, Some(10), 110)])).unwrap();

    assert_eq!(heir.fence(&table, Epoch(2)).unwrap(), progress(10));
    heir.tell(&table, Epoch(2), &progress(20)).unwrap();
    heir.write(&table, &rows(&table, &[("rust", 1, Some(20), 220), ("rust", 2, None, 220)])).unwrap();

    let refused = zombie.tell(&table, Epoch(1), &progress(99)).unwrap_err();
    assert!(matches!(&refused, StoreError::Superseded { table, epoch: Epoch(2) } if table == "zombie__v1"), "{refused}");
    assert!(matches!(zombie.fence(&table, Epoch(1)), Err(StoreError::Superseded { epoch: Epoch(2), .. })));
    zombie.write(&table, &rows(&table, &[("rust", 1, Some(99), 199), ("rust", 2, Some(99), 199)])).unwrap();
    for store in [&zombie, &heir] {
        assert_eq!(store.progress(&table).unwrap(), Some(progress(20)));
        assert_eq!(read(store, &table, "rust"), [(1, 20)]);
    }
}

/// However a telling and a fence meet: a telling that was not refused is what the successor takes over, or less than that.
#[test]
fn a_successor_knows_everything_that_was_told_before_it() {
    let table = counts("meeting");
    let first = node().store("ownership");
    first.create_table(&table).unwrap();
    let mut owner = first;
    owner.fence(&table, Epoch(1)).unwrap();
    for epoch in 1..=25_u32 {
        let heir = node().store("ownership");
        let acknowledged = AtomicU64::new(0);
        let inherited = std::thread::scope(|scope| {
            let telling = scope.spawn(|| {
                for sum in 1.. {
                    let sum = u64::from(epoch) * 100_000 + sum;
                    match owner.tell(&table, Epoch(epoch), &progress(sum)) {
                        Ok(()) => acknowledged.store(sum, Ordering::SeqCst),
                        Err(StoreError::Superseded { epoch: later, .. }) => return later,
                        Err(error) => panic!("{error}"),
                    }
                }
                unreachable!("the owner is superseded before it runs out of numbers")
            });
            while acknowledged.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            std::thread::sleep(Duration::from_micros(u64::from(epoch) * 137));
            let inherited = heir.fence(&table, Epoch(epoch + 1)).unwrap();
            assert_eq!(telling.join().unwrap(), Epoch(epoch + 1));
            inherited
        });
        let last = acknowledged.load(Ordering::SeqCst);
        assert!(inherited.writing.sum() >= last, "epoch {epoch}: {last} was told, {} is known", inherited.writing.sum());
        assert!(inherited.writing.sum() <= last + 1, "no telling of the future");
        assert_eq!(heir.progress(&table).unwrap(), Some(inherited), "what the refused owner left behind is not read");
        owner = heir;
    }
}

/// A fence that was interrupted between its two writes, and those that are repeated.
#[test]
fn a_fence_can_be_repeated_and_an_interrupted_one_loses_nothing() {
    let store = node().store("ownership");
    let table = counts("interrupted");
    store.create_table(&table).unwrap();
    store.fence(&table, Epoch(1)).unwrap();
    store.tell(&table, Epoch(1), &progress(7)).unwrap();
    assert_eq!(store.fence(&table, Epoch(2)).unwrap(), progress(7));
    assert_eq!(store.fence(&table, Epoch(2)).unwrap(), progress(7));
    store.tell(&table, Epoch(2), &progress(8)).unwrap();
    // Another process of the same epoch goes on from there, and what is less is not taken.
    let again = node().store("ownership");
    again.tell(&table, Epoch(2), &progress(5)).unwrap();
    assert_eq!(again.progress(&table).unwrap(), Some(progress(8)));
    again.tell(&table, Epoch(2), &progress(9)).unwrap();
    assert_eq!(store.progress(&table).unwrap(), Some(progress(9)));
    assert_eq!(again.fence(&table, Epoch(2)).unwrap(), progress(9), "a fence of one's own epoch answers what one told");

    let session = super::plain_cql::Plain::connect();
    let id = session.table_id("ownership", "interrupted__v1");
    session.run(&format!("INSERT INTO ownership.progress (table_id, epoch, fenced) VALUES ({id}, 3, true) USING TIMESTAMP 1"));
    assert!(matches!(again.tell(&table, Epoch(2), &progress(10)), Err(StoreError::Superseded { epoch: Epoch(3), .. })));
    assert!(matches!(again.fence(&table, Epoch(2)), Err(StoreError::Superseded { epoch: Epoch(3), .. })));
    let told = again.fence(&table, Epoch(4)).unwrap();
    assert!(told == progress(9) || told == progress(10), "{told:?}");
}

/// Hundreds of owners, one after the other: the last rows stay, the first are given back.
#[test]
fn epochs_long_gone_are_forgotten() {
    let store = node().store("ownership");
    let table = counts("epochs");
    store.create_table(&table).unwrap();
    for epoch in 1..=200 {
        let told = store.fence(&table, Epoch(epoch)).unwrap();
        assert_eq!(told, if epoch == 1 { Progress::default() } else { progress(u64::from(epoch) - 1) });
        store.tell(&table, Epoch(epoch), &progress(u64::from(epoch))).unwrap();
    }
    let session = super::plain_cql::Plain::connect();
    let id = session.table_id("ownership", "epochs__v1");
    let kept = session.numbers(&format!("SELECT epoch FROM ownership.progress WHERE table_id = {id}"));
    assert_eq!(kept, (128..=200).rev().collect::<Vec<i64>>());
    assert!(matches!(store.tell(&table, Epoch(3), &progress(999)), Err(StoreError::Superseded { epoch: Epoch(200), .. })));
    assert_eq!(store.progress(&table).unwrap(), Some(progress(200)));
}

/// A table that was dropped by one process and made again is a new one for all.
#[test]
fn a_table_made_again_knows_nothing_of_the_former_one() {
    let (one, other) = (node().store("ownership"), node().store("ownership"));
    let table = counts("again");
    one.create_table(&table).unwrap();
    one.fence(&table, Epoch(5)).unwrap();
    one.tell(&table, Epoch(5), &progress(50)).unwrap();
    assert_eq!(other.progress(&table).unwrap(), Some(progress(50)));
    other.write(&table, &rows(&table, &[("rust", 1, Some(1), 500)])).unwrap();
    one.drop_table(&table).unwrap();
    assert!(matches!(other.write(&table, &rows(&table, &[("rust", 1, Some(1), 1)])), Err(StoreError::UnknownTable(_))));
    one.create_table(&table).unwrap();
    assert_eq!(one.progress(&table).unwrap(), None);
    assert_eq!(other.progress(&table).unwrap(), None);
    assert_eq!(other.fence(&table, Epoch(1)).unwrap(), Progress::default());
    other.tell(&table, Epoch(1), &progress(3)).unwrap();
    assert_eq!(one.progress(&table).unwrap(), Some(progress(3)));
    other.write(&table, &rows(&table, &[("rust", 1, Some(2), 1)])).unwrap();
    assert_eq!(read(&one, &table, "rust"), [(1, 2)], "a lesser timestamp than in the former table");
}

/// Two processes move a register from the same revision, again and again.
#[test]
fn of_two_processes_exactly_one_wins_each_revision() {
    let settings = CassandraSettings { catalogue: "races".into(), ..node().settings("ownership") };
    let stores = [0, 1].map(|_| refold_cassandra::CassandraStore::connect(&settings).unwrap());
    let rounds = 150;
    stores[0].compare_and_set("race", None, Some("start")).unwrap();
    let won: Vec<Vec<u64>> = std::thread::scope(|scope| {
        let racers: Vec<_> = stores
            .iter()
            .map(|store| {
                scope.spawn(move || {
                    let mut won = Vec::new();
                    let mut seen = 1;
                    while seen <= rounds {
                        match store.compare_and_set("race", Some(seen), Some("next")).unwrap() {
                            Outcome::Set(revision) => {
                                assert_eq!(revision, seen + 1);
                                won.push(revision);
                                seen = revision;
                            }
                            Outcome::Conflict(there) => {
                                let there = there.unwrap().revision;
                                assert!(there > seen);
                                seen = there;
                            }
                        }
                    }
                    won
                })
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    let mut all: Vec<u64> = won.iter().flatten().copied().collect();
    all.sort_unstable();
    assert_eq!(all, (2..=rounds + 1).collect::<Vec<u64>>(), "each revision has one winner");
}

/// Entries of several processes, one after the other, whatever their clocks say.
#[test]
fn the_journal_is_in_the_order_in_which_entries_were_added() {
    let settings = CassandraSettings { catalogue: "journals".into(), ..node().settings("ownership") };
    let stores = [0, 1].map(|_| refold_cassandra::CassandraStore::connect(&settings).unwrap());
    // The clock of whoever wrote this was an hour ahead.
    let ahead_us = chrono::Utc::now().timestamp_micros() + 3_600_000_000;
    super::plain_cql::Plain::connect()
        .run(&format!("INSERT INTO ownership.journal (catalogue, at_us, writer, entry) VALUES ('journals', {ahead_us}, 0x00, 'entry 0')"));
    for number in 1..40 {
        stores[number % 2].append_journal(&format!("entry {number}")).unwrap();
    }
    assert_eq!(stores[0].journal(usize::MAX).unwrap(), (0..40).map(|number| format!("entry {number}")).collect::<Vec<_>>());
    assert_eq!(stores[1].journal(2).unwrap(), ["entry 38", "entry 39"]);
}

/// Workers renew their leases all the time, and all listed registers are read together: Cassandra warns of a read that meets more than a thousand
/// deleted cells, and refuses one that meets a hundred thousand.
#[test]
fn a_register_that_is_set_all_the_time_leaves_nothing_behind_that_reads_have_to_pass() {
    const TIMES: u64 = 1_200;
    let store = node().store("renewed");
    for key in ["renewed/listed", "catalogue/worker/renewed"] {
        for revision in 0..TIMES {
            let expected = (revision > 0).then_some(revision);
            assert_eq!(store.compare_and_set(key, expected, Some("held")).unwrap(), Outcome::Set(revision + 1));
        }
        assert_eq!(store.get(key).unwrap().unwrap().revision, TIMES);
        // However long ago it was that its revision was the next: what is refused at once is no matter of doubt.
        let late = store.compare_and_set(key, None, Some("late")).unwrap();
        assert!(matches!(&late, Outcome::Conflict(Some(there)) if there.revision == TIMES), "{late:?}");
    }
    assert_eq!(store.list("renewed/").unwrap().len(), 1);
    let logged = node().logged();
    let warned = logged.lines().find(|line| line.contains("tombstone") && line.contains("renewed."));
    assert_eq!(warned, None);
}

/// A lightweight transaction holds up its whole partition.
#[test]
fn each_owner_and_each_worker_has_a_partition_of_its_own() {
    let store = node().store("partitions");
    let keys = ["catalogue/owner/a/1", "catalogue/owner/a/2", "catalogue/worker/one"];
    for key in keys {
        store.compare_and_set(key, None, Some("held")).unwrap();
    }
    store.compare_and_set("catalogue/view/a", None, Some("versions")).unwrap();
    let partitions = super::plain_cql::Plain::connect().texts("SELECT DISTINCT catalogue, name FROM partitions.owners");
    assert_eq!(partitions.len(), keys.len());
    assert_eq!(store.list("catalogue/").unwrap().iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["catalogue/view/a"]);
}

/// A keyspace as the release before left it, and what that release sends to take a version from revision `revision` to the next.
struct Earlier {
    session: super::plain_cql::Plain,
    keyspace: &'static str,
}

const OWNER_KEY: &str = "catalogue/owner/a/0000000001";

fn owned(epoch: u32) -> String {
    format!(r#"{{"format":1,"ownership":{{"epoch":{epoch},"owner":"one","lease_until_ms":5,"released":false}}}}"#)
}

impl Earlier {
    fn of(keyspace: &'static str) -> Earlier {
        let session = super::plain_cql::Plain::connect();
        session.run(&format!("CREATE KEYSPACE {keyspace} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"));
        session.run(&format!(
            "CREATE TABLE {keyspace}.registers (catalogue text, name text, revision bigint, value text, writers map<int, blob>, \
             PRIMARY KEY ((catalogue), name))"
        ));
        Earlier { session, keyspace }
    }

    fn set(&self, name: &str, revision: u64, value: &str) {
        let (keyspace, expected) = (self.keyspace, if revision > 1 { (revision - 1).to_string() } else { "null".into() });
        self.session.run(&format!(
            "UPDATE {keyspace}.registers SET revision = {revision}, value = '{value}' WHERE catalogue = 'refold' AND name = '{name}' \
             IF revision = {expected}"
        ));
    }

    fn value(&self, name: &str) -> String {
        let keyspace = self.keyspace;
        self.session.texts(&format!("SELECT value FROM {keyspace}.registers WHERE catalogue = 'refold' AND name = '{name}'")).remove(0)
    }
}

fn there(value: &str, revision: u64) -> Option<Register> {
    Some(Register { value: value.into(), revision })
}

/// Views, versions and epochs stay, and processes of both releases never own the same version in the same epoch.
#[test]
fn owners_of_an_earlier_release_are_taken_over_with_their_epochs() {
    let earlier = Earlier::of("earlier");
    earlier.set("catalogue/view/a", 1, "versions");
    for revision in 1..=6 {
        earlier.set(OWNER_KEY, revision, &owned(3));
    }
    let stores = [0, 1].map(|_| node().store("earlier"));
    assert_eq!(stores[0].list("catalogue/view/").unwrap().len(), 1);
    assert_eq!(stores[0].get(OWNER_KEY).unwrap(), there(&owned(3), 6));
    // A worker of the earlier release takes it after this one has looked.
    earlier.set(OWNER_KEY, 7, &owned(4));
    assert_eq!(stores[0].compare_and_set(OWNER_KEY, Some(6), Some("mine")).unwrap(), Outcome::Conflict(there(&owned(4), 7)));
    assert_eq!(stores[1].get(OWNER_KEY).unwrap(), there(&owned(4), 7));
    // From now on it cannot: its change finds another revision, and a format that it refuses.
    earlier.set(OWNER_KEY, 8, &owned(5));
    assert!(earlier.value(OWNER_KEY).starts_with(r#"{"format":2,"#), "{}", earlier.value(OWNER_KEY));
    assert_eq!(stores[1].compare_and_set(OWNER_KEY, Some(7), Some("mine")).unwrap(), Outcome::Set(8));
    for store in &stores {
        assert_eq!(store.get(OWNER_KEY).unwrap(), there("mine", 8));
        assert_eq!(store.compare_and_set(OWNER_KEY, None, Some("x")).unwrap(), Outcome::Conflict(there("mine", 8)));
    }

    // A version that nobody had, and that both releases take at once: one of them does.
    let new = "catalogue/owner/a/0000000002";
    assert_eq!(stores[0].compare_and_set(new, None, Some("mine")).unwrap(), Outcome::Set(1));
    earlier.set(new, 1, &owned(1));
    assert_eq!(stores[1].get(new).unwrap(), there("mine", 1));
    assert!(earlier.value(new).starts_with(r#"{"format":2,"#), "{}", earlier.value(new));
    let newer = "catalogue/owner/a/0000000003";
    earlier.set(newer, 1, &owned(1));
    assert_eq!(stores[0].compare_and_set(newer, None, Some("mine")).unwrap(), Outcome::Conflict(there(&owned(1), 1)));
}

/// Ended after the register was closed where it was, and before it was made where it belongs.
#[test]
fn an_owner_that_was_half_taken_over_is_still_known() {
    let earlier = Earlier::of("half");
    let value = serde_json::json!({"format": 2, "moved_to": "owners", "register": {"revision": 6, "value": owned(3)}});
    earlier.set(OWNER_KEY, 1, &value.to_string());
    let stores = [0, 1].map(|_| node().store("half"));
    assert_eq!(stores[0].get(OWNER_KEY).unwrap(), there(&owned(3), 6));
    assert_eq!(stores[0].get_many(&[OWNER_KEY.into(), "catalogue/owner/none".into()]).unwrap(), [there(&owned(3), 6), None]);
    let set: Vec<Outcome> = std::thread::scope(|scope| {
        let takers: Vec<_> =
            stores.iter().map(|store| scope.spawn(|| store.compare_and_set(OWNER_KEY, Some(6), Some("mine")).unwrap())).collect();
        takers.into_iter().map(|taker| taker.join().unwrap()).collect()
    });
    assert_eq!(set.iter().filter(|outcome| **outcome == Outcome::Set(7)).count(), 1, "{set:?}");
    assert_eq!(stores[1].get(OWNER_KEY).unwrap(), there("mine", 7));
}
