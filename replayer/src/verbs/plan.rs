//! `refold plan`: the schemas folder against what runs.

mod canary;
mod cost;

use std::path::Path;

use serde_json::{Value, json};
use similar::TextDiff;

use crate::cli::Plan;
use crate::client::{Client, escaped};
use crate::commit;
use crate::failure::Failure;
use crate::output::{Output, complain};
use crate::settings;
use crate::verbs::progress::span;
use crate::verbs::replay::changed::{Need, declared, need};
use crate::verbs::status::{grouped, text};

/// What becomes of a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// No version of it is known.
    New,
    /// A version of its definition is to be built.
    Changed,
    /// A version of its definition is there, and not in service.
    Built(u64),
    /// The version in service has its definition.
    Unchanged,
    /// It runs and is not declared.
    Undeclared,
}

impl Change {
    fn name(self) -> &'static str {
        match self {
            Change::New => "new",
            Change::Changed => "changed",
            Change::Built(_) => "built",
            Change::Unchanged => "unchanged",
            Change::Undeclared => "undeclared",
        }
    }
}

/// A view of a plan.
pub struct Planned {
    /// Its name.
    pub view: String,
    /// What becomes of it.
    pub change: Change,
    /// The version in service.
    pub active: Option<u64>,
    /// The file that declares it, and its definition.
    pub declared: Option<(String, String)>,
    /// The definition of the version in service.
    running: Option<String>,
    source: Option<String>,
    /// What its versions take, where the server says so.
    cost: Value,
    /// The commit of the schemas folder.
    commit: Option<String>,
    /// What it would change in a sample of the log, if that was asked for.
    canary: Option<Value>,
}

/// Events of a source, and whether its log still has the first ones.
struct History {
    events: u64,
    is_whole: bool,
    /// How long it still has them, seconds; `None`: for good, or that is not known.
    kept_for_s: Option<u64>,
}

/// Shows the plan.
pub fn run(arguments: &Plan, output: &mut Output) -> Result<(), Failure> {
    let settings = settings::load(&arguments.settings)?;
    let client = Client::new(&settings);
    let status = client.get("/v1/admin/status")?;
    let mut planned = plan(&settings.schemas, &status, &arguments.views)?;
    add_costs(&client, &settings.schemas, &mut planned)?;
    if let Some(share) = arguments.canary {
        add_canaries(&client, share, &mut planned)?;
    }
    match (arguments.json, arguments.markdown) {
        (true, _) => planned.iter().try_for_each(|planned| output.json(&document(planned, &status)))?,
        (_, true) => output.line(markdown(&planned, &status).trim_end())?,
        _ => show(&planned, &status, output)?,
    }
    let changes = planned.iter().filter(|planned| to_do(planned.change)).count();
    match changes {
        0 => Ok(()),
        changes if arguments.detailed_exitcode => Err(Failure::Changes(summary(&planned, changes))),
        changes => {
            complain(&summary(&planned, changes));
            Ok(())
        }
    }
}

/// Adds what versions of the views that change take.
pub fn add_costs(client: &Client, schemas: &Path, planned: &mut [Planned]) -> Result<(), Failure> {
    let commit = commit::of(schemas);
    for planned in planned.iter_mut() {
        planned.commit.clone_from(&commit);
        if planned.change == Change::Changed {
            planned.cost = client.get(&format!("/v1/admin/views/{}/cost", escaped(&planned.view)))?;
        }
    }
    Ok(())
}

