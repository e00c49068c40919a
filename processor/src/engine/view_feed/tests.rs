#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::cell::RefCell;
use std::collections::VecDeque;

use datafusion::arrow::array::{Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::changes::view_feed::{MemoryViewFeeds, ViewRecord};
use crate::changes::{ChangeFeed, LocalFeed};
use crate::clock::ManualClock;
use crate::json;
use crate::position::{Cut, Offset, Partition};
use crate::state::memory::MemoryState;
use crate::store::memory::MemoryStore;
use crate::store::{Progress, RowBatch, RowReader, RowWriter};
use crate::table::TableShape;

const VIEW: &str = "counts";

/// Versions whose rows change, and the feed of their view.
struct World {
    store: Arc<MemoryStore>,
    changes: Arc<LocalFeed>,
    feeds: MemoryViewFeeds,
    clock: Arc<ManualClock>,
    /// What is in the store and not published yet: by version.
    unpublished: RefCell<[VecDeque<(RowBatch, Progress)>; 2]>,
    position: RefCell<[u64; 2]>,
}

fn table(version: u32) -> Table {
    let columns = Arc::new(Schema::new(vec![Field::new("key", DataType::Utf8, false), Field::new("n", DataType::Int64, true)]));
    Table { view: VIEW.into(), version: Version(version), shape: TableShape { columns, partition_key: vec![0], clustering: vec![] } }
}

fn served(version: u32) -> Served {
    Served { table: table(version), epoch: Epoch(1), window_column: None, keep_us: None }
}

fn at(position: u64) -> Cut {
    [(Partition(0), Offset(position))].into_iter().collect()
}

impl World {
    fn new() -> World {
        let world = World {
            store: Arc::default(),
            changes: Arc::default(),
            feeds: MemoryViewFeeds::default(),
            clock: Arc::default(),
            unpublished: RefCell::default(),
            position: RefCell::default(),
        };
        for version in 1..=2 {
            world.store.create_table(&table(version)).unwrap();
            world.store.fence(&table(version), Epoch(1)).unwrap();
            world.changes.create(&table(version), None).unwrap();
        }
        world
    }

    /// Writes rows of a version (`None`: deleted), to be published later.
    fn write(&self, version: u32, rows: &[(&str, Option<i64>)]) {
        let index = version as usize - 1;
        let position = self.position.borrow()[index] + 1;
        self.position.borrow_mut()[index] = position;
        let columns: [Arc<dyn datafusion::arrow::array::Array>; 2] = [
            Arc::new(rows.iter().map(|row| Some(row.0)).collect::<StringArray>()),
            Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>()),
        ];
        let batch = RowBatch {
            rows: RecordBatch::try_new(table(version).shape.columns, columns.to_vec()).unwrap(),
            written_at: vec![(1 << 47) + position as i64; rows.len()],
            deleted: rows.iter().map(|row| row.1.is_none()).collect(),
        };
        let progress = |visible| Progress { visible: at(visible), writing: at(position), ..Progress::default() };
        self.store.tell(&table(version), Epoch(1), &progress(position - 1)).unwrap();
        self.store.write(&table(version), &batch).unwrap();
        self.store.tell(&table(version), Epoch(1), &progress(position)).unwrap();
        self.unpublished.borrow_mut()[index].push_back((batch, progress(position)));
    }

    fn publish(&self, version: u32) {
        if let Some((batch, progress)) = self.unpublished.borrow_mut()[version as usize - 1].pop_front() {
            self.changes.publish(&table(version), &[batch], &progress).unwrap();
        }
    }

    fn lose_unpublished(&self, version: u32) {
        let lost = std::mem::take(&mut self.unpublished.borrow_mut()[version as usize - 1]);
        if let Some((_, progress)) = lost.back() {
            self.changes.begin_anew(&table(version), progress).unwrap();
        }
    }

    fn feeder(&self, state: &MemoryState) -> Result<Feeder, ViewFeedError> {
        let mut feed = self.feeds.open(VIEW, None)?;
        let copy = Copy::open(Arc::new(state.clone()), feed.as_mut(), 0)?;
        Ok(Feeder {
            feed,
            copy,
            rows: self.store.clone(),
            changes: self.changes.clone(),
            clock: self.clock.clone(),
            stop: Stop::new(),
            poll: Duration::ZERO,
            status: Arc::default(),
        })
    }

    /// Serves a version until `rounds` looks at what is wanted have been made, with `each` before each of them.
    fn serve(&self, feeder: &mut Feeder, version: u32, rounds: usize, each: impl Fn()) -> Result<Ended, ViewFeedError> {
        let left = RefCell::new(rounds);
        feeder.serve(&served(version), Why::Start, &|_| {
            each();
            let left = &mut *left.borrow_mut();
            *left = left.saturating_sub(1);
            *left > 0
        })
    }

    /// The rows of a version.
    fn rows(&self, version: u32) -> BTreeMap<String, String> {
        let batches = self.store.scan(&table(version)).unwrap();
        let rows = batches.iter().flat_map(json::rows);
        rows.map(|row| (serde_json::json!([row["key"]]).to_string(), row.to_string())).collect()
    }

    /// What whoever reads the feed from its start and keeps the last record of each key has.
    fn followed(&self) -> BTreeMap<String, String> {
        let mut rows = BTreeMap::new();
        for ViewRecord { key, value, .. } in self.feeds.records(VIEW).into_iter().filter(|record| record.key.starts_with('[')) {
            match value {
                Some(row) => drop(rows.insert(key, row)),
                None => drop(rows.remove(&key)),
            }
        }
        rows
    }
}

