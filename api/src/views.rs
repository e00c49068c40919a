//! Views as the catalogue and their definitions have them: their versions, what they declare, and how fresh each version is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use datafusion::arrow::datatypes::Field;
use parking_lot::{Mutex, RwLock};
use refold_processor::clock::Clock;
use refold_processor::engine::status::{RunStatus, Spread};
use refold_processor::json::{cut, micros, millis};
use refold_processor::source::Sources;
use refold_processor::store::catalogue::{ActivePointer, Catalogue, CatalogueError, Throttle, VersionRecord, VersionState, ViewSnapshot};
use refold_processor::store::{Progress, RowReader, StoreError};
use refold_processor::table::{Order, Table, Version};
use refold_processor::view::{Checks, Dashboard, DashboardKind, View, WindowSpec};
use refold_versions::gate::ways_on;
use refold_versions::planner::Planner;
use refold_versions::progress::{Bottleneck, Eta, Forecast, forecast};
use serde_json::{Map, Value, json};

use crate::parameters::parameter;
use crate::ports::{ApiError, Definitions, Ports};
use crate::problem::Problem;
use crate::settings::ApiSettings;
use crate::watch::Watch;

/// How long it is known how a view file has its view drawn: the file is read and planned for it.
const DRAWN_FOR: Duration = Duration::from_secs(5);

/// The views.
pub struct Views {
    /// Versions and the active pointers.
    pub catalogue: Catalogue,
    /// Rows.
    pub rows: Arc<dyn RowReader>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The declared sources.
    pub sources: Sources,
    /// What is known of everything that runs.
    pub watch: Arc<Watch>,
    /// How long a version is kept after it was in service, milliseconds.
    pub drop_grace_ms: i64,
    /// By how much the share of quarantined events of a version may be greater than that of the one in service, from 0 to 1.
    pub quarantine_allowance: f64,
    /// How long after it was retired a version is dropped by the workers, milliseconds; `None`: never.
    retire_after_ms: Option<i64>,
    definitions: Arc<dyn Definitions>,
    planner: Planner,
    planned: RwLock<HashMap<String, Arc<View>>>,
    /// How view files have their views drawn, each with the digest of its definition.
    drawn: Mutex<HashMap<String, (Instant, Option<(String, Dashboard)>)>>,
}

impl Views {
    /// The views that these ports lead to.
    ///
    /// # Errors
    /// When a source's schema is not valid.
    pub fn new(ports: &Ports, settings: &ApiSettings, watch: &Arc<Watch>) -> Result<Views, ApiError> {
        Ok(Views {
            catalogue: ports.catalogue.clone(),
            rows: ports.rows.clone(),
            clock: ports.clock.clone(),
            sources: ports.sources.clone(),
            watch: watch.clone(),
            drop_grace_ms: settings.drop_grace_ms,
            quarantine_allowance: f64::from(settings.quarantine_percent) / 100.0,
            retire_after_ms: settings.retire_after_ms,
            definitions: ports.definitions.clone(),
            planner: Planner::new(&ports.sources)?,
            planned: RwLock::default(),
            drawn: Mutex::default(),
        })
    }

    /// The versions of a view that exists: not all of them are dropped.
    pub fn versions_of(&self, view: &str) -> Result<Vec<VersionRecord>, Problem> {
        let versions = self.known_versions(view)?;
        match is_living(&versions) {
            true => Ok(versions),
            false => {
                Err(Problem::not_found(format!("view {view} was dropped with all its versions; refold replay {view} builds it again")))
            }
        }
    }

    /// The versions of a view that exists or was dropped.
    pub fn known_versions(&self, view: &str) -> Result<Vec<VersionRecord>, Problem> {
        let versions = self.catalogue.versions(view)?;
        if versions.is_empty() {
            let known = self.living()?;
            let problem = Problem::not_found(format!("there is no view {view}; there are: {}", or_none(&known)));
            return Err(problem.with("views", known));
        }
        Ok(versions)
    }

