//! SQL text → a validated, planned view.
//!
//! A view is `CREATE MATERIALIZED VIEW … WITH (…) AS SELECT …`. DataFusion parses, plans and evaluates the query; this module
//! takes it apart around its one aggregate: the part below runs over batches of events ([`Mapper`]), aggregate states
//! are merged by group ([`Merger`]), and the part above turns groups and their states into rows ([`View::rows`]).
//! The same text run as a batch ([`View::batch`]) is the oracle that tests compare with.

pub mod functions;

use datafusion::arrow::datatypes::SchemaRef;

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
    /// A digest of the definition: equal text up to white space and comments has an equal digest.
    pub digest: String,
    /// The shape of its table.
    pub shape: TableShape,
    /// Its window, if it groups by one.
    pub window: Option<WindowSpec>,
    /// Its ranking, if it is a top-k.
    pub ranking: Option<Ranking>,
    /// The group key: the pane's start first if there is a window, then the other GROUP BY columns.
    pub groups: SchemaRef,
    /// The state of all aggregates, column by column.
    pub states: SchemaRef,
}
