//! A partition that was quiet for so long that state was dropped without it, and then brings old events.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use refold_processor::clock::{Clock, ManualClock};
use refold_processor::decode::StaticSchemas;
use refold_processor::engine::fold::FoldSettings;
use refold_processor::engine::map::Rules;
use refold_processor::engine::shares::Shares;
use refold_processor::engine::watermark::Quiet;
use refold_processor::log::{Log, NewRecord};
use refold_processor::position::Partition;
use refold_processor::quarantine::Reason;
use refold_processor::state::memory::MemoryState;
use refold_processor::store::RowReader;
use refold_processor::table::Epoch;
use refold_tests::simulation::events;
use refold_tests::simulation::oracle::{self, lines};
use refold_tests::simulation::owner::{Owner, Scene};
use refold_tests::simulation::views;
use refold_tests::simulation::world::Disk;

const START_MS: i64 = 1_700_000_000_000;

struct Stand {
    clock: Arc<ManualClock>,
    scene: Scene,
    owner: Owner,
    /// A key for each partition.
    keys: [u8; 2],
}

impl Stand {
    fn new(view: &str) -> Stand {
        let clock = Arc::new(ManualClock::at(START_MS));
        let source = events::source(2);
        let view = views::all().iter().find(|planned| planned.name == view).unwrap();
        let settings = FoldSettings {
            shards: 2,
            rules: Rules::new(view, &source),
            lateness_us: source.lateness_us,
            quiet: Quiet { idle_after_ms: 1_000, idle_drop_after_ms: 5_000 },
            shares: Arc::new(Shares::new(usize::MAX, 1 << 20, usize::MAX)),
            max_quarantined_bytes: 100,
            most_rows: 1_000,
            emitted_batch_bytes: 4 << 20,
        };
        let scene = Scene::new(source, Arc::new(StaticSchemas::default()), view, clock.clone(), settings, None);
        let owner = Owner::open(&scene, Disk::new(MemoryState::default(), None), Epoch(1)).unwrap();
        let mut stand = Stand { clock, scene, owner, keys: [0, 0] };
        // The first event of each partition.
        for number in 0..=u8::MAX {
            let partition = stand.append(number, START_MS, "first").0 as usize;
            stand.keys[partition] = number;
            if stand.keys.iter().all(|key| *key > 0) {
                break;
            }
        }
        stand.settle();
        stand
    }

    fn append(&mut self, partition_key: u8, at_ms: i64, key: &str) -> Partition {
        let value = events::event(Some(at_ms), key, 1).into();
        let record = NewRecord { key: Some(Bytes::copy_from_slice(&[partition_key])), value };
        self.scene.log.append(&self.scene.source.topic, vec![record]).unwrap()[0].0
    }

    /// Everything is read, folded and written.
    fn settle(&mut self) {
        for _ in 0..1_000 {
            for partition in [Partition(0), Partition(1)] {
                self.owner.map(&self.scene, partition, 1 << 20).unwrap();
                self.owner.merge(&self.scene, partition).unwrap();
            }
            self.owner.go_live(&self.scene).unwrap();
            if self.owner.is_commit_due(self.clock.now_ms()) {
                self.owner.commit(&self.scene).unwrap();
            }
            self.owner.writer.step().unwrap();
            if self.owner.is_done(self.clock.now_ms()) {
                return;
            }
        }
        panic!("it does not come to rest: {}", self.owner.unfinished(self.clock.now_ms()));
    }

    /// The other partition goes on for 200 seconds, until what is older than it accepts is dropped. Answers up to when.
    fn drop_state(&mut self) -> i64 {
        for second in (0..200).step_by(3) {
            self.clock.advance_ms(3_000);
            self.append(self.keys[0], START_MS + second * 1_000, "on");
            self.settle();
        }
        self.owner.fold.lock().meta().dropped_to_us.unwrap() / 1_000
    }

    fn rows(&self) -> BTreeSet<String> {
        lines(&self.scene.store.kept.scan(&self.scene.table).unwrap())
    }
}

/// Around the time up to which state is dropped, second by second: an event of which a window has lost panes changes nothing and is quarantined; any
/// other is in the rows as it is in the batch.
fn old_events_are_whole_or_quarantined(view: &str) {
    let (mut refused, mut taken) = (0, 0);
    for second in -25..25 {
        let mut stand = Stand::new(view);
        let dropped_to_ms = stand.drop_state();
        let before = stand.rows();
        let at_ms = dropped_to_ms + second * 1_000;
        let window = stand.scene.view.window.unwrap();
        let (size_ms, slide_ms) = (window.size_us / 1_000, window.slide_us / 1_000);
        let is_broken = (0..1_000)
            .map(|back| dropped_to_ms.div_euclid(slide_ms) * slide_ms - back * slide_ms + 40_000)
            .any(|start| (start..start + size_ms).contains(&at_ms) && start + size_ms <= dropped_to_ms);
        stand.append(stand.keys[1], at_ms, "old");
        stand.settle();
        let quarantined = stand.owner.fold.lock().meta().quarantined.get(&Reason::LateAfterIdle).copied().unwrap_or(0);
        assert_eq!(quarantined, u64::from(is_broken), "{view}: {second} s from what is dropped");
        match is_broken {
            true => {
                refused += 1;
                assert_eq!(stand.rows(), before, "{view}: {second} s from what is dropped");
            }
            false => {
                taken += 1;
                oracle::compare(&stand.scene, &stand.owner).unwrap();
            }
        }
    }
    assert!(refused > 10 && taken > 10, "{refused} refused, {taken} taken");
}

#[test]
fn of_overlapping_windows() {
    old_events_are_whole_or_quarantined("sliding");
}

#[test]
fn of_rankings() {
    old_events_are_whole_or_quarantined("top");
}

#[test]
fn of_windows_side_by_side() {
    old_events_are_whole_or_quarantined("counts_on_time");
}
