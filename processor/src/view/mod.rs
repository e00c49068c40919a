//! SQL text → a validated, planned view.
//!
//! A view is `CREATE MATERIALIZED VIEW … WITH (…) AS SELECT …`. DataFusion parses, plans and evaluates the query; this module
//! takes it apart around its one aggregate: the part below runs over batches of events ([`Mapper`]), aggregate states
//! are merged by group ([`Merger`]), and the part above turns groups and their states into rows ([`View::rows`]).
//! The same text run as a batch ([`View::batch`]) is the oracle that tests compare with.

mod above;
mod absent;
mod aggregates;
mod batch;
mod checked;
mod checks;
mod constants;
mod dashboard;
mod error;
mod errors;
mod events;
mod exact;
mod explain;
pub mod functions;
mod guard;
mod key;
mod lineage;
mod mapper;
mod merger;
mod options;
mod plan;
mod rows;
mod session;
mod statement;
mod storable;
mod syntax;
#[cfg(test)]
mod tests;
mod ties;

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use datafusion::arrow::datatypes::SchemaRef;

pub use self::absent::{Absent, AbsentRow};
pub use self::checks::{Audit, Checks};
pub use self::dashboard::{Dashboard, DashboardKind};
pub use self::error::ViewError;
pub use self::mapper::{Mapper, Partial};
pub use self::merger::Merger;
pub use self::rows::Rows;

use self::plan::Compiled;
use crate::source::Source;
use crate::table::{Order, TableShape};

/// The options of a view, as its author wrote them in `WITH (…)`. Durations are in microseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewOptions {
    /// `partition_key = 'a, b'`: the columns that a read names.
    pub partition_key: Vec<String>,
    /// `clustering = 'slot DESC, c'`: the other columns of the row's key, in the order of rows within a partition.
    pub clustering: Vec<(String, Order)>,
    /// `lateness = '10 seconds'`: how far behind the largest event time of its partition the watermark is. `None`: the source's.
    pub lateness_us: Option<i64>,
    /// `accept_late = '1 day'`: events further behind the largest event time earlier in their partition are quarantined.
    pub accept_late_us: Option<i64>,
    /// `keep = '30 days'`: how long rows live, in event time.
    pub keep_us: Option<i64>,
    /// `unbounded = true`: a view without windows may grow without end.
    pub unbounded: bool,
}

impl ViewOptions {
    /// How far behind the largest event time earlier in its partition an event may be, microseconds. Without `accept_late`, nothing is too late while
    /// its row lives; `None`: nothing ever is.
    pub fn accepted_late_us(&self) -> Option<i64> {
        self.accept_late_us.or(self.keep_us)
    }

    /// How far the watermark over a source is behind the largest event time, microseconds.
    pub fn lateness_over(&self, source: &Source) -> i64 {
        self.lateness_us.unwrap_or(source.lateness_us)
    }
}

/// How a view's rows are tied to time. Windows start at multiples of the slide since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSpec {
    /// The column of the view that holds the window's start.
    pub column: usize,
    /// The length of a window.
    pub size_us: i64,
    /// The distance between the starts of windows; equal to the size for `tumble`.
    pub slide_us: i64,
    /// The length of a pane, the greatest common divisor of the two: state is kept by pane.
    pub pane_us: i64,
}

/// A top-k: `QUALIFY row_number() OVER (PARTITION BY … ORDER BY …) <= k`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranking {
    /// The columns of the view that it ranks within; the window's is among them.
    pub within: Vec<usize>,
    /// The column of the view that holds the rank.
    pub column: usize,
    /// The last rank kept.
    pub k: u64,
}

/// A validated, planned view. Cheap to share.
pub struct View {
    /// Its name.
    pub name: String,
    /// The whole statement.
    pub sql: String,
    /// The source it reads (the table in FROM).
    pub source: String,
    /// The columns of the source that it needs, by index into the source's schema.
    pub source_columns: Vec<usize>,
    /// Its options.
    pub options: ViewOptions,
    /// A digest of the definition: equal text up to white space, comments, how it is drawn and what its rows are held to has an equal digest.
    pub digest: String,
    /// The shape of its table.
    pub shape: TableShape,
    /// Its window, if it groups by one.
    pub window: Option<WindowSpec>,
    /// The column of the source that its window cuts, by index into the source's schema. It must be the event time.
    pub window_source_column: Option<usize>,
    /// Its ranking, if it is a top-k.
    pub ranking: Option<Ranking>,
    /// How a dashboard draws it.
    pub dashboard: Dashboard,
    /// What its rows are held to.
    pub checks: Checks,
    /// The group key: the pane's start first if there is a window, then the other GROUP BY columns.
    pub groups: SchemaRef,
    /// The state of all aggregates, column by column.
    pub states: SchemaRef,
    compiled: Arc<Compiled>,
}

impl View {
    /// Plans the text of a view. `sources` are the Arrow schemas of the declared sources by name, `file` names the text in errors.
    ///
    /// # Errors
    /// Everything that a view may not be, with its place in the text and what to write instead. No text makes it panic.
    pub fn plan(sql: &str, file: &str, sources: &BTreeMap<String, SchemaRef>) -> Result<View, ViewError> {
        plan::plan(sql, file, sources)
    }

