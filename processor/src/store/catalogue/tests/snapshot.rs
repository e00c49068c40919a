//! The catalogue at a glance.

use super::*;

/// Counts calls, as a store far away does that is asked in one round trip each.
struct Counted {
    store: Arc<MemoryStore>,
    calls: AtomicUsize,
}

impl Counted {
    fn call<T>(&self, call: impl FnOnce() -> T) -> T {
        self.calls.fetch_add(1, Ordering::SeqCst);
        call()
    }
}

impl Registers for Counted {
    fn get(&self, key: &str) -> Result<Option<Register>, StoreError> {
        self.call(|| self.store.get(key))
    }
    fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Register>>, StoreError> {
        self.call(|| self.store.get_many(keys))
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

fn owner(name: &str) -> Owner {
    Owner { name: name.into(), incarnation: Incarnation { id: name.into(), replaces: None } }
}

#[test]
fn a_snapshot_holds_what_the_single_questions_answer() {
    let World { catalogue, clock, .. } = world();
    let (one, two) = (owner("one"), owner("two"));
    catalogue.renew(&one, 1_000, None).unwrap();
    catalogue.renew(&two, 2_000, None).unwrap();
    for digest in ["a", "b", "c"] {
        caught_up(&catalogue, digest);
    }
    catalogue.switch(VIEW, None, V1, "ann", None).unwrap();
    catalogue.take(VIEW, V1, &one, None).unwrap();
    catalogue.take(VIEW, V2, &two, None).unwrap();
    catalogue.set_state(VIEW, V3, &[VersionState::CaughtUp], VersionState::Dropped, "ann").unwrap();
    catalogue.create_version("other", "SELECT 2", "d", "shape", "ann").unwrap();
    clock.advance_ms(1_500);

    let snapshot = catalogue.snapshot().unwrap();
    assert_eq!(snapshot.views.keys().cloned().collect::<Vec<_>>(), catalogue.views().unwrap());
    for (view, read) in &snapshot.views {
        let read = read.as_ref().unwrap();
        assert_eq!(read.active, catalogue.active(view).unwrap());
        let living: Vec<VersionRecord> =
            catalogue.versions(view).unwrap().into_iter().filter(|record| record.state != VersionState::Dropped).collect();
        assert_eq!(read.versions, living);
        for record in &read.versions {
            assert_eq!(read.owners.get(&record.version).cloned(), catalogue.ownership(view, record.version).unwrap());
        }
    }
    let owners = &snapshot.views[VIEW].as_ref().unwrap().owners;
    let held = |version: Version| owners[&version].is_held(clock.now_ms());
    assert_eq!((held(V1), held(V2), owners.len()), (false, true, 2), "the lease of the first owner has ended");
}

#[test]
fn however_many_versions_there_are_a_snapshot_is_three_calls() {
    let World { catalogue, clock, store } = world();
    let one = owner("one");
    catalogue.renew(&one, 1_000, None).unwrap();
    for view in 0..60 {
        let view = format!("view_{view}");
        let version = catalogue.create_version(&view, "SELECT 1", "a", "shape", "ann").unwrap().version;
        catalogue.take(&view, version, &one, None).unwrap();
    }
    let counted = Arc::new(Counted { store, calls: AtomicUsize::new(0) });
    let snapshot = Catalogue::new(counted.clone(), clock).snapshot().unwrap();
    assert_eq!(snapshot.views.len(), 60);
    assert_eq!(counted.calls.load(Ordering::SeqCst), 3);
}

#[test]
fn what_is_wrong_with_one_view_does_not_hide_the_others() {
    let World { catalogue, store, .. } = world();
    for view in ["a", "b", "c"] {
        catalogue.create_version(view, "SELECT 1", "a", "shape", "ann").unwrap();
    }
    store.compare_and_set(&view_key("broken"), None, Some("{")).unwrap();
    store.compare_and_set(&records::owner_key("b", V1), None, Some(r#"{"format":2}"#)).unwrap();
    let snapshot = catalogue.snapshot().unwrap();
    let read: Vec<(&str, bool)> = snapshot.views.iter().map(|(view, read)| (view.as_str(), read.is_ok())).collect();
    assert_eq!(read, [("a", true), ("b", false), ("broken", false), ("c", true)]);
    assert!(matches!(snapshot.views["b"], Err(CatalogueError::NewerFormat { .. })));
}
