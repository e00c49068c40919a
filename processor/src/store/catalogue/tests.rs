#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod controls;
mod dropping;
mod group;
mod ownership;
mod snapshot;

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::records::{DroppedRegister, FORMAT, OwnerRecord, OwnerRegister, SchemaRegister, WorkerLease, WorkerRegister};
use super::*;
use crate::clock::ManualClock;
use crate::store::Register;
use crate::store::memory::MemoryStore;
use crate::table::Epoch;

const V1: Version = Version(1);
const V2: Version = Version(2);
const V3: Version = Version(3);
const VIEW: &str = "hashtag_counts";

struct World {
    catalogue: Catalogue,
    clock: Arc<ManualClock>,
    store: Arc<MemoryStore>,
}

fn world() -> World {
    let (clock, store) = (Arc::new(ManualClock::at(1_000_000)), Arc::new(MemoryStore::new()));
    World { catalogue: Catalogue::new(store.clone(), clock.clone()), clock, store }
}

fn failed() -> VersionState {
    VersionState::Failed { error: "records 0 to 7 are no longer in the log".into() }
}

/// A version of a definition of its own, that can be switched to.
fn caught_up(catalogue: &Catalogue, digest: &str) -> Version {
    let version = catalogue.create_version(VIEW, "SELECT 1", digest, "shape", "ann").unwrap().version;
    catalogue.set_state(VIEW, version, &[VersionState::Building], VersionState::CaughtUp, "worker").unwrap();
    version
}

fn states(catalogue: &Catalogue) -> Vec<(Version, &'static str)> {
    catalogue.versions(VIEW).unwrap().into_iter().map(|record| (record.version, record.state.name())).collect()
}

fn verbs(catalogue: &Catalogue, limit: usize) -> Vec<String> {
    let line = |entry: AuditEntry| {
        let of = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        format!("{} {} {} → {} by {}", entry.verb, of(entry.version.map(|v| v.to_string())), of(entry.from), of(entry.to), entry.by)
    };
    catalogue.history(Some(VIEW), limit).unwrap().into_iter().map(line).collect()
}

#[test]
fn what_may_follow_what_in_a_versions_life() {
    use VersionState::*;
    let all = [Building, CaughtUp, Active, Retired, failed(), Dropped];
    #[rustfmt::skip]
    let table = [
        // to:         building caught_up active retired failed dropped
        ("building",  [false,   true,     false, false,  true,  true ]),
        ("caught_up", [true,    false,    true,  false,  true,  true ]),
        ("active",    [false,   false,    false, true,   true,  false]),
        ("retired",   [false,   false,    true,  false,  true,  true ]),
        ("failed",    [true,    false,    false, false,  false, true ]),
        ("dropped",   [false,   false,    false, false,  false, false]),
    ];
    for (from, (name, allowed)) in all.iter().zip(table) {
        assert_eq!(from.name(), name);
        let may: Vec<bool> = all.iter().map(|to| from.may_become(to)).collect();
        assert_eq!(may, allowed, "from {name}");
    }
}

