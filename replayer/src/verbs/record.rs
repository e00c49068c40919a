//! `refold test --record`: a case made from events of the log and the rows that they have made.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value};

use crate::cases;
use crate::cli::Test;
use crate::client::{Client, escaped};
use crate::failure::Failure;
use crate::output::{Output, complain};
use crate::settings;
use crate::verbs::replay::changed::declared;
use crate::verbs::status::{plain, text};
use crate::verbs::why;

/// The most events of a case: one is read by people.
const MOST_EVENTS: usize = 200;
/// How many rows are recorded when none is named.
const ROWS: usize = 3;
/// How many rows are looked at to find those.
const LOOKED_AT: usize = 50;
/// Names of parameters of a read that are not columns.
const RESERVED: [&str; 5] = ["from", "to", "limit", "cursor", "version"];
/// The longest part of a file's name that comes from a row, letters.
const NAME: usize = 48;

/// Rows by the names of their columns.
type Row = Map<String, Value>;

/// Records a case of a view that is in service, and writes it to the schemas folder if it passes.
pub fn run(view: &str, arguments: &Test, output: &mut Output) -> Result<(), Failure> {
    let settings = settings::load(&arguments.settings)?;
    let client = Client::new(&settings);
    let document = client.get(&format!("/v1/views/{}", escaped(view)))?;
    let shown = View::of(view, &document);
    refuse_another_definition(&settings.schemas, &shown)?;
    let rows = rows(&client, &shown, &arguments.key)?;
    let mut events = BTreeMap::new();
    for row in &rows {
        add_events(&client, &shown, row, &mut events)?;
    }
    if shown.overlaps {
        add_closing_event(&client, &shown, &mut events)?;
    }
    let file = free_name(&settings.schemas, &shown, &rows);
    let case = case(&shown, &rows, &events);
    let prepared = cases::of_text(&settings.schemas, &file, &case).map_err(|why| {
        Failure::Usage(format!("nothing was recorded: these events cannot be written as a case: {why}; name another row with --key"))
    })?;
    let seed = arguments.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    for case in &prepared {
        let outcome = case.run(seed);
        if !outcome.is_passed() {
            complain(&cases::text(&outcome, case.partition_key()));
            return Err(Failure::Judged(format!(
                "nothing was recorded: the events behind these rows do not make them alone. In a ranking, name the whole window \
                 (--key {}=…); rows of an open window are still changing: name one of an earlier window with --key",
                shown.partition_key.first().map_or("column", String::as_str)
            )));
        }
    }
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    std::fs::write(&file, &case).with_context(|| format!("cannot write {}", file.display()))?;
    let rows = if rows.len() == 1 { "a row".to_owned() } else { format!("{} rows", rows.len()) };
    output.line(&format!("{}: {rows} of {view}, and {} events", file.display(), events.len()))?;
    complain("it holds events as they were posted: take out what may not be in your repository, such as names and texts of persons");
    Ok(())
}

/// A view, as far as a case needs it.
struct View {
    name: String,
    digest: String,
    partition_key: Vec<String>,
    /// The columns of the key of a row.
    key: Vec<String>,
    /// The column with the start of the window.
    window: Option<String>,
    size_ms: i64,
    overlaps: bool,
    /// The start of the newest window that is closed.
    newest_closed: Option<String>,
}

impl View {
    fn of(name: &str, document: &Value) -> View {
        let names = |value: Option<&Value>| -> Vec<String> { value.and_then(Value::as_array).into_iter().flatten().map(plain).collect() };
        let partition_key = names(document.get("partition_key"));
        let clustering = document.get("clustering").and_then(Value::as_array).into_iter().flatten();
        let key = partition_key.iter().cloned().chain(clustering.map(|column| text(column, "column"))).collect();
        let window = document.get("window").filter(|window| !window.is_null());
        let number = |name: &str| window.and_then(|window| window.get(name)).and_then(Value::as_i64).unwrap_or_default();
        View {
            name: name.to_owned(),
            digest: text(document, "digest"),
            partition_key,
            key,
            window: window.map(|window| text(window, "column")),
            size_ms: number("size_ms"),
            overlaps: number("size_ms") != number("slide_ms"),
            newest_closed: window.map(|window| text(window, "newest_closed")).filter(|start| !start.is_empty()),
        }
    }

