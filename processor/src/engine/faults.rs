//! Ending the process at a named step, so that tests can show that none of them is a bad moment to die.

use std::str::FromStr;
use std::sync::atomic::{AtomicI64, Ordering};

/// A step at which the process can be made to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Before a batch is committed to the state.
    Commit,
    /// After it, before its rows are offered to the writer.
    Offer,
    /// Before rows are written to the view store.
    Write,
    /// After they are written, before that is noted.
    Acknowledge,
    /// Before readers are told.
    Tell,
    /// Before a batch that clears acknowledged rows.
    Clear,
    /// Before the table of a dropped version is removed.
    DropTable,
    /// After it, before the change feed is removed.
    DropFeed,
    /// After it, before the state is removed.
    DropState,
    /// After it, before the catalogue is told that nothing is left.
    DropNote,
}

impl Step {
    /// The steps of a commit, in their order.
    pub const COMMIT: [Step; 6] = [Step::Commit, Step::Offer, Step::Write, Step::Acknowledge, Step::Tell, Step::Clear];

    /// The steps of removing what is left of a dropped version, in their order.
    pub const REMOVAL: [Step; 4] = [Step::DropTable, Step::DropFeed, Step::DropState, Step::DropNote];

    fn all() -> impl Iterator<Item = Step> {
        Step::COMMIT.into_iter().chain(Step::REMOVAL)
    }

    /// The step's name.
    pub fn name(self) -> &'static str {
        match self {
            Step::Commit => "commit",
            Step::Offer => "offer",
            Step::Write => "write",
            Step::Acknowledge => "acknowledge",
            Step::Tell => "tell",
            Step::Clear => "clear",
            Step::DropTable => "drop_table",
            Step::DropFeed => "drop_feed",
            Step::DropState => "drop_state",
            Step::DropNote => "drop_note",
        }
    }
}

/// Where to end the process: `<step>:<n>` means when that step is reached for the n-th time.
#[derive(Debug, Default)]
pub struct Faults {
    at: Option<Step>,
    left: AtomicI64,
}

impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, count) = text.split_once(':').unwrap_or((text, "1"));
        let at = Step::all().find(|step| step.name() == name).ok_or_else(|| {
            let names: Vec<&str> = Step::all().map(Step::name).collect();
            format!("unknown step {name:?}; there are {}", names.join(", "))
        })?;
        let count: i64 = count.parse().map_err(|_| format!("{count:?} is not a number of times"))?;
        Ok(Faults { at: Some(at), left: AtomicI64::new(count) })
    }
}

impl Faults {
    /// Ends the process, as `kill -9` would, if this is the step and the time.
    pub fn reach(&self, step: Step) {
        if self.at == Some(step) && self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            std::process::abort();
        }
    }
}
