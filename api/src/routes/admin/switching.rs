//! `POST …/switch`: readers to another version, of one view or of several as one.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use refold_processor::store::catalogue::{Move, VersionRecord, VersionState};
use refold_processor::table::Version;
use refold_versions::gate::{judge, newest_ready, ways_on};
use refold_versions::switching::{Judged, explain};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{or_forced, require_reason, who};
use crate::access::Caller;
use crate::gate::{facts, refused};
use crate::gates::{How, IsGone, judge_all};
use crate::problem::Problem;
use crate::views::Views;
use crate::work::watched;

/// The body of a switch.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwitchBody {
    /// The version to switch to; without it, the newest one that is caught up.
    to: Option<u32>,
    /// The version that must be in service now; without it, whichever is.
    expected: Option<u32>,
    /// Why.
    reason: Option<String>,
    /// Overrides the gates; requires a reason.
    #[serde(default)]
    force: bool,
    /// By how much the rows may differ from those in service; without it, as the view declares.
    diff_within: Option<f64>,
    /// Does not compare the rows, whatever the view declares.
    #[serde(default)]
    no_diff: bool,
    /// Only judges the gates.
    #[serde(default)]
    dry_run: bool,
    /// Who asks.
    by: Option<String>,
}

/// The body of a switch of several views.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupBody {
    /// The views.
    moves: Vec<MoveBody>,
    /// Why.
    reason: Option<String>,
    /// Overrides the gates; requires a reason.
    #[serde(default)]
    force: bool,
    /// By how much rows may differ from those in service; without it, as each view declares.
    diff_within: Option<f64>,
    /// Does not compare rows, whatever the views declare.
    #[serde(default)]
    no_diff: bool,
    /// Only judges the gates.
    #[serde(default)]
    dry_run: bool,
    /// Who asks.
    by: Option<String>,
}

/// One of several views.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoveBody {
    /// The view.
    view: String,
    /// The version to switch to; without it, the newest one that is caught up.
    to: Option<u32>,
    /// The version that must be in service now; without it, whichever is.
    expected: Option<u32>,
}

/// The most views of one switch.
const MOVES_MAX: usize = 1_000;

/// The switch that was requested.
pub struct Asked {
    pub to: Version,
    pub expected: Option<Version>,
    pub active: Option<Version>,
    pub force: bool,
}

/// Refuses a version of a rollback that is not current. For a forced one, returns the description of the gate that was overridden. The version's state and the active
/// pointer are checked by the catalogue.
pub fn pass_current(views: &Views, versions: &[VersionRecord], asked: &Asked) -> Result<Option<String>, Problem> {
    let Some(target) = to_judge(versions, asked)? else { return Ok(None) };
    let active = versions.iter().find(|record| Some(record.version) == asked.active);
    match judge(&facts(views, target, active)?, views.watch.caught_up_lag_events) {
        Some(gate) if asked.force => Ok(Some(gate.describe(target.version))),
        Some(gate) => Err(refused(&gate, &target.view, target.version)),
        None => Ok(None),
    }
}

/// The version whose gates are to be judged; none where the catalogue will refuse the switch, or has nothing to do.
fn to_judge<'a>(versions: &'a [VersionRecord], asked: &Asked) -> Result<Option<&'a VersionRecord>, Problem> {
    let Some(target) = versions.iter().find(|record| record.version == asked.to) else { return Ok(None) };
    if asked.active == Some(asked.to) {
        return match &target.state {
            VersionState::Failed { error } => {
                let detail = format!(
                    "view {}: readers are on version {} already, and it has failed: {error}; {}",
                    target.view,
                    target.version,
                    ways_on(target, versions)
                );
                Err(Problem::new(StatusCode::CONFLICT, "gate", "The version has failed", detail).with("state", "failed"))
            }
            _ => Ok(None),
        };
    }
    Ok(Some(target).filter(|target| asked.expected == asked.active && target.state.may_become(&VersionState::Active)))
}

/// A view that is to be switched, and what its gates came to.
struct Weighed {
    moved: Move,
    active: Option<Version>,
    gates: Vec<Judged>,
}

impl Weighed {
    fn is_passed(&self) -> bool {
        self.gates.iter().all(|judged| judged.passed)
    }

    /// The gates that are not passed, for the audit trail.
    fn overridden(&self) -> Option<String> {
        let failed: Vec<String> = self.gates.iter().filter(|judged| !judged.passed).map(Judged::describe).collect();
        (!failed.is_empty()).then(|| failed.join("; "))
    }

    fn document(&self) -> Value {
        json!({
            "view": self.moved.view,
            "from": self.active.map(|version| version.0),
            "to": self.moved.to.0,
            "switched": false,
            "passed": self.is_passed(),
            "gates": self.gates,
        })
    }
}

/// Finds out which version is meant, and judges its gates.
fn weigh(views: &Views, body: &MoveBody, how: &How, is_gone: &IsGone<'_>) -> Result<Weighed, Problem> {
    let view = &body.view;
    let versions = views.versions_of(view)?;
    let pointer = views.catalogue.active(view)?;
    let active = pointer.as_ref().map(|pointer| pointer.version);
    let expected = body.expected.map(Version).or(active);
    let to = match body.to {
        Some(to) => Version(to),
        None => match (newest_ready(view, &versions, active).map_err(none_ready), expected) {
            (Ok(newest), _) if Some(newest) != active => newest,
            // Nothing waits. Either this very switch was made before, or the caller is mistaken about the version in service.
            (_, Some(replaced)) if expected != active => {
                pointer.filter(|pointer| pointer.previous == expected && pointer.version > replaced).map_or(replaced, |made| made.version)
            }
            (newest, _) => newest?,
        },
    };
    let asked = Asked { to, expected, active, force: how.all };
    let gates = match to_judge(&versions, &asked)? {
        Some(target) => {
            let active = versions.iter().find(|record| Some(record.version) == active);
            judge_all(views, target, active, how, is_gone)?
        }
        None => Vec::new(),
    };
    Ok(Weighed { moved: Move { view: view.clone(), from: expected, to }, active, gates })
}

