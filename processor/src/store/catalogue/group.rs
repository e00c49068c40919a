//! Several views that switch as one.
//!
//! Each view has a register of its own, so the moves of a group are tied to one more register, which decides for all of them:
//!
//! 1. The register of the group is written, `pending`, with its moves.
//! 2. Each view's register gets a note of the move that is prepared in it. Nothing has moved yet.
//! 3. The group becomes `done` by one compare-and-set: from this moment on all views have moved. Whoever reads a view with a note looks at the group.
//! 4. Each move is carried out in its view's register, and the note goes; then the register of the group does.
//!
//! A crash before 3 moves nothing, and after a while the group is taken back by whoever looks; a crash after 3 leaves the rest of 4 to whoever looks next. A
//! read costs one more call only while there is a note.

use serde::{Deserialize, Serialize};

use super::pointer::{Told, check_move, make_move};
use super::records::{Settled, ViewRegister, encode, group_key, view_key};
use super::{ATTEMPTS, Catalogue, CatalogueError, Change, Outcome, ago, too_busy};
use crate::table::Version;

/// A group that is not decided after so long is taken back by whoever looks, milliseconds.
const TAKEN_BACK_AFTER_MS: i64 = 30_000;

/// A view whose readers are to be sent to another version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The view.
    pub view: String,
    /// The version that readers are sent to now; `None`: none.
    pub from: Option<Version>,
    /// The version that they are to be sent to.
    pub to: Version,
}

/// A move that is prepared in the register of its view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Prepared {
    /// The group that decides.
    pub group: String,
    pub to: Version,
    pub by: String,
    pub reason: Option<String>,
    pub at_ms: i64,
}

/// Whether the moves of a group count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Decision {
    /// Not yet.
    Pending,
    /// All of them do.
    Done,
    /// None ever will.
    TakenBack,
}

/// The register of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct GroupRegister {
    pub decision: Decision,
    pub moves: Vec<Move>,
    pub by: String,
    pub begun_ms: i64,
}

impl Catalogue {
    /// Sends the readers of several views to other versions, all at once: no reader sees one view moved and another one not. Views whose readers are sent there
    /// already are left as they are, so it can be run again after an interruption. Answers the moves that were made.
    ///
    /// # Errors
    /// When one of them cannot be moved; then none is.
    pub fn switch_as_one(&self, moves: &[Move], by: &str, reason: Option<&str>) -> Result<Vec<Move>, CatalogueError> {
        moves.iter().try_for_each(|moved| self.settle(&moved.view))?;
        let mut needed = Vec::new();
        for moved in moves {
            let (register, _) = self.view_register(&moved.view)?;
            if check_move(&register, &moved.view, moved.from, moved.to, self.clock.now_ms())? {
                needed.push(moved.clone());
            }
        }
        match needed.as_slice() {
            [] => {}
            // One is moved by its own register.
            [alone] => drop(self.switch(&alone.view, alone.from, alone.to, by, reason)?),
            several => self.move_group(several, by, reason)?,
        }
        Ok(needed)
    }

    fn move_group(&self, moves: &[Move], by: &str, reason: Option<&str>) -> Result<(), CatalogueError> {
        let (group, begun) = self.begin_group(moves, by)?;
        let views: Vec<&str> = moves.iter().map(|moved| moved.view.as_str()).collect();
        let together = format!("as one with {}", views.join(", "));
        let reason = reason.map_or_else(|| together.clone(), |reason| format!("{reason} ({together})"));
        for moved in moves {
            if let Err(error) = self.prepare(moved, &group, by, &reason) {
                self.take_back(&group)?;
                views.iter().try_for_each(|view| self.settle(view))?;
                self.end_group(&group)?;
                return Err(error);
            }
        }
        let key = group_key(&group);
        let done = encode(&key, &GroupRegister { decision: Decision::Done, moves: moves.to_vec(), by: by.to_owned(), begun_ms: begun })?;
        let decided = match self.group(&group)? {
            Some((GroupRegister { decision: Decision::Pending, .. }, revision)) => {
                matches!(self.registers.compare_and_set(&key, Some(revision), Some(&done))?, Outcome::Set(_))
            }
            _ => false,
        };
        views.iter().try_for_each(|view| self.settle(view))?;
        self.end_group(&group)?;
        match (decided, moves.first()) {
            (false, Some(first)) => Err(CatalogueError::GroupTakenBack { view: first.view.clone() }),
            _ => Ok(()),
        }
    }

    /// Writes the register of a new group.
    fn begin_group(&self, moves: &[Move], by: &str) -> Result<(String, i64), CatalogueError> {
        let begun_ms = self.clock.now_ms();
        for number in 0..ATTEMPTS {
            let group = format!("{begun_ms:015}-{number}");
            let key = group_key(&group);
            let register = GroupRegister { decision: Decision::Pending, moves: moves.to_vec(), by: by.to_owned(), begun_ms };
            if let Outcome::Set(_) = self.registers.compare_and_set(&key, None, Some(&encode(&key, &register)?))? {
                return Ok((group, begun_ms));
            }
        }
        Err(too_busy(&group_key("")))
    }