    /// The names of the views that are not dropped, in order.
    pub fn living(&self) -> Result<Vec<String>, Problem> {
        let snapshot = self.catalogue.snapshot()?;
        // One that cannot be read is not known to be dropped.
        let is_living = |read: &Result<ViewSnapshot, CatalogueError>| read.as_ref().map_or(true, |read| !read.versions.is_empty());
        Ok(snapshot.views.into_iter().filter(|(_, read)| is_living(read)).map(|(view, _)| view).collect())
    }

    /// The planned view of a version. Equal definitions are planned once.
    pub fn planned(&self, record: &VersionRecord) -> Result<Arc<View>, Problem> {
        if let Some(view) = self.planned.read().get(&record.digest) {
            return Ok(view.clone());
        }
        let view = Arc::new(self.plan_of(record)?);
        self.planned.write().insert(record.digest.clone(), view.clone());
        Ok(view)
    }

    fn plan_of(&self, record: &VersionRecord) -> Result<View, Problem> {
        let label = format!("{} {}", record.view, record.version);
        self.planner.plan(&record.sql, &label).map_err(|error| {
            Problem::definition(format!(
                "version {} of view {} does not match the declared sources: {error}; restore the declaration, or build a version of the new \
                 definition with refold replay {}",
                record.version, record.view, record.view
            ))
        })
    }

    /// What the rows of a version are held to: as its file says now, if that has the definition that it was made from, else as it was made. They make no row, so no
    /// version is built for them.
    pub fn checks_of(&self, record: &VersionRecord) -> Result<Checks, Problem> {
        let declared = self.definitions.of(&record.view).ok().flatten();
        let declared = declared.and_then(|(file, sql)| self.planner.plan(&sql, &file).ok());
        match declared.filter(|declared| declared.digest == record.digest) {
            Some(declared) => Ok(declared.checks),
            None => Ok(self.plan_of(record)?.checks),
        }
    }

    /// Plans a definition that is new here.
    pub fn plan(&self, sql: &str, file: &str) -> Result<View, Problem> {
        Ok(self.planner.plan(sql, file)?)
    }