/// Adds what views that change would change in a sample of the log; of one that cannot be compared, why.
fn add_canaries(client: &Client, share: f64, planned: &mut [Planned]) -> Result<(), Failure> {
    for planned in planned.iter_mut().filter(|planned| planned.active.is_some() && to_do(planned.change)) {
        let Some((file, sql)) = &planned.declared else { continue };
        let path = format!("/v1/admin/views/{}/canary", escaped(&planned.view));
        match client.post_for_long(&path, &json!({ "sql": sql, "file": file, "share": share })) {
            Ok(report) => planned.canary = Some(report),
            Err(Failure::Failed(error)) => complain(&format!("{}: no canary: {error}", planned.view)),
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

/// Whether applying the plan changes something for the view.
pub fn to_do(change: Change) -> bool {
    matches!(change, Change::New | Change::Changed | Change::Built(_))
}

/// What becomes of the declared views, and of those that run without being declared.
pub fn plan(schemas: &Path, status: &Value, only: &[String]) -> Result<Vec<Planned>, Failure> {
    let mut planned: Vec<Planned> = Vec::new();
    let documents: Vec<&Value> = status.get("views").and_then(Value::as_array).into_iter().flatten().collect();
    let of = |view: &str| documents.iter().find(|document| text(document, "view") == view).copied();
    for (file, view) in declared(schemas)? {
        let document = of(&view.name);
        let change = match (need(&view, status), document) {
            (Need::Nothing, _) => Change::Unchanged,
            (Need::Version(version), _) => Change::Built(version),
            (Need::Replay, None) => Change::New,
            (Need::Replay, Some(_)) => Change::Changed,
        };
        let (active, running) = document.map(in_service).unwrap_or_default();
        let declared = Some((file, view.sql));
        planned.push(Planned {
            view: view.name,
            change,
            active,
            declared,
            running,
            source: Some(view.source),
            cost: Value::Null,
            commit: None,
            canary: None,
        });
    }
    for document in &documents {
        let view = text(document, "view");
        let (active, running) = in_service(document);
        if planned.iter().all(|planned| planned.view != view) && active.is_some() {
            planned.push(Planned {
                view,
                change: Change::Undeclared,
                active,
                declared: None,
                running,
                source: None,
                cost: Value::Null,
                commit: None,
                canary: None,
            });
        }
    }
    if let Some(unknown) = only.iter().find(|name| planned.iter().all(|planned| planned.view != **name)) {
        let names: Vec<&str> = planned.iter().map(|planned| planned.view.as_str()).collect();
        return Err(Failure::Usage(format!("there is no view {unknown}; there are: {}", names.join(", "))));
    }
    planned.retain(|planned| only.is_empty() || only.contains(&planned.view));
    Ok(planned)
}

/// The version in service and its definition.
fn in_service(document: &Value) -> (Option<u64>, Option<String>) {
    let active = document.pointer("/active/version").and_then(Value::as_u64);
    let versions = document.get("versions").and_then(Value::as_array).into_iter().flatten();
    let mut of_active = versions.filter(|version| version.get("version").and_then(Value::as_u64) == active);
    (active, of_active.next().map(|version| text(version, "definition")))
}

fn history(planned: &Planned, status: &Value) -> Option<History> {
    let sources = status.get("sources").and_then(Value::as_array)?;
    let source = sources.iter().find(|source| Some(text(source, "source")) == planned.source)?;
    let partitions = source.get("partitions").and_then(Value::as_object)?;
    let bounds: Vec<(u64, u64)> =
        partitions.values().filter_map(|bounds| Some((bounds.get("start")?.as_u64()?, bounds.get("end")?.as_u64()?))).collect();
    // A log that is unavailable has no partitions.
    (!bounds.is_empty()).then(|| History {
        events: bounds.iter().map(|(start, end)| end.saturating_sub(*start)).sum(),
        is_whole: bounds.iter().all(|(start, _)| *start == 0),
        kept_for_s: source.pointer("/retention/kept_for_s").and_then(Value::as_u64),
    })
}

/// The lines that differ between the definition in service and the declared one, with those around them; a mark comes before each.
fn difference(planned: &Planned) -> Vec<String> {
    let (Some(running), Some((_, declared))) = (&planned.running, &planned.declared) else { return Vec::new() };
    let (running, declared) = (format!("{}\n", running.trim_end()), format!("{}\n", declared.trim_end()));
    let difference = TextDiff::from_lines(running.as_str(), declared.as_str());
    let unified = difference.unified_diff().context_radius(1).to_string();
    unified.lines().filter(|line| !line.starts_with("\\ ")).map(str::to_owned).collect()
}

/// What it takes, for people, one sentence each.
fn takes(planned: &Planned, status: &Value) -> Vec<String> {
    let in_service = planned.active.map(|active| match of_active(planned, status, "commit") {
        commit if commit.is_empty() => format!("version {active} is in service"),
        commit => format!("version {active} is in service, of commit {commit}"),
    });
    let mut takes: Vec<String> = match planned.change {
        Change::Unchanged | Change::Undeclared => Vec::new(),
        Change::New => vec!["its first version goes into service by itself once it is caught up".to_owned()],
        Change::Changed => in_service.into_iter().collect(),
        Change::Built(version) => {
            let built = format!("version {version} has this definition");
            vec![in_service.map_or(built.clone(), |in_service| format!("{in_service}, {built}"))]
        }
    };
    match planned.change {
        Change::Undeclared => takes.push(format!("it runs and no file declares it: refold drop {} --all removes it", planned.view)),
        Change::New | Change::Changed => match history(planned, status) {
            Some(History { events, is_whole, kept_for_s }) => {
                takes.push(format!("a new version reads {} events from the log", grouped(events)));
                takes.extend(cost::estimate(events, status, &planned.cost).map(|estimate| estimate.sentence()));
                if !is_whole {
                    takes.push("the log has lost its beginning: rows made of earlier events will be missing".to_owned());
                } else if let Some(seconds) = kept_for_s {
                    takes.push(format!(
                        "retention removes the first of them in {}: the new version must have read them by then",
                        span(seconds)
                    ));
                }
            }
            None => takes.push("the log is unavailable, so it is not known how many events a new version reads".to_owned()),
        },
        _ => {}
    }
    if to_do(planned.change) {
        takes.extend(cost::sizes(&planned.cost, planned.active));
        if let unresolved @ 1.. = cost::unresolved(status, &planned.view, planned.active) {
            takes.push(format!(
                "{} events are of a schema that is not known or does not fit: a new version will leave them out too (refold quarantine list {})",
                grouped(unresolved),
                planned.view
            ));
        }
        takes.extend(planned.canary.as_ref().map(canary::sentence));
        takes.extend(planned.commit.as_ref().map(|commit| format!("the folder is at commit {commit}")));
    }
    takes
}

/// A member of the version in service.
fn of_active(planned: &Planned, status: &Value, name: &str) -> String {
    let documents = status.get("views").and_then(Value::as_array).into_iter().flatten();
    let versions =
        documents.filter(|document| text(document, "view") == planned.view).filter_map(|document| document.get("versions")?.as_array());
    let mut in_service = versions.flatten().filter(|version| version.get("version").and_then(Value::as_u64) == planned.active);
    in_service.next().map(|version| text(version, name)).unwrap_or_default()
}

fn document(planned: &Planned, status: &Value) -> Value {
    let history = history(planned, status).filter(|_| matches!(planned.change, Change::New | Change::Changed));
    let version = match planned.change {
        Change::Built(version) => Some(version),
        _ => None,
    };
    let estimate = history.as_ref().and_then(|history| cost::estimate(history.events, status, &planned.cost));
    json!({
        "commit": planned.commit,
        "canary": planned.canary,
        "active_commit": Some(of_active(planned, status, "commit")).filter(|commit| !commit.is_empty()),
        "unresolved_events": cost::unresolved(status, &planned.view, planned.active),
        "cost": cost::document(estimate.as_ref(), &planned.cost),
        "view": planned.view,
        "change": planned.change.name(),
        "file": planned.declared.as_ref().map(|(file, _)| file),
        "active": planned.active,
        "version": version,
        "events": history.as_ref().map(|history| history.events),
        "log_is_whole": history.as_ref().map(|history| history.is_whole),
        "log_kept_for_s": history.as_ref().and_then(|history| history.kept_for_s),
        "diff": difference(planned),
    })
}

/// Shows a plan for people.
pub fn show(planned: &[Planned], status: &Value, output: &mut Output) -> Result<(), Failure> {
    let width = planned.iter().map(|planned| planned.view.chars().count()).max().unwrap_or_default();
    for planned in planned {
        let file = planned.declared.as_ref().filter(|_| to_do(planned.change)).map(|(file, _)| file.as_str()).unwrap_or_default();
        output.line(format!("{:width$}  {:<10}  {file}", planned.view, planned.change.name()).trim_end())?;
        takes(planned, status).iter().try_for_each(|sentence| output.line(&format!("  {sentence}")))?;
        planned.canary.iter().flat_map(canary::examples).try_for_each(|line| output.line(&format!("    {line}")))?;
        let difference = if to_do(planned.change) { difference(planned) } else { Vec::new() };
        difference.iter().try_for_each(|line| output.line(format!("    {line}").trim_end()))?;
    }
    Ok(())
}

fn markdown(planned: &[Planned], status: &Value) -> String {
    let mut text = String::from("## Plan\n\n| view | change | |\n|---|---|---|\n");
    for planned in planned {
        text.push_str(&format!("| `{}` | {} | {} |\n", planned.view, planned.change.name(), takes(planned, status).join("; ")));
    }
    for planned in planned.iter().filter(|planned| to_do(planned.change)) {
        let difference = difference(planned);
        if !difference.is_empty() {
            text.push_str(&format!("\n### {}\n\n```diff\n{}\n```\n", planned.view, difference.join("\n")));
        }
        let examples: Vec<String> = planned.canary.iter().flat_map(canary::examples).collect();
        if !examples.is_empty() {
            text.push_str(&format!("\nRows of the canary that differ:\n\n```text\n{}\n```\n", examples.join("\n")));
        }
    }
    text
}

fn summary(planned: &[Planned], changes: usize) -> String {
    let unchanged = planned.iter().filter(|planned| planned.change == Change::Unchanged).count();
    let views = if changes == 1 { "1 view".to_owned() } else { format!("{changes} views") };
    format!("{views} to change, {unchanged} unchanged; refold apply carries this out")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]

    use super::*;

    fn planned(change: Change) -> Planned {
        Planned {
            view: "v".into(),
            change,
            active: Some(1),
            declared: Some(("v.sql".into(), "SELECT a\nFROM t\nWHERE b\n".into())),
            running: Some("SELECT a\nFROM t\n".into()),
            source: Some("t".into()),
            cost: Value::Null,
            commit: None,
            canary: None,
        }
    }

    fn status(start: u64) -> Value {
        json!({ "sources": [{ "source": "t", "partitions": { "0": { "start": start, "end": 1_000 }, "1": { "start": 0, "end": 500 } } }] })
    }

    #[test]
    fn a_plan_says_what_a_change_takes() {
        assert_eq!(
            takes(&planned(Change::Changed), &status(0)),
            ["version 1 is in service", "a new version reads 1 500 events from the log"]
        );
        let late = takes(&planned(Change::Changed), &status(7));
        assert!(late.iter().any(|sentence| sentence.contains("lost its beginning")), "{late:?}");
        let kept = json!({ "sources": [{ "source": "t", "partitions": { "0": { "start": 0, "end": 9 } }, "retention": { "kept_for_s": 7_200 } }] });
        assert!(takes(&planned(Change::Changed), &kept)[2].contains("removes the first of them in 2h"));
        let unavailable = takes(&planned(Change::New), &json!({ "sources": [{ "source": "t", "partitions": {} }] }));
        assert!(unavailable.iter().any(|sentence| sentence.contains("unavailable")), "{unavailable:?}");
        assert!(takes(&planned(Change::Undeclared), &status(0))[0].contains("refold drop v --all"));
    }

    #[test]
    fn the_lines_that_differ_are_marked() {
        let lines = difference(&planned(Change::Changed));
        assert!(lines.contains(&"+WHERE b".to_owned()) && lines.contains(&" FROM t".to_owned()), "{lines:?}");
        assert!(!lines.iter().any(|line| line.starts_with('-') && !line.starts_with("---")), "{lines:?}");
        let text = markdown(&[planned(Change::Changed)], &status(0));
        assert!(text.contains("| `v` | changed |") && text.contains("```diff\n"), "{text}");
    }
}