/// A switch that gates refuse, as a problem document: which, and all verdicts.
fn gates_refuse(weighed: &Weighed) -> Problem {
    let Weighed { moved, gates, .. } = weighed;
    let first = gates.iter().find(|judged| !judged.passed);
    let detail = explain(&moved.view, moved.to, gates);
    let problem = Problem::new(StatusCode::CONFLICT, "gate", "The version does not pass the gates of a switch", detail);
    let problem = problem.with("view", moved.view.clone()).with("gate", first.map_or("", |judged| judged.gate)).with("gates", json!(gates));
    match first.and_then(|judged| judged.behind_events) {
        Some(events) => problem.with("behind_events", events),
        None => problem,
    }
}

/// `POST /v1/admin/views/{view}/switch`: sends readers to another version, in one step.
pub async fn switch(
    State(views): State<Arc<Views>>,
    Extension(caller): Extension<Caller>,
    Path(view): Path<String>,
    body: Result<Json<SwitchBody>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Json(body) = body.map_err(|error| Problem::body(error.body_text()))?;
    require_reason(body.force, body.reason.as_deref(), "for switching to this version")?;
    let how = how(body.diff_within, body.no_diff, body.force || body.dry_run)?;
    watched(move |is_gone| {
        let catalogue = &views.catalogue;
        let weighed = weigh(&views, &MoveBody { view: view.clone(), to: body.to, expected: body.expected }, &how, is_gone)?;
        let Move { from: expected, to, .. } = weighed.moved;
        if body.dry_run {
            catalogue.check_switch(&view, expected, to)?;
            return Ok(Json(weighed.document()));
        }
        if !weighed.is_passed() && !body.force {
            return Err(gates_refuse(&weighed));
        }
        let reason = or_forced(weighed.overridden(), body.reason);
        let pointer = catalogue.switch(&view, expected, to, &who(&caller, body.by.as_deref()), reason.as_deref())?;
        views.watch.running.look();
        let (from, is_moved) = (weighed.active.map(|version| version.0), weighed.active != Some(to));
        Ok(Json(json!({ "view": view, "from": from, "to": pointer.version.0, "switched": is_moved })))
    })
    .await
}

/// `POST /v1/admin/switch`: sends the readers of several views to other versions, all at once. All gates of all views are judged first.
pub async fn switch_group(
    State(views): State<Arc<Views>>,
    Extension(caller): Extension<Caller>,
    body: Result<Json<GroupBody>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Json(body) = body.map_err(|error| Problem::body(error.body_text()))?;
    require_reason(body.force, body.reason.as_deref(), "for switching to these versions")?;
    refuse_moves(&body.moves)?;
    let how = how(body.diff_within, body.no_diff, body.force || body.dry_run)?;
    watched(move |is_gone| {
        let weighed = body.moves.iter().map(|moved| weigh(&views, moved, &how, is_gone)).collect::<Result<Vec<_>, _>>()?;
        if body.dry_run {
            weighed.iter().try_for_each(|one| views.catalogue.check_switch(&one.moved.view, one.moved.from, one.moved.to))?;
            return Ok(Json(json!({ "views": weighed.iter().map(Weighed::document).collect::<Vec<_>>() })));
        }
        if !body.force
            && let Some(first) = weighed.iter().find(|one| !one.is_passed())
        {
            return Err(gates_refuse(first));
        }
        let overridden: Vec<String> = weighed.iter().filter_map(|one| Some(format!("{}: {}", one.moved.view, one.overridden()?))).collect();
        let reason = or_forced((!overridden.is_empty()).then(|| overridden.join("; ")), body.reason);
        let moves: Vec<Move> = weighed.iter().map(|one| one.moved.clone()).collect();
        let moved = views.catalogue.switch_as_one(&moves, &who(&caller, body.by.as_deref()), reason.as_deref())?;
        views.watch.running.look();
        let answer = weighed.iter().map(|one| {
            json!({
                "view": one.moved.view,
                "from": one.active.map(|version| version.0),
                "to": one.moved.to.0,
                "switched": moved.iter().any(|moved| moved.view == one.moved.view),
            })
        });
        Ok(Json(json!({ "views": answer.collect::<Vec<_>>() })))
    })
    .await
}

fn refuse_moves(moves: &[MoveBody]) -> Result<(), Problem> {
    if moves.is_empty() || moves.len() > MOVES_MAX {
        return Err(Problem::body(format!("moves: name from 1 to {MOVES_MAX} views")));
    }
    let twice = moves.iter().enumerate().find(|(index, moved)| moves.iter().take(*index).any(|earlier| earlier.view == moved.view));
    match twice {
        Some((_, moved)) => Err(Problem::body(format!("moves: view {} is named twice", moved.view))),
        None => Ok(()),
    }
}

fn how(within: Option<f64>, no_diff: bool, all: bool) -> Result<How, Problem> {
    if let Some(part) = within.filter(|part| !(0.0..1.0).contains(part)) {
        return Err(Problem::body(format!("diff_within: {part} is not a part from 0 to 1, such as 0.01 for a hundredth")));
    }
    Ok(How { within, no_diff, all })
}

/// No version can be switched to.
fn none_ready(detail: String) -> Problem {
    Problem::new(StatusCode::CONFLICT, "gate", "The version is not in a state that allows this", detail)
}
