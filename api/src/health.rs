//! Everything that matters for whoever operates, one line each: in words, with the way out.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use refold_collector::LiveStatus;
use refold_collector::live::LiveState;
use refold_processor::engine::status::RunStatus;
use refold_processor::json::millis;
use refold_processor::source::Source;
use refold_processor::store::catalogue::{Snapshot, VersionState, ViewSnapshot};
use refold_processor::table::Version;
use serde_json::{Map, Value, json};

use crate::gate;
use crate::views::Views;

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Ok,
    Warning,
    Error,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Error => "error",
        }
    }
}

/// One line.
struct Item {
    kind: &'static str,
    name: String,
    state: State,
    detail: String,
    hint: Option<String>,
    values: Value,
}

impl Item {
    fn ok(kind: &'static str, name: &str, detail: impl Into<String>) -> Item {
        Item { kind, name: name.to_owned(), state: State::Ok, detail: detail.into(), hint: None, values: json!({}) }
    }

    fn wrong(self, state: State, detail: impl Into<String>, hint: impl Into<String>) -> Item {
        Item { state, detail: detail.into(), hint: Some(hint.into()), ..self }
    }

    fn with(self, values: Value) -> Item {
        Item { values, ..self }
    }
}

/// How the live source that is collected into a source is connected.
fn connected(item: Item, spec: &str, live: &LiveStatus, now_ms: i64) -> Item {
    let words = format!("{spec}: {}", live.words(now_ms));
    match live.state() {
        LiveState::Waiting { needs_operator: true, .. } => item.wrong(
            State::Error,
            words,
            "it is tried again by itself, and goes on once this is put right; rows of what is there are served",
        ),
        LiveState::Waiting { .. } => {
            item.wrong(State::Warning, words, "this ends by itself when the source answers; rows of what is there are served")
        }
        LiveState::Full => item.wrong(State::Warning, words, "this ends by itself when the log takes events again"),
        LiveState::Starting | LiveState::Connecting(_) | LiveState::Connected(_) => {
            Item { detail: format!("{}; {words}", item.detail), ..item }
        }
    }
}

/// The health of everything, and since when each thing is as it is.
pub struct Health {
    views: Arc<Views>,
    since: Mutex<BTreeMap<(&'static str, String), (State, i64)>>,
}

impl Health {
    /// Nothing was looked at yet.
    pub fn new(views: &Arc<Views>) -> Health {
        Health { views: views.clone(), since: Mutex::default() }
    }

    /// All of it. Waits for the catalogue and the view store.
    pub fn document(&self) -> Value {
        let running = self.views.watch.running();
        let snapshot = match self.views.catalogue.snapshot() {
            Ok(snapshot) => snapshot,
            Err(error) => return self.silent(&error.to_string()),
        };
        let mut items = vec![Item::ok("catalogue", "catalogue", "it answers")];
        items.push(self.log());
        items.push(self.store(&snapshot));
        items.extend(self.views.sources.values().map(|source| self.source(source, &snapshot, &running)));
        items.extend(self.workers(&snapshot));
        let is_dropped = |read: &ViewSnapshot| read.versions.is_empty();
        let living = snapshot.views.iter().filter(|(_, read)| !read.as_ref().is_ok_and(is_dropped));
        items.extend(living.map(|(view, read)| {
            let active = read.as_ref().ok().and_then(|read| read.active.as_ref());
            self.view(view, active.map(|active| active.version), &running)
        }));
        self.told(items)
    }

    /// When the catalogue does not answer: then nothing else can be told.
    pub fn silent(&self, detail: &str) -> Value {
        let hint = "rows are read again once the view store, which keeps the catalogue, answers; events are taken meanwhile";
        self.told(vec![Item::ok("catalogue", "catalogue", "").wrong(State::Error, detail, hint)])
    }

