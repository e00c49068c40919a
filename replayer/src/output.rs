//! Stdout, for data; and stderr, for everything else.

use std::io::{self, BufRead, IsTerminal, Stdout, Write};

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, presets};
use serde_json::Value;

/// What is between two columns.
const GAP: usize = 2;
/// The least room that the last column is broken into lines in.
const LAST_COLUMN: usize = 24;

/// Where data goes. A closed pipe is an error like another, never a panic.
pub struct Output {
    stdout: Stdout,
    is_terminal: bool,
}

impl Output {
    /// The process's stdout.
    pub fn stdout() -> Output {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        Output { stdout, is_terminal }
    }

    /// Writes a line.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        let mut locked = self.stdout.lock();
        writeln!(locked, "{text}")?;
        locked.flush()
    }

    /// Writes bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut locked = self.stdout.lock();
        locked.write_all(bytes)?;
        locked.flush()
    }

    /// Writes an object on one line.
    pub fn json(&mut self, value: &Value) -> io::Result<()> {
        self.line(&value.to_string())
    }

    /// Writes a table for people. Columns of numbers are aligned by their last digits, empty ones are left out.
    pub fn table(&mut self, header: &[&str], rows: Vec<Vec<String>>) -> io::Result<()> {
        let shown: Vec<usize> = (0..header.len()).filter(|column| cells(&rows, *column).next().is_some()).collect();
        let of_shown = |cells: &[String]| -> Vec<String> { shown.iter().filter_map(|column| cells.get(*column).cloned()).collect() };
        let header = of_shown(&header.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        let rows: Vec<Vec<String>> = rows.iter().map(|row| of_shown(row)).collect();
        let width =
            |(column, name): (usize, &String)| cells(&rows, column).chain([name]).map(|cell| cell.chars().count()).max().unwrap_or(0) + GAP;
        let before_last: usize = header.iter().enumerate().take(header.len().saturating_sub(1)).map(width).sum();
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header(header);
        table.add_rows(&rows);
        // Only what stands last is broken into lines, and only if there is room for it: words cut to pieces help nobody.
        let is_arranged = self.is_terminal && table.width().is_some_and(|width| usize::from(width) >= before_last + LAST_COLUMN);
        if is_arranged {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        }
        for (column, layout) in table.column_iter_mut().enumerate() {
            layout.set_padding((0, GAP as u16));
            if column + 1 < shown.len() && is_arranged {
                layout.set_constraint(ColumnConstraint::ContentWidth);
            }
            if cells(&rows, column).all(|cell| cell.chars().all(|c| c.is_ascii_digit() || c == ' ')) {
                layout.set_cell_alignment(CellAlignment::Right);
            }
        }
        let text = table.to_string();
        let lines: Vec<&str> = text.lines().map(|line| line.trim_end()).collect();
        self.line(&lines.join("\n"))
    }

    /// Writes the members of an object for people, one a line.
    pub fn members(&mut self, members: &[(&str, String)]) -> io::Result<()> {
        let width = members.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        members.iter().try_for_each(|(name, value)| self.line(format!("{name:width$}  {value}").trim_end()))
    }

    /// Clears the screen, on a terminal.
    pub fn clear(&mut self) -> io::Result<()> {
        if self.is_terminal { self.bytes(b"\x1b[2J\x1b[H") } else { Ok(()) }
    }
}

/// The cells of a column that are not empty.
fn cells(rows: &[Vec<String>], column: usize) -> impl Iterator<Item = &String> {
    rows.iter().filter_map(move |row| row.get(column)).filter(|cell| !cell.is_empty())
}

/// Writes a line to stderr. There is no one left to tell when that fails.
pub fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Asks on the terminal, and answers with the line that was typed; `None`: there is no terminal to ask on.
pub fn answered(question: &str) -> io::Result<Option<String>> {
    if !io::stdin().is_terminal() {
        return Ok(None);
    }
    let mut stderr = io::stderr();
    // Whoever does not see the question will not answer it.
    let _ = stderr.write_all(question.as_bytes()).and_then(|()| stderr.flush());
    let mut typed = String::new();
    io::stdin().lock().read_line(&mut typed)?;
    Ok(Some(typed.trim().to_owned()))
}

/// Whether colours are for who reads stderr: on a terminal, unless NO_COLOR (see no-color.org) says otherwise.
fn is_coloured() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Writes what the process does to stderr, as `filter` says.
pub fn log(filter: &str, json: bool) -> Result<(), String> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter).map_err(|error| format!("log: {filter:?} is not a filter: {error}"))?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(is_coloured());
    // A second subscriber, in tests, changes nothing.
    let _ = if json { subscriber.json().try_init() } else { subscriber.with_target(false).try_init() };
    Ok(())
}