#[test]
fn a_view_goes_from_its_first_version_to_its_second_and_back() {
    let World { catalogue, clock, .. } = world();
    assert_eq!(catalogue.views().unwrap(), Vec::<String>::new());
    assert_eq!(catalogue.active(VIEW).unwrap(), None);
    assert_eq!(caught_up(&catalogue, "a"), V1);
    catalogue.switch(VIEW, None, V1, "ann", None).unwrap();
    assert_eq!(caught_up(&catalogue, "b"), V2);
    clock.advance_ms(5_000);
    let pointer = catalogue.switch(VIEW, Some(V1), V2, "ann", Some("new rule")).unwrap();
    let expected = ActivePointer {
        version: V2,
        previous: Some(V1),
        switched_ms: 1_005_000,
        switched_by: "ann".into(),
        reason: Some("new rule".into()),
        is_rollback: false,
    };
    assert_eq!(pointer, expected);
    assert_eq!(catalogue.active(VIEW).unwrap(), Some(expected));
    assert_eq!(states(&catalogue), [(V1, "retired"), (V2, "active")]);
    let back = catalogue.rollback(VIEW, V2, V1, "bob", Some("wrong rule")).unwrap();
    assert_eq!((back.version, back.previous, back.is_rollback), (V1, Some(V2), true));
    assert_eq!(catalogue.rollback(VIEW, V2, V1, "eve", None).unwrap(), back, "asked again, nothing is changed");
    assert_eq!(states(&catalogue), [(V1, "active"), (V2, "retired")]);
    assert_eq!(catalogue.views().unwrap(), [VIEW]);
    assert_eq!(
        verbs(&catalogue, 100),
        [
            "create v1 - → building by ann",
            "state v1 building → caught_up by worker",
            "switch v1 - → v1 by ann",
            "create v2 - → building by ann",
            "state v2 building → caught_up by worker",
            "switch v2 v1 → v2 by ann",
            "rollback v1 v2 → v1 by bob",
        ]
    );
    assert_eq!(verbs(&catalogue, 2).len(), 2);
    assert_eq!(catalogue.history(Some("other"), 9).unwrap(), []);
    assert_eq!(catalogue.history(None, 100).unwrap().len(), 7);
}

#[test]
fn creating_again_goes_on_with_the_version_that_is_being_built() {
    let World { catalogue, .. } = world();
    let first = catalogue.create_version(VIEW, "SELECT 1", "a", "shape", "ann").unwrap();
    assert_eq!(catalogue.create_version(VIEW, "SELECT 1", "a", "shape", "bob").unwrap(), first);
    assert_eq!(catalogue.create_version(VIEW, "SELECT 2", "b", "shape", "ann").unwrap().version, V2);
    assert_eq!(catalogue.create_version(VIEW, "SELECT 1", "a", "shape", "ann").unwrap().version, V3, "an older one is not taken up");
}

#[test]
fn numbers_of_dropped_versions_are_not_given_again() {
    let World { catalogue, .. } = world();
    for expected in 1..=3 {
        let version = catalogue.create_version(VIEW, "SELECT 1", "a", "shape", "ann").unwrap().version;
        assert_eq!(version, Version(expected));
        let dropped = catalogue.set_state(VIEW, version, &[VersionState::Building], VersionState::Dropped, "ann").unwrap();
        assert_eq!(dropped.state, VersionState::Dropped);
        let again = catalogue.set_state(VIEW, version, &[VersionState::Building], VersionState::Dropped, "bob").unwrap();
        assert_eq!(again, dropped, "dropping again changes nothing");
    }
    assert_eq!(states(&catalogue), [(V1, "dropped"), (V2, "dropped"), (V3, "dropped")]);
    assert_eq!(catalogue.version(VIEW, V2).unwrap().unwrap().state, VersionState::Dropped);
    assert_eq!(catalogue.version(VIEW, Version(9)).unwrap(), None);
}

#[test]
fn who_switches_second_is_told_who_was_first_and_when() {
    let World { catalogue, clock, .. } = world();
    for digest in ["a", "b", "c"] {
        caught_up(&catalogue, digest);
    }
    catalogue.switch(VIEW, None, V1, "ann", None).unwrap();
    catalogue.switch(VIEW, Some(V1), V2, "ann", None).unwrap();
    clock.advance_ms(12_300);
    let error = catalogue.switch(VIEW, Some(V1), V3, "bob", None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "view hashtag_counts: version v2 is in service (for 12 s, by ann), where v1 was expected; look at it and run again"
    );
    assert_eq!(states(&catalogue), [(V1, "retired"), (V2, "active"), (V3, "caught_up")], "nothing has changed");
    let error = catalogue.switch("other", Some(V1), V3, "bob", None).unwrap_err();
    assert_eq!(error.to_string(), "view other: no version is active, v1 was to be replaced; look at its status and run again");
}

