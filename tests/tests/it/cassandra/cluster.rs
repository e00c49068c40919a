//! Three nodes with a copy of everything each: one may be unavailable, two may not.

use std::collections::BTreeMap;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::Int64Type;
use refold_cassandra::{CassandraSettings, CassandraStore, ReadConsistency};
use refold_processor::store::{Outcome, Registers, RowReader, RowWriter};
use refold_processor::table::{Epoch, Version};
use refold_tests::services::cassandra::Cassandra;

use super::{counts, in_the_end, progress, rows};

const HASHTAGS: i64 = 500;
const SLOTS: i64 = 20;

fn settings(node: &Cassandra) -> CassandraSettings {
    let replication = "{'class': 'SimpleStrategy', 'replication_factor': 3}".into();
    CassandraSettings { replication, request_timeout_ms: 4_000, ..node.settings("replicated") }
}

fn hashtags() -> Vec<String> {
    (0..HASHTAGS).map(|number| format!("hashtag {number}")).collect()
}

/// A row for each hashtag and slot, written at a time of as much as it counts.
fn all_slots(hashtags: &[String], occurrences: i64) -> Vec<(&str, i64, Option<i64>, i64)> {
    let slots = |hashtag| (0..SLOTS).map(move |slot| (hashtag, slot, Some(occurrences), occurrences));
    hashtags.iter().flat_map(|hashtag| slots(hashtag.as_str())).collect()
}

/// By hashtag and slot.
fn occurrences(scanned: &[RecordBatch]) -> BTreeMap<(String, i64), i64> {
    let rows = scanned.iter().flat_map(|rows| {
        let numbers = |column: usize| rows.column(column).as_primitive::<Int64Type>().values().to_vec();
        let hashtags: Vec<String> = rows.column(0).as_string::<i32>().iter().map(|hashtag| hashtag.unwrap().to_owned()).collect();
        hashtags.into_iter().zip(numbers(1)).zip(numbers(2)).collect::<Vec<_>>()
    });
    rows.collect()
}

/// How many writes a node has coordinated, and how many it has carried out, of a table.
fn writes(node: &Cassandra, keyspace: &str, table: &str) -> (i64, i64) {
    let count = |of: &str| {
        let rows = node.ask(&format!("SELECT count FROM system_views.{of} WHERE keyspace_name = '{keyspace}' AND table_name = '{table}'"));
        rows.single_row::<(i64,)>().unwrap().0
    };
    (count("coordinator_write_latency"), count("local_write_latency"))
}

/// One cluster for both: three nodes are a lot for a small machine.
#[test]
fn rows_are_sent_to_the_nodes_that_keep_them_and_one_replica_of_three_may_be_unavailable() {
    let mut nodes = Cassandra::start_cluster();
    rows_go_where_they_are_kept(&nodes);
    one_may_be_unavailable(&mut nodes);
}

/// With one copy of each row, every batch goes to the node that has its rows: what a node carries out, it has coordinated.
fn rows_go_where_they_are_kept(nodes: &[Cassandra; 3]) {
    for in_batch in [1, 2] {
        let replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}".into();
        let settings = CassandraSettings { replication, batch_partitions: in_batch, ..nodes[0].settings("spread") };
        let store = CassandraStore::connect(&settings).unwrap();
        // Keys of one column, and of two.
        let (mut one, mut two) = (counts("spread"), counts("paired"));
        (two.shape.partition_key, two.shape.clustering) = (vec![0, 1], Vec::new());
        (one.version, two.version) = (Version(in_batch as u32), Version(in_batch as u32));
        for table in [one, two] {
            in_the_end("a table", || store.create_table(&table));
            in_the_end("a fence", || store.fence(&table, Epoch(1)));
            in_the_end("rows", || store.write(&table, &rows(&table, &all_slots(&hashtags(), 1))));
            for node in nodes {
                let (batches, partitions) = writes(node, "spread", &table.name());
                println!("{}: {partitions} partitions written in {batches} batches", table.name());
                // Were they put together or sent without regard to where they belong, hundreds would be elsewhere.
                assert!(partitions > 100 && (batches * in_batch as i64).abs_diff(partitions) <= 4, "{partitions} in {batches}");
            }
        }
    }
}

fn one_may_be_unavailable(nodes: &mut [Cassandra; 3]) {
    let store = CassandraStore::connect(&settings(&nodes[0])).unwrap();
    let table = counts("replicated");
    in_the_end("a table", || store.create_table(&table));
    in_the_end("a fence", || store.fence(&table, Epoch(1)));
    let hashtags = hashtags();
    let mut wanted = BTreeMap::new();
    let mut write = |occurrences: i64| {
        let all = all_slots(&hashtags, occurrences);
        in_the_end("rows", || store.write(&table, &rows(&table, &all)));
        wanted.extend(all.iter().map(|(hashtag, slot, occurrences, _)| (((*hashtag).to_owned(), *slot), occurrences.unwrap())));
        wanted.clone()
    };
    write(1);

    let mut revision = None;
    for (round, unavailable) in [2, 1].into_iter().enumerate() {
        let round = round as i64 + 2;
        nodes[unavailable].kill();
        let written = write(round);
        in_the_end("a telling", || store.tell(&table, Epoch(1), &progress(round as u64)));
        let set = in_the_end("a register", || store.compare_and_set("moved", revision, Some("value")));
        let Outcome::Set(now) = set else { panic!("{set:?}") };
        revision = Some(now);
        // Also who comes only now.
        let other = in_the_end("another session", || CassandraStore::connect(&settings(&nodes[0])));
        assert_eq!(occurrences(&in_the_end("a scan", || other.scan(&table))), written);
        assert_eq!(in_the_end("progress", || other.progress(&table)), Some(progress(round as u64)));
        assert_eq!(in_the_end("a register", || other.get("moved")).unwrap().revision, now);
        nodes[unavailable].restart();
    }

    // Most replicas are unavailable: nothing is taken, and that is said to pass.
    nodes[1].kill();
    nodes[2].kill();
    let some = rows(&table, &[("hashtag 0", 0, Some(4), 4)]);
    assert!(store.write(&table, &some).unwrap_err().is_retryable());
    assert!(store.scan(&table).unwrap_err().is_retryable());
    assert!(store.compare_and_set("moved", revision, Some("value")).unwrap_err().is_retryable());
    nodes[1].restart();
    nodes[2].restart();
    let written = write(5);
    // Asked of all three, whoever was unavailable when.
    let careful = CassandraSettings { consistency: ReadConsistency::All, ..settings(&nodes[1]) };
    let careful = in_the_end("another session", || CassandraStore::connect(&careful));
    assert_eq!(occurrences(&in_the_end("a scan of all replicas", || careful.scan(&table))), written);
    for node in nodes {
        assert!(!node.logged().contains("ERROR"), "{}", node.logged());
    }
}
