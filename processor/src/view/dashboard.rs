//! How a dashboard draws a view: `WITH (dashboard = 'ranking', …)`, and what it is where the view does not say.
//!
//! These options change no row, so they are no part of a definition's digest: a view whose title changes is not replayed.

use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::sql::sqlparser::tokenizer::Location;

use super::error::{Problem, nearest};
use super::{Ranking, WindowSpec};
use crate::table::TableShape;

/// What the names of these options begin with.
pub(super) const PREFIX: &str = "dashboard";

/// The options.
pub(super) const NAMES: [&str; 8] = [
    "dashboard",
    "dashboard_title",
    "dashboard_label",
    "dashboard_value",
    "dashboard_rank",
    "dashboard_time",
    "dashboard_series",
    "dashboard_series_label",
];

/// What is drawn of a view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DashboardKind {
    /// Each partition is a list, the first place first.
    Ranking,
    /// Each partition is a line over time.
    Series,
    /// Nothing.
    #[default]
    None,
}

impl DashboardKind {
    /// Its name in options.
    pub fn name(self) -> &'static str {
        match self {
            DashboardKind::Ranking => "ranking",
            DashboardKind::Series => "series",
            DashboardKind::None => "none",
        }
    }
}

/// How a view is drawn. Columns are by index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dashboard {
    /// What is drawn.
    pub kind: DashboardKind,
    /// Its title, if the view has one.
    pub title: Option<String>,
    /// What is ranked, or whose line it is.
    pub label: Option<usize>,
    /// The number.
    pub value: Option<usize>,
    /// The place in the ranking.
    pub rank: Option<usize>,
    /// The time: the window's start.
    pub time: Option<usize>,
    /// The view that has the history of what is ranked.
    pub series: Option<String>,
    /// The column of that view that holds what is ranked; `None`: the one of the label's name.
    pub series_label: Option<String>,
}

/// An option as it is written.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub name: String,
    pub at: Location,
    pub text: String,
    /// Where the text stands: at its first quote.
    pub text_at: Location,
}

/// How a view of this shape is drawn.
pub(super) fn of(
    written: &[Written],
    shape: &TableShape,
    window: Option<&WindowSpec>,
    ranking: Option<&Ranking>,
) -> Result<Dashboard, Problem> {
    let shape = Shape { shape, window: window.map(|window| window.column), rank: ranking.map(|ranking| ranking.column) };
    let find = |name: &str| written.iter().find(|option| option.name == name);
    let kind = match find("dashboard") {
        Some(option) => kind(option)?,
        None => shape.kind(),
    };
    let mut dashboard = shape.derive(kind);
    if kind == DashboardKind::None {
        return match written.iter().find(|option| option.name != "dashboard") {
            Some(option) => Err(Problem::new(option.at, format!("{} has no meaning: nothing is drawn of this view", option.name))
                .help("add dashboard = 'ranking' or dashboard = 'series'")),
            None => Ok(dashboard),
        };
    }
    for option in written {
        match option.name.as_str() {
            "dashboard_title" => dashboard.title = Some(option.text.clone()),
            "dashboard_label" => dashboard.label = Some(shape.column(option)?),
            "dashboard_value" => dashboard.value = Some(shape.typed(option, "a number", DataType::is_numeric)?),
            "dashboard_rank" => dashboard.rank = Some(shape.typed(option, "a whole number", DataType::is_integer)?),
            "dashboard_time" => dashboard.time = Some(shape.typed(option, "a time", DataType::is_temporal)?),
            "dashboard_series" => dashboard.series = Some(view(option)?),
            "dashboard_series_label" => dashboard.series_label = Some(option.text.clone()),
            _ => {}
        }
    }
    if let (DashboardKind::Series, Some(option)) = (kind, find("dashboard_series").or(find("dashboard_rank"))) {
        return Err(Problem::new(option.at, format!("{} is of a ranking, and this view is drawn as a series", option.name))
            .help("leave it out, or write dashboard = 'ranking'"));
    }
    if let (None, Some(option)) = (&dashboard.series, find("dashboard_series_label")) {
        return Err(Problem::new(option.at, "dashboard_series_label has no meaning without dashboard_series")
            .help("write dashboard_series = 'view' too: the view that has the history of each entry"));
    }
    let needed = [
        (dashboard.label, "dashboard_label", "what is shown beside each number"),
        (dashboard.value, "dashboard_value", "the number"),
        (dashboard.time.or(dashboard.label.filter(|_| kind == DashboardKind::Ranking)), "dashboard_time", "the time of each row"),
    ];
    let Some(declared) = find("dashboard") else { return Ok(dashboard) };
    for (column, name, what) in needed {
        if column.is_none() {
            let problem = Problem::new(declared.at, format!("no column of the view can be {what} of a {}", kind.name()));
            return Err(problem.help(format!("write {name} = 'column', or leave dashboard out")));
        }
    }
    Ok(dashboard)
}

fn kind(option: &Written) -> Result<DashboardKind, Problem> {
    let kinds = [DashboardKind::Ranking, DashboardKind::Series, DashboardKind::None];
    kinds.into_iter().find(|kind| kind.name() == option.text).ok_or_else(|| {
        let problem = Problem::new(option.at, format!("dashboard: there is no kind {:?}", option.text));
        match nearest(&option.text, kinds.map(DashboardKind::name)) {
            Some(near) => problem.help(format!("did you mean '{near}'?")),
            None => problem.help("write 'ranking', 'series' or 'none'"),
        }
    })
}

