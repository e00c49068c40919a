//! The end of versions.

use super::*;

fn removing(catalogue: &Catalogue) -> Vec<Version> {
    catalogue.removing(VIEW).unwrap().into_iter().map(|record| record.version).collect()
}

#[test]
fn a_dropped_version_is_listed_until_nothing_is_left_of_it() {
    let World { catalogue, clock, .. } = world();
    caught_up(&catalogue, "a");
    caught_up(&catalogue, "b");
    catalogue.switch(VIEW, None, V1, "ann", None).unwrap();
    catalogue.switch(VIEW, Some(V1), V2, "ann", None).unwrap();
    clock.advance_ms(5_000);
    let in_service = catalogue.drop_version(VIEW, V2, &[VersionState::Active], "ann", None).unwrap_err();
    assert!(matches!(in_service, CatalogueError::State { state: "active", .. }), "{in_service}");
    let dropped = catalogue.drop_version(VIEW, V1, &[VersionState::Retired], "ann", Some("old rule")).unwrap();
    assert_eq!((&dropped.state, dropped.changed_ms), (&VersionState::Dropped, 1_005_000));
    assert_eq!(removing(&catalogue), [V1]);
    let snapshot = catalogue.snapshot().unwrap();
    let read = snapshot.views[VIEW].as_ref().unwrap();
    assert_eq!((read.versions.len(), read.removing.clone()), (1, vec![dropped.clone()]));
    assert_eq!(
        catalogue.drop_version(VIEW, V1, &[VersionState::Retired], "bob", None).unwrap(),
        dropped,
        "asked again, nothing is changed"
    );
    for _ in 0..2 {
        catalogue.note_removed(VIEW, V1, "worker").unwrap();
        assert_eq!(removing(&catalogue), []);
    }
    assert_eq!(states(&catalogue), [(V1, "dropped"), (V2, "active")]);
    let done = verbs(&catalogue, 100);
    assert_eq!(done[done.len() - 2..], ["drop v1 retired → dropped by ann", "remove v1 - → - by worker"]);
    assert_eq!(catalogue.history(Some(VIEW), 2).unwrap()[0].reason.as_deref(), Some("old rule"));
}

#[test]
fn a_view_is_dropped_whole_in_one_step_and_begins_anew_with_the_next_number() {
    let World { catalogue, .. } = world();
    caught_up(&catalogue, "a");
    caught_up(&catalogue, "b");
    catalogue.switch(VIEW, None, V1, "ann", None).unwrap();
    catalogue.set_state(VIEW, V1, &[VersionState::Active], failed(), "worker").unwrap();
    let dropped = catalogue.drop_view(VIEW, "ann", Some("no more")).unwrap();
    assert_eq!(dropped.iter().map(|record| record.version).collect::<Vec<_>>(), [V1, V2]);
    assert_eq!((catalogue.active(VIEW).unwrap(), removing(&catalogue)), (None, vec![V1, V2]));
    assert_eq!(states(&catalogue), [(V1, "dropped"), (V2, "dropped")]);
    assert_eq!(catalogue.drop_view(VIEW, "bob", None).unwrap(), [], "asked again, nothing is changed");
    assert_eq!(verbs(&catalogue, 1), ["drop - v1, v2 → dropped by ann"]);
    assert_eq!(catalogue.create_version(VIEW, "SELECT 1", "a", "shape", "ann").unwrap().version, V3);
    assert_eq!(removing(&catalogue), [V1, V2], "what is left of the others is not forgotten");
}

#[test]
fn a_retired_version_expires() {
    let World { catalogue, clock, .. } = world();
    caught_up(&catalogue, "a");
    caught_up(&catalogue, "b");
    catalogue.switch(VIEW, None, V1, "ann", None).unwrap();
    clock.advance_ms(500);
    catalogue.switch(VIEW, Some(V1), V2, "ann", None).unwrap();
    let expires = |version, after_ms| catalogue.version(VIEW, version).unwrap().unwrap().expires_ms(after_ms);
    assert_eq!((expires(V1, Some(7)), expires(V1, None), expires(V2, Some(7))), (Some(1_000_507), None, None));
}

/// Registers in which a version is dropped in the moment in which it is taken.
struct DropsAtTake(Arc<MemoryStore>, Arc<ManualClock>);

impl Registers for DropsAtTake {
    fn get(&self, key: &str) -> Result<Option<Register>, StoreError> {
        self.0.get(key)
    }
    fn compare_and_set(&self, key: &str, expected: Option<u64>, value: Option<&str>) -> Result<Outcome, StoreError> {
        if key == records::owner_key(VIEW, V1) {
            let other = Catalogue::new(self.0.clone(), self.1.clone());
            other.drop_version(VIEW, V1, &[VersionState::CaughtUp], "ann", None).unwrap();
        }
        self.0.compare_and_set(key, expected, value)
    }
    fn list(&self, prefix: &str) -> Result<Vec<(String, Register)>, StoreError> {
        self.0.list(prefix)
    }
    fn append_journal(&self, entry: &str) -> Result<(), StoreError> {
        self.0.append_journal(entry)
    }
    fn journal(&self, limit: usize) -> Result<Vec<String>, StoreError> {
        self.0.journal(limit)
    }
}

#[test]
fn what_is_dropped_while_it_is_taken_is_not_held() {
    let World { catalogue, clock, store } = world();
    caught_up(&catalogue, "a");
    let owner = Owner { name: "one".into(), incarnation: Incarnation { id: "one".into(), replaces: None } };
    catalogue.renew(&owner, 1_000, None).unwrap();
    let racing = Catalogue::new(Arc::new(DropsAtTake(store, clock.clone())), clock.clone());
    assert!(matches!(racing.take(VIEW, V1, &owner, None), Err(CatalogueError::State { state: "dropped", .. })));
    let held = catalogue.ownership(VIEW, V1).unwrap().unwrap();
    assert!(!held.is_held(clock.now_ms()), "others may remove what is left of it");
}