    fn told(&self, items: Vec<Item>) -> Value {
        let now_ms = self.views.clock.now_ms();
        let mut since = self.since.lock();
        since.retain(|(kind, name), _| items.iter().any(|item| item.kind == *kind && item.name == *name));
        let is_down = items.iter().any(|item| item.kind == "catalogue" && item.state == State::Error)
            || (items.iter().any(|item| item.kind == "view") && items.iter().all(|item| item.kind != "view" || item.state == State::Error));
        let worst = items.iter().map(|item| item.state).max().unwrap_or(State::Ok);
        let mut documents = Vec::with_capacity(items.len());
        for item in items {
            let noted = since.entry((item.kind, item.name.clone())).or_insert((item.state, now_ms));
            if noted.0 != item.state {
                *noted = (item.state, now_ms);
            }
            documents.push(json!({
                "kind": item.kind,
                "name": item.name,
                "state": item.state.name(),
                "detail": item.detail,
                "since": millis(noted.1),
                "hint": item.hint,
                "values": item.values,
            }));
        }
        let state = match (is_down, worst) {
            (true, _) => "down",
            (false, State::Ok) => "ok",
            (false, _) => "degraded",
        };
        json!({ "state": state, "items": documents })
    }

    fn log(&self) -> Item {
        let item = Item::ok("log", "log", "it answers");
        let ends = &self.views.watch.ends;
        let unavailable: Vec<&Source> = self.views.sources.values().filter(|source| ends.unavailable(&source.topic).is_some()).collect();
        let Some(first) = unavailable.first() else { return item };
        let (why, _) = ends.trouble_of(&first.topic).unwrap_or_default();
        let hint = "rows are read as before; posts are refused until the log answers, and versions go on where they were";
        item.wrong(State::Error, why, hint)
    }

    /// The view store answers where rows are read from it.
    fn store(&self, snapshot: &Snapshot) -> Item {
        let item = Item::ok("store", "store", "it answers");
        let views = snapshot.views.values().filter_map(|view| view.as_ref().ok());
        let mut records = views.flat_map(|view| {
            view.versions.iter().filter(|record| Some(record.version) == view.active.as_ref().map(|active| active.version))
        });
        let error = records.find_map(|record| {
            let table = self.views.table(record).ok()?;
            self.views.rows.progress(&table).err().filter(|error| matches!(error, refold_processor::store::StoreError::Unavailable(_)))
        });
        match error {
            Some(error) => {
                let hint = "events are folded meanwhile, and rows written when it answers";
                item.wrong(State::Error, error.to_string(), hint)
            }
            None => item,
        }
    }

    fn source(&self, source: &Source, snapshot: &Snapshot, running: &[RunStatus]) -> Item {
        let watch = &self.views.watch;
        let is_active = |run: &RunStatus| {
            let view = snapshot.views.get(&run.view).and_then(|view| view.as_ref().ok());
            run.version.is_some() && run.version == view.and_then(|view| view.active.as_ref()).map(|active| active.version)
        };
        let readers = || running.iter().filter(|run| run.topic == source.topic && is_active(run));
        let lag = readers().map(|run| run.lag).max();
        let mut quarantined: BTreeMap<&str, u64> = BTreeMap::new();
        for run in readers() {
            for (reason, count) in &run.quarantined {
                // Each view that reads the source refuses the same events.
                let most = quarantined.entry(reason).or_default();
                *most = (*most).max(*count);
            }
        }
        let events_per_s = watch.ends.events_per_s(&source.name).map(|rate| (rate * 10.0).round() / 10.0);
        let end: u64 = watch.ends.of(&source.topic).values().map(|end| end.0).sum();
        let values = json!({
            "topic": source.topic,
            "events_per_s": events_per_s,
            "events": end,
            "lag": lag,
            "quarantined": quarantined,
        });
        let detail = match events_per_s {
            Some(rate) => format!("{rate} events a second"),
            None => "nothing is known of its log yet".to_owned(),
        };
        let item = Item::ok("source", &source.name, detail).with(values);
        if let Some((why, _)) = watch.ends.trouble_of(&source.topic) {
            let hint = "its rows are read as before; they are brought up to date when its log answers";
            return item.wrong(State::Error, why, hint);
        }
        let collected = watch.collected.as_ref().filter(|collected| collected.source == source.name);
        let item = match collected.and_then(|collected| Some((collected, collected.live.as_ref()?))) {
            Some((collected, live)) => connected(item, &collected.spec, live, self.views.clock.now_ms()),
            None => item,
        };
        if item.state != State::Ok {
            return item;
        }
        if let Some(history) = watch.history_of(&source.name) {
            return item.wrong(State::Warning, history, "views are built when it is written; this ends by itself");
        }
        let failed = watch.collected.as_ref().filter(|collected| collected.source == source.name).and_then(|collected| collected.failed());
        match failed {
            Some(error) => item.wrong(
                State::Error,
                format!("collecting has ended: {error}"),
                "mend the cause and start refold again: it goes on where it was",
            ),
            None => item,
        }
    }