    /// The window that is recorded when none is named: of overlapping ones an earlier one, because events behind it have to close it.
    fn window_to_record(&self) -> Option<String> {
        let start: DateTime<Utc> = self.newest_closed.as_ref()?.parse().ok()?;
        let back_ms = if self.overlaps { 2 * self.size_ms } else { 0 };
        Some((start - chrono::TimeDelta::milliseconds(back_ms)).to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }
}

/// A case runs by the definition of the folder, and the rows are made by the one in service.
fn refuse_another_definition(schemas: &Path, view: &View) -> Result<(), Failure> {
    let found = declared(schemas)?.into_iter().find(|(_, declared)| declared.name == view.name);
    let Some((file, declared)) = found else {
        return Err(Failure::Usage(format!("no file of {} declares view {}", schemas.display(), view.name)));
    };
    match declared.digest == view.digest {
        true => Ok(()),
        false => Err(Failure::Judged(format!(
            "nothing was recorded: {file} is not the definition that is in service; record before you change it, then refold test shows what the change changes"
        ))),
    }
}

/// The rows that are recorded: those of the keys named, or some of the newest window that is closed.
fn rows(client: &Client, view: &View, named: &[(String, String)]) -> Result<Vec<Row>, Failure> {
    let is_named = |column: &String| named.iter().any(|(name, _)| name == column);
    if let Some((unknown, _)) = named.iter().find(|(name, _)| !view.key.contains(name)) {
        return Err(Failure::Usage(format!("--key {unknown}: the key of a row of {} is {}", view.name, view.key.join(", "))));
    }
    let found = if view.partition_key.iter().all(is_named) {
        let partition = |(name, _): &&(String, String)| view.partition_key.contains(name);
        let rows = partition_rows(client, view, named.iter().filter(partition), 1_000)?;
        let has = |row: &Row, (name, value): &(String, String)| row.get(name).is_some_and(|found| is_same(&plain(found), value));
        let mut rows: Vec<Row> = rows.into_iter().filter(|row| named.iter().all(|pair| has(row, pair))).collect();
        if view.partition_key.len() == named.len() && !view.partition_key.iter().any(|column| view.window.as_ref() == Some(column)) {
            // Of all windows of a thing, the newest that are closed.
            rows.retain(|row| is_closed(view, row));
            rows.truncate(ROWS);
        }
        rows
    } else if !named.is_empty() {
        return Err(Failure::Usage(format!("--key: name all columns that rows are read by: {}", view.partition_key.join(", "))));
    } else {
        of_newest_window(client, view)?
    };
    match found.is_empty() {
        true => Err(Failure::Judged(format!(
            "nothing was recorded: view {} has no such row of a closed window; name another one with --key",
            view.name
        ))),
        false => Ok(found),
    }
}

fn is_same(found: &str, named: &str) -> bool {
    found == named || matches!((time(found), time(named)), (Some(found), Some(named)) if found == named)
}

fn time(text: &str) -> Option<DateTime<Utc>> {
    text.parse().ok()
}

fn is_closed(view: &View, row: &Row) -> bool {
    let (Some(window), Some(newest)) = (&view.window, view.window_to_record().as_deref().and_then(time)) else { return true };
    row.get(window).map(plain).as_deref().and_then(time).is_some_and(|start| start <= newest)
}

fn of_newest_window(client: &Client, view: &View) -> Result<Vec<Row>, Failure> {
    if let ([column], Some(window)) = (view.partition_key.as_slice(), &view.window)
        && column == window
    {
        let Some(start) = view.window_to_record() else { return Ok(Vec::new()) };
        return partition_rows(client, view, [&(column.clone(), start)].into_iter(), 1_000);
    }
    let keys = client.get(&format!("/v1/views/{}/keys?limit={LOOKED_AT}", escaped(&view.name)))?;
    let mut found: Vec<Row> = Vec::new();
    for key in keys.get("keys").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object) {
        let partition: Vec<(String, String)> = key.iter().map(|(name, value)| (name.clone(), plain(value))).collect();
        found.extend(partition_rows(client, view, partition.iter(), LOOKED_AT)?.into_iter().filter(|row| is_closed(view, row)));
    }
    if let Some(window) = &view.window {
        let start = |row: &Row| row.get(window).map(plain).as_deref().and_then(time);
        let newest = found.iter().filter_map(start).max();
        found.retain(|row| start(row) == newest);
    }
    found.truncate(ROWS);
    Ok(found)
}

fn partition_rows<'a>(
    client: &Client,
    view: &View,
    partition: impl Iterator<Item = &'a (String, String)>,
    limit: usize,
) -> Result<Vec<Row>, Failure> {
    let mut path = format!("/v1/views/{}/rows?limit={limit}", escaped(&view.name));
    for (name, value) in partition {
        let prefix = if RESERVED.contains(&name.as_str()) { "key." } else { "" };
        path.push_str(&format!("&{prefix}{}={}", escaped(name), escaped(value)));
    }
    let answer = client.get(&path)?;
    Ok(answer.get("rows").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object).cloned().collect())
}

/// Events in the order in which they are written: by when the log took them, then by their places.
type Events = BTreeMap<(String, u64, u64), Value>;

fn add_events(client: &Client, view: &View, row: &Row, events: &mut Events) -> Result<(), Failure> {
    for event in events_behind(client, view, row, MOST_EVENTS + 1)? {
        add(event, events);
    }
    match events.len() > MOST_EVENTS {
        true => Err(Failure::Usage(format!(
            "nothing was recorded: more than {MOST_EVENTS} events are behind these rows; name a row with fewer, with --key"
        ))),
        false => Ok(()),
    }
}

fn add(event: Value, events: &mut Events) {
    let number = |name: &str| event.get(name).and_then(Value::as_u64).unwrap_or_default();
    events.insert((text(&event, "record_time"), number("partition"), number("offset")), event);
}

