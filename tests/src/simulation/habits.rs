//! How often things happen in a run. Every seed has habits of its own: some things never happen in it, others several times as often. What goes wrong only
//! when some things happen often and others not at all is found much sooner so ("Swarm Testing", Groce et al., ISSTA 2012).

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

/// What happens to the version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Events are appended.
    Append,
    /// The clock goes on.
    TimePasses,
    /// The view store becomes unavailable, or available.
    StoreComesOrGoes,
    /// The change feed refuses the next publication.
    FeedRefuses,
    /// The view store refuses the next write.
    StoreRefuses,
    /// The owner is asked to end.
    Stop,
    /// The owner's process ends.
    Crash,
    /// The power of all machines is cut.
    PowerCut,
    /// The owner's process ends at one of the next commits.
    CrashAtACommit,
    /// A copy of the state is kept.
    Checkpoint,
    /// Another owner goes on with the copy.
    TakeOver,
    /// Writes that were on their way arrive.
    DelayedWritesArrive,
    /// The power of the owner's machine is cut.
    UnsyncedIsLost,
    /// An owner takes a step.
    OwnerActs,
}

/// How often each happens among a hundred, where nothing is said about a seed.
pub const EVENTS: [(Event, u32); 14] = [
    (Event::Append, 18),
    (Event::TimePasses, 2),
    (Event::StoreComesOrGoes, 3),
    (Event::FeedRefuses, 1),
    (Event::StoreRefuses, 2),
    (Event::Stop, 1),
    (Event::Crash, 1),
    (Event::PowerCut, 1),
    (Event::CrashAtACommit, 2),
    (Event::Checkpoint, 2),
    (Event::TakeOver, 2),
    (Event::DelayedWritesArrive, 1),
    (Event::UnsyncedIsLost, 1),
    (Event::OwnerActs, 63),
];

/// What an owner does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// It reads and maps a chunk.
    Map,
    /// It merges a chunk.
    Merge,
    /// It commits.
    Commit,
    /// Its state is made durable.
    Sync,
    /// Its writer takes a step.
    Write,
    /// Its publisher takes a step.
    Publish,
    /// It writes the rows of windows that have closed.
    Sweep,
    /// It writes at every commit from now on.
    GoLive,
}

/// How often each is done among a hundred.
pub const ACTS: [(Act, u32); 8] = [
    (Act::Map, 23),
    (Act::Merge, 20),
    (Act::Commit, 17),
    (Act::Sync, 7),
    (Act::Write, 20),
    (Act::Publish, 5),
    (Act::Sweep, 3),
    (Act::GoLive, 5),
];

/// How often things happen in one run.
pub struct Habits<T>(Vec<(T, u32)>);

impl<T: Copy + PartialEq> Habits<T> {
    /// The habits of a seed, in which some things happen five times as often. Some seeds have the usual ones; in the others most things are as usual, and some are never or often.
    pub fn random(rng: &mut ChaCha8Rng, usual: &[(T, u32)], favoured: &[T]) -> Habits<T> {
        let is_usual = rng.random_bool(0.3);
        let times = |rng: &mut ChaCha8Rng| if is_usual { 1 } else { [0, 1, 1, 1, 4].choose(rng).copied().unwrap_or(1) };
        let mut habits: Vec<(T, u32)> = usual.iter().map(|(what, often)| (*what, often * times(rng))).collect();
        habits.iter_mut().filter(|(what, _)| favoured.contains(what)).for_each(|(_, often)| *often *= 5);
        if habits.iter().all(|(_, often)| *often == 0) {
            habits = usual.to_vec();
        }
        Habits(habits)
    }

    /// What happens next.
    pub fn next(&self, rng: &mut ChaCha8Rng) -> T {
        self.0.choose_weighted(rng, |(_, often)| *often).expect("something happens").0
    }
}
