//! Gathers what a switch is judged by, and whether the active version is healthy: current facts instead of the state in the catalogue.
//!
//! Facts are the progress in the view store, the ownership in the catalogue, the status of this process' worker, and the log ends seen last. Nothing here waits for
//! a log.

use axum::http::StatusCode;
use refold_processor::engine::status::RunStatus;
use refold_processor::store::catalogue::{VersionRecord, VersionState};
use refold_processor::table::Version;
use refold_versions::gate::{Facts, Gate, ways_on};

use crate::problem::Problem;
use crate::views::{Views, is_living};

/// A switch that a gate refuses, as a problem document.
pub fn refused(gate: &Gate, view: &str, version: Version) -> Problem {
    let detail = gate.explain(view, version);
    let problem = Problem::new(StatusCode::CONFLICT, "gate", "The version is not as current as readers need it", detail);
    match gate {
        Gate::Behind(events) => problem.with("behind_events", *events),
        _ => problem,
    }
}

/// Gathers the facts about a version.
pub fn facts(views: &Views, record: &VersionRecord, active: Option<&VersionRecord>) -> Result<Facts, Problem> {
    let watch = &views.watch;
    let running = watch.running();
    let run = running.iter().find(|run| run.view == record.view && run.version == Some(record.version));
    let held = views.catalogue.ownership(&record.view, record.version)?;
    let unable = run.and_then(|run| run.unable.clone());
    let is_held = held.as_ref().is_some_and(|held| held.is_held(views.clock.now_ms()));
    let visible = |record: &VersionRecord| Ok::<_, Problem>(views.progress_of(record)?.map(|progress| progress.visible));
    let topic = views.planned(record).ok().and_then(|view| views.sources.get(&view.source).map(|source| source.topic.clone()));
    Ok(Facts {
        is_paused: record.controls.pause,
        until_ms: record.controls.until_ms,
        // Another worker may be able to run it.
        unable: unable.filter(|_| !is_held),
        is_run: is_held,
        owner: held.map(|held| held.owner),
        visible: visible(record)?,
        folded: run.filter(|run| run.unable.is_none() && watch.running.is_here()).map(|run| run.positions.clone()),
        active_visible: active.map(visible).transpose()?.flatten(),
        ends: topic.map(|topic| watch.ends.of(&topic)).unwrap_or_default(),
    })
}

/// Why a view cannot be read, or is not as fresh as it should be, with ways out.
pub fn reasons(views: &Views, view: &str, running: &[RunStatus]) -> Result<Vec<String>, Problem> {
    let catalogue = &views.catalogue;
    let mut reasons = Vec::new();
    let Some(active) = catalogue.active(view)? else {
        let versions = catalogue.versions(view)?;
        if !is_living(&versions) {
            return Ok(reasons);
        }
        let runs: Vec<&RunStatus> = running.iter().filter(|run| run.view == view).collect();
        // As long as nothing is read there is no telling.
        let why = match runs.iter().map(|run| run.lag).sum::<u64>() {
            0 if runs.is_empty() => versions.iter().find_map(|record| views.waits_for(record, None)),
            0 => None,
            lag => Some(format!("the first is being built ({lag} events to go)")),
        };
        let why = why.unwrap_or_else(|| "the first is being built".to_owned());
        reasons.push(format!("view {view}: no version is in service yet, {why}"));
        let unable = runs.iter().filter_map(|run| Some((run.version?, run.unable.as_ref()?)));
        reasons.extend(unable.map(|(version, error)| format!("view {view}: version {version} cannot be run here: {error}")));
        return Ok(reasons);
    };
    let versions = catalogue.versions(view)?;
    let run = running.iter().find(|run| run.view == view && run.version == Some(active.version));
    if let Some(record) = versions.iter().find(|record| record.version == active.version) {
        reasons.extend(health(views, record, &versions, run)?);
    }
    if let Some(RunStatus { store_error: Some(error), .. }) = run {
        reasons.push(format!("view {view}: rows of version {} wait: {error}", active.version));
    }
    if let Some(RunStatus { stalled_s: Some(seconds), source_error: None, lag, .. }) = run {
        reasons.push(format!("view {view}: version {} has folded nothing for {seconds} s although {lag} events wait", active.version));
    }
    // Where nothing is folded, rows are as good to read as ever.
    if let Some(RunStatus { source_error: Some(error), .. }) = run
        && views.watch.running.is_here()
    {
        reasons.push(format!("view {view}: version {} waits for events: {error}", active.version));
    }

    Ok(reasons)
}

/// Reasons why the active version of a view is not healthy, with ways out.
fn health(views: &Views, record: &VersionRecord, versions: &[VersionRecord], run: Option<&RunStatus>) -> Result<Vec<String>, Problem> {
    let watch = &views.watch;
    let (view, version) = (&record.view, record.version);
    if let VersionState::Failed { error } = &record.state {
        return Ok(vec![format!("view {view}: version {version} failed: {error}; {}", ways_on(record, versions))]);
    }
    let mut reasons = Vec::new();
    let now_ms = views.clock.now_ms();
    if let Some(error) = run.and_then(|run| run.unable.as_ref()) {
        reasons.push(format!("view {view}: version {version} cannot be run here: {error}"));
    } else {
        let held = views.catalogue.ownership(view, version)?;
        // During a hand-over between two workers, no worker holds the lease for a moment.
        if watch.behind.is_unowned_for_long(now_ms, (view, version), held.as_ref()) {
            let last = held.map_or(String::new(), |held| format!(" (the last owner was {})", held.owner));
            reasons.push(format!(
                "view {view}: version {version} is run by no worker{last}, so its rows are not updated: start refold process"
            ));
        }
    }
    if let Some(run) = run.filter(|_| watch.behind.is_for_long(now_ms, view, version)) {
        reasons.push(format!(
            "view {view}: version {version} is {} events behind the log, and reads {:.0} events a second",
            run.lag, run.events_per_s
        ));
    }
    Ok(reasons)
}