#[test]
fn of_two_operators_at_once_exactly_one_switches() {
    for _ in 0..50 {
        let World { catalogue, .. } = world();
        for digest in ["a", "b", "c"] {
            caught_up(&catalogue, digest);
        }
        catalogue.switch(VIEW, None, V1, "ann", None).unwrap();
        let start = Barrier::new(2);
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let operators = [(V2, "bob"), (V3, "cid")].map(|(to, by)| {
                let (catalogue, start) = (&catalogue, &start);
                scope.spawn(move || {
                    start.wait();
                    catalogue.switch(VIEW, Some(V1), to, by, None)
                })
            });
            operators.into_iter().map(|operator| operator.join().unwrap()).collect()
        });
        let won: Vec<Version> = outcomes.iter().flatten().map(|pointer| pointer.version).collect();
        let pointer = catalogue.active(VIEW).unwrap().unwrap();
        assert_eq!(won, [pointer.version]);
        let lost = outcomes.iter().find_map(|outcome| outcome.as_ref().err()).unwrap();
        assert!(
            matches!(lost, CatalogueError::Switched { active, by, .. } if *active == pointer.version && *by == pointer.switched_by),
            "{lost}"
        );
        let active: Vec<Version> =
            states(&catalogue).into_iter().filter(|(_, state)| *state == "active").map(|(version, _)| version).collect();
        assert_eq!(active, [pointer.version]);
        assert_eq!(verbs(&catalogue, 100).iter().filter(|line| line.starts_with("switch")).count(), 2);
    }
}

#[test]
fn a_version_that_readers_may_be_sent_to_is_not_dropped() {
    for _ in 0..50 {
        let World { catalogue, .. } = world();
        caught_up(&catalogue, "a");
        caught_up(&catalogue, "b");
        catalogue.switch(VIEW, None, V1, "ann", None).unwrap();
        let start = Barrier::new(2);
        let (switched, dropped) = std::thread::scope(|scope| {
            let (catalogue, start) = (&catalogue, &start);
            let switch = scope.spawn(move || {
                start.wait();
                catalogue.switch(VIEW, Some(V1), V2, "ann", None).is_ok()
            });
            let drop = scope.spawn(move || {
                start.wait();
                catalogue.set_state(VIEW, V2, &[VersionState::CaughtUp], VersionState::Dropped, "bob").is_ok()
            });
            (switch.join().unwrap(), drop.join().unwrap())
        });
        assert_ne!(switched, dropped, "one of them is refused");
        let pointer = catalogue.active(VIEW).unwrap().unwrap().version;
        assert_eq!(catalogue.version(VIEW, pointer).unwrap().unwrap().state, VersionState::Active);
        assert_eq!(catalogue.versions(VIEW).unwrap().len(), 2);
    }
}

#[test]
fn refusals_name_the_state_and_what_is_allowed() {
    let World { catalogue, clock, .. } = world();
    catalogue.create_version(VIEW, "SELECT 1", "a", "shape", "ann").unwrap();
    clock.advance_ms(180_000);
    let refusal = |outcome: Result<VersionRecord, CatalogueError>| outcome.unwrap_err().to_string();
    let switched = catalogue.switch(VIEW, None, V1, "ann", None).unwrap_err().to_string();
    assert_eq!(
        switched,
        "view hashtag_counts: version v1 is building (for 3 min, by ann) and cannot become active; \
         it can become caught_up, failed, dropped; wait until it is caught up"
    );
    let unknown = refusal(catalogue.set_state(VIEW, V2, &[VersionState::Building], VersionState::CaughtUp, "ann"));
    assert_eq!(unknown, "view hashtag_counts has no version v2; it has v1");
    let not_from_there = catalogue.set_state(VIEW, V1, &[VersionState::Retired], VersionState::Dropped, "ann");
    assert!(matches!(not_from_there, Err(CatalogueError::State { state: "building", wanted: "dropped", .. })));
    let by_switch = catalogue.set_state(VIEW, V1, &[VersionState::Building], VersionState::Active, "ann");
    assert!(matches!(by_switch, Err(CatalogueError::SwitchOnly { .. })));
    for name in ["", "a/b"] {
        assert!(matches!(catalogue.versions(name), Err(CatalogueError::InvalidName(_))));
    }
}

