//! A view in words and plans, for people.

use std::fmt::Write as _;

use datafusion::physical_plan::displayable;

use super::View;
use super::plan::Compiled;
use crate::table::Order;

/// Describes a view.
pub(super) fn explain(view: &View, compiled: &Compiled) -> String {
    let mut text = String::new();
    let _infallible = write(&mut text, view, compiled);
    text
}

fn write(text: &mut String, view: &View, compiled: &Compiled) -> std::fmt::Result {
    let name = |column: &usize| view.shape.columns.fields().get(*column).map_or("", |field| field.name().as_str());
    let source_name = |column: &usize| compiled.source_schema.fields().get(*column).map_or("", |field| field.name().as_str());
    let list = |names: Vec<&str>| names.join(", ");
    writeln!(text, "view        {}", view.name)?;
    writeln!(text, "source      {} ({})", view.source, list(view.source_columns.iter().map(source_name).collect()))?;
    match &view.window {
        None => writeln!(text, "window      none")?,
        Some(window) => {
            let time = view.window_source_column.as_ref().map_or("", source_name);
            let size = length(window.size_us);
            if window.slide_us == window.size_us {
                writeln!(text, "window      {size} of {time}, as {}", name(&window.column))?;
            } else {
                let (slide, pane) = (length(window.slide_us), length(window.pane_us));
                writeln!(text, "window      {size} of {time} every {slide}, as {}; state by panes of {pane}", name(&window.column))?;
            }
        }
    }
    if let Some(ranking) = &view.ranking {
        writeln!(
            text,
            "ranking     first {} within {}, as {}",
            ranking.k,
            list(ranking.within.iter().map(name).collect()),
            name(&ranking.column)
        )?;
    }
    writeln!(text, "partition   {}", list(view.shape.partition_key.iter().map(name).collect()))?;
    let order = |(column, order): &(usize, Order)| format!("{}{}", name(column), if *order == Order::Desc { " DESC" } else { "" });
    writeln!(text, "clustering  {}", view.shape.clustering.iter().map(order).collect::<Vec<_>>().join(", "))?;
    let options = &view.options;
    let or = |length_us: Option<i64>, otherwise: &str| length_us.map_or_else(|| otherwise.to_owned(), length);
    writeln!(text, "lateness    {}", or(options.lateness_us, "the source's"))?;
    let everything = match (view.window, options.keep_us) {
        (Some(_), None) => "everything, so that the state of no window is dropped",
        (Some(_), Some(_)) => "as long as rows are kept",
        (None, _) => "everything",
    };
    writeln!(text, "accept late {}", or(options.accept_late_us, everything))?;
    writeln!(text, "keep        {}", or(options.keep_us, if options.unbounded { "for ever (unbounded)" } else { "for ever" }))?;
    let columns = view.shape.columns.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect::<Vec<_>>();
    writeln!(text, "columns     {}", columns.join(", "))?;
    let states = view.states.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect::<Vec<_>>();
    writeln!(text, "state       {}", states.join(", "))?;
    for audit in &view.checks.audits {
        writeln!(text, "audit       {}: {}", audit.name, audit.condition)?;
    }
    let ignored = match view.checks.diff_ignore.is_empty() {
        true => String::new(),
        false => format!(", without {}", list(view.checks.diff_ignore.iter().map(String::as_str).collect())),
    };
    if view.checks.diff_tolerance.is_some() || !ignored.is_empty() {
        writeln!(text, "compared    within {}{ignored}", view.checks.diff_tolerance.unwrap_or_default())?;
    }
    writeln!(text, "digest      {}", view.digest)?;
    writeln!(
        text,
        "\nbelow the aggregate, for each batch of events\n{}",
        displayable(compiled.below.as_ref()).indent(false).to_string().trim_end()
    )?;
    writeln!(text, "\nabove the aggregate, for each row\n{}", compiled.described.join("\n"))
}

/// A length of time.
fn length(us: i64) -> String {
    humantime::format_duration(std::time::Duration::from_micros(u64::try_from(us).unwrap_or(0))).to_string()
}
