//! Two writes of the same row: the greater timestamp wins, whatever came first.

use super::*;

/// All orders of `0..count`.
fn permutations(count: usize) -> Vec<Vec<usize>> {
    let Some(last) = count.checked_sub(1) else { return vec![Vec::new()] };
    let mut all = Vec::new();
    for shorter in permutations(last) {
        for place in 0..=last {
            let mut longer = shorter.clone();
            longer.insert(place, last);
            all.push(longer);
        }
    }
    all
}

/// Every history of four writes, in every order, one by one and in batches, leaves what the greatest timestamp says.
pub fn every_order_of_writing_a_row_ends_with_the_same_row(harness: &mut dyn Harness) {
    let store = harness.store();
    let table = created(store, counts_table("merging_orders", Order::Asc));
    let histories: [[(i64, Option<i64>); 4]; 4] = [
        [(1, Some(10)), (2, None), (3, Some(30)), (4, Some(40))],
        [(1, Some(10)), (2, None), (2, Some(20)), (1, Some(10))],
        [(0, Some(10)), (5, Some(20)), (5, Some(20)), (7, None)],
        [(0, Some(1)), (1, None), (2, Some(2)), (i64::MAX, Some(3))],
    ];
    let mut slot = 0;
    for history in histories {
        let winner = history.iter().max_by_key(|(written_at, occurrences)| (*written_at, occurrences.is_none())).unwrap();
        for order in permutations(history.len()) {
            for batch_size in [1, 2, 4] {
                slot += 1;
                let writes: Vec<Count> = order
                    .iter()
                    .map(|index| Count { hashtag: "rust", slot, occurrences: history[*index].1, written_at: history[*index].0 })
                    .collect();
                for batch in writes.chunks(batch_size) {
                    write(store, &table, batch);
                }
                let only = PartitionRead { from: Some(slot.into()), ..whole("rust") };
                let expected: Vec<(i64, i64)> = winner.1.map(|occurrences| (slot, occurrences)).into_iter().collect();
                assert_eq!(read(store, &table, &only), expected, "{history:?} written in order {order:?}, {batch_size} at a time");
            }
        }
    }
}

/// A tie is decided for the delete, whichever came first.
pub fn at_equal_timestamps_a_delete_wins(harness: &mut dyn Harness) {
    let store = harness.store();
    let table = created(store, counts_table("merging_ties", Order::Asc));
    write(store, &table, &[upsert("rust", 1, 10, 5)]);
    write(store, &table, &[delete("rust", 1, 5)]);
    write(store, &table, &[delete("rust", 2, 5)]);
    write(store, &table, &[upsert("rust", 2, 20, 5)]);
    write(store, &table, &[delete("rust", 3, 5), upsert("rust", 3, 30, 5)]);
    write(store, &table, &[upsert("rust", 4, 40, 5), delete("rust", 4, 5)]);
    assert_eq!(read(store, &table, &whole("rust")), []);
    write(store, &table, &[upsert("rust", 1, 11, 6)]);
    assert_eq!(read(store, &table, &whole("rust")), [(1, 11)]);
}

/// Writes are repeated after a crash.
pub fn the_same_write_again_changes_nothing(harness: &mut dyn Harness) {
    let store = harness.store();
    let table = created(store, counts_table("merging_again", Order::Asc));
    let writes = [upsert("rust", 1, 10, 5), upsert("rust", 2, 20, 5), delete("rust", 3, 5)];
    for _ in 0..3 {
        write(store, &table, &writes);
        assert_eq!(read(store, &table, &whole("rust")), [(1, 10), (2, 20)]);
    }
}

/// A slow writer's older fact does not bring a deleted row back, not even after more rows were written around it.
pub fn a_delete_is_remembered_against_older_upserts(harness: &mut dyn Harness) {
    let store = harness.store();
    let table = created(store, counts_table("merging_tombstones", Order::Asc));
    write(store, &table, &[delete("rust", 1, 5)]);
    write(store, &table, &[upsert("rust", 2, 20, 9)]);
    write(store, &table, &[upsert("rust", 1, 10, 4)]);
    assert_eq!(read(store, &table, &whole("rust")), [(2, 20)]);
}

/// Rows of a batch need not be in order, and a row may be in it more than once.
pub fn of_one_row_twice_in_a_batch_the_greater_timestamp_wins(harness: &mut dyn Harness) {
    let store = harness.store();
    let table = created(store, counts_table("merging_duplicates", Order::Asc));
    write(
        store,
        &table,
        &[
            upsert("zig", 3, 1, 1),
            upsert("rust", 2, 22, 8),
            upsert("rust", 1, 10, 3),
            upsert("rust", 2, 20, 2),
            delete("rust", 1, 2),
            upsert("ada", 9, 1, 1),
            upsert("rust", 2, 21, 5),
        ],
    );
    assert_eq!(read(store, &table, &whole("rust")), [(1, 10), (2, 22)]);
    assert_eq!(scan(store, &table).len(), 4);
}

/// Two owners, one of them a zombie, write the same rows at the same time.
pub fn writers_at_once_end_with_the_greatest_timestamps(harness: &mut dyn Harness) {
    let store = harness.store();
    let table = created(store, counts_table("merging_concurrent", Order::Desc));
    let (writers, rounds, slots) = (4, 25, 20);
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let table = &table;
            scope.spawn(move || {
                for round in 0..rounds {
                    let written_at = round * writers + (writer + round) % writers;
                    let counts: Vec<Count> = (0..slots).map(|slot| upsert("rust", slot, written_at, written_at)).collect();
                    write(store, table, &counts);
                }
            });
        }
    });
    let last = rounds * writers - 1;
    let expected: Vec<(i64, i64)> = (0..slots).rev().map(|slot| (slot, last)).collect();
    assert_eq!(read(store, &table, &whole("rust")), expected);
}
