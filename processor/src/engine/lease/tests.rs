#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::Weak;
use std::sync::atomic::{AtomicI64, AtomicUsize};

use super::*;
use crate::clock::{Clock, ManualClock};
use crate::store::catalogue::Incarnation;
use crate::store::memory::MemoryStore;
use crate::store::{Outcome, Register, Registers, StoreError, is_isolated};

const VIEW: &str = "counts";
const LEASE_MS: i64 = 10_000;
/// The steps in which time passes during a call.
const STEP_MS: i64 = 20;

/// What is wrong with the next compare-and-sets of isolated registers.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// They are not carried out.
    Refused,
    /// They are, and the answer is lost.
    Unanswered,
}

/// Registers that are far away: each call takes its time, by the clock, and a worker renews its lease meanwhile.
struct Far {
    store: Arc<MemoryStore>,
    clock: Arc<ManualClock>,
    latency_ms: i64,
    fault: Mutex<Option<Fault>>,
    /// Whose lease is renewed while calls take their time, and when next.
    renewing: Mutex<Weak<Leases>>,
    due_ms: AtomicI64,
    renewals: AtomicUsize,
    calls: AtomicUsize,
}

impl Far {
    fn call<T>(&self, call: impl FnOnce() -> T) -> T {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.pass(self.latency_ms);
        call()
    }