#[test]
fn a_version_that_fails_in_service_keeps_its_readers_and_can_be_left_or_resumed() {
    let World { catalogue, .. } = world();
    caught_up(&catalogue, "a");
    caught_up(&catalogue, "b");
    catalogue.switch(VIEW, None, V1, "ann", None).unwrap();
    catalogue.set_state(VIEW, V1, &[VersionState::Active], failed(), "worker").unwrap();
    let error = catalogue.set_state(VIEW, V1, &[failed()], VersionState::Dropped, "ann").unwrap_err();
    assert!(matches!(error, CatalogueError::InService { .. }), "{error}");
    assert_eq!(states(&catalogue), [(V1, "failed"), (V2, "caught_up")], "the refused drop left nothing behind");

    let on_itself = catalogue.switch(VIEW, Some(V1), V1, "ann", None).unwrap_err().to_string();
    assert!(on_itself.contains("version v1 is failed") && on_itself.contains("refold resume hashtag_counts 1"), "{on_itself}");
    catalogue.resume(VIEW, V1, "ann").unwrap();
    assert_eq!(states(&catalogue), [(V1, "active"), (V2, "caught_up")]);

    catalogue.set_state(VIEW, V1, &[VersionState::Active], failed(), "worker").unwrap();
    catalogue.switch(VIEW, Some(V1), V2, "ann", None).unwrap();
    assert_eq!(states(&catalogue), [(V1, "failed"), (V2, "active")], "what failed does not pass for retired");
    catalogue.set_state(VIEW, V1, &[failed()], VersionState::Dropped, "ann").unwrap();
    assert_eq!(states(&catalogue), [(V1, "dropped"), (V2, "active")]);
}

#[test]
fn a_failed_version_goes_on_when_it_is_resumed_and_one_that_runs_stays_as_it_is() {
    let World { catalogue, clock, .. } = world();
    caught_up(&catalogue, "a");
    caught_up(&catalogue, "b");
    catalogue.switch(VIEW, None, V1, "ann", None).unwrap();
    for (version, state) in [(V1, VersionState::Active), (V2, VersionState::CaughtUp)] {
        catalogue.set_state(VIEW, version, &[state], failed(), "worker").unwrap();
    }
    clock.advance_ms(5_000);
    let resumed = catalogue.resume(VIEW, V1, "bob").unwrap();
    assert_eq!((resumed.state, resumed.changed_ms, resumed.changed_by.as_str()), (VersionState::Active, 1_005_000, "bob"));
    assert_eq!(catalogue.resume(VIEW, V2, "bob").unwrap().state, VersionState::Building, "readers are not sent to it");
    let done = verbs(&catalogue, 100);
    assert_eq!(done[done.len() - 2..], ["resume v1 failed → active by bob", "resume v2 failed → building by bob"]);
    assert_eq!(
        catalogue.history(Some(VIEW), 1).unwrap()[0].reason.as_deref(),
        Some("it had failed: records 0 to 7 are no longer in the log")
    );

    assert_eq!(catalogue.resume(VIEW, V1, "eve").unwrap().changed_by, "bob", "resumed again, nothing is changed");
    assert_eq!(verbs(&catalogue, 100), done);
    assert_eq!(catalogue.resume(VIEW, V3, "eve").unwrap_err().to_string(), "view hashtag_counts has no version v3; it has v1, v2");
    catalogue.set_state(VIEW, V2, &[VersionState::Building], VersionState::Dropped, "ann").unwrap();
    let dropped = catalogue.resume(VIEW, V2, "eve").unwrap_err().to_string();
    assert!(dropped.contains("v2 is dropped") && dropped.ends_with("refold replay hashtag_counts"), "{dropped}");
}

