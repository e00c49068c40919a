//! What is wanted of versions beside their states.

use super::*;

const PAUSE: Asking<'static> = Asking { verb: "pause", by: "ann", reason: Some("not now") };

fn paused(record: &VersionRecord, _: Option<&ActivePointer>) -> Result<Option<Controls>, &'static str> {
    match record.state {
        VersionState::Building => Ok(Some(Controls { pause: true, ..record.controls.clone() })),
        _ => Err("it is not being built"),
    }
}

#[test]
fn a_change_of_controls_is_made_once_and_is_in_the_history() {
    let World { catalogue, .. } = world();
    let version = catalogue.create_version(VIEW, "SELECT 1", "a", "shape", "ann").unwrap().version;
    for _ in 0..2 {
        assert!(catalogue.control(VIEW, version, &PAUSE, paused).unwrap().unwrap().controls.pause);
    }
    assert!(catalogue.version(VIEW, version).unwrap().unwrap().controls.pause);
    for _ in 0..2 {
        assert!(!catalogue.resume(VIEW, version, "bob").unwrap().controls.pause);
    }
    let throttle = Asking { verb: "throttle", by: "ann", reason: None };
    let slower = |record: &VersionRecord, _: Option<&ActivePointer>| {
        Ok::<_, &str>(Some(Controls { throttle: Throttle::Rate(7), ..record.controls.clone() }))
    };
    catalogue.control(VIEW, version, &throttle, slower).unwrap().unwrap();
    assert_eq!(
        verbs(&catalogue, 9)[1..],
        ["pause v1 building → paused by ann", "resume v1 paused → building by bob", "throttle v1 auto → 7 events/s by ann"]
    );
    assert_eq!(catalogue.history(Some(VIEW), 9).unwrap()[1].reason.as_deref(), Some("not now"));
}

#[test]
fn what_is_refused_changes_nothing() {
    let World { catalogue, .. } = world();
    let version = caught_up(&catalogue, "a");
    let before = catalogue.versions(VIEW).unwrap();
    assert_eq!(catalogue.control(VIEW, version, &PAUSE, paused).unwrap(), Err("it is not being built"));
    assert_eq!(catalogue.versions(VIEW).unwrap(), before);
    catalogue.drop_version(VIEW, version, &[VersionState::CaughtUp], "ann", None).unwrap();
    let dropped = catalogue.control(VIEW, version, &PAUSE, paused).unwrap_err();
    assert!(dropped.to_string().contains("refold replay"), "{dropped}");
}

#[test]
fn readers_are_never_on_a_version_that_stands_still() {
    let World { catalogue, .. } = world();
    let version = caught_up(&catalogue, "a");
    let pause =
        |record: &VersionRecord, _: Option<&ActivePointer>| Ok::<_, &str>(Some(Controls { pause: true, ..record.controls.clone() }));
    catalogue.control(VIEW, version, &PAUSE, pause).unwrap().unwrap();
    catalogue.switch(VIEW, None, version, "ann", None).unwrap();
    assert!(!catalogue.version(VIEW, version).unwrap().unwrap().controls.pause);
}

#[test]
fn a_version_that_ends_is_another_than_one_that_follows_the_log() {
    let World { catalogue, .. } = world();
    let new = |until_ms| Definition { view: VIEW, sql: "SELECT 1", digest: "a", fingerprint: "shape", commit: None, until_ms };
    let create = |until_ms| catalogue.create_from(&new(until_ms), "ann").unwrap().version;
    assert_eq!([create(None), create(None), create(Some(5)), create(Some(5)), create(Some(6))], [V1, V1, V2, V2, V3]);
    assert_eq!(catalogue.version(VIEW, V2).unwrap().unwrap().controls.until_ms, Some(5));
}

#[test]
fn what_a_worker_told_long_ago_is_not_how_things_are() {
    let World { catalogue, clock, .. } = world();
    assert_eq!(catalogue.told_building::<String>("w").unwrap(), Vec::<String>::new());
    for told in ["a", "b"] {
        catalogue.tell_building("w", vec![told.to_owned()]).unwrap();
        assert_eq!(catalogue.told_building::<String>("w").unwrap(), [told]);
    }
    clock.advance_ms(15_000);
    assert_eq!(catalogue.told_building::<String>("w").unwrap(), Vec::<String>::new());
}
