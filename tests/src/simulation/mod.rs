//! The whole protocol from one seed: log, disk, view store, clock and scheduling are simulated, the engine's steps are the real ones.
//!
//! A run appends random events, lets owners take random steps, ends them between any two or asks them to end, refuses writes in each of the three
//! ways, makes the store unavailable, undoes what was committed since the last sync, hands the version to a second owner with an older state,
//! freezes the first and thaws it. In the end the rows must be those of the same SQL as a batch.

pub mod events;
pub mod followers;
pub mod habits;
pub mod oracle;
pub mod owner;
pub mod replay;
pub mod situations;
pub mod views;
pub mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use refold_processor::clock::{Clock, ManualClock};
use refold_processor::decode::StaticSchemas;
use refold_processor::engine::error::EngineError;
use refold_processor::engine::fold::FoldSettings;
use refold_processor::engine::map::Rules;
use refold_processor::engine::shares::Shares;
use refold_processor::engine::watermark::Quiet;
use refold_processor::log::Log;
use refold_processor::position::{Cut, Offset, Partition};
use refold_processor::recovery::Recovery;
use refold_processor::state::State;
use refold_processor::state::memory::MemoryState;
use refold_processor::table::Epoch;

use habits::{ACTS, Act, EVENTS, Event, Habits};
use owner::{Beside, Owner, Scene};
use situations::Situation;
use world::{Disk, Mutant, Refusal};

/// When a simulation starts, milliseconds since the Unix epoch.
const START_MS: i64 = 1_700_000_000_000;

/// Steps in which things go wrong, before all is healed.
const STEPS: usize = 120;

/// How a port can refuse.
const KINDS: [Recovery; 3] = [Recovery::Transient, Recovery::Operator, Recovery::Final];

struct Simulation {
    rng: ChaCha8Rng,
    habits: Habits<Event>,
    acts: Habits<Act>,
    clock: Arc<ManualClock>,
    scene: Scene,
    partitions: Vec<Partition>,
    owner: Option<Owner>,
    frozen: Vec<Owner>,
    disk: Disk,
    checkpoint: Option<MemoryState>,
    epoch: u32,
    /// Thawed owners ignore that they were replaced: rows may go back for a moment, never for good.
    zombies: bool,
    appended: Vec<(Partition, Offset)>,
    seen: BTreeMap<String, i64>,
    visible: Cut,
}

/// Runs one seed. The error says what was wrong in the end, or on the way.
pub fn run(seed: u64, mutant: Option<Mutant>) -> Result<(), String> {
    Simulation::new(seed, mutant).run().map_err(|problem| format!("seed {seed}: {problem}"))
}

impl Simulation {
    fn new(seed: u64, mutant: Option<Mutant>) -> Simulation {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let clock = Arc::new(ManualClock::at(START_MS));
        let source = events::source(rng.random_range(1..=4));
        let views = views::all();
        let view = &views[rng.random_range(0..views.len())];
        let settings = FoldSettings {
            shards: rng.random_range(1..=8),
            rules: Rules::new(view, &source),
            lateness_us: view.options.lateness_over(&source),
            quiet: Quiet { idle_after_ms: 2_000, idle_drop_after_ms: i64::MAX },
            shares: Arc::new(Shares::new(
                usize::MAX,
                if rng.random_bool(0.5) { 0 } else { 1 << 20 },
                if rng.random_bool(0.5) { 2_000 } else { usize::MAX },
            )),
            max_quarantined_bytes: 100,
            most_rows: 25,
            emitted_batch_bytes: 300,
        };
        let partitions = (0..source.partitions).map(Partition).collect();
        let disk = Disk::new(MemoryState::default(), mutant);
        // Without announcements rows go back now and then: what the epoch is for shows in the end.
        let zombies = rng.random_bool(0.3) || mutant == Some(Mutant::TimestampWithoutEpoch);
        let scene = Scene::new(source, Arc::new(StaticSchemas::default()), view, clock.clone(), settings, mutant);
        // What it takes to notice a sweep of several moments: an owner that goes on with the state of when it began.
        let (events, acts): (&[Event], &[Act]) = match mutant {
            Some(Mutant::SweepsOfLiveState) => (&[Event::UnsyncedIsLost], &[Act::GoLive, Act::Sync]),
            _ => (&[], &[]),
        };
        let (habits, acts) = (Habits::random(&mut rng, &EVENTS, events), Habits::random(&mut rng, &ACTS, acts));
        Simulation {
            rng,
            habits,
            acts,
            clock,
            scene,
            partitions,
            owner: None,
            frozen: Vec::new(),
            disk,
            checkpoint: None,
            epoch: 0,
            zombies,
            appended: Vec::new(),
            seen: BTreeMap::new(),
            visible: Cut::default(),
        }
    }