    /// Who runs versions, and which versions nobody runs.
    fn workers(&self, snapshot: &Snapshot) -> Vec<Item> {
        let now_ms = self.views.clock.now_ms();
        let mut workers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut unowned = Vec::new();
        for (name, view) in &snapshot.views {
            let Ok(view) = view else { continue };
            for record in view.versions.iter().filter(|record| !matches!(record.state, VersionState::Failed { .. })) {
                let owner = view.owners.get(&record.version).filter(|owner| owner.is_held(now_ms));
                match owner {
                    Some(owner) => workers.entry(owner.owner.clone()).or_default().push(format!("{name} {}", record.version)),
                    None => unowned.push(format!("{name} {}", record.version)),
                }
            }
        }
        let mut items: Vec<Item> = workers
            .into_iter()
            .map(|(worker, versions)| {
                let detail = format!("runs {}", versions.join(", "));
                Item::ok("worker", &worker, detail).with(json!({ "versions": versions }))
            })
            .collect();
        if !unowned.is_empty() {
            let item = Item::ok("worker", "none", "").with(json!({ "versions": unowned }));
            let detail = format!("nobody runs {}: their rows stand still", unowned.join(", "));
            items.push(item.wrong(State::Warning, detail, "start refold process; a version that has just begun is taken within a second"));
        }
        items
    }

    fn view(&self, view: &str, active: Option<Version>, running: &[RunStatus]) -> Item {
        let run = running.iter().find(|run| run.view == view && run.version.is_some() && run.version == active);
        let mut values = Map::new();
        values.insert("version".into(), active.map(|version| version.0).into());
        if let Some(run) = run {
            values.insert("lag".into(), run.lag.into());
            values.insert("events_per_s".into(), ((run.events_per_s * 10.0).round() / 10.0).into());
            values.insert("stalled_s".into(), run.stalled_s.into());
            values.insert("queued_rows".into(), run.queued_rows.into());
        }
        let detail = match (active, run) {
            (Some(version), Some(run)) if run.lag > 0 => format!("{version} is in service, {} events behind the log", run.lag),
            (Some(version), _) => format!("{version} is in service"),
            (None, _) => "nothing is in service yet".to_owned(),
        };
        let item = Item::ok("view", view, detail).with(values.into());
        let hint = format!("refold status {view} --watch shows how far its versions are");
        match gate::reasons(&self.views, view, running) {
            Ok(reasons) => match reasons.first() {
                None => match run.and_then(|run| run.feed_error.clone()) {
                    Some(error) => item.wrong(
                        State::Warning,
                        format!("changes are not published: {error}"),
                        "rows are current; live pages read them again",
                    ),
                    None => item,
                },
                Some(_) => {
                    let prefix = format!("view {view}: ");
                    let reasons: Vec<&str> = reasons.iter().map(|reason| reason.strip_prefix(&prefix).unwrap_or(reason)).collect();
                    // A first version that is being built is as it should be.
                    let is_being_built = running.iter().any(|run| run.view == view && run.failed.is_none() && run.unable.is_none());
                    let state = if active.is_some() || is_being_built { State::Warning } else { State::Error };
                    item.wrong(state, reasons.join("; "), hint)
                }
            },
            Err(problem) => item.wrong(State::Error, problem.detail(), hint),
        }
    }
}