#[test]
fn a_switch_is_published_as_what_differs_between_two_marks() {
    let world = World::new();
    world.write(1, &[("same", Some(1)), ("changed", Some(1)), ("gone", Some(1))]);
    world.write(2, &[("same", Some(1)), ("changed", Some(2)), ("new", Some(1))]);
    let mut feeder = world.feeder(&MemoryState::default()).unwrap();
    world.serve(&mut feeder, 1, 2, || {}).unwrap();
    assert_eq!(world.followed(), world.rows(1));
    let before = world.feeds.records(VIEW).len();
    world.serve(&mut feeder, 2, 2, || {}).unwrap();
    let published: Vec<(String, bool)> =
        world.feeds.records(VIEW).into_iter().skip(before).map(|record| (record.key, record.value.is_some())).collect();
    let expected = [("\"begin\"", true), ("[\"changed\"]", true), ("[\"new\"]", true), ("[\"gone\"]", false), ("\"end\"", true)];
    assert_eq!(published, expected.map(|(key, is_row)| (key.to_owned(), is_row)));
    assert_eq!(world.followed(), world.rows(2));
}

#[test]
fn whoever_publishes_next_goes_on_from_what_the_feed_holds() {
    let world = World::new();
    world.write(1, &[("a", Some(1)), ("b", Some(1))]);
    let (here, elsewhere) = (MemoryState::default(), MemoryState::default());
    let mut first = world.feeder(&here).unwrap();
    world.serve(&mut first, 1, 2, || {}).unwrap();
    let mut second = world.feeder(&elsewhere).unwrap();
    let rows = |from: usize| world.feeds.records(VIEW).iter().skip(from).filter(|record| record.key.starts_with('[')).count();
    let before = world.feeds.records(VIEW).len();
    world.serve(&mut second, 1, 2, || {}).unwrap();
    assert_eq!(rows(before), 0, "it has read what is out already");
    world.write(1, &[("b", Some(2)), ("a", None)]);
    assert!(matches!(world.serve(&mut first, 1, 2, || {}), Err(ViewFeedError::Fenced)));
    world.serve(&mut second, 1, 2, || {}).unwrap();
    // Its copy is out of date, and is brought up to date from the feed.
    let mut third = world.feeder(&here).unwrap();
    let before = world.feeds.records(VIEW).len();
    world.serve(&mut third, 1, 2, || {}).unwrap();
    assert_eq!((rows(before), world.followed()), (0, world.rows(1)));
}

#[test]
fn a_row_does_not_go_back_although_its_changes_are_published_late() {
    let world = World::new();
    for n in 1..=3 {
        world.write(1, &[("a", Some(n))]);
    }
    let mut feeder = world.feeder(&MemoryState::default()).unwrap();
    let looks = RefCell::new(0);
    let each = || {
        *looks.borrow_mut() += 1;
        // At the first look the rows are read: these two changes are in the store and come out one by one, behind the three before.
        if *looks.borrow() == 1 {
            world.write(1, &[("a", Some(4))]);
            world.write(1, &[("a", Some(5))]);
        }
        world.publish(1);
    };
    world.serve(&mut feeder, 1, 12, each).unwrap();
    let rows = world.feeds.records(VIEW).into_iter().filter(|record| record.key.starts_with('['));
    let values: Vec<serde_json::Value> = rows.map(|record| serde_json::from_str(&record.value.unwrap()).unwrap()).collect();
    let numbers: Vec<i64> = values.iter().map(|row| row["n"].as_i64().unwrap()).collect();
    assert_eq!((numbers.first(), numbers.last(), numbers.is_sorted()), (Some(&3), Some(&5), true), "{numbers:?}");
}

/// Writes, publications, lost publications, switches, failures of the feed, new processes with or without what the last one remembered.
#[test]
fn followers_have_the_rows_of_the_version_in_service_whatever_happens() {
    for seed in 0..300 {
        let world = World::new();
        let random = RefCell::new(StdRng::seed_from_u64(seed));
        let step = || {
            let random = &mut *random.borrow_mut();
            let version = random.random_range(1..=2);
            match random.random_range(0..10) {
                0..4 => {
                    let keys: Vec<String> = (0..random.random_range(1..4)).map(|_| format!("k{}", random.random_range(0..12))).collect();
                    let mut rows: BTreeMap<&str, Option<i64>> = BTreeMap::new();
                    for key in &keys {
                        rows.insert(key, random.random_bool(0.7).then(|| random.random_range(0..4)));
                    }
                    world.write(version, &rows.into_iter().collect::<Vec<_>>());
                }
                4..9 => world.publish(version),
                _ if random.random_bool(0.2) => world.lose_unpublished(version),
                _ => {}
            }
        };
        let mut state = MemoryState::default();
        let mut version = 1;
        for _ in 0..12 {
            let failing = random.borrow_mut().random_range(0..10);
            world.feeds.fail_after((failing < 5).then_some(failing));
            if random.borrow_mut().random_bool(0.2) {
                state = MemoryState::default();
            }
            let Ok(mut feeder) = world.feeder(&state) else { continue };
            for _ in 0..3 {
                let rounds = random.borrow_mut().random_range(1..30);
                if world.serve(&mut feeder, version, rounds, step).is_err() {
                    break;
                }
                version = random.borrow_mut().random_range(1..=2);
            }
        }
        world.feeds.fail_after(None);
        let mut feeder = world.feeder(&state).unwrap();
        while world.serve(&mut feeder, version, 200, || world.publish(version)).unwrap() == Ended::Gap {}
        assert_eq!(world.followed(), world.rows(version), "seed {seed}");
    }
}