    /// A plan of its own below the aggregate, to be used by one thread.
    ///
    /// # Errors
    /// None that a planned view is known to give.
    pub fn mapper(&self) -> Result<Mapper, ViewError> {
        Mapper::of(self, &self.compiled).map_err(|error| ViewError::evaluating(&self.compiled.file, &error))
    }

    /// Fresh accumulators.
    ///
    /// # Errors
    /// None that a planned view is known to give.
    pub fn merger(&self) -> Result<Merger, ViewError> {
        Merger::of(&self.compiled).map_err(|error| ViewError::evaluating(&self.compiled.file, &error))
    }

    /// The rows of groups, for views that do not rank. `groups` are as [`View::groups`] but with the window's start in place of the
    /// pane's, `states` as [`View::states`], a row for each group. A group that something fails for, for instance a division by zero or a sum that
    /// does not fit its type, is not kept, and counted in [`View::absent`].
    ///
    /// # Errors
    /// When the columns do not fit the view.
    pub fn rows(&self, groups: &[ArrayRef], states: &[ArrayRef]) -> Result<Rows, ViewError> {
        self.counting(|absent| self.compiled.rows(groups, states, absent))
    }

    /// The rows that groups had before, as [`View::rows`]; of those that could not be made nothing is counted again.
    ///
    /// # Errors
    /// When the columns do not fit the view.
    pub fn former_rows(&self, groups: &[ArrayRef], states: &[ArrayRef]) -> Result<Rows, ViewError> {
        let rows = self.compiled.rows(groups, states, &mut Absent::default());
        rows.map_err(|error| ViewError::evaluating(&self.compiled.file, &error))
    }

    /// Of the rows of groups (see [`View::rows`]) the columns that say which group a row is of; `None` in the place of all others.
    ///
    /// # Errors
    /// When the columns do not fit the view.
    pub fn group_columns(&self, groups: &[ArrayRef], states: &[ArrayRef]) -> Result<Vec<Option<ArrayRef>>, ViewError> {
        self.compiled.group_columns(groups, states).map_err(|error| ViewError::evaluating(&self.compiled.file, &error))
    }

    /// The rows of a ranking, from all groups of one window: those with a rank up to k, in the order of the columns ranked within
    /// and the rank. A group that something fails for is not ranked, and counted in [`View::absent`].
    ///
    /// # Errors
    /// When the view does not rank, or the columns do not fit it.
    pub fn rank(&self, groups: &[ArrayRef], states: &[ArrayRef]) -> Result<RecordBatch, ViewError> {
        self.counting(|absent| self.compiled.rank(groups, states, absent))
    }

    /// Of some groups of one window, the places of those that can be among the first k of the whole window, whatever the others are; with `possible`
    /// also of those that [`View::possible_ranks`] needs.
    ///
    /// # Errors
    /// When the view does not rank, or the columns do not fit it.
    pub fn first_groups(&self, groups: &[ArrayRef], states: &[ArrayRef], possible: bool) -> Result<UInt32Array, ViewError> {
        self.counting(|absent| self.compiled.first_groups(groups, states, possible, absent))
    }

    /// The rows that could not be made since the view was planned: how many evaluations made none, and the last groups.
    pub fn absent(&self) -> Absent {
        self.compiled.absent.lock().clone()
    }

    fn counting<T>(&self, evaluate: impl FnOnce(&mut Absent) -> datafusion::error::Result<T>) -> Result<T, ViewError> {
        let mut absent = Absent::default();
        let evaluated = evaluate(&mut absent).map_err(|error| ViewError::evaluating(&self.compiled.file, &error))?;
        if absent.count > 0 {
            self.compiled.absent.lock().add(absent);
        }
        Ok(evaluated)
    }

    /// As many rows of a ranking as one window can ever have had with these groups or fewer, whatever HAVING kept then. Only their keys mean anything.
    ///
    /// # Errors
    /// When the view does not rank, or columns do not have the types that the view declares.
    pub fn possible_ranks(&self, groups: &[ArrayRef], states: &[ArrayRef]) -> Result<RecordBatch, ViewError> {
        self.compiled.possible_ranks(groups, states).map_err(|error| ViewError::evaluating(&self.compiled.file, &error))
    }

    /// The oracle: the view's SELECT as it stands, run as one batch over whole events, with every window of `hop()` spelled out.
    ///
    /// # Errors
    /// When an expression fails, or the events do not have the source's schema.
    pub fn batch(&self, events: Vec<RecordBatch>) -> Result<Vec<RecordBatch>, ViewError> {
        let batch = self.compiled.batch(&self.source, &self.shape.columns, events);
        batch.map_err(|error| ViewError::evaluating(&self.compiled.file, &error))
    }

    /// What the view does, for people: source, window, key, options, and the plan below and above the aggregate.
    pub fn explain(&self) -> String {
        explain::explain(self, &self.compiled)
    }
}
