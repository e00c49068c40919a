//! A cluster that freezes and dies.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use datafusion::arrow::array::RecordBatch;
use refold_cassandra::{CassandraSettings, CassandraStore};
use refold_processor::store::{Outcome, Registers, RowReader, RowWriter, StoreError};
use refold_processor::table::{Epoch, Table};
use refold_tests::services::cassandra::{Cassandra, Options};

use super::{counts, in_the_end, node, progress, read, rows, whole};

const TIMEOUT: Duration = Duration::from_secs(2);
/// What a slow machine may add.
const SLACK: Duration = Duration::from_secs(3);

fn settings(node: &Cassandra) -> CassandraSettings {
    CassandraSettings { request_timeout_ms: TIMEOUT.as_millis() as u64, ..node.settings("faults") }
}

/// Nothing listens there at all.
#[test]
fn a_cluster_that_is_not_there_is_unavailable() {
    let port = refold_tests::program::free_port();
    let nowhere =
        CassandraSettings { contact_points: vec![format!("127.0.0.1:{port}")], connect_timeout_ms: 2_000, ..CassandraSettings::default() };
    let started = Instant::now();
    let error = CassandraStore::connect(&nowhere).err().unwrap();
    assert!(error.is_retryable() && error.to_string().contains(&port.to_string()), "{error}");
    assert!(started.elapsed() < Duration::from_secs(2) + SLACK);
}

/// One node, through all of it: what freezes thaws, what dies comes back, and the session finds it again by itself.
#[test]
fn a_frozen_and_a_killed_node_are_unavailable_until_they_are_back() {
    let mut node = Cassandra::start_with(Options { synced: true, ..Options::default() });
    // A node that was just started takes its time over the first of everything: that is not what this is about.
    let patient = node.store("faults");
    let table = counts("frozen");
    patient.create_table(&table).unwrap();
    patient.fence(&table, Epoch(1)).unwrap();
    patient.tell(&table, Epoch(1), &progress(1)).unwrap();
    patient.write(&table, &rows(&table, &[("rust", 1, Some(1), 1), ("zig", 1, Some(1), 1)])).unwrap();
    patient.compare_and_set("frozen", None, Some("one")).unwrap();
    let store = in_the_end("a session", || CassandraStore::connect(&settings(&node)));

    node.process().signal("-STOP");
    let unavailable = |what: &str, call: &mut dyn FnMut() -> Result<(), StoreError>| {
        let started = Instant::now();
        let error = call().unwrap_err();
        assert!(error.is_retryable(), "{what}: {error}");
        assert!(started.elapsed() < TIMEOUT * 2 + SLACK, "{what} took {:?}", started.elapsed());
    };
    let more: Vec<(&str, i64, Option<i64>, i64)> = (0..5_000).map(|slot| ("rust", slot, Some(2), 2)).collect();
    let more = rows(&table, &more);
    unavailable("a write", &mut || store.write(&table, &more));
    unavailable("a read", &mut || store.read(&table, &whole("rust")).map(|_| ()));
    unavailable("a scan", &mut || store.scan(&table).map(|_| ()));
    unavailable("a telling", &mut || store.tell(&table, Epoch(1), &progress(2)));
    unavailable("a fence", &mut || store.fence(&table, Epoch(2)).map(|_| ()));
    unavailable("a register", &mut || store.get("frozen").map(|_| ()));
    unavailable("a compare-and-set", &mut || store.compare_and_set("frozen", Some(1), Some("two")).map(|_| ()));
    unavailable("an entry", &mut || store.append_journal("entry"));
    node.process().signal("-CONT");
    in_the_end("a write after thawing", || store.write(&table, &more));
    assert_eq!(in_the_end("a read after thawing", || store.read(&table, &whole("rust"))).rows.num_rows(), 5_000);
    // The fence that was sent while it was frozen may have arrived.
    let epoch = Epoch(3);
    let told = in_the_end("a fence after thawing", || store.fence(&table, epoch));
    assert!(told == progress(1) || told == progress(2), "{told:?}");
    in_the_end("a telling after thawing", || store.tell(&table, epoch, &progress(3)));
    let register = in_the_end("a register after thawing", || store.get("frozen")).unwrap();
    assert!((register.revision, register.value.as_str()) == (1, "one") || (register.revision, register.value.as_str()) == (2, "two"));

    // Deletions keep their place among upserts, also when they come back from the commit log.
    in_the_end("upserts", || store.write(&table, &rows(&table, &[("ada", 1, Some(1), 0), ("ada", 2, Some(1), 5)])));
    in_the_end("deletions", || store.write(&table, &rows(&table, &[("ada", 1, None, 1), ("ada", 2, None, 1)])));
    assert!(matches!(store.write(&table, &rows(&table, &[("ada", 3, None, -1)])), Err(StoreError::Broken(_))));
    node.kill();
    let error = store.write(&table, &more).unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(store.read(&table, &whole("rust")).unwrap_err().is_retryable());
    node.restart();
    in_the_end("a write after the restart", || store.write(&table, &more));
    assert_eq!(in_the_end("a read after the restart", || store.read(&table, &whole("rust"))).rows.num_rows(), 5_000);
    assert_eq!(read(&store, &table, "zig"), [(1, 1)]);
    assert_eq!(read(&store, &table, "ada"), [(2, 1)]);
    assert_eq!(in_the_end("progress", || store.progress(&table)), Some(progress(3)));
    assert_eq!(in_the_end("a register", || store.get("frozen")), Some(register));
    in_the_end("a telling", || store.tell(&table, epoch, &progress(4)));
    in_the_end("a telling too late", || match store.tell(&table, Epoch(1), &progress(9)) {
        Err(StoreError::Superseded { epoch: Epoch(3), .. }) => Ok(()),
        told => told.map(|()| panic!("it was taken")),
    });
    lost_answers(&node);
    assert!(!node.logged().contains("ERROR"), "{}", node.logged());
}

