//! What a simulation is about, counted as it happens: seeds that never come to it prove nothing of it.

use std::sync::atomic::{AtomicU64, Ordering};

/// A situation that many seeds must come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Situation {
    /// A write of a replaced owner arrives.
    StaleWrite,
    /// The fold commits while a sweep is written.
    CommitDuringSweep,
    /// An owner has an older state than rows that may be in the store.
    Held,
    /// Another takes over from an owner that writes at every commit.
    TakenOverWhileLive,
    /// The power of an owner's machine is cut while it writes at every commit.
    UnsyncedLostWhileLive,
    /// The store says that what it has is damaged, and the version is resumed.
    RefusedForGood,
    /// An owner is asked to end while rows wait.
    StoppedWithRowsWaiting,
    /// Nothing is appended while another takes over.
    TakenOverWhileQuiet,
}

/// All of them.
pub const SITUATIONS: [Situation; 8] = [
    Situation::StaleWrite,
    Situation::CommitDuringSweep,
    Situation::Held,
    Situation::TakenOverWhileLive,
    Situation::UnsyncedLostWhileLive,
    Situation::RefusedForGood,
    Situation::StoppedWithRowsWaiting,
    Situation::TakenOverWhileQuiet,
];

static TIMES: [AtomicU64; SITUATIONS.len()] = [const { AtomicU64::new(0) }; SITUATIONS.len()];

impl Situation {
    /// Counts it once more.
    pub fn note(self) {
        TIMES[self as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was come to in this process.
    pub fn times(self) -> u64 {
        TIMES[self as usize].load(Ordering::Relaxed)
    }
}