    fn run(mut self) -> Result<(), String> {
        // In half of the runs nothing is appended towards the end: owners are at the same positions at different times then.
        let quiet_from = self.rng.random_range(0..2 * STEPS);
        for step in 0..STEPS {
            self.step(step >= quiet_from)?;
        }
        self.heal()?;
        oracle::compare(&self.scene, self.owner.as_ref().ok_or("no owner at the end")?)?;
        self.scene.followers.compare(&self.scene.store.kept, &self.scene.table)
    }

    fn step(&mut self, is_quiet: bool) -> Result<(), String> {
        match self.habits.next(&mut self.rng) {
            Event::Append if is_quiet => self.clock.advance_ms(self.rng.random_range(0..1_000)),
            Event::Append => self.append(),
            Event::TimePasses => self.clock.advance_ms(self.rng.random_range(0..5_000)),
            Event::StoreComesOrGoes => self.scene.store.unavailable.store(self.rng.random_bool(0.5), Ordering::Relaxed),
            Event::FeedRefuses => {
                *self.scene.followers.refuse_next.lock() = KINDS.choose(&mut self.rng).copied();
            }
            Event::StoreRefuses => {
                let refusals = [Refusal::Whole, Refusal::Partly, Refusal::Delayed];
                let refusal = refusals.choose(&mut self.rng).copied().zip(KINDS.choose(&mut self.rng).copied());
                *self.scene.store.refuse_next.lock() = refusal;
            }
            Event::Stop => self.stop()?,
            Event::Crash => self.crash(),
            Event::PowerCut => self.cut_power(),
            Event::CrashAtACommit => self.crash_at_a_commit(),
            Event::Checkpoint => self.checkpoint = Some(self.disk.kept.checkpoint()),
            Event::TakeOver => self.take_over(is_quiet),
            Event::DelayedWritesArrive => self.scene.store.arrive(&self.scene.table),
            Event::UnsyncedIsLost => self.lose_unsynced(),
            Event::OwnerActs => self.drive()?,
        }
        self.read()
    }

    fn append(&mut self) {
        for _ in 0..self.rng.random_range(1..12) {
            let record = events::random(&mut self.rng, self.clock.now_ms());
            self.appended.extend(self.scene.log.append(&self.scene.source.topic, vec![record]).unwrap());
        }
    }

    /// One step of the owner, and sometimes of one that was replaced.
    fn drive(&mut self) -> Result<(), String> {
        if self.zombies && self.rng.random_bool(0.2) && !self.frozen.is_empty() {
            let index = self.rng.random_range(0..self.frozen.len());
            let mut thawed = self.frozen.swap_remove(index);
            // It goes on where it stood; what happens to it is its own affair.
            let steps = self.rng.random_range(1..8);
            if (0..steps).all(|_| step_of(&self.scene, &self.partitions, &self.acts, &mut self.rng, &mut thawed).is_ok()) {
                self.frozen.push(thawed);
            }
            self.scene.store.refused_for_good.store(false, Ordering::Relaxed);
            return Ok(());
        }
        if self.owner.is_none() {
            self.epoch += 1;
            let owner = Owner::open(&self.scene, self.disk.clone(), Epoch(self.epoch)).map_err(|error| format!("cannot open: {error}"))?;
            self.owner = Some(owner);
        }
        let Some(owner) = &mut self.owner else { return Ok(()) };
        match step_of(&self.scene, &self.partitions, &self.acts, &mut self.rng, owner) {
            Ok(()) => Ok(()),
            Err(error) => self.fail(&error),
        }
    }