fn events_behind(client: &Client, view: &View, row: &Row, limit: usize) -> Result<Vec<Value>, Failure> {
    let key: Vec<(String, String)> = view.key.iter().filter_map(|name| Some((name.clone(), plain(row.get(name)?)))).collect();
    let events = why::find(client, &view.name, &why::Asked { key: &key, version: None, limit })?;
    // What was not applied is behind no row.
    Ok(events.into_iter().filter(|event| event.get("applied").and_then(Value::as_bool) == Some(true)).collect())
}

/// Overlapping windows have rows once an event is behind their end: one that is behind a row of the newest window.
fn add_closing_event(client: &Client, view: &View, events: &mut Events) -> Result<(), Failure> {
    let (Some(window), [column]) = (&view.window, view.partition_key.as_slice()) else { return Ok(()) };
    if window != column {
        return Ok(());
    }
    let latest = partition_rows(client, view, [&(column.clone(), "latest".to_owned())].into_iter(), 1)?;
    if let Some(row) = latest.first() {
        let last = events_behind(client, view, row, MOST_EVENTS)?.into_iter().max_by_key(|event| text(event, "record_time"));
        last.into_iter().for_each(|event| add(event, events));
    }
    Ok(())
}

/// The text of the case.
fn case(view: &View, rows: &[Row], events: &Events) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let mut case = format!(
        "view = {}\n\n[[case]]\nname = {}\nexpect = \"subset\"\nevents = [\n",
        quoted(&view.name),
        quoted(&format!("recorded: {}", title(view, rows)))
    );
    for ((record_time, partition, _), event) in events {
        let value = event.get("value").map(Value::to_string).unwrap_or_default();
        case.push_str(&format!("  {{ event = {}, partition = {partition}, record_time = {} }},\n", inline(&value), quoted(record_time)));
    }
    case.push_str("]\nrows = [\n");
    for row in rows {
        case.push_str(&format!("  {},\n", inline(&Value::Object(row.clone()).to_string())));
    }
    case.push_str("]\n");
    case
}

/// JSON as a text of TOML on one line: without escapes where that can be.
fn inline(json: &str) -> String {
    if json.contains('\'') { serde_json::Value::String(json.to_owned()).to_string() } else { format!("'{json}'") }
}

fn title(view: &View, rows: &[Row]) -> String {
    let of =
        |row: &Row| view.key.iter().filter_map(|name| Some(format!("{name} {}", plain(row.get(name)?)))).collect::<Vec<_>>().join(", ");
    match rows {
        [] => String::new(),
        [row] => of(row),
        [row, more @ ..] => format!("{} and {} more", of(row), more.len()),
    }
}

/// A file that is not there yet.
fn free_name(schemas: &Path, view: &View, rows: &[Row]) -> PathBuf {
    let values: Vec<String> =
        rows.first().map(|row| view.key.iter().filter_map(|name| row.get(name)).map(plain).collect()).unwrap_or_default();
    let plain_letter = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '_' };
    let part: String = values.join("_").chars().map(plain_letter).take(NAME).collect();
    let name = format!("{}_recorded_{}", view.name, part.trim_end_matches('_'));
    let folder = schemas.join("tests");
    let numbered = (2..).map(|number| folder.join(format!("{name}_{number}.toml")));
    std::iter::once(folder.join(format!("{name}.toml"))).chain(numbered).find(|path| !path.exists()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_case_is_toml_whatever_the_events_hold() {
        let document = json!({ "digest": "d", "partition_key": ["tag"], "clustering": [{ "column": "slot" }],
            "window": { "column": "slot", "size_ms": 300_000, "slide_ms": 300_000, "newest_closed": "2026-11-30T12:00:00Z" } });
        let view = View::of("v", &document);
        assert_eq!(
            (view.key.clone(), view.window_to_record().as_deref()),
            (vec!["tag".to_owned(), "slot".to_owned()], Some("2026-11-30T12:00:00Z"))
        );
        let row = json!({ "tag": "it's", "slot": "2026-11-30T12:00:00Z", "n": 2 }).as_object().unwrap().clone();
        let mut events = Events::new();
        for (offset, tweet) in [(9, "it's \"quoted\" \\ and\nbroken"), (2, "plain \u{1F980}")] {
            add(
                json!({ "partition": 0, "offset": offset, "record_time": "2026-11-30T12:00:01.500Z", "value": { "tweet": tweet } }),
                &mut events,
            );
        }
        let text = case(&view, &[row], &events);
        let read: toml::Table = toml::from_str(&text).unwrap();
        let events = read["case"][0]["events"].as_array().unwrap();
        let tweet = |event: &toml::Value| -> Value { serde_json::from_str(event["event"].as_str().unwrap()).unwrap() };
        assert_eq!(tweet(&events[0])["tweet"], "plain \u{1F980}", "in the order of offsets");
        assert_eq!(tweet(&events[1])["tweet"], "it's \"quoted\" \\ and\nbroken");
        let overlapping = View { overlaps: true, size_ms: 600_000, ..view };
        assert_eq!(overlapping.window_to_record().as_deref(), Some("2026-11-30T11:40:00Z"));
    }
}