/// The name of another view, which may not be there yet.
fn view(option: &Written) -> Result<String, Problem> {
    let letters = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    if option.text.is_empty() || !option.text.chars().all(letters) {
        let problem = Problem::new(option.at, format!("{}: {:?} cannot be the name of a view", option.name, option.text));
        return Err(problem.help("write the name of the view that has the history of each entry, such as 'hashtag_counts'"));
    }
    Ok(option.text.clone())
}

/// A view's table, its window and its rank.
struct Shape<'a> {
    shape: &'a TableShape,
    window: Option<usize>,
    rank: Option<usize>,
}

impl Shape<'_> {
    fn field(&self, column: usize) -> Option<&Field> {
        self.shape.columns.fields().get(column).map(AsRef::as_ref)
    }

    fn is(&self, column: usize, wanted: fn(&DataType) -> bool) -> bool {
        self.field(column).is_some_and(|field| wanted(field.data_type()))
    }

    /// The column that an option names.
    fn column(&self, option: &Written) -> Result<usize, Problem> {
        let fields = self.shape.columns.fields();
        fields.iter().position(|field| *field.name() == option.text).ok_or_else(|| {
            let names = || fields.iter().map(|field| field.name().as_str());
            let problem = Problem::new(option.at, format!("{}: {} is not a column of the view", option.name, option.text));
            match nearest(&option.text, names()) {
                Some(near) => problem.help(format!("did you mean {near}?")),
                None => problem.help(format!("its columns are {}", names().collect::<Vec<_>>().join(", "))),
            }
        })
    }

    fn typed(&self, option: &Written, what: &str, wanted: fn(&DataType) -> bool) -> Result<usize, Problem> {
        let column = self.column(option)?;
        if self.is(column, wanted) {
            return Ok(column);
        }
        let data_type = self.field(column).map(|field| field.data_type().to_string()).unwrap_or_default();
        let problem = Problem::new(option.at, format!("{}: {} is of type {data_type} and not {what}", option.name, option.text));
        let fitting: Vec<&str> = (0..self.shape.columns.fields().len())
            .filter(|column| self.is(*column, wanted))
            .filter_map(|column| self.field(column).map(|field| field.name().as_str()))
            .collect();
        Err(match fitting.is_empty() {
            true => problem.help("leave it out"),
            false => problem.help(format!("name one of {}", fitting.join(", "))),
        })
    }

    /// What a view is that does not say: a ranking where each window is a partition in the order of a rank or a number, a series where windows follow
    /// each other within the partition of a thing.
    fn kind(&self) -> DashboardKind {
        let Some(window) = self.window else { return DashboardKind::None };
        let first = self.shape.clustering.first().map(|(column, _)| *column);
        let has_value = self.value(None).is_some();
        if self.shape.partition_key.contains(&window) {
            let is_ordered = self.rank.is_some() || first.is_some_and(|first| self.is(first, DataType::is_numeric));
            return if is_ordered { DashboardKind::Ranking } else { DashboardKind::None };
        }
        let has_time = self.shape.partition_key.iter().any(|column| self.is(*column, DataType::is_temporal));
        if first == Some(window) && !has_time && has_value { DashboardKind::Series } else { DashboardKind::None }
    }

    fn derive(&self, kind: DashboardKind) -> Dashboard {
        let fields = self.shape.columns.fields();
        let (label, value) = match kind {
            DashboardKind::None => return Dashboard::default(),
            DashboardKind::Ranking => {
                let others = || {
                    let is_other = |column: &usize| {
                        !self.shape.partition_key.contains(column) && self.rank != Some(*column) && self.window != Some(*column)
                    };
                    (0..fields.len()).filter(is_other)
                };
                let is_text = |column: &usize| !self.is(*column, DataType::is_numeric);
                let label = others().find(is_text).or_else(|| others().find(|column| self.is_key(*column)));
                let first = self.shape.clustering.first().map(|(column, _)| *column);
                let is_number = |column: &usize| self.is(*column, DataType::is_numeric);
                let first = first.filter(|first| self.rank != Some(*first) && label != Some(*first)).filter(is_number);
                (label, self.value(label).or(first))
            }
            DashboardKind::Series => {
                let label = self.shape.partition_key.first().copied();
                (label, self.value(label))
            }
        };
        let time = self.window.or_else(|| {
            let keys = || self.shape.key_columns();
            keys().find(|column| self.is(*column, DataType::is_temporal))
        });
        let rank = self.rank.filter(|_| kind == DashboardKind::Ranking);
        Dashboard { kind, label, value, rank, time, ..Dashboard::default() }
    }

    fn is_key(&self, column: usize) -> bool {
        self.shape.key_columns().any(|key| key == column)
    }

    /// The first number that is no part of the key.
    fn value(&self, label: Option<usize>) -> Option<usize> {
        let fields = self.shape.columns.fields();
        (0..fields.len()).find(|column| {
            !self.is_key(*column) && self.rank != Some(*column) && label != Some(*column) && self.is(*column, DataType::is_numeric)
        })
    }
}