    /// Only what is damaged ends an owner. It is resumed at once.
    fn fail(&mut self, error: &EngineError) -> Result<(), String> {
        let refused_for_good = self.scene.store.refused_for_good.swap(false, Ordering::Relaxed);
        if self.disk.commits_to_live.load(Ordering::Relaxed) == 0 || (refused_for_good && error.recovery() == Recovery::Final) {
            self.crash();
            return Ok(());
        }
        match error.recovery() {
            Recovery::Transient | Recovery::Operator => Ok(()),
            Recovery::Final => Err(format!("step failed: {error}")),
        }
    }

    /// The owner is asked to end: it commits what is merged, writes what can be written in the time that it has, and makes its state durable.
    fn stop(&mut self) -> Result<(), String> {
        let Some(owner) = &mut self.owner else { return Ok(()) };
        if owner.writer.outbox.lock().queued_rows() > 0 {
            Situation::StoppedWithRowsWaiting.note();
        }
        let mut ended = owner.commit(&self.scene);
        for _ in 0..self.rng.random_range(0..6) {
            ended = ended.and_then(|()| owner.write(&self.scene, 0, Beside::Snapshot));
            owner.publish();
        }
        if let Err(error) = ended.and_then(|()| Ok(owner.disk.sync()?)) {
            self.fail(&error)?;
        }
        self.crash();
        Ok(())
    }

    fn crash(&mut self) {
        self.owner = None;
        self.disk.commits_to_live.store(-1, Ordering::Relaxed);
    }

    /// Everything that is not durable is gone: of the state, of the view store, and whoever ran on this machine. Readers may see older rows for a
    /// while.
    fn cut_power(&mut self) {
        self.owner = None;
        self.frozen.clear();
        self.disk = self.disk.after_power_cut();
        self.scene.store.cut_power();
        self.scene.followers.leave();
        self.seen.clear();
        self.visible = self.scene.store.told(&self.scene.table).visible;
    }

    /// The power of the worker's machine is cut, and its state is what was synced. The view store and those who follow the table are elsewhere: they have newer
    /// rows, and must see none go back.
    fn lose_unsynced(&mut self) {
        if self.owner.as_ref().is_some_and(|owner| owner.fold.lock().is_live()) {
            Situation::UnsyncedLostWhileLive.note();
        }
        self.owner = None;
        self.disk = self.disk.after_power_cut();
    }

    fn crash_at_a_commit(&mut self) {
        self.disk.commits_to_live.store(self.rng.random_range(1..4), Ordering::Relaxed);
        self.disk.keep_last.store(self.rng.random_bool(0.5), Ordering::Relaxed);
    }

    /// Another process goes on with a checkpoint; this one is frozen where it stands.
    fn take_over(&mut self, is_quiet: bool) {
        let Some(checkpoint) = self.checkpoint.take() else { return };
        if self.owner.as_ref().is_some_and(|owner| owner.fold.lock().is_live()) {
            Situation::TakenOverWhileLive.note();
            if is_quiet {
                Situation::TakenOverWhileQuiet.note();
            }
        }
        self.frozen.extend(self.owner.take());
        self.disk = Disk::new(checkpoint, self.scene.mutant);
    }

