//! The protocol, simulated: see `refold_tests::simulation`.

use std::sync::atomic::{AtomicU64, Ordering};

use refold_tests::scale;
use refold_tests::simulation::situations::SITUATIONS;
use refold_tests::simulation::{run, world::Mutant};

/// `REFOLD_SEED=n` runs that seed alone, exactly as it ran before.
#[test]
fn rows_are_those_of_the_batch_whatever_happens_on_the_way() {
    if let Ok(seed) = std::env::var("REFOLD_SEED") {
        run(seed.parse().unwrap(), None).unwrap();
        return;
    }
    let seeds = scale::pick(600, 100_000);
    let next = AtomicU64::new(0);
    let failures = std::thread::scope(|scope| {
        let work = || {
            let mut failures = Vec::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds || failures.len() >= 5 {
                    return failures;
                }
                failures.extend(run(seed, None).err());
            }
        };
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(failures.is_empty(), "run one again with REFOLD_SEED=n:\n{}", failures.join("\n"));
    for situation in SITUATIONS {
        println!("{situation:?}: {} times", situation.times());
        assert!(situation.times() > 0, "no seed came to {situation:?}");
    }
}

fn is_caught(mutant: Mutant) {
    let seeds = scale::pick(40_000, 100_000);
    match (0..seeds).find_map(|seed| run(seed, Some(mutant)).err()) {
        Some(how) => println!("{mutant:?}: {how}"),
        None => panic!("{mutant:?} went through {seeds} seeds unnoticed"),
    }
}

#[test]
fn clearing_rows_before_they_are_acknowledged_is_caught() {
    is_caught(Mutant::ClearBeforeAcknowledged);
}

#[test]
fn rows_acknowledged_before_they_are_durable_are_caught() {
    is_caught(Mutant::AcknowledgeBeforeSync);
}

#[test]
fn sweeps_that_read_what_is_committed_meanwhile_are_caught() {
    is_caught(Mutant::SweepsOfLiveState);
}

#[test]
fn write_timestamps_without_epoch_are_caught() {
    is_caught(Mutant::TimestampWithoutEpoch);
}

#[test]
fn positions_committed_apart_from_their_state_are_caught() {
    is_caught(Mutant::PositionsOutsideTheBatch);
}

#[test]
fn rows_written_before_their_cut_is_announced_are_caught() {
    is_caught(Mutant::Unannounced);
}

#[test]
fn an_older_state_that_does_not_ask_which_rows_there_may_be_is_caught() {
    is_caught(Mutant::AnnouncedUnheard);
}

#[test]
fn lateness_judged_across_partitions_is_caught() {
    is_caught(Mutant::LatenessAcrossPartitions);
}

#[test]
fn followers_that_are_not_told_of_missing_changes_are_caught() {
    is_caught(Mutant::GapUntold);
}