/// Cassandra forgets a statement for a moment while it is prepared once more, and here many sessions do that at once.
#[test]
fn statements_that_many_prepare_at_once_are_carried_out() {
    const SESSIONS: usize = 8;
    const TABLES: usize = 40;
    let stores: Vec<CassandraStore> = (0..SESSIONS).map(|_| node().store("prepared")).collect();
    let tables: Vec<Table> = (0..TABLES).map(|number| counts(&format!("prepared_{number}"))).collect();
    for table in &tables {
        stores[0].create_table(table).unwrap();
        stores[0].write(table, &rows(table, &[("rust", 1, Some(1), 1)])).unwrap();
        // Each session looks at the table before, so that only the scan is left to be prepared.
        stores.iter().for_each(|store| assert_eq!(store.progress(table).unwrap(), None));
    }
    let together = Barrier::new(SESSIONS);
    let scan = |store: &CassandraStore| tables.iter().map(|table| scan_with(&together, store, table)).collect::<Vec<_>>();
    let scanned: Vec<_> = std::thread::scope(|scope| {
        let sessions: Vec<_> = stores.iter().map(|store| scope.spawn(|| scan(store))).collect();
        sessions.into_iter().flat_map(|session| session.join().unwrap()).collect()
    });
    scanned.into_iter().for_each(|scanned| assert_eq!(scanned.unwrap().iter().map(RecordBatch::num_rows).sum::<usize>(), 1));
}

fn scan_with(together: &Barrier, store: &CassandraStore, table: &Table) -> Result<Vec<RecordBatch>, StoreError> {
    together.wait();
    store.scan(table)
}

/// The node freezes again and again while two processes move a register: whatever was said to be set was set, once.
fn lost_answers(node: &Cassandra) {
    let hasty = CassandraSettings { request_timeout_ms: 300, catalogue: "lost answers".into(), ..settings(node) };
    let stores = [0, 1].map(|_| in_the_end("a session", || CassandraStore::connect(&hasty)));
    in_the_end("the first value", || stores[0].compare_and_set("lost", None, Some("start")));
    // Until enough was set, however slow the machine is.
    let (begun, known) = (Instant::now(), AtomicU64::new(0));
    let is_over = || {
        let is_enough = known.load(Ordering::Relaxed) > 20 && begun.elapsed() > Duration::from_secs(15);
        is_enough || begun.elapsed() > Duration::from_secs(120)
    };
    let (is_over, set) = (&is_over, &known);
    let (won, unknown) = std::thread::scope(|scope| {
        let racers: Vec<_> = stores
            .iter()
            .map(|store| {
                scope.spawn(move || {
                    let (mut won, mut unknown, mut seen) = (Vec::new(), 0_u64, 1);
                    while !is_over() {
                        match store.compare_and_set("lost", Some(seen), Some("next")) {
                            Ok(Outcome::Set(revision)) => {
                                won.push(revision);
                                set.fetch_add(1, Ordering::Relaxed);
                                seen = revision;
                            }
                            Ok(Outcome::Conflict(there)) => seen = there.unwrap().revision,
                            Err(error) => {
                                assert!(error.is_retryable(), "{error}");
                                unknown += 1;
                            }
                        }
                    }
                    (won, unknown)
                })
            })
            .collect();
        while !is_over() {
            node.process().signal("-STOP");
            std::thread::sleep(Duration::from_millis(330));
            node.process().signal("-CONT");
            std::thread::sleep(Duration::from_millis(250));
        }
        let mut won = Vec::new();
        let mut unknown = 0;
        for racer in racers {
            let (its, not_known) = racer.join().unwrap();
            won.extend(its);
            unknown += not_known;
        }
        (won, unknown)
    });
    let last = in_the_end("the last value", || stores[0].get("lost")).unwrap().revision;
    let mut distinct = won.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), won.len(), "a revision has two winners");
    let moved = last - 1;
    let known = won.len() as u64;
    println!("{moved} changes, {known} of them known to their makers, {unknown} answers lost for good");
    assert!(known <= moved && moved <= known + unknown, "{moved} changes, {known} known, {unknown} unknown");
    assert!(known > 20, "little was tried");
}