    /// Lets time pass: what the thread does that renews, as long as nothing keeps it waiting.
    fn pass(&self, time_ms: i64) {
        for _ in 0..time_ms / STEP_MS {
            self.clock.advance_ms(STEP_MS);
            let Some(leases) = self.renewing.lock().upgrade() else { continue };
            let now_ms = self.clock.now_ms();
            if now_ms >= self.due_ms.load(Ordering::SeqCst) && !leases.renewed.is_locked() {
                self.due_ms.store(now_ms + LEASE_MS / RENEWALS_PER_LEASE, Ordering::SeqCst);
                leases.renew().unwrap();
                self.renewals.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

impl Registers for Far {
    fn get(&self, key: &str) -> Result<Option<Register>, StoreError> {
        self.call(|| self.store.get(key))
    }
    fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Register>>, StoreError> {
        self.call(|| self.store.get_many(keys))
    }
    fn compare_and_set(&self, key: &str, expected: Option<u64>, value: Option<&str>) -> Result<Outcome, StoreError> {
        let fault = self.fault.lock().filter(|_| is_isolated(key));
        if fault == Some(Fault::Refused) {
            return Err(StoreError::Unavailable("no answer".into()));
        }
        let set = self.call(|| self.store.compare_and_set(key, expected, value));
        if fault == Some(Fault::Unanswered) { Err(StoreError::Unavailable("no answer".into())) } else { set }
    }
    fn list(&self, prefix: &str) -> Result<Vec<(String, Register)>, StoreError> {
        self.call(|| self.store.list(prefix))
    }
    fn append_journal(&self, entry: &str) -> Result<(), StoreError> {
        self.call(|| self.store.append_journal(entry))
    }
    fn journal(&self, limit: usize) -> Result<Vec<String>, StoreError> {
        self.call(|| self.store.journal(limit))
    }
}

struct World {
    store: Arc<MemoryStore>,
    clock: Arc<ManualClock>,
}

/// A view with so many versions.
fn world(versions: u32) -> World {
    let world = World { store: Arc::new(MemoryStore::new()), clock: Arc::new(ManualClock::at(1_000_000)) };
    let catalogue = Catalogue::new(world.store.clone(), world.clock.clone());
    for version in 1..=versions {
        catalogue.create_version(VIEW, "SELECT 1", &version.to_string(), "shape", "test").unwrap();
    }
    world
}

impl World {
    /// The registers as they are seen over a distance.
    fn far(&self, latency_ms: i64) -> Arc<Far> {
        Arc::new(Far {
            store: self.store.clone(),
            clock: self.clock.clone(),
            latency_ms,
            fault: Mutex::new(None),
            renewing: Mutex::default(),
            due_ms: AtomicI64::new(0),
            renewals: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
        })
    }

    fn leases(&self, name: &str) -> Arc<Leases> {
        self.leases_over(self.far(0), name, "")
    }

    fn leases_over(&self, registers: Arc<Far>, name: &str, id: &str) -> Arc<Leases> {
        let incarnation = Incarnation { id: id.into(), replaces: None };
        Leases::new(Catalogue::new(registers, self.clock.clone()), Owner { name: name.into(), incarnation }, LEASE_MS)
    }
}

fn held(leases: &Arc<Leases>, version: u32) -> Held {
    match leases.take(VIEW, Version(version)).unwrap() {
        Taking::Held(held) => held,
        Taking::HeldBy { owner } => panic!("version {version} is held by {owner}"),
    }
}

/// Whether another has it.
fn is_refused(leases: &Arc<Leases>, version: u32) -> bool {
    matches!(leases.take(VIEW, Version(version)).unwrap(), Taking::HeldBy { .. })
}

fn is_lost(held: &Held) -> bool {
    held.lost.load(Ordering::Relaxed)
}

/// Sixty leases of their own took 24 s to renew, one after the other, of the 10 s that each had.
#[test]
fn sixty_versions_over_a_catalogue_of_200_ms_a_call_are_neither_taken_over_nor_renewed_late() {
    let world = world(60);
    let far = world.far(200);
    let (owner, other) = (world.leases_over(far.clone(), "owner", ""), world.leases("other"));
    owner.renew().unwrap();
    far.due_ms.store(world.clock.now_ms() + LEASE_MS / RENEWALS_PER_LEASE, Ordering::SeqCst);
    *far.renewing.lock() = Arc::downgrade(&owner);
    let mut taken = Vec::new();
    for version in 1..=60 {
        taken.push(held(&owner, version));
        assert!((1..=version).all(|version| is_refused(&other, version)), "while {version} versions are taken");
    }
    let catalogue = Catalogue::new(far.clone(), world.clock.clone());
    let began_ms = world.clock.now_ms();
    let renewals = far.renewals.load(Ordering::SeqCst);
    while world.clock.now_ms() < began_ms + 10 * LEASE_MS {
        // What else such a worker asks the catalogue, all the time.
        catalogue.snapshot().unwrap();
        owner.do_upkeep();
        let left_ms = owner.renewed.lock().as_ref().unwrap().until_ms - world.clock.now_ms();
        assert!(left_ms > LEASE_MS / 2, "{left_ms} ms are left of the lease");
        assert!((1..=60).all(|version| is_refused(&other, version)));
    }
    assert!(taken.iter().all(|held| !is_lost(held) && held.epoch == Epoch(1)));
    let renewals = far.renewals.load(Ordering::SeqCst) - renewals;
    assert!((35..=41).contains(&renewals), "{renewals} renewals in ten leases");
    let calls = far.calls.load(Ordering::SeqCst);
    far.pass(LEASE_MS);
    assert!(far.calls.load(Ordering::SeqCst) - calls <= 5, "a renewal is one call, however many versions there are");
}

#[test]
fn a_worker_that_thaws_learns_which_versions_were_taken_meanwhile_and_keeps_the_others() {
    let world = world(3);
    let (owner, other) = (world.leases("owner"), world.leases("other"));
    let frozen = [held(&owner, 1), held(&owner, 2), held(&owner, 3)];
    assert!(is_refused(&other, 1));
    world.clock.advance_ms(LEASE_MS);
    let _taken = held(&other, 2);
    assert!(!frozen.iter().any(is_lost), "it is frozen");
    owner.renew().unwrap();
    assert!(owner.upkeep.lock().is_urgent, "it does not wait to look after what it held");
    owner.do_upkeep();
    assert_eq!(frozen.each_ref().map(is_lost), [false, true, false]);
    assert!(is_refused(&other, 1) && is_refused(&other, 3), "what nobody took is its own again");
    assert!(!owner.is_still_held(&frozen[1]).unwrap());
    assert!(owner.is_still_held(&frozen[0]).unwrap());
}

#[test]
fn a_version_that_was_not_ended_in_order_is_not_kept_while_nothing_runs_it() {
    let world = world(1);
    let (owner, other) = (world.leases("owner"), world.leases("other"));
    let held_here = held(&owner, 1);
    let lost = held_here.lost.clone();
    drop(held_here);
    assert!(lost.load(Ordering::Relaxed), "what still runs of it writes nothing any more");
    owner.do_upkeep();
    owner.renew().unwrap();
    assert_eq!(held(&other, 1).epoch, Epoch(2));
    assert!(owner.held.lock().is_empty());
}

#[test]
fn a_release_that_the_catalogue_did_not_take_is_repeated_while_the_worker_lives_on() {
    let world = world(1);
    let far = world.far(0);
    let (owner, other) = (world.leases_over(far.clone(), "owner", ""), world.leases("other"));
    let held_here = held(&owner, 1);
    *far.fault.lock() = Some(Fault::Refused);
    held_here.release();
    owner.do_upkeep();
    *far.fault.lock() = None;
    owner.renew().unwrap();
    assert!(is_refused(&other, 1), "the catalogue does not know yet");
    owner.do_upkeep();
    held(&other, 1);
}

#[test]
fn a_worker_whose_name_another_process_uses_stops_what_it_runs_and_takes_nothing_back() {
    let world = world(2);
    let (owner, copy) = (world.leases_over(world.far(0), "owner", "one"), world.leases_over(world.far(0), "owner", "copy"));
    let frozen = [held(&owner, 1), held(&owner, 2)];
    assert!(matches!(copy.take(VIEW, Version(1)), Err(CatalogueError::OwnerInUse { .. })), "while the first one lives");
    world.clock.advance_ms(LEASE_MS);
    let taken = held(&copy, 1);
    for _ in 0..5 {
        world.clock.advance_ms(LEASE_MS / 2);
        copy.renew().unwrap();
        assert!(matches!(owner.renew(), Err(CatalogueError::OwnerInUse { .. })));
        assert!(matches!(owner.take(VIEW, Version(1)), Err(CatalogueError::OwnerInUse { .. })));
    }
    assert_eq!(frozen.each_ref().map(is_lost), [true, true]);
    owner.do_upkeep();
    assert!(!is_lost(&taken) && copy.is_still_held(&taken).unwrap());
    assert_eq!(taken.epoch, Epoch(2), "no epoch is used up by who is refused");
}

#[test]
fn a_version_that_could_not_be_begun_is_taken_again_in_the_same_epoch() {
    let world = world(1);
    let far = world.far(0);
    let owner = world.leases_over(far.clone(), "owner", "");
    owner.renew().unwrap();
    // Carried out, but the answer was lost.
    *far.fault.lock() = Some(Fault::Unanswered);
    assert!(owner.take(VIEW, Version(1)).is_err());
    *far.fault.lock() = None;
    for _ in 0..100 {
        let nothing_came_of_it = held(&owner, 1);
        assert_eq!(nothing_came_of_it.epoch, Epoch(1));
        drop(nothing_came_of_it);
        owner.do_upkeep();
    }
    let written = held(&owner, 1);
    assert_eq!(written.begin_writing(), Epoch(1));
    written.release();
    assert_eq!(held(&owner, 1).epoch, Epoch(2));
}

#[test]
fn a_lease_is_renewed_until_its_worker_ends_and_leaves_nothing_to_wait_for() {
    let world = world(1);
    let catalogue = Catalogue::new(world.store.clone(), world.clock.clone());
    let owner = &Leases::new(catalogue, Owner { name: "owner".into(), incarnation: Incarnation::default() }, 400);
    let other = world.leases("other");
    let until_ms = || owner.renewed.lock().as_ref().map(|renewed| renewed.until_ms);
    let wait_for = |what: &str, is_so: &dyn Fn() -> bool| {
        for _ in 0..6_000 {
            if is_so() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("it does not come to it that {what}");
    };
    std::thread::scope(|scope| {
        let keeping = scope.spawn(|| owner.keep());
        // As when nobody could say that it was given up.
        std::mem::forget(held(owner, 1));
        let before = until_ms();
        world.clock.advance_ms(1);
        wait_for("the lease is renewed", &|| until_ms() > before);
        assert!(is_refused(&other, 1));
        owner.end();
        keeping.join().unwrap();
    });
    held(&other, 1);
}