    /// The file that declares a view now, and its text.
    ///
    /// # Errors
    /// 422 when it cannot be read: the mistake is in the schemas folder, not in the server.
    pub fn declared(&self, view: &str) -> Result<Option<(String, String)>, Problem> {
        let unreadable = |detail: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "view", "The view is refused", detail);
        self.definitions.of(view).map_err(unreadable)
    }

    /// What a version is waiting for that is not begun yet, so that there is no `run`: the history of its source.
    pub fn waits_for(&self, record: &VersionRecord, run: Option<&RunStatus>) -> Option<String> {
        if record.state != VersionState::Building || run.is_some() {
            return None;
        }
        self.watch.history_of(&self.planned(record).ok()?.source)
    }

    /// The table of a version.
    pub fn table(&self, record: &VersionRecord) -> Result<Table, Problem> {
        let planned = self.planned(record)?;
        Ok(Table { view: record.view.clone(), version: record.version, shape: planned.shape.clone() })
    }

    /// How far the table of a version is, as readers see it.
    pub fn progress_of(&self, record: &VersionRecord) -> Result<Option<Progress>, Problem> {
        if record.state == VersionState::Dropped {
            return Ok(None);
        }
        let Ok(table) = self.table(record) else { return Ok(None) };
        match self.rows.progress(&table) {
            Ok(progress) => Ok(progress),
            // Not created yet by the worker that takes the version, or created for a schema that has changed since, which reads of its rows report.
            Err(StoreError::UnknownTable(_) | StoreError::OtherShape { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// All views.
    pub fn documents(&self) -> Result<Vec<Value>, Problem> {
        let running = self.watch.running();
        let mut documents = Vec::new();
        for view in self.living()? {
            match self.document(&view, &running) {
                // It was dropped meanwhile.
                Err(problem) if problem.status() == StatusCode::NOT_FOUND => {}
                document => documents.push(document?),
            }
        }
        Ok(documents)
    }

    /// One view: what it declares, and how fresh each version is.
    pub fn document_of(&self, view: &str) -> Result<Value, Problem> {
        self.document(view, &self.watch.running())
    }

    /// The worker that runs each of a view's versions now; of nobody's, and of those whose owner cannot be read, there is nothing.
    fn owners(&self, versions: &[VersionRecord]) -> HashMap<Version, String> {
        let now_ms = self.clock.now_ms();
        let living = versions.iter().filter(|record| record.state != VersionState::Dropped);
        let keys: Vec<(String, Version)> = living.map(|record| (record.view.clone(), record.version)).collect();
        let owners = self.catalogue.ownerships(&keys).unwrap_or_default();
        let owned = keys.into_iter().zip(owners).filter_map(|((_, version), owner)| Some((version, owner.ok()??)));
        owned.filter(|(_, owner)| owner.is_held(now_ms)).map(|(version, owner)| (version, owner.owner)).collect()
    }

    fn document(&self, view: &str, running: &[RunStatus]) -> Result<Value, Problem> {
        let versions = self.versions_of(view)?;
        let owners = self.owners(&versions);
        let active = self.catalogue.active(view)?;
        let shown = shown_definition(&versions, active.as_ref());
        let mut document = Map::new();
        document.insert("view".into(), view.into());
        let active_json = active.as_ref().map(|active| {
            json!({
                "version": active.version.0,
                "previous": active.previous.map(|version| version.0),
                "since": millis(active.switched_ms),
                "by": active.switched_by,
                "reason": active.reason,
                "rolled_back": active.is_rollback,
            })
        });
        document.insert("active".into(), active_json.into());
        let is_dropped = |record: &VersionRecord| record.state == VersionState::Dropped;
        let removing = if versions.iter().any(is_dropped) { self.catalogue.removing(view)? } else { Vec::new() };
        let mut active_watermark_us = None;
        let mut version_documents = Vec::new();
        for record in &versions {
            let run = running.iter().find(|run| run.view == *view && run.version == Some(record.version));
            let progress = self.progress_of(record)?;
            if active.as_ref().is_some_and(|active| active.version == record.version) {
                active_watermark_us = progress.as_ref().and_then(|progress| progress.watermark_us);
            }
            let mut version_document = version_document(record, run, progress.as_ref(), self.waits_for(record, run));
            if let Some(members) = version_document.as_object_mut() {
                members.insert("owner".into(), owners.get(&record.version).map(String::as_str).into());
                members.insert("definition".into(), record.sql.clone().into());
                if is_dropped(record) {
                    members.insert("removed".into(), (!removing.iter().any(|left| left.version == record.version)).into());
                }
                if let Some(expires_ms) = record.expires_ms(self.retire_after_ms) {
                    members.insert("drops_at".into(), millis(expires_ms));
                }
            }
            if let (VersionState::Failed { .. }, Some(members)) = (&record.state, version_document.as_object_mut()) {
                let is_active = active.as_ref().is_some_and(|active| active.version == record.version);
                let others = if is_active { versions.as_slice() } else { Default::default() };
                members.insert("way_on".into(), ways_on(record, others).into());
            }
            version_documents.push(version_document);
        }
        if let Some(record) = shown {
            match self.planned(record) {
                Ok(planned) => {
                    describe(&mut document, &planned, active_watermark_us);
                    document.insert("dashboard".into(), self.drawing(&planned, record)?);
                }
                // One that no longer plans must not hide how far its versions are.
                Err(problem) => {
                    document.insert("sql".into(), record.sql.clone().into());
                    document.insert("definition".into(), record.sql.clone().into());
                    document.insert("problem".into(), problem.document());
                }
            }
        }
        document.insert("versions".into(), version_documents.into());
        Ok(document.into())
    }

    /// How a view is drawn: as its file says now, if it has the definition that readers get; a title changes no row, so no version is built for it.
    fn drawing(&self, planned: &View, record: &VersionRecord) -> Result<Value, Problem> {
        let declared = self.drawn(&record.view).filter(|(digest, _)| *digest == record.digest);
        let mut drawn = declared.map_or_else(|| planned.dashboard.clone(), |(_, dashboard)| dashboard);
        if drawn.kind == DashboardKind::Ranking && drawn.series.is_none() {
            drawn.series = self.series_of(planned, &drawn)?;
        }
        let columns = planned.shape.columns.fields();
        let name = |column: Option<usize>| column.and_then(|column| columns.get(column)).map(|field| field.name().as_str());
        let label = name(drawn.label);
        Ok(json!({
            "kind": drawn.kind.name(),
            "title": drawn.title.clone().unwrap_or_else(|| title_of(&record.view)),
            "label": label,
            "value": name(drawn.value),
            "rank": name(drawn.rank),
            "time": name(drawn.time),
            "series_label": drawn.series.as_ref().and(drawn.series_label.as_deref().or(label)),
            "series": drawn.series,
        }))
    }

    /// How the file of a view has it drawn, and the digest of its definition.
    fn drawn(&self, view: &str) -> Option<(String, Dashboard)> {
        if let Some((_, drawn)) = self.drawn.lock().get(view).filter(|(at, _)| at.elapsed() < DRAWN_FOR) {
            return drawn.clone();
        }
        let declared = self.definitions.of(view).ok().flatten();
        let planned = declared.and_then(|(file, sql)| self.planner.plan(&sql, &file).ok());
        let drawn = planned.map(|planned| (planned.digest.clone(), planned.dashboard.clone()));
        self.drawn.lock().insert(view.to_owned(), (Instant::now(), drawn.clone()));
        drawn
    }

    /// A view in service whose partitions are the history of what a ranking ranks: its key has the name and the type of the ranking's label.
    fn series_of(&self, ranking: &View, drawn: &Dashboard) -> Result<Option<String>, Problem> {
        let columns = ranking.shape.columns.fields();
        let Some(label) = drawn.label.and_then(|column| columns.get(column)) else { return Ok(None) };
        for (view, read) in self.catalogue.snapshot()?.views {
            let read = read?;
            let Some(active) = read.active else { continue };
            let record = read.versions.iter().find(|record| record.version == active.version);
            let Some(planned) = record.and_then(|record| self.planned(record).ok()) else { continue };
            let [key] = planned.shape.partition_key.as_slice() else { continue };
            let key = planned.shape.columns.fields().get(*key);
            let is_of_label = key.is_some_and(|key| key.name() == label.name() && key.data_type() == label.data_type());
            if is_of_label && planned.dashboard.kind == DashboardKind::Series {
                return Ok(Some(view));
            }
        }
        Ok(None)
    }
}

/// Whether a view with these versions exists.
pub fn is_living(versions: &[VersionRecord]) -> bool {
    versions.iter().any(|record| record.state != VersionState::Dropped)
}

/// `hashtag_trends` → `Hashtag trends`
fn title_of(view: &str) -> String {
    let words = view.replace('_', " ");
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Names for a sentence.
pub fn or_none(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// What is described is what readers get; before there is an active version, the newest one.
fn shown_definition<'a>(versions: &'a [VersionRecord], active: Option<&ActivePointer>) -> Option<&'a VersionRecord> {
    let served = active.and_then(|active| versions.iter().find(|record| record.version == active.version));
    served.or_else(|| versions.iter().rev().find(|record| record.state != VersionState::Dropped)).or(versions.last())
}

fn describe(document: &mut Map<String, Value>, view: &View, watermark_us: Option<i64>) {
    let columns = view.shape.columns.fields();
    let name = |column: usize| columns.get(column).map_or("", |field| field.name().as_str());
    let role = |column: usize| match () {
        () if view.shape.partition_key.contains(&column) => "partition_key",
        () if view.shape.clustering.iter().any(|(clustering, _)| *clustering == column) => "clustering_key",
        () => "value",
    };
    let column_json = |(index, field): (usize, &Field)| {
        json!({
            "name": field.name(),
            "type": field.data_type().to_string(),
            "nullable": field.is_nullable(),
            "role": role(index),
        })
    };
    let clustering: Vec<Value> =
        view.shape.clustering.iter().map(|(column, order): &(usize, Order)| json!({ "column": name(*column), "order": order })).collect();
    let partition_key: Vec<&str> = view.shape.partition_key.iter().map(|column| name(*column)).collect();
    let template: Vec<String> = partition_key.iter().map(|column| format!("{}={{{column}}}", parameter(column))).collect();
    let members = json!({
        "source": view.source,
        "sql": view.sql,
        "definition": view.sql,
        "digest": view.digest,
        "columns": columns.iter().map(AsRef::as_ref).enumerate().map(column_json).collect::<Vec<_>>(),
        "partition_key": partition_key,
        "clustering": clustering,
        "order": clustering,
        "window": view.window.map(|window| window_document(&window, name(window.column), watermark_us)),
        "ranking": view.ranking.as_ref().map(|ranking| json!({ "column": name(ranking.column), "k": ranking.k })),
        "keep_ms": view.options.keep_us.map(|us| us / 1000),
        "accept_late_ms": view.options.accept_late_us.map(|us| us / 1000),
        "rows": format!("/v1/views/{}/rows?{}", view.name, template.join("&")),
    });
    if let Value::Object(members) = members {
        document.extend(members);
    }
}

fn window_document(window: &WindowSpec, column: &str, watermark_us: Option<i64>) -> Value {
    json!({
        "column": column,
        "size_ms": window.size_us / 1000,
        "slide_ms": window.slide_us / 1000,
        "newest_closed": micros(watermark_us.and_then(|watermark_us| newest_closed_us(window, watermark_us))),
    })
}

/// The start of the newest window that ends at or before the watermark.
pub fn newest_closed_us(window: &WindowSpec, watermark_us: i64) -> Option<i64> {
    let last_start = watermark_us.checked_sub(window.size_us)?;
    last_start.checked_sub(last_start.checked_rem_euclid(window.slide_us)?)
}

fn version_document(record: &VersionRecord, run: Option<&RunStatus>, progress: Option<&Progress>, waits_for: Option<String>) -> Value {
    let unable = run.and_then(|run| run.unable.as_deref());
    let run = run.filter(|run| run.unable.is_none());
    let error = match &record.state {
        VersionState::Failed { error } => Some(error.as_str()),
        _ => None,
    };
    let mut document = Map::new();
    let mut put = |name: &str, value: Value| document.insert(name.to_owned(), value);
    put("version", record.version.0.into());
    put("state", record.state.name().into());
    put("digest", record.digest.clone().into());
    put("created", millis(record.created_ms));
    put("created_by", record.created_by.clone().into());
    put("commit", record.commit.clone().into());
    put("changed", millis(record.changed_ms));
    put("changed_by", record.changed_by.clone().into());
    put("error", error.into());
    put("running", run.is_some().into());
    put("unable", unable.into());
    put("waits_for", waits_for.into());
    put("paused", record.controls.pause.into());
    put("throttle", throttle_document(record.controls.throttle, run.and_then(|run| run.limit_per_s)));
    put("until", record.controls.until_ms.map_or(Value::Null, millis));
    put("positions", progress.map_or(Value::Null, |progress| cut(&progress.visible)));
    put("watermark", micros(progress.and_then(|progress| progress.watermark_us)));
    match (run, progress) {
        (Some(run), _) => {
            put("read", run.read.into());
            put("applied", run.applied.into());
            put("quarantined", json!(run.quarantined));
            put("quarantine_let_go", run.quarantine_let_go.into());
            put("committed", cut(&run.positions));
            put("ends", run.ends.iter().map(|(partition, end)| (partition.to_string(), end.0.into())).collect::<Map<_, _>>().into());
            put("lag", lag(run).into());
            put("event_time", micros(run.event_time_us));
            put("live", run.live.into());
            put("events_per_s", rounded(run.events_per_s));
            let forecast = forecast(run, record.controls.until_ms.is_some()).filter(|_| lag(run).is_some());
            put("eta_s", expected_s(forecast.as_ref()).into());
            let building = forecast.filter(|_| record.state == VersionState::Building);
            put("replay", building.map_or(Value::Null, |forecast| forecast_document(&forecast)));
            put("ended", run.ended.iter().map(|partition| partition.0).collect::<Vec<_>>().into());
            put("queued_rows", run.queued_rows.into());
            put("rows_written", run.rows_written.into());
            put("stalled_s", run.stalled_s.into());
            put("absent_rows", run.absent_rows.into());
            put("absent_examples", json!(run.absent_examples));
            put("source_error", run.source_error.clone().into());
            put("store_error", run.store_error.clone().into());
            put("feed_error", run.feed_error.clone().into());
            put("view_feed", json!(run.view_feed));
        }
        (None, Some(progress)) => {
            put("read", progress.read.into());
            put("applied", progress.applied.into());
            put("quarantined", json!(progress.quarantined));
        }
        (None, None) => {}
    }
    document.into()
}

/// What a reader is told who comes before there is anything to read.
pub fn building_document(run: Option<&RunStatus>, version: Version, state: &VersionState) -> Value {
    json!({
        "version": version.0,
        "state": state.name(),
        "read": run.map(|run| run.read),
        "lag": run.and_then(lag),
        "events_per_s": run.map(|run| rounded(run.events_per_s)),
        "eta_s": run.and_then(|run| expected_s(forecast(run, false).as_ref())),
    })
}

/// Events until the end of the log; `None` where nobody has seen it, because it cannot be asked.
fn lag(run: &RunStatus) -> Option<u64> {
    (!run.ends.is_empty() || run.source_error.is_none()).then_some(run.lag)
}

/// Seconds until the end of the log at the rates of the last seconds; `None` where it cannot be told, or never comes.
fn expected_s(forecast: Option<&Forecast>) -> Option<u64> {
    match forecast?.eta? {
        Eta::In { expected_s, .. } => Some(expected_s),
        Eta::Never => None,
    }
}

/// How far a version is that is being built, and what it waits for.
fn forecast_document(forecast: &Forecast) -> Value {
    let rate = |of: fn(&Spread) -> f64| forecast.drain.as_ref().map(|drain| rounded(of(drain)));
    let eta = match forecast.eta {
        None => Value::Null,
        Some(Eta::Never) => json!({ "is": "never" }),
        Some(Eta::In { expected_s, soonest_s, latest_s }) => {
            json!({ "is": "in", "expected_s": expected_s, "soonest_s": soonest_s, "latest_s": latest_s })
        }
    };
    json!({
        "left": forecast.left,
        "events_per_s": rate(|drain| drain.mean),
        "events_per_s_low": rate(|drain| drain.low),
        "events_per_s_high": rate(|drain| drain.high),
        "arrival_per_s": forecast.arrival_per_s.map(rounded),
        "eta": eta,
        "bottleneck": forecast.bottleneck.map(Bottleneck::name),
    })
}

/// How fast a version may be built, and how fast it may be now.
pub fn throttle_document(throttle: Throttle, limit_per_s: Option<f64>) -> Value {
    let (is, events_per_s) = match throttle {
        Throttle::Auto => ("auto", None),
        Throttle::Off => ("off", None),
        Throttle::Rate(rate) => ("rate", Some(rate)),
    };
    json!({ "is": is, "events_per_s": events_per_s, "limit_per_s": limit_per_s.map(rounded) })
}

fn rounded(rate: f64) -> Value {
    ((rate * 10.0).round() / 10.0).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_closed_window_ends_at_or_before_the_watermark() {
        let hop = WindowSpec { column: 0, size_us: 600, slide_us: 10, pane_us: 10 };
        assert_eq!(newest_closed_us(&hop, 1_000), Some(400));
        assert_eq!(newest_closed_us(&hop, 1_009), Some(400));
        assert_eq!(newest_closed_us(&hop, 1_010), Some(410));
        assert_eq!(newest_closed_us(&hop, 5), Some(-600), "windows before the epoch are aligned to it too");
    }
}