    /// Everything works from here on; all that was appended must arrive.
    fn heal(&mut self) -> Result<(), String> {
        self.disk.commits_to_live.store(-1, Ordering::Relaxed);
        self.scene.store.unavailable.store(false, Ordering::Relaxed);
        *self.scene.store.refuse_next.lock() = None;
        *self.scene.followers.refuse_next.lock() = None;
        for round in 0..2_000 {
            if self.owner.is_none() {
                self.drive()?;
                continue;
            }
            let Some(owner) = &mut self.owner else { continue };
            let mut moved = false;
            for partition in &self.partitions {
                let size = self.rng.random_range(1..400);
                moved |= owner.map(&self.scene, *partition, size).map_err(|error| error.to_string())?;
                moved |= owner.merge(&self.scene, *partition).map_err(|error| error.to_string())?;
            }
            if !moved {
                owner.go_live(&self.scene).map_err(|error| error.to_string())?;
            }
            if owner.is_commit_due(self.clock.now_ms()) {
                owner.commit(&self.scene).map_err(|error| error.to_string())?;
            }
            owner
                .write(&self.scene, self.rng.random_range(0..3), beside(&mut self.rng, self.scene.mutant))
                .map_err(|error| error.to_string())?;
            self.read()?;
            let Some(owner) = &self.owner else { continue };
            owner.publish();
            if !moved && owner.is_done(self.clock.now_ms()) && owner.publications.is_published() {
                self.scene.store.arrive(&self.scene.table);
                return self.read();
            }
            if round == 1_000 {
                self.clock.advance_ms(10_000);
            }
        }
        let unfinished = self.owner.as_ref().map(|owner| owner.unfinished(self.clock.now_ms()));
        Err(format!("view {} does not come to rest: {unfinished:?}", self.scene.view.name))
    }

    /// A reader looks: no row may go back, and neither what it is told.
    fn read(&mut self) -> Result<(), String> {
        let visible = self.scene.store.told(&self.scene.table).visible;
        // Owners that do not wait for what was announced make it go back. What the epoch is for shows in the rows.
        if !visible.reaches(&self.visible) && self.scene.mutant != Some(Mutant::TimestampWithoutEpoch) {
            return Err(format!("the visible cut went back from {:?} to {visible:?}", self.visible));
        }
        self.visible = visible;
        if self.scene.store.told(&self.scene.table).live {
            self.scene.followers.begin(&self.scene.store.kept, &self.scene.table, Epoch(self.epoch))?;
        }
        if self.zombies || !views::is_monotonic(&self.scene.view) {
            return Ok(());
        }
        let now = oracle::counts(&self.scene)?;
        for (row, before) in &self.seen {
            match now.get(row) {
                Some(count) if count >= before => {}
                Some(count) => return Err(format!("row {row} went back from {before} to {count}")),
                None => return Err(format!("row {row} vanished")),
            }
        }
        self.seen = now;
        Ok(())
    }
}

fn beside(rng: &mut ChaCha8Rng, mutant: Option<Mutant>) -> Beside {
    let before_snapshots = if mutant == Some(Mutant::SweepsOfLiveState) { 0.9 } else { 0.3 };
    if rng.random_bool(before_snapshots) { Beside::Snapshot } else { Beside::Write(rng.random_range(0..6)) }
}

fn step_of(
    scene: &Scene,
    partitions: &[Partition],
    acts: &Habits<Act>,
    rng: &mut ChaCha8Rng,
    owner: &mut Owner,
) -> Result<(), EngineError> {
    let partition = partitions.choose(rng).copied().unwrap_or(Partition(0));
    match acts.next(rng) {
        Act::Map => owner.map(scene, partition, rng.random_range(1..300)).map(drop),
        Act::Merge => owner.merge(scene, partition).map(drop),
        Act::Commit => owner.commit(scene),
        Act::Sync => Ok(owner.disk.sync()?),
        Act::Write => owner.write(scene, rng.random_range(0..4), beside(rng, scene.mutant)),
        Act::Publish => {
            owner.publish();
            Ok(())
        }
        Act::Sweep => owner.sweep(scene),
        Act::GoLive => owner.go_live(scene),
    }
}

/// A cut at the ends of all partitions.
pub fn ends(scene: &Scene) -> Cut {
    let partitions = scene.log.partitions(&scene.source.topic).unwrap();
    partitions.into_iter().map(|partition| (partition, scene.log.bounds(&scene.source.topic, partition).unwrap().end)).collect()
}
