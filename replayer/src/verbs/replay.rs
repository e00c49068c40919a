//! `refold replay`: a new version of a view, built from the start of the log; or of each view whose definition has changed.

pub mod changed;

use std::path::Path;

use anyhow::Context;
use chrono::SecondsFormat;
use serde_json::{Value, json};

use self::changed::Need;
use crate::cli::Replay;
use crate::client::{Client, escaped};
use crate::commit;
use crate::failure::Failure;
use crate::output::{Output, complain};
use crate::settings;
use crate::verbs::switch::{self, operator};
use crate::verbs::waiting;

/// A version that was asked for.
struct Wanted {
    view: String,
    version: u64,
}

/// Asks the server for new versions, and does with them what was asked.
pub fn run(arguments: &Replay, output: &mut Output) -> Result<(), Failure> {
    let settings = settings::load(&arguments.settings)?;
    let client = Client::new(&settings);
    let wanted = match (&arguments.changed, &arguments.view) {
        (Some(schemas), _) => replay_changed(&client, schemas, arguments, output)?,
        (None, Some(view)) => {
            let sql = arguments.file.as_deref().map(read).transpose()?;
            vec![replay(&client, view, sql, arguments, output)?]
        }
        (None, None) => return Err(Failure::Usage("name a view, or a schemas folder with --changed".into())),
    };
    if arguments.wait || arguments.switch {
        let versions: Vec<(&str, u64)> = wanted.iter().map(|wanted| (wanted.view.as_str(), wanted.version)).collect();
        waiting::until_all_caught_up(&client, &versions)?;
    }
    if arguments.switch {
        for wanted in &wanted {
            switch_to(&client, wanted, arguments, output)?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<(String, String), Failure> {
    let sql = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok((path.display().to_string(), sql))
}

/// Asks for a version of each declared view that has none of its definition.
fn replay_changed(client: &Client, schemas: &Path, arguments: &Replay, output: &mut Output) -> Result<Vec<Wanted>, Failure> {
    let declared = changed::declared(schemas)?;
    let status = client.get("/v1/admin/status")?;
    let mut wanted = Vec::new();
    for (file, view) in declared {
        match changed::need(&view, &status) {
            Need::Nothing => complain(&format!("{} has not changed", view.name)),
            Need::Version(version) => {
                complain(&format!("version {version} of {} has this definition already", view.name));
                wanted.push(Wanted { view: view.name, version });
            }
            Need::Replay => wanted.push(replay(client, &view.name, Some((file, view.sql.clone())), arguments, output)?),
        }
    }
    Ok(wanted)
}

fn replay(client: &Client, view: &str, sql: Option<(String, String)>, arguments: &Replay, output: &mut Output) -> Result<Wanted, Failure> {
    let folder = match (&sql, &arguments.changed) {
        (_, Some(schemas)) => Some(schemas.as_path()),
        (Some((file, _)), None) => {
            Path::new(file).parent().map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
        }
        (None, None) => None,
    };
    let commit = folder.and_then(commit::of);
    let until = arguments.until.map(|until| until.to_rfc3339_opts(SecondsFormat::AutoSi, true));
    let answer = start_until(client, view, sql, commit.as_deref(), until.as_deref())?;
    let version = answer.get("version").and_then(Value::as_u64).unwrap_or_default();
    let wanted = Wanted { view: view.to_owned(), version };
    if arguments.json {
        output.json(&answer)?;
        return Ok(wanted);
    }
    let state = answer.get("state").and_then(Value::as_str).unwrap_or("");
    match answer.get("created").and_then(Value::as_bool) {
        Some(false) => output.line(&format!("version {version} of {view} has this definition already and is {state}"))?,
        _ => {
            let until = until.as_ref().map(|until| format!(" up to {until}")).unwrap_or_default();
            output.line(&format!("version {version} of {view} is being built from the start of the log{until}"))?;
        }
    }
    if !arguments.wait && !arguments.switch {
        let is_followed = until.is_none();
        complain(&match (state, answer.get("waits_for_switch").and_then(Value::as_bool)) {
            ("active", _) => format!("readers of {view} are on it"),
            _ if !is_followed => {
                format!("refold status {view} --watch shows how far it is; its rows: /v1/views/{view}/rows?version={version}&…")
            }
            (_, Some(false)) => format!("refold status {view} --watch shows how far it is; caught up, it goes into service by itself"),
            _ => format!("refold status {view} --watch shows how far it is; refold switch {view} {version} sends readers to it"),
        });
    }
    Ok(wanted)
}

/// Asks for a version of a definition, which is in a file, or of the declared one. `commit`: that of the folder which the file is in.
pub fn start(client: &Client, view: &str, definition: Option<(String, String)>, commit: Option<&str>) -> Result<Value, Failure> {
    start_until(client, view, definition, commit, None)
}

/// The same for a version that ends at a record time.
fn start_until(
    client: &Client,
    view: &str,
    definition: Option<(String, String)>,
    commit: Option<&str>,
    until: Option<&str>,
) -> Result<Value, Failure> {
    let mut body = json!({ "by": operator(), "commit": commit });
    if let (Some((file, sql)), Some(members)) = (definition, body.as_object_mut()) {
        members.insert("sql".into(), sql.into());
        members.insert("file".into(), file.into());
    }
    if let (Some(until), Some(members)) = (until, body.as_object_mut()) {
        members.insert("until".into(), until.into());
    }
    client.post(&format!("/v1/admin/views/{}/replay", escaped(view)), &body)
}

fn switch_to(client: &Client, wanted: &Wanted, arguments: &Replay, output: &mut Output) -> Result<(), Failure> {
    let body = json!({ "to": wanted.version, "reason": arguments.reason, "by": operator() });
    waiting::until_gate_is_passed(|| switch::ask(client, &wanted.view, &body, arguments.json, output))
}