#[test]
fn a_schema_is_kept_under_its_number_and_the_first_text_stays() {
    let World { catalogue, .. } = world();
    catalogue.register_schema(7, r#"{"type": "string", "doc": "a"}"#, "log").unwrap();
    catalogue.register_schema(u32::MAX, r#""long""#, "log").unwrap();
    catalogue.register_schema(7, r#""string""#, "log").unwrap();
    assert_eq!(catalogue.schema(7).unwrap().as_deref(), Some(r#"{"type": "string", "doc": "a"}"#));
    assert_eq!(catalogue.schema(3).unwrap(), None);
    assert!(matches!(catalogue.register_schema(8, "{", "log"), Err(CatalogueError::InvalidSchema(_))));
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let catalogue = &catalogue;
            scope.spawn(move || catalogue.register_schema(9 + writer % 2, r#""int""#, "log").unwrap());
        }
    });
    let ids: Vec<u32> = catalogue.schemas().unwrap().into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, [7, 9, 10, u32::MAX]);
}

/// Fails one call, before or after it was carried out, as a lost connection does.
struct Unreliable {
    store: Arc<MemoryStore>,
    calls: AtomicUsize,
    fails_at: usize,
    carries_out: bool,
}

impl Unreliable {
    fn call<T>(&self, call: impl Fn() -> Result<T, StoreError>) -> Result<T, StoreError> {
        if self.calls.fetch_add(1, Ordering::SeqCst) != self.fails_at {
            return call();
        }
        if self.carries_out {
            call()?;
        }
        Err(StoreError::Unavailable("connection lost".into()))
    }
}

impl Registers for Unreliable {
    fn get(&self, key: &str) -> Result<Option<Register>, StoreError> {
        self.call(|| self.store.get(key))
    }
    fn compare_and_set(&self, key: &str, expected: Option<u64>, value: Option<&str>) -> Result<Outcome, StoreError> {
        self.call(|| self.store.compare_and_set(key, expected, value))
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

/// From nothing to a second version in service and the end of both, each verb run again until it succeeds.
fn a_whole_life(catalogue: &Catalogue) -> usize {
    let mut interruptions = 0;
    let mut again = |verb: &dyn Fn() -> Result<(), CatalogueError>| {
        while let Err(error) = verb() {
            assert!(error.is_retryable(), "{error}");
            interruptions += 1;
        }
    };
    let caught_up = |version| catalogue.set_state(VIEW, version, &[VersionState::Building], VersionState::CaughtUp, "worker").map(drop);
    again(&|| catalogue.create_version(VIEW, "SELECT 1", "a", "shape", "ann").map(drop));
    again(&|| caught_up(V1));
    again(&|| catalogue.switch(VIEW, None, V1, "ann", None).map(drop));
    again(&|| catalogue.set_state(VIEW, V1, &[VersionState::Active], failed(), "worker").map(drop));
    again(&|| catalogue.resume(VIEW, V1, "ann").map(drop));
    again(&|| catalogue.create_version(VIEW, "SELECT 2", "b", "shape", "ann").map(drop));
    again(&|| caught_up(V2));
    again(&|| catalogue.switch(VIEW, Some(V1), V2, "ann", Some("new rule")).map(drop));
    again(&|| catalogue.rollback(VIEW, V2, V1, "ann", None).map(drop));
    again(&|| catalogue.switch(VIEW, Some(V1), V2, "ann", None).map(drop));
    again(&|| catalogue.drop_version(VIEW, V1, &[VersionState::Retired], "ann", Some("old")).map(drop));
    again(&|| catalogue.note_removed(VIEW, V1, "worker"));
    again(&|| catalogue.drop_view(VIEW, "ann", None).map(drop));
    again(&|| catalogue.note_removed(VIEW, V2, "worker"));
    interruptions
}

#[test]
fn interrupted_at_any_call_every_verb_is_completed_by_running_it_again() {
    let straight = world();
    a_whole_life(&straight.catalogue);
    let expected = (straight.catalogue.versions(VIEW).unwrap(), straight.catalogue.active(VIEW).unwrap());
    let history = straight.catalogue.history(None, 100).unwrap();
    assert_eq!(history.len(), 14);
    let mut places = 0;
    for carries_out in [false, true] {
        for fails_at in 0.. {
            let World { catalogue, clock, store } = world();
            let unreliable = Unreliable { store, calls: AtomicUsize::new(0), fails_at, carries_out };
            let interruptions = a_whole_life(&Catalogue::new(Arc::new(unreliable), clock));
            let place = format!("call {fails_at}, carried out: {carries_out}");
            assert_eq!((catalogue.versions(VIEW).unwrap(), catalogue.active(VIEW).unwrap()), expected, "{place}");
            assert_eq!(catalogue.history(None, 100).unwrap(), history, "{place}");
            if interruptions == 0 {
                break;
            }
            places += 1;
        }
    }
    assert!(places > 60, "{places} places were tried");
}

#[test]
fn an_entry_is_in_the_history_before_it_is_in_the_journal() {
    let World { catalogue, clock, store } = world();
    // Reading and setting the register are carried out, the journal is unavailable.
    let unreliable = Unreliable { store: store.clone(), calls: AtomicUsize::new(0), fails_at: 3, carries_out: false };
    Catalogue::new(Arc::new(unreliable), clock).create_version(VIEW, "SELECT 1", "a", "shape", "ann").unwrap_err();
    assert_eq!(store.journal(9).unwrap(), Vec::<String>::new());
    assert_eq!(verbs(&catalogue, 9), ["create v1 - → building by ann"]);
}

#[test]
fn registers_read_back_as_they_were_written() {
    let version = VersionRecord {
        view: VIEW.into(),
        version: V3,
        sql: "SELECT '\u{0}\"é'".into(),
        digest: "d".into(),
        schema_fingerprint: "f".into(),
        state: failed(),
        created_ms: -1,
        created_by: "ann".into(),
        commit: Some("1a2b3c".into()),
        changed_ms: i64::MAX,
        changed_by: String::new(),
        controls: Controls { pause: true, throttle: Throttle::Rate(5), until_ms: Some(-7) },
    };
    let entry = AuditEntry { reason: Some("why".into()), change: Some(u64::MAX), ..AuditEntry::new("switch", VIEW, "ann", 7) };
    let pointer = ActivePointer { version: V3, previous: None, switched_ms: 5, switched_by: "ann".into(), reason: None, is_rollback: true };
    let view = ViewRegister {
        last_version: 3,
        active: Some(pointer),
        versions: vec![version.clone()],
        removing: vec![version.clone()],
        changes: 4,
        prepared: None,
        settled: None,
        unjournaled: vec![entry.clone()],
    };
    let owner = OwnerRecord { epoch: Epoch(4), owner: "one".into(), incarnation: Some("i".into()), lease_until_ms: 9, released: true };
    assert_eq!(decode::<ViewRegister>("k", &encode("k", &view).unwrap()).unwrap(), view);
    let dropped = DroppedRegister { version };
    assert_eq!(decode::<DroppedRegister>("k", &encode("k", &dropped).unwrap()).unwrap(), dropped);
    let owner = OwnerRegister { ownership: owner };
    assert_eq!(decode::<OwnerRegister>("k", &encode("k", &owner).unwrap()).unwrap(), owner);
    let worker = WorkerRegister { lease: WorkerLease { incarnation: "i".into(), until_ms: 5, released: false } };
    assert_eq!(decode::<WorkerRegister>("k", &encode("k", &worker).unwrap()).unwrap(), worker);
    let schema = SchemaRegister { schema: "\"long\"".into() };
    assert_eq!(decode::<SchemaRegister>("k", &encode("k", &schema).unwrap()).unwrap(), schema);
    assert_eq!(decode::<AuditEntry>("k", &encode("k", &entry).unwrap()).unwrap(), entry);
}

/// Format 1, kept for ever.
const VIEW_REGISTER_1: &str = r#"{"format":1,"last_version":2,"active":{"version":1,"previous":null,"switched_ms":7,"switched_by":"ann","reason":"first"},"versions":[{"view":"v","version":1,"sql":"SELECT 1","digest":"d","schema_fingerprint":"f","state":{"is":"active"},"created_ms":5,"created_by":"ann","changed_ms":7,"changed_by":"ann"},{"view":"v","version":2,"sql":"SELECT 2","digest":"e","schema_fingerprint":"f","state":{"is":"failed","error":"hole"},"created_ms":8,"created_by":"bob","changed_ms":9,"changed_by":"worker"}],"changes":5,"unjournaled":[{"at_ms":9,"by":"worker","verb":"state","view":"v","version":2,"from":"building","to":"failed","reason":"hole","change":5}]}"#;

#[test]
fn format_1_is_read_and_written_for_ever() {
    let register: ViewRegister = decode("k", VIEW_REGISTER_1).unwrap();
    assert_eq!(register.versions[1].state, VersionState::Failed { error: "hole".into() });
    assert_eq!(encode("k", &register).unwrap(), VIEW_REGISTER_1);
    // What later releases have added is not there unless it says something.
    assert!(register.removing.is_empty() && !register.active.is_some_and(|active| active.is_rollback));
    let owner: OwnerRegister =
        decode("k", r#"{"format":1,"ownership":{"epoch":3,"owner":"one","lease_until_ms":5,"released":false}}"#).unwrap();
    assert_eq!((owner.ownership.epoch, owner.ownership.incarnation), (Epoch(3), None), "before workers had leases");
    let worker = r#"{"format":1,"lease":{"incarnation":"i","until_ms":5,"released":false}}"#;
    assert_eq!(encode("k", &decode::<WorkerRegister>("k", worker).unwrap()).unwrap(), worker);
    assert_eq!(records::schema_key(12), "catalogue/schema/0000000012");
    assert_eq!(dropped_key("v", V2), "catalogue/dropped/v/0000000002");
    assert_eq!(records::owner_key("v", V2), "catalogue/owner/v/0000000002");
    assert_eq!(records::worker_key("host-1"), "catalogue/worker/host-1");
}

#[test]
fn a_register_of_a_later_release_is_refused() {
    let World { catalogue, store, .. } = world();
    let later = format!(r#"{{"format":{},"versions":"in another way"}}"#, FORMAT + 1);
    store.compare_and_set(&view_key(VIEW), None, Some(&later)).unwrap();
    let error = catalogue.active(VIEW).unwrap_err().to_string();
    assert_eq!(
        error,
        "register catalogue/view/hashtag_counts has format 2, this release reads up to 1; use the release that wrote it or a later one"
    );
    store.compare_and_set(&view_key("broken"), None, Some("{")).unwrap();
    assert!(matches!(catalogue.active("broken"), Err(CatalogueError::Unreadable { .. })));
}

/// Registers that count how much of the journal is read.
struct Counted {
    store: Arc<MemoryStore>,
    read: AtomicUsize,
}

impl Registers for Counted {
    fn get(&self, key: &str) -> Result<Option<Register>, StoreError> {
        self.store.get(key)
    }

    fn compare_and_set(&self, key: &str, expected: Option<u64>, value: Option<&str>) -> Result<Outcome, StoreError> {
        self.store.compare_and_set(key, expected, value)
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, Register)>, StoreError> {
        self.store.list(prefix)
    }

    fn append_journal(&self, entry: &str) -> Result<(), StoreError> {
        self.store.append_journal(entry)
    }

    fn journal(&self, limit: usize) -> Result<Vec<String>, StoreError> {
        let entries = self.store.journal(limit)?;
        self.read.fetch_add(entries.len(), Ordering::SeqCst);
        Ok(entries)
    }
}

#[test]
fn the_history_of_a_view_that_has_little_does_not_read_the_journal_of_all_others() {
    let World { catalogue, clock, store } = world();
    catalogue.create_version("early", "SELECT 1", "a", "shape", "ann").unwrap();
    let other = encode("journal", &AuditEntry::new("take", "other", "worker", 0)).unwrap();
    (0..25_000).for_each(|_| store.append_journal(&other).unwrap());
    catalogue.create_version(VIEW, "SELECT 1", "a", "shape", "ann").unwrap();
    let counted = Arc::new(Counted { store, read: AtomicUsize::new(0) });
    let catalogue = Catalogue::new(counted.clone(), clock);
    assert_eq!(verbs(&catalogue, 100), ["create v1 - → building by ann"]);
    assert_eq!(counted.read.swap(0, Ordering::SeqCst), 20_000, "once, and no further back");
    assert_eq!(catalogue.history(None, 100).unwrap().len(), 100);
    assert_eq!(counted.read.load(Ordering::SeqCst), 100);
}