    /// Notes a move in the register of its view.
    fn prepare(&self, moved: &Move, group: &str, by: &str, reason: &str) -> Result<(), CatalogueError> {
        let view = &moved.view;
        let key = view_key(view);
        for _ in 0..ATTEMPTS {
            let (mut register, revision) = self.view_register(view)?;
            refuse_prepared(&register, view, self.clock.now_ms())?;
            check_move(&register, view, moved.from, moved.to, self.clock.now_ms())?;
            register.prepared = Some(Prepared {
                group: group.to_owned(),
                to: moved.to,
                by: by.to_owned(),
                reason: Some(reason.to_owned()),
                at_ms: self.clock.now_ms(),
            });
            if let Outcome::Set(_) = self.registers.compare_and_set(&key, revision, Some(&encode(&key, &register)?))? {
                return Ok(());
            }
        }
        Err(too_busy(&key))
    }

    /// Writes down what the group has decided of a move that is prepared in a view's register; takes the group back where it was not decided in time.
    ///
    /// # Errors
    /// When the store does not answer.
    pub fn settle(&self, view: &str) -> Result<(), CatalogueError> {
        let (register, _) = self.view_register(view)?;
        if let Some(prepared) = &register.prepared {
            if self.clock.now_ms().saturating_sub(prepared.at_ms) < TAKEN_BACK_AFTER_MS {
                return Ok(());
            }
            self.take_back(&prepared.group)?;
        } else if register.settled.is_none() {
            return Ok(());
        }
        // What is read is settled already: any change of the register writes it down.
        self.change(view, |_, _| Ok(Change { answer: (), entry: None }))
    }

    /// Finishes groups that were left behind by a crash, as far as they are seen in these views.
    pub(super) fn settle_all(&self, views: &[String]) {
        for view in views {
            if let Err(error) = self.settle(view) {
                tracing::warn!(view, %error, "a switch of several views is not finished yet; it is retried");
            }
        }
    }

    /// The register of a view in which a move is prepared, with what the group has decided.
    pub(super) fn decided_register(&self, view: &str) -> Result<(ViewRegister, Option<u64>), CatalogueError> {
        let mut seen = None;
        for _ in 0..ATTEMPTS {
            let (mut register, revision) = self.stored_register(view)?;
            let Some(prepared) = register.prepared.clone() else { return Ok((register, revision)) };
            match self.group(&prepared.group)?.map(|(group, _)| group.decision) {
                Some(Decision::Pending) => {}
                Some(Decision::Done) => {
                    register.prepared = None;
                    let told = Told { is_rollback: false, by: &prepared.by, reason: prepared.reason.as_deref() };
                    let (_, entry) = make_move(&mut register, view, prepared.to, &told, prepared.at_ms);
                    register.settled = Some(Settled { entry: Some(entry) });
                }
                // The register of a group goes after the notes of it: the note was read before.
                None if seen != revision => {
                    seen = revision;
                    continue;
                }
                Some(Decision::TakenBack) | None => {
                    register.prepared = None;
                    register.settled = Some(Settled { entry: None });
                }
            }
            return Ok((register, revision));
        }
        Err(too_busy(&view_key(view)))
    }

    fn group(&self, group: &str) -> Result<Option<(GroupRegister, u64)>, CatalogueError> {
        self.load(&group_key(group))
    }

    fn take_back(&self, group: &str) -> Result<(), CatalogueError> {
        let key = group_key(group);
        if let Some((register, revision)) = self.group(group)?.filter(|(register, _)| register.decision == Decision::Pending) {
            let text = encode(&key, &GroupRegister { decision: Decision::TakenBack, ..register })?;
            // Whoever was first has decided.
            let _ = self.registers.compare_and_set(&key, Some(revision), Some(&text))?;
        }
        Ok(())
    }

    fn end_group(&self, group: &str) -> Result<(), CatalogueError> {
        if let Some((_, revision)) = self.group(group)? {
            let _ = self.registers.compare_and_set(&group_key(group), Some(revision), None)?;
        }
        Ok(())
    }
}

/// Refuses to change what a group is about to move.
pub(super) fn refuse_prepared(register: &ViewRegister, view: &str, now_ms: i64) -> Result<(), CatalogueError> {
    match &register.prepared {
        Some(prepared) => {
            Err(CatalogueError::Prepared { view: view.to_owned(), by: prepared.by.clone(), ago: ago(now_ms - prepared.at_ms) })
        }
        None => Ok(()),
    }
}
