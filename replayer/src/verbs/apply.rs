//! `refold apply`: a plan, carried out.
//!
//! Nothing is switched before every new version is caught up, compared and past its gates; then the readers of all views are sent to them at once.
//! Interrupted at any moment it can be run again: versions that are there are used.

use serde_json::{Value, json};

use crate::cli::Apply;
use crate::client::Client;
use crate::commit;
use crate::failure::Failure;
use crate::output::{Output, answered, complain};
use crate::settings;
use crate::verbs::plan::{self, Planned, to_do};
use crate::verbs::status::text;
use crate::verbs::switch::operator;
use crate::verbs::{diff, replay, switch, waiting};

/// A version that is to go into service.
struct Built {
    view: String,
    version: u64,
    /// The version in service; `None`: a new view's first one goes into service by itself.
    active: Option<u64>,
}

/// Carries the plan of the schemas folder out.
pub fn run(arguments: &Apply, output: &mut Output) -> Result<(), Failure> {
    let settings = settings::load(&arguments.settings)?;
    let client = Client::new(&settings);
    let status = client.get("/v1/admin/status")?;
    let mut planned = plan::plan(&settings.schemas, &status, &arguments.views)?;
    plan::add_costs(&client, &settings.schemas, &mut planned)?;
    plan::show(&planned, &status, output)?;
    let changes: Vec<&Planned> = planned.iter().filter(|planned| to_do(planned.change)).collect();
    if changes.is_empty() {
        return Ok(output.line("nothing to do")?);
    }
    confirm(arguments, "Build these versions?")?;
    let commit = commit::of(&settings.schemas);
    let built = changes.into_iter().map(|planned| build(&client, planned, commit.as_deref())).collect::<Result<Vec<Built>, Failure>>()?;
    for Built { view, version, .. } in &built {
        output.line(&format!("version {version} of {view} is being built"))?;
    }
    let versions: Vec<(&str, u64)> = built.iter().map(|built| (built.view.as_str(), built.version)).collect();
    waiting::until_all_caught_up(&client, &versions)?;
    let replacing: Vec<&Built> = built.iter().filter(|built| built.active.is_some_and(|active| active != built.version)).collect();
    let mut is_compared = true;
    for built in replacing.iter().filter(|_| !arguments.no_diff) {
        is_compared &= compare(&client, built, arguments.tolerance, output)?;
    }
    if !replacing.is_empty() {
        confirm(arguments, "Send readers to them?")?;
    }
    send_readers(&client, &replacing, is_compared, arguments, output)
}

fn confirm(arguments: &Apply, question: &str) -> Result<(), Failure> {
    if arguments.yes {
        return Ok(());
    }
    match answered(&format!("{question} Only yes is taken as one: "))?.as_deref() {
        Some("yes") => Ok(()),
        Some(_) => Err(Failure::Gate("not applied; versions that are built stay, and refold apply uses them".to_owned())),
        None => Err(Failure::Usage("there is no terminal to ask on: --yes applies the plan without asking".to_owned())),
    }
}

fn build(client: &Client, planned: &Planned, commit: Option<&str>) -> Result<Built, Failure> {
    let version = match planned.change {
        // A version that is kept up to date: going back to an earlier definition builds nothing.
        plan::Change::Built(version) => version,
        _ => {
            let answer = replay::start(client, &planned.view, planned.declared.clone(), commit)?;
            answer.get("version").and_then(Value::as_u64).unwrap_or_default()
        }
    };
    Ok(Built { view: planned.view.clone(), version, active: planned.active })
}

/// Compares a new version with the one in service; with a tolerance, of the command or of the view, a difference ends it. Answers whether they could be compared.
fn compare(client: &Client, built: &Built, tolerance: Option<f64>, output: &mut Output) -> Result<bool, Failure> {
    let body = json!({ "left": built.active, "right": built.version, "tolerance": tolerance });
    match waiting::until_gate_is_passed(|| diff::ask(client, &built.view, &body)) {
        Ok(report) => {
            output.line(&diff::verdict(&report))?;
            let is_equal = report.get("is_equal").and_then(Value::as_bool) == Some(true);
            let asked = report.get("tolerance_from").and_then(Value::as_str);
            if let Some(from) = asked.filter(|_| !is_equal) {
                let (view, version) = (&built.view, built.version);
                let declared = if from == "declared" { " that the view declares (diff_tolerance)" } else { "" };
                return Err(Failure::Judged(format!(
                    "nothing was switched: version {version} of {view} differs from the one in service by more than the tolerance{declared}; \
                     refold diff {view} shows how, and --no-diff or another --tolerance overrides it"
                )));
            }
            Ok(true)
        }
        // Of another key: that is told, and it is for the operator to judge.
        Err(Failure::Failed(error)) if tolerance.is_none() => {
            complain(&format!("{}: not compared: {error}", built.view));
            Ok(false)
        }
        Err(failure) => Err(failure),
    }
}

/// Sends the readers of all views at once; all gates are judged before. `is_compared`: rows are compared already, or are not to be.
fn send_readers(client: &Client, replacing: &[&Built], is_compared: bool, arguments: &Apply, output: &mut Output) -> Result<(), Failure> {
    if replacing.is_empty() {
        return Ok(());
    }
    let moves = replacing.iter().map(|built| json!({ "view": built.view, "to": built.version, "expected": built.active }));
    let body = json!({
        "moves": moves.collect::<Vec<_>>(),
        "reason": arguments.reason,
        "force": arguments.force,
        "no_diff": is_compared,
        "by": operator(),
    });
    let answer = waiting::until_gate_is_passed(|| client.post_for_long("/v1/admin/switch", &body))?;
    for moved in answer.get("views").and_then(Value::as_array).into_iter().flatten() {
        output.line(&switch::told(&text(moved, "view"), moved))?;
    }
    Ok(())
}
