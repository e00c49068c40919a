//! The view feed port: the rows of a *view* under a name that stays, whichever version is in service.
//!
//! A feed holds a record for each row, by the row's key. Who reads it from its start and keeps the last record of each key has the rows of the
//! version in service; a switch reaches it as the rows that differ (see [`engine::view_feed`](crate::engine::view_feed)). One process at a time
//! publishes: who opens a feed shuts out whoever had it open.

use crate::log::LogError;
use crate::recovery::Recovery;
use crate::state::StateError;
use crate::store::StoreError;

/// A record of a view feed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ViewRecord {
    /// Of a row, its key columns as a JSON array; of a mark, its name as a JSON text.
    pub key: String,
    /// The row or the mark, a JSON object; `None`: the row is no more.
    pub value: Option<String>,
    /// Of a row, the version that it is of.
    pub version: Option<u32>,
    /// Of a row that its version changed, the write timestamp of the change; `None` where the row came with a difference.
    pub written_at: Option<i64>,
}

/// Why a view feed is not published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ViewFeedError {
    /// Another process has opened it since.
    #[error("another process publishes the feed of this view")]
    Fenced,
    /// The feed is unavailable, or refuses.
    #[error(transparent)]
    Feed(#[from] LogError),
    /// The rows of a version cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is remembered of the feed cannot be read or written.
    #[error(transparent)]
    State(#[from] StateError),
}

impl ViewFeedError {
    /// What it takes to go on.
    pub fn recovery(&self) -> Recovery {
        match self {
            // Who publishes is seen at the next look at the catalogue.
            ViewFeedError::Fenced => Recovery::Transient,
            ViewFeedError::Feed(error) => error.recovery(),
            ViewFeedError::Store(error) => error.recovery(),
            ViewFeedError::State(_) => Recovery::Operator,
        }
    }
}

/// The feeds of views.
pub trait ViewFeeds: Send + Sync {
    /// Opens the feed of a view to publish to it, and creates it if it is not there. Records need not be kept for longer than `keep_us`,
    /// microseconds, where it is given.
    ///
    /// # Errors
    /// When the feed is unavailable, or refuses.
    fn open(&self, view: &str, keep_us: Option<i64>) -> Result<Box<dyn ViewFeed>, ViewFeedError>;

    /// Removes the feed of a view that is no more; one that is not there is no error.
    ///
    /// # Errors
    /// As of [`ViewFeeds::open`].
    fn remove(&self, view: &str) -> Result<(), LogError>;
}

/// One record that is read back: its key, and its value unless the row is no more.
pub type Visit<'a> = dyn FnMut(&[u8], Option<&[u8]>) -> Result<(), ViewFeedError> + 'a;

/// A feed that is open here.
pub trait ViewFeed: Send {
    /// Reads back what was published from position `from` on, all of it that others can read. Answers the position behind it; `None`: the feed does not reach
    /// back to `from`, or not up to it.
    ///
    /// # Errors
    /// When the feed is unavailable, or refuses, and those of `visit`.
    fn read_back(&mut self, from: u64, visit: &mut Visit<'_>) -> Result<Option<u64>, ViewFeedError>;

    /// Where the feed begins.
    ///
    /// # Errors
    /// When the feed is unavailable, or refuses.
    fn start(&mut self) -> Result<u64, ViewFeedError>;

    /// Publishes records in this order: others see all of them or none. Answers the position behind the last one.
    ///
    /// # Errors
    /// [`ViewFeedError::Fenced`], or when the feed is unavailable, or refuses. Whether the records are out may not be known then.
    fn publish(&mut self, records: &[ViewRecord]) -> Result<u64, ViewFeedError>;
}

/// Feeds in memory, which tests read and put faults into.
#[cfg(any(test, feature = "conformance"))]
#[derive(Clone, Default)]
pub struct MemoryViewFeeds(std::sync::Arc<parking_lot::Mutex<MemoryFeeds>>);

#[cfg(any(test, feature = "conformance"))]
#[derive(Default)]
struct MemoryFeeds {
    records: std::collections::BTreeMap<String, Vec<ViewRecord>>,
    openings: u64,
    opened: std::collections::BTreeMap<String, u64>,
    publications_left: Option<u64>,
}

#[cfg(any(test, feature = "conformance"))]
impl MemoryViewFeeds {
    /// All records of a view's feed, in order.
    pub fn records(&self, view: &str) -> Vec<ViewRecord> {
        self.0.lock().records.get(view).cloned().unwrap_or_default()
    }

    /// After so many publications the feed is unavailable, until this is called again; `None`: never.
    pub fn fail_after(&self, publications: Option<u64>) {
        self.0.lock().publications_left = publications;
    }
}

#[cfg(any(test, feature = "conformance"))]
struct MemoryViewFeed {
    feeds: MemoryViewFeeds,
    view: String,
    opening: u64,
}

#[cfg(any(test, feature = "conformance"))]
impl ViewFeeds for MemoryViewFeeds {
    fn open(&self, view: &str, _: Option<i64>) -> Result<Box<dyn ViewFeed>, ViewFeedError> {
        let mut feeds = self.0.lock();
        feeds.openings += 1;
        let opening = feeds.openings;
        feeds.opened.insert(view.to_owned(), opening);
        Ok(Box::new(MemoryViewFeed { feeds: self.clone(), view: view.to_owned(), opening }))
    }

    fn remove(&self, view: &str) -> Result<(), LogError> {
        self.0.lock().records.remove(view);
        Ok(())
    }
}

#[cfg(any(test, feature = "conformance"))]
impl ViewFeed for MemoryViewFeed {
    fn read_back(&mut self, from: u64, visit: &mut Visit<'_>) -> Result<Option<u64>, ViewFeedError> {
        let records = self.feeds.records(&self.view);
        let Some(unread) = records.get(from as usize..) else { return Ok(None) };
        for record in unread {
            visit(record.key.as_bytes(), record.value.as_deref().map(str::as_bytes))?;
        }
        Ok(Some(records.len() as u64))
    }

    fn start(&mut self) -> Result<u64, ViewFeedError> {
        Ok(0)
    }

    fn publish(&mut self, records: &[ViewRecord]) -> Result<u64, ViewFeedError> {
        let mut feeds = self.feeds.0.lock();
        if feeds.opened.get(&self.view) != Some(&self.opening) {
            return Err(ViewFeedError::Fenced);
        }
        if let Some(left) = &mut feeds.publications_left {
            *left = left.checked_sub(1).ok_or_else(|| LogError::Unavailable("the feed is down".to_owned()))?;
        }
        let published = feeds.records.entry(self.view.clone()).or_default();
        published.extend_from_slice(records);
        Ok(published.len() as u64)
    }
}
