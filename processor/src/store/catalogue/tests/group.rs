//! Several views that switch as one.

use super::*;
use crate::store::Registers;

const OTHER: &str = "hashtag_trends";

/// Registers that fail from a certain call on, as for a process that is killed.
struct Dying {
    store: Arc<MemoryStore>,
    left: AtomicUsize,
}

impl Dying {
    fn call(&self) -> Result<(), StoreError> {
        let is_alive = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if is_alive { Ok(()) } else { Err(StoreError::Unavailable("killed".into())) }
    }
}

impl Registers for Dying {
    fn get(&self, key: &str) -> Result<Option<Register>, StoreError> {
        self.call()?;
        self.store.get(key)
    }

    fn compare_and_set(&self, key: &str, expected: Option<u64>, value: Option<&str>) -> Result<Outcome, StoreError> {
        self.call()?;
        self.store.compare_and_set(key, expected, value)
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, Register)>, StoreError> {
        self.call()?;
        self.store.list(prefix)
    }

    fn append_journal(&self, entry: &str) -> Result<(), StoreError> {
        self.call()?;
        self.store.append_journal(entry)
    }

    fn journal(&self, limit: usize) -> Result<Vec<String>, StoreError> {
        self.call()?;
        self.store.journal(limit)
    }
}

/// Two views whose readers are on version 1, and a version 2 of each that they can be sent to.
fn two_views() -> World {
    let world = world();
    for view in [VIEW, OTHER] {
        for digest in ["a", "b"] {
            let version = world.catalogue.create_version(view, "SELECT 1", digest, "shape", "ann").unwrap().version;
            world.catalogue.set_state(view, version, &[VersionState::Building], VersionState::CaughtUp, "worker").unwrap();
        }
        world.catalogue.switch(view, None, V1, "ann", None).unwrap();
    }
    world
}

fn moves() -> [Move; 2] {
    [VIEW, OTHER].map(|view| Move { view: view.into(), from: Some(V1), to: V2 })
}

fn seen(catalogue: &Catalogue) -> [Version; 2] {
    [VIEW, OTHER].map(|view| catalogue.active(view).unwrap().unwrap().version)
}

#[test]
fn several_views_move_together_and_the_history_says_so() {
    let World { catalogue, store, .. } = two_views();
    assert_eq!(catalogue.switch_as_one(&moves(), "bob", Some("new rule")).unwrap(), moves());
    assert_eq!(seen(&catalogue), [V2, V2]);
    assert_eq!(states(&catalogue), [(V1, "retired"), (V2, "active")]);
    assert_eq!(catalogue.switch_as_one(&moves(), "bob", None).unwrap(), [], "asked again, nothing is changed");
    for view in [VIEW, OTHER] {
        let last = catalogue.history(Some(view), 1).unwrap().remove(0);
        assert_eq!((last.verb.as_str(), last.from.as_deref(), last.to.as_deref()), ("switch", Some("v1"), Some("v2")));
        assert_eq!(last.reason.as_deref(), Some("new rule (as one with hashtag_counts, hashtag_trends)"));
    }
    assert_eq!(store.list("catalogue/group/").unwrap(), [], "nothing of the group is left");
    catalogue.rollback(OTHER, V2, V1, "ann", None).unwrap();
    assert_eq!(seen(&catalogue), [V2, V1], "each goes back by itself");
}

#[test]
fn if_one_view_cannot_be_moved_none_is() {
    let World { catalogue, store, .. } = two_views();
    let [one, other] = moves();
    let wrong = Move { from: Some(V3), ..other.clone() };
    assert!(matches!(catalogue.switch_as_one(&[one.clone(), wrong], "bob", None), Err(CatalogueError::Switched { .. })));
    catalogue.set_state(OTHER, V2, &[VersionState::CaughtUp], VersionState::Building, "worker").unwrap();
    assert!(matches!(catalogue.switch_as_one(&[one, other], "bob", None), Err(CatalogueError::State { .. })));
    assert_eq!((seen(&catalogue), store.list("catalogue/group/").unwrap()), ([V1, V1], vec![]));
}

#[test]
fn killed_anywhere_readers_see_all_views_moved_or_none_and_it_can_be_finished() {
    let mut both = [0, 0];
    for calls in 0.. {
        let World { catalogue, clock, store } = two_views();
        let dying = Arc::new(Dying { store: store.clone(), left: AtomicUsize::new(calls) });
        let killed = Catalogue::new(dying, clock.clone()).switch_as_one(&moves(), "bob", None);
        let after = seen(&catalogue);
        assert!(after == [V1, V1] || after == [V2, V2], "killed after {calls} calls, readers see {after:?}");
        both[usize::from(after == [V2, V2])] += 1;
        if killed.is_ok() {
            break;
        }
        // A look at the catalogue finishes what was decided, and takes back what was not, after a while.
        clock.advance_ms(60_000);
        catalogue.snapshot().unwrap();
        assert_eq!(seen(&catalogue), after, "killed after {calls} calls");
        for view in [VIEW, OTHER] {
            assert!(!store.get(&view_key(view)).unwrap().unwrap().value.contains("prepared"), "killed after {calls} calls");
        }
        catalogue.switch_as_one(&moves(), "bob", None).unwrap();
        assert_eq!(seen(&catalogue), [V2, V2]);
        for view in [VIEW, OTHER] {
            let switches = catalogue.history(Some(view), 100).unwrap().into_iter().filter(|entry| entry.verb == "switch").count();
            assert_eq!(switches, 2, "killed after {calls} calls, {view} has each switch once");
        }
    }
    assert!(both.iter().all(|count| *count > 2), "{both:?}");
}

#[test]
fn while_views_are_being_moved_nobody_else_moves_or_drops_them() {
    let World { catalogue, clock, store } = two_views();
    // Killed when the move of both is prepared.
    for calls in 0.. {
        let dying = Arc::new(Dying { store: store.clone(), left: AtomicUsize::new(calls) });
        let _ = Catalogue::new(dying, clock.clone()).switch_as_one(&moves(), "bob", None);
        if store.get(&view_key(OTHER)).unwrap().unwrap().value.contains("prepared") {
            break;
        }
        clock.advance_ms(60_000);
    }
    assert_eq!(seen(&catalogue), [V1, V1]);
    let refused = catalogue.switch(VIEW, Some(V1), V2, "ann", None).unwrap_err().to_string();
    assert!(refused.contains("bob is switching it together with others"), "{refused}");
    assert!(catalogue.drop_version(OTHER, V2, &[VersionState::CaughtUp], "ann", None).is_err());
    assert!(matches!(catalogue.switch_as_one(&moves(), "ann", None), Err(CatalogueError::Prepared { .. })));
    clock.advance_ms(60_000);
    catalogue.switch_as_one(&moves(), "ann", None).unwrap();
    assert_eq!(seen(&catalogue), [V2, V2], "what was left undecided is taken back");
}
