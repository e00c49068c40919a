//! Registers in a partition of their own, and those that an earlier release left in the partition of all others.
//!
//! Owners were among the listed registers once. Each is taken over when it is first changed: the row there is replaced by one that says so and holds
//! what was in it, which an earlier release refuses to read as it refuses all later formats; then the register is made here, with its revision. So
//! processes of both releases may run beside each other while one replaces the other: at no time can both change the same register, and its epochs
//! go on. A register that is new is closed there before it is made here, for the same reason.

use refold_processor::store::{Outcome, Register};
use serde::{Deserialize, Serialize};

use super::Change;
use crate::CassandraStore;
use crate::error::Failure;

/// The keys of isolated registers that an earlier release listed.
const LISTED_BEFORE: &str = "catalogue/owner/";

/// How often a register is tried to be taken over while others change it.
const ATTEMPTS: usize = 100;

/// What is left of a register in the listed partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Moved {
    /// Greater than any that a release could read which knows nothing of this.
    format: u32,
    /// The table where the register is.
    moved_to: String,
    /// What was in it; it may not be there yet.
    register: Option<MovedRegister>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct MovedRegister {
    revision: u64,
    value: String,
}

impl Moved {
    fn of(register: Option<&Register>) -> Moved {
        let register = register.map(|register| MovedRegister { revision: register.revision, value: register.value.clone() });
        Moved { format: 2, moved_to: super::ISOLATED_TABLE.0.to_owned(), register }
    }

    /// `None`: it was not moved.
    fn read(text: &str) -> Option<Moved> {
        serde_json::from_str(text).ok()
    }
}

impl CassandraStore {
    /// An isolated register that has no row of its own yet.
    pub(super) async fn read_moved(&self, key: &str) -> Result<Option<Register>, Failure> {
        if !key.starts_with(LISTED_BEFORE) {
            return Ok(None);
        }
        let Some(there) = self.row(&self.registers.listed, key).await?.flatten() else { return Ok(None) };
        let Some(moved) = Moved::read(&there.value) else { return Ok(Some(there)) };
        // Since it was found to have no row of its own, it may have been given one.
        match self.row(&self.registers.isolated, key).await? {
            Some(register) => Ok(register),
            None => Ok(moved.register.map(|MovedRegister { revision, value }| Register { value, revision })),
        }
    }

    /// Makes a change to an isolated register.
    pub(super) async fn change_isolated(&self, change: &Change<'_>) -> Result<Outcome, Failure> {
        let was_listed = change.key.starts_with(LISTED_BEFORE);
        if was_listed && change.expected.is_none() {
            self.take_over(change.key).await?;
        }
        match self.change(&self.registers.isolated, change).await? {
            Outcome::Conflict(None) if was_listed && change.expected.is_some() => {
                self.take_over(change.key).await?;
                self.change(&self.registers.isolated, change).await
            }
            outcome => Ok(outcome),
        }
    }

    /// Closes a register where an earlier release has it, and makes it here. It can be interrupted anywhere, and be done by several at once.
    async fn take_over(&self, key: &str) -> Result<(), Failure> {
        let listed = &self.registers.listed;
        for _ in 0..ATTEMPTS {
            let there = self.settle(listed, key).await?.register;
            if let Some(moved) = there.as_ref().and_then(|there| Moved::read(&there.value)) {
                return self.make(key, moved).await;
            }
            let moved = Moved::of(there.as_ref());
            let text = serde_json::to_string(&moved).map_err(|error| Failure::broken(format!("a register cannot be moved: {error}")))?;
            let expected = there.map(|there| there.revision);
            let change = Change::new(key, expected, Some(&text), expected.unwrap_or(0) + 1)?;
            if let Outcome::Set(_) = self.change(listed, &change).await? {
                return self.make(key, moved).await;
            }
        }
        Err(Failure::unavailable(format!("it was changed by others {ATTEMPTS} times in a row")))
    }

    async fn make(&self, key: &str, moved: Moved) -> Result<(), Failure> {
        let Some(MovedRegister { revision, value }) = moved.register else { return Ok(()) };
        // If it is there already, somebody else has made it, and may have gone on from there.
        let change = Change::new(key, None, Some(&value), revision)?;
        self.change(&self.registers.isolated, &change).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_left_of_a_moved_register_is_told_from_registers() {
        let owner = r#"{"format":1,"ownership":{"epoch":3,"owner":"one","lease_until_ms":5,"released":false}}"#;
        assert_eq!(Moved::read(owner), None);
        let register = Register { value: owner.into(), revision: 7 };
        let left = serde_json::to_string(&Moved::of(Some(&register))).unwrap();
        assert!(left.starts_with(r#"{"format":2,"moved_to":"owners","register":{"revision":7,"#), "{left}");
        assert_eq!(Moved::read(&left).unwrap().register, Some(MovedRegister { revision: 7, value: owner.into() }));
        let closed = r#"{"format":2,"moved_to":"owners","register":null}"#;
        assert_eq!(serde_json::to_string(&Moved::of(None)).unwrap(), closed);
        assert_eq!(Moved::read(closed), Some(Moved::of(None)), "kept for ever");
    }
}
