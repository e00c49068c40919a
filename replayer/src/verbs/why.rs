//! `refold why`: the events behind a row.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::cli::Why;
use crate::client::{Client, escaped};
use crate::failure::Failure;
use crate::output::{Output, complain};
use crate::settings;
use crate::verbs::status::{grouped, text};

/// The columns of [`row`].
pub const HEADER: [&str; 5] = ["PARTITION", "OFFSET", "RECORD TIME", "APPLIED", "EVENT"];

/// A row whose events are asked for.
pub struct Asked<'a> {
    /// Values of the columns of its key.
    pub key: &'a [(String, String)],
    /// The version whose definition is evaluated; `None`: the one in service.
    pub version: Option<u64>,
    /// How many events are answered.
    pub limit: usize,
}

/// The events behind a row.
pub fn find(client: &Client, view: &str, asked: &Asked<'_>) -> Result<Vec<Value>, Failure> {
    let mut events = Vec::new();
    client.get_lines(&path(view, asked), &mut |mut line| {
        events.extend(line.get_mut("event").map(Value::take));
        Ok(())
    })?;
    Ok(events)
}

fn path(view: &str, asked: &Asked<'_>) -> String {
    let mut path = format!("/v1/views/{}/why?limit={}", escaped(view), asked.limit);
    for (column, value) in asked.key {
        path.push_str(&format!("&{}={}", escaped(column), escaped(value)));
    }
    if let Some(version) = asked.version {
        path.push_str(&format!("&version={version}"));
    }
    path
}

/// Asks for the events behind a row, and shows each.
pub fn run(arguments: &Why, output: &mut Output) -> Result<(), Failure> {
    let settings = settings::load(&arguments.settings)?;
    let asked = Asked { key: &arguments.key, version: arguments.version.map(u64::from), limit: arguments.limit };
    let path = path(&arguments.view, &asked);
    let bar = std::io::stderr().is_terminal().then(|| {
        let style =
            ProgressStyle::with_template("{bar:30} {percent}% of the log, {msg} found").unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::new(1).with_style(style)
    });
    let (mut events, mut done) = (Vec::new(), Value::Null);
    let asked = Client::new(&settings).get_lines(&path, &mut |mut line| {
        if let Some(event) = line.get_mut("event").map(Value::take) {
            match arguments.json {
                true => output.json(&event)?,
                false => events.push(row(&event)),
            }
        }
        if let (Some(bar), Some(going)) = (&bar, line.get("going")) {
            let number = |name: &str| going.get(name).and_then(Value::as_u64).unwrap_or_default();
            bar.set_length(number("of"));
            bar.set_position(number("read"));
            bar.set_message(grouped(number("found")));
        }
        if let Some(ended) = line.get_mut("done") {
            done = ended.take();
        }
        Ok(())
    });
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    asked?;
    if !arguments.json && !events.is_empty() {
        output.table(&HEADER, events)?;
    }
    notes(&done).iter().for_each(|note| complain(note));
    Ok(())
}

/// An event for people.
pub fn row(event: &Value) -> Vec<String> {
    let applied = match event.get("applied").and_then(Value::as_bool) {
        Some(true) => "yes".to_owned(),
        _ => format!("no, {}: {}", text(event, "reason"), text(event, "detail")),
    };
    let value = event.get("value").map(Value::to_string).unwrap_or_default();
    vec![text(event, "partition"), text(event, "offset"), text(event, "record_time"), applied, value]
}

/// What is to be known beside the events.
fn notes(done: &Value) -> Vec<String> {
    let number = |name: &str| done.get(name).and_then(Value::as_u64).unwrap_or_default();
    let (found, applied, shown) = (number("found"), number("applied"), number("shown"));
    let mut notes = vec![match found {
        0 => "no event in the log is behind this row".to_owned(),
        found if found == applied => format!("{} behind this row", events(found)),
        found => format!("{} behind this row, of which {} applied", events(found), grouped(applied)),
    }];
    if shown < found {
        notes.push(format!("{} are shown; --limit {found} shows all", grouped(shown)));
    }
    let starts = done.get("log_start").and_then(Value::as_object);
    let cut_off: Vec<String> = starts
        .into_iter()
        .flatten()
        .filter(|(_, start)| start.as_u64() != Some(0))
        .map(|(partition, start)| format!("{partition} from {start}"))
        .collect();
    if !cut_off.is_empty() {
        notes.push(format!("the log has lost its beginning (partitions {}): earlier events are not shown", cut_off.join(", ")));
    }
    notes
}

fn events(count: u64) -> String {
    if count == 1 { "1 event is".to_owned() } else { format!("{} events are", grouped(count)) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]

    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_said_how_many_events_there_are_and_what_is_missing() {
        let done = |found: u64, applied: u64, shown: u64, start: u64| json!({ "found": found, "applied": applied, "shown": shown, "log_start": { "0": start } });
        assert_eq!(notes(&done(1, 1, 1, 0)), ["1 event is behind this row"]);
        assert_eq!(notes(&done(0, 0, 0, 0)), ["no event in the log is behind this row"]);
        let all = notes(&done(2_000, 1_999, 100, 7));
        assert_eq!(all[0], "2 000 events are behind this row, of which 1 999 applied");
        assert!(all[1].contains("--limit 2000") && all[2].contains("0 from 7"), "{all:?}");
    }

    #[test]
    fn an_event_that_was_not_applied_says_why() {
        let event = json!({ "partition": 2, "offset": 9, "record_time": "t", "applied": false, "reason": "too_late", "detail": "1h behind", "value": { "a": 1 } });
        assert_eq!(row(&event), ["2", "9", "t", "no, too_late: 1h behind", "{\"a\":1}"]);
    }
}
