//! The audit trail: from the views' registers into the journal, and back to people.

use std::collections::BTreeSet;

use super::records::{AuditEntry, VIEW_PREFIX, ViewRegister, decode, encode, view_key};
use super::{ATTEMPTS, Catalogue, CatalogueError, Outcome, too_busy};

/// What a journal entry is called in errors.
const JOURNAL: &str = "journal";

/// Entries that are kept in memory while the journal is unavailable.
const MOST_KEPT: usize = 1_000;
/// Number of the newest journal entries (some MiB) that are searched for those of one view. The journal holds the entries of all views and is never trimmed.
const SEARCHED: usize = 20_000;

/// Additional entries to read when some are duplicates: after a crash, pending entries are journaled again.
const REPEATED: usize = 100;

impl AuditEntry {
    pub(super) fn new(verb: &str, view: &str, by: &str, at_ms: i64) -> Self {
        AuditEntry {
            at_ms,
            by: by.into(),
            verb: verb.into(),
            view: view.into(),
            version: None,
            from: None,
            to: None,
            reason: None,
            change: None,
        }
    }
}

impl Catalogue {
    /// The newest entries of the audit trail, of one view or of all, the oldest of them first. Renewals of leases are not in it. For one view,
    /// only the newest 20,000 entries of all views are searched.
    pub fn history(&self, view: Option<&str>, limit: usize) -> Result<Vec<AuditEntry>, CatalogueError> {
        let of_interest = |entry: &AuditEntry| view.is_none_or(|view| entry.view == view);
        let mut pending = Vec::new();
        for (key, stored) in self.registers.list(VIEW_PREFIX)? {
            let register: ViewRegister = decode(&key, &stored.value)?;
            pending.extend(register.unjournaled);
        }
        pending.extend(self.unjournaled.lock().iter().cloned());
        // Without a view, `limit` entries are enough, except for duplicates.
        let first = if view.is_none() { limit } else { SEARCHED.max(limit) };
        let mut depth = first;
        loop {
            let journal = self.registers.journal(depth)?;
            let all = journal.len() < depth || depth > first;
            let mut seen = BTreeSet::new();
            let mut entries = Vec::new();
            for text in &journal {
                entries.push(decode::<AuditEntry>(JOURNAL, text)?);
            }
            entries.extend(pending.iter().cloned());
            // An entry that was journaled twice is shown at its first place.
            entries.retain(|entry| of_interest(entry) && entry.change.is_none_or(|change| seen.insert((entry.view.clone(), change))));
            if all || view.is_some() || entries.len() >= limit {
                return Ok(entries.split_off(entries.len().saturating_sub(limit)));
            }
            depth = depth.saturating_mul(2).max(depth + REPEATED);
        }
    }

    /// Adds an entry about something that is not in a view's register.
    pub(super) fn journal(&self, entry: &AuditEntry) -> Result<(), CatalogueError> {
        Ok(self.registers.append_journal(&encode(JOURNAL, entry)?)?)
    }

    /// The same, of something that is done and must not be done again because the journal is unavailable: then the entry is kept, for
    /// [`Catalogue::journal_kept`]. It is lost if the process ends before.
    pub(super) fn journal_or_keep(&self, entry: AuditEntry) {
        if let Err(error) = self.journal(&entry) {
            tracing::warn!(verb = entry.verb, view = entry.view, %error, "an entry of the audit trail is not journaled; it is retried");
            let mut kept = self.unjournaled.lock();
            if kept.len() == MOST_KEPT {
                let lost = kept.pop_front();
                tracing::error!(?lost, "the journal has been unavailable for too long: an entry of the audit trail is lost");
            }
            kept.push_back(entry);
        }
    }

    /// Journals the entries that were kept while the journal was unavailable.
    pub fn journal_kept(&self) -> Result<(), CatalogueError> {
        loop {
            let Some(entry) = self.unjournaled.lock().pop_front() else { return Ok(()) };
            if let Err(error) = self.journal(&entry) {
                self.unjournaled.lock().push_front(entry);
                return Err(error);
            }
        }
    }

    /// Moves a view's entries to the journal. Interrupted, it is done again: some entries are then there twice, which their
    /// number tells.
    pub(super) fn journal_pending(&self, view: &str) -> Result<(), CatalogueError> {
        let key = view_key(view);
        let mut journaled = 0;
        for _ in 0..ATTEMPTS {
            let (mut register, revision) = self.stored_register(view)?;
            if register.unjournaled.is_empty() {
                return Ok(());
            }
            for entry in &register.unjournaled {
                if entry.change > Some(journaled) {
                    self.journal(entry)?;
                    journaled = entry.change.unwrap_or(journaled);
                }
            }
            register.unjournaled.clear();
            if let Outcome::Set(_) = self.registers.compare_and_set(&key, revision, Some(&encode(&key, &register)?))? {
                return Ok(());
            }
        }
        Err(too_busy(&key))
    }
}
